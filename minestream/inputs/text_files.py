"""CSV and JSON lines as tables: a first pass finds the types of the columns, and rows are read block by block."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from minestream.errors import InputError
from minestream.inputs.columns import is_list, numbered
from minestream.inputs.decode import as_array, lists_from
from minestream.inputs.listing import AnyFile
from minestream.inputs.opened import Input, opened

BLOCK_BYTES = 4 << 20  # read at a time; no row of CSV may be longer
PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_INTS, _FLOATS = pa.list_(pa.int64()), pa.list_(pa.float64())
_KINDS = (pa.int64(), pa.float64(), pa.bool_(), _INTS, _FLOATS)  # what texts are read as: the first that fits all
_LIST = r"^\s*[\[({][-+\d.,\seEnaifNAIFty]*[\])}]\s*$"
_NUMBER = r"^[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|[nN]a[nN]|[iI]nf(inity)?)$"
_COLUMN, _NAMED = r"Column\(/([^/)]*)[^)]*\)", r"column '\1'"  # as Arrow names one, and as we do
_ONE_KIND = "write values of one kind in a column, or null"
_LINES = "write one object a line"
_LISTED = f"{_LINES}, without a list around them: jq -c '.[]' in.json > out.jsonl"


def _unpacked(path: AnyFile) -> Any:
    """The file, open for reading from its beginning, without compression."""
    codec, handle = PACKED.get(Path(str(path)).suffix.lower()), opened(path)
    return handle if codec is None else pa.CompressedInputStream(handle, codec)


# ---------------------------------------------------------------- CSV


def open_csv(path: AnyFile, name: str, delimiter: str = ",") -> Input:
    """A CSV file whose first line names the columns. An empty cell is null.

    A column of texts such as "[0.1, 0.2]" is one of lists. Columns of numbers that differ in a number in their names,
    counted from 0 or 1, are also coordinates of one column of lists, which has the name before the number.

    Cost: two passes over the text. Holds a block of it.
    """
    texts = _Texts(path, name, delimiter)
    seen, rows = {each: _Seen() for each in texts.header}, 0
    for batch in texts.blocks([]):
        rows += batch.num_rows
        for each, column in zip(batch.schema.names, batch.columns, strict=True):
            seen[each].see(column)
    fields = [pa.field(each, seen[each].kind) for each in texts.header]
    combined = _coordinates(texts.header, seen)
    fields += [pa.field(each, pa.list_(pa.float64(), len(parts))) for each, parts in combined.items()]
    schema = pa.schema(fields)

    def reader(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        stored = dict.fromkeys(each for name in names for each in combined.get(name, [name]))
        for batch in texts.blocks(list(stored)):
            yield pa.record_batch(
                [_joined([batch.column(part) for part in combined[each]]) if each in combined
                 else _typed(batch.column(each), schema.field(each).type) for each in names], names
            )  # fmt: skip

    def cell(column: str, row: int) -> str:
        for batch in texts.blocks(combined.get(column, [column])):
            if row < batch.num_rows:
                return _no_number(batch.slice(row, 1), column not in combined)
            row -= batch.num_rows
        return ""

    return Input(name, schema, rows, reader, as_text=True, cell=cell)


class _Texts:
    """A CSV file as blocks of rows, whose cells are texts or null."""

    def __init__(self, path: AnyFile, name: str, delimiter: str) -> None:
        from pyarrow import csv

        with _unpacked(path) as handle:
            line = handle.read(BLOCK_BYTES).partition(b"\n")[0]
        if delimiter.encode() not in line and b";" in line:
            delimiter = ";"
        self._path, self._name = path, name
        self._parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        self._reading = csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
        with self._explained(), _unpacked(path) as handle:
            self.header: list[str] = csv.open_csv(handle, self._reading, self._parsing).schema.names

    def blocks(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Rows of these columns; of all, where none is named."""
        from pyarrow import csv

        texts = csv.ConvertOptions(
            column_types=dict.fromkeys(self.header, pa.string()), include_columns=names, null_values=[""],
            strings_can_be_null=True, quoted_strings_can_be_null=True,
        )  # fmt: skip
        with self._explained(), _unpacked(self._path) as handle:
            yield from csv.open_csv(handle, self._reading, self._parsing, texts)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Name the row that Arrow cannot read, which counts the header, from 1."""
        try:
            yield
        except pa.ArrowInvalid as error:
            found = re.search(r"Row #(\d+): (.*)", str(error), re.DOTALL)
            if found is None:
                raise
            row, what = int(found[1]) - 2, " ".join(found[2].split())[:120]
            raise InputError(f"{self._name}: {what} in row {row}", "every row needs a cell for each name") from error


class _Seen:
    """What a column of texts can be read as, by those seen so far.

    Whether there are lists, and `numeric` values, the first ones say: a bad vector later is a bad row, and no text.
    """

    def __init__(self) -> None:
        self._left: list[pa.DataType] = []
        self._begun = self.numeric = False

    def see(self, texts: pa.Array) -> None:
        """Take further texts."""
        values = texts.drop_null()
        if not len(values):
            return
        if not self._begun:
            lists = _most(values, _LIST)
            self._left = [kind for kind in _KINDS if is_list(kind) == lists]
            self.numeric = _most(values, rf"^\s*{_NUMBER.strip('^$')}\s*$")
        self._begun = True
        self._left = [kind for kind in self._left if _reads(values, kind)]

    @property
    def kind(self) -> pa.DataType:
        """The type; null where there was no value."""
        return (self._left or [pa.string()])[0] if self._begun else pa.null()


def _most(texts: pa.Array, pattern: str) -> bool:
    """Whether at least half of the texts match."""
    return bool(2 * pc.sum(pc.match_substring_regex(texts, pattern)).as_py() >= len(texts))


def _reads(texts: pa.Array, kind: pa.DataType) -> bool:
    """Whether all texts can be read as `kind`; of lists, whether whole numbers are enough."""
    if is_list(kind):
        return kind != _INTS or not pc.any(pc.match_substring_regex(texts, r"[^-\d,\s\[\](){}]")).as_py()
    try:
        _typed(texts, kind)
    except pa.ArrowInvalid:
        return False
    return True


def _typed(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Texts as values of a type."""
    if pat.is_string(kind):
        return texts
    return _lists(texts, kind) if is_list(kind) else pc.cast(pc.utf8_trim_whitespace(texts), kind)


