"""Progress of a run as events, shown as a bar (in a notebook, too) or as lines on standard error, or not at all."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

from minestream.errors import UsageError, nearest_name, printable
from minestream.system.console import tell

if TYPE_CHECKING:
    from rich.progress import TaskID


FIRST_LINE_SECONDS = 10.0  # a stage shorter than this needs no line
LINE_SECONDS = 60.0
CELL_SECONDS = 0.2  # between two pictures of the bar in a notebook
LEFT_SECONDS = 2.0  # no time left is shown earlier in a stage: the first units tell little


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins, with `total` of `unit` (rows, anchors, parts) to do, 0 when the number is unknown.

    `before` of them were done by the run that this one continues.
    """

    stage: str
    total: int
    unit: str
    before: int = 0


@dataclass(frozen=True, slots=True)
class Advanced:
    """`done` of `total` are done in the current stage, `before` of them by the run that this one continues."""

    stage: str
    done: int
    total: int
    unit: str
    before: int = 0

    def rate(self, seconds: float) -> float:
        """Units a second, `seconds` after the stage began."""
        return (self.done - self.before) / seconds if seconds > 0 else 0.0

    def left(self, seconds: float) -> float | None:
        """The seconds left, at the rate of the first `seconds`; None when that is not known yet."""
        rate = self.rate(seconds)
        return (self.total - self.done) / rate if self.total and rate > 0 and seconds >= LEFT_SECONDS else None


@dataclass(frozen=True, slots=True)
class Note:
    """One line that the user should read now."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The run ended well; a run that failed sends no such event."""


Event: TypeAlias = StageStarted | Advanced | Note | Finished
Callback: TypeAlias = Callable[[Event], object]
Clock: TypeAlias = Callable[[], float]


class Silent:
    """Shows nothing; the base class of what shows something. `clock` counts seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock, self._start = clock, clock()

    def handle(self, event: Event) -> None:
        """Show one event. Never called by two threads at once."""

    def close(self) -> None:
        """Leave standard error clean; called once, however the run ended."""


class Lines(Silent):
    """Prints a line on standard error for each long stage, then one a minute.

    Off a terminal each begins with the date and the time, as lines of a log do.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self._next = self._start + FIRST_LINE_SECONDS

    def handle(self, event: Event) -> None:
        """Print a note at once, and the state of the stage when a line is due."""
        now = self._clock()
        if isinstance(event, StageStarted):
            self._start, self._next = now, now + FIRST_LINE_SECONDS
        elif isinstance(event, Note):
            tell(_stamped(printable(event.text)))
        elif isinstance(event, Advanced) and now >= self._next:
            self._next = now + LINE_SECONDS
            tell(_stamped(progress_line(event, now - self._start)))


def _stamped(line: str) -> str:
    """A line for standard error: on a terminal as it is, else behind the date and the time."""
    return line if sys.stderr.isatty() else f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}"


class Bar(Silent):
    """Shows a bar with rate and time left on standard error, which disappears at the end."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[counts]}", markup=False),
            console=Console(stderr=True, markup=False, highlight=False, emoji=False),
            transient=True,
            redirect_stdout=False,  # what a caller writes there meanwhile stays its own
        )
        self._task: TaskID | None = None
        self._bar.start()

    def handle(self, event: Event) -> None:
        """Start a new bar, move it, or print a note above it."""
        if isinstance(event, StageStarted):
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._start = self._clock()
            self._task = self._bar.add_task(event.stage, total=event.total or None, completed=event.before, counts="")
        elif isinstance(event, Note):
            self._bar.console.print(printable(event.text), soft_wrap=True)
        elif isinstance(event, Advanced) and self._task is not None:
            counts = counts_text(event, self._clock() - self._start)
            self._bar.update(self._task, completed=event.done, counts=counts)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


class Cell(Silent):
    """Shows a bar in the cell of a notebook, of which nothing is left at the end; notes go to standard error.

    rich's own bar wants ipywidgets there, and leaves a closed widget in the notebook that is saved.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self._shown: Any = None  # IPython's handle of the output
        self._next = self._start

    def handle(self, event: Event) -> None:
        """Draw the bar anew, at most five times a second, or print a note."""
        now = self._clock()
        if isinstance(event, StageStarted):
            self._start = now
        elif isinstance(event, Note):
            tell(printable(event.text))
        elif isinstance(event, Advanced) and now >= self._next:
            self._next = now + CELL_SECONDS
            size = f" value={event.done} max={event.total}" if event.total else ""
            text = escape(f"{event.stage}: {counts_text(event, now - self._start)}")
            self._show({"text/html": f"<progress{size}></progress> {text}", "text/plain": text})

    def close(self) -> None:
        """Leave an output without contents, of which nothing is shown."""
        if self._shown is not None:
            self._show({})

    def _show(self, bundle: dict[str, str]) -> None:
        from IPython.display import display

        if self._shown is None:
            self._shown = display(bundle, raw=True, display_id=True)
        else:
            self._shown.update(bundle, raw=True)


