"""Options drawn for a world: RULES says how each option that concerns rows is drawn, NOT_DRAWN why the others are not.

An option that stands in none of RULES, HOW and NOT_DRAWN makes a test fail, so that a new one is not forgotten; so does
an option of `select` that stands neither in OF_LISTS nor in NOT_DRAWN_OF_LISTS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from drawn_worlds import Random, World
from judged import OF_ONE, OF_TWO

NOT_DRAWN: dict[str, str] = {
    "embedding_table": "tables by id: tests/mining/test_teachers.py",
    "candidates": "given as the world's run",
    "corpus": "given as the world's second table",
    "qrels": "given as the world's known pairs",
    "exclude": "given as the world's excluded pairs",
    "exclude_rows": "given as the world's excluded rows",
    "vectors": "the vectors of INPUT, in files of their own",
    "labels": "the labels of INPUT, in a file of their own: tests/inputs/test_numpy_files.py",
    "vector_type": "how vectors are stored: tests/inputs/test_stored.py",
    "list_precision": "of lists, which the run `lists` of fuzz.py chooses from; tests/laws/test_lists.py",
    "list_ids": "of lists: tests/laws/test_lists.py",
    "max_rows": "refuses a whole run",
    "require_rows": "refuses a whole run",
    "max_short": "refuses a whole run",
    "require_recall": "refuses a whole run",
    "scratch": "where bytes lie",
    "shard": "a slice of the parts: merge",
    "engine": "needs clusters: test_engines.py",
    "address": "needs clusters: test_engines.py",
    "workers": "needs clusters: test_engines.py",
    "resume": "of an output that is there",
    "overwrite": "of an output that is there",
    "dry_run": "mines nothing",
    "progress": "what is printed",
}
NOT_DRAWN_OF_LISTS: dict[str, str] = {
    "scores": "given as the world's scores",
    "verdicts": "given as the world's verdicts",
    "qrels_out": "given with them",
    "undecided": "lists of everything decide all pairs: tests/mining/test_select.py",
    "source": "given as the world's first table",
    **{name: NOT_DRAWN[name] for name in ("corpus", "qrels", "exclude", "exclude_rows")},
    "out": "where rows go",
}


@dataclass
class Drawing:
    """What an option is drawn from: the world, the way it will be mined, and the options drawn before it.

    Attributes
    ----------
    way : str
        "arrays" (mine_arrays), "tables" (mine, mine_batches) or "window" (mine_batches, mine, Miner).
    mode : str
        What the options are to be about, so that they fit together.
    """

    rng: Random
    world: World
    way: str
    mode: str
    options: dict[str, Any] = field(default_factory=dict)

    def one_of(self, *values: Any) -> Any:
        """One of the values, each as likely."""
        return values[int(self.rng.integers(len(values)))]

    def now_and_then(self, share: float, *values: Any) -> Any:
        """One of the values in so many of the cases, else None: the default."""
        return self.one_of(*values) if self.rng.random() < share else None

    def get(self, name: str) -> Any:
        """An option drawn before, or None."""
        return self.options.get(name)

    @property
    def emit(self) -> str:
        """What is emitted."""
        of_preset = self.get("preset") in ("multi-similarity", "pair-margin")
        return str(self.get("emit") or ("pairs" if of_preset else "triplets"))

    @property
    def metric(self) -> str:
        """The metric that is meant."""
        of_preset = {"facenet": "sqeuclidean", "tfa": "euclidean", "pair-margin": "euclidean", "simans": "dot"}
        return str(self.get("metric") or of_preset.get(self.get("preset") or "", "cosine"))

    @property
    def unit(self) -> bool:
        """Whether rows are compared by their direction."""
        of_preset = self.get("preset") in ("facenet", "tfa", "pair-margin")
        return self.metric == "cosine" or bool(self.get("normalize")) or of_preset

    @property
    def scored(self) -> bool:
        """Whether scores take the place of distances."""
        return self.world.judged is not None and bool(self.world.judged.scores)

    @property
    def similar(self) -> bool:
        """Whether there may be filters by similarity."""
        return (self.metric in ("cosine", "dot") or self.scored) and self.emit != "pairs" and self.mode == "filtered"

    @property
    def labelled(self) -> bool:
        """Whether labels take part."""
        if self.world.queries.labels is None:
            return False
        return self.way == "arrays" or self.world.known is None or bool(self.get("label"))

    def distance(self, *shares: float) -> float:
        """A distance of the world at one of these shares, now and then the exact difference of two."""
        found = self.distances()
        low, high = (float(found[int(self.one_of(*shares) * (found.size - 1))]) for _ in range(2))
        if self.rng.random() < 0.2 and high > low >= 0:
            return high - low
        return abs(low) or 0.1

    def distances(self) -> np.ndarray[Any, Any]:
        """Some distances, roughly; never none."""
        with np.errstate(all="ignore"):
            rows = self.world.queries.vectors[:6, : self.get("dims")].astype(np.float64)
            others = self.world.candidates.vectors[:200, : self.get("dims")].astype(np.float64)
            if self.unit:
                rows, others = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (rows, others))
            if self.metric == "cosine":
                found = 1 - rows @ others.T
            elif self.metric == "dot":
                found = -(rows @ others.T)
            else:
                found = ((rows[:, None] - others[None]) ** 2).sum(axis=2)
                found = found if self.metric == "sqeuclidean" else np.sqrt(found)
            found = np.sort(found[np.isfinite(found) & (found != 0)])
        return found if found.size else np.ones(1)


def _condition(drawing: Drawing) -> str:
    """A condition over the columns year, lang and share."""
    one_of = drawing.one_of
    comparison = one_of("==", "!=", "<", "<=", ">", ">=")
    return str(
        one_of(
            f"year {comparison} {one_of(2021, 2023, 2025)}",
            f"lang {one_of('==', '!=')} '{one_of('en', 'de')}'",
            f"share {comparison} {one_of(0.1, 0.5, 0.8)}",
            f"lang {one_of('in', 'not in')} ('en', 'fr')",
            f"year {one_of('in', 'not in')} (2020, 2022, 2024)",
            f"{one_of('year', 'lang', 'share')} is {one_of('not ', '')}None",
            f"2021 <= year {one_of('<', '<=')} 2024",
        )
    )


def _role_where(drawing: Drawing) -> str | None:
    one_table_of = drawing.emit != "pairs" and drawing.world.known is None and not drawing.get("guide")
    if drawing.mode == "taught":
        return None
    return _where(drawing, 0.25) if drawing.world.corpus is not None or one_table_of else None


def _where(drawing: Drawing, share: float) -> str | None:
    if drawing.way != "tables" or drawing.rng.random() > share:
        return None
    text = _condition(drawing)
    if drawing.rng.random() < 0.3:
        text = f"{text} {drawing.one_of('and', 'or')} {_condition(drawing)}"
    return f"not ({text})" if drawing.rng.random() < 0.2 else text


def _margin(drawing: Drawing) -> float | None:
    if drawing.metric == "cosine" and drawing.rng.random() < 0.5:
        return drawing.one_of(None, None, 0.05, 0.2, 0.5)
    needs = drawing.get("band") not in ("hard", "any", "beyond")
    return drawing.distance(0.02, 0.1, 0.3, 0.6) if needs or drawing.rng.random() < 0.5 else None


def _within(drawing: Drawing) -> Any:
    asked = drawing.one_of(None, None, 0.0, "none", "T")
    if asked != "T":
        return asked
    if drawing.metric == "dot":
        return None
    within = drawing.distance(0.001, 0.01, 0.05)
    return None if within >= (drawing.get("margin") or 0.2) else within


def _of_filters(drawing: Drawing, *values: float) -> float | None:
    if not drawing.similar:
        return None
    if drawing.metric == "cosine" or drawing.scored:
        return drawing.now_and_then(0.35, *values)
    return drawing.now_and_then(0.35, *(round(value * drawing.distance(0.5), 3) for value in values))


def _negatives(drawing: Drawing) -> int | None:
    if drawing.mode == "epsilon":
        return 0
    if drawing.get("preset") == "multi-similarity":
        return None
    if drawing.emit == "pairs":
        return drawing.one_of(None, 0, 1, 3, 16)
    if drawing.get("preset") == "nv-retriever-sampled":
        return drawing.one_of(None, 1, 10)
    return drawing.one_of(None, 1, 2, 3, 5, 17)


def _band(drawing: Drawing) -> str | None:
    if drawing.emit == "pairs":
        return "any" if drawing.mode == "epsilon" else drawing.one_of(None, "violating", "any")
    if drawing.scored:
        return drawing.one_of(None, None, "any", "hard", "beyond")
    return drawing.one_of(
        None, None, "semi-hard", "semihard", "semi_hard", "hard", "violating", "easy", "any", "beyond"
    )


def _group_rule(drawing: Drawing) -> str | None:
    if drawing.world.queries.groups is None:
        return None
    if drawing.world.known is not None and not drawing.labelled:
        return drawing.one_of(None, "negatives")
    return drawing.one_of(None, "both", "negatives", "positives")


def _scores(drawing: Drawing) -> str | None:
    if drawing.emit != "tuples" or drawing.scored:
        return None
    if drawing.metric in ("cosine", "dot"):
        return drawing.one_of(None, "similarity", "none", "negative-distance")
    return drawing.one_of("none", "negative-distance")


def _dims(drawing: Drawing) -> int | None:
    width = drawing.world.queries.vectors.shape[1]
    return drawing.now_and_then(0.15, 1, min(3, width), width)


def _never_pairs(world: World) -> bool:
    """Whether a world is never mined for pairs of one label."""
    return world.corpus is not None or world.run is not None or world.judged is not None


def _emit(drawing: Drawing) -> str | None:
    if drawing.mode in ("epsilon", "far pairs"):
        return "pairs"
    if drawing.get("preset") in ("multi-similarity", "pair-margin"):
        return None
    if drawing.get("buckets"):
        return drawing.one_of(None, "triplets")
    if drawing.get("preset") or drawing.mode == "filtered":
        return drawing.one_of(None, None, "tuples")
    no_pairs = drawing.way == "window" or drawing.mode == "taught" or _never_pairs(drawing.world)
    pairs = [] if no_pairs else ["pairs", "pairs"]
    return drawing.one_of(None, "triplets", "triplets", "tuples", *pairs)


def _metric(drawing: Drawing) -> str | None:
    if drawing.get("preset"):
        return None
    if drawing.mode == "epsilon":
        return None
    if drawing.mode == "filtered" and not drawing.scored:
        return drawing.one_of(None, "cosine", "dot")
    others = () if drawing.emit == "pairs" else ("sqeuclidean", "dot")
    return drawing.one_of(None, "cosine", "euclidean", *others)


def _pick(drawing: Drawing) -> str | None:
    if drawing.emit == "pairs" or drawing.mode in ("preset", "farthest") or drawing.rng.random() > 0.3:
        return drawing.one_of(None, "nearest")
    width = drawing.world.queries.vectors[:, : drawing.get("dims")].shape[1]
    weighs = drawing.unit and width > 2 and not drawing.scored
    ambiguous = drawing.metric in ("cosine", "dot") or drawing.scored
    return drawing.one_of("random", *(["weighted"] if weighs else []), *(["simans"] if ambiguous else []))


def _within_top(drawing: Drawing) -> int | None:
    least = (drawing.get("skip") or 0) + (drawing.get("negatives") or 1)
    values = [least + more for more in (0, 2, 25)]
    return drawing.one_of(*values) if drawing.get("pick") == "simans" else _cap(drawing, *values)


def _of_simans(drawing: Drawing, *values: Any) -> Any:
    drawn = "simans" in (drawing.get("pick"), None if drawing.get("pick") else drawing.get("preset"))
    return drawing.one_of(None, *values) if drawn else None


RANKED = ("bge", "ance", "simans")
BOUNDED = ("nv-retriever", "nv-retriever-margin", "nv-retriever-abs", "nv-retriever-sampled")


def _preset(drawing: Drawing) -> str | None:
    if drawing.mode != "preset":
        return None
    if drawing.world.judged is not None:
        return drawing.one_of("easy-positive", "cornstack", *BOUNDED, *RANKED)
    pairs = [] if drawing.way == "window" or _never_pairs(drawing.world) else ["multi-similarity", "pair-margin"]
    ranks = [] if drawing.way == "window" else ["cornstack"]
    return drawing.one_of("easy-positive", "batch-hard", "facenet", "tfa", *BOUNDED, *RANKED, *ranks, *pairs)


def _positives(drawing: Drawing) -> str | None:
    if drawing.mode == "epsilon":
        return "all"
    return None if drawing.get("preset") else drawing.one_of(None, None, "easiest", "hardest", "random", "all")


def _positives_per_anchor(drawing: Drawing) -> int | None:
    every = drawing.world.known is not None and not (drawing.get("positives") or drawing.get("preset"))
    return None if every and drawing.emit != "pairs" else drawing.one_of(None, 1, 2, 3, 5)


def _positive_similarity(drawing: Drawing, *shares: float) -> float | None:
    ranked = drawing.metric in ("cosine", "dot") or drawing.scored
    if not ranked or drawing.emit == "lists" or drawing.rng.random() > 0.12:
        return None
    if drawing.scored:
        return round(0.5 - float(drawing.one_of(*shares)), 3)
    found = drawing.distances()
    x = float(found[int(drawing.one_of(*shares) * (found.size - 1))])
    return round(1 - x, 3) if drawing.metric == "cosine" else -x


def _absolute_margin(drawing: Drawing) -> float | None:
    bounded = drawing.get("band") not in ("any", "easy", "beyond") and drawing.world.known is None
    return None if bounded else _of_filters(drawing, 0.0, 0.1, -0.2)


def _guide(drawing: Drawing) -> str | None:
    filtered = any(drawing.get(name) is not None for name in FILTERS)
    filtered &= drawing.way != "window" and not drawing.scored
    return "guide" if filtered and drawing.world.queries.guide is not None else None


def _anchors(drawing: Drawing) -> Any:
    if drawing.way == "window":
        return None
    large = len(drawing.world.queries) * len(drawing.world.candidates) > 10_000
    return drawing.one_of("12", "40") if large else drawing.now_and_then(0.2, 7, "3", "40%", "33.3%", "100%")


def _cap(drawing: Drawing, *values: int) -> int | None:
    fits = drawing.emit != "pairs" and drawing.mode not in ("preset", "farthest")
    return drawing.now_and_then(0.12, *values) if fits else None


def _order(drawing: Drawing) -> str | None:
    stays = drawing.way == "window" or (drawing.get("max_uses") and drawing.emit == "tuples") or drawing.get("buckets")
    return drawing.one_of(None, "anchor", *([] if stays else ["shuffled"]))


def _on_duplicate_ids(drawing: Drawing) -> str | None:
    if drawing.world.queries.ids is None or drawing.rng.random() < 0.03:
        return None
    return drawing.one_of("last", "last", *([] if drawing.way == "window" else ["first"]))


def _version_column(drawing: Drawing) -> str | None:
    fits = drawing.way == "tables" and drawing.get("on_duplicate_ids") == "last"
    return "version" if fits and drawing.world.queries.versions is not None else None


def _shared_ids(drawing: Drawing) -> bool | None:
    fits = drawing.world.corpus is not None and drawing.world.queries.ids is not None
    return drawing.now_and_then(0.3, True) if fits else None


def _column(feature: str, name: str, share: float) -> Callable[[Drawing], str | None]:
    """A drawer of a column's name, where tables have the column."""

    def drawn(drawing: Drawing) -> str | None:
        there = drawing.way != "arrays" and getattr(drawing.world.queries, feature) is not None
        return drawing.now_and_then(share, name) if there else None

    return drawn


