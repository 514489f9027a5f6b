"""The oracle's rules of retrieval against answers worked out by hand, and against loops over Python floats."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from test_reference import on_line, python_distance, python_draw, rows_of

from minestream.reference import Mined, Vectors, mine

LISTED: dict[str, Any] = {
    "band": "any",
    "positives": "all",
    "group_rule": "negatives",
    "drop_duplicates_of": "positive",
}


def column(values: list[float]) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.float64)[:, None]


def retrieve(queries: list[float], corpus: list[float], **options: Any) -> Mined:
    """Two tables of points of the number line, Euclidean, no duplicates dropped."""
    options = {"metric": "euclidean", "drop_duplicates_within": None, "negatives": 9, **LISTED, **options}
    return mine(column(queries), corpus=column(corpus), **options)


def similar(positives: list[float], negatives: list[float], /, **options: Any) -> Mined:
    """One query at 1 whose inner product with a candidate is the candidate's value; the positives come first."""
    known = [(0, row) for row in range(len(positives))]
    options = {"metric": "dot", "known_positives": known, **options}
    return retrieve([1.0], positives + negatives, **options)


def negatives_of(mined: Mined, positive: int = 0) -> list[int]:
    return [n for _, p, n in rows_of(mined, "query_row", "positive_row", "negative_row") if p == positive]


def queries_of(mined: Mined) -> list[tuple[Any, ...]]:
    return rows_of(mined, "query_row", "positive_row", "negative_row")


# Two tables


def test_two_tables_with_labels() -> None:
    # A query and the corpus row of the same number have nothing to do with each other.
    mined = retrieve(
        [0.0, 10.0, 5.0], [1.0, 9.0, 2.0, 7.0], labels=["a", "b", "c"], corpus_labels=["a", "b", "a", None]
    )
    assert queries_of(mined) == [(0, 0, 1), (0, 2, 1), (1, 1, 2), (1, 1, 0)]
    assert mined.columns["distance_ap"] == [1.0, 2.0, 1.0, 1.0]
    assert mined.columns["distance_an"] == [9.0, 9.0, 8.0, 9.0]
    assert mined.columns["query_label"] == ["a", "a", "b", "b"]
    assert mined.columns["negative_label"] == ["b", "b", "a", "a"]
    assert mined.counts == {"anchors": 2, "pairs": 3, "rows": 4, "full": 0, "short": 3, "empty": 0}
    asked = retrieve([0.0], [1.0, 9.0, 2.0], labels=["a"], corpus_labels=["a", None, []], unlabeled="negative")
    assert queries_of(asked) == [(0, 0, 2), (0, 0, 1)]


def test_columns_of_two_tables() -> None:
    rows = ["query_row", "positive_row", "negative_row"]
    rest = ["distance_ap", "distance_an", "harder"]
    known: dict[str, Any] = {"known_positives": [(0, 1)]}
    labels: dict[str, Any] = {"labels": ["a"], "corpus_labels": ["b", None]}
    assert list(retrieve([0.0], [1.0, 2.0], **known).columns) == rows + rest
    named = retrieve([0.0], [1.0, 2.0], ids=["q"], corpus_ids=[70, 71], **known, **labels)
    assert list(named.columns) == [
        *("query_id", "positive_id", "negative_id", *rows, *rest, "query_label", "negative_label")
    ]
    assert rows_of(named, "query_id", "positive_id", "negative_id", "query_label", "negative_label") == [
        ("q", 71, 70, "a", "b")
    ]
    swapped = retrieve([0.0], [1.0, 4.0], swap=True, margin=2.0, corpus_ids=[70, 71], **known)
    assert list(swapped.columns) == [
        *("positive_id", "negative_id", *rows, "distance_ap", "distance_an", "distance_pn", "loss", "harder")
    ]
    assert rows_of(swapped, "distance_ap", "distance_an", "distance_pn", "loss") == [(4.0, 1.0, 3.0, 5.0)]


def test_tuples_of_two_tables() -> None:
    settings: dict[str, Any] = {"emit": "tuples", "scores": "negative-distance", "margin": 2.0, "negatives": 2}
    mined = retrieve(
        [0.0], [1.0, 2.0, 5.0], known_positives=[(0, 1)], ids=[5], corpus_ids=["x", "y", "z"], float64=True, **settings
    )
    assert list(mined.columns) == [
        *("query_id", "positive_id", "negative_ids", "scores", "losses", "query_row", "positive_row", "negative_rows")
    ]
    assert list(mined.columns.values()) == [
        [5], ["y"], [["x", "z"]], [[-2.0, -1.0, -5.0]], [[3.0, 0.0]], [0], [1], [[0, 2]]
    ]  # fmt: skip


def test_one_table_of_pairs_has_no_label_columns() -> None:
    mined = on_line([0.0, 1.0, 2.0], None, known_positives=[(0, 1)], band="any")
    assert list(mined.columns) == [
        *("anchor_row", "positive_row", "negative_row", "distance_ap", "distance_an", "harder")
    ]
    assert rows_of(mined) == [(0, 1, 2)]


def test_keys_are_those_of_their_own_table() -> None:
    # Corpus ids run against the rows, so every tie breaks backwards.
    settings: dict[str, Any] = {"known_positives": [(0, 0), (0, 1)], "ids": [9], "corpus_ids": [4, 3, 2, 1]}
    assert queries_of(retrieve([0.0], [1.0, -1.0, 2.0, -2.0], **settings)) == [
        (0, 1, 3), (0, 1, 2), (0, 0, 3), (0, 0, 2)
    ]  # fmt: skip
    easiest = retrieve([0.0], [1.0, -1.0, 2.0, -2.0], **{**settings, "positives": "easiest"})
    assert easiest.columns["positive_row"] == [1, 1]


def test_draws_take_the_words_of_their_own_table() -> None:
    query_ids, corpus_ids = [1000, 7], [500 + 3 * row for row in range(12)]
    known = [(q, c) for q in range(2) for c in range(4)]
    settings: dict[str, Any] = {"known_positives": known, "ids": query_ids, "corpus_ids": corpus_ids, "seed": 3}
    points = [float(row) for row in range(12)]
    mined = retrieve([0.0, 1.0], points, pick="random", negatives=3, **settings)
    positive = retrieve([0.0, 1.0], points, **{**settings, "positives": "random", "positives_per_anchor": 4})
    for q in range(2):
        for p in range(4):
            by_draw = sorted(range(4, 12), key=lambda c: python_draw(3, 2, query_ids[q], corpus_ids[p], corpus_ids[c]))
            assert [n for a, b, n in queries_of(mined) if (a, b) == (q, p)] == by_draw[:3]
        by_draw = sorted(range(4), key=lambda p: python_draw(3, 1, query_ids[q], 0, corpus_ids[p]))
        assert [p for a, p, _ in queries_of(positive)[::8] if a == q] == by_draw
    for seed in range(8):
        one = retrieve([0.0, 1.0], points, anchors=1, **{**settings, "seed": seed})
        assert set(one.columns["query_row"]) == {min(range(2), key=lambda q: python_draw(seed, 3, query_ids[q], 0, 0))}
    mixed = retrieve([0.0, 1.0], points, order="shuffled", **settings)
    plain = retrieve([0.0, 1.0], points, **settings)

    def luck(row: tuple[int, ...]) -> int:
        return python_draw(3, 4, query_ids[row[0]], corpus_ids[row[1]], corpus_ids[row[2]])

    assert queries_of(mixed) == sorted(queries_of(plain), key=luck) != queries_of(plain)
    tuples = retrieve([0.0, 1.0], points, order="shuffled", emit="tuples", scores="none", negatives=8, **settings)
    ends = rows_of(tuples, "query_row", "positive_row")
    assert ends == sorted(known, key=lambda row: python_draw(3, 4, query_ids[row[0]], corpus_ids[row[1]], 0)) != known


