"""minestream: exact, deterministic, out-of-core mining of training triplets and pairs from embeddings.

The public names load on first use: importing the package loads neither NumPy, Numba nor PyArrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from minestream._version import VERSION

if TYPE_CHECKING:
    from minestream.audit import verify
    from minestream.batches import mine_batches, mine_pipe
    from minestream.config import MineConfig, Resources
    from minestream.contents import describe
    from minestream.conversion import export
    from minestream.errors import (
        CapacityError,
        ForkedProcess,
        GateMissed,
        InputError,
        Interrupted,
        MinestreamError,
        OutputError,
        TransientError,
        UsageError,
        VerifyMismatch,
    )
    from minestream.fitting import FitReport, fit
    from minestream.insight.profiling import profile
    from minestream.insight.report import describe_html
    from minestream.linear import Linear, apply
    from minestream.losses import LossResult, contrastive_loss, triplet_loss
    from minestream.merging import merge
    from minestream.pipeline import Mined, mine, mine_arrays, warmup
    from minestream.rescoring import refilter
    from minestream.splits import compare
    from minestream.stats import Report
    from minestream.window import Miner

__version__ = VERSION
__all__ = [
    "CapacityError",
    "FitReport",
    "ForkedProcess",
    "GateMissed",
    "InputError",
    "Interrupted",
    "Linear",
    "LossResult",
    "MineConfig",
    "Mined",
    "Miner",
    "MinestreamError",
    "OutputError",
    "Report",
    "Resources",
    "TransientError",
    "UsageError",
    "VerifyMismatch",
    "__version__",
    "apply",
    "compare",
    "contrastive_loss",
    "describe",
    "describe_html",
    "export",
    "fit",
    "merge",
    "mine",
    "mine_arrays",
    "mine_batches",
    "mine_pipe",
    "profile",
    "refilter",
    "triplet_loss",
    "verify",
    "warmup",
]

_HOMES = {
    "minestream.audit": ("verify",),
    "minestream.config": ("MineConfig", "Resources"),
    "minestream.contents": ("describe",),
    "minestream.conversion": ("export",),
    "minestream.errors": (
        "CapacityError", "ForkedProcess", "GateMissed", "InputError", "Interrupted", "MinestreamError",
        "OutputError", "TransientError", "UsageError", "VerifyMismatch",
    ),
    "minestream.fitting": ("FitReport", "fit"),
    "minestream.insight.profiling": ("profile",),
    "minestream.insight.report": ("describe_html",),
    "minestream.linear": ("Linear", "apply"),
    "minestream.losses": ("LossResult", "contrastive_loss", "triplet_loss"),
    "minestream.merging": ("merge",),
    "minestream.pipeline": ("Mined", "mine", "mine_arrays", "warmup"),
    "minestream.rescoring": ("refilter",),
    "minestream.splits": ("compare",),
    "minestream.stats": ("Report",),
    "minestream.batches": ("mine_batches", "mine_pipe"),
    "minestream.window": ("Miner",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _HOME:
        from minestream.gone import GONE

        now = f" any more: {GONE[name]}" if name in GONE else ""
        raise AttributeError(f"module 'minestream' has no attribute {name!r}{now}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
