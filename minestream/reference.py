"""The specification as float64 NumPy: slow, plain and right.

It imports nothing of ours and shares no code with the fast path, so that agreement between the two means
something. Sums run over coordinates 0..d-1 in a Python loop with one accumulator a candidate, never
through BLAS or a NumPy reduction; log, exp and log1p are scalar ``math`` calls. Memory is the stored rows and
O(n) beside them; one anchor costs O(n d) flops and one sort.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Mined", "mine"]

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

WORD = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
POSITIVES, NEGATIVES, ANCHORS, SHUFFLED = 1, 2, 3, 4  # tags of the draws
BLOCK_ROWS = 1024  # rows widened and transposed at a time: bounds memory, changes no value
HARDER_CAP = 1000
NAMES = {
    "metric": "cosine euclidean sqeuclidean dot",
    "band": "hard semi-hard violating easy any beyond",
    "pick": "nearest random weighted",
    "positives": "easiest hardest random all",
    "group_rule": "both negatives positives",
    "unlabeled": "ignore negative",
    "drop_duplicates_of": "both positive anchor",
    "emit": "triplets pairs tuples",
    "loss": "triplet triplet-soft contrastive",
    "short_rows": "keep drop",
    "scores": "similarity negative-distance none",
    "order": "anchor shuffled",
}


@dataclass(frozen=True)
class Mined:
    """The answer: output columns in their documented order, and the counts over the answer."""

    columns: dict[str, list[Any]]
    counts: dict[str, int]


@dataclass(frozen=True)
class Pair:
    """One (anchor, positive) with its negatives in the pick's order."""

    anchor: int
    positive: int
    p: float
    negatives: Rows
    x: Floats
    harder: list[int | None]

    def first(self, count: int) -> "Pair":
        """The same pair with its first `count` negatives."""
        cut = slice(0, count)
        return Pair(self.anchor, self.positive, self.p, self.negatives[cut], self.x[cut], self.harder[cut])


def fnv1a_64(text: str) -> int:
    """FNV-1a, 64 bits, of the UTF-8 bytes."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & WORD
    return value


def mix(z: Words) -> Words:
    """splitmix64's finaliser."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def draw(seed: int, tag: int, a: npt.ArrayLike, p: npt.ArrayLike, c: npt.ArrayLike) -> Words:
    """M(M(M(M(seed + tag G) + K(a) G) + K(p) G) + K(c)) mod 2^64; a, p, c hold K of the rows, or 0."""
    golden = np.uint64(GOLDEN)
    # NumPy warns of overflow on scalars only, hence arrays of one element.
    anchor, positive, candidate = (np.atleast_1d(np.asarray(k, dtype=np.uint64)) for k in (a, p, c))
    z = mix(np.array([(seed + tag * GOLDEN) & WORD], dtype=np.uint64))
    return mix(mix(mix(z + anchor * golden) + positive * golden) + candidate)


class Vectors:
    """Canonical distances between stored rows (float16/32/64 or int8, shape (n, d)), widened to float64."""

    def __init__(self, stored: npt.NDArray[Any], metric: str, normalize: bool, used: Rows) -> None:
        self.stored = stored
        self.metric = metric
        self.norms: Floats | None = None
        if normalize:
            self.norms = np.sqrt(self._squares(used))
        self.squares = self._squares(used) if metric == "cosine" else np.zeros(0)

    def _columns(self, rows: Rows) -> Floats:
        columns = self.stored[rows].T.astype(np.float64, order="C")
        if self.norms is not None:
            columns /= self.norms[rows]
        return columns

    def _squares(self, used: Rows) -> Floats:
        squares = np.zeros(len(self.stored))
        for start in range(0, len(used), BLOCK_ROWS):
            part = used[start : start + BLOCK_ROWS]
            total = np.zeros(len(part))
            for column in self._columns(part):
                total += column * column
            squares[part] = total
        return squares

    def distances(self, row: int, rows: Rows) -> Floats:
        """Distances x from `row` to each of `rows`."""
        origin = self._columns(np.array([row]))[:, 0]
        found = np.empty(len(rows))
        for start in range(0, len(rows), BLOCK_ROWS):
            part = rows[start : start + BLOCK_ROWS]
            total = np.zeros(len(part))
            for value, column in zip(origin, self._columns(part), strict=True):
                if self.metric in ("cosine", "dot"):
                    total += value * column
                else:
                    step = value - column
                    total += step * step
            if self.metric == "cosine":
                total = np.minimum(2.0, np.maximum(0.0, 1.0 - total / np.sqrt(self.squares[row] * self.squares[part])))
            elif self.metric == "dot":
                total = -total
            elif self.metric == "euclidean":
                total = np.sqrt(total)
            found[start : start + BLOCK_ROWS] = total
        return found

    def equal(self, row: int, rows: Rows) -> Mask:
        """Which of `rows` equal `row` element by element as stored (-0.0 = 0.0)."""
        left = np.arange(len(rows))
        for j in range(self.stored.shape[1]):
            if not len(left):
                break
            left = left[self.stored[rows[left], j] == self.stored[row, j]]
        mask = np.zeros(len(rows), dtype=bool)
        mask[left] = True
        return mask


