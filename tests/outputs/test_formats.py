"""The trainer formats, against loops over rows; what they refuse; short pairs, texts, lines."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minestream.config.metrics import METRICS
from minestream.config.trainer_formats import FORMATS, ROLES, chosen
from minestream.errors import InputError, UsageError
from minestream.inputs.dataset.carried import CarriedColumns
from minestream.outputs.trainers import convert as formats
from minestream.outputs.trainers.columns import Scoring
from minestream.outputs.trainers.convert import Counts, as_lines, convert
from minestream.outputs.trainers.texts import Texts, text_column

Pairs = list[tuple[int, int, list[int]]]

PAIRS: Pairs = [(0, 1, [7, 5]), (0, 2, [5, 8]), (3, 4, [9]), (6, 1, [7, 5, 8])]


def distance(anchor: int, other: int) -> float:
    """Some distance of two rows, as it is stored."""
    return float(np.float32((anchor * 31 + other * 17) % 97 / 97 * 2))


def native(
    pairs: Pairs, *, role: str = "anchor", ids: str | None = "int", carry: bool = False, float64: bool = False,
    same: int = 20,
) -> pa.Table:  # fmt: skip
    """Native triplets of pairs, as emit writes them, with columns that no format reads."""
    rows = [(a, p, n) for a, p, negatives in pairs for n in negatives]
    ends = dict(zip((role, "positive", "negative"), zip(*rows, strict=True) if rows else ((), (), ()), strict=True))
    columns: dict[str, pa.Array] = {}
    if ids is not None:
        columns |= {f"{end}_id": ids_of(found, ids) for end, found in ends.items()}
    columns |= {f"{end}_row": pa.array(found, pa.int64()) for end, found in ends.items()}
    number = pa.float64() if float64 else pa.float32()
    columns["distance_ap"] = pa.array([distance(a, p) for a, p, _ in rows], number)
    columns["distance_an"] = pa.array([distance(a, n) for a, _, n in rows], number)
    columns |= {"loss": pa.nulls(len(rows), number), "harder": pa.nulls(len(rows), pa.int32())}
    if carry:
        columns |= {
            f"{end}_text": pa.array([f"text {row % same}" for row in found], pa.string()) for end, found in ends.items()
        }
    return pa.table(columns)


def ids_of(rows: Any, kind: str | None) -> pa.Array:
    numbers = [int(row) for row in rows]
    return pa.array([f"d{row}" for row in numbers], pa.string()) if kind == "str" else pa.array(
        [row + (1000 if kind else 0) for row in numbers], pa.int64()
    )  # fmt: skip


def joined(rows: int = 20, budget: int = 2**20, folder: Path = Path("/tmp"), same: int = 20) -> Texts:
    held = CarriedColumns(budget, folder)
    for start in range(0, rows, 7):
        texts = pa.array([f"text {row % same}" for row in range(start, min(rows, start + 7))])
        held.append(pa.record_batch([texts], ["text"]))
    held.seal()
    return dict.fromkeys(ROLES, held)


def carried(role: str) -> Texts:
    return {"anchor": f"{role}_text", "positive": "positive_text", "negative": "negative_text"}


def converted(name: str, tables: Any, **options: Any) -> pa.Table:
    options = {"k": 2, "texts": joined(), "counts": Counts(), **options}
    metric, float64 = options.pop("metric", "cosine"), options.pop("float64", False)
    scores, rule = chosen(name, metric, options.pop("scores", None), options.pop("short_rows", None))
    tables = [tables] if isinstance(tables, pa.Table) else tables
    scoring = Scoring.of(scores, metric, float64)
    return pa.concat_tables(list(convert(name, tables, scoring=scoring, short_rows=rule, **options)))


# ---------------------------------------------------------------- the same by loops


def expected(
    name: str, pairs: Pairs, k: int, scores: str, ids: str | None, same: int = 20
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of a format, from pairs that fit it; rows have one text whose numbers are the same modulo `same`."""
    pairs = [(a, p, negatives[:k]) for a, p, negatives in pairs]

    def of(anchor: int, other: int) -> float:
        x = distance(anchor, other)
        return float(np.float32(1.0 - x if scores == "similarity" else 0.0 - x))

    def name_of(row: int) -> Any:
        return ids_of([row], ids)[0].as_py()

    def scored(column: str, values: Any) -> dict[str, Any]:
        return {} if scores == "none" else {column: values}

    def said(row: int) -> str:
        return f"text {row % same}"

    found: list[dict[str, Any]] = []
    for a, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        own = list(group)
        positives, negatives = [p for _, p, _ in own], list(dict.fromkeys(n for *_, many in own for n in many))
        text = said(a)
        for_pairs = {
            "st-triplets": lambda p, many, a=a, text=text: [
                {"anchor": text, "positive": said(p), "negative": said(n)}
                | scored("scores", [of(a, p), of(a, n)])
                for n in many
            ],
            "st-tuples": lambda p, many, a=a, text=text: [
                {"anchor": text, "positive": said(p)}
                | {f"negative_{i + 1}": said(n) for i, n in enumerate(many)}
                | scored("scores", [of(a, n) for n in (p, *many)])
            ],
            "pylate": lambda p, many, a=a: [
                {"query_id": name_of(a), "document_ids": [name_of(n) for n in (p, *many)],
                 "scores": [of(a, n) for n in (p, *many)]}
            ],
            "pml": lambda p, many, a=a: [{"anchor_idx": a, "positive_idx": p, "negative_idx": n} for n in many],
        }  # fmt: skip
        documents = [(p, 1) for p in positives] + [(n, 0) for n in negatives]
        judged = [of(a, row) for row, _ in documents] if scores != "none" else [label for _, label in documents]
        plural = "labels" if scores == "none" else "scores"
        for_anchors = {
            "st-labeled-pairs": [
                {"anchor": text, "document": said(row), plural[:-1]: value}
                for (row, _), value in zip(documents, judged, strict=True)
            ],
            "st-labeled-lists": [{"query": text, "documents": [said(row) for row, _ in documents], plural: judged}],
            "flagembedding": [
                {"query": text, "pos": [said(p) for p in positives], "neg": [said(n) for n in negatives]}
                | scored("pos_scores", [of(a, p) for p in positives])
                | scored("neg_scores", [of(a, n) for n in negatives])
            ],
            "tevatron": [
                {"query_id": str(name_of(a)), "query_text": text,
                 "positive_document_ids": [str(name_of(p)) for p in positives],
                 "negative_document_ids": [str(name_of(n)) for n in negatives]}
            ],
            "trec": [
                {"qid": str(name_of(a)), "docid": str(name_of(n)), "score": of(a, n)}
                for n in sorted(negatives, key=lambda n, a=a: -of(a, n))
            ],
        }  # fmt: skip
        if name in for_pairs:
            found += [row for _, p, many in own for row in for_pairs[name](p, many)]
        else:
            found += for_anchors[name]
    return found


