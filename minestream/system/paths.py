"""Paths of local files, and of objects in a store with the same methods."""

from __future__ import annotations

import ctypes
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
from pyarrow import fs

from minestream.errors import InputError, MinestreamError, UsageError
from minestream.system import interrupts
from minestream.system.stores import BUCKETED, address_of, failure, file_system, is_remote, local_text, retried, shown
from minestream.system.threads import run_each

Result = TypeVar("Result")
PIECE_BYTES = 8 << 20


class Size(NamedTuple):
    """The size of an object, as `os.stat_result` names it."""

    st_size: int


@dataclass(frozen=True)
class RemotePath:
    """An object or folder of a store, with the methods of a Path that are needed.

    Every operation is tried a few times before it fails with one of our errors. An object appears whole when its
    upload completes, or not at all.

    Attributes
    ----------
    uri : str
        As the user gave it; may hold credentials, so it is never shown.
    system : pyarrow.fs.FileSystem
    key : str
        The path within it: the bucket comes first.
    refusal : type
        The error for what is missing or may not be done.
    """

    uri: str
    system: fs.FileSystem = field(compare=False)
    key: str
    refusal: type[MinestreamError] = InputError

    def __str__(self) -> str:
        return shown(self.uri)

    def __lt__(self, other: Any) -> bool:
        return str(self) < str(other)

    @property
    def name(self) -> str:
        """The last piece; empty for a bucket."""
        return address_of(self.uri).key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return PurePosixPath(self.key).suffix

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.key).stem

    @property
    def parent(self) -> RemotePath:
        """The folder that holds it."""
        return self._at(address_of(self.uri).key.rpartition("/")[0], self.key.rpartition("/")[0] or self.key)

    def __truediv__(self, name: str) -> RemotePath:
        own = address_of(self.uri).key
        return self._at(f"{own}/{name}" if own else name, f"{self.key}/{name}")

    def _at(self, of_uri: str, key: str) -> RemotePath:
        address = address_of(self.uri)
        query = f"?{address.query}" if address.query else ""
        return replace(self, uri=f"{address.scheme}://{address.authority}/{of_uri}{query}", key=key)

    def with_name(self, name: str) -> RemotePath:
        """The object of this name in the same folder."""
        return self.parent / name

    @property
    def bucketed(self) -> bool:
        """Whether the store has no folders of its own, only names with slashes."""
        return address_of(self.uri).scheme in BUCKETED

    def absolute(self) -> RemotePath:
        """The same path: a URI is always absolute."""
        return self

    def match(self, pattern: str) -> bool:
        """Whether the name matches the pattern."""
        return fnmatchcase(self.name, pattern)

    def _try(self, work: Callable[[], Result]) -> Result:
        try:
            return retried(work)
        except (FileNotFoundError, MinestreamError):
            raise
        except (OSError, pa.ArrowException) as error:
            raise failure(str(self), error, self.refusal) from error

    # ------------------------------------------------------------ what is there

    def _info(self) -> fs.FileInfo:
        return self._try(lambda: self.system.get_file_info(self.key))

    def exists(self) -> bool:
        """Whether there is an object or a folder of this name."""
        return bool(self._info().type != fs.FileType.NotFound)

    def is_dir(self) -> bool:
        """Whether there is a folder of this name."""
        return bool(self._info().type == fs.FileType.Directory)

    def stat(self) -> Size:
        """The size of the object; FileNotFoundError when there is none."""
        info = self._info()
        if not info.is_file:
            raise FileNotFoundError(str(self))
        return Size(info.size)

    def mark(self) -> dict[str, Any]:
        """The size and the tag of the contents (or the time when the store has no tags), to notice a change."""

        def look() -> dict[str, Any]:
            with self.system.open_input_file(self.key) as file:
                about: Mapping[Any, Any] = file.metadata() or {}
                tag = next((value for name, value in about.items() if _text(name).lower() == "etag"), None)
                return {"size": file.size()} | ({} if tag is None else {"etag": _text(tag)})

        with suppress(FileNotFoundError):  # whoever reads it says so
            found = self._try(look)
            return found if "etag" in found else {**found, "modified_ns": self._info().mtime_ns}
        return {}

    def iterdir(self) -> Iterator[RemotePath]:
        """The objects and folders in this folder, sorted by name; none when the folder is missing."""
        return (self / name for name in sorted({name.split("/")[0] for name in self.files()}))

    def files(self) -> list[str]:
        """The names of all objects in the folder and the folders within, relative to it, sorted."""
        return sorted(self.sizes())

    def sizes(self) -> dict[str, int]:
        """The sizes of all objects in the folder and the folders within, by name relative to it."""
        selector = fs.FileSelector(self.key, recursive=True, allow_not_found=True)
        found = self._try(lambda: self.system.get_file_info(selector))
        start = len(self.key.strip("/")) + 1
        return {info.path.strip("/")[start:]: info.size for info in found if info.is_file}

    # ------------------------------------------------------------ contents

    def open(self) -> pa.NativeFile:
        """The object, open for reading anywhere; a failed read is tried again."""
        return pa.PythonFile(PatientFile(self._try(lambda: self.system.open_input_file(self.key))), "r")

    def read_bytes(self) -> bytes:
        """The whole contents; FileNotFoundError when there is no object."""

        def read() -> bytes:
            with self.system.open_input_file(self.key) as file:
                return bytes(file.readall())

        return self._try(read)

    def write_bytes(self, contents: bytes) -> None:
        """Write an object whole."""
        self._write(lambda: [contents])

    def upload(self, path: Path) -> None:
        """Write a local file as an object."""

        def pieces() -> Iterator[bytes]:
            with open(path, "rb") as file:
                yield from iter(lambda: file.read(PIECE_BYTES), b"")

        self._write(pieces)

    def download(self, path: Path) -> None:
        """Copy the object to a local file, which gets its name once it is complete."""
        temporary = path.with_name(f"{path.name}.tmp")

        def read() -> None:
            with self.system.open_input_file(self.key) as file, open(temporary, "wb") as copy:
                while piece := file.read(PIECE_BYTES):
                    copy.write(piece)

        self._try(read)
        os.replace(temporary, path)

    def _write(self, pieces: Callable[[], Iterable[bytes]]) -> None:
        """Write an object in a separate thread: an interrupt must not complete an upload that is only half sent."""

        def write() -> None:
            if not self.bucketed:
                self.system.create_dir(self.parent.key, recursive=True)
            _send(self.system.open_output_stream(self.key, buffer_size=0), pieces())

        run_each(self._try, [write], 1)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        try:
            self._try(lambda: self.system.delete_file(self.key))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_all(self) -> None:
        """Remove the folder and everything in it, if it exists."""
        with suppress(FileNotFoundError):
            self._try(lambda: self.system.delete_dir(self.key))


