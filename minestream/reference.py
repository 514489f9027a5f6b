"""The contract (guide/semantics.md) as float64 NumPy: slow, plain and right.

It imports nothing of ours and shares no code with the fast path, so that agreement between the two means
something. Sums run over coordinates 0..d-1 in a Python loop with one accumulator a candidate, never
through BLAS or a NumPy reduction; log, exp and log1p are scalar ``math`` calls. Memory is the stored rows and
O(n) beside them; one anchor costs O(n d) flops and one sort.

Anchors are rows of the query table, candidates (positives and negatives) rows of the corpus. Of one table both are
the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
WORD = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
POSITIVES, NEGATIVES, ANCHORS, SHUFFLED, USES = 1, 2, 3, 4, 5  # tags of the draws
BLOCK_ROWS = 1024  # rows widened and transposed at a time: bounds memory, changes no value
HARDER_CAP = 1000
NO_ROWS: Rows = np.zeros(0, dtype=np.int64)
Levels = Mapping[str, Sequence[Any]]
NAMES = {
    "metric": "cosine euclidean sqeuclidean dot",
    "band": "hard semi-hard violating easy any beyond",
    "pick": "nearest random weighted simans",
    "positives": "easiest hardest random all",
    "group_rule": "both negatives positives",
    "unlabeled": "ignore negative",
    "drop_duplicates_of": "both positive anchor",
    "emit": "triplets pairs tuples lists",
    "list_precision": "float64 float32 float16",
    "loss": "triplet triplet-soft contrastive",
    "short_rows": "keep drop",
    "scores": "similarity negative-distance none",
    "order": "anchor shuffled",
    "reference": "pair min max mean",
    "fallback": "none farthest",
    "teachers": "union all majority",
    "candidates_as": "only too",
}
NEAREST = 256  # candidates of longer lists stand in columns of their own, too
LIMITS = ("max_similarity", "min_similarity", "absolute_margin", "relative_margin")
CAPS = ("max_per_negative_label", "max_uses")
DEALS = (*CAPS, "negatives_per_anchor")  # what leaves out negatives that the band and the pick would take
OF_CORPUS = ("corpus_labels", "corpus_ids", "corpus_groups", "corpus_takes_part", "corpus_guide", "corpus_levels")


@dataclass(frozen=True)
class Mined:
    """The answer: output columns in their documented order, the counts over the answer, and every row mined for."""

    columns: dict[str, list[Any]]
    counts: dict[str, int]
    anchors: Rows


@dataclass(frozen=True)
class Pair:
    """One (anchor, positive) with its negatives in the pick's order."""

    anchor: int
    positive: int
    p: float
    negatives: Rows
    x: Floats
    harder: list[int | None]
    rank: int

    def only(self, places: Sequence[int]) -> Pair:
        """The same pair with the negatives at these places."""
        kept = np.array(places, dtype=np.int64)
        harder = [self.harder[place] for place in places]
        return Pair(self.anchor, self.positive, self.p, self.negatives[kept], self.x[kept], harder, self.rank)


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
        self.largest = self._largest(used) if metric == "cosine" else None

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

    def _largest(self, used: Rows) -> Floats:
        """The largest coordinate of every row, without its sign."""
        found = np.ones(len(self.stored))
        for start in range(0, len(used), BLOCK_ROWS):
            part = used[start : start + BLOCK_ROWS]
            found[part] = np.abs(self._columns(part)).max(axis=0)
        return found

    def _judged(self, rows: Rows, j: int) -> Floats:
        """Coordinate j of what is compared: rows after `normalize`; under cosine, of no length, over their largest."""
        column: Floats = self.stored[rows, j].astype(np.float64)
        if self.norms is not None:
            column = column / self.norms[rows]
        return column if self.largest is None else column / self.largest[rows]

    def distances(self, row: int, rows: Rows, home: Vectors | None = None) -> Floats:
        """Distances x from `row`, of the table `home` if given, to each of `rows` of this one."""
        home = home or self
        origin = home._columns(np.array([row]))[:, 0]
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
                total = np.minimum(2.0, np.maximum(0.0, 1.0 - total / np.sqrt(home.squares[row] * self.squares[part])))
            elif self.metric == "dot":
                total = -total
            elif self.metric == "euclidean":
                total = np.sqrt(total)
            found[start : start + BLOCK_ROWS] = total
        return found

    def equal(self, row: int, rows: Rows, home: Vectors | None = None) -> Mask:
        """Which of `rows` equal `row`, of the table `home` if given, element by element (-0.0 = 0.0) as compared.

        Under cosine that is the same direction: of exact multiples the quotients by the largest coordinate are equal.
        """
        left = np.arange(len(rows))
        for j in range(self.stored.shape[1]):
            if not len(left):
                break
            left = left[self._judged(rows[left], j) == (home or self)._judged(np.array([row]), j)]
        mask = np.zeros(len(rows), dtype=bool)
        mask[left] = True
        return mask


def standing(ids: Sequence[int | str], versions: Sequence[Any] | None = None, which: str = "last") -> Mask:
    """Which rows stand for their id: of the rows that share one, the `last` or the `first`.

    It is asked once, over all rows of a table, before anything else is: bad rows, rows without a label and rows that
    a condition or an exclusion leaves out have their say, so that an item is never an older version of itself.

    Parameters
    ----------
    ids : sequence of n
    versions : sequence of n, optional
        The newest counts, of equal ones the later row; None and NaN are older than any other.
    which : str
        "last" or "first".
    """
    order = list(range(len(ids)))
    if versions is not None:
        unknown = [version is None or version != version for version in versions]
        known = [row for row in order if not unknown[row]]
        order = [row for row in order if unknown[row]] + sorted(known, key=lambda row: versions[row])
    mask = np.zeros(len(ids), dtype=bool)
    mask[list({ids[row]: row for row in (order if which == "last" else reversed(order))}.values())] = True
    return mask


