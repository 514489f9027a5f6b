"""Windows of a stream against the reference, however the stream is cut; the window; what is refused."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from assertions import assert_same_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import drawn_options, fits, reference_mined
from worlds import WORLDS, World

import minestream
from minestream.cli.main import main
from minestream.cli.report import latency_rows
from minestream.config.resolve import split_options
from minestream.config.rules import BANDS, PICKS, POSITIVE_RULES
from minestream.errors import CapacityError, InputError, MinestreamError, UsageError
from minestream.insight.verify import verify
from minestream.mining.arrays import mine_arrays
from minestream.mining.batches import mine_batches
from minestream.mining.pipeline import mine
from minestream.mining.stream import latency
from minestream.mining.stream import miner as window
from minestream.mining.stream import ring as rings
from minestream.mining.stream import window as rows_held
from minestream.search import windows

NOT_FOR_WINDOWS = ("anchors", "anchors_per_label", "order", "block_rows")


@cache
def world(name: str) -> World:
    return WORLDS[name]()


def table_of(world: World) -> pa.Table:
    """A world as a table."""
    columns: dict[str, Any] = {"label": world.labels, "id": world.ids, "group": world.groups}
    vectors = np.ascontiguousarray(world.embeddings)
    listed = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.table(
        {"embedding": listed} | {name: pa.array(each) for name, each in columns.items() if each is not None}
    )


def pieces(table: pa.Table, cuts: Sequence[int]) -> Iterator[pa.Table]:
    """The table cut at some rows; a row named twice gives a batch of no rows."""
    edges = [0, *sorted(cuts), table.num_rows]
    for first, end in itertools.pairwise(edges):
        yield table.slice(first, end - first)


def fed(table: pa.Table, cuts: Sequence[int], rows: int, **options: Any) -> tuple[pa.Table, dict[str, int]]:
    """What a Miner gives for a table cut into batches, and what it counts."""
    if "group" in table.column_names:
        options = {"group_column": "group", **options}
    with minestream.Miner(rows, **{"threads": 2, **options}) as miner:
        found = [miner.feed(piece) for piece in pieces(table, cuts)]
        return pa.Table.from_batches(found), miner.stats.answer()


def assert_as_the_reference(world: World, cuts: Sequence[int], rows: int, **options: Any) -> int:
    """Fail unless a Miner gives the reference's rows and counts; returns how many rows that are."""
    config, *_ = split_options({**options, "window": rows})
    expected = reference_mined(world, config)
    try:
        found, counts = fed(table_of(world), cuts, rows, **options)
        assert_same_rows(expected.columns, found)
        assert counts == expected.counts
    except Exception as error:
        error.add_note(f"rows={rows}, cuts={list(cuts)}, **{options!r}")
        raise
    return expected.counts["rows"]


def window_options(world: World, rng: np.random.Generator) -> dict[str, Any]:
    """Options of any cell that a window and the world can have."""
    while True:
        axes = {"metric": world.metrics, "band": [*BANDS], "pick": [*PICKS], "positives": [*POSITIVE_RULES]}
        cell = {name: str(rng.choice(list(values))) for name, values in axes.items()}
        cell["emit"] = str(rng.choice(["triplets", "triplets", "tuples"]))
        if fits(world, cell):
            break
        if cell["pick"] not in ("weighted", "simans"):
            return {"metric": cell["metric"], "margin": 0.5}
    options = drawn_options(world, cell, rng)
    return {name: value for name, value in options.items() if name not in NOT_FOR_WINDOWS}


def drawn_cuts(rows: int, rng: np.random.Generator) -> list[int]:
    """Where batches end: anywhere, some of them of no rows; the first has one."""
    return [1, *rng.integers(1, rows + 1, size=int(rng.integers(0, 12))).tolist()]