def test_rows_of_the_corpus_that_take_no_part() -> None:
    settings: dict[str, Any] = {"known_positives": [(0, 0), (0, 1), (1, 0)], "corpus_takes_part": [False, True, True]}
    mined = retrieve([0.0, 5.0], [1.0, 2.0, 3.0], **settings)
    assert queries_of(mined) == [(0, 1, 2)]
    assert mined.counts["anchors"] == 1
    assert retrieve([0.0, 5.0], [1.0, 2.0, 3.0], takes_part=[False, True], **settings).counts["anchors"] == 0


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "sqeuclidean", "dot"])
@pytest.mark.parametrize("normalize", [False, True])
def test_distances_between_tables_equal_python_loops(metric: str, normalize: bool) -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=(3, 7)).astype(np.float16), rng.normal(size=(20, 7)).astype(np.float32) * 5
    queries = Vectors(few, metric, normalize, np.arange(3))
    corpus = Vectors(many, metric, normalize, np.arange(20))
    plain = [rows.astype(np.float64).tolist() for rows in (few, many)]
    if normalize:
        plain = [[[v / math.sqrt(-python_distance(row, row, "dot")) for v in row] for row in rows] for rows in plain]
    for q in range(3):
        expected = [python_distance(plain[0][q], row, metric) for row in plain[1]]
        assert corpus.distances(q, np.arange(20), queries).tolist() == expected


def test_duplicates_across_tables_of_two_types() -> None:
    # 0.1 as float32 is not 0.1 as float64, though it would be if the float64 were rounded first.
    corpus = np.array([[5.0], [0.1], [np.float32(0.1)], [-0.0], [5.0]])
    settings: dict[str, Any] = {**LISTED, "corpus": corpus, "metric": "euclidean", "known_positives": [(0, 0)]}
    for of, negatives in (("anchor", [1, 3, 4]), ("positive", [1, 2, 3]), ("both", [1, 3])):
        settings["drop_duplicates_of"] = of
        mined = mine(np.array([[0.1]], dtype=np.float32), negatives=9, **settings)
        assert sorted(mined.columns["negative_row"]) == negatives
    near = mine(np.array([[0.1]], dtype=np.float32), negatives=9, drop_duplicates_within=1e-6, **settings)
    assert near.columns["negative_row"] == [3]
    settings["corpus"] = corpus.astype(np.float32)
    double = mine(np.array([[0.1]]), negatives=9, **settings)
    assert sorted(double.columns["negative_row"]) == [1, 2, 3]
    zero = mine(np.array([[0.0]], dtype=np.float32), negatives=9, **settings)
    assert zero.columns["negative_row"] == [1, 2]


def test_positives_that_duplicate_the_query_are_passed_over() -> None:
    settings: dict[str, Any] = {"known_positives": [(0, 0), (0, 1)], "positives": "easiest"}
    assert queries_of(retrieve([1.0], [3.0, 1.0, 9.0], drop_duplicates_within=0.0, **settings)) == [(0, 0, 2)]
    assert queries_of(retrieve([1.0], [3.0, 1.0, 9.0], **settings)) == [(0, 1, 2)]


# The same item


def test_same_ids_of_two_tables_are_the_same_item() -> None:
    labels: dict[str, Any] = {"labels": ["a", "b"], "corpus_labels": ["a", "a", "b", "b"]}
    ids: dict[str, Any] = {"ids": [10, 12], "corpus_ids": [10, 11, 12, 13]}
    apart = [(0, 1, 2), (0, 1, 3), (1, 3, 1), (1, 3, 0)]
    assert queries_of(retrieve([0.0, 9.0], [1.0, 2.0, 5.0, 6.0], **labels, **ids)) == apart
    # Row 12 of the corpus is a negative of query 10, yet no negative of itself under another label.
    other = {"labels": ["a", "a"], "corpus_labels": ["a", "a", "b", "b"]}
    mined = retrieve([0.0, 9.0], [1.0, 2.0, 5.0, 6.0], **other, **ids)
    assert negatives_of(mined, 1) == [2, 3, 3]
    strings = {"ids": ["10", "12"], "corpus_ids": [10, 11, 12, 13]}
    assert len(queries_of(retrieve([0.0, 9.0], [1.0, 2.0, 5.0, 6.0], **labels, **strings))) == 8
    alone = retrieve([0.0], [1.0, 2.0], labels=["a"], corpus_labels=["a", "b"], ids=[1], corpus_ids=[1, 2])
    assert alone.counts["anchors"] == 0


def test_with_known_positives_ids_are_shared_only_when_said() -> None:
    settings: dict[str, Any] = {"ids": [10], "corpus_ids": [11, 10, 12], "known_positives": [(0, 0)]}
    assert queries_of(retrieve([0.0], [1.0, 2.0, 3.0], **settings)) == [(0, 0, 1), (0, 0, 2)]
    assert queries_of(retrieve([0.0], [1.0, 2.0, 3.0], shared_ids=True, **settings)) == [(0, 0, 2)]
    settings["known_positives"] = [(0, 0), (0, 1)]
    assert queries_of(retrieve([0.0], [1.0, 2.0, 3.0], **settings)) == [(0, 1, 2), (0, 0, 2)]
    assert queries_of(retrieve([0.0], [1.0, 2.0, 3.0], shared_ids=True, **settings)) == [(0, 0, 2)]


# Known positives


def test_only_listed_pairs_are_positive() -> None:
    points, known = [1.0, 2.0, 3.0, 4.0], [(0, 2), (0, 1), (2, 0)]
    mined = retrieve([0.0, 1.0, 9.0], points, known_positives=known)
    assert queries_of(mined) == [(0, 1, 0), (0, 1, 3), (0, 2, 0), (0, 2, 3), (2, 0, 3), (2, 0, 2), (2, 0, 1)]
    assert mined.counts["anchors"] == 2
    assert retrieve([0.0], points, known_positives=[]).counts["anchors"] == 0


def test_beside_known_positives_labels_count_and_unlabeled_rules() -> None:
    """A listed row without a label is a positive all the same, and an anchor; whether it may be a negative is asked."""
    labels: dict[str, Any] = {"labels": ["a", None], "corpus_labels": ["a", "b", None, ["a", "c"]]}
    rows = {
        "ignore": [(0, 0, 1), (0, 3, 1), (1, 2, 0), (1, 2, 1), (1, 2, 3)],
        "negative": [(0, 0, 1), (0, 0, 2), (0, 3, 1), (0, 3, 2), (1, 2, 0), (1, 2, 1), (1, 2, 3)],
    }
    for unlabeled, expected in rows.items():
        mined = retrieve([0.0, 0.0], [1.0, 2.0, 3.0, 4.0], known_positives=[(1, 2)], unlabeled=unlabeled, **labels)
        assert queries_of(mined) == expected
    assert mined.columns["query_label"] == ["a"] * 4 + [None] * 3
    alone = retrieve([0.0, 0.0], [1.0, 2.0, 3.0, 4.0], known_positives=[(1, 2)], unlabeled="ignore")
    assert queries_of(alone) == [(1, 2, 0), (1, 2, 1), (1, 2, 3)]  # without labels it asks nothing


