"""Units of work, which threads take from each other within kernels: no thread waits for the interpreter."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from minestream.kernels.jit import kernel
from minestream.kernels.tile import CHECKED, PREFIX, STOPPED, WORDS, address

CHECK_WORDS = 8  # which a tile could multiply while it is checked whether to stop


class Units(NamedTuple):
    """Work that threads take piece by piece, the larger the more is left, so that all end together."""

    end: int
    threads: int
    taken: NDArray[np.int64]  # [1] how many are taken, or more; all threads share it
    own: NDArray[np.int64]  # [2] the first unit and the end of the thread's piece, as far as it is not done


@intrinsic
def add_at_once(typing_context: Any, pointer: Any, value: Any) -> Any:
    """Add to an int64 that threads share; what it was before. No two threads are told the same. For kernels."""
    signature = types.int64(pointer, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", arguments[0], arguments[1], "monotonic")

    return signature, codegen


@kernel(inline=True)
def next_unit(units: Units, control: np.ndarray, tiles: np.ndarray) -> int:
    """The unit that a thread goes on with, the first that is left of its piece; -1 where all are taken.

    A thread without one takes half of its share of what is left. Before, it looks whether checked tiles pay.

    Parameters
    ----------
    control : int64[CONTROL], see tile.tile(); CHECKED is set to 0 where that does not pay
    tiles : int64[2], the first: how many the thread has multiplied
    """
    own = units.own
    if own[0] < own[1]:
        return own[0]
    if control[STOPPED] * (control[WORDS] - control[PREFIX]) < tiles[0] * CHECK_WORDS:
        control[CHECKED] = 0
    size = max(1, (units.end - units.taken[0]) // (2 * units.threads))
    own[0] = add_at_once(address(units.taken, 0), size)
    own[1] = min(own[0] + size, units.end)
    return own[0] if own[0] < own[1] else -1
