"""Worlds drawn by a seed: rows of awkward kinds in one table or two, with all that may be said of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from judged import Judged, draw_judged

Vectors = np.ndarray[Any, Any]
Pairs = tuple[tuple[int, int], ...]
Random = np.random.Generator


@dataclass(frozen=True, repr=False)
class Side:
    """One table, row by row; `year`, `lang`, `share` are for conditions, and are carried; `dept`, `part` are levels."""

    vectors: Vectors
    labels: tuple[Any, ...] | None = None
    ids: tuple[Any, ...] | None = None
    groups: tuple[Any, ...] | None = None
    versions: tuple[Any, ...] | None = None
    guide: Vectors | None = None
    year: tuple[int | None, ...] = ()
    lang: tuple[str | None, ...] = ()
    share: tuple[float | None, ...] = ()
    dept: tuple[int | None, ...] = ()
    part: tuple[str | None, ...] = ()

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        given = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        shown = {name: values.tolist() if isinstance(values, np.ndarray) else values for name, values in given.items()}
        return f"Side({shown})"

    def only(self, rows: list[int]) -> Side:
        """The table of these rows alone."""
        kept = {}
        for spec in fields(self):
            values = getattr(self, spec.name)
            if values is not None:
                kept[spec.name] = values[rows] if isinstance(values, np.ndarray) else tuple(values[r] for r in rows)
        return replace(self, **kept)


@dataclass(frozen=True)
class World:
    """What there is to mine; what is listed are row numbers, and is given by id where there are ids."""

    kind: str
    queries: Side
    corpus: Side | None = None
    known: Pairs | None = None
    grades: tuple[float, ...] | None = None
    excluded: Pairs | None = None
    excluded_rows: tuple[int, ...] | None = None
    unknown_ids: bool = False  # the lists name an id more that no row has
    run: Pairs | None = None  # candidates from elsewhere, the first of each row first
    judged: Judged | None = None  # what is said of lists, which are mined then, and chosen from

    @property
    def candidates(self) -> Side:
        """The table that positives and negatives come from."""
        return self.queries if self.corpus is None else self.corpus

    @property
    def listed(self) -> bool:
        """Whether rows are named, which takes ids of tables."""
        return any(each is not None for each in (self.known, self.excluded, self.excluded_rows, self.run))

    def turned(self) -> World:
        """The world with its tables exchanged."""
        assert self.corpus is not None
        known, excluded = (
            None if pairs is None else tuple((b, a) for a, b in pairs) for pairs in (self.known, self.excluded)
        )
        return replace(self, queries=self.corpus, corpus=self.queries, known=known, excluded=excluded)

    def only(self, rows: list[int], of_corpus: bool = False) -> World:
        """The world without the other rows of a table, and without what is listed of them."""
        place = {row: number for number, row in enumerate(rows)}
        left = place if not of_corpus else {row: row for row in range(len(self.queries))}
        right = place if of_corpus or self.corpus is None else {row: row for row in range(len(self.corpus))}

        def kept(pairs: Pairs | None) -> list[int]:
            return [i for i, (a, b) in enumerate(pairs or ()) if a in left and b in right]

        def moved(pairs: Pairs | None) -> Pairs | None:
            return None if pairs is None else tuple((left[pairs[i][0]], right[pairs[i][1]]) for i in kept(pairs))

        listed = None if self.excluded_rows is None else tuple(left[row] for row in self.excluded_rows if row in left)
        grades = None if self.grades is None else tuple(self.grades[i] for i in kept(self.known))
        side = {"corpus": self.corpus.only(rows)} if of_corpus and self.corpus else {"queries": self.queries.only(rows)}
        return replace(
            self,
            known=moved(self.known),
            grades=grades,
            excluded=moved(self.excluded) or None,
            excluded_rows=listed or None,
            run=moved(self.run),
            judged=None if self.judged is None else self.judged.moved(left, right),
            **side,
        )


# ---------------------------------------------------------------- vectors


def _clusters(rng: Random, n: int, d: int, spread: float = 0.6) -> Vectors:
    return rng.normal(size=(6, d))[rng.integers(0, 6, n)] + spread * rng.normal(size=(n, d))


def _unit(rows: Vectors) -> Vectors:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


def _repeated(rng: Random, rows: Vectors, distinct: int) -> Vectors:
    """Rows of which there are only so many different ones."""
    return rows[rng.integers(0, max(1, distinct), len(rows))]


def _twins(rng: Random, n: int, d: int) -> Vectors:
    rows = _clusters(rng, n, d)
    rows[rng.random(n) < 0.5] = rows[0]
    return rows


def _collinear(rng: Random, n: int, d: int) -> Vectors:
    """x, 2x, and 3x, whose direction is rounded otherwise."""
    rows = _repeated(rng, _clusters(rng, n, d), n // 3)
    return rows * rng.choice([1.0, 2.0, 0.5, 3.0, 1.1], size=(n, 1))


def _signed_zeros(rng: Random, n: int, d: int) -> Vectors:
    rows = rng.integers(0, 3, size=(n, d)).astype(float)
    rows[:, 0] = 1
    return np.where((rows == 0) & (rng.random(rows.shape) < 0.5), -0.0, rows)


def _nearly_equal(rng: Random, n: int, d: int) -> Vectors:
    """Equal items that differ in the last bit."""
    rows = _repeated(rng, _clusters(rng, n, d), n // 4).astype(np.float32)
    return np.where(rng.random(rows.shape) < 0.2, np.nextafter(rows, np.float32(9)), rows)


def _outlier(rng: Random, n: int, d: int) -> Vectors:
    rows = _clusters(rng, n, d)
    rows[rng.integers(0, n)] *= 1000
    return rows


def _sparse(rng: Random, n: int, d: int) -> Vectors:
    rows = np.where(rng.random((n, d)) < 0.3, rng.normal(size=(n, d)), 0.0)
    rows[np.arange(n), rng.integers(0, d, n)] = 1.0
    return rows


KINDS: dict[str, Callable[[Random, int, int], Vectors]] = {
    "clusters": _clusters,
    "tight": lambda rng, n, d: _unit(_clusters(rng, n, d, 0.01)),
    "uniform": lambda rng, n, d: _unit(rng.normal(size=(n, d))),
    "grid": lambda rng, n, d: rng.integers(1, 4, size=(n, d)).astype(float),
    "halves": lambda rng, n, d: np.round(_clusters(rng, n, d) * 2) / 2 + 0.0,
    "equal by the dozen": lambda rng, n, d: _repeated(rng, _clusters(rng, n, d), n // 12),
    "equal by fours": lambda rng, n, d: _repeated(rng, _clusters(rng, n, d), n // 4),
    "half the same": _twins,
    "all the same": lambda rng, n, d: np.tile(rng.normal(size=(1, d)), (n, 1)),
    "far off": lambda rng, n, d: 1e3 + 1e-2 * _clusters(rng, n, d),
    "farther off": lambda rng, n, d: 1e6 + 1e-3 * _clusters(rng, n, d),
    "two far clusters": lambda rng, n, d: rng.normal(size=(n, d)) + rng.choice([-1000.0, 1000.0], size=(n, 1)),
    "magnitudes": lambda rng, n, d: _clusters(rng, n, d) * 10.0 ** rng.integers(-4, 4, size=(n, 1)),
    "wide magnitudes": lambda rng, n, d: _clusters(rng, n, d) * 10.0 ** rng.integers(-15, 15, size=(n, 1)),
    "tiny": lambda rng, n, d: _clusters(rng, n, d) * 1e-20,
    "collinear": _collinear,
    "signed zeros": _signed_zeros,
    "opposite": lambda rng, n, d: _repeated(rng, _clusters(rng, n, d), n // 3) * rng.choice([-1.0, 1.0], size=(n, 1)),
    "sparse": _sparse,
    "one-hot": lambda rng, n, d: np.eye(d)[rng.integers(0, d, n)],
    "signs": lambda rng, n, d: rng.choice([-1.0, 1.0], size=(n, d)),
    "heavy tails": lambda rng, n, d: rng.standard_cauchy(size=(n, d)),
    "one outlier": _outlier,
    "last bits": _nearly_equal,
    "low rank": lambda rng, n, d: rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)),
    "off by nothing": lambda rng, n, d: 1.0 + 1e-25 * np.eye(d)[rng.integers(0, d, n)],
    "off by little": lambda rng, n, d: np.hstack([np.ones((n, d - 1)), 1e-20 * rng.random((n, 1))]),
    "bytes": lambda rng, n, d: rng.integers(-128, 128, size=(n, d)).astype(float),
}
DTYPES = ("float32", "float32", "float32", "float16", "float64", "int8")
DIMENSIONS = (1, 2, 3, 4, 5, 8, 8, 8, 16, 17, 33, 64, 100)


def _stored(rows: Vectors, dtype: str) -> Vectors:
    """Rows in a type that may be too small for them: clipped, not infinite."""
    rows = rows.astype(np.float64)
    if dtype == "int8":
        largest = float(np.abs(rows).max()) or 1.0
        rows = np.round(rows * (100 / largest)) if largest > 127 or largest < 40 else np.round(rows)
        return np.clip(rows, -128, 127).astype(np.int8)
    edge = float(np.finfo(dtype).max) / 4
    return np.clip(rows, -edge, edge).astype(dtype)


def _with_bad_rows(rng: Random, rows: Vectors) -> Vectors:
    """One row in ten: zero, NaN, infinite, too short or too long for any direction."""
    rows = rows.copy()
    for row in np.flatnonzero(rng.random(len(rows)) < 0.1).tolist():
        place = int(rng.integers(0, rows.shape[1]))
        kind = int(rng.integers(0, 5)) if rows.dtype.kind == "f" else 0
        if kind == 0:
            rows[row] = 0
        elif kind == 1:
            rows[row, place] = np.nan
        elif kind == 2:
            rows[row, place] = -np.inf
        elif rows.dtype == np.float64:
            rows[row] = (1e-80 if kind == 3 else 1e80) * np.sign(rows[row] + 0.5)
    return rows


# ---------------------------------------------------------------- what is said of rows


def _labels(rng: Random, n: int, kind: str) -> tuple[Any, ...]:
    classes = int(rng.choice([2, 3, 6, max(2, n // 3), max(2, n)]))
    codes = rng.integers(0, classes, n)
    if rng.random() < 0.15:
        codes[rng.random(n) < 0.8] = 0  # one big class
    if rng.random() < 0.02:
        codes[:] = 0
    none = rng.random(n) < float(rng.choice([0.0, 0.0, 0.2, 0.6]))
    if kind == "lists":
        more = [rng.integers(0, classes + 2, int(rng.integers(0, 3))).tolist() for _ in range(n)]
        lists = [
            [int(code), *other, *([None] if rng.random() < 0.1 else [])]
            for code, other in zip(codes, more, strict=True)
        ]
        return tuple((None if rng.random() < 0.5 else []) if off else one for off, one in zip(none, lists, strict=True))
    value: dict[str, Callable[[int], Any]] = {
        "ints": int,
        "texts": lambda code: ("", "é", "\U0001f600", "a")[code % 4] + str(code),
        "bools": lambda code: code % 2 == 0,
        "minus": lambda code: int(code) - 1,
    }
    return tuple(None if off else value[kind](int(code)) for off, code in zip(none, codes, strict=True))


def _ids(rng: Random, n: int, kind: str, shared: int) -> tuple[Any, ...]:
    numbers = rng.choice(max(2 * n, shared), n, replace=False)
    if kind == "texts":
        return tuple(("d", "é", "\uffee", "\U0001f600")[int(number) % 4] + str(number) for number in numbers)
    return tuple((int(number) - n) * (2**46 + 1) for number in numbers)  # beyond float64, within int64


def _repeated_ids(rng: Random, ids: tuple[Any, ...]) -> tuple[Any, ...]:
    """Some rows under an earlier row's id."""
    return tuple(ids[int(rng.integers(0, row + 1))] if rng.random() < 0.25 else own for row, own in enumerate(ids))


