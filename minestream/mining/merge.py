"""merge: makes one output of its slices, byte for byte that of one run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

from minestream.config.border import public
from minestream.config.checks import UNCUT, refuse
from minestream.config.command_line import with_command
from minestream.config.derived import needs_finishing
from minestream.config.effects import idle
from minestream.config.keywords import MergeOptions
from minestream.config.memory_plan import encoders
from minestream.config.mine_config import MineConfig
from minestream.config.option import flag_of
from minestream.config.parse import Slice
from minestream.config.resolve import split_options
from minestream.config.resources import Resources, Tables, memory_budget, thread_count
from minestream.errors import OutputError, UsageError
from minestream.inputs.given import Given, given_tables, tables_read
from minestream.mining.driver import Driver
from minestream.mining.outcome import with_left_out
from minestream.mining.publish import finished_report, publish
from minestream.mining.shards import Mining
from minestream.mining.slices import SLICES, names_in, slices_of
from minestream.outputs.atomic import disk_errors
from minestream.outputs.gates import check_gates
from minestream.outputs.manifest import (
    RECORD,
    config_of,
    differences,
    fits,
    read_manifest,
    refuse_differences,
    report_of,
)
from minestream.outputs.mined import holds
from minestream.outputs.run import Run
from minestream.outputs.stores import target_of
from minestream.outputs.target import Target
from minestream.system.paths import AnyPath, RemotePath, place_of, text_of
from minestream.system.progress import Callback, Progress
from minestream.system.stats import Report, ShardStats, merged

MANIFEST = ".manifest.json"
SHOWN = 8
OF_THE_WORK = ("fingerprint", "source", "columns", "parts", "others", "read")  # the last two may be missing
AGAIN_MERGED = "--overwrite in place of --resume merges again, another -o leaves it as it is"
KEPT = "nothing was published; the slices are kept: merge them with another gate"


@public(MergeOptions)
def merge(
    slices: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    *,
    source: Any = None,
    progress_callback: Callback | None = None,
    **options: Unpack[MergeOptions],
) -> Report:
    """Make one output of its slices, after checking that none is missing and that they belong together.

    Parameters
    ----------
    slices : path, or sequence of paths
        OUT, whose slices lie in OUT.slices/; or every slice, wherever it lies: then `out` is needed.
    out : path, optional
    source : path, or list of paths
        The mined INPUT, for outputs with a finishing pass over all rows (pairs, shuffled order, --max-uses).
    progress_callback : callable, optional
    **options
        Options of mine() that change no row (resume, overwrite, memory, threads, scratch, require_rows, max_short,
        require_recall, progress), and with `source` the tables beside INPUT (corpus, qrels, ...).

    Returns
    -------
    Report

    Raises
    ------
    OutputError
        When a slice is missing or unfinished, two slices do not belong together, or a part is damaged.
    """
    places = _places(slices, out)
    resources, tables = _split(options)
    every = checked([found for place in places for found in found_at(place)])
    first = every[0].manifest
    config = config_of(first["config"], every[0].place, OutputError)
    finishing = needs_finishing(config)
    if finishing and source is None:
        raise UsageError(
            "this output is finished over all rows, which takes keys of the mined input",
            "name it with --source, and the tables beside it as in mine",
        )
    given = {"source": source, **options}
    target = target_of(places[0] if out is None else out, resources.scratch)
    resources = replace(resources, remarks=(*idle("merge", given, finishing=finishing), *target.remarks()))
    resources = with_command(resources, "merge", slices, out or text_of(places[0]), given)
    beside = [] if source is None else given_tables(source, tables, resources)
    target.refuse_inputs([Given("SLICE", [text_of(file) for each in every for file in each.files]), *beside])
    finished = target.check(resume=resources.resume, overwrite=resources.overwrite)
    if finished is not None:
        refuse_differences(f"{target.final} was merged from something else", finished, first, AGAIN_MERGED)
        return _merged(finished_report(target, finished, beside, resources), slices, every)
    with Driver(config, resources, progress_callback) as driver:
        work = {name: first[name] for name in OF_THE_WORK if name in first} | {"config": config.to_dict()}
        run = target.start(driver.held, resume=resources.resume, overwrite=resources.overwrite, **work)
        driver.held.callback(_discard, run)
        refuse_differences(f"{every[0].place} was mined otherwise", first, run.plan)
        mining = _mined_input(driver, source, tables, target, every[0]) if finishing else None
        _adopt(run, every, driver.progress)
        return _merged(_publish(run, every, driver) if mining is None else publish(mining, run), slices, every)


def _merged(report: Report, slices: Any, every: Sequence[MinedSlice]) -> Report:
    """The report of a merge of these slices, which were named as `slices`."""
    rows = sum(file["rows"] for each in every for file in each.manifest["files"])
    own = tables_read([Given("SLICE", slices)], {"SLICE": {"rows": rows}})
    source = (each | ({"name": "--source"} if each["name"] == "INPUT" else {}) for each in report.inputs)
    return with_left_out(replace(report, subcommand="merge", inputs=(*own, *source)))


def _places(slices: Any, out: Any) -> list[AnyPath]:
    """The paths given as slices; UsageError when they do not say what to merge, or where to."""
    places = [place_of(name, OutputError) for name in (slices if isinstance(slices, list | tuple) else [slices])]
    if not places:
        raise UsageError("no slice is named", "give OUT, or every slice of it")
    if out is None and (len(places) > 1 or is_slice(places[0])):
        raise UsageError("slices alone do not say where the output goes", "name it with -o OUT")
    return places


def _split(options: MergeOptions) -> tuple[Resources, Tables]:
    """The options as Resources and Tables; UsageError for an option of the rows."""
    for name in options:
        if name in MineConfig.__slots__:
            raise UsageError(f"merge takes no {flag_of(name)}", "it says what is mined: give it to mine --shard")
    _, resources, tables = split_options(options)
    refuse(UNCUT, resources, what="merge")
    return resources, tables


@dataclass(frozen=True)
class MinedSlice:
    """A finished slice: its folder and its manifest."""

    place: AnyPath
    manifest: dict[str, Any]

    @property
    def files(self) -> list[AnyPath]:
        """Its parts and its manifest."""
        parts = [self.place / file["name"] for file in self.manifest["files"]]
        return [*parts, self.place.parent / f"{self.place.name}{MANIFEST}"]

    @property
    def own(self) -> Slice:
        """Its number, and the number of slices."""
        return Slice(self.manifest["slice"]["number"], self.manifest["slice"]["of"])


def _manifest(place: AnyPath) -> dict[str, Any]:
    return read_manifest(place.parent / f"{place.name}{MANIFEST}") or {}


def is_slice(place: AnyPath) -> bool:
    """Whether a finished slice lies there."""
    found = _manifest(place)
    return found.get("slice") is not None and fits(found.get("files"), [RECORD])


def found_at(place: AnyPath) -> list[MinedSlice]:
    """The slice at a place, or all finished slices of an OUT of this name.

    Raises
    ------
    OutputError
        Where there is neither.
    """
    if is_slice(place):
        return [MinedSlice(place, _manifest(place))]
    folder = slices_of(place)
    every = [folder / name.removesuffix(MANIFEST) for name in names_in(folder) if name.endswith(MANIFEST)]
    found = [MinedSlice(each, _manifest(each)) for each in every if is_slice(each)]
    if not found:
        hint = "mine them first: minestream mine INPUT --shard 1/8 and so on"
        if place.name.endswith(SLICES):
            hint = f"name what the slices are of: {place.name.removesuffix(SLICES)}"
        raise OutputError(f"no finished slice lies in {folder}", hint)
    return found


def _names_its_parts(each: MinedSlice) -> bool:
    """Whether its files have the names of its parts: a forged name could lead to any file."""
    names = [f"part-{index:05d}.parquet" for index in each.manifest["slice"]["parts"]]
    return [file["name"] for file in each.manifest["files"]] == names


def checked(every: Sequence[MinedSlice]) -> list[MinedSlice]:
    """The slices in order.

    Raises
    ------
    OutputError
        Unless they are all slices of one job, each given once, and together hold each part once.
    """
    first = every[0]
    for other in every[1:]:
        lines = differences(first.manifest, other.manifest)
        if other.own.count != first.own.count:
            lines.append(f"slices: {first.own.count} -> {other.own.count}")
        if lines:
            raise OutputError(
                f"{first.place} and {other.place} do not belong to one job:\n  " + "\n  ".join(lines),
                "mine all slices with the same options, input and versions",
            )
    numbers, count = [each.own.number for each in every], first.own.count
    absent = count - sum(1 <= number <= count for number in set(numbers))
    if absent > 0:
        missing = list(islice((str(Slice(n, count)) for n in range(1, count + 1) if n not in numbers), SHOWN))
        more = f" and {absent - SHOWN} more" if absent > SHOWN else ""
        raise OutputError(
            f"{absent} of {count} slices are missing or unfinished: {', '.join(missing)}{more}",
            f"mine them with --shard {missing[0]} and so on; --resume where one was begun",
        )
    parts = sorted(index for each in every for index in each.manifest["slice"]["parts"])
    whole = len(parts) == first.manifest["parts"] and parts == list(range(len(parts)))
    if len(set(numbers)) < len(numbers) or not whole or not all(map(_names_its_parts, every)):
        raise OutputError(f"the slices of {first.place.parent} do not hold each part once", "give each slice once")
    return sorted(every, key=lambda each: each.own.number)


def _mined_input(driver: Driver, source: Any, tables: Tables, target: Target, mined: MinedSlice) -> Mining:
    """The input that the slices were mined from, read again."""
    wanted = {name: getattr(driver.config, name) for name in tables.derived()}
    if wanted != tables.derived():
        raise UsageError("the tables beside --source are not those of the slices", "give --corpus, --qrels as in mine")
    mining = Mining(driver, driver.open(source, tables), target.scratch)
    own = {"source": mining.sources.identity(), "columns": mining.columns(), "parts": len(mining.plan.shards)}
    own["others"] = mining.sources.others()
    refuse_differences(f"{mined.place} was mined from something else", mined.manifest, {**mined.manifest, **own})
    return mining


def _adopt(run: Run, every: Sequence[MinedSlice], progress: Progress) -> None:
    """Link or copy every part into the work folder of the run, and check its CRC-32."""
    progress.stage("check", len(run.indices), "parts")
    for each in every:
        for index, file in zip(each.manifest["slice"]["parts"], each.manifest["files"], strict=True):
            path = run.part_path(index)
            with disk_errors(run.folder, file["bytes"]):
                path.unlink(missing_ok=True)
                _fetch(each.place / file["name"], path)
                check_part(path, file, each.place / file["name"])
                run.record(run.folder, index, {name: file[name] for name in ("rows", "bytes", "crc32", "stats")})
            progress.advance(1)


def _discard(run: Run) -> None:
    """Forget the parts of a merge that failed: the slices are kept, so merging again is as fast."""
    for record in run.folder.glob("part-*.json"):
        record.unlink()


def _fetch(place: AnyPath, path: Path) -> None:
    """Bring a part to `path`: by a hard link where that is possible, else by a copy."""
    try:
        if isinstance(place, RemotePath):
            place.download(path)
            return
        with suppress(OSError):
            os.link(place, path)
            return
        shutil.copyfile(place, path)
    except FileNotFoundError:
        raise OutputError(f"{place} is missing", "mine its slice again with --overwrite") from None


def check_part(path: Path, file: dict[str, Any], place: AnyPath) -> None:
    """Raise OutputError when a part does not match its record."""
    if path.stat().st_size != file["bytes"] or not holds(path, file):
        raise OutputError(f"{place} is damaged: it is not what was written", "mine its slice again with --overwrite")


def _publish(run: Run, every: Sequence[MinedSlice], driver: Driver) -> Report:
    """Check the gates and give the output its name."""
    parts = [ShardStats.from_dict(record["stats"]) for record in run.every_part()]
    total = merged(parts)
    check_gates(driver.resources, total, KEPT)
    reports = [report_of(each.manifest, each.place) for each in every]
    recorded = reports[0] | {"config": run.plan["config"]}
    counted = {note for part in reports for note in ShardStats.from_dict(part["stats"]).notes()}
    notes = dict.fromkeys(note for each in reports for note in each["notes"] if note not in counted)

    def report() -> Report:
        every_note = (*notes, *total.notes(), *driver.resources.remarks)
        return driver.report(run.target.final, recorded, total, notes=every_note)

    driver.progress.stage("publish", len(parts), "parts")
    files = run.publish(
        counts=total.answer, extra=lambda: report().record(),
        threads=encoders(memory_budget(driver.resources), thread_count(driver.resources)),
    )  # fmt: skip
    return replace(report(), files=files)
