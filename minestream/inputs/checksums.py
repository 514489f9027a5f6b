"""Checksums of what is read beside vectors, labels and ids: manifests hold them, the bytes of an output do not."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from minestream.inputs.files import Input
from minestream.system.checksums import RowsCrc


class Others:
    """Running CRC-32 of groups, versions, carried columns and, under a condition, of the numbers of the rows read."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, RowsCrc]] = {}

    def add(self, file: str, columns: Mapping[str, pa.Array | None]) -> None:
        """Take further rows of a file; what is None is not read."""
        sums = self._sums.setdefault(file, {})
        for name, column in columns.items():
            if column is not None:
                table = pa.table({name: column})
                sums.setdefault(name, RowsCrc(table.schema)).update(table)

    def told(self, names: Mapping[str, str]) -> list[dict[str, Any]]:
        """``{"name", "crc32"}`` of every file that has any, under its name in the identity."""
        sums = {file: {name: crc.value() for name, crc in every.items()} for file, every in self._sums.items()}
        return [{"name": name, "crc32": sums[file]} for file, name in names.items() if sums.get(file)]


def names_of(inputs: Sequence[Input]) -> dict[str, tuple[str, int | None]]:
    """Of each file its name in the identity, which is relative to their common folder, and its rows where known."""
    folders = [os.path.dirname(each.name) for each in inputs if each.on_disk]
    common = os.path.commonpath(folders) if folders else ""
    return {
        each.name: (Path(os.path.relpath(each.name, common)).as_posix() if each.on_disk else each.name, each.rows)
        for each in inputs
    }
