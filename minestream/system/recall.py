"""Recall, as counters hold it, and what the mean of a sample is at least.

The unit is an anchor, drawn at random: the share of its exact rows that were found, in [0, 1], since what is found of
one anchor depends on each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # help pages, which load this module too, do not wait for numpy
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.99
DIGITS = 4  # shares are rounded down to so many
LARGEST_BET = 0.75  # of what a bet may lose
HALVINGS = 40
NEGATIVES, LOSS, POSITIVES, PAIRS, EXACTLY = "negatives", "loss", "positives", "pairs looked at", "exactly"


def lower_bound(values: NDArray[np.float64], confidence: float = CONFIDENCE, seed: int = 0) -> float:
    """What the mean of all is at least, with this confidence, by a sample float64[m] of values in [0, 1].

    By betting against every smaller mean (Waudby-Smith and Ramdas 2024, predictable plug-in bets): it holds for samples
    of every size, whatever the distribution. Cost: 40 passes over the sample.
    """
    import numpy as np

    if not values.size:
        return 0.0
    x = np.random.default_rng(seed).permutation(values)  # bets need an order that tells nothing
    count = np.arange(1, x.size + 1)
    mean = (0.5 + np.cumsum(x)) / (count + 1)
    variance = (0.25 + np.cumsum(np.square(x - mean))) / (count + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    bets = np.sqrt(2 * math.log(1 / (1 - confidence)) / (before * x.size))
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        wealth = np.cumsum(np.log1p(np.minimum(bets, LARGEST_BET / middle) * (x - middle)))
        low, high = (middle, high) if wealth.max() >= math.log(1 / (1 - confidence)) else (low, middle)
    return low


RECALLS = {  # in JSON: as counters hold it, and of what
    "recall": (NEGATIVES, "the negatives"), "loss_recall": (LOSS, "their loss"),
    "positive_recall": (POSITIVES, "the positives"),
}  # fmt: skip


class Recall(NamedTuple):
    """A mean over anchors, what it is at least (99 %), and of how many anchors."""

    share: float
    at_least: float
    anchors: int


def counted(kind: str, values: NDArray[np.float64]) -> dict[str, int]:
    """Shares as counters that can be added: how many anchors have each, rounded down."""
    import numpy as np

    shares, counts = np.unique(np.floor(values * 10**DIGITS + 1e-9).astype(np.int64), return_counts=True)
    return {f"{kind} {share / 10**DIGITS:.{DIGITS}f}": int(n) for share, n in zip(shares, counts, strict=True)}


def _shares_of(counts: Mapping[str, int], kind: str) -> dict[float, int]:
    """How many anchors have each share."""
    return {float(name.removeprefix(kind)): n for name, n in sorted(counts.items()) if name.startswith(f"{kind} ")}


def recall_of(counts: Mapping[str, int], kind: str) -> Recall | None:
    """The recall that counters hold; None where they hold none."""
    import numpy as np

    own = _shares_of(counts, kind)
    values = np.repeat([*own.keys()], [*own.values()])
    return Recall(float(values.mean()), lower_bound(values), values.size) if values.size else None


def recall_facts(counts: Mapping[str, int]) -> dict[str, Any]:
    """What counters say of an approximate run, as JSON holds it; empty for an exact one.

    recall, loss_recall and, unless all positives are found, positive_recall: share, at_least, anchors; looked_at:
    products as a share of those of all pairs; exactly: why all pairs were looked at.
    """
    if not counts:
        return {}
    why = [name.removeprefix(f"{EXACTLY} ") for name in counts if name.startswith(f"{EXACTLY} ")]
    looked = _shares_of(counts, PAIRS)  # of every anchor
    each = {name: recall_of(counts, kind) for name, (kind, _) in RECALLS.items()}
    return {
        "looked_at": sum(share * n for share, n in looked.items()) / sum(looked.values()) if looked else 1.0,
        **{name: found._asdict() for name, found in each.items() if found},
        **({"exactly": why[0]} if why else {}),
    }