# ---------------------------------------------------------------- the reference's rows


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", WORLDS)
def test_windows_are_mined_as_the_reference_mines_them(name: str, seed: int) -> None:
    rng = np.random.default_rng([seed, len(name)])
    n = len(world(name).labels)
    rows = int(rng.choice([1, 2, 7, 40, n, 5 * n]))
    assert_as_the_reference(world(name), drawn_cuts(n, rng), rows, **window_options(world(name), rng))


CASES: dict[str, dict[str, Any]] = {
    "margins": {"relative_margin": 0.05, "band": "any"},
    "margin below the farthest positive": {"absolute_margin": 0.05, "reference": "min", "band": "any"},
    "margin below the mean": {"absolute_margin": 0.05, "reference": "mean", "band": "any"},
    "similarities": {"max_similarity": 0.9, "min_similarity": 0.0},
    "label cap": {"max_per_negative_label": 1, "negatives": 4, "band": "any"},
    "label cap before a random pick": {"max_per_negative_label": 1, "negatives": 4, "pick": "random"},
    "fallback": {"margin": 0.01, "fallback": "farthest"},
    "preset": {"preset": "facenet", "negatives": 3},
    "every semi-hard triplet": {"positives": "all", "negatives": 200, "drop_duplicates_within": None},
    "duplicates within": {"drop_duplicates_within": 0.05, "positives_per_anchor": 2},
}


@pytest.mark.parametrize("name", ["blobs", "duplicates", "multi_label", "unlabelled", "grouped"])
@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_rule(case: str, name: str) -> None:
    rng = np.random.default_rng(len(case))
    rows = assert_as_the_reference(world(name), drawn_cuts(len(world(name).labels), rng), 50, **CASES[case])
    assert rows