class Table:
    """The rows of one table: who takes part, labels, groups, key order and K."""

    def __init__(
        self,
        count: int,
        labels: Sequence[Any] | None,
        ids: Sequence[int | str] | None,
        groups: Sequence[Any] | None,
        takes_part: Sequence[bool] | Mask | None,
        group_codes: dict[Any, int],
        levels: Levels | None,
    ) -> None:
        self.part: Mask = np.ones(count, dtype=bool) if takes_part is None else np.asarray(takes_part, dtype=bool)
        self.used: Rows = np.flatnonzero(self.part)
        self.given_labels = labels
        given = [None] * count if labels is None else labels
        self.labels = [self._values(label) if self.part[row] else () for row, label in enumerate(given)]
        self.labelled = np.array([len(values) > 0 for values in self.labels], dtype=bool)
        self.levels: Levels = levels or {}
        if levels:  # a label is its whole path, in which a null is a value like any other
            self.labels = [
                tuple((*path, leaf) for leaf in leaves)
                for path, leaves in zip(zip(*levels.values(), strict=True), self.labels, strict=True)
            ]
        self.groups: Rows = np.full(count, -1)
        if groups is not None:  # codes are shared by the tables: equal groups, equal codes
            codes = [-1 if g is None else group_codes.setdefault(g, len(group_codes)) for g in groups]
            self.groups = np.array(codes, dtype=np.int64)
        self.ids = ids
        if ids is None:
            self.key: Rows = np.arange(count)
            self.words: Words = np.arange(count, dtype=np.uint64)
        else:
            self.key = np.empty(count, dtype=np.int64)
            # UTF-8 bytes sort strings; equal ids (rows that do not take part) fall back to the row.
            sortable = [i.encode() if isinstance(i, str) else int(i) for i in ids]
            self.key[sorted(range(count), key=sortable.__getitem__)] = np.arange(count)
            self.words = np.array([fnv1a_64(i) if isinstance(i, str) else int(i) & WORD for i in ids], dtype=np.uint64)

    @staticmethod
    def _values(label: Any) -> tuple[Any, ...]:
        several = isinstance(label, list | tuple | set | np.ndarray)
        return tuple(dict.fromkeys(v for v in (label if several else [label]) if v is not None))

    def path(self, row: int, level: str) -> tuple[Any, ...] | None:
        """The values of a row down to a coarser level; None where one of them is null: what it shares is unknown."""
        names = list(self.levels)
        found = tuple(self.levels[name][row] for name in names[: names.index(level) + 1])
        return None if None in found else found

    def rows_by(self, values: Iterable[Iterable[Any]]) -> dict[Any, Rows]:
        """The rows that take part by each of their values."""
        found: dict[Any, list[int]] = {}
        for row, several in enumerate(values):
            for value in several if self.part[row] else ():
                found.setdefault(value, []).append(row)
        return {value: np.array(rows, dtype=np.int64) for value, rows in found.items()}


class Relation:
    """Who is positive and negative to whom, by labels, known positives, exclusions, ids and groups."""

    def __init__(
        self,
        queries: Table,
        corpus: Table,
        known_positives: Iterable[tuple[int, int]] | None,
        excluded: Iterable[tuple[int, int]] | None,
        shared_ids: bool,
        group_rule: str,
        unlabeled: str,
        window: int | None,
    ) -> None:
        self.queries, self.corpus, self.window = queries, corpus, window
        self.one_table = queries is corpus
        self.by_pairs = known_positives is not None
        self.listed = self._by_anchor(() if known_positives is None else known_positives)
        self.excluded = self._by_anchor(() if excluded is None else excluded)
        # Known positives without labels: every candidate that is none may be a negative. With labels `unlabeled` rules.
        every = unlabeled == "negative" or (self.by_pairs and corpus.given_labels is None)
        self.negative_able = corpus.part if every else corpus.labelled
        self.bars_positives = group_rule in ("both", "positives")
        self.bars_negatives = group_rule in ("both", "negatives")
        self.members = corpus.rows_by(corpus.labels)
        self.items: dict[Any, Rows] = {}  # corpus rows by the id that makes them a query's own item
        if not self.one_table and (shared_ids or not self.by_pairs) and corpus.ids is not None:
            self.items = corpus.rows_by([i] for i in corpus.ids)
        self.negatives_at: str | None = None  # the coarser level that negatives share
        self.below: dict[Any, Rows] = {}  # corpus rows by their paths down to it
        self.until: Rows = np.full(len(corpus.key), len(corpus.key))  # a window: the next row of the same id
        if window and corpus.ids is not None:
            later: dict[Any, int] = {}
            for row in reversed(range(len(corpus.key))):  # a later row replaces, whether it takes part or not
                self.until[row] = later.get(corpus.ids[row], self.until[row])
                later[corpus.ids[row]] = row

    def share(self, level: str) -> None:
        """Let negatives be those alone that share the path down to a coarser level."""
        self.negatives_at = level
        self.below = self.corpus.rows_by([self.corpus.path(row, level)] for row in range(len(self.corpus.key)))
        self.below.pop(None, None)

    def shared_level(self, anchor: int, candidate: int) -> str | None:
        """The finest coarser level that two rows share."""
        found = None
        for level in self.queries.levels:
            path = self.queries.path(anchor, level)
            found = level if path is not None and path == self.corpus.path(candidate, level) else found
        return found

    def _by_anchor(self, pairs: Iterable[tuple[int, int]]) -> dict[int, set[int]]:
        """The candidates of each anchor in `pairs`, both taking part; of one table pairs are unordered, of two rows."""
        found: dict[int, set[int]] = {}
        for one, other in pairs:
            if self.queries.part[one] and self.corpus.part[other] and not (self.one_table and one == other):
                found.setdefault(int(one), set()).add(int(other))
                if self.one_table:
                    found.setdefault(int(other), set()).add(int(one))
        return found

    def neither(self, anchor: int) -> set[int]:
        """Candidates that are neither positive nor negative, groups aside: the row itself, excluded rows, its item."""
        found = set(self.excluded.get(anchor, ()))
        if self.one_table:
            found.add(anchor)
        elif self.queries.ids is not None:
            found.update(self.items.get(self.queries.ids[anchor], NO_ROWS).tolist())
        return found

    def partners(self, anchor: int) -> tuple[Rows, Rows]:
        """The positives and the negatives of a row, each in row order."""
        positive = np.zeros(len(self.corpus.key), dtype=bool)
        for value in self.queries.labels[anchor]:
            positive[self.members.get(value, NO_ROWS)] = True
        listed = list(self.listed.get(anchor, ()))
        negative = self.negative_able & ~positive
        negative[listed] = False
        if self.negatives_at is not None:
            kept = self.below.get(self.queries.path(anchor, self.negatives_at), NO_ROWS)
            negative &= np.isin(np.arange(len(negative)), kept)
        neither = list(self.neither(anchor))
        if self.queries.groups[anchor] >= 0:
            elsewhere = self.corpus.groups != self.queries.groups[anchor]
            if self.bars_positives:
                positive &= elsewhere
            if self.bars_negatives:
                negative &= elsewhere
        positive[listed] = True  # groups do not apply to listed pairs
        positive[neither] = negative[neither] = False
        if self.window:
            away = (self.until <= anchor) | (np.arange(len(positive)) < anchor - self.window)
            away[anchor:] = True
            positive, negative = positive & ~away, negative & ~away
        return np.flatnonzero(positive), np.flatnonzero(negative)

    def with_positive(self) -> Rows:
        """The rows with at least one positive, by counting labels and pairs; with a window by looking at every row."""
        if self.window:
            return np.array([row for row in self.queries.used.tolist() if len(self.partners(row)[0])], dtype=np.int64)
        same_group: Counter[tuple[Any, int]] = Counter()
        for value, rows in self.members.items():
            same_group.update((value, group) for group in self.corpus.groups[rows].tolist())

        def has(row: int) -> bool:
            group = int(self.queries.groups[row])
            barred = self.bars_positives and group >= 0
            neither = self.neither(row)

            uncounted = [other for other in neither if not barred or self.corpus.groups[other] != group]

            def count(value: Any) -> int:
                found = len(self.members.get(value, NO_ROWS)) - (same_group[value, group] if barred else 0)
                return found - sum(value in self.corpus.labels[other] for other in uncounted)

            listed = self.listed.get(row, set()) - neither
            return bool(listed) or any(count(value) > 0 for value in self.queries.labels[row])

        return np.array([row for row in self.queries.used.tolist() if has(row)], dtype=np.int64)

    def pair_ends(self) -> Rows:
        """The anchors of --emit pairs: rows with a label or a listed positive, even if no row is similar."""
        if self.by_pairs and self.queries.given_labels is None:
            return self.queries.used
        return np.array(
            [row for row in self.queries.used.tolist() if self.queries.labels[row] or row in self.listed],
            dtype=np.int64,
        )

    def choose_anchors(self, rows: Rows, per_label: int | None, anchors: int | str | None, seed: int) -> Rows:
        """The anchors that --anchors-per-label and then --anchors leave, in row order."""
        draws = draw(seed, ANCHORS, self.queries.words[rows], 0, 0)
        rows = rows[np.lexsort((self.queries.key[rows], draws))]
        if per_label is not None:
            taken: Counter[Any] = Counter()
            kept = []
            for row in rows.tolist():
                # A row with several labels counts for each of them; one without labels counts for none.
                values = self.queries.labels[row]
                if all(taken[value] < per_label for value in values):
                    kept.append(row)
                    taken.update(values)
            rows = np.array(kept, dtype=np.int64)
        if isinstance(anchors, str):  # exact: 0.07 * 100 is not 7 in binary
            rows = rows[: math.ceil(Fraction(anchors.strip().removesuffix("%")) * len(rows) / 100)]
        elif anchors is not None:
            rows = rows[:anchors]
        return np.sort(rows)


