"""The options of `batch`, and what they mean together."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import MISSING, asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from minestream.config.option import COUNT, FIRST, Range, check_value, option
from minestream.errors import UsageError

METHODS = {
    "graph": "communities of pairs whose positives are near the other anchors; several make a batch",
    "nearest": "each batch grows from one pair by what is near its members",
    "cluster": "cells of near anchors (k-means), cut to batches",
    "random": "whatever comes: what the others are compared with",
}
FALSE_NEGATIVES = {
    "known": "by labels, groups, qrels and exclusions, and what equals the anchor or its positive: rows, --same",
    "similar": "those, and positives nearer to the anchor than its own by more than --false-negative-margin",
    "off": "none is kept apart",
}
PRESETS: dict[str, dict[str, Any]] = {
    "b3": {"method": "graph", "skip": 30, "neighbors": 100},
    "tas-b": {"method": "cluster"},
    "arctic": {"method": "cluster"},
    "random-stratified": {"method": "random"},
}
PRESETS_MEAN = {
    "b3": "B3: communities among the 100 nearest behind the first 30",
    "tas-b": "TAS-B: a batch is of one cluster of anchors",
    "arctic": "Arctic-embed: a batch is of one cluster within one source: needs --stratify",
    "random-stratified": "a batch is of one source: needs --stratify",
}
PAIRS_FROM = {
    "mined": "a mined file or folder of triplets or tuples: its pairs, with their negatives",
    "labels": "a table: each row with its easiest positive, as mine chooses it",
    "qrels": "a table of queries: each with every positive that --qrels lists for it",
}
SEARCHING = ("graph", "nearest")
NEIGHBORS = 16
STRATIFIED = ("arctic", "random-stratified")


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Options of `batch`."""

    out: str = option(
        MISSING, "text", "", "The .parquet file to write.", flags=("-o", "--out"), metavar="OUT", use=FIRST
    )  # fmt: skip
    pairs_from: str = option("mined", "choice", "", "What INPUT is.", choices=PAIRS_FROM, use=FIRST)
    batch_size: int = option(64, "integer", "", "Pairs of a batch.", metavar="B", within=Range(2), use=FIRST)
    preset: str | None = option(
        None, "choice", "", "A published recipe; what is given beside it wins.", choices=PRESETS_MEAN
    )  # fmt: skip
    method: str | None = option(
        None, "choice", "", "Which pairs meet. Default: graph.", choices=METHODS, use=FIRST
    )  # fmt: skip
    group_size: int | None = option(
        None, "integer", "", "Pairs of a community. Default: 8 for graph, else a batch.", metavar="N", within=COUNT
    )  # fmt: skip
    neighbors: int | None = option(
        None, "integer", "", "Positives near an anchor that make their pairs its neighbors. Default: 16.", metavar="N",
        within=COUNT
    )  # fmt: skip
    skip: int | None = option(
        None, "integer", "", "Nearest positives of others that make no neighbors. Default: 0.", metavar="S",
        within=Range(0)
    )  # fmt: skip
    stratify: str | None = option(
        None, "text", "", "Column of INPUT (of mined pairs a carried one): each batch is of one of its values.",
        metavar="COL"
    )  # fmt: skip
    equal: bool = option(
        False, "flag", "", "As many batches of each stratum as of the smallest, or (default) as its pairs make.",
        flags=("--equal/--proportional",)
    )  # fmt: skip
    epochs: int = option(1, "integer", "", "Epochs, each composed anew.", metavar="N", within=COUNT)
    hardness_schedule: str | None = option(
        None, "text", "", "Share of the communities that stay together, by epoch; linear between those named. Of pairs "
        "with a column bucket (select --buckets): share of the buckets that take part, the easy ones first.",
        metavar="E:SHARE,..."
    )  # fmt: skip
    false_negatives: str = option("known", "choice", "", "What may not meet in a batch.", choices=FALSE_NEGATIVES)
    false_negative_margin: float = option(
        0.1, "number", "", "By how much a similar positive is nearer.", metavar="T", within=Range(0)
    )  # fmt: skip
    same: tuple[str, ...] = option(
        (), "repeat", "",
        "Column of INPUT (of mined pairs a carried one) whose equal values make false negatives, such as a text; "
        "repeatable.", metavar="COL"
    )  # fmt: skip
    mask: bool = option(False, "flag", "", "Write for each row which places of its batch are false negatives.")
    keep_last: bool = option(
        False, "flag", "", "Keep batches that are not full, or (default) leave their pairs out.",
        flags=("--keep-last/--drop-last",)
    )  # fmt: skip
    source: str | None = option(
        None, "text", "", "The mined input, if it is neither where it was nor beside INPUT nor here.", metavar="PATH"
    )  # fmt: skip

    def config(self) -> dict[str, Any]:
        """What decides which pairs meet."""
        found = {name: value for name, value in asdict(self).items() if name not in ("out", "source")}
        return found | {"same": [*self.same]}

    def late(self) -> list[str]:
        """A note where --hardness-schedule names an epoch that is not composed."""
        last = _points(self.hardness_schedule)[-1][0] if self.hardness_schedule else 0
        what = f"--hardness-schedule goes on to epoch {last}, and epochs count from 0: --epochs {last + 1} composes it"
        return [what] * (last >= self.epochs)

    def shares(self) -> list[float]:
        """The share of the communities that stay together, of each epoch."""
        points = _points(self.hardness_schedule) if self.hardness_schedule is not None else [(0, 1.0)]
        return [_between(points, epoch) for epoch in range(self.epochs)]


