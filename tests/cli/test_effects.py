"""Options that change nothing: each is said in one line, or refused where it can only be a mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream.cli.main import main
from minestream.config.border import in_python
from minestream.config.effects import IDLE, IDLE_IN, LACKING, Asked
from minestream.config.resolve import OPTION_FIELDS, asked_options
from minestream.config.trainer_formats import FORMATS
from minestream.errors import UsageError
from minestream.mining.arrays import mine_arrays

ROWS = np.random.default_rng(4).standard_normal((40, 4)).astype(np.float32)
LABELS = np.arange(40) % 4

# Options whose last one has no effect beside the others, and others beside which it has one.
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"positives": "all", "positives_per_anchor": 2}, {"positives": "random"}),
    ({"seed": 3}, {"positives": "random"}),
    ({"seed": 0}, {"anchors": "10"}),
    ({"reference": "max"}, {"absolute_margin": 0.1, "band": "any"}),
    ({"group_rule": "both"}, {"group_column": "g"}),
    ({"drop_duplicates_within": "none", "drop_duplicates_of": "anchor"}, {"drop_duplicates_within": 0.0}),
    ({"drop_duplicates_within": "none", "keep_duplicate_positives": True}, {"drop_duplicates_within": 0.0}),
    ({"positives": "all", "keep_duplicate_positives": True}, {"positives": "random"}),
    ({"min_grade": 2.0}, {"qrels": "q.tsv"}),
    ({"candidates_as": "too"}, {"candidates": "c.run"}),
    ({"teachers": "all"}, {"embedding": ["a", "b"]}),
    ({"shared_ids": True}, {"corpus": "c.parquet"}),
    ({"require_recall": 0.9}, {"approximate": 0.95}),
    ({"on_missing_ids": "drop"}, {"exclude": "x.tsv"}),
    ({"vectors": "*.npy", "embedding": "e"}, {"vectors": None}),
    ({"normalize": True}, {"metric": "euclidean", "margin": 0.2}),
    ({"band": "any", "fallback": "farthest"}, {"band": "semi-hard"}),
    ({"negatives": 2, "negatives_per_anchor": 2}, {"positives_per_anchor": 2}),
    ({"negatives": 2, "max_per_negative_label": 2}, {"negatives": 3}),
    ({"within_top": 9}, {"pick": "random"}),
    ({"simans_a": 3.0}, {"pick": "simans", "within_top": 9}),
    ({"simans_b": 3.0}, {"pick": "simans", "within_top": 9}),
    ({"within_top": 9}, {"max_per_negative_label": 1, "negatives": 3}),
    ({"anchors": "100%"}, {"anchors": "99%"}),
    ({"max_similarity": 1.0}, {"max_similarity": 0.99}),
    ({"max_positive_similarity": 1.0}, {"max_positive_similarity": 0.99}),
    ({"min_positive_similarity": -1.0}, {"min_positive_similarity": -0.99}),
    ({"min_similarity": -1.0}, {"min_similarity": -0.99}),
    ({"metric": "euclidean", "band": "any", "loss": "triplet-soft"}, {"margin": 0.2}),
    ({"short_rows": "drop"}, {"negatives": 2}),
    ({"scores": "none"}, {"emit": "tuples"}),
    ({"list_ids": True}, {"emit": "lists"}),
    ({"dry_run": True, "require_rows": 5}, {"dry_run": False}),
    ({"dry_run": True, "resume": True}, {"dry_run": False}),
]


def names(case: tuple[dict[str, Any], dict[str, Any]]) -> str:
    return " ".join(case[0])


@pytest.mark.parametrize("case", CASES, ids=names)
def test_an_option_without_effect_is_said(case: tuple[dict[str, Any], dict[str, Any]]) -> None:
    options, beside = case
    name = list(options)[-1]
    flag = "--" + name.replace("_", "-")
    said = [remark for remark in asked_options(options)[1].remarks if remark.startswith(f"{flag} has no effect: ")]
    assert len(said) == 1
    with_effect = {**options, **beside}
    assert not [remark for remark in asked_options(with_effect)[1].remarks if remark.startswith(f"{flag} ")]
    assert not asked_options({key: value for key, value in options.items() if key != name})[1].remarks


def test_every_row_is_met_by_a_case() -> None:
    """But the one that is refused."""
    met = set()
    for options, _ in CASES:
        config, resources, _ = asked_options(options)
        asked = Asked(config, resources, set(options))
        met |= {row for row in IDLE if list(options)[-1] in row.options and row.holds(asked)}
    assert {row for row in IDLE if not row.remedy} <= met
    assert {name for row in IDLE for name in row.options} <= set(OPTION_FIELDS)
    assert {name for row in LACKING.values() for name in row} <= set(OPTION_FIELDS)


def test_no_default_is_said() -> None:
    """A program that hands every option on, as it stands by default, hears of those alone that it gave a value."""
    nothing = {
        name: spec.default for name, spec in OPTION_FIELDS.items() if spec.default is None or spec.default is False
    }
    assert asked_options(nothing)[1].remarks == ()


def test_positives_per_anchor_beside_listed_positives_is_refused() -> None:
    for given in (1, 3):
        with pytest.raises(UsageError, match="positives_per_anchor has no effect: with qrels") as refused:
            asked_options({"qrels": "q.tsv", "positives_per_anchor": given})
        assert 'positives="easiest"' in refused.value.hint
    config, resources, _ = asked_options({"qrels": "q.tsv", "positives": "easiest", "positives_per_anchor": 1})
    assert (config.positives, resources.remarks) == ("easiest", ())


def test_conditions_of_one_role_say_what_the_other_takes() -> None:
    (said,) = asked_options({"anchor_where": "split == 'train'"})[1].remarks
    assert "--anchor-where limits anchors alone" in said
    (said,) = asked_options({"candidate_where": "split == 'train'"})[1].remarks
    assert "--candidate-where limits positives and negatives alone" in said
    for quiet in ({"candidate_where": "a == 1"}, {"where": "a == 1"}, {"corpus": "c.parquet"}):
        assert asked_options({"anchor_where": "a == 1"} | quiet)[1].remarks == ()


def test_simans_of_cosines_is_told_to_draw_more_narrowly() -> None:
    given: dict[str, Any] = {"pick": "simans", "within_top": 9}
    (said,) = asked_options(given)[1].remarks
    assert "--simans-a 1, the default, is for inner products" in said
    for quiet in ({"simans_a": 1.0}, {"metric": "dot", "band": "any"}):
        assert asked_options(given | quiet)[1].remarks == ()


def test_a_relative_margin_that_may_be_turned_round_is_noted() -> None:
    (said,) = asked_options({"relative_margin": 0.95})[1].remarks
    assert said == "--relative-margin 0.95 keeps what is at most 5 % as similar; for up to 95 % write 0.05"
    assert asked_options({"relative_margin": 0.5})[1].remarks == ()


DATA: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no such value": (LABELS, {"unlabeled_value": 77}, "no row has the label '77' (int64)"),
    "a float's text": (LABELS - 1, {"unlabeled_value": "-1.0"}, "no row has the label '-1.0' (int64)"),
    "white space": (LABELS - 1, {"unlabeled_value": " -1"}, "no row has the label ' -1' (int64)"),
    "of lists": ([[each] for each in LABELS], {"unlabeled_value": "9"}, "no row has the label '9'"),
    "every row has one": (LABELS, {"unlabeled": "negative"}, 'unlabeled="negative" has no effect'),
    "-1 more than others": (np.r_[[-1] * 7, np.arange(33) % 6], {}, "18% of the rows carry the label -1, more than"),
    "-1 on many": (np.r_[[-1] * 9, np.arange(31) % 3], {}, "22% of the rows carry the label -1: if"),
    "no ids": (LABELS, {"on_duplicate_ids": "last"}, "on_duplicate_ids has no effect: there are no ids"),
    "no labels": (None, {"qrels": [(0, 4)], "unlabeled": "negative"}, "unlabeled has no effect: no labels are used"),
    "no grades": (None, {"qrels": [(0, 4)], "min_grade": 0.0}, "min_grade has no effect: the pairs"),
}


@pytest.mark.parametrize("name", DATA)
def test_what_only_the_rows_tell(name: str) -> None:
    labels, options, words = DATA[name]
    if "ids" not in name and labels is not None:
        options = options | {"ids": np.arange(40)}
    notes = mine_arrays(ROWS, labels, band="any", **options).notes
    assert len([note for note in notes if words in note]) == 1, notes


@pytest.mark.parametrize("options", [
    {"unlabeled_value": "-1"}, {"unlabeled_value": 2, "unlabeled": "negative"}, {"groups": LABELS, "group_rule": "both"}
])  # fmt: skip
def test_what_has_an_effect_is_not_said(options: dict[str, Any]) -> None:
    labels = np.r_[[-1] * 5, LABELS[5:]]  # as many as others, or fewer
    assert not [note for note in mine_arrays(ROWS, labels, band="any", **options).notes if "effect" in note]
    assert not [note for note in mine_arrays(ROWS, labels, band="any").notes if "-1" in note]


# ---------------------------------------------------------------- the other commands


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of rows with texts, and what was mined of it in several ways."""
    folder = tmp_path_factory.mktemp("effects")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 4)
    texts = [f"text {row}" for row in range(40)]
    columns = {"embedding": vectors, "label": LABELS, "text": texts, "picture": [text.encode() for text in texts]}
    pq.write_table(pa.table(columns), folder / "in.parquet")
    pq.write_table(pa.table({"embedding": vectors, "id": range(40), "text": texts}), folder / "c.parquet")
    pq.write_table(pa.table({"query_id": [1, 2], "positive_id": [3, 4]}), folder / "p.parquet")
    options: dict[str, Any] = {"progress": "none", "band": "any"}
    source, corpus = str(folder / "in.parquet"), str(folder / "c.parquet")
    minestream.mine(source, folder / "out.parquet", **options)
    minestream.mine(source, folder / "carried.parquet", carry="text", **options)
    minestream.export(folder / "out.parquet", folder / "pml.parquet", emit="pml")
    minestream.mine(corpus, folder / "two.parquet", corpus=corpus, qrels=str(folder / "p.parquet"), **options)
    for number in (1, 2):
        minestream.mine(source, folder / "merged.parquet", shard=f"{number}/2", **options)
    return folder


