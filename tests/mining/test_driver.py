"""The driver opens what a run needs, and lets all of it go however the run ends."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import jobs
import pytest

from minestream.config.resolve import asked_options
from minestream.inputs.tables import Sources
from minestream.mining import driver as module
from minestream.mining.driver import Driver
from minestream.system.progress import Note
from minestream.system.stats import ShardStats

pytestmark = pytest.mark.usefixtures("as_written")


def opened(**options: Any) -> tuple[Driver, Sources, list[Any]]:
    """A driver, its sources, and the events of its run."""
    config, resources, tables = asked_options({"progress": "none"} | options)
    events: list[Any] = []
    own = Driver(config, resources, events.append)
    return own, own.open(jobs.table(), tables), events


@pytest.mark.parametrize("failing", [False, True])
def test_all_that_was_opened_ends_with_the_run_last_first(failing: bool, tmp_path: Path) -> None:
    own, sources, _ = opened(scratch=str(tmp_path))
    ended: list[str] = []
    with pytest.raises(KeyboardInterrupt) if failing else nullcontext(), own:
        assert own.scratch().parent == tmp_path
        loaded, searcher = own.dataset(sources)
        searcher.close = lambda: ended.append("searcher")  # type: ignore[method-assign]
        own.held.callback(ended.append, "what was opened beside")
        if failing:
            raise KeyboardInterrupt
    assert ended == ["what was opened beside", "searcher"]
    assert loaded.store.whole() is None, "the rows were kept"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "beside", "place"),
    [(True, True, "asked"), (True, False, "asked"), (False, True, "beside"), (False, False, "own")],
)
def test_where_rows_go_that_do_not_fit(
    asked: bool, beside: bool, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    places = {"asked": tmp_path / "asked", "beside": tmp_path / "beside"}
    for each in places.values():
        each.mkdir()
    own, sources, _ = opened(**{"scratch": str(places["asked"])} if asked else {})
    with own:
        _, searcher = own.dataset(sources, places["beside"] if beside else None)
        made = [each for each in tmp_path.iterdir() if each not in places.values()]
        assert (searcher._scratch,) == ((places[place],) if place in places else tuple(made))
    assert sorted(tmp_path.iterdir()) == sorted(places.values())


def test_compiling_is_said_before_it_begins_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for first in (True, False):
        monkeypatch.setattr(module, "compiles_first", lambda first=first: first)
        own, sources, events = opened()
        with own:
            own.dataset(sources)
        assert sum(isinstance(event, Note) and "compiling" in event.text for event in events) == first


NO_LOSS = "no --margin: the loss column is left out"
FILLS = "--margin fills the loss column and selects nothing; did you mean --absolute-margin?"
UNSEEN = "screen 'i8' is not for this processor, or not for rows of this length: 'f32' is used"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, []),
        ({"metric": "euclidean", "band": "any"}, [NO_LOSS]),
        ({"metric": "euclidean", "band": "any", "margin": 0.5}, []),
        ({"corpus": jobs.table(), "band": "any", "margin": 0.2}, [FILLS]),
        ({"corpus": jobs.table(), "band": "any", "margin": 0.2, "max_similarity": 0.5}, []),
        ({"corpus": jobs.table(), "margin": 0.2}, []),
        ({"screen": "i8"}, [UNSEEN]),
        ({"screen": "f32"}, []),
        ({"screen": "scan"}, []),
        ({"screen": "auto"}, []),
    ],
)
def test_what_a_user_should_know(options: dict[str, Any], said: list[str]) -> None:
    own, sources, _ = opened(**options)
    with own:
        _, searcher = own.dataset(sources)
        searcher.limits = replace(searcher.limits, screens=("f32",))
        found = own.notes(sources, searcher)
    assert [note for note in found if note in (NO_LOSS, FILLS) or note.startswith("screen ")] == said


def test_the_seconds_of_a_report_are_those_since_the_run_began() -> None:
    own, _, _ = opened()
    own.began -= 100.0
    recorded: dict[str, Any] = {name: {} for name in ("config", "columns", "source", "plan")}
    report = own.report("out", recorded, ShardStats(rows=2), complete=False)
    assert 100.0 <= report.seconds < 200.0
    assert (report.output, report.stats.rows, report.complete) == ("out", 2, False)
