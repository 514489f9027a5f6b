"""How long batches took: a histogram with logarithmic bins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

BIN_RATIO = 1.02  # of the edges of a bin
LEAST_SECONDS = 1e-6
BINS = 1_200


class Latencies:
    """A histogram of the seconds that batches took, in bins of 2 %: its memory does not grow with their number."""

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, np.int64)
        self._most = 0.0

    def add(self, seconds: float) -> None:
        """Count a batch."""
        step = math.log(max(seconds, LEAST_SECONDS) / LEAST_SECONDS) / math.log(BIN_RATIO)
        self._counts[min(BINS - 1, int(step))] += 1
        self._most = max(self._most, seconds)

    def quantile(self, share: float) -> float:
        """The seconds within which this share of the batches was done, to 2 %."""
        step = int(np.searchsorted(np.cumsum(self._counts), share * self._counts.sum()))
        return min(self._most, LEAST_SECONDS * BIN_RATIO ** (step + 1))

    def facts(self) -> dict[str, Any]:
        """The number of batches, and the median, 99th percentile and maximum of their seconds."""
        return {
            "batches": int(self._counts.sum()), "latency_median_seconds": self.quantile(0.5),
            "latency_p99_seconds": self.quantile(0.99), "latency_max_seconds": self._most,
        }  # fmt: skip
