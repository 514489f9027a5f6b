"""Small seeded retrieval tasks, one or two tables, with everything that may be listed; and both sides on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from assertions import assert_same_rows
from support import SCREENS, reference_rules

from minestream import reference
from minestream.config.resolve import split_options
from minestream.errors import InputError, UsageError
from minestream.mining.arrays import mine_arrays

Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class Task:
    """Rows of one table, or of queries and a corpus, and what is known of them; lists name rows by number."""

    rows: np.ndarray[Any, Any]
    labels: list[Any] | None
    ids: list[Any] | None
    groups: list[Any] | None
    guide: np.ndarray[Any, Any]
    corpus: np.ndarray[Any, Any] | None
    corpus_labels: list[Any] | None
    corpus_ids: list[Any] | None
    corpus_groups: list[Any] | None
    corpus_guide: np.ndarray[Any, Any] | None
    known: Pairs | None
    excluded: Pairs | None

    def of_candidates(self, name: str) -> Any:
        """What is known of the rows that candidates come from."""
        return getattr(self, name if self.corpus is None else f"corpus_{name}")

    @property
    def candidates(self) -> int:
        """Rows that candidates come from."""
        return len(self.rows if self.corpus is None else self.corpus)


def make_task(seed: int, two_tables: bool, known: bool, labels: str | None) -> Task:
    """A task with ties, duplicates, several positives, unlabelled rows, and ids of some type.

    labels : "single", "several" or None
    """
    rng = np.random.default_rng(seed)
    sizes = (int(rng.integers(4, 25)), int(rng.integers(30, 90))) if two_tables else (int(rng.integers(30, 90)),)
    d = int(rng.integers(3, 9))
    centres = rng.normal(size=(6, d))

    def vectors(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        of = rng.integers(0, 6, count)
        made = centres[of] + rng.choice([0.05, 0.6]) * rng.normal(size=(count, d))
        grid = np.round(made * 2) / 2 if rng.random() < 0.4 else made  # exact ties and twins
        grid[~grid.any(axis=1)] = 1.0
        return grid.astype(np.float32), of

    def labels_of(of: np.ndarray[Any, Any]) -> list[Any] | None:
        if labels is None:
            return None
        if labels == "single":
            return [None if rng.random() < 0.1 else int(value) for value in of]
        more = [rng.integers(0, 8, rng.integers(0, 2)).tolist() for _ in of]
        return [[int(value), *other] if rng.random() > 0.1 else [] for value, other in zip(of, more, strict=True)]

    def ids_of(count: int, kind: str) -> list[Any] | None:
        numbers = rng.choice(5 * count, count, replace=False).tolist()
        return {"none": None, "int": numbers, "text": [f"d{number}" for number in numbers]}[kind]

    kind = str(rng.choice(["none", "int", "text"]))
    made = [vectors(size) for size in sizes]
    all_labels = [labels_of(of) for _, of in made]
    all_ids = [ids_of(size, kind) for size in sizes]
    grouped = rng.random() < 0.4
    all_groups = [
        [None if rng.random() < 0.2 else int(g) for g in rng.integers(0, 5, s)] if grouped else None for s in sizes
    ]
    guides = [rng.normal(size=(size, 4)).astype(np.float32) for size in sizes]

    def pairs(each: float) -> Pairs:
        most = sizes[-1]
        found = {(int(a), int(rng.integers(0, most))) for a in rng.integers(0, sizes[0], int(each * sizes[0]))}
        if two_tables:
            found |= {(0, int(b)) for b in rng.choice(most, most // 3, replace=False)}  # one with many
        return sorted(pair for pair in found if two_tables or pair[0] != pair[1])

    more: list[Any] = [made[1][0], all_labels[1], all_ids[1], all_groups[1], guides[1]] if two_tables else [None] * 5
    return Task(
        made[0][0], all_labels[0], all_ids[0], all_groups[0], guides[0], *more,
        pairs(2.0) if known else None, pairs(0.7) if rng.random() < 0.6 else None,
    )  # fmt: skip


def by_id(pairs: Pairs | None, left: list[Any] | None, right: list[Any] | None) -> pa.Table | None:
    """Pairs of rows as the product takes them."""
    if pairs is None:
        return None
    return pa.table({
        "query_id": [a if left is None else left[a] for a, _ in pairs],
        "positive_id": [b if right is None else right[b] for _, b in pairs],
    })  # fmt: skip


def assert_task_agrees(task: Task, options: dict[str, Any], screens: tuple[str, ...] = SCREENS) -> int | None:
    """Fail unless every screen gives the reference's rows and counts; the rows, None where nothing can be mined."""
    given = options | {
        "qrels": by_id(task.known, task.ids, task.of_candidates("ids")),
        "exclude": by_id(task.excluded, task.ids, task.of_candidates("ids")),
    }
    given = {name: value for name, value in given.items() if value is not None}
    guided = given.pop("guided", False)
    listed = "qrels" in given or "exclude" in given
    plain = {name: value for name, value in given.items() if name not in ("qrels", "exclude")}
    derived = {"corpus": "c"} if task.corpus is not None else {}
    derived |= {name: "q" for name in ("qrels", "exclude") if name in given} | ({"guide": "g"} if guided else {})
    try:
        config, _, _ = split_options(plain | derived)
    except UsageError:
        return None
    sides = {
        "ids": task.ids, "groups": task.groups, "corpus": task.corpus, "corpus_labels": task.corpus_labels,
        "corpus_ids": task.corpus_ids, "corpus_groups": task.corpus_groups, "guide": task.guide if guided else None,
        "corpus_guide": task.corpus_guide if guided else None,
    }  # fmt: skip
    if task.known is not None and task.labels is None and config.group_rule != "negatives":
        with pytest.raises(UsageError, match="group_rule"):
            mine_arrays(task.rows, **sides, **given)
        return None
    rules = {name: value for name, value in reference_rules(config).items() if name not in ("guide", "corpus_guide")}
    expected = reference.mine(
        task.rows, labels=task.labels, known_positives=task.known, excluded=task.excluded, **sides, **rules
    )
    columns = expected.columns
    if listed and task.ids is None:  # rows go by their numbers then, in the columns of ids as well
        columns = {name.replace("_row", "_id"): rows for name, rows in columns.items() if "_row" in name} | columns
    for place, screen in enumerate(screens):
        try:
            found = mine_arrays(task.rows, task.labels, **sides, screen=screen, **{"threads": 1 + place % 2, **given})
        except InputError:
            if expected.counts["pairs"] == 0:
                return None
            raise
        except Exception as error:
            error.add_note(f"screen={screen!r}, {options!r}")
            raise
        try:
            assert_same_rows(columns, found.table())
            assert found.stats.answer() == expected.counts
        except AssertionError as error:
            error.add_note(f"screen={screen!r}, {options!r}")
            raise
    return expected.counts["rows"]


