"""--approximate: rows among what looks at each other, as brute force has them; the width; the measured recall."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from looked import looking, wrong_shares
from numpy.typing import NDArray
from support import in_turns

import minestream
from minestream import reference
from minestream.errors import GateMissedError, UsageError, VerifyMismatchError
from minestream.mining import approximate
from minestream.mining.looking import Exact, Looking
from minestream.mining.shards import Mining
from minestream.search import meeting, near
from minestream.search.meeting import Meeting
from minestream.search.near import Schedule, near_cells, shares_of, widths_of
from minestream.system.recall import counted, lower_bound, recall_of

ROWS, LABELS = 900, 12


def table(rows: int = ROWS, dimension: int = 12, seed: int = 0, ids: bool = False) -> pa.Table:
    """Clusters, of which labels are hardly told apart; some rows twice."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 40, rows)
    vectors = (1.5 * rng.normal(size=(40, dimension))[cluster] + rng.normal(size=(rows, dimension))).astype(np.float32)
    vectors[rows // 2 : rows // 2 + 20] = vectors[:20]
    labels = np.where(rng.random(rows) < 0.5, cluster % LABELS, rng.integers(0, LABELS, rows)).astype(np.int32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension)
    return pa.table({"label": labels, "embedding": column} | ({"id": rng.permutation(rows)} if ids else {}))


def matrix(given: pa.Table) -> NDArray[np.float64]:
    flat = given["embedding"].combine_chunks().flatten().to_numpy()
    return flat.reshape(given.num_rows, -1).astype(np.float64)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Every run looks as `width` says, or as it finds itself where that is 0; what it looked by is kept."""
    kept: dict[str, Any] = {"width": 0, "positives": 0}
    itself = approximate.looking_of

    def looking_of(mining: Mining) -> Looking | None:
        kept["looking"], kept["loaded"] = itself(mining), mining.loaded
        if kept["width"] and mining.config.approximate is not None:
            cells = near_cells(mining.loaded, mining.searcher.workers, mining.searcher.limits.threads)
            positives = Schedule(cells, kept["positives"]) if kept["positives"] else None
            kept["looking"] = Looking(Schedule(cells, min(kept["width"], cells.shape[1])), positives)
        return kept["looking"]

    monkeypatch.setattr("minestream.mining.pipeline.looking_of", looking_of)
    monkeypatch.setattr(approximate, "LEAST_ANCHORS", 100)
    monkeypatch.setattr(approximate, "CALIBRATED", 150)
    monkeypatch.setattr(approximate, "MEASURED", 150)
    return kept


def looked_at(kept: dict[str, Any]) -> list[tuple[int, int]]:
    """The pairs of rows, anchor and candidate, that look at each other."""
    loaded, schedule = kept["loaded"], kept["looking"].schedule
    anchors = np.flatnonzero(loaded.positives).astype(np.int32)
    candidates = np.arange(loaded.tables[1].first, loaded.tables[1].end, dtype=np.int32)
    a, b = (each.ravel() for each in np.meshgrid(anchors, candidates, indexing="ij"))
    some = schedule.looked_at(a, b)
    return list(zip(loaded.source_row[a[some]].tolist(), loaded.source_row[b[some]].tolist(), strict=True))


def brute(given: pa.Table, schedule: Schedule, k: int, metric: str) -> set[tuple[int, int]]:
    """(anchor, negative) of the k nearest rows of another label that are looked at, for anchors with a positive."""
    rows, labels = matrix(given), given["label"].to_numpy()
    if metric == "cosine":
        rows /= np.sqrt((rows * rows).sum(axis=1))[:, None]
    found, every = set(), np.arange(len(rows), dtype=np.int32)
    for a in range(len(rows)):
        x = np.square(rows - rows[a]).sum(axis=1)
        x[(labels == labels[a]) | ~schedule.looked_at(np.full(len(rows), a, np.int32), every) | (x <= 1e-12)] = np.inf
        order = np.argsort(x, kind="stable")[:k]
        found |= {(a, int(b)) for b in order if x[b] < np.inf}
    return found


def mined(given: Any, out: Path, **options: Any) -> set[tuple[int, int]]:
    given_options = {"approximate": 0.9, "band": "any", "negatives": 5, "overwrite": True, "progress": "none"}
    minestream.mine(given, out, **given_options | options)
    found = pq.read_table(out)
    anchor = "query_row" if "corpus" in options else "anchor_row"
    return set(zip(found[anchor].to_pylist(), found["negative_row"].to_pylist(), strict=True))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rows_are_the_nearest_of_those_that_are_looked_at(tmp_path: Path, seen: dict[str, Any], metric: str) -> None:
    given = table()
    for seen["width"] in (1, 9, 32):
        expected: set[tuple[int, int]] = set()
        for screen in ("scan", "f32", "i8"):
            options = {"metric": metric, "screen": screen, "margin": 0.2, "drop_duplicates_of": "anchor"}
            found = mined(given, tmp_path / "out.parquet", **options)
            expected = expected or brute(given, seen["looking"].schedule, 5, metric)
            assert found == expected, screen


@pytest.mark.parametrize("kind", ["two tables", "listed", "roles"])
def test_anchors_that_are_no_candidates_are_nobodys_negatives(
    tmp_path: Path, seen: dict[str, Any], kind: str
) -> None:  # fmt: skip
    given, corpus = table(rows=300), table(rows=600, seed=0)
    options: dict[str, Any] = {"corpus": corpus}
    rules: dict[str, Any] = {"corpus": matrix(corpus), "corpus_labels": corpus["label"].to_pylist()}
    if kind == "listed":
        given, corpus = (
            given.append_column("id", pa.array(range(300))),
            corpus.append_column("id", pa.array(range(600))),
        )
        listed = [[(row, (row * step) % 600) for row in range(300) for step in steps] for steps in ((1, 7, 11), (3, 5))]
        named = [pa.table({"query_id": [a for a, _ in some], "positive_id": [b for _, b in some]}) for some in listed]
        options = {"corpus": corpus, "qrels": named[0], "exclude": named[1], "positives": "easiest"}
        rules |= {"known_positives": listed[0], "excluded": listed[1], "corpus_labels": None}
    if kind == "roles":  # what no query is, and what is no document
        given = given.append_column("part", pa.array([0, 0, 0, 1, 1, 2] * 50))
        options = {"anchor_where": "part < 2", "candidate_where": "part > 0"}
        rules |= {"corpus": matrix(given), "corpus_labels": given["label"].to_pylist()}
        rules |= {"takes_part": [part < 2 for part in given["part"].to_pylist()]}
        rules |= {"corpus_takes_part": [part > 0 for part in given["part"].to_pylist()]}
        rules |= {"excluded": [(row, row) for row in range(300)]}
    for seen["width"] in (1, 17):
        found = [mined(given, tmp_path / "o.parquet", screen=screen, **options) for screen in ("scan", "f32", "i8")]
        want = reference.mine(
            matrix(given), labels=None if kind == "listed" else given["label"].to_pylist(), band="any", negatives=5,
            candidate_lists=looked_at(seen), drop_duplicates_of="both" if kind == "roles" else "positive", **rules,
        ).columns  # fmt: skip
        assert found == [set(zip(want["query_row"], want["negative_row"], strict=True))] * 3
        assert len(found[0]) > 200


def brute_positives(given: pa.Table, corpus: pa.Table | None, near: Schedule, count: int) -> dict[int, list[int]]:
    """The nearest rows of each row's label that it looks at, equal rows last; where these are too few, of all."""
    tables = [given, given if corpus is None else corpus]
    rows, others = (each / np.sqrt((each * each).sum(axis=1))[:, None] for each in map(matrix, tables))
    labels, of_others = (each["label"].to_numpy() for each in tables)
    first, found = 0 if corpus is None else len(rows), {}
    for a in range(len(rows)):
        alike = np.flatnonzero((of_others == labels[a]) & ((first > 0) | (np.arange(len(others)) != a)))
        x = np.square(others[alike] - rows[a]).sum(axis=1)
        some = near.looked_at(np.full(alike.size, a, np.int32), (first + alike).astype(np.int32)) & (x > 1e-12)
        some |= some.sum() < min(count, alike.size)
        order = np.lexsort((x, x <= 1e-12, ~some))
        found[a] = alike[order[some[order]]][:count].tolist()
    return found


@in_turns(count=[1, 3], two_tables=[False, True])
def test_nearest_positives_are_looked_for_near_first(
    tmp_path: Path, seen: dict[str, Any], count: int, two_tables: bool
) -> None:
    given, out, corpus = table(), tmp_path / "out.parquet", table(rows=700, seed=1) if two_tables else None
    options: dict[str, Any] = {"negatives": 1, "positives_per_anchor": count, "positives": "easiest"}
    names = ("query_row", "positive_row") if two_tables else ("anchor_row", "positive_row")
    missed = 0
    for seen["width"], seen["positives"] in ((32, 1), (9, 4)):
        for screen in ("scan", "f32", "i8"):
            mined(given, out, screen=screen, **options | ({"corpus": corpus} if two_tables else {}))
            found = pq.read_table(out).to_pydict()
            chosen: dict[int, list[int]] = {}
            for anchor, positive in zip(*(found[name] for name in names), strict=True):
                chosen.setdefault(anchor, []).append(positive)
            near = seen["looking"].positives
            assert chosen == brute_positives(given, corpus, near, count), screen
        exact = brute_positives(given, corpus, Schedule(np.zeros((len(near.near), 1), np.uint16), 1), count)
        missed += sum(chosen[a] != exact[a] for a in chosen)
    assert missed > 50


def test_a_wider_look_loses_nothing(seen: dict[str, Any], tmp_path: Path) -> None:
    given = table()
    exact = mined(given, tmp_path / "exact.parquet", approximate=None)
    hits = []
    for seen["width"] in (1, 4, 8, 16, 24, 32):
        hits.append(len(exact & mined(given, tmp_path / "out.parquet", screen="i8")))
    assert hits == sorted(hits)
    assert hits[0] < hits[-1]


def test_what_everything_meets_is_exact(seen: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "MOST_CELLS", 4)  # each row is a member of one, and looks into all
    seen["width"] = 4
    for screen in ("scan", "f32", "i8"):
        out = [tmp_path / name for name in ("some.parquet", "all.parquet")]
        for path, recall in zip(out, (0.9, None), strict=True):
            mined(table(), path, approximate=recall, screen=screen)
        assert pq.read_table(out[0]).equals(pq.read_table(out[1]))


def test_however_large_a_cell_is_no_step_gathers_more_than_there_is_room_for(
    seen: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered, itself = [], Meeting._meet

    def meet(self: Meeting, jobs: NDArray[np.int64], slack: float) -> None:
        ranges = [*jobs[:, 1:3].tolist(), *jobs[:, 3:5].tolist()]
        gathered.append(np.unique(np.concatenate([self.lane[first:end] for first, end in ranges])).size)
        itself(self, jobs, slack)

    monkeypatch.setattr(Meeting, "_meet", meet)
    monkeypatch.setattr(meeting, "STEP_ROWS", 500)
    monkeypatch.setattr(near, "MOST_CELLS", 2)
    seen["width"] = 1
    mined(table(rows=9_000), tmp_path / "out.parquet", screen="i8")
    assert max(gathered) <= 500 + 64 * 16 + 16 * 64  # and the last piece of a job: rows and columns


def test_the_rows_do_not_depend_on_how_they_are_mined(seen: dict[str, Any], tmp_path: Path) -> None:
    given = table(rows=3_000, dimension=20, ids=True)
    ways: list[dict[str, Any]] = [
        {}, *({"screen": screen, "threads": threads} for screen in ("scan", "f32", "i8", "i16") for threads in (1, 2)),
        {"block_rows": 300, "screen": "i8"}, {"memory": "24MiB"}, {"threads": 3, "block_rows": 1_000, "screen": "f32"},
    ]  # fmt: skip
    outs = []
    for number, way in enumerate(ways):
        mined(given, tmp_path / f"{number}.parquet", approximate=0.9, **way)
        assert seen["looking"].schedule is not None
        outs.append((tmp_path / f"{number}.parquet").read_bytes())
    assert all(out == outs[0] for out in outs)


def test_where_nothing_meets_no_row_is_found(seen: dict[str, Any], tmp_path: Path) -> None:
    far = np.repeat([[0.0, 1.0], [1.0, 0.0]], 2, axis=0).astype(np.float32)
    queries, corpus = (
        pa.table({"label": [0, 1], "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 2)})
        for rows in (far[:2], far[2:])
    )
    seen["width"] = 1
    for screen in ("scan", "f32", "i8"):
        assert not mined(queries, tmp_path / "out.parquet", corpus=corpus, screen=screen, short_rows="keep")


def test_slices_give_the_same_rows(seen: dict[str, Any], tmp_path: Path) -> None:
    pq.write_table(table(rows=40_000, dimension=4), tmp_path / "in.parquet")
    seen["width"] = 9
    whole = mined(tmp_path / "in.parquet", tmp_path / "whole.parquet", anchors="45%")
    for part in ("1/2", "2/2"):
        minestream.mine(
            tmp_path / "in.parquet", tmp_path / "cut.parquet", approximate=0.9, band="any", negatives=5, anchors="45%",
            shard=part, progress="none",
        )  # fmt: skip
    with pytest.raises(GateMissedError, match=r"at least 0.0000 .* asks for 0.2"):  # nobody was measured
        minestream.merge(tmp_path / "cut.parquet", require_recall=0.2)
    minestream.merge(tmp_path / "cut.parquet")
    cut = pq.read_table(tmp_path / "cut.parquet")
    assert whole == set(zip(cut["anchor_row"].to_pylist(), cut["negative_row"].to_pylist(), strict=True))


KILLED = """
import os, signal, sys, minestream
from minestream.mining import approximate
from minestream.outputs.parts import PartWriter

approximate.LEAST_ANCHORS = 1_000
write = PartWriter.write_part

def written_and_killed(*given):
    write(*given)
    os.kill(os.getpid(), signal.SIGKILL)

PartWriter.write_part = written_and_killed
minestream.mine(sys.argv[1], sys.argv[2], approximate=0.8, band="any", negatives=3, progress="none")
"""


def test_a_killed_run_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "LEAST_ANCHORS", 1_000)
    source, out, whole = (tmp_path / f"{name}.parquet" for name in ("in", "out", "whole"))
    pq.write_table(table(rows=36_000, dimension=8), source)
    options: dict[str, Any] = {"approximate": 0.8, "band": "any", "negatives": 3, "progress": "none"}
    facts = minestream.mine(source, whole, **options).to_dict()["result"]["approximate"]
    assert facts["looked_at"] < 0.3
    run = subprocess.run([sys.executable, "-c", KILLED, source, out], check=False)
    assert run.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "out.parquet.partial").glob("part-*.json"))) in (1, 2)  # of 3, which two threads write
    resumed = minestream.mine(source, out, resume=True, **options)
    assert out.read_bytes() == whole.read_bytes()
    assert resumed.to_dict()["result"]["approximate"] == facts