def _label(drawing: Drawing) -> str | None:
    labels = drawing.world.queries.labels
    several = drawing.way == "tables" and labels is not None and not any(isinstance(each, list) for each in labels)
    if several and drawing.rng.random() < 0.25:
        return drawing.one_of("dept,label", "part,label", "dept,part,label", "part, dept, label")
    return _column("labels", "label", 0.5)(drawing)


def _negatives_at(drawing: Drawing) -> str | None:
    levels = str(drawing.get("label")).replace(" ", "").split(",")[:-1]
    return drawing.now_and_then(0.75, *levels) if levels else None


def _alone(drawing: Drawing) -> bool:
    """Whether there can be one teacher only."""
    if drawing.world.judged is not None:
        return True
    barred = ("max_uses", "anchor_where", "candidate_where", "draw_weights")
    alone = drawing.way == "window" or drawing.emit in ("pairs", "lists") or drawing.mode in ("preset", "farthest")
    return alone or any(drawing.get(name) is not None for name in barred)


def taught(drawing: Drawing) -> bool:
    """Whether several teachers were drawn."""
    return isinstance(drawing.get("embedding"), tuple) or drawing.get("candidates_as") == "too"


def _may_be_approximate(drawing: Drawing) -> bool:
    """Whether part of all pairs can be looked at: which part, the run says."""
    barred = ("max_uses", "max_positive_rank", "rank_positives", "negatives_per_anchor", "epsilon")
    barred_presets = ("tfa", "cornstack", "multi-similarity", "pair-margin")
    listed = drawing.world.run is not None or drawing.world.judged is not None or taught(drawing)
    asked = any(drawing.get(name) is not None for name in barred) or drawing.get("preset") in barred_presets
    everything = drawing.get("negatives") == 0 or drawing.get("fallback") == "farthest"
    return drawing.way != "window" and not (listed or asked or everything)


