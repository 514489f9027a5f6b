"""Write the blocks of README.md that come from the tables (options, bands, picks) and from what was measured.

A block stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; a README holds any of them or none.

    python scripts/readme.py            write them
    python scripts/readme.py --check    exit 1 when README.md differs from the tables
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from report import speed  # noqa: E402

from minestream.cli.mining import OUTPUT_HELP, option_rows, visible_fields  # noqa: E402
from minestream.config.metrics import METRICS  # noqa: E402
from minestream.config.option import GROUPS  # noqa: E402
from minestream.config.rules import BANDS, EMITS, LOSSES, PICKS, POSITIVE_RULES, PRESETS, REFERENCES, SHORT_ROWS  # noqa: E402
from minestream.errors import EXIT_CODES, nearest_name  # noqa: E402

BLOCK = re.compile(r"<!-- begin: (?P<name>[\w-]+) -->\n(?P<body>.*?)<!-- end: (?P<end>[\w-]+) -->", re.DOTALL)
MARK = re.compile(r"<!-- (?:begin|end): [\w-]+ -->")


ATTACKS_SHOWN = 8  # of a kind


class BlockError(ValueError):
    """A block that does not exist, or marks that do not pair."""


def table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(text: str) -> str:
    """Text in the type of code."""
    return f"`{text}`"


def meaning(choice: object) -> str:
    """What a choice means: its condition, where it has one, and its line of help."""
    condition, text = getattr(choice, "condition", ""), str(getattr(choice, "help", choice))
    return f"{condition}: {text}" if condition else text


def choices(title: str, named: Mapping[str, object]) -> str:
    """A table of names with their meanings."""
    return table((title, "meaning"), ((code(name), meaning(choice)) for name, choice in named.items()))


def bands() -> str:
    """The bands with their conditions."""
    rows = ((code(name), code(band.condition), band.help) for name, band in BANDS.items())
    return table(("band", "condition", "meaning"), rows)


def option_row(spec: Field[Any]) -> tuple[str, str]:
    """One option: its names, its help, and its choices with the default in bold."""
    named = spec.metadata["choices"] or {}
    listed = ", ".join(f"**{code(name)}**" if name == spec.default else code(name) for name in named)
    names, text = next(iter(option_rows(spec)))
    return code(names), f"{text} {listed}".strip()


def options() -> str:
    """A table of options for each group."""
    parts = []
    for group in GROUPS:
        rows = [option_row(spec) for spec in visible_fields() if spec.metadata["group"] == group]
        if group == "Output":
            rows.insert(0, (code("-o, --out OUT"), OUTPUT_HELP))
        parts.append(f"**{group}**\n\n{table(('option', 'meaning (default in bold)'), rows)}")
    return "\n\n".join(parts)


def presets() -> str:
    """The presets with the options they stand for."""
    rows = (
        (code(name), preset.help, ", ".join(code(f"{option}={value}") for option, value in preset.options.items()))
        for name, preset in PRESETS.items()
    )
    return table(("preset", "rule", "options"), rows)


def exit_codes() -> str:
    """The exit codes."""
    return table(("exit code", "meaning"), ((str(number), text) for number, text in EXIT_CODES.items()))


def attacks() -> str:
    """How often each kind of attack of the tests was tried, and survived."""
    found = measured("attacks")
    kinds = {row["kind"]: [other for other in found if other["kind"] == row["kind"]] for row in found}
    rows = (
        (
            kind,
            attacks_named([row["what"] for row in own]),
            *(f"{total(own, each):,}" for each in ("tried", "survived")),
        )
        for kind, own in kinds.items()
    )
    said = f"{total(found, 'survived'):,} of {total(found, 'tried'):,} attacks survived."
    return f"{said}\n\n{table(('attack', 'what is done', 'tried', 'survived'), rows)}"


def total(rows: Iterable[Mapping[str, Any]], name: str) -> int:
    """The sum of a column."""
    return sum(row[name] for row in rows)


def attacks_named(named: Iterable[str]) -> str:
    """What was done, without the cases of each, and no more than a few."""
    whole = list(dict.fromkeys(name.partition(":")[0] for name in named))
    more = f"; {len(whole) - ATTACKS_SHOWN} more" if len(whole) > ATTACKS_SHOWN else ""
    return "; ".join(whole[:ATTACKS_SHOWN]) + more


def defects() -> str:
    """What attacks found, and the tests that fail without the mending."""
    rows = ((row["found"], row["now"], code(row["test"])) for row in measured("defects"))
    return table(("found", "now", "fails without it"), rows)


def measured(name: str) -> Any:
    """What a file of bench/results holds."""
    return json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text(encoding="utf-8"))


BLOCKS: dict[str, Callable[[], str]] = {
    "attacks": attacks,
    "defects": defects,
    "options": options,
    "exit-codes": exit_codes,
    "bands": bands,
    "picks": lambda: choices("pick", PICKS),
    "positives": lambda: choices("positives", POSITIVE_RULES),
    "metrics": lambda: choices("metric", METRICS),
    "emits": lambda: choices("emit", EMITS),
    "losses": lambda: choices("loss", LOSSES),
    "references": lambda: choices("reference", REFERENCES),
    "short-rows": lambda: choices("short rows", SHORT_ROWS),
    "presets": presets,
    "speed": speed,
}


def block(found: re.Match[str]) -> str:
    """One block with its marks, made anew."""
    name = found["name"]
    if name != found["end"] or MARK.search(found["body"]):
        raise BlockError(f"block {name!r} is not closed by its own end mark")
    if name not in BLOCKS:
        raise BlockError(f"no block {name!r}: {nearest_name(name, list(BLOCKS))}")
    return f"<!-- begin: {name} -->\n\n{BLOCKS[name]()}\n\n<!-- end: {name} -->"


def regenerated(text: str) -> str:
    """The text with every block made anew.

    Raises
    ------
    BlockError
        For an unknown block, or a mark without its partner.
    """
    if MARK.search(BLOCK.sub("", text)):
        raise BlockError(f"a mark without its partner: {MARK.findall(BLOCK.sub('', text))[0]}")
    return BLOCK.sub(block, text)


def main(arguments: list[str] | None = None) -> int:
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(description="Write the generated blocks of README.md.")
    parser.add_argument("--check", action="store_true", help="exit 1 when README.md differs, and write nothing")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    given = parser.parse_args(arguments)
    try:
        before = given.readme.read_text(encoding="utf-8")
        after = regenerated(before)
    except (OSError, BlockError) as error:
        print(f"{given.readme}: {error}", file=sys.stderr)
        return 2
    if given.check:
        if after != before:
            print(f"{given.readme} differs from the tables: run python scripts/readme.py", file=sys.stderr)
        return int(after != before)
    given.readme.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
