"""What there was once is answered by its old name with what does it now, in one line, from one table."""

from __future__ import annotations

import pytest

import minestream
from minestream.cli.main import main
from minestream.config.border import in_python
from minestream.config.names import GONE
from minestream.config.trainer_formats import FORMATS
from minestream.errors import UsageError

OPTIONS = {  # the command that it was given to, and a value
    "reserve": (["mine", "x.parquet"], "16"), "plots": (["profile", "x.parquet"], "dir"),
    "guide_queries": (["mine", "x.parquet"], "g.parquet"), "guide_corpus": (["mine", "x.parquet"], "g.parquet"),
    "text": (["mine", "x.parquet"], "COL"), "query_text": (["mine", "x.parquet"], "COL"),
}  # fmt: skip
VALUES = {  # of options that there still are
    "margin=several": (["mine", "x.parquet"], "0.1,0.2"),
    "short_rows=pad-random": (["mine", "x.parquet"], "pad-random"),
    "short_rows=repeat": (["mine", "x.parquet", "--emit", "tuples"], "repeat"),
    **{f"emit={name}": (["mine", "x.parquet"], name) for name in FORMATS},
}
COMMANDS = ["update"]
FUNCTIONS = ["update", "Update", "mine_margins"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """The two lines that a command line is refused with."""
    assert main(arguments) == UsageError.exit_code
    out, err = capsys.readouterr()
    assert out == ""
    error, hint = err.splitlines()
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


def test_every_former_name_is_tried_here() -> None:
    assert set(GONE) == {*OPTIONS, *VALUES, *COMMANDS, *FUNCTIONS}
    assert not {text for text in GONE.values() if "\n" in text or not text}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(capsys: pytest.CaptureFixture[str], name: str) -> None:
    (command, *given), value = OPTIONS[name]
    flag = "--" + name.replace("_", "-")
    for option in ([flag, value], [f"{flag}={value}"]):
        error, hint = refused(capsys, command, *given, *option)
        assert flag in error
        assert hint == GONE[name]
    if command == "mine":
        with pytest.raises(UsageError, match=name) as found:
            minestream.mine("x.parquet", **{name: value})
        assert found.value.hint == in_python(GONE[name])


@pytest.mark.parametrize("name", VALUES)
def test_values(capsys: pytest.CaptureFixture[str], name: str) -> None:
    given, value = VALUES[name]
    flag = "--" + name.partition("=")[0].replace("_", "-")
    for option in ([flag, value], [f"{flag}={value}"]):
        error, hint = refused(capsys, *given, *option)
        assert flag in error
        assert value in error
        assert hint == GONE[name]
    field = name.partition("=")[0]
    with pytest.raises(UsageError, match=f"^{field} takes") as found:
        minestream.mine("x.parquet", **{field: [0.1, 0.2] if name.endswith("=several") else value})
    assert found.value.hint == in_python(GONE[name])


def test_a_format_of_trainers_is_answered_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where its --text is given, which is gone too."""
    hint = "minestream mine INPUT -o x.parquet, then minestream export x.parquet --emit st-tuples --text COL"
    for given in (["--emit", "st-tuples", "--text", "t"], ["--text=t", "--emit=st-tuples"]):
        assert refused(capsys, "mine", "x.parquet", *given) == ("--emit takes 'st-tuples' no more", hint)
    for call in (
        lambda: minestream.mine("x.parquet", text="t", emit="st-tuples"),
        lambda: minestream.mine_arrays([[1.0, 0.0]], [1], text="t", emit="st-tuples"),
    ):
        with pytest.raises(UsageError, match=r"^emit takes 'st-tuples' no more") as found:
            call()
        assert found.value.hint == in_python(hint)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("arguments", [[], ["x.parquet", "--source", "y"], ["--help"]], ids=str)
def test_commands(capsys: pytest.CaptureFixture[str], name: str, arguments: list[str]) -> None:
    error, hint = refused(capsys, name, *arguments)
    assert name in error
    assert hint == GONE[name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    with pytest.raises(AttributeError, match=name) as found:
        getattr(minestream, name)
    assert str(found.value).endswith(GONE[name])
    assert not hasattr(minestream, name)
    assert name not in dir(minestream)
