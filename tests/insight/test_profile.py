"""The profile against brute force over the reference's distances, in plain NumPy that shares nothing with it."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import set_sizes
from worlds import WORLDS, World

from minestream import reference
from minestream.cli.profile_text import profile_text
from minestream.errors import OutputError, UsageError
from minestream.insight.around import count_anchor
from minestream.insight.counting import Ratio, empty_counts
from minestream.insight.profiling import profile
from minestream.kernels.types import NEGATIVE, NEITHER, POSITIVE
from minestream.mining.pipeline import mine
from minestream.system.contract import findings

CASES = [
    ("blobs", "cosine"), ("duplicates", "cosine"), ("one_big_class", "euclidean"), ("singletons", "cosine"),
    ("all_singletons", "euclidean"), ("ties", "sqeuclidean"), ("two_far_clusters", "euclidean"),
    ("far_offset", "euclidean"), ("zero_rows", "dot"), ("one_dimension", "cosine"), ("float16_rows", "sqeuclidean"),
    ("int8_rows", "dot"), ("multi_label", "cosine"), ("strings", "euclidean"), ("grouped", "cosine"),
    ("one_group_a_class", "cosine"), ("unlabelled", "cosine"), ("magnitudes", "cosine"), ("signed_zeros", "cosine"),
    ("shuffled_ids", "euclidean"), ("twins", "cosine"), ("twins", "dot"),
]  # fmt: skip
MARGINS = (0.02, 0.2, 1.0)


def table_of(world: World) -> pa.Table:
    n = len(world.labels)
    columns: dict[str, Any] = {
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(world.embeddings.ravel()), world.embeddings.shape[1]),
        "label": pa.array(world.labels),
    }
    if world.ids is not None:
        columns["id"] = pa.array(world.ids)
    if world.groups is not None:
        columns["camera"] = pa.array(world.groups)
    assert all(len(column) == n for column in columns.values())
    return pa.table(columns)


def digits() -> World:
    with as_file(files("minestream").joinpath("data", "digits.parquet")) as path:
        table = pq.read_table(path)
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    return World(vectors, table["label"].to_pylist(), ids=table["id"].to_pylist())


def look(world: World, metric: str = "cosine", **options: Any) -> dict[str, Any]:
    if world.groups is not None:
        options["group_column"] = "camera"
    return profile(table_of(world), metric=metric, **{"progress": "none", "threads": 2, "margins": MARGINS} | options)


def label_set(label: Any) -> frozenset[Any]:
    return frozenset(each for each in (label if isinstance(label, list) else [label]) if each is not None)


def brute(world: World, metric: str, margins: tuple[float, ...] = MARGINS) -> Any:
    """Every count, by loops over anchors and their sorted rows."""
    sets = [label_set(label) for label in world.labels]
    taking_part = np.array([row for row, own in enumerate(sets) if own])
    vectors = reference.Vectors(np.asarray(world.embeddings), metric, False, taking_part)
    ids = world.ids or list(range(len(sets)))
    rank = {row: place for place, row in enumerate(sorted(taking_part.tolist(), key=lambda row: key(ids[row])))}
    out: dict[str, Any] = {name: [] for name in ("p", "n", "nearest_p", "nearest_n", "ap", "first")}
    triplets = {m: Counter[str]() for m in margins}
    loss, within, served = dict.fromkeys(margins, 0.0), Counter[float](), Counter[float]()
    for a in taking_part.tolist():
        x = dict(zip(taking_part.tolist(), vectors.distances(a, taking_part).tolist(), strict=True))
        own_group = None if world.groups is None else world.groups[a]
        others = [b for b in taking_part.tolist() if b != a]
        others = [b for b in others if own_group is None or world.groups[b] != own_group]
        others.sort(key=lambda b: (x[b], rank[b]))
        same = np.array([bool(sets[a] & sets[b]) for b in others], bool)
        far = np.array([x[b] for b in others])
        p, n = far[same], far[~same]
        out["p"].append(p)
        out["n"].append(n)
        r = int(same.sum())
        hits = same[:r]
        unlike = [not np.array_equal(world.embeddings[a], world.embeddings[b]) for b in others]
        other = np.flatnonzero(p > 1e-9 if metric == "cosine" else np.array(unlike, bool)[same])
        out["ap"].append(float((hits.cumsum() / np.arange(1, r + 1) * hits).sum() / r) if r else None)
        out["first"].append(int(same.argmax()) if r else None)
        for m in margins:
            both = p[:, None] + m
            hard = n[None] <= p[:, None]
            semi = ~hard & (n[None] < both)
            triplets[m].update(hard=int(hard.sum()), semi_hard=int(semi.sum()), easy=int((~hard & ~semi).sum()))
            loss[m] += float(np.maximum(0.0, both - n[None]).sum())
            within[m] += int((n < m).sum())
            served[m] += bool(r and n.size and semi[other[0] if other.size else 0].any())
    return SimpleNamespace(**out, triplets=triplets, loss=loss, within=within, served=served, rows=taking_part)


def key(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


@cache
def brute_world(name: str, metric: str) -> Any:
    return brute(WORLDS[name](), metric)


def bins(values: np.ndarray[Any, Any], edges: list[float]) -> list[int]:
    """Counts of values by a plain loop of comparisons."""
    inner = np.array(edges[1:-1])
    place = (values[:, None] >= inner[None]).sum(axis=1)
    return [int((place == b).sum()) for b in range(len(edges) - 1)]


def assert_equals_brute_force(found: dict[str, Any], expected: Any) -> None:
    every_p, every_n = np.concatenate(expected.p), np.concatenate(expected.n)
    assert found["rows"] == expected.rows.size
    assert (found["positive_pairs"], found["negative_pairs"]) == (every_p.size // 2, every_n.size // 2)
    edges = found["histograms"]["edges"]
    for name, values in (("positive", every_p), ("negative", every_n)):
        assert found["histograms"][name] == [count // 2 for count in bins(values, edges)]
    for entry in found["margins"]:
        m, counts = entry["margin"], expected.triplets[entry["margin"]]
        assert {name: entry[name] for name in ("hard", "semi_hard", "easy")} == {
            name: counts[name] for name in ("hard", "semi_hard", "easy")
        }
        total = counts.total()
        assert found["triplets"] == total
        if total:
            assert entry["active_fraction"] == (counts["hard"] + counts["semi_hard"]) / total
            assert entry["mean_loss"] == pytest.approx(expected.loss[m] / total, rel=1e-9, abs=1e-9)
            able = sum(bool(p.size) for p in expected.p)
            assert entry["served_fraction"] == expected.served[m] / able
        if every_n.size:
            assert entry["active_pairs_fraction"] == expected.within[m] / every_n.size
    first = [place for place in expected.first if place is not None]
    for k, share in found["recall_at"].items():
        assert share == (sum(place < int(k) for place in first) / len(first) if first else None)
    precisions = [each for each in expected.ap if each is not None]
    assert found["map_at_r"] == (pytest.approx(math.fsum(precisions) / len(precisions)) if precisions else None)
    for name, kinds in (("nearest_positive", expected.p), ("nearest_negative", expected.n)):
        nearest = sorted(values[0] for values in kinds if values.size)
        quantiles = found[name]
        assert (quantiles is None) == (not nearest)
        if nearest:
            assert (quantiles["min"], quantiles["max"]) == (nearest[0], nearest[-1])
            assert quantiles["median"] == nearest[(len(nearest) - 1) // 2]


@pytest.mark.parametrize(("name", "metric"), CASES)
def test_every_count_is_that_of_brute_force(name: str, metric: str) -> None:
    assert_equals_brute_force(look(WORLDS[name](), metric), brute_world(name, metric))


@pytest.mark.parametrize("screen", ["scan", "f32"])
def test_digits(screen: str) -> None:
    world = digits()
    world = World(world.embeddings[:600], world.labels[:600], ids=(world.ids or [])[:600])
    assert_equals_brute_force(look(world, screen=screen), brute(world, "cosine"))


@pytest.mark.parametrize("name", ["blobs", "multi_label", "grouped", "twins"])
def test_neither_threads_nor_sizes_change_anything(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = WORLDS[name]()
    one = look(world, threads=1)
    set_sizes(monkeypatch, STRIP_ANCHORS=3, K=10)
    for options in ({"threads": 2}, {"threads": 3, "block_rows": 17}, {"screen": "scan"}):
        other = look(world, **options)
        assert {**other, "seconds": 0, "stages": 0} == {**one, "seconds": 0, "stages": 0}


def test_permuted_rows_with_ids_give_the_same() -> None:
    world = WORLDS["shuffled_ids"]()
    order = np.random.default_rng(1).permutation(len(world.labels))
    ids = world.ids or []
    other = World(world.embeddings[order], [world.labels[i] for i in order], ids=[ids[i] for i in order])
    one, two = look(world, "euclidean", sample=50), look(other, "euclidean", sample=50)
    for name in ("histograms", "margins", "recall_at", "positive_pairs", "nearest_positive"):
        assert one[name] == two[name]


def test_served_is_a_share_of_all_anchors_with_a_positive() -> None:
    """Also of those that have no negative, such as rows 0 and 1, whose group holds every other label."""
    angles = np.array([0.0, 0.1, 0.3, 0.35, 0.05, 0.15])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 2)
    columns = {"label": [0, 0, 1, 1, 0, 0], "group": ["g", "g", "g", "g", None, None], "embedding": values}
    options = {"group_column": "group", "group_rule": "negatives", "margins": (1.0,), "progress": "none"}
    assert profile(pa.table(columns), **options)["margins"][0]["served_fraction"] == 4 / 6


# ---------------------------------------------------------------- samples


def test_a_sample_counts_around_its_anchors_and_says_so() -> None:
    world = WORLDS["blobs"]()
    found = look(world, sample=40)
    assert found["counted"]["anchors"] == 40
    assert "40 of 150" in found["counted"]["how"]
    assert not found["counted"]["every_anchor"]
    assert all(entry["active_fraction_95"] > 0 for entry in found["margins"][:2])
    assert sum(found["histograms"]["positive"]) == 40 * 29
    assert found["positive_pairs"] == 5 * 30 * 29 // 2
    assert look(world, sample=40, full=True)["counted"]["every_anchor"]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    units = rng.integers(1, 50, size=2_000)
    counts = rng.binomial(units, rng.beta(2, 3, size=2_000))
    truth, inside = counts.sum() / units.sum(), 0
    for _ in range(400):
        drawn = rng.choice(2_000, 300, replace=False)
        ratio = Ratio(2_000)
        ratio.add(counts[drawn][:, None], units[drawn])
        inside += abs(ratio.shares()[0] - truth) <= ratio.half_widths()[0]
    assert 0.91 < inside / 400 < 0.985
    whole = Ratio(2_000)
    whole.add(counts[:, None], units)
    assert (whole.shares()[0], whole.half_widths()[0]) == (truth, 0.0)


def test_relations_counted_pair_by_pair_are_those_of_the_full_pass() -> None:
    for name in ("multi_label", "grouped"):
        full, drawn = look(WORLDS[name]()), look(WORLDS[name](), sample=10)
        for count in ("positive_pairs", "negative_pairs", "triplets"):
            assert full[count] == drawn[count]


# ---------------------------------------------------------------- around one anchor


@pytest.mark.parametrize("values", ["normal", "ties", "outlier", "one", "none", "descending", "apart", "denormal"])
def test_what_is_counted_around_an_anchor(values: str) -> None:
    rng = np.random.default_rng(3)
    x = {
        "normal": rng.normal(1.0, 0.2, 1_000), "ties": rng.integers(0, 5, 1_000).astype(float),
        "outlier": np.insert(rng.normal(1.0, 0.2, 999), 1, 1e150), "one": np.array([0.5, 0.25]), "none": np.empty(0),
        "descending": np.arange(300.0)[::-1] - 150.25,
        "apart": np.array([0.1, 0.3, 0.4] * 9), "denormal": np.array([0.0, 5e-324, 1e-323, 5e-324]),
    }[values]  # fmt: skip
    x = np.append(x, 0.0)  # the anchor's own
    kind = np.where(np.arange(x.size) % 3, NEGATIVE, POSITIVE).astype(np.int8)
    kind[-1] = NEITHER
    rank, edges, margins = rng.permutation(x.size), np.linspace(0.0, 2.0, 5), np.array([0.1, 0.5])
    out = empty_counts(2, 4, 2)
    equal = x == x[kind == POSITIVE].min() if values in ("ties", "denormal") else np.zeros(x.size, bool)
    count_anchor(x, kind, rank, equal, edges, margins, 1, out)
    order = [row for row in np.lexsort((rank, x)).tolist() if kind[row] != NEITHER]
    p, n = (sorted(x[kind == each].tolist()) for each in (POSITIVE, NEGATIVE))
    hits = [place for place, row in enumerate(order[: len(p)], 1) if kind[row] == POSITIVE]
    assert (out.positives[1], out.negatives[1]) == (len(p), len(n))
    precision = sum(hit / place for hit, place in enumerate(hits, 1)) / max(1, len(p))
    assert out.precision[1] == pytest.approx(precision, rel=1e-12)
    for bins, own in ((out.positive_bins, p), (out.negative_bins, n)):
        inside = [min(3, max(0, int(np.searchsorted(edges, each, "right")) - 1)) for each in own]
        assert bins[1].tolist() == [inside.count(b) for b in range(4)]
    assert out.hard[1] == sum(each <= near for near in p for each in n)
    for k, margin in enumerate(margins.tolist()):
        semi_hard = [[each for each in n if near < each < near + margin] for near in p]
        assert out.semi_hard[1, k] == sum(map(len, semi_hard))
        easiest = p.index(min(x[(kind == POSITIVE) & ~equal])) if p else 0
        assert out.served[1, k] == (len(semi_hard[easiest]) if p else 0)
        assert out.within[1, k] == sum(each < margin for each in n)
        loss = math.fsum(max(0.0, near + margin - each) for near in p for each in n)
        assert out.loss[1, k] == pytest.approx(loss, rel=1e-9)
    assert not any(field[0].any() for field in out)


def test_sums_do_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(4)
    world = World(rng.normal(size=(400, 8)).astype(np.float32), [int(i % 3) for i in range(400)])
    world = World(world.embeddings, world.labels, ids=[f"row {i}" for i in range(400)])
    order = rng.permutation(400)
    other = World(world.embeddings[order], [world.labels[i] for i in order], ids=[(world.ids or [])[i] for i in order])
    assert look(world, "sqeuclidean")["margins"] == look(other, "sqeuclidean")["margins"]


# ---------------------------------------------------------------- what is told


def test_the_recommended_margin_is_the_smallest_that_serves() -> None:
    found = look(digits(), margins=None)
    served = {entry["margin"]: entry["served_fraction"] for entry in found["margins"]}
    margin = found["recommended"]["margin"]
    assert served[margin] >= 0.95
    assert all(share < 0.95 for smaller, share in served.items() if smaller < margin)
    for entry in found["margins"]:
        assert entry["squared_euclidean_of_unit_rows"] == 2 * entry["cosine"] == 2 * entry["margin"]


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "sqeuclidean", "dot"])
def test_the_text_says_every_margin(metric: str) -> None:
    found = look(WORLDS["blobs"](), metric, margins=None, sample=30)
    text = profile_text(found)
    assert all(f"\n{entry['margin']:g}" in text for entry in found["margins"])
    assert "30 of 150 anchors" in text
    assert "active in reach   served" in text
    assert "in reach  negatives nearer than the margin" in text


def test_the_library_takes_a_table_and_gives_json(tmp_path: Path) -> None:
    found = look(WORLDS["strings"](), "euclidean", out=tmp_path / "look")
    stored = json.loads((tmp_path / "look" / "profile.json").read_text())
    assert stored == json.loads(json.dumps(findings("profile", found), allow_nan=False))
    assert (stored["result"]["margins"], stored["counters"]["rows"]) == (found["margins"], found["rows"])
    assert sorted(path.name for path in (tmp_path / "look").iterdir()) == [
        "duplicates.parquet", "profile.json", "report.html", "suspects.parquet",
    ]  # fmt: skip
    with pytest.raises(OutputError, match="holds files"):
        look(WORLDS["strings"](), "euclidean", out=tmp_path / "look")
    look(WORLDS["strings"](), "euclidean", out=tmp_path / "look", overwrite=True)


@pytest.mark.parametrize(
    "options", [{"margins": ()}, {"margins": (0.1, -1)}, {"sample": 0}, {"band": "hard"}, {"nonsense": 1}]
)
def test_options_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        look(WORLDS["blobs"](), **options)


def test_hubs_and_labels() -> None:
    world = WORLDS["blobs"]()
    found, expected = look(world), brute_world("blobs", "cosine")
    assert sum(row["uses"] for row in found["hubs"]["top"]) <= len(world.labels)
    assert found["hubs"]["top"][0]["uses"] == found["hubs"]["max"]
    for entry in found["per_label"]["table"]:
        own = [i for i, label in enumerate(world.labels) if label == entry["label"]]
        assert entry["rows"] == len(own)
        assert entry["positive_pairs"] == len(own) * (len(own) - 1) // 2
        assert entry["recall_at_1"] == sum(expected.first[i] == 0 for i in own) / len(own)
        assert entry["mean_nearest_positive"] == pytest.approx(np.mean([expected.p[i][0] for i in own]))


# ---------------------------------------------------------------- suspects and duplicates


def swapped(labels: list[int], share: float, seed: int) -> tuple[list[int], set[int]]:
    """Labels of which a share was replaced by another one's, and where."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
    known, out = sorted(set(labels)), list(labels)
    for row in rows.tolist():
        out[row] = int(rng.choice([label for label in known if label != labels[row]]))
    return out, set(rows.tolist())


