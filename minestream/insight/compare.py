"""What two tables share, for example training and validation: labels, ids, near duplicates."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.config.border import public
from minestream.config.checks import check_distance
from minestream.config.effects import idle, lacking
from minestream.config.keywords import CompareOptions
from minestream.config.resolve import asked_options
from minestream.config.resources import Tables
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.labels import NO_CODES, NO_ROWS, UNLABELED
from minestream.inputs.dataset.vectors import Store
from minestream.inputs.given import Given
from minestream.insight.describe import quantiles
from minestream.mining.driver import Driver
from minestream.outputs.parquet import write_rows
from minestream.outputs.single_file import ending_in, publishing
from minestream.search.nearest import Neighbors, nearest

NEAR = {"cosine": 0.02, "euclidean": 0.0, "sqeuclidean": 0.0}  # distance of near duplicates by default; dot has none
QUANTILES = {"min": 0.0, "1%": 0.01, "5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "max": 1.0}
SHOWN = 5
DIGESTED_ROWS = 16_384  # read at a time


@public(CompareOptions, refuses=True, progress="none")
def compare(
    train: Any, validation: Any, *, within: float | None = None, out: str | os.PathLike[str] | None = None,
    overwrite: bool = False, **options: Unpack[CompareOptions],
) -> dict[str, Any]:  # fmt: skip
    """Report which labels, ids and (nearly) equal rows two tables share: they make a validation look too good.

    Parameters
    ----------
    train, validation : path, Arrow object, or list of them
    within : float, optional
        Distance up to which a validation row is a near duplicate of a training row. Default: 0.02 for cosine; for
        Euclidean metrics 0, equal rows only; for dot, which is no distance, none.
    out : path, optional
        A Parquet file for those validation rows: id, row, label, nearest_id, nearest_row, nearest_label, distance.
        exclude_rows of mine() takes it.
    overwrite : bool
        Replace `out` when it exists.
    **options
        As for mine().

    Returns
    -------
    dict
        labels, ids and near_duplicates, each with counts and a few examples; nearest_distance: quantiles of the
        distance from a validation row to its nearest training row. In near_duplicates, `equal` counts validation rows
        at distance 0 from a training row (None for dot), `byte_equal` those with the same bytes as a training row,
        after `normalize`.

    Raises
    ------
    UsageError, InputError, OutputError
        As mine().

    Notes
    -----
    Cost: one exact search of the validation rows among the training rows.
    """
    config, resources, _ = asked_options(options, progress="none", band="any")
    check_distance("--within", within, config)
    limit = NEAR.get(config.metric) if within is None else within
    config = replace(config, two_tables=True, listed_positives=True)
    with Driver(config, resources) as driver:
        draft = None
        if out is not None:
            read = [Given("TRAIN", train), Given("VALIDATION", validation)]
            draft = driver.held.enter_context(publishing(ending_in(".parquet", out, "compare"), overwrite, read))
        found, loaded = _compared(driver, train, validation, limit, None if draft is None else draft.path)
    notes = [*resources.remarks, *idle("compare", {"overwrite": overwrite}, out=out)]
    notes += lacking("there are no ids", config) if loaded.tables[0].ids is None else []
    notes += [note for note in loaded.notes if "--unlabeled-value" in note]  # the others are about mining
    told = {} if draft is None else draft.told(found.pop("written"))
    return found | told | {"notes": notes, "stages": driver.progress.seconds}


def _compared(
    driver: Driver, train: Any, validation: Any, limit: float | None, path: Path | None
) -> tuple[dict[str, Any], Dataset]:
    """What the tables share, and the loaded tables; near duplicates are written to `path`."""
    # Labels are read, if there are any, for the counts; without them every training row is a negative of every row.
    loaded, searcher = driver.dataset(driver.open(validation, Tables(corpus=train), label=False))
    nobody = np.full(loaded.rows.label.size, UNLABELED, np.int32)
    loaded.rows = loaded.rows._replace(label=nobody, set_start=NO_ROWS, set_code=NO_CODES)
    loaded.unlabeled_negatives = True
    (first,) = nearest(searcher, np.arange(loaded.tables[0].end, dtype=np.int32), 1)
    closest = Neighbors(first.slot[:, 0], first.x[:, 0])
    near = closest.x <= (-np.inf if limit is None else limit)
    rows = _rows(loaded, closest, near)
    written = {} if path is None else write_rows(path, rows.schema, [rows], {})
    shared = {
        "train_rows": loaded.tables[1].end - loaded.tables[1].first, "validation_rows": loaded.tables[0].end,
        "labels": _labels(loaded), "ids": _ids(loaded),
    }  # fmt: skip
    duplicates = {
        "within": limit, **_equal(loaded, closest, driver.config.metric), "near": int(near.sum()),
        "examples": rows.slice(0, SHOWN).to_pylist(),
    }  # fmt: skip
    shared |= {"near_duplicates": duplicates, "nearest_distance": quantiles(closest.x, QUANTILES)}
    return shared | ({"written": written} if written else {}), loaded


def _labels(loaded: Dataset) -> dict[str, Any] | None:
    """How many labels each table has, and how many both; None without labels."""
    if not loaded.labeled:
        return None
    rows, codes = loaded.labels.members()
    of_validation = rows < loaded.first_candidate
    validation, train = np.unique(codes[of_validation]), np.unique(codes[~of_validation])
    shared = np.intersect1d(validation, train)
    leaking = np.unique(rows[of_validation & np.isin(codes, shared)])
    examples = [
        loaded.labels.take(np.array([rows[np.flatnonzero(codes == code)[0]]]))[0].as_py() for code in shared[:SHOWN]
    ]
    return {
        "train": int(train.size), "validation": int(validation.size), "shared": int(shared.size),
        "validation_rows_of_shared": int(leaking.size), "examples": examples,
    }  # fmt: skip


def _equal(loaded: Dataset, closest: Neighbors, metric: str) -> dict[str, Any]:
    """How many validation rows are at distance 0 from a training row, and how many have the bytes of one."""
    code = loaded.rows.twin if loaded.equal is None else loaded.equal
    validation, train = np.split(np.arange(code.size), [loaded.first_candidate])
    shared = np.intersect1d(code[validation], code[train])
    validation, train = (slots[np.isin(code[slots], shared)] for slots in (validation, train))
    train_digests = set(_digests(loaded.store, train))
    is_distance = metric in NEAR
    return {
        "equal": int((closest.x == 0).sum()) if is_distance else None,
        "equal_means": f"at distance 0 under {metric}" if is_distance else f"{metric} is no distance",
        "byte_equal": sum(digest in train_digests for digest in _digests(loaded.store, validation)),
    }  # fmt: skip


def _digests(store: Store, slots: NDArray[np.int64]) -> Iterator[bytes]:
    """A digest of the bytes of each row."""
    for first in range(0, slots.size, DIGESTED_ROWS):
        for row in store.take(slots[first : first + DIGESTED_ROWS]):
            yield hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def _ids(loaded: Dataset) -> dict[str, Any] | None:
    """How many ids both tables have; None without ids, or when their ids have different types."""
    validation, train = (table.ids for table in loaded.tables)
    if validation is None or train is None or validation.type != train.type:
        return None
    shared = validation.filter(pc.is_in(validation, value_set=train))
    return {"shared": len(shared), "examples": shared.slice(0, SHOWN).to_pylist()}


def _rows(loaded: Dataset, closest: Neighbors, near: NDArray[np.bool_]) -> pa.Table:
    """The validation rows in `near` with their nearest training rows, nearest first."""
    at = np.flatnonzero(near)
    at = at[np.argsort(closest.x[at], kind="stable")]
    columns: dict[str, Any] = {}
    for role, prefix, slots in (("query", "", at.astype(np.int32)), ("positive", "nearest_", closest.slot[at])):
        ids = loaded.table(role).take_ids(slots)
        columns |= {} if ids is None else {f"{prefix}id": ids}
        columns[f"{prefix}row"] = pa.array(loaded.source_row[slots], pa.int64())
        columns |= {f"{prefix}label": loaded.labels.take(slots)} if loaded.labeled else {}
    return pa.table(columns | {"distance": pa.array(closest.x[at])})
