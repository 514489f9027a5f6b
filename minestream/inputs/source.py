"""Sources: inputs or arrays as checked batches of rows, with checksums that identify them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from minestream.errors import InputError, UsageError
from minestream.inputs.agreement import common_schema, common_vectors, names_of, no_rows
from minestream.inputs.aligned import Lane, paired
from minestream.inputs.columns import LABELS, VECTORS, Candidates, Columns, typed
from minestream.inputs.decode import (
    Place,
    Vectors,
    bad_rows,
    decode_ids,
    decode_plain,
    decode_vectors,
    filtered,
    lists_of,
    without_vector,
)
from minestream.inputs.files import open_inputs, open_vectors, table_of
from minestream.inputs.opened import Input
from minestream.inputs.partitions import partitioned, pruned
from minestream.inputs.read_options import ReadOptions, find_columns
from minestream.inputs.row_batch import Checked, Named, RowBatch, Sums, add_to
from minestream.inputs.stored import declared_as
from minestream.system.checksums import Checksum
from minestream.system.stores import output_as_input, unreadable
from minestream.system.threads import mapped
from minestream.system.values import many

WRITTEN_BY = b"minestream.version"
NO_ROWS = np.zeros(0, np.int64)
PEEKED_ROWS = 1024
Piece = tuple[Place, pa.RecordBatch]

_BAD_ROW_HINTS = {
    "not finite": "float16 overflows above 65504: store float32",
    "norm out of range": "rescale the vectors",
    "zero norm": "a zero vector has no direction: use another metric",
}


class Source:
    """Checked rows of one or more inputs; made by `open_source` and `arrays_source`.

    Attributes
    ----------
    options : ReadOptions
    columns : Columns
        The columns found.
    notes : list of str
        Why columns with the name of an id or a label are not used, one line each.
    dimension : int
        Length d of every vector, in 1..16384.
    dtype : np.dtype
        Element type as stored: float16, float32, float64 or int8.
    schema : pa.Schema
        The columns other than the embedding, in the types that batches have.
    rows : int or None
        Total rows; None for streams.
    label_type, id_type : pa.DataType or None
        Types of labels (plain) and ids (int64 or string).
    bad_rows : dict of str to int
        Bad rows dropped so far, by kind: "not finite", "zero norm", "norm out of range"; kinds that occurred.
    left_out : int
        Rows that did not meet `where`, after a full pass.
    outside : list of Named
        Those rows, if `every_id` asks for their ids.
    """

    def __init__(
        self, inputs: list[Input], npys: list[Input], columns: Columns, notes: list[str], options: ReadOptions
    ) -> None:
        self.columns = columns
        self.notes = [*notes, *(paired(inputs, npys) if npys else [])]
        repeated = [each.name for each in (*inputs, *npys) if each.times > 1]
        if repeated:
            more = f", {many(len(repeated) - 1, 'other file')} too" if len(repeated) > 1 else ""
            self.notes.append(f"{repeated[0]} is named more than once{more}: each file is read once")
        self.bad_rows: dict[str, int] = {}
        counts = [each.rows for each in inputs if each.rows is not None]
        self.rows = sum(counts) if len(counts) == len(inputs) else None
        self.options, where = options, options.where
        self._drop_bad = options.on_bad_rows == "drop"
        self._zero_is_bad = options.metric == "cosine" or options.normalize
        self.kinds = common_schema(inputs, columns)  # null for a column without any value, which is read as ints
        self.schema = pa.schema([field.with_type(typed(field.type)) for field in self.kinds])
        self.label_type = None if columns.label is None else self.schema.field(columns.label).type
        self.id_type = None if columns.id is None else self.schema.field(columns.id).type
        self._inputs, self._npys, self.where = inputs, npys, where
        self._read = inputs
        self.left_out = 0
        self.outside: list[Named] = []
        self._every_id = options.every_id and columns.id is not None
        if where is not None:
            for each in inputs:
                where.check(each.name, each.schema)
            # .npy files are aligned with whole inputs, and ids are wanted of all rows.
            self._read = inputs if npys or self._every_id else pruned(inputs, where)
        self._begun = self._complete = False
        self._file_rows: dict[str, int] = {}
        self._checksums: Sums = {}
        self._others: Sums = {}
        if npys and self.rows is not None:
            self._check_aligned(self.rows)
        looked = (npys, None, npys) if npys else (inputs, where, self._read)
        self._vectors = common_vectors(looked[0], columns.embedding, options.may_be_empty, self._drop_bad, *looked[1:])
        self.dtype = self._vectors.dtype
        self.dimension = self._dimension(int(self._vectors.length or 0))

    def _dimension(self, length: int) -> int:
        """How many values of the vectors count."""
        dims = self.options.dims
        if dims is None or not length:
            return length
        if dims > length:
            what = f"column {self.columns.embedding!r}: --dims {dims} of vectors of {length} values"
            raise InputError(f"{self._vectors.file}: {what}", f"--dims takes a number up to {length}")
        return dims

    @property
    def name(self) -> str:
        """What messages call it."""
        return names_of(self._inputs)

    @property
    def row_bytes(self) -> int:
        """What is read of a row, where the files say so."""
        names = [*self.schema.names, *([] if self.options.bare else [self.columns.embedding])]
        sides = (
            [sum(each.widths.get(name, 0) for name in names) for each in side] for side in (self._inputs, self._npys)
        )
        return sum(max(side, default=0) for side in sides)

    @property
    def condition(self) -> str:
        """The option that says which rows are read; "" when all are."""
        return "" if self.where is None else self.where.option

    def reads_as(self, column: str, kind: pa.DataType) -> None:
        """Read a column as a wider type from now on, that of the other table."""
        kind = typed(kind)
        self.schema = self.schema.set(self.schema.get_field_index(column), pa.field(column, kind))
        if column == self.columns.label:
            self.label_type = kind

    @property
    def repeatable(self) -> bool:
        """Whether it can be read more than once."""
        return all(each.repeatable for each in self._inputs)

    def _check_aligned(self, rows: int) -> None:
        vectors = sum(each.rows or 0 for each in self._npys)
        if vectors != rows:
            what = "label" if self._inputs[0].schema.names == [LABELS] else "row"
            raise InputError(
                f"{self._npys[0].name}: {many(vectors, 'vector')}, {self._inputs[0].name}: {many(rows, what)}",
                f"vectors and {what}s are aligned by position over all files: their numbers must be equal",
            )

    def batches(self, most_rows: int | None = None, threads: int = 1, ahead: int = 1) -> Iterator[RowBatch]:
        """All rows in order; each pass starts counts and checksums from zero.

        most_rows : of a batch, where fewer than the options' `batch_rows`
        threads : that read, and that decode and check what is read; 1: only the next batch is read while one is used
        ahead : batches that a thread reads of its part of the input before it waits

        Raises
        ------
        InputError, TransientError
            For anything that cannot be mined, with file, column and rows; for a failure to read that may pass.
        UsageError
            For a second pass over a stream.
        """
        if self._begun and not self.repeatable:
            raise UsageError("a stream can be read only once", "pass a table or a file to read it again")
        self._begin()
        beside = [] if self.options.bare else self._npys  # files of vectors
        names = self.schema.names + ([] if self._npys or self.options.bare else [self.columns.embedding])
        names += [] if self.where is None else [name for name in self.where.columns if name not in names]
        size = min(self.options.batch_rows, most_rows or self.options.batch_rows)
        lanes = [Lane(self._read, names or self._inputs[0].schema.names[:1], size, threads, ahead)]
        lanes += [Lane(beside, [VECTORS], size, threads, ahead)] if beside else []
        pieces = iter(partial(_next_pieces, lanes), [])
        rows = kept = 0
        for checked in mapped(self._checked, pieces, threads) if threads > 1 else map(self._checked, pieces):
            self._count(checked)
            rows += checked.rows
            if checked.batch is not None:
                kept += len(checked.batch.rows)
                yield checked.batch
        if beside:
            self._check_aligned(rows + lanes[0].skip())
        if kept == 0 and not self.options.may_be_empty:
            raise no_rows(self._inputs, self.where)
        self.left_out = (rows if self.rows is None else self.rows) - kept
        self._complete = True

    def _checked(self, pieces: list[Piece]) -> Checked:
        """Aligned pieces decoded and checked; changes nothing, so that several threads may do it."""
        count = pieces[0][1].num_rows
        found = Checked(count, {place.file: place.row + count for place, _ in pieces})
        pieces = self._meeting(pieces, found)
        if pieces[0][1].num_rows:
            found.batch = self._decoded(*pieces[0], *pieces[-1], found)
        return found

    def _count(self, checked: Checked) -> None:
        """Add what was found in the next pieces to counts and checksums."""
        self._file_rows |= checked.ends
        for every, found in ((self._checksums, checked.sums), (self._others, checked.others)):
            for file, of_file in found.items():
                for name, crc in of_file.items():
                    every.setdefault(file, {}).setdefault(name, Checksum()).join(crc)
        self.outside += checked.outside
        for kind, rows in checked.batch.kinds.items() if checked.batch else ():
            self.bad_rows[kind] = self.bad_rows.get(kind, 0) + len(rows)

    def _meeting(self, pieces: list[Piece], found: Checked) -> list[Piece]:
        """The rows of aligned pieces that meet the condition, which reads the columns of the first piece."""
        if self.where is None:
            return pieces
        mask = self.where.mask(pieces[0][1])
        if mask.all():
            return pieces
        kept, among = np.flatnonzero(mask), pa.array(mask)
        if self._every_id:
            place, batch = pieces[0]
            self._name(replace(place, kept=np.flatnonzero(~mask)), filtered(batch, pc.invert(among)), found)
        return [(replace(place, kept=kept), filtered(batch, among)) for place, batch in pieces]

    def _name(self, place: Place, batch: pa.RecordBatch, found: Checked) -> None:
        """Remember the ids of rows that do not meet the condition."""
        id, version = str(self.columns.id), self.columns.version
        ids = decode_ids(batch.column(id), id, place)
        versions = None if version is None else decode_plain(batch.column(version))
        add_to(found.others, place, {"ids left out": ids, "versions left out": versions})
        found.outside.append(Named(place.source_rows(batch.num_rows), ids, versions))

    def _begin(self) -> None:
        self._begun, self._complete = True, False
        self.bad_rows.clear()
        self.outside.clear()
        beside = [kind for kind, name in (("labels", self.columns.label), ("ids", self.columns.id)) if name is not None]
        kinds = {each.name: beside for each in self._inputs}
        kinds |= {each.name: ["vectors", *kinds.get(each.name, [])] for each in self._npys or self._inputs}
        self._file_rows = dict.fromkeys(kinds, 0)
        self._checksums = {name: {kind: Checksum() for kind in of_file} for name, of_file in kinds.items()}
        self._others = {}

    def _decoded(
        self, place: Place, batch: pa.RecordBatch, origin: Place, vector_batch: pa.RecordBatch, found: Checked
    ) -> RowBatch:
        """Decode and check a piece of rows, whose vectors come from `origin`, with its checksums."""
        columns, missing = self.columns, dict[str, np.ndarray]()
        vectors = np.empty((batch.num_rows, 0), self.dtype)
        if not self.options.bare:
            vectors, missing = self._matrix(vector_batch.column(columns.embedding), origin)
            vectors = np.ascontiguousarray(vectors[:, : self.dimension])
        try:
            labels = None if columns.label is None else self._plain(batch, columns.label)
            ids = None if columns.id is None else decode_ids(batch.column(columns.id), columns.id, place)
            parents = {name: self._plain(batch, name) for name in columns.levels}
            groups = None if columns.group is None else self._plain(batch, columns.group)
            versions = None if columns.version is None else self._plain(batch, columns.version)
            carried = {name: self._plain(batch, name) for name in columns.carry}
        except pa.ArrowException as error:
            raise unreadable(place.file, error) from error
        add_to(found.sums, origin, {"vectors": None if self.options.bare else vectors})
        add_to(found.sums, place, {"labels": labels, "ids": ids})
        others = {"groups": groups, "versions": versions} | {f"column {name}": each for name, each in carried.items()}
        others |= {f"level {name}": each for name, each in parents.items()}
        others["rows"] = None if self.where is None else pa.array(place.source_rows(len(vectors)))
        add_to(found.others, place, others)
        kinds = missing
        if not self.options.bare:
            vectors, kinds = self._without_bad(vectors, origin, missing)
        bad = np.zeros(len(vectors), bool)
        bad[np.concatenate([NO_ROWS, *kinds.values()])] = True
        carry = pa.RecordBatch.from_pydict(carried) if carried else None
        return RowBatch(
            place.source_rows(len(vectors)), vectors, labels, ids, groups, carry, bad, versions, kinds,
            tuple(parents.values()),
        )  # fmt: skip

    def _plain(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        """A column in the plain type that all inputs share."""
        values, kind = decode_plain(batch.column(name)), self.schema.field(name).type
        return values if values.type == kind else values.cast(kind)

    def _matrix(self, column: pa.Array, place: Place) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The vectors of a piece (m, d), and the rows without one by kind, which hold NaN (int8: 0)."""
        name = self.columns.embedding
        missing = without_vector(column, self._vectors.length) if self._drop_bad else {}
        if not missing:
            vectors = decode_vectors(column, name, place)
            self._vectors.must_match(Vectors(place.file, vectors.dtype, vectors.shape[1]), place.rows([0]))
            return vectors, {}
        present = np.setdiff1d(np.arange(len(column)), np.concatenate(list(missing.values())))
        filler = 0 if self.dtype == np.int8 else np.nan
        whole = np.full((len(column), self._vectors.length or 0), filler, self.dtype)
        if present.size:
            kept = replace(place, kept=present if place.kept is None else place.kept[present])
            whole[present], _ = self._matrix(lists_of(column).take(pa.array(present)), kept)
        return whole, missing

    def _without_bad(
        self, vectors: np.ndarray, place: Place, missing: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """`vectors` with zeros in bad and `missing` rows, and these by kind; InputError unless they are dropped."""
        absent = np.concatenate([NO_ROWS, *missing.values()])
        found = {kind: np.setdiff1d(rows, absent) for kind, rows in bad_rows(vectors, self._zero_is_bad).items()}
        found = {kind: rows for kind, rows in (missing | found).items() if rows.size}
        if found:
            vectors = vectors.copy()
        for kind, rows in found.items():
            if not self._drop_bad:
                why = "" if kind == "not finite" and self.dtype != np.float16 else f"{_BAD_ROW_HINTS[kind]}; "
                hint = f"{why}leave such rows out with --on-bad-rows drop"
                raise place.refusal(self.columns.embedding, kind, rows, hint)
            vectors[rows] = 0
        return vectors, found

    @property
    def stored(self) -> pa.Schema:
        """The columns that every input has, as the first one stores them."""
        first = self._inputs[0].schema
        names = {name for each in self._inputs for name in each.schema.names if first.names.count(name) == 1}
        shared = names.intersection(*(each.schema.names for each in self._inputs))
        return pa.schema([field for field in first if field.name in shared], first.metadata)

    def has_pictures(self, column: str) -> None:
        """Raise InputError unless every input has a column that may hold pictures, UsageError for a stream."""
        if not self.repeatable:
            raise UsageError("--image is not for a stream, which is read only once", "profile a table or a file")
        for each in self._inputs:
            Candidates(each.name, each.schema).checked("image", column)

    def peek(self, columns: list[str], rows: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        """Some columns of a few rows, unchecked; nothing of what can be read only once.

        rows : (m,) int64, ascending positions in the unfiltered source
        """
        first = 0
        for each in self._inputs if self.repeatable else ():
            if each.rows is not None and not np.any((rows >= first) & (rows < first + each.rows)):
                first += each.rows
                continue
            for batch in each.read(columns, PEEKED_ROWS):
                here = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + batch.num_rows)]
                yield from zip(here.tolist(), batch.take(pa.array(here - first)).to_pylist(), strict=True)
                first += batch.num_rows

    def identity(self) -> list[dict[str, Any]]:
        """Name, rows and checksums of each file, after a full pass; they do not depend on how rows were cut.

        Returns
        -------
        list of dict
            ``{"name", "rows", "crc32"}``; `name` is relative to the inputs' common folder, or ``<memory>``,
            ``<stream>``; `crc32` has "vectors", "labels", "ids", as far as they are in this file.
        """
        if not self._complete:
            raise UsageError("the identity is known after a full pass only", "go through batches() to the end first")
        sums = {file: {kind: crc.value() for kind, crc in of_file.items()} for file, of_file in self._checksums.items()}
        return [
            {"name": name, "rows": self._file_rows[file] if rows is None else rows, "crc32": sums[file]}
            for file, (name, rows) in self.named().items()
        ]

    def others(self) -> list[dict[str, Any]]:
        """Checksums of the columns that `identity` leaves out and, under a condition, of the numbers of the rows read.

        Returns
        -------
        list of dict
            ``{"name", "crc32"}``, one entry a file that has any. Manifests hold them, the bytes of an output do not.
        """
        sums = {
            file: {name: f"{crc.value():08x}" for name, crc in every.items()} for file, every in self._others.items()
        }
        return [{"name": name, "crc32": sums[file]} for file, (name, _) in self.named().items() if sums.get(file)]

    def named(self) -> dict[str, tuple[str, int | None]]:
        """Each file's name in the identity, relative to the common folder, and its number of rows if known."""
        inputs = [*self._inputs, *self._npys]
        folders = [os.path.dirname(str(each.path)) for each in inputs if each.on_disk]
        common = os.path.commonpath(folders) if folders else ""
        return {
            each.name: (
                Path(os.path.relpath(str(each.path), common)).as_posix() if each.on_disk else each.name,
                each.rows,
            )
            for each in inputs
        }


