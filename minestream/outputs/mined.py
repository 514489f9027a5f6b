"""Opening a mined file or folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from minestream.config.trainer_formats import FORMATS
from minestream.errors import InputError, MinestreamError
from minestream.outputs.manifest import ABOUT, config_of, fits, read_manifest
from minestream.system.checksums import RowsCrc
from minestream.system.paths import AnyPath, RemotePath, place_of, readable
from minestream.system.stores import known_failure

BATCH_ROWS = 65_536
JSON_FIELDS = ("config", "columns", "source", "counts")
RESCORING = "refilter"  # in JSON too, of rows that were chosen again
MANIFEST = ".manifest.json"
WHAT_TO_GIVE = "give a mined file or folder"
PROFILE = "profile.json"  # in the folder of a profile: it says how that was made
LINES = {form.suffix for form in FORMATS.values()} - {".parquet"}
DAMAGED = "it is damaged, or was changed after it was written: mine it again"


@dataclass(frozen=True)
class MinedOutput:
    """A mined file or folder: its files in order, its manifest when complete, the metadata of its first file."""

    path: AnyPath
    files: tuple[AnyPath, ...]
    manifest: dict[str, Any] | None
    about: dict[str, Any]


@contextmanager
def reading(path: AnyPath, failure: type[MinestreamError], hint: str = DAMAGED) -> Iterator[None]:
    """Turn what goes wrong while a Parquet file is read into `failure`; `hint` where it may be no mined file."""
    try:
        yield
    except MinestreamError:
        raise
    except (OSError, pa.ArrowException, UnicodeError) as error:
        of_store = known_failure(str(path), error) if isinstance(path, RemotePath) else None
        if of_store is not None:
            raise of_store from error
        raise failure(f"{path} cannot be read as Parquet: {error}", hint) from error


def open_parquet(path: AnyPath, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """A Parquet file whose pages are checked as they are read; its metadata are read where they are not given."""
    return pq.ParquetFile(
        readable(path), metadata=metadata, pre_buffer=False, buffer_size=2**20, page_checksum_verification=True
    )


def file_metadata(
    path: AnyPath, failure: type[MinestreamError] = InputError, hint: str = WHAT_TO_GIVE
) -> dict[str, Any]:
    """The metadata of a file that minestream wrote, its keys without the prefix minestream; else `failure`, `hint`."""
    with reading(path, failure, hint):
        found = pq.read_metadata(readable(path)).metadata or {}
    if b"minestream.rows_crc32" not in found:
        raise failure(f"{path} was not written by minestream", hint)
    if b"minestream.batches" in found:
        raise InputError(f"{path} holds training batches, not mined rows", "give the mined file that they are of")
    try:
        about: dict[str, Any] = {n.decode().removeprefix("minestream."): value.decode() for n, value in found.items()}
        about |= {name: json.loads(about[name]) for name in (*JSON_FIELDS, *({RESCORING} & about.keys()))}
    except (KeyError, ValueError, RecursionError):
        about = {}
    if not fits(about, ABOUT):
        raise failure(f"{path} says of itself what minestream does not write", hint)
    return about | {"config": config_of(about["config"], path, InputError).to_dict()}


def mined_output(path: str | os.PathLike[str], failure: type[MinestreamError] = InputError) -> MinedOutput:
    """The mined output at `path`: a file, a folder of parts, or the manifest of either.

    Raises
    ------
    InputError
        When there is none, or `path` is one part of a folder.
    `failure`
        When the file, or the parts in a folder, are not those that the manifest lists.
    """
    out = place_of(path)
    out = out.with_name(out.name.removesuffix(MANIFEST)) if out.name.endswith(MANIFEST) else out
    manifest = read_manifest(out.parent / f"{out.name}{MANIFEST}")
    if manifest is not None and manifest.get("state") != "complete":
        manifest = None
    as_listed = (InputError, WHAT_TO_GIVE) if manifest is None else (failure, DAMAGED)
    if out.is_dir():
        files = tuple(sorted(file for file in out.iterdir() if file.match("part-*.parquet")))
        if not files and (out / PROFILE).exists():
            hint = f"read {out / 'report.html'}, or {out / PROFILE} in programs"
            raise InputError(f"{out} is the folder of a profile, not of mined rows", hint)
        if not (files or (manifest and manifest["files"])):
            raise InputError(f"{out} holds no part-*.parquet", WHAT_TO_GIVE)
        if manifest is None and isinstance(out, RemotePath):  # its files come one by one, and the manifest last
            raise InputError(f"{out} is not complete: it has no manifest", "mine with --resume")
        names = {file.name for file in files}
        listed = names if manifest is None else {entry["name"] for entry in manifest["files"]}
        for name in sorted(names ^ listed):
            raise failure(f"{out}: {name} is {'missing' if name in listed else 'not in the manifest'}", DAMAGED)
        return MinedOutput(out, files, manifest, file_metadata(files[0], *as_listed))
    if not out.exists() and manifest is not None and manifest["files"]:
        raise failure(f"{out} is missing, and its manifest is there", DAMAGED)
    if not out.exists():
        unfinished = (out.parent / f"{out.name}.partial").exists()
        hint = "it is unfinished: mine with --resume" if unfinished else WHAT_TO_GIVE
        raise InputError(f"{out} does not exist", hint)
    if manifest is None and out.match("part-*.parquet"):
        raise InputError(f"{out} is one part of a folder", f"give the folder: {out.parent}")
    if manifest is not None and out.suffix in LINES:
        what = f"{out} holds lines for a trainer ({manifest['config'].get('emit')}), which are not read again"
        raise InputError(what, "give the mined file that it was exported from")
    return MinedOutput(out, (out,), manifest, file_metadata(out, *as_listed))


def rows_crc(path: AnyPath, failure: type[MinestreamError]) -> tuple[int, str]:
    """Rows of a file and their CRC-32, from its contents; `failure` where it cannot be read."""
    rows = 0
    with reading(path, failure), open_parquet(path) as file:
        crc = RowsCrc(file.schema_arrow)
        for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
            crc.update(pa.Table.from_batches([batch]))
            rows += batch.num_rows
    return rows, crc.value()


def holds(path: AnyPath, record: Mapping[str, Any]) -> bool:
    """Whether a file has the rows that its record {rows, crc32} was written for."""
    try:
        return rows_crc(path, InputError) == (record.get("rows"), record.get("crc32"))
    except InputError:
        return False
