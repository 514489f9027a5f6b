"""Is mining a stream within a window faster than a cross-batch memory, and does its memory stay flat?

    python bench/bench_window.py [--runs 5] [--rows 10000000]

The peer is pytorch-metric-learning's CrossBatchMemory with TripletMarginMiner, which gives every semi-hard triplet of a
batch with the rows in memory; its loss is left out. minestream.Miner is fed the same batches with a window of as many
rows, twice: for every semi-hard triplet as well, and by its defaults, one for each anchor. Both are compared with
float64 brute force before they are timed, in turn, in one process; a run is WARM batches that fill the window, untimed,
and then TIMED batches. The peer's anchors see the rest of their own batch too, ours the rows before them alone.

Then --rows rows go through a Miner in a process of their own, and its memory is looked at as they do.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import common
import numpy as np

import minestream
from minestream import reference

# Batch, window, coordinates, and how far rows lie from their centres: the farther, the more triplets are semi-hard.
SETTINGS = ((32, 1_024, 128, 1.2), (64, 1_024, 128, 1.2), (64, 1_024, 128, 1.5), (64, 2_048, 128, 1.2),
            (64, 2_048, 384, 1.5))  # fmt: skip
LABELS, MARGIN = 100, 0.2
TIMED = 8
NEAR = 1e-5  # float32 may decide otherwise so near to an edge of the band
CHECKED_ANCHORS = 40
STREAM_BATCH, STREAM_WINDOW, STREAM_DIMENSION, SAMPLES = 1_024, 1_024, 16, 50


@dataclass(frozen=True)
class Stream:
    """Batches of unit rows with labels, of which the first `warm` fill the window."""

    vectors: np.ndarray
    labels: np.ndarray
    batch: int
    window: int

    @property
    def warm(self) -> int:
        return self.window // self.batch

    def batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        cuts = range(0, len(self.labels), self.batch)
        return [(self.vectors[at : at + self.batch], self.labels[at : at + self.batch]) for at in cuts]


def stream(batch: int, window: int, dimension: int, spread: float) -> Stream:
    """Clusters around random centres, as unit rows of float32."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((LABELS, dimension))
    labels = rng.integers(0, LABELS, window + TIMED * batch)
    rows = centres[labels] + spread * rng.standard_normal((labels.size, dimension))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Stream(rows.astype(np.float32), labels, batch, window)


# ---------------------------------------------------------------- the contenders


