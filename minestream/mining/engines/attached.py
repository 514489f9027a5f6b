"""What this process has read and encoded, in a file that workers on the same machine map instead of reading it again.

The file is a pickle whose arrays lie behind it, in a folder that is this user's alone.
"""

from __future__ import annotations

import mmap
import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minestream.inputs.dataset.dataset import Dataset
from minestream.mining.shards import Mining
from minestream.search.screens import Codes

ALIGNED = 64  # bytes: where each array begins
# Bytes written at once. In a virtual machine (Linux 6.18, ext4) 225 MB took 0.06 s, but 2.4 s in writes of 2 MB or
# more, presumably since these take huge pages that its host has first to provide.
PIECE = 1 << 20
Attached = tuple[Dataset, Codes, NDArray[np.uint16]]


def leave(mining: Mining, folder: Path) -> str | None:
    """Write the dataset of a run with its codes and cells into a folder: the path. It goes with the run.

    None where it is not all in memory, is soon read again, or has no room.
    """
    searcher = mining.searcher
    if not (searcher.loaded.in_memory and searcher.limits.screens):
        return None
    loaded, codes = searcher.loaded, searcher.codes()
    if not codes.store.in_memory:
        return None
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps((loaded, codes, searcher.cell()), protocol=5, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    head = pickle.dumps((len(pickled), [each.nbytes for each in raw]))
    own = tempfile.TemporaryDirectory(dir=folder, prefix="dataset-", ignore_cleanup_errors=True)
    path = Path(mining.driver.held.enter_context(own)) / "dataset"
    try:
        _write(path, [len(head).to_bytes(8, "little"), head, pickled, *raw])
    except OSError as error:
        path.unlink(missing_ok=True)
        mining.progress.note(f"workers read INPUT themselves: {error.strerror} in {folder}")
        return None
    return str(path.absolute())


def _write(path: Path, pieces: Sequence[bytes | memoryview]) -> None:
    with open(path, "wb") as file:
        for each in pieces:
            for at in range(0, len(each), PIECE):
                file.write(each[at : at + PIECE])
            file.write(bytes(-file.tell() % ALIGNED))


def attached(path: Path) -> Attached:
    """The dataset, its codes and cells; arrays are pages of the file until they are written to."""
    with open(path, "rb") as file:
        held = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    at = 0

    def taken(size: int) -> memoryview:
        nonlocal at
        at += -at % ALIGNED
        at += size
        return held[at - size : at]

    size, sizes = pickle.loads(taken(int.from_bytes(taken(8), "little")))
    pickled = taken(size)
    found: Attached = pickle.loads(pickled, buffers=[taken(each) for each in sizes])
    return found
