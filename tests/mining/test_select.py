"""Lists give what mining gives, pair by pair, or say that they end too early."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minestream.batching.compose import batch
from minestream.errors import InputError, OutputError, UsageError
from minestream.inputs import source as reading
from minestream.insight.describe import describe
from minestream.insight.verify import verify
from minestream.mining.pipeline import mine
from minestream.mining.select import choosing
from minestream.mining.select.reading import ListReader
from minestream.mining.select.run import select
from minestream.outputs import lists, parquet

Options = dict[str, Any]
ROWS, K, NEAR = 300, 40, 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An input with equal rows, texts and a second embedding, and its lists: whole, short, rounded."""
    place, rng = tmp_path_factory.mktemp("lists"), np.random.default_rng(8)
    label = rng.integers(0, 25, ROWS)
    vectors = (rng.standard_normal((25, 7))[label] + 0.6 * rng.standard_normal((ROWS, 7))).astype(np.float32)
    vectors[::9] = vectors[rng.integers(0, ROWS, len(vectors[::9]))]
    other = vectors + 0.2 * rng.standard_normal((ROWS, 7)).astype(np.float32)
    table = pa.table({
        "id": [f"r{row * 7 % ROWS}" for row in range(ROWS)], "label": label, "text": [f"t{row}" for row in range(ROWS)],
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 7),
        "guide": pa.FixedSizeListArray.from_arrays(pa.array(other.reshape(-1)), 7),
    })  # fmt: skip
    pq.write_table(table, place / "in.parquet")
    how: Options = {"embedding": "embedding", "emit": "lists", "positives": "all", "progress": "none"}
    mine(place / "in.parquet", place / "whole", negatives=10_000, **how)
    mine(place / "in.parquet", place / "short", negatives=K, **how)
    mine(place / "in.parquet", place / "rounded.parquet", negatives=10_000, list_precision="float32", **how)
    mine(place / "in.parquet", place / "easiest", negatives=K, **(how | {"positives": "easiest"}))
    with pytest.MonkeyPatch.context() as patch:  # few nearest, and row groups of few lists
        patch.setattr(lists, "NEAREST", NEAR)
        patch.setattr(parquet, "ROW_GROUP_BYTES", 20_000)
        mine(place / "in.parquet", place / "near", negatives=10_000, **how)
    return place


def digests(place: Path) -> list[str]:
    files = sorted(place.glob("*.parquet")) if place.is_dir() else [place]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


RULES: list[Options] = [
    {},
    {"band": "any", "relative_margin": 0.05, "reference": "max", "negatives": 4, "positives": "all"},
    {"band": "any", "skip": 3, "within_top": 20, "pick": "random", "negatives": 5, "seed": 4, "float64": True},
    {
        "pick": "simans",
        "band": "any",
        "negatives": 4,
        "simans_a": 30.0,
        "simans_b": 0.1,
        "draw_weights": True,
        "within_top": 25,
    },
    {"band": "violating", "pick": "weighted", "negatives": 3, "positives": "hardest", "emit": "tuples"},
    {
        "band": "any",
        "negatives": 3,
        "max_uses": 4,
        "order": "shuffled",
        "positives": "random",
        "positives_per_anchor": 2,
    },
    {"band": "any", "negatives": 6, "max_per_negative_label": 2, "negatives_per_anchor": 4, "carry": ("text",)},
    {"band": "hard", "margin": 0.1, "swap": True, "loss": "triplet-soft", "anchors": "50"},
    {"max_positive_rank": 3, "min_positive_similarity": 0.2, "positives": "hardest", "band": "any"},
    {"max_positive_rank": 20, "positives": "all", "band": "any"},
    {"rank_positives": 30, "max_positive_similarity": 0.9, "band": "any", "emit": "tuples", "positives": "all"},
    {"band": "any", "guide": "guide", "max_similarity": 0.8, "negatives": 5, "short_rows": "drop"},
]


