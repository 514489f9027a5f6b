"""Vectors in scratch: rows by number, whatever the system reads of them at a time."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from minestream.inputs.dataset import vectors
from minestream.inputs.dataset.vectors import Store
from minestream.system.threads import Workers

ROWS = np.random.default_rng(0).standard_normal((500, 6)).astype(np.float32)
SLOTS = {
    "none": np.array([], np.int32), "one": np.array([499]), "all": np.arange(500), "every third": np.arange(0, 500, 3),
    "runs": np.flatnonzero(np.arange(500) // 7 % 2).astype(np.int32), "the last": np.arange(490, 500),
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(6, np.dtype(np.float32), 100, tmp_path)
    made.append(ROWS[:200])
    made.append(ROWS[200:])
    made.seal()
    assert not made.in_memory
    yield made
    made.close()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("slots", SLOTS.values(), ids=SLOTS)
def test_rows_by_slot(slots: NDArray[Any], threads: int, store: Store) -> None:
    workers = Workers(threads)
    assert np.array_equal(store.take(slots, workers, threads), ROWS[slots])
    assert np.array_equal(store.take(slots), ROWS[slots])
    workers.close()


@pytest.mark.parametrize("times", [1, 2])
def test_another_order_in_scratch(times: int, store: Store, tmp_path: Path) -> None:
    """Slots stay, and rows that are neighbours in the order are in the file."""
    for seed in range(times):
        order = np.random.default_rng(seed).permutation(500)
        store.reorder(order)
    for slots in (*SLOTS.values(), order):
        assert np.array_equal(store.take(slots), ROWS[slots])
    assert np.array_equal(store.block(3, 77), ROWS[3:77])
    assert np.array_equal(store.places(order), np.arange(500))
    written = np.frombuffer(os.pread(store._descriptor or -1, ROWS.nbytes + 1, 0), np.float32)
    assert np.array_equal(written.reshape(ROWS.shape), ROWS[order])
    gone = store._descriptor or -1
    store.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(gone)


def test_another_order_needs_space_for_all_rows_twice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: Any, offset: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    before, held = store._descriptor, len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, "pwrite", full)
    store.reorder(np.arange(500)[::-1])
    assert store._descriptor == before
    assert np.array_equal(store.take(SLOTS["runs"]), ROWS[SLOTS["runs"]])
    assert len(os.listdir("/dev/fd")) == held


@pytest.mark.parametrize("slots", SLOTS.values(), ids=SLOTS)
def test_reads_that_end_early_go_on(slots: NDArray[Any], store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled loop reads up to five rows and then fails; Python's reads give seven bytes each."""
    plain, begun = vectors.gather, []

    def some(descriptor: int, slots: NDArray[np.int64], out: NDArray[np.uint8]) -> int:
        begun.append(len(slots))
        return plain(descriptor, slots[:5], out[:5])

    monkeypatch.setattr(vectors, "gather", some)
    monkeypatch.setattr(os, "preadv", lambda descriptor, buffers, offset: _few(descriptor, buffers[0], offset))
    assert np.array_equal(store.take(slots), ROWS[slots])
    assert begun == list(range(len(slots), 0, -6))


def _few(descriptor: int, buffer: Any, offset: int) -> int:
    read = os.pread(descriptor, 7, offset)[: len(buffer)]
    buffer[: len(read)] = read
    return len(read)


@pytest.mark.parametrize("broken", ["a shorter file", "a descriptor that is closed"])
def test_what_cannot_be_read_is_an_error(broken: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ways: dict[str, tuple[int, Callable[[], Any]]] = {
        "a shorter file": (errno.EIO, lambda: os.ftruncate(store._descriptor or -1, 24 * 400 + 5)),
        "a descriptor that is closed": (errno.EBADF, lambda: monkeypatch.setattr(store, "_descriptor", 1 << 20)),
    }
    number, spoil = ways[broken]
    spoil()
    with pytest.raises(OSError, match=r"shorter than what was written|Bad file descriptor") as caught:
        store.take(np.array([3, 399, 400]))
    assert caught.value.errno == number
    if number == errno.EIO:
        assert np.array_equal(store.take(np.array([3, 399])), ROWS[[3, 399]])
