"""What became of the rows of an input, in words: what was read, what was left out and why, how hard the rest is.

The closing report, `describe` and its page, and the notes of a Report say it alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from minestream.config.commands import MISSING_SCORES
from minestream.config.rules import REPEATED
from minestream.errors import SPEAKS_OPTIONS
from minestream.system.recall import RECALLS, recall_facts
from minestream.system.stats import Report, most_negatives, short_left_out
from minestream.system.values import Row, given_of, many, value_rows, verb

SHOWN_FILES = 3
# Counters of what happened to pairs of anchor and positive (with --emit pairs: to anchors), in words.
HAPPENED = (
    ("empty", "{count} ({share}): the rules leave no {negative}"),
    ("short", "{count} ({share}) {have} fewer than {k} {negative}s: the rules leave no more"),
    ("fallbacks", "{count} took the farthest negative: none lies in the band"),
    ("undecided", "{plainly}: the list ends before the rule is satisfied (lists of a larger -k reach farther)"),
    ("duplicate_positives", "{count} {have} a positive that equals the anchor{or_near}: there is no other"),
)
LOST_TO = {
    "under_min_positive": "--min-positive-similarity", "over_max_positive": "--max-positive-similarity",
    "beyond_max_rank": "--max-positive-rank",
}  # fmt: skip
LABELS = {"fallbacks": "fallback", "undecided": "undecided", "duplicate_positives": "equal"}
READ_AS = {
    "embedding": "vectors from", "others": "and from", "label": "labels from", "id": "ids from", "group": "groups from",
    "version": "versions from", "carry": "carried:",
}  # fmt: skip


def once(rows: Iterable[Row]) -> list[Row]:
    """Rows of a table in which a name that repeats stands only in the first of its rows."""
    table = list(rows)
    names = [row[0] for row in table]
    return [
        ("", row[1]) if name == before else row for row, name, before in zip(table, names, ["", *names], strict=False)
    ]


def recall_rows(facts: Mapping[str, Any]) -> Iterator[Row]:
    """How much of what an exact run writes was found, of facts of recall.py; none of an exact run."""
    if not facts:
        return
    if "exactly" in facts:
        yield "approximate", f"no, all pairs were looked at: {facts['exactly']}"
        return
    looked = f"{facts['looked_at']:.1%} of all pairs were looked at"
    for name, (_, what) in RECALLS.items():
        if found := facts.get(name):
            by = f", by {many(found['anchors'], 'anchor')} mined exactly; {looked}" if name == "recall" else ""
            yield "approximate", f"{found['share']:.3f} of {what} found, at least {found['at_least']:.3f} (99 %){by}"
    if "recall" not in facts:
        yield "approximate", f"nothing was measured; {looked}"
    if "positive_recall" not in facts:
        yield "approximate", "positives were found exactly"


def columns_rows(columns: Mapping[str, Any]) -> Iterator[Row]:
    """Which columns were read for what, of each table that has others."""
    told = {}
    for table, found in (("", columns), (", of the corpus ", columns.get("corpus") or columns)):
        roles = {role: found[role] for role in READ_AS if found.get(role)}
        told[table] = ", ".join(
            f"{READ_AS[role]} {', '.join(name) if isinstance(name, list) else name}" for role, name in roles.items()
        )
    if len({*told.values()}) == 1:
        told.popitem()
    if text := "".join(f"{table}{names}" for table, names in told.items()):
        yield "columns", text


def listed_rows(source: Mapping[str, Any], why: bool = False) -> Iterator[Row]:
    """How many pairs the lists have, and how many are used; `why`: also what becomes of others that notes tell of."""
    for option, found in source.get("listed", {}).items():
        yield "listed", f"{many(found['pairs'], 'pair')} in {option}, {found['used']:,} of them used"
        for cause, count in found["left_out"].items():
            if why or cause == REPEATED:
                yield "listed", f"{count:,} not used: {cause}"


def left_out_rows(
    source: Mapping[str, Any], stats: Mapping[str, Any], config: Mapping[str, Any], columns: Mapping[str, Any]
) -> Iterator[Row]:
    """What gave no row, and what gave another than was asked for: how many, and why; `stats`: as far as counted."""
    for cause, count in source.get("dropped", {}).items():
        queries = (
            f", {source['dropped_queries'].get(cause, 0):,} of them queries" if "dropped_queries" in source else ""
        )
        yield "left out", f"{many(count, 'row')}{queries}: {cause}"
    if alone := source.get("without_positive"):
        what = many(alone, "query") if config["two_tables"] else many(alone, "row") + " as anchor" + "s" * (alone > 1)
        yield "left out", f"{what}: {_why_alone(source, config, columns)}"
    for cause, count in source.get("without_negative", {}).items():
        what = many(count, "query" if config["two_tables"] else "anchor")
        yield "no negatives", f"{what} {verb(count, 'have')} none: {cause}"
    yield from _lost_rows(stats, config)
    for rule, count in stats.get("dropped", {}).items():
        some = "" if rule.startswith("--verdicts") else " (of those looked at, which are not all)"
        yield "left out", f"{many(count, 'candidate')}: {rule}{some}"
    one_each = config["emit"] in ("pairs", "lists") or (
        config["positives"] != "all" and config["positives_per_anchor"] == 1
    )
    subject = "anchors" if one_each else "pairs of anchor and positive"
    every = sum(stats.get(name, 0) for name in ("full", "short", "empty"))
    leaves_out = dict(zip(("empty", "short"), short_left_out(config), strict=True))
    negative = {"pairs": "dissimilar row", "lists": "candidate"}.get(config["emit"], "negative")
    for name, text in HAPPENED:
        if count := stats.get(name):
            share = f"{100 * count / max(1, every):.1f} %" if count >= every / 1000 else "less than 0.1 %"
            label = LABELS.get(name) or ("left out" if leaves_out[name] else "short")
            told = text.format(
                count=f"{count:,} of the {every:,} {subject}",
                plainly=many(count, "pair"),
                share=share,
                k=most_negatives(config),
                negative=negative,
                have=verb(count, "have"),
                or_near=f", or lies within {near:g} of it" if (near := config["drop_duplicates_within"]) else "",
            )
            yield label, f"{told} (--short-rows keep keeps them)" if name == "short" and leaves_out[name] else told


def _lost_rows(stats: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Row]:
    """How many anchors lost positives to the rules that turn some down, and how many have none left."""
    one, every = ("query", "queries") if config["two_tables"] else ("anchor", "anchors")
    for name, option in LOST_TO.items():
        if count := stats.get(name):
            have = verb(count, "have")
            yield (
                "turned down",
                f"{count:,} of the {stats['anchors']:,} {every} {have} positives that {option} turns down",
            )
    if count := stats.get("lost_every_positive"):
        yield "left out", f"{many(count, one)}: none of their positives passes"


def with_left_out(report: Report) -> Report:
    """The report with what was left out among its notes, for the library: the command line prints tables of it."""
    if SPEAKS_OPTIONS.get():
        return report
    if report.back is not None:
        report = replace(report, back=with_left_out(report.back))
    stats = report.stats.with_means() if report.complete else {}  # those of a plan are of a few shards
    rows = left_out_rows(report.source, stats, report.config, report.columns)
    said = (f"{name}: {text}" for name, text, *_ in rows)
    return replace(report, notes=(*said, *report.notes))


def _why_alone(source: Mapping[str, Any], config: Mapping[str, Any], columns: Mapping[str, Any]) -> str:
    """Why rows have no positive, by what was asked for."""
    listed, label = config["listed_positives"], columns.get("label") or not config["listed_positives"]
    lost = source.get("listed", {}).get("--qrels", {}).get("left_out")
    told = ["no positive that takes part is listed for them" if lost else "no positive is listed for them"] * listed
    if label:
        groups = config["group_column"] and config["group_rule"] != "negatives"
        shared = config["two_tables"] and (config["shared_ids"] or not listed) and columns.get("id")
        has = ["their label", *["another group"] * bool(groups), *["another id"] * bool(shared)]
        row = "row of the corpus" if config["two_tables"] else "row" if config["window"] else "other row"
        part = " that takes part" if set(source.get("dropped", {})) - {"unlabelled"} else ""
        part = " that may be a candidate" if config["candidate_where"] else part
        place = " in the window before them" if config["window"] else ""
        aside = " (pairs of --exclude do not count)" if "--exclude" in source.get("listed", {}) else ""
        told.append(f"no {row}{part}{place} has {' and '.join(has)}{aside}")
    return ", and ".join(told)


def hardness_rows(stats: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Row]:
    """How hard the negatives are, by `mean_loss` and `active_fraction`, and by the nearer ones the rules pass over."""
    loss, share = stats.get("mean_loss"), stats.get("active_fraction")
    if loss is not None:
        text = f"mean loss {loss:.4g}"
        if share == 1 and config["loss"] == "triplet" and not config["swap"]:
            gap = config["margin"] - loss
            side = "farther" if gap > 0 else "nearer"
            text += f": the negative is {abs(gap):.4g} {side} than the positive, on average"
        elif share is not None:
            text += f"; {100 * share:.1f} % of the losses are above 0"
        yield "hardness", text
    if pairs := stats.get("nearer_pairs"):
        from minestream.kernels.types import NEARER_CAP  # not loaded for --help

        passed = stats["nearer_passed_over"]
        most = f", of each pair {NEARER_CAP:,} at most counted" if passed >= NEARER_CAP else ""
        yield "passed over", f"{passed / pairs:,.1f} nearer negatives a pair, which the rules leave out{most}"


def rescoring_rows(rescoring: Mapping[str, Any]) -> Iterator[Row]:
    """By which table and rule refilter chose the rows."""
    table, missing = rescoring["table"], rescoring["missing_scores"]
    yield "scores", f"{table['rows']:,} in {table['name']}: {rescoring['scores']}"
    yield "rule", rescoring_rule(rescoring["rule"])
    yield "unscored", f"--missing-scores {missing}: {MISSING_SCORES.get(missing, '')}"
    if rescoring.get("before"):
        yield "before", "refilter had chosen among the mined rows already, by another rule or table"


def rescoring_rule(rule: Mapping[str, Any]) -> str:
    """The rule of refilter, in words."""
    unsaid = {"negatives"} | ({"reference"} if rule["relative_margin"] is rule["absolute_margin"] is None else set())
    rules = value_rows(given_of({name: value for name, value in rule.items() if name not in unsaid}))
    return f"the {rule['negatives']:,} best-scored of each pair{''.join(f', {name} {to}' for name, to, *_ in rules)}"


def source_rows(result: Mapping[str, Any]) -> Iterator[Row]:
    """What was read, of what `describe` found: columns and tables."""

    def beside(file: Mapping[str, Any]) -> bool:  # another embedding, most often a column of the same file
        return str(file.get("role")).partition(" ")[0] in ("guide", "embedding")

    own = {file["name"] for file in result["source"] if not beside(file)}
    source = [file for file in result["source"] if not beside(file) or file["name"] not in own]
    yield from columns_rows(result["columns"])
    origin = ", ".join(f"{file['name']} ({many(file['rows'], 'row')})" for file in source[:SHOWN_FILES])
    yield "source", origin + (f" and {len(source) - SHOWN_FILES:,} more" if len(source) > SHOWN_FILES else "")


def outcome_rows(result: Mapping[str, Any]) -> list[Row]:
    """What became of the rows, of what `describe` found."""
    report, config = result.get("report", {}), result["config"]
    source, counts = report.get("source", {}), report.get("stats", {}) | result["counts"]
    left_out = left_out_rows(source, counts, config, result["columns"])
    recall = recall_rows(recall_facts(counts.get("recalls", {})))
    return once([*listed_rows(source, why=True), *left_out, *recall, *hardness_rows(counts | result, config)])