def test_pairs_of_one_table_are_unordered_and_not_transitive() -> None:
    points, known = [0.0, 1.0, 2.0, 3.0], [(0, 1), (2, 1)]
    mined = on_line(points, None, known_positives=known, band="any", positives="all", negatives=9, only_anchors=None)
    assert rows_of(mined) == [(0, 1, 2), (0, 1, 3), (1, 0, 3), (1, 2, 3), (2, 1, 3), (2, 1, 0)]


def test_pairs_of_one_table_unite_with_labels() -> None:
    points, labels = [0.0, 1.0, 2.0, 3.0, 4.0], ["a", "a", "b", None, None]
    settings: dict[str, Any] = {"band": "any", "positives": "all", "negatives": 9, "only_anchors": None}
    mined = on_line(points, labels, known_positives=[(2, 0), (3, 3)], unlabeled="negative", **settings)
    assert rows_of(mined) == [
        (0, 1, 3), (0, 1, 4), (0, 2, 3), (0, 2, 4), (1, 0, 2), (1, 0, 3), (1, 0, 4), (2, 0, 1), (2, 0, 3), (2, 0, 4)
    ]  # fmt: skip
    ignored = on_line(points, labels, known_positives=[(2, 0), (3, 3)], **settings)
    assert rows_of(ignored) == [(1, 0, 2), (2, 0, 1)]


def test_unlabelled_anchors_have_no_limit_a_label() -> None:
    points, labels = [0.0, 1.0, 2.0, 3.0], ["a", "a", None, None]
    settings: dict[str, Any] = {
        "band": "any",
        "only_anchors": None,
        "known_positives": [(2, 3)],
        "unlabeled": "negative",
    }
    mined = on_line(points, labels, anchors_per_label=1, **settings)
    luck = [python_draw(0, 3, row, 0, 0) for row in range(2)]
    assert mined.columns["anchor_row"] == [luck.index(min(luck)), 2, 3]


def test_pairs_emitted_of_known_positives() -> None:
    settings: dict[str, Any] = {
        "emit": "pairs",
        "band": "any",
        "positives": "all",
        "negatives": 1,
        "only_anchors": None,
    }
    mined = on_line([0.0, 1.0, 3.0], None, known_positives=[(1, 0)], **settings)
    # The row in no listed pair picks a dissimilar one as well.
    assert rows_of(mined, "left_row", "right_row", "label") == [(0, 1, 1), (0, 2, 0), (1, 2, 0)]
    assert mined.counts["anchors"] == 3


def test_ends_of_pairs_have_a_label_or_a_listed_positive() -> None:
    """Beside labels a row without one mines no pairs, and a row is nothing to itself."""
    settings: dict[str, Any] = {"emit": "pairs", "band": "any", "negatives": 9, "only_anchors": None}
    mined = on_line([0.0, 1.0, 3.0, 4.0], ["a", "b", None, None], known_positives=[(2, 2), (3, 0)], **settings)
    assert mined.counts["anchors"] == 3
    rows = [(0, 1, 0), (0, 3, 1), (1, 3, 0)]
    assert rows_of(mined, "left_row", "right_row", "label") == rows


# Exclusions and groups


def test_excluded_pairs_are_neither() -> None:
    settings: dict[str, Any] = {"known_positives": [(0, 0), (0, 1), (1, 1)]}
    mined = retrieve([0.0, 0.0], [1.0, 2.0, 3.0, 4.0], excluded=[(0, 3), (0, 1), (1, 0)], **settings)
    assert queries_of(mined) == [(0, 0, 2), (1, 1, 2), (1, 1, 3)]
    none_left = retrieve([0.0, 0.0], [1.0, 2.0, 3.0, 4.0], excluded=[(1, 1)], **settings)
    assert set(none_left.columns["query_row"]) == {0}
    assert none_left.counts["anchors"] == 1


def test_excluded_pairs_of_one_table_are_unordered() -> None:
    points, labels = [0.0, 1.0, 2.0, 3.0, 4.0], ["a", "a", "a", "b", "b"]
    settings: dict[str, Any] = {"band": "any", "positives": "all", "negatives": 9, "only_anchors": None}
    mined = on_line(points, labels, excluded=[(1, 0), (3, 0), (4, 3)], **settings)
    assert rows_of(mined) == [(0, 2, 4), (1, 2, 3), (1, 2, 4), (2, 0, 3), (2, 0, 4), (2, 1, 3), (2, 1, 4)]
    assert mined.counts["anchors"] == 3


@pytest.mark.parametrize("seed", range(6))
def test_rows_with_a_positive_are_those_that_have_partners(seed: int) -> None:
    """Counting against looking: multi-labels, groups, exclusions, listed pairs and shared ids at once."""
    rng = np.random.default_rng(seed)

    def drawn(n: int) -> dict[str, Any]:
        labels = [rng.choice(9, size=rng.integers(0, 3), replace=False).tolist() for _ in range(n)]
        return {
            "labels": labels,
            "groups": [None if g == 0 else g for g in rng.integers(0, 3, size=n).tolist()],
            "ids": rng.permutation(20)[:n].tolist(),
            "takes_part": rng.random(n) < 0.9,
        }

    def pairs(count: int) -> list[tuple[int, int]]:
        return [(int(a), int(b)) for a, b in zip(rng.integers(0, 12, count), rng.integers(0, 14, count), strict=True)]

    queries, corpus = drawn(12), drawn(14)
    known, excluded = pairs(6) if seed % 2 else None, pairs(40)
    mined = retrieve(
        [float(v) for v in range(12)], [float(v) for v in range(14)], **queries,
        **{f"corpus_{name}": values for name, values in corpus.items()}, known_positives=known, excluded=excluded,
        shared_ids=seed % 3 == 0, group_rule=("both", "positives", "negatives")[seed % 3], unlabeled="negative",
    )  # fmt: skip

    def positive(q: int, c: int) -> bool:
        if not (queries["takes_part"][q] and corpus["takes_part"][c]) or (q, c) in excluded:
            return False
        if (known is None or seed % 3 == 0) and queries["ids"][q] == corpus["ids"][c]:
            return False
        if (q, c) in (known or []):
            return True
        together = queries["groups"][q] is not None and queries["groups"][q] == corpus["groups"][c]
        if together and seed % 3 < 2:
            return False
        return bool(set(queries["labels"][q]) & set(corpus["labels"][c]))

    expected = {q: {c for c in range(14) if positive(q, c)} for q in range(12)}
    assert mined.counts["anchors"] == sum(map(bool, expected.values()))
    assert mined.counts["pairs"] == sum(map(len, expected.values()))
    assert set(rows_of(mined, "query_row", "positive_row")) == {(q, c) for q in expected for c in expected[q]}


def test_an_excluded_row_of_the_same_group_is_taken_off_once() -> None:
    settings: dict[str, Any] = {"groups": ["g"], "corpus_groups": ["g", "h", "h"], "group_rule": "both"}
    labels: dict[str, Any] = {"labels": ["a"], "corpus_labels": ["a", "a", "b"]}
    assert queries_of(retrieve([0.0], [1.0, 2.0, 3.0], excluded=[(0, 0)], **labels, **settings)) == [(0, 1, 2)]
    both = retrieve([0.0], [1.0, 2.0, 3.0], excluded=[(0, 0), (0, 1)], **labels, **settings)
    assert both.counts["anchors"] == 0


