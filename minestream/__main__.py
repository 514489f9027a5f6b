"""`python -m minestream`, and the script of this name, are the command line."""

from __future__ import annotations

import sys

from minestream.errors import DefectError, RunInterruptedError
from minestream.system import interrupts
from minestream.system.console import secure, tell
from minestream.system.lean import lean


def start() -> int:
    """Run the command line of the process; its exit code. An interrupt counts while it is still being loaded, too."""
    secure()
    try:
        with interrupts.handled(), lean():
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
