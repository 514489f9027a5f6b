"""`python -m minestream`, and the script of this name, are the command line."""

from __future__ import annotations

import os
import sys

from minestream.errors import DefectError, RunInterruptedError
from minestream.system import interrupts
from minestream.system.console import secure, tell


def start() -> int:
    """Run the command line of the process; its exit code. An interrupt counts while it is still being loaded, too."""
    secure()
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own pools keep what is freed
    try:
        with interrupts.handled():
            from minestream.cli.main import main

            return main()
    except KeyboardInterrupt:
        tell("error: interrupted")
        return RunInterruptedError.exit_code
    except Exception as error:  # a package that is missing or broken, before the command line can say so
        tell(f"error: minestream does not start: {type(error).__name__}: {error}")
        tell("hint: install it again: pip install --force-reinstall minestream")
        return DefectError.exit_code


if __name__ == "__main__":
    sys.exit(start())
