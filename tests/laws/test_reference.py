"""The oracle against hand-computed answers, and against loops over Python floats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from worlds import WORLDS, World

from minestream.reference import (
    Mined,
    Vectors,
    contrastive_loss,
    draw,
    fnv1a_64,
    mine,
    standing,
    triplet_loss,
    weighted_keys,
)

LINE = [0.0, 1.0, 1.0, 2.0, 3.0, 4.0]  # the anchor, its positive at 1, negatives at 1, 2, 3, 4
LINE_LABELS = ["a", "a", "b", "b", "b", "b"]


def on_line(points: list[float], labels: list[Any], **options: Any) -> Mined:
    """Mine points of the number line: every distance can be read off."""
    options = {"metric": "euclidean", "drop_duplicates_within": None, "only_anchors": [0], **options}
    return mine(np.array(points)[:, None], labels=labels, **options)


def rows_of(mined: Mined, *names: str) -> list[tuple[Any, ...]]:
    return list(
        zip(*(mined.columns[name] for name in names or ("anchor_row", "positive_row", "negative_row")), strict=True)
    )


def python_draw(seed: int, tag: int, a: int, p: int, c: int) -> int:
    """SEMANTICS 2 in Python integers."""

    def finalise(z: int) -> int:
        z %= 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    golden = 0x9E3779B97F4A7C15
    return finalise(finalise(finalise(finalise(seed + tag * golden) + a * golden) + p * golden) + c)


# Hashes and draws


@pytest.mark.parametrize(
    ("text", "value"), [("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)]
)
def test_fnv1a(text: str, value: int) -> None:
    assert fnv1a_64(text) == value


@pytest.mark.parametrize(
    ("seed", "tag", "a", "p", "c"), [(0, 1, 0, 0, 0), (7, 2, 3, 4, 5), (-1, 4, 2**64 - 1, 2**63, 12345678901234567890)]
)
def test_draw(seed: int, tag: int, a: int, p: int, c: int) -> None:
    assert draw(seed, tag, a, p, c).tolist() == [python_draw(seed, tag, a, p, c)]


def test_draw_published_splitmix64() -> None:
    # From seed 0 splitmix64 first gives M(G); nested with no keys, draw is M of M of M of it.
    assert python_draw(0, 1, 0, 0, 0) != 0xE220A8397B1DCDAF
    first = draw(0, 1, 0, 0, 0)[0]
    z = 0xE220A8397B1DCDAF
    for _ in range(3):
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        z ^= z >> 31
    assert first == z


# Distances


def python_distance(a: list[float], b: list[float], metric: str) -> float:
    def dot(left: list[float], right: list[float]) -> float:
        total = 0.0
        for x, y in zip(left, right, strict=True):
            total += x * y
        return total

    if metric == "cosine":
        return min(2.0, max(0.0, 1.0 - dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))))
    if metric == "dot":
        return -dot(a, b)
    steps = [x - y for x, y in zip(a, b, strict=True)]
    return math.sqrt(dot(steps, steps)) if metric == "euclidean" else dot(steps, steps)


@pytest.mark.parametrize("name", WORLDS)
def test_distances_equal_python_loops(name: str) -> None:
    world = WORLDS[name]()
    n = len(world.embeddings)
    every = np.arange(n)
    for metric in world.metrics:
        for normalize in (False, True)[: 1 + ("cosine" in world.metrics)]:
            rows = world.embeddings.astype(np.float64).tolist()
            if normalize:
                rows = [[x / math.sqrt(sum_in_order(row)) for x in row] for row in rows]
            vectors = Vectors(world.embeddings, metric, normalize, every)
            for a in (0, n // 2, n - 1):
                expected = [python_distance(rows[a], row, metric) for row in rows]
                assert vectors.distances(a, every).tolist() == expected


def sum_in_order(row: list[float]) -> float:
    total = 0.0
    for x in row:
        total += x * x
    return total


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = WORLDS["blobs"]()
    every = np.arange(len(world.embeddings))
    whole = Vectors(world.embeddings, "cosine", True, every).distances(3, every)
    monkeypatch.setattr("minestream.reference.BLOCK_ROWS", 7)
    assert Vectors(world.embeddings, "cosine", True, every).distances(3, every).tolist() == whole.tolist()


def test_identical_rows_are_at_cosine_zero() -> None:
    row = np.random.default_rng(0).normal(size=(1, 33)) * 1e20
    vectors = Vectors(np.concatenate([row, row]), "cosine", False, np.arange(2))
    assert vectors.distances(0, np.array([1])).tolist() == [0.0]


# Bands: p = 1, and one negative on every edge for m = 2


@pytest.mark.parametrize(
    ("band", "negatives"),
    [
        ("hard", [2]),
        ("semi-hard", [3]),
        ("violating", [2, 3]),
        ("easy", [4, 5]),
        ("any", [2, 3, 4, 5]),
        ("beyond", [3, 4, 5]),
    ],
)
def test_band_edges(band: str, negatives: list[int]) -> None:
    mined = on_line(LINE, LINE_LABELS, band=band, margin=2.0, negatives=9)
    assert rows_of(mined) == [(0, 1, row) for row in negatives]
    assert mined.counts == {"anchors": 1, "pairs": 1, "rows": len(negatives), "full": 0, "short": 1, "empty": 0}


def test_margin_edge_is_the_rounded_sum() -> None:
    # 0.1 + 0.2 rounds above 0.3: the negative at 0.3 is inside, one at the rounded sum is not.
    points = [0.0, 0.1, 0.3, 0.1 + 0.2]
    mined = on_line(points, ["a", "a", "b", "b"], margin=0.2, negatives=2, float64=True)
    assert rows_of(mined, "negative_row") == [(2,)]
    assert mined.columns["loss"] == [(0.1 + 0.2) - 0.3]


@pytest.mark.parametrize("band", ["semi-hard", "violating", "easy"])
def test_bands_that_need_a_margin(band: str) -> None:
    with pytest.raises(ValueError, match="margin"):
        on_line(LINE, LINE_LABELS, band=band)


@pytest.mark.parametrize("band", ["hard", "any", "beyond"])
def test_no_margin_no_loss(band: str) -> None:
    assert "loss" not in on_line(LINE, LINE_LABELS, band=band).columns


# Positives of the anchor at 0: rows 1..4 at 0 (a duplicate), 3, 1, 1


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({"positives": "easiest"}, [3]),
        ({"positives": "easiest", "positives_per_anchor": 9}, [3, 4, 2, 1]),
        ({"positives": "easiest", "keep_duplicate_positives": True}, [1]),
        ({"positives": "easiest", "drop_duplicates_within": None}, [1]),
        ({"positives": "easiest", "drop_duplicates_within": 1.0}, [2]),
        ({"positives": "easiest", "drop_duplicates_within": 1.0, "positives_per_anchor": 3}, [2, 1, 3]),
        ({"positives": "hardest", "positives_per_anchor": 4}, [2, 3, 4, 1]),
        ({"positives": "all"}, [1, 2, 3, 4]),
    ],
)
def test_positive_rules(options: dict[str, Any], chosen: list[int]) -> None:
    settings = {"band": "any", "drop_duplicates_within": 0.0, **options}
    mined = on_line([0.0, -0.0, 3.0, 1.0, -1.0, 50.0], ["a"] * 5 + ["b"], **settings)
    assert rows_of(mined) == [(0, row, 5) for row in chosen]


def test_random_positives_follow_draw_one_and_pass_over_duplicates() -> None:
    points = [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 99.0]
    settings: dict[str, Any] = {"band": "any", "positives": "random", "positives_per_anchor": 9}
    orders = set()
    for seed in range(6):
        by_draw = sorted(range(1, 6), key=lambda row: python_draw(seed, 1, 0, 0, row))
        kept = on_line(points, ["a"] * 6 + ["b"], seed=seed, **settings)
        assert kept.columns["positive_row"] == by_draw
        passed = on_line(points, ["a"] * 6 + ["b"], seed=seed, drop_duplicates_within=0.0, **settings)
        assert passed.columns["positive_row"] == [row for row in by_draw if row != 1] + [1]
        orders.add(tuple(by_draw))
    assert len(orders) > 1


def test_ties_break_by_key() -> None:
    points, labels = [0.0, 1.0, -1.0, 2.0, -2.0], ["a", "a", "a", "b", "b"]
    assert rows_of(on_line(points, labels, band="any")) == [(0, 1, 3)]
    by_number = on_line(points, labels, band="any", ids=[0, 20, 3, 20**9, -5])
    assert rows_of(by_number, "positive_id", "negative_id", "negative_row") == [(3, -5, 4)]
    # By UTF-8 bytes the emoji comes after U+FFEE; by UTF-16 it would come before.
    by_bytes = on_line(points, labels, band="any", ids=["x", "b", "a", "\U0001f600", "\uffee"])
    assert rows_of(by_bytes) == [(0, 2, 4)]


# Duplicates among the negatives


@pytest.mark.parametrize(
    ("within", "of", "negatives"),
    [
        (None, "both", [2, 3, 4, 5]),
        (0.0, "both", [4, 5]),
        (0.0, "anchor", [3, 4, 5]),
        (0.0, "positive", [2, 4, 5]),
        (0.5, "both", [5]),
        (0.5, "anchor", [3, 4, 5]),
        (0.5, "positive", [2, 5]),
    ],
)
def test_duplicate_negatives(within: float | None, of: str, negatives: list[int]) -> None:
    points = [0.0, 2.0, -0.0, 2.0, 2.5, 7.0]
    settings: dict[str, Any] = {"drop_duplicates_within": within, "drop_duplicates_of": of}
    mined = on_line(points, ["a", "a", "b", "b", "b", "b"], band="any", negatives=9, **settings)
    assert mined.columns["negative_row"] == negatives
    assert mined.columns["harder"] == list(range(len(negatives)))


@pytest.mark.parametrize(
    ("options", "negatives"),
    [
        ({}, [4, 5]),  # cosine: of one direction, whatever the length
        ({"normalize": True, "metric": "euclidean"}, [4, 5]),
        ({"metric": "euclidean"}, [2, 3, 5, 4]),
        ({"metric": "dot"}, [3, 2, 4, 5]),
        ({"drop_duplicates_within": None}, [2, 3, 4, 5]),
    ],
)
def test_duplicates_within_zero_are_judged_on_what_is_compared(options: dict[str, Any], negatives: list[int]) -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, -0.0], [3.0, 0.0], [1.0, 3.0], [-1.0, 0.0]])
    settings: dict[str, Any] = {"band": "any", "only_anchors": [0], "negatives": 5, **options}
    assert mine(rows, labels=["a", "a", *"bbbb"], **settings).columns["negative_row"] == negatives


def test_exact_multiples_have_one_direction() -> None:
    row = np.random.default_rng(0).integers(-100, 100, 9).astype(np.float64)
    multiples = row * np.arange(1, 200)[:, None]
    vectors = Vectors(
        np.concatenate([multiples, -multiples, multiples + np.eye(9)[4]]), "cosine", False, np.arange(597)
    )
    assert np.flatnonzero(vectors.equal(7, np.arange(597))).tolist() == list(range(199))
    thirds = (row / 3).astype(np.float32) * np.float32([[1.0], [2.0], [0.3]])  # the last is rounded
    assert Vectors(thirds, "cosine", False, np.arange(3)).equal(0, np.arange(3)).tolist() == [True, True, False]
    divided = Vectors(multiples, "euclidean", True, np.arange(199))
    assert (divided.equal(0, np.arange(199)) == (divided.distances(0, np.arange(199)) == 0)).all()


def test_a_distance_of_zero_is_not_equality() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1e-12], [0.0, 1.0]])
    settings: dict[str, Any] = {"band": "any", "only_anchors": [0], "negatives": 5}
    mined = mine(rows, labels=["a", "a", "b", "b"], **settings)
    assert rows_of(mined, "negative_row", "distance_an") == [(2, 0.0)]
    near = mine(rows, labels=["a", "a", "b", "b"], drop_duplicates_within=1e-9, **settings)
    assert near.columns["negative_row"] == []


# Who is what


def test_groups() -> None:
    points = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    labels, groups = ["a", "a", "a", "b", "b", "b"], ["g", "g", None, "g", "h", None]
    expected = {
        "both": [(0, 2, 4), (0, 2, 5)],
        "negatives": [(0, 1, 4), (0, 1, 5)],
        "positives": [(0, 2, 3), (0, 2, 4), (0, 2, 5)],
    }
    for rule, rows in expected.items():
        assert rows_of(on_line(points, labels, band="any", negatives=9, groups=groups, group_rule=rule)) == rows


def test_rows_without_a_group_do_not_form_one() -> None:
    assert rows_of(on_line([0.0, 1.0, 2.0], ["a", "a", "b"], band="any", groups=[None] * 3)) == [(0, 1, 2)]


def test_anchors_without_a_positive_are_none() -> None:
    settings: dict[str, Any] = {"band": "any", "only_anchors": None}
    mined = on_line([0.0, 1.0, 2.0, 3.0], ["a", "a", "b", None], **settings)
    assert mined.counts["anchors"] == 2
    assert mined.columns["anchor_row"] == [0, 1]
    alone = on_line([0.0, 1.0, 2.0, 3.0], ["a", "a", "a", "b"], groups=["g", "g", "h", "i"], **settings)
    assert rows_of(alone) == [(0, 2, 3), (1, 2, 3), (2, 1, 3)]
    assert on_line([0.0, 1.0, 2.0], ["a", "a", "b"], groups=["g", "g", "i"], **settings).counts["anchors"] == 0


def test_multi_label() -> None:
    labels = [["x", "y", None], ["y"], ["z"], [], None, ["x", "z"], [None]]
    points = [0.0, 9.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    settings: dict[str, Any] = {"band": "any", "positives": "all", "negatives": 9}
    assert rows_of(on_line(points, labels, **settings)) == [(0, 1, 2), (0, 5, 2)]
    both = on_line(points, labels, unlabeled="negative", **settings)
    assert both.columns["negative_row"] == [2, 3, 4, 6] * 2
    assert both.columns["anchor_label"][0] == ["x", "y", None]
    assert both.columns["negative_label"][:4] == [["z"], [], None, [None]]


def test_rows_that_take_no_part_keep_their_numbers() -> None:
    part = [True, False, True, True, False, True]
    mined = on_line(LINE, ["a", "a", "a", "b", "b", "b"], band="any", negatives=9, takes_part=part)
    assert rows_of(mined) == [(0, 2, 3), (0, 2, 5)]


def test_bad_rows_may_lie_among_those_that_take_no_part() -> None:
    rows = np.array([[1.0, 0.0], [np.nan, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1e300, 1e300]])
    part = [True, False, False, True, True, False]
    with np.errstate(all="raise"):
        mined = mine(rows, labels=[1, 1, 1, 1, 2, 2], takes_part=part, band="any", normalize=True)
    assert rows_of(mined) == [(0, 3, 4), (3, 0, 4)]


# Anchor caps


def test_anchors_per_label_and_anchors() -> None:
    labels = [["x"], ["x"], ["x", "y"], ["y"], ["y"], ["z"], ["z"], ["x"]]
    points = [float(row) for row in range(8)]
    for seed in range(30):
        luck = [python_draw(seed, 3, row, 0, 0) for row in range(8)]
        union: set[int] = set()
        for row in sorted(range(8), key=luck.__getitem__):
            if not any(set(labels[row]) & set(labels[other]) for other in union):  # no label has two anchors
                union.add(row)
        settings: dict[str, Any] = {"band": "any", "seed": seed, "only_anchors": None, "anchors_per_label": 1}
        assert set(on_line(points, labels, **settings).columns["anchor_row"]) == union
        for wanted, count in ((1, 1), ("50%", math.ceil(len(union) / 2)), ("100%", len(union)), (99, len(union))):
            mined = on_line(points, labels, anchors=wanted, **settings)
            assert mined.columns["anchor_row"] == sorted(sorted(union, key=luck.__getitem__)[:count])


def test_percent_is_exact() -> None:
    rows = np.arange(200.0)[:, None]
    # In binary 0.07 * 100 is above 7, so a careless ceiling gives 8.
    mined = mine(rows, labels=[0, 1] * 50 + [None] * 100, metric="euclidean", band="any", anchors="7%")
    assert mined.counts["anchors"] == 7


def test_only_anchors_selects_from_the_whole() -> None:
    world = WORLDS["blobs"]()
    settings: dict[str, Any] = {"labels": world.labels, "margin": 0.2, "anchors": 20, "negatives": 3}
    whole = rows_of(mine(world.embeddings, **settings))
    wanted = set(range(0, 150, 2))
    some = rows_of(mine(world.embeddings, only_anchors=wanted, **settings))
    assert some == [row for row in whole if row[0] in wanted]
    assert 0 < len(some) < len(whole)


# Picks, skip, caps


def test_skip_passes_over_the_nearest_eligible() -> None:
    mined = on_line(LINE, LINE_LABELS, band="beyond", skip=1, negatives=1)
    assert mined.columns["negative_row"] == [4]
    assert on_line(LINE, LINE_LABELS, band="any", skip=4).counts["empty"] == 1


def test_random_pick_follows_draw_two() -> None:
    points = [0.0, 1.0, *map(float, range(2, 12))]
    labels = ["a", "a"] + ["b"] * 10
    for seed in range(4):
        mined = on_line(points, labels, band="any", pick="random", negatives=4, skip=2, seed=seed)
        by_draw = sorted(range(4, 12), key=lambda row: python_draw(seed, 2, 0, 1, row))
        assert mined.columns["negative_row"] == by_draw[:4]
        assert mined.columns["harder"] == [None] * 4


def test_draws_use_the_id() -> None:
    points, labels = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], ["a", "a"] + ["b"] * 4
    ids = ["q", "r", "s", "t", "u", "v"]
    mined = on_line(points, labels, band="any", pick="random", negatives=4, ids=ids)
    words = [fnv1a_64(name) for name in ids]
    by_draw = sorted(range(2, 6), key=lambda row: python_draw(0, 2, words[0], words[1], words[row]))
    assert mined.columns["negative_row"] == by_draw
    negative = on_line(points, labels, band="any", pick="random", negatives=4, ids=[-1, -2, -3, -4, -5, -6])
    by_draw = sorted(range(2, 6), key=lambda row: python_draw(0, 2, 2**64 - 1, 2**64 - 2, 2**64 - 1 - row))
    assert negative.columns["negative_row"] == by_draw


def test_weighted_pick() -> None:
    angles = np.array([0.0, 0.1, 0.3, 0.7, 1.0, 1.3, 1.5, 2.0, 3.0])
    rows = np.stack([np.cos(angles), np.sin(angles), np.zeros(9), np.zeros(9)], axis=1)
    labels = ["a", "a"] + ["b"] * 7
    mined = mine(rows, labels=labels, band="any", pick="weighted", negatives=9, only_anchors=[0], seed=3)
    keys = {}
    for row in range(2, 9):
        distance = math.sqrt(2.0 * python_distance(rows[0].tolist(), rows[row].tolist(), "cosine"))
        if distance < 1.4:
            clipped = max(distance, 0.5)
            log_weight = -2 * math.log(clipped) - 0.5 * math.log(1 - clipped * clipped / 4)
            u = ((python_draw(3, 2, 0, 1, row) >> 11) + 0.5) / 2**53
            keys[row] = math.log(-math.log(u)) - log_weight
    assert sorted(keys) == [2, 3, 4, 5, 6]  # beyond 1.55 radians the chord is 1.4 or more
    assert mined.columns["negative_row"] == sorted(keys, key=keys.__getitem__)
    assert mined.counts["short"] == 1


def test_weighted_distances_by_metric() -> None:
    luck = np.array([123 << 40], dtype=np.uint64)
    keys = [
        weighted_keys(np.array([x]), luck, metric, 5)[0]
        for metric, x in (("cosine", 0.5), ("euclidean", 1.0), ("sqeuclidean", 1.0), ("dot", -0.5))
    ]
    assert len(set(keys)) == 1
    clipped, at_half = (weighted_keys(np.array([x]), luck, "euclidean", 5)[0] for x in (0.1, 0.5))
    assert clipped == at_half
    largest = np.array([2**64 - 1], dtype=np.uint64)
    assert weighted_keys(np.array([1.0]), largest, "euclidean", 5).tolist() == [-math.inf]
    assert weighted_keys(np.array([1.4]), luck, "euclidean", 5).tolist() == [math.inf]


def test_negatives_per_anchor_goes_round_by_round() -> None:
    points, labels = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0], ["a"] * 4 + ["b"] * 3
    settings: dict[str, Any] = {"band": "any", "positives": "all", "negatives": 3}
    mined = on_line(points, labels, negatives_per_anchor=5, **settings)
    assert rows_of(mined) == [(0, 1, 4), (0, 1, 5), (0, 2, 4), (0, 2, 5), (0, 3, 4)]
    assert rows_of(on_line(points, labels, negatives_per_anchor=2, **settings)) == [(0, 1, 4), (0, 2, 4)]
    assert len(rows_of(on_line(points, labels, negatives_per_anchor=99, **settings))) == 9
    two = on_line(points, labels, negatives_per_anchor=4, **{**settings, "negatives": 2})
    assert rows_of(two) == [(0, 1, 4), (0, 1, 5), (0, 2, 4), (0, 3, 4)]


def test_harder_counts_those_before_band_and_skip() -> None:
    mined = on_line(LINE, LINE_LABELS, band="semi-hard", margin=9.0, negatives=9, skip=1)
    assert rows_of(mined, "negative_row", "harder") == [(4, 2), (5, 3)]
    hardest = on_line(LINE, LINE_LABELS, band="semi-hard", margin=9.0, positives="hardest")
    assert hardest.columns["harder"] == [None]
    assert on_line(LINE, LINE_LABELS, band="violating", margin=9.0, positives="hardest").columns["harder"] == [0]
    assert on_line(LINE, LINE_LABELS, band="easy", margin=1.0).columns["harder"] == [None]
    assert on_line(LINE, LINE_LABELS, band="beyond").columns["harder"] == [None]


def test_harder_is_capped() -> None:
    points = [0.0, 2000.0, *(1.0 + row / 1024 for row in range(1500)), 2001.0]
    mined = on_line(points, ["a", "a"] + ["b"] * 1501, band="semi-hard", margin=5.0)
    assert rows_of(mined, "negative_row", "harder") == [(1502, 1000)]


def test_short_rows() -> None:
    # Positives at 1 and 4; beyond them lie two negatives, and none.
    points, labels = [0.0, 1.0, 4.0, 2.0, 3.0], ["a", "a", "a", "b", "b"]
    settings: dict[str, Any] = {"band": "beyond", "positives": "all", "negatives": 3}
    counts = {"anchors": 1, "pairs": 2, "full": 0, "short": 1, "empty": 1}
    kept = on_line(points, labels, **settings)
    assert rows_of(kept) == [(0, 1, 3), (0, 1, 4)]
    assert kept.counts == {**counts, "rows": 2}
    dropped = on_line(points, labels, short_rows="drop", **settings)
    assert rows_of(dropped) == []
    assert dropped.counts == {**counts, "rows": 0}
    tuples = {"emit": "tuples", "scores": "none", **settings}
    assert on_line(points, labels, **tuples).columns["anchor_row"] == []
    kept = on_line(points, labels, short_rows="keep", **{**tuples, "scores": "negative-distance", "margin": 1.0})
    assert {name: kept.columns[name] for name in ("negative_rows", "scores", "losses")} == {
        "negative_rows": [[3, 4], []],  # a pair without any negative is a row all the same
        "scores": [[-1.0, -2.0, -3.0], [-4.0]],
        "losses": [[0.0, 0.0], []],
    }
    assert kept.counts == {**counts, "rows": 2}


def test_short_is_judged_before_the_anchor_deals() -> None:
    """What --negatives-per-anchor leaves of a full pair is not short, and `harder` is null: a cap."""
    points, labels = [0.0, 1.0, 1.5, 2.0, 3.0], ["a", "a", "a", "b", "b"]
    settings: dict[str, Any] = {"band": "any", "positives": "all", "negatives": 2, "negatives_per_anchor": 3}
    for rule in ("keep", "drop"):
        dealt = on_line(points, labels, short_rows=rule, **settings)
        assert rows_of(dealt) == [(0, 1, 3), (0, 1, 4), (0, 2, 3)]
        assert dealt.columns["harder"] == [None] * 3
        assert (dealt.counts["full"], dealt.counts["short"]) == (2, 0)


# Versions


def test_of_rows_that_share_an_id_one_stands_for_it() -> None:
    ids = ["a", "b", "a", "c", "b", "a"]
    assert np.flatnonzero(standing(ids)).tolist() == [3, 4, 5]
    assert np.flatnonzero(standing(ids, which="first")).tolist() == [0, 1, 3]
    # The newest, of equal versions the later row; none and NaN are older than any.
    assert np.flatnonzero(standing(ids, [7, 1, None, None, 1, 6])).tolist() == [0, 3, 4]
    assert np.flatnonzero(standing(ids, [math.nan, None, -1.0, 0.0, math.nan, None])).tolist() == [2, 3, 4]


def test_in_a_window_a_later_row_of_an_id_replaces_whether_it_takes_part_or_not() -> None:
    points, ids = [0.0, 1.0, 2.0, 3.0, 4.0], [7, 8, 7, 9, 10]
    settings: dict[str, Any] = {"ids": ids, "window": 9, "band": "any", "only_anchors": None}
    assert rows_of(on_line(points, ["a", "b", None, "c", "a"], **settings)) == []
    bad = on_line(points, ["a", "b", "a", "c", "a"], takes_part=[True, True, False, True, True], **settings)
    assert rows_of(bad) == []
    other = on_line(points, ["a", "b", None, "c", "a"], **{**settings, "ids": None})
    assert rows_of(other) == [(4, 0, 3)]


# Losses


def test_triplet_losses() -> None:
    assert triplet_loss(1.0, 2.0, 1.5, soft=False) == 0.5
    assert triplet_loss(1.0, 2.5, 1.5, soft=False) == 0.0
    assert triplet_loss(1.0, 2.0, 1.0, soft=True) == math.log(2.0)
    assert triplet_loss(0.0, 5000.0, 1.0, soft=True) == 0.0
    assert triplet_loss(5000.0, 0.0, 1.0, soft=True) == 5001.0


def test_swap_changes_the_loss_alone() -> None:
    # Anchor 0, positive 2, negative 3: d_an = 3, d_pn = 1.
    settings: dict[str, Any] = {"band": "semi-hard", "margin": 1.5, "float64": True}
    points, labels = [0.0, 2.0, 3.0], ["a", "a", "b"]
    assert on_line(points, labels, **settings).columns["loss"] == [0.5]
    swapped = on_line(points, labels, swap=True, **settings).columns
    assert (swapped["distance_an"], swapped["distance_pn"], swapped["loss"]) == ([3.0], [1.0], [2.5])
    assert list(swapped)[3:7] == ["distance_ap", "distance_an", "distance_pn", "loss"]
    far = on_line([0.0, -2.0, 3.0], labels, swap=True, **settings).columns
    assert (far["distance_pn"], far["loss"]) == ([5.0], [0.5])


POINTS = np.array([[0.8, 0.2], [0.75, 0.25], [0.1, 0.9], [0.15, 0.85]])  # A1 A2 B1 B2


def test_contrastive_golden_values() -> None:
    settings: dict[str, Any] = {"metric": "euclidean", "emit": "pairs", "band": "any", "negatives": 0}
    mined = mine(POINTS, labels=["A", "A", "B", "B"], margin=1.0, **settings)
    names = ("left_row", "right_row", "label", "distance", "loss")
    found = {(left, right): rest for left, right, *rest in rows_of(mined, *names)}
    # The published four decimals come from rounded distances: a unit of the last place is theirs.
    golden = {
        (0, 1): (1, 0.0707, 0.0050),
        (0, 2): (0, 0.9899, 0.0001),
        (1, 3): (0, 0.8485, 0.0230),
        (2, 3): (1, 0.0707, 0.0050),
    }
    exact = {(0, 1): 0.005, (0, 2): 0.98, (1, 3): 0.72, (2, 3): 0.005}  # squared distances, by hand
    for ends, (y, distance, loss) in golden.items():
        assert found[ends][0] == y
        assert float(found[ends][1]) == pytest.approx(distance, abs=5e-5)
        assert float(found[ends][2]) == pytest.approx(loss, abs=1e-4)
        by_hand = exact[ends] if y else (1 - math.sqrt(exact[ends])) ** 2
        assert float(found[ends][2]) == pytest.approx(by_hand, rel=1e-6)
    assert math.fsum(float(found[ends][2]) for ends in golden) == pytest.approx(0.0331, abs=1e-4)
    assert len(found) == 6
    assert list(found) == sorted(found)
    assert mined.counts == {"anchors": 4, "pairs": 6, "rows": 6, "full": 4, "short": 0, "empty": 0}


@pytest.mark.parametrize(("margin", "loss"), [(0.5, 0.0), (1.0, 0.0001), (1.5, 0.2601), (2.0, 1.0203)])
def test_contrastive_margins(margin: float, loss: float) -> None:
    settings: dict[str, Any] = {"metric": "euclidean", "emit": "pairs", "band": "any", "margin": margin}
    mined = mine(POINTS[[0, 2]], labels=["A", "B"], **settings)
    stored = float(mined.columns["loss"][0])
    assert stored == pytest.approx(loss, abs=1e-4)
    assert stored == pytest.approx(max(margin - math.sqrt(0.98), 0.0) ** 2, rel=1e-6)
    assert contrastive_loss(0.5, margin, similar=True) == 0.25


@pytest.mark.parametrize(
    ("margin", "raw", "unit"), [(0.5, 0.0, 0.0), (3.1, 0.04625, 1.663413), (14.0, 5.70125, 12.563413)]
)
def test_triplet_golden_values(margin: float, raw: float, unit: float) -> None:
    anchors = np.array([[1, 0.9, 1.1], [0, 0.1, -0.1]])
    positives = np.array([[1.1, 1, 1], [0.05, 0.1, 0]])
    negatives = np.array([[3.0, -2, 0], [-1, 1, 1]])
    for normalize, golden in ((False, raw), (True, unit)):
        losses = []
        for row in range(2):
            rows = np.stack([anchors[row], positives[row], negatives[row]])
            settings: dict[str, Any] = {"metric": "sqeuclidean", "band": "any", "margin": margin, "float64": True}
            mined = mine(rows, labels=[1, 1, 2], normalize=normalize, only_anchors=[0], **settings)
            losses += mined.columns["loss"]
        assert round(math.fsum(losses) / 2, 6) == golden


# Pairs, tuples, order


def test_pairs_take_the_nearest_within_the_margin_from_either_side() -> None:
    points, labels = [0.0, 1.0, 2.0, 3.5, 10.0], ["a", "a", "b", "b", "c"]
    settings: dict[str, Any] = {"emit": "pairs", "band": "violating", "only_anchors": None, "float64": True}
    mined = on_line(points, labels, margin=2.0, negatives=1, **settings)
    # 0-2 lies at the margin itself, so outside; row 3's nearest is 1, beyond the margin; row 4 has none.
    assert rows_of(mined, "left_row", "right_row", "label", "distance", "loss") == [
        (0, 1, 1, 1.0, 1.0),
        (1, 2, 0, 1.0, 1.0),
        (2, 3, 1, 1.5, 2.25),
    ]
    assert mined.counts == {"anchors": 5, "pairs": 3, "rows": 3, "full": 2, "short": 0, "empty": 3}
    every = on_line(points, labels, margin=2.6, negatives=0, **settings)
    assert [ends for ends in rows_of(every, "left_row", "right_row", "label") if not ends[2]] == [
        (0, 2, 0),
        (1, 2, 0),
        (1, 3, 0),
    ]
    assert every.counts["full"] == 5
    one = on_line(points, labels, margin=2.6, negatives=1, **{**settings, "only_anchors": [3]})
    assert rows_of(one, "left_row", "right_row", "label") == [(1, 3, 0), (2, 3, 1)]
    nearest = on_line(points, labels, margin=2.6, negatives=1, **{**settings, "only_anchors": [2]})
    assert rows_of(nearest, "left_row", "right_row", "label") == [(1, 2, 0), (2, 3, 1)]


def test_pairs_drop_duplicates_of_the_anchor() -> None:
    points, labels = [0.0, 0.0, 1.0, 5.0], ["a", "b", "a", "c"]
    settings: dict[str, Any] = {"emit": "pairs", "band": "any", "negatives": 0, "only_anchors": None}
    for of, twins in (("both", False), ("anchor", False), ("positive", True)):
        mined = on_line(points, labels, drop_duplicates_within=0.0, drop_duplicates_of=of, **settings)
        assert ((0, 1) in rows_of(mined, "left_row", "right_row")) is twins
    assert "loss" not in mined.columns


def test_unlabelled_rows_are_ends_of_dissimilar_pairs_only_when_asked() -> None:
    settings: dict[str, Any] = {"emit": "pairs", "band": "any", "negatives": 0, "only_anchors": None}
    points, labels = [0.0, 1.0, 2.0], ["a", "b", None]
    assert rows_of(on_line(points, labels, **settings), "left_row", "right_row") == [(0, 1)]
    asked = on_line(points, labels, unlabeled="negative", **settings)
    assert rows_of(asked, "left_row", "right_row", "label") == [(0, 1, 0), (0, 2, 0), (1, 2, 0)]
    assert asked.counts["anchors"] == 2


def test_tuples() -> None:
    settings: dict[str, Any] = {"emit": "tuples", "band": "any", "margin": 2.0, "negatives": 2, "float64": True}
    ids = [10, 11, 12, 13, 14, 15]
    mined = on_line(LINE, LINE_LABELS, scores="negative-distance", ids=ids, **settings)
    assert mined.columns == {
        "anchor_id": [10],
        "positive_id": [11],
        "negative_ids": [[12, 13]],
        "scores": [[-1.0, -1.0, -2.0]],
        "losses": [[2.0, 1.0]],
        "anchor_row": [0],
        "positive_row": [1],
        "negative_rows": [[2, 3]],
    }
    assert list(mined.columns)[:5] == ["anchor_id", "positive_id", "negative_ids", "scores", "losses"]
    assert "scores" not in on_line(LINE, LINE_LABELS, scores="none", **settings).columns
    with pytest.raises(ValueError, match="scores"):
        on_line(LINE, LINE_LABELS, **settings)
    rows = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0], [0.0, 5.0]])
    for metric, scores in (("cosine", [0.6, 0.0, 0.0]), ("dot", [3.0, 0.0, 0.0])):
        mined = mine(rows, labels=[1, 1, 2, 2], metric=metric, only_anchors=[0], **settings)
        assert mined.columns["scores"] == [pytest.approx(scores)]


def test_triplet_columns_and_types() -> None:
    mined = on_line(LINE, LINE_LABELS, band="any", margin=0.1, ids=list("uvwxyz"))
    ids, rows = ["anchor_id", "positive_id", "negative_id"], ["anchor_row", "positive_row", "negative_row"]
    rest = ["distance_ap", "distance_an", "loss", "harder", "anchor_label", "negative_label"]
    assert list(mined.columns) == ids + rows + rest
    assert type(mined.columns["loss"][0]) is np.float32
    assert rows_of(mined, "anchor_id", "negative_id", "anchor_label", "negative_label") == [("u", "w", "a", "b")]
    double = on_line(LINE, LINE_LABELS, band="any", margin=0.1, float64=True)
    assert type(double.columns["loss"][0]) is float


def test_shuffled_order() -> None:
    world = WORLDS["shuffled_ids"]()
    assert world.ids is not None
    words = [i % 2**64 for i in world.ids]
    settings: dict[str, Any] = {"labels": world.labels, "ids": world.ids, "margin": 0.3, "seed": 5}
    plain = rows_of(mine(world.embeddings, negatives=3, **settings))
    mixed = mine(world.embeddings, negatives=3, order="shuffled", **settings)
    assert rows_of(mixed) == sorted(plain, key=lambda row: python_draw(5, 4, *(words[r] for r in row)))
    assert rows_of(mixed) != plain
    assert [world.ids[row] for row in mixed.columns["negative_row"]] == mixed.columns["negative_id"]
    names = ("anchor_row", "positive_row")
    tuples = rows_of(mine(world.embeddings, emit="tuples", order="shuffled", **settings), *names)
    assert tuples == sorted(tuples, key=lambda row: python_draw(5, 4, words[row[0]], words[row[1]], 0))
    ends = ("left_row", "right_row")
    settings |= {"emit": "pairs", "band": "violating"}
    pairs = rows_of(mine(world.embeddings, order="shuffled", **settings), *ends)
    assert pairs == sorted(pairs, key=lambda row: python_draw(5, 4, words[row[0]], 0, words[row[1]]))
    assert sorted(pairs) == rows_of(mine(world.embeddings, **settings), *ends)


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "manhattan"},
        {"band": "hardest"},
        {"emit": "pairs", "margin": 1.0},
        {"emit": "pairs", "band": "any", "metric": "dot"},
        {"emit": "pairs", "band": "any", "skip": 1},
        {"emit": "pairs", "band": "any", "swap": True},
        {"band": "any", "loss": "contrastive"},
        {"band": "any", "negatives": 0},
        {"band": "any", "pick": "weighted"},
        {"band": "any", "metric": "dot", "drop_duplicates_within": 0.1},
        {"band": "any", "emit": "tuples", "scores": "none", "negatives_per_anchor": 3},
    ],
)
def test_refusals(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        on_line(LINE, LINE_LABELS, **options)


# Every world against loops over Python floats


def by_loops(world: World, metric: str, band: str, m: float, k: int, anchors: range) -> list[tuple[int, int, int]]:
    """Triplets of the easiest positive and the nearest negatives, duplicates of both dropped."""
    rows = world.embeddings.astype(np.float64).tolist()
    n = len(rows)
    judged = [[value / max(map(abs, row)) for value in row] if metric == "cosine" else row for row in rows]

    def values(row: int) -> set[Any]:
        label = world.labels[row]
        return {v for v in (label if isinstance(label, list) else [label]) if v is not None}

    def key(row: int) -> Any:
        if world.ids is None:
            return row
        return world.ids[row].encode() if isinstance(world.ids[row], str) else world.ids[row]

    def apart(a: int, b: int) -> bool:
        return world.groups is None or world.groups[a] is None or world.groups[a] != world.groups[b]

    found = []
    for a in anchors:
        others = [row for row in range(n) if row != a and values(row) and apart(a, row)]
        x = {row: python_distance(rows[a], rows[row], metric) for row in others}
        positives = [row for row in others if values(row) & values(a)]
        if not positives:
            continue
        p = min((judged[row] == judged[a], x[row], key(row), row) for row in positives)[-1]
        low, high = {"hard": (-math.inf, x[p]), "semi-hard": (x[p], x[p] + m), "any": (-math.inf, math.inf)}[band]
        negatives = [row for row in others if not values(row) & values(a) and judged[row] not in (judged[a], judged[p])]
        eligible = [row for row in negatives if low < x[row] and (x[row] < high or (band == "hard" and x[row] == high))]
        found += [(a, p, row) for _, _, row in sorted((x[row], key(row), row) for row in eligible)[:k]]
    return found


@pytest.mark.parametrize("name", WORLDS)
def test_worlds_against_loops(name: str) -> None:
    world = WORLDS[name]()
    anchors = range(0, len(world.labels), 17)
    settings: dict[str, Any] = {"labels": world.labels, "ids": world.ids, "groups": world.groups, "margin": 0.5}
    for metric in world.metrics:
        for band in ("hard", "semi-hard", "any"):
            mined = mine(world.embeddings, metric=metric, band=band, negatives=4, only_anchors=anchors, **settings)
            assert rows_of(mined) == by_loops(world, metric, band, 0.5, 4, anchors)


def test_the_worlds_are_of_their_size() -> None:
    for make in WORLDS.values():
        world = make()
        assert 20 <= len(world.embeddings) == len(world.labels) <= 400
        squares = (world.embeddings.astype(np.float64) ** 2).sum(axis=1)
        inside = (squares >= 1e-150) & (squares <= 1e150)
        assert (inside | (squares == 0)).all()
        assert inside.all() or "cosine" not in world.metrics
