"""How much work a second past runs did on this machine, recorded in the cache folder of the kernels."""

from __future__ import annotations

import json
import math
import os
import threading
from contextlib import suppress
from typing import Any

from minestream.kernels import cache_root

FILE = "minestream-rates.json"
MOST = 256  # rates; the oldest are forgotten
LEAST_SECONDS = 0.1  # the rate of a shorter run says little


def kept_rate(kind: str) -> float | None:
    """The work a second of past runs with this key (Mining.rate_key); None when there was none."""
    rate = _kept().get(kind)
    return float(rate) if isinstance(rate, int | float) and 0 < rate < math.inf else None


def keep_rate(kind: str, work: float, seconds: float) -> None:
    """Record the rate of a run: the mean of it and the recorded rate. A folder that cannot be written is no error."""
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
    """The recorded rates; empty when the file is missing or broken."""
    root = cache_root()
    try:
        found = json.loads((root / FILE).read_bytes()) if root else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
