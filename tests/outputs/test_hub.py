"""Datasets of the Hugging Face Hub in and out, on a file system of fsspec that stands for the Hub's."""

from __future__ import annotations

import sys
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import written_sample

import minestream
from minestream.cli.main import main
from minestream.errors import OutputError, UsageError

fsspec = pytest.importorskip("fsspec")
from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402

DATASET = "hf://datasets/ada/digits"


class Hub(MemoryFileSystem):
    """What a dataset's repository is to fsspec: folders need not be made, every finished write is a commit."""

    protocol = "hf"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = ["", "/datasets", "/datasets/ada", "/datasets/ada/digits"]  # noqa: RUF012
    commits: list[str] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("hf://").strip("/")

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """As on the Hub nothing."""

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if "w" in mode:
            self.commits.append(path.removeprefix("/datasets/ada/digits/"))
        return super()._open(path, mode, **kwargs)

    def files(self) -> dict[str, bytes]:
        """What is in the dataset."""
        return {name.removeprefix("/datasets/ada/digits/"): file.getvalue() for name, file in self.store.items()}


@pytest.fixture
def hub(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A dataset that holds digits.parquet, which stands in the working directory too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Hub, "store", {})
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "hf", Hub)
    Hub.clear_instance_cache()
    found = Hub()
    found.pipe("/datasets/ada/digits/data/digits.parquet", written_sample(tmp_path).read_bytes())
    Hub.commits.clear()
    return found


def mined(inputs: Any, out: str, **options: Any) -> Any:
    return minestream.mine(inputs, out, progress="none", **options)


@pytest.mark.parametrize("source", ["/data/digits.parquet", "/data", "/data/*.parquet", "/**/digits.parquet"])
def test_a_dataset_is_read_and_written(source: str, hub: Hub) -> None:
    mined("digits.parquet", "local.parquet")
    mined(f"{DATASET}{source}", f"{DATASET}/triplets.parquet")
    made = hub.files()
    with open("local.parquet", "rb") as file:
        assert made["triplets.parquet"] == file.read()
    assert Hub.commits == ["triplets.parquet", "README.md", "triplets.parquet.manifest.json"]
    assert set(made) == {*Hub.commits, "data/digits.parquet"}
    assert minestream.verify(f"{DATASET}/triplets.parquet", sample=20)["anchors"] == 20
    assert minestream.describe(f"{DATASET}/triplets.parquet")["rows"] == 1797


def test_the_card_says_what_was_mined(hub: Hub) -> None:
    where = "label in (0, 1, 2) or label == 7"
    mined("digits.parquet", f"{DATASET}/train/hard.parquet", negatives=2, where=where, band="any", carry="label")
    text = hub.files()["README.md"].decode()
    file = pq.ParquetFile(pa.BufferReader(hub.files()["train/hard.parquet"]))
    about = {key: file.metadata.metadata[f"minestream.{key}".encode()].decode()
             for key in ("labels", "loss", "fingerprint")}  # fmt: skip
    rows = file.metadata.num_rows
    head, _, rest = text.removeprefix("---\n").partition("\n---\n")
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(head) == {
        "tags": ["minestream", "triplets"], "size_categories": ["1K<n<10K"],
        "configs": [{"config_name": "default", "data_files": "train/hard.parquet"}],
    }  # fmt: skip
    for words in (
        "# train/hard.parquet", f"{rows:,} triplets of ", f"minestream {minestream.__version__}", "- digits.parquet: ",
        f"| `--where` | `{where}` |", "| `--negatives` | `2` |", "| `--band` | `any` |", "| `--metric` | `cosine` |",
        f"Labels: {about['labels']}.", f"Loss: {about['loss']}.", f"Fingerprint `{about['fingerprint']}`",
        *(f"| `{field.name}` | {field.type} |" for field in file.schema_arrow),
    ):  # fmt: skip
        assert words in rest


def test_a_whole_dataset_is_read_and_never_written_over(hub: Hub) -> None:
    mined("digits.parquet", "expected.parquet")
    mined(DATASET, "found.parquet")
    assert pq.read_table("found.parquet").equals(pq.read_table("expected.parquet"))
    with pytest.raises(OutputError, match="would be read too"):
        mined(DATASET, f"{DATASET}/x.parquet")


def test_a_folder_of_parts(hub: Hub) -> None:
    mined("digits.parquet", f"{DATASET}/parts", order="shuffled")
    assert 'data_files: "parts/*.parquet"' in hub.files()["README.md"].decode()
    assert Hub.commits == ["parts/part-00000.parquet", "README.md", "parts.manifest.json"]
    mined("digits.parquet", f"{DATASET}/parts", order="shuffled", overwrite=True, margin=0.1)
    assert "| `--margin` | `0.1` |" in hub.files()["README.md"].decode()


def test_resume_says_complete_or_starts(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["mine", "digits.parquet", "-o", f"{DATASET}/x.parquet", "--resume", "--progress", "none"]
    assert main(run) == 0
    commits = list(Hub.commits)
    assert main(run) == 0
    assert commits == Hub.commits
    assert "complete" in capsys.readouterr().out
    with pytest.raises(OutputError, match=r"hf://datasets/ada/digits/x\.parquet exists"):
        mined("digits.parquet", f"{DATASET}/x.parquet")


@pytest.mark.parametrize("text", ["# My digits\n", "<!-- written by minestream for other.parquet -->\n"])
def test_a_card_of_something_else_stays(text: str, hub: Hub) -> None:
    hub.pipe("/datasets/ada/digits/README.md", text.encode())
    report = mined("digits.parquet", f"{DATASET}/x.parquet")
    assert hub.files()["README.md"].decode() == text
    assert any("README.md is of something else, and stays as it is" in note for note in report.notes)
    assert report.complete
    assert "x.parquet.manifest.json" in hub.files()


def test_a_run_that_fails_leaves_nothing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hub.files()
    with pytest.raises(minestream.errors.GateMissedError):
        mined("digits.parquet", f"{DATASET}/x.parquet", require_rows=10**6)
    assert hub.files() == before
    assert Hub.commits == []


def test_slices_are_merged(hub: Hub) -> None:
    for index in (1, 2):
        mined("digits.parquet", f"{DATASET}/s.parquet", shard=f"{index}/2")
    minestream.merge(f"{DATASET}/s.parquet", progress="none")
    mined("digits.parquet", "local.parquet")
    with open("local.parquet", "rb") as file:
        assert hub.files()["s.parquet"] == file.read()


def test_places_that_are_no_file_of_a_dataset(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    for out, words in {
        "hf://ada/digits/x.parquet": "name a file of a dataset: hf://datasets/USER/NAME/FILE",
        "hf://datasets/ada/x.parquet": "name a file of a dataset",
        "hf://datasets/ada/gone/x.parquet": "no dataset hf://datasets/ada/gone\nhint: make it first",
    }.items():
        assert main(["mine", "digits.parquet", "-o", out]) == 5
        assert words in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"engine=\"dask\" is not for hf://datasets/ada/digits/x\.parquet"):
        mined("digits.parquet", f"{DATASET}/x.parquet", engine="dask")


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "hf", raising=False)
    with pytest.raises(UsageError, match=r"(?s)hf://datasets/ada/digits: .*hub.*minestream\[hub\]"):
        mined(DATASET, "x.parquet")
