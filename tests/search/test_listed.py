"""The search among lists gives what the search of all rows does, as far as the lists reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minestream.config.memory_plan import memory_plan
from minestream.config.resolve import split_options
from minestream.inputs.dataset.load import load
from minestream.inputs.source import arrays_source
from minestream.inputs.tables import Sources
from minestream.kernels.types import EXCLUDE, FARTHEST, IGNORE, NEAREST, NEGATIVE, RANDOM, WEIGHTED, WITHIN, Pairs, Rule
from minestream.mining.driver import job_of
from minestream.search.context import Lists, SearchContext
from minestream.search.results import one_pair_each
from minestream.search.search import search_once
from minestream.search.searcher import Searcher
from minestream.search.work import WorkMeter
from minestream.system.progress import reporter
from minestream.system.stats import ShardStats

ROWS, EVERY = 90, np.arange(90, dtype=np.int32)
PLAIN = Rule(NEGATIVE, NEAREST, 0, 0, IGNORE, IGNORE, 0.0, False, 0)


@contextmanager
def setting_of(folder: Path) -> Iterator[SearchContext]:
    """A search of rows many of which are equal, by cosine."""
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((ROWS, 6))[rng.integers(0, 60, ROWS)]
    config, resources, _ = split_options({"band": "any", "threads": 2})
    with reporter("none", None) as progress:
        sources = Sources(arrays_source(vectors, rng.integers(0, 9, ROWS), metric=config.metric))
        job = job_of(sources, config, resources)
        loaded = load(sources, config, memory_plan(2**24, job), folder, progress, ShardStats())
        with Searcher(loaded, config.metric, resources, folder, 2**24, job) as searcher:
            yield searcher.setting(ShardStats(), WorkMeter())


def pairs_of(setting: SearchContext, each: int) -> Pairs:
    """So many pairs an anchor, with bands that leave something out."""
    rng, count = np.random.default_rng(6), each * ROWS
    positive = rng.integers(0, ROWS, count).astype(np.int32)
    low, high = rng.choice([-np.inf, 0.2, 0.5], count), rng.choice([np.inf, 1.5, 0.9], count)
    words = rng.integers(0, 2**63, count).astype(np.uint64)
    return Pairs(np.arange(0, count + 1, each), positive, low, high, np.full(count, -np.inf), words)


@pytest.mark.parametrize("pick", [NEAREST, RANDOM, WEIGHTED, FARTHEST])
@pytest.mark.parametrize(("take", "skip"), [(1, 0), (4, 3), (0, 0), (500, 0)])
@pytest.mark.parametrize("alike", [False, True])
def test_whole_lists_give_what_all_rows_give(tmp_path: Path, pick: int, take: int, skip: int, alike: bool) -> None:
    if pick == FARTHEST and skip:
        pytest.skip("nothing skips the farthest")
    with setting_of(tmp_path) as setting:
        every = search_once(setting, EVERY, one_pair_each(ROWS), PLAIN)
        lists = Lists(EVERY, every.start, every.slot, every.x, np.full(ROWS, np.inf))
        same = PLAIN._replace(pick=pick, take=take, skip=skip)
        rules = [
            same._replace(count_nearer=pick == NEAREST and take > 0),
            same._replace(own_duplicates=EXCLUDE, positive_duplicates=EXCLUDE),
            same._replace(positive_duplicates=WITHIN, within=0.3),
        ]
        if alike:  # what is alike is told, and own duplicates are in no list
            rules, twin = rules[1:2], setting.loaded.rows.twin
            apart = twin[np.repeat(EVERY, np.diff(every.start))] != twin[every.slot]
            start = np.append(0, np.cumsum(apart))[every.start]
            pairs = [np.flatnonzero(twin == twin[slot]).astype(np.int32) for slot in EVERY]
            told = np.cumsum([0, *map(len, pairs)]), np.concatenate(pairs)
            lists = Lists(EVERY, start, every.slot[apart], every.x[apart], np.full(ROWS, np.inf), told)
        for each in (1, 3):
            pairs_each = pairs_of(setting, each)
            for rule in rules:
                expected = search_once(setting, EVERY, pairs_each, rule)
                found = search_once(replace(setting, lists=lists), EVERY, pairs_each, rule)
                assert_equal(found, expected)
                assert expected.slot.size


def test_anchors_without_a_list_find_nothing(tmp_path: Path) -> None:
    with setting_of(tmp_path) as setting:
        place = np.full(ROWS, -1, np.int32)
        place[7] = 0
        lists = Lists(place, np.array([0, 2]), np.array([3, 9], np.int32), np.array([0.1, 0.4]), np.array([0.4]))
        found = search_once(replace(setting, lists=lists), EVERY, one_pair_each(ROWS), PLAIN._replace(take=5))
        label = setting.loaded.rows.label
        expected = [b for b in (3, 9) if label[b] != label[7]]
        assert expected
        assert found.slot.tolist() == expected
        assert np.diff(found.start)[7] == len(expected)


def assert_equal(found: Any, expected: Any) -> None:
    for name in ("start", "slot", "x", "nearer"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
