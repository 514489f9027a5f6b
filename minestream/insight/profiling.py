"""`profile`: what an input holds, and which margin, labels and duplicates to look at."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream._version import VERSION
from minestream.config.border import public
from minestream.config.checks import check_distance
from minestream.config.command_line import command_line, line_after_profile, recorded
from minestream.config.commands import Profiling, check_own
from minestream.config.effects import idle
from minestream.config.keywords import ProfileOptions
from minestream.config.metrics import METRICS
from minestream.config.option import of_type
from minestream.config.resolve import asked_options
from minestream.errors import OutputError, UsageError
from minestream.inputs.given import given_tables
from minestream.inputs.tables import Sources
from minestream.insight import neighbors
from minestream.insight.counting import Counting, Ratio
from minestream.insight.describe import quantiles
from minestream.insight.folder import profile_folder, write_profile
from minestream.insight.levels import levels_of
from minestream.insight.pages import rows_shown
from minestream.insight.sight import label_names, sight_of
from minestream.mining.anchors import choose_anchors
from minestream.mining.driver import Driver
from minestream.outputs.run import default_output
from minestream.system.paths import free_name, place_of
from minestream.system.progress import Callback

EVERY_ROWS = 20_000  # with at most so many rows, every row is an anchor of the counts
DRAWN_ANCHORS = 5_000
RECALL_KS = (1, 5, 10)
SERVED = 0.95  # a margin is recommended when so many anchors have a semi-hard negative
COSINE_MARGINS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
MARGIN_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the typical distance of a nearest negative
LABELS_LISTED = 1_000


@public(ProfileOptions, refuses=True)
def profile(
    inputs: Any, out: str | os.PathLike[str] | None = None, *, margins: tuple[float, ...] | None = None,
    sample: int | None = None, full: bool = False, near: float | None = None, seed: int = 0, overwrite: bool = False,
    suspects_above: float | None = None, image: str | None = None, progress_callback: Callback | None = None,
    **options: Unpack[ProfileOptions],
) -> dict[str, Any]:  # fmt: skip
    """Report what an input holds: distances, margins, retrieval, hubs, doubtful labels, duplicates.

    Parameters
    ----------
    inputs : path, Arrow object, array, or list of them
        As for mine().
    out : path, optional
        Folder for profile.json, report.html, suspects.parquet and duplicates.parquet.
    margins : numbers above 0, optional
        The margins of the sweep, in units of the metric. Default: by the metric.
    sample : int, optional
        How many anchors, drawn by the seed, are compared with all rows for histograms, margins and MAP@R. Default:
        every row up to 20,000 rows, else 5,000. Figures from a sample have a 95 % interval beside them.
    full : bool
        Take every row as an anchor, whatever it costs.
    near : float, optional
        Distance up to which rows of different labels are near duplicates. Default: a tenth of the median distance
        of the nearest positive.
    seed : int
    overwrite : bool
        Replace the files of an earlier profile in `out`.
    suspects_above : float in [0, 1], optional
        List only rows with at least this suspicion, of which fewer may be wrong: see the page hygiene. Not for dot.
    image : str, optional
        Column of PNG or JPEG bytes, or of structs with them as `bytes`: report.html shows those of suspects and hubs.
    progress_callback : callable, optional
    **options
        As for mine(). Rows without a label are left out.

    Returns
    -------
    dict
        What profile.json holds as counters and as result, and `config`, `output`, `command`, `inputs`, `seconds`.

    Raises
    ------
    MinestreamError
        As mine().

    Notes
    -----
    Everything but histograms, margins and MAP@R is exact and covers all rows: neighbours come from the search that
    mines. Cost: two such searches, and A n d operations in float64 for A anchors.
    """
    given = _checked_margins(margins)
    check_own(Profiling, sample=sample, suspects_above=suspects_above)
    config, resources, tables = asked_options(options, band="any", margin=max(given or (1.0,)), seed=seed)
    check_distance("--near", near, config)
    if suspects_above is not None and config.metric == "dot":
        raise UsageError("--suspects-above is not for --metric dot", "dot has no distances to compare: use cosine")
    folder = None
    if out is not None:
        folder = profile_folder(place_of(out, OutputError), overwrite, given_tables(inputs, tables, resources))
    config = replace(config, emit="pairs")  # every labelled row takes part, whether it has a positive or not
    own: dict[str, Any] = {"margins": given, "sample": sample, "full": full, "near": near, "image": image}
    own["suspects_above"] = suspects_above
    again = command_line("profile", inputs, out, {**options, **own, "seed": seed or None, "progress": None})
    with Driver(config, resources, progress_callback) as driver:
        sources = driver.open(inputs, tables, "only")
        if image is not None:
            sources.anchors.has_pictures(image)
        made = _Profile(driver, sources, given, sample, full)
        found, files = made.result(near, suspects_above)
        if folder is not None:
            sight = sight_of(made.loaded, sources.anchors, rows_shown(found, files), made.names, image)
    found |= recorded(again) | {"inputs": list(driver.inputs(found["source"])), "options": own}
    found["stages"] = driver.progress.seconds
    found["seconds"] = round(time.perf_counter() - driver.began, 3)
    found["output"] = None if folder is None else str(folder)
    found["notes"] += _idle(
        found, out, overwrite=overwrite, carry=options.get("carry"), image=image, sample=sample, full=full,
        seed=seed or None,
    )  # fmt: skip
    if folder is not None:
        write_profile(folder, found, files, sight, again, next_command(found, inputs, options))
    return found


def next_command(found: Mapping[str, Any], inputs: Any, options: Mapping[str, Any]) -> str | None:
    """The command that mines what was profiled; it names an output where the one that mine would choose is there."""
    usual, out = default_output(inputs, "triplets"), None
    if os.path.lexists(usual):
        stem, margin = usual.name.removesuffix(".triplets.parquet"), found["recommended"]["margin"]
        out = free_name(f"{stem}.m{margin:.12g}", ".triplets.parquet")
    return line_after_profile(found, inputs, options, out)


def _idle(found: dict[str, Any], out: object, **asked: Any) -> list[str]:
    """A line for each option that had no effect."""
    few = found["rows"] <= min(EVERY_ROWS, asked["sample"] or EVERY_ROWS)
    return idle("profile", asked, out=out, full=asked["full"], every=found["counted"]["every_anchor"], few=few)


def _checked_margins(margins: Any) -> tuple[float, ...] | None:
    """The margins, sorted; a single number counts as one margin."""
    if margins is None:
        return None
    listed = margins if isinstance(margins, list | tuple) else [margins]
    margins = [of_type("--margin", "float", each) for each in listed]
    if not margins or not all(0 < margin < math.inf for margin in margins):
        raise UsageError("margins must be finite numbers above 0", "--margin 0.1,0.2,0.3")
    return tuple(sorted(set(map(float, margins))))


def _finite_quantiles(values: NDArray[np.float64]) -> dict[str, float] | None:
    """The quantiles of the finite values; None if there are none."""
    finite = values[np.isfinite(values)]
    return quantiles(finite) if finite.size else None


class _Profile:
    """A profile in the making; each part of the result is a method."""

    def __init__(
        self, driver: Driver, sources: Sources, margins: tuple[float, ...] | None, sample: int | None, full: bool
    ) -> None:
        self.sources, self.config = sources, driver.config
        self.loaded, searcher = driver.dataset(sources)
        self.names = label_names(self.loaded, sources.anchors)
        self.notes = driver.notes(sources, searcher)
        for note in self.notes:
            driver.progress.note(note)
        rows = self.loaded.store.rows
        driver.progress.stage("neighbours", rows, "rows")
        self.near = neighbors.nearest_of_both(searcher, driver.progress)
        self.margins = np.array(margins or self._default_margins())
        counting = Counting(searcher, driver.progress)
        self.positives, self.negatives = counting.relations()
        wanted = rows if full else min(rows, sample or (rows if rows <= EVERY_ROWS else DRAWN_ANCHORS))
        anchors = choose_anchors(self.loaded, replace(self.config, anchors=str(wanted)))
        self.anchors = anchors[np.argsort(self.loaded.rows.rank[anchors])]  # sums do not depend on the order of rows
        self.every_anchor = self.anchors.size == rows
        self.edges = counting.edges(self.anchors)
        driver.progress.stage("profile", self.anchors.size * rows, "pairs")
        self.sums = counting.sums(self.anchors, self.edges, self.margins)

    def result(self, within: float | None, suspects_above: float | None) -> tuple[dict[str, Any], dict[str, pa.Table]]:
        """The content of profile.json, and the tables of suspects and of duplicates."""
        loaded, near = self.loaded, self.near
        able = self.positives > 0
        vote = neighbors.votes(loaded, near)
        doubtful = neighbors.suspects(near, vote, loaded.rows.rank, self.config.metric)
        if within is None:
            within = neighbors.near_distance(near, self.config.metric != "dot")
        duplicates, duplicate_counts = neighbors.duplicates_table(loaded, near, within)
        pairs, other = int(self.positives.sum()) // 2, int(self.negatives.sum()) // 2
        margins = self._margins()
        found = {
            "version": VERSION,
            "config": {name: getattr(self.config, name) for name in ("metric", "normalize", "seed")},
            "columns": self.sources.columns_used(),
            "source": self._source(),
            "rows": loaded.store.rows,
            "labels": int(np.unique(loaded.rows.label).size),
            "positive_pairs": pairs,
            "negative_pairs": other,
            "negatives_per_positive": other / pairs if pairs else None,
            "rows_without_positive": int((~able).sum()),
            "counted": self._counted(),
            "histograms": self._histograms(),
            "nearest_positive": _finite_quantiles(near.positive.x[:, 0]),
            "nearest_negative": _finite_quantiles(near.negative.x[:, 0]),
            "recall_at": neighbors.recall_at(near, able, RECALL_KS),
            **_named("map_at_r", self.sums["precision"], 0),
            "triplets": int((self.positives * self.negatives).sum()),
            "margins": margins,
            "recommended": self._recommended(margins),
            "hubs": neighbors.hubs(loaded, near),
            "per_label": self._per_label(able),
            "levels": levels_of(loaded.labels, self.sources.columns.label),
            "norms": _finite_quantiles(np.sqrt(loaded.rows.square)),
            "zero_rows": int((loaded.rows.square == 0).sum()),
            "suspects": doubtful.facts(suspects_above),
            "duplicates": duplicate_counts,
            "notes": self.notes,
        }  # fmt: skip
        table = neighbors.suspects_table(loaded, near, vote, doubtful.above(suspects_above))
        return found, {"suspects": table, "duplicates": duplicates}

    def _source(self) -> dict[str, Any]:
        loaded, source = self.loaded, self.sources
        return {
            "rows": loaded.source_rows, "dimension": source.dimension, "dtype": str(source.dtype),
            "dropped": loaded.dropped, "rows_taking_part": loaded.store.rows, "identity": source.identity(),
        }  # fmt: skip

    def _default_margins(self) -> list[float]:
        if METRICS[self.config.metric].default_margin:
            return list(COSINE_MARGINS)
        positive_x, negative_x = self.near.positive.x[:, 0], self.near.negative.x[:, 0]
        far = np.abs(negative_x - positive_x) if self.config.metric == "dot" else negative_x
        far = far[np.isfinite(far) & (far > 0)]
        typical = float(np.median(far)) if far.size else 1.0
        return sorted({float(f"{step * typical:.2g}") for step in MARGIN_STEPS})

    def _counted(self) -> dict[str, Any]:
        anchors, rows = self.anchors.size, self.loaded.store.rows
        drawn = f"{anchors:,} of {rows:,} anchors, drawn by seed {self.config.seed}, against all rows: 95 % intervals"
        return {
            "anchors": anchors, "rows": rows, "every_anchor": self.every_anchor,
            "what": "histograms, overlap, map_at_r and margins",
            "how": f"every one of the {rows:,} anchors, against all rows: exact" if self.every_anchor else drawn,
        }  # fmt: skip

    def _histograms(self) -> dict[str, Any]:
        positive, negative = self.sums["positive_bins"], self.sums["negative_bins"]
        found: dict[str, Any] = {
            "edges": self.edges.tolist(),
            "bins": "edge <= distance < next edge; the first and the last hold what lies outside, too",
            "pairs": "unordered, all" if self.every_anchor else "ordered, of the anchors counted",
        }
        for name, ratio in (("positive", positive), ("negative", negative)):
            # Distances are symmetric: with every row as an anchor, each pair is counted twice.
            found[name] = (ratio.total // 2 if self.every_anchor else ratio.total).tolist()
            if not self.every_anchor:
                found[f"{name}_share"], found[f"{name}_share_95"] = _clean(ratio.shares()), _clean(ratio.half_widths())
        both = positive.units and negative.units
        found["overlap"] = float(np.minimum(positive.shares(), negative.shares()).sum()) if both else None
        return found

    def _margins(self) -> list[dict[str, Any]]:
        """An entry for each margin. Counts are of the anchors counted; shares are estimates for all anchors."""
        unit = _equivalents(self.config.metric, self.config.normalize)
        listed = []
        for k, margin in enumerate(self.margins.tolist()):
            entry = {"margin": margin, **{name: margin * factor for name, factor in unit.items()}}
            entry["hard"] = int(self.sums["hard"].total[0])
            entry |= {name: int(self.sums[name].total[k]) for name in ("semi_hard", "easy")}
            entry |= _named("hard_fraction", self.sums["hard"], 0)
            for name, ratio in (
                ("semi_hard_fraction", "semi_hard"), ("active_fraction", "active"), ("mean_loss", "loss"),
                ("active_pairs_fraction", "within"), ("served_fraction", "served"),
            ):  # fmt: skip
                entry |= _named(name, self.sums[ratio], k)
            active = int(self.sums["active"].total[k])
            entry["mean_active_loss"] = float(self.sums["loss"].total[k]) / active if active else None
            listed.append(entry)
        return listed

    def _recommended(self, margins: list[dict[str, Any]]) -> dict[str, Any]:
        """The smallest margin at which most anchors have a semi-hard negative."""
        served = [(entry["served_fraction"] or 0.0, entry) for entry in margins]
        enough = [entry for share, entry in served if share >= SERVED]
        best = enough[0] if enough else max(served, key=lambda each: each[0])[1]
        share, active = best["served_fraction"] or 0.0, best["active_fraction"] or 0.0
        some = f"{SERVED:.0%} of the anchors that have a positive"
        beside = "a semi-hard negative beside their nearest positive"
        least = f"the smallest listed margin at which at least {some} have {beside} ({share:.1%} have)"
        most = f"no listed margin gives {some} {beside}; at this one the most have it ({share:.1%})"
        return {
            "margin": best["margin"], "band": "semi-hard", "positives": "easiest",
            "reason": f"{least if enough else most}; of all triplets {active:.1%} are active at it",
        }  # fmt: skip

    def _per_label(self, able: NDArray[np.bool_]) -> dict[str, Any]:
        """Labels, the worst recall@1 first; of rows with several labels, each distinct list counts as a label."""
        code, near = self.loaded.rows.label, self.near
        size = int(code.max()) + 1
        rows, members = np.bincount(code, minlength=size), np.bincount(code[able], minlength=size)
        hits = np.bincount(code[able], weights=near.same[able, 0], minlength=size)
        far = np.bincount(code[able], weights=near.positive.x[able, 0], minlength=size)
        pairs = np.bincount(code, weights=self.positives, minlength=size).astype(np.int64) // 2
        first = np.full(size, -1, np.int64)
        first[code[::-1]] = np.arange(code.size)[::-1]
        known = np.flatnonzero(rows)
        recall = np.where(members[known] > 0, hits[known] / np.maximum(1, members[known]), 2.0)
        order = known[np.lexsort((first[known], -rows[known], recall))]
        values = self.loaded.labels.take(first[order[:LABELS_LISTED]]).to_pylist()
        listed = [
            {
                "label": value, **({"name": self.names[value]} if self.names and value in self.names else {}),
                "rows": int(rows[c]), "positive_pairs": int(pairs[c]),
                "recall_at_1": float(hits[c] / members[c]) if members[c] else None,
                "mean_nearest_positive": float(far[c] / members[c]) if members[c] else None,
            }
            for value, c in zip(values, order, strict=False)
        ]  # fmt: skip
        return {"labels": int(known.size), "listed": len(listed), "order": "recall_at_1 ascending", "table": listed}


def _clean(values: NDArray[np.float64]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _named(name: str, ratio: Ratio, place: int) -> dict[str, float | None]:
    """A share by name; beside it, from a sample, half the width of its 95 % interval."""
    found = {name: _clean(ratio.shares())[place]}
    sampled = ratio.anchors < ratio.population
    return found | ({f"{name}_95": _clean(ratio.half_widths())[place]} if sampled else {})


def _equivalents(metric: str, normalize: bool) -> dict[str, float]:
    """What a margin is multiplied by to give it in other units; nothing unless rows have unit length."""
    if metric == "cosine":
        return {"cosine": 1.0, "squared_euclidean_of_unit_rows": 2.0}
    if normalize and metric in ("sqeuclidean", "dot"):
        squared = metric == "sqeuclidean"
        return {"cosine": 0.5 if squared else 1.0, "squared_euclidean_of_unit_rows": 1.0 if squared else 2.0}
    return {}