def _lists(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Lists from texts such as "[0.1, 0.2]", "[0.1 0.2]" or "{0.1,0.2}"; what is no number in them is null."""
    bare = pc.utf8_trim(texts, " \t\r\n[](){}")
    commas = pc.any(pc.match_substring(bare, ",")).as_py()
    pieces = pc.split_pattern(bare, ",") if commas else pc.ascii_split_whitespace(bare)
    lengths = np.where(pc.fill_null(pc.binary_length(bare), 0), pc.fill_null(pc.list_value_length(pieces), 0), 0)
    flat = as_array(pieces.filter(pa.array(lengths > 0))).flatten()
    return lists_from(lengths, _numbers(flat, kind.value_type), texts.is_null())


def _coordinates(header: list[str], seen: dict[str, _Seen]) -> dict[str, list[str]]:
    """The columns that are coordinates of one vector each, in order, by the name that they have in common."""
    return {
        prefix: [of[number] for number in sorted(of)]
        for prefix, of in numbered(each for each in header if seen[each].numeric).items()
        if prefix not in header and len(of) > 1 and sorted(of) in ([*range(len(of))], [*range(1, len(of) + 1)])
    }


def _joined(coordinates: list[pa.Array]) -> pa.Array:
    """Columns of texts as one of lists of numbers; a cell without a number is a null element."""
    width = len(coordinates)
    matrix = np.empty((len(coordinates[0]), width))
    absent = np.empty(matrix.shape, bool)
    for at, column in enumerate(coordinates):
        values = _numbers(column, pa.float64())
        matrix[:, at] = values.to_numpy(zero_copy_only=False)
        absent[:, at] = values.is_null().to_numpy(zero_copy_only=False)
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel(), mask=absent.ravel()), width)


def _no_number(row: pa.RecordBatch, lists: bool) -> str:
    """The first text of a row, or the first within a list, that is no number, in words; "" where there is none."""
    for name, (text,) in row.to_pydict().items():
        bare = (text or "").strip(" \t\r\n[](){}") if lists else text or ""
        for piece in bare.split("," if "," in bare else None) if lists else [bare]:
            if not re.match(_NUMBER, piece.strip()):
                what = f"{piece.strip()[:40]!r}, no number," if piece.strip() else "no number"
                return f"column {name!r} holds {what}"
    return ""


def _numbers(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Texts as numbers; what is none is null."""
    texts = pc.utf8_trim_whitespace(texts)
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        numbers = pc.match_substring_regex(texts, _NUMBER if pat.is_floating(kind) else r"^-?\d{1,18}$")
        return pc.if_else(numbers, texts, None).cast(kind)


# ---------------------------------------------------------------- JSON lines


def open_json_lines(path: AnyFile, name: str) -> Input:
    """A file with one JSON object a line, whose keys are the columns; a key that a line lacks is null.

    Cost: two passes over the text. Holds a block of it.

    Raises
    ------
    InputError
        For a line that is no object, or a column of several types, with its row.
    """
    schema, rows = pa.schema([]), 0
    for first, table in _tables(path, name):
        rows = first + len(table)
        found = pa.schema([(field.name, _as_written(field.type)) for field in table.schema])
        try:
            schema = pa.unify_schemas([schema, found], promote_options="permissive")
        except pa.ArrowException as error:
            raise InputError(f"{name}: rows {first} to {rows - 1}: {error}", _ONE_KIND) from error

    if not rows:
        raise InputError(f"{name}: no rows", "there is nothing to mine")

    def reader(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        for _, table in _tables(path, name, pa.schema([schema.field(each) for each in names])):
            yield from table.to_batches()

    return Input(name, schema, rows, reader, as_text=True)


def _tables(path: AnyFile, name: str, schema: pa.Schema | None = None) -> Iterator[tuple[int, pa.Table]]:
    """Blocks of lines as tables, of the columns of `schema` if there is one, each with its first row."""
    from pyarrow import json

    others = "infer" if schema is None else "ignore"
    parsing, first = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=others), 0
    for block in _lines(path):
        reading = json.ReadOptions(use_threads=False, block_size=len(block) + 1)
        try:
            table = json.read_json(pa.BufferReader(block), reading, parsing)
        except pa.ArrowInvalid as error:
            listed = first == 0 and re.match(rb"\s*\[\s*\{", block)
            raise _no_object(name, first, str(error), _LISTED if listed else _LINES) from error
        yield first, table
        first += len(table)


def _lines(path: AnyFile) -> Iterator[bytes]:
    """The text in blocks of whole lines."""
    rest = b""
    with _unpacked(path) as handle:
        while piece := handle.read(BLOCK_BYTES):
            whole, mark, rest = (rest + piece).rpartition(b"\n")
            if whole.strip():
                yield whole + mark
    if rest.strip():
        yield rest


def _no_object(name: str, first: int, message: str, hint: str) -> InputError:
    """The error for what Arrow says of a block of lines that begins at row `first`."""
    text = " ".join(message.removeprefix("JSON parse error: ").split())
    text = re.sub(r"in row (\d+)", lambda found: f"in row {first + int(found[1])}", text)
    if "Column(/" in text:
        return InputError(f"{name}: {re.sub(_COLUMN, _NAMED, text)}", _ONE_KIND)
    return InputError(f"{name}: a line is no object: {text}", hint)


def _as_written(kind: pa.DataType) -> pa.DataType:
    """A type that was inferred, in which times are the texts that they are in the file."""
    if pat.is_list(kind):
        return pa.list_(_as_written(kind.value_type))
    if pat.is_struct(kind):
        return pa.struct([(field.name, _as_written(field.type)) for field in kind])
    return pa.string() if pat.is_timestamp(kind) else kind
