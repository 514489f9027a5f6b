"""One job on many machines: which slice of it this process mines, which shards that slice owns, what cannot be cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minestream.engines import ENGINES, HERE
from minestream.errors import UsageError

if TYPE_CHECKING:
    from minestream.resources import Resources

SLICE = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Slice:
    """Slice `number` of `count`, from 1."""

    number: int
    count: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"slice-{self.number:03d}-of-{self.count:03d}"

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_slice(text: str) -> Slice:
    """The slice that `I/N` means."""
    found = SLICE.fullmatch(text.strip())
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"--shard takes I/N with I from 1 to N, not {text!r}", "the third of eight is --shard 3/8")
    return Slice(number, count)


def owned_shards(costs: Sequence[int], own: Slice) -> list[int]:
    """The shards of a slice: the costliest first, each goes to the slice with the least so far; equal ones in order."""
    loads = [0] * own.count
    owned = []
    for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        lightest = min(range(own.count), key=lambda place: (loads[place], place))
        loads[lightest] += costs[index]
        if lightest == own.number - 1:
            owned.append(index)
    return sorted(owned)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Where `asked` holds, the resources mean nothing together."""

    asked: Callable[[Resources], object]
    message: str
    hint: str


REFUSALS = (
    Refusal(
        lambda r: r.shard and r.engine != HERE,
        "--shard and --engine exclude each other",
        "a slice is mined by this process; an engine deals out the whole job",
    ),
    Refusal(
        lambda r: r.shard and (r.require_rows is not None or r.max_short is not None),
        "--require-rows and --max-short look at all rows, a slice has some",
        "give them to minestream merge",
    ),
    Refusal(
        lambda r: r.address and not ENGINES[r.engine].clusters,
        "--address is that of a cluster",
        "name what runs there: --engine dask or ray",
    ),
    Refusal(
        lambda r: r.workers is not None and not ENGINES[r.engine].clusters,
        "--workers is for --engine dask or ray",
        "here --threads says how much runs at a time",
    ),
    Refusal(
        lambda r: r.workers is not None and r.address,
        "--workers and --address exclude each other",
        "a cluster that runs has its workers",
    ),
    Refusal(lambda r: r.workers is not None and r.workers < 1, "--workers must be at least 1", ""),
)


def check_machines(resources: Resources) -> None:
    """Refuse what means nothing, by REFUSALS."""
    if resources.shard is not None:
        parse_slice(resources.shard)
    for refusal in REFUSALS:
        if refusal.asked(resources):
            raise UsageError(refusal.message, refusal.hint)


def refuse_machines(resources: Resources, what: str) -> None:
    """Refuse slices and engines for `what` cannot be cut into parts that lie in one place."""
    if resources.shard is not None or resources.engine != HERE:
        option = "--shard" if resources.shard is not None else f"--engine {resources.engine}"
        raise UsageError(f"{option} is not for {what}", "mine files to a file or folder that all machines reach")
