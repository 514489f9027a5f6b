"""The texts that trainer formats need: carried by the mined rows, or read from their source by row number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from minestream.errors import InputError, nearest_name
from minestream.inputs.columns import is_list, plain
from minestream.inputs.dataset.carried import CarriedColumns
from minestream.inputs.decode import decode_plain
from minestream.inputs.files import open_inputs

TEXT_ROWS = 8_192
# The texts of each role that needs some: a column of the triplets, or the column of their table, by source row.
Texts = Mapping[str, str | CarriedColumns]


def text_column(inputs: Any, name: str, budget_bytes: int, scratch: Path, option: str = "--text") -> CarriedColumns:
    """Read a text column of one or more files by row number: in memory up to `budget_bytes`, else in `scratch`.

    Raises
    ------
    InputError
        When an input has no such column, or it holds no text.
    """
    held = CarriedColumns(budget_bytes, scratch)
    for each in open_inputs(inputs):
        if name not in each.schema.names:
            raise InputError(f"{each.name}: no column {name!r} ({option})", nearest_name(name, each.schema.names))
        if plain(each.schema.field(name).type) != pa.string():
            raise no_text(f"{each.name}: column {name!r}", each.schema.field(name).type)
        for batch in each.read([name], TEXT_ROWS):
            held.append(pa.record_batch([decode_plain(batch.column(0))], ["text"]))
    held.seal()
    return held


def no_text(what: str, kind: pa.DataType) -> InputError:
    """The error for a column that holds no texts."""
    hint = "cast it: column.cast(pyarrow.string())"
    if pat.is_struct(kind):
        hint = 'take the text out of it: pyarrow.compute.struct_field(column, "name of the field")'
    elif is_list(kind):
        hint = "take one text of each row: pyarrow.compute.list_element(column, 0)"
    return InputError(f"{what} holds no text: its type is {kind}", hint)
