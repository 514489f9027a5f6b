"""MineConfig says what is mined (and is fingerprinted), Resources how: it never changes the rows.

The fields are the one table of options: the command line, its help, the library's keywords, the checks and the README
are made from them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any

from minestream.errors import UsageError, nearest_name
from minestream.metric import METRICS
from minestream.rules import (
    BAND_ALIASES,
    BANDS,
    DUPLICATES_OF,
    EMITS,
    GROUP_RULES,
    LOSSES,
    ORDERS,
    PICKS,
    POSITIVE_RULES,
    SCORES,
    SHORT_ROWS,
    UNLABELED,
    VALID,
)  # fmt: skip

GROUPS = ("Input", "What is mined", "Balance", "Output", "Resources")


def option(
    default: Any,
    kind: str,
    group: str,
    help: str,
    *,
    flags: tuple[str, ...] = (),
    choices: Mapping[str, object] | None = None,
    metavar: str = "",
) -> Any:
    """A field that is also an option; `kind` names how the command line reads it (cli.py), or hidden."""
    meta = {"kind": kind, "group": group, "help": help, "flags": flags, "choices": choices, "metavar": metavar}
    return field(default=default, metadata=meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class MineConfig:
    """What is mined. Every field is a same-named option of `minestream mine`; see its help for the meanings."""

    embedding: str | None = option(
        None,
        "text",
        "Input",
        "Column of the embeddings. Default: found by name, else by type.",
        flags=("--embedding", "--embedding-column"),
        metavar="COL",
    )
    label: str | None = option(
        None,
        "text",
        "Input",
        "Column of the labels: int, string, bool, or lists of them. Default: found likewise.",
        flags=("--label", "--label-column"),
        metavar="COL",
    )
    id: str | None = option(
        None,
        "text",
        "Input",
        "Column of the ids: int or string. Without one, rows go by number.",
        flags=("--id", "--id-column"),
        metavar="COL",
    )
    group_column: str | None = option(
        None, "text", "Input", "Column of groups (document, session, camera): see --group-rule.", metavar="COL"
    )
    carry: tuple[str, ...] = option(
        (),
        "repeat",
        "Input",
        "Column to carry to the output as anchor_COL, positive_COL, negative_COL (repeatable).",
        metavar="COL",
    )
    unlabeled: str = option("ignore", "choice", "Input", "What rows with a null label are.", choices=UNLABELED)
    unlabeled_value: str | None = option(
        None, "text", "Input", "A label value that means null, for sets that write -1.", metavar="V"
    )
    on_bad_rows: str = option(
        "error",
        "choice",
        "Input",
        "Rows with NaN or inf, and zero rows where the metric needs a direction.",
        choices={"error": "refuse the input", "drop": "leave them out, counted"},
    )
    on_duplicate_ids: str = option(
        "error",
        "choice",
        "Input",
        "Rows that share an id.",
        choices={"error": "refuse the input", "last": "the last row counts", "first": "the first row counts"},
    )

    metric: str = option("cosine", "choice", "What is mined", "Distance.", choices=METRICS)
    margin: float | None = option(
        None,
        "number",
        "What is mined",
        "Margin m, in units of the metric. Default for cosine: 0.2 (pairs 0.5); the others have no principled default.",
        metavar="M",
    )
    band: str = option(
        None,
        "choice",
        "What is mined",
        "Which negatives, by distance x, the positive's p and the margin m. Default: semi-hard (pairs: violating).",
        choices=BANDS,
    )
    negatives: int = option(
        None,
        "integer",
        "What is mined",
        "Negatives k for each (anchor, positive). Default: 1 (--emit pairs: 16 a row, 0 = all).",
        flags=("-k", "--negatives"),
        metavar="K",
    )
    pick: str = option("nearest", "choice", "What is mined", "Which k of the eligible negatives.", choices=PICKS)
    skip: int = option(0, "integer", "What is mined", "Leave out the S nearest eligible negatives first.", metavar="S")
    positives: str = option(
        "easiest", "choice", "What is mined", "Which positives of an anchor.", choices=POSITIVE_RULES
    )
    positives_per_anchor: int = option(1, "integer", "What is mined", "Positives for each anchor.", metavar="N")
    normalize: bool = option(False, "flag", "What is mined", "Divide every row by its norm first.")
    drop_duplicates_within: float | None = option(
        0.0,
        "threshold",
        "What is mined",
        "Drop negatives within T of the anchor's or the positive's vector. 0 (default): equal vectors only; none: off.",
        metavar="T|none",
    )
    drop_duplicates_of: str = option(
        "both", "choice", "What is mined", "Whose near duplicates are dropped.", choices=DUPLICATES_OF
    )
    keep_duplicate_positives: bool = option(
        False, "flag", "What is mined", "Do not pass over positives within T of the anchor."
    )
    group_rule: str = option(
        "both", "choice", "What is mined", "The kinds of pair that rows of one group may not form.", choices=GROUP_RULES
    )
    seed: int = option(0, "integer", "What is mined", "Seed of every draw.", metavar="INT")

    anchors: str | None = option(
        None, "share", "Balance", "Mine for N anchors, or P% of them, drawn by the seed.", metavar="N|P%"
    )
    anchors_per_label: int | None = option(
        None, "integer", "Balance", "At most N anchors a label, drawn by the seed.", metavar="N"
    )
    negatives_per_anchor: int | None = option(
        None,
        "integer",
        "Balance",
        "At most K rows an anchor, dealt round by round over its positives (triplets).",
        metavar="K",
    )

    emit: str = option("triplets", "choice", "Output", "Shape of the output.", choices=EMITS)
    loss: str | None = option(
        None, "choice", "Output", "Loss column. Default: triplet (pairs: contrastive).", choices=LOSSES
    )
    swap: bool = option(False, "flag", "Output", "Loss with the smaller of d(a, n) and d(p, n); adds distance_pn.")
    short_rows: str | None = option(
        None, "choice", "Output", "Pairs with fewer than k negatives. Default: keep (tuples: drop).", choices=SHORT_ROWS
    )
    scores: str | None = option(
        None, "choice", "Output", "Column scores of tuples. Default for cosine and dot: similarity.", choices=SCORES
    )
    order: str = option("anchor", "choice", "Output", "Order of the rows.", choices=ORDERS)
    float64: bool = option(False, "flag", "Output", "Store distances and losses as double.")

    def resolved(self) -> MineConfig:
        """This configuration with every default filled in and every combination checked.

        Raises
        ------
        UsageError
            For an unknown name, a value out of range, or a combination VALID refuses.
        """
        config = replace(self, band=BAND_ALIASES.get(self.band or "", self.band))
        for spec in fields(config):
            check_choice(spec, getattr(config, spec.name))
        emit, metric = EMITS[config.emit], METRICS[config.metric]
        defaults: dict[str, Any] = {
            "negatives": emit.negatives,
            "band": emit.bands[0],
            "loss": emit.losses[0],
            "short_rows": emit.short_rows,
            "margin": emit.cosine_margin if metric.default_margin else None,
            "scores": "similarity" if metric.similarity and config.emit == "tuples" else None,
        }
        config = replace(config, **{name: value for name, value in defaults.items() if getattr(config, name) is None})
        anchor_share(config.anchors, 1)
        for check in VALID:
            if check.refuses(config):
                raise UsageError(check.message.format(**config.to_dict()), check.hint)
        return config

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, as JSON holds it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when any field does."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """How it is mined: nothing here changes a byte of the output."""

    vectors: str | None = option(
        None,
        "text",
        "Input",
        "Glob of .npy vectors beside an INPUT Parquet of ids and labels, aligned by row.",
        metavar="GLOB",
    )
    max_rows: int | None = option(
        None, "integer", "Balance", "Refuse a run that would write more than N rows (never truncates).", metavar="N"
    )
    require_rows: int | None = option(
        None, "integer", "Output", "Gate: exit 6 when fewer than N rows come out.", metavar="N"
    )
    max_short: str | None = option(
        None, "share", "Output", "Gate: exit 6 when more than P% of the pairs are short.", metavar="P%"
    )
    memory: str = option(
        "auto",
        "size",
        "Resources",
        "Bound on what is allocated for data. auto (default): 60 % of what is free.",
        metavar="SIZE",
    )
    scratch: str | None = option(
        None, "text", "Resources", "Folder for vectors that do not fit. Default: the output's folder.", metavar="DIR"
    )
    threads: int | None = option(
        None, "integer", "Resources", "Threads. Default: the cores this process may use.", metavar="N"
    )
    resume: bool = option(False, "flag", "Output", "Start, or go on with an interrupted run, or say it is complete.")
    overwrite: bool = option(False, "flag", "Output", "Replace an existing output, or unfinished work.")
    dry_run: bool = option(False, "flag", "Resources", "Print the plan (rows, pairs, bytes, seconds) and stop.")
    progress: str = option(
        "auto",
        "choice",
        "Resources",
        "Progress on standard error.",
        choices={
            "auto": "bar on a terminal, else lines",
            "bar": "a bar",
            "lines": "one line a minute",
            "none": "nothing",
        },
    )
    screen: str = option("auto", "hidden", "", "auto, scan, f32 or i8: what proposes rows (also MINESTREAM_SCREEN).")
    block_rows: int | None = option(None, "hidden", "", "Candidate rows swept together.")
    batch_rows: int = option(8192, "hidden", "", "Rows read at a time.")


OPTION_FIELDS: dict[str, Field[Any]] = {spec.name: spec for spec in (*fields(MineConfig), *fields(Resources))}

FOREIGN_OPTIONS: dict[str, str] = {
    "num_negatives": "--negatives (-k)", "range_min": "--skip", "range_max": "nothing: every candidate is looked at",
    "n_negatives": "--negatives (-k)", "hn_mining": "--band", "type_of_triplets": "--band", "miner": "--band",
    "top_k": "--negatives (-k)", "k": "--negatives (-k)", "alpha": "--margin", "p_positives": "--positives",
    "sampling_strategy": "--pick", "batch_size": "--memory", "num_workers": "--threads", "n_jobs": "--threads",
    "output_format": "--emit", "output_scores": "--scores", "embedding_column": "--embedding", "labels": "--label",
    "distance": "--metric", "include_positives": "--emit tuples", "output": "-o", "random_state": "--seed",
    "max_score": "nothing yet: --band and --drop-duplicates-within bound how near a negative may be",
    "min_score": "nothing yet: --band semi-hard bounds how far a negative may be",
    "relative_margin": "nothing yet: --band semi-hard with --margin keeps negatives beyond the positive",
    "absolute_margin": "nothing yet: --band semi-hard with --margin keeps negatives beyond the positive",
}  # fmt: skip


def flag_of(name: str) -> str:
    """The long command-line option of a field."""
    flags: tuple[str, ...] = OPTION_FIELDS[name].metadata["flags"]
    long = [flag for flag in flags if flag.startswith("--")]
    return long[0] if long else "--" + name.replace("_", "-")


def check_choice(spec: Field[Any], value: object) -> None:
    """Refuse a value outside the field's choices, naming the nearest one."""
    choices = spec.metadata["choices"]
    if choices is None or value is None or value in choices:
        return
    raise UsageError(f"{flag_of(spec.name)} has no value {value!r}", nearest_name(str(value), list(choices)))