def _embedding(drawing: Drawing) -> Any:
    """The column of vectors, named where there are two, now and then both: two teachers."""
    guide = drawing.world.queries.guide
    width = 0 if guide is None or drawing.way == "arrays" else guide.shape[1]
    alone = _alone(drawing) or (drawing.get("dims") or 0) > width
    weighted = drawing.get("pick") == "weighted" and min(width, drawing.get("dims") or width) < 3
    if not width:
        return None
    if alone or weighted:
        return "embedding"
    return ("embedding", "guide") if drawing.mode == "taught" else drawing.one_of("embedding", ("embedding", "guide"))


def _buckets(drawing: Drawing) -> int | None:
    judged = drawing.world.judged
    return None if judged is None or len(judged.scores) > 1 else drawing.now_and_then(0.3, 2, 3, 4, 10)


def _by(drawing: Drawing) -> str | None:
    """The formula of the scores, or what rows are hard by."""
    judged = drawing.world.judged
    if judged is None:
        return None
    if drawing.get("buckets"):
        losses = drawing.get("margin") is not None or (drawing.metric == "cosine" and drawing.world.corpus is None)
        return drawing.one_of(None, "rank", "similarity", *(["loss"] if losses else []))
    formulas = [(), (*OF_ONE,), (*OF_TWO,)][len(judged.scores)]
    return drawing.one_of(*formulas) if formulas else None