AnyPath = Path | RemotePath


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _send(stream: pa.NativeFile, pieces: Iterable[bytes]) -> None:
    """Write everything and complete the upload.

    pyarrow cannot abort an upload: closing or dropping the stream completes it with what was sent so far. After a
    failure the stream is therefore kept until the process ends, and the store discards the unfinished upload.
    """
    try:
        for count, piece in enumerate(pieces):
            if count:
                interrupts.check()
            stream.write(piece)
        stream.close()
    except BaseException:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))
        raise


class PatientFile:
    """An open object whose failed reads are tried again: the S3 library gives up when the error outgrows the read."""

    def __init__(self, file: pa.NativeFile) -> None:
        self._file, self._at = file, 0

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return bool(self._file.closed)

    def read(self, count: int = -1) -> bytes:
        """The next `count` bytes, or all that are left."""
        start = self._at
        size = self._file.size() - start if count < 0 else count
        found: bytes = retried(lambda: self._file.read_at(size, start))
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte offset; returns the new one."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size()}[whence]
        return self._at

    def tell(self) -> int:
        """The byte offset of the next read."""
        return self._at

    def close(self) -> None:
        """Close the object."""
        self._file.close()


def checked_path(given: Any) -> str:
    """A path as text; UsageError for other objects, and for an empty path, which elsewhere means this folder."""
    if not isinstance(given, str | os.PathLike):
        what = "None" if given is None else f"an object of type {type(given).__name__}"
        raise UsageError(f"{what} is no path", "name a file or a folder by a text or a Path")
    text = os.fspath(given)
    if not text.strip():
        raise UsageError("an empty path", "name a file or a folder: is a variable of the shell not set?")
    return text


def place_of(given: str | os.PathLike[str] | RemotePath, refusal: type[MinestreamError] = InputError) -> AnyPath:
    """The Path or RemotePath of a path or URI; `refusal` is the error for what is missing or denied in a store."""
    if isinstance(given, RemotePath):
        return given
    text = checked_path(given)
    if not is_remote(text):
        return Path(local_text(text))
    system, key = file_system(text)
    return RemotePath(text, system, key.rstrip("/"), refusal)


def free_name(stem: str, ending: str) -> str:
    """A name in the working directory that is free: the stem and the ending, or with -2, -3 and so on between them."""
    names = (f"{stem}{more}{ending}" for more in chain([""], map("-{}".format, count(2))))
    return next(name for name in names if not os.path.lexists(name))


def text_of(place: AnyPath) -> str:
    """The text from which `place_of` makes this path again: for a store the URI with its options."""
    return place.uri if isinstance(place, RemotePath) else str(place)


def readable(place: str | AnyPath) -> Any:
    """The path in a form that pyarrow reads: a local path, or an open object."""
    if isinstance(place, str):
        place = place_of(place)
    return place.open() if isinstance(place, RemotePath) else place


def open_text(given: str | os.PathLike[str]) -> io.TextIOBase:
    """A text file, opened as UTF-8; a byte order mark at its start is skipped."""
    place = place_of(given)
    if isinstance(place, RemotePath):
        return io.TextIOWrapper(io.BytesIO(place.read_bytes()), encoding="utf-8-sig", newline="")
    return open(place, encoding="utf-8-sig", newline="")
