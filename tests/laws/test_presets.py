"""Presets and plain values give what the miners they are named after give: the peers themselves, or their rule.

A peer that installs is called; of the others the rule is written out, with where it was read. Peers get float64 rows,
so what they and the canonical distances round differently lies within ROUNDING of an edge; only such triplets may
differ. Strictness at an edge itself is tested on points of a line, where every distance is exact.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from worlds import clustered

import minestream
from minestream.config.mine_config import MineConfig
from minestream.config.resolve import split_options
from minestream.config.rules import PRESETS
from minestream.errors import UsageError
from minestream.mining.arrays import mine_arrays
from minestream.mining.pipeline import mine

Rows = np.ndarray[Any, Any]
Triplet = tuple[int, int, int]

ROUNDING = 1e-7
MARGIN = 0.2
ALL = 1000  # more negatives than any world here has
UNIT = {"metric": "euclidean", "normalize": True}  # the default distance of pytorch-metric-learning
EVERY: dict[str, Any] = {"positives": "all", "negatives": ALL, "drop_duplicates_within": None}


def overlapping() -> tuple[Rows, list[int]]:
    """Classes that reach into each other: every band is filled."""
    return clustered(11, [15] * 6, 8, spread=1.2)


def uneven() -> tuple[Rows, list[int]]:
    """A large class, small ones, and rows alone with their label."""
    return clustered(12, [40, 9, 9, 3, 2, 1, 1], 5, spread=0.7)


def some_digits() -> tuple[Rows, list[int]]:
    """Real rows that are not normalised; the first of the sample."""
    sample = pq.read_table(Path(minestream.__file__).parent / "data" / "digits.parquet").slice(0, 130)
    return np.stack(sample["embedding"].to_numpy()), sample["label"].to_pylist()


WORLDS: dict[str, Callable[[], tuple[Rows, list[int]]]] = {
    "overlapping": overlapping,
    "uneven": uneven,
    "digits": some_digits,
}
in_worlds = pytest.mark.parametrize("world", WORLDS)


# ---------------------------------------------------------------- both sides


def distances(rows: Rows, metric: str) -> Rows:
    """All distances in float64; of unit rows unless the metric is cosine, which needs none."""
    unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if metric == "cosine":
        return 1 - unit @ unit.T
    squares: Rows = ((unit[:, None] - unit[None]) ** 2).sum(axis=2)
    return squares if metric == "sqeuclidean" else np.sqrt(squares)


def relation(labels: list[int]) -> tuple[Rows, Rows]:
    """Which rows are positives, and which negatives, of each."""
    alike = np.equal.outer(labels, labels)
    return alike & ~np.eye(len(labels), dtype=bool), ~alike


def all_pairs(positive: Rows) -> list[tuple[int, int]]:
    """Every (anchor, positive)."""
    return [(int(a), int(p)) for a, p in np.argwhere(positive)]


def triplets(found: Any) -> set[Triplet]:
    """Mined triplets as row numbers."""
    return set(zip(found.anchor.tolist(), found.positive.tolist(), found.negative.tolist(), strict=True))


def pairs(found: Any, label: int) -> set[tuple[int, int]]:
    """Mined pairs of one kind, the lower row first."""
    return {
        (left, right)
        for left, right, similar in zip(found.left.tolist(), found.right.tolist(), found.label.tolist(), strict=True)
        if similar == label
    }


def pml(miner: str, rows: Rows, labels: list[int], cosine: bool = False, **options: Any) -> list[list[int]]:
    """What a miner of pytorch-metric-learning returns, all rows as one batch."""
    torch = pytest.importorskip("torch")
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    if cosine:
        options["distance"] = pytest.importorskip("pytorch_metric_learning.distances").CosineSimilarity()
    found = getattr(miners, miner)(**options)(torch.from_numpy(rows.astype(np.float64)), torch.tensor(labels))
    return [each.tolist() for each in found]


def pml_triplets(miner: str, rows: Rows, labels: list[int], **options: Any) -> set[Triplet]:
    """Its triplets; of miners that return two kinds of pairs, those with one anchor."""
    anchors, positives, *_, negatives = pml(miner, rows, labels, **options)
    return set(zip(anchors, positives, negatives, strict=True))


def pml_pairs(miner: str, rows: Rows, labels: list[int]) -> list[set[tuple[int, int]]]:
    """Its similar and its dissimilar pairs, the lower row first."""
    a, p, b, n = pml(miner, rows, labels)
    return [{(min(pair), max(pair)) for pair in zip(*both, strict=True)} for both in ((a, p), (b, n))]


def assert_same_triplets(own: set[Triplet], peer: set[Triplet], gap: Callable[[int, int, int], float]) -> None:
    """Fail unless both are the same and not empty, but for triplets whose gap to an edge rounding can cross."""
    assert own
    assert peer
    assert not {each for each in own ^ peer if abs(gap(*each)) > ROUNDING}


# ---------------------------------------------------------------- pytorch-metric-learning

TYPES = {"all": "violating", "hard": "hard", "semihard": "semi-hard", "easy": "easy"}


@pytest.mark.peers
@in_worlds
@pytest.mark.parametrize("kind", TYPES)
def test_bands_are_the_types_of_triplet_margin_miner(kind: str, world: str) -> None:
    rows, labels = WORLDS[world]()
    own = mine_arrays(rows, labels, **UNIT, **EVERY, band=TYPES[kind], margin=MARGIN)
    x = distances(rows, "euclidean")
    assert_same_triplets(
        triplets(own),
        pml_triplets("TripletMarginMiner", rows, labels, margin=MARGIN, type_of_triplets=kind),
        lambda a, p, n: min(abs(x[a, n] - x[a, p]), abs(x[a, n] - x[a, p] - MARGIN)),
    )


@pytest.mark.peers
@in_worlds
def test_bands_are_those_types_on_cosine_similarity(world: str) -> None:
    rows, labels = WORLDS[world]()
    x = distances(rows, "cosine")
    for kind, band in TYPES.items():
        assert_same_triplets(
            triplets(mine_arrays(rows, labels, **EVERY, band=band)),
            pml_triplets("TripletMarginMiner", rows, labels, cosine=True, margin=MARGIN, type_of_triplets=kind),
            lambda a, p, n: min(abs(x[a, n] - x[a, p]), abs(x[a, n] - x[a, p] - MARGIN)),
        )


LINE = np.array([[0.0], [2.0], [1.0], [-2.0], [2.5], [-3.0]])  # anchor, positive; negatives at 1, 2 = p, 2.5 = p + m, 3
AT_P, AT_MARGIN = 3, 4
LINE_LABELS = [0, 0, 1, 2, 3, 4]
DIFFERENT_AT_EDGES = {"all": {AT_MARGIN}, "hard": set(), "semihard": {AT_MARGIN}, "easy": {AT_MARGIN}}


@pytest.mark.peers
@pytest.mark.parametrize("kind", TYPES)
def test_at_the_margin_itself_triplet_margin_miner_counts_as_within_what_we_count_as_easy(kind: str) -> None:
    lp = pytest.importorskip("pytorch_metric_learning.distances").LpDistance(normalize_embeddings=False)
    peer = pml_triplets("TripletMarginMiner", LINE, LINE_LABELS, distance=lp, margin=0.5, type_of_triplets=kind)
    own = triplets(mine_arrays(LINE, LINE_LABELS, metric="euclidean", **EVERY, band=TYPES[kind], margin=0.5))
    of_first = [{n for a, _, n in each if a == 0} for each in (own, peer)]
    assert of_first[0] ^ of_first[1] == DIFFERENT_AT_EDGES[kind]
    assert (AT_P in of_first[0]) == (AT_P in of_first[1]) == (kind in ("all", "hard"))
    assert (AT_MARGIN in of_first[0]) == (kind == "easy")


@pytest.mark.peers
@in_worlds
def test_preset_batch_hard_is_batch_hard_miner(world: str) -> None:
    rows, labels = WORLDS[world]()
    own = triplets(mine_arrays(rows, labels, preset="batch-hard"))
    assert own == pml_triplets("BatchHardMiner", rows, labels)


EASY_HARD: dict[tuple[str, str], dict[str, Any]] = {
    ("easy", "semihard"): {"positives": "easiest", "band": "beyond"},
    ("hard", "semihard"): {"positives": "hardest", "band": "beyond"},
    ("easy", "hard"): {"positives": "easiest", "band": "any"},
    ("hard", "hard"): {"positives": "hardest", "band": "any"},
}


@pytest.mark.peers
@in_worlds
@pytest.mark.parametrize(("positive", "negative"), EASY_HARD)
def test_plain_values_are_the_strategies_of_batch_easy_hard_miner(positive: str, negative: str, world: str) -> None:
    rows, labels = WORLDS[world]()
    own = mine_arrays(rows, labels, **EASY_HARD[positive, negative], drop_duplicates_within=None)
    peer = pml_triplets("BatchEasyHardMiner", rows, labels, pos_strategy=positive, neg_strategy=negative)
    assert triplets(own) == peer


@pytest.mark.peers
@in_worlds
@pytest.mark.parametrize(("positive", "negative"), [("all", "hard"), ("easy", "all"), ("hard", "all"), ("all", "all")])
def test_strategy_all_of_batch_easy_hard_miner_gives_the_pairs_of_our_triplets(
    positive: str, negative: str, world: str
) -> None:
    rows, labels = WORLDS[world]()
    a, p, b, n = pml("BatchEasyHardMiner", rows, labels, pos_strategy=positive, neg_strategy=negative)
    rule = {"easy": "easiest", "hard": "hardest", "all": "all"}[positive]
    options = {"positives": rule, "negatives": ALL if negative == "all" else 1, "drop_duplicates_within": None}
    own = triplets(mine_arrays(rows, labels, band="any", **options))
    assert {(anchor, positive) for anchor, positive, _ in own} == set(zip(a, p, strict=True))
    paired = {anchor for anchor, _, _ in own}  # the peer lists negatives of rows without a positive, too
    assert {(anchor, negative) for anchor, _, negative in own} == {
        pair for pair in zip(b, n, strict=True) if pair[0] in paired
    }


@pytest.mark.peers
@in_worlds
def test_similarity_bounds_are_the_allowed_range_of_batch_easy_hard_miner(world: str) -> None:
    rows, labels = WORLDS[world]()
    least, most = np.quantile(1 - distances(rows, "cosine"), [0.3, 0.8]).tolist()
    own = mine_arrays(
        rows, labels, band="any", min_similarity=least, max_similarity=most, drop_duplicates_within=None
    )  # fmt: skip
    allowed = {"pos_strategy": "easy", "neg_strategy": "hard", "allowed_neg_range": (least, most)}
    assert triplets(own) == pml_triplets("BatchEasyHardMiner", rows, labels, cosine=True, **allowed)


@pytest.mark.peers
@in_worlds
def test_preset_easy_positive_is_batch_easy_hard_miner_as_it_comes(world: str) -> None:
    rows, labels = WORLDS[world]()
    assert triplets(mine_arrays(rows, labels, preset="easy-positive")) == pml_triplets(
        "BatchEasyHardMiner", rows, labels
    )


@pytest.mark.peers
def test_batch_easy_hard_miner_takes_an_equal_vector_for_the_easiest_positive_where_we_must_be_told_to() -> None:
    rows, labels = overlapping()
    first = [row for row, label in enumerate(labels) if label == 0]
    rows, labels = np.concatenate([rows, rows[first]]), labels + [0] * len(first)

    def of_doubled(found: set[Triplet]) -> set[Triplet]:  # which of two equal negatives others get is left open
        return {each for each in found if labels[each[0]] == 0}

    peer = of_doubled(pml_triplets("BatchEasyHardMiner", rows, labels))
    own = [
        of_doubled(triplets(mine_arrays(rows, labels, preset="easy-positive", keep_duplicate_positives=keep)))
        for keep in (False, True)
    ]
    assert all((rows[a] == rows[p]).all() for a, p, _ in peer)
    assert not any((rows[a] == rows[p]).all() for a, p, _ in own[0])
    assert own[1] == peer


@pytest.mark.peers
@in_worlds
@pytest.mark.parametrize("preset", ["multi-similarity", "pair-margin"])
def test_presets_of_pairs_are_their_miners(preset: str, world: str) -> None:
    rows, labels = WORLDS[world]()
    own = mine_arrays(rows, labels, preset=preset)
    miner = {"multi-similarity": "MultiSimilarityMiner", "pair-margin": "PairMarginMiner"}[preset]
    similar, dissimilar = pml_pairs(miner, rows, labels)
    assert similar
    assert dissimilar
    assert pairs(own, 1) == similar
    assert pairs(own, 0) == dissimilar


@pytest.mark.peers
def test_at_its_edges_pair_margin_miner_is_as_strict_as_we_are() -> None:
    lp = pytest.importorskip("pytorch_metric_learning.distances").LpDistance(normalize_embeddings=False)
    rows, labels = np.array([[0.0], [0.25], [1.0], [0.75]]), [0, 0, 1, 2]
    limits = {"positive_margin": 0.25, "margin": 1.0}  # (0, 1) is at the one, (0, 2) at the other
    own = mine_arrays(rows, labels, preset="pair-margin", normalize=False, **limits)
    a, p, b, n = pml("PairMarginMiner", rows, labels, distance=lp, pos_margin=0.25, neg_margin=1.0)
    assert pairs(own, 1) == set(zip(a, p, strict=True)) == set()
    assert (
        pairs(own, 0) == {(min(pair), max(pair)) for pair in zip(b, n, strict=True)} == {(0, 3), (1, 2), (1, 3), (2, 3)}
    )


@pytest.mark.peers
@pytest.mark.parametrize("world", ["overlapping", "uneven"])
def test_weighted_picks_are_drawn_with_the_weights_of_distance_weighted_miner(
    world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, labels = WORLDS[world]()
    weights = distance_weights(rows, labels, monkeypatch)
    drawn = np.zeros_like(weights)
    pairs_of = relation(labels)[0].sum(axis=1)
    for seed in range(60):
        found = mine_arrays(
            rows, labels, positives="all", band="any", pick="weighted", seed=seed, drop_duplicates_within=None
        )  # fmt: skip
        np.add.at(drawn, (found.anchor, found.negative), 1)
    draws = drawn.sum(axis=1)
    assert set(draws) <= {0, *(60 * pairs_of)}
    expected = weights * draws[:, None]
    assert not drawn[weights == 0].any()
    spread = np.sqrt(np.maximum(expected * (1 - weights), 1))
    deviation = (drawn - expected) / spread
    assert np.abs(deviation).max() < 5.5  # thousands of cells
    often = expected > 5
    assert 0.85 < deviation[often].std() < 1.15


def distance_weights(rows: Rows, labels: list[int], monkeypatch: pytest.MonkeyPatch) -> Rows:
    """The probability of each negative of each row, taken from the peer when it comes to draw."""
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning.miners import distance_weighted_miner

    seen: list[Any] = []
    drawing = distance_weighted_miner.lmu.get_random_triplet_indices

    def watched(*arguments: Any, weights: Any, **options: Any) -> Any:
        seen.append(weights)
        return drawing(*arguments, weights=weights, **options)

    monkeypatch.setattr(distance_weighted_miner.lmu, "get_random_triplet_indices", watched)
    pml("DistanceWeightedMiner", rows, labels)
    return seen[0].numpy()


# ---------------------------------------------------------------- FaceNet, Xuan 2020, TensorFlow Addons: their rules


@in_worlds
def test_preset_facenet_is_the_nearest_semi_hard_negative_of_every_pair(world: str) -> None:
    """Schroff 2015, 3.2: all anchor-positive pairs, p < x < p + 0.2, squared distances of unit rows."""
    rows, labels = WORLDS[world]()
    x, (positive, negative) = distances(rows, "sqeuclidean"), relation(labels)
    expected = set()
    for a, p in all_pairs(positive):
        inside = negative[a] & (x[a] > x[a, p]) & (x[a] < x[a, p] + 0.2)
        if inside.any():
            expected.add((a, p, int(np.where(inside, x[a], np.inf).argmin())))
    found = mine_arrays(rows, labels, preset="facenet")
    assert triplets(found) == expected
    assert found.stats.answer()["pairs"] == positive.sum()


@in_worlds
def test_preset_easy_positive_is_the_nearest_negative_beyond_the_easiest_positive(world: str) -> None:
    """Xuan 2020, semi-hard; github.com/littleredxh/EasyPositiveHardNegative, _code/Loss.py at 436c344: no upper edge.

    There a negative exactly as near as the positive counts too, and positives more similar than 0.9999 are passed over.
    """
    rows, labels = WORLDS[world]()
    x, (positive, negative) = distances(rows, "cosine"), relation(labels)
    expected = set()
    for a in np.flatnonzero(positive.any(axis=1)):
        p = int(np.where(positive[a], x[a], np.inf).argmin())
        beyond = negative[a] & (x[a] > x[a, p])
        if beyond.any():
            expected.add((int(a), p, int(np.where(beyond, x[a], np.inf).argmin())))
    assert triplets(mine_arrays(rows, labels, preset="easy-positive")) == expected


def test_preset_easy_positive_has_no_margin_and_is_strict_at_the_positive() -> None:
    found = mine_arrays(LINE, LINE_LABELS, preset="easy-positive", metric="euclidean")
    assert [each for each in triplets(found) if each[0] == 0] == [(0, 1, AT_MARGIN)]
    far = mine_arrays(
        LINE * [[1], [1], [1], [1], [100], [100]], LINE_LABELS, preset="easy-positive", metric="euclidean"
    )
    assert [each for each in triplets(far) if each[0] == 0] == [(0, 1, AT_MARGIN)]


def addons_semi_hard(x: Rows, labels: list[int]) -> list[Triplet]:
    """TensorFlow Addons, triplet_semihard_loss: tensorflow_addons/losses/triplet.py at 02e1240.

    For every pair the smallest distance of a negative above the pair's own; where there is none, the largest distance.
    """
    positive, negative = relation(labels)
    chosen = []
    for a, p in all_pairs(positive):
        beyond = negative[a] & (x[a] > x[a, p])
        n = np.where(beyond, x[a], np.inf).argmin() if beyond.any() else np.where(negative[a], x[a], -np.inf).argmax()
        chosen.append((a, p, int(n)))
    return chosen


@in_worlds
def test_preset_tfa_is_the_rule_of_tensorflow_addons(world: str) -> None:
    rows, labels = WORLDS[world]()
    x = distances(rows, "euclidean")
    expected = addons_semi_hard(x, labels)
    assert any(x[a, n] <= x[a, p] for a, p, n in expected) == (world != "uneven")  # some had to fall back
    found = mine_arrays(rows, labels, preset="tfa")
    assert triplets(found) == set(expected)
    loss = np.mean([max(0.0, 1.0 + x[a, p] - x[a, n]) for a, p, n in expected])
    assert found.loss.mean(dtype=np.float64) == pytest.approx(loss, rel=1e-6)


def test_preset_tfa_on_a_line() -> None:
    """By hand: a at 0, positives at 1 and 9; negatives at 1 (not beyond), 2 (beyond 1) and 3 (beyond 1, farthest)."""
    rows, labels = np.array([[0.0], [1.0], [9.0], [-1.0], [2.0], [-3.0]]), [0, 0, 0, 1, 1, 1]
    found = mine_arrays(rows, labels, preset="tfa", normalize=False)
    own = {
        (p, n): loss
        for a, p, n, loss in zip(found.anchor, found.positive, found.negative, found.loss, strict=True)
        if a == 0
    }
    assert own == {(1, 4): 0.0, (2, 5): 7.0}


@pytest.mark.peers
@in_worlds
def test_preset_tfa_has_the_loss_of_the_port_in_sentence_transformers(world: str) -> None:
    torch = pytest.importorskip("torch")
    losses = pytest.importorskip("sentence_transformers.losses")
    rows, labels = WORLDS[world]()
    unit = torch.nn.functional.normalize(torch.from_numpy(rows.astype(np.float64)))
    for margin in (1.0, 0.3):
        port = losses.BatchSemiHardTripletLoss(model=None, margin=margin)
        found = mine_arrays(rows, labels, preset="tfa", margin=margin)
        expected = port.batch_semi_hard_triplet_loss(torch.tensor(labels), unit).item()
        assert found.loss.mean(dtype=np.float64) == pytest.approx(expected, rel=1e-5)


# ---------------------------------------------------------------- retrieval: sentence-transformers, NV-Retriever


class Retrieval:
    """Queries, a corpus, and one or several positives of each query, by row."""

    def __init__(self, seed: int = 21) -> None:
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(8, 12))
        self.queries = (centres[rng.integers(0, 8, 40)] + 0.6 * rng.normal(size=(40, 12))).astype(np.float32)
        self.corpus = (centres[rng.integers(0, 8, 150)] + 0.6 * rng.normal(size=(150, 12))).astype(np.float32)
        self.known: list[tuple[int, int]] = []
        self.similarity = cosines(self.queries, self.corpus)
        for query, own in enumerate(np.argsort(-self.similarity, axis=1)):
            for rank in rng.choice(40, int(rng.integers(1, 4)), replace=False):
                self.known.append((query, int(own[rank])))
        self.known.append((0, int(self.similarity[0].argmin())))  # a positive less similar than all else

    def mined(self, negatives: int, **options: Any) -> set[Triplet]:
        """Our triplets (query, positive, negative)."""
        found = mine_arrays(
            self.queries,
            corpus=self.corpus,
            qrels=self.known,
            negatives=negatives,
            **{"drop_duplicates_within": None, **options},
        )
        return set(zip(found.query.tolist(), found.positive.tolist(), found.negative.tolist(), strict=True))


def cosines(queries: Rows, corpus: Rows) -> Rows:
    """Cosine similarities in float64."""
    left, right = (each.astype(np.float64) for each in (queries, corpus))
    left, right = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (left, right))
    return left @ right.T


class LookedUp:
    """What mine_hard_negatives asks of a model; texts are q0, q1 ... and d0, d1 ..., vectors are looked up."""

    def __init__(self, task: Retrieval, torch: Any) -> None:
        self.device = torch.device("cpu")
        self._torch = torch
        self._rows = {
            kind: (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
            for kind, rows in (("q", task.queries), ("d", task.corpus))
        }

    def encode_query(self, texts: list[str], **options: Any) -> Rows:
        """The rows that the texts name."""
        return np.stack([self._rows[text[0]][int(text[1:])] for text in texts])

    encode_document = encode_query

    def get_embedding_dimension(self) -> int:
        """Coordinates of a row."""
        return int(self._rows["q"].shape[1])

    def similarity(self, left: Any, right: Any) -> Any:
        """All similarities."""
        return self._torch.as_tensor(left) @ self._torch.as_tensor(right).T

    def similarity_pairwise(self, left: Any, right: Any) -> Any:
        """The similarity of each row to the one beside it."""
        return (self._torch.as_tensor(left) * self._torch.as_tensor(right)).sum(dim=1)


def sentence_transformers(task: Retrieval, **options: Any) -> list[Triplet]:
    """The triplets of mine_hard_negatives, in its order."""
    torch, datasets = pytest.importorskip("torch"), pytest.importorskip("datasets")
    util = pytest.importorskip("sentence_transformers.util")
    if options.get("use_faiss"):
        pytest.importorskip("faiss")
    if not hasattr(util, "mine_hard_negatives"):
        pytest.skip("this sentence-transformers has no mine_hard_negatives")
    columns = {"query": [f"q{query}" for query, _ in task.known], "positive": [f"d{row}" for _, row in task.known]}
    found = util.mine_hard_negatives(
        datasets.Dataset.from_dict(columns),
        LookedUp(task, torch),
        corpus=[f"d{row}" for row in range(len(task.corpus))],
        verbose=False,
        **options,
    )
    return [tuple(int(text[1:]) for text in row.values()) for row in found]


WINDOW = 150  # the whole corpus
FILTERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none": ({}, {}),
    "absolute margin": ({"absolute_margin": 0.1},) * 2,
    "relative margin": ({"relative_margin": 0.05},) * 2,
    "wide relative margin": ({"relative_margin": 0.4},) * 2,
    "both": ({"relative_margin": 0.1, "absolute_margin": 0.05},) * 2,
    "bounds": ({"max_score": 0.6, "min_score": 0.1}, {"max_similarity": 0.6, "min_similarity": 0.1}),
    "skipped": ({"relative_margin": 0.05, "range_min": 3}, {"relative_margin": 0.05, "skip": 3}),
}


@pytest.mark.peers
@pytest.mark.parametrize("use_faiss", [False, True])
@pytest.mark.parametrize("name", FILTERS)
def test_filters_are_those_of_sentence_transformers_where_its_window_holds_all(name: str, use_faiss: bool) -> None:
    task = Retrieval()
    theirs, ours = FILTERS[name]
    peer = sentence_transformers(task, num_negatives=5, range_max=WINDOW, use_faiss=use_faiss, **theirs)
    assert len(peer) == len(set(peer))
    assert task.mined(5, reference="min", **ours) == set(peer)
    assert len(peer) > 20


@pytest.mark.peers
@pytest.mark.parametrize("option", ["absolute_margin", "relative_margin"])
def test_what_the_default_window_of_sentence_transformers_returns_is_the_head_of_ours(option: str) -> None:
    task = Retrieval()
    margin = {option: 0.5}
    peer, own = sentence_transformers(task, num_negatives=3, **margin), task.mined(3, reference="min", **margin)
    theirs, ours = (Counter((query, positive) for query, positive, _ in each) for each in (peer, own))
    assert set(peer) < own
    assert sum(theirs.values()) < 0.8 * sum(ours.values())
    for query, positive, negative in own - set(peer):
        returned = [row for of, beside, row in peer if (of, beside) == (query, positive)]
        assert all(task.similarity[query, row] >= task.similarity[query, negative] for row in returned)


@pytest.mark.parametrize(
    ("options", "threshold"),
    [
        ({"preset": "nv-retriever"}, lambda s: s - abs(s) * 0.05),
        ({"preset": "nv-retriever-margin"}, lambda s: s - 0.05),
        ({"preset": "nv-retriever-abs"}, lambda s: 0.7),
    ],
    ids=["TopK-PercPos", "TopK-MarginPos", "TopK-Abs"],
)
def test_methods_of_nv_retriever(options: dict[str, Any], threshold: Callable[[float], float]) -> None:
    """arXiv 2407.15831, 3.2: the most similar below 95 % of, or 0.05 below, the positive's similarity, or below 0.7."""
    task = Retrieval()
    positives: dict[int, set[int]] = {}
    for query, row in task.known:
        positives.setdefault(query, set()).add(row)
    expected = set()
    for query, row in task.known:
        usable = [
            other
            for other in np.argsort(-task.similarity[query])
            if other not in positives[query] and task.similarity[query, other] <= threshold(task.similarity[query, row])
        ]
        expected |= {(query, row, int(other)) for other in usable[:4]}
    assert task.mined(4, **options) == expected


