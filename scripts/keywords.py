"""Write minestream/config/keywords.py: the keywords of the library's functions, as type checkers and editors read them.

python scripts/keywords.py            write it
python scripts/keywords.py --check    exit 1 when it differs from the table of options
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from minestream.config.border import accepted  # noqa: E402
from minestream.config.resolve import OPTION_FIELDS  # noqa: E402

WRITTEN = ROOT / "minestream" / "config" / "keywords.py"
HEAD = '''"""The keywords of the library's functions, from the table of options: written by scripts/keywords.py."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, TypedDict

# fmt: off
# ruff: noqa: UP013
'''
EVERY = set(OPTION_FIELDS)
HIDDEN = {"screen", "block_rows", "batch_rows"}
MACHINES = {"shard", "engine", "address", "workers", "both_directions"}
WRITING = {"resume", "overwrite", "dry_run", "require_rows", "max_short", "require_recall"}
FINISHING = {"order", "max_uses"}
PAIRS = {"qrels", "exclude", "exclude_rows"}
ROLES = {"where", "anchor_where", "candidate_where", "negatives_at"}
COLUMNS = {"embedding", "label", "id", "group_column", "version_column", "carry", "vectors", "labels", "vector_type"}
TEACHING = {"teachers", "embedding_table"}
HOW = {"memory", "scratch", "threads", "progress"}
SELECTED = (
    FINISHING | WRITING - {"dry_run", "require_recall"} | HOW
    | {"preset", "carry", "margin", "band", "negatives", "pick", "skip", "within_top", "simans_a", "simans_b",
       "draw_weights", "positives", "positives_per_anchor", "keep_duplicate_positives", "seed", "max_similarity",
       "min_similarity", "absolute_margin", "relative_margin", "reference", "guide", "anchors",
       "anchors_per_label", "negatives_per_anchor", "max_per_negative_label", "emit", "loss", "swap", "short_rows",
       "float64", "max_rows", "min_positive_similarity", "max_positive_similarity", "max_positive_rank",
       "rank_positives"}
)  # fmt: skip
# What each takes; of the rest it says, when it is given, why it is not taken.
TAKES: dict[str, tuple[str, set[str]]] = {
    "MineOptions": ("mine", EVERY),
    "PipeOptions": ("mine_pipe", EVERY - MACHINES - FINISHING - {"resume", "overwrite"}),
    "BatchOptions": ("mine_batches", EVERY - MACHINES - FINISHING - WRITING),
    "ArrayOptions": (
        "mine_arrays", EVERY - MACHINES - WRITING - COLUMNS - ROLES - TEACHING - {"window", "corpus", "guide"},
    ),
    "EstimatorOptions": (
        "the estimators for scikit-learn",
        EVERY - MACHINES - WRITING - COLUMNS - ROLES - PAIRS - HIDDEN - TEACHING
        - {"window", "corpus", "guide", "min_grade", "shared_ids", "on_missing_ids", "on_duplicate_ids", "group_rule",
           "emit", "epsilon", "positive_margin", "loss", "swap", "short_rows", "scores", "order", "float64", "max_rows",
           "scratch", "progress"},
    ),
    "WindowOptions": (
        "Miner",
        EVERY - MACHINES - FINISHING - WRITING - PAIRS - ROLES - TEACHING
        - {"window", "approximate", "candidates", "candidates_as", "min_grade", "shared_ids", "on_missing_ids",
           "anchors", "anchors_per_label", "corpus", "guide", "max_rows", "vectors", "labels"},
    ),
    "ProfileOptions": (
        "profile",
        COLUMNS - {"version_column"} | HOW | HIDDEN
        | {"dims", "group_rule", "unlabeled_value", "on_bad_rows", "on_duplicate_ids", "on_missing_ids", "metric",
           "normalize",
           "exclude", "exclude_rows"},
    ),
    "FitOptions": (
        "fit",
        {"embedding", "label", "id", "vectors", "labels", "vector_type", "dims", "unlabeled_value", "on_bad_rows",
         "metric", "normalize", "margin", "band", "pick", "negatives", "positives", "positives_per_anchor", "memory",
         "threads", "overwrite", "progress"},
    ),
    "CompareOptions": (
        "compare",
        {"embedding", "label", "id", "unlabeled_value", "vector_type", "dims", "metric", "normalize", "on_bad_rows",
         "on_duplicate_ids"}
        | HOW | HIDDEN,
    ),
    "SelectOptions": ("select", SELECTED),
    "RefilterOptions": ("refilter", SELECTED - {"negatives"}),
    "ComposeOptions": (
        "batch",
        COLUMNS - {"version_column", "carry"} | HOW | PAIRS | HIDDEN
        | {"corpus", "where", "dims", "group_rule", "unlabeled", "unlabeled_value", "on_bad_rows", "on_duplicate_ids",
           "on_missing_ids", "min_grade", "shared_ids", "metric", "normalize", "overwrite"},
    ),
    "MergeOptions": (
        "merge",
        HOW | PAIRS | WRITING - {"dry_run"} | {"corpus", "embedding_table", "vectors", "labels"},
    ),
}  # fmt: skip


def text() -> str:
    """The module: a TypedDict for each function."""
    return HEAD + "".join(f"\n{one}" for one in map(_written, TAKES))


def _written(title: str) -> str:
    taken = (spec for name, spec in OPTION_FIELDS.items() if name in TAKES[title][1])
    pairs = textwrap.wrap(", ".join(f'"{spec.name}":~{accepted(spec)}'.replace(" ", "~") for spec in taken), 116)
    lines = "\n".join(f"    {line}" for line in pairs).replace("~", " ")
    return f'# Of {TAKES[title][0]}.\n{title} = TypedDict("{title}", {{\n{lines},\n}}, total=False)\n'


def main(arguments: list[str]) -> int:
    """Write or check; the exit code."""
    made = text()
    if arguments != ["--check"]:
        WRITTEN.write_text(made, encoding="utf-8")
        return 0
    same = WRITTEN.read_text(encoding="utf-8") == made
    if not same:
        print(f"{WRITTEN.name} differs from the table of options: run python scripts/keywords.py", file=sys.stderr)
    return int(not same)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
