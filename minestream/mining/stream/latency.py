"""How long batches took: a histogram in steps of equal ratio."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

LATENCY_STEP = 1.02  # latencies are counted in steps of 2 %
LATENCY_LEAST = 1e-6
LATENCY_STEPS = 1_200


class Latencies:
    """How long batches took, counted in steps of 2 %: the memory stays the same however many there are."""

    def __init__(self) -> None:
        self._counts = np.zeros(LATENCY_STEPS, np.int64)
        self._most = 0.0

    def add(self, seconds: float) -> None:
        """One batch more."""
        step = math.log(max(seconds, LATENCY_LEAST) / LATENCY_LEAST) / math.log(LATENCY_STEP)
        self._counts[min(LATENCY_STEPS - 1, int(step))] += 1
        self._most = max(self._most, seconds)

    def quantile(self, share: float) -> float:
        """The seconds within which this share of the batches was done, to 2 %."""
        step = int(np.searchsorted(np.cumsum(self._counts), share * self._counts.sum()))
        return min(self._most, LATENCY_LEAST * LATENCY_STEP ** (step + 1))

    def facts(self) -> dict[str, Any]:
        """Batches, and the median, the 99th percentile and the largest of their seconds."""
        return {
            "batches": int(self._counts.sum()), "latency_median_seconds": self.quantile(0.5),
            "latency_p99_seconds": self.quantile(0.99), "latency_max_seconds": self._most,
        }  # fmt: skip
