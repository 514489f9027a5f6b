"""Workers that search together: the bytes of one process, each product once, whatever is lost or damaged meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import in_turns, set_sizes
from test_stores import objects, put, server, store  # noqa: F401 (fixtures)

import minestream
from minestream.config.parse import Slice
from minestream.errors import OutputError, TransientError
from minestream.mining import driver
from minestream.mining.engines import deal, together, worker
from minestream.mining.engines.exchange import FileExchange
from minestream.mining.slices import owned_shards
from minestream.search import shared
from minestream.search.screens import usable_screens
from minestream.search.work import PRODUCT, survivor_work
from minestream.system.progress import Note

ROWS, DIMENSION = 900, 16
SCREENS = [screen for screen in usable_screens(DIMENSION) if screen != "scan"]


class LostError(Exception):
    """A worker is no more."""


class Threads:
    """The engine: one thread; `failing` says which units, by their number, are lost before or after they ran."""

    def __init__(self) -> None:
        self.ran: list[deal.Unit] = []
        self.failing: dict[int, bool] = {}
        self.screens: tuple[str, ...] = ()  # of the shares, one after another

    @contextmanager
    def workers(self, resources: Any, started: int, _note: Any) -> Iterator[deal.Workers]:
        with ThreadPoolExecutor(1) as pool:
            yield deal.Workers(started, lambda job, unit: pool.submit(self._mined, job, unit), LostError)

    def _mined(self, job: deal.Job, unit: deal.Unit) -> deal.Ended:
        self.ran.append(unit)
        after = self.failing.get(len(self.ran))
        if after is False:
            raise LostError("killed")
        if self.screens:
            screen = self.screens[unit[0] % len(self.screens)]
            job = replace(job, resources=replace(job.resources, screen=screen), key=job.key + screen)
        ended = worker.mine_unit(job, unit)
        if after:
            raise LostError("killed")
        return ended


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    set_sizes(monkeypatch, PART_ANCHORS=100, GROUP_ROWS=200, FEW_ANCHORS=1, ENTRY=0)
    engine = Threads()
    monkeypatch.setattr(deal, "engine_of", lambda name: engine.workers)
    yield engine
    for held in worker._loaded:
        held.closing.close()
    worker._loaded.clear()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of many_rows()."""
    return many_rows(tmp_path_factory.mktemp("together") / "in.parquet")


def many_rows(path: Path) -> Path:
    """Labels of many sizes, some rows without one, some equal rows, ids in another order."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 25, ROWS) ** 2 // 25
    vectors = rng.standard_normal((25, DIMENSION))[labels] + 0.9 * rng.standard_normal((ROWS, DIMENSION))
    vectors[7::40] = vectors[6]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).reshape(-1)), DIMENSION)
    masked = pa.array(labels, mask=np.arange(ROWS) % 50 == 3)
    pq.write_table(pa.table({"id": pa.array(rng.permutation(ROWS)), "label": masked, "embedding": column}), path)
    return path


def both(source: Path, folder: Path, workers: int, **options: Any) -> tuple[Any, Any]:
    """The reports of one process and of several workers, after a comparison of their bytes."""
    (folder / "one").mkdir()
    fixed: dict[str, Any] = {"progress": "none", "screen": SCREENS[0], **options}
    one = minestream.mine(source, folder / "one" / "out.parquet", **fixed)
    several = minestream.mine(source, folder / "out.parquet", engine="dask", workers=workers, **fixed)
    assert (folder / "out.parquet").read_bytes() == (folder / "one" / "out.parquet").read_bytes()
    assert not (folder / "out.parquet.partial").exists()
    return one, several


OPTIONS: list[dict[str, Any]] = [
    {},
    {"band": "any", "negatives": 8},
    {"band": "any", "negatives": 3, "pick": "random", "skip": 5},
    {"band": "any", "negatives": 3, "pick": "weighted", "skip": 2},
    {"band": "hard", "fallback": "farthest", "positives": "hardest"},
    {"positives": "random", "positives_per_anchor": 3, "negatives": 2},
    {"positives": "all", "band": "violating"},
    {"band": "any", "negatives": 4, "max_per_negative_label": 1, "relative_margin": 0.1},
    {"negatives": 2, "within_top": 9, "pick": "random", "band": "any"},
    {"emit": "pairs"},
    {"emit": "lists", "negatives": 6},
    {"order": "shuffled", "max_uses": 3},
    {"anchors": "30%", "unlabeled": "negative", "band": "any", "drop_duplicates_within": 0.05},
    {"metric": "euclidean", "margin": 1.0, "drop_duplicates_within": 2.0, "band": "any", "negatives": 5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_bytes_of_one_process_and_each_product_once(
    threads: Threads, source: Path, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINESTREAM_EFFORT", "1")
    one, several = both(source, tmp_path, 4, **options)
    assert set(threads.ran) == {(0,), (1,), (2,), (3,)}
    computed = several.effort["pairs_computed"]
    assert computed == worker._loaded[0].mining.searcher.effort.pairs_computed
    assert computed <= 1.15 * one.effort["pairs_computed"]


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[1], OPTIONS[2], OPTIONS[3], OPTIONS[13]], ids=str)
def test_gates_that_are_as_narrow_as_the_answers(
    threads: Threads, source: Path, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe of a worker sees all rows, so that the others may not look any nearer than its gates say."""
    set_sizes(monkeypatch, AROUND_SHARE=1.0, AROUND_ROWS=ROWS)
    both(source, tmp_path, 3, **options)


