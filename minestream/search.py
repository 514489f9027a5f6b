"""The search: for every pair, the exact best candidates by one rule, by the sweep (strips.py) or by the scan.

Positives and negatives are found by the same search; only the rule differs. A pair that the sweep cannot certify is
swept again with more survivors kept, at most twice, and then scanned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.answers import Answers, Found, count_tally, empty_best, groups_of, sub_pairs
from minestream.kernels import scan
from minestream.kernels.choose import RANDOM, WEIGHTED, Pairs, Rule
from minestream.strips import Setting, Sweeping, positive_vectors

SCAN_ROWS = 4_096  # inputs up to here are scanned: fewer kernels to load, and as fast
SCAN_STRIP_ROWS = 64
RETRIES = (1, 4, 16)  # how many times the rows looked for are kept, try by try


def search(setting: Setting, anchors: NDArray[np.int32], pairs: Pairs, rule: Rule) -> Found:
    """The best candidates of every pair of every anchor.

    Parameters
    ----------
    anchors : int32[A]
        Slots.
    pairs : Pairs
        CSR by anchor, bands in canonical distance, closed.
    rule : Rule

    Returns
    -------
    Found
        By pair, in the order of `pairs`.

    Notes
    -----
    Cost: 2 A n d float32 operations and about 3 (k + S) canonical distances a pair; the scan A n d in float64.
    """
    found = Answers(pairs)
    left = np.arange(anchors.size)
    must_scan = rule.pick == WEIGHTED or (rule.pick == RANDOM and rule.skip > 0)
    if not (setting.limits.scan or must_scan):
        sweeping = Sweeping(setting, rule)
        hopeless = []
        for attempt, widening in enumerate(RETRIES):
            if left.size:
                setting.stats.resweeps += left.size if attempt else 0
                left, crowded = sweeping.sweep_all(anchors, pairs, left, widening, found)
                hopeless.append(crowded)
        left = np.concatenate([left, *hopeless])
    if not setting.limits.scan:
        setting.stats.scanned_anchors += left.size
    for group in groups_of(left, setting.limits.group_anchors):
        scan_anchors(setting, rule, anchors, pairs, group, found)
    return found.finish()


def scan_anchors(
    setting: Setting, rule: Rule, anchors: NDArray[np.int32], pairs: Pairs, group: NDArray[np.int64], found: Answers
) -> None:
    """Scan the anchors at places `group` over all rows."""
    loaded = setting.loaded
    capacity = rule.take + rule.skip if rule.take else loaded.store.rows
    strips = []
    for places in groups_of(group, SCAN_STRIP_ROWS):
        own, of_pair = sub_pairs(pairs, places)
        slots = anchors[places]
        vectors = loaded.gather(slots)
        positives = positive_vectors(loaded, rule, own)
        strips.append((slots, vectors, positives, own, of_pair, empty_best(rule, of_pair.size, capacity)))
    for first in range(0, loaded.store.rows, setting.limits.block_rows):
        block = loaded.store.block(first, min(loaded.store.rows, first + setting.limits.block_rows))

        def task(strip: Any, block: Any = block, first: int = first) -> Callable[[], None]:
            slots, vectors, positives, own, _, best = strip

            def run() -> None:
                scan.scan(loaded.rows, rule, own, best, slots, vectors, positives, block, first)
                setting.progress.advance(slots.size * len(block))

            return run

        setting.workers.run([task(strip) for strip in strips])
        setting.stats.pairs_computed += group.size * len(block)
    for _, _, _, _, of_pair, best in strips:
        count_tally(setting.stats, best.tally, rule.wanted)
        found.add(rule, loaded.rows.rank, of_pair, best, np.ones(of_pair.size, bool))
