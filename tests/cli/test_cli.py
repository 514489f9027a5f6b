"""The command line says what the tables say, calls the library with what was given, and fails in words."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream import errors
from minestream.__main__ import start
from minestream.cli import printing, report
from minestream.cli.guide import pages
from minestream.cli.main import cli, main
from minestream.cli.options import flags_of, visible_fields
from minestream.config.names import FOREIGN_OPTIONS
from minestream.config.resolve import OPTION_FIELDS, split_options
from minestream.config.rules import REPEATED
from minestream.system import interrupts
from minestream.system.stats import Report, ShardStats

SAMPLE_VALUES = {
    "text": "word", "integer": "3", "number": "0.5", "repeat": "text", "share": "10%",
    "threshold": "0.1", "size": "64MiB", "columns": "text", "named": "b=text",
}  # fmt: skip


def a_report(**changes: Any) -> Report:
    """A small complete report."""
    config, *_ = split_options({})
    stats = ShardStats(
        anchors=100, pairs=100, rows=95, full=95, short=0, empty=5, losses=95, active_rows=90, loss_sum=19.0,
        active_loss_sum=18.0, nearer_passed_over=50, nearer_pairs=100,
        dropped={"equal vectors": 7}, seconds={"sweep": 0.5},
    )  # fmt: skip
    source = {"rows": 110, "dimension": 8, "dtype": "float", "dropped": {"no label": 10}, "rows_taking_part": 100,
        "without_positive": 9}  # fmt: skip
    plan = {"pairs_to_compute": 9900, "shards": 1, "projected_bytes": 3 << 20, "projected_seconds": 90.0}
    values: dict[str, Any] = {
        "output": "x.triplets.parquet", "config": config.to_dict(), "columns": {}, "source": source,
        "plan": plan, "stats": stats, "notes": ("a note",), "seconds": 0.6,
    }  # fmt: skip
    return Report(**(values | changes))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Put a stand-in under a public name; what it was called with is kept."""

    def put(name: str, result: object) -> list[Any]:
        calls: list[Any] = []

        def stand_in(*arguments: Any, **options: Any) -> object:
            options.pop("progress_callback", None)  # which listens for notes
            calls.append((arguments, options))
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setitem(vars(minestream), name, stand_in)
        return calls

    return put


