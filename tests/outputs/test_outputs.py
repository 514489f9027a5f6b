"""What may be written: never what is read, never what others wrote; and when --resume says that all is done."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

import minestream
from minestream.cli.main import main
from minestream.errors import InputError, OutputError, UsageError
from minestream.outputs.foreign import is_ours
from minestream.outputs.recipes import write_recipe
from minestream.outputs.single_file import publishing

QUIET: dict[str, Any] = {"progress": "none"}
WRITES_OVER = "which is read|read from, and|minestream did not write it|is never|other files"


def table(rows: int = 40, seed: int = 0, first: int = 0) -> pa.Table:
    """Rows with everything that a run can read."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((2, rows, 4)).astype(np.float32)
    return pa.table(
        {
            "id": [f"d{first + row}" for row in range(rows)],
            "label": [row % 4 for row in range(rows)],
            "session": [row % 3 for row in range(rows)],
            "year": [2000 + row % 9 for row in range(rows)],
            "text": [f"text {row}" for row in range(rows)],
            "embedding": pa.array(list(vectors[0])),
            "second": pa.array(list(vectors[1])),
        }
    )


def with_value(rows: pa.Table, name: str, row: int, value: Any) -> pa.Table:
    """The table with one value of a column changed."""
    values = rows[name].to_pylist()
    values[row] = value
    at = rows.column_names.index(name)
    return rows.set_column(at, name, pa.array(values, rows.schema.field(name).type))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: every table that mine reads."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    pq.write_table(table(), "data/in.parquet")
    queries, corpus = table(12, 1).drop(["label"]), table(30, 2, 100).drop(["label"])
    pq.write_table(queries, "q.parquet")
    pq.write_table(corpus, "c.parquet")
    Path("pairs.tsv").write_text("query-id\tcorpus-id\n" + "".join(f"d{row}\td{100 + row}\n" for row in range(12)))
    pq.write_table(pa.table({"query_id": ["d0"], "positive_id": ["d120"]}), "barred.parquet")
    pq.write_table(pa.table({"id": ["d1"]}), "rows.parquet")
    pq.write_table(table().select(["id", "label"]), "beside.parquet")
    np.save("vectors.npy", np.random.default_rng(3).standard_normal((40, 4)).astype(np.float32))
    return tmp_path


RETRIEVAL = {
    "corpus": "c.parquet", "qrels": "pairs.tsv", "exclude": "barred.parquet", "exclude_rows": "rows.parquet",
    "max_similarity": 0.99, "band": "any",
}  # fmt: skip
TABLES = ["q.parquet", "c.parquet", "pairs.tsv", "barred.parquet", "rows.parquet"]


def every_file() -> dict[str, bytes]:
    """The bytes of every file here."""
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


def refused(write: Callable[[], Any], words: str = WRITES_OVER) -> OutputError:
    """Fail unless a command is refused, without a word of --overwrite, and every file is as it was."""
    before = every_file()
    with pytest.raises(OutputError, match=words) as caught:
        write()
    assert every_file() == before
    assert "overwrite=True" not in str(caught.value)
    return caught.value


# ---------------------------------------------------------------- an output that is an input


SPELLINGS = {
    "as given": lambda path: str(path),
    "with dots": lambda path: f"./data/../{path}",
    "absolute": lambda path: os.path.abspath(path),
    "a URI": lambda path: f"file://{os.path.abspath(path)}",
    "a link": lambda path: _made(lambda new: os.symlink(os.path.abspath(path), new)),
    "a hard link": lambda path: _made(lambda new: os.link(path, new)),
    "through a linked folder": lambda path: f"{_made(lambda new: os.symlink(os.getcwd(), new), 'there')}/{path}",
}


def _made(make: Callable[[str], None], name: str = "other.parquet") -> str:
    make(name)
    return name


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_the_input_is_never_written_over(here: Path, spelled: str) -> None:
    out = SPELLINGS[spelled]("data/in.parquet")
    error = refused(lambda: minestream.mine("data/in.parquet", out, overwrite=True, **QUIET), "which is read")
    assert error.exit_code == 5
    refused(lambda: minestream.mine(out, "data/in.parquet", overwrite=True, **QUIET), "which is read")
    refused(lambda: minestream.mine("data/in.parquet", out, resume=True, **QUIET), "which is read")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("taken", ["out", "out.manifest.json"])
