"""Slices of an output: the folder OUT.slices/slice-003-of-008 holds the parts of one; its manifest lists them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minestream.config.parse import Slice, parse_slice
from minestream.config.resources import Resources
from minestream.mining.shards import Mining
from minestream.outputs.stores import target_of
from minestream.outputs.target import Target
from minestream.system import ragged
from minestream.system.paths import AnyPath

SLICES = ".slices"


def slices_of(final: AnyPath) -> AnyPath:
    """The folder of the slices of OUT."""
    return final.parent / f"{final.name}{SLICES}"


def slice_target(whole: Target, own: Slice, resources: Resources) -> Target:
    """The target of one slice of an output: a folder of parts with a separate lock.

    Raises
    ------
    OutputError
        When OUT cannot be written.
    """
    whole.refuse_place()
    folder = slices_of(whole.final)
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
    return (f"{what}; when all slices are there, minestream merge makes {str(place.parent).removesuffix(SLICES)}",)


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
