"""Finishing passes against plain sorts of everything, for budgets from nothing to all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from minestream import reference
from minestream.config.mine_config import MineConfig
from minestream.inputs.dataset.draws import Keys
from minestream.outputs import finish
from minestream.outputs.parquet import write_rows
from minestream.system.stats import ShardStats

BUDGETS = (1, 7, 100, 10**6)


def write_parts(folder: Path, tables: list[pa.Table]) -> list[Path]:
    paths = []
    for index, table in enumerate(tables):
        paths.append(folder / f"part-{index:05d}.parquet")
        write_rows(paths[-1], table.schema, [table], {})
    return paths


def finished(
    paths: list[Path], keys: Keys | None = None, budget: int = finish.ROWS_BUDGET, **config: Any
) -> Iterator[pa.Table] | None:
    both = {} if keys is None else {"anchor": keys, "candidate": keys}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "ROWS_BUDGET", budget)
        return finish.finished_rows(MineConfig(**config), paths, both, ShardStats(), 2**40)


def merge(paths: list[Path], budget: int = finish.ROWS_BUDGET) -> Iterator[pa.Table]:
    tables = finished(paths, budget=budget, emit="pairs")
    assert tables is not None
    return tables


def shuffle(paths: list[Path], emit: str, seed: int, keys: Keys, budget: int) -> Iterator[pa.Table]:
    tables = finished(paths, keys, budget, emit=emit, order="shuffled", seed=seed)
    assert tables is not None
    return tables


def pair_parts(rows: int, hub: bool) -> list[pa.Table]:
    """Parts of pairs picked by either end; with a hub, one row has a partner in every other."""
    rng = np.random.default_rng(5)
    picked = rng.integers(0, rows, (rows, 6))
    if hub:
        picked[:, 0] = 3
    tables = []
    for anchors in np.array_split(np.arange(rows), 4):
        ends = {(min(a, b), max(a, b)) for a in anchors.tolist() for b in picked[a].tolist() if a != b}
        left, right = np.array(sorted(ends), dtype=np.int64).T
        loss = ((left * 31 + right) % 17 / 16).astype(np.float32)
        label = ((left + right) % 3 == 0).astype(np.int64)
        tables.append(pa.table({"left_row": left, "right_row": right, "label": label, "loss": loss}))
    return [*tables, tables[0].slice(0, 0)]


def all_pairs(tables: list[pa.Table]) -> list[tuple[int, int, int, float]]:
    everything = pa.concat_tables(tables)
    return sorted(set(zip(*(column.to_pylist() for column in everything.columns), strict=True)))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("hub", [False, True])
def test_merge_is_sorted_unique_and_within_the_budget(tmp_path: Path, budget: int, hub: bool) -> None:
    tables = pair_parts(60, hub)
    merged = list(merge(write_parts(tmp_path, tables), budget))
    assert max(table.num_rows for table in merged) <= max(budget, 1)
    rows = [tuple(row.values()) for table in merged for row in table.to_pylist()]
    assert rows == all_pairs(tables)


def test_sums_count_a_pair_of_two_parts_once(tmp_path: Path) -> None:
    tables = pair_parts(60, hub=True)
    total = ShardStats(rows=10**6, loss_sum=1e9)
    merged = merge(write_parts(tmp_path, tables), 20)
    expected = all_pairs(tables)
    assert sum(table.num_rows for table in finish.summed(merged, total)) == len(expected) == total.rows
    assert total.loss_sum == total.active_loss_sum == sum(loss for *_, loss in expected)
    assert total.active_rows == sum(loss > 0 for *_, loss in expected)
    assert 0 < total.similar_pairs == sum(label for _, _, label, _ in expected) < total.rows


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("seed", [0, 7, -1])
@pytest.mark.parametrize("emit", ["triplets", "tuples", "pairs"])
def test_shuffled_order_is_draw_4(tmp_path: Path, emit: str, seed: int, budget: int) -> None:
    rng = np.random.default_rng(1)
    keys = Keys(rng.integers(0, 2**64, 60, dtype=np.uint64), rng.permutation(60))
    names = [name.format(anchor="anchor") for name in finish.ROWS_OF[emit] if name]
    if emit == "pairs":
        tables = pair_parts(60, hub=False)
        rows = [row[:2] for row in all_pairs(tables)]
    else:
        drawn = np.unique(rng.integers(0, 60, (300, len(names))), axis=0)
        rows = [tuple(row) for row in drawn.tolist()]
        tables = [pa.table(dict(zip(names, part.T, strict=True))) for part in np.array_split(drawn, 3)]
    values = [np.array(column) for column in zip(*rows, strict=True)]
    places = iter(values)
    words = [0 if name is None else keys.draw_key[next(places)] for name in finish.ROWS_OF[emit]]
    luck = reference.draw(seed, 4, *words)
    expected = [rows[i] for i in np.lexsort((*[keys.rank[v] for v in reversed(values)], luck))]
    found = shuffle(write_parts(tmp_path, tables), emit, seed, keys, budget)
    assert [tuple(row[n] for n in names) for table in found for row in table.to_pylist()] == expected


def test_equal_draws_go_in_key_order(tmp_path: Path) -> None:
    keys = Keys(np.zeros(9, np.uint64), np.arange(9)[::-1].copy())
    table = pa.table({name: np.arange(9) for name in ("anchor_row", "positive_row", "negative_row")})
    (found,) = shuffle(write_parts(tmp_path, [table]), "triplets", 0, keys, 2)
    assert found.column("anchor_row").to_pylist() == list(range(9))[::-1]


def test_only_pairs_and_shuffled_orders_need_a_pass(tmp_path: Path) -> None:
    paths = write_parts(tmp_path, pair_parts(20, hub=False))
    assert finished(paths, emit="triplets") is None
    assert finished(paths, emit="pairs") is not None


def test_parts_without_rows_give_no_rows(tmp_path: Path) -> None:
    paths = write_parts(tmp_path, [pair_parts(20, hub=False)[-1]])
    assert list(merge(paths)) == []