def drawn_options(task: Task, rng: np.random.Generator) -> dict[str, Any]:
    """Options of retrieval, a handful at a time, each often left at its default."""

    def one_of(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    options: dict[str, Any] = {
        "metric": one_of("cosine", "cosine", "dot", "euclidean"),
        "negatives": one_of(1, 2, 5),
        "band": one_of(None, None, "any", "semi-hard", "hard", "beyond", "violating"),
        "margin": one_of(None, 0.2, 1.0),
        "pick": one_of("nearest", "nearest", "nearest", "random", "weighted", "simans"),
        "skip": one_of(0, 0, 0, 1, 3),
        "positives": one_of(None, None, "easiest", "hardest", "random", "all"),
        "positives_per_anchor": one_of(1, 2),
        "emit": one_of("triplets", "triplets", "triplets", "tuples"),
        "seed": one_of(0, 7),
        "block_rows": one_of(None, 7, 50),
        "group_rule": one_of(None, "both", "negatives", "positives"),
        "unlabeled": one_of("ignore", "negative"),
        "short_rows": one_of(None, "keep", "drop"),
        "negatives_per_anchor": one_of(None, None, None, 3),
        "anchors": one_of(None, None, None, "60%"),
        "keep_duplicate_positives": one_of(False, True),
        "drop_duplicates_within": one_of(0.0, 0.0, None, 0.05),
        "drop_duplicates_of": one_of(None, None, "both", "anchor", "positive"),
        "swap": one_of(False, False, False, True),
        "float64": one_of(False, True),
        "order": one_of("anchor", "anchor", "anchor", "shuffled"),
        "scores": one_of(None, "none"),
        "normalize": one_of(False, False, True),
        "shared_ids": one_of(False, True) if task.ids is not None and task.corpus is not None else False,
    }
    if rng.random() < 0.7:
        options |= {
            "max_similarity": one_of(None, None, 0.9, 0.3),
            "min_similarity": one_of(None, None, -0.5, 0.1),
            "absolute_margin": one_of(None, None, 0.0, 0.1, -0.2),
            "relative_margin": one_of(None, 0.05, 0.5),
            "reference": one_of("pair", "pair", "min", "max", "mean"),
            "guided": one_of(False, False, True),
        }
    if task.corpus is None and rng.random() < 0.2:
        kept = ("seed", "block_rows", "group_rule", "unlabeled", "drop_duplicates_within", "float64", "order")
        pairs = {"emit": "pairs", "positives": "all", "metric": "cosine", "band": "any", "negatives": 0}
        pairs |= one_of(
            {"epsilon": 0.1}, {"epsilon": 0.5}, {"positive_margin": 0.3}, {"negatives": 3, "positives": "easiest"}
        )
        return {name: options[name] for name in kept} | pairs
    if rng.random() < 0.4:
        options["max_per_negative_label"] = one_of(1, 2)
    if rng.random() < 0.3:
        options["max_uses"] = one_of(1, 2, 5)
    if rng.random() < 0.2:
        options |= {"fallback": "farthest", "pick": "nearest", "skip": 0}
    elif rng.random() < 0.3:
        options["within_top"] = options["skip"] + options["negatives"] + one_of(0, 1, 4, 30)
    if rng.random() < 0.3:
        options |= {"max_positive_rank": one_of(None, 1, 5), "rank_positives": one_of(None, 3)}
    if options["metric"] != "euclidean" and rng.random() < 0.3:
        options |= {
            "min_positive_similarity": one_of(None, -0.1, 0.3),
            "max_positive_similarity": one_of(None, 0.5, 0.9),
        }
    if options["pick"] == "simans":
        within = options["skip"] + options["negatives"] + one_of(0, 1, 4, 30)
        options |= {"within_top": within, "simans_a": one_of(1.0, 50.0), "draw_weights": one_of(False, True)}
        options["metric"] = one_of("cosine", "dot")
    if task.known is not None and options["positives"] is None:  # then all are taken, and a number is refused
        options["positives_per_anchor"] = None
    return options