def weighted_keys(x: Floats, draws: Words, metric: str, d: int) -> Floats:
    """Keys of distance weighting (Wu 2017); the smallest are picked: log(-log u) - log w, infinite where D >= 1.4."""
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
        keys[i] = log_draw(int(draws[i])) - log_weight
    return keys


def log_draw(drawn: int) -> float:
    """log(-log u); the largest draw rounds u to 1, where that is minus infinity and math.log raises."""
    u = ((drawn >> 11) + 0.5) / 2**53
    return math.log(-math.log(u)) if u < 1 else -math.inf


@dataclass(frozen=True)
class Ambiguous:
    """The weights of SimANS (arXiv 2210.11773): exp(-a (s - s_positive - b)^2)."""

    a: float
    b: float
    metric: str

    def log_weights(self, p: float, x: Floats) -> list[float]:
        """Their logarithms, for negatives at distances x from the anchor of a positive at p."""
        gaps = [(s - similarity(np.array([p]), self.metric)[0]) - self.b for s in similarity(x, self.metric).tolist()]
        return [-(self.a * (gap * gap)) for gap in gaps]

    def of(self, pair: Pair) -> list[float]:
        """The weights of a pair's negatives."""
        return [math.exp(weight) for weight in self.log_weights(pair.p, pair.x)]


def triplet_loss(p: float, x: float, margin: float, soft: bool) -> float:
    """max(0, (p + m) - x), added in this order; with soft margins softplus(p - x + m), without overflow."""
    if not soft:
        return max(0.0, (p + margin) - x)
    z = p - x + margin
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def contrastive_loss(distance: float, margin: float, similar: bool) -> float:
    """D^2 for similar pairs, max(m - D, 0)^2 for dissimilar ones."""
    value = distance if similar else max(margin - distance, 0.0)
    return value * value


def in_band(x: Floats, p: float, margin: float | None, band: str) -> Mask:
    """Whether each distance lies in the band of a positive at distance p."""
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


def similarity(x: Floats, metric: str) -> Floats:
    """1 - x for cosine, -x for dot."""
    return 1.0 - x if metric == "cosine" else -x


@dataclass(frozen=True)
class Near:
    """An anchor's positives, in row order, and negatives, by (distance, key).

    p and x hold the distances of positives and of negatives by the embedding, then by the guide if there is one.
    ranks: of each positive 1 and how many negatives are nearer.
    """

    anchor: int
    positives: Rows
    negatives: Rows
    p: list[Floats]
    x: list[Floats]
    ranks: Rows


@dataclass(frozen=True)
class Filters:
    """The filters on similarities of negatives; None: no such filter."""

    most: float | None
    least: float | None
    absolute: float | None
    relative: float | None
    reference: str
    metric: str

    def measured_from(self, p: Floats, i: int) -> float:
        """The similarity that margins of the i-th positive are measured from; p: distances of all positives."""
        found: list[float] = similarity(p, self.metric).tolist()
        if self.reference == "min":
            return min(found)
        if self.reference == "max":
            return max(found)
        return math.fsum(found) / len(found) if self.reference == "mean" else found[i]

    def passing(self, near: Near, i: int) -> Mask:
        """Whether each negative passes for the i-th positive: by the embedding, and by the guide if there is one."""
        kept = np.ones(len(near.negatives), dtype=bool)
        for p, x in zip(near.p, near.x, strict=True):
            s, s_ref = similarity(x, self.metric), self.measured_from(p, i)
            if self.most is not None:
                kept &= s <= self.most
            if self.least is not None:
                kept &= s >= self.least
            if self.absolute is not None:
                kept &= s <= s_ref - self.absolute
            if self.relative is not None:
                kept &= s <= s_ref - abs(s_ref) * self.relative
        return kept


def under_label_cap(places: Rows, labels: list[tuple[Any, ...]], most: int) -> Rows:
    """The first negatives, in their order, of which no label in `labels` occurs more than `most` times."""
    kept: Counter[Any] = Counter()
    chosen = []
    for place, values in zip(places.tolist(), labels, strict=True):
        if all(kept[value] < most for value in values):
            chosen.append(place)
            kept.update(values)
    return np.array(chosen, dtype=np.int64)


def limit_uses(pairs: list[Pair], k: int, most: int, relation: Relation, seed: int) -> list[Pair]:
    """Pairs in the order of draw 5; each takes its first k negatives that fewer than `most` pairs have taken."""
    a = np.array([pair.anchor for pair in pairs], dtype=np.int64)
    p = np.array([pair.positive for pair in pairs], dtype=np.int64)
    draws = draw(seed, USES, relation.queries.words[a], relation.corpus.words[p], 0)
    limited = list(pairs)
    uses: Counter[int] = Counter()
    for i in np.lexsort((relation.corpus.key[p], relation.queries.key[a], draws)).tolist():
        free = [place for place, row in enumerate(pairs[i].negatives.tolist()) if uses[row] < most]
        limited[i] = pairs[i].only(free[:k])
        uses.update(limited[i].negatives.tolist())
    return limited


def counted_sizes(pairs: list[Pair], k: int, most: int | None) -> list[int]:
    """How many negatives each pair counts with: at least k if it has one and its anchor has `most` over all pairs."""
    found: Counter[int] = Counter()
    for pair in pairs:
        found[pair.anchor] += len(pair.negatives)
    full = {anchor for anchor, size in found.items() if most is not None and size >= most}
    return [max(len(each.negatives), k * (each.anchor in full and len(each.negatives) > 0)) for each in pairs]


