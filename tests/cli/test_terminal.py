"""What names and texts hold never steers the terminal that shows it."""

from __future__ import annotations

import io
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from attacks import AWKWARD_TABLES, HOSTILE_INPUT, INPUT, MARKUP, OUTPUT, QUIET
from hostile import table
from hypothesis import given, settings
from hypothesis import strategies as st
from tally import Attack

from minestream.cli.main import main
from minestream.cli.printing import sections
from minestream.errors import printable
from minestream.system import console

SURROGATE = "\ud800"
TEXT_OPTIONS = ["embedding", "label", "id", "group-column", "carry", "anchor-where", "metric", "emit",
                "unlabeled-value",
                "margin", "anchors", "memory", "scratch", "corpus", "qrels", "exclude-rows", "vectors", "guide",
                "shard",
                "out"]  # fmt: skip


@pytest.mark.parametrize("option", TEXT_OPTIONS)
def test_bytes_that_are_no_text_on_the_command_line(option: str, folder: Path, attack: Attack) -> None:
    """Python hands them on as lone surrogates, which no file and no Arrow text can hold."""
    with attack(AWKWARD_TABLES, "options of bytes that are no text"):
        code = main(["mine", "rows.parquet", "-o", "out.parquet", f"--{option}", SURROGATE])
        assert code in (2, 3, 5) or (code == 0 and option in ("unlabeled-value", "anchor-where"))


TEXTS = st.one_of(st.sampled_from(MARKUP), st.text(st.characters(), max_size=20))


@settings(deadline=None)
@given(TEXTS)
def test_no_text_steers_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c != "\n"]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    if text.isascii() and text.isprintable():
        assert shown == text


SHOWN = "\x1b]0;owned\x07\x1b[31m[bold]red\r"


@pytest.fixture
def hostile(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Path]:
    """A table whose names and texts try to steer a terminal, and what is mined of it; at the end nothing did."""
    rows = table()
    labels = pa.array([f"{SHOWN}{row % 5}" for row in range(len(rows))])
    columns = [rows["embedding"], labels, rows["id"], labels]
    path = folder / f"{SHOWN}rows.parquet"
    pq.write_table(pa.table(columns, ["embedding", SHOWN, "id", f"{SHOWN}text"]), path)
    assert main(["mine", str(path), "-o", f"{SHOWN}.parquet", "--label", SHOWN, "--carry", SHOWN, *QUIET]) == 0
    yield path
    said = capsys.readouterr()
    assert not [c for c in said.out + said.err if unicodedata.category(c) == "Cc" and c != "\n"]
    assert "[bold]red" in said.out + said.err, "the texts were not shown at all"


OUT = f"{SHOWN}.parquet"
COMMANDS = {
    "mine": (0, []),
    "describe": (0, ["describe", OUT]),
    "describe, as JSON": (0, ["describe", OUT, "--json"]),
    "verify": (0, ["verify", OUT]),
    "profile": (0, ["profile", "{path}", "--label", SHOWN, "-o", "profiled"]),
    "compare": (0, ["compare", "{path}", "{path}", "--label", SHOWN]),
    "an output that exists": (OUTPUT, ["mine", "{path}", "-o", OUT, "--label", SHOWN]),
    "a column that is not there": (INPUT, ["mine", "{path}", "--label", "nothing"]),
    "a column that does not fit": (INPUT, ["mine", "{path}", "--label", SHOWN, "--id", "embedding"]),
    "a file that is not there": (INPUT, ["mine", f"{SHOWN}nothing.parquet"]),
    "an option that is not there": (2, ["mine", "{path}", f"--{SHOWN}"]),
    "a command that is not there": (2, [SHOWN]),
    "a metric that is not there": (2, ["mine", "{path}", "--metric", SHOWN]),
    "a condition that is none": (2, ["mine", "{path}", "--label", SHOWN, "--anchor-where", f"column('{SHOWN}') =="]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_name_steers_a_terminal(name: str, hostile: Path, attack: Attack) -> None:
    code, command = COMMANDS[name]
    with attack(HOSTILE_INPUT, f"names and texts that steer a terminal: {name}"):
        assert not command or main([each.format(path=hostile) for each in command]) == code


def test_colours_on_a_terminal_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal := io.StringIO())
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    shown = sections({SHOWN: [(SHOWN, SHOWN, SHOWN)]}, [SHOWN])
    assert "\x1b[1m" in shown, "no colours, so nothing was tested"
    assert not re.sub(r"\x1b\[[0-9;]*m", "", shown).count("\x1b")
    assert "\x1b[31m" not in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize(("name", "told"), [("stdout", console.show), ("stderr", console.tell)])
def test_what_standard_output_cannot_hold_is_escaped(
    name: str, told: Callable[[str], None], encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, name, file)
    told("label \u4e16 \ud800")
    assert "label" in file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]  # a BytesIO