FILTERS = ("max_similarity", "min_similarity", "absolute_margin", "relative_margin")

# In this order: a drawer sees what was drawn before it. None leaves the option at its default.
RULES: dict[str, Callable[[Drawing], Any]] = {
    "window": lambda d: int(d.rng.integers(1, len(d.world.queries) + 2)) if d.way == "window" else None,
    "preset": _preset,
    "dims": _dims,
    "label": _label,
    "id": _column("ids", "id", 0.3),
    "group_column": _column("groups", "group", 0.8),
    "emit": _emit,
    "metric": _metric,
    "normalize": lambda d: None if d.get("preset") else d.now_and_then(0.25, True),
    "band": lambda d: None if d.get("preset") else _band(d),
    "margin": _margin,
    "negatives": _negatives,
    "pick": _pick,
    "skip": lambda d: _cap(d, 1, 4),
    "within_top": _within_top,
    "simans_a": lambda d: _of_simans(d, 0.5, 30.0),
    "simans_b": lambda d: _of_simans(d, 0.1, -0.3),
    "draw_weights": lambda d: None if d.scored else _of_simans(d, True),
    "fallback": lambda d: d.one_of("farthest", "none") if d.mode == "farthest" and d.emit != "pairs" else None,
    "epsilon": lambda d: d.one_of(0.05, 0.1, 0.5) if d.mode == "epsilon" else None,
    "positive_margin": lambda d: d.distance(0.1, 0.3) if d.mode == "far pairs" else None,
    "positives": _positives,
    "positives_per_anchor": _positives_per_anchor,
    "min_positive_similarity": lambda d: _positive_similarity(d, 0.5, 0.9),
    "max_positive_similarity": lambda d: _positive_similarity(d, 0.02, 0.3),
    "max_positive_rank": lambda d: d.now_and_then(0.12, 1, 2, 30) if d.emit in ("triplets", "tuples") else None,
    "rank_positives": lambda d: d.now_and_then(0.12, 1, 4, 1000) if d.emit in ("triplets", "tuples") else None,
    "drop_duplicates_within": _within,
    "drop_duplicates_of": lambda d: d.one_of(None, "both", "anchor", "both" if d.emit == "pairs" else "positive"),
    "keep_duplicate_positives": lambda d: d.now_and_then(0.2, True),
    "group_rule": _group_rule,
    "negatives_at": _negatives_at,
    "seed": lambda d: d.one_of(None, 0, 1, -5, 2**40),
    "max_similarity": lambda d: _of_filters(d, 0.95, 0.7, 0.3),
    "min_similarity": lambda d: _of_filters(d, -0.5, 0.1, 0.2),
    "absolute_margin": _absolute_margin,
    "relative_margin": lambda d: None if d.get("band") == "hard" else _of_filters(d, 0.05, 0.5),
    "reference": lambda d: d.one_of(None, "pair", "min", "max", "mean") if d.similar else None,
    "guide": _guide,
    "anchors": _anchors,
    "anchors_per_label": lambda d: d.now_and_then(0.12, 1, 2, 4) if d.labelled and d.way != "window" else None,
    "negatives_per_anchor": lambda d: d.now_and_then(0.2, 1, 3) if d.emit == "triplets" else None,
    "max_per_negative_label": lambda d: _cap(d, 1, 2) if d.labelled else None,
    "max_uses": lambda d: None if d.way == "window" or d.get("buckets") or d.mode == "taught" else _cap(d, 1, 2, 5),
    "loss": lambda d: d.one_of(None, "contrastive") if d.emit == "pairs" else d.one_of("triplet", "triplet-soft"),
    "swap": lambda d: d.now_and_then(0.2, True) if d.emit == "triplets" and d.get("margin") else None,
    "short_rows": lambda d: d.one_of(None, "keep", "drop") if d.emit != "pairs" else None,
    "scores": _scores,
    "order": _order,
    "float64": lambda d: d.now_and_then(0.4, True),
    "unlabeled": lambda d: d.one_of(None, "ignore", "negative") if d.labelled else None,
    "unlabeled_value": lambda d: d.now_and_then(0.3, -1, "0", "1", "true") if d.labelled else None,
    "on_bad_rows": lambda d: "drop" if d.rng.random() < 0.97 else None,
    "on_duplicate_ids": _on_duplicate_ids,
    "version_column": _version_column,
    "min_grade": lambda d: d.now_and_then(0.5, 0, 1, 2) if d.world.grades is not None else None,
    "shared_ids": _shared_ids,
    "on_missing_ids": lambda d: d.one_of("drop", "drop", "drop", "error") if d.world.unknown_ids else None,
    "carry": lambda d: d.now_and_then(0.2, ("lang",), ("year", "lang")) if d.way != "arrays" else None,
    "where": lambda d: _where(d, 0.15),
    "anchor_where": _role_where,
    "candidate_where": _role_where,
    "embedding": _embedding,
    "candidates_as": lambda d: None if d.world.run is None else d.one_of(None, "only", *([] if _alone(d) else ["too"])),
    "teachers": lambda d: d.one_of(None, "union", "all", "majority") if taught(d) else None,
    "approximate": lambda d: d.now_and_then(0.4, 0.5) if _may_be_approximate(d) else None,
}
# Of `select` alone, for worlds of which a judge says something; buckets are drawn before all others, formulas last.
OF_LISTS: dict[str, Callable[[Drawing], Any]] = {
    "buckets": _buckets,
    "missing_scores": lambda d: d.one_of(None, *["drop"] * 5) if d.scored else None,
    "by": _by,
}


