"""The tables given to a command: their files, and a check that no output would overwrite or join them."""

from __future__ import annotations

import glob
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pyarrow import fs

from minestream.config.option import flag_of
from minestream.config.parse import PIPE
from minestream.config.resources import Resources, Tables
from minestream.errors import OutputError
from minestream.inputs.listing import LANCE, cut, files_of, is_hidden, is_named, listed
from minestream.system.paths import AnyPath, RemotePath, place_of
from minestream.system.stores import address_of, is_remote, local_text, shown

FOOTER_BYTES = 65_536
ROLES = {
    "corpus": "corpus", "qrels": "known positives", "exclude": "excluded pairs", "exclude_rows": "excluded rows",
}  # fmt: skip
GUIDE, TEACHER = "guide", "embedding "  # what the roles of other embeddings are called, and how they begin
OF_CORPUS = " of the corpus"  # and how those of a second table of its own end
ANOTHER = "choose another name: what is read is never written over"


@dataclass(frozen=True)
class Given:
    """One table of a command.

    Attributes
    ----------
    option : str
        The option or argument that it was given with.
    table : path, Arrow object, or list of them
    role : str
        As in the source identity; "" for INPUT.
    suffix : str
        Of the files that are read from a folder.
    """

    option: str
    table: Any
    role: str = ""
    suffix: str = ".parquet"

    @property
    def paths(self) -> list[str]:
        """The paths, folders, patterns and URIs that were given."""
        items = (os.fspath(item) for item in listed(self.table) if isinstance(item, str | os.PathLike))
        return [item for item in items if item != PIPE]

    @property
    def in_files(self) -> bool:
        """Whether all of it is in files, nothing in memory or in a stream."""
        return len(self.paths) == len(listed(self.table))

    @cached_property
    def files(self) -> list[AnyPath]:
        """All files that are read."""
        found = [file for path in self.paths for file in files_of(path, self.suffix)]
        places: list[AnyPath] = [Path(file) if isinstance(file, str) else file for file in found]
        for item in listed(self.table):
            if isinstance(getattr(item, "filesystem", None), fs.LocalFileSystem):  # a pyarrow Dataset
                places += map(Path, getattr(item, "files", ()))
        return places

    def would_read(self, place: AnyPath) -> bool:
        """Whether a file with this name would be read as part of a folder or a pattern."""
        return any(_stands_for(path, place, self.suffix) for path in self.paths)


def given_tables(inputs: Any, tables: Tables, resources: Resources) -> list[Given]:
    """The tables that `mine` reads."""
    arrays, labels = ".npy", resources.labels
    found = [Given("INPUT", inputs) if labels is None else Given("INPUT", inputs, suffix=arrays)]
    found += [Given("--labels", labels), Given("--vectors", resources.vectors, suffix=arrays)]
    found += [Given(flag_of(name), getattr(tables, name), role) for name, role in ROLES.items()]
    found.append(Given("--candidates", tables.candidates, "candidates"))
    own = tables.embedding_table or {}
    found += [
        Given("--embedding-table", table, TEACHER + name + OF_CORPUS * (side > 0))
        for name, theirs in own.items() for side, table in enumerate(theirs)
    ]  # fmt: skip
    return [each for each in found if each.table is not None]


