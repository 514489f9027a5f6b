"""What a judge says of lists: scores and verdicts as they are drawn, and what follows from them, without the product.

Rows are named by id where there are ids, else by their numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

Names = Sequence[Any] | None  # the ids of a table
Said = tuple[tuple[int, int, Any], ...]  # row of the queries, row of the candidates, and what is said of the two

# Formulas over two tables and the similarity; None: the one table there is.
OF_ONE: dict[str | None, Callable[[float, float, float], float]] = {
    None: lambda ce, bm25, sim: ce,
    "-ce": lambda ce, bm25, sim: -ce,
    "0.7*ce + 0.3*sim": lambda ce, bm25, sim: 0.7 * ce + 0.3 * sim,
    "ce + 0.001*sim": lambda ce, bm25, sim: ce + 0.001 * sim,
    "sqrt(ce) - 1": lambda ce, bm25, sim: math.sqrt(ce) - 1,
    "sim / ce": lambda ce, bm25, sim: sim / ce,
    "min(abs(ce), sim)": lambda ce, bm25, sim: min(abs(ce), sim),
    "sim": lambda ce, bm25, sim: sim,
}
OF_TWO: dict[str | None, Callable[[float, float, float], float]] = {
    "0.6*ce + 0.4*bm25": lambda ce, bm25, sim: 0.6 * ce + 0.4 * bm25,
    "max(ce, bm25)": lambda ce, bm25, sim: max(ce, bm25),
    "(ce - bm25/3) * sim": lambda ce, bm25, sim: (ce - bm25 / 3) * sim,
    "bm25": lambda ce, bm25, sim: bm25,
}
TABLES = ("ce", "bm25")
HARD_BY = ("rank", "similarity", "loss")
ALL_PAIRS = 20_000  # of larger worlds some pairs are judged


@dataclass(frozen=True)
class Judged:
    """Tables of scores by name, and verdicts.

    as_text : ids are written as texts, whatever they are
    """

    scores: tuple[tuple[str, Said], ...] = ()
    verdicts: Said | None = None
    as_text: bool = False

    def moved(self, left: Mapping[int, int], right: Mapping[int, int]) -> Judged:
        """The same of rows that have other numbers, without the rows that have none."""

        def of(said: Said) -> Said:
            return tuple((left[a], right[b], value) for a, b, value in said if a in left and b in right)

        scores = tuple((name, kept) for name, said in self.scores if (kept := of(said)))
        return replace(self, scores=scores, verdicts=of(self.verdicts or ()) or None)

    def smaller(self) -> list[Judged]:
        """The same without its verdicts, and with half of them."""
        if self.verdicts is None:
            return []
        half = len(self.verdicts) // 2
        parts = (self.verdicts[:half], self.verdicts[half:])
        return [replace(self, verdicts=part or None) for part in ((), *(part for part in parts if half))]


def draw_judged(rng: np.random.Generator, left: int, right: int) -> Judged:
    """Scores that many pairs share or lack, and verdicts, of tables with so many rows."""
    tables = int(rng.choice([0, 1, 1, 1, 2]))
    scores = tuple((name, _said(rng, left, right, _values)) for name in TABLES[:tables])
    verdicts = None
    if rng.random() < 0.4:
        verdicts = _said(rng, left, right, lambda rng, n: rng.choice(["positive", "drop", "keep"], n), (0.02, 0.3))
    return Judged(scores, verdicts, bool(rng.random() < 0.15))


def _said(
    rng: np.random.Generator, left: int, right: int, values: Any, shares: Sequence[float] = (1.0, 0.9, 0.5)
) -> Said:
    """A value for a share of all pairs, at least one."""
    count = min(left * right, ALL_PAIRS)
    pairs = rng.choice(left * right, count, replace=False) if left * right < 10**6 else rng.integers(0, 10**6, count)
    pairs = pairs[: max(1, int(float(rng.choice(shares)) * count))]
    found = values(rng, len(pairs)).tolist()
    return tuple((pair // right, pair % right, value) for pair, value in zip(pairs.tolist(), found, strict=True))


def _values(rng: np.random.Generator, n: int) -> np.ndarray[Any, Any]:
    kinds = (
        rng.integers(0, 4, n).astype(float), np.round(rng.normal(size=n), 1), rng.normal(size=n), rng.random(n),
        np.zeros(n), rng.normal(size=n) * 1e30,
    )  # fmt: skip
    return kinds[int(rng.integers(len(kinds)))]


class Judge:
    """What is said of rows by name.

    Parameters
    ----------
    said : Judged
    names : the ids of both tables
    by, metric : the formula, and what the similarity is of
    """

    def __init__(self, said: Judged, names: tuple[Names, Names], by: str | None, metric: str) -> None:
        self.said, self._names = said, names
        self._formula, self._by, self._cosine = (OF_ONE | OF_TWO)[by], by or TABLES[0], metric == "cosine"
        self._scores = {name: self._by_name(table) for name, table in said.scores}
        self._verdicts = self._by_name(said.verdicts or ())
        self.missed = 0  # how often there was no score

    def _name(self, side: int, row: int) -> Any:
        names = self._names[side]
        return row if names is None else names[row]

    def _by_name(self, said: Said) -> dict[tuple[Any, Any], Any]:
        found: dict[tuple[Any, Any], Any] = {}
        for a, b, value in said:
            found.setdefault((self._name(0, a), self._name(1, b)), value)
        return found

    def score(self, anchor: int, row: int, x: float) -> float | None:
        """The value of the formula; None where it has none."""
        pair = self._name(0, anchor), self._name(1, row)
        given = [self._scores.get(name, {}).get(pair) for name in TABLES]
        value = math.nan
        if not any(each is None and name in self._by for name, each in zip(TABLES, given, strict=True)):
            try:
                value = self._formula(*given, 1.0 - x if self._cosine else -x)
            except (ValueError, ZeroDivisionError):
                value = math.nan
        self.missed += not math.isfinite(value)
        return value if math.isfinite(value) else None

    def verdicts(self, rows_of: tuple[Mapping[Any, int], Mapping[Any, int]]) -> dict[tuple[int, int], str]:
        """By the rows that stand for their names."""
        return {(rows_of[0][a], rows_of[1][b]): value for (a, b), value in self._verdicts.items()}

    def tables(self) -> dict[str, Any]:
        """The keywords of select."""
        found: dict[str, Any] = {}
        if self._scores:
            found["scores"] = {name: self._table(each, "score") for name, each in self._scores.items()}
            if [*self._scores] == [self._by]:  # one needs no name
                found["scores"] = found["scores"][self._by]
        if self._verdicts:
            found["verdicts"] = self._table(self._verdicts, "verdict")
        return found

    def _table(self, said: Mapping[tuple[Any, Any], Any], name: str) -> pa.Table:
        rows = [(*pair, value) for pair, value in said.items()]
        rows += rows[::7]  # what is said twice is said once
        left, right, values = zip(*rows, strict=True)
        if self.said.as_text:
            left, right = ([str(each) for each in names] for names in (left, right))
        return pa.table({"query_id": pa.array(left), "document_id": pa.array(right), name: pa.array(values)})


def buckets_of(columns: Mapping[str, list[Any]], buckets: int, by: str) -> list[int]:
    """In which part of all rows each lies: how many of the quantiles i / buckets it reaches, in exact arithmetic."""
    role = "query" if "query_row" in columns else "anchor"
    pairs = list(zip(columns[f"{role}_row"], columns["positive_row"], strict=True))
    hardness: list[float] = []
    if by == "rank":
        first: dict[tuple[Any, Any], int] = {}
        hardness = [float(first.setdefault(pair, row) - row) for row, pair in enumerate(pairs)]
    elif by == "loss":
        hardness = [float(value) for value in columns["loss"]]
    elif "score_an" in columns:
        hardness = [float(value) for value in columns["score_an"]]
    else:
        hardness = [-float(value) for value in columns["distance_an"]]
    ordered = sorted(hardness)
    edges = []
    for i in range(1, buckets if ordered else 1):
        whole, rest = divmod((len(ordered) - 1) * i, buckets)
        low, high = (Fraction(ordered[min(place, len(ordered) - 1)]) for place in (whole, whole + 1))
        edges.append(low + (high - low) * Fraction(rest, buckets))
    return [sum(Fraction(value) >= edge for edge in edges) for value in hardness]