def test_no_table_beside_the_input_is_written_over(here: Path, name: str, taken: str) -> None:
    os.link(name, taken)  # what is read under one name is written over under another
    refused(lambda: minestream.mine("q.parquet", "out", overwrite=True, **RETRIEVAL, **QUIET), "which is read")


def test_vectors_and_what_the_library_is_given(here: Path) -> None:
    beside: dict[str, Any] = {"vectors": "*.npy", "overwrite": True, **QUIET}
    os.rename("vectors.npy", "out.npy")
    os.link("out.npy", "out")
    refused(lambda: minestream.mine("beside.parquet", "out", **beside), "which is read")
    dataset = pa.dataset.dataset("data/in.parquet")
    refused(lambda: minestream.mine(dataset, "data/in.parquet", overwrite=True, **QUIET), "which is read")
    refused(lambda: minestream.mine([Path("data/in.parquet")], Path("data"), overwrite=True, **QUIET), "which is read")


@pytest.mark.parametrize("given", ["data", "data/", "data/*.parquet", "d*/*", "**/in.parquet", "."])
@pytest.mark.parametrize("out", ["data/in.parquet", "data", "data/in.parquet/", "."])
def test_folders_above_and_below(here: Path, given: str, out: str) -> None:
    for path in Path().glob("*.parquet"):
        path.unlink()
    refused(lambda: minestream.mine(given, out, overwrite=True, **QUIET), f"{WRITES_OVER}|cannot write")


def test_parts_of_others_are_an_input_too(here: Path) -> None:
    """A folder as Spark writes them: by name alone its files could be ours."""
    for folder in ("spark", "spark.parquet"):
        os.mkdir(folder)
        pq.write_table(table(), f"{folder}/part-00000.parquet")
        refused(lambda folder=folder: minestream.mine(folder, folder, overwrite=True, **QUIET), "which is read")
        refused(lambda folder=folder: minestream.mine("data", folder, overwrite=True, **QUIET), "did not write it")
    os.symlink("spark/part-00000.parquet", "link.parquet")
    refused(lambda: minestream.mine("link.parquet", "spark", overwrite=True, **QUIET), "which is read")


@pytest.mark.parametrize("given", ["data", "data/**", "data/*"])
@pytest.mark.parametrize("out", ["data/out.parquet", "data/out", "data/deep/out.parquet"])
def test_an_output_that_the_next_run_would_read_is_refused(here: Path, given: str, out: str) -> None:
    os.mkdir("data/deep")
    pq.write_table(table(5, 5, 500), "data/deep/more.parquet")
    refused(lambda: minestream.mine(given, out, **QUIET), "would be read too")


@pytest.mark.parametrize(
    ("given", "out"),
    [("data/in.parquet", "data/out.parquet"), ("data", "data/_out.parquet"), ("data/i*.parquet", "data/out.txt.d")],
)
def test_beside_a_file_there_is_room(here: Path, given: str, out: str) -> None:
    minestream.mine(given, out, **QUIET)
    assert minestream.mine(given, out, resume=True, **QUIET).already