def apart(pairs: Pairs, same: int) -> Pairs:
    """The pairs without negatives that have the text of their anchor or of a positive of it; empty ones go."""
    barred: dict[int, set[int]] = {}
    for a, p, _ in pairs:
        barred.setdefault(a, {a % same}).add(p % same)
    left = [(a, p, [n for n in many if n % same not in barred[a]]) for a, p, many in pairs]
    return [pair for pair in left if pair[2]]


def fitted(pairs: Pairs, k: int, rule: str) -> Pairs:
    """The pairs as the rule for short rows leaves them."""
    if rule == "drop":
        return [pair for pair in pairs if len(pair[2]) >= k]
    if rule == "repeat":
        return [(a, p, list(itertools.islice(itertools.cycle(many[:k]), k))) for a, p, many in pairs]
    return pairs


@st.composite
def worlds(draw: st.DrawFn) -> Pairs:
    pairs: Pairs = []
    for anchor in draw(st.lists(st.integers(0, 19), unique=True, max_size=6)):
        positives = draw(st.lists(st.integers(0, 9), unique=True, min_size=1, max_size=3))
        negatives = st.lists(st.integers(10, 19), unique=True, min_size=1, max_size=4)
        pairs += [(anchor, positive, draw(negatives)) for positive in positives]
    return pairs


