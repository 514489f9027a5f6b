"""Which column is what: detection by name and type, decoding to plain Arrow and NumPy, and checksums."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from minestream.errors import InputError, UsageError, nearest_name

EMBEDDING_NAMES = ("embedding", "embeddings", "vector", "emb")
LABEL_NAMES = ("label", "labels", "class", "target", "y")
ID_NAMES = ("id", "_id", "docid", "doc_id", "pid", "qid")

ELEMENTS: dict[pa.DataType, np.dtype] = {
    pa.float16(): np.dtype(np.float16),
    pa.float32(): np.dtype(np.float32),
    pa.float64(): np.dtype(np.float64),
    pa.int8(): np.dtype(np.int8),
}
MAX_DIMENSION = 16384
SHOWN_ROWS = 5


@dataclass(frozen=True)
class Columns:
    """The columns that were found, by name."""

    embedding: str
    label: str | None
    id: str | None
    group: str | None
    carry: tuple[str, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """The columns beside the embedding, each once."""
        named = [name for name in (self.label, self.id, self.group) if name is not None]
        return tuple(dict.fromkeys([*named, *self.carry]))


@dataclass(frozen=True)
class Place:
    """Where a run of rows comes from: a file, its first row there, and its first row in the source."""

    file: str
    row: int
    start_row: int

    def rows(self, positions: Sequence[int] | np.ndarray) -> str:
        """Up to five of `positions` (counted from this place) in words."""
        shown = [int(position) for position in positions[:SHOWN_ROWS]]
        more = "" if len(positions) <= SHOWN_ROWS else f" and {len(positions) - SHOWN_ROWS} more"
        noun = "row" if len(positions) == 1 else "rows"
        inside = ", ".join(str(self.row + position) for position in shown)
        if self.row == self.start_row:
            return f"{noun} {inside}{more}"
        source = ", ".join(str(self.start_row + position) for position in shown)
        return f"{noun} {inside}{more} (in the whole source: {source})"


# ---------------------------------------------------------------- types


def storage(kind: pa.DataType) -> pa.DataType:
    """The type that an extension type is stored as; any other type as it is."""
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pat.is_string(kind) or pat.is_large_string(kind) or pat.is_string_view(kind))


def plain(kind: pa.DataType) -> pa.DataType:
    """`kind` without dictionaries, large offsets or views: the type that rows are handed on in."""
    kind = storage(kind)
    if pat.is_dictionary(kind):
        return plain(kind.value_type)
    if _is_text(kind):
        return pa.string()
    if _is_list(kind):
        return pa.list_(plain(kind.value_type))
    return kind


def _is_embedding(kind: pa.DataType) -> bool:
    kind = storage(kind)
    return _is_list(kind) and kind.value_type in ELEMENTS


def _is_atom(kind: pa.DataType) -> bool:
    return bool(pat.is_integer(kind) or pat.is_string(kind) or pat.is_boolean(kind))


def _is_label(kind: pa.DataType) -> bool:
    kind = plain(kind)
    return _is_atom(kind.value_type if pat.is_list(kind) else kind)


def _is_group(kind: pa.DataType) -> bool:
    return _is_atom(plain(kind))


def _is_id(kind: pa.DataType) -> bool:
    kind = plain(kind)
    return bool(pat.is_integer(kind) or pat.is_string(kind))


def _is_carried(kind: pa.DataType) -> bool:
    kind = plain(kind)
    return not (pat.is_struct(kind) or pat.is_map(kind) or pat.is_union(kind) or pat.is_null(kind))


def _embedding_hint(kind: pa.DataType) -> str:
    """How to turn a column of the wrong type `kind` into an embedding column."""
    kind = storage(kind)
    if pat.is_binary(kind) or pat.is_large_binary(kind) or pat.is_fixed_size_binary(kind):
        return (
            "convert it: pyarrow.FixedSizeListArray.from_arrays("
            'numpy.frombuffer(b"".join(column.to_pylist()), "float32"), d)'
        )
    if _is_text(kind):
        return (
            "convert it: pyarrow.array([json.loads(v) for v in column.to_pylist()], pyarrow.list_(pyarrow.float32()))"
        )
    if pat.is_struct(kind):
        if {"type", "size", "indices", "values"} <= {field.name for field in kind}:
            return (
                "a Spark vector: write it with pyspark.ml.functions.vector_to_array, or, when all are dense, "
                'convert it: pyarrow.compute.struct_field(column, "values")'
            )
        return 'take the list out of it: pyarrow.compute.struct_field(column, "name of the field")'
    if pat.is_list_view(kind) or pat.is_large_list_view(kind):
        return "convert it: column.cast(pyarrow.list_(pyarrow.float32()))"
    if _is_list(kind):
        return _element_hint(storage(kind.value_type))
    if pat.is_floating(kind):
        return (
            "one number a row is no vector; combine such columns: pyarrow.FixedSizeListArray.from_arrays("
            "numpy.column_stack([table[name] for name in names]).ravel(), len(names))"
        )
    return "an embedding is a fixed_size_list, list or large_list of float16, float32, float64 or int8"


def _element_hint(element: pa.DataType) -> str:
    if element == pa.uint8():
        return (
            "convert it without loss: column.cast(pyarrow.list_(pyarrow.float16())); "
            "subtracting 128 to get int8 would change cosine and dot"
        )
    if pat.is_integer(element):
        return "convert it: column.cast(pyarrow.list_(pyarrow.float32()))"
    if _is_list(element):
        return "several vectors a row: pool them to one, or write one row a vector"
    return "the elements must be float16, float32, float64 or int8"


def _label_hint(kind: pa.DataType) -> str:
    kind = plain(kind)
    if pat.is_floating(kind.value_type if pat.is_list(kind) else kind):
        return "float labels compare badly: cast them, column.cast(pyarrow.int64()), or bin them"
    return (
        "a label is an int, string, bool or dictionary of those, or a list of them: "
        "cast it, column.cast(pyarrow.string())"
    )


def _id_hint(kind: pa.DataType) -> str:
    if pat.is_floating(kind):
        return "float ids are not exact: cast them, column.cast(pyarrow.int64()), or name others with --id"
    return "an id is an int or a string: cast it, column.cast(pyarrow.string()), or name others with --id"


def _group_hint(kind: pa.DataType) -> str:
    return "a group is an int, string, bool or dictionary of those: cast it, column.cast(pyarrow.string())"


def _carry_hint(kind: pa.DataType) -> str:
    return "carry plain columns: numbers, strings, lists; take single fields out of a struct"


@dataclass(frozen=True)
class _Role:
    option: str
    names: tuple[str, ...]
    fits: Callable[[pa.DataType], bool]
    hint: Callable[[pa.DataType], str]


_ROLES: dict[str, _Role] = {
    "embedding": _Role("--embedding", EMBEDDING_NAMES, _is_embedding, _embedding_hint),
    "label": _Role("--label", LABEL_NAMES, _is_label, _label_hint),
    "id": _Role("--id", ID_NAMES, _is_id, _id_hint),
    "group": _Role("--group-column", (), _is_group, _group_hint),
    "carry": _Role("--carry", (), _is_carried, _carry_hint),
}


# ---------------------------------------------------------------- detection


@dataclass(frozen=True)
class Detection:
    """What detection looks at.

    Parameters
    ----------
    file : str
        Name of the file, for messages.
    schema : pa.Schema
        Its schema.
    distinct : callable
        ``distinct(name)`` is (rows, distinct values) of a column where counting is cheap, else None.
    """

    file: str
    schema: pa.Schema
    distinct: Callable[[str], tuple[int, int] | None]

    def _describe(self, name: str) -> str:
        counted = self.distinct(name)
        values = "" if counted is None else f", {counted[1]} distinct values in {counted[0]} rows"
        return f"{name} ({self._kind(name)}{values})"

    def _kind(self, name: str) -> pa.DataType:
        """The type of the first column of this name (looking it up by name fails where two share it)."""
        return self.schema.field(self.schema.names.index(name)).type

    def _listed(self, names: Sequence[str]) -> str:
        shown = "; ".join(self._describe(name) for name in names[:12])
        return shown + (f"; and {len(names) - 12} more" if len(names) > 12 else "") if names else "none"

    def checked(self, role: str, name: str) -> str:
        """`name`, when it is one column of a type that fits `role`.

        Raises
        ------
        InputError
            If the column is missing, there twice, or of another type.
        """
        rule = _ROLES[role]
        count = self.schema.names.count(name)
        if count == 0:
            raise InputError(f"{self.file}: no column {name!r} ({rule.option})", nearest_name(name, self.schema.names))
        if count > 1:
            raise InputError(f"{self.file}: {count} columns are named {name!r}", "rename all but one of them")
        kind = self._kind(name)
        if not rule.fits(kind):
            raise InputError(f"{self.file}: column {name!r} cannot be the {role}: its type is {kind}", rule.hint(kind))
        return name

    def by_name(self, role: str, taken: set[str]) -> str | None:
        """The first column with one of the role's names whose type fits, case-sensitive names first.

        Raises
        ------
        InputError
            If such names exist but none has a type that fits.
        """
        rule = _ROLES[role]
        free = [name for name in self.schema.names if name not in taken]
        found = [name for name in rule.names if name in free]
        found += [name for known in rule.names for name in free if name.lower() == known and name not in found]
        for name in found:
            if rule.fits(self._kind(name)):
                return self.checked(role, name)
        return self.checked(role, found[0]) if found else None

    def embedding(self, taken: set[str]) -> str:
        """The embedding column: by name, else the only one of a type that fits."""
        named = self.by_name("embedding", taken)
        if named is not None:
            return named
        fields = [field for field in self.schema if field.name not in taken]
        fitting = [field.name for field in fields if _is_embedding(field.type)]
        if len(fitting) == 1:
            return self.checked("embedding", fitting[0])
        if fitting:
            raise InputError(
                f"{self.file}: several columns may be the embedding: {self._listed(fitting)}",
                f"name one: --embedding {fitting[0]}",
            )
        raise InputError(
            f"{self.file}: no embedding column found; columns: {self._listed(self.schema.names)}",
            self._no_embedding_hint(fields),
        )

    def _no_embedding_hint(self, fields: list[pa.Field]) -> str:
        scalars = [field for field in fields if pat.is_floating(field.type)]
        if len(scalars) > 1:
            return f"{len(scalars)} columns hold one float each: " + _embedding_hint(scalars[0].type)
        hints = [_embedding_hint(field.type) for field in fields if _looks_convertible(field.type)]
        return hints[0] if hints else _embedding_hint(pa.null())

    def label(self, taken: set[str], carry: set[str]) -> str:
        """The label column: by name, else the only one of a type that fits and that repeats a value."""
        named = self.by_name("label", taken)
        if named is not None:
            return named
        free = [f.name for f in self.schema if f.name not in taken | carry and _is_label(f.type)]
        fitting = [name for name in free if not self._all_differ(name)]
        if len(fitting) == 1 and len(free) == 1:
            return self.checked("label", fitting[0])
        what = "several columns may be the label" if len(free) > 1 else "no label column found; candidates"
        hint = f"name one: --label {(fitting or free)[0]}" if free else f"columns: {self._listed(self.schema.names)}"
        raise InputError(f"{self.file}: {what}: {self._listed(free)}", hint)

    def _all_differ(self, name: str) -> bool:
        counted = self.distinct(name)
        return counted is not None and counted[0] == counted[1] > 1


def _looks_convertible(kind: pa.DataType) -> bool:
    kind = storage(kind)
    return bool(_is_list(kind) or pat.is_struct(kind) or pat.is_binary(kind) or pat.is_large_binary(kind))


def detect(
    seen: Detection,
    *,
    embedding: str | None,
    label: str | None,
    id: str | None,
    group_column: str | None,
    carry: tuple[str, ...],
    require_label: bool,
    has_vectors: bool,
) -> Columns:
    """Find the columns: names given win, then known names, then the only candidate of the right type.

    Parameters
    ----------
    seen : Detection
        Schema and counts of the first file.
    embedding, label, id, group_column : str or None
        Names the user gave.
    carry : tuple of str
        Columns to hand through.
    require_label : bool
        Whether a label must be found; otherwise it is taken only by name.
    has_vectors : bool
        Vectors come from elsewhere (``.npy``), so no embedding column is looked for.

    Raises
    ------
    InputError
        If a column is missing, ambiguous or of a wrong type.
    UsageError
        If the embedding is to be carried, or is named although vectors come from elsewhere.
    """
    if has_vectors and embedding is not None:
        raise UsageError("--embedding and --vectors exclude each other", "leave one of them out")
    given = {"embedding": embedding, "label": label, "id": id, "group": group_column}
    chosen = {role: seen.checked(role, name) for role, name in given.items() if name is not None}
    for name in carry:
        seen.checked("carry", name)
    taken = set(chosen.values())
    if not has_vectors and "embedding" not in chosen:
        chosen["embedding"] = seen.embedding(taken)
    taken |= {chosen["embedding"]} if "embedding" in chosen else set()
    if "id" not in chosen and (found := seen.by_name("id", taken)) is not None:
        chosen["id"] = found
        taken.add(found)
    if "label" not in chosen:
        found = seen.label(taken, set(carry)) if require_label else _optional_label(seen, taken)
        chosen |= {"label": found} if found is not None else {}
    name = chosen.get("embedding", "vectors")
    if name in carry and not has_vectors:
        raise UsageError(f"--carry {name}: the embedding itself cannot be carried", "join it back by row or id")
    return Columns(name, chosen.get("label"), chosen.get("id"), chosen.get("group"), tuple(dict.fromkeys(carry)))


def _optional_label(seen: Detection, taken: set[str]) -> str | None:
    try:
        return seen.by_name("label", taken)
    except InputError:
        return None


# ---------------------------------------------------------------- decoding


def decode_plain(array: pa.Array) -> pa.Array:
    """`array` in its plain type (see `plain`), without a copy where it is plain already."""
    while isinstance(array, pa.ExtensionArray):
        array = array.storage
    wanted = plain(array.type)
    return array if array.type == wanted else array.cast(wanted)


def decode_ids(array: pa.Array, name: str, place: Place) -> pa.Array:
    """Ids as int64 or string, never null.

    Raises
    ------
    InputError
        On a null, or an unsigned id beyond int64.
    """
    if array.null_count:
        empty = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
        raise InputError(
            f"{place.file}: column {name!r}: null id in {place.rows(empty)}",
            "fill the ids, or name another column with --id",
        )
    array = decode_plain(array)
    if pat.is_string(array.type):
        return array
    if array.type == pa.uint64():
        beyond = np.flatnonzero(array.to_numpy() > np.uint64(2**63 - 1))
        if beyond.size:
            raise InputError(
                f"{place.file}: column {name!r}: id beyond int64 in {place.rows(beyond)}",
                "cast it to a string: column.cast(pyarrow.string())",
            )
    return array.cast(pa.int64())


def decode_vectors(array: pa.Array, name: str, place: Place) -> np.ndarray:
    """A list-like column as a matrix; no copy, for it has no nulls and one length.

    Parameters
    ----------
    array : pa.Array, length m
        fixed_size_list, list or large_list of a type in `ELEMENTS`; may be a slice.
    name : str
        The column's name, for messages.
    place : Place
        Where the rows come from, for messages.

    Returns
    -------
    np.ndarray, shape (m, d)
        A read-only view of the column's values, dtype as stored.

    Raises
    ------
    InputError
        On null rows, null elements, or rows of different lengths.
    """
    while isinstance(array, pa.ExtensionArray):
        array = array.storage
    if array.null_count:
        empty = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
        raise InputError(
            f"{place.file}: column {name!r}: null embedding in {place.rows(empty)}",
            "drop these rows: table.filter(pyarrow.compute.is_valid(table[name]))",
        )
    rows = len(array)
    if pat.is_fixed_size_list(array.type):
        width = array.type.list_size
        lengths = np.full(rows, width)
    else:
        lengths = np.diff(array.offsets.to_numpy())
        width = int(lengths[0]) if rows else 0
    if (lengths != width).any():
        raise _ragged(lengths, width, name, place)
    flat = array.flatten()
    if flat.null_count:
        empty = np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False)) // width
        raise InputError(
            f"{place.file}: column {name!r}: null elements in {place.rows(np.unique(empty))}",
            "fill them or drop these rows",
        )
    matrix: np.ndarray = flat.to_numpy(zero_copy_only=True).reshape(rows, width)
    return matrix


def _ragged(lengths: np.ndarray, width: int, name: str, place: Place) -> InputError:
    other = np.flatnonzero(lengths != width)
    shown = ", ".join(str(length) for length in lengths[other[:SHOWN_ROWS]])
    return InputError(
        f"{place.file}: column {name!r}: vectors of different lengths: {place.rows([0])} has {width}, "
        f"{place.rows(other)} have {shown}",
        "every row needs the same length: drop or mend these rows",
    )


# ---------------------------------------------------------------- checksums


class ColumnChecksum:
    """A running CRC-32 of a column that does not depend on how its rows are cut.

    A column is several streams (values, lengths, validity), each with its own CRC-32; the checksum is the
    CRC-32 of their little-endian 4-byte values. Cost: one pass over the bytes, interpreter lock released.
    """

    def __init__(self) -> None:
        self._streams: list[int] = []

    def add_matrix(self, matrix: np.ndarray) -> None:
        """Add rows of a C-contiguous matrix (m, d) by their raw little-endian bytes."""
        self._add(0, matrix)

    def add(self, array: pa.Array) -> None:
        """Add rows of a plain array (ints, bools, strings, or lists of them), nulls as zero or empty."""
        stream = 0
        while True:
            self._add(stream, array.is_valid().to_numpy(zero_copy_only=False).view(np.uint8))
            if not pat.is_list(array.type):
                break
            lengths = pc.fill_null(pc.list_value_length(array), 0)
            self._add(stream + 1, lengths.to_numpy().astype("<i4", copy=False))
            array = array.flatten()
            stream += 2
        if pat.is_string(array.type):
            offsets, text = _text_bytes(array)
            self._add(stream + 1, np.diff(offsets).astype("<i4", copy=False))
            self._add(stream + 2, text)
        else:
            filled = pc.fill_null(array, False if pat.is_boolean(array.type) else 0)
            self._add(stream + 1, filled.to_numpy(zero_copy_only=False))

    def _add(self, stream: int, values: np.ndarray) -> None:
        while len(self._streams) <= stream:
            self._streams.append(0)
        raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self._streams[stream] = zlib.crc32(raw.data, self._streams[stream])

    def value(self) -> int:
        """The checksum so far, in [0, 2^32)."""
        return zlib.crc32(struct.pack(f"<{len(self._streams)}I", *self._streams))


def _text_bytes(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (m + 1,) and the bytes they span, of a string array that may be a slice; nulls are empty."""
    filled = pc.fill_null(array, "")
    _, ends, text = filled.buffers()
    if len(filled) == 0 or ends is None:
        return np.zeros(1, np.int32), np.zeros(0, np.uint8)
    offsets = np.frombuffer(ends, np.int32)[filled.offset : filled.offset + len(filled) + 1]
    data = np.frombuffer(text, np.uint8) if text is not None else np.zeros(0, np.uint8)
    return offsets, data[offsets[0] : offsets[-1]]
