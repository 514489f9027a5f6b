"""What help shows: first what is used first, and only what concerns the command."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable

import click
import pytest

from minestream import errors
from minestream.cli.groups import COMMANDS
from minestream.cli.guide import pages
from minestream.cli.main import cli, main
from minestream.cli.options import flags_of, visible_fields
from minestream.config.commands import Mining, Printing, own_options
from minestream.config.option import FIRST, GROUPS, OFTEN

MOST_LINES, MOST_COLUMNS, DOZEN = 45, 80, 12
FLAG = re.compile(r"--[a-z][a-z0-9-]*\b")
Page = Callable[..., str]
OPTIONS_OF_MINE = [*own_options(Mining).values(), *visible_fields(), *own_options(Printing).values()]


@pytest.fixture
def page(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Page:
    """The function that gives what a command line prints, off a terminal."""
    monkeypatch.setenv("COLUMNS", str(MOST_COLUMNS))

    def printed(*arguments: str) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out

    return printed


def options_in(text: str) -> list[str]:
    """The first name of each option that help lists."""
    return [line.split()[0].rstrip(",") for line in text.splitlines() if line.startswith("  -")]


def test_help_of_mine_is_one_screen_of_what_is_used_first(page: Page) -> None:
    text = page("mine", "--help")
    lines = text.splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= MOST_COLUMNS
    first = [spec for spec in OPTIONS_OF_MINE if spec.metadata["use"] == FIRST]
    assert len(first) == DOZEN
    assert sorted(options_in(text)) == sorted([*(flags_of(spec)[0] for spec in first), "--help-all", "-h"])
    for title, flag in (("with labels", "--label"), ("with known positives (qrels)", "--qrels")):
        example = text.partition(f"Example, {title}:\n")[2].splitlines()[:2]
        assert [line.startswith("    ") for line in example] == [True, True]
        assert flag in "".join(example)
    assert text == page("help", "mine")


def test_all_options_are_listed_once_with_each_choice_the_most_used_of_a_group_first(page: Page) -> None:
    text = page("mine", "--help-all")
    assert sorted(options_in(text)) == sorted([*(flags_of(spec)[0] for spec in OPTIONS_OF_MINE), "--help-all", "-h"])
    _, *parts = re.split(r"^(?=[A-Z][\w ]+:$)", text[text.index("\nInput:") :], flags=re.MULTILINE)
    assert [part.partition(":")[0] for part in parts] == [*GROUPS, "Help"]
    use = {flags_of(spec)[0]: spec.metadata["use"] for spec in OPTIONS_OF_MINE}
    for part in parts[:-1]:
        uses = [use[flag] for flag in options_in(part)]
        assert uses == sorted(uses, reverse=True)
        assert uses[0] >= OFTEN, part
    for spec in OPTIONS_OF_MINE:
        assert all(flag in text for flag in flags_of(spec))
        assert all(f"\n      {choice} " in text for choice in spec.metadata["choices"] or {})


@pytest.mark.parametrize("command", [name for name, (about, *_) in COMMANDS.items() if about])
def test_a_command_has_an_example_and_speaks_of_its_options_only(page: Page, command: str) -> None:
    text = page(command, "--help")
    assert re.search(rf"\n  Example.*:\n    minestream (?:mine .*\n    minestream )*{command} ", text)
    assert not re.search(r"\w-$", text, re.MULTILINE), "a name is broken at its hyphen"
    own = {flag for option in cli.commands[command].params for flag in (*option.opts, *option.secondary_opts)} | {
        "--help"
    }
    assert set(FLAG.findall(re.sub(r"\n  Example(.*\n)*?\n", "\n", text))) <= own
    assert "--emit" in own or not re.search(r"\((pairs|tuples|triplets)", text)


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_exit_codes_have_their_page_and_no_other(page: Page, command: str) -> None:
    for wanted in ("--help", "--help-all") if command == "mine" else ("--help",):
        text = " ".join(page(*filter(None, [command, wanted])).split())
        assert not [meaning for meaning in errors.EXIT_CODES.values() if " " in meaning and meaning in text]
    assert all(f"| {code} | {meaning} |" in page("help", "exit-codes") for code, meaning in errors.EXIT_CODES.items())
    assert "exit-codes" in pages()


def test_help_has_colours_on_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch, page: Page) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain = page("mine", "--help")
    assert "\x1b" not in plain
    for refused in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"}):
        monkeypatch.setattr(sys, "stdout", terminal := io.StringIO())
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        for name, value in refused.items():
            monkeypatch.setenv(name, value)
        assert main(["mine", "--help"]) == 0
        assert ("\x1b[" in terminal.getvalue()) == (not refused)
        assert click.unstyle(terminal.getvalue()) == plain