@given(
    pairs=worlds(), k=st.integers(1, 4), cuts=st.lists(st.integers(0, 60), max_size=6), block=st.integers(1, 30),
    ids=st.sampled_from(["int", "str", None]), role=st.sampled_from(["anchor", "query"]),
    form=st.sampled_from([(n, s, r) for n, f in FORMATS.items() for s in f.scores for r in f.short_rows]),
    carry=st.booleans(), float64=st.booleans(), metric=st.sampled_from(["cosine", "dot"]),
    same=st.sampled_from([20, 9, 4]),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_formats_are_those_of_loops_however_the_rows_are_cut(
    pairs: Pairs, k: int, cuts: list[int], block: int, ids: str | None, role: str, form: tuple[str, str, str],
    carry: bool, float64: bool, metric: str, same: int,
) -> None:  # fmt: skip
    name, scores, rule = form
    table, counts = native(pairs, role=role, ids=ids, carry=carry, float64=float64, same=same), Counts()
    edges = [0, *sorted(min(cut, len(table)) for cut in cuts), len(table)]
    tables = [table.slice(first, end - first) for first, end in itertools.pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats.whole_anchors, "__defaults__", (block,))
        found = converted(
            name, tables, k=k, metric=metric, scores=scores, short_rows=rule, counts=counts,
            texts=carried(role) if carry else joined(same=same),
        )  # fmt: skip
    left = apart(pairs, same) if "negative" in FORMATS[name].texts else pairs
    meaning = "negative-distance" if metric == "dot" and scores == "similarity" else scores
    assert found.to_pylist() == expected(name, fitted(left, k, rule), k, meaning, ids, same)
    short, gone = [k - len(many) for *_, many in left if len(many) < k], len(pairs) - len(left)
    assert (counts.rows, counts.pairs, counts.short) == (found.num_rows, len(pairs), len(short))
    assert counts.empty == gone
    assert (counts.dropped, counts.repeated) == (len(short) * (rule == "drop") + gone, sum(short) * (rule == "repeat"))
    assert counts.same_text == sum(len(many) for *_, many in pairs) - sum(len(many) for *_, many in left)
    seen = [tuple(v for v in row.values() if not isinstance(v, list | float)) for row in found.to_pylist()]
    equal = len(seen) - len(set(seen)) if name in ("st-triplets", "st-tuples", "st-labeled-pairs") else 0
    assert counts.equal_rows == equal
    assert_equal_texts_are_counted(
        name, pairs, fitted([(a, p, many[:k]) for a, p, many in left], k, rule), same, counts
    )


def assert_equal_texts_are_counted(name: str, read: Pairs, written: Pairs, same: int, counts: Counts) -> None:
    """By loops: negatives beside another of their text, positives with the text of their anchor."""
    joins, holds = FORMATS[name].joins, "negative" in FORMATS[name].texts
    beside: dict[Any, set[int]] = {}
    positives: dict[int, set[int]] = {}
    for a, p, many in written:
        beside.setdefault(a if joins else (a, p), set()).update(many)
        positives.setdefault(a, set()).add(p)
    repeated = sum(len(many) - len({n % same for n in many}) for many in beside.values())
    assert counts.repeated_texts == repeated * holds
    assert counts.same_text_positives == sum(a % same == p % same for a, p, _ in read) * holds
    assert counts.joined == sum(len(each) > 1 for each in positives.values()) * joins


@pytest.mark.parametrize("name", FORMATS)
def test_types_are_plain_and_columns_are_there_without_rows(name: str) -> None:
    full, empty = converted(name, native(PAIRS)), converted(name, native([]))
    assert empty.num_rows == 0
    assert empty.schema == full.schema
    for field in full.schema:
        kind = field.type.value_type if pa.types.is_list(field.type) else field.type
        assert kind in (pa.string(), pa.int64(), pa.float32()), field


def test_columns_and_types_of_each_layout() -> None:
    numbers, texts = pa.list_(pa.float32()), pa.list_(pa.string())
    tuples = converted("st-tuples", native(PAIRS), k=3, short_rows="repeat")
    assert tuples.column_names == ["anchor", "positive", "negative_1", "negative_2", "negative_3", "scores"]
    assert tuples.schema.field("scores").type == numbers
    assert [converted("st-labeled-pairs", native(PAIRS), scores=s).schema.field(2) for s in ("none", "similarity")] == [
        pa.field("label", pa.int64()), pa.field("score", pa.float32()),
    ]  # fmt: skip
    lists = converted("st-labeled-lists", native(PAIRS)).schema
    assert lists == pa.schema({"query": pa.string(), "documents": texts, "labels": pa.list_(pa.int64())})
    assert converted("pylate", native(PAIRS, ids="str")).schema.field("document_ids").type == texts


def test_euclidean_metrics_have_negative_distances() -> None:
    found = converted("trec", native(PAIRS[2:3]), metric="euclidean", scores="negative-distance")
    assert found["score"].to_pylist() == [np.float32(-distance(3, 9))]
    with pytest.raises(UsageError, match='metric="euclidean" has no similarity') as caught:
        chosen("st-triplets", "euclidean", None, None)
    assert 'scores="negative-distance" or none' in str(caught.value)
    assert converted("tevatron", native(PAIRS), metric="euclidean").num_rows == 3


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("st-tuple", {}, "did you mean 'st-tuples'"),
        ("st-tuples", {"short_rows": "keep"}, "takes drop, repeat"),
        ("pylate", {"short_rows": "keep"}, "k negatives"),
        ("pylate", {"scores": "none"}, "similarity, negative-distance"),
        ("trec", {"scores": "none"}, "similarity, negative-distance"),
        ("pml", {"scores": "similarity"}, "it takes none"),
        ("tevatron", {"short_rows": "repeat"}, "it takes keep, drop"),
        ("st-triplets", {"scores": "cosine"}, "it takes similarity, negative-distance, none"),
    ],
)
def test_what_a_format_cannot_carry_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(name, "cosine", options.get("scores"), options.get("short_rows"))
    assert words in str(caught.value)


