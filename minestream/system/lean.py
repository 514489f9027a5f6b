"""What keeps the process of the command line, and the workers that a run starts, small."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Unneeded:
    """An import finder that hides pandas from Arrow alone.

    Arrow loads pandas, where it is installed, with the first array that it makes: 30 MB and a third of a second for
    nothing, because neither the command line nor its workers meet frames. What a library imports for itself it finds.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            frame = sys._getframe(1)
            while frame.f_back and "importlib" in frame.f_globals["__name__"]:
                frame = frame.f_back
            if frame.f_globals["__name__"].partition(".")[0] in ("minestream", "pyarrow"):  # Arrow's own code has none
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@contextmanager
def lean() -> Iterator[None]:
    """Within the block Arrow loads no pandas, and gives memory back that it no longer uses, if it is loaded there."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own pools keep what is freed
    finder = _Unneeded()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
