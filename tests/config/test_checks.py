"""What options are refused for: ranges that stand with the option, and the tables of checks."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

import minestream
from minestream.config import checks, resolve
from minestream.config.mine_config import MineConfig
from minestream.config.option import Range, flag_of
from minestream.config.resolve import OPTION_FIELDS, resolved, split_options
from minestream.config.resources import DERIVED, Resources
from minestream.errors import UsageError

pytestmark = pytest.mark.usefixtures("as_written")

TABLES: dict[str, tuple[tuple[checks.Check[Any], ...], Any]] = {
    "VALID": (checks.VALID, resolved(MineConfig())),
    "MACHINES": (checks.MACHINES, Resources()),
    "UNCUT": (checks.UNCUT, Resources()),
    "IN_WINDOWS": (checks.IN_WINDOWS, Resources()),
    "BOTH": (checks.BOTH, resolved(MineConfig(two_tables=True))),
    "HANDED_OUT": (checks.HANDED_OUT, resolved(MineConfig())),
}


@pytest.mark.parametrize("name", TABLES)
def test_what_is_asked_for_by_default_is_refused_nowhere(name: str) -> None:
    table, seen = TABLES[name]
    checks.refuse(table, seen)
    for check in table:
        said = {spec.name: getattr(seen, spec.name) for spec in fields(seen)}
        assert check.message.format(**said | {"what": "x", "margin": 1.0} | dict.fromkeys(checks._DISTANCES, 1.0))


@pytest.mark.parametrize(
    "option",
    [
        *checks._NOT_IN_WINDOWS,
        *checks._NOT_OF_PAIRS,
        *checks._NOT_TAUGHT,
        *checks._NOT_LISTED,
        *checks._NOT_APPROXIMATE,
    ],
)
def test_an_option_is_known_by_its_text(option: str) -> None:
    for each in option.split(" or "):
        flag, _, value = each.partition(" ")
        name = next(name for name in OPTION_FIELDS if flag_of(name) == flag)
        choices = OPTION_FIELDS[name].metadata["choices"]
        assert not value or value in choices
        assert not checks._asked(each, MineConfig())
        named = DERIVED.get(name, name)
        assert checks._asked(each, MineConfig(**{named: value or 1}))


Options = dict[str, Any]
PAIRS: Options = {"emit": "pairs"}
TUPLES: Options = {"emit": "tuples"}
LISTED: Options = {"listed_candidates": True}
TAUGHT: Options = {"embedding": ("a", "b")}
QRELS: Options = {"listed_positives": True}
EUCLIDEAN: Options = {"metric": "euclidean", "margin": 0.5}
FARTHEST: Options = {"fallback": "farthest"}
MULTI: Options = {"emit": "pairs", "band": "any", "negatives": 0, "positives": "all", "epsilon": 0.1}
SIMANS: Options = {"pick": "simans", "within_top": 9}
REFUSED: list[tuple[str, Options, Options]] = [  # how the message begins; what is refused; what is not, a step away
    ("--emit pairs or --emit lists is not for --candidates", LISTED | PAIRS, LISTED | TUPLES),
    ("--window is not for --candidates", LISTED | {"window": 9}, {"window": 9}),
    ("--emit pairs or --emit lists is not for several", TAUGHT | PAIRS, TAUGHT | TUPLES),
    ("--window is not for several", TAUGHT | {"window": 9}, {"window": 9}),
    ("--max-uses is not for several", TAUGHT | {"max_uses": 1}, {"max_uses": 1}),
    ("--fallback farthest is not for", TAUGHT | FARTHEST, FARTHEST),
    ("--draw-weights is not for", TAUGHT | SIMANS | {"draw_weights": True}, SIMANS | {"draw_weights": True}),
    ("--anchor-where or --candidate-where is not for", TAUGHT | {"anchor_where": "a"}, {"anchor_where": "a"}),
    ("--embedding names a column twice", {"embedding": ("a", "b", "b")}, TAUGHT),
    ("embeddings of several teachers", {"embedding": ("a", "an")}, {"embedding": "an"}),
    ("--negatives must be at least 1", {"negatives": 0}, PAIRS | {"negatives": 0}),
    ("--negatives must be at least 1", PAIRS | {"negatives": -1}, {"negatives": 1}),
    ("--emit pairs is for one table", PAIRS | {"two_tables": True}, TUPLES | {"two_tables": True}),
    ("--anchor-where and --candidate-where", PAIRS | {"anchor_where": "a"}, TUPLES | {"anchor_where": "a"}),
    ("--anchor-where and --candidate-where", QRELS | {"candidate_where": "a"}, {"candidate_where": "a"}),
    ("--margin 2.5 is more than", {"margin": 2.5, "band": "any"}, {"margin": 2.0, "band": "any"}),
    ("--margin 4.5 is more", {"metric": "sqeuclidean", "normalize": True, "margin": 4.5},
     {"metric": "sqeuclidean", "margin": 4.5}),
    ("--positive-margin 2.5 is more", PAIRS | {"positive_margin": 2.5}, PAIRS | {"positive_margin": 2.0}),
    ("--epsilon 2.5 is more than", MULTI | {"epsilon": 2.5}, MULTI | {"epsilon": 2.0}),
    ("--drop-duplicates-within 3 is", {"drop_duplicates_within": 3.0}, {"drop_duplicates_within": 2.0}),
    ("no negative can pass", {"min_similarity": 95.0}, {"min_similarity": 1.0}),
    ("no negative can pass", {"max_similarity": -1.5}, {"max_similarity": -1.0}),
    ("no negative can pass", {"absolute_margin": 2.5, "band": "any"}, {"absolute_margin": 2.0, "band": "any"}),
    ("--version-column says", {"version_column": "v"}, {"version_column": "v", "on_duplicate_ids": "last"}),
    ("--band hard has no meaning", PAIRS | {"band": "hard"}, PAIRS | {"band": "any"}),
    ("--loss contrastive does not", {"loss": "contrastive"}, PAIRS | {"loss": "contrastive"}),
    ("--emit pairs needs --metric", PAIRS | {"metric": "dot", "margin": 1.0}, PAIRS | EUCLIDEAN),
    ("--emit pairs takes --pick nearest", PAIRS | {"pick": "random"}, TUPLES | {"pick": "random"}),
    ("--swap is for --emit triplets", TUPLES | {"swap": True}, {"swap": True}),
    ("--swap changes the loss, which needs", {"swap": True, "band": "any", "two_tables": True},
     {"swap": True, "band": "any", "two_tables": True, "margin": 0.2}),
    *(("--negatives-per-anchor is not", emit | {"negatives_per_anchor": 2}, {"negatives_per_anchor": 2})
      for emit in (PAIRS, TUPLES)),
    *(("filters, guides, caps and --fallback", PAIRS | given, given) for given in (
        {"max_per_negative_label": 1}, {"max_uses": 1}, {"max_similarity": 0.5}, {"fallback": "farthest"})),
    ("--metric euclidean has no similarity to filter", EUCLIDEAN | {"max_similarity": 0.5},
     {"metric": "dot", "margin": 0.5, "max_similarity": 0.5}),
    ("--negatives-at a is a level of labels", {"negatives_at": "a"}, {"negatives_at": "a", "label": "a,b"}),
    ("a guide without a filter", {"guide": "g"}, {"guide": "g", "max_similarity": 0.5}),
    ("--min-similarity 0.5 lies above", {"min_similarity": 0.5, "max_similarity": 0.4},
     {"min_similarity": 0.5, "max_similarity": 0.5}),
    *((f"--band hard with a margin below --reference {reference}", filters | {"reference": reference, "band": "hard"},
       filters | {"reference": "max", "band": "hard"})
      for reference in ("pair", "min") for filters in ({"absolute_margin": 0.1}, {"relative_margin": 0.1})),
    *(("--absolute-margin 0.2 reaches", {"absolute_margin": 0.2, "margin": 0.2, "band": band, "reference": reference},
       {"absolute_margin": 0.2, "margin": margin, "band": band, "reference": other})
      for band in ("semi-hard", "violating") for reference in ("pair", "min")
      for margin, other in ((0.21, reference), (0.2, "mean"))),
    ("--order shuffled and --max-uses together", TUPLES | {"max_uses": 1, "order": "shuffled"},
     {"max_uses": 1, "order": "shuffled"}),
    *(("--within-top 9 less --skip", {"within_top": 9, "negatives": 5} | bad, {"within_top": 9, "negatives": 5} | good)
      for bad, good in (({"skip": 5}, {"skip": 4}), ({"negatives": 10}, {"negatives": 9}))),
    *(("--fallback farthest works with", FARTHEST | given, given) for given in (
        {"pick": "random"}, {"skip": 1}, {"within_top": 2}, {"max_uses": 1}, {"max_per_negative_label": 1},
        {"guide": "g", "max_similarity": 0.5})),
    *(("--epsilon needs --emit pairs", MULTI | given, {name: MULTI[name] for name in MULTI if name != "epsilon"})
      for given in ({"emit": "triplets", "negatives": 1}, {"band": "violating"}, {"negatives": 2},
                    {"positives": "easiest"}, {"metric": "euclidean", "margin": 0.5})),
    ("--positive-margin is for --emit pairs", {"positive_margin": 0.1}, PAIRS | {"positive_margin": 0.1}),
    ("--metric dot has no principled default", {"metric": "dot"}, {"metric": "dot", "band": "any"}),
    ("--metric euclidean has no principled", PAIRS | {"metric": "euclidean"}, PAIRS | EUCLIDEAN),
    ("--drop-duplicates-within above 0", {"metric": "dot", "band": "any", "drop_duplicates_within": 0.1},
     {"metric": "dot", "band": "any", "drop_duplicates_within": 0.0}),
    ("--pick weighted is defined", EUCLIDEAN | {"pick": "weighted"},
     EUCLIDEAN | {"pick": "weighted", "normalize": True}),
    ("--metric euclidean has no similarity for --pick simans", EUCLIDEAN | SIMANS, SIMANS),
    ("--metric euclidean has no similarity that positives", EUCLIDEAN | {"min_positive_similarity": 0.1},
     EUCLIDEAN | {"max_positive_rank": 9}),
    ("--min-positive-similarity 0.5 lies above", {"min_positive_similarity": 0.5, "max_positive_similarity": 0.4},
     {"min_positive_similarity": 0.5, "max_positive_similarity": 0.5}),
    *(("no positive can pass", bad, good) for bad, good in (
        ({"min_positive_similarity": 1.1}, {"min_positive_similarity": 1.0}),
        ({"max_positive_similarity": -1.1}, {"max_positive_similarity": -1.0}))),
    ("--pick simans draws among", {"pick": "simans"}, SIMANS),
    ("--draw-weights are those of", {"draw_weights": True}, SIMANS | {"draw_weights": True}),
    ("--scores must be chosen", TUPLES | EUCLIDEAN, TUPLES | EUCLIDEAN | {"scores": "none"}),
    ("--metric euclidean has no similarity", TUPLES | EUCLIDEAN | {"scores": "similarity"},
     TUPLES | {"scores": "similarity"}),
    *(("--drop-duplicates-within reaches", PAIRS | {"margin": 0.5, "drop_duplicates_within": within},
       PAIRS | {"margin": 0.5, "drop_duplicates_within": 0.4}) for within in (0.5, 0.6)),
]  # fmt: skip
WINDOW_BARS: list[tuple[str, Options, Options]] = [
    ("--emit pairs is not for --window", PAIRS, TUPLES), ("--order shuffled is", {"order": "shuffled"}, {}),
    ("--max-uses is", {"max_uses": 1}, {}), ("--anchors is", {"anchors": "5"}, {}),
    ("--anchors-per-label is", {"anchors_per_label": 1}, {}), ("--corpus is", {"two_tables": True}, {}),
    ("--qrels is", QRELS, {}), ("--exclude or --exclude-rows is", {"exclusions": True}, {}),
    ("--where is", {"where": "a"}, {}), ("--anchor-where or --candidate-where is", {"anchor_where": "a"}, {}),
    ("--anchor-where or --candidate-where is", {"candidate_where": "a"}, {}), ("--guide is", {"guide": "g"}, {}),
    ("--on-duplicate-ids first is", {"on_duplicate_ids": "first"}, {"on_duplicate_ids": "last"}),
    ("--negatives-at is", {"negatives_at": "a", "label": "a,b"}, {}),
]  # fmt: skip
PAIR_BARS: list[tuple[str, Options, Options]] = [
    ("--skip has no meaning for --emit pairs", {"skip": 1}, {"skip": 0}),
    ("--within-top has no meaning for --emit pairs", {"within_top": 20}, {"within_top": None}),
    *(
        ("--max-positive-rank or --rank-positives has no meaning for --emit pairs", {name: 2}, {name: None})
        for name in ("max_positive_rank", "rank_positives")
    ),
    ("--swap has", {"swap": True}, {}),
    ("--drop-duplicates-of positive has", {"drop_duplicates_of": "positive"}, {"drop_duplicates_of": "anchor"}),
    ("--short-rows drop has", {"short_rows": "drop"}, {"short_rows": "keep"}),
]
NEAR: Options = {"approximate": 0.9}
NEAR_BARS: list[Options] = [
    {"window": 9}, {"emit": "lists"}, {"max_uses": 1}, FARTHEST, LISTED, {"max_positive_rank": 2},
    {"rank_positives": 2}, {"negatives_per_anchor": 1},
]  # fmt: skip
REFUSED += [("--", NEAR | bad, bad) for bad in NEAR_BARS]
REFUSED += [
    ("--epsilon is not for --approximate", NEAR | MULTI, MULTI),
    ("--approximate is for one embedding", NEAR | TAUGHT, TAUGHT),
    ("--approximate is for one embedding", NEAR | PAIRS | {"negatives": 0}, NEAR | PAIRS | {"negatives": 1}),
]
LISTS: Options = {"emit": "lists"}
LIST_BARS: list[Options] = [
    {"margin": 0.2}, {"skip": 1}, {"within_top": 999}, {"order": "shuffled"}, {"fallback": "farthest"},
    {"negatives_per_anchor": 1}, {"max_uses": 1}, {"max_per_negative_label": 1}, {"swap": True}, {"guide": "g"},
    {"float64": True}, {"max_similarity": 0.5}, {"min_similarity": 0.5}, {"absolute_margin": 0.1},
    {"relative_margin": 0.1}, {"short_rows": "drop"}, {"pick": "random"}, {"pick": "weighted"}, {"carry": ("text",)},
    {"pick": "simans"}, {"draw_weights": True}, {"min_positive_similarity": 0.1}, {"max_positive_similarity": 0.9},
    {"max_positive_rank": 2}, {"rank_positives": 2},
]  # fmt: skip
REFUSED += [(f"--{next(iter(bad)).replace('_', '-')} ", LISTS | bad, LISTS) for bad in LIST_BARS]
REFUSED += [(says, {"window": 9} | bad, {"window": 9} | good) for says, bad, good in WINDOW_BARS]
REFUSED += [(says, PAIRS | bad, PAIRS | good) for says, bad, good in PAIR_BARS]
DASK: Options = {"engine": "dask"}
WHERE_REFUSED: dict[str, tuple[type[Any], list[tuple[str, Options, Options]]]] = {
    "VALID": (MineConfig, REFUSED),
    "MACHINES": (Resources, [
        ("--shard and --engine exclude", DASK | {"shard": "1/2"}, {"shard": "1/2"}),
        ("--require-rows, --max-short and", {"shard": "1/2", "require_rows": 1}, {"require_rows": 1}),
        ("--require-rows, --max-short and", {"shard": "1/2", "max_short": "5"}, {"max_short": "5"}),
        ("--require-rows, --max-short and", {"shard": "1/2", "require_recall": 0.9}, {"require_recall": 0.9}),
        ("--address is that of a cluster", {"address": "a"}, DASK | {"address": "a"}),
        ("--workers is for --engine dask", {"workers": 2}, DASK | {"workers": 2}),
        *(("--both-directions is mined by one process", {"both_directions": True} | given, given)
          for given in ({"shard": "1/2"}, DASK)),
        ("--workers and --address", DASK | {"workers": 2, "address": "a"}, DASK | {"workers": 2}),
    ]),
    "UNCUT": (Resources, [
        ("--shard is not for x", {"shard": "1/2"}, {}), ("--engine dask is not for x", DASK, {}),
        ("--both-directions is not for x", {"both_directions": True}, {}),
    ]),
    "IN_WINDOWS": (Resources, [
        ("--shard is not for x", {"shard": "1/2"}, {}), ("--engine dask is not for x", DASK, {}),
        ("--resume is not for --window", {"resume": True}, {"overwrite": True}), ("--max-rows is", {"max_rows": 1}, {}),
        ("--require-rows is", {"require_rows": 1}, {}), ("--max-short is", {"max_short": "5"}, {}),
        ("--both-directions is not for x", {"both_directions": True}, {}),
    ]),
    "BOTH": (MineConfig, [
        ("--both-directions is for two tables", {}, {"two_tables": True}),
        *(("--anchor-where or --candidate-where is not", {"two_tables": True, name: "a > 1"}, {"two_tables": True})
          for name in ("anchor_where", "candidate_where")),
        ("--emit lists is not", {"two_tables": True, "emit": "lists"}, {"two_tables": True}),
        ("--candidates is not", {"two_tables": True, "listed_candidates": True}, {"two_tables": True}),
        ("--approximate is not", {"two_tables": True, "approximate": 0.9}, {"two_tables": True}),
        ("--embedding-table is not", {"two_tables": True, "tabled": ("b",)}, {"two_tables": True}),
    ]),
    "HANDED_OUT": (MineConfig, [
        ("--order shuffled needs all rows", {"order": "shuffled"}, {}), ("--max-uses needs", {"max_uses": 3}, {}),
        ("--emit pairs needs", PAIRS, TUPLES),
    ]),
}  # fmt: skip
COMBINATIONS = [
    pytest.param(name, kind, *case, id=f"{name} {number}")
    for name, (kind, cases) in WHERE_REFUSED.items()
    for number, case in enumerate(cases)
]


def seen_by(name: str, kind: type[Any], given: Options) -> Any:
    """What a table of checks looks at: VALID a resolved configuration."""
    return resolved(kind(**given)) if name == "VALID" else kind(**given)


@pytest.mark.parametrize(("name", "kind", "says", "refused", "passes"), COMBINATIONS)
def test_a_combination_is_refused_and_its_neighbour_is_not(
    name: str, kind: type[Any], says: str, refused: Options, passes: Options
) -> None:
    table, _ = TABLES[name]
    checks.refuse(table, seen_by(name, kind, passes), what="x")
    with pytest.raises(UsageError) as error:
        checks.refuse(table, seen_by(name, kind, refused), what="x")
    assert error.value.message.startswith(says)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_a_table_is_the_first_to_refuse_something(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "refuse", lambda *_: None)
    (table, _), (kind, cases) = TABLES[name], WHERE_REFUSED[name]
    seen = [seen_by(name, kind, refused) for _, refused, _ in cases]
    first = {next(place for place, check in enumerate(table) if check.refuses(each)) for each in seen}
    assert [check.message for place, check in enumerate(table) if place not in first] == []


@pytest.mark.parametrize("options", [DASK, {"max_uses": 2}, {"where": "a > 1"}], ids=str)
def test_a_miner_of_a_window_asks_both_tables(options: Options) -> None:
    with pytest.raises(UsageError, match="is not for --window"):
        minestream.Miner(10, **options)


RANGES = {name: spec.metadata["within"] for name, spec in OPTION_FIELDS.items() if spec.metadata["within"] != Range()}


@pytest.mark.parametrize("name", RANGES)
def test_a_number_outside_of_its_range_is_refused(name: str) -> None:
    limits = RANGES[name]
    outside = [limits.least if limits.inside else limits.least - 1, limits.most + 1]
    for value in (number for number in outside if math.isfinite(number)):
        kind = int if OPTION_FIELDS[name].metadata["kind"] in ("integer", "hidden") else float
        with pytest.raises(UsageError, match=f"^{flag_of(name)} must be .*, not {kind(value)}"):
            split_options({name: kind(value)})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value: float) -> None:
    for name in (name for name, spec in OPTION_FIELDS.items() if spec.metadata["kind"] in ("number", "threshold")):
        with pytest.raises(UsageError, match=f"^{flag_of(name)} must be a finite number, not"):
            split_options({name: value})


def test_a_refusal_names_what_the_preset_set() -> None:
    with pytest.raises(UsageError) as caught:
        split_options({"preset": "nv-retriever-sampled", "negatives": 12, "label": "x"})
    assert caught.value.hint.endswith("; --preset nv-retriever-sampled sets --within-top 10")
    with pytest.raises(UsageError) as caught:
        split_options({"preset": "nv-retriever-sampled", "within_top": 11, "negatives": 12, "label": "x"})
    assert "preset" not in caught.value.hint
