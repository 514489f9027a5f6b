"""Events arrive whole and in order, from any thread; lines are few; nothing goes to standard output."""

from __future__ import annotations

import builtins
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from types import ModuleType

import pytest

from minestream.errors import UsageError
from minestream.system.progress import (
    Advanced,
    Event,
    Finished,
    Lines,
    Note,
    Progress,
    StageStarted,
    progress_line,
    reporter,
    short_number,
    short_time,
)


class Clock:
    """A clock that goes when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_callback_gets_every_event() -> None:
    events: list[Event] = []
    with reporter("none", events.append) as progress:
        progress.stage("sweep", 10, "rows")
        progress.advance(4)
        progress.note("careful")
        progress.advance(6)
    assert events == [
        StageStarted("sweep", 10, "rows"),
        Advanced("sweep", 4, 10, "rows"),
        Note("careful"),
        Advanced("sweep", 10, 10, "rows"),
        Finished(),
    ]


def test_failed_run_sends_no_finished() -> None:
    events: list[Event] = []

    def fail() -> None:
        with reporter("none", events.append):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert events == []


def test_what_the_callback_raises_stops_the_run() -> None:
    def callback(event: Event) -> None:
        raise RuntimeError("enough")

    progress = reporter("none", callback)
    with pytest.raises(RuntimeError, match="enough"):
        progress.stage("sweep", 10)


def test_threads_lose_no_count() -> None:
    done: list[int] = []

    def callback(event: Event) -> None:
        if isinstance(event, Advanced):
            done.append(event.done)

    with reporter("none", callback) as progress, ThreadPoolExecutor(8) as pool:
        progress.stage("sweep", 4000, "rows")
        list(pool.map(lambda _: progress.advance(1), range(4000)))
    assert done == list(range(1, 4001))


def test_a_line_for_a_long_stage_then_one_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(Lines(clock)) as progress:
        progress.stage("read", 100, "rows")
        clock.now += 5
        progress.advance(100)
        progress.stage("sweep", 10_000, "rows")
        for _ in range(200):
            clock.now += 1
            progress.advance(20)
        progress.note("a note")
    captured = capsys.readouterr()
    stamps, lines = zip(*((line[:19], line[20:]) for line in captured.err.splitlines()), strict=True)
    assert all(abs(datetime.fromisoformat(stamp) - datetime.now()) < timedelta(minutes=1) for stamp in stamps)
    assert lines[0] == "sweep: 2 %, 200 of 10 k rows, 20 rows/s, 8 min 10 s left"
    assert [line.split()[1] for line in lines[:-1]] == ["2", "14", "26", "38"]
    assert lines[-1] == "a note"
    assert captured.out == ""


def test_bar_draws_on_standard_error_only(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter("bar") as progress:
        progress.stage("read", 0, "rows")
        progress.advance(3)
        progress.stage("sweep [0]", 10, "pairs")
        progress.advance(10)
        progress.note("a note [1]")
    captured = capsys.readouterr()
    assert "a note [1]" in captured.err
    assert captured.out == ""


def test_auto_is_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter("auto") as progress:
        progress.stage("sweep", 10)
        progress.advance(10)
    assert capsys.readouterr() == ("", "")


class Handle:
    """What IPython's display() gives: every bundle that one output showed, in order."""

    def __init__(self) -> None:
        self.bundles: list[dict[str, str]] = []

    def display(self, bundle: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        assert not self.bundles
        return self.update(bundle, raw)

    def update(self, bundle: dict[str, str], raw: bool) -> Handle:
        self.bundles.append(bundle)
        return self


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Handle:
    """A process that rich takes for the kernel of a notebook."""
    handle = Handle()
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    fake = ModuleType("IPython.display")
    monkeypatch.setattr(fake, "display", handle.display, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    return handle


@pytest.mark.parametrize("mode", ["auto", "bar"])
def test_a_notebook_shows_a_bar_of_which_nothing_is_left(
    mode: str, notebook: Handle, capsys: pytest.CaptureFixture[str]
) -> None:
    with reporter(mode) as progress:
        progress.stage("a < b", 10_000)
        for _ in range(10_000):
            progress.advance(1)
        progress.note("a note")
    first, *more, last = notebook.bundles
    assert first["text/html"].startswith("<progress value=1 max=10000></progress> a &lt; b: 1 of 10 k rows")
    assert last == {}
    assert len(more) < 100, "drawn too often"
    assert capsys.readouterr() == ("", "a note\n")


@pytest.mark.parametrize("mode", ["lines", "none"])
def test_a_notebook_shows_no_bar_where_none_is_wanted(mode: str, notebook: Handle) -> None:
    with reporter(mode) as progress:
        progress.stage("sweep", 10)
        progress.advance(10)
    assert notebook.bundles == []


def test_a_run_that_fails_leaves_no_bar_in_a_notebook(notebook: Handle) -> None:
    def fail() -> None:
        with reporter("auto") as progress:
            progress.stage("sweep", 10)
            progress.advance(4)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert notebook.bundles[-1] == {}


def test_unknown_mode_names_the_known() -> None:
    with pytest.raises(UsageError, match="did you mean 'lines'"):
        reporter("line")


def test_rich_is_loaded_for_a_bar_only() -> None:
    code = "import sys, minestream.system.progress as p; p.reporter('lines'); assert 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_line_of_a_stage_without_total() -> None:
    assert progress_line(Advanced("read", 5000, 0, "rows"), 2.0) == "read: 5.0 k rows, 2.5 k rows/s"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (7, "7"), (2.53, "2.5"), (999, "999"), (999.7, "1.0 k"), (34_600, "35 k"),
        (1_234_567, "1.2 M"), (5e9, "5.0 G"), (2.5e12, "2.5 T"),
    ],
)  # fmt: skip
def test_short_number(number: float, text: str) -> None:
    assert short_number(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.21, "4.2 s"), (38.4, "38 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_short_time(seconds: float, text: str) -> None:
    assert short_time(seconds) == text
