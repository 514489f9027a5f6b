"""An interrupt that Python loses still ends the run."""

from __future__ import annotations

import signal

import pytest

from minestream import signals
from minestream.workers import Workers


class Fragile:
    """Its destructor is where the signal lands: Python prints the exception and goes on."""

    def __del__(self) -> None:
        signals.interrupt(signal.SIGINT, None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_lost_interrupt_ends_the_next_tasks(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_asked", [])
    workers, done = Workers(threads), []
    workers.run([lambda: done.append(1)])
    thing = Fragile()
    del thing
    with pytest.raises(KeyboardInterrupt):
        workers.run([lambda: done.append(2)])
    assert done == [1]
    workers.close()


def test_a_second_interrupt_waits_for_the_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_asked", [])
    with pytest.raises(KeyboardInterrupt):
        signals.interrupt(signal.SIGINT, None)
    signals.interrupt(signal.SIGINT, None)
    signals.interrupt(signal.SIGTERM, None)
    monkeypatch.setattr(signals, "GRACE_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        signals.interrupt(signal.SIGINT, None)