def test_other_commands_write_over_nothing_that_they_read(here: Path) -> None:
    for name in ("m.parquet", "m"):
        minestream.mine("data", name, negatives=2, carry=("text",), **QUIET)
    mined = pq.read_table("m.parquet")
    scores = {"query_id": mined["anchor_id"], "document_id": mined["negative_id"], "score": mined["distance_an"]}
    pq.write_table(pa.table(scores), "s.parquet")
    minestream.fit("data", "l.npz", epochs=1, **QUIET)
    minestream.mine("data", "cut", shard="1/1", **QUIET)
    over: dict[str, Any] = {"overwrite": True}
    again: list[Callable[[], Any]] = [
        lambda: minestream.export("m.parquet", "m.parquet", emit="pml", **over),
        lambda: minestream.export("m", "m/part-00000.parquet", emit="pml", **over),
        lambda: minestream.export("m", "m/new.parquet", emit="pml", **over),
        lambda: minestream.export("m", "data/in.parquet", emit="st-triplets", text="text", source="data", **over),
        lambda: minestream.refilter("m.parquet", "./m.parquet", scores="s.parquet", negatives=1, **over),
        lambda: minestream.refilter("m.parquet", "s.parquet", scores="s.parquet", negatives=1, **over),
        lambda: minestream.apply("l.npz", "data", "data/in.parquet", **over),
        lambda: minestream.apply("l.npz", "data", "data/new.parquet", **over),
        lambda: minestream.compare("data", "q.parquet", out="q.parquet", **over),
        lambda: minestream.profile("data", "data", **over, **QUIET),
        lambda: minestream.profile("data", ".", **over, **QUIET),
        lambda: minestream.profile("data", "data/look", **over, **QUIET),
        lambda: minestream.merge(["cut.slices/slice-001-of-001"], "cut.slices/slice-001-of-001", **over, **QUIET),
        lambda: minestream.merge(["cut.slices/slice-001-of-001"], "cut.slices", **over, **QUIET),
    ]
    for write in again:
        refused(write)
    os.link("l.npz", "data/copy.npz")
    os.rename("l.npz", "x.parquet")
    refused(lambda: minestream.apply("data/copy.npz", "data", "x.parquet", **over), "which is read")


def test_an_export_spares_the_source_that_it_finds_by_itself(here: Path) -> None:
    minestream.fit("data", "l.npz", epochs=1, **QUIET)
    minestream.apply("l.npz", "data", "projected.parquet")  # ours, and an input
    minestream.mine("projected.parquet", "m.parquet", **QUIET)
    refused(
        lambda: minestream.export("m.parquet", "projected.parquet", emit="st-triplets", text="text", overwrite=True)
    )
    pq.write_table(table(), "projected.parquet.manifest.json")
    refused(lambda: minestream.mine("data", "projected.parquet", overwrite=True, **QUIET), "manifest.json exists, and")


# ---------------------------------------------------------------- what others wrote


def test_only_what_minestream_wrote_is_replaced(here: Path) -> None:
    minestream.mine("data", "m.parquet", **QUIET)
    assert is_ours(Path("m.parquet"))
    pq.write_table(pq.read_table("m.parquet").slice(3), "mine.parquet")  # looked through, and written again
    pq.write_table(table(), "theirs.parquet")
    Path("notes.parquet").write_text("PAR1 is how notes on Parquet may begin")
    Path("notes").write_text("minestream wrote none of it")
    for name in ("mine.parquet", "theirs.parquet", "notes.parquet", "notes"):
        for options in ({}, {"overwrite": True}, {"resume": True}):
            refused(lambda name=name, options=options: minestream.mine("data", name, **options, **QUIET))
    Path("empty.parquet").touch()
    minestream.mine("data", "empty.parquet", overwrite=True, **QUIET)
    with pytest.raises(OutputError, match="exists") as caught:
        minestream.mine("data", "m.parquet", **QUIET)
    assert "overwrite=True" in caught.value.hint


WRITERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "mine": ("x.parquet", lambda name: minestream.mine("data", name, overwrite=True, **QUIET)),
    "merge": ("x.parquet", lambda name: minestream.merge("s", name, overwrite=True, **QUIET)),
    "export": ("x.parquet", lambda name: minestream.export("m.parquet", name, emit="st-triplets", overwrite=True)),
    "export lines": ("x.trec", lambda name: minestream.export("m.parquet", name, emit="trec", overwrite=True)),
    "refilter": ("x.parquet", lambda name: minestream.refilter("m.parquet", name, scores=scored(), negatives=1,
                                                               overwrite=True)),
    "batch": ("x.parquet", lambda name: minestream.batch("m.parquet", name, batch_size=2, overwrite=True, **QUIET)),
    "compare": ("x.parquet", lambda name: minestream.compare("data", "data", out=name, overwrite=True)),
    "fit": ("x.npz", lambda name: minestream.fit("data", name, epochs=1, overwrite=True, **QUIET)),
    "apply": ("x.parquet", lambda name: minestream.apply("l.npz", "data", name, overwrite=True)),
    "Linear.save": ("x.npz", lambda name: minestream.Linear.load("l.npz").save(name, overwrite=True)),
    "sample": ("x.parquet", lambda name: minestream.sample(name, overwrite=True)),
    "describe_html": ("x.html", lambda name: minestream.describe_html("m.parquet", name, overwrite=True)),
    "profile": ("x/report.html", lambda name: minestream.profile("data", Path(name).parent, overwrite=True, **QUIET)),
    "a recipe": ("x.toml", lambda name: write_recipe(name, {"inputs": "data", "overwrite": True})),
}  # fmt: skip
OTHERS: dict[str, Callable[[Path], Any]] = {
    "x.parquet": lambda path: pq.write_table(table(), path),
    "x.npz": lambda path: np.savez(path, weights=np.eye(4), mean=np.zeros(4)),
}


def scored() -> pa.Table:
    ids = table()["id"].to_pylist()
    return pa.table({"query_id": [one for one in ids for _ in ids], "document_id": ids * 40, "score": np.ones(1600)})


@pytest.fixture
def written(here: Path) -> Path:
    """The working directory, with what the writers read."""
    minestream.mine("data", "m.parquet", carry="text", **QUIET)
    minestream.mine("data", "s", shard="1/1", **QUIET)
    minestream.Linear(np.eye(4), np.zeros(4), {}).save("l.npz")
    return here


@pytest.mark.parametrize("writer", WRITERS)
def test_whatever_writes_replaces_no_file_of_others(writer: str, written: Path) -> None:
    name, call = WRITERS[writer]
    place = written / name
    place.parent.mkdir(exist_ok=True)
    beside = [place.with_name(f"{place.name}.tmp"), place.with_name(f".{place.name}.tmp"),
              place.with_name(f"{place.name}.manifest.tmp")]  # fmt: skip
    for other in beside:
        other.write_text("of others")
    OTHERS.get(name, lambda path: path.write_text("of others"))(place)
    content = place.read_bytes()
    with pytest.raises(OutputError):
        call(name)
    assert place.read_bytes() == content
    place.unlink()
    call(name)
    call(name)  # our own is replaced
    assert place.read_bytes() != content
    assert all(other.read_text() == "of others" for other in beside)


def test_a_linear_embedding_is_saved_as_other_files_are(written: Path) -> None:
    learned = minestream.Linear.load("l.npz")
    with pytest.raises(OutputError, match=r"l\.npz exists"):
        learned.save("l.npz")
    with pytest.raises(UsageError, match=r"writes \.npz files, not m\.parquet"):
        learned.save("m.parquet", overwrite=True)
    learned.save(written / "again.npz")
    assert Path("again.npz").read_bytes() == Path("l.npz").read_bytes()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_appears_during_the_work_is_not_replaced(overwrite: bool, written: Path) -> None:
    def write() -> None:
        with publishing(Path("x.npz"), overwrite, []) as draft:
            draft.path.write_bytes(Path("l.npz").read_bytes())
            np.savez("x.npz", weights=np.eye(4))

    with pytest.raises(OutputError, match=r"x\.npz exists"):
        write()
    assert [*np.load("x.npz")] == ["weights"]


# Where files are written without a look at what is there: drafts, work folders, scratch and the cache of kernels.
RAW = {"kernels/jit.py", "outputs/sample.py", "outputs/parts.py", "outputs/atomic.py", "outputs/recipes.py",
       "outputs/run.py", "outputs/parquet.py", "outputs/single_file.py", "outputs/stores.py", "mining/rates.py",
       "insight/pages.py", "insight/folder.py", "learn/linear.py", "system/paths.py", "system/console.py",
       "mining/engines/attached.py", "mining/engines/exchange.py"}  # fmt: skip


