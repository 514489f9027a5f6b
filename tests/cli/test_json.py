"""What --json prints is a contract: every command keeps to its JSON Schema, and nothing in its table is made up."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
from contextlib import chdir
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream.cli.groups import COMMANDS
from minestream.cli.main import main
from minestream.system.contract import CONTRACT, SNAKE, STATES, SUBCOMMANDS, contract, printed, schema

VALIDATOR = jsonschema.Draft202012Validator(schema())
# By name, in this order in one folder: each makes what the next ones read.
LINES = {
    "mine": "mine in.parquet -o m.parquet -k 3 --band any --carry text --progress none",
    "mine, again": "mine in.parquet -o m.parquet -k 3 --band any --carry text --resume",
    "mine, a plan": "mine in.parquet --dry-run",
    "mine, rows dropped": "mine in.parquet -o w.parquet --where row<80 --guide second --max-similarity 0.99",
    "mine, two tables": "mine in.parquet -o q.parquet --corpus in.parquet --shared-ids --emit tuples -k 2 --band any",
    "mine, two tables, again": "mine in.parquet -o q.parquet --corpus in.parquet --shared-ids --emit tuples -k 2 "
    "--band any --resume",
    "mine, arrays": "mine rows.npy --labels labels.npy -o a.parquet",
    "mine, arrays, again": "mine rows.npy --labels labels.npy -o a.parquet --resume",
    "mine, vectors": "mine labels.parquet --vectors rows.npy -o v.parquet",
    "mine, vectors, again": "mine labels.parquet --vectors rows.npy -o v.parquet --resume",
    "mine, pairs": "mine in.parquet -o p.parquet --emit pairs",
    "mine, capped": "mine in.parquet -o c.parquet --max-uses 3 --band any",
    "mine, a window": "mine in.parquet -o s.parquet --window 60 --band any",
    "mine, a slice": "mine in.parquet -o parts --shard 1/2",
    "mine, the other slice": "mine in.parquet -o parts --shard 2/2",
    "mine, lists": "mine in.parquet -o lists --emit lists -k 30",
    "select": "select lists -o chosen.parquet -k 3 --band any",
    "select, mined rows": "select m.parquet --scores scores.parquet -k 2 -o again.kept.parquet",
    "select, scores": "select lists -o scored.parquet -k 2 --scores scores.parquet --missing-scores drop",
    "select, again": "select lists -o chosen.parquet -k 3 --band any --resume",
    "merge": "merge parts",
    "merge, again": "merge parts --resume",
    "mine, a slice of pairs": "mine in.parquet -o late --emit pairs --shard 1/1",
    "merge, pairs": "merge late --source in.parquet",
    "merge, pairs again": "merge late --source in.parquet --resume",
    "repeat": "repeat m.parquet -o again.parquet",
    "export": "export m.parquet --emit st-triplets -o st.parquet",
    "export, text": "export m.parquet --emit flagembedding -o flag.jsonl",
    "batch": "batch m.parquet -o batches.parquet --batch-size 4 --epochs 2 --mask",
    "batch, labels": "batch in.parquet --pairs-from labels -o labels.batches.parquet --batch-size 4",
    "refilter": "refilter m.parquet --scores scores.parquet -k 2 --relative-margin 0.05 -o kept.parquet",
    "profile": "profile in.parquet -o look",
    "profile, a sample": "profile in.parquet --sample 40 --margin 0.1,0.2",
    "describe": "describe m.parquet --html m.html",
    "describe, rescored": "describe kept.parquet",
    "describe, pairs": "describe p.parquet",
    "verify": "verify m.parquet --sample 20",
    "verify, pairs": "verify p.parquet --sample 5",
    "verify, capped": "verify c.parquet --sample 5",
    "verify, a trainer's": "verify st.parquet",
    "compare": "compare in.parquet in.parquet -o near.parquet",
    "fit": "fit in.parquet -o linear.npz --epochs 2",
    "apply": "apply linear.npz in.parquet -o projected.parquet",
    "doctor": "doctor",
    "sample": "sample digits.parquet",
}
MISTAKES = {
    "mine nowhere.parquet": (3, "mine"), "mine in.parquet --lable x": (2, "mine"), "fit": (2, "fit"),
    "nothing": (2, None), "": (2, None), "mine in.parquet -o kept.parquet --require-rows 9999 --overwrite": (6, "mine"),
    "describe in.parquet": (3, "describe"), "export m.parquet --emit st-triplets -o st.parquet": (5, "export"),
}  # fmt: skip


def answer(line: str, folder: Path) -> tuple[int, dict[str, Any]]:
    """The exit code of a command line with --json, and what it prints on standard output."""
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        out = io.StringIO()
        patch.setattr(sys, "stdout", out)
        patch.setenv("MINESTREAM_EFFORT", "1")
        code = main([*shlex.split(line), "--json"])
    return code, json.loads(out.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("json")
    rng = np.random.default_rng(5)
    label = np.arange(120) % 6
    rows = (np.eye(8)[label] + 0.4 * rng.standard_normal((120, 8))).astype(np.float32)
    columns = {
        "id": [f"r{n}" for n in range(120)], "row": np.arange(120), "label": pa.array(label, mask=np.arange(120) < 4),
        "text": [f"text {n % 110}" for n in range(120)], "other": [f"other {n}" for n in range(120)],
        "embedding": list(rows), "second": list(rows[:, :5]),
    }  # fmt: skip
    pq.write_table(pa.table(columns), place / "in.parquet")
    np.save(place / "rows.npy", rows)
    np.save(place / "labels.npy", label)
    pq.write_table(pa.table({"label": label}), place / "labels.parquet")
    pairs = [(f"r{a}", f"r{b}") for a in range(120) for b in range(120)]
    query, document = zip(*pairs, strict=True)
    scores = {"query_id": query, "document_id": document, "score": rng.random(len(pairs))}
    pq.write_table(pa.table(scores), place / "scores.parquet")
    return place


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for name, line in LINES.items():
        code, found[name] = answer(line, folder)
        assert code == 0, found[name]["error"]
    return found


@pytest.mark.parametrize("name", LINES)
def test_every_command_keeps_to_the_schema(answers: dict[str, dict[str, Any]], name: str) -> None:
    told = answers[name]
    VALIDATOR.validate(told)
    assert told["subcommand"] == name.partition(",")[0].replace("repeat", "mine")
    assert told["seconds"]["total"] > 0
    assert told["error"] is None


@pytest.mark.parametrize("line", MISTAKES)
def test_an_error_keeps_to_the_schema_too(folder: Path, answers: dict[str, dict[str, Any]], line: str) -> None:
    assert answers
    code, told = answer(line, folder)
    VALIDATOR.validate(told)
    assert (code, told["subcommand"]) == MISTAKES[line]
    assert (told["state"], told["error"]["exit_code"]) == ("failed", code)
    assert told["error"]["message"]
    assert shlex.split(told["command"]) == ["minestream", *shlex.split(line), "--json"]
    assert told["folder"] == str(folder)


def test_a_failed_command_is_told_without_what_a_uri_says_of_its_user(folder: Path) -> None:
    secret = "s3://KEY:SECRET@bucket"
    _, told = answer(f"mine {secret}/x.parquet?token=S --corpus={secret}/c -o p?.parquet", folder)
    assert told["command"] == "minestream mine s3://bucket/x.parquet --corpus=s3://bucket/c -o 'p?.parquet' --json"


def test_the_table_holds_nothing_that_no_command_prints(answers: dict[str, dict[str, Any]]) -> None:
    printed = {
        f"{part}.{name} {told['subcommand']}"
        for told in answers.values()
        for part in ("counters", "result")
        for name in told[part]
    }
    approximate = {f"counters.{name} verify" for name in ("rows_not_checked", "recall", "recall_at_least")}
    assert {f"{key.path} {name}" for key in CONTRACT for name in key.of.split()} - approximate == printed
    assert set(SUBCOMMANDS) == {told["subcommand"] for told in answers.values()}
    assert set(SUBCOMMANDS) == COMMANDS.keys() - {"repeat", "version", "help"}
    assert {told["state"] for told in answers.values()} == STATES.keys() - {"failed"}


PLACES = ("", "seconds", "counters", "result", "inputs.0", "outputs.0", "outputs.0.files.0")


@pytest.mark.parametrize(
    ("name", "place"), [*(("mine", place) for place in PLACES), ("doctor", "counters"), ("sample", "result")]
)
def test_a_key_that_the_table_does_not_have_is_refused(
    answers: dict[str, dict[str, Any]], name: str, place: str
) -> None:
    told = json.loads(json.dumps(answers[name]))
    at = told
    for step in filter(None, place.split(".")):
        at = at[int(step) if step.isdigit() else step]
    at["undocumented"] = 1
    with pytest.raises(jsonschema.ValidationError, match="undocumented"):
        VALIDATOR.validate(told)
    del at["undocumented"]
    VALIDATOR.validate(told)


def test_values_of_another_type_are_refused(answers: dict[str, dict[str, Any]]) -> None:
    for change in ({"notes": [1]}, {"state": "done"}, {"schema_version": 2}, {"error": "x"}, {"left_out": {}}):
        with pytest.raises(jsonschema.ValidationError):
            VALIDATOR.validate(answers["mine"] | change)


@pytest.mark.parametrize("name", contract(None))
def test_every_key_is_always_there(answers: dict[str, dict[str, Any]], name: str) -> None:
    told = {key: value for key, value in answers["mine"].items() if key != name}
    with pytest.raises(jsonschema.ValidationError, match="required"):
        VALIDATOR.validate(told)


def test_inputs_and_outputs_are_what_was_read_and_written(answers: dict[str, dict[str, Any]], folder: Path) -> None:
    source = {"name": "INPUT", "paths": ["in.parquet"], "rows": 120, "dimension": 8, "dtype": "float32"}
    for name in ("mine", "mine, again", "mine, a plan", "mine, a window", "profile", "mine, a slice"):
        assert answers[name]["inputs"] == [source], name
    assert answers["mine, two tables"]["inputs"] == [source, source | {"name": "--corpus"}]
    for name in ("mine, two tables", "mine, arrays", "mine, vectors"):
        assert answers[f"{name}, again"]["inputs"] == answers[name]["inputs"], name
        assert [*answers[f"{name}, again"]["configuration"]] == [*answers[name]["configuration"]], "the same order"
        assert answers[name]["inputs"][0]["rows"] == 120
    rows = sum(answers[name]["counters"]["rows"] for name in ("mine, a slice", "mine, the other slice"))
    assert answers["merge"]["inputs"] == [
        {"name": "SLICE", "paths": ["parts"], "rows": rows, "dimension": None, "dtype": None}
    ]
    for name in ("merge, pairs", "merge, pairs again"):
        assert [each["name"] for each in answers[name]["inputs"]] == ["SLICE", "--source"]
        assert answers[name]["inputs"][1] == source | {"name": "--source"}
    assert [each["name"] for each in answers["refilter"]["inputs"]] == ["MINED", "--scores"]
    for told in answers.values():
        for each in told["outputs"]:
            place = folder / each["path"]
            files = {file["name"]: file for file in each["files"]}
            there = {path.name: path for path in (place.iterdir() if place.is_dir() else [place])}
            assert files.keys() == there.keys(), each
            for path, file in ((there[name], files[name]) for name in files if files[name]["bytes"] is not None):
                assert file["bytes"] == path.stat().st_size
                assert path.suffix != ".parquet" or file["rows"] == pq.read_metadata(path).num_rows
    written = [name for name in LINES if answers[name]["outputs"]]
    assert {name for name in LINES if name not in written} == {
        "mine, a plan", "profile, a sample", "describe, rescored", "describe, pairs", "doctor",
        *(n for n in LINES if n[:6] == "verify"),
    }  # fmt: skip


def test_a_command_can_be_run_again_as_it_stands(answers: dict[str, dict[str, Any]], folder: Path) -> None:
    for name in ("mine", "export", "refilter", "profile", "compare", "apply"):
        command, place = shlex.split(answers[name]["command"]), answers[name]["folder"]
        assert (command[0], place) == ("minestream", str(folder))
        command[-1] = f"other-{Path(command[-1]).name}"
        code, told = answer(shlex.join(command[1:]), Path(place))
        assert (code, told["configuration"], told["counters"]) == (
            0, answers[name]["configuration"], answers[name]["counters"]
        ), name  # fmt: skip


def test_the_library_gives_the_same(folder: Path, answers: dict[str, dict[str, Any]]) -> None:
    with chdir(folder):
        report = minestream.mine("in.parquet", "m.parquet", negatives=3, band="any", carry=("text",), resume=True)
        profile = json.loads(Path("look/profile.json").read_text())
    told, printed = report.to_dict(), answers["mine, again"]
    printed["result"].pop("effort")
    notes = told.pop("notes")  # of the library: the command line has tables of what was left out
    assert [note for note in notes if not note.startswith("left out: ")] == printed.pop("notes")
    assert told == printed
    VALIDATOR.validate(profile)
    own = ("counters", "result", "inputs", "command", "outputs")
    assert {name: profile[name] for name in own} == {name: answers["profile"][name] for name in own}


def test_the_seconds_of_each_stage_are_told(answers: dict[str, dict[str, Any]], folder: Path) -> None:
    told = {name: {*answers[name]["seconds"]["stages"]} for name in LINES}
    assert told["mine"] >= {"read", "positives", "rows"}
    assert told["merge"] >= {"positives", "rows"}
    assert told["export"] == {"rows"}
    assert told["refilter"] == {"scores", "rows"}
    assert told["profile"] == told["profile, a sample"] == {"read", "neighbours", "profile"}
    assert told["compare"]
    of_source = "export m.parquet --emit st-triplets --text other -o texts.parquet"
    assert {*answer(of_source, folder)[1]["seconds"]["stages"]} == {"texts", "rows"}
    for each in answers.values():
        assert all(spent >= 0 for spent in each["seconds"]["stages"].values())
    assert answer("mine nowhere.parquet", folder)[1]["seconds"]["total"] > 0


def test_the_configuration_says_what_was_decided_not_where_things_are(answers: dict[str, dict[str, Any]]) -> None:
    told = {name: answers[name]["configuration"] for name in LINES}
    assert (told["mine"]["negatives"], told["mine"]["margin"]) == (3, 0.2)
    assert (told["refilter"]["relative_margin"], told["refilter"]["missing_scores"]) == (0.05, "error")
    assert (told["export"]["emit"], told["export"]["scores"]) == ("st-triplets", "similarity")
    assert told["profile, a sample"] | {"margins": [0.1, 0.2], "sample": 40} == told["profile, a sample"]
    assert told["verify"] == {"sample": 20, "seed": 0}
    places = {"out", "source", "corpus", "qrels", "html", "scratch", "overwrite", "threads", "memory", "progress"}
    for each in told.values():
        assert not places & each.keys()
    assert answers["verify"]["command"].endswith("verify m.parquet --sample 20")
    assert answers["fit"]["command"].endswith("fit in.parquet --epochs 2 -o linear.npz")


def test_what_json_has_no_type_for_is_text() -> None:
    told = {"day": date(2026, 1, 2), "a": float("nan"), "b": [float("inf"), 1.5]}
    assert json.loads(printed(told)) == {"day": "2026-01-02", "a": None, "b": [None, 1.5]}


def test_names_are_in_snake_case() -> None:
    names = {part.removesuffix("[]") for key in CONTRACT for part in key.path.split(".")}
    assert [name for name in names if not re.match(SNAKE, name)] == ["*"]
    assert [name for name in ("Rows", "of rows", "2nd", "bad: zero") if re.match(SNAKE, name)] == []


def test_rows_on_standard_output_leave_the_answer_to_the_other_stream(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with chdir(folder):
        assert main(["mine", "nowhere.parquet", "-o", "-", "--json"]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    VALIDATOR.validate(json.loads(err[err.index("{") :]))
