"""The search within the windows of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.inputs.dataset.dataset import Dataset
from minestream.kernels import window
from minestream.kernels.tile import HIGH, INTERVAL, LOW, control_of
from minestream.kernels.types import POSITIVE, WITHIN, Best, Pairs, Problem, Rule, Strip
from minestream.search.context import SearchContext
from minestream.search.results import Found, count_tally, empty_best, found_of, groups_of, joined, sub_pairs
from minestream.search.screens import packed
from minestream.system.threads import Workers, apart

STRIP_ROWS = 64  # anchors that meet the same candidates, which stay in the cache meanwhile
NO_PANELS = np.empty((0, 0, 0), np.float32)


def search_windows(
    setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule
) -> Iterator[Found]:
    """As search(), among the candidates in each anchor's window. The anchors are the last rows of the data."""
    first = 0
    for group in groups:
        own, _ = sub_pairs(pairs, np.arange(first, first + group.size))
        places = groups_of(np.arange(group.size), setting.limits.group_anchors)
        yield joined([found for some in places for found in _search(setting, rule, group, own, some)])
        first += group.size


def _search(
    setting: SearchContext, rule: Rule, anchors: NDArray[np.int32], pairs: Pairs, group: NDArray[np.int64]
) -> Iterator[Found]:
    """The answers of the anchors at places `group`, a few at a time, in order."""
    loaded, threads = setting.loaded, setting.limits.threads
    assert isinstance(loaded, WindowDataset)
    vectors, rows = loaded.store.block(0, loaded.store.rows), loaded.rows
    shape = window.shape_of(NO_PANELS)
    screen = None if rule.wanted == POSITIVE else _screen(loaded, anchors[group], shape, setting.workers, threads)
    found: dict[int, tuple[Found, Best]] = {}

    def task(places: NDArray[np.int64]) -> Callable[[], None]:
        def run() -> None:
            own, of_pair = sub_pairs(pairs, places)
            slots = anchors[places]
            best = empty_best(rule, of_pair.size, rule.take + rule.skip if rule.take else _most(loaded, rule, slots))
            look(places, own, slots, best)
            found[int(places[0])] = found_of(rule, rows.rank, best), best

        return run

    def look(places: NDArray[np.int64], own: Pairs, slots: NDArray[np.int32], best: Best) -> None:
        within = rule.positive_duplicates == WITHIN and own.positive.size
        positives = loaded.gather(own.positive) if within else np.empty((0, vectors.shape[1]))
        strip = Strip(slots, loaded.gather(slots), positives, np.arange(own.positive.size))
        problem, scratch = Problem(rows, rule, own, best), _scratch(*shape, vectors.shape[1])
        if screen is None:
            window.search_positives(problem, strip, vectors, scratch)
        else:
            first_panel = int(places[0] - group[0]) // shape[0]
            window.search_windows(problem, strip, vectors, screen, first_panel, scratch)

    each = -(-group.size // threads // shape[0]) * shape[0]  # whole panels, of few anchors one for each thread
    strip = STRIP_ROWS // shape[0] * shape[0]  # whole panels too: not every tile's rows divide STRIP_ROWS
    setting.workers.run([task(places) for places in groups_of(group, min(strip, each))])
    if screen is not None:
        setting.effort.pairs_computed += int((anchors[group] - rows.oldest[anchors[group]]).sum())
    for place in sorted(found):
        count_tally(setting.effort, found[place][1].tally, rule.wanted)
        yield found[place][0]


def _most(loaded: WindowDataset, rule: Rule, anchors: NDArray[np.int32]) -> int:
    """The most candidates that a search for all of them may find for one anchor."""
    if rule.wanted == POSITIVE:
        return int(loaded.positives[anchors].max(initial=0))
    return int((anchors - loaded.rows.oldest[anchors]).max(initial=0))


def _screen(
    loaded: WindowDataset, anchors: NDArray[np.int32], shape: tuple[int, int], workers: Workers, threads: int
) -> window.Screen:
    """Packed anchors, and all slots, which are packed once."""
    codes = loaded.codes
    words = codes.values.view(np.uint32)
    if codes.panels is None:
        codes.panels = packed(words, np.arange(loaded.store.rows), shape[1], workers, threads).view(np.float32)
    rows = packed(words, anchors.astype(np.int64), shape[0], workers, 1).view(np.float32)
    return window.Screen(rows, codes.panels, codes.h, codes.own, codes.bias, codes.slack)


def _scratch(rows: int, columns: int, dimension: int) -> window.Scratch:
    """Scratch of one task. The gates of rows let everything pass, the gates of columns nothing."""
    terms = np.zeros(LOW + INTERVAL)
    terms[[LOW, HIGH]] = -np.inf, np.inf
    fields: tuple[Any, ...] = (
        control_of(dimension), np.repeat(terms, rows).astype(np.float32), np.repeat(-terms, columns).astype(np.float32),
        np.zeros(columns, np.int32), apart((2 * rows,), np.uint64), apart((rows * columns,), np.float32),
        np.empty(columns, np.int64), np.empty(columns, np.int32), np.empty((columns + 7) // 8 * 8), np.empty(dimension),
    )  # fmt: skip
    return window.Scratch(*fields)


@dataclass
class WindowCodes:
    """Float codes of the rows of a stream (quantize.float_codes), and their panels once they are packed."""

    values: NDArray[np.float32]
    h: NDArray[np.float64]
    own: NDArray[np.float64]
    bias: NDArray[np.float32]
    slack: NDArray[np.float32]
    panels: NDArray[np.float32] | None = None


@dataclass(kw_only=True)
class WindowDataset(Dataset):
    """The rows of a stream that windows may reach, with their codes."""

    codes: WindowCodes
