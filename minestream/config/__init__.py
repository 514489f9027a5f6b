"""Options and rules as data: every choice, default, help text and check is a row of a table here."""

from minestream.config import border as border  # errors speak as their caller does, whichever module was loaded first
