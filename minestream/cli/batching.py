"""The command `batch`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

import minestream
from minestream.cli.help import Command
from minestream.cli.options import given_only, options_of, show_result
from minestream.cli.tables import sections
from minestream.config.batching import METHODS, Batching
from minestream.config.keywords import ComposeOptions
from minestream.system.values import Row, many


@click.command(cls=Command)
@click.argument("inputs", metavar="INPUT")
@options_of(Batching, "seed", also=ComposeOptions)
def batch(inputs: str, out: str, as_json: bool, **options: Any) -> None:
    """Compose training batches of the pairs of INPUT: mined triplets or tuples, or a table with labels or qrels.

    Pairs that are near each other meet, so that the negatives of a batch are hard; false negatives do not meet.

    \b
    Example:
      minestream batch digits.triplets.parquet -o batches.parquet --batch-size 10
      minestream batch docs.tuples.parquet -o batches.parquet --epochs 3 --mask
      minestream batch digits.parquet --pairs-from labels -o batches.parquet --batch-size 8
    """
    found = minestream.batch(inputs, out, **given_only(options))
    sizes = {"INPUT": {"rows": found["pairs"]}} if found["options"]["pairs_from"] == "mined" else {}
    show_result(found, as_json, batch_text, sizes=sizes)


def batch_text(found: Mapping[str, Any]) -> str:
    """What `batch` composed, what it left out, and how near the negatives are."""
    config, batches, hardness = found["options"], found["batches"], found["hardness"]
    of_epochs, in_all = (
        (f" in each of {len(batches)} epochs", f" in {len(batches)} epochs") if len(batches) > 1 else ("", "")
    )
    most = "up to " * config["keep_last"]
    counts = f"{min(batches):,}" if min(batches) == max(batches) else f"{min(batches):,} to {max(batches):,}"
    rows: list[Row] = [
        ("batches", f"{counts}{of_epochs}, of {most}{many(config['batch_size'], 'pair')}"),
        ("pairs", f"{found['pairs']:,} of {found['mined']}"),
        ("method", f"{config['method']}: {METHODS[config['method']]}"),
    ]
    if config["stratify"]:
        rows.append(("strata", f"{found['strata']:,} by {config['stratify']}: each batch is of one"))
    rows += [("left out", f"{many(count, 'pair')}{in_all}: {why}") for why, count in found["left_out"].items()]
    if hardness["similarity_ratio"] is not None:
        similar, random = (1 - hardness[name] for name in ("nearest_distance", "of_random"))
        rows.append(("nearest", f"the nearest negative in its batch is {similar:.3f} similar to an anchor on average,"))
        rows.append(("", f"{hardness['similarity_ratio']:.2f} times as much as in random batches ({random:.3f})"))
    elif hardness["nearest_distance"] is not None:
        random = hardness["of_random"]
        beside = "no random batch was as full" if random is None else f"in random batches {random:.4g}"
        rows.append(("nearest", f"the nearest negative in its batch is {hardness['nearest_distance']:.4g} from an "
            f"anchor on average; {beside}"))  # fmt: skip
    return sections({f"wrote {found['output']}": rows}, found["notes"])