def test_groups_span_the_tables() -> None:
    # In the corpus the groups come in another order: codes of their own would not meet.
    settings: dict[str, Any] = {"groups": ["g", "h"], "corpus_groups": ["h", "g", "g", None], "negatives": 9}
    listed = [(0, 0, 3), (0, 1, 3)]  # a listed positive stays, of whatever group it is
    expected = {"negatives": listed, "positives": [(0, 0, 2), *listed[:1], (0, 1, 2), *listed[1:]], "both": listed}
    for rule, rows in expected.items():
        mined = retrieve(
            [0.0, 0.0], [1.0, 2.0, 3.0, 4.0], known_positives=[(0, 0), (0, 1)], group_rule=rule, **settings
        )
        assert queries_of(mined) == rows, rule
    labels: dict[str, Any] = {"labels": ["a", "b"], "corpus_labels": ["a", "a", "c", "c"]}
    by_label = retrieve(
        [0.0, 0.0], [1.0, 2.0, 3.0, 4.0], known_positives=[(0, 2)], group_rule="both", **labels, **settings
    )
    assert queries_of(by_label) == [(0, 0, 3), (0, 2, 3)]


# Filters


@pytest.mark.parametrize(
    ("options", "negatives"),
    [
        ({}, [5.0, 4.0, 3.0, 2.0, -1.0]),
        ({"max_similarity": 4.0}, [4.0, 3.0, 2.0, -1.0]),
        ({"max_similarity": 3.9999}, [3.0, 2.0, -1.0]),
        ({"min_similarity": 3.0}, [5.0, 4.0, 3.0]),
        ({"min_similarity": 3.0001}, [5.0, 4.0]),
        ({"absolute_margin": 1.0}, [3.0, 2.0, -1.0]),
        ({"absolute_margin": 1.0001}, [2.0, -1.0]),
        ({"absolute_margin": -1.0}, [5.0, 4.0, 3.0, 2.0, -1.0]),
        ({"absolute_margin": 0.0}, [4.0, 3.0, 2.0, -1.0]),
        ({"relative_margin": 0.25}, [3.0, 2.0, -1.0]),
        ({"relative_margin": 0.2501}, [2.0, -1.0]),
        ({"relative_margin": 0.25, "min_similarity": 2.0}, [3.0, 2.0]),
        ({"relative_margin": 0.25, "absolute_margin": 2.0, "max_similarity": 9.0}, [2.0, -1.0]),
    ],
)
def test_filters_and_their_edges(options: dict[str, Any], negatives: list[float]) -> None:
    values = [5.0, 4.0, 3.0, 2.0, -1.0]
    mined = similar([4.0], values, **options)
    assert [values[row - 1] for row in mined.columns["negative_row"]] == negatives
    assert mined.columns["harder"] == [None if options else place for place in range(len(negatives))]


def test_filters_see_every_negative_before_any_cut() -> None:
    # The 50 nearest are too near; the three that pass are found all the same.
    mined = similar([0.5], [0.9] * 50 + [0.3, 0.2, 0.1], absolute_margin=0.1, negatives=3)
    assert negatives_of(mined) == [51, 52, 53]
    assert mined.counts["full"] == 1


def test_filters_of_cosine_use_one_minus_the_distance() -> None:
    rows = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 1.0], [4.0, 3.0]])
    settings: dict[str, Any] = {"labels": [1, 1, 2, 2], "band": "any", "only_anchors": [0], "negatives": 9}
    s = 1.0 - python_distance([1.0, 0.0], [4.0, 3.0], "cosine")
    assert mine(rows, max_similarity=s, **settings).columns["negative_row"] == [3, 2]
    assert mine(rows, max_similarity=math.nextafter(s, 0), **settings).columns["negative_row"] == [2]
    assert mine(rows, absolute_margin=-0.25, **settings).columns["negative_row"] == [3, 2]
    assert mine(rows, absolute_margin=-0.15, **settings).columns["negative_row"] == [2]


@pytest.mark.parametrize(
    ("options", "dropped"),
    # Positives 8, 4, 4, 6 (mean 5.5), chosen: all; negatives 5.25, 5.0, 3.75, 3.5, -9.
    [
        ({"reference": "pair"}, {0: 0, 1: 2, 2: 2, 3: 0}),
        ({"reference": "max"}, {0: 0, 1: 0, 2: 0, 3: 0}),
        ({"reference": "min"}, {0: 2, 1: 2, 2: 2, 3: 2}),
        ({"reference": "mean"}, {0: 0, 1: 0, 2: 0, 3: 0}),
        ({"reference": "mean", "absolute_margin": 0.4}, {0: 1, 1: 1, 2: 1, 3: 1}),
        ({"reference": "mean", "absolute_margin": 0.25}, {0: 0, 1: 0, 2: 0, 3: 0}),
    ],
)
def test_reference_policies(options: dict[str, Any], dropped: dict[int, int]) -> None:
    mined = similar([8.0, 4.0, 4.0, 6.0], [5.25, 5.0, 3.75, 3.5, -9.0], **{"absolute_margin": 0.0, **options})
    for positive, count in dropped.items():
        assert negatives_of(mined, positive) == [4, 5, 6, 7, 8][count:]


def test_references_are_over_all_positives_chosen_or_not() -> None:
    settings: dict[str, Any] = {"positives": "easiest", "absolute_margin": 0.0}
    # A duplicate of the query, at 1, is passed over by easiest, and counts.
    values, negatives = [1.0, 3.0, -2.0], [0.5, -1.0, 0.7, 2.0]
    settings["drop_duplicates_within"] = 0.0
    for reference, kept in {"min": [], "mean": [3, 4], "max": [6, 5, 3, 4], "pair": [6, 5, 3, 4]}.items():
        mined = similar(values, negatives, reference=reference, **settings)
        assert queries_of(mined) == [(0, 1, row) for row in kept]
    # Excluded it is no positive anywhere: the mean of 3 and 1 is 2. A group takes no listed positive away.
    excluded = similar(values, negatives, reference="mean", excluded=[(0, 2)], **settings)
    assert negatives_of(excluded, 1) == [6, 5, 3, 4]
    barred = {"groups": ["g"], "corpus_groups": [None, None, "g", None, None, None, None], "group_rule": "both"}
    assert negatives_of(similar(values, negatives, reference="mean", **barred, **settings), 1) == [3, 4]
    gone = similar(values, negatives, reference="min", corpus_takes_part=[True] * 2 + [False] + [True] * 4, **settings)
    assert negatives_of(gone, 1) == [5, 3, 4]


def test_the_mean_is_an_exact_sum() -> None:
    # Summed in any order by pairs the 1 is lost or not; exactly the sum is 1.
    mined = similar([1e16, 1.0, -1e16], [0.3, 0.5], reference="mean", absolute_margin=0.0)
    assert negatives_of(mined) == [3]


def test_relative_margins_of_negative_references() -> None:
    mined = similar([-4.0], [-4.0, -5.9, -6.0, -7.0], relative_margin=0.5)
    assert negatives_of(mined) == [3, 4]


def test_relative_margins_are_in_the_written_order_of_operations() -> None:
    found = 0
    for step in range(1, 200):
        reference, share = 0.37 + step / 128, 0.05
        bound = reference - abs(reference) * share
        if bound == reference * (1 - share):
            continue
        above = math.nextafter(bound, math.inf)
        assert negatives_of(similar([reference], [above, bound], relative_margin=share)) == [2]
        found += 1
        if found == 5:
            break
    assert found == 5


def test_filters_apply_with_the_band() -> None:
    mined = similar([4.0], [6.0, 5.0, 4.5, 4.0, 3.0], band="hard", max_similarity=5.0)
    assert negatives_of(mined) == [2, 3, 4]


# Guide


