"""The commands that learn and use a linear embedding: `fit` and `apply`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

import minestream
from minestream.cli.help import Command
from minestream.cli.mining import Heard
from minestream.cli.options import given_only, options_of, show_result
from minestream.cli.tables import sections
from minestream.config.commands import Applying, Fitting
from minestream.config.keywords import FitOptions
from minestream.config.option import flag_of
from minestream.system.paths import free_name
from minestream.system.progress import short_time
from minestream.system.values import Row, many

if TYPE_CHECKING:
    from minestream.learn.fitting import FitReport


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
    heard = Heard(options["progress"])
    report = minestream.fit(list(inputs), out, progress_callback=heard.listen, **given_only(options))
    vectors = options["vectors"] or inputs  # what apply reads
    again = ["minestream", "apply", report.path, *([vectors] if isinstance(vectors, str) else vectors)]
    again += ["-o", free_name("projected", ".parquet")]
    for name in ("embedding", "threads"):
        again += [flag_of(name), str(options[name])] if options[name] else []
    following = f"next: {shlex.join(again)}"
    if not options["dimension"] and report.epochs[report.best_epoch].recall_at_1 <= report.raw_recall_at_1:
        following = f"recall@1 is not above that of the rows as given: no reason to apply {report.path}"
    rows = report.held_out_rows + report.training_rows + report.dropped_rows
    show_result(
        report.to_dict(), as_json, lambda _: fit_text(report, heard, following, rows), sizes={"INPUT": {"rows": rows}}
    )


def fit_text(report: FitReport, heard: Heard, following: str, read: int) -> str:
    """What `fit` learned of so many rows `read`; the epochs that progress showed already are not repeated.

    `following` is the last line: what to do next.
    """
    best, start = report.epochs[report.best_epoch], report.epochs[0]
    names, more = ", ".join(report.held_out_examples), report.held_out_labels - len(report.held_out_examples)
    few = f", {report.training_anchors:,} of them as anchors: the labels of the others stand once"
    rows: list[Row] = [
        ("weights", f"of epoch {best.epoch} of {len(report.epochs) - 1}, {report.dimension} coordinates"),
        ("read", many(read, "row")),
        *(("left out", f"{many(count, 'row')}: {why}") for why, count in report.left_out.items()),
        ("trained on", many(report.training_rows, "row") + few * (report.training_anchors < report.training_rows)),
        ("held out", f"{many(report.held_out_rows, 'row')}, those of {many(report.held_out_labels, 'label')}: {names}"
            + (f" and {more:,} more" if more else "")),
        ("recall@1", f"{best.recall_at_1:.4f}: the share of held-out rows whose nearest one has their label"),
        ("", f"{start.recall_at_1:.4f} before training, {report.raw_recall_at_1:.4f} of the rows as given"),
        ("time", short_time(report.seconds)),
    ]  # fmt: skip
    notes = [*heard.rest_of(report.notes), following]
    if not best.epoch and report.raw_recall_at_1 < 1:
        notes.insert(0, "no epoch was better than the start: try a smaller --learning-rate or another --margin")
    epochs = heard.rest_of(epoch.line() for epoch in report.epochs)
    return "\n".join([*epochs, sections({f"wrote {report.path}": rows}, notes)])


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
    text = f"wrote {found['path']}: {many(found['rows'], 'row')} of {many(found['dimension'], 'coordinate')}"
    show_result(found, as_json, lambda _: text, sizes={"INPUT": {"rows": found["rows"]}})
