"""Plots of a profile as files, by matplotlib: the extra `report`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minestream.errors import OutputError, UsageError
from minestream.foreign import WRITER, is_ours

SUFFIXES = (".png", ".svg")
CURVES = ("active_fraction", "semi_hard_fraction", "served_fraction", "active_pairs_fraction")


def plot_paths(folder: str | Path) -> list[Path]:
    """The files of the plots; OutputError when one of another program has such a name."""
    paths = [Path(folder) / f"{name}{suffix}" for name in ("distances", "margins") for suffix in SUFFIXES]
    for path in paths:
        if path.exists() and not is_ours(path):
            raise OutputError(f"{path} exists, and minestream did not write it", "choose another folder for --plots")
    return paths


def write_plots(found: Mapping[str, Any], folder: str | Path) -> list[str]:
    """Write distances and margins of a profile as PNG and SVG into a folder, which is made; returns their paths.

    Raises
    ------
    UsageError
        Without matplotlib.
    OutputError
        When the folder cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("plots need matplotlib", "pip install 'minestream[report]'") from None
    histograms, margins = found["histograms"], found["margins"]
    distances, sweep = Figure(figsize=(7, 3), layout="constrained"), Figure(figsize=(7, 3), layout="constrained")
    axes = distances.subplots()
    for kind in ("positive", "negative"):
        total = max(1, sum(histograms[kind]))
        axes.stairs(
            [count / total for count in histograms[kind]], histograms["edges"], fill=True, alpha=0.5, label=kind
        )
    axes.set(xlabel=f"{found['config']['metric']} distance", ylabel="share of the pairs")
    axes.legend()
    axes = sweep.subplots()
    for name in CURVES:
        at = [entry["margin"] for entry in margins]
        axes.plot(at, [entry[name] for entry in margins], "o-", label=name.replace("_", " "))
    axes.set(xlabel="margin", ylim=(0, 1.02))
    axes.legend()
    paths = plot_paths(folder)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path in paths:
            told = {".png": "Software", ".svg": "Creator"}[path.suffix]
            (distances if path.stem == "distances" else sweep).savefig(path, metadata={told: WRITER})
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}", "choose another folder") from error
    return [str(path) for path in paths]
