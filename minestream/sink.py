"""Parts, the pinned writer, atomic renames, the manifest, resume, and the final file or folder.

While a run works, everything lies in ``OUT.partial/``: ``lock``, ``manifest.json``,
``parts/part-00000.parquet``, and the record ``part-00000.json`` of each finished part. Publishing moves
``parts/`` to OUT, or streams the parts into one file, and leaves ``OUT.manifest.json`` beside it. Whatever
has its final name is whole: every file is written under another name, flushed to the disk and renamed.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import itertools
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from minestream._version import VERSION
from minestream.errors import CapacityError, OutputError, TransientError
from minestream.rules import LOSSES
from minestream.stats import ShardStats

ROW_GROUP_ROWS = 131_072
FINISHED_PART_ROWS = 4_194_304
FULL = (errno.ENOSPC, errno.EDQUOT)
PASSING = (errno.EIO, errno.ETIMEDOUT)
RESUMED_FIELDS = ("version", "pyarrow", "columns", "parts")  # compared on resume, beside config and source

Values = dict[str, Any] | Callable[[], dict[str, Any]]


def default_output(inputs: Any, emit: str) -> Path:
    """OUT when none is given, in the working directory: `<stem>.<emit>.parquet`.

    The stem is that of the first input file, a folder's name, or minestream for an input that is no path.
    """
    first = inputs[0] if isinstance(inputs, list | tuple) and inputs else inputs
    if not isinstance(first, str | os.PathLike):
        return Path(f"minestream.{emit}.parquet")
    matches = sorted(glob.glob(os.fspath(first), recursive=True)) if not os.path.exists(first) else []
    path = Path(matches[0] if matches else os.fspath(first))
    return Path(f"{path.resolve().name if path.is_dir() else path.stem}.{emit}.parquet")


def now(values: Values) -> dict[str, Any]:
    """The values of a dict, or of a callable that returns one."""
    return values() if callable(values) else values


@contextmanager
def disk_errors(path: Path, needed_bytes: int | None = None) -> Iterator[None]:
    """Turn a full or failing disk under `path` into CapacityError or TransientError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            needed = "" if needed_bytes is None else f"about {needed_bytes:,} bytes are needed, "
            free = shutil.disk_usage(path.parent).free
            raise CapacityError(
                f"no space left while writing {path.name}: {needed}{free:,} bytes are free in {path.parent}",
                "free some space; finished parts are kept, --resume goes on with them",
            ) from error
        if error.errno in PASSING:
            raise TransientError(f"writing {path} failed: {error.strerror}", "try again with --resume") from error
        raise


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, values: dict[str, Any], temporary: Path) -> None:
    """Write `values` under the name `temporary`, then rename it to `path`."""
    with disk_errors(path), open(temporary, "w", encoding="utf-8") as file:
        json.dump(values, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None when there is none or it is not whole."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


class RowsCrc:
    """CRC-32 of rows, the same however they are cut into tables.

    Each column is a fixed number of byte streams with a running CRC each: validity (one byte a row), then
    values (nulls as zero bytes), or int32 lengths and the streams of the children. Their CRC is the value.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._streams = [[0 for _ in byte_streams(pa.array([], field.type))] for field in schema]

    def update(self, table: pa.Table) -> None:
        """Take further rows."""
        for running, column in zip(self._streams, table.columns, strict=True):
            for chunk in column.chunks:
                for place, data in enumerate(byte_streams(chunk)):
                    running[place] = zlib.crc32(data, running[place])

    def value(self) -> str:
        """Eight hexadecimal digits for the rows so far."""
        running = np.array([crc for column in self._streams for crc in column], dtype="<u4")
        return f"{zlib.crc32(running.tobytes()):08x}"


def byte_streams(array: pa.Array) -> Iterator[Any]:
    """The bytes of one chunk of a column; the number of streams depends on the type alone."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind, types = array.type, pa.types
    valid = array.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8)
    yield valid
    if types.is_null(kind):
        return
    if types.is_struct(kind):
        for child in array.flatten():
            yield from byte_streams(child)
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        yield pc.list_value_length(array).cast(pa.int32()).fill_null(0).to_numpy()
        yield from byte_streams(array.flatten())
    elif types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        filled = array.cast(pa.large_binary()).fill_null(b"")
        yield pc.binary_length(filled).cast(pa.int32()).to_numpy()
        if not len(array):
            yield b""
            return
        offsets = np.frombuffer(filled.buffers()[1], np.int64)[filled.offset : filled.offset + len(array) + 1]
        yield memoryview(filled.buffers()[2] or b"")[offsets[0] : offsets[-1]]
    else:
        plain = array.cast(pa.uint8()) if types.is_boolean(kind) else array
        width = plain.type.bit_width // 8
        start, size = plain.offset * width, len(plain) * width
        values = np.frombuffer(plain.buffers()[1] or b"", np.uint8)[start : start + size].reshape(-1, width)
        yield np.where(valid[:, None], values, np.uint8(0)) if plain.null_count else values


