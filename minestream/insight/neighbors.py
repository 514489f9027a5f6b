"""The k nearest of every row, exactly, by the search that mines: recall, hubs, doubtful labels, duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.inputs.dataset.dataset import Loaded
from minestream.inputs.decode import lists_from
from minestream.kernels.types import NEGATIVE, POSITIVE
from minestream.search.nearest import Neighbors, nearest
from minestream.search.searcher import Searcher
from minestream.system.progress import Progress

K = 10
SCORE_FORMULA = (
    f"label_score = how many of the row's {K} nearest carry its given label, divided by {K} (or by how many there are)"
)
MOST_SCORE = 0.3
LEAST_VOTES = 0.5
SUSPECT_RULE = (
    f"doubtful: another label is the majority among the {K} nearest and holds at least {LEAST_VOTES:.0%} of them, and "
    f"label_score is at most {MOST_SCORE:g}, and its own label is not the nearer one; worst first: by the mean "
    f"distance to the {K} nearest of other labels divided by that to the {K} nearest of its own (dot: less that)"
)


# How near other labels are (1 - that ratio), and of the rows at least so far the share whose label was wrong: the
# median over seven samples of four real sets with 2 % of the labels swapped. Measured on cosine distances, which on
# unit rows go with the squares of Euclidean ones.
NEARER = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
RATIO_POWERS = {"cosine": 1, "sqeuclidean": 1, "euclidean": 2}  # dot has no distances to divide
WRONG_SHARE = (0.12, 0.12, 0.15, 0.22, 0.33, 0.53, 0.75, 0.91, 1.0)
SUSPICION_CUTS = (0.5, 0.75, 0.9)
SUSPICION_FORMULA = (
    "suspicion = the share of wrong labels to expect among rows at least so suspicious, as measured where 2 % of the "
    "labels of real sets were swapped; it was 0.45 to 1 of those above 0.9, the less the more the labels overlap"
)
MOST_DUPLICATES = 100_000
NEAR_SHARE = 0.1  # of the median nearest positive distance: what counts as a near duplicate


@dataclass(frozen=True)
class Nearest:
    """Nearest rows of every slot, -1 and inf where there are fewer.

    Attributes
    ----------
    positive, negative : int32 (n, K), slots by (distance, key order)
    positive_x, negative_x : float64 (n, K)
    slot : int32 (n, K)
        The K nearest of both kinds.
    same : bool (n, K)
        Which of those are positives.
    """

    positive: NDArray[np.int32]
    positive_x: NDArray[np.float64]
    negative: NDArray[np.int32]
    negative_x: NDArray[np.float64]
    slot: NDArray[np.int32]
    same: NDArray[np.bool_]


def nearest_of_both(searcher: Searcher, progress: Progress) -> Nearest:
    """The K nearest positives and negatives of every row.

    Notes
    -----
    Cost: as mining twice, once over the pairs within labels and once over all.
    """
    every = np.arange(searcher.loaded.store.rows, dtype=np.int32)
    positive, negative = nearest(searcher, every, K, (POSITIVE, NEGATIVE), progress)
    return Nearest(*positive, *negative, *_merged(searcher.loaded, positive, negative))


def _merged(loaded: Loaded, *kinds: Neighbors) -> tuple[Any, Any]:
    """The K nearest of both kinds by (distance, key order), and which are positives."""
    slot, x = (np.concatenate(each, axis=1) for each in zip(*kinds, strict=True))
    rank = np.where(slot >= 0, loaded.rows.rank[slot], np.iinfo(np.int64).max)
    by_key = np.argsort(rank, axis=1)
    by_distance = np.argsort(np.take_along_axis(x, by_key, axis=1), axis=1, kind="stable")[:, :K]
    order = np.take_along_axis(by_key, by_distance, axis=1)
    chosen = np.take_along_axis(slot, order, axis=1)
    return chosen, (order < K) & (chosen >= 0)


def recall_at(near: Nearest, able: NDArray[np.bool_], ks: tuple[int, ...]) -> dict[str, float | None]:
    """The share of the rows with a positive that have one among their k nearest."""
    hit = near.same.cumsum(axis=1) > 0
    return {str(k): float(hit[able, k - 1].mean()) if able.any() else None for k in ks}


@dataclass(frozen=True)
class Votes:
    """What the neighbours of each row say of its label.

    Attributes
    ----------
    score : float64[n], share of the neighbours that are positives; NaN without neighbours
    share : float64[n], share of the majority's label
    witness : int32[n], slot of the nearest neighbour with that label
    agrees : bool[n], whether that one is a positive
    """

    score: NDArray[np.float64]
    share: NDArray[np.float64]
    witness: NDArray[np.int32]
    agrees: NDArray[np.bool_]


def votes(loaded: Loaded, near: Nearest) -> Votes:
    """The vote of the neighbours; of labels with as many votes the nearest row's wins."""
    known = near.slot >= 0
    count = np.maximum(1, known.sum(axis=1))
    code = np.where(known, loaded.rows.label[near.slot], -2)
    held = np.zeros(code.shape, np.int64)
    for k in range(K):
        held += code == code[:, k : k + 1]
    held[~known] = 0
    at = held.argmax(axis=1)  # the first of the largest: the nearest
    row = np.arange(len(at))
    score = np.where(known.any(axis=1), near.same.sum(axis=1) / count, np.nan)
    return Votes(score, held[row, at] / count, near.slot[row, at], near.same[row, at])