def ranks_of(task: Retrieval, found: set[Triplet], similarity: Rows) -> dict[tuple[int, int], list[int]]:
    """The ranks of the negatives of every pair among all rows that are no positives, the most similar first: 1."""
    positives: dict[int, set[int]] = {}
    for query, row in task.known:
        positives.setdefault(query, set()).add(row)
    order = {
        query: [row for row in np.argsort(-similarity[query]).tolist() if row not in own]
        for query, own in positives.items()
    }
    ranks: dict[tuple[int, int], list[int]] = {}
    for query, positive, negative in found:
        ranks.setdefault((query, positive), []).append(1 + order[query].index(negative))
    return ranks


@pytest.mark.parametrize(
    ("options", "k", "first", "last"),
    [
        ({"preset": "bge"}, 15, 11, 210),
        ({"preset": "bge", "skip": 5, "within_top": 35}, 15, 6, 35),
        ({"preset": "ance", "negatives": 4}, 4, 1, 200),
        ({"preset": "ance", "negatives": 4, "within_top": 20}, 4, 1, 20),
    ],
)
def test_windows_of_ranks_of_bge_and_ance(options: dict[str, Any], k: int, first: int, last: int) -> None:
    """Drawn uniformly of a slice of the ranks.

    FlagEmbedding, hn_mine.py: 15 of the results 10 to 210, counted from 0, as random.sample draws them; positives are
    among its results, and take ranks there. ANCE (arXiv 2007.00808), 4: at random of the 200 nearest.
    """
    task = Retrieval()
    own = {key: options[key] for key in options if key != "negatives"}
    ranks = ranks_of(task, task.mined(k, **own), task.similarity)
    assert {len(each) for each in ranks.values()} == {k}
    assert len(ranks) == len(set(task.known))
    drawn = np.concatenate([*ranks.values()])
    assert first <= drawn.min() < drawn.max() <= last
    halves = np.mean(drawn <= (first + min(last, len(task.corpus) - 3)) / 2)
    assert abs(halves - 0.5) < 4 * 0.5 / np.sqrt(drawn.size)


