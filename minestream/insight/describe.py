"""`describe`: what a mined file or folder holds, from its metadata and from its rows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream.config.border import public
from minestream.errors import InputError
from minestream.outputs.mined import RESCORING, MinedOutput, file_metadata, mined_output, open_parquet, reading
from minestream.system.paths import readable
from minestream.system.stats import mean

QUANTILES = {
    "min": 0.0, "1%": 0.01, "5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "99%": 0.99, "max": 1.0,
}  # fmt: skip
SAMPLED_VALUES = 1_000_000  # quantiles of a column with more values are of a random sample, half as large or larger
MEASURED = (
    "distance_ap", "distance_an", "distance_pn", "distance", "score_ap", "score_an", "score", "scores", "loss",
    "losses",
)  # fmt: skip


@public()
def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Report what a mined file or folder holds.

    Parameters
    ----------
    path : path
        The output, or its manifest.

    Returns
    -------
    dict
        Ready for JSON. rescoring: the table and rule by which refilter chose the rows. Means are over all rows and
        over active rows (of tuples: over negatives), by fsum for each row group, then over the groups. Quantiles are
        exact up to 1,000,000 values of a column, else those of a random sample: `quantiles_of` says which. min and max
        are always exact.

    Raises
    ------
    InputError
        When there is no mined output, or its files cannot be read.
    """
    mined = mined_output(path)
    footers = [(file_metadata(file), pq.read_metadata(readable(file))) for file in mined.files]
    counts = [about["counts"] for about, _ in footers]
    found = {
        "output": str(mined.path),
        "version": mined.about["version"],
        "files": len(mined.files),
        "bytes": sum(file.stat().st_size for file in mined.files),
        "rows": sum(footer.num_rows for _, footer in footers),
        "labels": mined.about["labels"],
        "loss": mined.about["loss"],
        **({"rescoring": mined.about[RESCORING]} if RESCORING in mined.about else {}),
        **measured(mined, footers[0][1].schema.to_arrow_schema().names),
        "counts": {name: sum(count.get(name, 0) for count in counts) for name in counts[0]},
        **{name: mined.about[name] for name in ("columns", "source", "config")},
    }
    if mined.manifest:
        found |= {"counts": dict(mined.manifest["counts"]), "report": mined.manifest.get("report", {})}
        similar = found["report"].get("stats", {}).get("similar_pairs")
        if mined.about["config"]["emit"] == "pairs" and similar is not None:
            found["counts"]["similar_pairs"] = similar
    return found


class Spread:
    """The extremes of a column, and its values: all of them, or a random sample when they are too many."""

    def __init__(self) -> None:
        self.share = 1.0
        self._rng = np.random.default_rng(0)
        self._kept: list[NDArray[Any]] = []
        self._low, self._high = math.inf, -math.inf

    def add(self, values: NDArray[Any]) -> None:
        """Add values; the footers that say how many will come may be damaged, so the sample is halved as it fills."""
        if not len(values):
            return
        self._low, self._high = min(self._low, values.min().item()), max(self._high, values.max().item())
        self._kept.append(values[self._rng.random(len(values)) < self.share])
        while sum(map(len, self._kept)) > SAMPLED_VALUES:
            self.share /= 2
            self._kept = [kept[self._rng.random(len(kept)) < 0.5] for kept in self._kept]

    def quantiles(self) -> dict[str, float]:
        """The quantiles of the values added, by name; empty when there are none."""
        return quantiles(np.concatenate(self._kept)) | {"min": self._low, "max": self._high} if self._kept else {}


def quantiles(values: NDArray[Any], shares: Mapping[str, float] = QUANTILES) -> dict[str, float]:
    """The quantiles of values, by name; each is one of the values."""
    return dict(zip(shares, np.quantile(values, [*shares.values()], method="inverted_cdf").tolist(), strict=True))


def measured(mined: MinedOutput, names: list[str]) -> dict[str, Any]:
    """Mean losses, active rows and quantiles, from one pass over the row groups."""
    config, spreads = mined.about["config"], {name: Spread() for name in MEASURED if name in names}
    knows_active = config["loss"] != "triplet-soft" or "distance_an" in spreads  # soft tuples hold no distances
    sums: list[tuple[float, float]] = []
    active_rows = losses = 0
    for group in row_groups(mined, list(spreads)):
        values = {name: flat(group.column(name)) for name in spreads}
        for name, spread in spreads.items():
            spread.add(values[name])
        loss = values.get("loss", values.get("losses"))
        if loss is not None:
            active = loss[active_mask(values, loss, config)] if knows_active else loss[:0]
            sums.append((math.fsum(loss.tolist()), math.fsum(active.tolist())))
            active_rows, losses = active_rows + len(active), losses + len(loss)
    found: dict[str, Any] = {}
    if sums:
        total, active_total = (math.fsum(column) for column in zip(*sums, strict=True))
        found["mean_loss"] = mean(total, losses)
        found["mean_active_loss"] = mean(active_total, active_rows)
        found["active_rows"] = active_rows if knows_active else None
        found["active_fraction"] = mean(active_rows, losses) if knows_active else None
    exact = all(spread.share == 1.0 for spread in spreads.values())
    found["quantiles_of"] = "every value" if exact else f"a random sample of at most {SAMPLED_VALUES:,} values"
    found["quantiles"] = {name: spread.quantiles() for name, spread in spreads.items()}
    return found


def row_groups(mined: MinedOutput, names: list[str]) -> Iterator[pa.Table]:
    """Every row group, with the columns `names`."""
    for path in mined.files if names else ():
        with reading(path, InputError), open_parquet(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=names, use_threads=False)


def flat(column: pa.ChunkedArray) -> NDArray[Any]:
    """The numbers of a column, lists flattened, without nulls."""
    array = column.combine_chunks()
    values: NDArray[Any] = (array.flatten() if pa.types.is_list(array.type) else array).drop_null().to_numpy()
    return values


def active_mask(values: dict[str, NDArray[Any]], loss: NDArray[Any], config: dict[str, Any]) -> NDArray[np.bool_]:
    """Which losses belong to active rows: by the loss itself where that decides it, else by the stored distances."""
    if config["loss"] != "triplet-soft" and not config.get("swap"):
        return np.asarray(loss > 0)
    return np.asarray(values["distance_an"] < values["distance_ap"].astype(np.float64) + config["margin"])