def test_the_guide_vetoes_with_its_own_similarities_and_references() -> None:
    # Own similarities: positive 5, negatives 4, 3, 2, 6. By the guide: positive 2, negatives 3, 1, 2, 0.
    settings: dict[str, Any] = {
        "guide": np.array([[1.0, 0.0]]),
        "corpus_guide": np.array([[2.0, 9.0], [3.0, 0.0], [1.0, 7.0], [2.0, 0.0], [0.0, 0.0]]),
    }
    values = [4.0, 3.0, 2.0, 6.0]
    assert negatives_of(similar([5.0], values, absolute_margin=0.0, **settings)) == [2, 3]
    assert negatives_of(similar([5.0], values, absolute_margin=0.0)) == [1, 2, 3]
    assert negatives_of(similar([5.0], values, relative_margin=0.5)) == [3]
    assert negatives_of(similar([5.0], values, relative_margin=0.5, **settings)) == []
    assert negatives_of(similar([5.0], values, absolute_margin=1.0, **settings)) == [2]
    assert negatives_of(similar([5.0], values, min_similarity=2.0, **settings)) == [1, 3]
    alone = similar([5.0], values, **settings)
    assert negatives_of(alone) == [4, 1, 2, 3]
    assert alone.columns["harder"] == [None] * 4


def test_guide_references_are_over_all_positives() -> None:
    settings: dict[str, Any] = {
        "guide": column([1.0]),
        "corpus_guide": column([2.0, 8.0, 6.0, 4.0]),
        "absolute_margin": 0.0,
        "positives": "easiest",
    }
    for reference, kept in {"pair": [], "min": [], "max": [2, 3], "mean": [3]}.items():
        mined = similar([9.0, 7.0], [1.0, 0.0], reference=reference, **settings)
        assert negatives_of(mined) == kept, reference


def test_the_guide_of_one_table_stays_with_its_rows() -> None:
    # The negatives come by distance in another order than their rows.
    settings: dict[str, Any] = {"metric": "dot", "band": "any", "negatives": 9, "max_similarity": 5.0}
    guide = column([1.0, 0.0, 9.0, 1.0, 2.0])
    mined = on_line([1.0, 4.0, 1.0, 3.0, 2.0], ["a", "a", "b", "b", "b"], guide=guide, **settings)
    assert rows_of(mined) == [(0, 1, 3), (0, 1, 4)]


def test_the_guide_is_normalised_like_the_rows() -> None:
    settings: dict[str, Any] = {"metric": "dot", "normalize": True, "max_similarity": 0.9, "negatives": 9}
    rows = np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0], [0.0, 4.0]])
    guide = np.array([[5.0, 0.0], [1.0, 0.0], [0.0, 8.0], [7.0, 0.0]])
    mined = mine(
        rows, labels=[1, 1, 2, 2], guide=guide, band="any", only_anchors=[0], drop_duplicates_within=None, **settings
    )
    assert rows_of(mined) == [(0, 1, 2)]


# Skip, cap, pick


def test_skip_comes_after_filters_and_before_the_cap() -> None:
    labels: dict[str, Any] = {"labels": [None], "corpus_labels": ["p", "x", "x", "x", "y", "y"]}
    values = [9.0, 8.0, 7.0, 6.0, 5.0]
    settings: dict[str, Any] = {"max_similarity": 8.0, "skip": 1, "max_per_negative_label": 1, **labels}
    # 9 is filtered and 8 skipped: 7 is the first of x. The cap before the skip would have left 6 alone.
    assert negatives_of(similar([4.0], values, **settings)) == [3, 4]


def test_ranks_are_counted_of_what_passes_and_the_cap_works_within() -> None:
    labels: dict[str, Any] = {"labels": [None], "corpus_labels": ["p", "x", "x", "x", "y", "y", "z"]}
    values = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
    settings: dict[str, Any] = {"max_similarity": 8.0, "skip": 1, "within_top": 4, "negatives": 3, **labels}
    # 9 is filtered and 8 skipped: 7, 6 and 5 are the ranks 2 to 4.
    assert negatives_of(similar([4.5], values, **settings)) == [3, 4, 5]
    assert negatives_of(similar([4.5], values, **settings, max_per_negative_label=1)) == [3, 4]
    for seed in range(5):
        mined = similar([4.5], values, **settings, pick="random", seed=seed)
        assert negatives_of(mined) == sorted([3, 4, 5], key=lambda row: python_draw(seed, 2, 0, 0, row))


def test_simans_draws_by_the_similarity_of_the_positive() -> None:
    labels: dict[str, Any] = {"labels": [None], "corpus_labels": ["p", *["x"] * 4]}
    settings: dict[str, Any] = {"pick": "simans", "within_top": 3, "simans_a": 0.5, "simans_b": 1.0, **labels}
    weights = {1: -2.0, 2: -0.5, 3: 0.0}  # -0.5 (s - 4 - 1)^2 of 7, 6 and 5; 4 has rank 4
    for seed in range(5):
        found = similar([4.0], [7.0, 6.0, 5.0, 4.0], seed=seed, draw_weights=True, negatives=3, **settings)
        keys = {row: math.log(-math.log(uniform(python_draw(seed, 2, 0, 0, row)))) - weights[row] for row in weights}
        assert negatives_of(found) == sorted(weights, key=keys.__getitem__)
        own = [float(np.float32(math.exp(weights[row]))) for row in negatives_of(found)]
        assert found.columns["draw_weight"] == own
    listed = similar([4.0], [7.0, 6.0, 5.0, 4.0], draw_weights=True, negatives=3, emit="tuples", **settings)
    assert [float(np.float32(math.exp(weights[row]))) for row in listed.columns["negative_rows"][0]] == listed.columns[
        "draw_weights"
    ][0]


def test_positives_that_do_not_deserve_it_are_none() -> None:
    # Positives 8, 5 and 2 among negatives 7, 6, 5 and 1: of ranks 1, 3 and 4, for an equal one is not nearer.
    positives, negatives = [8.0, 5.0, 2.0], [7.0, 6.0, 5.0, 1.0]
    settings: dict[str, Any] = {"positives": "all"}

    def ranks(**options: Any) -> dict[int, int]:
        found = similar(positives, negatives, rank_positives=3, **settings, **options).columns
        return dict(zip(found["positive_row"], found["positive_rank"], strict=True))

    assert ranks() == {0: 1, 1: 3, 2: 4}
    assert similar(positives, negatives, rank_positives=2, **settings).columns["positive_rank"][-1] == 3
    assert ranks(max_positive_rank=3) == {0: 1, 1: 3}
    assert ranks(max_positive_rank=2) == {0: 1}
    assert ranks(min_positive_similarity=5.0) == {0: 1, 1: 3}
    assert ranks(max_positive_similarity=5.0) == {1: 3, 2: 4}
    assert ranks(min_positive_similarity=8.5) == {}
    hardest = similar(positives, negatives, positives="hardest", positives_per_anchor=1, max_positive_rank=3)
    assert set(hardest.columns["positive_row"]) == {1}
    # The reference of margins is that of the positives that are left: at most 5 - 0, not 2 - 0.
    margins: dict[str, Any] = {"absolute_margin": 0.0, "reference": "min", **settings}
    assert negatives_of(similar(positives, negatives, max_positive_rank=3, **margins)) == [5, 6]
    assert negatives_of(similar(positives, negatives, **margins)) == [6]


def uniform(word: int) -> float:
    return ((word >> 11) + 0.5) / 2**53


