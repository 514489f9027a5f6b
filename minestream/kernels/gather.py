"""Rows of a file by number, read without the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from minestream.kernels.jit import kernel
from minestream.kernels.tile import address

_PREAD = types.int64(types.int32, types.CPointer(types.uint8), types.uint64, types.int64)
_pread: Any = types.ExternalFunction("pread", _PREAD)  # (descriptor, to, bytes, offset) -> bytes read, or -1


@kernel
def gather(descriptor: int, slots: np.ndarray, out: np.ndarray) -> int:
    """Read rows of equal size from a file; neighbours in one go.

    Parameters
    ----------
    descriptor : int
    slots : int64[m]
        The numbers of the rows; ascending ones are read fastest.
    out : uint8 (m, bytes of a row)

    Returns
    -------
    int
        How many rows, from the first on, are read for certain: fewer than m where a read fails or ends early.
    """
    size, first = out.shape[1], 0
    while first < slots.size:
        end = first + 1
        while end < slots.size and slots[end] == slots[end - 1] + 1:
            end += 1
        wanted = (end - first) * size
        if _pread(descriptor, address(out, first * size), wanted, slots[first] * size) != wanted:
            return first
        first = end
    return first
