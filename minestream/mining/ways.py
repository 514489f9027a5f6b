"""The outputs of a run: one, or with --both-directions another beside it, whose queries are the rows of the corpus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from minestream.config.mine_config import MineConfig
from minestream.config.resources import Resources
from minestream.inputs.tables import Sources
from minestream.mining.publish import publish
from minestream.mining.shards import Mining
from minestream.mining.slices import slice_of
from minestream.outputs.gates import check_gates
from minestream.outputs.manifest import refuse_differences
from minestream.outputs.run import Run
from minestream.outputs.stores import target_at
from minestream.outputs.target import AGAIN, Target
from minestream.system.paths import AnyPath
from minestream.system.stats import Report, ShardStats, merged

TURNED = {"": "corpus", "corpus": ""}  # the roles of the two tables, as the second output records them


class Way(NamedTuple):
    """An output of a run, before anything is read."""

    output: Target
    config: MineConfig
    read: list[dict[str, str]]  # where the files lie that are read, by role

    def sources(self, sources: Sources) -> Sources:
        """What is mined, as this output records it."""
        return sources.turned() if self.config.turned else sources

    def same(self, finished: dict[str, Any], sources: Sources) -> None:
        """Raise OutputError unless this output, which is there, was mined from these tables, which were read."""
        own = self.sources(sources)
        found = {"source": own.identity(), "others": own.others(), "columns": own.columns_used()}
        what = f"{self.output.final} was mined from something else"
        refuse_differences(what, finished, finished | found, AGAIN)


def ways_of(output: Target, config: MineConfig, resources: Resources, read: list[dict[str, str]]) -> list[Way]:
    """The outputs of a run: `output`, and with --both-directions the one beside it."""
    ways = [Way(output, config, read)]
    if resources.both_directions:
        turned = [mark | {"role": TURNED.get(mark["role"], mark["role"])} for mark in read]
        back = target_at(back_of(output.final), resources.scratch)
        ways.append(Way(back, replace(config, turned=True), turned))
    return ways


def back_of(final: AnyPath) -> AnyPath:
    """Where the second output goes: NAME.back.parquet, or of a folder NAME.back."""
    whole = final.suffix == ".parquet"
    return final.parent / (f"{final.stem}.back.parquet" if whole else f"{final.name}.back")


class Part(NamedTuple):
    """The run that writes one output, and which shards are its parts: those from `first` on."""

    run: Run
    first: int
    turned: bool

    @property
    def shards(self) -> list[int]:
        """Its shards."""
        return [self.first + index for index in self.run.indices]

    @property
    def todo(self) -> list[int]:
        """Those of them that are not finished."""
        return [self.first + index for index in self.run.indices if self.run.finished(index) is None]


def begun(mining: Mining, ways: Sequence[Way], finished: Sequence[object]) -> list[Part]:
    """Begin, or go on with, the outputs of a run that are not `finished`."""
    parts, resources = [], mining.resources
    for turned, (way, done) in enumerate(zip(ways, finished, strict=True)):
        if done is not None:
            continue
        first, sources = mining.turn * turned, way.sources(mining.sources)
        run = way.output.start(
            mining.driver.held, resume=resources.resume, overwrite=resources.overwrite, config=way.config.to_dict(),
            fingerprint=way.config.fingerprint(), source=sources.identity(), columns=sources.columns_used(),
            parts=len(mining.plan.shards) - first if turned else mining.turn, others=sources.others(), read=way.read,
            **slice_of(mining),
        )  # fmt: skip
        parts.append(Part(run, first, bool(turned)))
    return parts


def in_turn(parts: Iterable[Part]) -> list[int]:
    """What is left to mine, of several outputs by turns, so that the shards of both are searched together."""
    todo = [part.todo for part in parts]
    placed = chain.from_iterable([((n + 1) / len(some), index) for n, index in enumerate(some)] for some in todo)
    return [index for _, index in sorted(placed)]


def part_of(parts: Sequence[Part], shard: int) -> tuple[Run, int]:
    """The run that a shard is of, and which of its parts it is."""
    own = next(part for part in reversed(parts) if shard >= part.first)
    return own.run, shard - own.first


def published(mining: Mining, parts: Sequence[Part]) -> list[Report]:
    """Give every output its name, once all meet the gates that can be checked before."""
    if len(parts) > 1 and mining.config.max_uses is None:
        for part in parts:
            stats = merged(ShardStats.from_dict(record["stats"]) for record in part.run.every_part())
            check_gates(mining.resources, stats)
    return [publish(mining, part.run, part.turned) for part in parts]


def joined(reports: Iterable[Report]) -> Report:
    """The report of the first output, with that of the second, if there is one."""
    first, *more = reports
    return replace(first, back=more[0]) if more else first