@dataclass(frozen=True)
class Suspects:
    """Rows whose label is doubtful, worst first.

    Attributes
    ----------
    slots : int32[s]
    suspicion : float64[s]
        See SUSPICION_FORMULA; NaN for dot, which has no distances to divide.
    """

    slots: NDArray[np.int32]
    suspicion: NDArray[np.float64]

    def above(self, cut: float | None) -> Suspects:
        """Those at least so suspicious; all without a cut."""
        if cut is None:
            return self
        keep = self.suspicion >= cut
        return Suspects(self.slots[keep], self.suspicion[keep])

    def facts(self, cut: float | None) -> dict[str, Any]:
        """What profile.json says of them: how many are listed with a cut or without one, and above some cuts."""
        cuts = {} if np.isnan(self.suspicion).any() else {
            f"rows_above_{cut:g}": int((self.suspicion >= cut).sum()) for cut in SUSPICION_CUTS
        }  # fmt: skip
        listed = {"rows": int(self.above(cut).slots.size), **({} if cut is None else {"listed_above": cut})}
        return {**listed, **cuts, "rule": SUSPECT_RULE, "formula": SCORE_FORMULA, "suspicion": SUSPICION_FORMULA}


def suspects(near: Nearest, vote: Votes, rank: NDArray[np.int64], metric: str) -> Suspects:
    """The rows whose label is doubtful by SUSPECT_RULE.

    By the ratio rather than by votes, which tie: precision at the number of labels swapped is .78 against .43
    (Fashion-MNIST), .27 against .26 (Debian), .97 against .92 (digits).
    """
    doubtful = ~vote.agrees & (vote.share >= LEAST_VOTES) & (vote.score <= MOST_SCORE)
    doubtful &= near.negative_x[:, 0] <= near.positive_x[:, 0]
    slots = np.flatnonzero(doubtful).astype(np.int32)
    same, other = (_mean_known(x[slots]) for x in (near.positive_x, near.negative_x))
    power = RATIO_POWERS.get(metric)
    with np.errstate(invalid="ignore", divide="ignore"):
        order = other / same if power else other - same
    neutral = 1.0 if power else 0.0
    order = np.where(np.isfinite(order), order, neutral)
    suspicion = np.interp(1 - order**power, NEARER, WRONG_SHARE) if power else np.full(order.size, np.nan)
    worst = np.lexsort((rank[slots], order))
    worst = worst[order[worst] <= neutral]  # whose own label is farther on the whole, too
    return Suspects(slots[worst], suspicion[worst])


