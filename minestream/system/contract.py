"""What `--json` prints: one shape for every command.

CONTRACT is its one table: the guide shows it, and the JSON Schema is made of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from minestream._version import VERSION

SCHEMA_VERSION = 1
STATES = {
    "complete": "it did what it says", "already_complete": "--resume found the output complete",
    "plan": "--dry-run: nothing was written", "failed": "see error",
}  # fmt: skip
SNAKE = "^[a-z][a-z0-9_]*$"
ANY = "any"
MINED = "mine merge select"
SUBCOMMANDS = (
    "mine", "merge", "select", "export", "batch", "refilter", "profile", "describe", "verify", "compare", "fit",
    "apply", "sample", "doctor",
)  # fmt: skip


class Key(NamedTuple):
    """A key of the contract.

    Attributes
    ----------
    path : str
        The names that lead to it; `[]` behind that of a list, `*` for any name.
    kind : str
        Its types in JSON, joined by "or", "of" before the type of items; or ANY.
    meaning : str
    of : str
        The subcommands that have it, where it is not in every answer.
    """

    path: str
    kind: str
    meaning: str
    of: str = ""


CONTRACT = (
    Key("schema_version", "integer", f"{SCHEMA_VERSION}; it grows when a key goes, moves or changes its meaning"),
    Key("minestream", "string", "the version of minestream"),
    Key("subcommand", "string or null", "what ran: mine, merge, ...; null where the command line names none"),
    Key("state", "string", "; ".join(f"`{name}`: {text}" for name, text in STATES.items())),
    Key("command", "string or null", "the command line that does the same, with every option and -o; of a failure "
        "as it was typed, URIs without credentials; null for tables in memory"),
    Key("folder", "string or null", "the folder that its relative paths start from"),
    Key("inputs", "array", "what was read, a table each"),
    Key("inputs[].name", "string", "as help calls it: INPUT, --corpus, ..."),
    Key("inputs[].paths", "array of string", "paths, patterns and URIs as given; empty for a table in memory"),
    Key("inputs[].rows", "integer or null", "rows read, where they are known"),
    Key("inputs[].dimension", "integer or null", "values of an embedding"),
    Key("inputs[].dtype", "string or null", "type of an embedding's values"),
    Key("outputs", "array", "what was written; empty for a plan, and where nothing is written"),
    Key("outputs[].path", "string", "the file or folder; `-` for standard output"),
    Key("outputs[].rows", "integer or null", "rows of all its files"),
    Key("outputs[].bytes", "integer or null", "bytes of all its files"),
    Key("outputs[].files", "array", "its files, in order"),
    Key("outputs[].files[].name", "string", "the name of the file, within the folder where path is one"),
    Key("outputs[].files[].rows", "integer or null", "its rows"),
    Key("outputs[].files[].bytes", "integer or null", "its bytes"),
    Key("outputs[].files[].crc32", "string or null", "the CRC-32 that the manifest holds: of rows, or of text"),
    Key("seconds", "object", "wall-clock time"),
    Key("seconds.total", "number", "of the whole command; of an output that was complete already, of its run"),
    Key("seconds.stages", "object", "by stage: one may run beside another or within it; of merge those of its slices"),
    Key("seconds.stages.*", "number", "of this stage"),
    Key("counters", "object", "counts and means by name: see the page json-keys"),
    Key("left_out", "array", "what was left out, and why"),
    Key("left_out[].what", "string", "rows, candidates (of those looked at), anchors (rows as such), pairs (of anchor "
        "and positive), pairs of --qrels, or pairs of --exclude"),
    Key("left_out[].why", "string", "the cause, or the rule"),
    Key("left_out[].count", "integer", "how many"),
    Key("notes", "array of string", "what the user should know"),
    Key("configuration", "object", "the options that decided what was done, by keyword, as resolved"),
    Key("configuration.*", ANY, "the value of this option"),
    Key("result", "object", "what the subcommand found: see the page json-keys"),
    Key("error", "object or null", "null unless state is `failed`"),
    Key("error.kind", "string", "UsageError, InputError, ...: the class of the exception in Python"),
    Key("error.message", "string", "what is wrong, and where"),
    Key("error.hint", "string", "what to do; may be empty"),
    Key("error.exit_code", "integer", "the exit code of the process"),

    Key("counters.rows", "integer", "rows written; of profile those that take part; of describe and verify those held",
        f"{MINED} export batch refilter profile describe verify apply sample"),
    Key("counters.rows_read", "integer", "rows read, of all tables with embeddings", MINED),
    Key("counters.rows_taking_part", "integer", "those that are anchors or candidates", MINED),
    Key("counters.anchors_without_negative", "integer", "anchors that have no negative at the level of --negatives-at: "
        "no other label shares their value, or it is null", MINED),
    Key("counters.rows_without_positive", "integer or null", "rows that are no anchors for want of a positive",
        f"{MINED} profile"),
    Key("counters.qrels_pairs", "integer", "pairs that --qrels lists", MINED),
    Key("counters.exclude_pairs", "integer", "pairs that --exclude lists", MINED),
    Key("counters.anchors", "integer", "anchors mined for; of verify those derived again",
        f"{MINED} refilter describe verify"),
    Key("counters.pairs", "integer", "pairs of anchor and positive; with `--emit pairs` rows",
        f"{MINED} export batch refilter describe"),
    Key("counters.similar_pairs", "integer", "with `--emit pairs` rows of two similar rows; the others are dissimilar",
        f"{MINED} describe"),
    Key("counters.full", "integer", "pairs with k negatives", f"{MINED} refilter describe"),
    Key("counters.short", "integer", "pairs with fewer, but at least one", f"{MINED} export refilter describe"),
    Key("counters.empty", "integer", "pairs with none", f"{MINED} export refilter describe"),
    Key("counters.losses", "integer", "loss values: one a row, in tuples one a negative", MINED),
    Key("counters.active_rows", "integer or null", "loss values inside the margin", f"{MINED} describe"),
    Key("counters.loss_sum", "number", "the sum of the losses", MINED),
    Key("counters.active_loss_sum", "number", "the sum of those inside the margin", MINED),
    Key("counters.mean_loss", "number or null", "the mean of the losses", f"{MINED} describe"),
    Key("counters.mean_active_loss", "number or null", "the mean of those inside the margin", f"{MINED} describe"),
    Key("counters.active_fraction", "number or null", "the share of the losses inside the margin", f"{MINED} describe"),
    Key("counters.under_min_positive", "integer", "anchors that lost positives to --min-positive-similarity", MINED),
    Key("counters.over_max_positive", "integer", "anchors that lost positives to --max-positive-similarity", MINED),
    Key("counters.beyond_max_rank", "integer", "anchors that lost positives to --max-positive-rank", MINED),
    Key("counters.lost_every_positive", "integer", "anchors that lost all their positives to these", MINED),
    Key("counters.fallbacks", "integer", "pairs without a negative in their band that took the farthest", MINED),
    Key("counters.undecided", "integer", "pairs for which a list ends before the rule is satisfied", MINED),
    Key("counters.duplicate_positives", "integer",
        "pairs whose positive equals the anchor, or lies within --drop-duplicates-within of it: there is no other",
        MINED),
    Key("counters.at_anchor", "integer", "negatives at distance 0 from their anchor", MINED),
    Key("counters.same_text", "integer", "negatives with the text of their anchor or positive; export leaves them out",
        f"{MINED} export"),
    Key("counters.nearer_passed_over", "integer", "negatives nearer than the first that was taken, where known; "
        "up to 1,000 of each pair", MINED),
    Key("counters.nearer_pairs", "integer", "pairs where that is known", MINED),
    Key("counters.same_text_positives", "integer", "pairs whose positive has the text of its anchor", "export"),
    Key("counters.repeated_texts", "integer", "negatives with the text of another of their pair, or, in a format that "
        "joins pairs, of their anchor", "export"),
    Key("counters.equal_rows", "integer", "rows with the texts and the label of an earlier one, whatever the scores; "
        "of the first 8,388,608, and in formats without lists of texts", "export"),
    Key("counters.joined", "integer", "anchors with the negatives of several positives, in a format that joins them",
        "export"),
    Key("counters.dropped", "integer", "pairs left out, the empty among them", "export"),
    Key("counters.repeated", "integer", "negatives written again to fill a row", "export"),
    Key("counters.strata", "integer", "strata that batches are composed of apart", "batch"),
    Key("counters.candidates", "integer", "mined rows that were looked at", "refilter select"),
    Key("counters.pairs_without_score", "integer", "pairs whose positive has no score", "refilter select"),
    Key("counters.without_positive_score", "integer", "mined rows whose positive has no score", "refilter select"),
    Key("counters.without_score", "integer", "mined rows with that of the positive only", "refilter select"),
    Key("counters.beyond_k", "integer", "rows that pass, behind the k best", "refilter select"),
    Key("counters.labels", "integer", "distinct labels", "profile"),
    Key("counters.positive_pairs", "integer", "unordered pairs of rows that share a label", "profile"),
    Key("counters.negative_pairs", "integer", "unordered pairs that share none", "profile"),
    Key("counters.negatives_per_positive", "number or null", "the ratio of the two", "profile"),
    Key("counters.triplets", "integer", "(anchor, positive, negative) that exist", "profile"),
    Key("counters.map_at_r", "number or null", "MAP@R of the anchors counted", "profile"),
    Key("counters.map_at_r_95", "number or null", "half the width of its 95 % interval, of a sample", "profile"),
    Key("counters.zero_rows", "integer", "rows of zeros", "profile"),
    Key("counters.files", "integer", "files read", "describe verify"),
    Key("counters.bytes", "integer", "their bytes", "describe"),
    Key("counters.anchors_absent", "integer", "those of the anchors that have no rows", "verify"),
    Key("counters.rows_compared", "integer", "rows derived again and compared", "verify"),
    Key("counters.rows_not_checked", "integer", "of --approximate: rows beyond the best that were derived", "verify"),
    Key("counters.recall", "number", "of --approximate: of the negatives of the anchors derived again", "verify"),
    Key("counters.recall_at_least", "number", "that recall is at least, with 99 % confidence", "verify"),
    Key("counters.pairs_not_checked", "integer", "rows whose other end was not derived", "verify"),
    Key("counters.partners", "integer", "partners of the anchors derived again", "verify"),
    Key("counters.uses_of_the_most_used", "integer", "with --max-uses: how often", "verify"),
    Key("counters.train_rows", "integer", "rows of TRAIN", "compare"),
    Key("counters.validation_rows", "integer", "rows of VALIDATION", "compare"),
    Key("counters.best_epoch", "integer", "the epoch whose weights were kept", "fit"),
    Key("counters.raw_recall_at_1", "number", "recall@1 of the held-out rows as given", "fit"),
    Key("counters.held_out_labels", "integer", "labels held out", "fit"),
    Key("counters.held_out_rows", "integer", "their rows", "fit"),
    Key("counters.training_rows", "integer", "rows trained on", "fit"),
    Key("counters.training_anchors", "integer", "those of them whose label another one has", "fit"),
    Key("counters.dropped_rows", "integer", "rows without a label, or with a bad embedding", "fit"),
    Key("counters.dimension", "integer", "coordinates of the learned embedding", "fit apply"),

    Key("result.columns", "object", "the input columns used, by role", f"{MINED} profile describe"),
    Key("result.plan", "object", "pairs to compute, shards (parts), bytes; of a plan also memory and seconds", MINED),
    Key("result.approximate", "object or null", "with --approximate: looked_at (products, as a share of those of all "
        "pairs), recall, loss_recall and, unless all positives are found, positive_recall (share, at_least with 99 % "
        "confidence, anchors), or exactly: why it is exact", MINED),
    Key("result.back", "object or null", "with --both-directions: counters, left_out and notes of the second output",
        MINED),
    Key("result.effort", "object", "with MINESTREAM_EFFORT=1: the work of the search, which varies", "mine"),
    Key("result.table", "object", "the table of scores: its name and checksum", "refilter select"),
    Key("result.batches", "array of integer", "how many batches each epoch has", "batch"),
    Key("result.hardness", "object", "how near the negatives of a batch are, beside those of random batches", "batch"),
    Key("result.source", ANY, "what was read: files with rows and checksums", "profile describe"),
    Key("result.counted", "object", "which anchors histograms, margins and MAP@R are of", "profile"),
    Key("result.histograms", "object", "distances of positive and negative pairs", "profile"),
    Key("result.nearest_positive", "object or null", "quantiles of the distance of the nearest positive", "profile"),
    Key("result.nearest_negative", "object or null", "quantiles of that of the nearest negative", "profile"),
    Key("result.recall_at", "object", "recall at 1, 5, 10", "profile"),
    Key("result.margins", "array", "an entry for each margin: what is hard, semi-hard, easy, active", "profile"),
    Key("result.recommended", "object", "the margin to begin with, and why", "profile"),
    Key("result.hubs", "object", "rows that are the nearest of many", "profile"),
    Key("result.per_label", "object", "labels, the worst recall@1 first", "profile"),
    Key("result.levels", "array of object", "each level of labels, the coarsest first: values, rows of the largest and "
        "its share, rows with a null, and those whose value has one leaf", "profile"),
    Key("result.norms", "object or null", "quantiles of the norms", "profile"),
    Key("result.suspects", "object", "rows whose label is doubtful", "profile"),
    Key("result.duplicates", "object", "near duplicates across labels", "profile"),
    Key("result.version", "string", "the version that mined it", "describe"),
    Key("result.labels", "string", "what positives are, in words", "describe"),
    Key("result.loss", "string", "the formula of the loss", "describe"),
    Key("result.rescoring", "object", "the table and rule by which refilter chose the rows", "describe"),
    Key("result.quantiles", "object", "quantiles of distances, losses and scores", "describe"),
    Key("result.quantiles_of", "string", "whether of every value or of a sample", "describe"),
    Key("result.report", "object", "the report in its manifest", "describe"),
    Key("result.differences", "array", "always empty: a difference is an error", "verify"),
    Key("result.labels", "object or null", "labels of each table and of both", "compare"),
    Key("result.ids", "object or null", "ids of both", "compare"),
    Key("result.near_duplicates", "object", "validation rows near a training row", "compare"),
    Key("result.nearest_distance", "object", "quantiles of the distance to the nearest training row", "compare"),
    Key("result.epochs", "array", "recall@1 and losses by epoch", "fit"),
    Key("result.held_out_examples", "array of string", "the first of the labels held out", "fit"),
    Key("result.versions", "object", "of Python and of what minestream stands on", "doctor"),
    Key("result.processor", "object", "its features", "doctor"),
    Key("result.screen", "object", "the screen that is used, and why", "doctor"),
    Key("result.kernels", "object", "the folder of compiled code", "doctor"),
    Key("result.memory", "object", "free, and what a run may take", "doctor"),
    Key("result.optional", "object", "what the extras would bring", "doctor"),
    Key("result.environment", "object", "variables that change what is done", "doctor"),
)  # fmt: skip
# What the dictionaries that functions return hold beside counters and results.
CONFIGURED = ("config", "options", "rule", "emit", "scores", "short_rows", "negatives", "missing_scores")
ABOUT = ("command", "folder", "inputs", "notes")
ELSEWHERE = (
    *ABOUT, "output", "path", "written", "bytes", "seconds", "stages", "mined", "dropped", "counts", "left_out",
    "version",
)  # fmt: skip
READ_ONLY = ("describe", "verify")  # their "output" is what they look at


def contract(subcommand: str | None, **told: Any) -> dict[str, Any]:
    """An answer of the contract: `told` by name, what it leaves out empty."""
    return {
        "schema_version": SCHEMA_VERSION, "minestream": VERSION, "subcommand": subcommand, "state": "complete",
        "command": None, "folder": None, "inputs": [], "outputs": [], "seconds": {"total": 0.0, "stages": {}},
        "counters": {}, "left_out": [], "notes": [], "configuration": {}, "result": {}, "error": None,
    } | told  # fmt: skip


def output_entry(path: str, files: Iterable[Mapping[str, Any]], rows: int | None = None) -> dict[str, Any]:
    """An output; its rows and bytes are those of its files, where these are known."""
    entries = [{name: file.get(name) for name in ("name", "rows", "bytes", "crc32")} for file in files]
    sums = {name: _sum(entry[name] for entry in entries) for name in ("rows", "bytes")}
    return {"path": path, **sums, "files": entries} | ({} if rows is None else {"rows": rows})


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def left_out(what: str, causes: Mapping[str, int]) -> list[dict[str, Any]]:
    """What was left out, an entry for each cause."""
    return [{"what": what, "why": why, "count": count} for why, count in causes.items()]


def findings(subcommand: str, found: Mapping[str, Any], **told: Any) -> dict[str, Any]:
    """What a function returned as an answer of the contract; `told` is what it does not say itself."""
    own = [key.path.partition(".") for key in CONTRACT if subcommand in key.of.split()]
    places = {name: part for part, _, name in own}
    parts: dict[str, dict[str, Any]] = {"counters": dict(found.get("counts", {})), "configuration": {}, "result": {}}
    for name, value in found.items():
        if name in CONFIGURED:
            parts["configuration"] |= value if isinstance(value, Mapping) else {name: value}
        elif name in places or name not in ELSEWHERE:
            parts[places.get(name, "counters")][name] = value
    dropped, source = found.get("dropped"), found.get("source")
    causes = left_out("candidates", dropped) if isinstance(dropped, Mapping) else []
    causes += left_out(
        "pairs" if subcommand == "batch" else "rows",
        source["dropped"] if isinstance(source, Mapping) else found.get("left_out", {}),
    )
    path = None if subcommand in READ_ONLY else found.get("output", found.get("path"))
    outputs = [] if path is None else [output_entry(path, found.get("written", ()))]
    if outputs and "written" not in found:
        outputs[0]["rows"] = found.get("rows")
    spent = {"total": found.get("seconds", told.pop("seconds", 0.0)), "stages": stages(found.get("stages", {}))}
    told = {"outputs": outputs, "seconds": spent, "left_out": causes} | told | parts
    return contract(subcommand, **told | {name: found[name] for name in ABOUT if name in found})


def stages(seconds: Mapping[str, float]) -> dict[str, float]:
    """The seconds of stages, by names in snake case."""
    return {re.sub(r"\W+", "_", name.lower()): spent for name, spent in seconds.items()}


def schema() -> dict[str, Any]:
    """The contract as a JSON Schema (draft 2020-12), in which every object with known keys takes no other."""
    root = _object(key for key in CONTRACT if not key.of)
    root["properties"]["subcommand"]["enum"] = [*SUBCOMMANDS, None]
    root["properties"]["state"]["enum"] = [*STATES]
    root["properties"]["schema_version"]["const"] = SCHEMA_VERSION
    own = []
    for name in SUBCOMMANDS:
        shape = _object(key for key in CONTRACT if not key.of or name in key.of.split())["properties"]
        then = {part: _optional(shape[part]) for part in ("counters", "result")}
        own.append({"if": {"properties": {"subcommand": {"const": name}}}, "then": {"properties": then}})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "minestream --json"} | root | {
        "allOf": own
    }  # fmt: skip


def printed(answer: Mapping[str, Any]) -> str:
    """An answer as JSON: NaN and infinity are null, what else it has no type for is text."""
    held = json.loads(json.dumps(answer, default=str), parse_constant=lambda _: None)
    return json.dumps(held, indent=2)


def _optional(shape: dict[str, Any]) -> dict[str, Any]:
    """An object without keys that must be there, and with none but its own."""
    return {name: value for name, value in shape.items() if name != "required"} | {"additionalProperties": False}


def _object(keys: Iterable[Key]) -> dict[str, Any]:
    """The schema of the object that has these keys."""
    root: dict[str, Any] = {"type": "object"}
    for key in keys:
        at = root
        *above, name = key.path.split(".")
        for step in above:
            at = at["properties"][step.removesuffix("[]")]
            at = at.setdefault("items", {"type": "object"}) if step.endswith("[]") else at
        types, _, held = key.kind.partition(" of ")
        kind: dict[str, Any] = {} if key.kind == ANY else {"type": types.split(" or ")}
        kind |= {"items": {"type": held}} if held else {}
        at["additionalProperties"] = False
        if name == "*":
            at["patternProperties"] = {SNAKE: kind}
        else:
            at.setdefault("properties", {})[name] = kind | {"description": key.meaning}
            at.setdefault("required", []).append(name)
    return root