def in_notebook() -> bool:
    """Whether what is displayed appears in a notebook, as rich tells it."""
    if "IPython" not in sys.modules:
        return False
    from rich.console import Console

    return Console().is_jupyter


CONSUMERS: dict[str, Callable[[Clock], Silent]] = {"bar": Bar, "lines": Lines, "none": Silent}


class Progress:
    """Passes on the progress of a pipeline; a context manager whose methods any thread may call.

    `callback` gets every event as well, from one thread at a time; an exception in it stops the run.
    """

    def __init__(self, consumer: Silent, callback: Callback | None = None) -> None:
        self._consumer = consumer
        self._callback = callback
        self._stage = StageStarted("", 0, "")
        self._done, self._began = 0, time.perf_counter()
        self.seconds: dict[str, float] = {}  # of the stages that ended
        self._lock = threading.RLock()  # reentrant, for a callback that itself notes something

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self._end_stage()
            if kind is None:
                self._send(Finished())
        finally:
            self._consumer.close()

    def stage(self, name: str, total: int = 0, unit: str = "rows", before: int = 0) -> None:
        """Begin stage `name`, and end the one before; `total` counts `unit`, 0 = not known; `before` are done."""
        with self._lock:
            self._end_stage()
            self._stage, self._done = StageStarted(name, total, unit, before), before
            self._send(self._stage)

    def _end_stage(self) -> None:
        name, began, self._began = self._stage.stage, self._began, time.perf_counter()
        if name:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._began - began

    def advance(self, count: int) -> None:
        """Add `count` to what is done in the current stage."""
        with self._lock:
            self._done += count
            stage = self._stage
            self._send(Advanced(stage.stage, self._done, stage.total, stage.unit, stage.before))

    def note(self, text: str) -> None:
        """Show one line now."""
        self._send(Note(text))

    def _send(self, event: Event) -> None:
        with self._lock:
            self._consumer.handle(event)
            if self._callback is not None:
                self._callback(event)


def reporter(mode: str, callback: Callback | None = None, clock: Clock = time.monotonic) -> Progress:
    """A Progress shown as `mode` says: bar, lines, none; auto is a bar on a terminal and in a notebook, else lines.

    `clock` counts the seconds of rates.

    Raises
    ------
    UsageError
        For an unknown mode, a callback that cannot be called.
    """
    if mode == "auto":
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        mode = "bar" if terminal or in_notebook() else "lines"
    if mode not in CONSUMERS:
        raise UsageError(f"--progress has no value {mode!r}", nearest_name(mode, ["auto", *CONSUMERS]))
    if callback is not None and not callable(callback):
        raise UsageError(f"progress_callback is a {type(callback).__name__}", "give it a function of one event")
    return Progress((Cell if mode == "bar" and in_notebook() else CONSUMERS[mode])(clock), callback)


def counts_text(event: Advanced, seconds: float) -> str:
    """What is done, how fast, and the time left: `1.2 M of 4.0 M rows, 35 k rows/s, 1 min 20 s left`."""
    of = f" of {short_number(event.total)}" if event.total else ""
    rate = f", {short_number(event.rate(seconds))} {event.unit}/s" if seconds > 0 else ""
    left = event.left(seconds)
    remaining = "" if left is None else f", {short_time(left)} left"
    return f"{short_number(event.done)}{of} {event.unit}{rate}{remaining}"


def progress_line(event: Advanced, seconds: float) -> str:
    """A line for a log, `seconds` after the stage began: stage, share, counts, rate, time left."""
    share = f"{100 * event.done / event.total:.0f} %, " if event.total else ""
    return f"{event.stage}: {share}{counts_text(event, seconds)}"


def short_number(number: float) -> str:
    """A number in four characters or so: 999, 1.2 k, 35 k, 4.0 M, 1.5 G, 2.0 T."""
    for letter in ("", " k", " M", " G", " T"):
        if number < 999.5 or letter == " T":
            break
        number /= 1000
    whole = number >= 9.95 or (not letter and number == int(number))
    return f"{number:.{0 if whole else 1}f}{letter}"


def short_time(seconds: float) -> str:
    """A duration in words that fit a line: 4.2 s, 38 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
