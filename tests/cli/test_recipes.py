"""Runs as text: options in a TOML file, and the command that a manifest records."""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream._version import VERSION
from minestream.cli.main import main
from minestream.config.command_line import with_command
from minestream.config.resources import Resources
from minestream.outputs.manifest import differences
from minestream.outputs.recipes import read_recipe, write_recipe

QUIET = ("--progress", "none")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small input, to work in."""
    vectors = np.random.default_rng(3).standard_normal((60, 4)).astype(np.float32)
    table = {"embedding": list(vectors), "kind": [row % 3 for row in range(60)], "size": [row / 2 for row in range(60)]}
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, code: int = 0) -> None:
    """Run a command line, which must end with `code`."""
    assert main([*words]) == code, words


def manifest(out: str | Path) -> dict[str, Any]:
    """The manifest beside an output."""
    found: dict[str, Any] = json.loads(Path(f"{out}.manifest.json").read_text())
    return found


def ran(out: str | Path) -> list[str]:
    """The words of the command that a manifest records."""
    return shlex.split(manifest(out)["report"]["command"])


def test_the_options_given_are_saved_and_mine_the_same(here: Path) -> None:
    text = 'say "ä"\\\x7f\t\N{SNOWMAN}'
    given = ("--label", "kind", "--margin", "0.25", "-k", "2", "--carry", "size", "--carry", "kind", "--float64")
    run("mine", "in.parquet", "-o", "a.parquet", *given, "--where", "kind < 3", "--drop-duplicates-within", "none",
        "--unlabeled-value", text, "--overwrite", "--save-config", "run.toml", *QUIET)  # fmt: skip
    lines = Path("run.toml").read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(rf"# minestream {VERSION} [0-9a-f]{{8}}: minestream mine --config run\.toml", lines[0])
    assert tomllib.loads("\n".join(lines)) == {
        "inputs": ["in.parquet"], "out": "a.parquet", "label": "kind", "margin": 0.25, "negatives": 2,
        "carry": ["size", "kind"], "float64": True, "where": "kind < 3", "drop_duplicates_within": "none",
        "unlabeled_value": text,
    }  # fmt: skip
    run("mine", "--config", "run.toml", "-o", "b.parquet")
    assert Path("a.parquet").read_bytes() == Path("b.parquet").read_bytes()


def test_paths_start_from_the_folder_of_the_file_and_the_command_line_wins(here: Path) -> None:
    Path("jobs").mkdir()
    Path("jobs/run.toml").write_text('inputs = "../in.parquet"\nout = "mined.parquet"\nlabel = "kind"\nnegatives = 3\n')
    run("mine", "--config", "jobs/run.toml", "-k", "2", *QUIET)
    assert manifest("jobs/mined.parquet")["config"]["negatives"] == 2
    run("mine", "in.parquet", "-o", "here.parquet", "--scratch", "jobs", "--save-config", "jobs/new.toml", *QUIET)
    saved = tomllib.loads(Path("jobs/new.toml").read_text())
    assert (saved["inputs"], saved["out"], saved["scratch"]) == (["../in.parquet"], "../here.parquet", ".")


WRONG = {
    "margn = 0.3": (2, ("--config run.toml: no option 'margn'", "did you mean 'margin'?")),
    "n_negatives = 3": (2, ("no option 'n_negatives'", "--negatives")),
    "reserve = 3": (2, ("there is no option 'reserve' any more",)),
    "label = 3": (2, ("--config run.toml: --label takes a text, not 3",)),
    "negatives = 2.5": (2, ("--negatives takes a whole number, not 2.5",)),
    "[label]": (2, ("--config run.toml: label cannot be {}",)),
    "out = 3": (2, ("out cannot be 3",)),
    "label = kind": (3, ("run.toml is no TOML", "line 1")),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_a_file_cannot_say_is_refused(text: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.toml").write_text(text)
    code, words = WRONG[text]
    run("mine", "in.parquet", "--config", "run.toml", code=code)
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert sorted(path.name for path in here.iterdir()) == ["in.parquet", "run.toml"]


@pytest.mark.parametrize("text", ["precious = true\n", "# minestream 0.1.0: notes of mine\nprecious = true\n"])
@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_file_of_others_is_never_replaced(
    here: Path, text: str, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run.toml").write_text(text)
    run("mine", "in.parquet", "--dry-run", "--save-config", "run.toml", *more, code=5)
    said = capsys.readouterr().err
    assert "minestream did not write it" in said
    assert "--overwrite" not in said
    assert Path("run.toml").read_text() == text


def test_an_edited_recipe_is_replaced_with_overwrite_only(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = ("mine", "in.parquet", "--dry-run", "--save-config")
    run(*mine, "run.toml")
    with open("run.toml", "a") as file:
        file.write("resume = true  # every night\n")
    edited = Path("run.toml").read_text()
    run(*mine, "run.toml", code=5)
    assert "edited" in capsys.readouterr().err
    assert Path("run.toml").read_text() == edited
    run(*mine, "run.toml", "--overwrite")
    run(*mine, "run.toml", "-k", "2")
    assert tomllib.loads(Path("run.toml").read_text()) == {"inputs": ["in.parquet"], "negatives": 2}
    run(*mine, "in.parquet", "--overwrite", code=2)
    run(*mine, "no/run.toml", code=5)
    run(*mine, "new.toml", "--margin", "-3", code=2)
    assert sorted(path.name for path in here.iterdir()) == ["in.parquet", "run.toml"]


def test_the_manifest_records_the_command_that_mines_the_same(here: Path) -> None:
    Path("run.toml").write_text('label = "kind"\n')
    run("mine", "in.parquet", "--config", "run.toml", "-k", "2", "--where", "kind < 3", "--resume", *QUIET)
    given = ["--label", "kind", "--negatives", "2", "--where", "kind < 3"]
    assert ran("in.triplets.parquet") == ["minestream", "mine", "in.parquet", *given, "-o", "in.triplets.parquet"]
    found = manifest("in.triplets.parquet")
    assert found["report"]["folder"] == str(here)
    other = found | {"report": found["report"] | {"command": "else", "folder": "elsewhere"}}
    assert differences(found, other) == []
    again = minestream.mine("in.parquet", label="kind", negatives=2, where="kind < 3", resume=True, progress="none")
    assert again.already
    assert again.command == found["report"]["command"]


def test_manifests_of_equal_runs_are_equal_but_for_the_seconds() -> None:
    def written() -> Any:
        run("mine", "in.parquet", "-o", "a.parquet", "--overwrite", *QUIET)
        text = Path("a.parquet.manifest.json").read_text()
        return json.loads(text, object_hook=lambda each: {k: v for k, v in each.items() if "seconds" not in k})

    assert written() == written()


CALLS: list[tuple[dict[str, Any], list[str]]] = [
    ({"margin": np.float32(0.5), "negatives": None, "band": None}, ["--margin", "0.5"]),
    ({"drop_duplicates_within": None, "normalize": False}, ["--drop-duplicates-within", "none"]),
    ({"label": "-kind", "carry": "text", "seed": -3}, ["--label=-kind", "--carry", "text", "--seed=-3"]),
    ({"screen": "scan", "batch_rows": 7, "overwrite": True, "dry_run": True, "swap": True}, ["--swap"]),
    ({"corpus": Path("c.parquet"), "qrels": "s3://me:key@b/*/q.tsv?token=y"},
     ["--corpus", "c.parquet", "--qrels", "s3://b/*/q.tsv"]),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), CALLS)
def test_a_call_of_the_library_is_a_command(options: dict[str, Any], words: list[str], here: Path) -> None:
    resources = with_command(Resources(), "mine", [Path("-odd name.parquet"), "-"], "o", options)
    expected = ["minestream", "mine", "./-odd name.parquet", "-", *words, "-o", "o"]
    assert (shlex.split(resources.command or ""), resources.folder) == (expected, str(here))


def test_tables_in_memory_have_no_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = minestream.mine(pq.read_table("in.parquet"), "m.parquet", progress="none")
    assert report.command is None
    run("repeat", "m.parquet", code=3)
    assert "records no command" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["a.parquet", "a"])
def test_repeat_runs_it_again(out: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("mine", "in.parquet", "-o", out, "--label", "kind", "--overwrite", *QUIET)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    run("repeat", f"../{out}", code=5)
    run("repeat", f"../{out}", "-o", f"new {out}", "--json")
    assert Path.cwd() == here / "elsewhere"
    assert manifest(f"new {out}")["counts"] == manifest(here / out)["counts"]
    assert ran(f"new {out}")[-1] == str(here / "elsewhere" / f"new {out}")
    before = ran(here / out)
    run("repeat", f"../{out}", "--overwrite", "-q")
    assert ran(here / out) == before
    for name in (out, f"{out}.manifest.json"):
        os.rename(here / name, name)
    run("repeat", out, "--overwrite")
    assert not (here / out).exists(), "an output that was moved is made where it is now"


def test_a_quiet_repetition_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run("mine", "in.parquet", "-o", "a.parquet", *QUIET)
    capsys.readouterr()
    run("repeat", "a.parquet", "-o", "b.parquet", "-q")
    assert capsys.readouterr() == ("", "")
    run("repeat", "a.parquet", "-o", "c.parquet")
    assert "minestream mine in.parquet" in capsys.readouterr().err


def test_the_next_command_of_a_run_is_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    run("mine", "in.parquet", "-o", "my rows.parquet", *QUIET)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split("next")[1].strip() == "minestream describe 'my rows.parquet'"


@pytest.mark.parametrize("out", ["-", "a.parquet"])
def test_quiet_mining_prints_nothing_but_its_rows(out: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    run("mine", "in.parquet", "-o", out, "-q")
    rows, said = capfdbinary.readouterr()
    assert said == b""
    assert bool(rows) == (out == "-")
    run("mine", "in.parquet", "-o", "-", "-q", "--label", "nothing", code=3)
    assert b"error: " in capfdbinary.readouterr().err


def test_slices_and_their_merge_are_repeated() -> None:
    for number in "12":
        run("mine", "in.parquet", "-o", "m", "--shard", f"{number}/2", *QUIET)
    run("merge", "m", *QUIET)
    assert ran("m") == ["minestream", "merge", "m", "-o", "m"]
    names = sorted(os.listdir("m.slices"))
    run("repeat", "m.slices/slice-001-of-002", "--overwrite")
    assert sorted(os.listdir("m.slices")) == names, "a slice is mined to the place of its OUT"
    assert ran("m.slices/slice-001-of-002")[-3:] == ["1/2", "-o", "m"]
    run("repeat", "m", "-o", "again")
    assert Path("again/part-00000.parquet").read_bytes() == Path("m/part-00000.parquet").read_bytes()


def test_a_profile_is_repeated(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("profile", "in.parquet", "--label", "kind", "--margin", "0.1,0.2", "--sample", "9", "-o", "look", *QUIET)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    run("repeat", "../look", code=5)
    run("repeat", "../look", "-o", "again", *QUIET)
    first, again = (json.loads(Path(name, "profile.json").read_text()) for name in ("../look", "again"))
    assert again["result"]["margins"] == first["result"]["margins"]
    assert again["configuration"] == first["configuration"]
    run("repeat", "../look", "--overwrite", *QUIET)
    forged = first | {"command": "minestream profile in.parquet --overwrite -o look"}
    Path("../look/profile.json").write_text(json.dumps(forged))
    run("repeat", "../look", code=3)


FORGED = {
    "older": None,
    "other program": "rm -rf x -o a.parquet",
    "other command": "minestream sample x -o a.parquet",
    "no out": "minestream mine in.parquet",
    "overwrites": "minestream mine in.parquet --overwrite -o a.parquet",
    "writes": "minestream mine in.parquet --save-config=x.toml -o a.parquet",
    "torn": "minestream mine 'in.parquet -o a.parquet",
}


@pytest.mark.parametrize("kind", FORGED)
def test_repeat_refuses_what_minestream_does_not_record(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("mine", "in.parquet", "-o", "a.parquet", *QUIET)
    found = manifest("a.parquet")
    found["report"]["command"] = FORGED[kind]
    Path("a.parquet.manifest.json").write_text(json.dumps(found))
    Path("a.parquet").unlink()
    capsys.readouterr()
    run("repeat", "a.parquet", code=3)
    assert "the manifest of a.parquet records" in capsys.readouterr().err
    assert not Path("a.parquet").exists()


def test_repeat_says_where_it_cannot(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("repeat", "nothing.parquet", code=3)
    (here / "gone").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(here / "gone")
        run("mine", "../in.parquet", "-o", "../a.parquet", *QUIET)
    (here / "gone").rmdir()
    run("repeat", "a.parquet", code=3)
    said = capsys.readouterr().err
    assert "no manifest" in said
    assert "which is no folder here" in said


def test_a_recipe_holds_no_secrets() -> None:
    values = {"inputs": ["s3://me:key@b/in/*.parquet?token=y", "file.parquet"], "out": "-", "label": "me:key@b"}
    write_recipe("run.toml", values)
    expected = {"inputs": ["s3://b/in/*.parquet", "file.parquet"], "out": "-", "label": "me:key@b"}
    assert tomllib.loads(Path("run.toml").read_text()) == expected
    assert read_recipe("run.toml") == expected
