"""The rules of mining as tables of text and data: bands, picks, positive rules, emits, losses, presets; the engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

NEVER_EDGE, AT_POSITIVE, AT_MARGIN = 0, 1, 2  # where an edge of a band lies: nowhere, at p, at p + margin


@dataclass(frozen=True, slots=True)
class Band:
    """The distances x that a negative may have: p is the positive's distance, m the margin.

    Attributes
    ----------
    condition : str
        The formula, as printed.
    low, high : int
        The edges: NEVER_EDGE, AT_POSITIVE or AT_MARGIN.
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
    "beyond": Band("x > p", "farther than the positive", AT_POSITIVE, False, NEVER_EDGE, True),
}
BAND_ALIASES = {"semihard": "semi-hard", "semi_hard": "semi-hard"}


@dataclass(frozen=True, slots=True)
class Named:
    """A choice that is a number to the kernels."""

    code: int
    help: str


PICKS: dict[str, Named] = {
    "nearest": Named(0, "the k nearest"),
    "random": Named(1, "k drawn uniformly, without replacement"),
    "weighted": Named(2, "k drawn by distance weighting (Wu 2017); unit rows only"),
    "simans": Named(5, "k drawn around the positive's similarity (SimANS), among the nearest: --within-top"),
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
    """A shape of output rows, with its defaults.

    Attributes
    ----------
    losses, bands : tuple of str
        What may be asked for; the first is the default.
    cosine_margin : float
        The default margin of cosine distances.
    scores : str
        The default of --scores, where the metric has a similarity.
    per_anchor : bool
        Whether negatives are looked for once an anchor, and not once a positive of its.
    """

    help: str
    losses: tuple[str, ...]
    negatives: int
    cosine_margin: float
    short_rows: str
    bands: tuple[str, ...]
    scores: str | None = None
    per_anchor: bool = False


EMITS: dict[str, Emit] = {
    "triplets": Emit(
        "one row a (anchor, positive, negative)", ("triplet", "triplet-soft"), 1, 0.2, "keep", tuple(BANDS)
    ),
    "pairs": Emit(
        "one row an unordered pair, similar or dissimilar", ("contrastive",), 16, 0.5, "keep", ("violating", "any"),
        per_anchor=True,
    ),
    "tuples": Emit(
        "one row a (anchor, positive) with the list of its negatives", ("triplet", "triplet-soft"), 1, 0.2, "drop",
        tuple(BANDS), "similarity",
    ),
    "lists": Emit(
        "one row an anchor with its positives and the list of its k nearest candidates, for minestream select", (), 256,
        0.2, "keep", ("any",), per_anchor=True,
    ),
}  # fmt: skip


def finished_late(emit: str, order: str, max_uses: int | None) -> bool:
    """Whether rows are made only when all parts are there, not part by part."""
    return emit == "pairs" or order != "anchor" or max_uses is not None


LIST_PRECISIONS: dict[str, str] = {
    "float64": "as they are compared: select gives the bytes of mine",
    "float32": "rounded: half as large; what select then decides is exact but at the edges of bands and filters",
    "float16": "rounded to three digits: a quarter as large",
}
FALLBACKS: dict[str, str] = {"none": "nothing", "farthest": "the farthest negatives, whatever the band (TFA)"}


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of several teachers must find a negative: a function of how many there are."""

    least: Callable[[int], int]
    help: str


CANDIDATES_AS: dict[str, str] = {
    "only": "an anchor's negatives are among those listed for it",
    "too": "they are one more teacher, with the first k that pass",
}
TEACHERS: dict[str, Agreement] = {
    "union": Agreement(lambda teachers: 1, "what any of them found"),
    "all": Agreement(lambda teachers: teachers, "what every one found"),
    "majority": Agreement(lambda teachers: teachers // 2 + 1, "what more than half of them found"),
}
MISSING_IDS: dict[str, str] = {"error": "refuse them", "drop": "leave such pairs and rows out, counted"}
REFERENCES: dict[str, str] = {
    "pair": "the similarity of the pair's own positive",
    "min": "of the anchor's farthest positive",
    "max": "of its nearest positive",
    "mean": "the mean over all its positives",
}


@dataclass(frozen=True, slots=True)
class Preset:
    """Several options by one name: the rule of another miner."""

    options: dict[str, object]
    help: str


PRESETS: dict[str, Preset] = {
    "facenet": Preset(
        {"metric": "sqeuclidean", "normalize": True, "margin": 0.2, "positives": "all", "band": "semi-hard"},
        "FaceNet: every positive, semi-hard negatives, squared Euclidean on unit rows, margin 0.2",
    ),
    "easy-positive": Preset(
        {"positives": "easiest", "positives_per_anchor": 1, "band": "beyond"},
        "Xuan 2020: the easiest positive, the nearest negative beyond it, however far",
    ),
    "batch-hard": Preset(
        {"positives": "hardest", "positives_per_anchor": 1, "band": "any", "negatives": 1,
         "drop_duplicates_within": None},
        "Hermans 2017: the hardest positive, the nearest negative",
    ),
    "tfa": Preset(
        {"metric": "euclidean", "normalize": True, "margin": 1.0, "positives": "all", "band": "beyond",
         "fallback": "farthest", "negatives": 1, "drop_duplicates_within": None},
        "TensorFlow Addons: every positive, the nearest negative beyond it, else the farthest",
    ),
    "multi-similarity": Preset(
        {"emit": "pairs", "band": "any", "negatives": 0, "positives": "all", "epsilon": 0.1,
         "drop_duplicates_within": None},
        "Wang 2019: pairs that are hard against the other kind, epsilon 0.1",
    ),
    "pair-margin": Preset(
        {"emit": "pairs", "metric": "euclidean", "normalize": True, "band": "violating", "negatives": 0,
         "positives": "all", "margin": 0.8, "positive_margin": 0.2, "drop_duplicates_within": None},
        "similar pairs farther apart than 0.2, dissimilar ones nearer than 0.8",
    ),
    "nv-retriever": Preset(
        {"relative_margin": 0.05, "band": "any"},
        "NV-Retriever TopK-PercPos: the nearest below 95 % of the positive's similarity",
    ),
    "nv-retriever-margin": Preset(
        {"absolute_margin": 0.05, "band": "any"},
        "NV-Retriever TopK-MarginPos: the nearest at least 0.05 less similar than the positive",
    ),
    "nv-retriever-abs": Preset(
        {"max_similarity": 0.7, "band": "any"}, "NV-Retriever TopK-Abs: the nearest of similarity 0.7 or less"
    ),
    "nv-retriever-sampled": Preset(
        {"relative_margin": 0.05, "within_top": 10, "pick": "random", "negatives": 4, "band": "any"},
        "NV-Retriever: 4 at random of the 10 nearest below 95 % of the positive's similarity",
    ),
    "cornstack": Preset(
        {"min_positive_similarity": 0.7, "max_positive_rank": 2},
        "CoRNStack: positives of rank 1 or 2 and at least 0.7 similar",
    ),
    "bge": Preset(
        {"skip": 10, "within_top": 210, "pick": "random", "negatives": 15, "band": "any"},
        "BGE: 15 at random of the ranks 11 to 210",
    ),
    "ance": Preset(
        {"within_top": 200, "pick": "random", "band": "any"}, "ANCE: at random of the 200 nearest"
    ),
    "simans": Preset(
        {"metric": "dot", "within_top": 100, "pick": "simans", "band": "any"},
        "SimANS: of the 100 nearest, drawn around the inner product of the positive",
    ),
}  # fmt: skip
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
VECTOR_TYPES: dict[str, str] = {
    "float16": "2 bytes each, or whole numbers",
    "float32": "4 bytes each, or whole numbers; of text the default",
    "float64": "8 bytes each, or whole numbers",
    "int8": "1 byte each, or whole numbers from -128 to 127",
    "uint8": "1 byte each, or whole numbers from 0 to 255; compared as float32",
    "bf16": "2 bytes each, or a uint16 each; compared as float32",
}
REPEATED = "listed before, or of a row with itself"  # why a listed pair is not used, without harm
HERE = "local"


@dataclass(frozen=True, slots=True)
class Engine:
    """What mines the parts: a module that starts workers, or None: this process."""

    help: str
    module: str | None

    @property
    def clusters(self) -> bool:
        """Whether it has workers."""
        return self.module is not None


ENGINES = {
    HERE: Engine("this process", None),
    "dask": Engine(
        "worker processes of dask.distributed (pip install minestream[dask])", "minestream.mining.engines.dask"
    ),
    "ray": Engine("worker processes of Ray (pip install minestream[ray])", "minestream.mining.engines.ray"),
}
