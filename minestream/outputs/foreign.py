"""Recognising files that minestream wrote: --overwrite replaces no others."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from minestream.errors import MinestreamError
from minestream.system.paths import AnyPath, RemotePath, readable

OURS = b"minestream."  # begins each key of the metadata of our files
GENERATOR = '<meta name="generator" content="minestream">'
HEAD_BYTES, PIECE_BYTES = 2048, 8 << 20
Record = Mapping[str, Any] | None


def is_ours(file: AnyPath, record: Record = None) -> bool:
    """Whether minestream wrote a file, or the file is empty.

    Parameters
    ----------
    file : path
    record : dict, optional
        What a manifest says about the file {bytes, crc32}: text has no metadata.
    """
    try:
        with _opened(file) as handle:
            head = handle.read(HEAD_BYTES)
        kind = next((magic for magic in KINDS if head.startswith(magic)), None)
        if not head or kind is None:
            return not head or GENERATOR.encode() in head or as_recorded(file, record)
        return KINDS[kind](file, record)
    except MinestreamError:  # of a store
        raise
    except OSError:
        return False


def is_titled(file: AnyPath, title: str) -> bool:
    """Whether a page of ours has this title, or the file is empty."""
    with _opened(file) as handle:
        head = handle.read(HEAD_BYTES)
    return not head or f"<title>{title}</title>".encode() in head


def _opened(file: AnyPath) -> IO[bytes]:
    return file.open() if isinstance(file, RemotePath) else file.open("rb")


def _parquet(file: AnyPath, record: Record) -> bool:
    """By its footer; a damaged file is ours when the manifest lists it."""
    try:
        about = pq.read_metadata(readable(file)).metadata or {}
    except pa.ArrowException:
        return record is not None
    return any(name.startswith(OURS) for name in about)  # what reads and writes it again keeps none of these


def _archive(file: AnyPath, record: Record) -> bool:
    """Whether it is a linear embedding of `fit` or `Linear.save`."""
    try:
        with _opened(file) as handle, np.load(handle, allow_pickle=False) as found:
            names, about = {*found.files}, json.loads(np.asarray(found["about"]).tobytes())
    except Exception:  # of a broken archive whatever the readers of zip, zlib and headers raise
        return False
    return names == {"weights", "mean", "about"} and isinstance(about, dict) and "format" in about


def as_recorded(file: AnyPath, record: Record) -> bool:
    """Whether a file is, byte for byte, the one that a record {bytes, crc32} was written for."""
    if record is None or file.stat().st_size != record.get("bytes"):
        return False
    return text_crc(file) == record.get("crc32")


def text_crc(file: AnyPath) -> str:
    """The CRC-32 of a file's bytes, as manifests record it for text."""
    crc = 0
    with _opened(file) as handle:
        while piece := handle.read(PIECE_BYTES):
            crc = zlib.crc32(piece, crc)
    return f"{crc:08x}"


KINDS: dict[bytes, Callable[[AnyPath, Record], bool]] = {b"PAR1": _parquet, b"PK\x03\x04": _archive}
