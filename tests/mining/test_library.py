"""The library as training code calls it: arrays in and out, batches, threads, forks."""

from __future__ import annotations

import multiprocessing
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import always_turned

import minestream
from minestream import errors
from minestream.config.resources import Resources
from minestream.errors import ForkedProcessError, GateMissedError, InputError, UsageError, speaking_options
from minestream.kernels.jit import compile_counts
from minestream.search.screens import SCAN_ROWS, screens_of

RNG = np.random.default_rng(5)
ROWS = RNG.standard_normal((400, 12)).astype(np.float32)
LABELS = RNG.integers(0, 6, 400)


@pytest.fixture
def table_file(tmp_path: Path) -> Path:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.reshape(-1)), 12)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": pa.array(range(400)), "label": LABELS, "embedding": vectors}), path)
    return path


def test_arrays_come_back_writable_and_keep_what_is_written() -> None:
    mined = minestream.mine_arrays(ROWS, LABELS, negatives=2)
    assert mined.anchor.dtype == np.int64
    assert (LABELS[mined.anchor] == LABELS[mined.positive]).all()
    assert (LABELS[mined.anchor] != LABELS[mined.negative]).all()
    mined.loss[0] = 7
    assert mined.loss[0] == 7
    assert mined.table().num_rows == mined.stats.rows == len(mined.distance_an)
    with pytest.raises(AttributeError, match="distance_ap"):
        _ = mined.distance_pa


def test_torch_is_not_imported_by_us() -> None:
    with pytest.raises(UsageError, match="import torch"):
        minestream.mine_arrays(ROWS, LABELS).torch()


def _in_child(work: Any, send: Any) -> None:
    try:
        send.send(work())
    except Exception as error:
        send.send(type(error).__name__)


def _forked(work: Any) -> Any:
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_in_child, args=(work, send))
    child.start()
    assert receive.poll(60), "the forked child hangs"
    answer = receive.recv()
    child.join(10)
    assert child.exitcode == 0
    return answer


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_miner_of_the_parent_is_refused_in_a_fork() -> None:
    rows = np.tile(ROWS, (60, 1)) + RNG.standard_normal((24_000, 12)).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 12)
    reader = minestream.mine_batches(pa.table({"label": np.tile(LABELS, 60), "embedding": vectors}), anchors=20_000)
    first_shard = 16_384  # anchors, of one row each: handing them out needs no more mining
    while first_shard > 0:
        first_shard -= reader.read_next_batch().num_rows
    assert _forked(reader.read_next_batch) == ForkedProcessError.__name__


