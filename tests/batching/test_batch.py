"""Composed batches, on small awkward worlds, beside rules that are spelled out here in plain Python."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minestream
from minestream import InputError, OutputError, UsageError
from minestream.cli.batching import batch_text
from minestream.cli.main import main
from minestream.integrations.batches import Batches
from minestream.outputs.recipes import recorded_command

METHODS = ("graph", "nearest", "cluster", "random")
QUIET = {"progress": "none"}
Rows = list[dict[str, Any]]


def labelled(folder: Path, rows: int = 240, labels: int = 40, seed: int = 0, **options: Any) -> tuple[Path, pa.Table]:
    """A mined file of a small table with doubled rows, rows without a label, two sources, and ids."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 6)).astype(np.float32)
    vectors[1::17] = vectors[0:-1:17][: len(vectors[1::17])]
    label = [None if rng.random() < 0.03 else int(each) for each in rng.integers(0, labels, rows)]
    table = pa.table({
        "id": [f"r{row}" for row in range(rows)], "label": pa.array(label, pa.int64()),
        "source": rng.choice(["a", "b", "b"], rows).tolist(),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 6),
    })  # fmt: skip
    pq.write_table(table, folder / "rows.parquet")
    how = {"emit": "tuples", "band": "any", "negatives": 3, "carry": "source"} | options
    minestream.mine(folder / "rows.parquet", folder / "mined.parquet", overwrite=True, **QUIET, **how)
    return folder / "mined.parquet", table


def vector_of(table: pa.Table) -> np.ndarray:
    values = table["embedding"].combine_chunks().flatten().to_numpy().astype(np.float64).reshape(len(table), -1)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def is_false(table: pa.Table, z: np.ndarray, a: int, own: int, p: int) -> bool:
    """Whether row p is a false negative of anchor a with positive `own`: by label, or equal rows."""
    label = table["label"].to_pylist()
    same = label[a] is not None and label[a] == label[p]
    equal = any(np.array_equal(z[p], z[each]) for each in (a, own))
    return a == p or same or equal


def rows_of(path: Path) -> Rows:
    return pq.read_table(path).to_pylist()


def batches_of(rows: Rows) -> dict[tuple[int, int], Rows]:
    found: dict[tuple[int, int], Rows] = defaultdict(list)
    for row in rows:
        found[row["epoch"], row["batch"]].append(row)
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("emit", ["tuples", "triplets"])
def test_pairs_meet_once_an_epoch_and_no_false_negative(method: str, emit: str, tmp_path: Path) -> None:
    mined, table = labelled(tmp_path, emit=emit)
    found = minestream.batch(mined, tmp_path / "b.parquet", method=method, batch_size=8, epochs=3, **QUIET)
    rows, z = rows_of(tmp_path / "b.parquet"), vector_of(table)
    every = {(row["anchor_row"], row["positive_row"]) for row in rows_of(mined)}
    left_out = sum(found["left_out"].values())
    assert found["pairs"] == len(every)
    assert len(rows) + left_out == 3 * len(every)
    for epoch in range(3):
        met = Counter((row["anchor_row"], row["positive_row"]) for row in rows if row["epoch"] == epoch)
        assert set(met) <= every
        assert set(met.values()) == {1}
    batches = batches_of(rows)
    assert Counter(epoch for epoch, _ in batches) == dict(enumerate(found["batches"]))
    for batch in batches.values():
        assert [row["place"] for row in batch] == list(range(8))
        for row in batch:
            for other in batch:
                if other is not row:
                    assert not is_false(table, z, row["anchor_row"], row["positive_row"], other["positive_row"])
    ids = table["id"].to_pylist()
    assert all(row["anchor_id"] == ids[row["anchor_row"]] for row in rows)


