"""Which combinations of options mean something: VALID refuses every other, and says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minestream.config.metrics import METRICS
from minestream.config.parse import parse_slice
from minestream.config.rules import BANDS, EMITS, ENGINES, HERE
from minestream.config.trainer_formats import FORMATS
from minestream.errors import UsageError

if TYPE_CHECKING:
    from minestream.config.mine_config import MineConfig
    from minestream.config.resources import Resources


@dataclass(frozen=True, slots=True)
class Check:
    """A row of VALID: where `refuses` holds, the configuration means nothing; `message` names its fields in braces."""

    refuses: Callable[[MineConfig], bool]
    message: str
    hint: str


def _margin_missing(config: MineConfig) -> bool:
    needs = config.emit != "pairs" and BANDS[config.band].needs_margin
    return config.margin is None and (needs or (config.emit == "pairs" and config.band == "violating"))


def _duplicates_fill_band(config: MineConfig) -> bool:
    within, margin = config.drop_duplicates_within, config.margin
    return config.emit == "pairs" and config.band == "violating" and bool(within and margin and within >= margin)


_INFINITY = float("inf")
MOST_WINDOW_ROWS = 2**30  # slots are int32


def _bounds(config: MineConfig) -> tuple[float | None, ...]:
    return config.max_similarity, config.min_similarity, config.absolute_margin, config.relative_margin


def _limited(config: MineConfig) -> bool:
    return config.max_per_negative_label is not None or config.max_uses is not None


def _filters_empty_band(config: MineConfig) -> bool:
    margins = (config.absolute_margin or 0.0) > 0 or (config.relative_margin or 0.0) > 0
    return config.band == "hard" and margins and config.reference in ("pair", "min")


def _margin_passes_semi_hard(config: MineConfig) -> bool:
    reach = config.absolute_margin is not None and config.margin is not None and config.absolute_margin >= config.margin
    return config.band in ("semi-hard", "violating") and reach and config.reference in ("pair", "min")


def _with_window(asked: Callable[[MineConfig], bool]) -> Callable[[MineConfig], bool]:
    return lambda config: config.window is not None and asked(config)


def _beyond(name: str) -> Callable[[MineConfig], bool]:
    """Whether an option of a distance is more than distances of the metric can differ by."""
    return lambda config: _is_beyond(config, getattr(config, name))


def _is_beyond(config: MineConfig, value: float | None) -> bool:
    metric = METRICS[config.metric]
    return value is not None and (metric.unit_rows or config.normalize) and value > metric.span


def check_distance(option: str, value: float | None, config: MineConfig) -> None:
    """Raise UsageError for a distance that no two rows can have; of dot products any number may be one."""
    if value is None:
        return
    if not -_INFINITY < value < _INFINITY or (value < 0 and config.metric != "dot"):
        raise UsageError(f"{option} must be a distance of 0 or more, not {value:g}")
    if _is_beyond(config, value):
        raise UsageError(f"{option} {value:g} is more than --metric {config.metric} can reach", _SPANS)


# Of unit rows. What lies beyond is a number of another unit, or a percentage.
_SPANS = (
    "a distance of unit rows: cosine and euclidean end at 2, sqeuclidean at 4; the margin of cosine is 0.2 by default"
)
_DISTANCES = ("margin", "positive_margin", "epsilon", "drop_duplicates_within")


def _no_similarity(config: MineConfig) -> bool:
    low, high, gap = config.min_similarity, config.max_similarity, config.absolute_margin
    beyond = (low or 0.0) > 1, (high or 0.0) < -1, (gap or 0.0) > METRICS["cosine"].span
    return config.metric == "cosine" and any(beyond)


_EVERY_ROW = "it looks at every row of the run, of which a window holds the latest only"


# What needs more than the rows before an anchor: (where it is asked for, the option, why a window cannot have it).
_NOT_IN_WINDOWS: tuple[tuple[Callable[[MineConfig], bool], str, str], ...] = (
    (lambda c: c.emit == "pairs", "--emit pairs", "a pair counts once, whichever end picks it: all rows come first"),
    (lambda c: EMITS[c.emit].trainer, "--emit {emit}", "mine triplets; `minestream export` converts them"),
    (lambda c: c.order == "shuffled", "--order shuffled", "shuffle in the trainer: it moves rows over the whole run"),
    (lambda c: c.max_uses is not None, "--max-uses", "it counts uses over the whole run"),
    (lambda c: c.anchors is not None, "--anchors", f"the draw is from all anchors: {_EVERY_ROW}"),
    (lambda c: c.anchors_per_label is not None, "--anchors-per-label", f"the draw is per label: {_EVERY_ROW}"),
    (lambda c: c.two_tables, "--corpus", "the candidates are the rows before the anchor, in the same stream"),
    (lambda c: c.listed_positives, "--qrels", "a listed row may come at any time, or be gone: use labels"),
    (lambda c: c.exclusions, "--exclude or --exclude-rows", "leave such rows out of the stream"),
    (lambda c: c.where is not None, "--where", "filter the stream before"),
    (lambda c: c.split_roles, "--anchor-where or --candidate-where", "filter the stream before"),
    (lambda c: c.guided, "a guide", "a stream carries one embedding"),
    (
        lambda c: c.on_duplicate_ids == "first",
        "--on-duplicate-ids first",
        "the first row of an id leaves the window; error and last work",
    ),
)


# Asked in this order of a resolved configuration; every combination that passes is mined, every other is refused.
VALID: tuple[Check, ...] = (
    Check(
        lambda c: c.window is not None and not 1 <= c.window <= MOST_WINDOW_ROWS,
        f"--window must be 1 to {MOST_WINDOW_ROWS:,} rows",
        "without it the candidates are all rows",
    ),
    *(Check(_with_window(asked), f"{option} is not for --window", why) for asked, option, why in _NOT_IN_WINDOWS),
    Check(
        lambda c: c.negatives < 0 or (c.negatives == 0 and c.emit != "pairs"),
        "--negatives must be at least 1",
        "0 (= all) is for --emit pairs",
    ),
    Check(
        lambda c: c.emit == "pairs" and c.two_tables,
        "--emit pairs is for one table: with --corpus a pair has a side",
        "triplets, tuples and st-labeled-pairs work",
    ),
    Check(
        lambda c: c.split_roles and (c.emit == "pairs" or c.listed_positives or c.guided),
        "--anchor-where and --candidate-where mine triplets and tuples of labelled rows, without --qrels and --guide",
        "filter the table before, or give the candidates as a --corpus",
    ),
    Check(
        lambda c: c.margin is not None and not 0 < c.margin < float("inf"),
        "--margin must be a finite number above 0",
        "cosine distances run from 0 to 2; 0.2 is the default for triplets",
    ),
    *(
        Check(
            _beyond(name), f"--{name.replace('_', '-')} {{{name}:g}} is more than --metric {{metric}} can reach", _SPANS
        )
        for name in _DISTANCES
    ),
    Check(
        lambda c: (c.relative_margin or 0.0) > 1,
        "--relative-margin {relative_margin:g} is more than the whole of the reference",
        "a share: 0.05 is 5 %",
    ),
    Check(
        _no_similarity,
        "no negative can pass: cosine similarities run from -1 to 1, and differ by 2 at most",
        "check --min-similarity, --max-similarity and --absolute-margin; 0.95 is 95 %",
    ),
    Check(
        lambda c: c.version_column is not None and c.on_duplicate_ids != "last",
        "--version-column says which row of an id is the last: --on-duplicate-ids {on_duplicate_ids} does not ask",
        "add --on-duplicate-ids last",
    ),
    Check(lambda c: c.skip < 0, "--skip must be 0 or more", ""),
    Check(
        lambda c: c.positives_per_anchor < 1,
        "--positives-per-anchor must be at least 1",
        "--positives all takes every one",
    ),
    Check(
        lambda c: c.anchors_per_label is not None and c.anchors_per_label < 1,
        "--anchors-per-label must be at least 1",
        "",
    ),
    Check(
        lambda c: c.negatives_per_anchor is not None and c.negatives_per_anchor < 1,
        "--negatives-per-anchor must be at least 1",
        "",
    ),
    Check(
        lambda c: c.drop_duplicates_within is not None and not 0 <= c.drop_duplicates_within < float("inf"),
        "--drop-duplicates-within must be a distance of 0 or more, or none",
        "",
    ),
    Check(
        lambda c: c.band not in EMITS[c.emit].bands,
        "--band {band} has no meaning for --emit pairs",
        "pairs are mined with --band violating (distance below the margin) or any",
    ),
    Check(
        lambda c: c.loss not in EMITS[c.emit].losses,
        "--loss {loss} does not belong to --emit {emit}",
        "triplets and tuples: triplet, triplet-soft; pairs: contrastive",
    ),
    Check(
        lambda c: c.emit == "pairs" and c.metric not in ("cosine", "euclidean"),
        "--emit pairs needs --metric cosine or euclidean",
        "the contrastive loss squares a distance",
    ),
    Check(
        lambda c: c.emit == "pairs" and c.skip > 0,
        "--skip has no meaning for --emit pairs",
        "pairs are taken from either end",
    ),
    Check(
        lambda c: c.emit == "pairs" and c.pick != "nearest",
        "--emit pairs takes --pick nearest only",
        "an unordered pair is written when either end picks it among its nearest",
    ),
    Check(
        lambda c: c.emit == "pairs" and c.drop_duplicates_of == "positive",
        "--drop-duplicates-of positive has no meaning for --emit pairs",
        "a pair has no positive; anchor and both work",
    ),
    Check(
        lambda c: c.swap and c.emit == "pairs",
        "--swap has no meaning for --emit pairs",
        "it swaps anchor and positive of a triplet",
    ),
    Check(
        lambda c: c.emit == "pairs" and c.short_rows == "drop",
        "--short-rows has no meaning for --emit pairs",
        "a pair is written when either end picks it, however few that end finds",
    ),
    Check(
        lambda c: c.swap and c.emit == "tuples",
        "--swap is for --emit triplets",
        "its column distance_pn is one value a negative",
    ),
    Check(lambda c: c.swap and c.margin is None, "--swap changes the loss, which needs --margin", "give --margin"),
    Check(
        lambda c: c.negatives_per_anchor is not None and c.emit in ("pairs", "tuples"),
        "--negatives-per-anchor is not for --emit {emit}",
        "pairs: -k counts per row already; tuples: -k per pair",
    ),
    Check(
        lambda c: c.emit == "pairs" and (_limited(c) or c.guided or c.similarity_filters or c.fallback != "none"),
        "filters, guides, caps and --fallback are not for --emit pairs",
        "mine triplets or tuples with them",
    ),
    Check(
        lambda c: c.similarity_filters and not METRICS[c.metric].similarity,
        "--metric {metric} has no similarity to filter by",
        "use --metric cosine or dot; --band and --margin work on distances",
    ),
    Check(
        lambda c: c.guided and not c.similarity_filters,
        "a guide without a filter changes nothing",
        "give --absolute-margin 0 (GIST), --relative-margin or --max-similarity",
    ),
    Check(
        lambda c: any(value is not None and not -_INFINITY < value < _INFINITY for value in _bounds(c)),
        "similarities and margins are finite numbers",
        "leave a filter out to turn it off",
    ),
    Check(lambda c: not -_INFINITY < c.min_grade < _INFINITY, "--min-grade must be a finite number", ""),
    Check(
        lambda c: c.min_similarity is not None and c.max_similarity is not None and c.min_similarity > c.max_similarity,
        "--min-similarity {min_similarity} lies above --max-similarity {max_similarity}: nothing can be selected",
        "",
    ),
    Check(
        _filters_empty_band,
        "--band {band} with a margin below --reference {reference} can select nothing: no negative is both at least as "
        "near as the positive and farther by the margin",
        "--band any keeps what the margin lets through",
    ),
    Check(
        _margin_passes_semi_hard,
        "--absolute-margin {absolute_margin} reaches beyond --margin {margin}: the semi-hard band can select nothing",
        "make it smaller than --margin, or use --band any",
    ),
    Check(
        lambda c: any(value is not None and value < 1 for value in (c.max_per_negative_label, c.max_uses)),
        "--max-per-negative-label and --max-uses must be at least 1",
        "",
    ),
    Check(
        lambda c: c.max_uses is not None and c.order == "shuffled" and c.emit == "tuples",
        "--order shuffled and --max-uses together are for triplets only",
        "shuffle tuples in the trainer",
    ),
    Check(
        lambda c: c.fallback != "none" and (c.pick != "nearest" or c.skip > 0 or c.guided or _limited(c)),
        "--fallback {fallback} works with --pick nearest only, and without --skip, guides and caps",
        "what is farthest is then well defined",
    ),
    Check(
        lambda c: (
            c.epsilon is not None
            and (c.emit, c.band, c.negatives, c.positives, c.metric) != ("pairs", "any", 0, "all", "cosine")
        ),
        "--epsilon needs --emit pairs --band any -k 0 --positives all --metric cosine",
        "--preset multi-similarity sets them",
    ),
    Check(
        lambda c: c.positive_margin is not None and c.emit != "pairs",
        "--positive-margin is for --emit pairs",
        "--preset pair-margin sets it",
    ),
    Check(
        lambda c: c.short_rows == "repeat" and not EMITS[c.emit].trainer,
        "--short-rows {short_rows} is for trainer formats",
        "keep or drop",
    ),
    Check(
        lambda c: EMITS[c.emit].trainer and c.order == "shuffled",
        "--order shuffled is for triplets, tuples and pairs",
        "trainers shuffle what they read",
    ),
    Check(
        lambda c: c.emit in FORMATS and c.short_rows not in FORMATS[c.emit].short_rows,
        "--emit {emit} has no --short-rows {short_rows}",
        "formats of one width take drop or repeat, the others keep or drop",
    ),
    Check(
        lambda c: c.emit in FORMATS and c.scores is not None and c.scores not in FORMATS[c.emit].scores,
        "--emit {emit} cannot carry --scores {scores}",
        "tevatron and pml hold none, trec and pylate need them",
    ),
    Check(
        lambda c: c.text is not None and not EMITS[c.emit].text,
        "--text is for formats that hold texts, which --emit {emit} does not",
        "--carry adds a column to triplets, tuples and pairs",
    ),
    Check(
        lambda c: EMITS[c.emit].text and c.text is None,
        "--emit {emit} holds texts: name their column with --text",
        "a column of strings of INPUT, and of the corpus",
    ),
    Check(
        lambda c: EMITS[c.emit].trainer and c.swap,
        "--swap changes the loss, which --emit {emit} does not hold",
        "leave it out, or mine triplets",
    ),
    Check(
        _margin_missing,
        "--metric {metric} has no principled default margin: give --margin",
        "minestream mine --band any needs none; distances of the data are in `minestream describe` of such a run",
    ),
    Check(
        lambda c: c.metric == "dot" and bool(c.drop_duplicates_within),
        "--drop-duplicates-within above 0 is not for --metric dot",
        "dot is not a distance; 0 drops equal vectors",
    ),
    Check(
        lambda c: c.pick == "weighted" and not (METRICS[c.metric].unit_rows or c.normalize),
        "--pick weighted is defined for unit rows only",
        "add --normalize, or use --metric cosine",
    ),
    Check(
        lambda c: EMITS[c.emit].scores is not None and c.scores is None,
        "--scores must be chosen for --metric {metric}",
        "negative-distance or none; similarity exists for cosine and dot",
    ),
    Check(
        lambda c: EMITS[c.emit].scores is not None and c.scores == "similarity" and not METRICS[c.metric].similarity,
        "--metric {metric} has no similarity",
        "--scores negative-distance or none",
    ),
    Check(
        _duplicates_fill_band,
        "--drop-duplicates-within reaches the margin: the band can select nothing",
        "make it smaller than --margin",
    ),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Where `asked` holds, the resources mean nothing together."""

    asked: Callable[[Resources], object]
    message: str
    hint: str