def export(here: Path, mined: str = "out.parquet", emit: str = "st-triplets", **options: Any) -> Any:
    out = here / f"e{FORMATS[emit].suffix}"
    return minestream.export(here / mined, out, overwrite=True, emit=emit, **options)["notes"]


COMMANDS: dict[str, Callable[..., Any]] = {
    "verify": lambda here, mined="out.parquet", **options: minestream.verify(here / mined, **options)["notes"],
    "batch": lambda here, mined="out.parquet", **options: minestream.batch(
        here / mined, here / "b.parquet", overwrite=True, progress="none", batch_size=2, **options)["notes"],
    "export": export,
    "compare": lambda here, **options: minestream.compare(here / "in.parquet", here / "in.parquet", **options)["notes"],
    "profile": lambda here, **options: minestream.profile(here / "in.parquet", progress="none", **options)["notes"],
    "fit": lambda here, **options: minestream.fit(
        here / "in.parquet", here / "m.npz", overwrite=True, progress="none", step_rows=9, **options).notes,
    "merge": lambda here, **options: minestream.merge(here / "merged.parquet", overwrite=True, **options).notes,
}  # fmt: skip
MINED_TABLES = ("source", "corpus", "qrels", "exclude", "exclude_rows")
TEXT = {"text": "text"}
TREC, TEVATRON, TWO = {"emit": "trec"}, {"emit": "tevatron", "text": "text"}, {"mined": "two.parquet"}
# Options whose last one has no effect beside the others, and what gives it one; None where nothing can.
ELSEWHERE: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
    ("verify", {"sample": 0, "seed": 3}, {"sample": 20}),
    ("verify", {"sample": 0, "source": "in.parquet"}, {"sample": 20}),
    ("verify", {"sample": 0, **TWO, "corpus": "c.parquet"}, {"sample": 20}),
    ("verify", {"sample": 0, **TWO, "qrels": "p.parquet"}, {"sample": 20}),
    *(("verify", {"mined": "pml.parquet", name: "c.parquet"}, None) for name in MINED_TABLES),
    *(("verify", {"sample": 0, name: "p.parquet"}, None) for name in ("exclude", "exclude_rows")),
    ("verify", {"exclude": "p.parquet"}, None),
    ("verify", {"candidates": "p.parquet"}, None),
    ("verify", {"exclude_rows": "p.parquet"}, None),
    ("verify", {"mined": "pml.parquet", "sample": 7}, {"mined": "out.parquet"}),
    ("verify", {"mined": "pml.parquet", "seed": 7}, {"mined": "out.parquet", "sample": 7}),
    ("verify", {"sample": 40, "seed": 3}, {"sample": 39}),
    ("verify", {"corpus": "c.parquet"}, TWO),
    ("verify", {"qrels": "p.parquet"}, TWO),
    ("export", TREC | TEXT, {"emit": "st-triplets"}),
    ("export", TREC | {"query_text": "text"}, {"emit": "tevatron", **TWO, "text": "text"}),
    ("export", TREC | {"source": "in.parquet"}, {"emit": "st-triplets", **TEXT}),
    ("export", TREC | TWO | {"corpus": "c.parquet"}, {"emit": "st-triplets", **TEXT}),
    ("export", TEXT | {"mined": "carried.parquet", "source": "in.parquet"}, {"mined": "out.parquet"}),
    ("export", TEXT | {"mined": "carried.parquet", "corpus": "c.parquet"}, TWO),
    ("export", TEXT | {"corpus": "c.parquet"}, TWO),
    ("export", TEVATRON | TWO | {"corpus": "c.parquet"}, {"emit": "st-triplets"}),
    ("export", {"emit": "tevatron", **TWO, "query_text": "text", "text": "text"}, {"emit": "st-triplets"}),
    ("compare", {"overwrite": True}, {"out": "near.parquet"}),
    ("compare", {"normalize": True}, {"metric": "euclidean"}),
    ("compare", {"on_duplicate_ids": "last"}, None),
    ("compare", {"unlabeled_value": "77"}, {"unlabeled_value": "1"}),
    ("profile", {"overwrite": True}, {"out": "look"}),
    ("profile", {"carry": ("text",)}, {"out": "look", "overwrite": True}),
    ("profile", {"image": "picture"}, {"out": "look", "overwrite": True}),
    ("profile", {"full": True, "sample": 7}, {"full": False}),
    ("profile", {"full": True}, None),
    ("profile", {"sample": 40}, {"sample": 39}),
    ("profile", {"seed": 3}, {"sample": 39}),
    ("profile", {"sample": 9, "full": True, "seed": 3}, None),
    ("profile", {"group_rule": "both"}, {"group_column": "text"}),
    ("fit", {"epochs": 1, "patience": 2}, {"epochs": 3}),
    ("fit", {"epochs": 1, "normalize": True}, {"metric": "euclidean", "margin": 0.5}),
    ("batch", {"false_negative_margin": 0.2}, {"false_negatives": "similar"}),
    ("batch", {"method": "random", "group_size": 2}, {"method": "graph"}),
    ("batch", {"method": "random", "hardness_schedule": "0:1"}, {"method": "cluster"}),
    ("batch", {"mined": "carried.parquet", "false_negatives": "off", "same": "text"}, {"mask": True}),
    (
        "batch",
        {"mined": "in.parquet", "pairs_from": "labels", "source": "in.parquet"},
        {"pairs_from": "mined", "mined": "out.parquet"},
    ),
    ("batch", {"corpus": "c.parquet"}, TWO),
    ("batch", {"qrels": "p.parquet"}, TWO),
    ("batch", {"exclude": "p.parquet"}, None),
    ("batch", {"exclude_rows": "p.parquet"}, None),
    ("merge", {"source": "in.parquet"}, None),
    *(("merge", {name: "p.parquet"}, None) for name in IDLE_IN["merge"][0].options[1:]),
]