def test_the_cap_counts_every_label_of_those_kept() -> None:
    corpus_labels = ["p", ["x", "y"], ["x"], ["y", "z"], ["z"], None, ["w", "z"], [], ["z"]]
    settings: dict[str, Any] = {"labels": [None], "corpus_labels": corpus_labels, "unlabeled": "negative"}
    values = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]
    # 1 takes x and y; 2 (x) and 3 (y) are full, so z is still free: 4; 6 shares z; unlabelled 5 and 7 are free.
    assert negatives_of(similar([1.0], values, max_per_negative_label=1, **settings)) == [1, 4, 5, 7]
    assert negatives_of(similar([1.0], values, max_per_negative_label=2, **settings)) == [1, 2, 3, 4, 5, 7]
    capped = similar([1.0], values, max_per_negative_label=9, **settings)
    assert capped.columns["harder"] == [None] * 8


def test_the_cap_starts_anew_with_every_pair_and_comes_before_k() -> None:
    settings: dict[str, Any] = {"labels": [None], "corpus_labels": [None, None, "x", "x", "y"]}
    mined = similar([1.0, 2.0], [9.0, 8.0, 7.0], max_per_negative_label=1, negatives=2, **settings)
    assert queries_of(mined) == [(0, 0, 2), (0, 0, 4), (0, 1, 2), (0, 1, 4)]
    assert mined.counts["full"] == 2


def test_the_cap_keeps_the_nearest_whatever_the_pick() -> None:
    settings: dict[str, Any] = {"labels": [None], "corpus_labels": [None, *["x"] * 6, *["y"] * 6]}
    values = [float(row) for row in range(20, 8, -1)]
    for seed in range(5):
        mined = similar([1.0], values, max_per_negative_label=2, pick="random", seed=seed, **settings)
        assert negatives_of(mined) == sorted([1, 2, 7, 8], key=lambda row: python_draw(seed, 2, 0, 0, row))


# Fallback


def test_pairs_without_a_negative_take_the_farthest() -> None:
    # Positives at 1 and 5, negatives at 2, -4, 4, 3: beyond 5 there is none.
    settings: dict[str, Any] = {"band": "beyond", "positives": "all", "negatives": 3, "fallback": "farthest"}
    points, labels = [0.0, 1.0, 5.0, 2.0, -4.0, 4.0, 3.0], ["a"] * 3 + ["b"] * 4
    mined = on_line(points, labels, **settings)
    assert rows_of(mined) == [(0, 1, 3), (0, 1, 6), (0, 1, 4), (0, 2, 4), (0, 2, 5), (0, 2, 6)]
    assert mined.counts == {"anchors": 1, "pairs": 2, "rows": 6, "full": 2, "short": 0, "empty": 0}
    assert mined.columns["harder"] == [None] * 6
    few = on_line(points[:5], labels[:5], **settings)
    assert [row for row in rows_of(few) if row[1] == 2] == [(0, 2, 4), (0, 2, 3)]
    assert few.counts["short"] == 2
    none = on_line(points, labels, **{**settings, "fallback": "none"})
    assert {row[1] for row in rows_of(none)} == {1}
    hard = on_line(points, labels, **{**settings, "band": "hard", "negatives": 9})
    assert [row[2] for row in rows_of(hard) if row[1] == 1] == [4, 5, 6, 3]
    assert hard.columns["harder"] == [None] * len(rows_of(hard))


def test_the_fallback_minds_duplicates_filters_and_keys() -> None:
    # Nothing lies beyond the positive at 1; the farthest is at -9, its filter bars it.
    values = [2.0, 3.0, -9.0, -1.0, -1.0]
    settings: dict[str, Any] = {
        "band": "hard",
        "fallback": "farthest",
        "negatives": 2,
        "corpus_ids": [6, 5, 4, 3, 2, 1],
    }
    assert negatives_of(similar([9.0], values, min_similarity=-5.0, **settings)) == [5, 4]
    assert negatives_of(similar([9.0], values, **settings)) == [3, 5]
    # Equal to the positive, 9, is no negative at all, though the band holds it.
    values[3] = 9.0
    dropped = similar([9.0], values, drop_duplicates_within=0.0, **settings)
    assert negatives_of(dropped) == [3, 5]
    assert negatives_of(similar([9.0], values, **settings)) == [4]


# Uses


def dealt_by_hand(
    reserves: dict[tuple[int, int], list[int]], k: int, most: int, luck: dict[tuple[int, int], Any]
) -> dict[tuple[int, int], list[int]]:
    """Reserves by (query, positive) in output order, and what is left of them."""
    used: Counter[int] = Counter()
    dealt = {}
    for pair in sorted(reserves, key=luck.__getitem__):
        dealt[pair] = [row for row in reserves[pair] if used[row] < most][:k]
        used.update(dealt[pair])
    return {pair: dealt[pair] for pair in reserves}


def as_triplets(dealt: dict[tuple[int, int], list[int]]) -> list[tuple[int, int, int]]:
    return [(*pair, row) for pair, rows in dealt.items() for row in rows]


KNOWN = [(0, 1), (0, 0), (1, 2), (2, 3), (3, 9)]  # in output order: corpus ids run against the rows
HUB: dict[str, Any] = {"known_positives": KNOWN, "ids": [11, 5, 8, 2], "corpus_ids": [40 - row for row in range(10)]}


def hub(**options: Any) -> Mined:
    """Three queries at one end of the corpus that want the same negatives, and one at the other."""
    return retrieve([0.0, 0.5, 1.0, 20.0], [float(row) for row in range(10)], **HUB, **options)


def hub_by_hand(k: int, most: int, seed: int) -> dict[tuple[int, int], list[int]]:
    reserves: dict[tuple[int, int], list[int]] = {pair: [] for pair in KNOWN}
    for q, p, n in queries_of(hub(seed=seed)):
        reserves[q, p].append(n)
    luck = {(q, p): python_draw(seed, 5, HUB["ids"][q], HUB["corpus_ids"][p], 0) for q, p in KNOWN}
    return dealt_by_hand(reserves, k, most, luck)


@pytest.mark.parametrize("most", [1, 2])
def test_uses_are_dealt_in_order_of_draw_five(most: int) -> None:
    outcomes = set()
    for seed in range(5):
        mined = hub(seed=seed, max_uses=most, negatives=3)
        dealt = hub_by_hand(3, most, seed)
        assert queries_of(mined) == as_triplets(dealt)
        assert max(Counter(mined.columns["negative_row"]).values()) == most
        assert mined.columns["harder"] == [None] * len(queries_of(mined))
        sizes = [len(rows) for rows in dealt.values()]
        full, empty = sizes.count(3), sizes.count(0)
        counts = {"full": full, "short": len(sizes) - full - empty, "empty": empty}
        assert mined.counts == {"anchors": 4, "pairs": 5, "rows": sum(sizes), **counts}
        outcomes.add(tuple(queries_of(mined)))
    assert len(outcomes) > 1


def test_uses_are_dealt_over_the_whole_run_whatever_is_derived() -> None:
    for seed in range(3):
        whole = queries_of(hub(seed=seed, max_uses=1, negatives=3))
        for only in ([0], [1, 3], [2]):
            some = hub(seed=seed, max_uses=1, negatives=3, only_anchors=only)
            assert queries_of(some) == [row for row in whole if row[0] in only]
            assert some.counts["anchors"] == len(only)
            assert some.counts["pairs"] == sum(q in only for q, _ in KNOWN)


def test_short_rows_and_rounds_come_after_the_uses() -> None:
    dropped = set()
    for seed in range(5):
        dealt = hub_by_hand(3, 1, seed)
        kept = {pair: rows for pair, rows in dealt.items() if len(rows) == 3}
        assert queries_of(hub(seed=seed, max_uses=1, negatives=3, short_rows="drop")) == as_triplets(kept)
        dropped |= set(dealt) - set(kept)
        # Four an anchor over its positives: of query 0 two of each where there are.
        rounds = sorted((place, i, row) for i in (0, 1) for place, row in enumerate(dealt[KNOWN[i]]))[:4]
        mined = hub(seed=seed, max_uses=1, negatives=3, negatives_per_anchor=4)
        assert [(i, row) for _, i, row in sorted(rounds, key=lambda taken: (taken[1], taken[0]))] == [
            (KNOWN.index((q, p)), row) for q, p, row in queries_of(mined) if q == 0
        ]
    assert dropped


