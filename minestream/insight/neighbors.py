"""What the nearest rows of every row say: recall, doubtful labels, duplicates and hubs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.inputs.dataset.dataset import Dataset
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

# NEARER: 1 minus the ratio in SUSPECT_RULE. WRONG_SHARE: the share of wrong labels among rows with at least that: the
# median over seven samples of four real sets with 2 % of the labels swapped. Measured on cosine distances, which on
# unit rows are proportional to squared Euclidean ones.
NEARER = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
RATIO_POWERS = {"cosine": 1, "sqeuclidean": 1, "euclidean": 2}  # dot has no distances to divide
WRONG_SHARE = (0.12, 0.12, 0.15, 0.22, 0.33, 0.53, 0.75, 0.91, 1.0)
SUSPICION_CUTS = (0.5, 0.75, 0.9)
SURE = "a third to all of those from 0.9 on were wrong"  # by data set: bench/results/suspects.json
SUSPICION_FORMULA = (
    "suspicion = the share of wrong labels among rows at least so suspicious, the median of four real sets with 2 % of "
    f"the labels swapped; sets differ: {SURE}, the fewer the more the labels overlap"
)
MOST_DUPLICATES = 100_000
NEAR_SHARE = 0.1  # rows nearer than this share of the median nearest positive distance are near duplicates


class Nearest(NamedTuple):
    """The K nearest rows of every slot."""

    positive: Neighbors
    negative: Neighbors
    slot: NDArray[np.int32]  # (n, K) the nearest of both kinds, -1 where there are fewer
    same: NDArray[np.bool_]  # (n, K) which of those are positives


def nearest_of_both(searcher: Searcher, progress: Progress) -> Nearest:
    """The K nearest positives and negatives of every row. Cost: two searches, one of them within labels."""
    loaded = searcher.loaded
    slots = np.arange(loaded.store.rows, dtype=np.int32)
    positive, negative = nearest(searcher, slots, K, (POSITIVE, NEGATIVE), progress)
    slot = np.concatenate([positive.slot, negative.slot], axis=1)
    x = np.concatenate([positive.x, negative.x], axis=1)
    rank = np.where(slot >= 0, loaded.rows.rank[slot], np.iinfo(np.int64).max)
    order = np.lexsort((rank, x), axis=1)[:, :K]
    chosen = np.take_along_axis(slot, order, axis=1)
    return Nearest(positive, negative, chosen, (order < K) & (chosen >= 0))


def recall_at(near: Nearest, able: NDArray[np.bool_], ks: tuple[int, ...]) -> dict[str, float | None]:
    """The share of rows with a positive among their k nearest, of those that have a positive at all (`able`)."""
    hit = near.same.cumsum(axis=1) > 0
    return {str(k): float(hit[able, k - 1].mean()) if able.any() else None for k in ks}


@dataclass(frozen=True)
class Votes:
    """What the neighbours of each row say about its label.

    Attributes
    ----------
    score : float64[n], share of the neighbours that are positives; NaN without neighbours
    share : float64[n], share of the majority's label
    witness : int32[n], slot of the nearest neighbour with that label
    agrees : bool[n], whether the witness is a positive
    """

    score: NDArray[np.float64]
    share: NDArray[np.float64]
    witness: NDArray[np.int32]
    agrees: NDArray[np.bool_]


def votes(loaded: Dataset, near: Nearest) -> Votes:
    """The vote of the neighbours; when labels have equally many votes, the one of the nearest row wins."""
    known = near.slot >= 0
    count = np.maximum(1, known.sum(axis=1))
    code = np.where(known, loaded.rows.label[near.slot], -2)
    count_of_code = np.zeros(code.shape, np.int64)
    for k in range(K):
        count_of_code += code == code[:, k : k + 1]
    count_of_code[~known] = 0
    at = count_of_code.argmax(axis=1)  # the first of the largest: the nearest
    row = np.arange(len(at))
    score = np.where(known.any(axis=1), near.same.sum(axis=1) / count, np.nan)
    return Votes(score, count_of_code[row, at] / count, near.slot[row, at], near.same[row, at])


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
        """The suspects whose suspicion is at least `cut`; all when it is None."""
        if cut is None:
            return self
        keep = self.suspicion >= cut
        return Suspects(self.slots[keep], self.suspicion[keep])

    def facts(self, cut: float | None) -> dict[str, Any]:
        """What profile.json says about them: how many are listed, how many are above some cuts, and by which rule."""
        cuts = {} if np.isnan(self.suspicion).any() else {
            f"rows_above_{cut:g}": int((self.suspicion >= cut).sum()) for cut in SUSPICION_CUTS
        }  # fmt: skip
        listed = {"rows": int(self.above(cut).slots.size), **({} if cut is None else {"listed_above": cut})}
        return {**listed, **cuts, "rule": SUSPECT_RULE, "formula": SCORE_FORMULA, "suspicion": SUSPICION_FORMULA}


def suspects(near: Nearest, vote: Votes, rank: NDArray[np.int64], metric: str) -> Suspects:
    """The rows whose label is doubtful by SUSPECT_RULE.

    They are ordered by the ratio rather than by votes, of which many are equal: precision at the number of labels
    swapped is .78 against .43 (Fashion-MNIST), .27 against .26 (Debian), .97 against .92 (digits).
    """
    doubtful = ~vote.agrees & (vote.share >= LEAST_VOTES) & (vote.score <= MOST_SCORE)
    doubtful &= near.negative.x[:, 0] <= near.positive.x[:, 0]
    slots = np.flatnonzero(doubtful).astype(np.int32)
    same, other = (_mean_known(x[slots]) for x in (near.positive.x, near.negative.x))
    power = RATIO_POWERS.get(metric)
    with np.errstate(invalid="ignore", divide="ignore"):
        order = other / same if power else other - same
    neutral = 1.0 if power else 0.0
    order = np.where(np.isfinite(order), order, neutral)
    suspicion = np.interp(1 - order**power, NEARER, WRONG_SHARE) if power else np.full(order.size, np.nan)
    worst = np.lexsort((rank[slots], order))
    worst = worst[order[worst] <= neutral]  # the mean distance to their own label is larger, too
    return Suspects(slots[worst], suspicion[worst])


def _mean_known(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the finite values of each row; NaN where there are none."""
    known = np.isfinite(x)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(known, x, 0.0).sum(axis=1) / known.sum(axis=1)
    return mean


