"""Tables of every awkward type and value: refused in words by exit code, or mined as the reference mines them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat
import pytest
from assertions import assert_same_rows
from attacks import AWKWARD_TABLES, INPUT
from awkward import (
    DIMENSION,
    LABELS,
    NUMBERS,
    OF_IDS,
    OF_LABELS,
    OF_VECTORS,
    ROWS,
    STRUCTS,
    matrix,
    table_of,
    vectors,
    write,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference_rows
from tally import Attack
from worlds import World

import minestream
from minestream.cli.main import main
from minestream.config.resolve import split_options
from minestream.errors import MinestreamError
from minestream.learn.linear import Linear
from minestream.mining.arrays import mine_arrays

Case = tuple[dict[str, Any], list[str], bool]  # columns, options, whether they can be mined
STRANGE = ["", " ", "\x1b[31m", "a\nb", "a\tb", "<script>", "x" * 10_000, "é\u202e", "a.b", "'\"\\", "%s{0}", "--label",
           "a\0b"]  # fmt: skip


def cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for what, (labels, mined) in OF_LABELS.items():
        found[f"labels: {what}"] = ({"label": labels}, ["--label", "label"], mined)
    for what, (ids, mined) in OF_IDS.items():
        found[f"ids: {what}"] = ({"id": ids}, ["--id", "id"], mined)
    for what, (array, mined) in OF_VECTORS.items():
        found[f"vectors: {what}"] = ({"embedding": array}, ["--embedding", "embedding"], mined)
    return found


CASES = cases()


def world_of(table: pa.Table, roles: tuple[str, ...] = ("embedding", "label", "id")) -> World:
    """The columns as the reference takes them."""

    def plain(name: str) -> list[Any]:
        return [each.as_py() if isinstance(each, pa.Scalar) else each for each in table[name].to_pylist()]

    embedding, label, id = roles
    array = table[embedding].combine_chunks()
    array = array.storage if isinstance(array, pa.ExtensionArray) else array
    dtype = array.type.value_type.to_pandas_dtype()
    rows = np.array(array.to_pylist(), np.float64).astype(dtype)
    return World(rows, plain(label), plain(id))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Mine `table` by the command line: refused in words and without a trace, or the reference's rows."""
    monkeypatch.chdir(tmp_path)

    def mine(table: pa.Table, options: list[str], mined: bool, roles: Any = ("embedding", "label", "id")) -> str:
        write(Path("rows.arrow"), table)
        code = main(["mine", "rows.arrow", "-o", "out.parquet", "--progress", "none", *options])
        said = capsys.readouterr()
        if not mined:
            assert code == INPUT, said
            assert said.err.startswith("error: ")
            assert not list(Path().glob("out*"))
            return said.err
        assert code == 0, said.err
        config, *_ = split_options({})
        assert_same_rows(reference_rows(world_of(table, roles), config), pq.read_table("out.parquet"))
        return said.out

    return mine


@pytest.mark.parametrize("name", CASES)
def test_awkward_columns(name: str, run: Callable[..., str], attack: Attack) -> None:
    columns, options, mined = CASES[name]
    with attack(AWKWARD_TABLES, name):
        assert "\x1b" not in run(table_of(columns), options, mined)


@pytest.mark.parametrize("name", STRANGE, ids=ascii)
def test_strange_column_names(name: str, run: Callable[..., str], attack: Attack) -> None:
    """Named or found, carried or misspelt: a name is text and nothing else."""
    own = pa.table({name: LABELS, "text": [f"{row}" for row in range(ROWS)], "embedding": vectors(), "id": NUMBERS})
    own_text = own.rename_columns(["label", f"{name} ", "embedding", "id"])
    with attack(AWKWARD_TABLES, "columns of strange names"):
        run(own, [f"--label={name}"], True, ("embedding", name, "id"))
        assert main(["mine", "rows.arrow", "-o", "carried.parquet", f"--label={name}", f"--carry={name}"]) == 0
        assert f"anchor_{name}" in pq.read_schema("carried.parquet").names
        for path in Path().glob("*.parquet*"):
            path.unlink()
        said = run(own_text, ["--label", f"{name}?"], False)
        assert "\x1b" not in said
        assert "\u202e" not in said


