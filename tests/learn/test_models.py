"""Files that are no linear embedding: each is refused in words."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from attacks import DAMAGED_BYTES
from hostile import Victim, table, whole
from tally import Attack


def archive(**arrays: Any) -> bytes:
    good = {"weights": np.eye(2, 4), "mean": np.zeros(4), "about": np.frombuffer(b'{"format": 1}', np.uint8)}
    np.savez_compressed(file := io.BytesIO(), **{n: a for n, a in (good | arrays).items() if a is not None})
    return file.getvalue()


def bomb() -> bytes:
    """Gigabytes of zeros in a few kilobytes, and a header that asks for more than there is."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as to:
        header = np.lib.format.magic(1, 0)
        text = str({"descr": "<f8", "fortran_order": False, "shape": (2**32, 4)}).encode().ljust(117) + b"\n"
        for name in ("weights", "mean", "about"):
            to.writestr(f"{name}.npy", header + len(text).to_bytes(2, "little") + text + bytes(2**20))
    return file.getvalue()


MODELS: dict[str, bytes] = {
    "no archive": b"x", "nothing": b"", "an empty archive": archive(weights=None, mean=None, about=None),
    "a bomb": bomb(), "texts": archive(weights=np.array([["x"]])), "another shape": archive(mean=np.zeros(3)),
    "no rows": archive(weights=np.zeros((0, 4))), "NaN": archive(weights=np.full((2, 4), np.nan)),
    "infinite means": archive(mean=np.full(4, np.inf)), "float32": archive(weights=np.eye(2, 4, dtype=np.float32)),
    "about a list": archive(about=np.frombuffer(b"[1]", np.uint8)),
    "about nothing": archive(about=np.zeros(0, np.uint8)),
    "about deeper and deeper": archive(about=np.frombuffer(b"[" * 100_000, np.uint8)),
    "another format": archive(about=np.frombuffer(b'{"format": 2}', np.uint8)), "no about": archive(about=None),
    "members that are no arrays": bomb().replace(b"\x93NUMPY", b"\x93numpy"), "a .npy file": whole("NumPy")[0],
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_none(name: str, victim: Victim, tmp_path: Path, attack: Attack) -> None:
    pq.write_table(table(), tmp_path / "rows.parquet")
    (tmp_path / "model.npz").write_bytes(MODELS[name])
    with attack(DAMAGED_BYTES, f"a linear embedding that is none: {name}"):
        victim.survive(tmp_path, "apply", "model.npz", "rows.parquet", "-o", "out.parquet", codes=(3, 4))
