"""Arrow IPC streams on standard input and output: a missing end mark is an error, a reader who left is not."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from minestream.errors import InputError, MinestreamError, UsageError
from minestream.system.console import give_up, refused

STANDARD_INPUT = "<standard input>"
FILES = {b"PAR1": "a Parquet file", b"ARRO": "an Arrow IPC file, which is no stream"}
END_MARK = b"\xff\xff\xff\xff\0\0\0\0"


class MarkedFile(io.RawIOBase):
    """A binary file that remembers its first piece, and the last bytes read: a complete stream ends with END_MARK."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.head = self._last = b""

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes; fewer only at the end."""
        pieces = []
        while size and (piece := self._file.read(size)):
            pieces.append(piece)
            size -= len(piece)
        data = b"".join(pieces)
        self.head = self.head or data
        self._last = (self._last + data[-len(END_MARK) :])[-len(END_MARK) :]
        return data

    def readable(self) -> bool:
        """True, which pyarrow asks for."""
        return True

    def at_mark(self) -> bool:
        """Whether the last bytes read are the mark."""
        return self._last == END_MARK


def read_pipe(file: BinaryIO | None = None) -> pa.RecordBatchReader:
    """The stream on standard input, or in `file`, batch by batch as it arrives.

    Raises
    ------
    InputError
        When it is no Arrow IPC stream; while reading, when it ends without its mark because its writer was stopped.
    """
    given = sys.stdin.buffer if file is None else file
    if given.isatty():
        raise UsageError("standard input is a terminal", "pipe an Arrow IPC stream into it, or name a file")
    marked = MarkedFile(given)
    try:
        stream = pa.ipc.open_stream(pa.PythonFile(marked, mode="r"))
    except (pa.ArrowException, OSError) as error:
        named = next((kind for magic, kind in FILES.items() if marked.head.startswith(magic)), None)
        why = " ".join(str(error).split())[:200] if named is None else f"it is {named}"
        raise InputError(
            f"{STANDARD_INPUT}: no Arrow IPC stream: {why}",
            "write one with pyarrow.ipc.new_stream" if named is None else "name the file instead of piping it",
        ) from error

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from stream
        except (pa.ArrowException, OSError) as error:  # even at the mark: the data before it may be damaged
            raise _broken(" ".join(str(error).split())[:200]) from error
        if not marked.at_mark():
            raise _broken("it stops before the mark")

    return pa.RecordBatchReader.from_batches(stream.schema, batches())


def _broken(why: str) -> InputError:
    return InputError(
        f"{STANDARD_INPUT}: the stream ended without its end mark: {why}",
        "what writes it was stopped, or did not close its writer",
    )


@dataclass
class PipeEnd:
    """How many rows were written, and whether the reader left."""

    rows: int = 0
    reader_left: bool = False


def write_pipe(batches: pa.RecordBatchReader, check: Callable[[], None], file: BinaryIO | None = None) -> PipeEnd:
    """Write batches to standard output, or `file`, no faster than they are read.

    Parameters
    ----------
    batches : pyarrow.RecordBatchReader
    check : function
        Called between the last row and the end mark; when it raises, no mark is written.
    """
    target = sys.stdout.buffer if file is None else file
    if target.isatty():
        raise UsageError("-o - would write an Arrow IPC stream to a terminal", "pipe it into something")
    end = PipeEnd()
    writer = pa.ipc.new_stream(pa.PythonFile(_Unclosed(target), mode="w"), batches.schema)
    try:
        for batch in batches:
            writer.write_batch(batch)
            target.flush()
            end.rows += batch.num_rows
        check()
        writer.close()
        target.flush()
    except MinestreamError:
        raise
    except OSError as error:
        give_up(target)
        if not isinstance(error, BrokenPipeError):
            raise refused(error) from error
        end.reader_left = True
    return end


class _Unclosed(io.RawIOBase):
    """A file that stays open, without an end mark, when its writer is dropped."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        return self._file.write(data)

    def writable(self) -> bool:
        """True, which pyarrow asks for."""
        return True
