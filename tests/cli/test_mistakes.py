"""What is easily mistaken, in the library and on the command line: each is answered in words, none with a traceback."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream.cli.main import cli, main
from minestream.config.option import flag_of
from minestream.config.resolve import OPTION_FIELDS
from minestream.errors import CapacityError, InputError, MinestreamError, OutputError, UsageError
from minestream.mining.arrays import mine_arrays
from minestream.mining.batches import mine_batches

ROWS = np.random.default_rng(2).standard_normal((40, 4)).astype(np.float32)
LABELS = np.arange(40) % 4
USAGE, INPUT, CAPACITY, OUTPUT = 2, 3, 4, 5
FOREIGN_FILES = {
    "x.pkl": b"\x80\x04\x95",
    "x.h5": b"\x89HDF\r\n\x1a\n",
    "x.faiss": b"IxFI",
    "x.index": b"IxF2",
    "run.toml": b"k = 1",
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, what was mined of it, a model, and files of other kinds."""
    folder = tmp_path_factory.mktemp("mistakes")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 4)
    pq.write_table(pa.table({"embedding": vectors, "label": LABELS, "id": range(40)}), folder / "in.parquet")
    scores = {"query_id": np.repeat(range(40), 40), "document_id": np.tile(range(40), 40), "score": np.arange(1600.0)}
    pq.write_table(pa.table(scores), folder / "scores.parquet")
    np.save(folder / "v.npy", ROWS)
    np.save(folder / "y.npy", LABELS)
    np.save(folder / "y2.npy", np.stack([LABELS, LABELS], axis=1))
    queries, documents = ([f"{letter}{row}" for row in range(40)] for letter in "qd")
    pq.write_table(pa.table({"embedding": vectors, "title": queries}), folder / "plain.parquet")
    pq.write_table(pa.table({"embedding": vectors, "id": queries}), folder / "q.parquet")
    pq.write_table(pa.table({"embedding": vectors, "id": documents}), folder / "c.parquet")
    pq.write_table(pa.table({"query_id": queries, "corpus_id": documents}), folder / "rels.parquet")
    pq.write_table(pa.table({"query_id": range(40), "corpus_id": range(40)}), folder / "numbers.parquet")
    wide = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(ROWS.ravel(), 2)), 8)
    pq.write_table(pa.table({"embedding": wide, "label": LABELS, "id": range(40)}), folder / "wide.parquet")
    pq.write_table(pa.table({"id": [0, 99]}), folder / "few.parquet")
    pq.write_table(pa.table({"query_id": [100], "positive_id": [101]}), folder / "strangers.parquet")
    whole = pq.read_table(folder / "in.parquet")
    pq.write_table(pa.concat_tables([whole, whole]), folder / "repeated.parquet")
    bad = pa.array([[np.nan] * 4, *ROWS[1:].tolist()], pa.list_(pa.float32()))
    pq.write_table(whole.set_column(0, "embedding", bad), folder / "bad.parquet")
    pq.write_table(pa.table({"embedding": ["[0.1, 0.2]"], "label": [1]}), folder / "strings.parquet")
    (folder / "half").mkdir()
    (folder / "half" / "a.parquet").write_bytes((folder / "in.parquet").read_bytes())
    (folder / "half" / "b.parquet").write_bytes((folder / "in.parquet").read_bytes()[:900])
    for name, head in FOREIGN_FILES.items():
        (folder / name).write_bytes(head)
    minestream.mine(folder / "in.parquet", folder / "m.parquet", progress="none")
    minestream.profile(folder / "in.parquet", folder / "prof", progress="none")
    for name in ("parts", "gone"):
        minestream.mine(folder / "in.parquet", folder / name, progress="none")
        (folder / name / "part-00000.parquet").unlink()
    (folder / "gone").rmdir()
    minestream.mine(folder / "in.parquet", folder / "cut.parquet", progress="none", shard="1/1")
    minestream.fit(folder / "in.parquet", folder / "model.npz", progress="none", epochs=1, step_rows=9)
    return folder


@pytest.fixture(autouse=True)
def in_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


