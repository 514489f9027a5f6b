"""Both sides of every comparison: the reference's rows and the fast path's, from the same options."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assertions import assert_same_rows
from worlds import World

from minestream import reference
from minestream.config.memory_plan import memory_plan
from minestream.config.metrics import METRICS
from minestream.config.mine_config import MineConfig
from minestream.config.resolve import split_options
from minestream.config.rules import BANDS, EMITS, PICKS, POSITIVE_RULES
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.load import load
from minestream.inputs.source import arrays_source
from minestream.inputs.tables import Sources
from minestream.mining.arrays import Mined, mine_arrays
from minestream.mining.driver import job_of
from minestream.search import rotation
from minestream.search.screens import usable_screens
from minestream.system.progress import reporter
from minestream.system.stats import ShardStats

SCREENS = ("scan", *reversed(usable_screens(8)))
REFERENCE_OPTIONS = frozenset(inspect.signature(reference.mine).parameters)
AXES: dict[str, tuple[str, ...]] = {
    "metric": tuple(METRICS),
    "band": tuple(BANDS),
    "pick": tuple(PICKS),
    "positives": tuple(POSITIVE_RULES),
    "emit": tuple(name for name in EMITS if name != "lists"),
}
CELLS: list[dict[str, str]] = [dict(zip(AXES, names, strict=True)) for names in itertools.product(*AXES.values())]


def allowed(cell: dict[str, str]) -> bool:
    """Whether a cell means something, said again from SEMANTICS 6 and not from the table under test."""
    if cell["pick"] == "simans" and cell["metric"] not in ("cosine", "dot"):
        return False
    if cell["emit"] != "pairs":
        return True
    return (
        cell["metric"] in ("cosine", "euclidean") and cell["band"] in ("violating", "any") and cell["pick"] == "nearest"
    )


def in_turns(**axes: Iterable[Any]) -> Any:
    """Parametrize by every combination of these values: half of them run each time, in turns, the others with -m slow.

    Of three or more axes each pair of values is in the first half.
    """
    ways = [list(zip(*way, strict=True)) for way in itertools.product(*map(enumerate, axes.values()))]
    rows = [pytest.param(*values, marks=[pytest.mark.slow] * (sum(places) % 2)) for places, values in ways]
    return pytest.mark.parametrize(tuple(axes), rows)


def cell_name(cell: dict[str, str]) -> str:
    """The cell as the name of a test."""
    return " ".join(cell.values())


# ---------------------------------------------------------------- the two sides


def reference_rules(config: MineConfig) -> dict[str, Any]:
    """The keywords of reference.mine that a resolved configuration means."""
    rules = {name: value for name, value in config.to_dict().items() if name in REFERENCE_OPTIONS}
    if config.anchors is not None and not config.anchors.endswith("%"):
        rules["anchors"] = int(config.anchors)
    if config.emit == "pairs":
        rules["short_rows"] = None
    return rules


def reference_mined(world: World, config: MineConfig, **only: Any) -> reference.Mined:
    """The reference's answer; `only` are keywords of reference.mine beside the configuration."""
    return reference.mine(
        world.embeddings, labels=world.labels, ids=world.ids, groups=world.groups, **reference_rules(config), **only
    )


def reference_rows(world: World, config: MineConfig, **only: Any) -> dict[str, list[Any]]:
    """The reference's columns."""
    return reference_mined(world, config, **only).columns


def mined(world: World, screen: str, **options: Any) -> Mined:
    """The fast path's answer by one screen."""
    return mine_arrays(
        world.embeddings, world.labels, ids=world.ids, groups=world.groups, screen=screen, **{"threads": 2, **options}
    )


def assert_sides_agree(world: World, screens: tuple[str, ...] = SCREENS, **options: Any) -> int:
    """Fail unless every screen gives the reference's rows and counts; returns how many rows that are."""
    config, *_ = split_options(options)
    expected = reference_mined(world, config)
    for screen in screens:
        try:
            found = mined(world, screen, **options)
            assert_same_rows(expected.columns, found.table())
            assert found.stats.answer() == expected.counts
        except Exception as error:
            error.add_note(f"screen={screen!r}, **{options!r}")
            raise
    return expected.counts["rows"]


# ---------------------------------------------------------------- options, drawn


