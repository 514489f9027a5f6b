"""What files, names and options hold is never run, never leads out of its folder, and never steers what shows it."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import table
from hypothesis import given, settings
from hypothesis import strategies as st
from tally import Attack

from minestream.cli.main import main
from minestream.cli.printing import sections
from minestream.errors import UsageError, printable
from minestream.inputs.where import MOST_JOINED, parse_where
from minestream.insight.html import bars, curves, histogram, page, values
from minestream.insight.html import table as html_table
from minestream.system import console

KIND = "hostile input"
PACKAGE = Path(__file__).parents[2] / "minestream"
QUIET = ["--progress", "none"]
INPUT, OUTPUT = 3, 5

# ---------------------------------------------------------------- the source itself

MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "subprocess", "pty", "runpy", "code"}
CALLS = re.compile(
    r"(eval|exec|compile|__import__|import_module)"
    r"|os\.(system|popen|startfile|fork\w*|exec\w*|spawn\w*|posix_spawn\w*)|pickle\.\w+"
)
ALLOWED = {
    ("kernels/jit.py", "import pickle"),  # its own compiled code, in a folder that is this user's alone
    ("kernels/jit.py", "pickle.loads"),
    ("__init__.py", "import_module"),  # the public names, from a table in that file
    ("mining/engines/__init__.py", "import_module"),  # the engines, likewise
    ("mining/arrays.py", "import_module"),  # pandas or polars, where the caller asks for their frames
}


def suspicious(name: str, source: str) -> set[tuple[str, str]]:
    """The imports and calls of a file that could run what it reads."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            found |= {(name, f"import {each}") for each in modules if each.split(".")[0] in MODULES}
        if isinstance(node, ast.Call):
            called, keywords = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
            if CALLS.fullmatch(called):
                found.add((name, called))
            if called.endswith("np.load") and keywords.get("allow_pickle") != "False":
                found.add((name, "np.load without allow_pickle=False"))
            if keywords.get("shell") == "True":
                found.add((name, "a shell"))
    return found


def test_the_package_runs_nothing_that_it_reads() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        found |= suspicious(path.relative_to(PACKAGE).as_posix(), path.read_text())
    assert found == ALLOWED


@pytest.mark.parametrize("line", [
    "import pickle", "from yaml import load", "import subprocess as s", "eval(x)", "exec(x)", "os.system(x)",
    "os.execv(x, y)", "__import__(x)", "np.load(x)", "np.load(x, allow_pickle=True)", "run(x, shell=True)",
])  # fmt: skip
def test_the_scan_sees(line: str) -> None:
    assert suspicious("file.py", line)


# ---------------------------------------------------------------- what is read is not run


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a table to mine and what is mined of it."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(table(), "rows.parquet")
    return tmp_path


def test_no_file_is_unpickled(folder: Path, attack: Attack, capsys: pytest.CaptureFixture[str]) -> None:
    bomb, exploded = np.array([[Bomb(folder / "exploded")]], object), folder / "exploded"
    np.save("bomb.npy", bomb, allow_pickle=True)
    np.savez("bomb.npz", weights=bomb, mean=bomb, about=bomb)
    Path("plain.npy").write_bytes(pickle.dumps(bomb))
    commands = [["mine", "rows.parquet", "--vectors", name] for name in ("bomb.npy", "plain.npy")]
    commands += [["apply", name, "rows.parquet", "-o", "out.parquet"] for name in ("bomb.npz", "plain.npy")]
    for command in commands:
        with attack(KIND, "a pickle in place of vectors or a model"):
            assert main(command) == INPUT
            assert not exploded.exists()
            assert "error: " in capsys.readouterr().err
    pickle.loads(Path("plain.npy").read_bytes())
    assert exploded.exists(), "the bomb is none"


armed: list[str] = []
EVENTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "exec", "open", "socket.connect")
sys.addaudithook(lambda event, _: armed.append(event) if armed and event in EVENTS else None)

EXPRESSIONS = [
    "__import__('os').system('id')", "().__class__", "x.__class__ == 1", "open('f') == 1", "exec('1') == 1",
    "x[0] == 1",
    "(lambda: 1)() == 1", "[y for y in x]", "f'{x}' == 1", "(y := 1) == 1", "x if y else 1", "date(x) == 1",
    "column(__import__('os')) == 1", "column('x', 'y') == 1", "column(name='x') == 1", "print(x)", "x @ 1",
    "x ** 9 == 1",
    "'a' * 10 ** 9 == x", "x == 10 ** 10 ** 10", "x == b'a'", "x == 1j", "x == ...", "{x: 1}", "yield x", "await x",
    "*x",
    "x; y", "x = 1", "import os", "", "#", "1 == 1", "x == " + "9" * 5000, "(" * 500 + "x" + ")" * 500,
    "not " * 5000 + "x",
    " and ".join(["x == 1"] * (MOST_JOINED + 1)), "x" + " < x" * (MOST_JOINED + 2), "x in (y,)",
    "x == '\ud800'", "x == '\0'", "date('0000-00-00') == x", "x == -'a'",
]  # fmt: skip


