"""An interrupt that Python loses still ends the run."""

from __future__ import annotations

import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import minestream
from minestream.config.mine_config import MineConfig
from minestream.config.resolve import resolved
from minestream.outputs import atomic
from minestream.outputs import run as sink
from minestream.system import interrupts
from minestream.system.threads import Workers


class Fragile:
    """Its destructor is where the signal lands: Python prints the exception and goes on."""

    def __del__(self) -> None:
        interrupts.interrupt(signal.SIGINT, None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_lost_interrupt_ends_the_next_tasks(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_asked", [])
    workers, done = Workers(threads), []
    workers.run([lambda: done.append(1)])
    thing = Fragile()
    del thing
    with pytest.raises(KeyboardInterrupt):
        workers.run([lambda: done.append(2)])
    assert done == [1]
    workers.close()


@pytest.mark.parametrize("asked", [False, True])
def test_what_an_interrupt_leaves_half_made_prints_nothing(
    asked: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A constructor that an interrupt breaks off, and a destructor that misses what it would have set."""

    class HalfMade:
        def __init__(self) -> None:
            if asked:
                interrupts.interrupt(signal.SIGINT, None)
            raise KeyboardInterrupt

        def __del__(self) -> None:
            raise AttributeError("owned")

    monkeypatch.setattr(interrupts, "_asked", [])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    with suppress(KeyboardInterrupt), interrupts.handled():
        HalfMade()
    assert ("owned" in capsys.readouterr().err) == (not asked)


def test_a_second_interrupt_waits_for_the_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_asked", [])
    with pytest.raises(KeyboardInterrupt):
        interrupts.interrupt(signal.SIGINT, None)
    interrupts.interrupt(signal.SIGINT, None)
    interrupts.interrupt(signal.SIGTERM, None)
    monkeypatch.setattr(interrupts, "GRACE_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        interrupts.interrupt(signal.SIGINT, None)


def test_an_interrupt_while_a_place_is_taken_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lands between the making of OUT.partial and the block that removes it."""
    monkeypatch.setattr(interrupts, "_asked", [])
    write_json, seen = atomic.write_json, []

    def interrupted(path: Path, values: dict[str, Any]) -> None:
        seen.append(path.parent.exists())
        interrupts.interrupt(signal.SIGINT, None)
        write_json(path, values)

    monkeypatch.setattr("minestream.outputs.run.write_json", interrupted)
    rows = pa.table({"embedding": [[0.0, 1.0]] * 8, "label": [0, 1] * 4})
    with pytest.raises(KeyboardInterrupt):
        minestream.mine(rows, tmp_path / "out.parquet", progress="none")
    assert seen == [True]
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_a_place_is_given_back_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts, "_asked", [])
    rmtree = shutil.rmtree

    def interrupted(*args: Any, **kwargs: Any) -> None:
        interrupts.interrupt(signal.SIGINT, None)
        rmtree(*args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    output = sink.Output(tmp_path / "out.parquet")
    run = output.begin(
        resume=False, overwrite=False, config=resolved(MineConfig()).to_dict(), fingerprint="f" * 16, parts=1,
        source=[], columns={},
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt), run:
        raise ValueError
    assert run.lock is None
    assert list(tmp_path.iterdir()) == []
