"""Slices mined by themselves, and merged: the bytes of one run, or a reason why not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import begin, make_all
from support import set_sizes
from test_sink import rows_table
from test_stores import as_parquet, embeddings, objects, put, server, store  # noqa: F401 (fixtures)

import minestream
from minestream.cli.main import main
from minestream.config.parse import parse_slice
from minestream.errors import GateMissedError, InputError, OutputError, UsageError
from minestream.mining import merge
from minestream.outputs.parts import PartWriter
from minestream.outputs.stores import target_of

SMALL_PARTS = """
import sys
from minestream.mining import plan
plan.PART_ANCHORS = 128
from minestream.cli.main import main
sys.exit(main())
"""
FINISHED = {
    "pairs": {"emit": "pairs"},
    "shuffled": {"order": "shuffled", "negatives": 2},
    "max uses": {"max_uses": 2, "negatives": 2},
}


@pytest.fixture
def parts_of_forty(monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, PART_ANCHORS=40)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    table = embeddings(rows=330)
    words = pa.array([f"word {row}" for row in range(330)])
    pq.write_table(table.append_column("word", words), tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def mine_slices(source: Any, out: Any, count: int, only: Sequence[int] = (), **options: Any) -> None:
    for number in only or range(1, count + 1):
        minestream.mine(source, out, shard=f"{number}/{count}", progress="none", **options)


def contents(path: Path) -> dict[str, bytes]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {"" if file == path else file.name: file.read_bytes() for file in files}


def manifest(path: Path) -> dict[str, Any]:
    """The manifest, without what depends on how the scan went."""
    found = json.loads((path.parent / f"{path.name}.manifest.json").read_text())
    return {name: found[name] for name in ("version", "config", "source", "columns", "parts", "counts", "files")}


# ---------------------------------------------------------------- slices, and what is not cut


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "-1/3", "1/0", "1/3/5", ""])
def test_slices_that_there_are_not(text: str) -> None:
    with pytest.raises(UsageError, match="shard takes I/N"):
        parse_slice(text)


@pytest.mark.parametrize("options", [{"shard": "1/2"}, {"engine": "ray"}], ids=str)
def test_arrays_and_streams_are_not_cut(source: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is not for"):
        minestream.mine_arrays([[0.0, 1.0], [1.0, 0.0]], [0, 1], **options)
    with pytest.raises(UsageError, match="is not for"):
        minestream.mine_batches(source, **options)


def test_an_engine_that_is_not_installed_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "minestream.mining.engines.dask", raising=False)
    with pytest.raises(UsageError, match=r"minestream\[dask\]"):
        minestream.mine(source, tmp_path / "out", engine="dask", progress="none")
    assert not (tmp_path / "out.partial").exists()


# ---------------------------------------------------------------- one output of slices


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_processes_mine_slices_of_the_same_bytes(tmp_path: Path, name: str) -> None:
    minestream_here = [sys.executable, "-c", SMALL_PARTS]
    assert main(["sample", str(tmp_path / "digits.parquet")]) == 0
    (tmp_path / "whole").mkdir()
    out, whole = tmp_path / name, tmp_path / "whole" / name

    def mining(out: Path, *options: str) -> subprocess.Popen[bytes]:
        command = [*minestream_here, "mine", str(tmp_path / "digits.parquet"), "-o", str(out), "--json", *options]
        return subprocess.Popen([*command, "--threads", "1"], stdout=subprocess.DEVNULL)

    running = [mining(whole), *(mining(out, "--shard", f"{number}/3") for number in (1, 2, 3))]
    assert [process.wait(300) for process in running] == [0] * 4
    assert main(["merge", str(out), "--json"]) == 0
    assert contents(out) == contents(whole)
    assert manifest(out) == manifest(whole)
    assert manifest(out)["parts"] == 15
    assert minestream.verify(out, source=tmp_path / "digits.parquet", sample=5)["differences"] == []


@pytest.mark.usefixtures("parts_of_forty")
@pytest.mark.parametrize("name", ["out.parquet", "out"])
@pytest.mark.parametrize("count", [1, 4, 12])
def test_any_number_of_slices(source: Path, tmp_path: Path, name: str, count: int) -> None:
    (tmp_path / "whole").mkdir()
    whole = minestream.mine(source, tmp_path / "whole" / name, progress="none", negatives=3)
    mine_slices(source, tmp_path / name, count, negatives=3)  # of twelve slices three own none of nine parts
    report = minestream.merge(tmp_path / name, progress="none")
    assert contents(tmp_path / name) == contents(tmp_path / "whole" / name)
    assert report.stats.answer() == whole.stats.answer()
    assert report.stats.loss_sum == whole.stats.loss_sum
    assert manifest(tmp_path / name) == manifest(tmp_path / "whole" / name)
    assert not (tmp_path / f"{name}.partial").exists()


@pytest.mark.usefixtures("parts_of_forty")
def test_what_is_noted_of_the_rows_counts_all_slices(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = pa.array(rng.integers(0, 40, 400))
    table = pa.table({"embedding": rng.integers(-1, 2, (400, 3)).astype(np.float32).tolist(), "label": labels})
    pq.write_table(table, tmp_path / "crowded.parquet")
    options: dict[str, Any] = {"metric": "euclidean", "band": "any", "drop_duplicates_within": None}
    whole = minestream.mine(tmp_path / "crowded.parquet", tmp_path / "whole.parquet", progress="none", **options)
    mine_slices(tmp_path / "crowded.parquet", tmp_path / "out.parquet", 3, **options)
    report = minestream.merge(tmp_path / "out.parquet", progress="none")
    assert whole.stats.at_anchor > 300
    assert f"{whole.stats.at_anchor} negatives lie at distance 0" in " ".join(report.notes)
    assert report.notes == whole.notes


@pytest.mark.usefixtures("parts_of_forty")
def test_a_finished_slice_is_not_mined_again(source: Path, tmp_path: Path) -> None:
    """The first slice of twelve has parts, the last none."""
    mine_slices(source, tmp_path / "out", 12)
    for number in (1, 12):
        report = minestream.mine(source, tmp_path / "out", shard=f"{number}/12", resume=True, progress="none")
        assert report.already
    source.unlink()
    with pytest.raises(InputError, match="does not exist"):  # so nothing says that it is what was mined
        minestream.mine(source, tmp_path / "out", shard="12/12", resume=True, progress="none")


@pytest.mark.usefixtures("parts_of_forty")
@pytest.mark.parametrize("finished", list(FINISHED))
def test_what_is_finished_over_all_rows(source: Path, tmp_path: Path, finished: str) -> None:
    options = FINISHED[finished]
    (tmp_path / "whole").mkdir()
    out, whole = tmp_path / "out", tmp_path / "whole" / "out"
    minestream.mine(source, whole, progress="none", **options)
    mine_slices(source, out, 3, **options)
    with pytest.raises(UsageError, match="source"):
        minestream.merge(out, progress="none")
    minestream.merge(out, source=source, progress="none")
    assert contents(out) == contents(whole)
    assert manifest(out) == manifest(whole)


@pytest.mark.usefixtures("parts_of_forty")
def test_the_source_of_a_merge_must_be_the_mined_one(source: Path, tmp_path: Path) -> None:
    mine_slices(source, tmp_path / "out", 2, emit="pairs")
    pq.write_table(embeddings(rows=330, seed=1), tmp_path / "other.parquet")
    with pytest.raises(OutputError, match=r"other\.parquet"):
        minestream.merge(tmp_path / "out", source=tmp_path / "other.parquet", progress="none")


@pytest.mark.usefixtures("parts_of_forty")
def test_the_tables_beside_the_source_of_a_merge_must_be_those_of_the_slices(tmp_path: Path) -> None:
    pq.write_table(embeddings(rows=90), tmp_path / "in.parquet")
    pq.write_table(embeddings(rows=200, seed=1, first=1000), tmp_path / "corpus.parquet")
    pq.write_table(pa.table({"query_id": [3], "positive_id": [1010]}), tmp_path / "pairs.parquet")
    pq.write_table(pa.table({"id": [4]}), tmp_path / "rows.parquet")
    beside = {"corpus": "corpus", "qrels": "pairs", "exclude": "pairs", "exclude_rows": "rows"}
    files = {name: str(tmp_path / f"{file}.parquet") for name, file in beside.items()}
    of_two = {"corpus": files["corpus"], "exclude_rows": files["exclude_rows"]}
    source, options = tmp_path / "in.parquet", {"order": "shuffled", "progress": "none"}
    minestream.mine(source, tmp_path / "whole", **of_two, **options)
    for out, mined, others in (
        ("one", {}, [{name: file} for name, file in files.items()]),
        ("two", of_two, [{}, {"corpus": files["corpus"]}, {"exclude_rows": files["exclude_rows"]}, files]),
    ):
        minestream.mine(source, tmp_path / out, shard="1/1", **mined, **options)
        for other in others:
            with pytest.raises(UsageError, match="not those of the slices"):
                minestream.merge(tmp_path / out, source=source, **other, progress="none")
        minestream.merge(tmp_path / out, source=source, **mined, progress="none")
    assert contents(tmp_path / "two") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("parts_of_forty")
def test_queries_and_corpus(tmp_path: Path) -> None:
    pq.write_table(embeddings(rows=90), tmp_path / "queries.parquet")
    pq.write_table(embeddings(rows=200, seed=1, first=1000), tmp_path / "corpus.parquet")
    options = {"corpus": str(tmp_path / "corpus.parquet"), "negatives": 2}
    minestream.mine(tmp_path / "queries.parquet", tmp_path / "whole.parquet", progress="none", **options)
    mine_slices(tmp_path / "queries.parquet", tmp_path / "out.parquet", 2, **options)
    minestream.merge(tmp_path / "out.parquet", progress="none")
    assert contents(tmp_path / "out.parquet") == contents(tmp_path / "whole.parquet")


@pytest.mark.usefixtures("parts_of_forty")
def test_slices_named_one_by_one(source: Path, tmp_path: Path) -> None:
    minestream.mine(source, tmp_path / "whole.parquet", progress="none")
    mine_slices(source, tmp_path / "a", 2, [1])
    mine_slices(source, tmp_path / "b.parquet", 2, [2])
    named = [tmp_path / "b.parquet.slices" / "slice-002-of-002", tmp_path / "a.slices" / "slice-001-of-002"]
    with pytest.raises(UsageError, match='out="OUT"'):
        minestream.merge(named)
    minestream.merge(named, tmp_path / "out.parquet", progress="none")
    assert contents(tmp_path / "out.parquet") == contents(tmp_path / "whole.parquet")


@pytest.mark.usefixtures("parts_of_forty")
def test_an_interrupted_slice_goes_on(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minestream.mine(source, tmp_path / "whole", progress="none")
    mine_slices(source, tmp_path / "out", 2, [2])

    def stop(event: object) -> None:
        work = tmp_path / "out.slices" / "slice-001-of-002.partial"
        if len(list(work.glob("part-*.json"))) >= 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("minestream.mining.shards.Mining.rounds", lambda self, todo: ([index] for index in todo))
    with pytest.raises(KeyboardInterrupt):
        minestream.mine(source, tmp_path / "out", shard="1/2", progress="none", progress_callback=stop)
    with pytest.raises(OutputError, match="1 of 2 slices are missing or unfinished: 1/2"):
        minestream.merge(tmp_path / "out", progress="none")
    with pytest.raises(OutputError, match="resume=True"):
        minestream.mine(source, tmp_path / "out", shard="1/2", progress="none")
    minestream.mine(source, tmp_path / "out", shard="1/2", progress="none", resume=True)
    assert minestream.mine(source, tmp_path / "out", shard="1/2", progress="none", resume=True).already
    minestream.merge(tmp_path / "out", progress="none")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert minestream.merge(tmp_path / "out", progress="none", resume=True).already


# ---------------------------------------------------------------- what is refused


def another_seed(source: Path, out: Path) -> None:
    mine_slices(source, out, 3, [2], seed=1, overwrite=True)


def another_source(source: Path, out: Path) -> None:
    pq.write_table(embeddings(rows=330, seed=4), source)
    mine_slices(source, out, 3, [2], overwrite=True)


def another_version(source: Path, out: Path) -> None:
    change(out, lambda told: told.update(version="0.0.1"))


def another_arrow(source: Path, out: Path) -> None:
    for number in (1, 2, 3):
        change(out, lambda told: told.update(pyarrow="1.0"), number)


def other_parts(source: Path, out: Path) -> None:
    change(out, lambda told: told["slice"]["parts"].reverse() or told["slice"].update(parts=[0, 1]))


def not_there(source: Path, out: Path) -> None:
    shutil.rmtree(out.parent / "out.slices" / "slice-002-of-003")


def no_manifest(source: Path, out: Path) -> None:
    (out.parent / "out.slices" / "slice-002-of-003.manifest.json").unlink()


def another_count(source: Path, out: Path) -> None:
    """Brought from another machine: on this one it is refused."""
    mine_slices(source, out.parent / "other", 2, [2])
    for path in (out.parent / "other.slices").iterdir():
        path.rename(out.parent / "out.slices" / path.name)


def a_flipped_byte(source: Path, out: Path) -> None:
    part = min((out.parent / "out.slices" / "slice-002-of-003").iterdir())
    flipped = bytearray(part.read_bytes())
    flipped[200] ^= 1
    part.write_bytes(flipped)


def another_checksum(source: Path, out: Path) -> None:
    change(out, lambda told: told["files"][0].update(crc32="00000000"))


def a_part_of_other_rows(source: Path, out: Path) -> None:
    first, second, *_ = sorted((out.parent / "out.slices" / "slice-002-of-003").iterdir())
    shutil.copy(second, first)


def change(out: Path, how: Callable[[dict[str, Any]], object], number: int = 2) -> None:
    path = out.parent / "out.slices" / f"slice-00{number}-of-003.manifest.json"
    told = json.loads(path.read_text())
    how(told)
    path.write_text(json.dumps(told))


@pytest.mark.usefixtures("parts_of_forty")
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (another_seed, "seed: 0 -> 1"), (another_source, "its contents changed"), (another_version, "version"),
        (another_arrow, "pyarrow"), (other_parts, "each part once"), (not_there, "is missing"),
        (no_manifest, "slices are missing or unfinished: 2/3"), (another_count, "slices: 3 -> 2"),
        (a_flipped_byte, "damaged|cannot be read"), (a_part_of_other_rows, "damaged"), (another_checksum, "damaged"),
    ],
)  # fmt: skip
def test_slices_that_do_not_make_one_output(
    source: Path, tmp_path: Path, harm: Callable[[Path, Path], None], words: str
) -> None:
    out = tmp_path / "out"
    mine_slices(source, out, 3)
    harm(source, out)
    with pytest.raises(OutputError, match=words):
        minestream.merge(out, progress="none")
    assert not out.exists()
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.usefixtures("parts_of_forty")
def test_a_slice_given_twice(source: Path, tmp_path: Path) -> None:
    mine_slices(source, tmp_path / "out", 2)
    one, two = (tmp_path / "out.slices" / f"slice-00{number}-of-002" for number in (1, 2))
    with pytest.raises(OutputError, match="each part once"):
        minestream.merge([one, two, two], tmp_path / "out", progress="none")


@pytest.mark.usefixtures("parts_of_forty")
def test_gates_and_existing_outputs(source: Path, tmp_path: Path) -> None:
    mine_slices(source, tmp_path / "out", 2)
    with pytest.raises(GateMissedError, match="331"):
        minestream.merge(tmp_path / "out", progress="none", require_rows=331)
    with pytest.raises(UsageError, match="seed"):
        minestream.merge(tmp_path / "out", seed=1)
    assert not (tmp_path / "out").exists()
    minestream.merge(tmp_path / "out", progress="none", require_rows=330, resume=True)
    with pytest.raises(OutputError, match="exists"):
        minestream.merge(tmp_path / "out", progress="none")
    minestream.merge(tmp_path / "out", progress="none", overwrite=True)


@pytest.mark.usefixtures("parts_of_forty")
@pytest.mark.parametrize("options", [{}, *FINISHED.values()], ids=["plain", *FINISHED])
def test_gates_are_looked_at_when_resume_finds_the_output_complete(
    source: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """An output may have been published before its gate was thought of: mined, merged, one file or a folder."""
    mine_slices(source, tmp_path / "merged", 2, **options)
    needed = {"source": source} if options else {}
    made: dict[Path, Callable[..., Any]] = {
        tmp_path / "one.parquet": lambda **more: minestream.mine(source, tmp_path / "one.parquet", **options, **more),
        tmp_path / "parts": lambda **more: minestream.mine(source, tmp_path / "parts", **options, **more),
        tmp_path / "merged": lambda **more: minestream.merge(tmp_path / "merged", **needed, **more),
    }
    for out, call in made.items():
        rows, whole = call(progress="none").stats.rows, contents(out)
        with pytest.raises(GateMissedError, match=f"{rows:,} rows came out") as caught:
            call(progress="none", resume=True, require_rows=rows + 1)
        assert f"{out} was complete before, and stays" in str(caught.value)
        assert call(progress="none", resume=True, require_rows=rows, max_short="100%").already
        assert contents(out) == whole


@pytest.mark.usefixtures("parts_of_forty")
def test_a_gate_missed_by_a_complete_output_ends_the_command_as_any_other(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["mine", str(source), "-o", str(tmp_path / "out.parquet"), "-k", "300", "--resume", "--json"]
    assert main(given) == 0
    capsys.readouterr()
    assert main([*given, "--max-short", "1%"]) == 6
    said = capsys.readouterr()
    assert "of the pairs are short" in said.err
    assert json.loads(said.out)["error"]["exit_code"] == 6


def test_nothing_to_merge(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no finished slice"):
        minestream.merge(tmp_path / "out")
    assert merge.slices_of(tmp_path / "out").name == "out.slices"


def test_a_failed_slice_names_its_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in\.parquet"):
        minestream.mine(tmp_path / "in.parquet", tmp_path / "out", shard="1/2", progress="none")


# ---------------------------------------------------------------- in a store


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_slices_in_a_store(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    set_sizes(monkeypatch, PART_ANCHORS=120)  # three parts: the fourth slice owns none
    bucket = request.getfixturevalue("store")
    put(f"{bucket}/in.parquet", as_parquet(embeddings(rows=330)))
    minestream.mine(f"{bucket}/in.parquet", f"{bucket}/whole/{name}", progress="none")
    mine_slices(f"{bucket}/in.parquet", f"{bucket}/{name}", 4)
    minestream.merge(f"{bucket}/{name}", progress="none")
    written = {key: value for key, value in objects(bucket).items() if key.startswith(name) and ".parquet" in key}
    made = {key: value for key, value in written.items() if ".slices/" not in key and "manifest" not in key}
    whole = {key: value for key, value in objects(f"{bucket}/whole").items() if "manifest" not in key}
    assert made == whole
    assert not [key for key in objects(bucket) if ".partial" in key]
    minestream.merge(f"{bucket}/{name}", tmp_path / name, progress="none")
    assert {f"{name}/{key}" if key else name: value for key, value in contents(tmp_path / name).items()} == made


# ---------------------------------------------------------------- parts of workers


@pytest.mark.parametrize("remote", [False, True])
def test_a_worker_writes_for_the_run_that_leads_alone(
    tmp_path: Path, request: pytest.FixtureRequest, remote: bool
) -> None:
    out = f"{request.getfixturevalue('store')}/out" if remote else str(tmp_path / "out")
    with begin(out) as first:
        worker = PartWriter(target_of(out), first.plan)
        worker.write_part(1, [rows_table(5, 100)], lambda: {"rows": 5})
        assert worker.finished(1)
        first.collect(1)
        assert first.finished(1)
    with begin(out, resume=True) as second:
        assert second.finished(1)
        with pytest.raises(OutputError, match="another run took over"):
            worker.write_part(2, [rows_table(5, 200)], lambda: {"rows": 5})
        for index in (0, 2):
            PartWriter(target_of(out), second.plan).write_part(index, [rows_table(5, 100 * index)], lambda: {"rows": 5})
            second.collect(index)
        second.publish(counts=dict, extra=dict)
    make_all(f"{tmp_path}/whole")
    written = objects(out) if remote else contents(tmp_path / "out")
    whole = contents(tmp_path / "whole")
    assert {name: pq.read_table(pa.BufferReader(data)) for name, data in written.items()} == {
        name: pq.read_table(pa.BufferReader(data)) for name, data in whole.items()
    }
    with pytest.raises(OutputError, match="is over"):
        worker.write_part(2, [rows_table(5, 200)], lambda: {"rows": 5})
    assert not (tmp_path / "out.partial").exists()
