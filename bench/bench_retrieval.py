"""How many of the negatives that exist does sentence-transformers return, how long does it take, with how much memory?

    python bench/bench_retrieval.py FILE.parquet[:ROWS[:LABELS]] [--queries 10000] [-k 5] [--runs 3]

mine_hard_negatives, with faiss, beside `minestream mine QUERIES --corpus CORPUS --qrels PAIRS`: the same vectors, one
known positive a query, the same filter. Beside both the function of the same name in minestream.integrations, called
in the same script in its place. A seeded sample of the rows are the queries, all others the corpus. The
positive is the nearest row of the query's label, or any row of it, drawn. Both sides are whole processes, from Parquet
to Parquet, in turn; no time goes into encoding: a stub model looks vectors up. Its texts are row numbers, which is
less than real ones would take it. Answers are compared before anything is written: each of its negatives must pass the
filter, and all of a query must be the head of ours, which are compared with float64 brute force on some queries.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import data
import mining
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import BENCH, THREADS, Run, launched, median_ratio, question_parser, rounded, write_results
from settings import Setting

NEEDED = ("faiss", "torch", "datasets", "sentence_transformers")
SEARCH = "faiss_flat"  # what it searches with, whose fastest setting it gets
PEER = "--sentence-transformers"  # this script as the peer's process
MODULES = {"peer": "sentence_transformers.util", "instead": "minestream.integrations.sentence_transformers"}
TOLERANCE = 1e-5  # of a similarity computed in float32
EDGE_SHARE = 0.001  # queries whose answer may hang on the rounding of a similarity beside the threshold
BRUTE_QUERIES = 200


@dataclass(frozen=True)
class Case:
    """Which positives, and the filter with its value."""

    positives: str
    option: str
    value: float

    def threshold(self, reference: np.ndarray) -> np.ndarray:
        """The largest similarity that a negative may have."""
        share = np.abs(reference) if self.option == "relative_margin" else 1.0
        least: np.ndarray = reference - share * self.value
        return least


CASES = (
    Case("nearest", "relative_margin", 0.05),
    Case("nearest", "absolute_margin", 0.1),
    Case("drawn", "relative_margin", 0.05),
)


class WrongAnswer(Exception):
    """Nothing is written of a side that does not compute what it claims."""


# ---------------------------------------------------------------- the task


@dataclass(frozen=True)
class Task:
    """Rows of unit length in float64, and the corpus row that is the positive of each query."""

    queries: np.ndarray
    corpus: np.ndarray
    positive: np.ndarray
    folder: Path

    def similarity(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Of queries to the corpus rows beside them, by number."""
        found: np.ndarray = np.einsum("ij,ij->i", self.queries[queries], self.corpus[rows])
        return found

    def reference(self) -> np.ndarray:
        """The similarity of every query to its positive."""
        return self.similarity(np.arange(len(self.queries)), self.positive)

    def path(self, name: str) -> Path:
        """One of its tables."""
        return self.folder / f"{name}.parquet"


def make_tasks(source: Path, wanted: int, folder: Path) -> dict[str, Task]:
    """A task for each kind of positives; queries of labels that no other row has are left out."""
    vectors, labels = data.read(source)
    chosen = np.random.default_rng(0).permutation(len(vectors))
    queries, corpus = np.sort(chosen[:wanted]), np.sort(chosen[wanted:])
    queries = queries[np.isin(labels[queries], labels[corpus])]
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    tasks = {}
    for kind in dict.fromkeys(case.positives for case in CASES):
        positive = positives(unit[queries], labels[queries], unit[corpus], labels[corpus], kind)
        task = Task(unit[queries], unit[corpus], positive, folder / kind)
        task.folder.mkdir()
        write_rows(task.path("queries"), vectors[queries])
        write_rows(task.path("corpus"), vectors[corpus])
        pairs = {"query_id": np.arange(len(queries)), "positive_id": positive}
        pq.write_table(pa.table(pairs), task.path("qrels"))
        tasks[kind] = task
    return tasks


def positives(
    queries: np.ndarray, query_labels: np.ndarray, corpus: np.ndarray, corpus_labels: np.ndarray, kind: str
) -> np.ndarray:
    """A corpus row with the label of each query: the nearest, or one drawn; int64 (queries,)."""
    generator = np.random.default_rng(1)
    found = np.full(len(queries), -1)
    for label in np.unique(query_labels):
        own, rows = np.flatnonzero(query_labels == label), np.flatnonzero(corpus_labels == label)
        if kind == "nearest":
            found[own] = rows[(queries[own].astype(np.float32) @ corpus[rows].astype(np.float32).T).argmax(axis=1)]
        else:
            found[own] = generator.choice(rows, len(own))
    return found