def _side(rng: Random, rows: Vectors, said: dict[str, Any], shared: int) -> Side:
    """A table of these rows; `said` tells what both tables have of."""
    n = len(rows)

    def some(values: Any, none: float) -> tuple[Any, ...]:
        return tuple(None if rng.random() < none else value for value in values)

    ids = _ids(rng, n, said["ids"], shared) if said["ids"] else None
    if ids is not None and said["duplicate ids"]:
        ids = _repeated_ids(rng, ids)
    versions = (
        [float(v) if v < 4 else float("nan") for v in rng.integers(0, 5, n)]
        if said["versions"] == "floats"
        else rng.integers(0, 4, n).tolist()
    )
    shares = [float("nan") if v < 0.1 else float(v) for v in np.round(rng.random(n), 1)]
    return Side(
        vectors=rows,
        labels=_labels(rng, n, said["labels"]) if said["labels"] else None,
        ids=ids,
        groups=some(rng.integers(0, int(rng.choice([2, 5, 20])), n).tolist(), 0.2) if said["groups"] else None,
        versions=some(versions, 0.15) if said["versions"] else None,
        guide=rng.normal(size=(n, said["guide"])).astype(np.float32) if said["guide"] else None,
        year=some(rng.integers(2020, 2026, n).tolist(), 0.1),
        lang=some([("en", "de", "fr")[i] for i in rng.integers(0, 3, n)], 0.1),
        share=some(shares, 0.1),
        dept=some(rng.integers(0, 3, n).tolist(), 0.1),
        part=some([("a", "b", "0")[i] for i in rng.integers(0, 3, n)], 0.1),
    )


