"""From keywords to a checked configuration: unknown names, presets, defaults, combinations."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import Field, fields, replace
from typing import Any

from minestream.config.checks import MACHINES, refuse
from minestream.config.effects import Asked, given_options, remarks
from minestream.config.gone import GONE
from minestream.config.mine_config import _AS_ARRAYS, _TABLES, MineConfig, _listed, _says_nothing
from minestream.config.option import FOREIGN_OPTIONS, check_value, long_flag, of_type
from minestream.config.parse import parse_memory, parse_slice, parse_threshold, short_share
from minestream.config.resources import Resources, Tables
from minestream.config.rules import PRESETS
from minestream.errors import UsageError, nearest_name

OPTION_FIELDS: dict[str, Field[Any]] = {
    spec.name: spec
    for spec in (*fields(MineConfig), *fields(Tables), *fields(Resources))
    if spec.metadata["kind"] != "derived"
}


def flag_of(name: str) -> str:
    """The long command-line option of a field."""
    return long_flag(OPTION_FIELDS[name])


_OF_TABLES = (
    "embedding", "label", "id", "group_column", "version_column", "carry", "where", "anchor_where", "candidate_where",
    "vectors",
)  # fmt: skip
_OF_OUTPUTS = ("resume", "overwrite", "dry_run", "require_rows", "max_short")


def refuse_without_tables(options: Mapping[str, Any]) -> None:
    """Raise UsageError for options that would have no effect on arrays."""
    hints = dict.fromkeys(_OF_TABLES, "arrays have no columns: pass a table to mine() or mine_batches()")
    hints |= dict.fromkeys(_OF_OUTPUTS, "nothing is written: mine() takes it")
    for name in hints.keys() & given_options(options):
        ours = _AS_ARRAYS.get(name)
        hint = f"pass them as {ours}=" if ours and not isinstance(options[name], str) else hints[name]
        raise UsageError(f"{flag_of(name)} is not for arrays", hint)


def unknown_option(name: str, value: object = None) -> UsageError:
    """The error for a name that is no option, answering other tools' names and former ones with ours."""
    plain = name.lstrip("-").replace("-", "_")
    if plain in GONE:
        return UsageError(f"there is no option {name!r} any more", GONE[plain])
    if plain in FOREIGN_OPTIONS:
        ours = FOREIGN_OPTIONS[plain]
        if isinstance(value, str | int | float) and re.fullmatch(r"--[a-z-]+( \(-k\))?", ours):
            ours = f"{ours.removesuffix(' (-k)')} {value!r}"
        return UsageError(f"no option {name!r}", f"here that is {ours}")
    return UsageError(f"no option {name!r}", nearest_name(plain, list(OPTION_FIELDS)))


def asked_options(options: Mapping[str, Any], *beside: str, **own: Any) -> tuple[MineConfig, Resources, Tables]:
    """As split_options, of what a user gave: options that have no effect are said in `remarks` of the Resources.

    beside : what arrays stand for, by option
    own : what a command sets itself
    """
    config, resources, tables = split_options({**own, **options})
    names = given_options(options) | {*beside}
    return config, replace(resources, remarks=remarks(Asked(config, resources, names), flag_of)), tables


def split_options(options: Mapping[str, Any]) -> tuple[MineConfig, Resources, Tables]:
    """Keywords as (resolved MineConfig, Resources, Tables).

    Raises
    ------
    UsageError
        For an unknown keyword or value, or a combination that means nothing.
    """
    for name in options:
        if name not in OPTION_FIELDS:
            raise unknown_option(name, options[name])
    preset = options.get("preset")
    check_value(OPTION_FIELDS["preset"], preset)
    given = {**(PRESETS[preset].options if preset else {}), **options}
    given["carry"] = () if given.get("carry") is None else tuple(_listed(given["carry"]))
    if not all(isinstance(name, str) for name in given["carry"]):
        raise UsageError(f"--carry takes names of columns, not a {type(options['carry']).__name__}")
    vectors = given.get("vectors")
    if not all(isinstance(each, str | os.PathLike | None) for each in _listed(vectors)):
        what = f"--vectors takes paths of .npy files, not a {type(vectors).__name__}"
        raise UsageError(what, "for arrays: minestream.mine_arrays(embeddings, labels)")
    for name in ("anchors", "unlabeled_value", "memory", "max_short"):
        if given.get(name) is not None:
            given[name] = str(given[name])
    if isinstance(given.get("drop_duplicates_within"), str):
        given["drop_duplicates_within"] = parse_threshold(given["drop_duplicates_within"])
    given = {name: value for name, value in given.items() if not _says_nothing(OPTION_FIELDS[name], value)}
    for name, spec in ((name, OPTION_FIELDS[name]) for name in given.keys() - _TABLES):
        if spec.metadata["kind"] != "choice" and given[name] is not None:
            given[name] = of_type(flag_of(name), str(spec.type), given[name])

    def chosen(kind: type[Any]) -> dict[str, Any]:
        return {spec.name: given[spec.name] for spec in fields(kind) if spec.name in given}

    resources, tables = Resources(**chosen(Resources)), Tables(**chosen(Tables))
    for spec in fields(resources):
        check_value(spec, getattr(resources, spec.name))
    parse_memory(resources.memory)
    short_share(resources.max_short)
    if resources.shard is not None:
        parse_slice(resources.shard)
    refuse(MACHINES, resources)
    return MineConfig(**chosen(MineConfig) | tables.derived()).resolved(), resources, tables