def write_rows(path: Path, vectors: np.ndarray) -> None:
    """A table of ids, which are row numbers, and embeddings; without labels, which would be positives too."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    table = pa.table({"id": np.arange(len(vectors)), "embedding": values})
    pq.write_table(table, path, row_group_size=data.ROW_GROUP_ROWS)


# ---------------------------------------------------------------- both sides


def own_run(task: Task, case: Case, k: int) -> mining.Mined:
    """One whole run of minestream. Equal vectors are no duplicates to the peer, which knows texts only."""
    margin = [f"--{case.option.replace('_', '-')}", str(case.value), "--reference", "min"]
    tables = ["--corpus", str(task.path("corpus")), "--qrels", str(task.path("qrels"))]
    options = [*tables, "-k", str(k), *margin, "--drop-duplicates-within", "none"]
    return mining.mine(task.path("queries"), task.path("own"), options)


def peer_run(task: Task, case: Case, k: int, setting: Setting, name: str) -> tuple[Run, float]:
    """One whole run of the peer, or of its function from the other of MODULES; and the seconds of the call itself."""
    given = [task.folder, case.option, str(case.value), str(k), name]
    run = launched([BENCH / "bench_retrieval.py", PEER, *given], variables=setting)
    return run, float(json.loads(run.printed.splitlines()[-1])["seconds"])


def peer_main(folder: Path, option: str, value: float, k: int, name: str) -> None:
    """The peer's process: read three tables, mine, write one, of that name; prints the seconds of the call."""
    import torch
    from datasets import Dataset, disable_progress_bars
    from peers.faiss_flat import settle
    from peers.sentence_transformers_miner import StubModel

    mine_hard_negatives = importlib.import_module(MODULES[name]).mine_hard_negatives

    class LookedUp(StubModel):
        """Hands out the rows of two tables; the corpus, which is asked for as a whole, without copying it."""

        def encode_document(self, texts: list[str], **options: Any) -> np.ndarray:
            rows = np.array(texts, np.int64)
            return corpus if np.array_equal(rows, np.arange(len(corpus))) else corpus[rows]

    settle(THREADS)
    torch.set_num_threads(THREADS)
    disable_progress_bars()
    corpus, queries = (unit_rows(folder / f"{name}.parquet") for name in ("corpus", "queries"))
    known = pq.read_table(folder / "qrels.parquet")
    pairs = {"query": known["query_id"], "positive": known["positive_id"]}
    model: Any = LookedUp(queries)
    start = time.perf_counter()
    found = mine_hard_negatives(
        Dataset.from_dict({name: column.to_numpy().astype(str).tolist() for name, column in pairs.items()}), model,
        corpus=np.arange(len(corpus)).astype(str).tolist(), num_negatives=k, use_faiss=True, verbose=False,
        **{option: value},
    )  # fmt: skip
    seconds = time.perf_counter() - start
    found.to_parquet(str(folder / f"{name}.parquet"))
    print(json.dumps({"seconds": seconds}))


def unit_rows(path: Path) -> np.ndarray:
    """The rows of a table, float32, divided by their norms."""
    vectors = data.matrix(pq.read_table(path, columns=["embedding"])["embedding"])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# ---------------------------------------------------------------- what they found


Answer = tuple[np.ndarray, np.ndarray]  # queries and their negatives, by query and then by similarity


def answer(task: Task, name: str, query: str, negative: str) -> Answer:
    """What one side wrote."""
    table = pq.read_table(task.path(name), columns=[query, negative])
    queries, negatives = (column.to_numpy().astype(np.int64) for column in table.columns)
    order = np.lexsort((-task.similarity(queries, negatives), queries))
    return queries[order], negatives[order]


def counts(task: Task, found: Answer, k: int) -> tuple[int, int]:
    """Rows, and queries with fewer than k."""
    each = np.bincount(found[0], minlength=len(task.queries))
    return len(found[0]), int(np.count_nonzero(each < k))


