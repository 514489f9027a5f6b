"""Tables: the tables beside INPUT. Resources: how it is mined, which changes no row."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minestream.config.option import COUNT, FIRST, OFTEN, Range, option
from minestream.config.parse import parse_memory
from minestream.config.rules import ENGINES
from minestream.system.machine import free_bytes

# The fields of MineConfig that follow from Tables.
DERIVED = {
    "corpus": "two_tables", "qrels": "listed_positives", "exclude": "exclusions", "exclude_rows": "exclusions",
    "embedding_table": "tabled", "candidates": "listed_candidates",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables beside INPUT. Where they lie is not fingerprinted: checksums say what they hold."""

    corpus: str | None = option(
        None, "text", "Retrieval", "Table that positives and negatives come from; INPUT is what is mined for.",
        metavar="TABLE", use=FIRST
    )  # fmt: skip
    qrels: str | None = option(
        None, "text", "Retrieval",
        "Known positives: query_id, positive_id; or query-id, corpus-id, score; or TREC qrels text.",
        flags=("--qrels", "--positive-pairs"), metavar="PAIRS", use=FIRST
    )  # fmt: skip
    exclude: str | None = option(
        None, "text", "Retrieval",
        "Pairs that are neither positive nor negative: query_id, positive_id (columns as of --qrels) or negative_id.",
        metavar="PAIRS", use=OFTEN
    )  # fmt: skip
    exclude_rows: str | None = option(
        None, "text", "Retrieval", "Rows that take no part, by id, or by row where there are no ids.", metavar="TABLE",
        use=OFTEN
    )  # fmt: skip

    candidates: str | None = option(
        None, "text", "Retrieval",
        "Candidates from elsewhere (BM25, ...): a TREC run, or a table query_id, document_id, and rank or score.",
        metavar="PAIRS"
    )  # fmt: skip
    embedding_table: Mapping[str, list[Any]] | None = option(
        None, "named", "Input",
        "Another embedding NAME of the rows in a table of ids and vectors, repeatable (with --corpus twice for each "
        "NAME: for INPUT, for it).", metavar="NAME=TABLE"
    )  # fmt: skip

    def derived(self) -> dict[str, Any]:
        """The fields of MineConfig that follow from these."""
        given = {field for name, field in DERIVED.items() if getattr(self, name) is not None}
        return {field: field in given for field in DERIVED.values()} | {"tabled": tuple(self.embedding_table or ())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """How it is mined: no field changes a byte of the output."""

    vectors: str | None = option(
        None, "text", "Input", "Glob of .npy vectors beside an INPUT of ids and labels, aligned by row.", metavar="GLOB"
    )
    labels: str | None = option(
        None, "text", "Input",
        "File of the labels beside an INPUT of .npy vectors, aligned by row: .npy, or a table, whose columns count.",
        metavar="PATH"
    )  # fmt: skip
    max_rows: int | None = option(
        None, "integer", "Balance",
        "Refuse a run that could write more than N rows: the most there can be counts (never truncates).", metavar="N",
        within=COUNT
    )  # fmt: skip
    require_rows: int | None = option(
        None, "integer", "Output", "Gate: exit 6 when fewer than N rows come out.", metavar="N", within=Range(0)
    )  # fmt: skip
    max_short: str | None = option(
        None, "share", "Output", "Gate: exit 6 when more than P% of the pairs have fewer than k negatives, or none.",
        metavar="P%"
    )  # fmt: skip
    require_recall: float | None = option(
        None, "number", "Output", "Gate: exit 6 when an approximate run finds less of the negatives (99 % sure).",
        metavar="R", within=Range(0, 1, hint="a share: 0.94 is 94 %")
    )  # fmt: skip
    both_directions: bool = option(
        False, "flag", "Retrieval",
        "Mine for the rows of --corpus among those of INPUT, too: a second output beside -o, named NAME.back.parquet."
    )  # fmt: skip
    memory: str = option(
        "auto", "size", "Resources", "Bound on what is allocated for data. auto (default): 60 % of what is free.",
        metavar="SIZE", use=OFTEN
    )  # fmt: skip
    scratch: str | None = option(
        None, "text", "Resources",
        "Folder for vectors that do not fit, and for uploads. Default: the output's folder, or the system's.",
        metavar="DIR",
    )  # fmt: skip
    threads: int | None = option(
        None, "integer", "Resources", "Threads. Default: the cores this process may use.", metavar="N", within=COUNT,
        use=OFTEN
    )  # fmt: skip
    shard: str | None = option(
        None, "text", "Resources", "Mine slice I of N only, to OUT.slices/: minestream merge OUT makes one of all.",
        metavar="I/N"
    )  # fmt: skip
    engine: str = option("local", "choice", "Resources", "What mines the parts.", choices=ENGINES)
    address: str | None = option(
        None, "text", "Resources", "Cluster of the engine that runs already. Default: one is started here.",
        metavar="ADDRESS"
    )  # fmt: skip
    workers: int | None = option(
        None, "integer", "Resources", "Worker processes of an engine that is started here. Default: 1.", metavar="N",
        within=COUNT
    )  # fmt: skip
    resume: bool = option(
        False, "flag", "Output", "Start, or go on with an interrupted run, or say it is complete.", use=OFTEN
    )
    overwrite: bool = option(False, "flag", "Output", "Replace an existing output, or unfinished work.", use=OFTEN)
    dry_run: bool = option(
        False,
        "flag",
        "Resources",
        "Print the plan (rows, pairs, bytes, seconds; exact and approximate, also for --threads N cores) and stop.",
        use=OFTEN,
    )
    progress: str = option(
        "auto", "choice", "Resources", "Progress on standard error.",
        choices={"auto": "bar on a terminal, else lines", "bar": "a bar", "lines": "one line a minute",
                 "none": "nothing"}
    )  # fmt: skip
    remarks: tuple[str, ...] = option((), "derived", "", "What the user should know of the options given.")
    command: str | None = option(None, "derived", "", "The command line that does the same.")
    folder: str | None = option(None, "derived", "", "The folder that its relative paths start from.")
    screen: str = option(
        "auto", "hidden", "", "auto, scan, f32, i16 or i8: what proposes rows (also MINESTREAM_SCREEN)."
    )
    block_rows: int | None = option(None, "hidden", "", "Candidate rows swept together.", within=COUNT)
    batch_rows: int = option(8192, "hidden", "", "Rows read at a time.", within=COUNT)


MEMORY_SHARE = 0.6


def memory_budget(resources: Resources) -> int:
    """Bytes that may be allocated for data."""
    asked = parse_memory(resources.memory)
    return asked if asked is not None else int(MEMORY_SHARE * free_bytes())


def thread_count(resources: Resources) -> int:
    """Threads to run: as asked, else the cores this process may use."""
    return resources.threads or len(os.sched_getaffinity(0))
