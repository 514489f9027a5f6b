"""compare: what two splits share, against plain counts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import SCREENS

import minestream
from minestream import reference
from minestream.cli.main import main
from minestream.errors import OutputError, UsageError
from minestream.insight.compare import compare
from minestream.mining.pipeline import mine


def table(vectors: np.ndarray[Any, Any], first_id: int, labels: list[Any]) -> pa.Table:
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.table({"id": range(first_id, first_id + len(vectors)), "label": labels, "embedding": values})


@pytest.fixture
def splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """train.parquet (60 rows, labels 0-5, ids 0-59) and validation.parquet (20 rows, labels 4-8, ids 57-76)."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    train = rng.normal(size=(60, 6)).astype(np.float32)
    validation = rng.normal(size=(20, 6)).astype(np.float32)
    validation[3], validation[7] = train[11], train[12] * np.float32(1.001) + np.float32(1e-4)
    pq.write_table(table(train, 0, [row % 6 for row in range(60)]), "train.parquet")
    pq.write_table(table(validation, 57, [4 + row % 5 for row in range(20)]), "validation.parquet")
    return train, validation


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_those_of_the_reference(screen: str, metric: str, splits: tuple[Any, Any]) -> None:
    train, validation = splits
    found = compare(
        "train.parquet", "validation.parquet", within=0.3, metric=metric, screen=screen, out="leaks.parquet"
    )
    rows = reference.Vectors(np.concatenate([train, validation]), metric, False, np.arange(80))
    x = np.array([rows.distances(60 + row, np.arange(60)) for row in range(20)])
    near = np.flatnonzero(x.min(axis=1) <= 0.3)
    leaks = pq.read_table("leaks.parquet").to_pydict()
    assert leaks["row"] == sorted(near.tolist(), key=lambda row: (x[row].min(), row))
    assert leaks["nearest_row"] == [int(x[row].argmin()) for row in leaks["row"]]
    assert leaks["distance"] == [x[row].min() for row in leaks["row"]]
    assert found["near_duplicates"]["near"] == len(near)
    assert found["near_duplicates"]["equal"] == 1
    assert found["nearest_distance"]["max"] == x.min(axis=1).max()


