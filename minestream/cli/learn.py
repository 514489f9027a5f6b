"""The commands that learn and use a linear embedding: `fit` and `apply`."""

from __future__ import annotations

from typing import Any

import click

import minestream
from minestream.cli.help import Command
from minestream.cli.options import given_only, options_of, show_result
from minestream.config.commands import Applying, Fitting
from minestream.config.keywords import FitOptions


@click.command(cls=Command)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@options_of(Fitting, "seed", also=FitOptions)
def fit(inputs: tuple[str, ...], out: str, as_json: bool, **options: Any) -> None:
    """Learn a linear embedding of INPUT: mine triplets, train on them, mine again; held-out labels judge it.

    \b
    Example:
      minestream fit digits.parquet -o linear.npz
      minestream apply linear.npz digits.parquet -o projected.parquet
    """
    report = minestream.fit(list(inputs), out, **given_only(options))
    best, start = report.epochs[report.best_epoch], report.epochs[0]
    lines = [
        *(epoch.line() for epoch in report.epochs),
        f"wrote {report.path}: epoch {best.epoch} of {len(report.epochs) - 1}, {report.dimension} coordinates",
        f"recall@1, the share of rows whose nearest row has their label, on {report.held_out_rows:,} rows of "
        f"{report.held_out_labels} labels that it did not train on: {best.recall_at_1:.4f}; before training "
        f"{start.recall_at_1:.4f}, rows as given {report.raw_recall_at_1:.4f}",
        f"next: minestream apply {report.path} INPUT -o projected.parquet",
    ]
    if not best.epoch:
        lines.append("no epoch was better than the start: try a smaller --learning-rate or another --margin")
    show_result(report.to_dict(), as_json, lambda _: "\n".join([*lines, *report.notes]))


@click.command("apply", cls=Command)
@click.argument("model", metavar="MODEL")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@options_of(Applying, "embedding")
def apply_linear(model: str, inputs: tuple[str, ...], out: str, as_json: bool, **options: Any) -> None:
    """Write INPUT again with its embeddings projected by MODEL, which fit learned; other columns stay as they are.

    \b
    Example:
      minestream apply linear.npz digits.parquet -o projected.parquet
    """
    found = minestream.apply(model, list(inputs), out, **given_only(options))
    text = f"wrote {found['path']}: {found['rows']:,} rows of {found['dimension']} coordinates"
    show_result(found, as_json, lambda _: text)
