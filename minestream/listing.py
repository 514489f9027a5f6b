"""The files that a folder, a pattern or a name in an object store stands for, by the rules of local ones."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from fnmatch import fnmatchcase

from minestream.errors import InputError
from minestream.places import RemotePath, place_of
from minestream.remote import address_of


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
    found = [name for name in base.files() if is_named(name, pattern, suffix) and not _is_hidden(name)]
    if not found:
        hint = "check the bucket and the pattern; names that begin with . or _ are left out"
        raise InputError(f"{place}: no file matches", hint)
    return [base / name for name in found]


def _in_folder(folder: RemotePath, suffix: str) -> list[RemotePath]:
    found = [folder / name for name in folder.files() if name.lower().endswith(suffix) and not _is_hidden(name)]
    if not found:
        raise InputError(f"{folder}: no *{suffix} in this folder", "name the files, or a glob pattern")
    return found


def _is_hidden(name: str) -> bool:
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
