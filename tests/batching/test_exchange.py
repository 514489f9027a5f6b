"""Communities of pairs: exchanges between them on small random graphs, and the batches that they go into."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from minestream.kernels.batching import NEAR, Communities, Near, PairSlots, exchange, fill, none_open
from minestream.kernels.types import Rows


def slots_of_labels(label: np.ndarray) -> PairSlots:
    """Pairs whose two ends have these labels, all at other places."""
    n, none, few = label.size, np.empty(0, np.int64), np.empty(0, np.int32)
    rows = Rows(np.tile(label, 2).astype(np.int32), none, few, none, few, none, few, few,
                np.arange(2 * n, dtype=np.int32), none, none.astype(np.uint64), none.astype(np.float64), 0)  # fmt: skip
    return PairSlots(np.arange(n, dtype=np.int32), np.arange(n, 2 * n, dtype=np.int32), rows, True, 0, np.empty(0),
                     np.empty((0, 2), np.float32), np.empty((0, 2, n), np.int32))  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_exchanges_keep_more_together_and_nothing_false(seed: int) -> None:
    rng, n, labels = np.random.default_rng(seed), 300, 40
    label = rng.integers(0, labels, n)
    slots = slots_of_labels(label)
    parts: list[list[int]] = []
    for pair in rng.permutation(n).tolist():
        fit = [part for part in parts if len(part) < 7 and label[pair] not in label[part]]
        (fit[0] if fit else parts.append([]) or parts[-1]).append(pair)
    group = np.empty(n, np.int64)
    for number, part in enumerate(parts):
        group[part] = number
    edges = {(int(a), int(b)): int(w) for a, b, w in rng.integers(1, (n, n, 50), (2_000, 3)) if label[a] != label[b]}
    both = sorted([(a, b, w) for (a, b), w in edges.items()] + [(b, a, w) for (a, b), w in edges.items()])
    owner, pair_near, weight = (np.array(each, np.int64) for each in zip(*both, strict=True))
    near = Near(np.searchsorted(owner, np.arange(n + 1)), pair_near, weight)
    members = np.concatenate(parts)
    start = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    place, inside = np.argsort(members), np.zeros(len(parts), np.int64)
    found, kept = Communities(start, members, group, place, inside, np.empty(NEAR, np.int64)), []
    for pair in (*rng.permutation(n), *rng.permutation(n)):
        kept.append(sum(w for (a, b), w in edges.items() if group[a] == group[b]))
        exchange(slots, near, np.array([pair]), found)
    assert kept == sorted(kept)
    assert kept[-1] > 1.5 * kept[0]
    assert sorted(members) == list(range(n))
    assert not inside.any()
    for number, (first, end) in enumerate(pairwise(start)):
        own = members[first:end]
        assert (group[own] == number).all()
        assert (place[own] == np.arange(first, end)).all()
        assert np.unique(label[own]).size == own.size


def test_pairs_that_belong_together_go_into_one_batch() -> None:
    label = np.array([0, 1, 2, 3, 0, 4, 5, 6, 7, 8, 9, 9, 10, 11])
    leader = np.array([0, 0, 0, 3, 4, 4, 4, 4, 8, 9, 10, 11, 12, 12])
    opened, batch = none_open(6), np.full(label.size, -1)
    fill(slots_of_labels(label), np.arange(label.size), leader, False, opened, batch)
    # The label of pair 4 keeps 5 to 7, too, out of the first batch; the second has room for one of 12 and 13.
    assert batch.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 2, 2, 2]
