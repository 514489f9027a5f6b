"""Gates: what a run must give to be published, at the edge itself."""

from __future__ import annotations

from typing import Any

import pytest

from minestream.config.resources import Resources
from minestream.errors import GateMissedError
from minestream.outputs.gates import KEPT, check_gates
from minestream.system.stats import ShardStats

pytestmark = pytest.mark.usefixtures("as_written")
HALF_SHORT = ShardStats(rows=10, full=4, short=3, empty=1)


@pytest.mark.parametrize(
    ("gate", "stats", "missed"),
    [
        ({"require_rows": 10}, HALF_SHORT, ""),
        ({"require_rows": 11}, HALF_SHORT, "10 rows came out, --require-rows asks for 11"),
        ({"require_rows": 1}, ShardStats(), "0 rows came out"),
        ({"max_short": "50%"}, HALF_SHORT, ""),
        (
            {"max_short": "49%"},
            HALF_SHORT,
            "50.00% of the pairs are short (fewer than k negatives, or none), --max-short allows 49",
        ),
        ({"max_short": "0%"}, ShardStats(full=9), ""),
        ({"max_short": "99%"}, ShardStats(empty=3), "100.00% of the pairs are short"),
        ({"max_short": "99%"}, ShardStats(short=3), "100.00% of the pairs are short"),
        ({"max_short": "0%"}, ShardStats(), ""),
        ({}, ShardStats(), ""),
    ],
)
def test_at_the_gate(gate: dict[str, Any], stats: ShardStats, missed: str) -> None:
    if not missed:
        check_gates(Resources(**gate), stats)
        return
    with pytest.raises(GateMissedError) as error:
        check_gates(Resources(**gate), stats)
    assert missed in error.value.message
    assert error.value.hint == KEPT