def test_every_format_has_defaults_that_it_takes() -> None:
    for name, metric in itertools.product(FORMATS, METRICS):
        form = FORMATS[name]
        if METRICS[metric].similarity or form.scores[0] == "none":
            assert chosen(name, metric, None, None) == (form.scores[0], form.short_rows[0])
    assert set(FORMATS) == set(formats.SHAPES)


def test_rows_without_distances_have_no_scores() -> None:
    table = native(PAIRS).drop_columns(["distance_ap", "distance_an"])
    assert converted("st-triplets", table, scores="none").column_names == ["anchor", "positive", "negative"]
    with pytest.raises(UsageError, match="no distances"):
        converted("st-triplets", table)


@pytest.mark.parametrize("wrong", ["a b", "a\tb", "a\u00a0b", "a\x85b", ""])
def test_ids_with_white_space_are_no_trec(wrong: str) -> None:
    for column in ("anchor_id", "negative_id"):
        table = native(PAIRS[2:3], ids="str")
        table = table.set_column(table.column_names.index(column), column, [[wrong]])
        with pytest.raises(InputError, match="white space"):
            converted("trec", table)


def test_a_null_text_is_named_where_it_is_needed(tmp_path: Path) -> None:
    texts = [f"text {row}" for row in range(20)]
    texts[8] = None  # a negative of 0 and 6
    held = text_column(pa.table({"t": texts}), "t", 2**20, tmp_path)
    assert converted("tevatron", native(PAIRS), texts={"anchor": held}).num_rows == 3
    with pytest.raises(InputError, match=r"negative 1008 \(row 8\) is null"):
        converted("st-triplets", native(PAIRS), texts=dict.fromkeys(ROLES, held))
    table = native(PAIRS, carry=True)
    column = pa.array([None if t == "text 8" else t for t in table["negative_text"].to_pylist()], pa.string())
    table = table.set_column(table.column_names.index("negative_text"), "negative_text", column)
    with pytest.raises(InputError, match=r"negative 1008 \(row 8\) is null"):
        converted("flagembedding", table, texts=carried("anchor"))


