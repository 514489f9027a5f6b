"""Recipes: the options of a run as a TOML file, and the recorded command of one that is to be run again."""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from minestream._version import VERSION
from minestream.config.command_line import OF_ONE_RUN, PLACES
from minestream.config.names import unknown_option
from minestream.config.option import check_value
from minestream.config.parse import PIPE
from minestream.config.resolve import OPTION_FIELDS, held, split_options
from minestream.config.trainer_formats import FORMATS
from minestream.errors import InputError, OutputError, UsageError
from minestream.outputs.manifest import read_json, read_manifest
from minestream.outputs.mined import MANIFEST, PROFILE, RESCORING, mined_output
from minestream.system.paths import AnyPath, place_of, text_of
from minestream.system.stores import shown

HEAD = re.compile(r"# minestream \S+ ([0-9a-f]{8}): .*\n")  # of what was written here, with the CRC-32 of the rest
BESIDE = ("inputs", "out")  # what a recipe holds beside the options
MINE_AGAIN = "mine it again: minestream describe shows its options"


def _placed(name: str, value: Any, move: Any) -> Any:
    """A value whose paths, if it has any, are moved: seen from another folder."""
    if name not in BESIDE and OPTION_FIELDS[name].metadata["metavar"] not in (*PLACES, "NAME=TABLE"):
        return value
    if isinstance(value, list | tuple):
        return [_placed(name, each, move) for each in value]
    if name not in BESIDE and OPTION_FIELDS[name].metadata["kind"] == "named" and isinstance(value, str):
        named, _, place = value.partition("=")
        return f"{named}={move(place)}"
    return move(value) if isinstance(value, str) and value != PIPE else value


