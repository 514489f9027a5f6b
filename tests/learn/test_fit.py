"""`fit` and `apply`: what is learned is better, the same on any threads, and judged on labels that were held out."""

from __future__ import annotations

import itertools
import json
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from minestream.cli import learn
from minestream.errors import InputError, OutputError, UsageError
from minestream.kernels import linear as kernels
from minestream.learn.fitting import FitReport, fit
from minestream.learn.linear import Linear, apply
from minestream.learn.trainer import held_out
from minestream.mining.arrays import mine_arrays
from minestream.system.progress import Note
from minestream.system.threads import Workers

LABELS, NOISE = 12, 4.0
QUICK: dict[str, Any] = {"epochs": 6, "learning_rate": 0.02, "step_rows": 64, "validation": 0.4, "progress": "none"}


def noisy_table(rows: int = 600, seed: int = 0) -> pa.Table:
    """Classes that two coordinates tell apart, beside two of loud noise: what a linear map can mend."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, LABELS, rows)
    angles = 2 * np.pi * labels / LABELS + 0.08 * generator.normal(size=rows)
    vectors = np.column_stack([np.cos(angles), np.sin(angles), NOISE * generator.normal(size=(rows, 2))])
    values = pa.array(vectors.astype(np.float32).ravel())
    return pa.table(
        {
            "id": pa.array([f"row {i}" for i in range(rows)]),
            "label": pa.array([f"class {label}" for label in labels]),
            "embedding": pa.FixedSizeListArray.from_arrays(values, 4),
            "place": pa.array([{"x": i} for i in range(rows)]),
            "kind": pa.array(["even", "odd"] * (rows // 2)).dictionary_encode(),
        }
    )


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return noisy_table()


@pytest.fixture(scope="module")
def learned(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FitReport]:
    path = tmp_path_factory.mktemp("fit") / "linear.npz"
    return path, fit(table, path, **QUICK)


def vectors_of(table: pa.Table) -> np.ndarray:
    flat = table["embedding"].combine_chunks()
    return flat.flatten().to_numpy().reshape(len(flat), -1)


# ---------------------------------------------------------------- fit


def test_held_out_recall_rises(learned: tuple[Path, FitReport]) -> None:
    _, report = learned
    best = report.epochs[report.best_epoch]
    assert best.recall_at_1 > report.raw_recall_at_1 + 0.1
    assert best.held_out_loss < report.epochs[0].held_out_loss
    assert report.epochs[0].recall_at_1 == report.raw_recall_at_1
    assert best.recall_at_1 == max(each.recall_at_1 for each in report.epochs)


def test_the_report(learned: tuple[Path, FitReport], table: pa.Table) -> None:
    path, report = learned
    assert report.path == str(path)
    assert [each.epoch for each in report.epochs] == list(range(len(report.epochs)))
    assert (report.held_out_labels, report.dimension, report.dropped_rows) == (5, 4, 0)
    assert report.held_out_rows + report.training_rows == table.num_rows
    assert all(each.triplets > 0 and each.loss is not None and 0 < each.active <= 1 for each in report.epochs[1:])
    assert json.loads(json.dumps(report.to_dict()))["best_epoch"] == report.best_epoch
    _, held = held_out(table["label"].combine_chunks(), QUICK["validation"], 0)
    assert list(report.held_out_examples) == sorted(set(np.array(table["label"].to_pylist())[held]))
    assert report.notes == ()


def test_recall_is_that_of_brute_force(learned: tuple[Path, FitReport], table: pa.Table) -> None:
    path, report = learned
    _, held = held_out(table["label"].combine_chunks(), QUICK["validation"], 0)
    labels = np.array(table["label"].to_pylist())[held]
    for rows, wanted in (
        (vectors_of(table)[held].astype(float), report.raw_recall_at_1),
        (Linear.load(path).transform(vectors_of(table)[held]), report.epochs[report.best_epoch].recall_at_1),
    ):
        unit = rows.astype(np.float32).astype(float)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        near = unit @ unit.T - 3 * np.eye(len(unit))
        assert (labels[near.argmax(axis=1)] == labels).mean() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"dimension": 2, "center": True}, {"optimizer": "sgd", "learning_rate": 0.5},
        {"metric": "sqeuclidean", "margin": 0.2, "normalize": True}, {"metric": "euclidean", "margin": 1.0},
        {"positives": "random", "band": "any", "pick": "random", "negatives": 2},
    ],
    ids=str,
)  # fmt: skip
def test_threads_change_no_byte(table: pa.Table, tmp_path: Path, options: dict[str, Any]) -> None:
    small = table.slice(0, 240)
    for threads in (1, 2, 3):
        report = fit(small, tmp_path / f"{threads}.npz", **{**QUICK, "epochs": 2, **options}, threads=threads)
        assert report.dimension == options.get("dimension", 4)
    assert len({(tmp_path / f"{threads}.npz").read_bytes() for threads in (1, 2, 3)}) == 1


def test_the_seed_changes_the_weights(table: pa.Table, tmp_path: Path) -> None:
    for seed in (1, 2):
        fit(table.slice(0, 240), tmp_path / f"{seed}.npz", **{**QUICK, "epochs": 1}, seed=seed)
    one, two = (Linear.load(tmp_path / f"{seed}.npz") for seed in (1, 2))
    assert one.crc32() != two.crc32()


def test_sides_share_no_label() -> None:
    labels = noisy_table()["label"].combine_chunks()
    codes, held = held_out(labels, 0.25, 0)
    assert len(np.unique(codes[held])) == 3
    assert not set(codes[held]) & set(codes[~held])
    names = np.array(labels.to_pylist())
    assert all(len(set(names[codes == code])) == 1 for code in np.unique(codes))


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_both_sides_have_two_labels(share: float) -> None:
    codes, held = held_out(pa.array([5, 6, 7, 8] * 3, pa.int32()), share, 0)
    assert len(np.unique(codes[held])) == len(np.unique(codes[~held])) == 2


def test_the_split_goes_by_labels_not_rows() -> None:
    labels = noisy_table()["label"].combine_chunks()
    chosen = [
        {name for name, out in zip(each.to_pylist(), held_out(each, 0.3, 3)[1], strict=True) if out}
        for each in (labels, labels.take(pa.array(np.arange(len(labels))[::-1])))
    ]
    assert chosen[0] == chosen[1]


def test_training_stops_when_it_does_not_get_better(table: pa.Table, tmp_path: Path) -> None:
    """A step this small changes no neighbour: the start stays best, and is what is kept."""
    report = fit(table, tmp_path / "l.npz", **{**QUICK, "epochs": 9, "learning_rate": 1e-300}, patience=2)
    assert (report.best_epoch, len(report.epochs)) == (0, 3)
    np.testing.assert_array_equal(Linear.load(tmp_path / "l.npz").weights, np.eye(4))


def test_an_epoch_without_triplets_leaves_the_weights(tmp_path: Path) -> None:
    """Classes at right angles have no semi-hard negatives."""
    labels = np.arange(40) % 4
    rows = np.eye(4)[labels] + 1e-3 * np.random.default_rng(0).normal(size=(40, 4))
    report = fit(pa.table({"label": labels, "embedding": list(rows)}), tmp_path / "l.npz", **QUICK)
    assert {each.triplets for each in report.epochs} == {0}
    assert (report.best_epoch, report.raw_recall_at_1) == (0, 1.0)
    assert [note.split(":")[0] for note in report.notes] == ["nothing to gain"]


def test_principal_directions(table: pa.Table, tmp_path: Path) -> None:
    fit(table, tmp_path / "l.npz", **{**QUICK, "epochs": 1, "learning_rate": 1e-300}, dimension=2, center=True)
    found = Linear.load(tmp_path / "l.npz")
    _, held = held_out(table["label"].combine_chunks(), QUICK["validation"], 0)
    rows = vectors_of(table)[~held].astype(float)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-6)
    _, _, directions = np.linalg.svd(rows - rows.mean(axis=0))
    np.testing.assert_allclose(np.linalg.svd(found.weights @ directions[:2].T)[1], [1, 1], atol=1e-6)


def test_rows_without_labels_and_bad_rows_are_left_out(table: pa.Table, tmp_path: Path) -> None:
    vectors = vectors_of(table).copy()
    vectors[7] = 0
    labels = [None if i % 10 == 0 else name for i, name in enumerate(table["label"].to_pylist())]
    given = pa.table({"label": labels, "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)})
    report = fit(given, tmp_path / "l.npz", **{**QUICK, "epochs": 1}, on_bad_rows="drop")
    assert report.dropped_rows == 61
    assert report.left_out == {"bad: zero norm": 1, "unlabelled": 60}
    with pytest.raises(InputError, match="zero norm"):
        fit(given, tmp_path / "m.npz", **QUICK)
    assert not (tmp_path / "m.npz").exists()


def minus_one_for(table: pa.Table, *classes: int) -> pa.Table:
    """The table with integer labels, -1 in place of some classes."""
    labels = [int(name.split()[1]) for name in table["label"].to_pylist()]
    return table.set_column(1, "label", pa.array([-1 if label in classes else label for label in labels]))


@pytest.mark.parametrize("classes", [(0,), (0, 1), (0, 1, 2)])
def test_a_label_of_minus_one_is_noted_as_by_mine(table: pa.Table, tmp_path: Path, classes: tuple[int, ...]) -> None:
    given, events = minus_one_for(table, *classes), []
    report = fit(given, tmp_path / "l.npz", **{**QUICK, "epochs": 1}, progress_callback=events.append)
    noted = [note for note in report.notes if "-1" in note]
    assert noted == [note for note in mine_arrays(vectors_of(given), given["label"]).notes if "-1" in note]
    assert len(noted) == (len(classes) > 1)
    shown = [event.text.partition(": ")[0] for event in events if isinstance(event, Note)]
    assert shown[: len(noted)] == [note.partition(": ")[0] for note in noted]


def test_an_unlabelled_value_is_as_a_null(table: pa.Table, tmp_path: Path) -> None:
    given = minus_one_for(table, 0, 1)
    nulls = [None if label == -1 else label for label in given["label"].to_pylist()]
    unlabelled = nulls.count(None)
    told = fit(given, tmp_path / "a.npz", **{**QUICK, "epochs": 1}, unlabeled_value=-1)
    read = fit(given.set_column(1, "label", pa.array(nulls)), tmp_path / "b.npz", **{**QUICK, "epochs": 1})
    one, two = (Linear.load(tmp_path / name) for name in ("a.npz", "b.npz"))
    assert (told.left_out, told.notes, one.crc32()) == ({"unlabelled": unlabelled}, (), two.crc32())
    assert (one.about["unlabeled_value"], read.left_out) == ("-1", told.left_out)


def test_the_command_accounts_for_every_row(table: pa.Table, tmp_path: Path) -> None:
    source, model = tmp_path / "in.parquet", str(tmp_path / "l.npz")
    given = minus_one_for(table, 0, 1)
    labels = given["label"].to_pylist()
    given = given.set_column(1, "label", pa.array([99, *labels[1:]]))  # a label of one row
    pq.write_table(given, source)
    asked = [str(source), "-o", model, "--epochs", "1", "--progress", "none", "--unlabeled-value", "-1", "--overwrite"]
    answer = json.loads(CliRunner().invoke(learn.fit, [*asked, "--json"], catch_exceptions=False).output)
    left, unlabelled = {each["why"]: each["count"] for each in answer["left_out"]}, given["label"].to_pylist().count(-1)
    assert left == {"unlabelled": unlabelled, "held out": answer["counters"]["held_out_rows"]}
    assert {each["what"] for each in answer["left_out"]} == {"rows"}
    assert sum(left.values()) + answer["counters"]["training_rows"] == answer["inputs"][0]["rows"] == 600
    labels = given["label"].filter(pc.not_equal(given["label"], -1)).combine_chunks()
    codes, held = held_out(labels, 0.2, 0)
    trained, anchors = int((~held).sum()), int((np.bincount(codes[~held])[codes[~held]] > 1).sum())
    assert answer["counters"]["training_anchors"] == anchors == trained - 1
    lines = CliRunner().invoke(learn.fit, asked, catch_exceptions=False).output.splitlines()
    assert f"trained on  {trained} rows, {anchors} of them as anchors: the labels of the others stand once" in lines
    assert "read        600 rows" in lines
    assert f"left out    {unlabelled} rows: unlabelled" in lines


@pytest.mark.parametrize("wanted", [(), ("--dimension", "2")], ids=["as many", "fewer"])
def test_apply_is_not_recommended_where_nothing_is_gained(
    table: pa.Table, tmp_path: Path, wanted: tuple[str, ...]
) -> None:
    """Fewer coordinates may be what was wanted: then a recall no higher is no reason against them."""
    source, model = tmp_path / "in.parquet", str(tmp_path / "l.npz")
    pq.write_table(table, source)
    asked = [str(source), "-o", model, "--epochs", "1", "--progress", "none", "--learning-rate", "1e-300", *wanted]
    last = CliRunner().invoke(learn.fit, asked, catch_exceptions=False).output.splitlines()[-1]
    if wanted:
        assert last.startswith("next: minestream apply")
    else:
        assert last == f"recall@1 is not above that of the rows as given: no reason to apply {model}"


def test_progress_tells_each_epoch(table: pa.Table, tmp_path: Path) -> None:
    events: list[Any] = []
    fit(table, tmp_path / "l.npz", **{**QUICK, "epochs": 2}, progress_callback=events.append)
    assert [event.text.split(":")[0] for event in events if isinstance(event, Note)] == [
        "epoch 0", "epoch 1", "epoch 2"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"optimizer": "adm"}, UsageError, "did you mean 'adam'"),
        ({"epochs": 0}, UsageError, "epochs must be at least 1"),
        ({"learning_rate": 0.0}, UsageError, "learning_rate"),
        ({"validation": 1.0}, UsageError, "validation"),
        ({"dimension": 5}, UsageError, "dimension=5, and the rows have 4"),
        ({"metric": "euclidean"}, UsageError, "margin"),
        ({"metric": "euclidean", "band": "any"}, UsageError, "margin"),
        ({"band": "soft"}, UsageError, "band"),
        ({"label": "place"}, InputError, "place"),
        ({"optimizer": "sgd", "learning_rate": 1e308}, UsageError, "smaller learning_rate"),
    ],
)
def test_refusals(table: pa.Table, tmp_path: Path, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        fit(table, tmp_path / "l.npz", **{**QUICK, **options})
    assert not list(tmp_path.iterdir())


def test_few_labels_are_refused(tmp_path: Path) -> None:
    for labels in ([1, 2, 3] * 4, [1, 2, 3, *range(4, 7), 1, 2, 3, 1, 2, 3]):
        few = pa.table({"label": labels, "embedding": [[float(i), 1.0] for i in range(12)]})
        with pytest.raises(InputError, match="3 labels have two rows"):
            fit(few, tmp_path / "l.npz", **QUICK)


def test_labels_of_one_row_are_not_held_out() -> None:
    labels = pa.array([*range(4), *range(4), *range(4, 40)])
    for seed in range(5):
        codes, held = held_out(labels, 0.5, seed)
        assert len(codes[held]) == 4


def test_an_output_is_not_replaced_unasked(table: pa.Table, learned: tuple[Path, FitReport], tmp_path: Path) -> None:
    model = tmp_path / "l.npz"
    model.write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="minestream did not write it"):
            fit(table, model, **QUICK, overwrite=overwrite)
    assert model.read_bytes() == b"mine"
    model.unlink()
    fit(table, model, **{**QUICK, "epochs": 1})
    with pytest.raises(OutputError, match="exists"):
        fit(table, model, **{**QUICK, "epochs": 1})
    fit(table, model, **{**QUICK, "epochs": 1}, overwrite=True)
    apply(model, table, tmp_path / "out.parquet")
    with pytest.raises(OutputError, match="exists"):
        apply(model, table, tmp_path / "out.parquet")
    apply(model, table, tmp_path / "out.parquet", overwrite=True)


# ---------------------------------------------------------------- the model and apply


def test_the_commands(table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source, model, out = (str(tmp_path / name) for name in ("in.parquet", "linear.npz", "out.parquet"))
    pq.write_table(table, source)
    runner = CliRunner()
    given = [source, "-o", model, "--epochs", "2", "--progress", "none", "--margin", "0.3", "--positives", "random"]
    given += ["--learning-rate", "0.02"]
    told = runner.invoke(learn.fit, [*given, "--json"], catch_exceptions=False)
    assert len(json.loads(told.output)["result"]["epochs"]) == 3
    assert Linear.load(model).about["config"]["mining"]["margin"] == 0.3
    lines = runner.invoke(learn.fit, [*given, "--overwrite"], catch_exceptions=False).output.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["epoch 0", "epoch 1", "epoch 2"]
    assert lines[3] == f"wrote {model}"
    assert lines[-1] == f"next: minestream apply {model} {source} -o projected.parquet"
    Path("projected.parquet").touch()
    Path("projected-2.parquet").touch()
    again = runner.invoke(learn.fit, [*given, "--overwrite"], catch_exceptions=False).output
    assert again.endswith(f"next: minestream apply {model} {source} -o projected-3.parquet\n")
    told = runner.invoke(learn.apply_linear, [model, source, "-o", out], catch_exceptions=False)
    assert told.output == f"wrote {out}: 600 rows of 4 coordinates\n"
    assert runner.invoke(learn.apply_linear, [model, source, "-o", out]).exception.exit_code == 5


def test_the_command_shows_each_epoch_once_and_which_labels_judge(table: pa.Table, tmp_path: Path) -> None:
    """A progress that shows lines has shown the epochs; the next command names the columns that this one did."""
    source, model = tmp_path / "in put.parquet", tmp_path / "l.npz"
    names = [f"class {label:02}" for label in np.arange(600) % 16]
    given = table.drop_columns("embedding").append_column("v", table["embedding"]).drop_columns("label")
    pq.write_table(given.append_column("name", pa.array(names)), source)
    asked = [str(source), "-o", str(model), "--epochs", "2", "--embedding", "v", "--label", "name", "--dimension", "3"]
    told = CliRunner().invoke(learn.fit, [*asked, "--validation", "0.5", "--progress", "lines"], catch_exceptions=False)
    assert [told.stderr.count(f"epoch {number}: ") for number in range(3)] == [1, 1, 1]
    assert "epoch 0:" not in told.stdout
    _, held = held_out(pa.array(names), 0.5, 0)
    first = ", ".join(sorted(set(np.array(names)[held]))[:5])
    assert f"those of 8 labels: {first} and 3 more" in told.stdout
    following = f"next: minestream apply {model} '{source}' -o projected.parquet --embedding v"
    assert told.stdout.splitlines()[-1] == following


def test_the_next_command_reads_what_was_learned_from(
    table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("v v.npy", np.array(table["embedding"].to_pylist(), np.float32))
    pq.write_table(table.select(["label"]), "rows.parquet")
    asked = ["rows.parquet", "--vectors", "v v.npy", "-o", "l.npz", "--epochs", "1", "--dimension", "3"]
    told = CliRunner().invoke(learn.fit, [*asked, "--threads", "1", "--progress", "none"], catch_exceptions=False)
    line = told.stdout.splitlines()[-1].removeprefix("next: ")
    assert line == "minestream apply l.npz 'v v.npy' -o projected.parquet --threads 1"
    assert CliRunner().invoke(learn.apply_linear, shlex.split(line)[2:], catch_exceptions=False).exit_code == 0


def test_a_model_prints_as_one_line(learned: tuple[Path, FitReport]) -> None:
    model = Linear.load(learned[0])
    assert repr(model) == "Linear(4 coordinates to 4: weights, mean, about)"
    moved = Linear(model.weights[:2], np.ones(4), {})
    assert repr(moved) == "Linear(4 coordinates to 2, centred: weights, mean, about)"


def test_the_file_holds_no_pickle(learned: tuple[Path, FitReport]) -> None:
    path, report = learned
    with np.load(path, allow_pickle=False) as found:
        assert set(found.files) == {"weights", "mean", "about"}
        about = json.loads(found["about"].tobytes())
    assert about["config"]["mining"]["band"] == "semi-hard"
    assert about["config"]["mining"]["margin"] == 0.2
    assert about["source"][0]["crc32"].keys() == {"vectors", "labels", "ids"}
    assert about["best_epoch"] == report.best_epoch
    assert not {"threads", "seconds"} & about["config"].keys()


def test_apply_projects_and_keeps_the_rest(table: pa.Table, learned: tuple[Path, FitReport], tmp_path: Path) -> None:
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(table, source)
    told = apply(learned[0], str(source), out, batch_rows=37)
    assert told == {"path": str(out), "rows": 600, "dimension": 4}
    found = pq.read_table(out)
    assert found.column_names == table.column_names
    kept = [name for name in table.column_names if name != "embedding"]
    assert found.select(kept).equals(pq.read_table(source).select(kept))
    model = Linear.load(learned[0])
    wanted = vectors_of(table).astype(float) @ model.weights.T
    np.testing.assert_allclose(vectors_of(found), wanted, rtol=1e-5, atol=1e-5)
    assert found["embedding"].type.list_size == 4
    mined = mine_arrays(vectors_of(found), found["label"].to_pylist(), band="any")
    assert len(mined.anchor) == 600


def test_apply_reads_lists_of_any_floats(tmp_path: Path) -> None:
    model = Linear(np.array([[1.0, 2.0], [0.0, 1.0], [-1.0, 0.5]]), np.array([1.0, 0.0]), {})
    for kind in (pa.float16(), pa.float32(), pa.float64(), pa.int8()):
        given = pa.table({"vector": pa.array([[1, 2], [3, 4]], pa.list_(kind)), "n": [1, 2]})
        apply(model, given, tmp_path / "out.parquet", embedding="vector", overwrite=True)
        assert pq.read_table(tmp_path / "out.parquet")["vector"].to_pylist() == [[4, 2, 1], [10, 4, 0]]


def test_apply_refuses_what_does_not_fit(table: pa.Table, learned: tuple[Path, FitReport], tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    narrow = pa.table({"embedding": [[1.0, 2.0]]})
    with pytest.raises(InputError, match="has 2 coordinates, the linear embedding takes 4"):
        apply(learned[0], narrow, out)
    with pytest.raises(InputError, match="not finite in row 1"):
        apply(learned[0], pa.table({"embedding": [[1.0] * 4, [math.nan] * 4]}), out)
    with pytest.raises(InputError, match="other columns"):
        apply(learned[0], [table, table.select(["embedding"])], out)
    twice = pa.table([[[1.0] * 4], [1], [2]], names=["embedding", "n", "n"])
    with pytest.raises(InputError, match="share a name"):
        apply(learned[0], twice, out)
    for name, content in (("text.npz", b"no numbers"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            apply(tmp_path / name, table, out)
    np.savez(tmp_path / "other.npz", weights=np.eye(4))
    with pytest.raises(InputError, match="not a linear embedding"):
        apply(tmp_path / "other.npz", table, out)
    with pytest.raises(InputError, match="does not exist"):
        apply(tmp_path / "absent.npz", table, out)
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


def test_projection_is_the_same_on_any_threads() -> None:
    generator = np.random.default_rng(0)
    model = Linear(generator.normal(size=(5, 9)), generator.normal(size=9), {})
    rows = generator.normal(size=(5000, 9)).astype(np.float32)
    for workers in (Workers(2), Workers(3)):
        np.testing.assert_array_equal(model.transform(rows), model.transform(rows, workers))
        workers.close()
    np.testing.assert_allclose(model.transform(rows), (rows - model.mean) @ model.weights.T, rtol=1e-9, atol=1e-12)


def test_sums_of_outer_products() -> None:
    generator = np.random.default_rng(1)
    left, right = generator.normal(size=(50, 4)), generator.normal(size=(50, 7))
    whole, parts = np.zeros((4, 7)), np.zeros((4, 7))
    kernels.add_outer(left, right, 0, 4, whole)
    for first, end in itertools.pairwise((0, 1, 3, 4)):
        kernels.add_outer(left, right, first, end, parts)
    np.testing.assert_array_equal(whole, parts)
    np.testing.assert_allclose(whole, left.T @ right)


def test_orthonormal_rows() -> None:
    rows = np.random.default_rng(2).normal(size=(3, 5))
    rows = np.concatenate([rows, rows[:1] + rows[1:2]])
    kernels.orthonormalize(rows)
    np.testing.assert_allclose(rows @ rows.T, np.diag([1, 1, 1, 0]), atol=1e-12)