class Relation:
    """Who is positive and negative to whom, by labels and groups; key order and K of every row."""

    def __init__(
        self,
        labels: Sequence[Any],
        ids: Sequence[int | str] | None,
        groups: Sequence[Any] | None,
        takes_part: Sequence[bool] | Mask | None,
        group_rule: str,
        unlabeled: str,
    ) -> None:
        n = len(labels)
        part = np.ones(n, dtype=bool) if takes_part is None else np.asarray(takes_part, dtype=bool)
        self.used: Rows = np.flatnonzero(part)
        self.labels = [self._values(label) if part[row] else () for row, label in enumerate(labels)]
        labelled = np.array([len(values) > 0 for values in self.labels], dtype=bool)
        self.labelled: Rows = np.flatnonzero(labelled)
        self.negative_able = part if unlabeled == "negative" else labelled
        self.bars_positives = group_rule in ("both", "positives")
        self.bars_negatives = group_rule in ("both", "negatives")
        codes: dict[Any, int] = {}
        values = [None] * n if groups is None else groups
        self.groups = np.array([-1 if g is None else codes.setdefault(g, len(codes)) for g in values], dtype=np.int64)
        members: dict[Any, list[int]] = {}
        for row in self.labelled.tolist():
            for value in self.labels[row]:
                members.setdefault(value, []).append(row)
        self.members = {value: np.array(rows, dtype=np.int64) for value, rows in members.items()}
        if ids is None:
            self.key: Rows = np.arange(n)
            self.words: Words = np.arange(n, dtype=np.uint64)
        else:
            self.key = np.empty(n, dtype=np.int64)
            # UTF-8 bytes sort strings; equal ids (rows that do not take part) fall back to the row.
            sortable = [i.encode() if isinstance(i, str) else int(i) for i in ids]
            self.key[sorted(range(n), key=sortable.__getitem__)] = np.arange(n)
            self.words = np.array([fnv1a_64(i) if isinstance(i, str) else int(i) & WORD for i in ids], dtype=np.uint64)

    @staticmethod
    def _values(label: Any) -> tuple[Any, ...]:
        several = isinstance(label, list | tuple | set | np.ndarray)
        return tuple(dict.fromkeys(v for v in (label if several else [label]) if v is not None))

    def partners(self, anchor: int) -> tuple[Rows, Rows]:
        """Positives and negatives of a row, each in row order."""
        positive = np.zeros(len(self.key), dtype=bool)
        for value in self.labels[anchor]:
            positive[self.members[value]] = True
        negative = self.negative_able & ~positive
        positive[anchor] = False
        if self.groups[anchor] >= 0:
            elsewhere = self.groups != self.groups[anchor]
            if self.bars_positives:
                positive &= elsewhere
            if self.bars_negatives:
                negative &= elsewhere
        return np.flatnonzero(positive), np.flatnonzero(negative)

    def with_positive(self) -> Rows:
        """Labelled rows with at least one positive, by counting: O(labels), no scan a row."""
        same_group: Counter[tuple[Any, int]] = Counter()
        for value, rows in self.members.items():
            same_group.update((value, group) for group in self.groups[rows].tolist())

        def has(row: int) -> bool:
            group = int(self.groups[row])
            barred = self.bars_positives and group >= 0
            return any(
                len(self.members[value]) > (same_group[value, group] if barred else 1) for value in self.labels[row]
            )

        return np.array([row for row in self.labelled.tolist() if has(row)], dtype=np.int64)

    def choose_anchors(self, rows: Rows, per_label: int | None, anchors: int | str | None, seed: int) -> Rows:
        """The anchors left by --anchors-per-label, then --anchors, in row order."""
        luck = draw(seed, ANCHORS, self.words[rows], 0, 0)
        rows = rows[np.lexsort((self.key[rows], luck))]
        if per_label is not None:
            taken: Counter[Any] = Counter()
            kept = []
            for row in rows.tolist():
                # In draw order a row is among its label's first N exactly when fewer than N came before it.
                if any(taken[value] < per_label for value in self.labels[row]):
                    kept.append(row)
                taken.update(self.labels[row])
            rows = np.array(kept, dtype=np.int64)
        if isinstance(anchors, str):  # exact: 0.07 * 100 is not 7 in binary
            rows = rows[: math.ceil(Fraction(anchors.strip().removesuffix("%")) * len(rows) / 100)]
        elif anchors is not None:
            rows = rows[:anchors]
        return np.sort(rows)