def test_preset_simans_draws_with_the_weights_of_the_paper() -> None:
    """arXiv 2210.11773, 3.2: p_i is proportional to exp(-a (s_i - s_positive - b)^2), among the nearest.

    4,000 queries are one vector under different ids, so their draws are independent; a thousandth of a chance each.
    """
    rng = np.random.default_rng(5)
    query, corpus, count = rng.normal(size=6), rng.normal(size=(31, 6)).astype(np.float32), 4_000
    queries = np.tile(query.astype(np.float32), (count, 1))
    s = corpus.astype(np.float64) @ queries[0].astype(np.float64)
    order = np.argsort(-s)
    positive = int(order[3])
    usable = np.array([row for row in order.tolist() if row != positive][:12])
    given: dict[str, Any] = {"corpus": corpus, "qrels": [(row, positive) for row in range(count)], "negatives": 2}
    for a, b in ((1.0, 0.0), (0.5, 1.0), (4.0, -0.5)):
        weight = np.exp(-a * (s[usable] - s[positive] - b) ** 2)
        chance = weight / weight.sum()
        found = mine_arrays(
            queries, preset="simans", within_top=12, simans_a=a, simans_b=b, draw_weights=True, float64=True, **given
        )
        negative = found.table()["negative_row"].to_numpy().reshape(count, 2)
        stored = found.table()["draw_weight"].to_numpy().reshape(count, 2)
        place = {int(row): at for at, row in enumerate(usable)}
        first, second = (np.array([place[row] for row in column.tolist()]) for column in negative.T)
        assert np.allclose(stored[:, 0], weight[first], rtol=1e-12)
        assert chi_square(np.bincount(first, minlength=12), count * chance) < 31.3  # 11 degrees
        both = chance[:, None] * chance[None] / (1 - chance[:, None]) * (1 - np.eye(12))
        assert chi_square(np.bincount(second, minlength=12), count * both.sum(axis=0)) < 31.3