def tables_read(given: Iterable[Given], sizes: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The tables of a command as --json lists them; `sizes`: rows, dimension and dtype of some, by their names."""
    tables = []
    for each in given:
        paths = [shown(item) for item in listed(each.table) if isinstance(item, str | os.PathLike)]
        size = {name: sizes.get(each.option, {}).get(name) for name in ("rows", "dimension", "dtype")}
        tables.append({"name": each.option, "paths": paths} | size)
    return tuple(tables)


def refuse_inputs(out: AnyPath, taken: Iterable[AnyPath], written: Iterable[AnyPath], given: Iterable[Given]) -> None:
    """Refuse an output that the command reads, or would read when it is run again.

    Parameters
    ----------
    out : path
        The output, for messages.
    taken : iterable of path
        Files and folders that are replaced.
    written : iterable of path
        Files that are made, finished or not.
    given : iterable of Given

    Raises
    ------
    OutputError
        However the paths are spelled: links, relative paths, other case where the disk ignores it.
    """
    taken, written = list(taken), list(written)
    for table in given:
        for place, file in _met(taken, table.files):
            itself = place.is_file() if isinstance(place, Path) else str(place) == str(file)
            what = f"is {table.option}" if itself else f"holds {file} of {table.option}"
            raise OutputError(f"cannot write {place}: it {what}, which is read", ANOTHER)
        for place in written:
            if table.would_read(place):
                what = f"{table.option} ({', '.join(table.paths[:3])})"
                raise OutputError(
                    f"cannot write {out}: it lies where {what} is read from, and would be read too", ANOTHER
                )


def _met(taken: Sequence[AnyPath], files: Iterable[AnyPath]) -> Iterator[tuple[AnyPath, AnyPath]]:
    """Yield (taken, file) for each of `files` that is one of `taken` or lies in it."""
    inode = cache(_inode)
    here = {number: place for place in taken if (number := inode(_local(place))) is not None}
    there = {_key(place): place for place in taken if isinstance(place, RemotePath)}
    for file in files:
        if isinstance(file, RemotePath):
            pieces = _key(file).split("/")
            names = ("/".join(pieces[:end]) for end in range(len(pieces), 0, -1))
            yield from ((there[name], file) for name in names if name in there)
        if here and (path := _local(file)):
            steps = (step for each in {path, os.path.realpath(path)} for step in (Path(each), *Path(each).parents))
            yield from ((here[number], file) for step in steps if (number := inode(str(step))) in here)


def _inode(path: str) -> tuple[int, int] | None:
    """Device and inode, which identify a file or folder on this machine; None if there is none."""
    try:
        found = os.stat(path) if path else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None


def _local(place: AnyPath) -> str:
    """The absolute local path; "" for an object in a store."""
    if isinstance(place, Path):
        return os.path.abspath(place)
    return f"/{place.key.lstrip('/')}" if address_of(place.uri).scheme == "local" else ""


def _key(place: RemotePath) -> str:
    """Scheme and key, which identify an object however its URI is spelled."""
    scheme = address_of(place.uri).scheme
    return f"{'gs' if scheme == 'gcs' else scheme}:{place.key.strip('/')}"


def _stands_for(path: str, place: AnyPath, suffix: str) -> bool:
    """Whether a file at `place` would be read from this folder or pattern."""
    if is_remote(path) != isinstance(place, RemotePath):
        return False
    pattern: Sequence[str] | None = None
    if isinstance(place, RemotePath):
        store: Any = place_of(path)
        if glob.has_magic(str(store)):
            store, pattern = cut(store, address_of(path).key.split("/"))
        own, base = _key(place), f"{_key(store)}/"
        name = own[len(base) :] if own.startswith(base) else ""
    else:
        folder = Path(os.path.abspath(os.path.expanduser(local_text(path))))
        if not folder.exists() and glob.has_magic(path):
            folder, pattern = cut(folder, folder.parts)
        name = _name_in(Path(_local(place)), str(folder))
    if not name or is_hidden(name):
        return False
    return name.lower().endswith(suffix) if pattern is None else is_named(name, pattern, suffix)


def _name_in(place: Path, folder: str) -> str:
    """The name of a file, which need not exist, relative to a folder; "" if it lies elsewhere."""
    number = _inode(folder)
    path = Path(os.path.realpath(place.parent)) / place.name
    above = next((each for each in path.parents if number is not None and _inode(str(each)) == number), None)
    return path.relative_to(above).as_posix() if above is not None else ""


def marks_of(given: Iterable[Given]) -> list[dict[str, Any]]:
    """Role, path, size, times and CRC-32 of the end of every file that is read, to notice changes cheaply."""
    return [
        {"role": table.role, "path": os.path.abspath(file) if isinstance(file, Path) else str(file), **_mark(file)}
        for table in given
        for file in table.files
    ]


def _mark(file: AnyPath) -> dict[str, Any]:
    if str(file).lower().endswith(LANCE):  # a folder
        return {"files_crc32": zlib.crc32(repr(sorted(_sizes(file).items())).encode())}
    if isinstance(file, RemotePath):
        return file.mark()
    try:
        found = os.stat(file)
        with open(file, "rb") as handle:
            handle.seek(max(0, found.st_size - FOOTER_BYTES))
            footer = zlib.crc32(handle.read(FOOTER_BYTES))
    except OSError:  # an error is raised when it is read
        return {}
    return {
        "size": found.st_size, "modified_ns": found.st_mtime_ns, "changed_ns": found.st_ctime_ns, "footer_crc32": footer
    }  # fmt: skip


def _sizes(folder: AnyPath) -> dict[str, int]:
    """The sizes of the files in a folder and the folders within."""
    if isinstance(folder, RemotePath):
        return folder.sizes()
    return {str(path): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