def output_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command line."""
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_no_arguments_are_a_request_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert output_of(capsys) == output_of(capsys, "--help")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert output_of(capsys, "--version") == (0, f"minestream, version {minestream.__version__}\n", "")


@pytest.mark.parametrize("name", [spec.name for spec in visible_fields()])
def test_every_option_reaches_the_library(
    capsys: pytest.CaptureFixture[str], library: Callable[..., list[Any]], name: str
) -> None:
    spec = OPTION_FIELDS[name]
    kind, choices = spec.metadata["kind"], spec.metadata["choices"]
    calls = library("mine", a_report())
    value = next(iter(choices)) if choices else SAMPLE_VALUES.get(kind)
    for flag in flags_of(spec):
        assert main(["mine", "in.parquet", flag, *([] if value is None else [value])]) == 0
    expected: dict[str, Any] = {
        "flag": True, "integer": 3, "number": 0.5, "repeat": ("text",), "columns": ("text",), "named": ("b=text",),
    }  # fmt: skip
    for arguments, options in calls:
        assert arguments == (["in.parquet"], None)
        assert options == {name: expected.get(kind, value)}
    assert len(calls) == len(flags_of(spec))


def test_values_that_look_like_options_or_nothing(library: Callable[..., list[Any]]) -> None:
    calls = library("mine", a_report())
    given = ["--unlabeled-value", "-1", "--emit", "pairs", "-k", "0", "--drop-duplicates-within", "none"]
    assert main(["mine", "a", "b", "-o", "out", *given, "--carry", "x", "--carry", "y"]) == 0
    ((arguments, options),) = calls
    assert arguments == (["a", "b"], "out")
    assert options == {
        "unlabeled_value": "-1", "emit": "pairs", "negatives": 0, "drop_duplicates_within": "none",
        "carry": ("x", "y"),
    }  # fmt: skip
    assert split_options(options)[0].drop_duplicates_within is None


@pytest.mark.parametrize("error", [
    errors.VerifyMismatchError, errors.UsageError, errors.InputError, errors.CapacityError, errors.OutputError,
    errors.GateMissedError, errors.TransientError, errors.RunInterruptedError, errors.ForkedProcessError,
])  # fmt: skip
def test_an_error_is_words_and_its_exit_code(
    capsys: pytest.CaptureFixture[str], library: Callable[..., list[Any]], error: type[errors.MinestreamError]
) -> None:
    library("mine", error("what [x]", "do this"))
    code, out, err = output_of(capsys, "mine", "in.parquet")
    assert (code, out, err) == (error.exit_code, "", "error: what [x]\nhint: do this\n")
    assert code in errors.EXIT_CODES


@pytest.mark.parametrize("command", ["mine", "describe"])
def test_an_interrupt_before_there_is_work_is_answered(
    capsys: pytest.CaptureFixture[str], library: Callable[..., list[Any]], command: str
) -> None:
    library(command, KeyboardInterrupt())
    said = (130, "", "error: interrupted\nhint: run the same command again\n")
    assert output_of(capsys, command, "in.parquet") == said


def test_no_memory_is_a_lack_of_capacity(capsys: pytest.CaptureFixture[str], library: Callable[..., list[Any]]) -> None:
    library("mine", MemoryError())
    code, _, err = output_of(capsys, "mine", "in.parquet")
    assert code == 4
    assert "--memory" in err


class Panic(BaseException):
    """What a library of another language raises: no Exception."""


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), OSError(5, "ours"), Panic("ours"), SystemExit("ours")])
def test_a_defect_has_an_exit_code_and_says_how_to_report_it(
    capsys: pytest.CaptureFixture[str],
    library: Callable[..., list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    library("mine", error)
    code, out, err = output_of(capsys, "mine", "in.parquet", "--json")
    assert (code, json.loads(out)["error"]["exit_code"]) == (70, 70)
    assert f"{type(error).__name__}: " in err
    assert "(test_cli.py, line " in err
    assert "report it" in err
    assert "Traceback" not in err
    monkeypatch.setenv(errors.TRACEBACK, "1")
    assert "in stand_in" in output_of(capsys, "mine", "in.parquet")[2]


def test_only_verify_ends_with_exit_code_1() -> None:
    kinds = [errors.MinestreamError, *all_below(errors.MinestreamError)]
    assert [kind for kind in kinds if kind.exit_code == 1] == [errors.VerifyMismatchError]
    assert {kind.exit_code for kind in kinds} < set(errors.EXIT_CODES)
    assert "verify" in errors.EXIT_CODES[1]


def all_below(kind: type[errors.MinestreamError]) -> list[type[errors.MinestreamError]]:
    return [each for below in kind.__subclasses__() for each in (below, *all_below(below))]


def test_a_program_that_cannot_be_loaded_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts, "handled", nullcontext)
    monkeypatch.setitem(sys.modules, "minestream.cli.main", None)
    assert start() == 70
    assert "pip install" in capsys.readouterr().err


@pytest.mark.parametrize("error", [click.Abort(), KeyboardInterrupt()])
def test_clicks_own_ends(
    capsys: pytest.CaptureFixture[str], library: Callable[..., list[Any]], error: BaseException
) -> None:
    library("describe", error)
    assert output_of(capsys, "describe", "x.parquet")[0] == 130


def test_a_reader_who_left_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m minestream mine --help; echo $? >&2"
    process = subprocess.Popen(
        ["bash", "-c", f"({command}) | true"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _, err = process.communicate(timeout=60)
    assert err == "0\n"


@pytest.mark.parametrize(
    "name", sorted({name for name in FOREIGN_OPTIONS if " " not in name} - set(OPTION_FIELDS) - {"k"})
)
def test_options_of_other_tools_are_answered_with_ours(capsys: pytest.CaptureFixture[str], name: str) -> None:
    flag = "--" + name.replace("_", "-")
    for given in ([flag, "3"], [f"{flag}=3"]):
        code, out, err = output_of(capsys, "mine", "in.parquet", *given)
        assert (code, out) == (2, "")
        assert FOREIGN_OPTIONS[name] in err


@pytest.mark.parametrize("command", ["mine in.parquet", "fit in.parquet -o x.npz", "profile in.parquet"])
@pytest.mark.parametrize("flag", ["--gpu", "--device=cuda"])
def test_there_is_no_gpu(capsys: pytest.CaptureFixture[str], command: str, flag: str) -> None:
    code, _, err = output_of(capsys, *command.split(), flag)
    assert (code, "runs on the processor" in err, "seconds for" in err) == (2, True, True)


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ("mine in.parquet -out x", "--out"), ("mine in.parquet -positives-per-anchor 2", "--positives-per-anchor"),
        ("mine in.parquet -metric=dot", "--metric"), ("fit in.parquet -out x", "--out"),
        ("export in.parquet -emit trec", "--emit"),
    ],
)  # fmt: skip
def test_long_options_with_one_dash(capsys: pytest.CaptureFixture[str], given: str, flag: str) -> None:
    code, _, err = output_of(capsys, *given.split())
    assert (code, f"with two dashes: {flag}\n" in err) == (2, True)


def test_short_options_take_what_follows(library: Callable[..., list[Any]]) -> None:
    calls = library("mine", a_report())
    assert main(["mine", "a", "-k3", "-oout", "--unlabeled-value", "-1"]) == 0
    assert calls == [((["a"], "out"), {"negatives": 3, "unlabeled_value": "-1"})]


def test_help_and_version_are_commands_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert output_of(capsys, "help") == output_of(capsys, "--help")
    assert output_of(capsys, "help", "mine") == output_of(capsys, "mine", "--help")
    assert output_of(capsys, "version") == output_of(capsys, "--version")
    code, _, err = output_of(capsys, "help", "mien")
    assert (code, "did you mean 'mine'?" in err) == (2, True)


def test_help_shows_the_pages_of_the_guide(capsys: pytest.CaptureFixture[str]) -> None:
    code, listed, _ = output_of(capsys, "help")
    assert (code, "\n  mining " in listed, "which triplets and pairs come out\n" in listed) == (0, True, True)
    for name, about in pages().items():
        code, out, _ = output_of(capsys, "help", name)
        assert (code, out.splitlines()[0].endswith(f": {about}"), "<!--" in out) == (0, True, False)
    code, _, err = output_of(capsys, "help", "strems")
    assert (code, "did you mean 'streams'?" in err) == (2, True)


def test_a_terminal_is_shown_formatted_pages(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    _, out, _ = output_of(capsys, "help", "mining")
    assert "minestream help semantics" in out
    assert "| ---" not in out


def test_keywords_of_other_tools_are_answered_with_keywords() -> None:
    for given, ours in (
        ({"k": 4}, "negatives=4"),
        ({"n_jobs": 2}, "threads=2"),
        ({"limit": 5}, "anchors, to mine for fewer"),
    ):
        with pytest.raises(errors.UsageError) as refused:
            split_options(given)
        assert refused.value.hint.startswith(f"here that is {ours}")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["mine", "x", "--negatves", "3"], "--negatives"),
        (["mine", "x", "--seed", "one"], "not a valid integer"),
        (["mine"], "INPUT"),
        (["mine", "x", "--margin"], "--margin"),
        (["mne", "x"], "mne"),
        (["verify", "x", "--sample", "few"], "--sample"),
        (["mine", "x", "--relative-margin", "5%"], "hint: a share of the reference: 0.05 is 5 %"),
        (["describe"], "OUT"),
    ],
)
def test_usage_errors(capsys: pytest.CaptureFixture[str], given: list[str], expected: str) -> None:
    code, out, err = output_of(capsys, *given)
    assert (code, out) == (2, "")
    assert expected in err
    assert "--help" in err


MUST = [
    (name, option.opts[0])
    for name, command in cli.commands.items()
    for option in command.params
    if isinstance(option, click.Option) and option.required
]


@pytest.mark.parametrize(("command", "flag"), MUST)
def test_an_option_that_must_be_given(capsys: pytest.CaptureFixture[str], command: str, flag: str) -> None:
    places = [each.name for each in cli.commands[command].params if isinstance(each, click.Argument)]
    rest = [
        word for name, other in MUST if (name, other) != (command, flag) and name == command for word in (other, "1")
    ]
    code, _, err = output_of(capsys, command, *map(str, places), *rest)
    assert (code, f"Missing option '{flag}'" in err) == (2, True), err


def test_a_mistaken_option_leads_to_the_help_that_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert "hint: minestream mine --help-all lists" in output_of(capsys, "mine", "x", "--lable", "y")[2]
    assert "hint: minestream verify --help lists" in output_of(capsys, "verify", "x", "--lable", "y")[2]


def test_json_is_the_only_thing_on_standard_output(
    capsys: pytest.CaptureFixture[str], library: Callable[..., list[Any]]
) -> None:
    report = a_report()
    library("mine", report)
    library("describe", {"rows": 3})
    library("verify", {"anchors": 5})
    code, out, err = output_of(capsys, "mine", "x", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(json.dumps(report.to_dict()))
    assert json.loads(output_of(capsys, "describe", "x", "--json")[1])["counters"] == {"rows": 3}
    assert json.loads(output_of(capsys, "verify", "x", "--sample", "5", "--json")[1])["counters"] == {"anchors": 5}


@pytest.mark.parametrize("given", [["mine", "x", "--num-negatives", "3"], ["verify"], ["mine", "x", "--seed", "y"]])
def test_errors_are_json_too(capsys: pytest.CaptureFixture[str], given: list[str]) -> None:
    code, out, err = output_of(capsys, *given, "--json")
    error = json.loads(out)["error"]
    assert (code, error["exit_code"], error["kind"]) == (2, 2, "UsageError")
    assert f"error: {error['message']}\n" in err


def test_verify_passes_its_options_on(capsys: pytest.CaptureFixture[str], library: Callable[..., list[Any]]) -> None:
    calls = library(
        "verify", {"files": 2, "rows": 1234, "anchors": 5, "anchors_absent": 1, "notes": [], "differences": []}
    )
    code, out, _ = output_of(capsys, "verify", "x", "--sample", "5", "--source", "s", "--corpus", "c", "--seed", "9")
    assert code == 0
    assert "no difference" in out
    assert "2 files, 1,234 rows" in out
    assert "1, rightly" in out
    assert main(["verify", "x"]) == 0
    assert calls == [
        (("x",), {"sample": 5, "source": "s", "seed": 9, "corpus": "c"}),
        (("x",), {}),
    ]  # fmt: skip
    capsys.readouterr()
    library("verify", errors.VerifyMismatchError("row 3: negative_row 4, not 7"))
    assert output_of(capsys, "verify", "x") == (1, "", "error: row 3: negative_row 4, not 7\n")


def test_sample_is_a_copy_and_overwrites_only_when_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "digits.parquet"
    assert main(["sample", str(path)]) == 0
    original = (Path(minestream.__file__).parent / "data" / "digits.parquet").read_bytes()
    assert path.read_bytes() == original
    code, _, err = output_of(capsys, "sample", str(path))
    assert code == 5
    assert "this sample already" in err
    assert main(["sample", str(path), "--overwrite"]) == 0
    path.write_bytes(b"mine")
    for given in ((), ("--overwrite",)):
        code, _, err = output_of(capsys, "sample", str(path), *given)
        assert code == 5
        assert "minestream did not write it" in err
        assert "--overwrite" not in err
        assert path.read_bytes() == b"mine"


def test_sample_into_no_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = output_of(capsys, "sample", str(tmp_path / "none" / "digits.parquet"))
    assert code == 5
    assert "make the folder first" in err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, minestream.cli.main as cli; cli.main(['mine', '--help']); cli.main(['help', 'mining']);"
        "heavy = {'numpy', 'numba', 'pyarrow', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_public_names() -> None:
    assert "mine_arrays" in dir(minestream)
    assert minestream.UsageError is errors.UsageError
    assert minestream.Report is Report
    with pytest.raises(AttributeError, match="mien"):
        minestream.__getattr__("mien")


def test_the_closing_report() -> None:
    lines = report.report_text(a_report()).splitlines()
    text = " ".join(" ".join(lines).split())
    for expected in (
        "wrote x.triplets.parquet", "triplets 95: each is an anchor", "anchors 100 of 110 rows, each 8 values of float",
        "left out 10 rows: no label 9 rows as anchors: no other row that takes part has their label",
        "7 candidates: equal vectors (of those looked at, which are not all)",
        "5 of the 100 anchors (5.0 %): the rules leave no negative",
        "positives the nearest of each anchor (--positives random --positives-per-anchor 4",
        "negatives semi-hard, the nearest 1: farther than the positive, within the margin, 0.2 in cosine distance",
        "hardness mean loss 0.2; 94.7 % of the losses are above 0", "passed over 0.5 nearer negatives a pair",
        "time 0.6 s", "next minestream describe x.triplets.parquet",
    ):  # fmt: skip
        assert expected in text, expected
    assert lines[-1] == "a note"
    assert "\x1b" not in text
    assert "screening" not in text


def test_repeated_pairs_are_named_where_they_are_not_used() -> None:
    listed = {"--qrels": {"pairs": 10, "used": 6, "left_out": {REPEATED: 3, "graded low": 1}}}
    text = " ".join(report.report_text(a_report(source=a_report().source | {"listed": listed})).split())
    assert f"listed 10 pairs in --qrels, 6 of them used 3 not used: {REPEATED}" in text
    assert "graded low" not in text, "a note says so"


@pytest.mark.parametrize(("emit", "aside"), [("triplets", False), ("pairs", True)])
def test_what_a_band_means_for_pairs_is_said_of_pairs_alone(emit: str, aside: bool) -> None:
    config, *_ = split_options({"band": "violating", "emit": emit})
    text = report.report_text(a_report(config=config.to_dict()))
    assert "everything within the margin" in text
    assert ("(pairs: x < m)" in text) == aside


@pytest.mark.parametrize(("passed", "cut"), [(999, False), (1_000, True)])
def test_a_mean_of_counts_that_may_be_cut_says_so(passed: int, cut: bool) -> None:
    stats = replace(a_report().stats, nearer_passed_over=passed, nearer_pairs=1_000)
    text = report.report_text(a_report(stats=stats))
    assert "1.0 nearer negatives a pair" in text
    assert ("of each pair 1,000 at most counted" in text) == cut


def test_the_closing_report_with_all_details() -> None:
    effort = {"screen": "i8, f32", "pairs_computed": 6000, "survivors": 700, "exact_distances": 250, "threads": 2}
    text = " ".join(report.report_text(a_report(effort=effort), verbose=True).split())
    for expected in (
        "margin 0.2 = 0.4 in squared Euclidean", "screen int8, float32", "distances computed 6,000, 10 k a second",
        "rows that pass the screen 7.0 an anchor", "rows checked exactly 2.5 an anchor", "threads 2",
        "finding negatives: screening all distances 0.50",
    ):  # fmt: skip
        assert expected in text, expected


def test_duplicates_that_the_search_dropped_are_told_as_far_as_it_looked() -> None:
    def told(within: float, **effort: int) -> str:
        config = split_options({"drop_duplicates_within": within})[0].to_dict()
        return " ".join(report.report_text(a_report(config=config, effort=effort), verbose=True).split())

    text = "duplicates dropped 1,234: of the candidates looked at, which are not all"
    assert f"{text} seconds" in told(0.0, duplicates=1234)
    assert f"{text}, and not those near the anchor seconds" in told(0.1, duplicates=1234)
    assert "duplicates dropped" not in told(0.1, duplicates=0) + told(0.1)


def test_the_closing_report_of_other_runs() -> None:
    about = a_report().config

    def text(**changes: Any) -> str:
        return " ".join(report.report_text(a_report(**changes), verbose=True).split())

    def counted(**counts: Any) -> str:
        return text(stats=ShardStats(anchors=100, pairs=100, rows=100, full=100, **counts))

    assert "as a batch does" not in text(config=about | {"positives": "random"})
    squared = about | {"metric": "sqeuclidean", "normalize": True, "margin": 0.4}
    assert "= 0.2 in cosine distance" in text(config=squared)
    assert "hardness" not in text(stats=ShardStats(anchors=3))
    near = counted(losses=100, active_rows=100, loss_sum=15.0)
    assert "mean loss 0.15: the negative is 0.05 farther than the positive, on average" in near
    assert "the negative is 0.05 nearer" in counted(losses=100, active_rows=100, loss_sum=25.0)
    assert "short 10 of the 110 anchors (9.1 %) have fewer than 1 negatives" in counted(short=10)
    assert "equal 3 of the 100 anchors have a positive that equals the anchor: there" in counted(duplicate_positives=3)
    loose = text(config=about | {"drop_duplicates_within": 0.05}, stats=ShardStats(full=9, duplicate_positives=3))
    assert "a positive that equals the anchor, or lies within 0.05 of it: there is no other" in loose
    every = text(config=about | {"positives": "all"})
    assert "5 of the 100 pairs of anchor and positive (5.0 %): the rules leave no negative" in every
    assert text(already=True).startswith("already complete: x.triplets.parquet")


def test_columns_are_told_in_one_order() -> None:
    """Also of a merge, which has them from a file of JSON, in the order of the alphabet."""
    columns = {"carry": [], "embedding": "e", "group": None, "id": "i", "label": "l", "corpus": {"id": "i"}}
    told = " ".join(report.report_text(a_report(columns=columns)).split())
    assert "columns vectors from e, labels from l, ids from i, of the corpus ids from i" in told


def test_one_batch_has_one_time() -> None:
    plan = {"batches": 1, "latency_median_seconds": 0.1, "latency_p99_seconds": 0.1, "latency_max_seconds": 0.1}
    assert report.latency_rows(plan) == [("batches", "1: 100.0 ms")]
    assert "(median)" in report.latency_rows(plan | {"batches": 2})[0][1]


def test_the_report_tells_what_became_of_pairs() -> None:
    about = a_report().config
    stats = ShardStats(anchors=100, pairs=100, rows=90, full=90, short=6, empty=4)
    of = "of the 100 anchors"
    for emit, short_rows, told, entries in (
        ("triplets", "keep", f"left out 4 {of} (4.0 %): the rules leave no negative short 6 {of}", 1),
        ("triplets", "drop", f"6 {of} (6.0 %) have fewer than 3 negatives: the rules leave no more (--short-rows", 2),
        ("tuples", "drop", f"left out 4 {of} (4.0 %): the rules leave no negative 6 {of} (6.0 %) have fewer", 2),
        ("tuples", "keep", f"short 4 {of} (4.0 %): the rules leave no negative 6 {of}", 0),
        ("pairs", "keep", f"short 4 {of} (4.0 %): the rules leave no dissimilar row 6 {of}", 0),
    ):
        config = about | {"emit": emit, "short_rows": short_rows, "negatives": 3}
        one = a_report(config=config, stats=stats, source=a_report().source | {"dropped": {}, "without_positive": 0})
        text = " ".join(report.report_text(one).split())
        assert told in text, (emit, short_rows, text)
        assert ("left out" in text) == bool(entries)
        assert [each["what"] for each in one.to_dict()["left_out"]] == ["pairs"] * entries
    alone = a_report(source=a_report().source | {"dropped": {}, "without_positive": 7}).to_dict()["left_out"]
    assert {"what": "anchors", "why": "no positive", "count": 7} in alone


def test_the_report_tells_why_an_anchor_has_no_positive() -> None:
    about, source = a_report().config, a_report().source
    lost = {"--qrels": {"pairs": 9, "used": 8, "left_out": {"a row of theirs takes no part": 1}}}
    qrels, two = {"listed_positives": True}, {"two_tables": True}
    for options, told, more in (
        ({}, "rows as anchors: no other row has their label", {}),
        ({"group_column": "g"}, "rows as anchors: no other row has their label and another group", {}),
        ({"group_column": "g", "group_rule": "negatives"}, "no other row has their label", {}),
        (two, "queries: no row of the corpus has their label and another id", {}),
        (two | qrels, "queries: no positive is listed for them", {}),
        (two | qrels, "queries: no positive that takes part is listed for them", {"listed": lost}),
        (qrels | {"label": "l"}, "no positive is listed for them, and no other row has their label", {}),
        ({"window": 9}, "rows as anchors: no row in the window before them has their label", {}),
        ({}, "no other row that takes part has their label", {"dropped": {"bad: not finite": 3}}),
        ({"candidate_where": "x"}, "no other row that may be a candidate has their label", {}),
    ):
        columns = {"id": "id", "label": options.get("label")}
        one = a_report(config=about | options, columns=columns, source=source | {"dropped": {}} | more)
        line = next(line for line in report.report_text(one).splitlines() if "9 rows as" in line or "9 queries" in line)
        assert line.endswith(told), line


def test_the_report_names_the_columns_that_were_read() -> None:
    columns = {
        "embedding": "vector",
        "label": None,
        "id": "id",
        "carry": ["text", "title"],
        "corpus": {"embedding": "v"},
    }
    told = [line.split(maxsplit=1) for line in report.report_text(a_report(columns=columns)).splitlines()]
    assert ["columns", "vectors from vector, ids from id, carried: text, title, of the corpus vectors from v"] in told
    del columns["corpus"]
    told = [line.split(maxsplit=1) for line in report.report_text(a_report(columns=columns)).splitlines()]
    assert ["columns", "vectors from vector, ids from id, carried: text, title"] in told


def test_the_report_names_the_rules_that_were_asked_for() -> None:
    rules = {"relative_margin": 0.05, "reference": "min", "guide": "g", "max_similarity": 0.0, "max_uses": 3}
    listed = {"--exclude": {"pairs": 1706, "used": 1700, "left_out": {"an id is unknown": 6}}}
    two = {"queries": 40, "corpus": 70, "listed": listed}
    one = a_report(config=a_report().config | rules | {"two_tables": True}, source=a_report().source | two)
    text = " ".join(report.report_text(one).split())
    for expected in (
        "--relative-margin 0.05: less similar to the anchor than the anchor's farthest positive, by 5 % of it or more",
        "rules --max-similarity 0.0: similarity", "--guide g: the similarities", "--max-uses 3: no row",
        "anchors 100 of 40 queries, in a corpus of 70 rows, each",
        "listed 1,706 pairs in --exclude, 1,700 of them used",
    ):  # fmt: skip
        assert expected in text, expected
    assert "--skip" not in text
    assert "--drop-duplicates-within" not in text


RULE_OF_PAIRS = "--drop-duplicates-within 0.1: no negative lies within this of its anchor hardness"


@pytest.mark.parametrize(("options", "expected"), [
    ({"preset": "multi-similarity"}, "--epsilon 0.1: similar pairs less than this above the nearest negative"),
    ({"preset": "pair-margin"}, "--positive-margin 0.2: similar pairs farther apart than this only"),
    ({"drop_duplicates_within": 0.1}, "within 0.1: no negative lies within this of its anchor or its positive"),
    ({"drop_duplicates_within": 0.1, "emit": "pairs"}, RULE_OF_PAIRS),
])  # fmt: skip
def test_the_report_names_the_rules_of_pairs_and_duplicates(options: dict[str, Any], expected: str) -> None:
    text = " ".join(report.report_text(a_report(config=split_options(options)[0].to_dict())).split())
    assert expected in text


def test_a_run_without_rows_says_which_rules_left_none() -> None:
    def told(stats: ShardStats, **options: Any) -> str:
        config = split_options(options)[0].to_dict()
        return " ".join(report.report_text(a_report(config=config, stats=stats)).split())

    none = ShardStats(anchors=100, pairs=100, empty=100)
    filtered = told(none, relative_margin=0.95, max_similarity=0.5)
    assert "no rows no negative passes --band semi-hard and --max-similarity 0.5 and --relative-margin 0.95" in filtered
    assert "no negative passes --relative-margin 0.95 anchors" in told(none, relative_margin=0.95, band="any")
    assert "no pair passes --band violating anchors" in told(none, emit="pairs")
    short = ShardStats(anchors=100, pairs=100, short=100)
    assert "passes --band semi-hard and --short-rows drop anchors" in told(short, emit="tuples", negatives=7)
    assert "no negative passes the rules" in told(none, band="any")
    assert "no rows" not in told(a_report().stats) + told(ShardStats(), band="any")


def test_a_report_says_how_many_pairs_are_similar() -> None:
    config, stats = split_options({"emit": "pairs"})[0].to_dict(), ShardStats(anchors=10, rows=7871, similar_pairs=1425)
    text = " ".join(report.report_text(a_report(config=config, stats=stats)).split())
    assert "pairs 7,871: each is two rows, similar (1,425) or dissimilar (6,446) anchors" in text


def test_a_report_says_what_a_preset_stands_for() -> None:
    config = split_options({"preset": "facenet", "margin": 0.3, "anchors": "50%"})[0].to_dict()
    told = report.report_text(a_report(config=config))
    means = "facenet: metric sqeuclidean, normalize yes, margin 0.3, positives all, band semi-hard"
    assert ["preset", means] in [line.split(maxsplit=1) for line in told.splitlines()]
    details = report.report_text(a_report(config=config), verbose=True)
    for text in (details, report.plan_text(a_report(config=config, complete=False))):
        assert ["others", "normalize yes, anchors 50%"] in [line.split(maxsplit=1) for line in text.splitlines()]
    assert not any(name in report.report_text(a_report(), verbose=True) for name in ("preset", "others"))


def test_notes_are_printed_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = pa.table({"embedding": [[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]] * 4, "label": [0, 1, 1] * 4})
    pq.write_table(table, tmp_path / "in.parquet")
    arguments = ("mine", str(tmp_path / "in.parquet"), "--metric", "euclidean", "--band", "any", "--overwrite", "-o")
    note = "no --margin: the loss column is left out"
    for more, shown, told in (((), 0, 1), (("--progress", "none"), 1, 0), (("-q",), 0, 0)):
        code, out, err = output_of(capsys, *arguments, str(tmp_path / "out.parquet"), *more)
        assert (code, out.count(note), err.count(note)) == (0, shown, told), more
        assert bool(out) == (more != ("-q",))
    code, out, err = output_of(capsys, *arguments, str(tmp_path / "out.parquet"), "-q", "--json")
    assert (code, json.loads(out)["notes"].count(note), err) == (0, 1, "")


def test_dry_run_prints_the_plan(capsys: pytest.CaptureFixture[str], library: Callable[..., list[Any]]) -> None:
    plan = {
        "rows": 100, "pairs_to_compute": 9900, "shards": 2, "screen": "i8", "projected_bytes": 3 << 20,
        "shards_together": 2, "projected_seconds": 90.0, "new_thing": {"a_rows": 7},
    }  # fmt: skip
    library("mine", a_report(plan=plan, complete=False))
    _, out, _ = output_of(capsys, "mine", "x", "--dry-run")
    text = " ".join(out.split())
    for expected in (
        "nothing was mined",
        "distances to compute 9,900: of each anchor",
        "parts 2: each is kept",
        "parts mined together 2: and so finished",
        "screen int8: finds what may count",
        "projected bytes 3.0 MiB",
        "1 min 30 s",
        "a rows 7",
    ):
        assert expected in text, expected


def test_describe_text_is_one_screen_of_what_matters() -> None:
    config = a_report().config | {"skip": 2, "swap": True}
    counts = {"anchors": 90, "pairs": 90, "full": 80, "short": 10, "empty": 0, "rows": 1234}
    found = {
        "output": "a[b].parquet", "version": "1", "files": 2, "bytes": 2048, "rows": 1234, "config": config,
        "labels": "in words", "loss": "a formula", "counts": counts, "columns": {}, "mean_loss": 0.25,
        "mean_active_loss": 0.5, "active_rows": 617, "active_fraction": 0.5, "quantiles_of": "every value",
        "source": [
            *({"name": f"{place}.parquet", "rows": 1000, "crc32": {}} for place in range(5)),
            {"name": "4.parquet", "rows": 1000, "crc32": {}, "role": "guide"},  # its column
        ],
        "quantiles": {"distance_ap": {"min": 0.125, "max": 0.5}, "loss": {"min": 1e-9, "max": 123456.5}},
    }  # fmt: skip
    lines = [" ".join(line.split()) for line in printing.describe_text(found).splitlines()]
    for expected in (
        "a[b].parquet", "rows 1,234 in 2 files of 2.0 KiB, minestream 1", "band semi-hard",
        "others skip 2, swap yes", "loss a formula",
        "source 0.parquet (1,000 rows), 1.parquet (1,000 rows), 2.parquet (1,000 rows) and 2 more",
        "short 10 of the 90 anchors (11.1 %) have fewer than 1 negatives: the rules leave no more", "distance_ap loss",
        "min 0.125 1e-09", "hardness mean loss 0.25; 50.0 % of the losses are above 0",
    ):  # fmt: skip
        assert expected in lines, expected
    assert len(lines) < 45


INTERRUPTED = """
import os, signal, sys
from minestream import __main__
from minestream.outputs import parts, run as sink
owner, name = {moment}
real = getattr(owner, name)
def interrupted(*arguments, **named):
    os.kill(os.getpid(), signal.{name})
    return real(*arguments, **named)
