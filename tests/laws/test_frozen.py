"""The bytes of outputs that must not change by accident: frozen.json holds the digests of the jobs below.

A digest is the SHA-256 of every byte of a Parquet file before its footer, and of what the footer says: schema, rows of
each row group, metadata. The recorded options (`minestream.config`) are left out, so that an option may come or go.
A change of format is made on purpose: `python tests/laws/test_frozen.py` writes frozen.json anew.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream

FROZEN = Path(__file__).with_name("frozen.json")
DIGITS = str(files("minestream") / "data" / "digits.parquet")
NOT_DIGESTED = {b"minestream.config", b"minestream.fingerprint", b"minestream.version", b"ARROW:schema"}


def vectors(rows: np.ndarray[Any, Any]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def world(folder: Path) -> dict[str, str]:
    """Small seeded tables: queries with their lists, a corpus, labels of every kind, equal and collinear rows."""
    rng = np.random.default_rng(20261129)
    rows = rng.standard_normal((400, 12)).astype(np.float32)
    rows[60:80], rows[80:90] = rows[:20], 2 * rows[:10]
    label = rng.integers(0, 9, 400)
    items = pa.table({
        "id": [f"d{n:03d}" for n in rng.permutation(400)],
        "label": pa.array(label, mask=rng.random(400) < 0.1),
        "tags": [sorted({int(a), int(b)}) if a else None for a, b in zip(label, rng.integers(0, 9, 400), strict=True)],
        "session": pa.array(rng.integers(0, 40, 400)),
        "year": pa.array(rng.integers(2019, 2026, 400), mask=rng.random(400) < 0.05),
        "text": [f"text {n % 390}" for n in range(400)],
        "embedding": vectors(rows),
        "second": vectors(rng.standard_normal((400, 5))),
    })  # fmt: skip
    queries = (rows[:90] + 0.4 * rng.standard_normal((90, 12))).astype(np.float32)
    asked = pa.table({
        "id": [f"q{n:02d}" for n in range(90)],
        "label": pa.array(label[:90]),
        "text": [f"query {n}" for n in range(90)],
        "embedding": vectors(queries),
    })  # fmt: skip
    ids = items["id"].to_pylist()
    qrels = pa.table({"query_id": [f"q{n // 2:02d}" for n in range(160)], "positive_id": [ids[n] for n in range(160)]})
    exclude = pa.table({"query_id": [f"q{n:02d}" for n in range(90)], "positive_id": [ids[n + 200] for n in range(90)]})
    pairs = pa.table({"query_id": [ids[n] for n in range(30)], "positive_id": [ids[n + 100] for n in range(30)]})
    tables = {"items": items, "queries": asked, "qrels": qrels, "exclude": exclude, "pairs": pairs}
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    for kind in (np.float16, np.float64):
        other = items.set_column(6, "embedding", vectors(rows.astype(kind)))
        pq.write_table(other, folder / f"{np.dtype(kind).name}.parquet")
    small = items.set_column(6, "embedding", vectors(np.clip(rows * 40, -127, 127).astype(np.int8)))
    pq.write_table(small, folder / "int8.parquet")
    return {path.stem: str(path) for path in folder.glob("*.parquet")}


Job = tuple[str, str, dict[str, Any]]  # input, output, options

ITEMS: dict[str, Any] = {"label": "label", "id": "id"}
RETRIEVAL = {"corpus": "corpus", "qrels": "qrels"}
JOBS: dict[str, Job] = {
    "digits": ("digits", "o.parquet", {}),
    "tuples": ("digits", "o.parquet", {"emit": "tuples", "negatives": 4, "band": "any"}),
    "pairs": ("digits", "o.parquet", {"emit": "pairs"}),
    "pairs euclidean": ("items", "o.parquet", {"emit": "pairs", "metric": "euclidean", "margin": 4.0, **ITEMS}),
    "folder": ("digits", "parts", {"band": "any", "negatives": 3}),
    "shuffled random": ("digits", "o.parquet", {"order": "shuffled", "pick": "random", "negatives": 3, "seed": 7}),
    "max uses": ("digits", "o.parquet", {"max_uses": 2, "negatives": 2, "band": "any"}),
    "weighted": ("digits", "o.parquet", {"pick": "weighted", "negatives": 2, "band": "any", "seed": 3}),
    "qrels": ("queries", "o.parquet", {**RETRIEVAL, "relative_margin": 0.05, "negatives": 5}),
    "qrels excluded": (
        "queries", "o.parquet",
        {**RETRIEVAL, "exclude": "exclude", "max_similarity": 0.9, "reference": "max", "absolute_margin": 0.01},
    ),
    "two tables by label": (
        "queries", "o.parquet", {"corpus": "corpus", **ITEMS, "negatives": 3, "carry": ("text",), "skip": 1}
    ),
    "lists in one table": ("items", "o.parquet", {"qrels": "pairs", "id": "id", "negatives": 2, "band": "hard"}),
    "several labels": ("items", "o.parquet", {"label": "tags", "id": "id", "positives": "all", "negatives": 2}),
    "groups": ("items", "o.parquet", {**ITEMS, "group_column": "session", "metric": "euclidean", "margin": 1.0}),
    "unlabelled negatives": ("items", "o.parquet", {**ITEMS, "unlabeled": "negative", "positives": "random"}),
    "guide": ("items", "o.parquet", {**ITEMS, "guide": "second", "absolute_margin": 0.05, "band": "any"}),
    "balance": (
        "items", "o.parquet",
        {**ITEMS, "anchors": "60%", "anchors_per_label": 12, "negatives_per_anchor": 5, "negatives": 3,
         "positives_per_anchor": 3, "max_per_negative_label": 1, "band": "any"},
    ),
    "conditions": ("items", "o.parquet", {**ITEMS, "anchor_where": "year >= 2022", "candidate_where": "year < 2024"}),
    "near duplicates": ("items", "o.parquet", {**ITEMS, "drop_duplicates_within": 0.3, "swap": True, "float64": True}),
    "facenet": ("digits", "o.parquet", {"preset": "facenet", "anchors": "200"}),
    "multi-similarity": ("items", "o.parquet", {"preset": "multi-similarity", **ITEMS}),
    "tfa": ("items", "o.parquet", {"preset": "tfa", **ITEMS}),
    "dot": ("items", "o.parquet", {**ITEMS, "metric": "dot", "band": "any", "loss": "triplet-soft", "margin": 0.5}),
    "float16": ("float16", "o.parquet", {**ITEMS, "normalize": True, "metric": "sqeuclidean", "margin": 0.3}),
    "float64": ("float64", "o.parquet", {**ITEMS, "normalize": True, "negatives": 2}),
    "int8": ("int8", "o.parquet", {**ITEMS, "metric": "euclidean", "margin": 30.0}),
    "window": ("digits", "o.parquet", {"window": 300, "band": "any", "negatives": 2}),
}  # fmt: skip


# ---------------------------------------------------------------- digests


def digest(path: Path) -> str:
    """Of a Parquet file, of a folder of them, or of a file of text."""
    total = hashlib.sha256()
    for each in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
        content = each.read_bytes()
        if each.suffix != ".parquet":
            total.update(content)
            continue
        footer = int.from_bytes(content[-8:-4], "little") + 8
        about = pq.read_metadata(each)
        metadata = {key: value for key, value in (about.metadata or {}).items() if key not in NOT_DIGESTED}
        groups = [about.row_group(index).num_rows for index in range(about.num_row_groups)]
        schema = pq.read_schema(each).remove_metadata().to_string()
        total.update(content[:-footer])
        total.update(repr((schema, groups, sorted(metadata.items()))).encode())
    return total.hexdigest()


def rounded(value: object) -> object:
    """Means to nine digits: they are sums whose order a processor may choose."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return f"{value:.9g}" if isinstance(value, float) else value