def read_recipe(path: str) -> dict[str, Any]:
    """The options in a TOML file as keywords of mine(), with `inputs` and `out`; its paths start from its folder.

    Raises
    ------
    InputError
        For a file that cannot be read, or is no TOML.
    UsageError
        For an unknown option; their values are checked as those of mine() are.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"--config {path}: {error.strerror}", "minestream mine --save-config FILE writes one"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"--config {path} is no TOML: {error}", "a line for each option, as: label = 'kind'"
        ) from error
    for name, value in values.items():
        try:
            _check(name, value)
        except UsageError as error:
            what, hint = error.args
            raise UsageError(f"--config {path}: {what}", hint) from error

    def from_here(place: str) -> str:
        return place if "://" in place else os.path.join(os.path.dirname(path), place)

    return {name: _placed(name, value, from_here) for name, value in values.items()}


def _check(name: str, value: Any) -> None:
    """Refuse a name that no option has, and a value that its option does not take."""
    if name not in (*BESIDE, *OPTION_FIELDS):
        raise unknown_option(name, value, [*BESIDE, *OPTION_FIELDS])
    texts = value if name == "inputs" and isinstance(value, list) else [value]
    if isinstance(value, dict) or (name in BESIDE and not all(isinstance(each, str) for each in texts)):
        raise UsageError(f"{name} cannot be {value!r}", "give a text, a number, true, or a list")
    if name not in BESIDE:
        check_value(OPTION_FIELDS[name], held(name, value))


def write_recipe(path: str, values: dict[str, Any]) -> None:
    """Write options, `inputs` and `out` as TOML; with `overwrite` among them a recipe edited by hand is replaced, too.

    Raises
    ------
    OutputError
        When a file of others or an edited recipe stands there, or the file cannot be written.
    """
    place = Path(path)
    if place.suffix != ".toml":
        raise UsageError(f"--save-config {path}: a recipe is a .toml file", f"--save-config {place.stem}.toml")
    split_options({name: value for name, value in values.items() if name not in BESIDE})
    folder = os.path.realpath(place.parent)

    def from_there(text: str) -> str:
        text = shown(text)
        return text if "://" in text or os.path.isabs(text) else os.path.relpath(text, folder)

    given = {name: value for name, value in values.items() if name not in OF_ONE_RUN and value is not None}
    kept = {name: _placed(name, value, from_there) for name, value in given.items()}
    # JSON's texts, numbers and lists are TOML's, but for one character.
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in kept.items()]
    body = "".join(lines).replace("\x7f", "\\u007f")
    head = f"# minestream {VERSION} {_digest(body)}: minestream mine --config {shlex.quote(place.name)}\n"
    try:
        _refuse_precious(place, replace_edited=bool(values.get("overwrite")))
        temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        temporary.write_text(head + body, encoding="utf-8")
        os.replace(temporary, place)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", "choose another --save-config") from error


def _digest(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def _refuse_precious(place: Path, replace_edited: bool) -> None:
    """Refuse to replace a file that was not written here, and one that was edited since, unless that is wanted."""
    if not place.exists():
        return
    text = place.read_bytes().decode(errors="replace")
    written = HEAD.match(text)
    if text and written is None:
        raise OutputError(f"{place} exists, and minestream did not write it", "choose another --save-config")
    if written and written[1] != _digest(text[written.end() :]) and not replace_edited:
        raise OutputError(
            f"{place} was edited since minestream wrote it", "--overwrite replaces it, or choose another --save-config"
        )


def _unrecorded(place: AnyPath, about: dict[str, Any]) -> InputError:
    """The error for what no recorded command made; `about` is its manifest, if any, else it may say who wrote it."""
    with suppress(InputError):
        about = about or mined_output(text_of(place)).about
    config = about.get("config", {})
    by = next((name for name, made in {
        "export": config.get("emit") in FORMATS, "refilter": RESCORING in about, "batch": "batches" in config,
    }.items() if made), "")  # fmt: skip
    if by:
        what = f"{place} was written by {by}, whose command is not recorded: repeat knows mine, merge and profile only"
        return InputError(what, f"repeat the mined file that it was made of, then {by} that again")
    return InputError(f"{place} has no manifest of a complete run", MINE_AGAIN if about else "mine it first")


def recorded_command(mined: str, new: str | None = None) -> tuple[list[str], str]:
    """The command that made an output, to be run again to where that is, or to `new`; and the folder it ran in.

    The words are those behind `minestream`, the last of them OUT.

    Raises
    ------
    InputError
        Where there is no manifest, or it records no command.
    """
    place = place_of(mined.removesuffix(MANIFEST))
    manifest = read_manifest(place.parent / f"{place.name}{MANIFEST}") or {}
    report = manifest.get("report") or read_json(place / PROFILE) or {}
    if not report or "batches" in manifest.get("config", {}):
        raise _unrecorded(place, manifest)
    command, folder = report.get("command"), report.get("folder")
    if not (isinstance(command, str) and isinstance(folder, str)):
        what = "it was mined by an older version, or from tables in memory"
        raise InputError(f"the manifest of {place} records no command: {what}", MINE_AGAIN)
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    barred = ("--config", "--save-config", "--overwrite", "--resume")
    if (
        words[:1] != ["minestream"]
        or words[1:2] not in (["mine"], ["merge"], ["select"], ["profile"])
        or words[-2] != "-o"
        or any(word.startswith(barred) for word in words)
    ):
        raise InputError(f"the manifest of {place} records a command that minestream does not write", MINE_AGAIN)
    if not os.path.isdir(folder):
        raise InputError(f"the run started in {folder}, which is no folder here", MINE_AGAIN)
    named_by_other = "slice" in manifest or manifest.get("config", {}).get("turned")
    out = new or ("" if named_by_other else mined.removesuffix(MANIFEST))
    same = os.path.realpath(os.path.join(folder, words[-1])) == os.path.realpath(out)
    if out and not same:  # a slice is named by the OUT that it is of, as is the second output of --both-directions
        here = "://" in out or os.path.realpath(folder) == os.path.realpath(os.curdir)
        words[-1] = out if here else os.path.abspath(out)
    return words[1:], folder