def test_swapped_labels_come_first(tmp_path: Path) -> None:
    world = digits()
    labels, planted = swapped(world.labels, 0.02, 1)
    look(World(world.embeddings, labels, ids=world.ids), out=tmp_path / "look")
    rows = pq.read_table(tmp_path / "look" / "suspects.parquet")["row"].to_pylist()
    assert len(planted) == 36
    assert len(planted & set(rows[:36])) / 36 >= 0.9
    assert planted <= set(rows[:60])


def test_suspects_hold_what_is_said_and_can_be_left_out(tmp_path: Path) -> None:
    world = digits()
    labels, _ = swapped(world.labels, 0.02, 1)
    table = table_of(World(world.embeddings, labels, ids=[7 * id for id in world.ids or []]))
    table = table.append_column("text", pa.array([f"text {i}" for i in range(len(labels))]))
    found = profile(table, tmp_path / "look", carry=("text",), progress="none")
    suspects = pq.read_table(tmp_path / "look" / "suspects.parquet").to_pylist()
    assert len(suspects) == found["suspects"]["rows"]
    for row in suspects:
        assert row["id"] == 7 * (world.ids or [])[row["row"]]
        assert row["text"] == f"text {row['row']}"
        assert row["given_label"] == labels[row["row"]] != row["predicted_label"]
        assert row["label_score"] == row["neighbor_labels"].count(row["given_label"]) / 10
        assert row["predicted_share"] == row["neighbor_labels"].count(row["predicted_label"]) / 10
        assert row["neighbor_labels"] == [labels[i] for i in row["neighbor_rows"]]
        assert row["neighbor_ids"] == [7 * (world.ids or [])[i] for i in row["neighbor_rows"]]
    report = mine(
        table, tmp_path / "out.parquet", exclude_rows=str(tmp_path / "look" / "suspects.parquet"), progress="none"
    )
    assert report.source["dropped"]["excluded"] == len(suspects)