def values_digest(value: object) -> str:
    """Of a report without its seconds."""
    return hashlib.sha256(json.dumps(rounded(value), sort_keys=True, default=str).encode()).hexdigest()


def mined(tables: dict[str, str], folder: Path, job: Job, **more: Any) -> Path:
    source, name, options = job
    paths = {"corpus": tables["items"], "qrels": tables["qrels"], "exclude": tables["exclude"]}
    named = {key: paths[key] for key in options if key in paths}
    if options.get("qrels") == "pairs":
        named["qrels"] = tables["pairs"]
    out = folder / name
    given = DIGITS if source == "digits" else tables[source]
    minestream.mine(given, out, **{"progress": "none", **options, **named, **more})
    return out


def frozen_job(name: str) -> Callable[[dict[str, str], Path], str]:
    return lambda tables, folder: digest(mined(tables, folder, JOBS[name]))


class Stop(Exception):
    """Raised in the middle of a run."""


def resumed(tables: dict[str, str], folder: Path) -> str:
    """A folder whose run is stopped before it publishes and resumed, by other threads and memory."""

    def stop(event: object) -> None:
        if getattr(event, "stage", "") == "publish":
            raise Stop

    with pytest.raises(Stop):
        mined(tables, folder, JOBS["folder"], progress_callback=stop, threads=1)
    return digest(mined(tables, folder, JOBS["folder"], resume=True, threads=2, memory="64MiB"))