@pytest.mark.parametrize("text", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_conditions_run_nothing(text: str, attack: Attack) -> None:
    with attack(KIND, "an expression that would run something as a condition"):
        armed.append("armed")
        try:
            with pytest.raises(UsageError):
                parse_where(text, "--anchor-where")
            assert armed == ["armed"]
        finally:
            armed.clear()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["x", "y", "(", ")", "==", "<", "in", "not", "is", "None", "and", "or", ",", "1",
                                 "'a'", "-",
                                 "[", "]", "date", "column", ".", "**", "lambda", ":", "2e999", "True", "if", "else"]),
                max_size=12))  # fmt: skip
def test_drawn_conditions_are_conditions_or_refused(pieces: list[str]) -> None:
    with suppress(UsageError):
        parse_where(" ".join(pieces), "--anchor-where")


# ---------------------------------------------------------------- names lead nowhere else


def changed_metadata(path: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Rewrite a mined file with another value in its metadata."""
    found = {key: value for key, value in pq.read_metadata(path).metadata.items() if key.startswith(b"minestream.")}
    key = f"minestream.{name}".encode()
    found[key] = json.dumps(change(json.loads(found[key]))).encode()
    pq.write_table(pq.read_table(path).replace_schema_metadata(found), path)


@pytest.mark.parametrize("name", ["../secret.parquet", "a/../../secret.parquet", "{folder}/secret.parquet"])
def test_a_source_outside_is_not_looked_up(
    name: str, folder: Path, attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "secret.parquet").write_bytes(Path("rows.parquet").read_bytes())
    (folder / "in").mkdir()
    os.chdir("in")
    assert main(["mine", "../rows.parquet", "-o", "out.parquet", *QUIET]) == 0
    Path("out.parquet.manifest.json").unlink()
    outside = name.format(folder=folder)
    changed_metadata(Path("out.parquet"), "source", lambda found: [found[0] | {"name": outside}])
    capsys.readouterr()
    with attack(KIND, "a mined file whose source leads elsewhere: verify"):
        assert main(["verify", "out.parquet"]) == INPUT
        assert "outside" in capsys.readouterr().err


def mined_slices() -> Path:
    for each in ("1/2", "2/2"):
        assert main(["mine", "rows.parquet", "-o", "out.parquet", "--shard", each, *QUIET]) == 0
    return Path("out.parquet.slices")


@pytest.mark.parametrize("name", ["../../../secret.parquet", "{folder}/secret.parquet", "part-00001.parquet", "."])
def test_a_slice_names_its_own_parts_only(name: str, folder: Path, attack: Attack) -> None:
    (folder / "in").mkdir()
    os.chdir("in")
    Path("rows.parquet").write_bytes((folder / "rows.parquet").read_bytes())
    slices = mined_slices()
    (path,) = (path for path in slices.glob("*.manifest.json") if json.loads(path.read_text())["files"])
    manifest = json.loads(path.read_text())
    (own,) = slices.glob("*/part-00000.parquet")
    own.rename(folder / "secret.parquet")  # right in every byte
    manifest["files"][0]["name"] = name.format(folder=folder)
    path.write_text(json.dumps(manifest))
    with attack(KIND, "a manifest whose parts lead elsewhere: merge"):
        assert main(["merge", "out.parquet", *QUIET]) == OUTPUT
        assert not Path("out.parquet").exists()


def test_work_folders_that_are_links_are_left_alone(folder: Path, attack: Attack) -> None:
    (folder / "precious").mkdir()
    for name in ("lock", "diary"):
        (folder / "precious" / name).write_text("mine")
    Path("out.parquet.partial").symlink_to("precious")
    with attack(KIND, "a link in place of the folder of unfinished work"):
        assert main(["mine", "rows.parquet", "-o", "out.parquet", "--overwrite", *QUIET]) == OUTPUT
        assert (folder / "precious" / "diary").read_text() == "mine"


# ---------------------------------------------------------------- what is shown is text

MARKUP = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><script>", "' onload='x", "&lt;",
          "]]>", "</svg><a href=javascript:x>", "<!--", "\ud800", "\0\x1b[31m", "\u202e"]  # fmt: skip
TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "section", "p", "div", "table", "thead", "tbody",
        "tr", "th", "td", "svg", "rect", "path", "line", "text", "circle", "polyline", "span"}  # fmt: skip


class Tags(HTMLParser):
    """Fails at a tag or attribute that no page of ours has."""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert not [name for name, _ in attributes if name.startswith("on") or name in ("src", "href")]


TEXTS = st.one_of(st.sampled_from(MARKUP), st.text(st.characters(), max_size=20))


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS)
def test_no_text_is_markup_in_a_page(a: str, b: str) -> None:
    counts = {a: [1.0, 2.0]}
    body = html_table([{a: b, "id": b, "_labels": [a, b]}]) + values({a: b, b: [a, {"x": a}]}) + bars(a, {b: 1})
    body += histogram(a, [0.0, 1.0, 2.0], counts) + curves(b, [0.0, 1.0], counts)
    found = page(a, {b: body})
    found.encode()
    Tags().feed(found)
    assert not set(found) & set("\0\x1b\u202e")


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
    with attack(KIND, f"names and texts that steer a terminal: {name}"):
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
