"""The texts of a run."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.config import MineConfig
from minestream.load import Loaded
from minestream.reader import Table
from minestream.texts import Rows

Slots = NDArray[np.int32]


def slots_of(loaded: Loaded, table: Table, rows: Rows) -> Slots:
    """The slots of source rows that take part."""
    own = loaded.source_row[table.first : table.end]
    return (np.searchsorted(own, rows) + table.first).astype(np.int32)


class LoadedTexts:
    """The texts of a run's own tables, by source row."""

    def __init__(self, loaded: Loaded, config: MineConfig) -> None:
        self._loaded = loaded
        self._names = {"anchor": config.query_text or config.text, "positive": config.text, "negative": config.text}

    def take(self, role: str, rows: Rows) -> pa.Array:
        """The texts of source rows; `role` is anchor, positive or negative."""
        table = self._loaded.table(role)
        carried = table.take_carried(slots_of(self._loaded, table, rows))
        assert carried is not None
        texts = carried[str(self._names[role])].combine_chunks()
        return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