def chi_square(seen: Rows, expected: Rows) -> float:
    """Pearson's statistic; what is expected less than 5 times counts together."""
    rare = expected < 5
    seen, expected = (np.append(each[~rare], each[rare].sum()) for each in (seen, expected))
    return float(((seen - expected) ** 2 / np.maximum(expected, 1e-9)).sum())


# NVIDIA-NeMo/Automodel, whose authors' rule it is: inputs, and what its tests assert, by inner products, k = 2. Margin
# 0.95 of type "perc": its unit test test_mine_hard_negatives_drops_margin_filtered_candidates. Without a filter, and
# 0.1 of type "abs": tests/functional_tests/retrieval/test_hard_negative_mining.py at 8f35253.
PERCENT_GOLDEN = ([[1.0, 0.0]], [[1.0, 0.0], [0.96, 0.0], [0.2, 0.0]], [(0, 0)], [(0, 2)])
GOLDEN_DOCUMENTS = [[1.0, 0.0], [0.0, 1.0], [0.95, 0.2], [0.2, 0.95], [-1.0, 0.0], [0.0, -1.0]]


def test_golden_values_of_automodel() -> None:
    queries, documents, known, expected = PERCENT_GOLDEN
    given: dict[str, Any] = {"corpus": np.array(documents, np.float32), "metric": "dot", "negatives": 2}
    found = mine_arrays(np.array(queries, np.float32), qrels=known, preset="nv-retriever", **given)
    assert list(zip(found.query.tolist(), found.negative.tolist(), strict=True)) == expected
    given["corpus"] = np.array(GOLDEN_DOCUMENTS, np.float32)
    both = np.eye(2, dtype=np.float32)
    unfiltered = mine_arrays(both, qrels=[(0, 0), (1, 1)], **given)
    assert unfiltered.negative.tolist() == [2, 3, 3, 2]
    filtered = mine_arrays(both, qrels=[(0, 0), (1, 1)], absolute_margin=0.1, **given)
    assert not {(0, 2), (1, 3)} & set(zip(filtered.query.tolist(), filtered.negative.tolist(), strict=True))
    assert filtered.negative.tolist() == [3, 1, 2, 0]  # by hand; it asserts no more than the line above