@pytest.mark.parametrize("k", [1, 2])
def test_a_pair_is_dealt_from_its_first_4k_and_32(k: int) -> None:
    reserve = 4 * k + 32
    queries, corpus = [0.0] * (reserve // k + 1), [1.0, *(float(row) for row in range(2, 60))]
    mined = retrieve(queries, corpus, known_positives=[(q, 0) for q in range(len(queries))], max_uses=1, negatives=k)
    assert sorted(mined.columns["negative_row"]) == list(range(1, reserve + 1))
    assert (mined.counts["full"], mined.counts["short"], mined.counts["empty"]) == (reserve // k, 0, 1)


def test_equal_draws_of_uses_go_by_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minestream.reference.draw", lambda seed, tag, a, p, c: np.zeros(len(a), dtype=np.uint64))
    mined = hub(max_uses=1, negatives=3)
    # The ids of queries 3, 1, 2, 0 ascend, and so do those of corpus rows 1, 0: one negative is left for query 0.
    dealt = {(0, 1): [9], (0, 0): [], (1, 2): [1, 0, 3], (2, 3): [2, 4, 5], (3, 9): [8, 7, 6]}
    assert queries_of(mined) == as_triplets(dealt)


# Pairs by multi-similarity and by distance


def on_circle(cosines: list[float]) -> np.ndarray[Any, Any]:
    """Unit rows, the first at angle 0, by their cosines to it."""
    return np.array([[1.0, 0.0], *([s, math.sqrt(1.0 - s * s)] for s in cosines)])


MULTI: dict[str, Any] = {"emit": "pairs", "band": "any", "positives": "all", "negatives": 0, "only_anchors": [0]}


def similarities(rows: np.ndarray[Any, Any]) -> list[float]:
    plain = rows.tolist()
    return [1.0 - python_distance(plain[0], row, "cosine") for row in plain]


@pytest.mark.parametrize(
    ("epsilon", "positives", "negatives"),
    # Positives .9, .5, .3; negatives .6, .25, -.5.
    [(0.1, [2, 3], [4, 5]), (0.01, [2, 3], [4]), (0.5, [1, 2, 3], [4, 5]), (0.85, [1, 2, 3], [4, 5, 6])],
)
def test_multi_similarity(epsilon: float, positives: list[int], negatives: list[int]) -> None:
    rows = on_circle([0.9, 0.5, 0.3, 0.6, 0.25, -0.5])
    mined = mine(rows, labels=["a"] * 4 + ["b"] * 3, epsilon=epsilon, **MULTI)
    assert rows_of(mined, "left_row", "right_row", "label") == sorted(
        [(0, row, 1) for row in positives] + [(0, row, 0) for row in negatives]
    )


def test_multi_similarity_is_strict() -> None:
    rows = np.array([[1.0, 0.0], [3.0, 4.0], [4.0, 3.0]])
    _, s_p, s_n = similarities(rows)
    epsilon = s_n - s_p
    assert (s_n - epsilon, s_p + epsilon) == (s_p, s_n)  # so the edge is met exactly, from either side
    for labels, edge in ((["a", "a", "b"], -epsilon), (["a", "b", "a"], epsilon)):
        for step, kept in ((edge, []), (edge + 1e-15, [1, 2])):
            mined = mine(rows, labels=labels, epsilon=step, **MULTI)
            assert mined.columns["right_row"] == kept


def test_multi_similarity_needs_both_kinds() -> None:
    rows = on_circle([0.9, 0.5])
    for labels in (["a", "a", "a"], ["a", "b", "c"]):
        mined = mine(rows, labels=labels, epsilon=5.0, **{**MULTI, "only_anchors": None})
        assert mined.columns["left_row"] == []
    assert mine(rows, labels=["a", "a", "b"], epsilon=5.0, **MULTI).columns["right_row"] == [1, 2]


def test_multi_similarity_drops_duplicates_of_the_anchor_first() -> None:
    # The duplicate under another label would be the nearest negative, and let the positive at .9 in.
    rows = on_circle([0.9, 0.3, 0.35, 1.0])
    settings: dict[str, Any] = {"labels": ["a", "a", "a", "b", "b"], "epsilon": 0.1, **MULTI}
    assert rows_of(mine(rows, **settings), "right_row", "label") == [(2, 1), (3, 0)]
    kept = mine(rows, drop_duplicates_within=None, **settings)
    assert rows_of(kept, "right_row", "label") == [(1, 1), (2, 1), (3, 0), (4, 0)]


def test_multi_similarity_unites_over_both_ends() -> None:
    rows = on_circle([0.8, 0.9, 0.1])
    settings: dict[str, Any] = {"labels": ["a", "a", "b", "b"], "epsilon": 0.01, **MULTI}
    by_anchor = [
        rows_of(mine(rows, **{**settings, "only_anchors": [row]}), "left_row", "right_row", "label") for row in range(4)
    ]
    union = sorted({row for found in by_anchor for row in found})
    assert rows_of(mine(rows, **{**settings, "only_anchors": None}), "left_row", "right_row", "label") == union
    assert len(union) > max(map(len, by_anchor))


def test_similar_pairs_beyond_a_distance() -> None:
    settings: dict[str, Any] = {"emit": "pairs", "band": "violating", "margin": 2.5, "positives": "all", "negatives": 0}
    mined = on_line(
        [0.0, 1.0, 2.0, 2.5, 3.0], ["a", "a", "a", "b", "b"], positive_margin=1.0, only_anchors=[0], **settings
    )
    assert rows_of(mined, "left_row", "right_row", "label") == [(0, 2, 1)]
    inside = on_line([0.0, 1.0, 2.0], ["a", "a", "b"], positive_margin=math.nextafter(1.0, 0.0), **settings)
    assert rows_of(inside, "left_row", "right_row", "label") == [(0, 1, 1), (0, 2, 0)]


def test_the_distance_of_similar_pairs_does_not_move_multi_similarity() -> None:
    # Without the positive at .3 the negative at .25 would not be kept: it counts, though it is not written.
    rows = on_circle([0.9, 0.3, 0.25])
    settings: dict[str, Any] = {"labels": ["a", "a", "a", "b"], "epsilon": 0.7, **MULTI}
    assert rows_of(mine(rows, positive_margin=0.5, **settings), "right_row", "label") == [(2, 1), (3, 0)]
    assert rows_of(mine(rows, positive_margin=0.8, **settings), "right_row", "label") == [(3, 0)]


# Refusals


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("reference=", {"reference": "median"}),
        ("fallback=", {"fallback": "nearest"}),
        ("labels or known positives", {"labels": None}),
        ("corpus", {"corpus_ids": [1, 2]}),
        ("corpus", {"corpus_guide": column([1.0])}),
        ("labels: of both", {"corpus": column([1.0])}),
        ("labels: of both", {"labels": None, "corpus": column([1.0]), "corpus_labels": ["a"], "known_positives": []}),
        ("guide", {"corpus": column([1.0]), "corpus_labels": ["a"], "guide": column([1.0] * 6)}),
        ("guide", {"corpus": column([1.0]), "corpus_labels": ["a"], "corpus_guide": column([1.0])}),
        ("shared_ids", {"corpus": column([1.0]), "corpus_labels": ["a"], "shared_ids": True, "corpus_ids": [1]}),
        ("one table", {"corpus": column([1.0]), "corpus_labels": ["a"], "emit": "pairs"}),
        ("filters", {"max_similarity": 0.5}),
        ("filters", {"min_similarity": 0.5, "metric": "sqeuclidean"}),
        ("no filters", {"relative_margin": 0.5, "metric": "cosine", "emit": "pairs"}),
        ("guide", {"guide": column([1.0] * 6), "emit": "pairs"}),
        ("caps", {"max_uses": 1, "emit": "pairs"}),
        ("caps", {"max_per_negative_label": 1, "emit": "pairs"}),
        ("fallback", {"fallback": "farthest", "emit": "pairs"}),
        ("caps: at least 1", {"max_uses": 0}),
        ("caps: at least 1", {"max_per_negative_label": 0}),
        ("fallback", {"fallback": "farthest", "pick": "random"}),
        ("fallback", {"fallback": "farthest", "skip": 1}),
        ("fallback", {"fallback": "farthest", "guide": column([1.0] * 6)}),
        ("fallback", {"fallback": "farthest", "max_uses": 3}),
        ("fallback", {"fallback": "farthest", "max_per_negative_label": 3}),
        ("fallback", {"fallback": "farthest", "within_top": 3}),
        ("within_top", {"within_top": 4, "skip": 3, "negatives": 2}),
        ("within_top", {"within_top": 4, "emit": "pairs", "metric": "euclidean"}),
        ("similarities of positives", {"min_positive_similarity": 0.5}),
        ("ranks of positives", {"rank_positives": 5, "emit": "pairs", "metric": "euclidean"}),
        ("simans", {"pick": "simans", "metric": "dot"}),
        ("simans", {"pick": "simans", "within_top": 9}),
        ("draw_weights", {"pick": "random", "draw_weights": True}),
        ("epsilon", {"epsilon": 0.1}),
        ("epsilon", {"epsilon": 0.1, **MULTI}),
        ("epsilon", {"epsilon": 0.1, **MULTI, "metric": "cosine", "negatives": 1}),
        ("epsilon", {"epsilon": 0.1, **MULTI, "metric": "cosine", "positives": "easiest"}),
        ("epsilon", {"epsilon": 0.1, **MULTI, "metric": "cosine", "band": "violating", "margin": 0.5}),
        ("positive_margin", {"positive_margin": 0.1}),
    ],
)
def test_refusals(reason: str, options: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"band": "any", **options}
    with pytest.raises(ValueError, match=reason):
        on_line([0.0, 1.0, 1.0, 2.0, 3.0, 4.0], settings.pop("labels", ["a", "a", "b", "b", "b", "b"]), **settings)