def test_labels_that_come_and_go() -> None:
    """Their codes are given out again."""
    n = 400
    rows = np.random.default_rng(0).standard_normal((n, 4)).astype(np.float32)
    for labels in ([i // 10 for i in range(n)], [[i // 10, i // 15] for i in range(n)]):
        stream = World(rows, labels, groups=[i // 3 for i in range(n)])
        assert assert_as_the_reference(stream, range(20, n, 20), 25, band="any", group_rule="negatives")


def same_ids(n: int = 150, ids: int = 40) -> World:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((n, 4)).astype(np.float32)
    return World(rows, rng.integers(0, 4, n).tolist(), ids=[f"item {i}" for i in rng.integers(0, ids, n)])


@pytest.mark.parametrize("rows", [1, 10, 60, 1000])
def test_of_each_id_the_last_row_counts(rows: int) -> None:
    for seed in range(5):
        cuts = drawn_cuts(150, np.random.default_rng(seed))
        options = {"band": "any", "negatives": 3, "positives": "all", "on_duplicate_ids": "last"}
        assert_as_the_reference(same_ids(), cuts, rows, **options)
        assert_as_the_reference(same_ids(), cuts, rows, **options | {"positives": "easiest"})


@pytest.mark.parametrize("rows", [1, 10, 60])
def test_a_newer_row_replaces_whether_it_takes_part_or_not(rows: int) -> None:
    """Without a label, or bad: the item is gone, and no older version of it is mined."""
    whole = same_ids()
    rng = np.random.default_rng(6)
    bad = rng.random(150) < 0.2
    labels = [None if rng.random() < 0.3 else label for label in whole.labels]
    vectors = np.where(bad[:, None], np.float32(np.nan), whole.embeddings)
    for seed, positives in enumerate(("all", "easiest", "random")):
        options = {"band": "any", "negatives": 3, "positives": positives, "on_duplicate_ids": "last"}
        for unlabeled in ("ignore", "negative"):
            given = {**options, "unlabeled": unlabeled}
            config, *_ = split_options({**given, "window": rows})
            expected = reference_mined(World(whole.embeddings, labels, ids=whole.ids), config, takes_part=~bad)
            cuts = drawn_cuts(150, np.random.default_rng(seed))
            table = table_of(World(vectors, labels, ids=whole.ids))
            found, counts = fed(table, cuts, rows, on_bad_rows="drop", **given)
            assert_same_rows(expected.columns, found)
            assert counts == expected.counts


@pytest.mark.parametrize("cuts", [[], [3], [3, 4], [5], [1, 2, 3, 4, 5, 6]])
def test_an_id_twice_within_the_window_is_an_error(cuts: list[int]) -> None:
    table = table_of(World(np.eye(7, dtype=np.float32) + 1, [0, 1] * 3 + [0], ids=[10, 11, 12, 13, 14, 11, 16]))
    fed(table, cuts, 3)  # rows 1 and 5 lie four apart
    with pytest.raises(InputError, match="the id 11 stands in rows 1 and 5") as caught:
        fed(table, cuts, 4)
    assert 'on_duplicate_ids="last"' in caught.value.hint
    vectors = np.eye(7, dtype=np.float32) + 1
    vectors[5] = np.nan
    fed(table_of(World(vectors, [0, 1] * 3 + [0], ids=[10, 11, 12, 13, 14, 11, 16])), cuts, 4, on_bad_rows="drop")


# ---------------------------------------------------------------- how the stream is cut


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_cut_changes_a_row(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["blobs", "ties", "multi_label", "strings", "unlabelled", "twins"]))
    table = table_of(world(name))
    rows = data.draw(st.integers(1, table.num_rows))
    cuts = data.draw(st.lists(st.integers(1, table.num_rows), max_size=20))
    options: dict[str, Any] = {
        "metric": "euclidean", "margin": 1.0, "negatives": 2,
        "positives": data.draw(st.sampled_from(list(POSITIVE_RULES))),
        "pick": data.draw(st.sampled_from(["nearest", "random"])),
    }  # fmt: skip
    whole, counts = fed(table, [], rows, **options)
    cut, again = fed(table, cuts, rows, threads=data.draw(st.sampled_from([1, 3])), **options)
    assert cut.equals(whole)
    assert counts == again


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(world("blobs"))
    whole = fed(table, [], 60)
    monkeypatch.setattr(window, "PIECE_ROWS", 8)
    assert fed(table, [13, 90], 60) == whole


def test_strips_are_whole_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tile of this processor: no number of its rows divides every size of a strip."""
    rng = np.random.default_rng(3)
    stream = table_of(World(rng.standard_normal((300, 4)).astype(np.float32), rng.integers(0, 4, 300).tolist()))
    whole = fed(stream, [], 300, threads=1)
    for strip in (50, 51, 52, 53):
        monkeypatch.setattr(windows, "STRIP_ROWS", strip)
        assert fed(stream, [], 300, threads=1) == whole


def test_what_the_output_shows(tmp_path: Path) -> None:
    table = table_of(world("strings")).append_column("text", pa.array([f"text {i}" for i in range(100)]))
    options = {"metric": "euclidean", "band": "any", "carry": ["text", "label"]}
    found, _ = fed(table, [20, 21, 60], 30, **options)
    for role in ("anchor", "positive", "negative"):
        at = found[f"{role}_row"]
        for shown, column in ((f"{role}_id", "id"), (f"{role}_text", "text"), (f"{role}_label", "label")):
            assert found[shown].to_pylist() == table[column].take(at).to_pylist()
    assert (np.array(found["anchor_row"]) - np.array(found["positive_row"])).max() <= 30


# ---------------------------------------------------------------- outputs


def stream_file(tmp_path: Path, name: str = "blobs") -> Path:
    path = tmp_path / "stream.parquet"
    pq.write_table(table_of(world(name)), path, row_group_size=33)
    return path


@pytest.mark.parametrize("name", ["blobs", "multi_label", "shuffled_ids"])
def test_an_output_holds_what_a_miner_gives(tmp_path: Path, name: str) -> None:
    source = stream_file(tmp_path, name)
    found, counts = fed(table_of(world(name)), [50], 45, negatives=2)
    report = mine(source, tmp_path / "out.parquet", window=45, negatives=2)
    assert report.stats.answer() == counts
    assert (
        report.source["rows"] == report.source["rows_taking_part"] == len(world(name).labels) or name == "multi_label"
    )
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == found.to_pylist()
    assert mine_batches(source, window=45, negatives=2).read_all().to_pylist() == found.to_pylist()
    checked = verify(tmp_path / "out.parquet", sample=200)
    assert checked["rows_compared"] == found.num_rows


def test_a_verified_output_whose_ids_repeat(tmp_path: Path) -> None:
    pq.write_table(table_of(same_ids()), tmp_path / "stream.parquet")
    report = mine(tmp_path / "stream.parquet", tmp_path / "out", window=60, on_duplicate_ids="last", band="any")
    assert report.source["dropped"]["replaced: duplicate id"] > 20
    assert verify(tmp_path / "out", sample=200)["rows_compared"] > 100


@pytest.mark.parametrize("out", ["out.parquet", "out"])
def test_no_cut_and_no_thread_changes_a_byte(tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = stream_file(tmp_path)
    found = []
    for turn, (batch_rows, threads, piece) in enumerate([(8192, 1, 2048), (7, 2, 2048), (64, 3, 16)]):
        monkeypatch.setattr(window, "PIECE_ROWS", piece)
        monkeypatch.setattr("minestream.mining.stream.run.PIECE_ROWS", piece)
        monkeypatch.setattr("minestream.mining.stream.run.PART_ANCHORS", piece)
        folder = tmp_path / str(turn)
        folder.mkdir()
        mine(source, folder / out, window=40, batch_rows=batch_rows, threads=threads)
        files = [folder / out] if out.endswith(".parquet") else sorted((folder / out).iterdir())
        found.append([(file.name, file.read_bytes()) for file in files])
    assert found[0] == found[1] == found[2]


def test_an_interrupted_run_leaves_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "PIECE_ROWS", 16)
    monkeypatch.setattr("minestream.mining.stream.run.PIECE_ROWS", 16)
    monkeypatch.setattr("minestream.mining.stream.run.PART_ANCHORS", 16)

    def batches() -> Iterator[pa.RecordBatch]:
        yield from table_of(world("blobs")).to_batches(max_chunksize=50)
        raise OSError("the stream broke")

    table = table_of(world("blobs"))
    stream = pa.RecordBatchReader.from_batches(table.schema, batches())
    with pytest.raises(MinestreamError):
        mine(stream, tmp_path / "out", window=40)
    kept = sorted((tmp_path / "out.partial" / "parts").iterdir())
    assert len(kept) == 150 // 16
    rows = pa.concat_tables(pq.read_table(path) for path in kept)
    whole, _ = fed(table, [], 40)
    assert rows.to_pylist() == whole.slice(0, rows.num_rows).to_pylist()


def test_a_stream_without_an_end_is_mined_as_it_comes() -> None:
    rng = np.random.default_rng(0)

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(10_000):
            rows = World(rng.standard_normal((20, 4)).astype(np.float32), rng.integers(0, 3, 20).tolist())
            yield table_of(rows).to_batches()[0]

    first = next(batches())
    reader = mine_batches(pa.RecordBatchReader.from_batches(first.schema, batches()), window=100, band="any")
    seen = [reader.read_next_batch() for _ in range(5)]
    assert seen[-1]["anchor_row"][-1].as_py() < 200


def test_the_report_says_how_long_batches_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = stream_file(tmp_path)
    assert main(["mine", str(source), "--window", "50", "-o", str(tmp_path / "out.parquet")]) == 0
    told = capsys.readouterr().out
    assert re.search(r"batches +1: [\d.]+ ms\n", told)
    assert main(["mine", str(source), "--window", "50", "--dry-run"]) == 0
    assert "window bytes" in capsys.readouterr().out


def test_latencies_are_counted_to_two_percent() -> None:
    latencies = latency.Latencies()
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1e3)
    facts = latencies.facts()
    assert facts["batches"] == 1000
    assert facts["latency_median_seconds"] == pytest.approx(0.5, rel=0.03)
    assert facts["latency_p99_seconds"] == pytest.approx(0.99, rel=0.03)
    assert facts["latency_max_seconds"] == 1.0
    assert latency_rows(facts)[0][1].endswith("all within 1,000.0 ms")


# ---------------------------------------------------------------- the window


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=30))
def test_rings_and_shown_rows_are_queues(steps: list[tuple[int, int]]) -> None:
    ring, shown = rings.Ring(np.int64), rings.ArrowRows(pa.schema([("text", pa.string())]))
    queue: list[int] = []
    seen = most = 0
    for more, fewer in steps:
        rows = np.arange(seen, seen + more)
        seen += more
        ring.append(rows)
        shown.append(pa.record_batch([pa.array([f"row {i}" for i in rows], pa.string())], ["text"]))
        queue += rows.tolist()
        most = max(most, len(queue))
        fewer = min(fewer, len(queue))
        ring.drop(fewer)
        shown.drop(fewer)
        queue = queue[fewer:]
        assert ring.rows.tolist() == queue
        mixed = np.random.default_rng(seen).permutation(len(queue))
        assert shown.take(["text"], mixed)["text"].to_pylist() == [f"row {queue[i]}" for i in mixed]
    assert len(ring._array) <= 2 * most


def test_a_window_does_not_grow() -> None:
    rng = np.random.default_rng(0)
    options = {"band": "any", "carry": ["text"], "on_duplicate_ids": "last", "group_column": "group"}
    with minestream.Miner(500, **options) as miner:
        sizes = []
        for turn in range(60):
            n, first = 100, 100 * turn
            miner.feed({
                "embedding": rng.standard_normal((n, 4)).astype(np.float32),
                "label": [[f"label {(first + i) // 7}", f"other {(first + i) // 11}"] for i in range(n)],
                "id": [f"id {first + i}" for i in range(n)], "group": [(first + i) // 2 for i in range(n)],
                "text": [f"text {first + i}" for i in range(n)],
            })  # fmt: skip
            assert miner._miner is not None
            held = miner._miner._window
            arrays = [held._vectors, held._sets, *held._rings.values()]
            coders = held._coders.values()
            sizes.append(
                (len(held), sum(len(ring._array) for ring in arrays), sum(coder.codes for coder in coders),
                 sum(len(coder._code) for coder in coders), held._last.size)
            )  # fmt: skip
            assert sum(batch.num_rows for batch in held._arrow._batches) == len(held)
        assert sizes[-1][0] <= 600
        earlier, later = np.max(sizes[10:20], axis=0), np.max(sizes[-10:], axis=0)
        assert (later <= earlier + 20).all(), (earlier, later)  # 20: how labels and batches fall on each other


def test_codes_are_given_out_again() -> None:
    coder = rings.Coder()
    first = coder.add([b"a", b"b"], np.array([0, 1, 0, -1]))
    assert first.tolist() == [0, 1, 0, -1]
    coder.drop(first[:2])
    assert coder.add([b"c", b"a"], np.array([0, 1])).tolist() == [1, 0]
    assert coder.codes == 2


# ---------------------------------------------------------------- batches, and what is refused


def test_batches_may_be_arrays_tables_or_record_batches() -> None:
    some = world("blobs")
    table = table_of(some)
    found = []
    for batch in (
        table, table.combine_chunks().to_batches()[0], {"embedding": some.embeddings, "label": some.labels},
        {"vectors": some.embeddings, "label": np.array(some.labels)},
        {"embedding": some.embeddings.tolist(), "label": pa.array(some.labels)},
    ):  # fmt: skip
        named = (
            {"embedding": "embedding"} if isinstance(batch, dict) and isinstance(batch.get("embedding"), list) else {}
        )
        with minestream.Miner(30, band="any", float64=True, **named) as miner:
            found.append(miner.feed(batch)["negative_row"].to_pylist())
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ([1, 2], "list is not understood"),
        ({"label": [1, 2]}, "0 of the columns 'label' hold vectors"),
        ({"a": np.ones((2, 3)), "b": np.ones((2, 3)), "label": [1, 2]}, "2 of the columns"),
        ({"embedding": np.ones((2, 5), np.float32), "label": [1, 2]}, "dimension"),
        ({"embedding": np.ones((2, 3)), "label": [1, 2]}, "dtype"),
        ({"embedding": np.ones((2, 3), np.float32), "label": ["a", "b"]}, "schema"),
        ({"embedding": np.ones((2, 3), np.float32)}, "label"),
        ({"embedding": np.full((2, 3), np.nan, np.float32), "label": [1, 2]}, "not finite"),
    ],
)
def test_batches_that_are_refused(batch: Any, said: str) -> None:
    with minestream.Miner(30, band="any", drop_duplicates_within=None) as miner:
        miner.feed({"embedding": np.eye(3, dtype=np.float32), "label": [1, 1, 2]})
        with pytest.raises(MinestreamError, match=said):
            miner.feed(batch)
        again = miner.feed({"embedding": np.eye(3, dtype=np.float32), "label": [1, 2, 2]})
        assert set(again["anchor_row"].to_pylist()) == {3, 4, 5}  # the batch that was refused is not counted


def with_a_bad_end(table: pa.Table) -> pa.Table:
    """The table with NaN in its last row."""
    vectors = table["embedding"].combine_chunks()
    values = np.array(vectors.flatten())
    values[-1] = np.nan
    return table.set_column(0, "embedding", pa.FixedSizeListArray.from_arrays(pa.array(values), vectors.type.list_size))


FAILING_WORLDS = {name: world(name) for name in ("blobs", "multi_label", "grouped")}


@pytest.mark.parametrize("name", [*FAILING_WORLDS, "ids"])
@pytest.mark.parametrize("rows", [5, 40])
def test_whatever_is_raised_the_window_lives_on(name: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches fail while they are read, and at any piece while they are mined for; then the same one is fed again."""
    stream = FAILING_WORLDS.get(name) or same_ids()
    table, rng = table_of(stream), np.random.default_rng(rows)
    options = {"band": "any", "on_duplicate_ids": "last", "group_column": "group" if name == "grouped" else None}
    expected = fed(table, range(10, table.num_rows, 10), rows, **options)
    monkeypatch.setattr(window, "PIECE_ROWS", 4)
    look = window.limited_search
    left = [10**9]

    def failing(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return look(*arguments)

    monkeypatch.setattr(window, "limited_search", failing)
    found, failed = [], 0
    with minestream.Miner(rows, **options) as miner:
        for first in range(0, table.num_rows, 10):
            batch = table.slice(first, 10)
            while True:
                left[0] = int(rng.choice([0, 1, 2, 10**9]))
                try:
                    found.append(miner.feed(batch))
                    break
                except KeyboardInterrupt:
                    failed += 1
            with pytest.raises(MinestreamError):
                miner.feed(with_a_bad_end(batch))
        assert (pa.Table.from_batches(found), miner.stats.answer()) == expected
    assert failed


def test_a_first_batch_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"embedding": np.eye(4, 3, dtype=np.float32) + 1, "label": ["a", "a", "b", "b"]}
    with minestream.Miner(30, band="any") as miner:
        for bad in (good | {"embedding": np.full((4, 7), np.inf, np.float32)}, good | {"label": [0.5] * 4}):
            with pytest.raises(InputError):
                miner.feed(bad)
        assert miner.stats.rows == 0
        assert miner.feed(good)["anchor_row"].to_pylist() == [3]


def test_a_window_that_was_interrupted_twice_takes_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with minestream.Miner(30) as miner:
        miner.feed(table_of(world("blobs")))
        for where in ("append", "restore"):
            monkeypatch.setattr(rows_held.Window, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            miner.feed(table_of(world("blobs")))
        with pytest.raises(UsageError, match="interrupted while"):
            miner.feed(table_of(world("blobs")))


def test_masked_vectors_are_refused_and_masked_labels_are_null() -> None:
    rows = np.ma.array(np.eye(4, 3, dtype=np.float32) + 1, mask=np.eye(4, 3, k=-2))
    labels = np.ma.array([0, 0, 0, 1], mask=[1, 0, 0, 0])
    with minestream.Miner(30, band="any") as miner:
        with pytest.raises(InputError, match="masked values in rows 2, 3"):
            miner.feed({"embedding": rows, "label": labels})
        found = miner.feed({"embedding": rows.data, "label": labels})
    expected = minestream.Miner(30, band="any").feed({"embedding": rows.data, "label": [None, 0, 0, 1]})
    assert found.equals(expected)


def test_a_closed_miner_takes_no_batch() -> None:
    miner = minestream.Miner(30)
    assert miner.latency()["batches"] == miner.stats.rows == 0
    miner.close()
    with pytest.raises(UsageError, match="closed"):
        miner.feed(table_of(world("blobs")))


def test_a_batch_without_rows_gives_none() -> None:
    table = table_of(world("blobs"))
    with minestream.Miner(30) as miner:
        first = miner.feed(table)
        assert miner.feed(table.slice(0, 0)).schema == first.schema
    nothing = {"embedding": np.empty((0, 3), np.float32), "label": np.empty(0, np.int64)}
    some = {"embedding": np.eye(3, dtype=np.float32) + 1, "label": np.array([1, 1, 2])}
    with minestream.Miner(30, band="any") as miner:
        schema = miner.feed(nothing).schema
        assert miner.feed(some).schema == schema
        for none in (nothing, {"embedding": np.empty(0), "label": []}, {"embedding": [], "label": []}):
            assert (miner.feed(none).num_rows, miner.feed(none).schema) == (0, schema)
        assert miner.feed(some)["anchor_row"].to_pylist()[0] >= 3


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"corpus": "corpus.parquet"}, "--corpus"),
    ({"resume": True}, "--resume"),
    ({"require_rows": 5}, "--require-rows"),
]


@pytest.mark.usefixtures("as_written")
@pytest.mark.parametrize(("options", "named"), REFUSED, ids=lambda each: each if isinstance(each, str) else "")
def test_what_a_window_cannot_have(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    source = stream_file(tmp_path)
    for run in (
        lambda: mine(source, tmp_path / "out.parquet", window=10, **options),
        lambda: mine_batches(source, window=10, **options),
        lambda: minestream.Miner(10, **options),
    ):
        with pytest.raises(UsageError) as caught:
            run()
        assert named in caught.value.message
        assert "--window" in caught.value.message
        assert caught.value.hint
    assert {path.name for path in tmp_path.iterdir()} == {"stream.parquet"}


def test_windows_are_for_streams_only() -> None:
    some = world("blobs")
    with pytest.raises(UsageError, match="window"):
        mine_arrays(some.embeddings, some.labels, window=10)


def test_a_window_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CapacityError, match="a window of 1,000,000 rows takes"):
        mine(stream_file(tmp_path), tmp_path / "out.parquet", window=1_000_000, memory="16MiB")


def test_weighted_picks_need_three_coordinates() -> None:
    with minestream.Miner(10, pick="weighted") as miner, pytest.raises(InputError, match="3 coordinates"):
        miner.feed({"embedding": np.ones((4, 2), np.float32), "label": [0, 0, 1, 1]})