def rows_table(loaded: Dataset, slots: NDArray[np.int32], prefix: str = "") -> dict[str, pa.Array]:
    """Columns id (where there are ids), row and label of some slots."""
    ids = loaded.tables[0].take_ids(slots)
    columns = {} if ids is None else {f"{prefix}id": ids}
    return columns | {
        f"{prefix}row": pa.array(loaded.source_row[slots]), f"{prefix}label": loaded.labels.take(slots)
    }  # fmt: skip


def suspects_table(loaded: Dataset, near: Nearest, vote: Votes, doubtful: Suspects) -> pa.Table:
    """What suspects.parquet holds: one row for each doubtful row."""
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
    for name, x in (("distance_same", near.positive.x), ("distance_other", near.negative.x)):
        nearest_x = x[slots, 0]
        columns[name] = pa.array(nearest_x, mask=~np.isfinite(nearest_x))
    carried = loaded.tables[0].take_carried(slots)
    if carried is not None:
        columns |= {name if name not in columns else f"carried_{name}": carried[name] for name in carried.column_names}
    return pa.table(columns)


def near_distance(near: Nearest, bounded: bool) -> float | None:
    """The default distance of near duplicates; None without positives and for dot, which has no least distance."""
    nearest_x = near.positive.x[np.isfinite(near.positive.x[:, 0]), 0]
    return float(NEAR_SHARE * np.median(nearest_x)) if bounded and nearest_x.size else None


def duplicates_table(loaded: Dataset, near: Nearest, within: float | None) -> tuple[pa.Table, dict[str, Any]]:
    """Pairs of equal or near rows with different labels, among the K nearest of each row; and how many there are."""
    a = np.repeat(np.arange(len(near.slot), dtype=np.int32), K)
    b, x = near.negative.slot.ravel(), near.negative.x.ravel()
    twin = loaded.rows.twin
    exact = (b >= 0) & (twin[a] == twin[b])
    kept = np.flatnonzero(exact | ((b >= 0) & (x <= (-np.inf if within is None else within))))
    left, right = np.minimum(a[kept], b[kept]), np.maximum(a[kept], b[kept])
    _, first = np.unique(left.astype(np.int64) * len(near.slot) + right, return_index=True)
    left, right, x, exact = left[first], right[first], x[kept][first], exact[kept][first]
    order = np.lexsort((right, left, x, ~exact))[:MOST_DUPLICATES]
    counts = {
        "pairs": int(left.size), "exact_pairs": int(exact.sum()), "rows": int(np.unique([left, right]).size),
        "listed": int(order.size), "near_distance": within,
        "of": f"pairs of different labels among the {K} nearest of each row",
    }  # fmt: skip
    columns = rows_table(loaded, left[order], "left_") | rows_table(loaded, right[order], "right_")
    return pa.table(columns | {"distance": pa.array(x[order]), "exact": pa.array(exact[order])}), counts


def hubs(loaded: Dataset, near: Nearest, shown: int = 20) -> dict[str, Any]:
    """How often rows are the nearest negative of another row, and which are so most often."""
    chosen = near.negative.slot[near.negative.slot[:, 0] >= 0, 0]
    uses = np.bincount(chosen, minlength=len(near.slot))
    deviation = uses - uses.mean()
    spread = float(np.sqrt((deviation**2).mean()))
    top = np.lexsort((loaded.rows.rank, -uses))[:shown].astype(np.int32)
    listed = pa.table(rows_table(loaded, top) | {"uses": pa.array(uses[top])}).to_pylist()
    return {
        "max": int(uses.max()), "skew": float((deviation**3).mean() / spread**3) if spread else 0.0,
        "never_used_rows": int((uses == 0).sum()), "top": [row for row in listed if row["uses"]],
    }  # fmt: skip
