"""Remembering, beside an output, what the next update needs: which runs can be, and the step that does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minestream.config import MineConfig, Resources
from minestream.errors import UsageError
from minestream.miner import Mining
from minestream.places import RemotePath
from minestream.refreshing import Changes, refreshed
from minestream.reserve import Reserve, about, read_reserve, reserve_path, write_reserve
from minestream.stats import Report, ShardStats
from minestream.target import Target

Prepare = Callable[[Mining], Report | None]
MUST_AGREE = ("version", "config", "columns", "dimension", "dtype")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row of LEFT_OUT: where `holds`, lists of neighbours decide nothing."""

    holds: Callable[[MineConfig], bool]
    reason: str


LEFT_OUT: tuple[LeftOut, ...] = (
    LeftOut(lambda c: c.two_tables, "there are two tables"),
    LeftOut(lambda c: c.split_roles, "conditions tell anchors from candidates (--anchor-where, --candidate-where)"),
    LeftOut(lambda c: c.window is not None, "a window (--window) looks at the rows before each row only"),
    LeftOut(lambda c: c.listed_positives, "positives are listed (--qrels)"),
    LeftOut(lambda c: c.exclusions, "pairs or rows are excluded (--exclude, --exclude-rows)"),
    LeftOut(lambda c: c.pick != "nearest", "--pick random and weighted may take any candidate"),
    LeftOut(lambda c: bool(c.drop_duplicates_within), "--drop-duplicates-within above 0 compares vectors"),
)


def left_out(config: MineConfig) -> str:
    """Why nothing can be remembered of such a run; empty where it can."""
    return next((row.reason for row in LEFT_OUT if row.holds(config)), "")


def reserving(configs: Sequence[MineConfig], outputs: Sequence[Target], resources: Resources) -> Prepare | None:
    """The step of `mine --reserve R`, before anything is mined; None without the option.

    Raises
    ------
    UsageError
        For a run of which nothing can be remembered.
    """
    if resources.reserve is None:
        return None
    if resources.reserve < 1:
        raise UsageError("--reserve must be at least 1", "16 do for most sets")
    if len(outputs) > 1:
        raise UsageError("--reserve is for one margin", "mine each by itself, or leave it out")
    if left_out(configs[0]):
        raise UsageError(f"--reserve does not help here: {left_out(configs[0])}", "leave it out: updates are full runs")
    amount, final = resources.reserve, outputs[0].final
    if isinstance(final, RemotePath):
        raise UsageError("--reserve needs an output on a local disk, beside which the reserve lies", "leave it out")

    path = reserve_path(final)

    def prepare(miner: Mining) -> None:
        old = read_reserve(path) if resources.resume else None
        here = about_of(miner, amount)
        remember(miner, path, old if old and agrees(old, here) else None, here)

    return prepare


def about_of(miner: Mining, amount: int) -> dict[str, Any]:
    """What a reserve of this run says of itself."""
    source = miner.source
    return about(miner.config.to_dict(), miner.columns(), source.dimension, source.dtype, amount)


def agrees(old: Reserve, here: dict[str, Any]) -> bool:
    """Whether a reserve is of the same configuration."""
    return all(old.about[name] == here[name] for name in MUST_AGREE)


def remember(miner: Mining, path: Path, old: Reserve | None, here: dict[str, Any]) -> Changes:
    """Bring the lists up to date, write them to `path` and let the run answer from them."""
    stats = ShardStats()
    miner.progress.stage("reserve", 0, "pairs")
    with stats.stage("reserve"):
        reserve, changes = refreshed(
            miner.setting_for(stats), miner.config, miner.anchors, old, here, miner.list_bytes
        )  # fmt: skip
        write_reserve(path, reserve)
    miner.reading.seconds |= {"reserve": stats.seconds["reserve"]}
    miner.remembered = reserve.remembered
    miner.progress.stage("mine", miner.plan.facts["pairs_to_compute"], "pairs")
    return changes
