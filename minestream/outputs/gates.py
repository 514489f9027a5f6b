"""The gates: a run that gives too few rows, or too many short pairs, publishes nothing."""

from __future__ import annotations

from minestream.config.parse import short_share
from minestream.config.resources import Resources
from minestream.errors import GateMissedError
from minestream.system.recall import recall_facts
from minestream.system.stats import ShardStats
from minestream.system.values import many

KEPT = "nothing was published; the parts are kept: --resume with another gate publishes them"


def check_gates(resources: Resources, total: ShardStats, hint: str = KEPT) -> None:
    """Raise GateMissedError when too few rows came out, their recall is too low, or too many pairs are short."""
    if resources.require_rows is not None and total.rows < resources.require_rows:
        raise GateMissedError(
            f"{many(total.rows, 'row')} came out, --require-rows asks for {resources.require_rows:,}", hint
        )
    facts = recall_facts(total.recalls)
    if resources.require_recall is not None and facts and "exactly" not in facts:
        least = facts["recall"]["at_least"] if "recall" in facts else 0.0  # nothing was measured
        if least < resources.require_recall:
            raise GateMissedError(
                f"the recall of negatives is at least {least:.4f} (99 %), --require-recall asks for "
                f"{resources.require_recall:g}",
                f"{hint}; a larger --approximate looks wider",
            )
    share = short_share(resources.max_short)
    looked_for = total.full + total.short + total.empty
    if share is not None and looked_for and (total.short + total.empty) / looked_for > share:
        raise GateMissedError(
            f"{(total.short + total.empty) / looked_for:.2%} of the pairs are short (fewer than k negatives, or none), "
            f"--max-short allows {share:.2%}",
            hint,
        )