def test_negatives_and_rows_of_the_mined_file_go_along(tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path)
    minestream.batch(mined, tmp_path / "b.parquet", batch_size=4, **QUIET)
    tuples = rows_of(mined)
    for row in rows_of(tmp_path / "b.parquet"):
        own = tuples[row["pair_row"]]
        assert all(row[name] == own[name] for name in ("anchor_row", "positive_row", "negative_rows", "negative_ids"))
    triplets, _ = labelled(tmp_path, emit="triplets")
    minestream.batch(triplets, tmp_path / "c.parquet", batch_size=4, **QUIET)
    rows = rows_of(triplets)
    for row in rows_of(tmp_path / "c.parquet"):
        own = rows[row["pair_row"] : row["pair_row"] + len(row["negative_rows"])]
        assert [each["negative_row"] for each in own] == row["negative_rows"]
        assert {(each["anchor_row"], each["positive_row"]) for each in own} == {
            (row["anchor_row"], row["positive_row"])
        }


@pytest.mark.parametrize("method", METHODS)
def test_same_bytes_for_threads_memory_and_screens(method: str, tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path, rows=600, labels=120)
    how: list[dict[str, Any]] = [
        {}, {"threads": 2}, {"threads": 1, "block_rows": 64}, {"batch_rows": 7},
        {"screen": "f32"} if method != "cluster" else {},
    ]  # fmt: skip
    outs = []
    for number, options in enumerate(how):
        out = tmp_path / f"b{number}.parquet"
        minestream.batch(mined, out, method=method, batch_size=16, epochs=2, mask=True, **QUIET, **options)
        outs.append(out.read_bytes())
    assert len(set(outs)) == 1


def test_epochs_and_seeds_compose_anew(tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path)
    seen = set()
    for seed in range(3):
        found = minestream.batch(
            mined, tmp_path / "b.parquet", batch_size=8, epochs=2, seed=seed, overwrite=True, **QUIET
        )
        written = json.loads(pq.read_metadata(tmp_path / "b.parquet").metadata[b"minestream.batches"])
        assert written == found["options"]
        assert written["seed"] == seed
        rows = rows_of(tmp_path / "b.parquet")
        seen |= {tuple(row["pair_row"] for row in rows if row["epoch"] == epoch) for epoch in range(2)}
    assert len(seen) == 6


def test_strata_are_pure_and_equal_where_asked(tmp_path: Path) -> None:
    mined, table = labelled(tmp_path)
    source = table["source"].to_pylist()
    for equal in (False, True):
        found = minestream.batch(
            mined, tmp_path / "b.parquet", batch_size=8, stratify="source", equal=equal, overwrite=True, **QUIET
        )
        of = Counter()  # type: ignore[var-annotated]
        for batch in batches_of(rows_of(tmp_path / "b.parquet")).values():
            kinds = {source[row["anchor_row"]] for row in batch}
            assert len(kinds) == 1
            of[kinds.pop()] += 1
        assert found["strata"] == 2
        assert (of["a"] == of["b"]) == equal
        assert any("--equal" in why or "equal" in why for why in found["left_out"]) == equal


def test_masks_say_which_places_are_false(tmp_path: Path) -> None:
    mined, table = labelled(tmp_path, labels=6)
    minestream.batch(mined, tmp_path / "b.parquet", batch_size=12, false_negatives="off", mask=True, **QUIET)
    z, marked = vector_of(table), 0
    for batch in batches_of(rows_of(tmp_path / "b.parquet")).values():
        for row in batch:
            wrong = [
                other["place"] for other in batch
                if other is not row
                and is_false(table, z, row["anchor_row"], row["positive_row"], other["positive_row"])
            ]  # fmt: skip
            assert row["false_negatives"] == wrong
            marked += len(wrong)
    assert marked