def _pairs(rng: Random, left: int, right: int, each: float) -> Pairs:
    """Pairs of rows, a row now and then with many."""
    count = max(1, int(each * left))
    pairs = {(int(a), int(b)) for a, b in zip(rng.integers(0, left, count), rng.integers(0, right, count), strict=True)}
    if rng.random() < 0.4:
        one = int(rng.integers(0, left))
        pairs |= {(one, int(b)) for b in rng.integers(0, right, max(1, right // 3))}
    return tuple(pairs)


def _size(rng: Random, large: float) -> int:
    """Up to 80 rows mostly, some hundreds sometimes, a few thousand rarely."""
    luck = rng.random()
    if luck < large / 20:
        return int(rng.integers(2_000, 5_000))
    return int(rng.integers(100, 600) if luck < large else rng.integers(2, 81))


def draw_world(rng: Random, large: float = 0.05) -> World:
    """A world; `large` is the share of those with hundreds of rows."""
    kind, d, n = str(rng.choice(list(KINDS))), int(rng.choice(DIMENSIONS)), _size(rng, large)
    if n > 1_000:
        d = min(d, 16)
    asked = int(rng.integers(1, 40)) if rng.random() < 0.3 else 0  # rows of a table of queries
    dtype = str(rng.choice(DTYPES))
    both = KINDS[kind](rng, n + asked, d)
    if asked and rng.random() < 0.2:
        both[:asked] = both[asked + rng.integers(0, n, asked)]  # queries that stand in the corpus
    stored = _stored(both, dtype)
    if rng.random() < 0.1:
        stored = _with_bad_rows(rng, stored)
    known = rng.random() < (0.55 if asked else 0.25)
    labels = str(rng.choice(["ints", "ints", "texts", "bools", "lists", "minus"]))
    ids = str(rng.choice(["ints", "texts"])) if rng.random() < 0.5 else ""
    said = {
        "labels": labels if not known or rng.random() < 0.4 else "",
        "ids": ids,
        "duplicate ids": rng.random() < 0.2,
        "versions": str(rng.choice(["ints", "floats"])) if ids and rng.random() < 0.3 else "",
        "groups": rng.random() < 0.3,
        "guide": int(rng.choice([2, 4])) if rng.random() < 0.25 else 0,
    }
    queries = _side(rng, stored[:asked] if asked else stored, said, 2 * (n + asked))
    corpus = None
    if asked:
        rows = stored[asked:] if rng.random() < 0.9 else _stored(both[asked:], str(rng.choice(DTYPES)))
        corpus = _side(rng, rows, said, 2 * (n + asked))
    pairs = _pairs(rng, asked or n, n, float(rng.choice([0.3, 1.0, 3.0]))) if known else None
    excludes, leaves_out = rng.random() < 0.25, rng.random() < 0.15 and (ids or not asked)
    run = _pairs(rng, asked or n, n, float(rng.choice([2.0, 8.0]))) if rng.random() < 0.12 else None
    judged = rng.random() < 0.2 and run is None and (ids or not (known or excludes))
    return World(
        kind=f"{kind}, {dtype}",
        queries=queries,
        corpus=corpus,
        known=pairs,
        grades=tuple(rng.integers(0, 4, len(pairs)).tolist()) if pairs and rng.random() < 0.3 else None,
        excluded=_pairs(rng, asked or n, n, 1.0) if excludes else None,
        excluded_rows=(tuple(np.flatnonzero(rng.random(asked or n) < 0.15).tolist()) or None) if leaves_out else None,
        unknown_ids=bool(ids) and rng.random() < 0.1,
        run=run,
        judged=draw_judged(rng, asked or n, n) if judged else None,
    )