@pytest.mark.parametrize("options", RULES, ids=str)
@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_whole_lists_give_the_bytes_of_mining(folder: Path, tmp_path: Path, options: Options, name: str) -> None:
    (tmp_path / "direct").mkdir()
    mine(folder / "in.parquet", tmp_path / "direct" / name, embedding="embedding", progress="none", **options)
    select(folder / "whole", tmp_path / name, undecided="error", progress="none", **options)
    assert digests(tmp_path / name) == digests(tmp_path / "direct" / name) != []


@pytest.mark.parametrize("options", RULES, ids=str)
def test_the_nearest_of_lists_are_read_first_and_all_where_these_do_not_decide(
    folder: Path, tmp_path: Path, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine(folder / "in.parquet", tmp_path / "direct.parquet", embedding="embedding", progress="none", **options)
    (tmp_path / "of").mkdir()
    read, piece = {True: 0, False: 0}, ListReader.piece

    def watched(reader: ListReader, *part: Any, nearest: bool = False) -> Any:
        read[nearest] += 1
        return piece(reader, *part, nearest=nearest)

    monkeypatch.setattr(choosing, "NEAREST", NEAR)
    monkeypatch.setattr(ListReader, "piece", watched)
    select(folder / "near", tmp_path / "of" / "direct.parquet", undecided="error", progress="none", **options)
    assert digests(tmp_path / "of" / "direct.parquet") == digests(tmp_path / "direct.parquet")
    groups = sum(pq.ParquetFile(part).num_row_groups for part in (folder / "near").glob("*.parquet"))
    whole = {"max_per_negative_label", "rank_positives", "guide", "simans_a"} & options.keys()
    if whole or "max_uses" in options:  # counted beyond what is chosen, or chosen among more
        assert read == {True: 0, False: groups}
    elif options.get("band") == "any" and "relative_margin" not in options:
        assert read[True] == groups > 10 * read[False]
    else:
        assert read[True] > 0


@pytest.mark.parametrize("options", RULES[:4], ids=str)
def test_no_pair_of_short_lists_is_silently_short(folder: Path, tmp_path: Path, options: Options) -> None:
    options = (
        options
        | {"emit": "triplets"}
        | ({"within_top": K + 20, "min_similarity": -0.9} if "within_top" in options else {})
    )
    mine(folder / "in.parquet", tmp_path / "direct.parquet", embedding="embedding", progress="none", **options)
    report = select(folder / "short", tmp_path / "out.parquet", progress="none", **options)
    names = ["anchor_row", "positive_row"]
    direct, found = (pq.read_table(tmp_path / name) for name in ("direct.parquet", "out.parquet"))
    kept = set(zip(*(found[name].to_pylist() for name in names), strict=True))
    expected = [row for row in direct.to_pylist() if tuple(row[name] for name in names) in kept]
    assert found.to_pylist() == expected
    stats = report.stats
    assert stats.full + stats.short + stats.empty == stats.pairs
    assert stats.undecided > 0


def test_what_is_undecided_is_told_or_refused_or_kept(folder: Path, tmp_path: Path) -> None:
    rule: Options = {"band": "any", "relative_margin": 0.9, "positives": "all", "progress": "none"}
    report = select(folder / "short", tmp_path / "a.parquet", **rule)
    count = report.stats.undecided
    assert count
    assert any(note.startswith(f"undecided: {count:,} pairs: the list ends before") for note in report.notes)
    assert report.to_dict()["counters"]["undecided"] == count
    with pytest.raises(InputError, match=f"ends after {K} candidates, before the rule is satisfied"):
        select(folder / "short", tmp_path / "b.parquet", undecided="error", **rule)
    assert not (tmp_path / "b.parquet").exists()
    kept = select(folder / "short", tmp_path / "c.parquet", undecided="keep", **rule)
    assert kept.stats.pairs == report.stats.pairs + count


def test_vectors_are_not_read(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(reading, "decode_vectors", refused)
    select(folder / "whole", tmp_path / "out.parquet", progress="none")
    with pytest.raises(AssertionError):
        select(folder / "whole", tmp_path / "swapped.parquet", swap=True, progress="none")


def test_selected_rows_are_described_and_verified(folder: Path, tmp_path: Path) -> None:
    select(folder / "whole", tmp_path / "out.parquet", band="any", negatives=2, progress="none")
    found = describe(tmp_path / "out.parquet")
    assert found["report"]["command"].startswith(f"minestream select {folder / 'whole'} --band any --negatives 2 -o ")
    assert verify(tmp_path / "out.parquet", sample=20)["anchors"] == 20


def test_rounded_lists_give_nearly_the_same(folder: Path, tmp_path: Path) -> None:
    for name in ("whole", "rounded.parquet"):
        select(folder / name, tmp_path / f"{name}.out.parquet", band="any", negatives=4, progress="none")
    exact, rounded = (pq.read_table(tmp_path / f"{name}.out.parquet") for name in ("whole", "rounded.parquet"))
    same = np.mean(exact["negative_row"].to_numpy() == rounded["negative_row"].to_numpy())
    assert same > 0.9


@pytest.mark.parametrize(
    ("lists", "options", "what"),
    [
        ("whole", {"emit": "pairs"}, "emit=\"pairs\" is not made of lists"),
        ("whole", {"metric": "dot"}, "metric"),
        ("whole", {"preset": "facenet"}, "means metric=\"sqeuclidean\", and the lists were mined otherwise"),
        ("easiest", {"positives": "all"}, "lists easiest positives, 1 an anchor: positives all cannot be told"),
        ("easiest", {"max_positive_rank": 2}, "which ones deserve it cannot be told"),
        ("short", {"rank_positives": K + 1}, f"ranks to {K + 1} cannot be told"),
        ("short", {"band": "any", "negatives": K + 1}, f"lists {K} candidates, and the rule reads {K + 1} of"),
        ("short", {"band": "any", "pick": "random", "within_top": K + 5}, f"the rule reads {K + 5} of"),
        ("easiest", {"positives_per_anchor": 2}, "lists 1 positives an anchor, not 2"),
        ("easiest", {"band": "any", "absolute_margin": 0.1, "reference": "mean"}, "reference of all positives"),
    ],
)  # fmt: skip
def test_rules_that_lists_cannot_decide(
    folder: Path, tmp_path: Path, lists: str, options: Options, what: str
) -> None:  # fmt: skip
    with pytest.raises(UsageError, match=what):
        select(folder / lists, tmp_path / "out.parquet", **options)


def test_another_input_is_refused(folder: Path, tmp_path: Path) -> None:
    table = pq.read_table(folder / "in.parquet")
    pq.write_table(table.set_column(1, "label", pa.array(np.zeros(ROWS, np.int64))), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"so there is no negative"):
        select(folder / "whole", tmp_path / "out.parquet", source=tmp_path / "other.parquet", progress="none")
    pq.write_table(table.slice(1), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"the source is not what was mined: .*recorded 300"):
        select(folder / "whole", tmp_path / "out.parquet", source=tmp_path / "other.parquet", progress="none")


def test_mined_rows_are_no_lists(folder: Path, tmp_path: Path) -> None:
    mine(folder / "in.parquet", tmp_path / "t.parquet", embedding="embedding", progress="none")
    with pytest.raises(UsageError, match="holds triplets, and select reads lists"):
        select(tmp_path / "t.parquet", tmp_path / "out.parquet")
    with pytest.raises(OutputError, match="exists"):
        select(folder / "whole", tmp_path / "t.parquet")


def hardness(rows: list[dict[str, Any]], by: str) -> list[float]:
    """How hard each row is, by loops."""
    places: dict[tuple[int, int], int] = {}
    found = []
    for row in rows:
        pair = row["anchor_row"], row["positive_row"]
        places[pair] = places.get(pair, -1) + 1
        found.append({"rank": -places[pair], "similarity": -row["distance_an"], "loss": row["loss"]}[by])
    return found


@pytest.mark.parametrize("by", [None, "similarity", "loss"])
@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_buckets_cut_all_rows_from_easy_to_hard(folder: Path, tmp_path: Path, by: str | None, name: str) -> None:
    rule: Options = {"band": "any", "negatives": 4, "margin": 0.6, "progress": "none"}
    select(folder / "whole", tmp_path / "plain.parquet", **rule)
    select(folder / "whole", tmp_path / name, buckets=4, by=by, **rule)
    rows = pq.read_table(tmp_path / name)
    assert rows.drop_columns(["bucket"]).equals(pq.read_table(tmp_path / "plain.parquet"))
    hard, bucket = np.array(hardness(rows.to_pylist(), by or "rank"), float), rows["bucket"].to_numpy()
    assert sorted(set(bucket.tolist())) == [0, 1, 2, 3] or by == "loss"
    for one in range(3):
        assert hard[bucket == one].max(initial=-np.inf) < hard[bucket > one].min(initial=np.inf)
    if by == "similarity":  # no ties: parts of one size
        assert np.ptp(np.bincount(bucket)) <= 8
    assert verify(tmp_path / name, sample=10)["anchors"] == 10


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_no_rows_have_a_column_of_buckets(folder: Path, tmp_path: Path, name: str) -> None:
    how: Options = {"band": "any", "min_similarity": 0.99, "max_similarity": 0.991, "progress": "none"}
    assert select(folder / "whole", tmp_path / name, buckets=4, **how).stats.rows == 0
    assert pq.read_table(tmp_path / name).schema.field("bucket").type == pa.int32()


def test_batches_take_the_easy_buckets_first(folder: Path, tmp_path: Path) -> None:
    select(folder / "whole", tmp_path / "t.parquet", buckets=4, by="similarity", band="any", progress="none")
    bucket = pq.read_table(tmp_path / "t.parquet")["bucket"].to_numpy()
    found = batch(
        tmp_path / "t.parquet", tmp_path / "b.parquet", batch_size=4, epochs=3, hardness_schedule="0:0.25,1:0.5,2:1",
        keep_last=True,
    )  # fmt: skip
    table = pq.read_table(tmp_path / "b.parquet")
    for epoch, most in enumerate((0, 1, 3)):
        own = table.filter(pa.compute.equal(table["epoch"], epoch))
        assert set(bucket[own["pair_row"].to_numpy()].tolist()) == set(range(most + 1))
        assert own.num_rows == int((bucket <= most).sum())
    late = "their bucket comes in a later epoch (--hardness-schedule)"
    assert found["left_out"][late] == int((bucket > 0).sum() + (bucket > 1).sum())


def test_a_pair_of_several_rows_goes_by_its_hardest(folder: Path, tmp_path: Path) -> None:
    rule: Options = {"band": "any", "pick": "random", "negatives": 3, "progress": "none"}
    select(folder / "whole", tmp_path / "t.parquet", buckets=3, by="similarity", **rule)
    rows, hardest = pq.read_table(tmp_path / "t.parquet"), dict[Any, int]()
    ends = [rows[name].to_pylist() for name in ("anchor_row", "positive_row", "bucket")]
    for anchor, positive, bucket in zip(*ends, strict=True):
        hardest[anchor, positive] = max(bucket, hardest.get((anchor, positive), 0))
    batch(
        tmp_path / "t.parquet", tmp_path / "b.parquet", batch_size=4, epochs=2, hardness_schedule="0:0.3,1:0.6",
        keep_last=True, false_negatives="off",
    )  # fmt: skip
    steps = pq.read_table(tmp_path / "b.parquet").to_pylist()
    for epoch in (0, 1):
        met = [(ends[0][row["pair_row"]], ends[1][row["pair_row"]]) for row in steps if row["epoch"] == epoch]
        assert sorted(met) == sorted(pair for pair, most in hardest.items() if most <= epoch)
        assert len(met) > 4


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"emit": "tuples"}, 'buckets is for emit="triplets"'),
        ({"order": "shuffled"}, "is not for buckets"),
        ({"by": "loss", "band": "any", "metric": None}, "there is no loss without margin"),
    ],
)
def test_buckets_that_mean_nothing(folder: Path, tmp_path: Path, options: Options, what: str) -> None:
    lists = folder / "whole"
    if "metric" in options:
        mine(
            folder / "in.parquet", tmp_path / "l", embedding="embedding", emit="lists", metric="euclidean",
            progress="none",
        )  # fmt: skip
        lists, options = tmp_path / "l", {name: value for name, value in options.items() if name != "metric"}
    with pytest.raises(UsageError, match=what):
        select(lists, tmp_path / "out.parquet", buckets=3, **options)
