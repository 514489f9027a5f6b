"""Combinations of options that are refused, and why: a table of checks for each place.

What a single option takes is said where it is defined: see option.Range.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import inf
from typing import Any, Generic, TypeVar

from minestream.config.metrics import METRICS
from minestream.config.mine_config import MineConfig
from minestream.config.option import flag_of
from minestream.config.resources import DERIVED, Resources
from minestream.config.rules import BANDS, EMITS, ENGINES, HERE, PRESETS
from minestream.errors import UsageError

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class Check(Generic[Seen]):
    """A row of a table: what is refused, by which message (with values of fields in braces), and what to do instead."""

    refuses: Callable[[Seen], object]
    message: str
    hint: str = ""


def refuse(table: tuple[Check[Any], ...], seen: Any, **more: object) -> None:
    """Raise the UsageError of the first row of a table that refuses a dataclass; messages name `more`, too."""
    for check in table:
        if check.refuses(seen):
            values = {spec.name: getattr(seen, spec.name) for spec in fields(seen)}
            message = check.message.format(**values, **more)
            hints = [check.hint.format(**values, **more), *_of_preset(message, values)]
            raise UsageError(message, "; ".join(filter(None, hints)))


def _of_preset(message: str, values: Mapping[str, object]) -> list[str]:
    """A line on those options of a message that the preset set."""
    preset = str(values.get("preset"))
    options = PRESETS[preset].options if preset in PRESETS else {}
    told = [f"{flag_of(name)} {value}" for name, value in options.items() if values.get(name) == value]
    named = [each for each in told if re.search(rf"{re.escape(each)}(?![\w-])", message)]
    return [f"--preset {preset} sets {', '.join(named)}"] if named else []


def _asked(option: str, seen: Any) -> bool:
    """Whether an option is given, as users write it: `--order shuffled`, or `--max-uses` with any value."""
    flag, _, wanted = option.partition(" ")
    name = flag.removeprefix("--").replace("-", "_")
    value = getattr(seen, DERIVED.get(name, name))
    return bool(value == wanted) if wanted else value not in (None, False, ())


def barred(
    options: Mapping[str, str], why: str, where: Callable[[Any], object] = lambda _: True
) -> tuple[Check[Any], ...]:
    """A row for each key of `options`, whose value is the hint: the option, or several joined by "or"."""

    def row(names: str, hint: str) -> Check[Any]:
        each = names.split(" or ")
        return Check(lambda seen: where(seen) and any(_asked(one, seen) for one in each), f"{names} {why}", hint)

    return tuple(row(names, hint) for names, hint in options.items())


def _margin_missing(config: MineConfig) -> bool:
    needs = config.emit != "pairs" and BANDS[config.band].needs_margin
    return config.margin is None and (needs or (config.emit == "pairs" and config.band == "violating"))


def _duplicates_fill_band(config: MineConfig) -> bool:
    within, margin = config.drop_duplicates_within, config.margin
    return config.emit == "pairs" and config.band == "violating" and bool(within and margin and within >= margin)


def _limited(config: MineConfig) -> bool:
    return config.max_per_negative_label is not None or config.max_uses is not None


def _filters_empty_band(config: MineConfig) -> bool:
    margins = (config.absolute_margin or 0.0) > 0 or (config.relative_margin or 0.0) > 0
    return config.band == "hard" and margins and config.reference in ("pair", "min")


def _margin_passes_semi_hard(config: MineConfig) -> bool:
    reach = config.absolute_margin is not None and config.margin is not None and config.absolute_margin >= config.margin
    return config.band in ("semi-hard", "violating") and reach and config.reference in ("pair", "min")


def _beyond(name: str) -> Callable[[MineConfig], bool]:
    """Whether the value of an option is more than two distances of the metric can differ by."""
    return lambda config: _is_beyond(config, getattr(config, name))


def _is_beyond(config: MineConfig, value: float | None) -> bool:
    metric = METRICS[config.metric]
    return value is not None and (metric.unit_rows or config.normalize) and value > metric.span


def check_distance(option: str, value: float | None, config: MineConfig) -> None:
    """Raise UsageError for a distance that no two rows can have; with dot any number may be one."""
    if value is None:
        return
    if not abs(value) < inf or (value < 0 and config.metric != "dot"):
        raise UsageError(f"{option} must be a distance of 0 or more, not {value:g}")
    if _is_beyond(config, value):
        raise UsageError(f"{option} {value:g} is more than --metric {config.metric} can reach", _SPANS)


# The hint for a larger number, which is meant in another unit, or as a percentage.
_SPANS = (
    "a distance of unit rows: cosine and euclidean end at 2, sqeuclidean at 4; the margin of cosine is 0.2 by default"
)
_DISTANCES = ("margin", "positive_margin", "epsilon", "drop_duplicates_within")


def _no_similarity(config: MineConfig) -> bool:
    low, high, gap = config.min_similarity, config.max_similarity, config.absolute_margin
    beyond = (low or 0.0) > 1, (high or 0.0) < -1, (gap or 0.0) > METRICS["cosine"].span
    return config.metric == "cosine" and any(beyond)


def _no_positive(config: MineConfig) -> bool:
    beyond = (config.min_positive_similarity or 0.0) > 1, (config.max_positive_similarity or 0.0) < -1
    return config.metric == "cosine" and any(beyond)


def _crossed(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low > high


_EVERY_ROW = "it looks at every row of the run, of which a window holds the latest only"
# What a window cannot have, since it needs more than the rows before an anchor.
_NOT_IN_WINDOWS = {
    "--emit pairs": "a pair counts once, whichever end picks it: all rows come first",
    "--order shuffled": "shuffle in the trainer: it moves rows over the whole run",
    "--max-uses": "it counts uses over the whole run",
    "--anchors": f"the draw is from all anchors: {_EVERY_ROW}",
    "--anchors-per-label": f"the draw is per label: {_EVERY_ROW}",
    "--corpus": "the candidates are the rows before the anchor, in the same stream",
    "--qrels": "a listed row may come at any time, or be gone: use labels",
    "--exclude or --exclude-rows": "leave such rows out of the stream",
    "--where": "filter the stream before",
    "--anchor-where or --candidate-where": "filter the stream before",
    "--guide": "a stream carries one embedding",
    "--negatives-at": "a stream has labels of one level",
    "--on-duplicate-ids first": "the first row of an id leaves the window; error and last work",
}
_NOT_OF_PAIRS = {
    "--skip": "pairs are taken from either end",
    "--within-top": "pairs are taken from either end; -k is how many of a row's nearest",
    "--drop-duplicates-of positive": "a pair has no positive; anchor and both work",
    "--max-positive-rank or --rank-positives": "a pair has two ends, and a rank at each: mine triplets or tuples",
    "--swap": "it swaps anchor and positive of a triplet",
    "--short-rows drop": "a pair is written when either end picks it, however few that end finds",
}
# What lists leave open: all of it can be decided later.
_NOT_OF_LISTS = dict.fromkeys(
    ["--margin", "--skip", "--within-top", "--order shuffled", "--fallback farthest", "--negatives-per-anchor",
     "--max-uses", "--max-per-negative-label", "--swap", "--guide", "--float64", "--max-similarity", "--min-similarity",
     "--absolute-margin", "--relative-margin", "--short-rows drop", "--pick random", "--pick weighted",
     "--pick simans", "--draw-weights", "--min-positive-similarity", "--max-positive-similarity", "--max-positive-rank",
     "--rank-positives", "--carry"],
    "minestream select takes it, when it reads the lists",
)  # fmt: skip
_NOT_APPROXIMATE = {
    "--window": "a stream is small enough to be exact",
    "--emit lists": "what lists leave out is known to be farther: mine triplets, tuples or pairs",
    "--max-uses": "who takes a negative depends on all pairs, so a sample measures nothing",
    "--fallback farthest": "the farthest rows are near no common cell",
    "--candidates": "they are few: the run is fast and exact",
    "--max-positive-rank or --rank-positives": "ranks count all negatives: mine exactly",
    "--epsilon": "it looks at all negatives: mine exactly",
    "--negatives-per-anchor": "mine a smaller -k",
}
_NOT_LISTED = {
    "--window": "a listed row may come at any time, or be gone",
    "--emit pairs or --emit lists": "mine triplets or tuples",
}
_NOT_TAUGHT = {
    "--emit pairs or --emit lists": "mine triplets or tuples",
    "--window": "a stream carries one embedding",
    "--max-uses": "what a pair may take instead is of one teacher",
    "--fallback farthest": "with them the farthest negative is not well defined",
    "--draw-weights": "each teacher draws by weights of its own",
    "--anchor-where or --candidate-where": "filter the table before, or give the candidates as a --corpus",
}
_SIMILARITIES_CROSS: Check[Any] = Check(
    lambda c: _crossed(c.min_similarity, c.max_similarity),
    "--min-similarity {min_similarity} lies above --max-similarity {max_similarity}: nothing can be selected",
    "exchange them",
)
# Asked of a resolved configuration in this order: a combination that passes all is mined, any other is refused.
VALID: tuple[Check[MineConfig], ...] = (
    *barred(_NOT_IN_WINDOWS, "is not for --window", lambda c: c.window is not None),
    *barred(_NOT_LISTED, "is not for --candidates", lambda c: c.listed_candidates),
    *barred(_NOT_TAUGHT, "is not for several teachers", lambda c: c.taught),
    *barred(_NOT_APPROXIMATE, "is not for --approximate", lambda c: c.approximate is not None),
    Check(lambda c: c.approximate is not None and (c.taught or c.negatives == 0),
          "--approximate is for one embedding, and for k of 1 or more",
          "several teachers, and -k 0, are mined exactly: leave it out"),
    Check(lambda c: {"ap", "an", "pn", "candidates"} & {*c.other_embeddings, c.first_embedding} and c.taught,
          "embeddings of several teachers cannot be called ap, an, pn or candidates", "rename the column"),
    Check(lambda c: not isinstance(c.embedding, str | None) and len({*c.embedding}) < len(c.embedding),
          "--embedding names a column twice", "name each embedding once"),
    Check(lambda c: c.negatives < 0 or (c.negatives == 0 and c.emit != "pairs"),
          "--negatives must be at least 1",
          "0 (= all) is for --emit pairs"),
    Check(lambda c: c.emit == "pairs" and c.two_tables,
          "--emit pairs is for one table: a row of INPUT and one of --corpus form no unordered pair",
          "triplets and tuples work; minestream export makes labelled pairs of them"),
    Check(lambda c: c.split_roles and (c.emit == "pairs" or c.listed_positives or c.guided),
          "--anchor-where and --candidate-where mine triplets and tuples of labelled rows, without --qrels and --guide",
          "filter the table before, or give the candidates as a --corpus"),
    *(Check(_beyond(name), f"{flag_of(name)} {{{name}:g}} is more than --metric {{metric}} can reach", _SPANS)
      for name in _DISTANCES),
    Check(_no_similarity,
          "no negative can pass: cosine similarities run from -1 to 1, and differ by 2 at most",
          "check --min-similarity, --max-similarity and --absolute-margin; 0.95 is 95 %"),
    Check(_no_positive,
          "no positive can pass: cosine similarities run from -1 to 1",
          "check --min-positive-similarity and --max-positive-similarity; 0.95 is 95 %"),
    Check(lambda c: c.version_column is not None and c.on_duplicate_ids != "last",
          "--version-column says which row of an id is the last: --on-duplicate-ids {on_duplicate_ids} does not use it",
          "add --on-duplicate-ids last"),
    *barred(_NOT_OF_LISTS, "is not for --emit lists", lambda c: c.emit == "lists"),
    Check(lambda c: c.negatives_at is not None and c.label is None,
          "--negatives-at {negatives_at} is a level of labels, which are not named",
          "name the columns of all levels, the coarsest first: --label {negatives_at},LEAF"),
    Check(lambda c: c.band not in EMITS[c.emit].bands,
          "--band {band} has no meaning for --emit {emit}",
          "pairs are mined with --band violating (distance below the margin) or any; lists hold the nearest of all"),
    Check(lambda c: c.loss is not None and c.loss not in EMITS[c.emit].losses,
          "--loss {loss} does not belong to --emit {emit}",
          "triplets and tuples: triplet, triplet-soft; pairs: contrastive; lists have none"),
    Check(lambda c: c.emit == "pairs" and c.metric not in ("cosine", "euclidean"),
          "--emit pairs needs --metric cosine or euclidean",
          "the contrastive loss squares a distance"),
    *barred(_NOT_OF_PAIRS, "has no meaning for --emit pairs", lambda c: c.emit == "pairs"),
    Check(lambda c: c.emit == "pairs" and c.pick != "nearest",
          "--emit pairs takes --pick nearest only",
          "an unordered pair is written when either end picks it among its nearest"),
    Check(lambda c: c.swap and c.emit == "tuples",
          "--swap is for --emit triplets",
          "its column distance_pn is one value a negative"),
    Check(lambda c: c.swap and c.margin is None, "--swap changes the loss, which needs --margin", "give --margin"),
    Check(lambda c: c.negatives_per_anchor is not None and c.emit in ("pairs", "tuples"),
          "--negatives-per-anchor is not for --emit {emit}",
          "pairs: -k counts per row already; tuples: -k per pair"),
    Check(lambda c: c.emit == "pairs" and (_limited(c) or c.guided or c.similarity_filters or c.fallback != "none"),
          "filters, guides, caps and --fallback are not for --emit pairs",
          "mine triplets or tuples with them"),
    Check(lambda c: c.similarity_filters and not METRICS[c.metric].similarity,
          "--metric {metric} has no similarity to filter by",
          "use --metric cosine or dot; --band and --margin work on distances"),
    Check(lambda c: (c.min_positive_similarity, c.max_positive_similarity) != (None, None)
          and not METRICS[c.metric].similarity,
          "--metric {metric} has no similarity that positives could have",
          "use --metric cosine or dot; --max-positive-rank works with all"),
    Check(lambda c: _crossed(c.min_positive_similarity, c.max_positive_similarity),
          "--min-positive-similarity {min_positive_similarity} lies above --max-positive-similarity "
          "{max_positive_similarity}: no positive is left",
          "exchange them"),
    Check(lambda c: c.guided and not c.similarity_filters,
          "a guide without a filter changes nothing",
          "give --absolute-margin 0 (GIST), --relative-margin or --max-similarity"),
    _SIMILARITIES_CROSS,
    Check(_filters_empty_band,
          "--band {band} with a margin below --reference {reference} can select nothing: no negative is both at least "
          "as near as the positive and farther by the margin",
          "--band any keeps what the margin lets through"),
    Check(_margin_passes_semi_hard,
          "--absolute-margin {absolute_margin} reaches beyond --margin {margin}: the semi-hard band can select nothing",
          "make it smaller than --margin, or use --band any"),
    Check(lambda c: c.max_uses is not None and c.order == "shuffled" and c.emit == "tuples",
          "--order shuffled and --max-uses together are for triplets only",
          "shuffle tuples in the trainer"),
    Check(lambda c: c.within_top is not None and c.within_top - c.skip < c.negatives,
          "--within-top {within_top} less --skip {skip} leaves fewer than {negatives} negatives (-k)",
          "make --within-top at least --skip + k"),
    Check(lambda c: c.fallback != "none"
          and (c.pick != "nearest" or c.skip > 0 or c.within_top is not None or c.guided or _limited(c)),
          "--fallback {fallback} works with --pick nearest only, and without --skip, --within-top, guides and caps",
          "with them the farthest negative is not well defined"),
    Check(lambda c: c.epsilon is not None
          and (c.emit, c.band, c.negatives, c.positives, c.metric) != ("pairs", "any", 0, "all", "cosine"),
          "--epsilon needs --emit pairs --band any -k 0 --positives all --metric cosine",
          "--preset multi-similarity sets them"),
    Check(lambda c: c.positive_margin is not None and c.emit != "pairs",
          "--positive-margin is for --emit pairs",
          "--preset pair-margin sets it"),
    Check(_margin_missing,
          "--metric {metric} has no principled default margin: give --margin",
          "minestream profile INPUT --metric {metric} recommends one; --band any needs none"),
    Check(lambda c: c.metric == "dot" and bool(c.drop_duplicates_within),
          "--drop-duplicates-within above 0 is not for --metric dot",
          "dot is not a distance; 0 drops equal vectors"),
    Check(lambda c: c.pick == "weighted" and not (METRICS[c.metric].unit_rows or c.normalize),
          "--pick weighted is defined for unit rows only",
          "add --normalize, or use --metric cosine"),
    Check(lambda c: c.pick == "simans" and not METRICS[c.metric].similarity,
          "--metric {metric} has no similarity for --pick simans to draw by",
          "use --metric cosine or dot"),
    Check(lambda c: c.pick == "simans" and c.within_top is None,
          "--pick simans draws among the nearest: --within-top says how many",
          "--within-top 100; --preset simans sets it"),
    Check(lambda c: c.draw_weights and c.pick != "simans",
          "--draw-weights are those of --pick simans",
          "the other picks have none that fit a column: leave it out"),
    Check(lambda c: EMITS[c.emit].scores is not None and c.scores is None,
          "--scores must be chosen for --metric {metric}",
          "negative-distance or none; similarity exists for cosine and dot"),
    Check(lambda c: EMITS[c.emit].scores is not None and c.scores == "similarity" and not METRICS[c.metric].similarity,
          "--metric {metric} has no similarity",
          "--scores negative-distance or none"),
    Check(_duplicates_fill_band,
          "--drop-duplicates-within reaches the margin: the band can select nothing",
          "make it smaller than --margin"),
)  # fmt: skip


MACHINES: tuple[Check[Resources], ...] = (
    Check(lambda r: r.shard and r.engine != HERE,
          "--shard and --engine exclude each other",
          "a slice is mined by this process; an engine deals out the whole job"),
    Check(lambda r: r.shard and (r.require_rows, r.max_short, r.require_recall) != (None, None, None),
          "--require-rows, --max-short and --require-recall look at all rows, a slice has some",
          "give them to minestream merge"),
    Check(lambda r: r.address and not ENGINES[r.engine].clusters,
          "--address is that of a cluster",
          "name what runs there: --engine dask or ray"),
    Check(lambda r: r.workers is not None and not ENGINES[r.engine].clusters,
          "--workers is for --engine dask or ray",
          "here --threads says how much runs at a time"),
    Check(lambda r: r.both_directions and (r.shard or r.engine != HERE),
          "--both-directions is mined by one process, without --shard and --engine",
          "mine one direction, then the other: exchange INPUT and --corpus, and the columns of --qrels"),
    Check(lambda r: r.workers is not None and r.address,
          "--workers and --address exclude each other",
          "a cluster that runs has its workers"),
)  # fmt: skip


# For --both-directions.
BOTH: tuple[Check[MineConfig], ...] = (
    Check(lambda c: not c.two_tables,
          "--both-directions is for two tables: of one every row is mined for already",
          "name the other with --corpus"),
    *barred(
        {"--anchor-where or --candidate-where": "they would exchange their tables too: --where is for both",
         "--emit lists": "mine it once for each direction",
         "--candidates": "they are listed for queries: mine each direction for itself",
         "--approximate": "mine each direction for itself",
         "--embedding-table": "put the embedding into both tables as a column"},
        "is not for --both-directions",
    ),
)  # fmt: skip


# For runs that cannot be divided among machines: {what}.
_REACHED = "mine files to a file or folder that all machines reach"
UNCUT: tuple[Check[Resources], ...] = (
    Check(lambda r: r.shard, "--shard is not for {what}", _REACHED),
    Check(lambda r: r.engine != HERE, "--engine {engine} is not for {what}", _REACHED),
    Check(lambda r: r.both_directions, "--both-directions is not for {what}", "it makes two outputs: mine to files"),
)


# For windows: what needs the end of a stream, or a run that can be resumed.
IN_WINDOWS: tuple[Check[Resources], ...] = UNCUT + barred(
    {
        "--resume": "the window of an interrupted run is gone: --overwrite starts afresh",
        "--max-rows": "rows are handed out before it is known how many there will be",
        "--require-rows": "a gate looks at a whole run; count what comes out",
        "--max-short": "a gate looks at a whole run; the report counts short pairs",
    },
    "is not for --window",
)


# For rows that are handed out while mining goes on: what needs all of them first.
_HELD = ["--emit pairs", "--order shuffled", "--max-uses"]
HANDED_OUT: tuple[Check[MineConfig], ...] = barred(
    dict.fromkeys(_HELD, "use mine() or mine_arrays()"), "needs all rows before the first can be handed out"
)


# For rules that are applied to lists.
OF_LISTS: tuple[Check[MineConfig], ...] = (
    Check(lambda c: c.emit not in ("triplets", "tuples"),
          "--emit {emit} is not made of lists",
          "triplets or tuples; minestream mine makes the others"),
    *barred({"--fallback farthest": "mine it: the farthest stand in no list"}, "is not for lists"),
)  # fmt: skip


# For rows that get a bucket.
BUCKETED: tuple[Check[MineConfig], ...] = (
    Check(lambda c: c.emit != "triplets", "--buckets is for --emit triplets", "a tuple holds negatives of several"),
    *barred({"--order shuffled or --max-uses": "a trainer goes by the buckets, in any order"}, "is not for --buckets"),
)  # fmt: skip


# For rules that look at scores in place of distances.
BY_SCORES: tuple[Check[MineConfig], ...] = (
    Check(lambda c: BANDS[c.band].needs_margin,
          "--band {band} measures a distance from the positive, and --scores are none",
          "--band any, hard or beyond; --absolute-margin is in units of the scores"),
    *barred({"--pick weighted": "its weights are of distances: --pick random or simans",
             "--draw-weights": "they are of distances",
             "--guide": "give its similarities as --scores NAME=TABLE, and --by"}, "is not for --scores"),
)  # fmt: skip


# For the rule of refilter, beside the ranges of the options that it shares with mine.
REFILTER: tuple[Check[Any], ...] = (
    Check(lambda r: r.negatives < 1, "--negatives must be at least 1", "-k is how many negatives of a pair stay"),
    Check(lambda r: r.reference != "pair" and r.absolute_margin is None and r.relative_margin is None,
          "--reference {reference} is what margins are measured from",
          "give --relative-margin or --absolute-margin"),
    _SIMILARITIES_CROSS,
)  # fmt: skip
