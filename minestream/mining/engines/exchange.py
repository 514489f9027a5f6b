"""Files by which those that search together exchange first gates, positives and lists.

Those of workers lie in OUT.partial/exchange/, those of slices in OUT.slices/exchange/.

A file is an Arrow stream, of one batch for each group of anchors, and the CRC-32 of it. It appears whole or not at all;
one that is damaged is removed, and made again. A worker that needs what is not there yet ends its task, and when all
have ended theirs, they go on from the files; a slice makes it itself.
"""

from __future__ import annotations

import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from minestream.outputs.atomic import disk_errors, write_json
from minestream.search.context import Columns
from minestream.system.paths import AnyPath, RemotePath

CRC_BYTES = 4
TO_ALL = "all"
PIECE_BYTES = 8 << 20
LOOK_SECONDS = 0.5


class WaitingError(Exception):
    """What another worker has to make first."""


class FileExchange:
    """The exchange of one worker, for one task; see context.Exchange.

    Parameters
    ----------
    folder : Path or RemotePath
        The same for all workers; it is there, as long as the run is.
    number, workers : int
    scratch : Path
        A local folder for files on their way.
    """

    def __init__(self, folder: AnyPath, number: int, workers: int, scratch: Path) -> None:
        self._folder, self._number, self._workers, self._scratch = folder, number, workers, scratch
        self._searches, self._offered = 0, False

    def next_name(self) -> str:
        """A name for what the next search exchanges."""
        self._searches += 1
        return f"search-{self._searches:03d}"

    def offer(self, name: str, make: Callable[[int], Iterator[Columns]], to_all: bool = False) -> None:
        """Write the files of this worker that are not there."""
        for to in [0] if to_all else range(self._workers):
            place = self._place(name, self._number, None if to_all else to)
            if not place.exists():
                self._write(place, make(self._number if to_all else to))
                self._offered = True

    def collect(self, name: str, to_all: bool = False) -> list[Iterator[Columns]]:
        """What every worker wrote; WaitingError where a file is missing, or if this task wrote one: others wait."""
        places = [self._place(name, sender, None if to_all else self._number) for sender in range(self._workers)]
        if self._offered:
            raise WaitingError(name)
        return [self._read(place) for place in places]

    def _place(self, name: str, sender: int, to: int | None) -> AnyPath:
        return self._folder / f"{name}-{sender:03d}-{TO_ALL if to is None else f'{to:03d}'}.arrows"

    def _write(self, place: AnyPath, batches: Iterator[Columns]) -> None:
        local = place.parent if isinstance(place, Path) else self._scratch
        with disk_errors(local), tempfile.TemporaryDirectory(prefix="worker-", dir=local) as own:
            path = Path(own) / place.name
            with pa.OSFile(str(path), "wb") as file:
                writer = None
                for columns in batches:
                    batch = _batch(columns)
                    writer = writer or pa.ipc.new_stream(file, batch.schema)
                    writer.write_batch(batch)
                if writer is not None:
                    writer.close()
            crc = 0
            with open(path, "r+b") as written:
                while piece := written.read(PIECE_BYTES):
                    crc = zlib.crc32(piece, crc)
                written.write(crc.to_bytes(CRC_BYTES, "little"))
            if isinstance(place, RemotePath):
                place.upload(path)
            else:
                os.replace(path, place)

    def _read(self, place: AnyPath) -> Iterator[Columns]:
        """The batches of a file that is checked first."""
        try:
            if isinstance(place, RemotePath):
                place.download(path := self._scratch / place.name)
            else:
                path = place
            with pa.memory_map(str(path)) as file:
                buffer = file.read_buffer()
        except FileNotFoundError:
            raise WaitingError(place.name) from None
        if path is not place:
            path.unlink()  # it stays mapped
        size = buffer.size - CRC_BYTES
        if size < 0 or zlib.crc32(memoryview(buffer)[:size]) != int.from_bytes(buffer[size:].to_pybytes(), "little"):
            place.unlink(missing_ok=True)
            raise WaitingError(place.name)
        return _batches(buffer.slice(0, size))


class SliceExchange(FileExchange):
    """The exchange of a slice, in OUT.slices/exchange/; see context.AloneExchange. `note` tells of a wait."""

    def __init__(
        self, folder: AnyPath, number: int, workers: int, scratch: Path, note: Callable[[str], None]
    ) -> None:  # fmt: skip
        super().__init__(folder, number, workers, scratch)
        self._note = note
        self._makers: dict[str, Callable[[int], Iterator[Columns]]] = {}
        write_json(self._begun(number), {})

    def offer(self, name: str, make: Callable[[int], Iterator[Columns]], to_all: bool = False) -> None:
        """Keep `make` for collect(), which makes what the others have not."""
        self._makers[name] = make

    def collect(self, name: str, to_all: bool = False) -> list[Iterator[Columns]]:
        """What every slice offers to all, its own share first: what is not there is made here, and written."""
        make, letters = self._makers.pop(name), {}
        for sender in (*range(self._number, self._workers), *range(self._number)):
            letter = self._found(place := self._place(name, sender, None))
            if letter is None:
                batches = list(make(sender))
                self._write(place, iter(batches))
                letter = iter(batches)
            letters[sender] = letter
        return [letters[sender] for sender in range(self._workers)]

    def give(self, name: str, to: int, columns: Iterator[Columns]) -> None:
        """Write a file for another slice."""
        self._write(self._place(name, self._number, to), columns)

    def take(self, name: str, sender: int) -> Iterator[Columns] | None:
        """What another slice has written for this one."""
        return self._found(self._place(name, sender, self._number))

    def wait(self, name: str, seconds: dict[int, float]) -> None:
        """Wait until the senders that have begun have written their files, so many seconds for each at most."""
        places = {self._place(name, sender, self._number): each for sender, each in seconds.items()
                  if self._begun(sender).exists()}  # fmt: skip
        waited, begun = 0.0, time.monotonic()
        while waited < sum(each for place, each in places.items() if not place.exists()):
            if not waited:
                self._note(f"waiting for other slices, {max(1, round(sum(places.values())))} s at most")
            time.sleep(LOOK_SECONDS)
            waited = time.monotonic() - begun

    def _begun(self, number: int) -> AnyPath:
        return self._folder / f"begun-{number:03d}.json"

    def _found(self, place: AnyPath) -> Iterator[Columns] | None:
        try:
            return self._read(place)
        except WaitingError:
            return None


def _batch(columns: Columns) -> pa.RecordBatch:
    """One row, whose values are the arrays."""
    lists = [pa.LargeListArray.from_arrays(pa.array([0, each.size], pa.int64()), pa.array(each)) for each in columns]
    return pa.RecordBatch.from_arrays(lists, [str(number) for number in range(len(lists))])


def _batches(buffer: pa.Buffer) -> Iterator[Columns]:
    """The arrays of each batch, which are views of the file."""
    if buffer.size:
        for batch in pa.ipc.open_stream(buffer):
            yield tuple(np.asarray(column.flatten()) for column in batch.columns)