def pinned_type(kind: pa.DataType) -> pa.DataType:
    """`kind` with list elements named as Parquet names them: else rewriting a file would change it."""
    if pa.types.is_list(kind):
        return pa.list_(pa.field("element", pinned_type(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(pa.field("element", pinned_type(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", pinned_type(kind.value_type)), kind.list_size)
    return kind


class PinnedWriter:
    """One Parquet file whose bytes depend on its rows and metadata alone, not on the tables they come in.

    Parameters
    ----------
    file : BinaryIO
        Where the file goes; left open.
    schema : pa.Schema
        Its metadata, and that of its fields, is left out.
    """

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self.schema = pa.schema([pa.field(field.name, pinned_type(field.type)) for field in schema])
        self.rows = 0
        self._crc = RowsCrc(self.schema)
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._writer = pq.ParquetWriter(
            file, self.schema, version="2.6", compression="zstd", compression_level=3, use_dictionary=False,
            write_page_checksum=True, data_page_size=2**20,
        )  # fmt: skip

    def write(self, table: pa.Table) -> None:
        """Take further rows; whole row groups are written at once."""
        table = table.cast(self.schema)
        self._crc.update(table)
        self.rows += table.num_rows
        self._pending.append(table)
        self._pending_rows += table.num_rows
        if self._pending_rows >= ROW_GROUP_ROWS:
            self._flush(ROW_GROUP_ROWS)

    def _flush(self, least_rows: int) -> None:
        pending = pa.concat_tables(self._pending)
        while pending.num_rows >= least_rows and pending.num_rows:
            # One chunk a column: pages would otherwise follow the caller's batches.
            self._writer.write_table(pending.slice(0, ROW_GROUP_ROWS).combine_chunks(), row_group_size=ROW_GROUP_ROWS)
            pending = pending.slice(ROW_GROUP_ROWS)
        self._pending, self._pending_rows = [pending], pending.num_rows

    def close(self, metadata: dict[str, str]) -> str:
        """Write what is left and the footer with `metadata`; returns the CRC-32 of the rows."""
        if self._pending:
            self._flush(1)
        crc = self._crc.value()
        self._writer.add_key_value_metadata({**metadata, "minestream.rows_crc32": crc})
        self._writer.close()
        return crc


def write_rows(
    path: Path, schema: pa.Schema, tables: Iterable[pa.Table], metadata: dict[str, str], counts: Values
) -> dict[str, Any]:
    """Write one pinned file, flush it to the disk, and return its {rows, bytes, crc32}.

    `counts` (a callable is asked after the last row) says what was counted; its rows are those written here.
    """
    try:
        with open(path, "wb") as file:
            writer = PinnedWriter(file, schema)
            for table in tables:
                writer.write(table)
            counted = json.dumps({**now(counts), "rows": writer.rows}, sort_keys=True)
            crc = writer.close({**metadata, "minestream.counts": counted})
            file.flush()
            os.fsync(file.fileno())
            return {"rows": writer.rows, "bytes": file.tell(), "crc32": crc}
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def part_tables(paths: Iterable[Path], batch_rows: int = ROW_GROUP_ROWS) -> Iterator[pa.Table]:
    """The rows of several Parquet files, in order, at most `batch_rows` at a time."""
    for path in paths:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            for batch in file.iter_batches(batch_rows, use_threads=False):
                yield pa.Table.from_batches([batch])


def numbered_cuts(tables: Iterable[pa.Table], rows: int) -> Iterator[tuple[int, pa.Table]]:
    """The same rows, each table with the number of the stretch of `rows` rows it belongs to."""
    seen = 0
    for table in tables:
        start = 0
        while start < table.num_rows:
            piece = table.slice(start, min(rows - seen % rows, table.num_rows - start))
            yield seen // rows, piece
            start, seen = start + piece.num_rows, seen + piece.num_rows


def label_convention(config: dict[str, Any]) -> str:
    """What the labels made of two rows, in words."""
    if config["emit"] == "pairs":
        text = "column label: 1 = similar (the rows share a label), 0 = dissimilar (they do not)"
    else:
        text = "anchor and positive share a label, anchor and negative do not"
    value = config.get("unlabeled_value")
    without = "rows without a label" if value is None else f"rows without a label (null or {value})"
    return f"{text}; {without} {'take no part' if config['unlabeled'] == 'ignore' else 'may be negatives'}"


def loss_formula(config: dict[str, Any]) -> str:
    """The formula of the loss column, in words; says so when there is no such column."""
    if config["margin"] is None:
        return "no loss column: it needs a margin"
    x = "min(distance_an, distance_pn)" if config.get("swap") else "distance_an"
    names = "D = distance" if config["emit"] == "pairs" else f"p = distance_ap, x = {x}"
    loss, margin = config["loss"], config["margin"]
    return f"{loss}: {LOSSES[loss]}; {names}, m = {margin!r}, {config['metric']} distance"


def file_metadata(config: dict[str, Any], fingerprint: str, source: Any, columns: dict[str, Any]) -> dict[str, str]:
    """What every file says of itself, but for its counts and the CRC-32 of its rows."""
    return {
        "minestream.version": VERSION,
        "minestream.config": json.dumps(config, sort_keys=True),
        "minestream.fingerprint": fingerprint,
        "minestream.columns": json.dumps(columns, sort_keys=True),
        "minestream.labels": label_convention(config),
        "minestream.loss": loss_formula(config),
        "minestream.source": json.dumps(source, sort_keys=True),
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two manifests, a line each: config fields, source files, columns, versions."""
    lines = []
    for name in sorted({*old.get("config", {}), *new["config"]}):
        before, after = old.get("config", {}).get(name), new["config"].get(name)
        if before != after:
            lines.append(f"{name}: {before!r} -> {after!r}")
    files = [{str(entry.get("name")): entry for entry in run.get("source", [])} for run in (old, new)]
    for name in sorted({*files[0], *files[1]}):
        if name not in files[1]:
            lines.append(f"source file {name}: gone")
        elif name not in files[0]:
            lines.append(f"source file {name}: new")
        elif files[0][name] != files[1][name]:
            lines.append(f"source file {name}: its contents changed")
    lines += [
        f"{name}: {old.get(name)!r} -> {new[name]!r}"
        for name in RESUMED_FIELDS
        if name in new and old.get(name) != new[name]
    ]
    if not lines and old.get("fingerprint") != new["fingerprint"]:
        lines.append(f"fingerprint: {old.get('fingerprint')} -> {new['fingerprint']}")
    return lines


def refuse_differences(name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise OutputError when the work recorded by manifest `old` is not that of `new`."""
    lines = differences(old, new)
    if lines:
        raise OutputError(f"{name} was begun otherwise:\n  " + "\n  ".join(lines), "--overwrite starts afresh")


def take_lock(handle: int, final: Path) -> None:
    """Lock an open file until it is closed, or raise OutputError when another process holds the lock."""
    with suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A run that ended meanwhile took the folder, and this lock with it, away.
        if os.fstat(handle).st_nlink:
            return
    raise OutputError(f"another process is writing {final}", "wait for it, or choose another -o")


class Output:
    """The places of one output and what stands there.

    Attributes
    ----------
    final, partial, manifest : Path
        OUT, the folder of unfinished work, and the manifest that stays.
    single : bool
        Whether OUT is one file (its name ends in .parquet) or a folder of parts.
    """

    def __init__(self, out: Path) -> None:
        self.final = Path(out)
        self.single = self.final.suffix == ".parquet"
        self.partial = self.final.with_name(self.final.name + ".partial") if self.final.name else self.final
        self.manifest = self.final.with_name(self.final.name + ".manifest.json") if self.final.name else self.final
        self.temporary = self.final.parent / f".{self.final.name}.tmp-{os.getpid()}"

    def check(self, *, resume: bool, overwrite: bool) -> dict[str, Any] | None:
        """Look whether OUT can be written, before anything is read; leaves no file.

        Returns
        -------
        dict or None
            The manifest when `resume` finds the output complete.

        Raises
        ------
        OutputError
            When OUT or unfinished work stands in the way, or the folder it goes to is missing or read-only.
        """
        parent = self.final.parent
        if not self.final.name or not parent.is_dir():
            raise OutputError(
                f"cannot write {self.final}: no folder {parent}", "make the folder first, or choose another -o"
            )
        if not os.access(parent, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write {self.final}: the folder is read-only", "choose another -o")
        self.refuse_foreign()
        unfinished = read_json(self.partial / "manifest.json")
        if not self.occupied():
            if unfinished and not (resume or overwrite):
                raise OutputError(
                    f"unfinished work lies in {self.partial}", "--resume goes on with it, --overwrite starts afresh"
                )
            return None
        done = read_json(self.manifest)
        if resume and done and done.get("state") == "complete" and not (unfinished and differences(unfinished, done)):
            self.tidy()
            return done
        if not overwrite and not (resume and unfinished):
            also = "; --resume goes on with the unfinished work beside it" if unfinished else ""
            raise OutputError(f"{self.final} exists", f"--overwrite replaces it{also}")
        if self.final.is_dir() and not all(path.match("part-*.parquet") for path in self.final.iterdir()):
            raise OutputError(f"{self.final} is a folder that holds other files: not overwritten", "choose another -o")
        return None

    def refuse_foreign(self) -> None:
        """Refuse a work folder that another process writes, or that no run made."""
        lock = self.partial / "lock"
        if lock.exists():
            with open(lock, "rb") as file:
                take_lock(file.fileno(), self.final)
        elif os.path.lexists(self.partial) and (not self.partial.is_dir() or any(self.partial.iterdir())):
            raise OutputError(f"{self.partial} is in the way and is not minestream's", "move it, or choose another -o")

    def occupied(self) -> bool:
        """Whether something other than an empty folder stands under OUT's name."""
        return os.path.lexists(self.final) and not (self.final.is_dir() and not any(self.final.iterdir()))

    def begin(
        self,
        *,
        resume: bool,
        overwrite: bool,
        config: dict[str, Any],
        fingerprint: str,
        source: list[dict[str, Any]],
        columns: dict[str, Any],
        parts: int,
    ) -> Run:
        """Take the lock and start, or go on with the parts that are finished.

        Raises
        ------
        OutputError
            When another process holds the lock, or the unfinished work has another config or source.
        """
        plan = {"state": "working", "version": VERSION, "pyarrow": pa.__version__, "config": config,
                "fingerprint": fingerprint, "source": source, "columns": columns, "parts": parts}  # fmt: skip
        self.check(resume=resume, overwrite=overwrite)
        with disk_errors(self.partial):
            lock = self.lock()
        try:
            unfinished = read_json(self.partial / "manifest.json")
            if unfinished and resume:
                refuse_differences(f"the unfinished work in {self.partial}", unfinished, json.loads(json.dumps(plan)))
            self.clear(everything=not (unfinished and resume))
            with disk_errors(self.partial):
                (self.partial / "parts").mkdir(exist_ok=True)
            write_json(self.partial / "manifest.json", plan, self.partial / "manifest.tmp")
        except BaseException:
            os.close(lock)
            raise
        return Run(self, lock, plan, may_replace=resume or overwrite)

    def lock(self) -> int:
        """An open handle that holds the lock on OUT.partial, which is made when missing."""
        self.partial.mkdir(exist_ok=True)
        handle = os.open(self.partial / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            take_lock(handle, self.final)
        except BaseException:
            os.close(handle)
            raise
        return handle

    def tidy(self) -> None:
        """Remove what a run killed just after publishing left beside its complete output."""
        if self.partial.exists():
            handle = self.lock()
            shutil.rmtree(self.partial)
            os.close(handle)

    def clear(self, *, everything: bool) -> None:
        """Remove what killed runs left half written, or all unfinished work; only under the lock."""
        for path in self.final.parent.glob(f".{glob.escape(self.final.name)}.tmp-*"):
            path.unlink()
        kept = {"lock"} if everything else {"lock", "manifest.json", "parts"}
        for path in self.partial.iterdir():
            if path.name not in kept and (everything or not path.match("part-*.json")):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


class Run:
    """The right to write one output; a context manager that leaves the parts for --resume unless published.

    Attributes
    ----------
    folder : Path
        OUT.partial: the run's own scratch may lie there too.
    """

    def __init__(self, output: Output, lock: int, plan: dict[str, Any], *, may_replace: bool) -> None:
        self.output, self.plan, self.folder = output, plan, output.partial
        self._lock: int | None = lock
        self._may_replace = may_replace
        self._metadata = file_metadata(plan["config"], plan["fingerprint"], plan["source"], plan["columns"])

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def part_path(self, index: int) -> Path:
        """Where part `index` lies."""
        return self.folder / "parts" / f"part-{index:05d}.parquet"

    def finished(self, index: int) -> dict[str, Any] | None:
        """The record {rows, bytes, crc32, stats} of a finished part, or None."""
        record = read_json(self.folder / f"part-{index:05d}.json")
        path = self.part_path(index)
        return record if record and path.exists() and path.stat().st_size == record["bytes"] else None

    def write_part(self, index: int, table: pa.Table, stats: dict[str, Any]) -> None:
        """Write a part, then the record that says it is finished.

        Raises
        ------
        CapacityError, TransientError
            When the disk is full or fails; finished parts stay.
        """
        path, temporary = self.part_path(index), self.folder / f"part-{index:05d}.tmp"
        counts = {name: stats[name] for name in ShardStats().answer() if name in stats}
        with disk_errors(self.folder, table.nbytes):
            record = write_rows(temporary, table.schema, [table], self._metadata, counts)
            os.replace(temporary, path)
            sync_folder(path.parent)
            write_json(self.folder / f"part-{index:05d}.json", {**record, "stats": stats}, temporary)

    def parts(self) -> list[dict[str, Any]]:
        """The records of the finished parts, in order."""
        found = (self.finished(index) for index in range(self.plan["parts"]))
        return [record for record in found if record is not None]

    def publish(
        self,
        *,
        counts: Values,
        metadata: dict[str, str] | None = None,
        replace_parts: Iterable[pa.Table] | None = None,
        extra: Values,
    ) -> None:
        """Put the output under its name, write the manifest, and remove the unfinished work.

        Parameters
        ----------
        counts : dict, or callable that returns one
            Sums over the whole run; rows are counted here. A callable is asked after the last row is written,
            when a finishing pass has counted too.
        metadata : dict, optional
            Further key-value pairs for files that are written now (a single file, finished parts).
        replace_parts : iterable of pa.Table, optional
            Rows of a finishing pass, which take the place of the parts' rows.
        extra : dict, or callable that returns one
            The report, for the manifest; likewise.
        """
        records = self.parts()
        if len(records) != self.plan["parts"] or not records:
            raise ValueError(f"{len(records)} of {self.plan['parts']} parts are finished")
        if self.output.occupied() and not self._may_replace:
            raise OutputError(
                f"{self.output.final} appeared during the run; the parts are kept", "--resume replaces it"
            )
        further = {**self._metadata, **(metadata or {})}
        with disk_errors(self.output.final, sum(record["bytes"] for record in records)):
            if self.output.single:
                files = [self._write_single(replace_parts, further, counts)]
            elif replace_parts is not None:
                files = self._write_finished(replace_parts, further)
            else:
                files = [{"name": self.part_path(index).name, **record} for index, record in enumerate(records)]
            kept = ("name", "rows", "bytes", "crc32")
            manifest = {
                **self.plan,
                "state": "complete",
                "counts": {**now(counts), "rows": sum(file["rows"] for file in files)},
                "files": [{name: file[name] for name in kept} for file in files],
                "report": now(extra),
            }
            self._rename("parts" if replace_parts is None else "finished", manifest)
        shutil.rmtree(self.folder)
        self._release()

    def _write_single(
        self, tables: Iterable[pa.Table] | None, metadata: dict[str, str], counts: Values
    ) -> dict[str, Any]:
        rows = part_tables(map(self.part_path, range(self.plan["parts"]))) if tables is None else tables
        record = write_rows(self.output.temporary, pq.read_schema(self.part_path(0)), rows, metadata, counts)
        return {"name": self.output.final.name, **record}

    def _write_finished(self, tables: Iterable[pa.Table], metadata: dict[str, str]) -> list[dict[str, Any]]:
        folder, schema, files = self.folder / "finished", pq.read_schema(self.part_path(0)), []
        folder.mkdir()
        for index, cuts in itertools.groupby(numbered_cuts(tables, FINISHED_PART_ROWS), key=lambda cut: cut[0]):
            name = f"part-{index:05d}.parquet"
            files.append({"name": name, **write_rows(folder / name, schema, (cut[1] for cut in cuts), metadata, {})})
        if not files:
            name = "part-00000.parquet"
            files.append({"name": name, **write_rows(folder / name, schema, [], metadata, {})})
        sync_folder(folder)
        return files

    def _rename(self, folder: str, manifest: dict[str, Any]) -> None:
        """Bring the files under OUT's name.

        A folder cannot be replaced in one step, so its manifest comes first: without OUT it means nothing,
        but OUT without it would not be known to be complete, and its parts have left the work folder.
        """
        output = self.output
        if os.path.lexists(output.final) and not (output.single and not output.final.is_dir()):
            os.rename(output.final, self.folder / "replaced")
        if output.single:
            os.replace(output.temporary, output.final)
        write_json(output.manifest, manifest, output.temporary)
        if not output.single:
            os.rename(self.folder / folder, output.final)
        sync_folder(output.final.parent)

    def leave(self) -> None:
        """Release the lock; finished parts stay for --resume, and without any nothing stays."""
        if self._lock is None:
            return
        if not self.parts():
            shutil.rmtree(self.folder, ignore_errors=True)
        self.output.temporary.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