def test_similar_positives_are_false_by_the_margin(tmp_path: Path) -> None:
    mined, table = labelled(tmp_path, positives="random")
    z = vector_of(table)
    minestream.batch(
        mined, tmp_path / "b.parquet", batch_size=4, false_negatives="similar", false_negative_margin=0.3, **QUIET
    )
    nearer = 0
    for batch in batches_of(rows_of(tmp_path / "b.parquet")).values():
        for row in batch:
            own = 1 - z[row["anchor_row"]] @ z[row["positive_row"]]
            for other in batch:
                x = 1 - z[row["anchor_row"]] @ z[other["positive_row"]]
                assert other is row or x >= own - 0.3 - 1e-9
                nearer += other is not row and x < own
    assert nearer  # within the margin they may meet


def test_known_pairs_of_two_tables_never_meet(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    documents, queries = rng.normal(size=(120, 4)), rng.normal(size=(60, 4))
    for name, rows in (("d", documents), ("q", queries)):
        columns = {"id": [f"{name}{row}" for row in range(len(rows))], "embedding": rows.astype(np.float32).tolist()}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    known = {(int(q), int(d)) for q in range(60) for d in rng.integers(0, 30, 3)}
    listed = sorted(known)
    qrels = pa.table({"query_id": [f"q{q}" for q, _ in listed], "positive_id": [f"d{d}" for _, d in listed]})
    pq.write_table(qrels, tmp_path / "qrels.parquet")
    minestream.mine(
        tmp_path / "q.parquet", tmp_path / "m.parquet", corpus=str(tmp_path / "d.parquet"), emit="tuples",
        qrels=str(tmp_path / "qrels.parquet"), negatives=2, **QUIET,
    )  # fmt: skip
    for method in METHODS:
        minestream.batch(mined := tmp_path / "m.parquet", out := tmp_path / f"{method}.parquet", method=method,
                         batch_size=6, keep_last=True, **QUIET)  # fmt: skip
        rows = rows_of(out)
        assert sorted((row["query_row"], row["positive_row"]) for row in rows) == sorted(
            (row["query_row"], row["positive_row"]) for row in rows_of(mined)
        )
        for batch in batches_of(rows).values():
            for row in batch:
                for other in batch:
                    assert other is row or (row["query_row"], other["positive_row"]) not in known
    pq.write_table(qrels.slice(1), tmp_path / "qrels.parquet")
    with pytest.raises(InputError, match=r"not what was mined: qrels\.parquet: rows"):
        minestream.batch(mined, tmp_path / "c.parquet", batch_size=6, **QUIET)


@pytest.mark.parametrize("suffix", ["tsv", "qrels"])
def test_known_pairs_in_lines_of_text_are_found_again(suffix: str, tmp_path: Path) -> None:
    vectors = np.random.default_rng(4).normal(size=(40, 4)).astype(np.float32).tolist()
    for name, own in (("q", range(20)), ("d", range(20, 60))):
        pq.write_table(pa.table({"id": own, "embedding": vectors[: len(own)]}), tmp_path / f"{name}.parquet")
    lines = [f"{q}\t{20 + q}\t1" if suffix == "tsv" else f"{q} 0 {20 + q} 1" for q in range(20)]
    head = ["query-id\tcorpus-id\tscore"] if suffix == "tsv" else []
    (qrels := tmp_path / f"r.{suffix}").write_text("\n".join(head + lines))
    for listed in (qrels, [qrels]):
        minestream.mine(tmp_path / "q.parquet", mined := tmp_path / "m.parquet", corpus=tmp_path / "d.parquet",
                        qrels=listed, emit="tuples", overwrite=True, **QUIET)  # fmt: skip
        assert minestream.batch(mined, tmp_path / "b.parquet", batch_size=4, overwrite=True, **QUIET)["pairs"] == 20
        assert not minestream.verify(mined)["differences"]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(1, 30), st.integers(0, 10**6), st.booleans(), st.sampled_from(METHODS))