def limit_per_anchor(pairs: list[Pair], most: int) -> list[Pair]:
    """The pairs of one anchor with at most `most` negatives: first every positive's first, then every second."""
    rounds = sorted((place, i) for i, pair in enumerate(pairs) for place in range(len(pair.negatives)))
    quota = Counter(i for _, i in rounds[:most])
    return [pair.only(range(quota[i])) for i, pair in enumerate(pairs) if quota[i]]


def multi_similarity(p: Floats, x: Floats, epsilon: float) -> tuple[Mask, Mask]:
    """Multi-similarity (Wang 2019), for the positives and negatives of an anchor at cosine distances p and x.

    Which positives are hardly nearer than the nearest negative, and which negatives hardly farther than the farthest
    positive.
    """
    s_p, s_n = similarity(p, "cosine"), similarity(x, "cosine")
    nearest, farthest = max(s_n.tolist(), default=-math.inf), min(s_p.tolist(), default=math.inf)
    return s_p - epsilon < nearest, s_n + epsilon > farthest


def as_column(values: list[float], float64: bool) -> list[Any]:
    """Float values as they are stored: float64, or rounded to float32."""
    with np.errstate(over="ignore"):  # beyond the range of float32 the stored value is infinite
        return values if float64 else list(np.array(values, dtype=np.float64).astype(np.float32))


def ranked(candidates: Iterable[tuple[int, int]] | None) -> dict[int, list[int]]:
    """The candidates of each anchor, each once, in their order."""
    found: dict[int, dict[int, None]] = {}
    for anchor, row in candidates or ():
        found.setdefault(anchor, {})[row] = None
    return {anchor: list(rows) for anchor, rows in found.items()}