@pytest.mark.parametrize("case", ELSEWHERE, ids=lambda case: " ".join([case[0], *case[1]]))
def test_the_other_commands_say_it_too(
    case: tuple[str, dict[str, Any], dict[str, Any] | None], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, options, beside = case
    monkeypatch.chdir(here)
    name = list(options)[-1]
    said = in_python(f"--{name.replace('_', '-')} has no effect: ")
    told = [note for note in COMMANDS[command](here, **options) if note.startswith(said)]
    assert len(told) == 1
    if beside is not None:
        with_effect = COMMANDS[command](here, **{**options, **beside})
        assert not [note for note in with_effect if note.startswith(name)]


def test_every_option_of_the_other_commands_is_met() -> None:
    met = {(command, list(options)[-1]) for command, options, _ in ELSEWHERE}
    assert {(command, name) for command, rows in IDLE_IN.items() for row in rows for name in row.options} <= met


@pytest.mark.parametrize("command", ["verify", "compare", "profile", "fit", "merge"])
def test_the_other_commands_say_nothing_of_defaults(command: str, here: Path) -> None:
    assert not [note for note in COMMANDS[command](here) if "no effect" in note]


def test_commands_print_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mined, source = str(here / "out.parquet"), str(here / "in.parquet")
    for arguments in (
        ["verify", mined, "--sample", "0", "--seed", "3"],
        ["export", mined, "--emit", "trec", "--text", "text", "-o", str(here / "p.trec")],
        ["compare", source, source, "--overwrite"],
        ["profile", source, "--seed", "3", "--progress", "none"],
        ["fit", source, "-o", str(here / "p.npz"), "--epochs", "1", "--patience", "9", "--progress", "none"],
    ):
        assert main(arguments) == 0
        assert " has no effect: " in capsys.readouterr().out, arguments


@pytest.mark.parametrize("options", [
    {"margins": (0.1, 5.0)}, {"metric": "euclidean", "normalize": True, "margins": (2.5,)}
])  # fmt: skip
def test_margins_beyond_any_distance_are_refused_by_profile(options: dict[str, Any], here: Path) -> None:
    with pytest.raises(UsageError, match=r"is more than metric=\"\w+\" can reach"):
        minestream.profile(here / "in.parquet", **options)


def test_a_window_says_it_too() -> None:
    with minestream.Miner(10, seed=5, unlabeled_value="77") as miner:
        miner.feed({"embedding": ROWS, "label": LABELS})
        assert [note.partition(" has")[0] for note in miner.notes] == ["seed", "unlabeled_value"]


def test_a_report_says_it(tmp_path: Path) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 4)
    table = pa.table({"embedding": vectors, "label": LABELS})
    for out in ("out.parquet", "window.parquet"):
        options: dict[str, Any] = {"window": 20} if out.startswith("window") else {}
        report = minestream.mine(table, tmp_path / out, seed=5, progress="none", **options)
        assert any(note.startswith("seed has no effect") for note in report.notes)
