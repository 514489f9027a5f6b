"""Runs into a store without mining: parts of a few rows."""

from __future__ import annotations

from typing import Any

from test_sink import CONFIG, COUNTS, SOURCE, rows_table

from minestream.outputs import run as sink
from minestream.outputs import stores


def begin(out: str, *, resume: bool = False, overwrite: bool = False, **changed: Any) -> sink.Run:
    """A run of three parts; `changed` are options."""
    return stores.target_of(out).begin(
        resume=resume, overwrite=overwrite, config=CONFIG.to_dict() | changed, fingerprint="f" * 16, source=SOURCE,
        columns={"embedding": "embedding"}, parts=3,
    )  # fmt: skip


def make_all(out: str, **options: Any) -> None:
    """Write the parts that are missing, and publish."""
    with begin(out, **options) as run:
        for index in range(3):
            if run.finished(index) is None:
                run.write_part(index, [rows_table(5, 100 * index)], lambda: {"rows": 5})
        run.publish(counts=lambda: COUNTS, extra=dict)
