"""The end of a run: check the gates, run the finishing pass, give the output its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from minestream.config.mine_config import MineConfig
from minestream.config.resources import Resources
from minestream.inputs.given import Given, tables_read
from minestream.mining.shards import Mining
from minestream.mining.slices import slice_notes
from minestream.outputs.finish import finished_rows
from minestream.outputs.gates import check_gates
from minestream.outputs.manifest import report_of
from minestream.outputs.run import Run
from minestream.outputs.target import Target
from minestream.system.stats import Report, ShardStats, merged


def publish(
    mining: Mining, run: Run, turned: bool = False,
    finish: Callable[[Sequence[Path]], Iterator[pa.Table]] | None = None,
) -> Report:  # fmt: skip
    """Check the gates, run the finishing pass if there is one, and put the output under its name.

    turned : whether it is the second output of --both-directions
    finish : makes the rows of the parts others, where no finishing pass does
    """
    config, parts = mining.config, [ShardStats.from_dict(record["stats"]) for record in run.every_part()]
    total = merged(parts)
    paths = [run.part_path(index) for index in run.indices]
    rows = None
    if mining.resources.shard is None:  # the finishing pass of slices is left to merge
        rows = finished_rows(config, paths, mining.keys(turned), total, mining.searcher.plan.bytes["room"])
    rows = finish(paths) if rows is None and finish is not None else rows
    if not (config.emit == "pairs" or config.max_uses is not None):  # these are counted by the finishing pass
        check_gates(mining.resources, total)

    def counts() -> dict[str, int]:  # asked after the finishing pass, before anything is published
        check_gates(mining.resources, total)
        return total.answer()

    def report() -> Report:
        return mining.report(run.target.final, [total], turned=turned)

    mining.progress.stage("publish", len(parts), "parts")
    files = run.publish(
        counts=counts, replace_parts=rows, extra=lambda: report().record(), threads=mining.searcher.plan.encoders
    )
    found = report()
    return replace(found, files=files, notes=(*found.notes, *slice_notes(mining, run.target.final)))


def finished_report(
    output: Target, manifest: dict[str, Any], given: Iterable[Given], resources: Resources
) -> Report:  # fmt: skip
    """The report of an output that --resume found complete; `given` are the tables that would be read.

    Raises GateMissedError where it misses a gate of this run: it may have been published without one.
    """
    recorded = report_of(manifest, output.final)
    config = recorded["config"]  # a file of JSON has it in the order of the alphabet
    recorded |= {"config": {name: config[name] for name in MineConfig.__dataclass_fields__ if name in config} | config}
    kept = {name: recorded.get(name) for name in ("seconds", "command", "folder")}
    source = recorded["source"]
    theirs = sum(file["rows"] or 0 for file in manifest["source"] if file.get("role") == "corpus")
    sizes = {"INPUT": source | {"rows": source["rows"] - theirs}, "--corpus": source | {"rows": theirs}}
    if config.get("turned"):
        sizes = dict(zip(sizes, reversed(sizes.values()), strict=True))
    kept |= {"inputs": tables_read(given, sizes), "files": tuple(manifest["files"])}
    stats = ShardStats.from_dict(recorded["stats"])
    check_gates(resources, stats, f"{output.final} was complete before, and stays; mined again it has the same rows")
    return Report.of(output.final, recorded, stats, already=True, **kept)
