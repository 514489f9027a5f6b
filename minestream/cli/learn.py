"""The commands that learn and use a linear embedding: `fit` and `apply`."""

from __future__ import annotations

from typing import Any

import click

from minestream.cli.options import Command, given_only, json_option, options_of_mine, show_result

# Options of mine that fit takes, as the table has them.
SHARED = (
    "embedding", "label", "id", "on_bad_rows", "metric", "band", "negatives", "pick", "positives",
    "positives_per_anchor", "normalize", "seed", "memory", "threads", "overwrite", "progress",
)  # fmt: skip


@click.command(cls=Command, short_help="Learn a linear embedding on mined triplets.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--out", required=True, metavar="OUT", help="The .npz file to write.")
@click.option(
    "--dimension", type=click.INT, metavar="E", help="Coordinates of the result. Default: as many as INPUT's."
)
@click.option("--center", is_flag=True, help="Take the mean of the training rows off first.")
@click.option("--epochs", type=click.INT, metavar="N", help="Most epochs. Default: 20.")
@click.option(
    "--patience", type=click.INT, metavar="N", help="Epochs without a better one before it stops. Default: 5."
)
@click.option("--optimizer", metavar="NAME", help="One of adam, sgd. Default: adam.")
@click.option("--learning-rate", type=click.FLOAT, metavar="R", help="Default: 0.001.")
@click.option("--step-rows", type=click.INT, metavar="N", help="Triplets of a step. Default: 512.")
@click.option("--validation", type=click.FLOAT, metavar="SHARE", help="Share of the labels held out. Default: 0.2.")
@click.option("--margin", type=click.FLOAT, metavar="M", help="As in mine, one. Default for cosine: 0.2.")
@options_of_mine(*SHARED)
@json_option
def fit(inputs: tuple[str, ...], out: str, as_json: bool, **options: Any) -> None:
    """Learn a linear embedding of INPUT by triplet loss: mine, step, mine again, and judge it on labels held out.

    \b
    Example:
      minestream fit digits.parquet -o linear.npz
      minestream apply linear.npz digits.parquet -o projected.parquet
    """
    from minestream.learn.fitting import fit as learn
    from minestream.learn.trainer import told

    report = learn(list(inputs), out, **given_only(options))
    best, start = report.epochs[report.best_epoch], report.epochs[0]
    lines = [
        *(told(epoch) for epoch in report.epochs),
        f"wrote {report.path}: epoch {best.epoch}, {report.dimension} coordinates; recall@1 of "
        f"{report.held_out_rows:,} rows of {report.held_out_labels} labels held out: {best.recall_at_1:.4f}, raw "
        f"{report.raw_recall_at_1:.4f}, before the first epoch {start.recall_at_1:.4f}",
    ]
    show_result(report.to_dict(), as_json, "\n".join, [*lines, *report.notes])


@click.command("apply", cls=Command, short_help="Project a table with a linear embedding.")
@click.argument("model", metavar="MODEL")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--out", required=True, metavar="OUT", help="The .parquet file to write.")
@click.option("--embedding", metavar="COL", help="Column of the embeddings. Default: found by name, else by type.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads. Default: 1.")
@click.option("--overwrite", is_flag=True, help="Replace OUT when it exists.")
@json_option
def apply_linear(model: str, inputs: tuple[str, ...], out: str, as_json: bool, **options: Any) -> None:
    """Write INPUT again with its embeddings projected by MODEL, which fit learned; other columns stay as they are.

    \b
    Example:
      minestream apply linear.npz digits.parquet -o projected.parquet
    """
    from minestream.learn.linear import apply

    found = apply(model, list(inputs), out, **{name: value for name, value in options.items() if value})
    text = f"wrote {found['path']}: {found['rows']:,} rows of {found['dimension']} coordinates"
    show_result(found, as_json, str, text)