def unknown_option(name: str) -> UsageError:
    """The error for a keyword that is no option, answering other tools' names with ours."""
    plain = name.lstrip("-").replace("-", "_")
    if plain in FOREIGN_OPTIONS:
        return UsageError(f"no option {name!r}", f"here that is {FOREIGN_OPTIONS[plain]}")
    return UsageError(f"no option {name!r}", nearest_name(plain, list(OPTION_FIELDS)))


def split_options(options: Mapping[str, Any]) -> tuple[MineConfig, Resources]:
    """Keywords as (resolved MineConfig, Resources).

    Raises
    ------
    UsageError
        For an unknown keyword or value, or a combination that means nothing.
    """
    for name in options:
        if name not in OPTION_FIELDS:
            raise unknown_option(name)
    given = dict(options)
    if isinstance(given.get("carry"), str):
        given["carry"] = (given["carry"],)
    given["carry"] = tuple(given.get("carry") or ())
    for name in ("anchors", "unlabeled_value", "memory", "max_short"):
        if given.get(name) is not None:
            given[name] = str(given[name])
    if isinstance(given.get("drop_duplicates_within"), str):
        given["drop_duplicates_within"] = parse_threshold(given["drop_duplicates_within"])
    what = {spec.name for spec in fields(MineConfig)}
    resources = Resources(**{name: value for name, value in given.items() if name not in what})
    for spec in fields(resources):
        check_choice(spec, getattr(resources, spec.name))
    parse_memory(resources.memory)
    short_share(resources.max_short)
    if resources.threads is not None and resources.threads < 1:
        raise UsageError("--threads must be at least 1")
    return MineConfig(**{name: value for name, value in given.items() if name in what}).resolved(), resources


