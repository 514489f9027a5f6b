"""How much work a second runs of each kind have done on this machine, kept beside the compiled kernels."""

from __future__ import annotations

import json
import math
import os
import threading
from contextlib import suppress
from typing import Any

from minestream.kernels import cache_root

FILE = "rates.json"
MOST = 256  # kinds of runs; those that were kept first are forgotten
LEAST_SECONDS = 0.1  # shorter runs say little


def kept_rate(kind: str) -> float | None:
    """The work a second that runs of this kind have done; None where none is known."""
    rate = _kept().get(kind)
    return float(rate) if isinstance(rate, int | float) and 0 < rate < math.inf else None


def keep_rate(kind: str, work: float, seconds: float) -> None:
    """Keep what a run has done: half of what is known, half of this. A folder that takes nothing is no error."""
    root = cache_root()
    if root is None or seconds < LEAST_SECONDS or work <= 0:
        return
    rate = work / seconds
    rates = _kept() | {kind: ((kept_rate(kind) or rate) + rate) / 2}
    temporary = root / f"{FILE}.{os.getpid()}.{threading.get_ident()}"
    with suppress(OSError):
        temporary.write_text(json.dumps(dict(list(rates.items())[-MOST:]), indent=1), encoding="utf-8")
        os.replace(temporary, root / FILE)


def _kept() -> dict[str, Any]:
    """The file of rates; nothing where it is missing, or is no such file."""
    root = cache_root()
    try:
        found = json.loads((root / FILE).read_bytes()) if root else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
