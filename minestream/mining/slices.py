"""Slices of an output: the folder OUT.slices/slice-003-of-008 holds the parts of one; its manifest lists them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from minestream.config.parse import Slice, parse_slice
from minestream.config.resources import Resources
from minestream.config.rules import finished_late
from minestream.errors import OutputError
from minestream.mining.shards import Mining
from minestream.outputs.stores import target_of
from minestream.outputs.target import Target
from minestream.system import ragged
from minestream.system.paths import AnyPath, place_of, text_of
from minestream.system.stats import Report

SLICES = ".slices"
NAMED = re.compile(r"slice-\d+-of-(\d+)(\.[a-z.]+)?")  # a slice, its manifest or its unfinished work


def slices_of(final: AnyPath) -> AnyPath:
    """The folder of the slices of OUT."""
    return final.parent / f"{final.name}{SLICES}"


def slice_target(whole: Target, own: Slice, resources: Resources) -> Target:
    """The target of one slice of an output: a folder of parts with a separate lock.

    Raises
    ------
    OutputError
        When OUT cannot be written, or has slices of another cut.
    """
    whole.refuse_place()
    folder = slices_of(whole.final)
    for name in names_in(folder):
        if (named := NAMED.fullmatch(name)) and int(named[1]) != own.count:
            raise OutputError(
                f"--shard {own}: {folder} holds {name}, of another cut, and slices of two cuts are not merged",
                f"go on with --shard I/{int(named[1])}, choose another -o, or remove that folder",
            )
    if isinstance(folder, Path) and not resources.dry_run:
        folder.mkdir(exist_ok=True)
    return target_of(folder / own.name, resources.scratch)


def slice_of(mining: Mining) -> dict[str, Any]:
    """The entry of a run's manifest about its slice; empty when the run mines all shards."""
    if mining.resources.shard is None:
        return {}
    own = parse_slice(mining.resources.shard)
    return {"slice": {"number": own.number, "of": own.count, "parts": owned_shards(shard_costs(mining), own)}}


def slice_notes(mining: Mining, place: AnyPath) -> tuple[str, ...]:
    """What to know of the slice at `place`: how many parts of its output it has, and how all slices become one."""
    about = slice_of(mining).get("slice")
    if about is None:
        return ()
    number, of, own, parts = about["number"], about["of"], len(about["parts"]), len(mining.plan.shards)
    few = "; more slices than parts leave some without rows" if parts < of else ""
    what = f"slice {number} of {of} has {own} of {parts} part{'s' * (parts != 1)}{few}"
    alone = [f"each slice mines its parts against all rows: {mining.apart}"] * (mining.apart is not None)
    return (
        *alone,
        f"{what}; when all slices are there, minestream merge makes {str(place.parent).removesuffix(SLICES)}",
    )


def names_in(folder: AnyPath) -> list[str]:
    """The names in a folder, in order; none where there is no folder."""
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


def after_slice(report: Report) -> str | None:
    """The command after that which mined a slice: for the next slice that is missing, else merge; None for no slice."""
    place = place_of(report.output or "")
    named, folder = NAMED.fullmatch(place.name), place.parent
    if named is None or not folder.name.endswith(SLICES) or report.command is None:
        return None
    count, there = int(named[1]), set(names_in(folder))
    for number in range(1, count + 1):
        if f"{Slice(number, count).name}.manifest.json" not in there:
            return re.sub(r"--shard \S+", f"--shard {number}/{count}", report.command, count=1)
    words = ["minestream", "merge", text_of(folder).removesuffix(SLICES)]
    if finished_late(*(report.config[name] for name in ("emit", "order", "max_uses"))):
        given = ((each["name"].replace("INPUT", "--source"), path) for each in report.inputs for path in each["paths"])
        words += chain.from_iterable(given)
    return shlex.join(words)


def shard_costs(mining: Mining) -> list[int]:
    """The cost of each shard, in pairs of rows to compare; from the data alone, so all slices compute the same."""
    loaded = mining.loaded
    candidates = loaded.store.rows - loaded.first_candidate
    total = ragged.starts(loaded.positives[mining.anchors] + 1 + candidates)
    return [int(total[end] - total[first]) for first, end in mining.plan.shards]


def owned_shards(costs: Sequence[int], own: Slice) -> list[int]:
    """The shards of a slice: each shard, the costliest first, goes to the slice with the lowest cost so far."""
    loads = [0] * own.count
    owned = []
    for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        lightest = min(range(own.count), key=lambda place: (loads[place], place))
        loads[lightest] += costs[index]
        if lightest == own.number - 1:
            owned.append(index)
    return sorted(owned)
