"""The promise of SEMANTICS 7: the same bytes however the work was cut, read, bounded, screened or interrupted."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import in_turns, set_sizes
from worlds import clustered

from minestream.errors import OutputError
from minestream.inputs.dataset.carried import CarriedColumns
from minestream.inputs.dataset.vectors import Store
from minestream.mining import pipeline
from minestream.mining.batches import mine_batches
from minestream.mining.pipeline import mine
from minestream.outputs import rows
from minestream.search.screens import usable_screens

ROWS = 900
SCREENS = ("scan", *reversed(usable_screens(8)))
JOBS: dict[str, dict[str, Any]] = {
    "semi-hard": {"negatives": 3, "positives_per_anchor": 2},
    "random": {"pick": "random", "positives": "random", "positives_per_anchor": 2, "negatives": 3, "order": "shuffled"},
    "tuples": {"emit": "tuples", "band": "violating", "negatives": 4, "metric": "dot", "margin": 2.0},
    "pairs": {"emit": "pairs", "metric": "euclidean", "margin": 2.5, "negatives": 5},
    "near duplicates": {"drop_duplicates_within": 0.05, "negatives": 3, "anchors": "60%", "carry": ("text",)},
}


def source_table(rows: int = ROWS, d: int = 8, *, ties: bool = False, dtype: Any = np.float32) -> pa.Table:
    """Clustered rows with ids in another order, groups and a text; a fifth of the rows are copies."""
    vectors, labels = clustered(50, [rows // 30] * 30, d, dtype=dtype)
    rng = np.random.default_rng(51)
    if ties:
        vectors = np.round(vectors)
        vectors[(vectors == 0).all(axis=1), 0] = 1
    vectors[::5] = vectors[rng.integers(0, rows, rows // 5)]
    return pa.table(
        {
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), d),
            "label": pa.array([None if i % 41 == 0 else f"label {label}" for i, label in enumerate(labels)]),
            "id": pa.array([f"id {i}" for i in rng.permutation(rows)]),
            "camera": pa.array(rng.integers(0, 50, rows)),
            "text": [f"text {i}" for i in range(rows)],
        }
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "rows.parquet"
    pq.write_table(source_table(), path)
    return path


def run(inputs: Any, out: Path, **options: Any) -> dict[str, str]:
    """Mine; the digest of every file of the output."""
    mine(inputs, out, progress="none", **{"threads": 2, **options})
    return digests(out)


def digests(out: Path) -> dict[str, str]:
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    return {path.name if out.is_dir() else "": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(out: Path) -> pa.Table:
    return pq.read_table(out).replace_schema_metadata()


@pytest.fixture(scope="module")
def baseline(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What each job gives by the scan, in one file and in a folder of parts."""
    folder = tmp_path_factory.mktemp("baseline")
    found = {}
    for name, options in JOBS.items():
        single = run(source, folder / f"{name}.parquet", screen="scan", **options)
        found[name] = single | run(source, folder / name, screen="scan", **options)
        assert pq.read_table(folder / f"{name}.parquet").num_rows > 300
    return found


def assert_unchanged(expected: dict[str, str], source: Any, folder: Path, **options: Any) -> None:
    found = run(source, folder / "mined.parquet", **options) | run(source, folder / "mined", **options)
    assert found == expected


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("screen", [*SCREENS, "auto"])
def test_screen(job: str, screen: str, source: Path, baseline: dict[str, Any], tmp_path: Path) -> None:
    assert_unchanged(baseline[job], source, tmp_path, screen=screen, **JOBS[job])