def test_a_row_whose_own_label_is_nearer_is_no_suspect(tmp_path: Path) -> None:
    world = digits()
    labels, _ = swapped(world.labels, 0.2, 2)
    found = look(World(world.embeddings, labels, ids=world.ids), out=tmp_path / "look")
    table = pq.read_table(tmp_path / "look" / "suspects.parquet")
    assert found["suspects"]["rows"] == len(table) > 100
    assert (table["distance_other"].to_numpy() <= table["distance_same"].to_numpy()).all()
    suspicion = table["suspicion"].to_numpy()
    assert (np.diff(suspicion) <= 0).all()
    assert 0.1 < suspicion.min() < suspicion.max() <= 1


def test_suspects_above_a_cut_are_mostly_wrong(tmp_path: Path) -> None:
    world = digits()
    labels, planted = swapped(world.labels, 0.02, 1)
    whole = look(World(world.embeddings, labels), out=tmp_path / "whole")
    cut = look(World(world.embeddings, labels), out=tmp_path / "cut", suspects_above=0.9)
    rows = {name: pq.read_table(tmp_path / name / "suspects.parquet") for name in ("whole", "cut")}
    assert whole["suspects"]["rows_above_0.9"] == cut["suspects"]["rows"] == rows["cut"].num_rows
    assert rows["cut"].equals(rows["whole"].slice(0, rows["cut"].num_rows))
    assert 20 < rows["cut"].num_rows <= len(planted)
    assert set(rows["cut"]["row"].to_pylist()) <= planted
    assert cut["suspects"]["rows_above_0.5"] == whole["suspects"]["rows_above_0.5"]
    told = profile_text(cut)
    listed = rows["cut"].num_rows
    assert re.search(rf"\nrows +{listed} +of suspicion 0.9 and above, whose neighbours", told)
    assert re.search(rf"in all, of suspicion 0.5 and above +{cut['suspects']['rows_above_0.5']}\n", told)
    page = (tmp_path / "cut" / "report.html").read_text()
    assert f"{listed} rows of suspicion 0.9 and above are listed. In all there are" in page
    assert f"{listed} of {listed} suspects" not in page
    assert f"--exclude-rows {tmp_path / 'cut'}/suspects.parquet" in told
    assert "most of them may be right" in told
    for options, words in (
        ({"suspects_above": 1.5}, "between 0 and 1"),
        ({"suspects_above": 0.9, "metric": "dot"}, "dot"),
    ):
        with pytest.raises(UsageError, match=words):
            profile(table_of(world), progress="none", **options)