def test_a_gate_missed_publishes_nothing_until_it_is_changed(table_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    for options in ({}, {"emit": "pairs"}):
        with pytest.raises(GateMissedError, match="require_rows asks for"):
            minestream.mine(table_file, out, require_rows=10**6, **options)
        assert not out.exists()
        report = minestream.mine(table_file, out, require_rows=10, resume=True, **options)
        assert report.stats.rows == pq.read_metadata(out).num_rows
        again = minestream.mine(table_file, out, resume=True, **options)
        assert again.already
        out.unlink()


def test_nothing_is_compiled_twice() -> None:
    minestream.warmup()
    before = compile_counts()
    crowd, labels = np.random.default_rng(0).normal(size=(1_200, 8)) * 0.5 ** np.arange(8), np.arange(1_200) % 2
    for screen in ("scan", *screens_of(Resources(), SCAN_ROWS + 1, 8)):
        minestream.mine_arrays(ROWS, LABELS, screen=screen)
        with always_turned():
            minestream.mine_arrays(crowd.astype(np.float32), labels, screen=screen, positives="all", anchors="9")
    assert compile_counts() == before
    minestream.warmup(window=True)
    windowed = compile_counts()  # as before where another test of this process has used windows
    with minestream.Miner(16) as miner:
        miner.feed({"embedding": np.asarray(ROWS, np.float32), "label": LABELS})
    assert compile_counts() == windowed


@pytest.mark.parametrize(
    "option",
    [
        {"where": "year > 3"}, {"anchor_where": "year > 3"}, {"candidate_where": "year > 3"},
        {"carry": ("text",)}, {"label": "label"},
        {"id": "id"}, {"group_column": "group"}, {"embedding": "embedding"}, {"vectors": "*.npy"}, {"resume": True},
        {"overwrite": True}, {"dry_run": True}, {"require_rows": 5}, {"max_short": "1%"},
        {"version_column": "version", "on_duplicate_ids": "last"},
    ],
)  # fmt: skip
def test_arrays_refuse_what_would_have_no_effect(option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is not for arrays"):
        minestream.mine_arrays(ROWS, LABELS, **option)


def test_grades_of_arrays_count_as_those_of_tables() -> None:
    """Pairs below --min-grade are no positives, whatever is mined."""
    graded = pa.table({"query_id": [0, 0, 1], "positive_id": [2, 3, 4], "score": [2, 0, 1]})
    every: dict[str, Any] = {"qrels": graded, "positives": "all"}
    found = {grade: minestream.mine_arrays(ROWS, **every, min_grade=grade).positive for grade in (0, 1, 2)}
    assert {grade: sorted(set(rows.tolist())) for grade, rows in found.items()} == {
        0: [0, 1, 2, 3, 4], 1: [0, 1, 2, 4], 2: [0, 2]
    }  # fmt: skip
    with pytest.raises(InputError, match="graded below 3"):
        minestream.mine_arrays(ROWS, **every, min_grade=3)


def masked(values: Any, *places: Any) -> np.ma.MaskedArray[Any, Any]:
    """The values with some of them masked."""
    found = np.ma.array(values, copy=True)
    for place in places:
        found[place] = np.ma.masked
    return found


@pytest.mark.parametrize("given", [
    lambda: minestream.mine_arrays(masked(ROWS, (2, 1)), LABELS),
    lambda: minestream.mine_arrays(list(masked(ROWS, (2, 1))), LABELS),
    lambda: minestream.mine_arrays(ROWS, LABELS, corpus=masked(ROWS, (2, 1)), corpus_labels=LABELS),
    lambda: minestream.mine_arrays(ROWS, LABELS, guide=masked(ROWS, (2, 1)), absolute_margin=0.0),
    lambda: minestream.triplet_loss(ROWS, masked(ROWS, (2, 1)), ROWS, 0.2),
    lambda: minestream.contrastive_loss(ROWS, ROWS, masked(LABELS % 2, 2), 0.2),
    lambda: minestream.Linear(np.eye(12), np.zeros(12), {}).transform(masked(ROWS, (2, 1))),
])  # fmt: skip
def test_masked_elements_where_nothing_can_be_null_are_refused(given: Any) -> None:
    with pytest.raises(InputError, match="masked values in row"):
        given()


# What hands rows of 12 coordinates to kernels, which trust the shapes that they are given.
KERNEL_CALLS: dict[str, Any] = {
    "mine_arrays": lambda rows: minestream.mine_arrays(rows, LABELS[:8] % 2),
    "Miner": lambda rows: minestream.Miner(16).feed({"embedding": rows, "label": LABELS[:8] % 2}),
    "triplet_loss": lambda rows: minestream.triplet_loss(rows, ROWS[:8], ROWS[:8], 0.2),
    "contrastive_loss": lambda rows: minestream.contrastive_loss(rows, ROWS[:8], np.ones(8), 0.2),
    "transform": lambda rows: minestream.Linear(np.eye(2, 12), np.zeros(12), {}).transform(rows),
}  # fmt: skip
NO_ROWS: dict[str, Any] = {
    "one dimension": ROWS[0], "three": ROWS[:8, :, None], "a number": 1.0, "a text": "x", "None": None,
    "texts": ROWS[:8].astype(str), "objects": ROWS[:8].astype(object), "complex": ROWS[:8].astype(complex),
    "bools": ROWS[:8] > 0, "lists of several lengths": [[0.0] * 12, [0.0] * 11], "a dict": {"embedding": ROWS[:8]},
}  # fmt: skip


@pytest.mark.parametrize("rows", NO_ROWS.values(), ids=NO_ROWS)
@pytest.mark.parametrize("call", KERNEL_CALLS.values(), ids=KERNEL_CALLS)
def test_what_is_no_matrix_of_numbers_is_refused_in_words(call: Any, rows: Any) -> None:
    with pytest.raises((InputError, UsageError)):
        call(rows)


@pytest.mark.parametrize("width", [1, 11, 13, 20_000])
@pytest.mark.parametrize("name", ["triplet_loss", "contrastive_loss", "transform"])
def test_rows_of_another_length_are_refused(name: str, width: int) -> None:
    """A kernel would read beyond what is there."""
    with pytest.raises(InputError, match=f"{width} coordinates, the linear embedding takes 12|different shapes"):
        KERNEL_CALLS[name](np.ones((8, width), np.float32))


@pytest.mark.parametrize(("weights", "mean"), [
    (np.eye(2, 12), np.zeros(3)), (np.eye(2, 12), np.zeros((12, 1))), (np.ones(12), np.zeros(12)),
    (np.eye(2, 12), 0.0), ([[1.0] * 12], [0.0] * 12), (np.eye(2, 12, dtype=np.float32), np.zeros(12)),
])  # fmt: skip
def test_a_linear_embedding_is_made_of_arrays_that_fit(weights: Any, mean: Any) -> None:
    with pytest.raises(InputError, match=r"weights \(e, d\) and a mean of d values"):
        minestream.Linear(weights, mean, {})


def test_rows_of_every_type_are_projected_alike() -> None:
    model = minestream.Linear(np.eye(2, 12) + 0.5, np.ones(12), {})
    whole = np.arange(36, dtype=np.float64).reshape(3, 12)
    kinds = [whole.astype(kind) for kind in ("f2", "f4", ">f4", ">f8", np.longdouble, "i1", "u1")]
    for rows in (*kinds, whole.tolist(), np.asfortranarray(whole), np.repeat(whole, 2, axis=1)[:, ::2]):
        assert np.array_equal(model.transform(rows), model.transform(whole))
    first = minestream.Linear(model.weights, model.mean, {"dims": 12})  # learned from the first coordinates
    assert np.array_equal(first.transform(np.hstack([whole, whole])), model.transform(whole))


def test_masked_labels_and_groups_are_null() -> None:
    mined = minestream.mine_arrays(ROWS, masked(LABELS, 0, 7), groups=masked(LABELS % 3, 5)).table()
    labels, groups = [[None if i in at else int(v) for i, v in enumerate(values)]
                      for values, at in ((LABELS, (0, 7)), (LABELS % 3, (5,)))]  # fmt: skip
    assert mined.equals(minestream.mine_arrays(ROWS, labels, groups=groups).table())
    assert not {0, 7} & {*mined["anchor_row"].to_pylist(), *mined["negative_row"].to_pylist()}
    with pytest.raises(InputError, match="null id in row 3"):
        minestream.mine_arrays(ROWS, LABELS, ids=masked(np.arange(400), 3))


def test_a_mask_that_hides_nothing_is_fine() -> None:
    assert (
        minestream.mine_arrays(np.ma.array(ROWS), LABELS).table().equals(minestream.mine_arrays(ROWS, LABELS).table())
    )


def test_rows_of_arrays_that_are_left_out_are_noted() -> None:
    vectors, labels = np.random.default_rng(0).normal(size=(30, 4)), [None, *[0, 1] * 14, 2]
    vectors[3] = np.nan
    found = minestream.mine_arrays(vectors, labels, on_bad_rows="drop")
    assert found.notes[:2] == ("left out: 1 row: bad: not finite", "left out: 1 row: unlabelled")
    assert "left out: 1 row: unlabelled" in found._repr_html_()
    assert "; left out: 1 row: bad: not finite; left out: 1 row: unlabelled; left out: 1 row as anchor" in repr(found)


@pytest.mark.usefixtures("capfdbinary")
def test_notes_say_what_was_left_out_as_the_command_line_does(table_file: Path) -> None:
    rows, out, slices = pq.read_table(table_file), table_file.with_name("out.parquet"), table_file.with_name("slices")
    labels = pa.array([None, *[0] * 20, *[1] * 20, 2])
    pq.write_table(rows.slice(0, 42).set_column(1, "label", labels), table_file)
    rules: dict[str, Any] = {"band": "violating", "margin": 0.01, "negatives": 3, "short_rows": "drop"}

    def left_out(found: Any) -> list[str]:
        return sorted(note for note in found.notes if note.startswith("left out: "))

    stream = minestream.mine(table_file, table_file.with_name("w.parquet"), window=50, **rules)
    assert "left out: 1 row: unlabelled" in left_out(stream)
    rules |= {"exclude_rows": pa.table({"id": [4, 5]})}
    told = left_out(minestream.mine(table_file, out, **rules))
    assert told[:2] == [
        "left out: 1 row as anchor: no other row that takes part has their label", "left out: 1 row: unlabelled"
    ]  # fmt: skip
    assert told[2].endswith("of the 38 anchors (36.8 %): the rules leave no negative")
    assert told[3].endswith('fewer than 3 negatives: the rules leave no more (short_rows="keep" keeps them)')
    assert told[4] == "left out: 2 rows: excluded"
    assert left_out(minestream.mine(table_file, out, resume=True, **rules)) == told
    plan = minestream.mine(table_file, out, overwrite=True, dry_run=True, **rules)
    assert left_out(plan) == [told[0], told[1], told[4]]
    assert left_out(minestream.mine_arrays(ROWS[:42], labels, ids=range(42), **rules)) == told
    assert left_out(minestream.mine_pipe(table_file, dry_run=True, **rules)) == left_out(plan)
    assert left_out(minestream.mine_pipe(table_file, **rules)) == told
    for index in (1, 2):
        minestream.mine(table_file, slices, shard=f"{index}/2", **rules)
    assert left_out(minestream.merge(slices, progress="none")) == told
    with speaking_options():
        assert not left_out(minestream.mine(table_file, out, overwrite=True, **rules))


def test_what_is_mined_shows_itself() -> None:
    mined = minestream.mine_arrays(ROWS, LABELS, negatives=2)
    assert len(mined) == mined.table().num_rows
    assert {"anchor", "positive", "negative", "loss", "distance_an", "torch"} <= set(dir(mined))
    assert all(hasattr(mined, name) for name in dir(mined))
    assert repr(mined).startswith(f"Mined({len(mined):,} rows of {mined.stats.pairs:,} pairs: anchor_row, ")
    assert len(repr(mined)) < 200
    assert mined._repr_html_().count("<tr>") == 11


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_rows_as_a_frame(library: str) -> None:
    pytest.importorskip(library)
    mined = minestream.mine_arrays(ROWS, LABELS, negatives=2)
    frame = getattr(mined, f"to_{library}")()
    assert list(frame.columns) == mined.table().column_names
    assert list(frame["anchor_row"]) == mined.anchor.tolist()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_library_that_is_missing_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mined = minestream.mine_arrays(ROWS, LABELS)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=f"{library} cannot be imported.*\n.*pip install {library}"):
        getattr(mined, f"to_{library}")()


def test_a_report_is_short(table_file: Path, tmp_path: Path) -> None:
    report = minestream.mine(table_file, tmp_path / "out.parquet", seed=3, margin=0.001)
    assert repr(report).startswith(f"Report({tmp_path / 'out.parquet'}: {report.stats.rows:,} rows of ")
    assert len(repr(report)) < 300
    rows = dict(re.findall("<tr><td>(.*?)</td><td>(.*?)</td></tr>", report._repr_html_()))
    stats = report.stats
    assert f"<p>left out: {stats.empty} of the " in report._repr_html_()
    assert rows.pop("time").endswith(" s")
    assert rows == {
        "triplets": f"{stats.rows:,}", "anchors": f"{stats.anchors:,} of {report.source['rows']:,} rows",
        "mean loss": f"{stats.loss_sum / stats.losses:.4g}",
    }  # fmt: skip
    assert "seed has no effect" in report._repr_html_()


def test_the_sample_is_that_of_the_command(tmp_path: Path) -> None:
    assert minestream.sample(tmp_path / "digits.parquet") == str(tmp_path / "digits.parquet")
    assert pq.read_metadata(tmp_path / "digits.parquet").num_rows == 1_797


def test_former_names_stay_for_a_version() -> None:
    for name in ("GateMissed", "VerifyMismatch", "ForkedProcess"):
        assert getattr(minestream, name) is getattr(minestream, f"{name}Error")
    assert minestream.Interrupted is minestream.RunInterruptedError
    assert all(each.__name__.endswith("Error") for each in errors.MinestreamError.__subclasses__())
    model = minestream.Linear(np.eye(12), np.zeros(12), {})
    assert np.array_equal(model.project(ROWS), model.transform(ROWS))


# ---------------------------------------------------------------- arrays of two tables


@pytest.mark.parametrize("name", ["labels", "groups", "guide"])
@pytest.mark.parametrize("of_corpus", [False, True])
def test_what_only_one_table_has_is_named_as_an_array(name: str, of_corpus: bool) -> None:
    values = ROWS if name == "guide" else np.arange(len(ROWS)) % 2
    both = {} if name == "labels" else {"labels": LABELS, "corpus_labels": LABELS}
    rules: dict[str, Any] = {"absolute_margin": 0.0} if name == "guide" else {}
    given, lacking = (name, f"corpus_{name}")[:: -1 if of_corpus else 1]
    for listed in ({}, {"qrels": [(0, 1)]}):
        with pytest.raises(UsageError, match=f"{name} and corpus_{name} belong together") as refused:
            minestream.mine_arrays(ROWS, corpus=ROWS, **both, **rules, **listed, **{given: values})
        assert refused.value.hint.startswith(f"pass {lacking}= too")
    minestream.mine_arrays(ROWS, corpus=ROWS, band="any", **both, **rules, **{given: values, lacking: values})


def test_row_numbers_where_ids_were_given_are_told_from_exchanged_tables() -> None:
    ids, numbers = range(5000, 5000 + len(ROWS)), [(0, 1), (1, 0)]
    for more in ({}, {"corpus": ROWS}, {"corpus": ROWS, "corpus_ids": range(9000, 9000 + len(ROWS))}):
        with pytest.raises(InputError, match="among") as refused:
            minestream.mine_arrays(ROWS, ids=ids, qrels=numbers, **more)
        assert refused.value.hint == "they look like row numbers: where rows have ids, pairs are of these"
    exchanged = [(0, 5000), (1, 5001)]
    with pytest.raises(InputError, match="among") as refused:
        minestream.mine_arrays(ROWS, ids=ids, corpus=ROWS, qrels=exchanged)
    assert refused.value.hint.startswith("the other table has them: exchange")
    minestream.mine_arrays(ROWS, corpus=ROWS, corpus_ids=ids, qrels=exchanged)
    minestream.mine_arrays(ROWS, ids=ids, corpus=ROWS, qrels=[pair[::-1] for pair in exchanged])