def test_screen_by_environment(
    source: Path, baseline: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINESTREAM_SCREEN", "f32")
    report = mine(source, tmp_path / "mined.parquet", progress="none", **JOBS["semi-hard"])
    assert report.effort["screen"] == "f32"
    assert digests(tmp_path / "mined.parquet")[""] == baseline["semi-hard"][""]


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("threads", [1, 5])
@pytest.mark.parametrize("job", ["semi-hard", "pairs"])
def test_threads(job: str, threads: int, screen: str, source: Path, baseline: dict[str, Any], tmp_path: Path) -> None:
    assert_unchanged(baseline[job], source, tmp_path, screen=screen, threads=threads, **JOBS[job])


@in_turns(job=["semi-hard", "random", "near duplicates"], block_rows=[37, 200, 899], screen=SCREENS)
def test_block_rows(
    job: str, block_rows: int, screen: str, source: Path, baseline: dict[str, Any], tmp_path: Path
) -> None:
    assert_unchanged(baseline[job], source, tmp_path, screen=screen, block_rows=block_rows, **JOBS[job])


@pytest.mark.parametrize("batch_rows", [1, 250])
@pytest.mark.parametrize("job", ["semi-hard", "pairs", "near duplicates"])
def test_batch_split(job: str, batch_rows: int, source: Path, baseline: dict[str, Any], tmp_path: Path) -> None:
    assert_unchanged(baseline[job], source, tmp_path, batch_rows=batch_rows, **JOBS[job])


@pytest.mark.usefixtures("many_parts")
@pytest.mark.parametrize(("count", "sizes"), [(150, (1, 1, 7)), (ROWS, (300, 3, 100)), (ROWS, (100, 20, 333))])
@pytest.mark.parametrize("job", ["semi-hard", "pairs"])
def test_strips_blocks_and_groups_of_anchors(
    job: str, count: int, sizes: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_table(count)
    expected = run(source, tmp_path / "mined.parquet", screen="scan", **JOBS[job])
    set_sizes(monkeypatch, GROUP_ROWS=sizes[0], SCAN_STRIP_ROWS=sizes[1], MOST_SWEPT_ROWS=sizes[2])
    for screen in SCREENS:
        assert run(source, tmp_path / "mined.parquet", screen=screen, overwrite=True, **JOBS[job]) == expected


@pytest.mark.parametrize("layout", [{"row_group_size": 64}, {"row_group_size": 1}, {"compression": "gzip"}, {}])
def test_row_group_layout_of_the_input(layout: dict[str, Any], baseline: dict[str, Any], tmp_path: Path) -> None:
    """The source's identity is of its values, so the bytes are the same, metadata included."""
    path = tmp_path / "rows.parquet"
    pq.write_table(source_table(), path, use_dictionary=False, **layout)
    for job in ("semi-hard", "pairs"):
        assert_unchanged(baseline[job], path, tmp_path, overwrite=True, **JOBS[job])


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("options", JOBS.values(), ids=[*JOBS])
def test_rows_made_at_a_time(
    options: dict[str, Any], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mine(source, tmp_path / "whole.parquet", progress="none", **options)
    monkeypatch.setattr(rows, "PIECE_ROWS", 50)
    monkeypatch.setattr("minestream.config.memory_plan.MADE_BYTES", 0)
    pieces = mine(source, tmp_path / "pieces.parquet", progress="none", **options)
    assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "pieces.parquet").read_bytes()
    assert replace(whole.stats, seconds={}) == replace(pieces.stats, seconds={})


@pytest.mark.parametrize("options", [{"band": "any", "negatives": 4}, {"normalize": True, "pick": "random"}], ids=str)
def test_memory_budget(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 MiB of vectors do not fit half of 16 MiB: they are read from scratch, and nobody can tell."""
    spilled = []
    spill = Store._spill
    monkeypatch.setattr(Store, "_spill", lambda self, rows: (spilled.append(self), spill(self, rows)))
    path = tmp_path / "rows.parquet"
    pq.write_table(source_table(6000, 256, dtype=np.float64), path)
    options = {"metric": "euclidean", "margin": 1.0, "anchors": "1500", **options}
    outs = {}
    for memory, where in (("16MiB", "scratch"), ("1GiB", "memory")):
        spilled.clear()
        out = tmp_path / f"{memory}.parquet"
        report = mine(path, out, memory=memory, progress="none", threads=2, **options)
        assert report.effort["vectors_in"] == where
        assert bool(spilled) == (where == "scratch")
        assert report.effort["screen"].startswith(SCREENS[-1])
        outs[where] = digests(out)
    assert outs["scratch"] == outs["memory"]


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("job", ["near duplicates", "pairs", "tuples"])
def test_vectors_and_carried_columns_in_scratch(
    job: str, screen: str, source: Path, baseline: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every job from scratch, by stores that hold ten rows at most."""
    begin = Store.__init__

    def small(self: Store, dimension: int, dtype: Any, budget_bytes: int, *rest: Any) -> None:
        begin(self, dimension, dtype, 10 * dimension * 4, *rest)

    monkeypatch.setattr(Store, "__init__", small)
    monkeypatch.setattr(
        "minestream.inputs.dataset.table_reader.CarriedColumns", lambda budget, scratch: CarriedColumns(100, scratch)
    )
    report = mine(source, tmp_path / "mined.parquet", screen=screen, progress="none", batch_rows=64, **JOBS[job])
    assert report.effort["vectors_in"] == "scratch"
    assert digests(tmp_path / "mined.parquet")[""] == baseline[job][""]
    assert not list(tmp_path.glob(".minestream*")), "scratch files have no name"


# ---------------------------------------------------------------- parts, interruption, files


class Stop(Exception):
    """Where a run ends."""


@pytest.fixture
def many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, PART_ANCHORS=128)


def watched(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """The shards that are mined from here on; the run ends when it wants more than `most`."""
    mined: list[int] = []
    original = pipeline.mine_shards

    def watching(self: Any, todo: Any, *share: Any) -> Iterator[Any]:
        for found in original(self, todo, *share):
            if len(mined) == most:
                raise Stop
            mined.append(found[0])
            yield found

    monkeypatch.setattr(pipeline, "mine_shards", watching)
    return mined


@pytest.mark.usefixtures("many_parts")
@pytest.mark.parametrize("out", ["mined.parquet", "mined"])
@pytest.mark.parametrize("job", ["semi-hard", "random", "pairs"])
def test_resume_point(job: str, out: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = JOBS[job]
    expected = run(source, tmp_path / f"whole {out}", **options)
    shards = 7  # 878 anchors by 128
    for parts in (0, 1, 3, shards - 1):
        folder = tmp_path / f"after {parts}"
        folder.mkdir()
        with monkeypatch.context() as patched:
            watched(patched, parts)
            with pytest.raises(Stop):
                mine(source, folder / out, progress="none", screen="scan", **options)
        assert not (folder / out).exists()
        if parts:
            assert len(list((folder / f"{out}.partial" / "parts").iterdir())) == parts
            with pytest.raises(OutputError, match="resume=True"):
                mine(source, folder / out, progress="none", **options)
        with monkeypatch.context() as patched:
            mined = watched(patched, shards)
            assert run(source, folder / out, resume=True, screen=SCREENS[-1], **options) == expected
        assert mined == list(range(parts, shards)), "finished parts are not mined again"
        assert sorted(path.name for path in folder.iterdir()) == sorted([out, f"{out}.manifest.json"])
        assert mine(source, folder / out, resume=True, progress="none", **options).already


COUNTED: dict[str, dict[str, Any]] = JOBS | {
    "label cap": {"negatives": 6, "max_per_negative_label": 1, "band": "any"},
    "cap of random": {"negatives": 6, "max_per_negative_label": 1, "band": "any", "pick": "random"},
    "fallback": {"band": "hard", "fallback": "farthest", "positives": "all"},
    "groups": {"group_column": "camera", "negatives": 2, "max_uses": 20},
}


def manifest(source: Path, folder: Path, **options: Any) -> Any:
    """What the manifest of a run says, but for the seconds and how it was called."""
    folder.mkdir(exist_ok=True)
    mine(source, folder / "mined", progress="none", **options)
    found = json.loads((folder / "mined.manifest.json").read_text())
    assert found["report"].pop("command").startswith("minestream mine ")
    return without_seconds(found, folder)


def without_seconds(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {key: without_seconds(each, folder) for key, each in value.items() if "seconds" not in key}
    if isinstance(value, list):
        return [without_seconds(each, folder) for each in value]
    return value.replace(str(folder), "") if isinstance(value, str) else value


@pytest.mark.usefixtures("many_parts")
@pytest.mark.parametrize("job", COUNTED)
def test_manifests_are_alike_but_for_the_seconds(
    job: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = COUNTED[job]
    expected = manifest(source, tmp_path / "first", threads=1, screen="f32", **options)
    ways: dict[str, dict[str, Any]] = {
        "threads": {"threads": 5, "screen": "f32"}, "scan": {"screen": "scan"},
        "sizes": {"memory": "24MiB", "batch_rows": 100, "block_rows": 64, "screen": "auto"},
    }  # fmt: skip
    for name, way in ways.items():
        assert manifest(source, tmp_path / name, **way, **options) == expected, name
    with monkeypatch.context() as patched:
        watched(patched, 3)
        with pytest.raises(Stop):
            manifest(source, tmp_path / "resumed", **options)
    assert manifest(source, tmp_path / "resumed", resume=True, **options) == expected


@pytest.mark.usefixtures("many_parts")
@pytest.mark.parametrize("job", JOBS)
def test_interrupted_while_publishing(job: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the last step: everything is written, and then the output does not get its name."""
    for out in ("mined.parquet", "mined"):
        expected = run(source, tmp_path / f"whole {out}", **JOBS[job])

        def refusing(move: Any, final: Path = tmp_path / out) -> Any:
            def moved(start: Any, end: Any, **options: Any) -> None:
                if Path(end) == final:
                    raise Stop
                move(start, end, **options)

            return moved

        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", refusing(os.rename))
            patched.setattr(os, "replace", refusing(os.replace))
            with pytest.raises(Stop):
                mine(source, tmp_path / out, progress="none", **JOBS[job])
        assert not (tmp_path / out).exists()
        assert run(source, tmp_path / out, resume=True, **JOBS[job]) == expected
        assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("job", JOBS)
def test_one_file_holds_the_rows_of_the_folder(
    job: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, baseline: dict[str, Any]
) -> None:
    """A single file does not show how its parts were cut."""
    set_sizes(monkeypatch, PART_ANCHORS=100)
    assert run(source, tmp_path / "mined.parquet", **JOBS[job])[""] == baseline[job][""]
    run(source, tmp_path / "mined", **JOBS[job])
    assert rows_of(tmp_path / "mined").equals(rows_of(tmp_path / "mined.parquet"))


@pytest.mark.parametrize("job", ["semi-hard", "tuples", "near duplicates"])
def test_batches_hold_the_rows_of_the_file(job: str, source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "mined.parquet", **JOBS[job])
    reader = mine_batches(source, **JOBS[job])
    assert reader.read_all().replace_schema_metadata().equals(rows_of(tmp_path / "mined.parquet"))


@pytest.mark.parametrize("pieces", [2, 5])
@pytest.mark.parametrize("job", JOBS)
def test_file_split(job: str, pieces: int, source: Path, tmp_path: Path) -> None:
    """Files in the order of their names are one table; the metadata rightly names them."""
    table = source_table()
    folder = tmp_path / "rows"
    folder.mkdir()
    edges = np.linspace(0, ROWS, pieces + 1).astype(int)
    for piece in range(pieces):
        pq.write_table(table.slice(edges[piece], edges[piece + 1] - edges[piece]), folder / f"{piece}.parquet")
    run(source, tmp_path / "one.parquet", **JOBS[job])
    run(folder, tmp_path / "several.parquet", **JOBS[job])
    run(sorted(folder.iterdir())[::-1], tmp_path / "listed.parquet", **JOBS[job])
    one = rows_of(tmp_path / "one.parquet")
    assert rows_of(tmp_path / "several.parquet").equals(one)
    metadata = [pq.read_metadata(tmp_path / f"{name}.parquet").metadata for name in ("one", "several")]
    assert metadata[0][b"minestream.rows_crc32"] == metadata[1][b"minestream.rows_crc32"]
    assert metadata[0][b"minestream.source"] != metadata[1][b"minestream.source"]
    assert rows_of(tmp_path / "listed.parquet").equals(one), "inputs are taken in the order of their paths"


PERMUTED: dict[str, dict[str, Any]] = {
    **JOBS,
    "weighted": {"pick": "weighted", "negatives": 3, "band": "any", "metric": "cosine"},
    "some anchors": {"anchors_per_label": 7, "anchors": "50%", "positives": "hardest", "band": "any"},
    "grouped": {
        "group_column": "camera",
        "positives": "all",
        "negatives": 2,
        "negatives_per_anchor": 9,
        "anchors": "20%",
    },
}


@in_turns(job=PERMUTED, screen=SCREENS)
def test_permuting_rows_that_have_ids(job: str, screen: str, tmp_path: Path) -> None:
    """Over a grid full of ties: with ids, row numbers decide nothing."""
    table = source_table(ties=True)
    outs = []
    for place, order in enumerate((np.arange(ROWS), np.random.default_rng(7).permutation(ROWS))):
        path, out = tmp_path / f"in {place}.parquet", tmp_path / f"out {place}.parquet"
        pq.write_table(table.take(pa.array(order)), path)
        run(path, out, screen=screen, **PERMUTED[job])
        found = rows_of(out)
        named = found.select([name for name in found.column_names if "_row" not in name]).to_pylist()
        outs.append(sorted(map(ends_in_order, named)))
    assert len(outs[0]) > 100
    assert outs[0] == outs[1]


def ends_in_order(row: dict[str, Any]) -> str:
    """A row as text; of a pair the ends by id, since left and right go by row number."""
    if "left_id" in row:
        row["left_id"], row["right_id"] = sorted((row["left_id"], row["right_id"]))
    return repr(row)
