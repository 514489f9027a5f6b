"""Laws that hold for any data set and any allowed options, on random small ones full of ties and gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import support
from assertions import table_columns
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support import CELLS, allowed, assert_sides_agree, drawn_options, fits, mined, reference_rules
from worlds import World

from minestream import reference
from minestream.config.metrics import METRICS
from minestream.config.resolve import split_options
from minestream.errors import InputError

ALLOWED = [cell for cell in CELLS if allowed(cell)]
SCREENS = st.sampled_from(support.SCREENS)


def examples(count: int) -> Any:
    return settings(
        max_examples=count, derandomize=True, deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn, single_labels: bool = False) -> World:
    """Up to 40 rows on a coarse grid or anywhere, with repeated rows, nulls, groups, several labels, ids."""
    n, d = draw(st.integers(4, 40)), draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    if draw(st.booleans()):
        rows = rng.integers(1, 4, (n, d)).astype(draw(st.sampled_from(["float32", "float64", "int8", "float16"])))
    else:
        rows = rng.normal(size=(n, d)).astype(draw(st.sampled_from(["float32", "float64"])))
    if draw(st.booleans()):
        rows = rows[rng.integers(0, n, n)]
    count = draw(st.integers(2, 6))
    labels: list[Any] = rng.integers(0, count, n).tolist()
    if not single_labels and draw(st.booleans()):
        labels = [sorted({label, *rng.integers(0, count, rng.integers(0, 3)).tolist()}) for label in labels]
        labels = [[*label, None] if rng.random() < 0.1 else label for label in labels]
    if not single_labels and draw(st.booleans()):
        labels = [None if rng.random() < 0.2 else label for label in labels]
    groups = [None if g == 0 else g for g in rng.integers(0, 5, n).tolist()] if draw(st.booleans()) else None
    ids = draw(st.sampled_from([None, "int", "text"]))
    places = (7 * rng.permutation(n) - 50).tolist()
    named = places if ids == "int" else [f"é{place}" for place in places] if ids == "text" else None
    return World(rows, labels, ids=named, groups=groups)


def has_answer(world: World) -> bool:
    """Whether mining takes it: two labels or more, and one with two rows (inputs without are refused)."""
    members: dict[Any, int] = {}
    for label in world.labels:
        for value in dict.fromkeys(label if isinstance(label, list) else [label]):
            if value is not None:
                members[value] = members.get(value, 0) + 1
    return len(members) > 1 and max(members.values()) > 1


def mined_or_skipped(world: World, screen: str, **options: Any) -> Any:
    assume(has_answer(world))
    try:
        return mined(world, screen, **options)
    except InputError:  # groups can leave no row a positive
        assume(False)


JOBS = (worlds(), st.sampled_from(ALLOWED), st.integers(0, 2**32 - 1))


@examples(30)
@given(*JOBS)
def test_every_screen_mines_what_the_reference_mines(world: World, cell: dict[str, str], seed: int) -> None:
    """The fuzzer goes on with this, and -m slow."""
    check(world, cell, seed)


@pytest.mark.slow
@examples(600)
@given(*JOBS)
def test_every_screen_in_many_worlds(world: World, cell: dict[str, str], seed: int) -> None:
    check(world, cell, seed)


def check(world: World, cell: dict[str, str], seed: int) -> None:
    assume(fits(world, cell) and has_answer(world))
    options = drawn_options(world, cell, np.random.default_rng(seed))
    config, *_ = split_options(options)
    if config.emit != "pairs":
        everywhere = {**reference_rules(config), "anchors": None, "anchors_per_label": None}
        whole = reference.mine(
            world.embeddings, labels=world.labels, ids=world.ids, groups=world.groups, **everywhere
        )  # fmt: skip
        assume(whole.counts["anchors"] > 0)
    assert_sides_agree(world, **options)


@st.composite
def triplet_rules(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "metric": draw(st.sampled_from(list(METRICS))),
        "margin": draw(st.sampled_from([1e-6, 0.05, 0.5, 1.0])),
        "positives": draw(st.sampled_from(["easiest", "hardest", "random", "all"])),
        "positives_per_anchor": draw(st.integers(1, 3)),
        "seed": draw(st.integers(-3, 3)),
        "float64": True,
    }


def by_pair(columns: dict[str, list[Any]]) -> dict[tuple[int, int], list[int]]:
    """Negatives of each (anchor, positive), in order."""
    found: dict[tuple[int, int], list[int]] = {}
    for anchor, positive, negative in zip(
        columns["anchor_row"], columns["positive_row"], columns["negative_row"], strict=True
    ):
        found.setdefault((anchor, positive), []).append(negative)
    return found


@examples(25)
@given(worlds(), triplet_rules(), st.integers(1, 5), st.sampled_from(["nearest", "random"]), SCREENS)
def test_the_top_k_begin_the_top_k_plus_one(
    world: World, rules: dict[str, Any], k: int, pick: str, screen: str
) -> None:
    fewer, more = (
        by_pair(table_columns(mined_or_skipped(world, screen, negatives=count, pick=pick, **rules).table()))
        for count in (k, k + 1)
    )
    assert set(fewer) == set(more)
    assert fewer == {pair: negatives[:k] for pair, negatives in more.items()}


@examples(25)
@given(worlds(), triplet_rules(), SCREENS)
def test_hard_and_semi_hard_are_violating(world: World, rules: dict[str, Any], screen: str) -> None:
    """Wherever p + m > p, which a margin of 1e-6 is not beside every p."""
    hard, semi_hard, violating, easy, whole = (
        by_pair(table_columns(mined_or_skipped(world, screen, band=band, negatives=50, **rules).table()))
        for band in ("hard", "semi-hard", "violating", "easy", "any")
    )
    for pair in whole:
        assert hard.get(pair, []) + semi_hard.get(pair, []) == violating.get(pair, [])
        assert violating.get(pair, []) + easy.get(pair, []) == whole[pair]
    assert set(violating) <= set(whole)


def relation_of(world: World, a: int, b: int) -> str:
    """Same label, other label or neither, from the definition."""
    left, right = (
        {v for v in (label if isinstance(label, list) else [label]) if v is not None}
        for label in (world.labels[a], world.labels[b])
    )
    grouped = world.groups is not None and world.groups[a] is not None and world.groups[a] == world.groups[b]
    if a == b or grouped or not left or not right:
        return "neither"
    return "positive" if left & right else "negative"


@examples(40)
@given(
    worlds(), triplet_rules(), st.sampled_from(["hard", "semi-hard", "violating", "easy", "any"]),
    st.sampled_from(["nearest", "random"]), st.integers(1, 6), SCREENS,
)  # fmt: skip
def test_nobody_is_what_it_may_not_be(
    world: World, rules: dict[str, Any], band: str, pick: str, k: int, screen: str
) -> None:
    columns = table_columns(mined_or_skipped(world, screen, band=band, pick=pick, negatives=k, **rules).table())
    judged = np.asarray(world.embeddings, np.float64)
    judged = judged / np.abs(judged).max(axis=1, keepdims=True) if rules["metric"] == "cosine" else judged
    for anchor, positive, negative in zip(
        columns["anchor_row"], columns["positive_row"], columns["negative_row"], strict=True
    ):
        assert relation_of(world, anchor, positive) == "positive"
        assert relation_of(world, anchor, negative) == "negative"
        for end in (anchor, positive):
            assert not (judged[negative] == judged[end]).all()
    for pair, negatives in by_pair(columns).items():
        assert len(negatives) == len(set(negatives)) <= k, pair


@examples(30)
@given(worlds(), triplet_rules(), st.sampled_from(["nearest", "random"]), SCREENS)
def test_losses_of_semi_hard_rows_lie_within_the_margin(
    world: World, rules: dict[str, Any], pick: str, screen: str
) -> None:
    options = {**rules, "float64": False, "negatives": 4, "pick": pick}
    columns = table_columns(mined_or_skipped(world, screen, **options).table())
    exact = table_columns(mined_or_skipped(world, screen, **{**options, "float64": True}).table())
    m = rules["margin"]
    for loss, p, x in zip(columns["loss"], exact["distance_ap"], exact["distance_an"], strict=True):
        assert p < x < p + m
        assert 0 < loss <= np.float32(m + np.spacing(p + m))


@examples(30)
@given(worlds(), triplet_rules(), st.sampled_from(["hard", "semi-hard", "violating", "any"]), SCREENS)
def test_random_picks_are_some_of_the_eligible(world: World, rules: dict[str, Any], band: str, screen: str) -> None:
    picked, eligible = (
        by_pair(table_columns(mined_or_skipped(world, screen, band=band, pick=pick, negatives=k, **rules).table()))
        for pick, k in (("random", 3), ("nearest", 50))
    )
    assert set(picked) == set(eligible)
    for pair, negatives in picked.items():
        assert set(negatives) <= set(eligible[pair])
        assert len(negatives) == min(3, len(eligible[pair]))


@examples(20)
@given(worlds(), triplet_rules(), st.integers(1, 4), st.integers(1, 4), SCREENS)
def test_skipping_leaves_the_nearest_out(world: World, rules: dict[str, Any], k: int, skip: int, screen: str) -> None:
    skipped, whole = (
        by_pair(table_columns(mined_or_skipped(world, screen, negatives=count, skip=s, **rules).table()))
        for count, s in ((k, skip), (k + skip, 0))
    )
    assert skipped == {pair: rest for pair, negatives in whole.items() if (rest := negatives[skip:])}


@examples(20)
@given(worlds(), st.integers(0, 4), st.sampled_from(["violating", "any"]), SCREENS)
def test_pairs_stand_once_and_in_order(world: World, k: int, band: str, screen: str) -> None:
    options = {"emit": "pairs", "metric": "euclidean", "margin": 1.0, "negatives": k, "band": band}
    columns = table_columns(mined_or_skipped(world, screen, **options).table())
    ends = list(zip(columns["left_row"], columns["right_row"], strict=True))
    assert ends == sorted(set(ends))
    assert all(left < right for left, right in ends)
    for (left, right), y, distance in zip(ends, columns["label"], columns["distance"], strict=True):
        assert relation_of(world, left, right) == ("positive" if y else "negative")
        assert y or band == "any" or distance < 1.0
