"""The recipe book: its commands run, and write what the papers' formulas give, as loops over similarities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pages import ROOT, SAMPLE, blocks_of, run_block

Rows = np.ndarray[Any, Any]
Found = dict[tuple[int, int], list[int]]
SCATTER = 4.0  # standard errors that a mean of draws may be off


class Book:
    """What the page wrote, and the similarities of its tables in float64."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.items, queries, passages = (self.read(name) for name in ("items", "queries", "passages"))
        self.label, self.ids = self.items["label"].to_numpy(), self.items["id"].to_numpy()
        self.among = cosines(self.items, self.items, "embedding")
        self.mine, self.second = (cosines(queries, passages, name) for name in ("embedding", "second"))
        self.asked, self.held = (table["id"].to_pylist() for table in (queries, passages))
        self._orders: dict[int, list[int]] = {}
        self.known: dict[int, list[int]] = defaultdict(list)
        for row in self.read("qrels").to_pylist():
            self.known[self.asked.index(row["query_id"])].append(self.held.index(row["positive_id"]))

    def read(self, name: str) -> Any:
        """A table in the folder."""
        return pq.read_table(self.folder / f"{name}.parquet")

    def rows(self, name: str, anchor: str = "query") -> Found:
        """The negatives of each pair of mined triplets, in their order."""
        found: Found = defaultdict(list)
        table = self.read(name)
        columns = (table[f"{kind}_row"].to_pylist() for kind in (anchor, "positive", "negative"))
        for left, right, negative in zip(*columns, strict=True):
            found[left, right].append(negative)
        return dict(found)

    def negatives(self, query: int) -> list[int]:
        """All passages that are no positives, the most similar first, equal ones by id."""
        if query in self._orders:
            return self._orders[query]
        usable = [row for row in range(len(self.held)) if row not in self.known[query]]
        self._orders[query] = sorted(usable, key=lambda row: (-self.mine[query, row], self.held[row]))
        return self._orders[query]

    def expected(self, k: int, passes: Callable[[int, int, int], bool], left: Any = None) -> Found:
        """The first k that pass of each pair; `left` says which positives stay, of their similarity and rank."""
        found: Found = {}
        for query in range(len(self.asked)):
            order = self.negatives(query)
            for positive in self.known[query]:
                rank = 1 + sum(self.mine[query, row] > self.mine[query, positive] for row in order)
                if left is None or left(self.mine[query, positive], rank):
                    found[query, positive] = [row for row in order if passes(query, positive, row)][:k]
        return {pair: rows for pair, rows in found.items() if rows}


