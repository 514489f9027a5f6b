"""What several teachers say of each negative: which of them found it, and how near it is by each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.config.metrics import METRICS
from minestream.config.mine_config import MineConfig
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.decode import lists_from
from minestream.search.results import Found, Voted
from minestream.search.similarity import similarity

Distances = NDArray[np.float64]


def teacher_names(loaded: Dataset, config: MineConfig) -> list[str]:
    """What columns call the teachers, in order."""
    return [loaded.name, *(other.name for other in loaded.others), *["candidates"] * config.candidates_teach]


def nothing_found(loaded: Dataset, config: MineConfig) -> Found:
    """The answers to no pair."""
    start, nobody, nothing = np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0)
    if config.taught:
        return Voted(start, nobody, nothing, nobody, np.zeros((0, len(teacher_names(loaded, config))), bool))
    return Found(start, nobody, nothing, nobody)


def teacher_columns(
    loaded: Dataset, config: MineConfig, found: Found, entry: NDArray[np.int64], anchor: NDArray[np.int32],
    negative: NDArray[np.int32], x: Distances, kind: pa.DataType,
) -> dict[str, Any]:  # fmt: skip
    """The columns found_by and similarity_NAME (distance_NAME where the metric has no similarity); none of one teacher.

    entry : of each row its place in `found`, -1 for one without a negative
    x : its distance by the first embedding
    """
    if not isinstance(found, Voted):
        return {}
    real = entry >= 0
    by = np.zeros((entry.size, found.by.shape[1]), bool)
    by[real] = found.by[entry[real]]
    names = pa.array(teacher_names(loaded, config), pa.string())
    columns: dict[str, Any] = {"found_by": lists_from(by.sum(axis=1), names.take(pa.array(np.nonzero(by)[1])))}
    similar = METRICS[config.metric].similarity
    for place, name in enumerate([loaded.name, *(other.name for other in loaded.others)]):
        distance = x.copy()
        if place:
            distance[real] = loaded.others[place - 1].distances(anchor[real], negative[real])
        values = similarity(config.metric, distance) if similar else distance
        columns[f"{'similarity' if similar else 'distance'}_{name}"] = pa.array(values).cast(kind, safe=False)
    return columns