def asked_batching(**given: Any) -> Batching:
    """The options of `batch` with those of the preset and every default filled in.

    Raises
    ------
    UsageError
        For a value outside its choices or range, or a combination that means nothing.
    """
    check_value(next(spec for spec in fields(Batching) if spec.name == "preset"), given.get("preset"))
    chosen = PRESETS.get(given.get("preset") or "", {})
    values = {"out": ""} | given | {name: value for name, value in chosen.items() if given.get(name) is None}
    values["method"] = values.get("method") or "graph"
    same = values.get("same") or ()
    values["same"] = (same,) if isinstance(same, str) else tuple(same)
    if not all(isinstance(name, str) for name in values["same"]):
        raise UsageError(f"--same takes names of columns, not {same!r}")
    asked = Batching(**values)
    for spec in fields(asked):
        check_value(spec, getattr(asked, spec.name))
    asked.shares()
    searches = asked.method in SEARCHING
    for name in ("neighbors", "skip"):
        if not searches and given.get(name) is not None:
            raise UsageError(f"--{name} has no meaning for --method {asked.method}", "it is for graph and nearest")
    if asked.group_size is not None and asked.group_size > asked.batch_size:
        raise UsageError(f"--group-size {asked.group_size} is more than a batch holds", "give a larger --batch-size")
    if asked.preset in STRATIFIED and asked.stratify is None:
        raise UsageError(f"--preset {asked.preset} keeps sources apart", "name their column: --stratify COL")
    if asked.equal and asked.stratify is None:
        raise UsageError("--equal is about strata", "name their column: --stratify COL")
    filled = (
        {"neighbors": asked.neighbors or NEIGHBORS, "skip": asked.skip or 0}
        if searches
        else dict.fromkeys(("neighbors", "skip"))
    )
    return Batching(**values | filled)


def _points(text: str) -> list[tuple[int, float]]:
    """The points (epoch, share) of --hardness-schedule, ascending."""
    try:
        points = [(int(epoch), float(share)) for epoch, share in (each.split(":") for each in text.split(","))]
    except ValueError:
        points = []
    rising = all(a[0] < b[0] for a, b in pairwise(points))
    if not points or not rising or points[0][0] < 0 or not all(0 <= share <= 1 for _, share in points):
        what = f"--hardness-schedule {text!r} is no list of epochs, ascending, and shares from 0 to 1"
        raise UsageError(what, "0:0.2,3:1.0 goes from a fifth in the first epoch to all in the fourth")
    return points


def _between(points: list[tuple[int, float]], epoch: int) -> float:
    """The share at an epoch, on the line between the points around it."""
    at = bisect_right([each for each, _ in points], epoch)
    if at in (0, len(points)):
        return points[min(at, len(points) - 1) if at == 0 else -1][1]
    (first, low), (end, high) = points[at - 1 : at + 1]
    return low + (high - low) * (epoch - first) / (end - first)
