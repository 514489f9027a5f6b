"""What a world must give under a set of options: the contract around reference.py, and nothing of the product."""

from __future__ import annotations

import ast
import operator
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from drawn_worlds import Pairs, Side, Vectors, World
from judged import HARD_BY, Judge, buckets_of

from minestream import reference

PRESETS: dict[str, dict[str, Any]] = {
    "facenet": {"metric": "sqeuclidean", "normalize": True, "margin": 0.2, "positives": "all", "band": "semi-hard"},
    "easy-positive": {"positives": "easiest", "positives_per_anchor": 1, "band": "beyond"},
    "batch-hard": {
        "positives": "hardest", "positives_per_anchor": 1, "band": "any", "negatives": 1,
        "drop_duplicates_within": None,
    },
    "tfa": {
        "metric": "euclidean", "normalize": True, "margin": 1.0, "positives": "all", "band": "beyond",
        "fallback": "farthest", "negatives": 1, "drop_duplicates_within": None,
    },
    "multi-similarity": {
        "emit": "pairs", "band": "any", "negatives": 0, "positives": "all", "epsilon": 0.1,
        "drop_duplicates_within": None,
    },
    "pair-margin": {
        "emit": "pairs", "metric": "euclidean", "normalize": True, "band": "violating", "negatives": 0,
        "positives": "all", "margin": 0.8, "positive_margin": 0.2, "drop_duplicates_within": None,
    },
    "nv-retriever": {"relative_margin": 0.05, "band": "any"},
    "nv-retriever-margin": {"absolute_margin": 0.05, "band": "any"},
    "nv-retriever-abs": {"max_similarity": 0.7, "band": "any"},
    "nv-retriever-sampled": {
        "relative_margin": 0.05, "within_top": 10, "pick": "random", "negatives": 4, "band": "any",
    },
    "cornstack": {"min_positive_similarity": 0.7, "max_positive_rank": 2},
    "bge": {"skip": 10, "within_top": 210, "pick": "random", "negatives": 15, "band": "any"},
    "ance": {"within_top": 200, "pick": "random", "band": "any"},
    "simans": {"metric": "dot", "within_top": 100, "pick": "simans", "band": "any"},
}  # fmt: skip
CONDITIONS = ("where", "anchor_where", "candidate_where")
PASSED_ON = (
    "window", "normalize", "pick", "skip", "within_top", "simans_a", "simans_b", "draw_weights", "fallback",
    "epsilon", "positive_margin", "min_positive_similarity", "max_positive_similarity", "max_positive_rank",
    "rank_positives",
    "positives_per_anchor", "drop_duplicates_within", "keep_duplicate_positives", "seed", "max_similarity",
    "min_similarity", "absolute_margin", "relative_margin", "reference", "anchors_per_label", "negatives_per_anchor",
    "max_per_negative_label", "max_uses", "swap", "order", "float64", "unlabeled", "shared_ids", "negatives_at",
)  # fmt: skip

OF_LISTS = {
    "metric", "normalize", "drop_duplicates_within", "drop_duplicates_of", "group_rule", "unlabeled", "shared_ids",
    "negatives_at", "anchors", "anchors_per_label", "seed", "takes_part", "ids", "labels", "groups", "levels", "corpus",
    "corpus_takes_part", "corpus_ids", "corpus_labels", "corpus_groups", "corpus_levels", "known_positives", "excluded",
}  # fmt: skip


