"""What the README and the guide show runs and prints what is shown; the training examples train."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from pages import ROOT, SAMPLE, Block, blocks_of, run_block

EXAMPLES = ROOT / "tests" / "examples"
PAGES = [ROOT / "README.md", *sorted((ROOT / "minestream" / "guide").glob("*.md"))]
BLOCKS = {page: blocks_of(page) for page in PAGES}
RUN = {page: [block for block in blocks if block.mark == "run"] for page, blocks in BLOCKS.items()}
ELSEWHERE = "recipes"  # tests/laws/test_recipe_book.py runs them, and derives what they write
RUN_HERE = [page for page in PAGES if RUN[page] and page.stem != ELSEWHERE]
EXCERPTS = [block for blocks in BLOCKS.values() for block in blocks if block.mark != "run"]


def output_of(command: list[str], folder: Path, code: int = 0, **environment: str) -> str:
    """Both streams of a command that ends with `code`."""
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, text=True, encoding="utf-8",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: page.stem)
def test_blocks_run_in_order_and_print_what_they_show(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of each page's own; a page of the guide finds the sample there, the README writes it."""
    monkeypatch.chdir(tmp_path)
    if page.stem != "README":
        Path("digits.parquet").write_bytes(SAMPLE.read_bytes())
    for block in RUN[page]:
        run_block(block)


@pytest.mark.parametrize("block", EXCERPTS, ids=lambda block: block.mark)
def test_excerpts_are_lines_of_the_examples(block: Block) -> None:
    source = (ROOT / block.mark.removeprefix("excerpt: ")).read_text(encoding="utf-8")
    assert block.body in source or indent(block.body, "    ") in source


def need(*packages: str) -> None:
    """Skip where a package is missing, or older than `name>=major`."""
    for package in packages:
        name, _, least = package.partition(">=")
        try:
            found = version(name)
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
        if least and int(found.split(".")[0]) < int(least):
            pytest.skip(f"{name} {found} is older than {least}")


def write_digits(folder: Path) -> None:
    """Write the sample."""
    output_of([sys.executable, "-m", "minestream", "sample", "digits.parquet"], folder)


@pytest.mark.peers
def test_torch_example_learns(tmp_path: Path) -> None:
    need("torch", "pytorch-metric-learning")
    write_digits(tmp_path)
    printed = output_of([sys.executable, str(EXAMPLES / "train_torch.py")], tmp_path)
    figures = [[float(text) for text in re.findall(r"\d\.\d+", line)] for line in printed.splitlines()]
    (first_loss, first_recall), *_, (last_loss, last_recall) = figures
    assert last_loss < 0.8 * first_loss
    assert last_recall > first_recall + 0.15


@pytest.mark.peers
def test_the_notebook_runs_and_keeps_no_progress(tmp_path: Path) -> None:
    """Executed again it holds what the stored one does, apart from times, and no output of the bars."""
    need("nbclient", "ipykernel")
    import nbformat
    from nbclient import NotebookClient

    stored = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    done = NotebookClient(copy.deepcopy(stored), timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [[plain for each in cell.get("outputs", ()) if (plain := without_times(each))] for cell in done.cells]
    kept = [[plain for each in cell.get("outputs", ()) if (plain := without_times(each))] for cell in stored.cells]
    assert shown == kept
    report = next(text for cell in shown for text in cell if "Report(" in text)
    assert "<td>triplets</td><td>7,188</td>" in report


def without_times(output: Mapping[str, Any]) -> str:
    """What an output of a cell shows: nothing where it has no contents; seconds are left out."""
    shown = [text for _, text in sorted(output.get("data", {}).items())]
    return re.sub(r"\d+\.\d s\b", "", output.get("text", "") + "".join(shown))


@pytest.mark.peers
def test_sentence_transformers_example_learns(tmp_path: Path) -> None:
    need("torch", "sentence-transformers>=6", "datasets", "accelerate")
    script = str(EXAMPLES / "train_sentence_transformers.py")
    printed = output_of([sys.executable, script], tmp_path, HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="1")
    first_loss, last_loss, before, after = map(float, re.findall(r"0\.\d+", printed.splitlines()[-1]))
    assert last_loss < 0.5 * first_loss
    assert after > before


@pytest.mark.peers
def test_tuples_resolve_to_numbered_columns(tmp_path: Path) -> None:
    need("torch", "sentence-transformers>=6", "datasets")
    write_digits(tmp_path)
    output_of([sys.executable, "-m", "minestream", "mine", "digits.parquet", "--emit", "tuples", "-k", "3"], tmp_path)
    script = """if True:
        from datasets import Dataset
        from sentence_transformers.util import resolve_ids
        texts = Dataset.from_parquet("digits.parquet").select_columns(["id", "label"])
        train = Dataset.from_parquet("digits.tuples.parquet")
        train.set_transform(resolve_ids(dict.fromkeys(("anchor_id", "positive_id", "negative_ids"), texts)))
        print(*train[0])
        print(len(train[0]["scores"]))
    """
    printed = output_of([sys.executable, "-c", script], tmp_path, HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="1")
    assert printed.splitlines()[-2:] == ["anchor positive negative_1 negative_2 negative_3 scores", "4"]


@pytest.mark.peers
def test_losses_are_those_of_pytorch_metric_learning(tmp_path: Path) -> None:
    need("torch", "pytorch-metric-learning")
    write_digits(tmp_path)
    script = """if True:
        import numpy as np, pyarrow.parquet as pq, torch
        from pytorch_metric_learning.distances import CosineSimilarity
        from pytorch_metric_learning.losses import TripletMarginLoss
        import minestream
        digits = pq.read_table("digits.parquet")
        vectors = np.stack(digits["embedding"].to_numpy()).astype(np.float64)
        found = minestream.mine_arrays(vectors, digits["label"].to_numpy(), negatives=3)
        indices = tuple(found.torch()[name] for name in ("anchor", "positive", "negative"))
        peer = TripletMarginLoss(margin=0.2, distance=CosineSimilarity())(torch.tensor(vectors), indices_tuple=indices)
        assert abs(peer.item() - found.loss.mean()) < 1e-6, (peer.item(), found.loss.mean())
    """
    output_of([sys.executable, "-c", script], tmp_path)
