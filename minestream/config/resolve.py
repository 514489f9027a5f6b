"""From keywords to a checked configuration: unknown names, presets, defaults, combinations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, fields, replace
from typing import Any

from minestream.config.checks import BOTH, MACHINES, VALID, refuse
from minestream.config.effects import Asked, given_options, remarks
from minestream.config.metrics import METRICS
from minestream.config.mine_config import MineConfig
from minestream.config.names import FOREIGN_OPTIONS, refuse_gone, unknown_option
from minestream.config.option import check_value, flag_of, of_type
from minestream.config.parse import anchor_share, parse_memory, parse_named, parse_slice, parse_threshold, short_share
from minestream.config.resources import Resources, Tables
from minestream.config.rules import BAND_ALIASES, BANDS, EMITS, PRESETS
from minestream.errors import UsageError

OPTION_FIELDS: dict[str, Field[Any]] = {
    spec.name: spec
    for spec in (*fields(MineConfig), *fields(Tables), *fields(Resources))
    if spec.metadata["kind"] != "derived"
}
# What else the command line calls an option, with underscores.
ALIASES = {
    flag.lstrip("-").replace("-", "_"): spec.name for spec in OPTION_FIELDS.values() for flag in spec.metadata["flags"]
}
_TABLES = {"vectors", "labels", *(spec.name for spec in fields(Tables))}  # options that may be tables in memory, too
_OF_TABLES = (
    "embedding", "label", "id", "group_column", "version_column", "carry", "where", "anchor_where", "candidate_where",
    "vectors", "labels", "vector_type", "negatives_at",
    "embedding_table",
)  # fmt: skip
AS_ARRAYS = {"label": "labels", "id": "ids", "group_column": "groups"}
_OF_OUTPUTS = ("resume", "overwrite", "dry_run", "require_rows", "max_short", "require_recall")


def refuse_without_tables(options: Mapping[str, Any]) -> None:
    """Raise UsageError for options that would have no effect on arrays."""
    hints = dict.fromkeys(_OF_TABLES, "arrays have no columns: pass a table to mine() or mine_batches()")
    hints |= dict.fromkeys(_OF_OUTPUTS, "nothing is written: mine() takes it")
    given = given_options(options)
    for name, hint in hints.items():
        if name in given:
            array = "" if isinstance(options[name], str) else AS_ARRAYS.get(name)
            raise UsageError(f"{flag_of(name)} is not for arrays", f"pass them as {array}=" if array else hint)


def asked_options(
    options: Mapping[str, Any], *beside: str, function: str = "mine", **defaults: Any
) -> tuple[MineConfig, Resources, Tables]:  # fmt: skip
    """As split_options, of what a user gave: `remarks` of the Resources name the options that have no effect.

    beside : the options that given arrays stand for
    function : what they were given to
    defaults : what the command sets where the user does not
    """
    config, resources, tables = split_options({**defaults, **options}, function)
    names = given_options(options) | {*beside}
    return config, replace(resources, remarks=remarks(Asked(config, resources, names))), tables


def split_options(options: Mapping[str, Any], function: str = "mine") -> tuple[MineConfig, Resources, Tables]:
    """Keywords that a function was given as (resolved MineConfig, Resources, Tables).

    Raises
    ------
    UsageError
        For an unknown keyword or value, or a combination that means nothing.
    """
    refuse_gone("emit", options.get("emit"))  # before the text= that was given beside it
    for name in options:
        if name not in OPTION_FIELDS:
            ours = flag_of(ALIASES[name]) if name in ALIASES else FOREIGN_OPTIONS.get(f"{function} {name}", "")
            raise unknown_option(name, options[name], OPTION_FIELDS, ours)
    preset = options.get("preset")
    check_value(OPTION_FIELDS["preset"], preset)
    given = {**(PRESETS[preset].options if preset else {}), **options}
    given = {name: held(name, value) for name, value in given.items() if not _is_default(name, value)}

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
    config = resolved(MineConfig(**chosen(MineConfig) | tables.derived()))
    refuse(BOTH if resources.both_directions else (), config)
    return config, resources, tables


def resolved(config: MineConfig) -> MineConfig:
    """A configuration with every default filled in and every combination checked.

    Raises
    ------
    UsageError
        For an unknown name, a value out of range, or a combination VALID refuses.
    """
    config = replace(config, band=BAND_ALIASES.get(config.band or "", config.band))
    for spec in fields(config):
        check_value(spec, getattr(config, spec.name))
    emit, metric = EMITS[config.emit], METRICS[config.metric]
    band = config.band or ("any" if config.listed_positives and "any" in emit.bands else emit.bands[0])
    # With two tables there is a margin, and so a loss, only where the band needs one.
    margin = emit.losses and metric.default_margin and (not config.two_tables or BANDS[band].needs_margin)
    defaults: dict[str, Any] = {
        "negatives": emit.negatives,
        "band": band,
        "loss": emit.losses[0] if emit.losses else None,
        "short_rows": emit.short_rows,
        "margin": emit.cosine_margin if margin else None,
        "scores": emit.scores if metric.similarity or emit.scores == "none" else None,
        "positives": "all" if config.listed_positives and config.emit != "pairs" else "easiest",
        "drop_duplicates_of": "positive" if config.two_tables else "both",
        "group_rule": "negatives" if config.listed_positives else "both",
    }
    config = replace(config, **{name: value for name, value in defaults.items() if getattr(config, name) is None})
    anchor_share(config.anchors, 1)
    refuse(VALID, config)
    return config


def _is_default(name: str, value: object) -> bool:
    """Whether None stands for the default of an option; as a threshold it means that there is none."""
    spec = OPTION_FIELDS[name]
    return value is None and spec.default is not None and spec.metadata["kind"] != "threshold"


def held(name: str, value: Any) -> Any:
    """A value as the field of its option holds it."""
    spec = OPTION_FIELDS[name]
    kind, several = spec.metadata["kind"], list(value) if isinstance(value, list | tuple) else [value]
    if name == "carry" or (kind == "columns" and len(several) != 1):
        if not all(isinstance(each, str) for each in several):
            raise UsageError(f"{flag_of(name)} takes names of columns, not a {type(value).__name__}")
        return tuple(several) if several or name == "carry" else None
    value = several[0] if kind == "columns" else value
    if name == "label" and isinstance(value, list | tuple):
        if not all(isinstance(each, str) and "," not in each for each in several):
            raise UsageError("--label takes the names of the levels, without commas", "rename the columns, or name one")
        return ",".join(several) or None
    if name == "vectors" and not all(isinstance(each, str | os.PathLike | None) for each in several):
        what = f"--vectors takes paths of .npy files, not a {type(value).__name__}"
        raise UsageError(what, "numpy.save('vectors.npy', array) writes one")
    if kind == "named" and value is not None:
        return parse_named(flag_of(name), value)
    if value is None or kind == "choice" or name in _TABLES:
        return value
    if kind == "threshold" and isinstance(value, str):
        return parse_threshold(value)
    if kind in ("share", "size") or name == "unlabeled_value":
        value = str(value)
    annotation = "str | None" if kind == "columns" else str(spec.type)
    return of_type(flag_of(name), annotation, value, spec.metadata["within"].hint)
