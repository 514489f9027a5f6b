"""What is asked of lists: the options that they were mined with, those that are given, and what they cannot decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from minestream.config.checks import BY_SCORES, OF_LISTS, refuse
from minestream.config.derived import ranks_listed, ranks_read, reserve
from minestream.config.effects import Asked, given_options, remarks
from minestream.config.metrics import METRICS
from minestream.config.mine_config import MineConfig
from minestream.config.option import flag_of
from minestream.config.resolve import OPTION_FIELDS, split_options
from minestream.config.resources import Resources, Tables
from minestream.config.rules import BANDS, NEVER_EDGE, PRESETS
from minestream.errors import InputError, UsageError
from minestream.inputs.given import ROLES
from minestream.mining.select.scored import AskedScores
from minestream.outputs.manifest import config_of
from minestream.outputs.mined import MinedOutput
from minestream.system.paths import AnyPath

# Options that decide what stands in the lists, or what their rows mean.
FIXED = {
    *(spec.name for spec in fields(MineConfig) if spec.metadata["group"] in ("Input", "Retrieval")),
    "metric", "normalize", "drop_duplicates_within", "drop_duplicates_of", "group_rule", "negatives_at",
} - {"carry"}  # fmt: skip
DRAWN = ("anchors", "anchors_per_label")  # of the lists, unless they have all anchors


class Selected(NamedTuple):
    """What is selected.

    The lists and how they were mined, the rule, the means, what becomes of undecided pairs; other scores, verdicts, and
    what the rows get when all are there.
    """

    mined: MinedOutput
    was: MineConfig
    config: MineConfig
    resources: Resources
    undecided: str
    scores: AskedScores | None
    verdicts: Any
    finish: Callable[[Sequence[Path]], Iterator[pa.Table]] | None


def resolved_rule(
    mined: MinedOutput, options: Mapping[str, Any], tables: Tables, scores: AskedScores | None
) -> tuple[MineConfig, MineConfig, Resources]:  # fmt: skip
    """How the lists were mined, the rule with every default filled in, and the means; refuses what no list can say."""
    was = config_of(mined.about["config"], mined.path, InputError)
    if was.emit != "lists":
        raise UsageError(
            f"{mined.path} holds {was.emit}, and select reads lists",
            "mine with --emit lists; with --scores triplets and tuples are filtered again",
        )
    given = {name: value for name, value in options.items() if value is not None}
    preset = PRESETS[given["preset"]].options if given.get("preset") in PRESETS else {}
    for name, value in preset.items():
        if name in FIXED and value != getattr(was, name):
            what = f"--preset {given['preset']} means {flag_of(name)} {value}, and the lists were mined otherwise"
            raise UsageError(what, f"mine the lists with {flag_of(name)} {value}")
    theirs = {name: getattr(was, name) for name in FIXED if OPTION_FIELDS.get(name) is not None}
    theirs |= {name: getattr(was, name) for name in DRAWN if getattr(was, name) is not None}
    kept = {name: getattr(tables, name) for name in ROLES}
    if scores is not None:  # bands that measure a distance mean nothing to scores, which are similarities
        given = {"band": preset.get("band", "any"), **given}
        theirs |= {} if METRICS[was.metric].similarity else {"metric": "dot", "drop_duplicates_within": None}
    config, resources, _ = split_options({**theirs, **given, **kept}, "select")
    config = replace(config, metric=was.metric, drop_duplicates_within=was.drop_duplicates_within)
    resources = replace(resources, remarks=remarks(Asked(config, resources, given_options(given))))
    refuse(OF_LISTS, config)
    if scores is not None:
        refuse(BY_SCORES, config)
    _refuse_undecidable(mined.path, was, config)
    return was, config, resources


def _refuse_undecidable(place: AnyPath, was: MineConfig, config: MineConfig) -> None:
    """Raise UsageError for a rule that these lists decide for no pair."""
    if was.positives != "all":
        _refuse_other_positives(place, was, config)
    if (ranks := ranks_listed(config)) > was.negatives:
        raise UsageError(f"{place} lists {was.negatives:,} candidates: ranks to {ranks:,} cannot be told", "lower it")
    reached = ranks_read(config) or reserve(config) + config.skip
    endless = BANDS[config.band].high == NEVER_EDGE and config.min_similarity is None
    if endless and reached > was.negatives:
        what = f"{place} lists {was.negatives:,} candidates, and the rule reads {reached:,} of each pair's negatives"
        raise UsageError(what, "mine longer lists (-k), or ask for less: -k, --skip, --within-top, --max-uses")
    drawn = [name for name in DRAWN if getattr(was, name) is not None]
    for name in drawn:
        if getattr(config, name) != getattr(was, name):
            what = f"the lists are of {flag_of(name)} {getattr(was, name)}"
            raise UsageError(what, "leave the option out, or mine lists for all anchors")
    if config.seed != was.seed and (drawn or was.positives == "random"):
        raise UsageError(f"the lists were drawn by --seed {was.seed}", "leave --seed out, or mine the lists by it")


def _refuse_other_positives(place: AnyPath, was: MineConfig, config: MineConfig) -> None:
    """Raise UsageError where lists that do not hold all positives lack those that the rule reads."""
    asked = {
        f"positives {config.positives}": config.positives != was.positives,
        "the reference of all positives": config.reference != "pair",
        "which ones deserve it": config.deserving,
    }
    for what, applies in asked.items():
        if applies:
            held = f"{place} lists {was.positives} positives, {was.positives_per_anchor:,} an anchor"
            raise UsageError(f"{held}: {what} cannot be told", "mine the lists with --positives all")
    if config.positives_per_anchor > was.positives_per_anchor:
        what = f"{place} lists {was.positives_per_anchor:,} positives an anchor, not {config.positives_per_anchor:,}"
        raise UsageError(what, f"mine the lists with --positives-per-anchor {config.positives_per_anchor} or more")
