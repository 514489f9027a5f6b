"""K and key order of every source row: what draws over a whole output need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Keys:
    """K (draw_key uint64[rows]) and key order (rank int64[rows]) of the source rows of one table."""

    draw_key: NDArray[np.uint64]
    rank: NDArray[np.int64]