def _turns(drawing: Drawing) -> bool:
    """Whether the world can be mined both ways: rows to exclude are named as rows of the first table."""
    alike = drawing.world.corpus is not None and drawing.world.excluded_rows is None and drawing.way == "tables"
    barred = any(drawing.get(name) for name in ("anchor_where", "candidate_where", "approximate"))
    return alike and not barred and drawing.world.run is None


# What must change no row, drawn for each run anew.
HOW: dict[str, Callable[[Drawing], Any]] = {
    "screen": lambda d: d.one_of("scan", "f32", "i16", "i8", "auto"),
    "threads": lambda d: d.one_of(1, 1, 2, 3),
    "block_rows": lambda d: d.now_and_then(0.5, 1, 7, 37, 64),
    "batch_rows": lambda d: d.now_and_then(0.15, 3, 13, 64),
    "memory": lambda d: d.now_and_then(0.1, "256M"),
    "both_directions": lambda d: d.now_and_then(0.5, True) if _turns(d) else None,
}
MODES = ("plain", "plain", "plain", "plain", "filtered", "filtered", "preset", "farthest")
OF_PAIRS = ("epsilon", "far pairs")


def drawing_for(rng: Random, world: World) -> Drawing:
    """A way and a mode that the world allows."""
    bare = world.corpus is None and not world.listed
    labelled = world.queries.labels is not None
    ways = ["arrays", "arrays", "tables", "tables"] + (["window"] if bare and labelled else [])
    by_id = world.known is not None or world.excluded is not None or world.run is not None
    if by_id and world.queries.ids is None:
        ways = ["arrays"]
    way = str(rng.choice(ways))
    if world.judged is not None:
        return Drawing(rng, world, "tables", str(rng.choice(["plain", "filtered", "filtered", "preset"])))
    modes = MODES + (OF_PAIRS if way != "window" and world.corpus is None and world.run is None else ())
    modes += ("taught",) * 6 if way == "tables" and world.queries.guide is not None else ()
    return Drawing(rng, world, way, str(rng.choice(modes)))


def draw_options(drawing: Drawing) -> dict[str, Any]:
    """One value for each option of RULES, and of OF_LISTS for lists, that is not left at its default."""
    for name, draw in {"buckets": _buckets, **RULES, **OF_LISTS}.items():
        value = draw(drawing)
        if value is not None:
            drawing.options[name] = value
    return drawing.options