def parse_threshold(text: str) -> float | None:
    """A distance, or None for the word none."""
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--drop-duplicates-within takes a distance or none, not {text!r}") from None


UNITS = {"": 1, "B": 1, "K": 2**10, "KB": 10**3, "KIB": 2**10, "M": 2**20, "MB": 10**6, "MIB": 2**20, "G": 2**30,
         "GB": 10**9, "GIB": 2**30, "T": 2**40, "TB": 10**12, "TIB": 2**40}  # fmt: skip


def parse_memory(text: str) -> int | None:
    """A size in bytes, such as 256MiB, 8GB or 1.5G; None for auto."""
    if text == "auto":
        return None
    digits = text.strip().rstrip("BbKkMmGgTtIi ")
    unit = text.strip()[len(digits) :].strip().upper()
    try:
        size = int(float(digits) * UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"--memory takes auto or a size such as 256MiB or 8GB, not {text!r}") from None
    if size < 16 * 2**20:
        raise UsageError(f"--memory {text} is below the 16 MiB that any run needs")
    return size


def anchor_share(text: str | None, available: int) -> int:
    """How many of `available` anchors `N` or `P%` asks for: P% is rounded up."""
    if text is None:
        return available
    percent = text.endswith("%")
    try:
        number = float(text[:-1]) if percent else int(text)
    except ValueError:
        raise UsageError(f"--anchors takes a number or a percentage, not {text!r}") from None
    if not number > 0 or (percent and number > 100):
        raise UsageError(f"--anchors {text} asks for no anchor", "a number from 1, or a percentage up to 100%")
    wanted = -int(-number * available // 100) if percent else int(number)
    return min(wanted, available)


def short_share(text: str | None) -> float | None:
    """The share 0..1 that `P%` means, or None."""
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--max-short takes a percentage from 0% to 100%, not {text!r}")
    return share