def weighted_keys(x: Floats, luck: Words, metric: str, d: int) -> Floats:
    """Keys of distance weighting (Wu 2017), smallest first: log(-log u) - log w; infinite from D = 1.4 on."""
    if metric == "cosine":
        D = np.sqrt(2.0 * x)
    elif metric == "dot":
        D = np.sqrt(np.maximum(0.0, 2.0 + 2.0 * x))
    else:
        D = np.sqrt(x) if metric == "sqeuclidean" else x
    keys = np.full(len(x), np.inf)
    for i, distance in enumerate(D.tolist()):
        if distance >= 1.4:
            continue
        clipped = max(distance, 0.5)
        log_weight = (2 - d) * math.log(clipped) - ((d - 3) / 2) * math.log(1 - clipped * clipped / 4)
        u = ((int(luck[i]) >> 11) + 0.5) / 2**53
        # The largest draw rounds u to 1, where log(-log u) is minus infinity and math.log raises.
        keys[i] = (math.log(-math.log(u)) if u < 1 else -math.inf) - log_weight
    return keys


def triplet_loss(p: float, x: float, margin: float, soft: bool) -> float:
    """max(0, (p + m) - x) in this order, or softplus(p - x + m) without overflow."""
    if not soft:
        return max(0.0, (p + margin) - x)
    z = p - x + margin
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def contrastive_loss(distance: float, margin: float, similar: bool) -> float:
    """D^2 for similar pairs, max(m - D, 0)^2 for dissimilar ones."""
    value = distance if similar else max(margin - distance, 0.0)
    return value * value


def in_band(x: Floats, p: float, margin: float | None, band: str) -> Mask:
    """Which distances lie in the band of a positive at distance p."""
    if band == "any":
        return np.ones(len(x), dtype=bool)
    if band == "hard":
        return x <= p
    if band == "beyond":
        return x > p
    assert margin is not None
    bound = p + margin
    if band == "easy":
        return x >= bound
    return x < bound if band == "violating" else (p < x) & (x < bound)


def as_column(values: list[float], float64: bool) -> list[Any]:
    """Float values as they are stored."""
    with np.errstate(over="ignore"):  # past float32's range the stored value is infinite
        return values if float64 else list(np.array(values, dtype=np.float64).astype(np.float32))


@dataclass(frozen=True)
class Losses:
    """The losses of a pair's triplets; the margin is not None."""

    margin: float
    soft: bool
    swap: bool
    vectors: Vectors

    def of(self, pair: Pair) -> list[float]:
        """One loss a negative; swapped, the nearer of anchor and positive counts."""
        x = pair.x
        if self.swap:
            x = np.minimum(x, self.vectors.distances(pair.positive, pair.negatives))
        return [triplet_loss(pair.p, value, self.margin, self.soft) for value in x.tolist()]


def triplet_columns(
    pairs: list[Pair], losses: Losses | None, swapped: Vectors | None, labels: Sequence[Any], float64: bool
) -> dict[str, list[Any]]:
    """One row a negative; `swapped` adds distance_pn."""
    repeated = [pair for pair in pairs for _ in pair.harder]
    negatives = [row for pair in pairs for row in pair.negatives.tolist()]
    columns: dict[str, list[Any]] = {
        "anchor_row": [pair.anchor for pair in repeated],
        "positive_row": [pair.positive for pair in repeated],
        "negative_row": negatives,
        "distance_ap": as_column([pair.p for pair in repeated], float64),
        "distance_an": as_column([x for pair in pairs for x in pair.x.tolist()], float64),
    }
    if swapped is not None:
        found = [swapped.distances(pair.positive, pair.negatives).tolist() for pair in pairs]
        columns["distance_pn"] = as_column([x for row in found for x in row], float64)
    if losses is not None:
        columns["loss"] = as_column([value for pair in pairs for value in losses.of(pair)], float64)
    columns["harder"] = [place for pair in pairs for place in pair.harder]
    columns["anchor_label"] = [labels[pair.anchor] for pair in repeated]
    columns["negative_label"] = [labels[row] for row in negatives]
    return columns