def cosines(left: Any, right: Any, column: str) -> Rows:
    """Cosine similarities of two tables in float64."""
    both = [np.stack(table[column].to_numpy()).astype(np.float64) for table in (left, right)]
    for rows in both:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return both[0] @ both[1].T


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """Every block of the page has run, in order."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "digits.parquet").write_bytes(SAMPLE.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in blocks_of(ROOT / "minestream" / "guide" / "recipes.md"):
            run_block(block)
    return Book(folder)


def test_the_world_of_the_book_has_no_equal_rows(book: Book) -> None:
    """So that no rule about duplicates, and none about ties, decides a row below."""
    assert len(np.unique(np.stack(book.items["embedding"].to_numpy()), axis=0)) == len(book.items)
    assert len({len(rows) for rows in book.known.values()}) == 1


# ---------------------------------------------------------------- thresholds and masks

FILTERS: dict[str, tuple[int, Callable[[float, float], bool]]] = {
    "nv-perc": (4, lambda s, positive: s <= positive - 0.05 * abs(positive)),
    "nv-margin": (4, lambda s, positive: s <= positive - 0.05),
    "nv-abs": (4, lambda s, positive: s <= 0.7),
    "chosen": (4, lambda s, positive: s <= positive - 0.05 * abs(positive)),
    "both": (4, lambda s, positive: True),
}
POSITIVES: dict[str, tuple[int, Callable[[float, int], bool], float]] = {
    "cornstack": (4, lambda s, rank: s >= 0.7 and rank <= 2, 1.0),
    "consistent": (1, lambda s, rank: rank <= 2, 1.0),
    "least": (4, lambda s, rank: s >= 0.4, 1.0),
    "bounded": (4, lambda s, rank: s >= 0.4, 0.75),
}


@pytest.mark.parametrize("name", FILTERS)
def test_negatives_are_those_that_the_formula_lets_through(book: Book, name: str) -> None:
    k, passes = FILTERS[name]
    expected = book.expected(k, lambda q, p, row: passes(book.mine[q, row], book.mine[q, p]))
    assert book.rows(name) == expected
    assert len(expected) > 150


@pytest.mark.parametrize("name", POSITIVES)
def test_positives_are_those_that_are_consistent(book: Book, name: str) -> None:
    k, left, most = POSITIVES[name]
    expected = book.expected(k, lambda q, p, row: book.mine[q, row] <= most, left)
    assert book.rows(name) == expected
    assert 20 < len(expected) < sum(map(len, book.known.values()))


def test_a_guide_judges_what_is_mined(book: Book) -> None:
    both = (book.mine, book.second)
    expected = book.expected(4, lambda q, p, row: all(s[q, row] <= s[q, p] for s in both))
    assert book.rows("gist") == expected
    assert expected != book.expected(4, lambda q, p, row: bool(book.mine[q, row] <= book.mine[q, p]))


def test_the_mask_of_qwen(book: Book) -> None:
    """What is more than 0.1 more similar than the positive is neither mined nor met in a batch."""
    expected = book.expected(4, lambda q, p, row: book.mine[q, row] <= book.mine[q, p] + 0.1)
    mined = book.read("qwen").to_pylist()
    assert {(row["query_row"], row["positive_row"]): row["negative_rows"] for row in mined} == expected
    assert expected != book.expected(4, lambda q, p, row: True)
    batches: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for row in book.read("qwen-batches").to_pylist():
        batches[row["batch"]].append((row["query_row"], row["positive_row"]))
    assert {len(pairs) for pairs in batches.values()} == {8}
    for pairs in batches.values():
        for q, p in pairs:
            assert all(book.mine[q, other] <= book.mine[q, p] + 0.1 for _, other in pairs if other != p)


def test_what_a_search_engine_lists(book: Book) -> None:
    """The 30 nearest are what it found; the nearest of them that is no positive is taken."""
    listed = {q: set(np.argsort(-book.mine[q])[:30].tolist()) for q in book.known}
    expected = book.expected(1, lambda q, p, row: row in listed[q])
    assert book.rows("dpr") == expected


def test_what_all_teachers_find(book: Book) -> None:
    expected = {}
    for (q, p), rows in book.expected(20, lambda q, p, row: True).items():
        others = sorted(book.negatives(q), key=lambda row: -book.second[q, row])[:20]
        expected[q, p] = [row for row in rows if row in others]
    assert book.rows("teachers") == {pair: rows for pair, rows in expected.items() if rows}


def test_the_other_direction(book: Book) -> None:
    expected = {}
    for passage in range(len(book.held)):
        own = [q for q in range(len(book.asked)) if passage in book.known[q]]
        order = sorted(set(range(len(book.asked))) - set(own), key=lambda q: -book.mine[q, passage])
        expected |= {(passage, q): order[:4] for q in own}
    assert book.rows("both.back") == expected


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize(
    ("name", "k", "first", "last"), [("nv-sampled", 4, 1, 10), ("bge", 15, 11, 210), ("ance", 7, 1, 200)]
)
def test_draws_are_uniform_in_their_window_of_ranks(book: Book, name: str, k: int, first: int, last: int) -> None:
    """Members and counts exactly; the mean rank within its scatter."""
    ratio = 0.05 if name == "nv-sampled" else -1e9
    eligible = book.expected(10_000, lambda q, p, r: book.mine[q, r] <= book.mine[q, p] - ratio * abs(book.mine[q, p]))
    found, ranks = book.rows(name), []
    assert found.keys() == eligible.keys()
    for pair, rows in found.items():
        assert len(set(rows)) == len(rows) == k
        ranks += [1 + eligible[pair].index(row) for row in rows]
    assert (min(ranks), max(ranks)) == (first, last)
    size = last - first + 1
    spread = np.sqrt((size**2 - 1) / 12 * (size - k) / (size - 1) / len(ranks))  # of a mean without replacement
    assert abs(np.mean(ranks) - (first + last) / 2) < SCATTER * spread


def test_simans_draws_around_the_positive(book: Book) -> None:
    """The first of each pair, in proportion to exp(-100 (s_n - s_p)^2) among the nearest 100."""
    eligible, off, variance = book.expected(100, lambda q, p, row: True), 0.0, 0.0
    found = book.rows("simans")
    assert found.keys() == eligible.keys()
    for (q, p), rows in found.items():
        assert len(set(rows)) == len(rows) == 4
        assert set(rows) <= set(eligible[q, p])
        s = book.mine[q, eligible[q, p]] - book.mine[q, p]
        difference, spread = of_a_draw(np.exp(-100 * s**2), s**2, (book.mine[q, rows[0]] - book.mine[q, p]) ** 2)
        off, variance = off + difference, variance + spread
    assert abs(off) < SCATTER * np.sqrt(variance)


def test_distance_weighting_draws_by_the_inverse_density(book: Book) -> None:
    """Wu 2017: log w = (2 - d) log D - (d - 3) / 2 log(1 - D^2 / 4), D at least 0.5 and below 1.4."""
    found, off, variance = book.rows("weighted", "anchor"), 0.0, 0.0
    assert len({anchor for anchor, _ in found}) == 100
    for anchor in {anchor for anchor, _ in found}:
        far = np.sqrt(np.maximum(2 - 2 * book.among[anchor], 0))
        usable = np.flatnonzero((book.label != book.label[anchor]) & (far < 1.4))
        near = np.maximum(far[usable], 0.5)
        log = (2 - 64) * np.log(near) - (64 - 3) / 2 * np.log(1 - near**2 / 4)
        weight = np.exp(log - log.max())
        own = [rows for (of, _), rows in found.items() if of == anchor]
        assert len(own) == (book.label == book.label[anchor]).sum() - 1
        for rows in own:
            assert len(set(rows)) == len(rows) == 2
            assert set(rows) <= set(usable.tolist())
            difference, spread = of_a_draw(weight, far[usable], far[rows[0]])
            off, variance = off + difference, variance + spread
    assert abs(off) < SCATTER * np.sqrt(variance)


def of_a_draw(weight: Rows, values: Rows, drawn: float) -> tuple[float, float]:
    """By how much a drawn value differs from what is expected, and the variance of that."""
    chance = weight / weight.sum()
    mean = float(chance @ values)
    return drawn - mean, float(chance @ (values - mean) ** 2)


# ---------------------------------------------------------------- choosing again


def test_lists_hold_every_candidate_in_order(book: Book) -> None:
    for row in pq.read_table(book.folder / "lists").to_pylist():
        assert row["candidate_rows"] == book.negatives(row["query_row"])
        assert sorted(row["positive_rows"]) == sorted(book.known[row["query_row"]])


def test_verdicts_relabel(book: Book) -> None:
    """The judge says positive of the same digit among the 30 nearest of each query."""
    expected: Found = {}
    relabelled = set()
    for query in range(len(book.asked)):
        near = np.argsort(-book.mine[query])[:30]
        same = [int(row) for row in near if book.label[60 + row] == book.label[query]]
        positives = {*book.known[query], *same}
        order = [row for row in book.negatives(query) if row not in positives]
        expected |= {(query, positive): order[:4] for positive in positives}
        relabelled |= {(book.asked[query], book.held[positive]) for positive in positives}
    assert book.rows("rlhn") == expected
    told = book.read("relabelled").to_pylist()
    assert {(row["query_id"], row["positive_id"]) for row in told} == relabelled
    assert len(told) == len(relabelled) > 1_000


def test_outgrown_negatives_are_replaced_by_the_next(book: Book) -> None:
    """Conan: 1.15 S < S0 and |S| < 0.8."""
    expected, replaced = {}, 0
    for query in range(len(book.asked)):
        order = book.negatives(query)
        now, then = book.second[query], book.mine[query]
        gone = [row for row in order[:7] if 1.15 * now[row] < then[row] and abs(now[row]) < 0.8]
        kept = [row for row in order if row not in gone][:7]
        expected |= {(query, positive): kept for positive in book.known[query]}
        replaced += len(gone)
    assert book.rows("renewed") == expected
    assert replaced > 20


def test_the_curriculum_goes_from_easy_to_hard(book: Book) -> None:
    """The four quarters of all rows by similarity; epoch e takes pairs whose hardest row is of the first e + 1."""
    table = book.read("curriculum")
    s = book.mine[table["query_row"].to_numpy(), table["negative_row"].to_numpy()]
    bucket = table["bucket"].to_numpy()
    for one in range(3):
        assert s[bucket <= one].max() < s[bucket > one].min()
    assert np.abs(np.bincount(bucket) - len(s) / 4).max() < 8  # rows of one query and negative are equal
    steps, hardest = book.read("curriculum-batches"), np.arange(0, len(s), 4)
    assert all(s[row] == s[row : row + 4].max() for row in hardest)
    for epoch in range(4):
        met = steps["pair_row"].to_numpy()[steps["epoch"].to_numpy() == epoch]
        assert set(bucket[met].tolist()) == set(range(epoch + 1))
        pairs = hardest[bucket[hardest] <= epoch].tolist()
        assert set(met.tolist()) <= set(pairs)
        assert len(set(met.tolist())) == len(met) > len(pairs) / 2  # false negatives do not meet


# ---------------------------------------------------------------- with labels


def by_label(book: Book, x: Rows, choose: Callable[[Rows, Rows, Rows], list[tuple[int, int]]]) -> Callable[..., Any]:
    """The pairs (positive, negative) of an anchor, of its distances x, its positives and its negatives."""

    def of(anchor: int) -> list[tuple[int, int, int]]:
        same = book.label == book.label[anchor]
        positives, negatives = np.flatnonzero(same & (np.arange(len(same)) != anchor)), np.flatnonzero(~same)
        return [(anchor, int(p), int(n)) for p, n in choose(x[anchor], positives, negatives)]

    return of


def nearest_within(x: Rows, rows: Rows, least: float, most: float = np.inf) -> list[int]:
    """The nearest row beyond `least` and below `most`, if there is one."""
    inside = rows[(x[rows] > least) & (x[rows] < most)]
    return [int(inside[x[inside].argmin()])] if inside.size else []


def semi_hard(x: Rows, positives: Rows, negatives: Rows) -> list[tuple[int, int]]:
    return [(p, n) for p in positives for n in nearest_within(x, negatives, x[p], x[p] + 0.2)]


def easy_positive(x: Rows, positives: Rows, negatives: Rows) -> list[tuple[int, int]]:
    nearest = positives[x[positives].argmin()]
    return [(nearest, n) for n in nearest_within(x, negatives, x[nearest])]


def batch_hard(x: Rows, positives: Rows, negatives: Rows) -> list[tuple[int, int]]:
    return [(positives[x[positives].argmax()], negatives[x[negatives].argmin()])]


def tfa(x: Rows, positives: Rows, negatives: Rows) -> list[tuple[int, int]]:
    farthest = int(negatives[x[negatives].argmax()])
    return [(p, n) for p in positives for n in nearest_within(x, negatives, x[p]) or [farthest]]


@pytest.mark.parametrize(
    ("name", "choose", "anchors"),
    [("facenet", semi_hard, 100), ("easy", easy_positive, 1_797), ("hard", batch_hard, 1_797), ("tfa", tfa, 100)],
)
def test_triplets_of_labels(book: Book, name: str, choose: Any, anchors: int) -> None:
    squared = 2 - 2 * book.among
    x = np.sqrt(np.maximum(squared, 0)) if name == "tfa" else squared
    found = {(a, p, n) for (a, p), rows in book.rows(name, "anchor").items() for n in rows}
    mined, of = {anchor for anchor, *_ in found}, by_label(book, x, choose)
    assert len(mined) == anchors
    assert found == {each for anchor in mined for each in of(anchor)}


def test_multi_similarity(book: Book) -> None:
    rows = np.flatnonzero(book.ids < 200)
    similar, dissimilar = set(), set()
    for anchor in rows:
        s, own = book.among[anchor], book.label[rows] == book.label[anchor]
        positives, negatives = rows[own & (rows != anchor)], rows[~own]
        similar |= {(anchor, p) for p in positives if s[p] - 0.1 < s[negatives].max()}
        dissimilar |= {(anchor, n) for n in negatives if s[n] + 0.1 > s[positives].min()}
    table = book.read("multi").to_pylist()
    for kind, expected in ((1, similar), (0, dissimilar)):
        found = [(row["left_row"], row["right_row"]) for row in table if row["label"] == kind]
        assert len(found) == len(set(found))
        assert set(found) == {(min(pair), max(pair)) for pair in expected}


def test_negatives_of_one_half(book: Book) -> None:
    half, expected = book.label // 5, {}
    for anchor in range(len(book.label)):
        s = book.among[anchor].copy()
        s[anchor] = -2
        positive = int(np.where(book.label == book.label[anchor], s, -2).argmax())
        usable = (half == half[anchor]) & (book.label != book.label[anchor])
        expected[anchor, positive] = np.argsort(-np.where(usable, s, -2))[:2].tolist()
    assert book.rows("levels", "anchor") == expected


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("name", ["b3", "tas-b", "arctic"])
def test_batches_meet_no_false_negative(book: Book, name: str) -> None:
    """Ten digits: no two pairs of a batch are of one; each pair is its row's nearest positive, and comes once."""
    batches, source = defaultdict(list), book.items["source"].to_numpy()
    for row in book.read(name).to_pylist():
        batches[row["batch"]].append(row["anchor_row"])
        s = np.where(book.label == book.label[row["anchor_row"]], book.among[row["anchor_row"]], -2)
        s[row["anchor_row"]] = -2
        assert row["positive_row"] == s.argmax()
    met = [anchor for rows in batches.values() for anchor in rows]
    assert len(met) == len(set(met)) > 1_700
    for rows in batches.values():
        assert len(set(book.label[rows])) == len(rows) == 8
        assert name != "arctic" or len(set(source[rows])) == 1
