"""`python -m minestream` is the command line."""

import sys

from minestream.cli import main

sys.exit(main())