def test_any_small_world(size: int, labels: int, seed: int, keep_last: bool, method: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        try:
            mined, table = labelled(Path(folder), rows=60, labels=labels, seed=seed)
        except InputError:  # no pair at all
            return
        out = Path(folder) / "b.parquet"
        try:
            found = minestream.batch(mined, out, method=method, batch_size=size, keep_last=keep_last, **QUIET)
        except InputError:  # too few labels for one batch
            return
        rows, z = rows_of(out), vector_of(table)
        assert len(rows) + sum(found["left_out"].values()) == len(rows_of(mined))
        for batch in batches_of(rows).values():
            assert len(batch) == size or (keep_last and len(batch) < size)
            for row in batch:
                for other in batch:
                    assert other is row or not is_false(
                        table, z, row["anchor_row"], row["positive_row"], other["positive_row"]
                    )


def test_communities_are_nearer_than_random_batches(tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path, rows=900, labels=200)
    for method in ("graph", "nearest", "cluster"):
        found = minestream.batch(mined, tmp_path / f"{method}.parquet", method=method, batch_size=8, **QUIET)
        assert found["hardness"]["similarity_ratio"] > 1.1, method
    plain = minestream.batch(mined, tmp_path / "random.parquet", method="random", batch_size=8, **QUIET)
    assert plain["hardness"]["similarity_ratio"] == pytest.approx(1.0)


def test_the_schedule_goes_from_random_to_near(tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path, rows=900, labels=200)
    nearest = []
    for share in (0.0, 0.5, 1.0):
        found = minestream.batch(
            mined, tmp_path / "b.parquet", batch_size=8, hardness_schedule=f"0:{share}", overwrite=True, **QUIET
        )
        nearest.append(found["hardness"]["nearest_distance"])
    assert nearest == sorted(nearest, reverse=True)
    how = {"hardness_schedule": "0:0,2:1", "overwrite": True, **QUIET}
    late = "hardness_schedule goes on to epoch 2, and epochs count from 0: epochs=3 composes it"
    for epochs in (2, 3):
        notes = minestream.batch(mined, tmp_path / "b.parquet", epochs=epochs, **how)["notes"]
        assert (late in notes) == (epochs == 2)


def test_labels_that_fill_no_batch_are_said(tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path, labels=5)
    with pytest.raises(InputError, match="the fullest holds 5") as caught:
        minestream.batch(mined, tmp_path / "b.parquet", batch_size=16, **QUIET)
    assert 'batch_size=5, or false_negatives="off" with mask, and leave masked places' in str(caught.value)
    assert not (tmp_path / "b.parquet").exists()


@pytest.mark.parametrize(("options", "words"), [
    ({"batch_size": 1}, "at least 2"), ({"method": "metis"}, "no value"), 
    ({"method": "random", "skip": 3}, "no meaning"),
    ({"group_size": 99}, "more than a batch"), ({"preset": "arctic"}, "sources apart"), ({"equal": True}, "strata"),
    ({"hardness_schedule": "0:2"}, "shares from 0 to 1"),
    ({"hardness_schedule": ""}, "shares from 0 to 1"), ({"stratify": "colour"}, "no column colour"),
    ({"stratify": "negative_rows"}, "several values a pair"),
    ({"epochs": 0}, "at least 1"), ({"preset": "b4"}, "no value"), ({"colour": 1}, "colour"),
])  # fmt: skip
def test_what_means_nothing_is_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path)
    with pytest.raises(UsageError, match=words):
        minestream.batch(mined, tmp_path / "b.parquet", **QUIET, **options)
    assert not (tmp_path / "b.parquet").exists()


def test_strata_are_not_of_negatives(tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path, emit="triplets")
    with pytest.raises(UsageError, match="negative_source may have several values a pair"):
        minestream.batch(mined, tmp_path / "b.parquet", stratify="negative_source", **QUIET)