# ---------------------------------------------------------------- what a preset is


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_stands_for_its_options(preset: str) -> None:
    by_name, *_ = split_options({"preset": preset})
    by_value, *_ = split_options(PRESETS[preset].options)
    assert by_name.to_dict() == by_value.to_dict() | {"preset": preset}
    rows, labels = overlapping()
    assert (
        mine_arrays(rows, labels, preset=preset)
        .table()
        .equals(mine_arrays(rows, labels, **PRESETS[preset].options).table())
    )


OTHER_VALUES: dict[str, Any] = {
    "metric": "cosine", "normalize": False, "margin": 0.7, "positives": "random", "band": "any", "negatives": 2,
    "positives_per_anchor": 3, "drop_duplicates_within": 0.0, "fallback": "none", "emit": "triplets", "epsilon": 0.3,
    "positive_margin": 0.4, "relative_margin": 0.2, "skip": 3, "within_top": 50, "pick": "nearest",
    "absolute_margin": 0.2, "max_similarity": 0.5, "min_positive_similarity": 0.1, "max_positive_rank": 9,
}  # fmt: skip


def with_one_changed(preset: str, name: str) -> dict[str, Any] | None:
    """A preset with another value of one of its options, where that means something."""
    options = {"preset": preset, name: OTHER_VALUES[name]}
    try:
        split_options(options)
    except UsageError:
        return None
    return options