# ---------------------------------------------------------------- the library


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a text for a whole number": ({"negatives": "4"}, "negatives takes a whole number, not '4'\nwithout quotes: 4"),
    "a number with a point": ({"negatives": 4.0}, "negatives takes a whole number, not 4.0"),
    "true for a number": ({"negatives": True}, "negatives takes a whole number, not True"),
    "a share as a text": ({"relative_margin": "5%"}, "takes a number, not '5%'\nwithout quotes: 0.05 keeps what is"),
    "a text for a number": ({"margin": "0.2"}, "margin takes a number, not '0.2'\nwithout quotes: 0.2"),
    "several margins": ({"margin": [0.2, 0.3]}, "margin takes a number, not a list"),
    "a text for a flag": ({"normalize": "yes"}, "normalize takes True or False, not 'yes'"),
    "a seed": ({"pick": "random", "seed": "a"}, "seed takes a whole number, not 'a'"),
    "a seed beyond 64 bits": ({"pick": "random", "seed": 2**63}, "seed=9223372036854775808 is beyond what 64 bits"),
    "threads": ({"threads": "2"}, "threads takes a whole number"),
    "no threads": ({"threads": 0}, "threads must be at least 1"),
    "rows": ({"max_rows": 0}, "max_rows must be at least 1"),
    "a list for a name": ({"metric": ["cosine"]}, r"metric has no value \['cosine'\]"),
    "a function for a name": ({"metric": max}, "metric has no value"),
    "labels by another name": ({"label": LABELS}, "label is not for arrays\npass them as labels="),
    "ids by another name": ({"id": LABELS}, "id is not for arrays\npass them as ids="),
    "the name of a column": ({"label": "label"}, "label is not for arrays\narrays have no columns"),
    "a grade": ({"qrels": [(0, 4)], "min_grade": float("nan")}, "min_grade must be a finite number"),
    "pairs that are none": ({"qrels": [0, 1]}, r"qrels: a list is no table\ngive it pyarrow.table\(.*a list of such"),
    "pairs in a set": ({"qrels": {(0, 1)}}, "qrels: a set is no table"),
    "pairs in a dict": ({"exclude": {0: 1}}, "exclude: a dict is no table"),
    "rows in a list": ({"exclude_rows": [1, 2]}, r'exclude_rows: a list is no table\n.*\{"row": \['),
    "rows by id": ({"exclude_rows": [1], "ids": range(40)}, r'exclude_rows: a list is no table\n.*\{"id": \['),
    "float labels": ({"labels": LABELS.astype(float)}, r"badly: .*\.astype\('Int64'\) in pandas \(NaN becomes null"),
    "a margin in words": ({"margin": "x"}, r"margin takes a number, not 'x'\ncosine distances run from 0 to 2"),
    "an output": ({"output": "x.parquet"}, r"no option 'output'\nit returns the rows and writes .*write_table"),
    "an output, again": ({"out": "x.parquet"}, r"no option 'out'\nit returns the rows and writes nothing: "),
    "no option": ({"bogus": 1}, "no option 'bogus'\nminestream help options lists those of mine$"),
    "one-hot labels": ({"labels": np.eye(4)[LABELS]}, r"labels have one dimension: .* shape \(40, 4\).*one-hot: "),
    "a label beyond 64 bits": ({"labels": [2**70] * 40}, "label: a list cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_mistaken_options_of_arrays(name: str) -> None:
    options, words = OPTIONS[name]
    with pytest.raises(MinestreamError, match=f"(?s){words}"):
        mine_arrays(ROWS, **{"labels": LABELS, **options})


def test_what_can_be_meant_only_is_taken() -> None:
    expected = mine_arrays(ROWS, LABELS, negatives=2, margin=0.25, normalize=True).table()
    numpy = {"negatives": np.int64(2), "margin": np.float32(0.25), "normalize": np.bool_(True), "metric": None}
    assert mine_arrays(ROWS, LABELS, **numpy).table().equals(expected)
    assert mine_arrays(ROWS, LABELS, negatives=2, margin=0.25, normalize=1).table().equals(expected)
    pairs = [(0, 4), (1, 5)]
    listed = mine_arrays(ROWS, qrels=pairs).table()
    assert mine_arrays(ROWS, qrels=np.array(pairs)).table().equals(listed)
    onehot = np.eye(4, dtype=np.int64)[LABELS]
    assert mine_arrays(ROWS, onehot.argmax(axis=1), negatives=2, margin=0.25, normalize=True).table().equals(expected)


NO_PATHS: list[Any] = [None, 5, 1.5, b"m.parquet", ["m.parquet"], {"m.parquet"}, {}, ROWS, pa.table({"a": [1]})]


@pytest.mark.parametrize("given", NO_PATHS, ids=lambda given: type(given).__name__)
def test_what_is_no_path(given: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: minestream.verify(given),
        lambda: minestream.describe(given),
        lambda: minestream.export(given, "e.trec", emit="trec"),
        lambda: minestream.export(*(("m.parquet", given) if given is not None else (None,)), emit="trec"),
        lambda: minestream.refilter(given, "r.parquet", scores="scores.parquet", negatives=1),
        lambda: minestream.merge(given) if not isinstance(given, list) else minestream.verify(given),
        lambda: minestream.fit("in.parquet", given, progress="none"),
        lambda: minestream.apply("model.npz", "in.parquet", given),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="^None is no path" if given is None else "^an object of .* is no path"):
            call()
    if given is not None:
        with pytest.raises(UsageError, match="vectors takes paths of"):
            mine_batches("in.parquet", vectors=[given] if isinstance(given, list) else given)


KEYWORDS: dict[str, tuple[Callable[[], Any], str]] = {
    "verify": (lambda: minestream.verify("m.parquet", sample="5"), "sample takes a whole number, not '5'"),
    "refilter": (
        lambda: minestream.refilter("m.parquet", "r.parquet", scores="scores.parquet", negatives="3"),
        "negatives takes a whole number",
    ),
    "export": (lambda: minestream.export("m.parquet", "e.trec", emit=["trec"]), "emit takes a text, not a list"),
    "fit": (lambda: minestream.fit("in.parquet", "f.npz", epochs="3"), "epochs takes a whole number"),
    "compare": (lambda: minestream.compare("in.parquet", "in.parquet", within="x"), "within takes a number"),
    "profile": (lambda: minestream.profile("in.parquet", sample=5.0), "sample takes a whole number"),
    "profile, margins": (lambda: minestream.profile("in.parquet", margins="0.1"), "margin takes a number, not '0.1'"),
    "profile, limit": (lambda: minestream.profile("in.parquet", limit=5), "here that is sample"),
    "profile, gpu": (lambda: minestream.profile("in.parquet", gpu=True), "there is none: it runs on the processor"),
    "arrays, k": (lambda: mine_arrays(ROWS, LABELS, k=4), "here that is negatives=4"),
    "sample": (lambda: minestream.sample("x.csv"), "sample writes .parquet files"),
    "profile, one margin": (lambda: minestream.profile("in.parquet", margin=0.1), "did you mean 'margins'"),
    "carry": (lambda: mine_batches("in.parquet", carry=ROWS), "carry takes names of columns, not a ndarray"),
    "carry, a number": (lambda: mine_batches("in.parquet", carry=5), "carry takes names of columns, not a int"),
    "vectors": (lambda: mine_batches("in.parquet", vectors=ROWS), "vectors takes paths of .npy files, not a ndarray"),
    "column": (lambda: mine_batches("in.parquet", label=5), "label takes a text, not 5"),
    "callback": (
        lambda: minestream.mine("in.parquet", "o.parquet", progress_callback=5), "progress_callback is a int"  # type: ignore[arg-type]
    ),
    "no slices": (lambda: minestream.merge([]), "no slice is named"),
    "window": (lambda: minestream.Miner("9"), "window takes a whole number, not '9'"),  # type: ignore[arg-type]
    "window, output": (lambda: minestream.Miner(9, out="x"), r"no option 'out'\nfeed\(\) returns the rows"),  # type: ignore[call-arg]
    "batches, output": (lambda: mine_batches("in.parquet", output="x"), "no option 'output'\nit returns a reader"),  # type: ignore[call-arg]
    "arrays, exchanged": (lambda: mine_arrays(LABELS, ROWS), "labels of two\nexchange them: the vectors come first"),
    "names of a batch": (lambda: minestream.Miner(9).feed({1: ROWS, "label": LABELS}), "a dict of arrays by column"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYWORDS)
def test_mistaken_keywords(name: str) -> None:
    call, words = KEYWORDS[name]
    with pytest.raises(UsageError, match=words):
        call()


def test_a_window_without_labels_is_not_told_to_list_pairs() -> None:
    with pytest.raises(InputError, match=r'no label column found(?s:.*)\nsay which rows belong .* label="COL"'):
        minestream.Miner(9).feed({"embedding": ROWS})


def test_one_margin_may_stand_alone() -> None:
    (entry,) = minestream.profile("in.parquet", margins=0.1, progress="none")["margins"]
    assert entry["margin"] == 0.1


# ---------------------------------------------------------------- the command line


MINE = ["mine", "in.parquet", "--progress", "none", "-o", "o.parquet"]
REFILTER = ["refilter", "m.parquet", "--scores", "scores.parquet", "-k", "1", "-o", "r.parquet"]
COMPARE = ["compare", "in.parquet", "in.parquet"]
LARGE = str(10**30)
TWO = ["mine", "q.parquet", "--corpus", "c.parquet", "-o", "o.parquet"]
COMMANDS: list[tuple[list[str], int, str]] = [
    *(([*MINE, flag, LARGE], USAGE, f"{flag} {LARGE} is beyond what 64 bits hold")
      for flag in ("--negatives", "--skip", "--max-uses", "--seed")),
    ([*MINE, "--max-rows", "-1"], USAGE, "--max-rows must be at least 1"),
    ([*MINE, "--require-rows", "-1"], USAGE, "--require-rows must be at least 0"),
    ([*REFILTER, "--require-rows", "-1"], USAGE, "--require-rows must be at least 0"),
    ([*REFILTER, "-k", LARGE], USAGE, f"--negatives {LARGE} is beyond"),
    ([*MINE, "--vectors", "in.parquet"], INPUT, "in.parquet: no .npy array"),
    ([*MINE, "--where", "label >"], USAGE, "--where 'label >': invalid syntax\nhint: columns"),
    (["mine", "m.parquet.manifest.json", "-o", "o.parquet"], INPUT, "hint: the manifest of a mined output"),
    (["mine", "", "-o", "o.parquet"], USAGE, "an empty path"),
    (["mine", "in.parquet", "-o", ""], USAGE, "an empty path"),
    (["mine", "in.parquet", "-o", "."], OUTPUT, "cannot write .: it is a folder that is there"),
    *(([command, ""], USAGE, "an empty path") for command in ("describe", "verify", "merge", "profile")),
    ([*REFILTER, "--scores", ""], USAGE, "an empty path"),
    (["compare", "in.parquet", ""], USAGE, "an empty path"),
    (["apply", "model.npz", "", "-o", "a.parquet"], USAGE, "an empty path"),
    (["apply", "in.parquet", "model.npz", "-o", "a.parquet"], INPUT, "in.parquet: no linear embedding"),
    (["apply", "v.npy", "in.parquet", "-o", "a.parquet"], INPUT, "the model comes first"),
    (["merge", "cut.parquet.slices"], OUTPUT, "hint: name what the slices are of: cut.parquet"),
    *(([*COMPARE, "--within", value], USAGE, f"--within {words}") for value, words in
      (("-1", "must be a distance of 0 or more, not -1"), ("nan", "must be a distance"), ("5", "5 is more than"))),
    ([*MINE, "--limit", "100"], USAGE, "here that is --anchors, to mine for fewer anchors; --max-rows"),
    ([*MINE, "--force"], USAGE, "here that is --overwrite\n"),
    ([*MINE, "--band", "SEMI-HARD"], USAGE, "did you mean 'semi-hard'"),
    ([*MINE, "--negatives-per-anchor"], USAGE, "hint: minestream mine --help-all"),
    (["profile", "in.parquet", "--near"], USAGE, "hint: minestream profile --help lists"),
    (["profile", "in.parquet", "--limit", "9"], USAGE, "here that is --sample 1000"),
    (["verify", "m.parquet", "--limit=9"], USAGE, "here that is --sample 20"),
    (["export", "m.parquet", "--format", "trec"], USAGE, "here that is --emit"),
    (["refilter", "m.parquet", "--top-k", "1"], USAGE, "here that is --negatives (-k)"),
    (["fit", "in.parquet", "--output", "x.npz"], USAGE, "here that is -o"),
    (["describe", "m.parquet", "--limit", "9"], USAGE, "No such option '--limit'"),
    *(([*start, *flag], USAGE, "hint: there is none: it runs on the processor, a dozen seconds")
      for start in (MINE, ["fit", "in.parquet"]) for flag in (["--gpu"], ["--device", "cuda"])),
    (["mine", "in.parquet", "-out", "x"], USAGE, "with two dashes: --out"),
    ([*MINE, "-positives-per-anchor", "2"], USAGE, "with two dashes: --positives-per-anchor"),
    *(([*MINE, "--where", theirs], USAGE, f"hint: here that is {ours}\n") for theirs, ours in
      (("label = 3", "label == 3"), ("label <> 3", "label != 3"), ("label IN (2,3)", "label in (2,3)"),
       ("id = 'a = b' AND label IS NOT NULL", "id == 'a = b' and label is not None"),
       ("label == None", "label is None"),
       ("label is null OR NOT id <> null", "label is None or not id is not None"))),
    (["profile", "in.parquet", "--margin", "0.1", "0.2"], INPUT, "error: 0.2: does not exist\nhint: several values of "
     "one option go with commas: 0.1,0.2; check the path"),
    (["mine", "in.parquet", "-o", "o.parquet", "--label", "embedding"], INPUT, "hint: vectors are no labels; "),
    *(([*MINE, "--where", theirs], USAGE, "hint: columns, numbers") for theirs in ("label LIKE 3", "f(x) = 3")),
    ([*MINE, "--anchor-where", "label == 'x'"], USAGE, "column 'label' is int64, and it is compared with the text 'x'"),
    (["mine", "plain.parquet", "-o", "o.parquet"], INPUT, "plain.parquet: no label column found; candidates: title"),
    (["mine", "plain.parquet", "-o", "o.parquet"], INPUT, "list the positives with --qrels PAIRS, or say which rows"),
    *(([*MINE, "--metric", given], USAGE, f"here that is {ours}") for given, ours in
      (("l2", "euclidean"), ("L2", "euclidean"), ("ip", "dot"), ("inner_product", "dot"), ("angular", "cosine"))),
    ([*MINE, "--metric", "manhattan"], USAGE, "known: cosine, euclidean, sqeuclidean, dot"),
    ([*MINE, "--anchors", "0.1"], USAGE, "did you mean --anchors 10%?"),
    ([*MINE, "--metric", "euclidean"], USAGE, "hint: minestream profile INPUT --metric euclidean recommends one"),
    ([*MINE, "--margin", "5"], USAGE, "cosine and euclidean end at 2"),
    ([*MINE, "--relative-margin", "5%"], USAGE, "write a share: 0.05 keeps what is at most 95 % as similar; for"),
    ([*MINE, "--relative-margin", "95%"], USAGE, "keeps what is at most 5 % as similar; for up to 95 % write 0.05"),
    ([*MINE, "--margin", "5%"], USAGE, "write 5% as 0.05"),
    ([*MINE, "--relative-margin", "5"], USAGE, "a share of the reference: 0.05 is 5 %"),
    ([*TWO, "--qrels", "rels.parquet", "--positives-per-anchor", "1"], USAGE, "--positives easiest (or hardest"),
    *(([*command, "plain.parquet"], INPUT, "hint: say which rows belong together with --label COL")
      for command in (["fit", "-o", "x.npz"], ["profile"])),
    *(([*command, "v.npy"], INPUT, "hint: name the file of its labels with --labels FILE\n")
      for command in (["fit", "-o", "x.npz"], ["profile"])),
    (["mine", "in.parquet", "--resume", "-o", "m.parquet", "--overwrite", "-k", "2"], OUTPUT,
     "hint: --overwrite in place of --resume mines it again"),
    (["compare", "in.parquet", "wide.parquet"], INPUT, "the vectors of wide.parquet have 8 coordinates, those of "
     "in.parquet 4"),
    ([*MINE, "--exclude-rows", "few.parquet"], INPUT, "hint: check that it belongs to this input, or leave such rows"),
    (["mine", "plain.parquet", "--label", "title", "--carry", "title,embedding", "-o", "o.parquet"], INPUT,
     "hint: each column by itself: --carry 'title' --carry 'embedding'"),
    ([*MINE, "--carry", "label,idd"], INPUT, "did you mean 'label'? known: "),
    *(([*MINE, "--memory", given], CAPACITY, f"--memory {given} is below the 16 MiB that any run needs\nhint: {hint}\n")
      for given, hint in (("64", "64 is bytes: --memory 64MiB"), ("10", "10 is bytes: --memory 10GiB"),
                          ("0.5", "0.5 is bytes: --memory 0.5GiB"), ("0", "the least is --memory 16MiB"),
                          ("64KiB", "the least is --memory 16MiB"))),
    (["compare", "bad.parquet", "in.parquet"], INPUT, "leave such rows out with --on-bad-rows drop"),
    (["compare", "repeated.parquet", "in.parquet"], INPUT, "add --on-duplicate-ids last (or first), or name another"),
    *(([command, "in.parquet", "--exclude", "strangers.parquet"], INPUT, "other rows: minestream mine INPUT --corpus")
      for command in ("profile", "mine")),
    ([*MINE, "--where", "label == 3"], INPUT, "--anchor-where says which rows are anchors"),
    (TWO, INPUT, "hint: list the positives with --qrels PAIRS, or say which rows belong together with --label COL"),
    ([*TWO, "--qrels", "numbers.parquet"], INPUT, "the first is 0; these are string like 'q0'"),
    (["mine", "m.parquet"], INPUT, "m.parquet: mined triplets, written by minestream: an output, no embeddings\n"
     "hint: to mine again give what it came from, in.parquet; minestream describe, verify"),
    (["mine", "strings.parquet"], INPUT, "pyarrow.array([json.loads(text) for text in"),
    (["mine", "half", "-o", "o.parquet"], INPUT, "error: half/b.parquet: unreadable or truncated"),
    *((["mine", name], INPUT, f"error: {name}: neither Parquet nor Arrow IPC\nhint: {hint}") for name, hint in
      (("run.toml", "a file of options goes with --config run.toml"),
       ("x.pkl", "a pickle"), ("x.h5", "read its arrays with h5py"), ("x.faiss", "an index"), ("x.index", "an index"))),
    *((["mine", "in.parquet", "-o", f"x{ending}"], USAGE, f"is written is Parquet, not {ending}\nhint: -o x.parquet")
      for ending in (".csv", ".html", ".jsonl", ".orc", ".faiss")),
    *(([*start, name], USAGE, f"{what}, not {name}\nhint: {hint}")
      for name in ("x.csv", "x.html") for start, what, hint in
      ((["export", "m.parquet", "--emit", "trec", "-o"], "--emit trec writes .trec files", "-o x.trec"),
       ([*REFILTER, "-o"], "refilter writes .parquet files", "-o x.parquet"),
       (["profile", "in.parquet", "-o"], "profile writes a folder", "-o x: report.html is in it then"),
       ([*COMPARE, "-o"], "compare writes .parquet files", "-o x.parquet"),
       (["fit", "in.parquet", "-o"], "fit writes .npz files", "-o x.npz"),
       (["apply", "model.npz", "in.parquet", "-o"], "apply writes .parquet files", "-o x.parquet"),
       (["sample"], "sample writes .parquet files", "minestream sample x.parquet"))),
    *(([*start, "half/x.csv"], USAGE, f"half/x{suffix}") for start, suffix in
      ((MINE[:-1], ".parquet is one file"), ([*COMPARE, "-o"], ".parquet\n"), (["sample"], ".parquet\n"),
       (["profile", "in.parquet", "-o"], ": report"))),
    (["describe", "m.parquet", "--html", "page.csv"], USAGE, "writes .html files, not page.csv\nhint: --html page"),
    ([*REFILTER, "--scores", "rels.parquet"], INPUT, "rels.parquet: no column 'score'; there are query_id, corpus_id\n"
     "hint: call it score (also known: "),
    (["mine", "in.parquet", "-o", "missing/o.parquet"], OUTPUT, "cannot write missing/o.parquet: no folder missing"),
    (["mine", "in.parquet", "-o", "in.parquet", "--overwrite"], OUTPUT, "cannot write in.parquet: it is INPUT"),
    (["mine", "half", "-o", "half", "--overwrite"], OUTPUT, "holds half/a.parquet of INPUT, which is read"),
    (["mine", "nothing.parquet"], INPUT, "error: nothing.parquet: does not exist\nhint: check the path"),
    (["mine", "in.parqet"], INPUT, "error: in.parqet: does not exist\nhint: did you mean 'in.parquet'? check the path"),
    (["mine", "prof/suspect.parquet"], INPUT, "did you mean 'prof/suspects.parquet'? check the path"),
    (["mine", "c.parquet", "--corpus", "q.parquet", "--qrels", "rels.parquet", "-o", "o.parquet"], INPUT,
     "hint: the other table has them: exchange INPUT and --corpus, or the names of the two columns"),
    ([*MINE, "--bogus"], USAGE, "No such option '--bogus'.\nhint: minestream mine --help-all lists"),
    ([*MINE, "--neg", "3"], USAGE, "Did you mean '--negatives'?"),
    *(([*start, option, "x"], USAGE, f"no option '{option}'\nhint: it {what}") for option in ("--corpus", "--qrels")
      for start, what in ((["profile", "in.parquet"], "looks at one table with labels"),
                          (["fit", "in.parquet", "-o", "x.npz"], "learns from one table"))),
    (["fit", "in.parquet", "-o", "x.npz", "--exclude-rows", "prof"], USAGE, "hint: make the label of such rows null"),
    (["describe", "prof"], INPUT, "prof is the folder of a profile, not of mined rows\nhint: read prof/report.html"),
    ([*MINE, "--exclude-rows", "prof"], INPUT, "several tables\nhint: name one: prof/suspects.parquet"),
    (["describe", "parts"], INPUT, "parts: part-00000.parquet is missing\nhint: it is damaged"),
    (["describe", "gone"], INPUT, "gone is missing, and its manifest is there\nhint: it is damaged"),
    (["mine", "in.parquet", "-o", "m.parquet", "--label", "lable"], INPUT, "no column 'lable' (--label)"),
    (["mine", "in.parquet", "-o", "m.parquet", "-k", "2"], OUTPUT, "error: m.parquet exists, mined with other options: "
     "negatives: 1 -> 2\nhint: --overwrite replaces it, another name leaves it as it is\n"),
    (["mine", "in.parquet", "-o", "m.parquet"], OUTPUT, "error: m.parquet exists\nhint: --overwrite"),
    (["mine", "v.npy", "--labels", "y2.npy"], INPUT, "labels have one dimension: y2.npy has shape (40, 2)\nhint: "),
    (["mine", "v.npy", "--label", "y.npy"], INPUT, "no column 'y.npy' (--label)\nhint: did you mean --labels y.npy?"),
    ([*MINE, "--labels", "y.npy"], USAGE, "not in.parquet\nhint: the labels of a table are one of its columns: "),
    (["mine", "in.parquet", "--vectors", "half"], INPUT, "half: no *.npy in this folder"),
    *((["profile", "in.parquet", "--near", value], USAGE, f"--near {words}") for value, words in
      (("-1", "must be a distance of 0 or more, not -1"), ("inf", "must be a distance"), ("5", "5 is more than"))),
]  # fmt: skip


def options_of(text: str) -> set[str]:
    """The options that a text names, with -o and -k."""
    return {*re.findall(r"(?<![\w/'\"-])(--[a-z][a-z-]*|-[ok]\b)", text)}


def known_to(command: str, said: str) -> set[str]:
    """The options of a command, --help, and the options of every other command that a text names."""
    names = {command, *re.findall(r"(?:minestream|of) ([a-z]+)", said)} & {*cli.commands}
    commands = [cli.get_command(click.Context(cli), name) for name in names]
    return {"--help"} | {
        flag for each in commands if each is not None for option in each.params for flag in option.opts
    }


@pytest.mark.parametrize("given", ["10", "64", "0.5", "0.001", "0", "1KiB"])
def test_a_size_that_a_hint_gives_is_taken(given: str) -> None:
    for value in (given, float(given)) if given[-1] != "B" else (given,):
        with pytest.raises(CapacityError, match="is below the 16 MiB") as raised:
            mine_arrays(ROWS, LABELS, memory=value)  # type: ignore[arg-type]
        (size,) = re.findall('memory="(.*?)"', raised.value.hint)
        assert mine_arrays(ROWS, LABELS, memory=size).table().num_rows


# What stands in the way of a file, and the commands that write one, in the library too.
IN_THE_WAY: dict[str, Callable[[Path], object]] = {
    "a file of others": lambda out: out.write_text("mine"),
    "an output": lambda out: out.write_bytes(Path("m.parquet").read_bytes()),
    "unfinished work": lambda out: unfinished(out),
    "a folder of others": lambda out: (Path(f"{out}.partial").mkdir(), Path(f"{out}.partial", "x").touch()),
    "no folder": lambda out: out.parent.rmdir(),
    "another manifest": lambda out: Path(f"{out}.manifest.json").write_text("[]"),
    "another ending": lambda out: None,
}
WRITERS: dict[str, tuple[str, list[str], Callable[[Path], object]]] = {
    "mine": (".parquet", ["mine", "in.parquet", "-o"], lambda out: minestream.mine("in.parquet", out)),
    "sample": (".parquet", ["sample"], lambda out: minestream.sample(out)),
    "describe": (".html", ["describe", "m.parquet", "--html"],
                 lambda out: minestream.describe_html("m.parquet", out, overwrite=False)),
    "export": (".trec", ["export", "m.parquet", "--emit", "trec", "-o"],
               lambda out: minestream.export("m.parquet", out, emit="trec")),
    "refilter": (".parquet", [*REFILTER[:-2], "-o"],
                 lambda out: minestream.refilter("m.parquet", out, scores="scores.parquet", negatives=1)),
    "batch": (".parquet", ["batch", "m.parquet", "--batch-size", "2", "-o"],
              lambda out: minestream.batch("m.parquet", out, batch_size=2)),
    "compare": (".parquet", [*COMPARE, "-o"], lambda out: minestream.compare("in.parquet", "in.parquet", out=out)),
    "apply": (".parquet", ["apply", "model.npz", "in.parquet", "-o"],
              lambda out: minestream.apply("model.npz", "in.parquet", out)),
    "fit": (".npz", ["fit", "in.parquet", "--epochs", "1", "-o"], lambda out: minestream.fit("in.parquet", out)),
}  # fmt: skip


def unfinished(out: Path) -> None:
    """Unfinished work of a run that would write `out`."""
    with pytest.raises(MinestreamError):
        minestream.mine("in.parquet", "half.parquet", require_rows=10**6, progress="none")
    Path("half.parquet.partial").rename(f"{out}.partial")


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("obstacle", IN_THE_WAY)
def test_what_stands_in_the_way_of_a_file_is_answered_with_what_the_command_has(
    obstacle: str, writer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix, command, call = WRITERS[writer]
    out = tmp_path / "to" / f"x{'.csv' if obstacle == 'another ending' else suffix}"
    out.parent.mkdir()
    IN_THE_WAY[obstacle](out)
    code = main([*command, str(out)])
    assert code in ((USAGE,) if obstacle == "another ending" else (0, OUTPUT))
    hint = capsys.readouterr().err.partition("\nhint: ")[2]
    assert options_of(hint) <= known_to(command[0], hint)
    with pytest.raises(MinestreamError) as raised:
        call(out)
    known = inspect.signature(getattr(minestream, "describe_html" if writer == "describe" else writer)).parameters
    named = re.findall(r"\b(\w+)=|(?<![.\w])(resume|out|html)\b", raised.value.hint)
    assert {word for each in named for word in each if word} <= {*known}, raised.value.hint


@pytest.mark.parametrize(("arguments", "code", "words"), COMMANDS, ids=[" ".join(each)[:60] for each, *_ in COMMANDS])
def test_mistaken_commands(arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert words in said
    assert options_of(said.partition("\nhint: ")[2]) <= known_to(arguments[0], said), "a hint names what there is"
    assert "pickle" not in said or ".pkl" in words
    assert str(Path.cwd()) not in said, "a path is shown as it was typed"


COMMANDS_OF_TABLES = (
    "batch", "profile", "fit", "compare", "apply", "merge", "describe", "verify", "export", "refilter",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS_OF_TABLES)
def test_an_option_of_mine_is_not_taken_for_another_of_the_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    own = {flag for option in found.params for flag in option.opts}
    for flag in {flag_of(name) for name in OPTION_FIELDS} - own:
        assert main([command, "a", flag, "3"]) == USAGE
        assert "Did you mean" not in capsys.readouterr().err, flag


def test_a_value_that_no_row_has_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine", "in.parquet", "-o", "none.parquet", "--unlabeled-value", "77"]) == 0
    assert "no row has the label '77'" in "".join(capsys.readouterr())


def test_a_file_that_is_named_twice_is_read_once_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    twice = ["mine", "in.parquet", "./in.parquet", "-o", "twice.parquet", "--anchor-where", "label < 2"]
    assert main(twice) == 0
    said = "".join(capsys.readouterr())
    assert said.count("in.parquet is named more than once: each file is read once") == 1
    assert "20 of 40 rows" in said
    Path("both").mkdir()
    for name in "ab":
        pq.write_table(pq.read_table("in.parquet").slice(20 * (name == "b"), 20), f"both/{name}.parquet")
    assert main(["mine", "both", "both/*.parquet", "-o", "twice.parquet", "--overwrite"]) == 0
    assert "both/a.parquet is named more than once, 1 other file too: each" in "".join(capsys.readouterr())
    assert main(["mine", "v.npy", "v.npy", "--labels", "y.npy", "-o", "twice.parquet", "--overwrite"]) == 0
    assert "v.npy is named more than once:" in "".join(capsys.readouterr())


def test_a_stream_is_not_looked_at_where_the_output_exists() -> None:
    stream = pq.read_table("in.parquet").to_reader(10)
    with pytest.raises(OutputError, match=r"m\.parquet exists, mined with other options: label: "):
        minestream.mine(stream, "m.parquet", label="lable", progress="none")
    assert stream.read_all().num_rows == 40


def test_scores_may_name_documents_as_a_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    named = pq.read_table("scores.parquet").rename_columns(["query_id", "corpus_id", "score"])
    pq.write_table(named, "named.parquet")
    for scores, out in (("scores.parquet", "r1.parquet"), ("named.parquet", "r2.parquet")):
        assert main([*REFILTER, "--scores", scores, "-o", out]) == 0
    assert pq.read_table("r1.parquet").equals(pq.read_table("r2.parquet"))


def test_a_trainers_file_is_named_without_two_endings() -> None:
    assert main(["export", "m.parquet", "--emit", "trec"]) == 0
    assert Path("m.trec").exists()


def test_reports_show_paths_as_they_were_typed(capsys: pytest.CaptureFixture[str]) -> None:
    commands = [
        ["mine", "in.parquet", "-o", "as.parquet"], ["describe", "as.parquet"], ["verify", "as.parquet"],
        ["profile", "in.parquet", "-o", "as"], ["compare", "in.parquet", "in.parquet", "-o", "near.parquet"],
        ["fit", "in.parquet", "-o", "as.npz", "--epochs", "1"], ["apply", "as.npz", "in.parquet", "-o", "to.parquet"],
        ["refilter", "as.parquet", "--scores", "scores.parquet", "-k", "1", "-o", "re.parquet"],
        ["mine", "half/a.parquet", "-o", "from", "--dry-run"], ["sample", "digits.parquet"],
    ]  # fmt: skip
    for command in commands:
        assert main(command) == 0
        assert str(Path.cwd()) not in "".join(capsys.readouterr()), command


def test_a_negative_seed_of_verify_is_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "m.parquet", "--seed", "-1", "--sample", "5"]) == 0
    assert "no difference" in capsys.readouterr().out


def test_distances_of_dot_products_may_be_negative() -> None:
    assert minestream.compare("in.parquet", "in.parquet", metric="dot", within=-1.0)["near_duplicates"]["within"] == -1
    with pytest.raises(UsageError, match="within must be a distance"):
        minestream.compare("in.parquet", "in.parquet", metric="dot", within=float("nan"))


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"nothing\.npz: does not exist"):
        minestream.apply("nothing.npz", "in.parquet", "a.parquet")
