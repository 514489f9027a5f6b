"""The files of a path, a folder or a glob pattern, by the same rules on disk and in an object store."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from minestream.errors import InputError
from minestream.system.paths import RemotePath, checked_path, place_of
from minestream.system.stores import address_of, how_to_bring, is_remote, local_text, unreadable

AnyFile = str | RemotePath
LANCE = ".lance"  # the ending of folders that are read as one table
MIXED = "put all in one place"


def files_of(given: Any, suffix: str) -> list[AnyFile]:
    """The files of a path or URI: the file, the files of a folder with this `suffix`, or those that match a pattern.

    Raises
    ------
    MinestreamError
        InputError if there is none or the store refuses; TransientError if the store does not answer.
    """
    text = checked_path(given)
    return _remote_files(text, suffix) if is_remote(text) else sorted(_local_files(text, suffix))


def _remote_files(uri: str, suffix: str) -> list[AnyFile]:
    place = place_of(uri)
    assert isinstance(place, RemotePath)
    if not glob.has_magic(str(place)) or place.exists():
        return _in_folder(place, suffix) if place.is_dir() else [place]
    base, pattern = cut(place, address_of(str(place)).key.split("/"))
    found = [name for name in base.files() if is_named(name, pattern, suffix) and not is_hidden(name)]
    if not found:
        raise _no_match(str(place), "the bucket and the pattern")
    return [base / name for name in found]


def _local_files(text: str, suffix: str) -> list[str]:
    path = os.path.expanduser(local_text(text))
    if os.path.isdir(path):
        return _in_folder(path, suffix)
    if os.path.exists(path) or not glob.has_magic(path):
        return [path]
    base, pattern = cut(Path(path), Path(path).parts)
    names = [name for name in glob.glob(os.path.join(*pattern), root_dir=base, recursive=True) if not is_hidden(name)]
    if not names:
        raise _no_match(text, "the pattern")
    found = [str(base / name) for name in names]
    return [file for name in found for file in (_in_folder(name, suffix) if os.path.isdir(name) else [name])]


def _no_match(what: str, suspect: str) -> InputError:
    return InputError(f"{what}: no file matches", f"check {suspect}; names that begin with . or _ are left out")


def cut(place: Any, pieces: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """Split a pattern: the folder before the first wildcard, and the pieces from there on."""
    fixed = next((count for count, piece in enumerate(pieces) if glob.has_magic(piece)), len(pieces))
    for _ in pieces[fixed:]:
        place = place.parent
    return place, pieces[fixed:]


def _in_folder(folder: Any, suffix: str) -> list[Any]:
    """The files with this suffix in a folder and its subfolders; the folder itself if it is a Lance dataset."""
    if str(folder).rstrip("/").lower().endswith(LANCE):
        return [folder if isinstance(folder, RemotePath) else folder.rstrip("/")]
    names = folder.files() if isinstance(folder, RemotePath) else _names_in(folder)
    found = [name for name in names if name.lower().endswith(suffix) and not is_hidden(name)]
    if not found:
        local = [] if isinstance(folder, RemotePath) else names
        other = min((name for name in local if not os.path.dirname(name)), default="")
        there = f"{other}: {how_to_bring(os.path.join(folder, other))}; or " if other else ""
        raise InputError(f"{folder}: no *{suffix} in this folder", f"{there}name the files, or a glob pattern")
    return [folder / name if isinstance(folder, RemotePath) else os.path.join(folder, name) for name in found]


def _names_in(folder: str) -> list[str]:
    def stop(error: OSError) -> None:
        raise unreadable(str(error.filename), error)

    walked = os.walk(folder, onerror=stop)
    return [os.path.relpath(os.path.join(place, name), folder) for place, _, names in walked for name in names]


def is_named(name: str, pattern: Sequence[str], suffix: str) -> bool:
    """Whether a pattern matches this file or, if the file has `suffix`, a folder that holds it."""
    pieces = name.split("/")
    ends = range(1, len(pieces)) if name.lower().endswith(suffix) else ()
    return _matches(pieces, pattern) or any(_matches(pieces[:end], pattern) for end in ends)


def _matches(pieces: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the pieces of a path match those of a pattern; ** matches any number of pieces."""
    if not pattern:
        return not pieces
    if pattern[0] == "**":
        return any(_matches(pieces[start:], pattern[1:]) for start in range(len(pieces) + 1))
    return bool(pieces) and fnmatchcase(pieces[0], pattern[0]) and _matches(pieces[1:], pattern[1:])


def is_hidden(path: str) -> bool:
    """Whether a piece of `path` begins with . or _, like the temporary files of other tools."""
    return any(piece[0] in "._" and piece != ".." for piece in Path(path).parts)


def _resolve(inputs: list[Any], suffix: str) -> dict[AnyFile, tuple[str, int]]:
    """The files of all `inputs`, absolute, sorted, each once: how messages show them, as typed, and how often named.

    Links are not resolved: download caches link to files whose names are hashes.
    """
    found = [file for item in inputs for file in files_of(item, suffix)]
    here = {os.path.abspath(file): file for file in found if isinstance(file, str)}
    there = {str(file): file for file in found if isinstance(file, RemotePath)}
    if here and there:
        raise InputError(f"{min(there)} and {here[min(here)]}: files of a store and local ones", MIXED)
    times = Counter(os.path.abspath(file) if isinstance(file, str) else str(file) for file in found)
    local = {name: (here[name], times[name]) for name in sorted(here)}
    return local | {there[name]: (name, times[name]) for name in sorted(there)}


def listed(given: Any) -> list[Any]:
    """`given` as a list, if it is no list or tuple yet."""
    return list(given) if isinstance(given, list | tuple) else [given]