class Peer:
    """pytorch-metric-learning's memory and miner."""

    def __init__(self, given: Stream) -> None:
        import torch
        from pytorch_metric_learning import distances, losses, miners

        class Keep(torch.nn.Module):
            """In the place of the loss: keeps the triplets."""

            found: Any = None

            def forward(self, embeddings: Any, labels: Any, found: Any, ref: Any, ref_labels: Any) -> Any:
                self.found = found
                return embeddings.sum() * 0

        self.torch, self.keep = torch, Keep()
        similarity = distances.CosineSimilarity()
        miner = miners.TripletMarginMiner(margin=MARGIN, type_of_triplets="semihard", distance=similarity)
        self.memory = losses.CrossBatchMemory(
            losses.TripletMarginLoss(), embedding_size=given.vectors.shape[1], memory_size=given.window, miner=miner
        )
        self.memory.loss = self.keep

    def fill(self, given: Stream) -> None:
        """Put what comes before the timed batches into the memory."""
        for vectors, labels in given.batches()[: given.warm]:
            self.memory.add_to_memory(self.torch.from_numpy(vectors), self.torch.from_numpy(labels), len(labels))

    def feed(self, vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
        """The triplets of a batch: places in the batch, in the memory, in the memory."""
        self.memory(self.torch.from_numpy(vectors), self.torch.from_numpy(labels))
        return tuple(each.numpy() for each in self.keep.found)


def own(given: Stream, every: bool) -> minestream.Miner:
    """Ours: every semi-hard triplet, or by the defaults one for each anchor."""
    if every:
        return minestream.Miner(
            given.window, positives="all", negatives=given.window, drop_duplicates_within=None, margin=MARGIN
        )
    return minestream.Miner(given.window, margin=MARGIN)


def timed(given: Stream, contender: str) -> tuple[float, int]:
    """Seconds and triplets of the timed batches."""
    triplets, began = 0, 0.0
    if contender == "peer":
        peer = Peer(given)
        peer.fill(given)
        began = time.perf_counter()
        for vectors, labels in given.batches()[given.warm :]:
            triplets += len(peer.feed(vectors, labels)[0])
        return time.perf_counter() - began, triplets
    with own(given, contender == "every") as miner:
        for number, (vectors, labels) in enumerate(given.batches()):
            began = time.perf_counter() if number == given.warm else began
            rows = miner.feed({"embedding": vectors, "label": labels}).num_rows
            triplets += rows if number >= given.warm else 0
        return time.perf_counter() - began, triplets


# ---------------------------------------------------------------- the checks


def check_peer(given: Stream) -> None:
    """Fail unless the peer's triplets of a batch are those of float64, but for what float32 cannot tell."""
    peer, batches = Peer(given), given.batches()[: given.warm + 2]
    peer.fill(given)
    for vectors, labels in batches[-2:]:
        found = peer.feed(vectors, labels)
    memory = peer.memory.embedding_memory.numpy().astype(np.float64)
    of_memory = peer.memory.label_memory.numpy()
    anchors = batches[-1][0].astype(np.float64)
    x = 1.0 - anchors @ memory.T
    at = np.arange(len(anchors))
    distance = x[found[0], found[2]] - x[found[0], found[1]]
    assert ((distance > -NEAR) & (distance < MARGIN + NEAR)).all()
    assert (batches[-1][1][found[0]] == of_memory[found[1]]).all()
    assert (batches[-1][1][found[0]] != of_memory[found[2]]).all()
    certain = 0
    for a in at.tolist():
        same = of_memory == batches[-1][1][a]
        same_rows = np.flatnonzero(same & (x[a] > NEAR))  # not the anchor itself
        gap = x[a][~same][None, :] - x[a][same_rows][:, None]
        certain += int(((gap > NEAR) & (gap < MARGIN - NEAR)).sum())
    assert certain <= len(found[0]), (certain, len(found[0]))


def check_own(given: Stream, every: bool) -> None:
    """Fail unless ours are, row for row, those of the reference, for the last anchors."""
    with own(given, every) as miner:
        parts = [miner.feed({"embedding": vectors, "label": labels}) for vectors, labels in given.batches()]
    rules: dict[str, Any] = {"margin": MARGIN, "window": given.window}
    if every:
        rules |= {"positives": "all", "negatives": given.window, "drop_duplicates_within": None}
    last = range(len(given.labels) - CHECKED_ANCHORS, len(given.labels))
    expected = reference.mine(given.vectors, labels=given.labels.tolist(), only_anchors=last, **rules).columns
    names = ("anchor_row", "positive_row", "negative_row", "distance_ap", "distance_an", "loss")
    found = {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in names}
    among = found["anchor_row"] >= last[0]
    assert len(expected["anchor_row"])
    for name, values in found.items():
        assert np.array_equal(values[among], np.array(expected[name], values.dtype)), name


def measure(batch: int, window: int, dimension: int, spread: float, runs: int) -> dict[str, Any]:
    """One row of results."""
    given = stream(batch, window, dimension, spread)
    check_peer(given)
    check_own(given, every=True)
    check_own(given, every=False)
    seconds: dict[str, list[float]] = {name: [] for name in ("peer", "every", "default")}
    triplets = {}
    for _ in range(runs):
        for name, each in seconds.items():
            time.sleep(common.PAUSE_SECONDS)
            spent, triplets[name] = timed(given, name)
            each.append(spent)
    a_batch = {f"{name}_ms_a_batch": 1e3 * median(each) / TIMED for name, each in seconds.items()}
    ratios = {f"{name}_ratio": common.median_ratio(seconds["peer"], seconds[name]) for name in ("every", "default")}
    counts = {f"{name}_triplets_a_batch": count / TIMED for name, count in triplets.items()}
    rate = {"default_rows_a_second": batch * TIMED / median(seconds["default"])}
    about = {"batch": batch, "window": window, "dimension": dimension, "spread": spread, "runs": runs}
    return about | a_batch | ratios | counts | rate


# ---------------------------------------------------------------- the long stream


def resident_bytes() -> int:
    """What this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run_long(rows: int) -> dict[str, Any]:
    """Feed rows that never repeat, with ids as texts; memory as it goes on."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((LABELS, STREAM_DIMENSION)).astype(np.float32)
    memory, triplets, spent = [], 0, 0.0
    batches = -(-rows // STREAM_BATCH)
    minestream.warmup()
    minestream.Miner(8).feed(
        {"embedding": centres, "label": np.arange(LABELS) % 9, "id": [str(at) for at in range(LABELS)]}
    )
    with minestream.Miner(STREAM_WINDOW) as miner:
        for number in range(batches):
            labels = rng.integers(0, LABELS, STREAM_BATCH)
            vectors = centres[labels] + rng.standard_normal((STREAM_BATCH, STREAM_DIMENSION), np.float32)
            ids = [f"row {number * STREAM_BATCH + at}" for at in range(STREAM_BATCH)]
            began = time.perf_counter()
            triplets += miner.feed({"embedding": vectors, "label": labels, "id": ids}).num_rows
            spent += time.perf_counter() - began
            if number % max(1, batches // SAMPLES) == 0:
                memory.append({"rows": number * STREAM_BATCH, "resident_bytes": resident_bytes()})
        latency = miner.latency()
    settled = [each["resident_bytes"] for each in memory[len(memory) // 10 :]]
    return {
        "rows": batches * STREAM_BATCH, "batch": STREAM_BATCH, "window": STREAM_WINDOW, "dimension": STREAM_DIMENSION,
        "seconds": spent, "rows_a_second": batches * STREAM_BATCH / spent, "triplets": triplets,
        "least_settled_bytes": min(settled), "most_settled_bytes": max(settled), "memory": memory, **latency,
    }  # fmt: skip


def main() -> None:
    """Compare, run the long stream, and write bench/results/window.json."""
    parser = common.question_parser(__doc__, runs=5)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the long stream (default 10,000,000)")
    parser.add_argument("--only-stream", action="store_true", help="run the long stream here and print it as JSON")
    given = parser.parse_args()
    if given.only_stream:
        print(json.dumps(run_long(given.rows)))
        return
    common.settle_environment()
    rows = []
    for setting in SETTINGS:
        rows.append(measure(*setting, given.runs))
        print(common.rounded(rows[-1]), flush=True)
    run = common.launched([Path(__file__).resolve(), "--only-stream", "--rows", str(given.rows)])
    long = json.loads(run.printed) | {"peak_bytes": run.peak_bytes}
    print({name: value for name, value in common.rounded(long).items() if name != "memory"})
    common.write_results(given.results, "window", rows, stream=long)


if __name__ == "__main__":
    sys.exit(main())
