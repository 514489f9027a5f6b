"""The files that a folder, a pattern or a name in an object store stands for, by the rules of local ones."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from minestream.errors import InputError
from minestream.system.paths import RemotePath, checked_path, place_of
from minestream.system.stores import address_of, how_to_bring, is_remote, local_text, unreadable


def remote_files(uri: str, suffix: str) -> list[RemotePath]:
    """The objects of a URI: itself, a folder's with this `suffix`, or those that match a pattern.

    Raises
    ------
    MinestreamError
        InputError when there is none or the store refuses; TransientError when it does not answer.
    """
    place = place_of(uri)
    assert isinstance(place, RemotePath)
    if not glob.has_magic(str(place)) or place.exists():
        return _in_folder(place, suffix) if place.is_dir() else [place]
    pieces = address_of(str(place)).key.split("/")
    fixed = next((count for count, piece in enumerate(pieces) if glob.has_magic(piece)), len(pieces))
    base, pattern = place, pieces[fixed:]
    for _ in pattern:
        base = base.parent
    found = [name for name in base.files() if is_named(name, pattern, suffix) and not _is_hidden_name(name)]
    if not found:
        hint = "check the bucket and the pattern; names that begin with . or _ are left out"
        raise InputError(f"{place}: no file matches", hint)
    return [base / name for name in found]


def _in_folder(folder: RemotePath, suffix: str) -> list[RemotePath]:
    found = [folder / name for name in folder.files() if name.lower().endswith(suffix) and not _is_hidden_name(name)]
    if not found:
        raise InputError(f"{folder}: no *{suffix} in this folder", "name the files, or a glob pattern")
    return found


def _is_hidden_name(name: str) -> bool:
    return any(piece.startswith((".", "_")) for piece in name.split("/"))


def is_named(name: str, pattern: Sequence[str], suffix: str) -> bool:
    """Whether a pattern names this file, or, of files with `suffix`, a folder that it is in."""
    pieces = name.split("/")
    ends = range(1, len(pieces)) if name.lower().endswith(suffix) else ()
    return _matches(pieces, pattern) or any(_matches(pieces[:end], pattern) for end in ends)


def _matches(pieces: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the pieces of a path are as those of a pattern say; ** stands for any number of them."""
    if not pattern:
        return not pieces
    if pattern[0] == "**":
        return any(_matches(pieces[start:], pattern[1:]) for start in range(len(pieces) + 1))
    return bool(pieces) and fnmatchcase(pieces[0], pattern[0]) and _matches(pieces[1:], pattern[1:])


AnyFile = str | RemotePath


def is_hidden(path: str) -> bool:
    """Whether a piece of `path` begins with . or _, as markers and temporary files of writing tools do."""
    return any(piece[0] in "._" and piece != ".." for piece in Path(path).parts)


def _stop(error: OSError) -> None:
    raise unreadable(str(error.filename), error)


def _files_in(folder: str, suffix: str) -> list[str]:
    found = [
        os.path.join(place, name)
        for place, _, names in os.walk(folder, onerror=_stop)
        for name in names
        if name.lower().endswith(suffix) and not is_hidden(os.path.relpath(os.path.join(place, name), folder))
    ]
    if not found:
        others = sorted(name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name)))
        there = f"{others[0]}: {how_to_bring(os.path.join(folder, others[0]))}; or " if others else ""
        raise InputError(f"{folder}: no *{suffix} in this folder", f"{there}name the files, or a glob pattern")
    return found


def expand(text: str, suffix: str) -> list[str]:
    """The files that a path, a folder or a glob pattern stands for."""
    path = os.path.expanduser(local_text(checked_path(text)))
    if os.path.isdir(path):
        return _files_in(path, suffix)
    if os.path.exists(path) or not glob.has_magic(path):
        return [path]
    pieces = Path(path).parts
    fixed = next(count for count, piece in enumerate(pieces) if glob.has_magic(piece))
    base, pattern = Path(*pieces[:fixed]), os.path.join(*pieces[fixed:])
    names = [name for name in glob.glob(pattern, root_dir=base, recursive=True) if not is_hidden(name)]
    if not names:
        raise InputError(f"{text}: no file matches", "check the pattern; names that begin with . or _ are left out")
    found = [str(base / name) for name in names]
    return [file for name in found for file in (_files_in(name, suffix) if os.path.isdir(name) else [name])]


def _resolve(inputs: list[Any], suffix: str) -> list[AnyFile]:
    """All files of `inputs`: absolute, sorted, each once.

    Links are not followed: download caches link to files that are named by a hash.
    """
    given = [checked_path(item) for item in inputs]
    here = {os.path.abspath(path) for item in given if not is_remote(item) for path in expand(item, suffix)}
    there = {str(file): file for item in given if is_remote(item) for file in remote_files(item, suffix)}
    if here and there:
        raise InputError(f"{min(there)} and {min(here)}: files of a store and local ones", "put all in one place")
    return [*sorted(here), *(there[name] for name in sorted(there))]


def listed(given: Any) -> list[Any]:
    """One thing, or a list of them, as a list."""
    return list(given) if isinstance(given, list | tuple) else [given]