# Small worlds against loops over Python floats


@pytest.mark.parametrize("two_tables", [True, False])
@pytest.mark.parametrize("reference", ["pair", "min", "max", "mean"])
def test_filters_against_loops(two_tables: bool, reference: str) -> None:
    """Ties, multi-labels, listed pairs, exclusions, groups, duplicates, a guide, skip and cap at once."""
    rng = np.random.default_rng(len(reference) + 10 * two_tables)
    n, m = (9, 40) if two_tables else (40, 40)
    rows = {"own": rng.integers(1, 4, size=(m, 3)).astype(np.float32), "guide": rng.integers(1, 4, size=(m, 2)) * 1.0}
    asking = {name: found[rng.permutation(m)[:n]] * 2.0 if two_tables else found for name, found in rows.items()}
    labels = [rng.choice(8, size=rng.integers(0, 3), replace=False).tolist() for _ in range(m)]
    groups = [None if g == 0 else g for g in rng.integers(0, 9, size=m).tolist()]
    ids = (1000 - rng.permutation(m)).tolist()
    labels_a, groups_a, ids_a = (labels[:n][::-1], groups[:n], ids[5 : n + 5]) if two_tables else (labels, groups, ids)

    def direction(row: list[float]) -> list[float]:
        return [value / max(row) for value in row]  # all are above 0

    def drawn(count: int) -> list[tuple[int, int]]:
        return [(int(a), int(c)) for a, c in zip(rng.integers(0, n, count), rng.integers(0, m, count), strict=True)]

    known, excluded = drawn(12), drawn(n)
    unordered = (
        set() if two_tables else {(c, a) for a, c in known},
        set() if two_tables else {(c, a) for a, c in excluded},
    )
    known_set, excluded_set = set(known) | unordered[0], set(excluded) | unordered[1]
    plain = {name: found.astype(np.float64).tolist() for name, found in rows.items()}
    plain_a = {name: found.astype(np.float64).tolist() for name, found in asking.items()}
    g, r, skip, cap, k = 0.001, 0.01, 1, 2, 5
    expected = []
    for a in range(n):
        others = [c for c in range(m) if (a, c) not in excluded_set and (two_tables or c != a)]
        x = {name: [python_distance(plain_a[name][a], row, "cosine") for row in plain[name]] for name in rows}
        s = {name: [1.0 - value for value in values] for name, values in x.items()}
        positives = [c for c in others if (a, c) in known_set or set(labels_a[a]) & set(labels[c])]
        for p in sorted(positives, key=ids.__getitem__):
            eligible = []
            for n_row in sorted(set(others) - set(positives), key=lambda c: (x["own"][c], ids[c])):
                together = groups_a[a] is not None and groups_a[a] == groups[n_row]
                if together or direction(plain["own"][n_row]) == direction(plain["own"][p]):
                    continue
                kept = True
                for name in rows:
                    every = [s[name][c] for c in positives]
                    policies = {"pair": s[name][p], "min": min(every), "max": max(every)}
                    policies["mean"] = math.fsum(every) / len(every)
                    s_ref, s_n = policies[reference], s[name][n_row]
                    kept &= s_n <= s_ref - g and s_n <= s_ref - abs(s_ref) * r and 0.5 <= s_n <= 0.999
                if kept:
                    eligible.append(n_row)
            counts: Counter[Any] = Counter()
            taken = []
            for n_row in eligible[skip:]:
                if all(counts[value] < cap for value in labels[n_row]):
                    taken.append(n_row)
                    counts.update(labels[n_row])
            expected += [(a, p, n_row) for n_row in taken[:k]]
    tables: dict[str, Any] = {"ids": ids_a, "labels": labels_a, "groups": groups_a, "guide": asking["guide"]}
    if two_tables:
        tables |= {"corpus": rows["own"], "corpus_ids": ids, "corpus_labels": labels, "corpus_groups": groups}
        tables["corpus_guide"] = rows["guide"]
    mined = mine(
        asking["own"], known_positives=known, excluded=excluded, absolute_margin=g, relative_margin=r, skip=skip,
        max_per_negative_label=cap, negatives=k, reference=reference, min_similarity=0.5, max_similarity=0.999,
        unlabeled="negative", **tables, **LISTED,
    )  # fmt: skip
    first = "query_row" if two_tables else "anchor_row"
    assert rows_of(mined, first, "positive_row", "negative_row") == expected
    assert len(expected) > 10


def test_a_row_listed_with_itself_is_no_end_of_a_pair() -> None:
    settings: dict[str, Any] = {"emit": "pairs", "negatives": 0, "margin": 1.0, "group_rule": "negatives"}
    mined = on_line([0.0, 1.0, 2.0], ["a", None, "b"], known_positives=[(1, 1)], band="any", **settings)
    assert rows_of(mined, "left_row", "right_row", "label") == [(0, 2, 0)]