SIZES: dict[str, tuple[pa.Table, bool]] = {
    "no columns": (pa.table({}), False),
    "no columns and rows": (pa.table({"x": NUMBERS}).select([]), False),
    "no rows": (table_of({}).slice(0, 0), False),
    "one row": (table_of({}).slice(0, 1), False),
    "two rows": (table_of({}).slice(3, 2), False),
    "10,000 columns beside": (table_of({f"column {i}": NUMBERS for i in range(10_000)}), True),
    "10,000 columns that may be labels": (
        pa.table({"embedding": vectors()} | {f"c{i}": LABELS for i in range(10_000)}), False
    ),
    "two columns of one name": (
        pa.table([vectors(), LABELS, LABELS, NUMBERS], ["embedding", "label", "label", "id"]), False
    ),
    "two embeddings of one name": (
        pa.table([vectors(), vectors(), LABELS, NUMBERS], ["embedding", "embedding", "label", "id"]), False
    ),
    "two unused columns of one name": (
        pa.table([vectors(), LABELS, NUMBERS, LABELS, NUMBERS], ["embedding", "label", "id", "x", "x"]), True
    ),
    "empty batches between": (
        pa.concat_tables([table_of({}).slice(a, n) for a, n in ((0, 0), (0, 5), (5, 0), (5, 19), (0, 0))]), True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_tables_of_awkward_sizes(name: str, run: Callable[..., str], attack: Attack) -> None:
    table, mined = SIZES[name]
    with attack(AWKWARD_TABLES, name):
        run(table, [], mined)


SURROGATE = "\ud800"


@pytest.mark.parametrize("values", [[SURROGATE, "a"] * 3, np.array([SURROGATE, "a"] * 3), [[SURROGATE], ["a"]] * 3])
@pytest.mark.parametrize("what", ["labels", "ids"])
def test_lone_surrogates_in_arrays(what: str, values: Any, attack: Attack) -> None:
    given = {"labels": [1, 2] * 3} | {what: values}
    with attack(AWKWARD_TABLES, "lone surrogates in arrays"), pytest.raises(MinestreamError):
        mine_arrays(matrix()[:6], **given)


def side(left: Any, right: Any, **more: Any) -> pa.Table:
    return pa.table({"query_id": left, "positive_id": right} | more)


TSV_HEADER = b"query-id\tcorpus-id\tscore\n"
SIDES: dict[str, tuple[str, pa.Table | bytes, bool]] = {
    "pairs": ("--qrels", side([0, 1], [4, 5]), True),
    "pairs of a row with itself": ("--qrels", side([0, 1, 2], [0, 1, 6]), True),
    "the same pair 1,000 times": ("--qrels", side([0] * 1000, [4] * 1000), True),
    "ids beyond int64": ("--qrels", side(pa.array([2**64 - 1], pa.uint64()), [4]), False),
    "null ids": ("--qrels", side([0, None], [4, 5]), False),
    "ids that are floats": ("--qrels", side([0.5], [4.0]), False),
    "ids that are lists": ("--qrels", side([[0]], [[4]]), False),
    "ids that are texts": ("--qrels", side(["0"], ["4"]), True),
    "ids that are no numbers": ("--qrels", side(["\x1b[31m"], ["<b>"]), False),
    "grades that are NaN": ("--qrels", side([0], [4], score=[float("nan")]), False),
    "grades that are infinite": ("--qrels", side([0], [4], score=[float("inf")]), True),
    "grades that are texts": ("--qrels", side([0], [4], score=["much"]), False),
    "grades that are structs": ("--qrels", side([0], [4], score=[{"a": 1}]), False),
    "two columns of one name": (
        "--qrels", pa.table([[0], [4], [4]], ["query_id", "positive_id", "positive_id"]), False
    ),
    "no pairs": ("--qrels", side(pa.array([], pa.int64()), pa.array([], pa.int64())), False),
    "no columns": ("--qrels", pa.table({}), False),
    "excluded pairs of unknown ids": ("--exclude", side([99], [4]), False),
    "excluded pairs of nothing but nulls": ("--exclude", side(pa.nulls(2), pa.nulls(2)), False),
    "excluded rows": ("--exclude-rows", pa.table({"id": [0, 1]}), True),
    "excluded rows that are not there": ("--exclude-rows", pa.table({"id": [99]}), False),
    "excluded rows of structs": ("--exclude-rows", pa.table({"id": STRUCTS}), False),
    "all rows excluded": ("--exclude-rows", pa.table({"id": NUMBERS}), False),
    "no rows excluded": ("--exclude-rows", pa.table({"id": pa.array([], pa.int64())}), True),
    "text": ("--qrels", TSV_HEADER + b"0\t4\t1\n", True),
    "text of four fields": ("--qrels", b"0 0 4 1\n", True),
    "text with a zero": ("--qrels", TSV_HEADER + b"0\0\t4\t1\n", False),
    "text with a field of a megabyte": ("--qrels", TSV_HEADER + b"0" * 2**20 + b"\t4\t1\n", False),
    "text with an open quote": ("--qrels", TSV_HEADER + b'"0\t4\t1\n' + b"0\t4\t1\n" * 50_000, False),
    "text that is no UTF-8": ("--qrels", TSV_HEADER + b"\xff\t4\t1\n", False),
    "text of nothing": ("--qrels", b"", False),
    "text of a header alone": ("--qrels", TSV_HEADER, False),
    "text of one name twice": ("--qrels", b"query-id\tcorpus-id\tquery-id\n0\t4\t1\n", True),
    "text of numbers of 10,000 digits": ("--qrels", TSV_HEADER + b"0\t4\t" + b"9" * 10_000 + b"\n", True),
    "text of ids of 10,000 digits": ("--qrels", TSV_HEADER + b"9" * 10_000 + b"\t4\t1\n", False),
    "text of lines of carriage returns": ("--qrels", b"query-id\tcorpus-id\tscore\r0\t4\t1\r", True),
}  # fmt: skip


@pytest.mark.parametrize("name", SIDES)
def test_side_tables(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], attack: Attack
) -> None:
    monkeypatch.chdir(tmp_path)
    option, table, mined = SIDES[name]
    write(Path("rows.arrow"), table_of({}))
    path = Path("side.tsv" if isinstance(table, bytes) else "side.arrow")
    if isinstance(table, bytes):
        path.write_bytes(table)
    else:
        write(path, table)
    with attack(AWKWARD_TABLES, f"{option.lstrip('-')}: {name}"):
        code = main(["mine", "rows.arrow", "-o", "out.parquet", option, str(path), "--progress", "none"])
        said = capsys.readouterr().err
        assert code == (0 if mined else INPUT), said
        assert "\x1b" not in said
        assert mined or not list(Path().glob("out*"))


TYPES = st.sampled_from([
    pa.int8(), pa.uint64(), pa.int64(), pa.float16(), pa.float64(), pa.bool_(), pa.string(), pa.large_string(),
    pa.string_view(), pa.binary(), pa.date32(), pa.time64("ns"), pa.timestamp("ns"), pa.duration("s"),
    pa.decimal128(9, 2), pa.null(), pa.month_day_nano_interval(), pa.dictionary(pa.int8(), pa.string()),
])  # fmt: skip
NESTED = st.recursive(
    TYPES,
    lambda inner: st.one_of(
        inner.map(pa.list_), inner.map(pa.large_list), inner.map(lambda kind: pa.list_(kind, 2)),
        inner.map(lambda kind: pa.struct([("a", kind), ("b", pa.int8())])), inner.map(pa.list_view),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=4,
)  # fmt: skip


def test_columns_that_parquet_cannot_hold(run: Callable[..., str], attack: Attack) -> None:
    """Named in an error before anything is written."""
    Linear(np.eye(2, DIMENSION), np.zeros(DIMENSION), {}).save(Path("model.npz"))
    for kind in (
        pa.month_day_nano_interval(),
        pa.binary(0),
        pa.decimal128(5, -2),
        pa.list_(pa.month_day_nano_interval()),
    ):
        with attack(AWKWARD_TABLES, "columns of types that Parquet does not have, carried or projected"):
            said = run(table_of({"odd": pa.nulls(ROWS, kind)}), ["--carry", "odd"], False)
            assert "'odd'" in said
            assert main(["apply", "model.npz", "rows.arrow", "-o", "out.parquet"]) == INPUT
            assert not list(Path().glob("out*"))


ROLES = ("label", "id", "group_column", "carry", "embedding", "version_column")


def value_of(kind: pa.DataType) -> Any:
    """A value of a type, with null where a number does not make one."""
    if pat.is_nested(kind) and not pat.is_struct(kind) and not pat.is_map(kind):
        return [value_of(kind.value_type)] * 2
    if pat.is_struct(kind):
        return {each.name: value_of(each.type) for each in kind}
    if pat.is_map(kind):
        return [("key", value_of(kind.item_type))]
    if pat.is_dictionary(kind) or pat.is_string(kind) or pat.is_large_string(kind) or pat.is_string_view(kind):
        return "text"
    return 1 if pat.is_integer(kind) or pat.is_floating(kind) else None


@settings(max_examples=60, deadline=None)
@given(kind=NESTED, role=st.sampled_from(ROLES), name=st.text(max_size=8), nulls=st.booleans())
def test_any_type_in_any_role(
    kind: pa.DataType, role: str, name: str, nulls: bool, attack: Attack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Mined or refused in words, never anything else."""
    column = pa.nulls(ROWS, kind) if nulls else pa.array([value_of(kind)] * ROWS, kind)
    table = pa.table([vectors(), pa.array(LABELS), column], ["embedding", "label", name])
    options: dict[str, Any] = {role: [name] if role == "carry" else name}
    out = tmp_path_factory.mktemp("drawn") / "out.parquet"
    with attack(AWKWARD_TABLES, "columns of drawn types, as labels, ids, groups, versions, vectors or carried"):
        with suppress(MinestreamError):
            minestream.mine(table, out, progress="none", **options)
        left = sorted(path.name for path in out.parent.iterdir())
        assert left in ([], ["out.parquet", "out.parquet.manifest.json"])