def test_nothing_else_writes_files() -> None:
    """Whoever writes in another module adds it here, and its function to WRITERS."""
    writes = re.compile(r"np\.save|open\([^)]*\"[wax]b?\"|write_text|write_bytes|os\.replace|os\.rename|write_table\(")
    package = Path(minestream.__file__).parent
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if writes.search(path.read_text())}
    assert found - {"config/names.py", "system/stores.py", "config/resolve.py"} == RAW  # those three say how in hints


def test_unfinished_work_does_not_replace_what_was_put_in_its_place(here: Path) -> None:
    def stop(event: Any) -> None:
        if getattr(event, "stage", "") == "publish":
            raise KeyboardInterrupt

    for name in ("m.parquet", "m"):
        with pytest.raises(KeyboardInterrupt):
            minestream.mine("data", name, **QUIET, progress_callback=stop)
        Path(name).write_text("mine")
        with pytest.raises(OutputError, match="did not write it"):
            minestream.mine("data", name, resume=True, **QUIET)
        assert Path(name).read_text() == "mine"
        Path(name).unlink()
        assert minestream.mine("data", name, resume=True, **QUIET).complete


def test_a_profile_replaces_its_own_files_only(here: Path) -> None:
    minestream.profile("data", "look", **QUIET)
    Path("look/notes.txt").write_text("mine")
    minestream.profile("data", "look", overwrite=True, **QUIET)
    pq.write_table(pq.read_table("look/suspects.parquet").slice(0, 0), "look/suspects.parquet")  # looked through
    refused(lambda: minestream.profile("data", "look", overwrite=True, **QUIET), "profile did not write")
    os.mkdir("new")
    pq.write_table(table(), "new/duplicates.parquet")
    refused(lambda: minestream.profile("data", "new", overwrite=True, **QUIET), "profile did not write")


ENDINGS: list[tuple[list[str], str]] = [
    (["mine", "data", "-o", "x.csv"], "-o x.parquet is one file; a name without an ending is a folder of parts"),
    (["mine", "data", "-o", "report.html"], "-o report.parquet"),
    (["mine", "data", "-o", "X.PARQUET"], "-o X.parquet"),
    (["mine", "data", "-o", "x.pq", "--shard", "1/2"], "-o x.parquet"),
    (["export", "m.parquet", "--emit", "trec", "-o", "x.csv"], "-o x.trec"),
    (["profile", "data", "-o", "report.html"], "-o report: report.html is in it then"),
    (["profile", "data", "-o", "x.json"], "-o x: report.html"),
    (["fit", "data", "-o", "x.parquet"], "-o x.npz"),
    (["apply", "l.npz", "data", "-o", "x.csv"], "-o x.parquet"),
    (["compare", "data", "q.parquet", "-o", "x.tsv"], "-o x.parquet"),
]


@pytest.mark.parametrize(("arguments", "hint"), ENDINGS)
def test_endings_say_what_is_written(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], hint: str
) -> None:
    if arguments[0] == "export":
        minestream.mine("data", "m.parquet", **QUIET)
    if arguments[0] == "apply":
        minestream.fit("data", "l.npz", epochs=1, **QUIET)
    before = every_file()
    assert main(arguments) == 2
    assert hint in capsys.readouterr().err
    assert every_file() == before


def test_a_name_with_a_dot_may_be_a_folder(here: Path) -> None:
    for out in ("margin-0.3", "run.v2"):
        minestream.mine("data", out, **QUIET)
        assert Path(out).is_dir()


def test_a_mined_file_is_no_input(here: Path) -> None:
    minestream.mine("data", "m.parquet", **QUIET)
    with pytest.raises(InputError, match="mined triplets, written by minestream") as caught:
        minestream.mine("m.parquet", "n.parquet", **QUIET)
    assert "in.parquet" in caught.value.hint
    assert "export" in caught.value.hint


# ---------------------------------------------------------------- --resume of what is done


def again(inputs: Any = "data", out: str = "m.parquet", **options: Any) -> Any:
    """Mine with --resume."""
    return minestream.mine(inputs, out, resume=True, **options, **QUIET)