def _next_pieces(lanes: list[Lane]) -> list[Piece]:
    """As many rows as all lanes have now, of each lane; none at the end."""
    count = min(lane.ready() for lane in lanes)
    return [lane.take(count) for lane in lanes] if count else []


def open_source(inputs: Any, options: ReadOptions | None = None, **other: Any) -> Source:
    """Open inputs as a source: find the columns, and check what can be checked without reading all rows.

    Parameters
    ----------
    inputs : path, Arrow object, or list of either
        Parquet and Arrow IPC files, folders (their ``*.parquet``, recursively), glob patterns; or tables, record
        batches, readers, objects with ``__arrow_c_stream__``. Files in sorted path order, each once.
    options : ReadOptions, optional
    **other
        Fields of ReadOptions, which win.

    Raises
    ------
    InputError, UsageError, TransientError
        For what cannot be mined, for options that make no sense, for a failure to read that may pass.

    Notes
    -----
    Reads footers and headers, the first rows of list columns and streams, and, where several columns may be a label,
    these columns if they have at most 50,000 rows.
    """
    options = replace(options or ReadOptions(), **other)
    opened = partitioned(open_inputs(inputs))
    for each in opened:
        if WRITTEN_BY in (each.schema.metadata or {}):
            raise output_as_input(each.name, each.schema.metadata)
    if not options.may_be_empty and all(each.rows == 0 for each in opened):
        raise no_rows(opened)
    npys = [] if options.vectors is None else open_vectors(options.vectors)
    first, declared = opened[0], options.vector_type
    seen = Candidates(first.name, first.schema, first.distinct, declared, first.as_text)
    columns, notes = find_columns(seen, options, VECTORS if npys else None)
    opened, npys = ([declared_as(each, columns.embedding, declared) for each in side] for side in (opened, npys))
    return Source(opened, npys, columns, notes, options)


def arrays_source(
    embeddings: Any, labels: Any, options: ReadOptions | None = None, *, ids: Any = None, groups: Any = None,
    name: str = "embedding", **other: Any,
) -> Source:  # fmt: skip
    """A source over arrays: NumPy, torch tensors (any device, bfloat16 becomes float32) or lists.

    Parameters
    ----------
    embeddings : array (n, d) or list of n vectors
        float16, float32, float64 or int8; not copied when C-contiguous.
    labels, ids, groups : array (Arrow too) or list of length n, or None
        Like the columns of a file; lists of lists are multi-labels.
    name : str
        The name of the column of vectors in messages.
    options, **other
        See `open_source`, which also says what is raised.
    """
    options = replace(options or ReadOptions(), embedding=name, **other)
    if labels is None and options.require_label:
        raise InputError(
            "no labels", "pass one label a row, or list the positives: qrels=[(row, row of a positive), ...]"
        )
    table = table_of(embeddings, {"label": labels, "id": ids, "group": groups}, name=name)
    label, id, group = (role if role in table.column_names else None for role in ("label", "id", "group"))
    return open_source(table, options, label=label, id=id, group_column=group)