REFUSALS = (
    Refusal(
        lambda r: r.shard and r.engine != HERE,
        "--shard and --engine exclude each other",
        "a slice is mined by this process; an engine deals out the whole job",
    ),
    Refusal(
        lambda r: r.shard and (r.require_rows is not None or r.max_short is not None),
        "--require-rows and --max-short look at all rows, a slice has some",
        "give them to minestream merge",
    ),
    Refusal(
        lambda r: r.address and not ENGINES[r.engine].clusters,
        "--address is that of a cluster",
        "name what runs there: --engine dask or ray",
    ),
    Refusal(
        lambda r: r.workers is not None and not ENGINES[r.engine].clusters,
        "--workers is for --engine dask or ray",
        "here --threads says how much runs at a time",
    ),
    Refusal(
        lambda r: r.workers is not None and r.address,
        "--workers and --address exclude each other",
        "a cluster that runs has its workers",
    ),
    Refusal(lambda r: r.workers is not None and r.workers < 1, "--workers must be at least 1", ""),
)


def check_machines(resources: Resources) -> None:
    """Refuse what means nothing, by REFUSALS."""
    if resources.shard is not None:
        parse_slice(resources.shard)
    for refusal in REFUSALS:
        if refusal.asked(resources):
            raise UsageError(refusal.message, refusal.hint)


def refuse_machines(resources: Resources, what: str) -> None:
    """Refuse slices and engines for `what` cannot be cut into parts that lie in one place."""
    if resources.shard is not None or resources.engine != HERE:
        option = "--shard" if resources.shard is not None else f"--engine {resources.engine}"
        raise UsageError(f"{option} is not for {what}", "mine files to a file or folder that all machines reach")
