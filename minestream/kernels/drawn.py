"""Candidates that draws alone decide: the k least draws among the rows of an anchor's label, without distances."""

from __future__ import annotations

import numpy as np

from minestream.kernels.draw import mix
from minestream.kernels.jit import kernel
from minestream.kernels.relation import relation
from minestream.kernels.select import insert, passes_duplicates
from minestream.kernels.types import Problem


@kernel
def draw_positives(
    problem: Problem, anchors: np.ndarray, start: np.ndarray, members: np.ndarray, keys: np.ndarray, first: int,
    draws: np.ndarray,
) -> None:  # fmt: skip
    """Add the best of every anchor to its list, whose x stays as it is. Cost: a draw for each row of its label.

    Parameters
    ----------
    anchors : int32[A], slots; anchor i has the pair first + i alone
    start, members : int64[labels + 1], int32[entries]: the candidates of each label
    keys : uint64[entries], their draw keys
    draws : uint64[any], worked in: the least of so many is found first, by vector code
    """
    rows, rule, pairs, best = problem
    for i in range(anchors.size):
        a, pair, prefix = anchors[i], first + i, pairs.prefix[first + i]
        label = rows.label[a]
        if label < 0:
            continue
        for begin in range(start[label], start[label + 1], draws.size):
            count = min(draws.size, start[label + 1] - begin)
            least = np.uint64(2**64 - 1)
            for j in range(count):
                draws[j] = mix(prefix + keys[begin + j])
                least = min(least, draws[j])
            found = best.found[pair]
            if found == best.key.shape[1] and least > best.key[pair, 0]:
                continue
            for j in range(count):
                if found == best.key.shape[1] and draws[j] > best.key[pair, 0]:
                    continue
                b = members[begin + j]
                if relation(rows, a, b) == rule.wanted and passes_duplicates(problem, pair, a, b):
                    found = insert(draws[j], b, 0.0, rows.rank, best.key[pair], best.slot[pair], best.x[pair], found)
            best.found[pair] = found
