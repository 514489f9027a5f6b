"""minestream: exact, deterministic, out-of-core mining of training triplets and pairs from embeddings.

The public names load on first use: importing the package loads neither NumPy, Numba nor PyArrow. The guide says exactly
what is computed (guide/semantics.md), what names mean and where things go in the code (guide/words.md).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from minestream._version import VERSION

if TYPE_CHECKING:
    from minestream.batching.compose import batch
    from minestream.config.mine_config import MineConfig
    from minestream.config.resources import Resources
    from minestream.errors import (
        CapacityError,
        ForkedProcessError,
        GateMissedError,
        InputError,
        MinestreamError,
        OutputError,
        RunInterruptedError,
        TransientError,
        UsageError,
        VerifyMismatchError,
    )
    from minestream.insight.compare import compare
    from minestream.insight.describe import describe
    from minestream.insight.pages import describe_html
    from minestream.insight.profiling import profile
    from minestream.insight.verify import verify
    from minestream.learn.fitting import FitReport, fit
    from minestream.learn.linear import Linear, apply
    from minestream.learn.losses import LossResult, contrastive_loss, triplet_loss
    from minestream.mining.arrays import Mined, mine_arrays, warmup
    from minestream.mining.batches import mine_batches, mine_pipe
    from minestream.mining.merge import merge
    from minestream.mining.pipeline import mine
    from minestream.mining.select.run import refilter, select
    from minestream.mining.stream.miner import Miner
    from minestream.outputs.sample import sample
    from minestream.outputs.trainers.export import export
    from minestream.system.stats import Report

__version__ = VERSION
__all__ = [
    "CapacityError", "FitReport", "ForkedProcessError", "GateMissedError", "InputError", "Linear", "LossResult",
    "MineConfig", "Mined", "Miner", "MinestreamError", "OutputError", "Report", "Resources", "RunInterruptedError",
    "TransientError", "UsageError", "VerifyMismatchError", "__version__", "apply", "batch", "compare",
    "contrastive_loss", "describe", "describe_html", "export", "fit", "merge", "mine", "mine_arrays", "mine_batches",
    "mine_pipe", "profile", "refilter", "sample", "select", "triplet_loss", "verify", "warmup",
]  # fmt: skip

# Where each name comes from, by module.
_HOMES = {
    "minestream.batching.compose": ("batch",),
    "minestream.config.mine_config": ("MineConfig",),
    "minestream.config.resources": ("Resources",),
    "minestream.errors": (
        "CapacityError", "ForkedProcessError", "GateMissedError", "InputError", "MinestreamError", "OutputError",
        "RunInterruptedError", "TransientError", "UsageError", "VerifyMismatchError",
        "ForkedProcess", "GateMissed", "Interrupted", "VerifyMismatch",  # former names
    ),
    "minestream.insight.compare": ("compare",),
    "minestream.insight.describe": ("describe",),
    "minestream.insight.pages": ("describe_html",),
    "minestream.insight.profiling": ("profile",),
    "minestream.insight.verify": ("verify",),
    "minestream.learn.fitting": ("FitReport", "fit"),
    "minestream.learn.linear": ("Linear", "apply"),
    "minestream.learn.losses": ("LossResult", "contrastive_loss", "triplet_loss"),
    "minestream.mining.arrays": ("Mined", "mine_arrays", "warmup"),
    "minestream.mining.batches": ("mine_batches", "mine_pipe"),
    "minestream.mining.merge": ("merge",),
    "minestream.mining.pipeline": ("mine",),
    "minestream.mining.select.run": ("refilter", "select"),
    "minestream.mining.stream.miner": ("Miner",),
    "minestream.outputs.sample": ("sample",),
    "minestream.outputs.trainers.export": ("export",),
    "minestream.system.stats": ("Report",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _HOME:
        from minestream.config.names import GONE

        now = f" any more: {GONE[name]}" if name in GONE else ""
        raise AttributeError(f"module 'minestream' has no attribute {name!r}{now}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
