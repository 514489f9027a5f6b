"""The rules of mining as tables of names, text and data: bands, picks, positive rules, emits, losses, and VALID."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minestream.metric import METRICS

if TYPE_CHECKING:
    from minestream.config import MineConfig

NEVER_EDGE, AT_POSITIVE, AT_MARGIN = 0, 1, 2  # where an edge of a band lies: nowhere, at p, at p + margin


@dataclass(frozen=True, slots=True)
class Band:
    """Which distances x a negative may have, p being the positive's distance and m the margin.

    Attributes
    ----------
    condition : str
        The band in formula, as printed.
    low, high : int
        Where the edges lie (NEVER_EDGE, AT_POSITIVE, AT_MARGIN).
    low_closed, high_closed : bool
        Whether a distance equal to the edge is inside.
    """

    condition: str
    help: str
    low: int
    low_closed: bool
    high: int
    high_closed: bool

    @property
    def needs_margin(self) -> bool:
        """Whether an edge of the band lies at p + m."""
        return AT_MARGIN in (self.low, self.high)


BANDS: dict[str, Band] = {
    "semi-hard": Band(
        "p < x < p + m", "farther than the positive, within the margin", AT_POSITIVE, False, AT_MARGIN, False
    ),
    "hard": Band("x <= p", "at least as near as the positive", NEVER_EDGE, True, AT_POSITIVE, True),
    "violating": Band("x < p + m", "everything within the margin (pairs: x < m)", NEVER_EDGE, True, AT_MARGIN, False),
    "easy": Band("x >= p + m", "beyond the margin: loss 0", AT_MARGIN, True, NEVER_EDGE, True),
    "any": Band("every x", "every negative", NEVER_EDGE, True, NEVER_EDGE, True),
}
BAND_ALIASES = {"semihard": "semi-hard", "semi_hard": "semi-hard"}


@dataclass(frozen=True, slots=True)
class Named:
    """A choice that needs no more than a number for the kernels and a line of help."""

    code: int
    help: str


PICKS: dict[str, Named] = {
    "nearest": Named(0, "the k nearest"),
    "random": Named(1, "k drawn uniformly, without replacement"),
    "weighted": Named(2, "k drawn by distance weighting (Wu 2017); unit rows only"),
}

POSITIVE_RULES: dict[str, Named] = {
    "easiest": Named(0, "the nearest"),
    "hardest": Named(1, "the farthest"),
    "random": Named(2, "drawn uniformly"),
    "all": Named(3, "every one, in key order (--positives-per-anchor is ignored)"),
}

LOSSES: dict[str, str] = {
    "triplet": "max(0, (p + m) - x)",
    "triplet-soft": "softplus(p - x + m)",
    "contrastive": "y D^2 + (1 - y) max(m - D, 0)^2 with y = 1 for similar pairs, 0 for dissimilar ones",
}


@dataclass(frozen=True, slots=True)
class Emit:
    """One shape of output rows and the defaults that go with it."""

    help: str
    losses: tuple[str, ...]  # the first is the default
    negatives: int
    cosine_margin: float
    short_rows: str
    bands: tuple[str, ...]  # the first is the default


EMITS: dict[str, Emit] = {
    "triplets": Emit(
        "one row a (anchor, positive, negative)", ("triplet", "triplet-soft"), 1, 0.2, "keep", tuple(BANDS)
    ),
    "pairs": Emit(
        "one row an unordered pair, similar or dissimilar", ("contrastive",), 16, 0.5, "keep", ("violating", "any")
    ),
    "tuples": Emit(
        "one row a (anchor, positive) with the list of its negatives",
        ("triplet", "triplet-soft"),
        1,
        0.2,
        "drop",
        tuple(BANDS),
    ),
}

GROUP_RULES: dict[str, str] = {
    "both": "rows of one group form neither positive nor negative pairs",
    "negatives": "rows of one group form no negative pairs",
    "positives": "rows of one group form no positive pairs",
}
DUPLICATES_OF: dict[str, str] = {
    "both": "a negative near the anchor's or the positive's vector is dropped",
    "positive": "near the positive's vector only",
    "anchor": "near the anchor's vector only",
}
UNLABELED: dict[str, str] = {"ignore": "rows without a label take no part", "negative": "they may be negatives"}
SCORES: dict[str, str] = {
    "similarity": "cosine: 1 - distance; dot: the inner product",
    "none": "no column scores",
    "negative-distance": "minus the distance",
}
SHORT_ROWS: dict[str, str] = {"keep": "keep what there is", "drop": "leave out pairs with fewer than k negatives"}
ORDERS: dict[str, str] = {"anchor": "by anchor row", "shuffled": "in one seeded order over the whole output"}


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


# Asked in this order of a resolved configuration; every combination that passes is mined, every other is refused.
VALID: tuple[Check, ...] = (
    Check(
        lambda c: c.negatives < 0 or (c.negatives == 0 and c.emit != "pairs"),
        "--negatives must be at least 1",
        "0 (= all) is for --emit pairs",
    ),
    Check(
        lambda c: c.margin is not None and not 0 < c.margin < float("inf"),
        "--margin must be a finite number above 0",
        "cosine distances run from 0 to 2; 0.2 is the default for triplets",
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
        lambda c: c.negatives_per_anchor is not None and c.emit != "triplets",
        "--negatives-per-anchor is for --emit triplets",
        "pairs: -k counts per row already; tuples: -k per pair",
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
        lambda c: c.emit == "tuples" and c.scores is None,
        "--scores must be chosen for --metric {metric}",
        "negative-distance or none; similarity exists for cosine and dot",
    ),
    Check(
        lambda c: c.emit == "tuples" and c.scores == "similarity" and not METRICS[c.metric].similarity,
        "--metric {metric} has no similarity",
        "--scores negative-distance or none",
    ),
    Check(
        lambda c: c.band == "easy" and c.margin is not None and c.margin > METRICS[c.metric].largest,
        "--band easy can select nothing: no distance reaches the margin",
        "cosine distances end at 2",
    ),
    Check(
        _duplicates_fill_band,
        "--drop-duplicates-within reaches the margin: the band can select nothing",
        "make it smaller than --margin",
    ),
)
