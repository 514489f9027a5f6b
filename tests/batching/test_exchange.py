"""Exchanges of pairs between communities, on small random graphs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from minestream.kernels.batching import NEAR, Communities, Near, PairSlots, exchange
from minestream.kernels.types import Rows


@pytest.mark.parametrize("seed", range(5))
def test_exchanges_keep_more_together_and_nothing_false(seed: int) -> None:
    rng, n, labels, none = np.random.default_rng(seed), 300, 40, np.empty(0, np.int64)
    label = np.tile(rng.integers(0, labels, n), 2).astype(np.int32)
    few = none.astype(np.int32)
    rows = Rows(label, none, few, none, few, none, few, few, np.arange(2 * n, dtype=np.int32), none,
                none.astype(np.uint64), none.astype(np.float64), 0)  # fmt: skip
    slots = PairSlots(np.arange(n, dtype=np.int32), np.arange(n, 2 * n, dtype=np.int32), rows, True, 0, np.empty(0),
                      np.empty((0, 2), np.float32), np.empty((0, 2, n), np.int32))  # fmt: skip
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