def test_a_target_that_is_missed_takes_more_cells(
    seen: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The anchors by which the width is chosen would have any; those by which it is measured decide."""
    shares, calls = Exact.shares, []

    def lucky(self: Exact, cells: NDArray[np.uint16], positives: Schedule | None) -> NDArray[np.float64]:
        calls.append(shares(self, cells, positives))
        return calls[-1] if len(calls) > 1 else np.ones_like(calls[-1])

    monkeypatch.setattr(Exact, "shares", lucky)
    report = minestream.mine(
        table(rows=3_000, dimension=24), tmp_path / "out.parquet", approximate=0.85, band="any", negatives=5,
        progress="none",
    )  # fmt: skip
    width, means = seen["looking"].schedule.width, calls[1].mean(axis=0)
    assert width > 1
    assert means[width - 1] < 0.85 <= means[width]
    assert report.to_dict()["result"]["approximate"]["recall"]["share"] == pytest.approx(means[width], abs=1e-4)


def test_the_measured_recall_is_that_of_what_is_written(seen: dict[str, Any], tmp_path: Path) -> None:
    given = table(rows=3_000, dimension=24)
    exact = mined(given, tmp_path / "exact.parquet", approximate=None)
    report = minestream.mine(
        given, tmp_path / "out.parquet", approximate=0.85, band="any", negatives=5, overwrite=True, progress="none"
    )
    looking, facts = seen["looking"], report.to_dict()["result"]["approximate"]
    found = pq.read_table(tmp_path / "out.parquet")
    some = set(zip(found["anchor_row"].to_pylist(), found["negative_row"].to_pylist(), strict=True))
    of_anchor = {a: [pair in some for pair in pairs] for a, pairs in itertools.groupby(sorted(exact), lambda p: p[0])}
    measured = looking.measured.anchors.tolist()
    shares = [np.mean(of_anchor[a]) for a in measured if a in of_anchor]
    assert facts["recall"]["anchors"] == len(shares) > 90
    assert facts["recall"]["share"] == pytest.approx(np.mean(shares), abs=1e-4)
    assert facts["recall"]["at_least"] < facts["recall"]["share"]
    assert 0 < facts["looked_at"] == pytest.approx(looking.schedule.share, abs=1e-4)
    described = minestream.describe(tmp_path / "out.parquet")
    assert described["report"]["stats"]["recalls"] == report.stats.recalls
    metadata = pq.read_metadata(tmp_path / "out.parquet").metadata
    assert b"approximate" in metadata[b"minestream.approximate"]


@pytest.mark.parametrize(
    ("options", "positives"),
    [
        ({"max_per_negative_label": 1, "negatives": LABELS - 1, "short_rows": "drop"}, None),
        ({"max_per_negative_label": 1, "negatives": LABELS - 1, "emit": "tuples"}, None),
        ({"swap": True, "margin": 0.02, "negatives": 40}, None),
        ({"positives": "easiest"}, 1),
        ({"positives": "easiest", "positives_per_anchor": 3, "band": "semi-hard", "margin": 0.4}, 2),
    ],
    ids=["short", "short tuples", "swap", "positives", "three positives"],
)
def test_recall_is_of_what_rows_are_written(
    seen: dict[str, Any], tmp_path: Path, options: dict[str, Any], positives: int | None
) -> None:
    given, out = table(rows=900), tmp_path / "out.parquet"
    rule: dict[str, Any] = {"band": "any", "negatives": 5, "progress": "none", "overwrite": True, **options}
    found = []
    for recall in (None, 0.9):
        with looking(5, positives) as looks:
            report = minestream.mine(given, out, approximate=recall, **rule)
        found.append(pq.read_table(out).to_pydict())
    facts = report.to_dict()["result"]["approximate"]
    assert 0 < facts["recall"]["share"] < 0.97
    assert ("positive_recall" in facts) == (positives is not None)
    assert not wrong_shares(*found, looks[0], facts, losses=True)


def test_width_reaches_the_target_or_all_is_looked_at(seen: dict[str, Any], tmp_path: Path) -> None:
    shares = {}
    for recall in (0.8, 0.9, 0.95):
        mined(table(rows=3_000, dimension=24), tmp_path / "out.parquet", approximate=recall, positives="hardest")
        shares[recall] = seen["looking"].schedule.width
    assert shares[0.8] < shares[0.9] < shares[0.95]
    rng = np.random.default_rng(0)
    column = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=600 * 64).astype(np.float32)), 64)
    isotropic = pa.table({"label": rng.integers(0, 9, 600), "embedding": column})
    for given in (isotropic, pa.table({"label": rng.integers(0, 9, 600), "embedding": [[1.0, 2.0]] * 600})):
        some, every = (tmp_path / name for name in ("some.parquet", "all.parquet"))
        options: dict[str, Any] = {"drop_duplicates_within": None}
        report = minestream.mine(given, some, approximate=0.95, negatives=3, progress="none", overwrite=True, **options)
        assert seen["looking"].schedule is None
        assert report.to_dict()["result"]["approximate"]["exactly"] == seen["looking"].why
        minestream.mine(given, every, negatives=3, progress="none", overwrite=True, **options)
        assert pq.read_table(some).equals(pq.read_table(every))


def test_few_anchors_are_mined_exactly(
    seen: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    for least, exact in ((ROWS, True), (100, False)):
        monkeypatch.setattr(approximate, "LEAST_ANCHORS", least)
        mined(table(), tmp_path / "out.parquet", approximate=0.5)
        assert (seen["looking"].why == f"up to {least} anchors are mined exactly as fast") == exact


def test_nearest_positives_are_looked_for_where_that_saves_time(seen: dict[str, Any], tmp_path: Path) -> None:
    given = table(rows=3_000, dimension=24)
    ways: dict[str, tuple[pa.Table, dict[str, Any]]] = {
        "easiest": (given, {}), "all found": (given, {"approximate": 0.999}),
        "hardest": (given, {"positives": "hardest"}),
        "small labels": (given.set_column(0, "label", pa.array(np.arange(3_000) // 30)), {}),
    }  # fmt: skip
    near = {}
    for name, (rows, options) in ways.items():
        mined(rows, tmp_path / "out.parquet", **{"approximate": 0.8, "positives": "easiest"} | options)
        near[name] = seen["looking"].positives is not None
        if near[name]:
            reached = seen["looking"].measured.reached(seen["looking"].positives.near)
            assert 0.9 < (reached <= seen["looking"].positives.width).mean() < 1
    assert near == {"easiest": True, "all found": False, "hardest": False, "small labels": False}


def test_what_lacks_its_positive_counts_as_missed(
    seen: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximate, "POSITIVES_MISSED", 0.9)
    report = minestream.mine(
        table(rows=3_000, dimension=24), tmp_path / "out.parquet", approximate=0.7, positives="easiest", band="any",
        negatives=5, progress="none",
    )  # fmt: skip
    looking, facts = seen["looking"], report.to_dict()["result"]["approximate"]
    missed = (looking.measured.reached(looking.positives.near) > looking.positives.width).mean()
    assert 0.1 < missed < 0.3
    assert facts["positive_recall"]["share"] >= 1 - missed
    assert facts["recall"]["share"] >= looking.measured.shares(looking.schedule.near, looking.positives)[
        :, looking.schedule.width
    ].mean() >= 0.7  # fmt: skip


def test_a_gate_and_verify_go_by_the_bound(seen: dict[str, Any], tmp_path: Path) -> None:
    pq.write_table(table(rows=3_000, dimension=24), tmp_path / "in.parquet")
    with pytest.raises(GateMissedError, match=r"require.recall asks for"):
        mined(tmp_path / "in.parquet", tmp_path / "out.parquet", approximate=0.8, require_recall=0.99)
    mined(tmp_path / "in.parquet", tmp_path / "out.parquet", approximate=0.8, require_recall=0.7)
    with pytest.raises(GateMissedError, match=r"was complete before, and stays.*a larger approximate looks wider"):
        mined(
            tmp_path / "in.parquet", tmp_path / "out.parquet", approximate=0.8, require_recall=0.99, resume=True,
            overwrite=False,
        )  # fmt: skip
    assert (tmp_path / "out.parquet").exists()
    found = minestream.verify(tmp_path / "out.parquet", sample=60)
    assert 0.7 < found["recall"] < 1.0
    assert found["recall_at_least"] < found["recall"]
    assert found["rows_compared"] > 10 * found["rows_not_checked"]


def test_verify_finds_a_row_that_is_wrong(seen: dict[str, Any], tmp_path: Path) -> None:
    pq.write_table(table(rows=600), tmp_path / "in.parquet")
    mined(tmp_path / "in.parquet", tmp_path / "out.parquet", approximate=0.8)
    from minestream.insight import verify

    derivation = verify.Derivation(verify.mined_output(tmp_path / "out.parquet", VerifyMismatchError), {})
    anchors, _ = derivation.sample(20, np.random.default_rng(0))
    rows = list(derivation.rows_of(anchors))
    rows[3].values["distance_an"] += 0.01
    with pytest.raises(VerifyMismatchError, match="distance_an"):
        derivation.compare_approximate(anchors, rows, derivation.derive(anchors))


def test_widths_are_nested_and_say_what_is_looked_at() -> None:
    rng = np.random.default_rng(0)
    cells = np.argsort(rng.random((200, 40)), axis=1)[:, :32].astype(np.uint16)
    a, b = (rng.integers(0, 200, 500).astype(np.int32) for _ in range(2))
    needed = widths_of(cells, a, b)
    assert (needed == widths_of(cells, b, a)).all()
    for width in (1, 7, 8, 15, 16, 32):
        members = max(1, width // 8)
        plain = [
            bool(set(cells[i, :width]) & set(cells[j, :members]) or set(cells[j, :width]) & set(cells[i, :members]))
            for i, j in zip(a, b, strict=True)
        ]
        assert (Schedule(cells, width).looked_at(a, b) == plain).all()
        meetings = sum(
            len(own) * (len(own) - 1) / 2 + len(own) * len(into)
            for cell in range(40)
            for own, into in [(np.argwhere(cells[:, :members] == cell), np.argwhere(cells[:, members:width] == cell))]
        )
        assert shares_of(cells)[width - 1] == meetings / (200 * 199 / 2)
    assert (np.diff(shares_of(cells)) >= 0).all()


@pytest.mark.parametrize("kind", ["few", "steps", "one in ten"])
def test_the_bound_covers(kind: str) -> None:
    """Of 300 runs about three may miss, and with more than nine the bound would be wrong (one time in thousands)."""
    rng = np.random.default_rng(1)
    draw = {
        "few": lambda: (rng.random(300) < 0.95) * 1.0,
        "steps": lambda: rng.binomial(16, np.where(rng.random(300) < 0.2, 0.8, 0.99)) / 16,
        "one in ten": lambda: np.where(rng.random(300) < 0.1, rng.random(300), 1.0),
    }[kind]
    true = {"few": 0.95, "steps": 0.952, "one in ten": 0.95}[kind]
    bounds = np.array([lower_bound(draw()) for _ in range(300)])
    assert (bounds > true).sum() <= 9
    assert bounds.mean() > true - 0.06


def test_counters_of_shares_round_down_and_add_up() -> None:
    counts = counted("negatives", np.array([1.0, 0.99999, 1 / 3, 1 / 3]))
    assert counts == {"negatives 0.3333": 2, "negatives 0.9999": 1, "negatives 1.0000": 1}
    found = recall_of(counts, "negatives")
    assert found is not None
    assert found.anchors == 4
    assert found.share == pytest.approx((1 + 0.9999 + 2 * 0.3333) / 4)
    assert recall_of(counts, "loss") is None


@pytest.mark.parametrize(
    "options",
    [{"max_uses": 3}, {"emit": "lists"}, {"negatives": 0, "emit": "pairs"}, {"fallback": "farthest"}, {"window": 100},
     {"approximate": 1.0}, {"approximate": 0.0}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="approximate"):
        minestream.mine(table(rows=100), tmp_path / "out.parquet", **{"approximate": 0.9} | options)


def test_rows_of_one_label_are_not_multiplied_where_they_meet(seen: dict[str, Any], tmp_path: Path) -> None:
    """Of two labels that share their cells, tiles of one alone are left out."""
    rng, rows, blobs = np.random.default_rng(4), 4_200, 6
    blob = rng.integers(0, blobs, rows)
    vectors = (5 * rng.standard_normal((blobs, 16))[blob] + rng.standard_normal((rows, 16))).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 16)
    seen["width"] = 32
    computed = {}
    for name, labels in {"two": 2 * blob + rng.integers(0, 2, rows), "many": np.arange(rows) // 2}.items():
        given = pa.table({"label": labels, "embedding": column})
        options: dict[str, Any] = {"approximate": 0.9, "band": "any", "progress": "none"}
        computed[name] = minestream.mine(given, tmp_path / f"{name}.parquet", **options).effort["pairs_computed"]
    assert computed["two"] < 0.9 * computed["many"]