def test_nothing_that_is_not_ours_is_replaced(tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path)
    out = tmp_path / "b.parquet"
    out.write_bytes(b"mine")
    with pytest.raises(OutputError):
        minestream.batch(mined, out, batch_size=8, overwrite=True, **QUIET)
    assert out.read_bytes() == b"mine"
    out.unlink()
    minestream.batch(mined, out, batch_size=8, **QUIET)
    with pytest.raises(OutputError):
        minestream.batch(mined, out, batch_size=8, **QUIET)
    minestream.batch(mined, out, batch_size=8, overwrite=True, **QUIET)
    assert json.loads((tmp_path / "b.parquet.manifest.json").read_text())["config"]["batches"]["batch_size"] == 8


def test_another_table_in_place_of_the_mined_one_is_noticed(tmp_path: Path) -> None:
    mined, table = labelled(tmp_path)
    pq.write_table(table.slice(1), tmp_path / "rows.parquet")
    with pytest.raises(InputError):
        minestream.batch(mined, tmp_path / "b.parquet", batch_size=8, **QUIET)


def test_batches_are_not_taken_for_mined_rows(tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path)
    minestream.batch(mined, out := tmp_path / "b.parquet", batch_size=8, **QUIET)
    for read in (
        minestream.describe, minestream.verify, lambda path: minestream.export(path, tmp_path / "x", emit="st-tuples"),
        lambda path: minestream.batch(path, tmp_path / "c.parquet", **QUIET),
    ):  # fmt: skip
        with pytest.raises(InputError, match="holds training batches, not mined rows"):
            read(out)
    with pytest.raises(InputError, match="was written by batch, whose command is not recorded"):
        recorded_command(str(out))
    with pytest.raises(InputError, match="training batches, written by minestream: no embeddings"):
        minestream.mine(out, tmp_path / "x.parquet", **QUIET)
    minestream.describe(mined)


def test_what_is_given_beside_a_preset_wins(tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path)
    found = minestream.batch(mined, tmp_path / "b.parquet", preset="b3", method="random", batch_size=8, **QUIET)
    assert [found["options"][name] for name in ("method", "neighbors", "skip")] == ["random", None, None]
    with pytest.raises(UsageError, match="no meaning"):
        minestream.batch(mined, tmp_path / "c.parquet", preset="tas-b", skip=0, **QUIET)


