"""What a page shows of single rows: names of labels, texts, pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from minestream.inputs.columns import plain
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.source import Source
from minestream.outputs.rows import TEXT_NAMES

NAME_ENDINGS = ("_name", "_text", "_title")  # of a column beside that of the labels, which says what they mean
PICTURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}  # by their first bytes
PICTURE_BYTES = 8 << 20  # of all rows of a page


@dataclass
class Sight:
    """What people see of rows and labels.

    Attributes
    ----------
    names : dict
        What labels mean, where the input says it.
    texts, pictures : dict of int to str
        By row of the source; pictures are data: addresses.
    missing : int
        How many rows have no picture to show.
    """

    names: dict[Any, str]
    texts: dict[int, str] = field(default_factory=dict)
    pictures: dict[int, str] = field(default_factory=dict)
    missing: int = 0

    def label(self, value: Any) -> str:
        """A label as people call it."""
        if isinstance(value, list):
            return ", ".join(map(self.label, value))
        return self.names.get(value, str(value))


def sight_of(
    loaded: Dataset, source: Source, rows: Iterable[int], names: dict[Any, str], image: str | None
) -> Sight:  # fmt: skip
    """What the page shows of `rows` of the source, whose labels have `names`; the first rows get pictures first.

    The texts are those of the carried columns, else of a column of a known name. What is not carried is read again: not
    from a stream. Cost: one pass over these columns.
    """
    shown, found, carried = list(dict.fromkeys(rows)), Sight(names), source.columns.carry
    order, stored = np.argsort(loaded.source_row), source.stored
    slots = order[np.searchsorted(loaded.source_row, shown, sorter=order)].astype(np.int32)
    known = [each.name for each in stored if each.name.lower() in TEXT_NAMES and plain(each.type) == pa.string()]
    texts = list(carried) or [name for name in known if name != source.columns.label][:1]
    wanted = [name for name in (*texts, image) if name is not None and name not in carried]
    seen = dict(source.peek(wanted, np.unique(shown))) if wanted and shown else {}
    table = loaded.tables[0].take_carried(slots)
    held = [{}] * len(shown) if table is None else table.to_pylist()
    room = PICTURE_BYTES
    for row, values in ((row, {**seen.get(row, {}), **own}) for row, own in zip(shown, held, strict=True)):
        found.texts[row] = " · ".join(str(values[name]) for name in texts if values.get(name) is not None)
        value = None if image is None else values[image]
        picture = value.get("bytes") if isinstance(value, dict) else value
        kind = next((kind for magic, kind in PICTURES.items() if picture and picture.startswith(magic)), None)
        if picture is not None and kind is not None and len(picture) <= room:
            room -= len(picture)
            found.pictures[row] = f"data:{kind};base64,{base64.b64encode(picture).decode()}"
        elif image is not None:
            found.missing += 1
    return found


def label_names(loaded: Dataset, source: Source) -> dict[Any, str]:
    """What numbers as labels mean: by the features of a Hugging Face dataset, else by a column beside them.

    Cost: one pass over that column. Nothing of a stream.
    """
    column = source.columns.label
    if column is None or not pa.types.is_integer(source.label_type):
        return {}
    try:
        features = json.loads((source.stored.metadata or {})[b"huggingface"])["info"]["features"]
        return dict(enumerate(map(str, features[column]["names"])))
    except (KeyError, TypeError, ValueError):
        pass
    beside = next((name for ending in NAME_ENDINGS if (name := column + ending) in source.stored.names), None)
    if beside is None:
        return {}
    _, first = np.unique(loaded.rows.label, return_index=True)
    labels = dict(zip(loaded.source_row[first].tolist(), loaded.labels.take(first).to_pylist(), strict=True))
    seen = source.peek([beside], np.sort(loaded.source_row[first]))
    return {labels[row]: str(values[beside]) for row, values in seen if values[beside] is not None}