def changed(lines: str, inputs: Any = "data", out: str = "m.parquet", **options: Any) -> None:
    """Fail unless --resume says what differs, and leaves the output as it was."""
    before = every_file()
    with pytest.raises(OutputError) as caught:
        again(inputs, out, **options)
    assert lines in caught.value.message
    assert "overwrite=True" in caught.value.hint
    assert caught.value.exit_code == 5
    assert every_file() == before


@pytest.mark.parametrize("out", ["m.parquet", "m"])
def test_resume_looks_at_the_input(here: Path, out: str) -> None:
    assert not again(out=out).already
    assert again(out=out).already
    os.utime("data/in.parquet")
    assert again(out=out).already, "only the time has changed"
    pq.write_table(table(), "data/in.parquet", row_group_size=7, compression="none")
    assert again(out=out).already, "the same rows, written otherwise"
    pq.write_table(table(43), "data/in.parquet")
    changed("source file in.parquet: rows 43, recorded 40", out=out)
    pq.write_table(table(seed=9), "data/in.parquet")
    changed("source file in.parquet: its contents changed (vectors)", out=out)
    pq.write_table(table(), "data/in.parquet")
    pq.write_table(table(5, 3, 900), "data/more.parquet")
    changed("source file more.parquet: new", out=out)
    os.unlink("data/in.parquet")
    changed("source file in.parquet: gone", out=out)