def test_the_text_says_which_epochs_and_sizes_it_counts(tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path)
    run = {"batch_size": 7, "epochs": 2, "overwrite": True, **QUIET}
    assert " pairs in 2 epochs: their batch would" in batch_text(minestream.batch(mined, tmp_path / "b.parquet", **run))
    found = minestream.batch(mined, tmp_path / "b.parquet", keep_last=True, **run)
    assert "of up to 7 pairs" in batch_text(found)
    found["hardness"] |= {"of_random": None, "similarity_ratio": None}
    assert "; no random batch was as full" in batch_text(found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stratify", [None, "source"])
def test_kept_batches_leave_no_pair_out(method: str, stratify: str | None, tmp_path: Path) -> None:
    mined, table = labelled(tmp_path, rows=900, labels=5)
    run = {"batch_size": 50, "keep_last": True, "method": method, "stratify": stratify, "epochs": 2, **QUIET}
    found, again = (minestream.batch(mined, tmp_path / f"{n}.parquet", threads=n, **run) for n in (1, 2))
    rows, z = rows_of(tmp_path / "1.parquet"), vector_of(table)
    assert (found["left_out"], again["left_out"]) == ({}, {})
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    met = Counter((row["epoch"], row["anchor_row"]) for row in rows)
    assert len(rows) == len(met) == 2 * found["pairs"]
    for batch in batches_of(rows).values():
        assert len({table["source"][row["anchor_row"]].as_py() for row in batch}) == 1 or not stratify
        for row in batch:
            for other in batch:
                assert other is row or not is_false(
                    table, z, row["anchor_row"], row["positive_row"], other["positive_row"]
                )
    largest = Counter(table["label"].to_pylist()).most_common(1)[0][1]
    assert stratify or max(found["batches"]) < 1.1 * largest  # so many batches the largest label needs


def test_both_spellings_of_a_choice_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mined, _ = labelled(tmp_path)
    monkeypatch.chdir(tmp_path)
    rows = {}
    for name, options in (
        ("neither", []), ("said", ["--drop-last", "--proportional"]), ("other", ["--keep-last", "--equal"])
    ):  # fmt: skip
        line = ["batch", mined.name, "-o", f"{name}.parquet", "--batch-size", "7", "--stratify", "source", *options]
        assert main([*line, "--progress", "none", "--quiet"]) == 0
        rows[name] = rows_of(tmp_path / f"{name}.parquet")
    assert rows["neither"] == rows["said"] != rows["other"]
    assert main(["batch", mined.name, "-o", "no.parquet", "--keep-last", "--drop-last", "--batch-size", "90"]) == 3


@pytest.mark.parametrize("method", METHODS)
def test_batches_that_no_pairs_fill_are_kept(method: str, tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path)
    run = {"batch_size": 10**12, "false_negatives": "off", "method": method, **QUIET}
    found = minestream.batch(mined, tmp_path / "b.parquet", keep_last=True, **run)
    assert (found["batches"], found["left_out"]) == ([1], {})
    assert "in random batches" in batch_text(found)
    with pytest.raises(InputError, match=f"the fullest holds {found['pairs']}"):
        minestream.batch(mined, tmp_path / "c.parquet", **run)


def test_equal_strata_have_as_many_batches_in_every_epoch(tmp_path: Path) -> None:
    mined, table = labelled(tmp_path, labels=12)
    source, run = table["source"].to_pylist(), {"stratify": "source", "equal": True, **QUIET}
    found = minestream.batch(mined, tmp_path / "b.parquet", batch_size=9, epochs=9, **run)
    rows = rows_of(tmp_path / "b.parquet")
    of = Counter((epoch, source[batch[0]["anchor_row"]]) for (epoch, _), batch in batches_of(rows).items())
    assert [of[epoch, "a"] for epoch in range(9)] == [of[epoch, "b"] for epoch in range(9)]
    assert len(rows) + sum(found["left_out"].values()) == 9 * found["pairs"]
    with pytest.raises(InputError, match=r"of every source without .* the fullest of one of them holds 1"):
        minestream.batch(mined, tmp_path / "c.parquet", batch_size=13, **run)


def test_pairs_of_labels_are_those_that_mine_takes(tmp_path: Path) -> None:
    mined, table = labelled(tmp_path, labels=60, negatives=1, short_rows="keep")
    expected = {(row["anchor_row"], row["positive_row"]) for row in rows_of(mined)}
    run = {"pairs_from": "labels", "batch_size": 5, "keep_last": True, "stratify": "source", **QUIET}
    found = minestream.batch(tmp_path / "rows.parquet", out := tmp_path / "b.parquet", **run)
    rows, z = rows_of(out), vector_of(table)
    assert found["left_out"] == {}
    assert {(row["anchor_row"], row["positive_row"]) for row in rows} == expected
    assert len(rows) == len(expected) == found["pairs"]
    assert all(row["pair_row"] == row["anchor_row"] for row in rows)
    assert Batches(out).pair_rows == len(table)
    minestream.batch(mined, of_mined := tmp_path / "m.parquet", batch_size=2, keep_last=True, **QUIET)
    assert Batches(of_mined).pair_rows == len(rows_of(mined))
    assert not {"negative_rows", "negative_ids"} & rows[0].keys()
    sources = table["source"].to_pylist()
    for batch in batches_of(rows).values():
        assert len({sources[row["anchor_row"]] for row in batch}) == 1
        for row in batch:
            for other in batch:
                assert other is row or not is_false(
                    table, z, row["anchor_row"], row["positive_row"], other["positive_row"]
                )
    with_label = Counter(table["label"].drop_null().to_pylist())
    alone = sum(count == 1 for count in with_label.values())
    assert alone > 0
    assert any(note.startswith(f"left out: {alone} row") for note in found["notes"]), found["notes"]
    assert any(f"{table['label'].null_count} rows: unlabelled" in note for note in found["notes"])
    again = tmp_path / "c.parquet"
    minestream.batch(table, again, threads=1, block_rows=64, **run)
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize("one_table", [False, True])
def test_pairs_of_qrels_are_its_lines(one_table: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ids = {"d": [f"d{row}" for row in range(80)], "q": [f"d{row}" if one_table else f"q{row}" for row in range(40)]}
    for name, own in ids.items():
        columns = {"id": own, "embedding": rng.normal(size=(len(own), 4)).astype(np.float32).tolist()}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    lines = [(ids["q"][q], ids["d"][d], grade) for q, d, grade in rng.integers(0, (38, 78, 3), (120, 3)).tolist()]
    lines += [lines[3], (ids["q"][0], "d0", 2), (ids["q"][0], "d78", 2), (ids["q"][1], "d79", 2)]
    qrels = pa.table(dict(zip(("query_id", "positive_id", "score"), zip(*lines, strict=True), strict=True)))
    excluded = pa.table({"query_id": [lines[5][0]], "positive_id": [lines[5][1]]})
    found = minestream.batch(
        tmp_path / ("d.parquet" if one_table else "q.parquet"), out := tmp_path / "b.parquet", pairs_from="qrels",
        qrels=qrels, exclude=excluded, where="id != 'd79'", batch_size=4, keep_last=True,
        **({} if one_table else {"corpus": tmp_path / "d.parquet"}), **QUIET,
    )  # fmt: skip
    barred = {lines[5][:2], *([lines[5][1::-1]] if one_table else [])}
    used: dict[tuple[str, str], int] = {}
    for line, (query, positive, grade) in enumerate(lines):
        if grade >= 1 and positive != "d79" and query != positive and (query, positive) not in barred:
            used.setdefault((query, positive), line)
    role, rows = "anchor" if one_table else "query", rows_of(out)
    assert sorted(row["pair_row"] for row in rows) == sorted(used.values())
    assert all((row[f"{role}_id"], row["positive_id"]) == lines[row["pair_row"]][:2] for row in rows)
    assert Batches(out).pair_rows == len(lines)
    assert any("left out" in note for note in found["notes"])
    known = {*used} | ({(b, a) for a, b in used} if one_table else set())
    for batch in batches_of(rows).values():
        for row in batch:
            assert not any((row[f"{role}_id"], other["positive_id"]) in known for other in batch if other is not row)


@pytest.mark.parametrize(("options", "words"), [
    ({"label": "label"}, "label is not for mined pairs"), ({"metric": "dot"}, "metric is not for mined pairs"),
    ({"pairs_from": "qrels"}, "takes the pairs that a table lists"),
    ({"pairs_from": "labels", "qrels": "q.parquet"}, "makes others"), ({"pairs_from": "rows"}, "no value"),
])  # fmt: skip
def test_what_pairs_are_from_is_refused_where_it_means_nothing(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    mined, _ = labelled(tmp_path)
    given = tmp_path / "rows.parquet" if "pairs_from" in options else mined
    with pytest.raises(UsageError, match=words):
        minestream.batch(given, tmp_path / "b.parquet", **QUIET, **options)


def test_a_table_in_place_of_mined_pairs_is_told_of_the_option(tmp_path: Path) -> None:
    _, table = labelled(tmp_path)
    with pytest.raises(InputError, match='pairs_from="labels"'):
        minestream.batch(tmp_path / "rows.parquet", tmp_path / "b.parquet", **QUIET)
    pq.write_table(table.select(["id", "embedding"]), tmp_path / "bare.parquet")
    with pytest.raises(InputError, match="label"):
        minestream.batch(tmp_path / "bare.parquet", tmp_path / "b.parquet", pairs_from="labels", **QUIET)
    with pytest.raises(OutputError, match="is INPUT, which is read"):
        minestream.batch(bare := tmp_path / "rows.parquet", bare, pairs_from="labels", overwrite=True, **QUIET)


def test_rows_of_other_parents_meet_whatever_negatives_were_mined(tmp_path: Path) -> None:
    """--negatives-at is a rule of the mined negatives: in a batch any other leaf is a negative."""
    _, table = labelled(tmp_path)
    parent = pa.array([None if label is None else label % 4 for label in table["label"].to_pylist()])
    pq.write_table(table.append_column("parent", parent), tmp_path / "rows.parquet")
    given: dict[str, Any] = {"label": ["parent", "label"], "negatives_at": "parent", "band": "any", "overwrite": True}
    minestream.mine(tmp_path / "rows.parquet", tmp_path / "mined.parquet", **given, **QUIET)
    minestream.batch(tmp_path / "mined.parquet", tmp_path / "batches.parquet", batch_size=16, method="random")
    of_row = parent.to_pylist()
    batches = batches_of(rows_of(tmp_path / "batches.parquet"))
    assert all(len({of_row[row["anchor_row"]] for row in rows}) > 1 for rows in batches.values())


@pytest.mark.parametrize("pairs_from", ["mined", "labels"])
def test_equal_values_of_a_column_never_meet(pairs_from: str, tmp_path: Path) -> None:
    _, table = labelled(tmp_path, rows=200, labels=60)
    rng = np.random.default_rng(7)
    texts = [None if rng.random() < 0.5 else f"t{each}" for each in rng.integers(0, 12, 200)]
    numbers = rng.integers(0, 150, 200).tolist()
    pq.write_table(table.append_column("text", pa.array(texts)).append_column("n", pa.array(numbers)),
                   rows_path := tmp_path / "rows.parquet")  # fmt: skip
    mined = tmp_path / "mined.parquet"
    minestream.mine(rows_path, mined, overwrite=True, emit="tuples", band="any", carry=["text", "n"], **QUIET)
    run = {"pairs_from": pairs_from, "batch_size": 6, "keep_last": True, "overwrite": True, **QUIET}
    run["inputs"] = mined if pairs_from == "mined" else rows_path

    def clashes(*columns: list[Any], **options: Any) -> int:
        """How many positives of a batch have a value of another anchor there, or of its positive; masks know them."""
        minestream.batch(out=tmp_path / "b.parquet", **run, **options)
        z, found = vector_of(table), 0
        for batch in batches_of(rows_of(tmp_path / "b.parquet")).values():
            for row in batch:
                a, own, same, known = row["anchor_row"], row["positive_row"], set[int](), set[int]()
                for other in batch:
                    p = other["positive_row"]
                    if other is row:
                        continue
                    if any(values[p] is not None and values[p] in (values[a], values[own]) for values in columns):
                        same.add(other["place"])
                    if is_false(table, z, a, own, p):
                        known.add(other["place"])
                found += len(same)
                assert "mask" not in options or row["false_negatives"] == sorted(same | known)
        return found

    assert clashes(texts)
    assert clashes(numbers)
    assert not clashes(texts, same="text")
    assert not clashes(texts, numbers, same=["text", "n"])
    assert clashes(texts, numbers, same=["text", "n"], false_negatives="off", mask=True)


def test_equal_values_are_of_columns_that_there_are(tmp_path: Path) -> None:
    mined, _ = labelled(tmp_path)
    with pytest.raises(UsageError, match=r'no column anchor_text\n.*carry="text"'):
        minestream.batch(mined, tmp_path / "b.parquet", same="text", **QUIET)
    with pytest.raises(UsageError, match="names of columns"):
        minestream.batch(mined, tmp_path / "b.parquet", same=[3], **QUIET)  # type: ignore[list-item]
