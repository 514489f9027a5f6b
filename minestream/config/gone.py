"""What there was once, by its name: each is answered with what does it now, in one line."""

from __future__ import annotations

from minestream.errors import UsageError

_NIGHTLY = "mine again, or only new rows: minestream mine NEW --corpus ALL --shared-ids (or --anchor-where)"
_MARGINS = "mine once for each margin, each to an output of its own"
_GUIDE = "a column of each table holds the guide's vectors: --guide COL"


# Commands, functions and options, and OPTION=VALUE for a value of an option that there still is.
GONE: dict[str, str] = {
    "update": _NIGHTLY, "Update": _NIGHTLY, "reserve": _NIGHTLY,
    "mine_margins": _MARGINS, "margin=several": _MARGINS,
    "guide_queries": _GUIDE, "guide_corpus": _GUIDE,
    "short_rows=pad-random": "minestream export --short-rows repeat, which repeats the pair's own negatives, or drop",
    "plots": "the charts stand as SVG in DIR/report.html: minestream profile INPUT -o DIR",
}  # fmt: skip


def refuse_gone(option: str, value: object) -> None:
    """Raise UsageError for a value that an option takes no more."""
    if (now := GONE.get(f"{option}={'several' if isinstance(value, list | tuple) else value}")) is not None:
        raise UsageError(f"--{option.replace('_', '-')} takes {value!r} no more", now)