def test_what_is_equal_is_not_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again()
    monkeypatch.setattr("minestream.mining.driver.open_sources", None)
    assert again().already
    stat = os.stat("data/in.parquet")
    Path("data/in.parquet").write_bytes(Path("data/in.parquet").read_bytes())
    os.utime("data/in.parquet", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(TypeError):  # written again, though size and time are as they were: it is looked at
        again()


COLUMNS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "labels": ({}, "label", 3),
    "ids": ({}, "id", "other"),
    "column text": ({"carry": ("text",)}, "text", "other"),
    "groups": ({"group_column": "session"}, "session", 2),
    "versions": ({"on_duplicate_ids": "last", "version_column": "year"}, "year", 2030),
    "rows": ({"anchor_where": "year > 2003"}, "year", 2030),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_resume_looks_at_every_column_that_is_read(here: Path, kind: str) -> None:
    options, name, value = COLUMNS[kind]
    again(**options)
    pq.write_table(with_value(table(), "year" if name != "year" else "session", 1, 1), "data/in.parquet")
    if kind != "rows" and kind != "versions":
        assert again(**options).already, "of other columns nothing is read"
    pq.write_table(with_value(table(), name, 0, value), "data/in.parquet")
    changed(kind, **options)


@pytest.mark.parametrize("name", ["q.parquet", "c.parquet", "pairs.tsv", "barred.parquet", "rows.parquet"])
def test_resume_looks_at_every_table(here: Path, name: str) -> None:
    again("q.parquet", **RETRIEVAL)
    assert again("q.parquet", **RETRIEVAL).already
    if name == "pairs.tsv":
        Path(name).write_text(Path(name).read_text().replace("d0\td100", "d0\td129"))
    else:
        rows = pq.read_table(name)
        kind, value = (
            ("embedding", [1.0, 2, 3, 4]) if "embedding" in rows.column_names else (rows.column_names[0], "d2")
        )
        pq.write_table(with_value(rows, kind, 0, value), name)
    changed(f"file {name}: its contents changed", "q.parquet", **RETRIEVAL)


def test_resume_looks_at_vectors_and_guides(here: Path) -> None:
    beside: dict[str, Any] = {"vectors": "vectors.npy"}
    again("beside.parquet", **beside)
    assert again("beside.parquet", **beside).already
    np.save("vectors.npy", np.load("vectors.npy") + 1)
    changed("vectors.npy: its contents changed (vectors)", "beside.parquet", **beside)
    guided: dict[str, Any] = {"guide": "second", "max_similarity": 0.9}
    again(out="g.parquet", **guided)
    rows = table()
    pq.write_table(with_value(rows, "second", 0, [9.0, 9, 9, 9]), "data/in.parquet")
    changed("guide file in.parquet: its contents changed (vectors)", out="g.parquet", **guided)


def test_resume_of_what_lies_in_no_file(here: Path) -> None:
    for made in (lambda rows: rows, lambda rows: rows.to_reader(), lambda rows: pa.dataset.dataset(rows)):
        again(made(table()))
        assert again(made(table())).already
        changed("rows 41, recorded 40" if made(table()) is not None else "", made(table(41)))
        Path("m.parquet").unlink()
        Path("m.parquet.manifest.json").unlink()


def test_unfinished_work_knows_every_column(here: Path) -> None:
    def stop(event: Any) -> None:
        if getattr(event, "stage", "") == "publish":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        minestream.mine("data", "m.parquet", carry=("text",), **QUIET, progress_callback=stop)
    pq.write_table(with_value(table(), "text", 0, "other"), "data/in.parquet")
    with pytest.raises(OutputError, match=r"its contents changed \(column text\)"):
        again(carry=("text",))


def test_resume_of_slices_and_of_what_was_merged(here: Path) -> None:
    for shard in ("1/2", "2/2"):
        again(out="m", shard=shard)
        assert again(out="m", shard=shard).already
    minestream.merge("m", **QUIET)
    assert minestream.merge("m", resume=True, **QUIET).already
    assert again(out="m").already, "as if it had been mined at once"
    pq.write_table(table(seed=5), "data/in.parquet")
    changed("its contents changed (vectors)", out="m")
    changed("its contents changed (vectors)", out="m", shard="1/2")
    for shard in ("1/2", "2/2"):
        minestream.mine("data", "m", shard=shard, overwrite=True, **QUIET)
    with pytest.raises(OutputError, match=r"merged from something else:\n.*its contents changed \(vectors\)"):
        minestream.merge("m", resume=True, **QUIET)


def test_resume_looks_at_the_output_too(here: Path) -> None:
    again()
    again(out="m")
    os.unlink("m/part-00000.parquet")
    Path("m/part-00001.parquet").touch()
    with pytest.raises(OutputError, match=r"part-00000\.parquet is missing"):
        again(out="m")
    pq.write_table(table(), "m.parquet")
    refused(again, "did not write it")


def test_the_bytes_of_the_output_tell_nothing_of_files(here: Path) -> None:
    again(carry=("text",))
    os.utime("data/in.parquet")
    os.rename("data", "moved")
    minestream.mine("moved", "n.parquet", carry=("text",), **QUIET)
    assert Path("m.parquet").read_bytes() == Path("n.parquet").read_bytes()
    (read,) = json.loads(Path("n.parquet.manifest.json").read_text())["read"]
    assert read["path"] == str(here / "moved" / "in.parquet")


# ---------------------------------------------------------------- the source, found again


def test_the_source_is_looked_for_where_it_was_first(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir("out")
    minestream.mine("q.parquet", "out/r.parquet", **{**RETRIEVAL, "qrels": "pairs.tsv"}, **QUIET)
    minestream.mine("data", "out/m.parquet", **QUIET)
    os.mkdir("elsewhere")
    monkeypatch.chdir("elsewhere")
    assert minestream.verify("../out/r.parquet", sample=5)["anchors"] == 5
    assert minestream.verify("../out/m.parquet", sample=5)["anchors"] == 5
    assert minestream.export("../out/m.parquet", "x.parquet", emit="st-triplets", text="text")["rows"]
    shutil.copyfile("../data/in.parquet", "in.parquet")
    os.rename("../data/in.parquet", "../out/in.parquet")
    pq.write_table(table(seed=7), "in.parquet")  # here another: what lies beside OUT comes first
    assert minestream.verify("../out/m.parquet", sample=5)["anchors"] == 5
    os.unlink("../out/in.parquet")
    pq.write_table(table(), "in.parquet")
    assert minestream.verify("../out/m.parquet", sample=5)["anchors"] == 5
    os.unlink("in.parquet")
    with pytest.raises(InputError, match=f"is not in {here / 'data'} and .*out and {here / 'elsewhere'}"):
        minestream.verify("../out/m.parquet", sample=5)