def tuple_columns(
    pairs: list[Pair], losses: Losses | None, scores: str, metric: str, float64: bool
) -> dict[str, list[Any]]:
    """One row a pair; in the scores the positive comes first."""
    columns: dict[str, list[Any]] = {}
    if scores != "none":
        cosine = scores == "similarity" and metric == "cosine"
        signed = [[1.0 - x if cosine else -x for x in (pair.p, *pair.x.tolist())] for pair in pairs]
        columns["scores"] = [as_column(row, float64) for row in signed]
    if losses is not None:
        columns["losses"] = [as_column(losses.of(pair), float64) for pair in pairs]
    columns["anchor_row"] = [pair.anchor for pair in pairs]
    columns["positive_row"] = [pair.positive for pair in pairs]
    columns["negative_rows"] = [pair.negatives.tolist() for pair in pairs]
    return columns


def pair_columns(
    joined: dict[tuple[int, int], tuple[int, float]], margin: float | None, float64: bool
) -> dict[str, list[Any]]:
    """One row an unordered pair, from (left, right) -> (y, distance)."""
    found = [(left, right, y, distance) for (left, right), (y, distance) in sorted(joined.items())]
    columns: dict[str, list[Any]] = {
        "left_row": [left for left, _, _, _ in found],
        "right_row": [right for _, right, _, _ in found],
        "label": [y for _, _, y, _ in found],
        "distance": as_column([distance for _, _, _, distance in found], float64),
    }
    if margin is not None:
        values = [contrastive_loss(distance, margin, y == 1) for _, _, y, distance in found]
        columns["loss"] = as_column(values, float64)
    return columns


def with_ids(columns: dict[str, list[Any]], ids: Sequence[Any]) -> dict[str, list[Any]]:
    """The id columns first, one for each column of rows."""
    named: dict[str, list[Any]] = {}
    for name, rows in columns.items():
        if "_row" in name:
            named[name.replace("_row", "_id")] = [
                [ids[r] for r in row] if isinstance(row, list) else ids[row] for row in rows
            ]
    return named | columns


def shuffled(columns: dict[str, list[Any]], relation: Relation, seed: int) -> dict[str, list[Any]]:
    """The rows by draw 4 of (anchor, positive, negative); 0 for a tuple's negatives, a pair's middle."""
    if "left_row" in columns:
        names: tuple[str | None, ...] = ("left_row", None, "right_row")
    else:
        names = ("anchor_row", "positive_row", "negative_row" if "negative_row" in columns else None)
    rows = [None if name is None else np.array(columns[name], dtype=np.int64) for name in names]
    a, p, c = (0 if part is None else relation.words[part] for part in rows)
    keys = [relation.key[part] for part in rows if part is not None]
    places = np.lexsort((*reversed(keys), draw(seed, SHUFFLED, a, p, c))).tolist()
    return {name: [values[place] for place in places] for name, values in columns.items()}


def refuse(given: dict[str, Any], d: int) -> None:
    """Raise ValueError for a name that does not exist, or rules that have no answer together."""
    for name, valid in NAMES.items():
        if given[name] is not None and given[name] not in valid.split():
            raise ValueError(f"{name}={given[name]!r}: expected one of {valid}")
    metric, band, scores, k = given["metric"], given["band"], given["scores"], given["negatives"]
    pairs = given["emit"] == "pairs"
    plain = (band, given["pick"], given["skip"], given["swap"], given["short_rows"])
    wrong = {
        "this band needs a margin": given["margin"] is None and band in ("semi-hard", "violating", "easy"),
        "pairs: cosine or euclidean only": pairs and metric in ("dot", "sqeuclidean"),
        "pairs: band violating or any, pick nearest, no skip, swap or short_rows": pairs
        and plain not in [(usual, "nearest", 0, False, None) for usual in ("violating", "any")],
        "contrastive: for pairs, and their only loss": given["loss"] and (given["loss"] == "contrastive") != pairs,
        "negatives_per_anchor: triplets only": given["negatives_per_anchor"] and given["emit"] != "triplets",
        "negatives: at least 1, or 0 with pairs": k < (0 if pairs else 1),
        "weighted needs d >= 3": given["pick"] == "weighted" and d < 3,
        "dot has no duplicates within T > 0": metric == "dot" and (given["drop_duplicates_within"] or 0) > 0,
        "scores must be chosen for Euclidean tuples": given["emit"] == "tuples"
        and metric in ("euclidean", "sqeuclidean")
        and scores in (None, "similarity"),
    }
    for reason, applies in wrong.items():
        if applies:
            raise ValueError(reason)


