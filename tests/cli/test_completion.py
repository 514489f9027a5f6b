"""What the shell completes: in bash, and in zsh and fish where they are installed, by the keys that a user types."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minestream.cli.guide import FOLDER, pages
from minestream.cli.main import COMPLETE, cli, main
from minestream.cli.options import flags_of, visible_fields
from minestream.config.trainer_formats import FORMATS

TO_START = "\x01"
SWITCHED_ON = {
    "bash": (["--norc", "-i"], f'eval "$({COMPLETE}=bash_source minestream)"'),
    "zsh": (["-f", "-i"], f'autoload -Uz compinit; compinit -D -u; eval "$({COMPLETE}=zsh_source minestream)"'),
    "fish": (["--no-config", "-i"], f"{COMPLETE}=fish_source minestream | source"),
}
# What is typed before the tab key, and what the shell then has as the last word: the only one that fits.
TYPED = {
    "minestream mi": "mine",
    "minestream help exi": "exit-codes",
    "minestream mine dig": "digits.parquet",
    "minestream mine digits.parquet --help-a": "--help-all",
    "minestream mine digits.parquet --metric eu": "euclidean",
    "minestream mine digits.parquet --label cl": "class",
    "minestream mine digits.parquet --carry=vec": "--carry=vector",
    "minestream mine digits.parquet --id my": "my own id",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a table."""
    rows = pa.table({"vector": [[1.0, 0.0], [0.0, 1.0]], "class": [1, 2], "my own id": [3, 4], "\x1b[31mred": [5, 6]})
    pq.write_table(rows, tmp_path / "digits.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed_into(shell: str, keys: str, home: Path) -> str:
    """What an interactive shell prints on its terminal while these keys are typed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["timeout", "-s", "KILL", "120", "setsid", "--ctty", "--wait", shell, *SWITCHED_ON[shell][0]],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=home,
        env=os.environ | {"PATH": path, "HOME": str(home), "TERM": "dumb", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, keys.encode())
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the shell has ended
        process.wait(60)
    finally:
        process.kill()
        os.close(ours)
    return shown.decode(errors="replace")


@pytest.mark.parametrize("shell", [name for name in SWITCHED_ON if name == "bash" or shutil.which(name)])
def test_a_real_shell_completes(shell: str, folder: Path) -> None:
    guide = (FOLDER / "options.md").read_text(encoding="utf-8")
    assert f"`{SWITCHED_ON[shell][1].rpartition('; ')[2]}`" in guide
    lines = [f"{line}\t{TO_START}printf '@%s' \r" for line in TYPED]  # shows the words that the shell has
    shown = typed_into(shell, "\r".join([SWITCHED_ON[shell][1], *lines, "exit\r"]), folder)
    expected = ["\n@" + "@".join([*line.split()[:-1], word]) for line, word in TYPED.items()]
    assert [line for line in expected if line not in shown] == [], shown


Offered = Callable[..., list[str]]


@pytest.fixture
def offered(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Offered:
    """The function that gives what bash is told to offer for the last word of a line, or the one before the rest."""

    def answered(line: str, rest: str = "") -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv(COMPLETE, "bash_complete")
        monkeypatch.setenv("COMP_WORDS", "\n".join([*words, *rest.split()]))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        assert main() in (0, 1)
        out, err = capsys.readouterr()
        assert err == ""
        return [each.partition(",")[2] or each for each in out.splitlines() if each]

    return answered


NAMES = ["vector", "class", "'my own id'"]  # the name that would colour the terminal is left out


@pytest.mark.parametrize(
    "flag", [flag for spec in visible_fields() if spec.metadata["metavar"] == "COL" for flag in flags_of(spec)]
)
def test_columns_of_the_input_are_offered(offered: Offered, flag: str) -> None:
    assert offered(f"minestream mine digits.parquet {flag} ") == NAMES


@pytest.mark.parametrize("line", [
    "minestream mine --corpus other.parquet digits.parquet --label ", "minestream mine digits.parquet -o x --label = ",
    "minestream profile none.parquet digits.parquet --label ", "minestream fit dig*.parquet --label ",
    "minestream compare digits.parquet digits.parquet --label ", "minestream apply x.npz digits.parquet --embedding ",
    "minestream mine . --where ", "minestream mine ~/digits.parquet --id ",
    "minestream mine $HOME/digits.parquet --id ",
])  # fmt: skip
def test_where_the_input_stands_on_the_line(offered: Offered, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", os.getcwd())
    assert offered(line) == NAMES


def test_columns_that_export_takes(offered: Offered, folder: Path) -> None:
    names = ["anchor_row", "positive_row", "negative_row", "anchor_my own id", "positive_my own id", "negative_label"]
    pq.write_table(pa.table({name: [1] for name in names}), folder / "out.parquet")
    assert offered("minestream export out.parquet --text ") == ["'my own id'"]


def test_the_input_may_stand_behind_the_cursor(offered: Offered) -> None:
    assert offered("minestream mine --label ", "digits.parquet") == NAMES


def test_choices_are_offered(offered: Offered) -> None:
    for spec in visible_fields():
        if spec.metadata["choices"]:
            assert offered(f"minestream mine x {flags_of(spec)[-1]} ") == [*spec.metadata["choices"]]
    assert offered("minestream export x --emit ") == [*FORMATS]
    assert offered("minestream m") == ["mine", "merge"]
    assert set(offered("minestream help ")) == {*cli.commands, *pages()}


@pytest.mark.parametrize("line", [
    "minestream mine none.parquet --label ", "minestream mine broken.parquet --label ", "minestream mine --label ",
    "minestream mine s3://bucket/x.parquet --label ", "minestream mine - --label ",
    "minestream update x ", "minestream mine digits.parquet --margin ",
])  # fmt: skip
def test_where_nothing_fits_nothing_is_said(offered: Offered, line: str, folder: Path) -> None:
    (folder / "broken.parquet").write_bytes(b"PAR1 broken PAR1")
    assert offered(line) == []


def test_an_unknown_shell_is_no_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(COMPLETE, "tcsh_source")
    assert main() == 1
    assert capsys.readouterr() == ("", "")


def test_completing_loads_no_compiler(folder: Path) -> None:
    code = "import sys; from minestream.cli.main import main; main(); assert 'numba' not in sys.modules"
    asked = {COMPLETE: "bash_complete", "COMP_WORDS": "minestream mine digits.parquet --label cl", "COMP_CWORD": "4"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "plain,class"
