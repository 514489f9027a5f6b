"""An update gives the bytes of a full run, however much it remembered, and says what it did for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from worlds import WORLDS, World, clustered

import minestream
from minestream import cli
from minestream.config import Resources, split_options
from minestream.errors import CapacityError, InputError, UsageError
from minestream.kernels.choose import NEGATIVE
from minestream.reserve import read_reserve, reserve_path
from minestream.reserving import LEFT_OUT
from minestream.screens import usable_screens
from minestream.updating import Update

SCREENS = ("scan", *reversed(usable_screens(8)))
RESERVE = 6  # short enough that lists run out

# What is mined, by the parts of the rules that lists of neighbours stand for.
JOBS: dict[str, dict[str, Any]] = {
    "default": {},
    "several": {"negatives": 3, "positives_per_anchor": 2, "skip": 1},
    "hard": {"band": "hard", "negatives": 2},
    "any": {"band": "any", "negatives": 4, "keep_duplicate_positives": True, "drop_duplicates_of": "positive"},
    "easy": {"band": "easy", "negatives": 2},
    "beyond": {"band": "beyond", "fallback": "farthest", "drop_duplicates_within": "none"},
    "all positives": {"positives": "all", "band": "violating", "negatives": 2, "emit": "tuples", "short_rows": "keep"},
    "hardest": {"positives": "hardest", "max_per_negative_label": 1, "negatives": 2},
    "late": {"max_uses": 2, "negatives": 2, "order": "shuffled"},
    "anchors": {"anchors": "40%", "positives": "random", "carry": ("text",), "float64": True},
}
FILTERED = {"max_similarity": 0.9, "relative_margin": 0.01, "band": "any", "reference": "mean", "negatives": 2}


@dataclass
class Nights:
    """A table that changes from night to night: some rows go, some hold something else, some come."""

    world: World
    rng: np.random.Generator
    rows: list[int] = field(default_factory=list)  # whose vector of the world each row has
    labels: list[Any] = field(default_factory=list)
    ids: list[Any] | None = None

    def __post_init__(self) -> None:
        count = len(self.world.embeddings)
        self.rows = self.rng.permutation(count)[: count - count // 8].tolist()
        self.labels = [self.world.labels[row] for row in self.rows]
        self.ids = [7 * row + 1 for row in self.rows]
        self.next_id = 1_000_000

    def pass_one(self, share: float = 0.05) -> None:
        """Remove, change and add a share of the rows each."""
        count = max(1, int(share * len(self.rows)))
        assert self.ids is not None
        for place in sorted(self.rng.choice(len(self.rows), count, replace=False).tolist(), reverse=True):
            for column in (self.rows, self.labels, self.ids):
                del column[place]
        size = len(self.world.embeddings)
        for place in self.rng.choice(len(self.rows), count, replace=False).tolist():
            if self.rng.random() < 0.5:
                self.rows[place] = int(self.rng.integers(size))
            else:
                self.labels[place] = self.world.labels[int(self.rng.integers(size))]
        for _ in range(count):
            row, label = self.rng.integers(size, size=2).tolist()
            place = int(self.rng.integers(len(self.rows) + 1))
            self.rows.insert(place, row)
            self.labels.insert(place, self.world.labels[label if self.rng.random() < 0.3 else row])
            self.next_id += 1
            self.ids.insert(place, self.next_id if self.rng.random() < 0.7 else -self.next_id)

    def table(self, ids: bool = True) -> pa.Table:
        """The rows as they are now."""
        vectors = np.ascontiguousarray(self.world.embeddings[self.rows])
        flat = pa.array(vectors.reshape(-1))
        columns: dict[str, Any] = {
            "embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            "label": pa.array(self.labels, pa.array(self.world.labels).type),
            "text": [f"text {row}" for row in self.rows],
        }
        if self.world.groups is not None:
            columns["camera"] = pa.array([self.world.groups[row] for row in self.rows])
        return pa.table(columns | ({"id": self.ids} if ids else {}))


def bytes_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())} if out.is_dir() else {"": out.read_bytes()}


def options_for(world: World, job: str, number: int) -> dict[str, Any]:
    options: dict[str, Any] = {"metric": world.metrics[number % len(world.metrics)], **JOBS[job]}
    if options["metric"] != "cosine":
        options |= {"margin": 1.0} | ({"scores": "none"} if options.get("emit") == "tuples" else {})
    return options | ({"group_column": "camera"} if world.groups is not None else {})


def full_run(source: Path, out: Path, **options: Any) -> dict[str, bytes]:
    minestream.mine(source, out, progress="none", overwrite=True, **options)
    return bytes_of(out)


def update(out: Path, source: Path, **options: Any) -> Update:
    return minestream.update(out, source, progress="none", **options)


CELLS = [(name, job) for i, name in enumerate(WORLDS) for j, job in enumerate(JOBS) if (i + j) % 3 == 0]


@pytest.mark.parametrize(("name", "job"), CELLS)
def test_a_chain_of_updates_gives_the_bytes_of_full_runs(name: str, job: str, tmp_path: Path) -> None:
    number = 31 * list(WORLDS).index(name) + list(JOBS).index(job)
    nights = Nights(WORLDS[name](), np.random.default_rng(number))
    options, ids = options_for(nights.world, job, number // 2), number % 3 > 0
    source, out, other = tmp_path / "rows.parquet", tmp_path / f"out{'.parquet' if number % 2 else ''}", tmp_path / "o"
    other = other.with_suffix(out.suffix)
    pq.write_table(nights.table(ids), source)
    try:
        minestream.mine(source, out, progress="none", reserve=RESERVE, screen=SCREENS[number % len(SCREENS)], **options)
    except InputError:
        return
    assert bytes_of(out) == full_run(source, other, **options)
    for night in range(3):
        nights.pass_one()
        pq.write_table(nights.table(ids), source)
        before = bytes_of(out)
        try:
            expected = full_run(source, other, **options)
        except InputError:
            with pytest.raises(InputError):
                update(out, source)
            assert bytes_of(out) == before
            return
        found = update(out, source, screen=SCREENS[(number + night) % len(SCREENS)])
        assert bytes_of(out) == expected
        assert not found.unchanged
        assert found.full == "" or not ids  # without ids a row that comes or goes shifts all others


@pytest.mark.parametrize("screen", SCREENS)
def test_filters_are_asked_again(screen: str, tmp_path: Path) -> None:
    nights = Nights(WORLDS["blobs"](), np.random.default_rng(5))
    source, out, other = tmp_path / "rows.parquet", tmp_path / "out.parquet", tmp_path / "other.parquet"
    pq.write_table(nights.table(), source)
    minestream.mine(source, out, progress="none", reserve=RESERVE, screen=screen, **FILTERED)
    nights.pass_one()
    pq.write_table(nights.table(), source)
    found = update(out, source, screen=screen)
    assert bytes_of(out) == full_run(source, other, **FILTERED)
    assert found.full == ""


# ---------------------------------------------------------------- what it costs


def many(rows: int = 3_000) -> World:
    return World(*clustered(61, [rows // 60] * 60, 12))


@pytest.mark.parametrize("screen", SCREENS)
def test_an_update_computes_a_share_of_the_pairs(screen: str, tmp_path: Path) -> None:
    nights = Nights(many(), np.random.default_rng(6))
    source, out, other = tmp_path / "rows.parquet", tmp_path / "out.parquet", tmp_path / "other.parquet"
    pq.write_table(nights.table(), source)
    minestream.mine(source, out, progress="none", reserve=16, screen=screen)
    nights.pass_one(0.01)
    pq.write_table(nights.table(), source)
    found = update(out, source, screen=screen)
    assert bytes_of(out) == full_run(source, other)
    assert (found.changes and (found.changes.added, found.changes.removed)) == (26, 26)
    assert found.searched < 0.4 * found.anchors
    assert found.pairs_computed < 0.7 * found.pairs_in_full
    text = cli.printing.update_text(found)
    assert f"{found.pairs_computed:,}" in text
    assert f"{found.pairs_in_full:,}" in text


def test_lists_hold_every_nearer_candidate_and_no_other(tmp_path: Path) -> None:
    nights = Nights(WORLDS["ties"](), np.random.default_rng(7))
    source, out = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    pq.write_table(nights.table(), source)
    minestream.mine(source, out, progress="none", reserve=RESERVE, metric="sqeuclidean", margin=1.0)
    for _ in range(3):
        nights.pass_one()
        pq.write_table(nights.table(), source)
        update(out, source)
    reserve = read_reserve(reserve_path(out))
    assert reserve is not None
    lists, rows = reserve.remembered.kinds[NEGATIVE], nights.world.embeddings[nights.rows].astype(np.float64)
    assert reserve.key.to_pylist() == nights.ids
    listed = 0
    for anchor in np.flatnonzero(lists.horizon > -np.inf).tolist():
        x = ((rows - rows[anchor]) ** 2).sum(axis=1)
        other = np.array([label != nights.labels[anchor] for label in nights.labels])
        own = slice(int(lists.start[anchor]), int(lists.start[anchor + 1]))
        assert sorted(lists.slot[own].tolist()) == np.flatnonzero(other & (x < lists.horizon[anchor])).tolist()
        assert lists.x[own].tolist() == x[lists.slot[own]].tolist()
        listed += own.stop - own.start
    assert listed > 3 * len(rows)


def test_a_row_that_was_no_anchor_for_a_night_starts_anew(tmp_path: Path) -> None:
    """What came nearest while its only positive was away must be met when that is back."""
    nights = Nights(WORLDS["blobs"](), np.random.default_rng(15))
    nights.labels[:2] = [99, 99]
    source, out, other = tmp_path / "rows.parquet", tmp_path / "out.parquet", tmp_path / "other.parquet"
    whole = nights.table()
    near = whole.slice(0, 1).set_column(1, "label", pa.array([0], whole["label"].type))
    nearest = near.set_column(3, "id", pa.array([5_000_000], whole["id"].type))
    options: dict[str, Any] = {"band": "any", "drop_duplicates_within": "none"}
    pq.write_table(whole, source)
    minestream.mine(source, out, progress="none", reserve=RESERVE, **options)
    for table in (pa.concat_tables([whole.slice(0, 1), whole.slice(2), nearest]), pa.concat_tables([whole, nearest])):
        pq.write_table(table, source)
        assert update(out, source).full == ""
        assert bytes_of(out) == full_run(source, other, **options)
    assert 5_000_000 in pq.read_table(out)["negative_id"].to_pylist()


# ---------------------------------------------------------------- when there is little or nothing to do


@pytest.fixture
def mined(tmp_path: Path) -> tuple[Nights, Path, Path]:
    """A table, its file, and what was mined from it."""
    nights = Nights(WORLDS["blobs"](), np.random.default_rng(8))
    source, out = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    pq.write_table(nights.table(), source)
    minestream.mine(source, out, progress="none", reserve=RESERVE)
    return nights, source, out


def test_nothing_changed(mined: tuple[Nights, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    nights, source, out = mined
    times = [path.stat().st_mtime_ns for path in (out, reserve_path(out))]
    pq.write_table(nights.table(), source, row_group_size=7)
    assert cli.main(["update", str(out), "--progress", "none"]) == 0
    assert "nothing changed" in capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in (out, reserve_path(out))] == times
    assert not (out.parent / "out.parquet.partial").exists()


def test_other_carried_values_are_something_changed(tmp_path: Path) -> None:
    nights = Nights(WORLDS["blobs"](), np.random.default_rng(9))
    source, out, other = tmp_path / "rows.parquet", tmp_path / "out.parquet", tmp_path / "other.parquet"
    pq.write_table(nights.table(), source)
    minestream.mine(source, out, progress="none", reserve=RESERVE, carry="text")
    at = nights.table().schema.get_field_index("text")
    pq.write_table(nights.table().set_column(at, "text", pa.array([f"new {row}" for row in nights.rows])), source)
    found = update(out, source)
    assert bytes_of(out) == full_run(source, other, carry="text")
    assert (found.changes and found.changes.unchanged) == len(nights.rows)


def test_without_a_reserve_everything_is_mined_and_remembered(mined: tuple[Nights, Path, Path]) -> None:
    nights, source, out = mined
    reserve_path(out).unlink()
    for full in ("there was no reserve file", ""):
        nights.pass_one()
        pq.write_table(nights.table(), source)
        assert update(out, source).full == full
        assert bytes_of(out) == full_run(source, out.with_name("other.parquet"))


def test_nothing_is_remembered_where_that_is_asked_for(mined: tuple[Nights, Path, Path]) -> None:
    nights, source, out = mined
    remembered = reserve_path(out).read_bytes()
    nights.pass_one()
    pq.write_table(nights.table(), source)
    assert "--reserve 0" in update(out, source, reserve=0).full
    assert bytes_of(out) == full_run(source, out.with_name("other.parquet"))
    assert reserve_path(out).read_bytes() == remembered
    nights.pass_one()
    pq.write_table(nights.table(), source)
    assert update(out, source).full == ""  # what is older only means more to do
    assert bytes_of(out) == full_run(source, out.with_name("other.parquet"))


def test_lists_that_do_not_fit_are_refused(mined: tuple[Nights, Path, Path]) -> None:
    nights, source, out = mined
    before = bytes_of(out)
    nights.pass_one()
    pq.write_table(nights.table(), source)
    with pytest.raises(CapacityError, match="lower --reserve"):
        update(out, source, reserve=10_000, memory="64MB")
    assert bytes_of(out) == before


def test_a_reserve_of_another_run_is_not_used(mined: tuple[Nights, Path, Path]) -> None:
    nights, source, out = mined
    minestream.mine(source, out, progress="none", overwrite=True, metric="euclidean", margin=1.0)
    nights.pass_one()
    pq.write_table(nights.table(), source)
    assert "another configuration" in update(out, source).full
    assert bytes_of(out) == full_run(source, out.with_name("other.parquet"), metric="euclidean", margin=1.0)


def test_a_damaged_reserve_is_refused(mined: tuple[Nights, Path, Path]) -> None:
    nights, source, out = mined
    path = reserve_path(out)
    path.write_bytes(path.read_bytes()[:-100])
    nights.pass_one()
    pq.write_table(nights.table(), source)
    with pytest.raises(InputError, match="is no reserve, or is damaged"):
        update(out, source)


def test_a_resumed_run_answers_from_the_reserve(mined: tuple[Nights, Path, Path]) -> None:
    _, source, out = mined
    expected = bytes_of(out)
    out.unlink()
    report = minestream.mine(source, out, progress="none", reserve=RESERVE, resume=True)
    assert bytes_of(out) == expected
    again = minestream.mine(source, out, progress="none", reserve=RESERVE, overwrite=True)
    assert report.effort["pairs_computed"] < again.effort["pairs_computed"] / 4


# ---------------------------------------------------------------- full runs, and what is refused


def test_rows_embedded_again_make_it_a_full_run(mined: tuple[Nights, Path, Path]) -> None:
    nights, source, out = mined
    nights.rows = [(row + 1) % len(nights.world.embeddings) for row in nights.rows]
    pq.write_table(nights.table(), source)
    found = update(out, source)
    count = len(nights.rows)
    assert found.full == f"{count} of {count} known rows were changed or embedded again"
    assert bytes_of(out) == full_run(source, out.with_name("other.parquet"))


@pytest.mark.parametrize("reserve", [True, False])
def test_vectors_of_another_model_are_refused(reserve: bool, mined: tuple[Nights, Path, Path]) -> None:
    nights, source, out = mined
    if not reserve:
        reserve_path(out).unlink()
    before, whole = bytes_of(out), nights.world
    count = len(nights.rows)
    del nights.rows[0], nights.labels[0], nights.ids[0]  # type: ignore[index]
    who = f"{count - 1} of {count} known ids" if reserve else "the rows"
    for vectors, told in (
        (np.tile(whole.embeddings, 2), "now have 16 values where .* was mined from 8 values"),
        (whole.embeddings.astype(np.float64), "now have values of type float64 where .* values of type float32"),
    ):
        nights.world = World(vectors, whole.labels)
        pq.write_table(nights.table(), source)
        with pytest.raises(InputError, match=f"^{who} {told}"):
            update(out, source)
    assert bytes_of(out) == before


def test_what_lists_do_not_decide_is_a_full_run(tmp_path: Path) -> None:
    nights = Nights(WORLDS["blobs"](), np.random.default_rng(10))
    source, out, other = tmp_path / "rows.parquet", tmp_path / "out.parquet", tmp_path / "other.parquet"
    pq.write_table(nights.table(), source)
    for options in ({"pick": "random", "negatives": 2}, {"drop_duplicates_within": 0.01}, {"corpus": source}):
        told: dict[str, Any] = dict(options)
        with pytest.raises(UsageError, match="--reserve does not help here"):
            minestream.mine(source, out, progress="none", reserve=RESERVE, **told)
        minestream.mine(source, out, progress="none", overwrite=True, **told)
        nights.pass_one()
        pq.write_table(nights.table(), source)
        found = update(out, source, **({"corpus": source} if "corpus" in told else {}))
        assert found.full
        assert bytes_of(out) == full_run(source, other, **told)
        assert not reserve_path(out).exists()


def test_every_reason_is_reached() -> None:
    tables = [
        {"corpus": "c"}, {"anchor_where": "label == 1"}, {"window": 5}, {"qrels": "q"}, {"exclude": "e"},
        {"pick": "random"}, {"drop_duplicates_within": 0.1},
    ]  # fmt: skip
    for row, options in zip(LEFT_OUT, tables, strict=True):
        config = split_options(options)[0]
        assert row.holds(config)
        assert not row.holds(split_options({})[0])


@pytest.mark.parametrize("emit", ["st-triplets", "st-tuples"])
def test_trainer_formats_and_presets(emit: str, tmp_path: Path) -> None:
    nights = Nights(WORLDS["blobs"](), np.random.default_rng(12))
    source, out, other = tmp_path / "rows.parquet", tmp_path / "out.parquet", tmp_path / "other.parquet"
    pq.write_table(nights.table(), source)
    options: dict[str, Any] = {"emit": emit, "text": "text", "preset": "easy-positive", "negatives": 2}
    minestream.mine(source, out, progress="none", reserve=RESERVE, **options)
    nights.pass_one()
    pq.write_table(nights.table(), source)
    assert update(out, source).changes
    assert bytes_of(out) == full_run(source, other, **options)


def test_files_that_come_and_go(tmp_path: Path) -> None:
    """Of a folder every file counts; rows keep what is known of them wherever they move."""
    nights, folder, out = Nights(WORLDS["blobs"](), np.random.default_rng(13)), tmp_path / "rows", tmp_path / "out"
    folder.mkdir()
    table = nights.table()
    for name, first, end in (("a", 0, 40), ("b", 40, 80)):
        pq.write_table(table.slice(first, end - first), folder / f"{name}.parquet")
    minestream.mine(folder, out, progress="none", reserve=RESERVE)
    (folder / "a.parquet").rename(folder / "c.parquet")
    pq.write_table(table.slice(80), folder / "bb.parquet")
    with pytest.raises(UsageError, match="mined from 2 files; which count now"):
        minestream.update(out, progress="none")
    found = update(out, folder)
    assert bytes_of(out) == full_run(folder, tmp_path / "other")
    assert (found.changes and (found.changes.unchanged, found.changes.added)) == (80, table.num_rows - 80)


def test_vectors_beside_the_rows(tmp_path: Path) -> None:
    nights, source, out = Nights(WORLDS["blobs"](), np.random.default_rng(14)), tmp_path / "r.parquet", tmp_path / "out"
    for night in range(2):
        pq.write_table(nights.table().drop_columns(["embedding"]), source)
        np.save(tmp_path / "v.npy", nights.world.embeddings[nights.rows])
        if night:
            found = minestream.update(out, progress="none")
            assert (found.changes and found.changes.removed, found.full) == (6, "")
        else:
            minestream.mine(source, out, vectors=tmp_path / "v.npy", progress="none", reserve=RESERVE)
        expected = full_run(source, tmp_path / "other", vectors=tmp_path / "v.npy")
        assert bytes_of(out) == expected
        nights.pass_one()


def test_options_that_update_does_not_take(mined: tuple[Nights, Path, Path]) -> None:
    _, source, out = mined
    with pytest.raises(UsageError, match="update takes no option 'margin'"):
        update(out, source, margin=0.3)
    assert hasattr(Resources(), "reserve")


def test_several_margins_have_no_reserve(mined: tuple[Nights, Path, Path]) -> None:
    _, source, out = mined
    with pytest.raises(UsageError, match="one margin"):
        minestream.mine_margins(source, out.with_name("{margin}.parquet"), [0.1, 0.2], reserve=4, progress="none")


# ---------------------------------------------------------------- killed


def test_an_update_that_is_killed_leaves_the_old_output_whole(tmp_path: Path) -> None:
    nights = Nights(many(6_000), np.random.default_rng(11))
    source, out, other = tmp_path / "rows.parquet", tmp_path / "out.parquet", tmp_path / "other.parquet"
    pq.write_table(nights.table(), source)
    minestream.mine(source, out, progress="none", reserve=16)
    before = bytes_of(out)
    nights.pass_one(0.05)
    pq.write_table(nights.table(), source)
    command = [sys.executable, "-m", "minestream", "update", str(out), "--source", str(source), "--progress", "none"]
    for wait in (0.0, 0.05, 0.3):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began = time.monotonic()
        while not out.with_name("out.parquet.partial").exists() and time.monotonic() - began < 60:
            time.sleep(0.005)
        time.sleep(wait)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        if bytes_of(out) != before:  # it was done already
            break
    assert bytes_of(out) in (before, full_run(source, other))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert bytes_of(out) == full_run(source, other)
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob("*.tmp"))
