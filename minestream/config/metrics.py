"""The table of metrics: each is an increasing function of one linear distance, which inner products give.

The search knows only the affinity `<a, b> + bias(b)`: larger is nearer. The linear distance is `t` = (a term of the
anchor) - affinity, and every metric is `x = factor * t` or `x = sqrt(factor * t)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Distance = TypeVar("Distance", float, NDArray[np.float64])


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of METRICS.

    Attributes
    ----------
    code : int
        The number by which kernels know the canonical formula.
    factor, root : float, bool
        x = factor * t, or the square root of it.
    unit_rows : bool
        Whether rows are divided by their norm before anything else.
    translation_invariant : bool
        Whether subtracting one vector from all rows changes no distance.
    similarity : str
        The similarity that scores and filters mean, in words; empty if there is none.
    default_margin : bool
        Whether the default margins of EMITS apply.
    span : float
        The largest difference of two distances of unit rows.
    help : str
    """

    code: int
    factor: float
    root: bool
    unit_rows: bool
    translation_invariant: bool
    similarity: str
    default_margin: bool
    span: float
    help: str

    def linear(self, distance: Distance) -> Distance:
        """The linear distance t of a canonical distance x."""
        return (distance * distance if self.root else distance) / self.factor

    def canonical(self, linear: Distance) -> Distance:
        """The canonical distance x of a linear distance t >= 0 (any t for dot)."""
        scaled = linear * self.factor
        return scaled**0.5 if self.root else scaled


METRICS: dict[str, Metric] = {
    "cosine": Metric(
        0, 1.0, False, True, True, "1 - distance", True, 2.0, "1 - cosine of the angle, 0 to 2; zero rows are bad rows"
    ),
    "euclidean": Metric(1, 2.0, True, False, True, "", False, 2.0, "the Euclidean distance"),
    "sqeuclidean": Metric(
        2, 2.0, False, False, True, "", False, 4.0, "the squared Euclidean distance; --margin is in squared units"
    ),
    "dot": Metric(
        3,
        1.0,
        False,
        False,
        False,
        "the inner product",
        False,
        2.0,
        "minus the inner product: not a metric; --margin is in inner-product units",
    ),
}