def agreed(found: list[Rows], teachers: str) -> tuple[Rows, Rows]:
    """The negatives that enough teachers found, ascending, and how many did."""
    rows, votes = np.unique(np.concatenate(found), return_counts=True)
    least = {"union": 1, "all": len(found), "majority": len(found) // 2 + 1}[teachers]
    return rows[votes >= least], votes[votes >= least]


def taught_columns(
    columns: dict[str, list[Any]],
    found_by: dict[tuple[int, int, int], list[str]],
    sides: dict[str, tuple[Vectors, Vectors]],
    float64: bool,
) -> dict[str, list[Any]]:
    """Who found each negative, and its similarity (else distance) by each embedding; for tuples in lists."""
    pairs = list(zip(columns["anchor_row"], columns["positive_row"], strict=True))
    negatives = columns.get("negative_rows", [[row] for row in columns.get("negative_row", [])])
    new: dict[str, list[Any]] = {
        "found_by": [[found_by[a, p, n] for n in rows] for (a, p), rows in zip(pairs, negatives, strict=True)]
    }
    for name, (of_queries, of_corpus) in sides.items():
        metric, values = of_corpus.metric, []
        for (a, _), rows in zip(pairs, negatives, strict=True):
            x = of_corpus.distances(a, np.array(rows, dtype=np.int64), of_queries)
            values.append(as_column((similarity(x, metric) if metric in ("cosine", "dot") else x).tolist(), float64))
        new[f"{'similarity' if metric in ('cosine', 'dot') else 'distance'}_{name}"] = values
    if "negative_rows" not in columns:
        new = {name: [value for values in rows for value in values] for name, rows in new.items()}
    return columns | new


def score_columns(columns: dict[str, list[Any]], pairs: list[Pair], float64: bool) -> dict[str, list[Any]]:
    """The scores of pairs whose distances are minus these: a triplet's last columns, of tuples the first one."""
    if "negative_rows" in columns:
        return columns | {"scores": [as_column([-x for x in (pair.p, *pair.x.tolist())], float64) for pair in pairs]}
    ends = [(-pair.p, -x) for pair in pairs for x in pair.x.tolist()]
    return columns | {
        f"score_{name}": as_column([end[i] for end in ends], float64) for i, name in enumerate(("ap", "an"))
    }


@dataclass(frozen=True)
class Losses:
    """The losses of the triplets of a pair."""

    margin: float
    soft: bool
    swap: bool
    vectors: Vectors

    def of(self, pair: Pair) -> list[float]:
        """A loss for each negative; with --swap its distance is that of the nearer of anchor and positive."""
        x = pair.x
        if self.swap:
            x = np.minimum(x, self.vectors.distances(pair.positive, pair.negatives))
        return [triplet_loss(pair.p, value, self.margin, self.soft) for value in x.tolist()]


def triplet_columns(
    pairs: list[Pair],
    losses: Losses | None,
    swapped: Vectors | None,
    weights: Ambiguous | None,
    cap: int | None,
    relation: Relation,
    float64: bool,
) -> dict[str, list[Any]]:
    """A row for each negative; `swapped` adds distance_pn, `weights` draw_weight, `cap` positive_rank up to cap + 1."""
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
    if weights is not None:
        columns["draw_weight"] = as_column([value for pair in pairs for value in weights.of(pair)], float64)
    if cap is not None:
        columns["positive_rank"] = [min(pair.rank, cap + 1) for pair in repeated]
    for name, labels in (("anchor", relation.queries.given_labels), ("negative", relation.corpus.given_labels)):
        if labels is not None:
            columns[f"{name}_label"] = [labels[row] for row in columns[f"{name}_row"]]
    if relation.queries.levels:
        ends = zip(columns["anchor_row"], columns["negative_row"], strict=True)
        columns["shared_level"] = [relation.shared_level(anchor, negative) for anchor, negative in ends]
    return columns


def tuple_columns(
    pairs: list[Pair],
    losses: Losses | None,
    weights: Ambiguous | None,
    cap: int | None,
    scores: str,
    metric: str,
    float64: bool,
) -> dict[str, list[Any]]:
    """A row for each (anchor, positive); in the scores the positive comes first."""
    columns: dict[str, list[Any]] = {}
    if scores != "none":
        cosine = scores == "similarity" and metric == "cosine"
        signed = [[1.0 - x if cosine else -x for x in (pair.p, *pair.x.tolist())] for pair in pairs]
        columns["scores"] = [as_column(row, float64) for row in signed]
    if losses is not None:
        columns["losses"] = [as_column(losses.of(pair), float64) for pair in pairs]
    if weights is not None:
        columns["draw_weights"] = [as_column(weights.of(pair), float64) for pair in pairs]
    if cap is not None:
        columns["positive_rank"] = [min(pair.rank, cap + 1) for pair in pairs]
    columns["anchor_row"] = [pair.anchor for pair in pairs]
    columns["positive_row"] = [pair.positive for pair in pairs]
    columns["negative_rows"] = [pair.negatives.tolist() for pair in pairs]
    return columns


def pair_columns(
    joined: dict[tuple[int, int], tuple[int, float]], margin: float | None, float64: bool
) -> dict[str, list[Any]]:
    """A row for each unordered pair, from (left, right) -> (label, distance)."""
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


@dataclass(frozen=True)
class Listed:
    """An anchor's chosen positives and its nearest negatives, in their orders, with what the lists say of them."""

    anchor: int
    positives: Rows
    p: Floats
    is_anchor: Mask
    negatives: Rows
    x: Floats
    longest: int
    duplicates: list[tuple[int, int]]  # places of a positive, and of a negative that is its duplicate

    def ranks(self) -> list[int | None]:
        """1 + how many negatives are nearer than each positive; None where the list ends before that is known."""
        ends = len(self.x) == self.longest and float(self.x[-1])
        nearer = [int((self.x < p).sum()) for p in self.p.tolist()]
        return [None if ends is not False and p > ends else 1 + n for p, n in zip(self.p.tolist(), nearer, strict=True)]


def list_columns(lists: list[Listed], longest: int, precision: str, relation: Relation) -> dict[str, list[Any]]:
    """A row for each anchor."""
    columns: dict[str, list[Any]] = {"anchor_row": [each.anchor for each in lists]}
    if relation.queries.given_labels is not None:
        columns["anchor_label"] = [relation.queries.given_labels[each.anchor] for each in lists]
    return columns | {
        "positive_rows": [each.positives.tolist() for each in lists],
        "positive_distances": [each.p.tolist() for each in lists],
        "positive_ranks": [each.ranks() for each in lists],
        "positive_is_anchor": [each.is_anchor.tolist() for each in lists],
        "candidate_rows": [each.negatives.tolist() for each in lists],
        "candidate_distances": [list(each.x.astype(precision)) for each in lists],
        "duplicate_positives": [[positive for positive, _ in each.duplicates] for each in lists],
        "duplicate_candidates": [[candidate for _, candidate in each.duplicates] for each in lists],
    } | ({} if longest <= NEAREST else {
        "candidate_count": [len(each.negatives) for each in lists],
        "nearest_rows": [each.negatives[:NEAREST].tolist() for each in lists],
        "nearest_distances": [list(each.x[:NEAREST].astype(precision)) for each in lists],
    })  # fmt: skip


def with_ids(columns: dict[str, list[Any]], relation: Relation, of_lists: bool = True) -> dict[str, list[Any]]:
    """The columns with id columns before them: one for each column of row numbers of a table that has ids."""
    named: dict[str, list[Any]] = {}
    for name, rows in columns.items():
        if (name.endswith("_rows") and not of_lists) or name == "nearest_rows":
            continue
        ids = (relation.queries if name == "anchor_row" else relation.corpus).ids
        if "_row" in name and ids is not None:
            named[name.replace("_row", "_id")] = [
                [ids[r] for r in row] if isinstance(row, list) else ids[row] for row in rows
            ]
    return named | columns


def shuffled(columns: dict[str, list[Any]], relation: Relation, seed: int) -> dict[str, list[Any]]:
    """The rows in the order of draw 4 of (anchor, positive, negative), where tuples have no negative: it is 0.

    Pairs are drawn by (left, 0, right).
    """
    if "left_row" in columns:
        names: tuple[str | None, ...] = ("left_row", None, "right_row")
    else:
        names = ("anchor_row", "positive_row", "negative_row" if "negative_row" in columns else None)
    tables = (relation.queries, relation.corpus, relation.corpus)
    rows = [None if name is None else np.array(columns[name], dtype=np.int64) for name in names]
    a, p, c = (0 if part is None else table.words[part] for table, part in zip(tables, rows, strict=True))
    keys = [table.key[part] for table, part in zip(tables, rows, strict=True) if part is not None]
    places = np.lexsort((*reversed(keys), draw(seed, SHUFFLED, a, p, c))).tolist()
    return {name: [values[place] for place in places] for name, values in columns.items()}


def refuse(given: dict[str, Any], d: int) -> None:
    """Raise ValueError for a name that does not exist, or rules that have no answer together."""
    for name, valid in NAMES.items():
        if given[name] is not None and given[name] not in valid.split():
            raise ValueError(f"{name}={given[name]!r}: expected one of {valid}")
    metric, band, scores, k = given["metric"], given["band"], given["scores"], given["negatives"]
    pairs, two_tables = given["emit"] == "pairs", given["corpus"] is not None
    plain = (band, given["pick"], given["skip"], given["swap"], given["short_rows"])

    def among(*names: str) -> bool:
        return any(given[name] is not None for name in names)

    similar = metric in ("cosine", "dot") or among("score")
    filtered, farthest = among(*LIMITS), given["fallback"] != "none"
    capped = among(*CAPS)
    wrong = {
        "this band needs a margin": given["margin"] is None and band in ("semi-hard", "violating", "easy"),
        "pairs: cosine or euclidean only": pairs and metric in ("dot", "sqeuclidean"),
        "pairs: band violating or any, pick nearest, no skip, swap or short_rows": pairs
        and plain not in [(usual, "nearest", 0, False, None) for usual in ("violating", "any")],
        "contrastive: for pairs, and their only loss": given["loss"] and (given["loss"] == "contrastive") != pairs,
        "negatives_per_anchor: triplets only": given["negatives_per_anchor"] and given["emit"] != "triplets",
        "negatives: at least 1, or 0 with pairs": k < (0 if pairs else 1),
        "weighted needs d >= 3": given["pick"] == "weighted" and d < 3,
        "simans: cosine or dot, within_top": given["pick"] == "simans"
        and (not similar or given["within_top"] is None or not given["simans_a"] > 0),
        "draw_weights: those of simans": given["draw_weights"] and given["pick"] != "simans",
        "dot has no duplicates within T > 0": metric == "dot" and (given["drop_duplicates_within"] or 0) > 0,
        "scores must be chosen for Euclidean tuples": given["emit"] == "tuples"
        and not similar
        and scores in (None, "similarity"),
        "labels or known positives": not among("labels", "known_positives"),
        "corpus: needed by what is said of it": not two_tables and among(*OF_CORPUS),
        "labels: of both tables, or of neither": two_tables and among("labels") != among("corpus_labels"),
        "levels: of both tables, with labels": bool(given["levels"])
        and (not among("labels") or (two_tables and list(given["corpus_levels"] or {}) != list(given["levels"]))),
        "negatives_at: a coarser level": among("negatives_at") and given["negatives_at"] not in (given["levels"] or {}),
        "several teachers: no pairs, window, limit of uses or fallback": bool(
            given["others"] or (among("candidate_lists") and given["candidates_as"] == "too")
        )
        and (pairs or given["window"] is not None or given["max_uses"] is not None or farthest),
        "guide: of both tables, or of neither": two_tables and among("guide") != among("corpus_guide"),
        "shared_ids: of two tables": two_tables and given["shared_ids"] and not (among("ids") and among("corpus_ids")),
        "pairs: one table, no filters, guide, within_top, caps or fallback": pairs
        and (two_tables or filtered or among("guide", "within_top") or capped or farthest),
        "filters: similarities of cosine and dot only": filtered and not similar,
        "caps: at least 1": any(given[cap] is not None and given[cap] < 1 for cap in CAPS),
        "fallback: pick nearest, no skip, within_top, guide or caps": farthest
        and (given["pick"] != "nearest" or given["skip"] or among("guide", "within_top") or capped),
        "within_top: room for k behind those skipped": among("within_top") and given["within_top"] - given["skip"] < k,
        "epsilon: all pairs of cosine, band any": among("epsilon")
        and (given["emit"], metric, band, k, given["positives"]) != ("pairs", "cosine", "any", 0, "all"),
        "similarities of positives: cosine or dot": not similar
        and among("min_positive_similarity", "max_positive_similarity"),
        "ranks of positives: not of pairs": pairs and among("max_positive_rank", "rank_positives"),
        "positive_margin: pairs only": among("positive_margin") and not pairs,
    }
    for reason, applies in wrong.items():
        if applies:
            raise ValueError(reason)


def mine(
    embeddings: npt.NDArray[Any],
    *,
    labels: Sequence[Any] | None = None,
    ids: Sequence[int | str] | None = None,
    groups: Sequence[Any] | None = None,
    takes_part: Sequence[bool] | Mask | None = None,
    corpus: npt.NDArray[Any] | None = None,
    corpus_labels: Sequence[Any] | None = None,
    corpus_ids: Sequence[int | str] | None = None,
    corpus_groups: Sequence[Any] | None = None,
    corpus_takes_part: Sequence[bool] | Mask | None = None,
    levels: Levels | None = None,
    corpus_levels: Levels | None = None,
    negatives_at: str | None = None,
    known_positives: Iterable[tuple[int, int]] | None = None,
    excluded: Iterable[tuple[int, int]] | None = None,
    shared_ids: bool = False,
    metric: str = "cosine",
    normalize: bool = False,
    margin: float | None = None,
    band: str = "semi-hard",
    negatives: int = 1,
    pick: str = "nearest",
    skip: int = 0,
    within_top: int | None = None,
    simans_a: float = 1.0,
    simans_b: float = 0.0,
    draw_weights: bool = False,
    fallback: str = "none",
    max_similarity: float | None = None,
    min_similarity: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    reference: str = "pair",
    guide: npt.NDArray[Any] | None = None,
    corpus_guide: npt.NDArray[Any] | None = None,
    positives: str = "easiest",
    positives_per_anchor: int = 1,
    anchors: int | str | None = None,
    anchors_per_label: int | None = None,
    negatives_per_anchor: int | None = None,
    max_per_negative_label: int | None = None,
    max_uses: int | None = None,
    group_rule: str = "both",
    unlabeled: str = "ignore",
    keep_duplicate_positives: bool = False,
    drop_duplicates_within: float | None = 0.0,
    drop_duplicates_of: str = "both",
    epsilon: float | None = None,
    positive_margin: float | None = None,
    min_positive_similarity: float | None = None,
    max_positive_similarity: float | None = None,
    max_positive_rank: int | None = None,
    rank_positives: int | None = None,
    emit: str = "triplets",
    loss: str | None = None,
    swap: bool = False,
    short_rows: str | None = None,
    scores: str | None = None,
    order: str = "anchor",
    float64: bool = False,
    list_precision: str = "float64",
    list_ids: bool = False,
    seed: int = 0,
    only_anchors: Iterable[int] | None = None,
    window: int | None = None,
    name: str = "embedding",
    others: Mapping[str, Sequence[npt.NDArray[Any]]] | None = None,
    teachers: str = "union",
    candidate_lists: Iterable[tuple[int, int]] | None = None,
    candidates_as: str = "only",
    verdicts: Mapping[tuple[int, int], str] | None = None,
    score: Callable[[int, int, float], float | None] | None = None,
) -> Mined:
    """Mine by brute force over canonical distances.

    Parameters
    ----------
    embeddings : ndarray, shape (n, d), float16, float32, float64 or int8
        Rows as stored; those that take part are finite and not bad rows.
    labels : sequence of n int, str, bool, None, or lists of these; optional with known positives
        None and empty lists are unlabelled; None inside a list is ignored.
    ids, groups : sequence of n, optional
        Without ids the row number is the key; a None group is no group.
    takes_part : n bools, optional
        False rows are nobody's anchor, positive or negative; row numbers still count them.
    corpus : ndarray, shape (m, d), optional
        The table of the candidates, with `corpus_labels`, `corpus_ids`, `corpus_groups` and `corpus_takes_part` of m;
        `embeddings` are then the queries. Without it candidates are the rows of `embeddings`.
    levels, corpus_levels : mapping of a name to a sequence of n, of m, optional
        The coarser levels of hierarchical labels, coarse to fine; `labels` are then single, the leaves.
    negatives_at : str, optional
        The level down to which negatives share the anchor's path, without a null in it.
    known_positives, excluded : pairs (anchor row, candidate row), optional
        Unordered in one table. Pairs with a row that takes no part say nothing. An excluded pair is neither.
    shared_ids : bool
        Of two tables, rows with the same id are the same item, so neither; so they are without known positives.
    margin : float, optional
        In units of the distance; None leaves the loss out. No default is resolved here.
    fallback : str
        farthest: a pair without a negative takes the farthest that pass all but the band.
    guide, corpus_guide : ndarray, shape (n, d2) and (m, d2), optional
        A second embedding, by whose similarities the filters must hold too.
    anchors : int or "P%", optional
        At most that many anchors, after `anchors_per_label`, which does not limit unlabelled anchors.
    drop_duplicates_within : float or None
        T; None neither removes negatives nor passes over positives.
    epsilon, positive_margin : float, optional
        For pairs: multi-similarity's rule; the distance that similar pairs must exceed.
    only_anchors : iterable of int, optional
        Derive these anchors only, of those that the anchor rules select from the whole.
    window : int, optional
        Candidates are the `window` rows before the anchor, of each id its last; the row number is the key.
    name, others : str, mapping of str to arrays (n, d2) and, of a corpus, (m, d2)
        What columns call the first embedding, and the embeddings of other teachers by name.
    teachers : str
        Of what the teachers find that is taken which any, all, or most of them found.
    candidate_lists : pairs (anchor row, candidate row), the first of each anchor first, optional
        An anchor's negatives are of these "only", or they are one teacher "too".
    verdicts : mapping of (anchor row, candidate row) to str, optional
        Of negatives: "positive" makes the row a positive, "drop" takes it out.
    score : function (anchor row, candidate row, x) -> float or None, optional
        Minus it takes the place of the distance in every rule; a row without one does not exist.

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
    O(a m d) flops for a anchors (with `max_uses` all of them); memory O(n + m) and the answer beside the stored rows.
    """
    given = dict(locals())
    d = embeddings.shape[1]
    refuse(given, d)
    group_codes: dict[Any, int] = {}
    queries = candidates = Table(len(embeddings), labels, ids, groups, takes_part, group_codes, levels)
    if corpus is not None:
        candidates = Table(
            len(corpus), corpus_labels, corpus_ids, corpus_groups, corpus_takes_part, group_codes, corpus_levels
        )
    if window:
        queries.key = np.arange(len(embeddings))
    relation = Relation(queries, candidates, known_positives, excluded, shared_ids, group_rule, unlabeled, window)
    if negatives_at is not None:
        relation.share(negatives_at)
    judged = metric if score is None else "dot"  # a score is an inner product, whose distance is its negative
    filters = Filters(max_similarity, min_similarity, absolute_margin, relative_margin, reference, judged)
    ambiguous = Ambiguous(simans_a, simans_b, judged)
    key, words = candidates.key, candidates.words
    within = drop_duplicates_within

    def both(stored: npt.NDArray[Any], of_corpus: npt.NDArray[Any] | None) -> tuple[Vectors, Vectors]:
        home = Vectors(stored, metric, normalize, queries.used)
        return home, home if of_corpus is None else Vectors(of_corpus, metric, normalize, candidates.used)

    home, vectors = both(embeddings, corpus)
    guides = [] if guide is None else [both(guide, corpus_guide)]

    sides = {name: (home, vectors)}
    for other, arrays in (others or {}).items():
        sides[other] = both(arrays[0], arrays[1] if len(arrays) > 1 else None)
    first = sides[name]
    listed = ranked(candidate_lists)
    votes = candidate_lists is not None and candidates_as == "too"
    taught = len(sides) > 1 or votes

    def duplicates(
        side: tuple[Vectors, Vectors], of_anchor: bool, row: int, rows: Rows, known: Floats | None = None
    ) -> Mask:
        """Which candidates are duplicates of an anchor or of a positive; `known` saves computing distances again.

        Equal rows are those of the first embedding; distances up to T are of each teacher's own.
        """
        if within is None:
            return np.zeros(len(rows), dtype=bool)
        if within == 0:
            return vectors.equal(row, rows, home if of_anchor else vectors)
        of_queries, own = side
        return (own.distances(row, rows, of_queries if of_anchor else own) if known is None else known) <= within

    def by_score(anchor: int, rows: Rows, x: Floats) -> tuple[Rows, Floats]:
        """The rows that have a score, and minus it in place of their distances x."""
        if score is None:
            return rows, x
        found = [
            (row, -s)
            for row, at in zip(rows.tolist(), x.tolist(), strict=True)
            if (s := score(anchor, row, at)) is not None
        ]
        return np.array([row for row, _ in found], dtype=np.int64), np.array([value for _, value in found], dtype=float)

    def look_around(anchor: int, side: tuple[Vectors, Vectors] = first, like: Near | None = None) -> Near:
        """All positives, and all negatives but the anchor's duplicates, by one embedding.

        like : what the first embedding sees, which says who is positive
        """
        of_queries, own = side
        positive_rows, rows = relation.partners(anchor)
        if candidate_lists is not None and not votes:
            rows = rows[np.isin(rows, listed.get(anchor, []))]
        x = own.distances(anchor, rows, of_queries)
        if drop_duplicates_of != "positive":
            kept = ~duplicates(side, True, anchor, rows, x)
            rows, x = rows[kept], x[kept]
        said = np.array([(verdicts or {}).get((anchor, row), "") for row in rows.tolist()], dtype=str)
        positive_rows = np.sort(np.concatenate([positive_rows, rows[said == "positive"]]))
        stays = (said != "positive") & (said != "drop")
        rows, x = by_score(anchor, rows[stays], x[stays])
        nearest = np.lexsort((key[rows], x))
        positive_rows, p = by_score(anchor, positive_rows, own.distances(anchor, positive_rows, of_queries))
        ranks = 1 + np.searchsorted(x[nearest], p)
        passing = np.ones(len(p), dtype=bool)
        if like is not None:
            passing = np.isin(positive_rows, like.positives)
        else:
            if min_positive_similarity is not None:
                passing &= similarity(p, judged) >= min_positive_similarity
            if max_positive_similarity is not None:
                passing &= similarity(p, judged) <= max_positive_similarity
            if max_positive_rank is not None:
                passing &= ranks <= max_positive_rank
        near = Near(anchor, positive_rows[passing], rows[nearest], [p[passing]], [x[nearest]], ranks[passing])
        for of_queries, of_corpus in guides:
            near.p.append(of_corpus.distances(anchor, near.positives, of_queries))
            near.x.append(of_corpus.distances(anchor, near.negatives, of_queries))
        return near

    def choose_positives(near: Near) -> list[int]:
        """Places of the chosen positives, in the rule's order."""
        rows, p = near.positives, near.p[0]
        passed_over = np.zeros(len(rows), dtype=bool)
        if positives in ("easiest", "random") and not keep_duplicate_positives:
            passed_over = duplicates(first, True, near.anchor, rows, p if score is None else None)
        if positives == "easiest":
            chosen = np.lexsort((key[rows], p, passed_over))
        elif positives == "random":
            luck = draw(seed, POSITIVES, queries.words[near.anchor], 0, words[rows])
            chosen = np.lexsort((key[rows], luck, passed_over))
        elif positives == "hardest":
            chosen = np.lexsort((key[rows], -p))
        else:
            chosen = np.argsort(key[rows])
        places: list[int] = chosen.tolist()
        return places if positives == "all" else places[:positives_per_anchor]

    plain = pick == "nearest" and fallback == "none" and score is None and not taught
    counted = plain and all(given[rule] is None for rule in (*LIMITS, *DEALS, "guide"))
    counted &= band in ("any", "hard", "violating") or (band == "semi-hard" and positives == "easiest")
    wanted = negatives if max_uses is None else 4 * negatives + 32  # what a pair is dealt from

    def passing(near: Near, i: int, side: tuple[Vectors, Vectors]) -> tuple[Rows, Floats]:
        """The negatives of the i-th positive, and their distances, that pass all but the band."""
        kept = filters.passing(near, i)
        if drop_duplicates_of != "anchor":
            kept &= ~duplicates(side, False, int(near.positives[i]), near.negatives)
        return near.negatives[kept], near.x[0][kept]

    def choose_negatives(near: Near, i: int, side: tuple[Vectors, Vectors] = first) -> Pair:
        """The i-th positive with its negatives in the pick's order."""
        positive, p = int(near.positives[i]), float(near.p[0][i])
        rows, x = passing(near, i, side)
        eligible = np.flatnonzero(in_band(x, p, margin, band))[skip:within_top]
        if max_per_negative_label is not None:
            named = [candidates.labels[row] for row in rows[eligible].tolist()]
            eligible = under_label_cap(eligible, named, max_per_negative_label)
        if pick != "nearest" and len(eligible):
            luck = draw(seed, NEGATIVES, queries.words[near.anchor], words[positive], words[rows[eligible]])
            sort_by: Floats | Words = luck
            if pick == "simans":
                weights = ambiguous.log_weights(p, x[eligible])
                sort_by = np.array([log_draw(int(each)) - w for each, w in zip(luck, weights, strict=True)])
            if pick == "weighted":
                sort_by = weighted_keys(x[eligible], luck, metric, side[1].stored.shape[1])
                possible = sort_by < np.inf
                eligible, sort_by = eligible[possible], sort_by[possible]
            eligible = eligible[np.lexsort((key[rows[eligible]], sort_by))]
        if fallback == "farthest" and not len(eligible):
            eligible = np.lexsort((key[rows], -x))
        eligible = eligible[:wanted]
        harder = [min(place, HARDER_CAP) if counted else None for place in eligible.tolist()]
        return Pair(near.anchor, positive, p, rows[eligible], x[eligible], harder, int(near.ranks[i]))

    found_by: dict[tuple[int, int, int], list[str]] = {}

    def taught_negatives(near: Near, theirs: list[Near], i: int) -> Pair:
        """The i-th positive with the negatives on which the teachers agree: most votes first, then by (x, key)."""
        anchor, positive, p = near.anchor, int(near.positives[i]), float(near.p[0][i])
        found = {
            teacher: choose_negatives(one, i, sides[teacher]).negatives
            for teacher, one in zip(sides, (near, *theirs), strict=True)
        }
        if votes:
            rows, x = passing(near, i, first)
            fits = set(rows[in_band(x, p, margin, band)].tolist())
            found["candidates"] = np.array([r for r in listed.get(anchor, []) if r in fits][:negatives], dtype=np.int64)
        rows, many = agreed(list(found.values()), teachers)
        x = vectors.distances(anchor, rows, home)
        order = np.lexsort((key[rows], x, -many))
        rows, x = rows[order], x[order]
        for row in rows.tolist():
            found_by[anchor, positive, row] = [teacher for teacher, chosen in found.items() if row in chosen]
        return Pair(anchor, positive, p, rows, x, [None] * len(rows), int(near.ranks[i]))

    counts = dict.fromkeys(("anchors", "pairs", "rows", "full", "short", "empty"), 0)

    def count(size: int) -> None:
        counts["full" if size >= negatives else "short" if size else "empty"] += 1

    def choose_ends(near: Near) -> list[tuple[int, int, float]]:
        """The pairs that a row picks: (other row, y, distance)."""
        p, x = near.p[0], near.x[0]
        similar = choose_positives(near)
        # Violating: D < m, whatever the positives.
        dissimilar = np.flatnonzero(in_band(x, 0.0, margin, band)).tolist()[: negatives or None]
        count(len(dissimilar))
        if epsilon is not None:
            far, close = multi_similarity(p, x, epsilon)
            similar, dissimilar = [i for i in similar if far[i]], [i for i in dissimilar if close[i]]
        if positive_margin is not None:
            similar = [i for i in similar if p[i] > positive_margin]
        ends = [(int(near.positives[i]), 1, float(p[i])) for i in similar]
        return ends + [(int(near.negatives[i]), 0, float(x[i])) for i in dissimilar]

    def choose_list(near: Near) -> Listed:
        """The positives that an anchor picks, and its nearest negatives."""
        places, nearest = choose_positives(near), near.negatives[:negatives]
        chosen = near.positives[places]
        alike: list[tuple[int, int]] = []
        for i, positive in enumerate(chosen.tolist() if drop_duplicates_of != "anchor" else ()):
            alike += [(i, place) for place in np.flatnonzero(duplicates(first, False, positive, nearest)).tolist()]
        count(len(nearest))
        own, p, x = vectors.equal(near.anchor, chosen, home), near.p[0][places], near.x[0][:negatives]
        return Listed(near.anchor, chosen, p, own, nearest, x, negatives, alike)

    rows = relation.pair_ends() if emit == "pairs" else relation.with_positive()
    whole = relation.choose_anchors(rows, anchors_per_label, anchors, seed)
    selected = whole
    if only_anchors is not None:
        selected = whole[np.isin(whole, np.array(list(only_anchors), dtype=np.int64))]
    counts["anchors"] = len(selected)
    if emit == "pairs":
        joined: dict[tuple[int, int], tuple[int, float]] = {}
        for anchor in selected.tolist():
            ends = choose_ends(look_around(anchor))
            joined.update({(min(anchor, row), max(anchor, row)): (y, distance) for row, y, distance in ends})
        columns = pair_columns(joined, margin, float64)
    elif emit == "lists":
        columns = list_columns(
            [choose_list(look_around(anchor)) for anchor in selected.tolist()], negatives, list_precision, relation
        )
    else:
        pairs: list[Pair] = []
        for anchor in (selected if max_uses is None else whole).tolist():
            near = look_around(anchor)
            if taught:
                theirs = [look_around(anchor, side, near) for teacher, side in sides.items() if teacher != name]
                pairs += [taught_negatives(near, theirs, i) for i in choose_positives(near)]
            else:
                pairs += [choose_negatives(near, i) for i in choose_positives(near)]
        if max_uses is not None:
            pairs = limit_uses(pairs, negatives, max_uses, relation, seed)
            returned = set(selected.tolist())
            pairs = [pair for pair in pairs if pair.anchor in returned]
        sizes = counted_sizes(pairs, negatives, negatives_per_anchor)  # before the anchor deals
        for size in sizes:
            count(size)
        if (short_rows or ("drop" if emit == "tuples" else "keep")) == "drop":
            pairs = [pair for pair, size in zip(pairs, sizes, strict=True) if size >= negatives]
        if negatives_per_anchor is not None:
            by_anchor = [list(several) for _, several in groupby(pairs, key=lambda pair: pair.anchor)]
            pairs = [pair for several in by_anchor for pair in limit_per_anchor(several, negatives_per_anchor)]
        scored = pairs
        if score is not None:  # what is written of distances is of the embedding
            own = [vectors.distances(pair.anchor, np.array([pair.positive, *pair.negatives]), home) for pair in pairs]
            pairs = [replace(pair, p=float(x[0]), x=x[1:]) for pair, x in zip(pairs, own, strict=True)]
        losses = None if margin is None else Losses(margin, loss == "triplet-soft", swap, vectors)
        shown, cap = ambiguous if draw_weights else None, rank_positives or max_positive_rank
        if emit == "tuples":
            columns = tuple_columns(pairs, losses, shown, cap, scores or "similarity", metric, float64)
        else:
            columns = triplet_columns(pairs, losses, vectors if swap else None, shown, cap, relation, float64)
        if score is not None:
            columns = score_columns(columns, scored, float64)
        if taught:
            columns = taught_columns(columns, found_by, sides, float64)
    columns = with_ids(columns, relation, emit != "lists" or list_ids)
    counts["rows"] = len(next(iter(columns.values())))
    counts["pairs"] = counts["rows"] if emit == "pairs" else counts["full"] + counts["short"] + counts["empty"]
    if emit == "lists":
        counts["pairs"] = sum(map(len, columns["positive_rows"]))
    if order == "shuffled":
        columns = shuffled(columns, relation, seed)
    if corpus is not None:
        columns = {name.replace("anchor_", "query_"): values for name, values in columns.items()}
    return Mined(columns, counts, whole)
