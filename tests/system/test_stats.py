"""Counters add up, and a report says what is recorded of its run."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from minestream.system.stats import Report, ShardStats, mean, merged
from minestream.system.values import many, verb

RECORDED: dict[str, Any] = {
    "config": {"emit": "triplets"}, "columns": {"embedding": "e"}, "source": {"rows": 9}, "plan": {"pairs": 4},
    "state": "complete",
}  # fmt: skip
STATS = ShardStats(rows=3, pairs=4, losses=3, active_rows=2, loss_sum=1.5, active_loss_sum=1.0)


def filled(start: int) -> ShardStats:
    """A different number in every counter."""
    own = ShardStats()
    for place, spec in enumerate(fields(ShardStats), start):
        setattr(own, spec.name, {"both": place, f"only {start}": 1} if "dict" in str(spec.type) else place)
    return own


def test_counts_agree_with_their_nouns_and_verbs() -> None:
    assert [many(count, noun) for count, noun in ((1, "row"), (0, "row"), (1234, "query"))] == [
        "1 row", "0 rows", "1,234 queries"
    ]  # fmt: skip
    verbs = ("are", "have", "do", "lie", "carry")
    assert [verb(1, each) for each in verbs] == ["is", "has", "does", "lies", "carries"]
    assert tuple(verb(2, each) for each in verbs) == verbs
    one = ShardStats(at_anchor=1, same_text=1, rows=1, pairs=1)
    assert [note.partition(" the")[0][:15] for note in one.notes()] == ["1 negative lies", "1 negative carr"]
    assert repr(Report.of("out", RECORDED, one)).startswith("Report(out: 1 row of 1 pair, ")


def test_every_counter_is_added() -> None:
    one, other = filled(1), filled(100)
    total = merged([one, other])
    for spec in fields(ShardStats):
        a, b, both = (getattr(each, spec.name) for each in (one, other, total))
        if isinstance(both, dict):
            assert both == {"both": a["both"] + b["both"], "only 1": 1, "only 100": 1}
        else:
            assert both == a + b


@pytest.mark.parametrize("name", ["loss_sum", "active_loss_sum"])
def test_losses_of_many_parts_are_summed_exactly(name: str) -> None:
    values = [1e16, 1.0, 1.0, -1e16]
    assert sum(values) != math.fsum(values) == 2.0
    assert getattr(merged([ShardStats(**{name: value}) for value in values]), name) == 2.0


def test_counting_begins_anew_where_the_counters_were_taken() -> None:
    own = filled(1)
    taken = own.taken()
    assert (taken, own) == (filled(1), ShardStats())
    own.drop("guide", 2)
    assert taken.dropped == filled(1).dropped


def test_counters_come_back_from_what_is_recorded_of_them() -> None:
    written = json.loads(json.dumps(STATS.to_dict() | {"mean_loss": 0.5}))
    assert ShardStats.from_dict(written) == STATS


def test_nothing_is_dropped_by_a_rule_that_drops_nothing() -> None:
    own = ShardStats()
    own.drop("guide", 0)
    assert own.dropped == {}
    own.drop("guide", 2)
    own.drop("guide", 3)
    assert own.dropped == {"guide": 5}


def test_a_report_is_of_what_is_recorded() -> None:
    report = Report.of(Path("out.parquet"), RECORDED, STATS, seconds=2.0, notes=("a note",))
    about = {name: value for name, value in RECORDED.items() if name != "state"}
    assert report == Report("out.parquet", stats=STATS, seconds=2.0, notes=("a note",), **about)
    assert Report.of(None, RECORDED, STATS).output is None


def test_a_report_in_a_manifest_has_means_and_nothing_of_the_machine() -> None:
    found = Report.of("out", RECORDED, STATS, effort={"screen": "i8"}).record()
    assert "effort" not in found
    assert (found["stats"]["mean_loss"], found["stats"]["mean_active_loss"]) == (0.5, 0.5)
    assert json.loads(json.dumps(found))["config"] == RECORDED["config"]
    nothing = Report.of("out", RECORDED, ShardStats()).record()["stats"]
    assert nothing["mean_loss"] is nothing["mean_active_loss"] is None
    assert mean(3.0, 2) == 1.5


@pytest.mark.parametrize(
    ("how", "end"),
    [({"seconds": 2.0}, "2.0 s"), ({"complete": False}, "a dry run"), ({"already": True}, "already complete")],
)
def test_a_report_says_how_the_run_ended(how: dict[str, Any], end: str) -> None:
    assert repr(Report.of("out", RECORDED, STATS, **how)) == f"Report(out: 3 rows of 4 pairs, {end})"
    less = RECORDED | {"source": {"dropped": {"unlabelled": 1_000, "bad: not finite": 1}}}
    said = f"Report(out: 3 rows of 4 pairs (1,001 rows of the input left out), {end})"
    assert repr(Report.of("out", less, STATS, **how)) == said
