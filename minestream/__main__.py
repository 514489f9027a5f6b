"""`python -m minestream`, and the script of this name, are the command line."""

import sys

from minestream import signals
from minestream.errors import Interrupted
from minestream.standard import secure, tell


def start() -> int:
    """Run the command line of the process; its exit code. An interrupt counts while it is still being loaded, too."""
    secure()
    try:
        with signals.handled():
            from minestream.cli import main

            return main()
    except KeyboardInterrupt:
        tell("error: interrupted")
        return Interrupted.exit_code


if __name__ == "__main__":
    sys.exit(start())