def test_anchors_look_no_farther_than_what_their_worker_found(
    threads: Threads, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before they meet the rows of others, each has gates of those it has met with its own worker."""
    monkeypatch.setenv("MINESTREAM_EFFORT", "1")
    set_sizes(monkeypatch, AROUND_SHARE=0.01, AROUND_ROWS=16)
    one, _ = both(source, tmp_path, 2, band="any", negatives=3)
    survivors = worker._loaded[0].mining.searcher.effort.survivors
    assert survivors <= 1.5 * one.effort["survivors"]


@pytest.mark.parametrize("rows", [200, 600])
@pytest.mark.parametrize("workers", [2, 3, 7])
def test_any_number_of_workers(
    threads: Threads, source: Path, tmp_path: Path, workers: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts are blocks, or several of them are one."""
    set_sizes(monkeypatch, GROUP_ROWS=rows)
    both(source, tmp_path, workers, band="any", negatives=5)
    assert len(set(threads.ran)) == workers


def test_several_rounds(threads: Threads, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the answers of some anchors at a time fit into the memory."""
    monkeypatch.setattr(together, "WORTH", 10)
    monkeypatch.setattr(deal, "answer_bytes", lambda mining, job: 4 * mining._answer_bytes(mining.slots_of(0)))
    both(source, tmp_path, 3, band="any", negatives=5)
    assert len(threads.ran) > 2 * 4 * 3


@pytest.mark.skipif(len(SCREENS) < 2, reason="this processor has one screen")
@pytest.mark.parametrize("options", [{"band": "any", "negatives": 4}, {"pick": "random", "band": "any", "skip": 3}])
def test_workers_whose_processors_differ(
    threads: Threads, source: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Each sees the rows by other codes, in another order of lanes."""
    threads.screens = tuple(SCREENS)
    both(source, tmp_path, 3, **options)


@pytest.mark.parametrize("where", ["memory", "scratch"])
def test_workers_of_this_machine_map_what_was_read(
    threads: Threads, source: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where it is in memory; carried columns and ids are mapped too."""
    own, loads, load = tmp_path / "in.parquet", [], driver.load
    table = pq.read_table(source)
    pq.write_table(table.append_column("text", [[f"row {row}" for row in range(ROWS)]]), own)

    def counted(*given: Any) -> Any:
        loads.append(given)
        found = load(*given)
        if where == "scratch":
            found.store._spill(found.store.rows)
        return found

    monkeypatch.setattr(driver, "load", counted)
    both(own, tmp_path, 2, carry=["text"], band="any", negatives=3)
    assert len(loads) == (2 if where == "memory" else 3)  # of one process, and of the run; and of its worker


REASONS: list[tuple[dict[str, Any], str]] = [
    ({"emit": "pairs", "negatives": 0, "margin": 0.2}, "all eligible negatives"),
    ({"preset": "multi-similarity"}, "--epsilon"),
    ({"screen": "scan"}, "so few rows are scanned"),
    ({"max_positive_rank": 5}, "ranks of positives"),
    ({"band": "any", "negatives": 200}, "the long lists"),
]


@pytest.mark.parametrize(("options", "why"), REASONS, ids=[why for _, why in REASONS])
def test_why_each_worker_mines_its_parts_against_all_rows(
    threads: Threads, source: Path, tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    events: list[Any] = []
    planned = minestream.mine(
        source, tmp_path / "out.parquet", engine="dask", workers=2, dry_run=True, **{"screen": SCREENS[0], **options}
    )
    assert f"each worker mines its parts against all rows: {why}" in planned.plan["workers"]
    both(source, tmp_path, 2, **options, progress_callback=events.append)
    assert any(why in event.text for event in events if isinstance(event, Note))


def test_lists_that_cost_more_than_the_products(
    threads: Threads, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"engine": "dask", "workers": 2, "dry_run": True, "screen": SCREENS[0]}
    assert (
        minestream.mine(source, tmp_path / "out", **asked).plan["workers"] == "they search together, each product once"
    )
    monkeypatch.setattr(together, "ENTRY", 10**9)
    assert "cost more" in minestream.mine(source, tmp_path / "out", **asked).plan["workers"]


def files_of(out: Path) -> dict[Path, int]:
    """What the workers have exchanged, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in Path(f"{out}.partial").glob("exchange/*/*.arrows")}


@in_turns(number=[1, 5, 8, 11], after=[False, True])
def test_a_run_that_failed_is_gone_on_with(
    threads: Threads, source: Path, tmp_path: Path, number: int, after: bool
) -> None:
    """Its files are used, whatever the number of workers then."""
    (tmp_path / "one").mkdir()
    asked: dict[str, Any] = {"progress": "none", "screen": SCREENS[0], "band": "any", "negatives": 3}
    minestream.mine(source, tmp_path / "one" / "out.parquet", **asked)
    out = tmp_path / "out.parquet"
    threads.failing = {number: after}
    with pytest.raises(TransientError, match="died"):
        minestream.mine(source, out, engine="dask", workers=3, **asked)
    kept, made, write = files_of(out), [], FileExchange._write
    threads.failing = {}

    def watched(self: FileExchange, place: Any, batches: Any) -> None:
        made.append(place)
        write(self, place, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileExchange, "_write", watched)
        minestream.mine(source, out, engine="dask", workers=2, resume=True, **asked)
    assert not kept.keys() & set(made)
    # Positives, and gates, for all; for each the lists of what a worker begins with, and of the rest.
    assert len(kept.keys() | set(made)) == 3 + 3 + 9 + 9
    assert out.read_bytes() == (tmp_path / "one" / "out.parquet").read_bytes()


def test_one_process_goes_on_without_what_was_exchanged(threads: Threads, source: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"progress": "none", "screen": SCREENS[0]}
    threads.failing = {8: True}
    with pytest.raises(TransientError):
        minestream.mine(source, tmp_path / "out.parquet", engine="dask", workers=3, **asked)
    assert files_of(tmp_path / "out.parquet")
    minestream.mine(source, tmp_path / "out.parquet", resume=True, **asked)
    minestream.mine(source, tmp_path / "one.parquet", **asked)
    assert pq.read_table(tmp_path / "out.parquet").equals(pq.read_table(tmp_path / "one.parquet"))
    assert not (tmp_path / "out.parquet.partial").exists()


@in_turns(kind=["001-", "002-gates", "002-lists"], damage=["cut", "changed", "empty", "gone"])
def test_a_damaged_file_is_made_again(
    threads: Threads, source: Path, tmp_path: Path, kind: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, damaged = FileExchange._write, []

    def broken(self: FileExchange, place: Any, batches: Any) -> None:
        write(self, place, batches)
        if kind in place.name and not damaged:
            damaged.append(place)
            whole = place.read_bytes()
            middle = len(whole) // 2
            new = {"cut": whole[:-9], "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]}
            place.write_bytes(new.get(damage, b""))
            if damage == "gone":
                place.unlink()

    monkeypatch.setattr(FileExchange, "_write", broken)
    both(source, tmp_path, 3, band="any", negatives=3)
    assert damaged


def test_a_file_that_is_damaged_again_and_again(
    threads: Threads, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = FileExchange._write

    def broken(self: FileExchange, place: Any, batches: Any) -> None:
        write(self, place, batches)
        place.write_bytes(b"no stream at all")

    monkeypatch.setattr(FileExchange, "_write", broken)
    with pytest.raises(OutputError, match="damaged again and again"):
        minestream.mine(source, tmp_path / "out", engine="dask", workers=2, screen=SCREENS[0], progress="none")


def test_what_another_deal_left_is_not_read(threads: Threads, source: Path, tmp_path: Path) -> None:
    """Workers of a run before that is overwritten may still be at work."""
    asked: dict[str, Any] = {"progress": "none", "screen": SCREENS[0], "band": "any"}
    threads.failing = {5: True}
    out = tmp_path / "out.parquet"
    with pytest.raises(TransientError):
        minestream.mine(source, out, engine="dask", workers=4, negatives=2, **asked)
    old = {path.parent.name for path in files_of(out)}
    threads.failing = {len(threads.ran) + 2: True}
    with pytest.raises(TransientError):
        minestream.mine(source, out, engine="dask", workers=2, negatives=3, overwrite=True, **asked)
    assert old
    assert old.isdisjoint(path.parent.name for path in files_of(out))


def test_in_a_store(threads: Threads, source: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    bucket = request.getfixturevalue("store")
    put(f"{bucket}/in.parquet", source.read_bytes())
    asked: dict[str, Any] = {"progress": "none", "screen": SCREENS[0], "band": "any", "negatives": 3}
    threads.failing = {6: True}
    with pytest.raises(TransientError):
        minestream.mine(f"{bucket}/in.parquet", f"{bucket}/out.parquet", engine="dask", workers=3, **asked)
    assert any("exchange/" in name for name in objects(bucket))
    threads.failing = {}
    minestream.mine(f"{bucket}/in.parquet", f"{bucket}/out.parquet", engine="dask", workers=3, resume=True, **asked)
    minestream.mine(source, tmp_path / "out.parquet", **asked)
    found = objects(bucket)
    assert set(found) == {"in.parquet", "out.parquet", "out.parquet.manifest.json"}
    assert pq.read_table(pa.BufferReader(found["out.parquet"])).equals(pq.read_table(tmp_path / "out.parquet"))


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("others", [0, 700])
def test_each_pair_of_blocks_is_dealt_once_and_evenly(workers: int, others: int) -> None:
    sizes = np.random.default_rng(workers).integers(50, 100, 9).tolist()
    dealt = shared.dealt_blocks(sizes, others, workers)
    pairs = [pair for own in dealt for pair in own]
    expected = {(i, j) for i in range(9) for j in range(i, 9)} | {(i, -1) for i in range(9) if others}
    assert len(pairs) == len(set(pairs)) == len(expected)
    assert set(pairs) == expected
    loads = [sum(own.values()) for own in dealt]
    assert max(loads) - min(loads) <= max(100 * 100, 100 * others)


@pytest.mark.parametrize("others", [0, 400_000])
@pytest.mark.parametrize("owned", [False, True])
@pytest.mark.parametrize(
    ("sizes", "workers", "most"),
    [([16_384] * 7 + [2_971], 2, 1.06), ([16_384] * 24, 3, 1.001), ([8_000, 16_000, 9_000, 12_000] * 5, 4, 1.006)],
)
def test_no_worker_has_much_more_than_its_share(
    sizes: list[int], workers: int, most: float, owned: bool, others: int
) -> None:
    owners = [0] * len(sizes)
    for number in range(workers):
        for block in owned_shards(sizes, Slice(number + 1, workers)):
            owners[block] = number
    dealt = shared.dealt_blocks(sizes, others, workers, owners if owned else ())
    loads = [sum(own.values()) for own in dealt]
    assert max(loads) * workers <= most * sum(loads)
    if owned:
        assert all(
            number in {owners[block] for block in pair if block >= 0}
            for number in range(workers)
            for pair in dealt[number]
        )


@pytest.mark.parametrize("others", [0, 700])
@pytest.mark.parametrize("workers", [1, 2, 3, 9, 12])
def test_workers_begin_with_as_many_products_of_their_own_blocks(workers: int, others: int) -> None:
    sizes = np.random.default_rng(workers).integers(50, 100, 9).tolist()
    owners = [block % workers for block in range(9)]
    begun = shared.own_blocks(sizes, others, workers, owners)
    assert all({owners[block] for block in pair if block >= 0} == {number} for number in range(workers)
               for pair in begun[number])  # fmt: skip
    loads = [sum(own.values()) for own in begun]
    assert max(loads) - min(loads) <= max(100 * 100, 100 * others)
    assert min(loads) > 0 if workers <= 3 else workers < 12 or max(loads) == 0  # where a worker has no block, none has
    assert workers > 1 or len(begun[0]) == 45 + 9 * (others > 0)
    dealt = shared.dealt_blocks(sizes, others, workers, without=begun)
    pairs = [pair for own in (*begun, *dealt) for pair in own]
    assert len(pairs) == len({*pairs}) == 45 + 9 * (others > 0)
    loads = [sum(own.values()) for own in dealt]
    assert max(loads) - min(loads) <= max(100 * 100, 100 * others)


@pytest.mark.parametrize("large", [0, 3_000])
def test_positives_are_dealt_evenly_and_labels_whole(large: int) -> None:
    rng = np.random.default_rng(large)
    label = rng.permutation(np.concatenate([rng.integers(0, 200, 5_000), np.full(large, 200)]))
    positives = np.bincount(label)[label] - 1
    rows, of_vectors = SimpleNamespace(label=label), SimpleNamespace(dimension=64)
    loaded = SimpleNamespace(rows=rows, positives=positives, store=of_vectors)
    setting: Any = SimpleNamespace(loaded=loaded)
    dealt = shared.dealt_places(setting, np.arange(label.size, dtype=np.int32), 4)
    assert np.array_equal(np.sort(np.concatenate(dealt)), np.arange(label.size))
    each = shared.ANCHOR * survivor_work(setting.loaded) / (64 + PRODUCT)
    loads = [float((positives[places] + each).sum()) for places in dealt]
    assert max(loads) * 4 <= 1.05 * sum(loads)
    small = [np.unique(label[places][label[places] < 200]) for places in dealt]
    assert np.array_equal(np.sort(np.concatenate(small)), np.arange(200))