@dataclass
class Answer:
    """The rows and counts there must be; `must` says why it must be refused instead, `may` why it may be.

    `unsaid`: the contract does not say what is mined, only that nothing breaks.
    """

    columns: dict[str, list[Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    must: list[str] = field(default_factory=list)
    may: list[str] = field(default_factory=list)
    unsaid: bool = False
    known: list[tuple[Any, Any, bool]] | None = None  # all positives behind verdicts, and which of them are new


def resolved(options: Mapping[str, Any], world: World) -> dict[str, Any]:
    """The options with presets expanded and every default that SEMANTICS names filled in."""
    given = {**PRESETS.get(options.get("preset", ""), {}), **options}
    if given.get("drop_duplicates_within") == "none":
        given["drop_duplicates_within"] = None
    given["band"] = {"semihard": "semi-hard", "semi_hard": "semi-hard"}.get(given.get("band", ""), given.get("band"))
    listed, two_tables = world.known is not None, world.corpus is not None
    pairs, tuples = given.get("emit") == "pairs", given.get("emit") == "tuples"
    metric = given.setdefault("metric", "cosine")
    scored = world.judged is not None and bool(world.judged.scores)
    given["band"] = given["band"] or ("any" if listed or scored else "violating" if pairs else "semi-hard")
    needs_margin = given["band"] in ("semi-hard", "violating", "easy")
    margin = (0.5 if pairs else 0.2) if metric == "cosine" and (needs_margin or not two_tables) else None
    defaults: dict[str, Any] = {
        "emit": "triplets", "negatives": 16 if pairs else 1, "margin": margin,
        "positives": "all" if listed and not pairs else "easiest",
        "group_rule": "negatives" if listed else "both", "drop_duplicates_of": "positive" if two_tables else "both",
        "short_rows": None if pairs else "drop" if tuples else "keep",
        "loss": "contrastive" if pairs else "triplet",
        "scores": "similarity" if tuples and metric in ("cosine", "dot") else None,
    }  # fmt: skip
    return {**defaults, **given}


# ---------------------------------------------------------------- conditions

COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda value, values: value in values,
    ast.NotIn: lambda value, values: value not in values,
}  # fmt: skip


def truth(node: ast.expr, row: Mapping[str, Any]) -> bool | None:
    """A condition of a row: true, false, or None where it compares a null."""
    if isinstance(node, ast.BoolOp):
        found = [truth(value, row) for value in node.values]
        decides = isinstance(node.op, ast.Or)
        return decides if decides in found else None if None in found else not decides
    if isinstance(node, ast.UnaryOp):
        found_one = truth(node.operand, row)
        return None if found_one is None else not found_one
    assert isinstance(node, ast.Compare)
    values = [
        row[each.id] if isinstance(each, ast.Name) else ast.literal_eval(each)
        for each in (node.left, *node.comparators)
    ]
    if isinstance(node.ops[0], ast.Is | ast.IsNot):
        return (values[0] is None) == isinstance(node.ops[0], ast.Is)
    if None in values:
        return None
    return all(COMPARED[type(op)](a, b) for op, a, b in zip(node.ops, values, values[1:], strict=False))


def meets(text: str | None, side: Side) -> Vectors:
    """Which rows meet a condition."""
    if text is None:
        return np.ones(len(side), bool)
    tree = ast.parse(text, mode="eval").body
    rows = zip(side.year, side.lang, side.share, strict=True)
    return np.array([truth(tree, {"year": y, "lang": t, "share": s}) is True for y, t, s in rows], bool)


# ---------------------------------------------------------------- which rows take part


def bad_rows(vectors: Vectors, directed: bool) -> Vectors:
    """Rows that are not finite, that have no direction where one is needed, or whose square is out of range."""
    square = np.zeros(len(vectors))
    with np.errstate(all="ignore"):
        for column in vectors.T.astype(np.float64):
            square += column * column
    good = np.isfinite(vectors).all(axis=1) & (square >= 1e-150) & (square <= 1e150)
    return ~good if directed else ~(good | (np.isfinite(vectors).all(axis=1) & (square == 0)))


def same_label(value: str | None, label: Any) -> bool:
    """Whether a label is the value that means none."""
    return value is not None and (str(label).lower() if isinstance(label, bool) else str(label)) == value


def labels_of(side: Side, value: str | None) -> list[Any] | None:
    """The labels with the unlabelled value made null; in lists element by element."""
    if side.labels is None:
        return None
    single = [None if same_label(value, label) else label for label in side.labels]
    return [
        [None if same_label(value, e) else e for e in label] if isinstance(label, list) else label for label in single
    ]


def levels_of(side: Side, label: str, value: str | None) -> dict[str, list[Any]]:
    """The coarser levels of labels, with the unlabelled value made null."""
    names = [name.strip() for name in label.split(",")[:-1]]
    return {name: [None if same_label(value, each) else each for each in getattr(side, name)] for name in names}


def _labelled(side: Side, row: int) -> bool:
    label = None if side.labels is None else side.labels[row]
    return any(e is not None for e in label) if isinstance(label, list) else label is not None


class Table:
    """One side under the options: which rows stand for their id, are good, and are not excluded."""

    def __init__(self, side: Side, given: Mapping[str, Any], answer: Answer) -> None:
        self.side = side = replace(side, vectors=side.vectors[:, : given.get("dims")])
        directed = given["metric"] == "cosine" or bool(given.get("normalize"))
        self.bad = bad_rows(side.vectors, directed)
        self.part = ~self.bad
        self.row_of = {row: row for row in range(len(side))} if side.ids is None else {}
        rule = given.get("on_duplicate_ids", "error")
        if side.ids is not None:
            repeated = max(Counter(side.ids).values(), default=1) > 1
            if rule == "error" and repeated and not given.get("window"):
                answer.may.append("ids stand in several rows")
                good = Counter(np.array(side.ids, object)[self.part].tolist())
                answer.unsaid = True
                if max(good.values(), default=1) > 1 and not any(given.get(name) for name in CONDITIONS):
                    answer.must.append("ids stand in several rows")
            if rule == "error" and repeated and given.get("window"):
                answer.may.append("ids stand in several rows of a window")
                labelled = [row for row in np.flatnonzero(self.part).tolist() if _labelled(side, row)]
                near = {(side.ids[a], side.ids[b]) for a in labelled for b in labelled if 0 < b - a <= given["window"]}
                if any(a == b for a, b in near) and given.get("unlabeled_value") is None:
                    answer.must.append("ids stand in several rows of a window")
            standing = np.ones(len(side), bool)
            if rule != "error" and not given.get("window"):
                versions = side.versions if given.get("version_column") else None
                standing = reference.standing(side.ids, versions, rule)
            self.part &= standing
            self.row_of = {side.ids[row]: row for row in np.flatnonzero(standing).tolist()}

    def named(self, row: int) -> Any:
        """What lists call a row."""
        return row if self.side.ids is None else self.side.ids[row]

    def without(self, names: set[Any]) -> None:
        """Leave out rows by name."""
        for row in range(len(self.side)):
            self.part[row] &= self.named(row) not in names


def rows_by_name(pairs: Pairs | None, left: Table, right: Table) -> list[tuple[int, int]] | None:
    """Listed pairs as the rows that stand for their names."""
    if pairs is None:
        return None
    return [(left.row_of[left.named(a)], right.row_of[right.named(b)]) for a, b in pairs]


# ---------------------------------------------------------------- the answer


def answer_of(world: World, options: Mapping[str, Any], way: str) -> Answer:
    """The rows that reference.py gives, or why there are none."""
    answer, given = Answer(), resolved(options, world)
    own = Table(world.queries, given, answer)
    other = own if world.corpus is None else Table(world.corpus, given, answer)
    if world.excluded_rows is not None:
        names = {own.named(row) for row in world.excluded_rows}
        for table in (own,) if other is own or world.queries.ids is None else (own, other):
            table.without(names)
    split = world.corpus is None and any(given.get(name) for name in ("anchor_where", "candidate_where"))
    roles = (("anchor_where", own.side), ("candidate_where", other.side))
    asked = [meets(given.get("where"), side) & meets(given.get(name), side) for name, side in roles]
    if given.get("on_bad_rows", "error") == "error":
        if (own.bad & asked[0]).any() or (other.bad & asked[1]).any():
            answer.must.append("bad rows")
        elif own.bad.any() or other.bad.any():
            answer.may.append("bad rows that are not asked for")
    if world.unknown_ids and world.listed:
        if given.get("on_missing_ids", "error") == "error":
            answer.must.append("unknown ids")
    labels_count = way == "arrays" or world.known is None or given.get("label") is not None
    keywords = keywords_of(world, given, own, other, labels_count, split, (own.part & asked[0], other.part & asked[1]))
    refuse_little(answer, keywords)
    if way == "arrays" and any(nothing_but_nulls(side) for side in (own.side, other.side)):
        answer.may.append("a list of nothing but None has no type")
    judge = judge_of(world, given)
    if judge is not None:
        keywords["verdicts"] = judge.verdicts((own.row_of, other.row_of))
        keywords["score"] = judge.score if judge.said.scores else None
    try:
        found = reference.mine(own.side.vectors, **keywords)
    except ValueError as error:
        answer.must.append(f"the reference: {error}")
        return answer
    if judge is not None and judge.missed and given.get("missing_scores", "error") == "error":
        answer.must.append("no score")
    if not found.counts["anchors"] or given.get("anchors") is not None:
        answer.may.append("no anchor has a positive")
    columns = found.columns
    if split:
        columns = {name.replace("query_", "anchor_"): values for name, values in columns.items()}
    columns = with_carried(columns, world, given.get("carry", ()))
    columns |= {name: columns.pop(name) for name in ("score_ap", "score_an") if name in columns}  # the last
    if given.get("buckets"):
        by = given.get("by")
        columns["bucket"] = buckets_of(columns, given["buckets"], by if by in HARD_BY else "rank")
    answer.columns, answer.counts = columns, found.counts
    if judge is not None and judge.said.verdicts is not None:
        answer.known = known_positives(own, other, keywords)
    return answer


def judge_of(world: World, given: Mapping[str, Any]) -> Judge | None:
    """What is said of the lists of a world."""
    if world.judged is None:
        return None
    names = world.queries.ids, world.candidates.ids
    return Judge(world.judged, names, None if given.get("by") in HARD_BY else given.get("by"), given["metric"])


def known_positives(own: Table, other: Table, keywords: Mapping[str, Any]) -> list[tuple[Any, Any, bool]]:
    """All positives of all anchors, by name, and whether a verdict made them so."""
    about = {name: value for name, value in keywords.items() if name in OF_LISTS}
    before, after = (
        reference.mine(own.side.vectors, emit="lists", positives="all", band="any", verdicts=verdicts, **about).columns
        for verdicts in (None, keywords["verdicts"])
    )
    anchors = next(before[name] for name in ("query_row", "anchor_row") if name in before)
    rows = zip(anchors, before["positive_rows"], after["positive_rows"], strict=True)
    return [(own.named(a), other.named(b), b not in old) for a, old, new in rows for b in new]


def keywords_of(
    world: World, given: Mapping[str, Any], own: Table, other: Table, labels_count: bool, split: bool,
    parts: tuple[Vectors, Vectors],
) -> dict[str, Any]:  # fmt: skip
    """The keywords of reference.mine."""
    value = given.get("unlabeled_value")
    value = None if value is None else str(value)
    grouped = given.get("group_column") is not None or given["arrays"]
    known = world.known
    if known is not None and world.grades is not None:
        known = tuple(p for p, g in zip(known, world.grades, strict=True) if g >= given.get("min_grade", 1))
    found: dict[str, Any] = {name: given[name] for name in PASSED_ON if given.get(name) is not None}
    if "drop_duplicates_within" in given:
        found["drop_duplicates_within"] = given["drop_duplicates_within"]
    for name in (
        "metric",
        "band",
        "margin",
        "negatives",
        "positives",
        "group_rule",
        "drop_duplicates_of",
        "emit",
        "loss",
    ):
        found[name] = given[name]
    found |= {"short_rows": given["short_rows"], "scores": given["scores"]}
    if given.get("anchors") is not None:
        found["anchors"] = given["anchors"] if str(given["anchors"]).endswith("%") else int(given["anchors"])
    excluded = rows_by_name(world.excluded, own, other)
    sides = {"": (own.side, parts[0])}
    if world.corpus is not None or split:
        sides["corpus_"] = other.side, parts[1]
    if split:  # one table all the same: pairs are unordered, and a row is no partner of itself
        excluded = [
            *(excluded or []),
            *((b, a) for a, b in excluded or []),
            *((row, row) for row in range(len(own.side))),
        ]
    for prefix, (side, part) in sides.items():
        found[f"{prefix}takes_part"] = part
        found[f"{prefix}ids"] = side.ids
        found[f"{prefix}labels"] = labels_of(side, value) if labels_count else None
        found[f"{prefix}groups"] = side.groups if grouped else None
        if labels_count and "," in str(given.get("label")):
            found[f"{prefix}levels"] = levels_of(side, given["label"], value)
        if given.get("guide"):
            found[f"{prefix}guide"] = side.guide
    if isinstance(given.get("embedding"), tuple):
        sides_of = [side for side, _ in sides.values()]
        found |= {"others": {"guide": [each.guide[:, : given.get("dims")] for each in sides_of]}}
    if world.run is not None:
        found |= {"candidate_lists": rows_by_name(world.run, own, other)}
        found["candidates_as"] = given.get("candidates_as", "only")
    found["teachers"] = given.get("teachers", "union")
    if len(sides) > 1:
        found["corpus"] = other.side.vectors
    return found | {"known_positives": rows_by_name(known, own, other), "excluded": excluded}


def nothing_but_nulls(side: Side) -> bool:
    """Whether the labels or groups of a table are all null."""
    given = [values for values in (side.labels, side.groups) if values is not None]
    return any(all(value is None for value in values) for values in given)


def refuse_little(answer: Answer, keywords: Mapping[str, Any]) -> None:
    """Note where there is too little to mine."""
    known = keywords["known_positives"]
    if known is not None and not known:
        answer.may.append("no pair is listed")
    labels = [*(keywords["labels"] or ()), *(keywords.get("corpus_labels") or ())]
    parts = [*keywords["takes_part"], *keywords.get("corpus_takes_part", ())]
    named = [reference.Table._values(label) for label, part in zip(labels, parts, strict=False) if part]
    if known is None and len({value for values in named for value in values}) < 2:
        answer.may.append("fewer than two labels")
    if not any(keywords["takes_part"]) or not any(parts):
        answer.may.append("no row takes part")


def with_carried(columns: dict[str, list[Any]], world: World, carry: tuple[str, ...]) -> dict[str, list[Any]]:
    """The columns, and behind them what is carried of every row."""
    if not carry:
        return columns
    found, lists = dict(columns), {}
    ends = [name for name in columns if name.endswith(("_row", "_rows"))]
    for end in ends:
        side = world.queries if end in ("anchor_row", "query_row") else world.candidates
        role = end.removesuffix("s").removesuffix("_row")
        for name in carry:
            values = getattr(side, name)
            if end.endswith("_rows"):
                lists[f"{role}_{name}s"] = [[values[row] for row in rows] for rows in columns[end]]
            else:
                found[f"{role}_{name}"] = [values[row] for row in columns[end]]
    return found | lists