def _mean_known(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the finite values of each row; NaN without any."""
    known = np.isfinite(x)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(known, x, 0.0).sum(axis=1) / known.sum(axis=1)
    return mean


def rows_table(loaded: Loaded, slots: NDArray[np.int32], prefix: str = "") -> dict[str, pa.Array]:
    """Columns id (where there are ids), row and label of some slots."""
    ids = loaded.tables[0].take_ids(slots)
    columns = {} if ids is None else {f"{prefix}id": ids}
    return columns | {
        f"{prefix}row": pa.array(loaded.source_row[slots]), f"{prefix}label": loaded.labels.take(slots)
    }  # fmt: skip


def suspects_table(loaded: Loaded, near: Nearest, vote: Votes, doubtful: Suspects) -> pa.Table:
    """One row a doubtful row: what suspects.parquet holds."""
    slots = doubtful.slots
    known = near.slot[slots] >= 0
    flat = near.slot[slots][known]
    columns: dict[str, Any] = rows_table(loaded, slots)
    columns["given_label"] = columns.pop("label")
    columns["predicted_label"] = loaded.labels.take(vote.witness[slots])
    columns["suspicion"] = pa.array(doubtful.suspicion, mask=np.isnan(doubtful.suspicion))
    columns["label_score"] = pa.array(vote.score[slots])
    columns["predicted_share"] = pa.array(vote.share[slots])
    for name, values in rows_table(loaded, flat).items():
        plural = {"id": "neighbor_ids", "row": "neighbor_rows", "label": "neighbor_labels"}[name]
        columns[plural] = lists_from(known.sum(axis=1), values)
    for name, x in (("distance_same", near.positive_x), ("distance_other", near.negative_x)):
        own = x[slots, 0]
        columns[name] = pa.array(own, mask=~np.isfinite(own))
    carried = loaded.tables[0].take_carried(slots)
    if carried is not None:
        columns |= {name if name not in columns else f"carried_{name}": carried[name] for name in carried.column_names}
    return pa.table(columns)


def near_distance(near: Nearest, finite: bool) -> float | None:
    """What counts as a near duplicate by default; None where distances are not bounded below (dot)."""
    own = near.positive_x[np.isfinite(near.positive_x[:, 0]), 0]
    return float(NEAR_SHARE * np.median(own)) if finite and own.size else None


def duplicates_table(loaded: Loaded, near: Nearest, within: float | None) -> tuple[pa.Table, dict[str, Any]]:
    """Exact and near duplicates across labels, among the K nearest of each row: the nearest of them, and counts."""
    a = np.repeat(np.arange(len(near.negative), dtype=np.int32), K)
    b, x = near.negative.ravel(), near.negative_x.ravel()
    twin = loaded.rows.twin
    exact = (b >= 0) & (twin[a] == twin[b])
    kept = np.flatnonzero(exact | ((b >= 0) & (x <= (-np.inf if within is None else within))))
    left, right = np.minimum(a[kept], b[kept]), np.maximum(a[kept], b[kept])
    _, first = np.unique(left.astype(np.int64) * len(near.negative) + right, return_index=True)
    left, right, x, exact = left[first], right[first], x[kept][first], exact[kept][first]
    order = np.lexsort((right, left, x, ~exact))[:MOST_DUPLICATES]
    counts = {
        "pairs": int(left.size), "exact_pairs": int(exact.sum()), "rows": int(np.unique([left, right]).size),
        "listed": int(order.size), "near_distance": within,
        "of": f"pairs of different labels among the {K} nearest of each row",
    }  # fmt: skip
    columns = rows_table(loaded, left[order], "left_") | rows_table(loaded, right[order], "right_")
    return pa.table(columns | {"distance": pa.array(x[order]), "exact": pa.array(exact[order])}), counts


def hubs(loaded: Loaded, near: Nearest, shown: int = 20) -> dict[str, Any]:
    """How often each row is the nearest negative of another."""
    chosen = near.negative[near.negative[:, 0] >= 0, 0]
    uses = np.bincount(chosen, minlength=len(near.negative))
    deviation = uses - uses.mean()
    spread = float(np.sqrt((deviation**2).mean()))
    top = np.lexsort((loaded.rows.rank, -uses))[:shown].astype(np.int32)
    listed = pa.table(rows_table(loaded, top) | {"uses": pa.array(uses[top])}).to_pylist()
    return {
        "max": int(uses.max()), "skew": float((deviation**3).mean() / spread**3) if spread else 0.0,
        "never_used_rows": int((uses == 0).sum()), "top": [row for row in listed if row["uses"]],
    }  # fmt: skip