@pytest.mark.parametrize(
    ("options", "equal", "bytes_equal"),
    [
        ({"metric": "cosine"}, 4, 2),
        ({"metric": "cosine", "normalize": True}, 4, 3),
        ({"metric": "euclidean"}, 3, 2),
        ({"metric": "sqeuclidean"}, 3, 2),
        ({"metric": "dot"}, None, 2),
        ({"metric": "dot", "within": -1e9}, None, 2),
    ],
)
def test_equal_is_distance_0_and_byte_equal_is_counted_beside_it(
    splits: tuple[Any, Any], options: dict[str, Any], equal: int | None, bytes_equal: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    train, validation = splits
    train[20, 2], train[30] = 0.0, train[31]
    validation[8], validation[9], validation[10] = 2 * train[12], train[20], train[31]  # 3 is a copy, 10 of two rows
    validation[9, 2] = -0.0
    pq.write_table(table(train, 0, [0] * 60), "train.parquet")
    pq.write_table(table(validation, 57, [0] * 20), "validation.parquet")
    near = compare("train.parquet", "validation.parquet", **options)["near_duplicates"]
    assert (near["equal"], near["byte_equal"]) == (equal, bytes_equal)
    assert options["metric"] in near["equal_means"]
    if options["metric"] == "dot":
        assert near["near"] == 0
    flags = ["--metric", options["metric"]] if "normalize" not in options and "within" not in options else []
    assert main(["compare", "train.parquet", "validation.parquet", *flags]) == 0
    assert "byte equal" in capsys.readouterr().out


@pytest.mark.usefixtures("splits")
def test_labels_and_ids_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    found = compare("train.parquet", "validation.parquet")
    assert found["ids"] == {"shared": 3, "examples": [57, 58, 59]}
    assert {name: found["labels"][name] for name in ("train", "validation", "shared", "validation_rows_of_shared")} == {
        "train": 6, "validation": 5, "shared": 2, "validation_rows_of_shared": 8,
    }  # fmt: skip
    assert sorted(found["labels"]["examples"]) == [4, 5]
    assert main(["compare", "train.parquet", "validation.parquet"]) == 0
    text = capsys.readouterr().out
    assert "validation rows of shared 8" in " ".join(text.split())
    assert "2 of 20 validation rows lie within 0.02 of a training row" in text
    assert "next: -o leaks.parquet lists them, then minestream mine validation.parquet --exclude-rows leaks" in text
    assert main(["compare", "train.parquet", "validation.parquet", "-o", "le aks.parquet"]) == 0
    assert "\nnext: minestream mine validation.parquet --exclude-rows 'le aks.parquet'\n" in capsys.readouterr().out
    Path("validation.triplets.parquet").touch()  # the output that mine would choose
    assert main(["compare", "train.parquet", "validation.parquet"]) == 0
    assert "leaks.parquet -o validation.clean.triplets.parquet" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("splits")
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_next_command_keeps_what_was_asked(metric: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "validation"):
        given = pq.read_table(f"{name}.parquet")
        given = given.append_column("kind", pa.array([[-1, 7, 8][row % 3] for row in range(len(given))]))
        pq.write_table(given.rename_columns({"id": "number", "embedding": "v"}), f"{name}.parquet")
    asked = ["--label", "kind", "--id", "number", "--embedding", "v", "--unlabeled-value=-1", "--metric", metric]
    asked += ["--memory", "64MiB", "--threads", "1"]
    command = ["compare", "train.parquet", "validation.parquet", *asked, "--within", "0.1", "-o", "leaks.parquet"]
    assert main(command) == 0
    line = next(each for each in capsys.readouterr().out.splitlines() if each.startswith("next: "))
    again = shlex.split(line.removeprefix("next: "))
    assert again[:3] == ["minestream", "mine" if metric == "cosine" else "profile", "validation.parquet"]
    assert set(again[3:]) == {*asked, "--exclude-rows", "leaks.parquet"}
    assert main(again[1:]) == 0
    assert "labels from kind" in capsys.readouterr().out or metric == "euclidean"


@pytest.mark.usefixtures("splits")
def test_progress_is_that_of_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def listened(*tables: str, **options: Any) -> dict[str, Any]:
        asked.append(options["progress"])
        return compare(*tables, **options)

    monkeypatch.setattr(minestream, "compare", listened)
    for more in ([], ["--progress", "lines"], ["-q"]):
        assert main(["compare", "train.parquet", "validation.parquet", *more]) == 0
    assert asked == ["auto", "lines", "none"]


@pytest.mark.usefixtures("splits")
def test_a_label_that_means_none_is_told_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "validation"):
        given = pq.read_table(f"{name}.parquet").drop_columns(["label"])
        labels = [-1 if row % 2 else row % 5 + 10 * (name == "train") for row in range(len(given))]
        pq.write_table(given.append_column("label", pa.array(labels)), f"{name}.parquet")
    found = compare("train.parquet", "validation.parquet")
    assert found["labels"]["validation_rows_of_shared"] == 10
    assert any("carry the label -1" in note and "unlabeled_value=-1" in note for note in found["notes"])
    found = compare("train.parquet", "validation.parquet", unlabeled_value=-1)
    assert (found["labels"]["shared"], found["labels"]["validation_rows_of_shared"], found["notes"]) == (0, 0, [])
    assert main(["compare", "train.parquet", "validation.parquet"]) == 0
    *told, last = capsys.readouterr().out.splitlines()
    assert any("add --unlabeled-value -1" in line for line in told)
    assert last.startswith("next: ")


@pytest.mark.usefixtures("splits")
def test_leaks_can_be_left_out_and_nothing_is_overwritten() -> None:
    compare("train.parquet", "validation.parquet", out="leaks.parquet")
    report = mine("validation.parquet", "mined.parquet", exclude_rows="leaks.parquet", progress="none")
    assert report.source["dropped"] == {"excluded": 2}
    with pytest.raises(OutputError, match="exists"):
        compare("train.parquet", "validation.parquet", out="leaks.parquet")
    with pytest.raises(UsageError, match="band"):
        compare("train.parquet", "validation.parquet", band="any")