def check(task: Task, case: Case, k: int, own: Answer, peer: Answer) -> int:
    """Compare both with each other, and ours with brute force.

    Returns
    -------
    int
        Queries of which they differ by rounding.

    Raises
    ------
    WrongAnswer
        For a negative that the filter forbids, a query of which the peer's are not the head of ours by more than
        rounding, or a query of which ours are not those of brute force.
    """
    threshold = case.threshold(task.reference())
    for queries, negatives in (own, peer):
        passed = task.similarity(queries, negatives) <= threshold[queries] + TOLERANCE
        if not passed.all() or (negatives == task.positive[queries]).any():
            raise WrongAnswer("a negative is a positive, or lies above the threshold")
    for query in np.random.default_rng(2).permutation(len(task.queries))[:BRUTE_QUERIES]:
        similar = task.corpus @ task.queries[query]
        similar[task.positive[query]] = np.inf
        expected = -np.sort(-similar[similar <= threshold[query]])[:k]
        mine = similarities(task, own, query)
        if len(mine) != len(expected) or np.abs(mine - expected).max(initial=0) > 1e-12:
            raise WrongAnswer(f"query {query} has other negatives by brute force")
    differing = sum(
        not is_head(similarities(task, peer, query), similarities(task, own, query))
        for query in range(len(task.queries))
    )
    if differing > EDGE_SHARE * len(task.queries):
        raise WrongAnswer(f"the negatives of {differing} queries are not the nearest that pass the filter")
    return differing


def similarities(task: Task, found: Answer, query: int) -> np.ndarray:
    """Of the negatives of one query, descending."""
    first, end = np.searchsorted(found[0], [query, query + 1])
    return task.similarity(found[0][first:end], found[1][first:end])


def is_head(some: np.ndarray, more: np.ndarray) -> bool:
    """Whether `more` begins with `some`."""
    return len(some) <= len(more) and bool(np.abs(more[: len(some)] - some).max(initial=0) <= TOLERANCE)


def measure(task: Task, case: Case, k: int, runs: int, setting: Setting) -> dict[str, Any]:
    """One row of results."""
    mined, peers, instead = [], [], []
    for _ in range(runs):
        mined.append(own_run(task, case, k))
        peers.append(peer_run(task, case, k, setting, "peer"))
        instead.append(peer_run(task, case, k, {}, "instead"))
    own = answer(task, "own", "query_row", "negative_row")
    peer, swapped = (answer(task, name, "query", "negative") for name in MODULES)
    rounded_otherwise = check(task, case, k, own, peer) + check(task, case, k, own, swapped)
    (rows, short), (peer_rows, peer_short) = (counts(task, found, k) for found in (own, peer))
    if counts(task, swapped, k) != (rows, short):
        raise WrongAnswer("minestream's function of the same name has another number of rows")
    seconds, peer_seconds = [run.seconds for run in mined], [run.seconds for run, _ in peers]
    return {
        "queries": len(task.queries), "corpus": len(task.corpus), "dimension": task.corpus.shape[1], "k": k,
        "positives": case.positives, "option": case.option, "value": case.value, "rows": rows, "peer_rows": peer_rows,
        "short_queries": short, "peer_short_queries": peer_short, "rounded_otherwise": rounded_otherwise,
        "seconds": median(seconds), "peer_seconds": median(peer_seconds),
        "peer_call_seconds": median(call for _, call in peers), "ratio": median_ratio(peer_seconds, seconds),
        "call_ratio": median_ratio([call for _, call in peers], seconds),
        "peak_bytes": max(run.peak_bytes for run in mined), "peer_peak_bytes": max(run.peak_bytes for run, _ in peers),
        "instead_call_seconds": median(call for _, call in instead),
        "instead_ratio": median_ratio([call for _, call in peers], [call for _, call in instead]),
        "instead_peak_bytes": max(run.peak_bytes for run, _ in instead),
        "stages": mining.stage_medians(mined), "faiss_setting": setting, "runs": runs,
    }  # fmt: skip


def main() -> None:
    """Measure every case and write bench/results/retrieval.json."""
    parser = question_parser(__doc__, runs=3)
    parser.add_argument("file", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("--queries", type=int, default=10_000, help="rows that are queries (default 10000)")
    parser.add_argument("-k", type=int, default=5)
    given = parser.parse_args()
    missing = [package for package in NEEDED if importlib.util.find_spec(package) is None]
    if missing:
        raise SystemExit(f"{', '.join(missing)} not installed: pip install -e '.[bench]'")
    mining.warm_up()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = given.file.written(folder)
        setting = mining.need(SEARCH, source, given.k)
        tasks = make_tasks(source, given.queries, folder)
        for case in CASES:
            rows.append({"data": given.file.name} | measure(tasks[case.positives], case, given.k, given.runs, setting))
            print(rounded(rows[-1]), flush=True)
    write_results(given.results, "retrieval", rows)


if __name__ == "__main__":
    if sys.argv[1:2] == [PEER]:
        peer_main(Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
    else:
        main()
