"""Random worlds and option sets, mined by the product and by the reference; a difference is made small and reported.

World `number` of seed `seed` is always the same: `pytest -m fuzz --fuzz-seed SEED --fuzz-world NUMBER` mines it again.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from assertions import first_difference
from drawn_options import HOW, OF_LISTS, Drawing, draw_options, drawing_for, taught
from drawn_worlds import Side, World, draw_world
from judged import Judge
from looked import WIDTHS, looking, seen, wrong_shares
from oracle import Answer, answer_of, judge_of
from support import always_turned

from minestream.config.keywords import SelectOptions
from minestream.config.resolve import OPTION_FIELDS, split_options
from minestream.errors import InputError, UsageError
from minestream.mining.arrays import mine_arrays
from minestream.mining.batches import mine_batches
from minestream.mining.pipeline import mine
from minestream.mining.select import choosing
from minestream.mining.select.asked import FIXED
from minestream.mining.select.run import select
from minestream.mining.stream.miner import Miner
from minestream.outputs import lists
from minestream.search.screens import usable_screens
from minestream.system.recall import recall_facts
from minestream.system.stats import ShardStats

Options = dict[str, Any]
SHRINK_SECONDS = 8.0
CUTS = (1, 7, 7, 30, 30, 30, 10**6, 10**6, 10**6)  # rows of a chunk, a row group, a batch that is fed
WORDS = re.compile(r"'[^']*'|[\d,-]+")  # what a message says of one case alone
NEAREST = (1, 3, 8, 256, 256)  # candidates of longer lists that stand in columns of their own
FEATURES = ("labels", "ids", "groups", "versions", "guide")


@dataclass(frozen=True)
class Case:
    """One world with its options, and the runs that must agree with the reference."""

    world: World
    options: Options
    way: str
    runs: tuple[Options, ...]  # screens, threads and the like, with `into`, `chunks` and so on of this module


@dataclass
class Found:
    """What came of one case: "mined", "refused" or "different"; for `kind` of a reason, and why in full."""

    outcome: str
    why: str = ""
    kind: str = ""


@dataclass
class Tally:
    """What came of all cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """How many cases there were."""
        return sum(self.outcomes.values())

    def line(self) -> str:
        """In words."""
        counts = {name: self.outcomes[name] for name in ("mined", "refused", "different")}
        return f"{self.total:,} option sets: " + ", ".join(f"{count:,} {name}" for name, count in counts.items())


def draw_case(seed: int, number: int, large: float = 0.05) -> Case:
    """The case of a seed and a number."""
    rng = np.random.default_rng([seed, number])
    world = draw_world(rng, large)
    drawing = drawing_for(rng, world)
    options = draw_options(drawing)
    return Case(world, options, drawing.way, tuple(_run(drawing) for _ in range(2)))


def _run(drawing: Drawing) -> Options:
    how = {name: value for name, draw in HOW.items() if (value := draw(drawing)) is not None}
    if how["screen"] not in ("auto", "scan", *usable_screens(drawing.world.queries.vectors.shape[1])):
        how["screen"] = "f32"
    late = drawing.emit == "pairs" or drawing.get("order") == "shuffled" or drawing.get("max_uses") is not None
    listed = ("lists",) * (drawing.emit != "pairs" and drawing.mode != "farthest" and not drawing.get("fallback"))
    listed *= drawing.world.run is None and not taught(drawing) and drawing.get("approximate") is None
    ways = {
        "arrays": ("arrays",),
        "tables": ("file", "parquet", *listed) if late else ("batches", "batches", "file", "parquet", *listed),
        "window": ("batches", "miner", "miner", "file"),
    }
    if drawing.world.judged is not None:
        ways["tables"] = ("lists",)
    found = how | {
        "into": drawing.one_of(*ways[drawing.way]),
        "cut": drawing.one_of(*CUTS),
        "turned": drawing.one_of(True, False),
    }
    if found["into"] == "lists":
        found["nearest"] = drawing.one_of(*NEAREST)
    return found | ({} if drawing.get("approximate") is None else {"width": drawing.one_of(*WIDTHS)})


# ---------------------------------------------------------------- the product


def column(values: Any, kind: pa.DataType | None) -> pa.Array:
    """A column of a table."""
    return pa.array(list(values), kind)


LABEL_KINDS = {"int": pa.int64(), "str": pa.string(), "bool": pa.bool_(), "list": pa.list_(pa.int64())}


def kind_of(values: Any) -> pa.DataType:
    """The Arrow type of labels or ids."""
    return LABEL_KINDS[next((type(value).__name__ for value in values if value is not None), "int")]