def distance_sample(world: World, metric: str, normalize: bool = False) -> np.ndarray[Any, Any]:
    """Canonical distances from a few rows to all, by the reference, without those that are 0 or infinite."""
    n = len(world.labels)
    vectors = reference.Vectors(np.asarray(world.embeddings), metric, normalize, np.arange(n))
    with np.errstate(over="ignore"):
        found = np.concatenate([vectors.distances(row, np.arange(n)) for row in range(0, n, max(1, n // 8))])
    return np.sort(found[np.isfinite(found) & (found != 0)])


def drawn_options(world: World, cell: dict[str, str], rng: np.random.Generator) -> dict[str, Any]:
    """Everything a cell needs, and a handful of further options, each often left at its default.

    Margins and thresholds are quantiles of the world's own distances: bands are neither empty nor everything.
    """

    def one_of(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    metric, emit = cell["metric"], cell["emit"]
    directed = "cosine" in world.metrics
    options: dict[str, Any] = dict(cell)
    if metric != "cosine" and directed:
        options["normalize"] = cell["pick"] == "weighted" or one_of(False, False, True)
    spread = distance_sample(world, metric, options.get("normalize", False))
    absolute = np.sort(np.abs(spread)) if spread.size else np.ones(1)
    share = one_of(0.02, 0.1, 0.3, 0.6)
    options["margin"] = float(absolute[int(share * (absolute.size - 1))])
    options["negatives"] = one_of(1, 2, 5) if emit != "pairs" else one_of(0, 1, 3, 16)
    options["seed"] = one_of(0, 1, -5, 2**40)
    options["positives_per_anchor"] = one_of(1, 2, 3)
    options["float64"] = one_of(False, True)
    options["keep_duplicate_positives"] = one_of(False, False, True)
    within = one_of(0.0, 0.0, None, "T")
    if within == "T":
        within = 0.0 if metric == "dot" else float(absolute[int(one_of(0.001, 0.01, 0.05) * (absolute.size - 1))])
    options["drop_duplicates_within"] = within
    options["drop_duplicates_of"] = one_of("both", "both", "anchor") if emit == "pairs" else one_of(
        "both", "both", "anchor", "positive"
    )  # fmt: skip
    if world.groups is not None:
        options["group_rule"] = one_of("both", "positives", "negatives")
    options["unlabeled"] = one_of("ignore", "negative")
    options["order"] = one_of("anchor", "anchor", "shuffled")
    options["anchors"] = one_of(None, None, None, "7", "40%")
    options["anchors_per_label"] = one_of(None, None, None, 4)
    if emit != "pairs":
        options["skip"] = one_of(0, 0, 1, 4)
        options["short_rows"] = one_of(None, "keep", "drop")
        options["loss"] = one_of("triplet", "triplet-soft")
    if emit == "triplets":
        options["swap"] = one_of(False, False, True)
        options["negatives_per_anchor"] = one_of(None, None, 3)
    if emit == "tuples":
        options["scores"] = one_of("negative-distance", "none", *["similarity"] * (metric in ("cosine", "dot")))
    if emit == "pairs" and cell["band"] == "violating" and within and within >= options["margin"]:
        options["drop_duplicates_within"] = 0.0
    if metric in ("cosine", "dot") and spread.size:
        near, far = (float(spread[int(share * (spread.size - 1))]) for share in (one_of(0.02, 0.2), one_of(0.5, 0.9)))
        similar = [1 - x if metric == "cosine" else -x for x in (near, far)]
        options["max_positive_similarity"] = one_of(None, None, None, similar[0])
        options["min_positive_similarity"] = one_of(None, None, None, similar[1])
    if emit in ("triplets", "tuples"):
        options["max_positive_rank"] = one_of(None, None, None, 1, 3, 40)
        options["rank_positives"] = one_of(None, None, 1, 8)
    if cell["pick"] == "simans":
        options["within_top"] = options["skip"] + options["negatives"] + one_of(0, 4, 50)
        options |= {"simans_a": one_of(1.0, 40.0), "simans_b": one_of(0.0, 0.1), "draw_weights": one_of(False, True)}
    options["block_rows"] = one_of(None, max(1, len(world.labels) // 12), 37, 64)  # pairs of blocks are many
    options["threads"] = one_of(1, 2, 3)
    return options


def fits(world: World, cell: dict[str, str]) -> bool:
    """Whether a world has what a cell needs: directions, three coordinates, two labels, a positive."""
    unit = cell["metric"] == "cosine" or cell["pick"] == "weighted"
    if cell["pick"] == "simans" and cell["metric"] not in ("cosine", "dot"):
        return False
    if (unit and "cosine" not in world.metrics) or (cell["pick"] == "weighted" and world.embeddings.shape[1] < 3):
        return False
    labels = [tuple(label) if isinstance(label, list) else label for label in world.labels]
    return len(set(labels)) > 1 and (cell["emit"] == "pairs" or len(set(labels)) < len(labels))


# ---------------------------------------------------------------- sizes that no result depends on


def our_modules() -> list[Any]:
    """The modules of the package that are loaded."""
    return [module for name, module in sorted(sys.modules.items()) if name.startswith("minestream")]


def set_sizes(monkeypatch: pytest.MonkeyPatch, **sizes: int | float | tuple[int, int]) -> None:
    """Set constants of the package, wherever they are."""
    for name, value in sizes.items():
        having = [module for module in our_modules() if name in vars(module)]
        assert having, f"no module has {name}"
        for module in having:
            monkeypatch.setattr(module, name, value)


def written_sample(folder: Path) -> Path:
    """The sample of digits as a file in `folder`."""
    path = folder / "digits.parquet"
    path.write_bytes(files("minestream").joinpath("data", "digits.parquet").read_bytes())
    return path


def loaded_rows(vectors: np.ndarray[Any, Any], metric: str) -> Dataset:
    config, resources, _ = split_options({"metric": metric, "band": "any"})
    sources = Sources(arrays_source(vectors, np.arange(len(vectors)) % 2, metric=metric))
    with reporter("none", None) as progress:
        plan = memory_plan(2**30, job_of(sources, config, resources))
        return load(sources, config, plan, Path("."), progress, ShardStats())


@contextmanager
def always_turned(share: float = 0.125) -> Iterator[None]:
    """Axes for few rows of few coordinates, too, with so much of the squared length behind the prefix."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rotation, "DIMENSIONS", (5, 2_048))
        patch.setattr(rotation, "ROWS_OF_DIMENSION", 0)
        patch.setattr(rotation, "TAIL_SHARE", share)
        patch.setattr(rotation, "LONGEST_PREFIX", 0.99)
        yield