def mine(
    embeddings: npt.NDArray[Any],
    *,
    labels: Sequence[Any],
    ids: Sequence[int | str] | None = None,
    groups: Sequence[Any] | None = None,
    takes_part: Sequence[bool] | Mask | None = None,
    metric: str = "cosine",
    normalize: bool = False,
    margin: float | None = None,
    band: str = "semi-hard",
    negatives: int = 1,
    pick: str = "nearest",
    skip: int = 0,
    positives: str = "easiest",
    positives_per_anchor: int = 1,
    anchors: int | str | None = None,
    anchors_per_label: int | None = None,
    negatives_per_anchor: int | None = None,
    group_rule: str = "both",
    unlabeled: str = "ignore",
    keep_duplicate_positives: bool = False,
    drop_duplicates_within: float | None = 0.0,
    drop_duplicates_of: str = "both",
    emit: str = "triplets",
    loss: str | None = None,
    swap: bool = False,
    short_rows: str | None = None,
    scores: str | None = None,
    order: str = "anchor",
    float64: bool = False,
    seed: int = 0,
    only_anchors: Iterable[int] | None = None,
) -> Mined:
    """Mine by brute force over canonical distances.

    Parameters
    ----------
    embeddings : ndarray, shape (n, d), float16, float32, float64 or int8
        Rows as stored; those that take part are finite and not bad rows.
    labels : sequence of n int, str, bool, None, or lists of these
        None and empty lists are unlabelled; None inside a list is ignored.
    ids, groups : sequence of n, optional
        Without ids the row number is the key; a None group is no group.
    takes_part : n bools, optional
        False rows are nobody's anchor, positive or negative; row numbers still count them.
    margin : float, optional
        In units of the distance; None leaves the loss out. No default is resolved here.
    anchors : int or "P%", optional
        At most that many anchors, after `anchors_per_label`.
    drop_duplicates_within : float or None
        T; None neither removes negatives nor passes over positives.
    only_anchors : iterable of int, optional
        Derive these anchors only, of those that the anchor rules select from the whole.

    Returns
    -------
    Mined
        Float columns hold float32 values, or Python floats with `float64`.

    Raises
    ------
    ValueError
        An unknown name, or rules that cannot be combined.

    Notes
    -----
    O(a n d) flops for a anchors; memory O(n) beside the stored rows.
    """
    given = dict(locals())
    n, d = embeddings.shape
    refuse(given, d)
    relation = Relation(labels, ids, groups, takes_part, group_rule, unlabeled)
    vectors = Vectors(embeddings, metric, normalize, relation.used)
    key, words = relation.key, relation.words
    within = drop_duplicates_within

    def duplicates(row: int, rows: Rows, known: Floats | None = None) -> Mask:
        """Which of `rows` are duplicates of `row`; `known` saves computing their distances again."""
        if within is None:
            return np.zeros(len(rows), dtype=bool)
        if within == 0:
            return vectors.equal(row, rows)
        return (vectors.distances(row, rows) if known is None else known) <= within

    def choose_positives(anchor: int, rows: Rows) -> tuple[list[int], list[float]]:
        p = vectors.distances(anchor, rows)
        passed_over = np.zeros(len(rows), dtype=bool)
        if positives in ("easiest", "random") and not keep_duplicate_positives:
            passed_over = duplicates(anchor, rows, p)
        if positives == "easiest":
            chosen = np.lexsort((key[rows], p, passed_over))
        elif positives == "random":
            chosen = np.lexsort((key[rows], draw(seed, POSITIVES, words[anchor], 0, words[rows]), passed_over))
        elif positives == "hardest":
            chosen = np.lexsort((key[rows], -p))
        else:
            chosen = np.argsort(key[rows])
        if positives != "all":
            chosen = chosen[:positives_per_anchor]
        return rows[chosen].tolist(), p[chosen].tolist()

    def nearest_first(anchor: int, rows: Rows) -> tuple[Rows, Floats]:
        """Negatives in (x, key) order, without the anchor's duplicates."""
        x = vectors.distances(anchor, rows)
        if drop_duplicates_of != "positive":
            kept = ~duplicates(anchor, rows, x)
            rows, x = rows[kept], x[kept]
        nearest = np.lexsort((key[rows], x))
        return rows[nearest], x[nearest]

    def choose_negatives(anchor: int, positive: int, p: float, rows: Rows, x: Floats) -> Pair:
        if drop_duplicates_of != "anchor":
            kept = ~duplicates(positive, rows)
            rows, x = rows[kept], x[kept]
        eligible = np.flatnonzero(in_band(x, p, margin, band))[skip:]
        if pick != "nearest" and len(eligible):
            luck = draw(seed, NEGATIVES, words[anchor], words[positive], words[rows[eligible]])
            sort_by: Floats | Words = luck
            if pick == "weighted":
                sort_by = weighted_keys(x[eligible], luck, metric, d)
                possible = sort_by < np.inf
                eligible, sort_by = eligible[possible], sort_by[possible]
            eligible = eligible[np.lexsort((key[rows[eligible]], sort_by))]
        eligible = eligible[:negatives]
        counted = pick == "nearest" and (
            band in ("any", "hard", "violating") or (band == "semi-hard" and positives == "easiest")
        )
        harder = [min(place, HARDER_CAP) if counted else None for place in eligible.tolist()]
        return Pair(anchor, positive, p, rows[eligible], x[eligible], harder)

    # A pair's row may stand alone with its label: it still has dissimilar partners.
    candidates = relation.labelled if emit == "pairs" else relation.with_positive()
    selected = relation.choose_anchors(candidates, anchors_per_label, anchors, seed)
    if only_anchors is not None:
        selected = selected[np.isin(selected, np.array(list(only_anchors), dtype=np.int64))]
    counts = dict.fromkeys(("anchors", "pairs", "rows", "full", "short", "empty"), 0)
    counts["anchors"] = len(selected)
    drops_short = (short_rows or ("drop" if emit == "tuples" else "keep")) == "drop"
    pairs: list[Pair] = []
    joined: dict[tuple[int, int], tuple[int, float]] = {}
    for anchor in selected.tolist():
        positive_rows, negative_rows = relation.partners(anchor)
        chosen, distances = choose_positives(anchor, positive_rows)
        rows, x = nearest_first(anchor, negative_rows)
        if emit == "pairs":
            inside = in_band(x, 0.0, margin, band)  # violating: D < m, whatever the positives
            rows, x = rows[inside], x[inside]
            rows, x = (rows, x) if negatives == 0 else (rows[:negatives], x[:negatives])
            counts["full" if len(rows) >= negatives else "short" if len(rows) else "empty"] += 1
            ends = [(row, 1, p) for row, p in zip(chosen, distances, strict=True)]
            ends += [(row, 0, distance) for row, distance in zip(rows.tolist(), x.tolist(), strict=True)]
            joined.update({(min(anchor, row), max(anchor, row)): (y, distance) for row, y, distance in ends})
            continue
        found = [choose_negatives(anchor, row, p, rows, x) for row, p in zip(chosen, distances, strict=True)]
        for pair in found:
            size = len(pair.negatives)
            counts["full" if size == negatives else "short" if size else "empty"] += 1
        found = [pair for pair in found if len(pair.negatives) >= (negatives if drops_short else 1)]
        if negatives_per_anchor is not None:
            # Round by round: every positive's first negative, then every positive's second.
            rounds = sorted((place, i) for i, pair in enumerate(found) for place in range(len(pair.negatives)))
            quota = Counter(i for _, i in rounds[:negatives_per_anchor])
            found = [pair.first(quota[i]) for i, pair in enumerate(found) if quota[i]]
        pairs.extend(found)
    losses = None if margin is None else Losses(margin, loss == "triplet-soft", swap, vectors)
    if emit == "pairs":
        columns = pair_columns(joined, margin, float64)
    elif emit == "tuples":
        columns = tuple_columns(pairs, losses, scores or "similarity", metric, float64)
    else:
        columns = triplet_columns(pairs, losses, vectors if swap else None, labels, float64)
    if ids is not None:
        columns = with_ids(columns, ids)
    counts["rows"] = len(next(iter(columns.values())))
    counts["pairs"] = counts["rows"] if emit == "pairs" else counts["full"] + counts["short"] + counts["empty"]
    if order == "shuffled":
        columns = shuffled(columns, relation, seed)
    return Mined(columns, counts)
