"""Write what comes from the tables (options, bands, picks) and from what was measured into README.md, the guide and
the other pages; and the picture and the JSON Schema.

A block stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; a page holds any of them or none.

    python scripts/readme.py            write them
    python scripts/readme.py --check    exit 1 when a page differs from the tables
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
GUIDE = ROOT / "minestream" / "guide"
PAGES = (*(ROOT / name for name in ("README.md", "bench/README.md", "tests/attacks/README.md")), *GUIDE.glob("*.md"))
PICTURE = GUIDE / "bands.svg"
SCHEMA = GUIDE / "json.schema.json"
sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "scripts")]

from picture import picture  # noqa: E402
from report import curves, filled, short_speed, speed, training  # noqa: E402

from minestream.cli.guide import pages  # noqa: E402
from minestream.cli.main import cli  # noqa: E402
from minestream.cli.options import in_groups, option_rows  # noqa: E402
from minestream.config import batching  # noqa: E402
from minestream.config.metrics import METRICS  # noqa: E402
from minestream.config.rules import BANDS, EMITS, LOSSES, PICKS, POSITIVE_RULES, PRESETS, REFERENCES, SCORES, TEACHERS  # noqa: E402
from minestream.config.trainer_formats import FORMATS, SHORT_ROWS_OF_FORMATS  # noqa: E402
from minestream.errors import EXIT_CODES, nearest_name  # noqa: E402
from minestream.system.contract import CONTRACT, schema  # noqa: E402

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
    for group, specs in in_groups().items():
        rows = [option_row(spec) for spec in specs]
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


PROVEN = (
    "kill -9, SIGINT and SIGTERM at random moments, two runs at once", "damaged bytes, hostile names and tables",
    "inputs, folders and clocks that change, full disks, memory limits, closed streams",
    "hard numbers (denormal, collinear, far clusters, huge classes)", "long runs and many callers in one process",
)  # fmt: skip


def proof() -> str:
    """The attacks in a sentence."""
    found = measured("attacks")
    tried, survived = total(found, "tried"), total(found, "survived")
    return filled(
        f"Of {tried:,} attacks {'all' if tried == survived else f'{survived:,}'} were survived: {'; '.join(PROVEN)}. "
        "After each: no partial file under a final name, no finished part lost, the bytes of an undisturbed run."
    )


def commands() -> str:
    """The commands, each in a line."""
    rows = ((code(f"minestream {name}"), each.get_short_help_str(100)) for name, each in sorted(cli.commands.items()))
    return table(("command", "what it does"), rows)


def guide_pages() -> str:
    """The pages of the guide."""
    return filled(", ".join(pages()) + ".")


def json_shape() -> str:
    """The keys of what --json prints that every command has."""
    return table(
        ("key", "type", "meaning"), ((code(each.path), each.kind, each.meaning) for each in CONTRACT if not each.of)
    )


def json_keys() -> str:
    """Those of single commands."""
    rows = ((code(each.path), each.kind, ", ".join(each.of.split()), each.meaning) for each in CONTRACT if each.of)
    return table(("key", "type", "of", "meaning"), rows)


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
    "formats": lambda: choices("format", FORMATS),
    "losses": lambda: choices("loss", LOSSES),
    "teachers": lambda: choices("teachers", TEACHERS),
    "references": lambda: choices("reference", REFERENCES),
    "short-rows": lambda: choices("short rows", SHORT_ROWS_OF_FORMATS),
    "scores": lambda: choices("scores", SCORES),
    "presets": presets,
    "pairs-from": lambda: choices("--pairs-from", batching.PAIRS_FROM),
    "batch-methods": lambda: choices("method", batching.METHODS),
    "batch-presets": lambda: choices("preset", batching.PRESETS_MEAN),
    "false-negatives": lambda: choices("false negatives", batching.FALSE_NEGATIVES),
    "commands": commands,
    "pages": guide_pages,
    "json": json_shape,
    "json-keys": json_keys,
    "speed": speed,
    "speed-short": short_speed,
    "proof": proof,
    "training": training,
    "scale": curves,
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


def outdated(path: Path, after: str, check: bool) -> bool:
    """Whether a file differs from what it should hold; it is written unless this is a check."""
    differs = not path.exists() or path.read_text(encoding="utf-8") != after
    if differs and check:
        print(f"{path} differs from the tables: run python scripts/readme.py", file=sys.stderr)
    elif differs:
        path.write_text(after, encoding="utf-8")
    return differs


def main(arguments: list[str] | None = None) -> int:
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(description="Write the generated blocks of README.md, the guide and other pages.")
    parser.add_argument("--check", action="store_true", help="exit 1 when a page differs, and write nothing")
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES, help="default: all, the picture and the schema")
    given = parser.parse_args(arguments)
    made = {PICTURE: picture(), SCHEMA: json.dumps(schema(), indent=1) + "\n"}
    differ = [outdated(path, text, given.check) for path, text in made.items()] if given.pages is PAGES else []
    for path in given.pages:
        try:
            differ.append(outdated(path, regenerated(path.read_text(encoding="utf-8")), given.check))
        except (OSError, BlockError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
    return int(given.check and any(differ))


if __name__ == "__main__":
    sys.exit(main())