def test_carried_columns_that_are_no_text_are_refused() -> None:
    table = native(PAIRS).append_column("anchor_n", native(PAIRS)["anchor_row"])
    with pytest.raises(InputError, match="int64"):
        converted("tevatron", table, texts={"anchor": "anchor_n"})


# ---------------------------------------------------------------- texts and lines


@pytest.mark.parametrize("budget", [0, 2**20])
def test_texts_are_read_by_row_over_several_files(tmp_path: Path, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minestream.outputs.trainers.texts.TEXT_ROWS", 3)
    kinds = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
    for place, kind in enumerate(kinds):
        column = pa.array([f"é{10 * place + row}" for row in range(10)], pa.string()).cast(kind)
        pq.write_table(pa.table({"text": column}), tmp_path / f"{place}.parquet")
    held = text_column(tmp_path, "text", budget, tmp_path)
    rows = np.array([29, 0, 10, 0, 19])
    assert held.take(rows)["text"].to_pylist() == [f"é{row}" for row in rows]
    with pytest.raises(InputError, match="did you mean 'text'"):
        text_column(tmp_path, "texts", budget, tmp_path)
    pq.write_table(pa.table({"text": [1]}), tmp_path / "9.parquet")
    with pytest.raises(InputError, match="holds no text"):
        text_column(tmp_path, "text", budget, tmp_path)


def test_lines_are_json_and_tabs_with_short_numbers() -> None:
    table = native([(0, 1, [2])], ids="str")
    for name, value in (("distance_ap", 0.1), ("distance_an", 1.0)):
        table = table.set_column(table.column_names.index(name), name, pa.array([value], pa.float32()))
    texts = pa.table({"t": ['"é"\n', "b", "\u2028"]})
    held = text_column(texts, "t", 2**20, Path("/tmp"))

    def lines(name: str, **options: Any) -> list[str]:
        shaped = converted(name, table, k=1, texts=dict.fromkeys(ROLES, held), **options)
        return [line for piece in as_lines(name, [shaped]) for line in piece]

    (line,) = lines("flagembedding")
    assert line == '{"query": "\\"é\\"\\n", "pos": ["b"], "neg": ["\u2028"], "pos_scores": [0.9], "neg_scores": [0.0]}'
    assert json.loads(line)["neg"] == ["\u2028"]
    assert lines("trec") == ["d0\td2\t0.0"]
    assert lines("trec", scores="negative-distance") == ["d0\td2\t-1.0"]


def test_blocks_end_with_anchors_and_hold_every_row() -> None:
    table = native([(a, 50, list(range(60, 60 + a % 5 + 1))) for a in range(40)])
    for block, cut in itertools.product((1, 4, 30, 1000), (1, 7, 200)):
        tables = [table.slice(start, cut) for start in range(0, len(table), cut)]
        blocks = list(formats.whole_anchors(tables, block))
        assert pa.concat_tables(blocks).equals(table)
        anchors = [set(each["anchor_row"].to_pylist()) for each in blocks]
        assert all(not one & other for one, other in itertools.pairwise(anchors))
        assert max(map(len, blocks)) < block + 5 or cut > block
    assert list(formats.whole_anchors(iter(()))) == []


def test_memory_is_bounded_by_blocks() -> None:
    """Not more than a block and a table is asked for before the first rows come out."""
    asked = []

    def tables() -> Iterator[pa.Table]:
        for start in range(0, 400, 10):
            asked.append(start)
            yield native([(a, 500, [600]) for a in range(start, start + 10)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats.whole_anchors, "__defaults__", (50,))
        next(convert("pml", tables(), k=1, scoring=None, short_rows="keep", texts={}, counts=Counts()))
    assert len(asked) <= 7
