"""The end of a run: gates, the finishing pass, the output under its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from minestream.config.mine_config import MineConfig
from minestream.config.rules import EMITS
from minestream.config.trainer_formats import FORMATS
from minestream.mining.shards import Mining
from minestream.outputs.finish import Shape, finished_rows
from minestream.outputs.gates import check_gates
from minestream.outputs.manifest import report_of
from minestream.outputs.run import Run
from minestream.outputs.target import Target
from minestream.outputs.trainers.columns import Scoring
from minestream.outputs.trainers.convert import SAME_TEXT, Counts, as_lines, convert
from minestream.outputs.trainers.texts import LoadedTexts
from minestream.system.stats import Report, ShardStats, merged


def publish(miner: Mining, run: Run) -> Report:
    """Check the gates, run the finishing pass if there is one, and put the output under its name."""
    config, parts = miner.config, [ShardStats.from_dict(record["stats"]) for record in run.every_part()]
    total = merged(parts)
    paths = [run.part_path(index) for index in run.indices]
    sliced = miner.resources.shard is not None  # what is finished of all parts is left to the merge
    rows = (
        None
        if sliced
        else finished_rows(
            config, paths, miner.keys(), total, trainer_shape(miner, config, total), miner.searcher.plan.ordered_rows
        )
    )
    if not (config.emit == "pairs" or config.emit in FORMATS or config.max_uses is not None):  # counted late
        check_gates(miner.resources, total)

    def counts() -> dict[str, int]:  # pairs and uses are counted by the finishing pass, before anything is published
        check_gates(miner.resources, total)
        return total.answer()

    def report() -> Report:
        return miner.report(run.target.final, [total])

    miner.progress.stage("publish", len(parts), "parts")
    run.publish(counts=counts, replace_parts=rows, extra=lambda: report().to_dict())
    return report()


def trainer_shape(miner: Mining, config: MineConfig, total: ShardStats) -> Shape | None:
    """What makes a trainer's rows of triplets, counting them into `total`; None where triplets are what is wanted."""
    loaded = miner.loaded
    if config.emit not in FORMATS:
        return None

    def shape(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        counts = Counts()
        rows = convert(
            config.emit, tables, k=config.negatives,
            scoring=Scoring.of(config.scores or "none", config.metric, config.float64),
            short_rows=config.short_rows or "keep", texts=LoadedTexts(loaded, config), counts=counts,
        )  # fmt: skip
        yield from rows if EMITS[config.emit].suffix == ".parquet" else as_lines(config.emit, rows)
        total.rows, total.repeated = counts.rows, counts.repeated
        total.drop("short pairs", counts.dropped)
        total.drop(SAME_TEXT, counts.same_text)

    return shape


def already(output: Target, manifest: dict[str, Any]) -> Report:
    """The report of an output that --resume found complete."""
    told = report_of(manifest, output.final)
    return Report.of(output.final, told, ShardStats.from_dict(told["stats"]), seconds=told["seconds"], already=True)
