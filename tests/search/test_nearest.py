"""The k nearest of a dataset, in one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from minestream.config.memory_plan import memory_plan
from minestream.config.resolve import split_options
from minestream.inputs.dataset.load import load
from minestream.inputs.source import arrays_source
from minestream.inputs.tables import Sources
from minestream.kernels.types import NEGATIVE, POSITIVE
from minestream.mining.driver import job_of
from minestream.search.nearest import NONE, nearest
from minestream.search.searcher import Searcher
from minestream.system.progress import Advanced, Event, StageStarted, reporter
from minestream.system.stats import ShardStats

ROWS, K = 60, 9


@pytest.mark.parametrize("together", [7, 1_000])
def test_nearest_are_those_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    monkeypatch.setattr("minestream.search.nearest.TOGETHER", together)
    rng = np.random.default_rng(3)
    vectors, labels = rng.standard_normal((ROWS, 5)), np.repeat(np.arange(12), 5)
    config, resources, _ = split_options({"metric": "sqeuclidean", "band": "any", "threads": 2})
    events: list[Event] = []
    with reporter("none", events.append) as progress:
        sources = Sources(arrays_source(vectors, labels, metric=config.metric))
        job = job_of(sources, config, resources)
        loaded = load(sources, config, memory_plan(2**24, job), tmp_path, progress, ShardStats())
        progress.stage("nearest", ROWS, "rows")
        with Searcher(loaded, config.metric, resources, tmp_path, 2**24, job) as searcher:
            anchors = np.arange(0, ROWS, 2, dtype=np.int32)
            positive, negative = nearest(searcher, anchors, K, (POSITIVE, NEGATIVE), progress)
    x = ((vectors[anchors, None] - vectors[None]) ** 2).sum(axis=2)
    same = labels[anchors, None] == labels[None]
    x[np.arange(anchors.size), anchors] = np.inf
    for found, of_kind in ((positive, same), (negative, ~same)):
        wanted = np.sort(np.where(of_kind, x, np.inf), axis=1)[:, :K]
        np.testing.assert_allclose(found.x, wanted, rtol=1e-12)
        assert ((found.slot == NONE) == np.isinf(found.x)).all()
        row, place = np.nonzero(found.slot != NONE)
        np.testing.assert_allclose(x[row, found.slot[row, place]], found.x[row, place], rtol=1e-12)
    assert np.isinf(positive.x[:, 4:]).all()  # a label has four other rows
    stage = next(at for at, event in enumerate(events) if isinstance(event, StageStarted) and event.stage == "nearest")
    told = [event.done for event in events[stage:] if isinstance(event, Advanced)]
    assert told[-1] == anchors.size