def vectors_of(rows: np.ndarray[Any, Any]) -> pa.Array:
    """A column of vectors."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])


def table_of(side: Side) -> pa.Table:
    """A side as a table with columns named as minestream looks for them."""
    columns: dict[str, pa.Array] = {}
    if side.ids is not None:
        columns["id"] = column(side.ids, kind_of(side.ids))
    columns["embedding"] = vectors_of(side.vectors)
    if side.labels is not None:
        columns["label"] = column(side.labels, kind_of(side.labels))
    if side.groups is not None:
        columns["group"] = column(side.groups, pa.int64())
    if side.versions is not None:
        floats = any(isinstance(version, float) for version in side.versions)
        columns["version"] = column(side.versions, pa.float64() if floats else pa.int64())
    if side.guide is not None:
        columns["guide"] = vectors_of(side.guide)
    kinds = {"year": pa.int64(), "lang": pa.string(), "share": pa.float64(), "dept": pa.int64(), "part": pa.string()}
    return pa.table(columns | {name: column(getattr(side, name), kind) for name, kind in kinds.items()})


def lists_of(world: World) -> Options:
    """What is listed, by id or by row number, as tables."""
    names = [None if side.ids is None else side.ids for side in (world.queries, world.candidates)]

    def name(place: int, row: int) -> Any:
        ids = names[place]
        return row if ids is None else ids[row]

    texts = bool(names[0]) and isinstance(names[0][0], str)
    unknown = [("nobody" if texts else 3) if world.unknown_ids else None]
    more = [each for each in unknown if each is not None]
    found: Options = {}
    for option, pairs in (("qrels", world.known), ("exclude", world.excluded)):
        if pairs is not None:
            left, right = ([name(place, pair[place]) for pair in pairs] + more for place in (0, 1))
            kind = pa.string() if texts else pa.int64()
            found[option] = pa.table({"query_id": pa.array(left, kind), "positive_id": pa.array(right, kind)})
    if world.run is not None:
        left, right = ([name(place, pair[place]) for pair in world.run] + more for place in (0, 1))
        kind = pa.string() if texts else pa.int64()
        found["candidates"] = pa.table({"query_id": pa.array(left, kind), "document_id": pa.array(right, kind)})
    if world.known is not None and world.grades is not None:
        found["qrels"] = found["qrels"].append_column(
            "score", pa.array([*map(float, world.grades), *(9.0 for _ in more)])
        )
    if world.excluded_rows is not None:
        rows = [name(0, row) for row in world.excluded_rows] + more
        by = "row" if names[0] is None else "id"
        found["exclude_rows"] = pa.table({by: pa.array(rows, pa.string() if texts else pa.int64())})
    return found


def cut(table: pa.Table, rows: int) -> pa.Table:
    """The same table in chunks."""
    return pa.concat_tables([table.slice(start, rows) for start in range(0, max(1, table.num_rows), rows)])


def mined(case: Case, run: Options, folder: Path) -> tuple[pa.Table, ShardStats | None]:
    """What the product gives, and what it counted where it tells."""
    world, into, rows = case.world, run["into"], run["cut"]
    how = {name: value for name, value in run.items() if name in HOW}
    options = {name: value for name, value in case.options.items() if name not in OF_LISTS}
    given = {**options, **lists_of(world), **how}
    if into == "arrays":
        return _mined_arrays(world, given)
    table = cut(table_of(world.queries), rows)
    if into == "miner":
        return _mined_by_miner(table, given, rows)
    if world.corpus is not None:
        given["corpus"] = cut(table_of(world.corpus), rows)
    if into not in ("file", "parquet"):
        given.pop("both_directions", None)
    if into == "batches":
        return mine_batches(table, **given).read_all(), None
    source: Any = table
    if into == "parquet":
        source = folder / "in.parquet"
        pq.write_table(table, source, row_group_size=rows)
    if into == "lists":
        given |= {name: value for name, value in case.options.items() if name in OF_LISTS}
        with pytest.MonkeyPatch.context() as patch:
            for module in (lists, choosing):
                patch.setattr(module, "NEAREST", run["nearest"])
            return _selected(table, given, folder, judge_of(world, {"metric": "cosine", **case.options}))
    report = mine(source, folder / "out.parquet", progress="none", overwrite=True, **given)
    return pq.read_table(folder / "out.parquet"), report.stats


def _selected(
    table: pa.Table, given: Options, folder: Path, judge: Judge | None
) -> tuple[pa.Table, ShardStats]:  # fmt: skip
    """What the lists of everything give: they are mined by what decides what stands in them, and chosen from."""
    said = {name: given.pop(name) for name in OF_LISTS if name in given} | ({} if judge is None else judge.tables())
    if "verdicts" in said:
        said["qrels_out"] = folder / "qrels.parquet"
    tables = {name: given.pop(name) for name in ("corpus", "qrels", "exclude", "exclude_rows") if name in given}
    asked = {name: value for name, value in given.items() if name in FIXED or name == "preset"}
    config, *_ = split_options(asked | {"band": "any"} | {name: name for name in tables})
    fixed = {name: getattr(config, name) for name in FIXED if name in OPTION_FIELDS and name not in tables}
    how = {name: given.pop(name) for name in HOW if name in given and name != "threads"}
    mine(
        table, folder / "lists.parquet", progress="none", overwrite=True, emit="lists", negatives=10**6,
        positives="all", **fixed, **tables, **how,
    )  # fmt: skip
    chosen = {name: value for name, value in given.items() if name in (*SelectOptions.__annotations__, "scores")}
    report = select(
        folder / "lists.parquet", folder / "out.parquet", source=table, progress="none", overwrite=True,
        undecided="error", **tables, **chosen, **said,
    )  # fmt: skip
    return pq.read_table(folder / "out.parquet"), report.stats


def _mined_arrays(world: World, given: Options) -> tuple[pa.Table, ShardStats]:
    def listed(values: Any) -> Any:
        return None if values is None else list(values)

    own, other = world.queries, world.corpus
    given = {**given, "labels": listed(own.labels), "ids": listed(own.ids), "groups": listed(own.groups)}
    if given.pop("guide", None):
        given |= {"guide": own.guide, "corpus_guide": None if other is None else other.guide}
    if other is not None:
        given |= {
            "corpus": other.vectors, "corpus_labels": listed(other.labels), "corpus_ids": listed(other.ids),
            "corpus_groups": listed(other.groups),
        }  # fmt: skip
    found = mine_arrays(own.vectors, **given)
    table = found.table()
    if own.ids is None:  # lists by row number make ids of them
        table = table.drop_columns([name for name in table.column_names if name.endswith(("_id", "_ids"))])
    return table, found.stats


def _mined_by_miner(table: pa.Table, given: Options, rows: int) -> tuple[pa.Table, ShardStats]:
    for name in ("batch_rows", "screen", "block_rows"):
        given.pop(name, None)
    with Miner(**given) as miner:
        fed = [miner.feed(table.slice(start, rows)) for start in range(0, table.num_rows, rows)]
        return pa.Table.from_batches(fed), miner.stats


# ---------------------------------------------------------------- both sides


def check(case: Case, folder: Path) -> Found:
    """Mine a case by the product and by the reference, and compare."""
    answer = answer_of(case.world, case.options | {"arrays": case.way == "arrays"}, case.way)
    refused = ""
    for run in case.runs:
        found = _check_run(case, run, answer, folder)
        if found.outcome == "different":
            return replace(found, why=f"{run}: {found.why}")
        refused = refused or (found.why if found.outcome == "refused" else "")
    return Found("refused", refused) if refused else Found("mined")


def _check_run(case: Case, run: Options, answer: Answer, folder: Path) -> Found:
    try:
        with (
            always_turned() if run.get("turned") else nullcontext(),  # axes for small worlds, too
            looking(run.get("width")) as looks,
        ):
            table, stats = mined(case, {name: value for name, value in run.items() if name != "turned"}, folder)
    except UsageError as error:
        return Found("refused", f"UsageError: {error.message}")
    except InputError as error:
        if answer.must or answer.may or answer.unsaid:
            return Found("refused", f"InputError: {error.message}")
        return Found("different", f"refused: {error}", f"refused {WORDS.sub('', error.message)[-40:]}")
    except Exception as error:
        return Found("different", f"{type(error).__name__}: {error}", type(error).__name__)
    if answer.must:
        return Found(
            "different", f"mined {table.num_rows} rows, and must be refused: {'; '.join(answer.must)}", "mined"
        )
    if answer.unsaid:
        return Found("mined")
    options = case.options | {"arrays": case.way == "arrays"}
    if looks:
        answer = answer_of(seen(case.world, looks[0]), options, case.way)
    difference, counts = first_difference(answer.columns, table), stats and stats.answer()
    if difference or counts not in (None, answer.counts):
        return Found("different", f"{difference} (counts {counts}, expected {answer.counts})", "rows")
    if looks and stats is not None and options.get("emit") != "pairs":
        said = "loss" in answer.columns or "losses" in answer.columns
        exactly = answer_of(case.world, options | {"float64": True}, case.way)
        difference = wrong_shares(exactly.columns, answer.columns, looks[0], recall_facts(stats.recalls), said)
        if difference:
            return Found("different", difference, "recall")
    if answer.known is not None:
        names = ("query_id", "positive_id", "promoted")
        columns = (pq.read_table(folder / "qrels.parquet")[name].to_pylist() for name in names)
        known = sorted(zip(*columns, strict=True))
        if known != sorted(answer.known):
            return Found("different", f"positives {known}, expected {sorted(answer.known)}", "positives")
    if run.get("both_directions") and run["into"] in ("file", "parquet"):
        answer = answer_of(case.world.turned(), case.options | {"arrays": False}, case.way)
        difference = first_difference(answer.columns, pq.read_table(folder / "out.back.parquet"))
        if difference and not (answer.must or answer.may or answer.unsaid):
            return Found("different", f"the other direction: {difference}", "turned rows")
    return Found("mined")


# ---------------------------------------------------------------- smaller


def smaller(case: Case) -> Iterator[Case]:
    """Cases with less in them, the largest steps first."""
    world, runs = case.world, case.runs
    if len(runs) > 1:
        yield from (replace(case, runs=(run,)) for run in runs)
    for of_corpus, side in ((False, world.queries), (True, world.corpus)):
        if side is not None:
            for rows in halves(len(side)):
                yield replace(case, world=world.only(rows, of_corpus))
    for name in case.options:
        yield replace(case, options={key: value for key, value in case.options.items() if key != name})
    if world.judged is not None:
        yield from (replace(case, world=replace(world, judged=judged)) for judged in world.judged.smaller())
    for name in ("known", "grades", "excluded", "excluded_rows", "run"):
        values = getattr(world, name)
        if values is not None:
            yield replace(case, world=replace(world, **{name: None}))
    for name in ("known", "excluded", "excluded_rows"):
        values = getattr(world, name) or ()
        for place in range(len(values)) if len(values) > 1 and world.grades is None else ():
            yield replace(case, world=replace(world, **{name: (*values[:place], *values[place + 1 :])}))
    for feature in FEATURES:
        needed = feature == "ids" if world.listed else feature == "labels" and world.known is None
        if getattr(world.queries, feature) is not None and not needed:
            sides = {
                name: replace(side, **{feature: None})
                for name, side in (("queries", world.queries), ("corpus", world.corpus))
                if side is not None
            }
            yield replace(case, world=replace(world, **sides))
    for run in runs:
        for name in run:
            if name not in ("screen", "into", "cut", "turned", "width", "nearest"):
                kept = {key: value for key, value in run.items() if key != name}
                yield replace(case, runs=(kept,))


def halves(count: int) -> Iterator[list[int]]:
    """The rows without a half, a quarter, ... of them, and at last without one."""
    width = count // 2
    while width:
        for start in range(0, count, width):
            kept = [row for row in range(count) if not start <= row < start + width]
            if kept:
                yield kept
        width //= 2


def shrunk(case: Case, differs: Callable[[Case], bool], seconds: float = SHRINK_SECONDS) -> Case:
    """The smallest case that still differs, as far as it is found in time."""
    end, progress = time.monotonic() + seconds, True
    while progress and time.monotonic() < end:
        progress = False
        for candidate in smaller(case):
            if time.monotonic() >= end:
                break
            if differs(candidate):
                case, progress = candidate, True
                break
    return case


def still_differs(case: Case, kind: str, folder: Path) -> bool:
    """Whether a smaller case differs too, in the same way, and is a case at all."""
    try:
        found = check(case, folder)
        return (found.outcome, found.kind) == ("different", kind)
    except Exception:  # what the oracle cannot read is no case
        return False


def report(case: Case, found: Found, seed: int, number: int, folder: Path, seconds: float = SHRINK_SECONDS) -> str:
    """One line that repeats a difference, and what it comes down to."""
    small = shrunk(case, lambda each: still_differs(each, found.kind, folder), seconds)
    world = small.world
    rows = f"{len(world.queries)} rows" + ("" if world.corpus is None else f" and {len(world.corpus)} of the corpus")
    return (
        f"python -m pytest -m fuzz --fuzz-seed {seed} --fuzz-world {number}\n"
        f"  {found.why[:600]}\n  small: {rows}, {small.way}, {small.options}, {small.runs[0]}\n"
        f"  {check(small, folder).why[:900]}\n  {world}"[:6000]
    )


def run_worlds(
    seed: int, seconds: float, folder: Path, only: int | None = None, most: int = 5
) -> tuple[Tally, list[str]]:
    """Cases until the time is up or `most` differ, or one alone; the tally, and a report for each difference."""
    tally, reports, number = Tally(), list[str](), only or 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(reports) < most:
        case = draw_case(seed, number)
        found = check(case, folder)
        tally.outcomes[found.outcome] += 1
        if found.outcome == "refused":
            tally.refusals[found.why[:60]] += 1
        if found.outcome == "different":
            reports.append(report(case, found, seed, number, folder))
        if only is not None:
            break
        number += 1
    return tally, reports


def random_seed() -> int:
    """A fresh seed."""
    return int(np.random.SeedSequence().generate_state(1)[0])