def merged(tables: dict[str, str], folder: Path) -> str:
    """The same rows by two slices."""
    for each in ("1/2", "2/2"):
        mined(tables, folder, JOBS["folder"], shard=each)
    minestream.merge(folder / "parts", progress="none")
    return digest(folder / "parts")


def exported(emit: str, out: str) -> Callable[[dict[str, str], Path], str]:
    def made(tables: dict[str, str], folder: Path) -> str:
        rows = mined(tables, folder, JOBS["qrels"])
        corpus = {"source": tables["queries"], "corpus": tables["items"], "text": "text"}
        minestream.export(rows, folder / out, emit=emit, **corpus)
        return digest(folder / out)

    return made


def profiled(tables: dict[str, str], folder: Path) -> str:
    found = minestream.profile(tables["items"], label="label", id="id", progress="none", sample=100)
    own = ("seconds", "stages", "output", "version", "command", "folder", "inputs", "options")  # not of the rows
    return values_digest({key: value for key, value in found.items() if key not in own})


def compared(tables: dict[str, str], folder: Path) -> str:
    found = minestream.compare(tables["queries"], tables["items"])
    return values_digest({key: value for key, value in found.items() if key in ("labels", "nearest_distance")})


MADE: dict[str, Callable[[dict[str, str], Path], str]] = {
    **{name: frozen_job(name) for name in JOBS},
    "folder resumed": resumed,
    "folder merged": merged,
    "st-triplets": exported("st-triplets", "st.parquet"),
    "flagembedding": exported("flagembedding", "flag.jsonl"),
    "profile": profiled,
    "compare": compared,
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("name", MADE)
def test_the_bytes_are_those_that_were_frozen(name: str, tables: dict[str, str], tmp_path: Path) -> None:
    held = json.loads(FROZEN.read_text())
    if held["pyarrow"] != pa.__version__:
        pytest.skip(f"frozen with pyarrow {held['pyarrow']}: another version may encode the same rows otherwise")
    assert MADE[name](tables, tmp_path) == held["digests"][name]


def test_every_way_to_the_folder_gives_its_bytes() -> None:
    digests = json.loads(FROZEN.read_text())["digests"]
    assert digests["folder"] == digests["folder resumed"] == digests["folder merged"]
    assert len(set(digests.values())) == len(digests) - 2


def freeze() -> None:
    """Write frozen.json anew."""
    import tempfile

    digests = {}
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "world").mkdir()
        tables = world(Path(root) / "world")
        for number, (name, make) in enumerate(MADE.items()):
            folder = Path(root) / str(number)
            folder.mkdir()
            digests[name] = make(tables, folder)
            print(name, digests[name][:12], file=sys.stderr)
    FROZEN.write_text(json.dumps({"pyarrow": pa.__version__, "digests": digests}, indent=1) + "\n")


if __name__ == "__main__":
    freeze()