setattr(owner, name, interrupted)
sys.argv = ["minestream", "mine", {source!r}, "-o", {out!r}, "--progress", "none"]
sys.exit(__main__.start())
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("moment", ['parts, "write_rows"', 'sink.Run, "_one_file"'], ids=["part", "publish"])
def test_ctrl_c_and_sigterm_keep_finished_parts_only(tmp_path: Path, name: str, moment: str) -> None:
    source, out = str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet")
    assert main(["sample", source]) == 0
    script = INTERRUPTED.format(moment=moment, name=name, source=source, out=out)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == ("error: interrupted\nhint: finished parts are kept: --resume goes on from there\n")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} - {"in.parquet"}
    work = {"", "/lock", "/manifest.json", "/parts", "/parts/part-00000.parquet", "/part-00000.json"}
    assert left == {f"out.parquet.partial{name}" for name in work}
    assert main(["mine", source, "-o", out, "--resume", "--progress", "none"]) == 0
    assert not (tmp_path / "out.parquet.partial").exists()


def test_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" in report.report_text(a_report())


@pytest.mark.parametrize("command", ["mine", "compare", "refilter", "fit", "profile", "merge"])
def test_options_of_mine_are_the_same_everywhere(command: str) -> None:
    ours = {option.name: option for option in cli.commands[command].params if isinstance(option, click.Option)}
    shared = ours.keys() & OPTION_FIELDS.keys()
    for name in shared - ({"margin", "overwrite", "seed", "scores", "negatives"} if command != "mine" else set()):
        spec, found = OPTION_FIELDS[name], ours[name]
        assert found.required or found.default is None or found.is_flag, name  # only what was given is passed on
        assert set(found.opts) == set(flags_of(spec)), name
        asides = re.compile(r" \([^()]*\)") if command != "mine" else re.compile("(?!)")  # of options it does not have
        assert asides.sub("", spec.metadata["help"]) in asides.sub("", found.help or ""), name
        if spec.metadata["choices"] and spec.default is not None:
            assert f"Default: {spec.default}." in (found.help or ""), name


@pytest.mark.parametrize("table", [printing.EXPORTED, printing.REFILTERED, printing.DERIVED])
def test_every_text_of_a_count_has_words_for_its_gaps(table: dict[str, tuple[str, str]]) -> None:
    for name, (_, text) in table.items():
        for count in (1, 1_234):
            told = printing.in_words(text, count, 7)
            assert "{" not in told, name
            assert f"{count:,}" in told, name
