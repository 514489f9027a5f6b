"""Options that were given and change nothing: IDLE and IDLE_IN say where, and why, in one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from minestream.config.metrics import METRICS
from minestream.config.mine_config import MineConfig
from minestream.config.option import flag_of
from minestream.config.parse import kept_by
from minestream.config.resources import Resources
from minestream.config.rules import EMITS
from minestream.errors import UsageError


@dataclass(frozen=True, slots=True)
class Asked:
    """A run as it was asked for: resolved, and which options were given (or stand for arrays that were)."""

    config: MineConfig
    resources: Resources
    names: Set[str]


Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class Idle(Generic[Seen]):
    """A row of a table: where `holds`, these options have no effect, because of `why`.

    An option with a remedy can only be a mistake: it is refused, with the remedy as the hint.
    """

    options: tuple[str, ...]
    holds: Callable[[Seen], object]
    why: str
    remedy: str = ""


def _draws(asked: Asked) -> bool:
    config = asked.config
    drawn = (config.anchors, config.anchors_per_label, config.max_uses)
    rules = config.pick != "nearest", config.positives == "random", config.order == "shuffled"
    return any(rules) or any(each is not None for each in drawn)


def _deals_all(asked: Asked) -> bool:
    config = asked.config
    most = config.positives_per_anchor * config.negatives
    return config.positives != "all" and (config.negatives_per_anchor or 0) >= most


IDLE: tuple[Idle[Asked], ...] = (
    Idle(("positives_per_anchor",),
         lambda a: a.config.positives == "all" and "positives" not in a.names and a.config.preset is None,
         "with --qrels every listed positive of an anchor is taken",
         "--positives easiest (or hardest, random) takes N of them"),
    Idle(("positives_per_anchor",), lambda a: a.config.positives == "all", "--positives all takes every one"),
    Idle(("seed",), lambda a: not _draws(a),
         "nothing is drawn: --pick random, --positives random, --anchors and --order shuffled do"),
    Idle(("reference",), lambda a: a.config.absolute_margin is None and a.config.relative_margin is None,
         "no --absolute-margin or --relative-margin is measured from it"),
    Idle(("candidates_as",), lambda a: not a.config.listed_candidates, "there are no --candidates"),
    Idle(("teachers",), lambda a: not a.config.taught, "there is one embedding"),
    Idle(("group_rule",), lambda a: "group_column" not in a.names, "there is no --group-column"),
    Idle(("drop_duplicates_of", "keep_duplicate_positives"), lambda a: a.config.drop_duplicates_within is None,
         "--drop-duplicates-within none lets every duplicate pass"),
    Idle(("keep_duplicate_positives",), lambda a: a.config.positives in ("hardest", "all"),
         "only --positives easiest and random pass over positives equal to the anchor"),
    Idle(("min_grade",), lambda a: not a.config.listed_positives, "there are no --qrels"),
    Idle(("shared_ids",), lambda a: not a.config.two_tables, "there is one table: add --corpus"),
    Idle(("on_missing_ids",),
         lambda a: not (a.config.listed_positives or a.config.exclusions or a.config.listed_candidates),
         "nothing is listed by id: --qrels, --exclude, --exclude-rows and --candidates do"),
    Idle(("embedding",), lambda a: a.resources.vectors, "the vectors are those of --vectors"),
    Idle(("normalize",), lambda a: a.config.metric == "cosine",
         "cosine distances compare directions already (only last digits change)"),
    Idle(("simans_a", "simans_b"), lambda a: a.config.pick != "simans", "--pick simans alone weighs by it"),
    Idle(("within_top",), lambda a: (a.config.pick, a.config.max_per_negative_label, a.config.max_uses)
         == ("nearest", None, None),
         "the nearest always lie within it: --pick random draws among them"),
    Idle(("fallback",), lambda a: a.config.band == "any" and not a.config.similarity_filters,
         "--band any holds every negative: none is left to fall back on"),
    Idle(("negatives_per_anchor",), _deals_all, "an anchor has no more rows than that"),
    Idle(("max_per_negative_label",), lambda a: 0 < a.config.negatives <= (a.config.max_per_negative_label or 0),
         "a pair has no more negatives than that"),
    Idle(("anchors",), lambda a: (a.config.anchors or "").startswith("100%"), "100% are all of them"),
    Idle(("max_similarity",), lambda a: a.config.metric == "cosine" and (a.config.max_similarity or 0) >= 1,
         "no cosine similarity is above 1"),
    Idle(("min_similarity",), lambda a: a.config.metric == "cosine" and (a.config.min_similarity or 0) <= -1,
         "no cosine similarity is below -1"),
    Idle(("max_positive_similarity",),
         lambda a: a.config.metric == "cosine" and (a.config.max_positive_similarity or 0) >= 1,
         "no cosine similarity is above 1"),
    Idle(("min_positive_similarity",),
         lambda a: a.config.metric == "cosine" and (a.config.min_positive_similarity or 0) <= -1,
         "no cosine similarity is below -1"),
    Idle(("loss",), lambda a: a.config.margin is None, "without --margin there is no loss"),
    Idle(("short_rows",), lambda a: a.config.emit == "triplets" and a.config.negatives == 1,
         "a pair without its one negative has no row"),
    Idle(("scores",), lambda a: EMITS[a.config.emit].scores is None, "only tuples hold scores: --emit tuples"),
    Idle(("list_precision", "list_ids"), lambda a: a.config.emit != "lists", "only lists have it: --emit lists"),
    Idle(("require_recall",), lambda a: a.config.approximate is None, "without --approximate nothing is missed"),
    Idle(("require_rows", "max_short", "require_recall", "resume", "overwrite"), lambda a: a.resources.dry_run,
         "--dry-run mines and writes nothing"),
)  # fmt: skip
Facts = Mapping[str, Any]
_ONE_TABLE = "one table was mined"
_MINED_TABLES = ("source", "corpus", "qrels", "exclude", "exclude_rows")

_UNMINED: tuple[Idle[Facts], ...] = (
    Idle(("corpus",), lambda f: not f["two_tables"], _ONE_TABLE),
    Idle(("qrels",), lambda f: "known positives" not in f["roles"], "no positives were listed"),
    Idle(("exclude",), lambda f: "excluded pairs" not in f["roles"], "no pairs were excluded"),
    Idle(("exclude_rows",), lambda f: "excluded rows" not in f["roles"], "no rows were excluded"),
)


# The same of the other commands, by the facts that each hands to `idle`.
IDLE_IN: dict[str, tuple[Idle[Facts], ...]] = {
    "verify": (
        Idle(("sample", "seed", *_MINED_TABLES), lambda f: f["trainer"],
             "a trainer's rows do not say where they come from: checksums alone are compared"),
        Idle(("candidates",), lambda f: "candidates" not in f["roles"], "no candidates were listed"),
        Idle(("seed", *_MINED_TABLES), lambda f: f["sample"] == 0, "--sample 0 derives no anchor again"),
        Idle(("seed",), lambda f: f["every"], "every anchor is derived again, none is drawn"),
        *_UNMINED,
    ),
    "batch": (
        Idle(("false_negative_margin",), lambda f: not f["similar"], "only --false-negatives similar has a margin"),
        Idle(("group_size", "hardness_schedule"), lambda f: f["random"], "--method random makes no communities"),
        Idle(("same",), lambda f: f["unmarked"], "--false-negatives off keeps none apart, and no --mask tells of them"),
        Idle(("source",), lambda f: not f["mined"], "INPUT is the table itself"),
        *_UNMINED,
    ),
    "export": (
        Idle(("text", "query_text", "source", "corpus"), lambda f: not f["texts"], "this format holds no texts"),
        Idle(("source", "corpus"), lambda f: f["carried"], "the texts are those that the mined rows carry"),
        Idle(("corpus",), lambda f: not f["two_tables"], _ONE_TABLE),
        Idle(("corpus",), lambda f: f["texts"] == ("anchor",), "this format holds texts of queries only"),
        Idle(("text",), lambda f: f["texts"] == ("anchor",) and f["query_text"],
             "this format holds texts of queries only, those of --query-text"),
    ),
    "compare": (Idle(("overwrite",), lambda f: f["out"] is None, "without -o nothing is written"),),
    "profile": (
        Idle(("overwrite", "carry"), lambda f: f["out"] is None, "without -o no table is written"),
        Idle(("image",), lambda f: f["out"] is None, "without -o no page is written"),
        Idle(("sample",), lambda f: f["full"], "--full takes every anchor"),
        Idle(("full", "sample"), lambda f: f["few"], "of so few rows every one is an anchor"),
        Idle(("seed",), lambda f: f["every"], "every row is an anchor, none is drawn"),
    ),
    "fit": (Idle(("patience",), lambda f: f["patience"] >= f["epochs"], "there are no more epochs than that"),),
    "merge": (
        Idle(("source", "corpus", "qrels", "exclude", "exclude_rows", "vectors", "labels"),
             lambda f: not f["finishing"],
             "nothing is finished over all rows: only the slices are read"),
    ),
}  # fmt: skip


# What a run may lack: the options that then have no effect, with their defaults.
LACKING: dict[str, dict[str, object]] = {
    "no labels are used": {"unlabeled": "ignore", "unlabeled_value": None, "max_per_negative_label": None},
    "there are no ids": {"on_duplicate_ids": "error"},
    "the pairs of --qrels have no grades": {"min_grade": 1.0},
}


def lacking(what: str, config: MineConfig) -> list[str]:
    """A line for each option of a configuration that has no effect, since something is lacking (a key of LACKING)."""
    changed = (name for name, default in LACKING[what].items() if getattr(config, name) != default)
    return [f"{flag_of(name)} has no effect: {what}" for name in changed]


def remarks(asked: Asked) -> tuple[str, ...]:
    """What the user should know of the options given, one line each.

    Raises
    ------
    UsageError
        For an option without effect that can only be a mistake.
    """
    config = asked.config
    notes = [*_without_effect(IDLE, asked, asked.names), *turned_round(config.relative_margin)]
    if config.split_roles and config.where is None and config.candidate_where is None:
        notes.append(
            "--anchor-where limits anchors alone: positives and negatives come from all rows; --where limits both"
        )
    if config.split_roles and config.where is None and config.anchor_where is None:
        notes.append(
            "--candidate-where limits positives and negatives alone: every row may be an anchor; --where limits both"
        )
    if (config.pick, config.metric) == ("simans", "cosine") and "simans_a" not in asked.names:
        notes.append(
            "--simans-a 1, the default, is for inner products: cosines lie so near each other that it draws almost "
            "uniformly; 100 draws mostly within 0.1 of the positive"
        )
    directed = METRICS[config.metric].unit_rows or config.normalize
    if config.dims is not None and not directed:
        notes.append("--dims takes the first values as they are: --normalize divides each row by the norm of these")
    return tuple(notes)


def turned_round(relative_margin: float | None) -> list[str]:
    """A line for a --relative-margin that may have been meant as the share that is kept."""
    return [f"--relative-margin {kept_by(relative_margin)}"] if relative_margin and relative_margin > 0.5 else []


def idle(command: str, options: Mapping[str, Any], **facts: Any) -> list[str]:
    """Which of a command's options have no effect, one line each; None stands for what was not given."""
    return _without_effect(IDLE_IN[command], facts, given_options(options))


def given_options(options: Mapping[str, Any]) -> set[str]:
    """The names of the options that were given: not None, False or empty."""
    return {
        name for name, value in options.items()
        if not (value is None or value is False or (isinstance(value, str | tuple | list) and not value))
    }  # fmt: skip


def _without_effect(table: Iterable[Idle[Seen]], seen: Seen, names: Set[str]) -> list[str]:
    notes: dict[str, str] = {}
    for row in table:
        for name in row.options if row.holds(seen) else ():
            if name not in names or name in notes:
                continue
            notes[name] = f"{flag_of(name)} has no effect: {row.why}"
            if row.remedy:
                raise UsageError(notes[name], row.remedy)
    return list(notes.values())