@pytest.mark.parametrize("normalize", [False, True])
def test_suspicion_is_of_the_same_rows_whatever_the_unit_of_the_metric(tmp_path: Path, normalize: bool) -> None:
    world = digits()
    labels, planted = swapped(world.labels, 0.02, 1)
    tables = {}
    for metric in ("euclidean", "sqeuclidean"):
        options = {"out": tmp_path / metric, "suspects_above": 0.5, "normalize": normalize}
        look(World(world.embeddings, labels), metric, **options)
        tables[metric] = pq.read_table(tmp_path / metric / "suspects.parquet")
        rows = set(tables[metric]["row"].to_pylist())
        assert len(rows & planted) >= 0.9 * len(planted)
        assert len(rows - planted) <= 0.1 * len(planted)
    assert abs(tables["euclidean"].num_rows - tables["sqeuclidean"].num_rows) <= 2


def test_nobody_is_told_to_leave_all_suspects_out(tmp_path: Path) -> None:
    world = digits()
    text = profile_text(look(world, out=tmp_path / "clean"))
    assert "--exclude-rows" not in text
    assert "--suspects-above" not in text  # no label is so doubtful
    text = profile_text(look(World(world.embeddings, swapped(world.labels, 0.02, 1)[0]), out=tmp_path / "look"))
    assert "--exclude-rows" not in text
    assert "--suspects-above 0.9" in text
    text = profile_text(look(world, out=tmp_path / "none", suspects_above=0.9))
    assert "--exclude-rows" not in text
    assert "suspects.parquet is empty: no label is of suspicion 0.9 or above" in text


def test_duplicates_across_labels(tmp_path: Path) -> None:
    world = WORLDS["duplicates"]()
    found = look(world, out=tmp_path / "look")
    listed = pq.read_table(tmp_path / "look" / "duplicates.parquet").to_pylist()
    rows = [row.tobytes() for row in world.embeddings]
    expected = {
        (a, b)
        for a, b in itertools.combinations(range(len(rows)), 2)
        if rows[a] == rows[b] and world.labels[a] != world.labels[b]
    }
    assert {(row["left_row"], row["right_row"]) for row in listed if row["exact"]} == expected
    assert found["duplicates"]["exact_pairs"] == len(expected)
    assert all(row["left_label"] != row["right_label"] for row in listed)