def test_an_option_beside_a_preset_wins() -> None:
    seen = set()
    for preset, rule in PRESETS.items():
        for name, value in rule.options.items():
            if (options := with_one_changed(preset, name)) is None:
                continue
            config, *_ = split_options(options)
            expected, *_ = split_options({**rule.options, **options})
            assert config == expected
            assert getattr(config, name) == OTHER_VALUES[name] or value == OTHER_VALUES[name]
            seen.add(name)
    assert seen >= {"metric", "margin", "positives", "band", "negatives", "drop_duplicates_within", "epsilon"}


def test_an_option_beside_a_preset_wins_when_it_is_the_default() -> None:
    assert MineConfig.__dataclass_fields__["metric"].default == "cosine"
    config, *_ = split_options({"preset": "facenet", "metric": "cosine"})
    assert (config.metric, config.normalize, config.margin, config.positives) == ("cosine", True, 0.2, "all")
    config, *_ = split_options({"preset": "batch-hard", "drop_duplicates_within": 0.0})
    assert config.drop_duplicates_within == 0.0


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(UsageError, match="facenets") as refused:
        split_options({"preset": "facenets"})
    assert "facenet" in str(refused.value.hint)


def test_the_expansion_is_reported(tmp_path: Path) -> None:
    rows, labels = overlapping()
    table = pa.table({"embedding": list(rows), "label": labels})
    report = mine(table, tmp_path / "out.parquet", preset="facenet", progress="none")
    told = {"preset": "facenet", **PRESETS["facenet"].options}
    assert {name: report.config[name] for name in told} == told
    assert json.loads(json.dumps(report.to_dict()))["configuration"] == report.config
