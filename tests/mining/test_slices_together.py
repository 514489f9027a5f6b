"""Slices that search together: the bytes of one process in any order, beside each other, killed or damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support import in_turns, set_sizes
from test_stores import objects, server, store  # noqa: F401 (fixtures)
from test_together import OPTIONS, SCREENS, many_rows

import minestream
from minestream.errors import CapacityError
from minestream.mining.engines import exchange, together
from minestream.mining.engines.exchange import SliceExchange

ASKED: dict[str, Any] = {"progress": "none", "screen": SCREENS[0]}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As that of workers."""
    return many_rows(tmp_path_factory.mktemp("slices") / "in.parquet")


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine parts of these rows, no wait, and the effort in every report."""
    set_sizes(monkeypatch, PART_ANCHORS=100, GROUP_ROWS=200, FEW_ANCHORS=1, ENTRY=0)
    monkeypatch.setattr(SliceExchange, "wait", lambda *about: None)
    monkeypatch.setenv("MINESTREAM_EFFORT", "1")


class Slices:
    """The slices of one output, and one process beside them."""

    def __init__(self, source: Path, folder: Path, count: int, **options: Any) -> None:
        self.source, self.out, self.count, self.options = source, folder / "out.parquet", count, ASKED | options
        self.computed: dict[int, int] = {}  # products of each

    def mine(self, number: int, **more: Any) -> minestream.Report:
        """Mine a slice."""
        given = self.options | {"shard": f"{number}/{self.count}"} | more
        report = minestream.mine(self.source, self.out, **given)
        self.computed[number] = self.computed.get(number, 0) + report.effort.get("pairs_computed", 0)
        return report

    def one(self) -> int:
        """Merge, compare with one process, and return its products."""
        late = {"source": self.source} if {"emit", "order", "max_uses"} & self.options.keys() else {}
        minestream.merge(self.out, progress="none", **late)
        (whole := self.out.parent / "one").mkdir()
        report = minestream.mine(self.source, whole / "out.parquet", **self.options)
        assert self.out.read_bytes() == (whole / "out.parquet").read_bytes()
        return int(report.effort["pairs_computed"])

    def files(self, kind: str) -> list[Path]:
        """What they have exchanged of one kind."""
        return sorted(Path(f"{self.out}.slices").glob(f"exchange/*/*{kind}*"))


def beside(monkeypatch: pytest.MonkeyPatch, *later: Callable[[], object]) -> None:
    """Let others run while a slice waits, each while the one before it waits."""
    left = list(later)
    monkeypatch.setattr(SliceExchange, "wait", lambda *about: left.pop(0)() if left else None)


@in_turns(options=OPTIONS)
def test_one_after_another_and_each_product_once(source: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    slices = Slices(source, tmp_path, 3, **options)
    for number in (2, 3, 1):
        slices.mine(number)
    assert sum(slices.computed.values()) <= 1.05 * slices.one()


@in_turns(options=[*OPTIONS[1:], OPTIONS[0]])  # those that the test above does not run
def test_beside_each_other_the_work_is_shared(
    source: Path, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = Slices(source, tmp_path, 3, **options)
    beside(monkeypatch, lambda: slices.mine(2), lambda: slices.mine(3))
    slices.mine(1)
    assert not slices.files("rest")
    assert sum(slices.computed.values()) <= 1.15 * slices.one()


def test_a_slice_that_begins_late_makes_what_the_others_have_not(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two are beside each other and make the third's half; two of four never meet."""
    slices = Slices(source, tmp_path, 4, band="any", negatives=5)
    beside(monkeypatch, lambda: slices.mine(3))
    for number in (1, 2, 4):
        slices.mine(number)
    assert {path.stem[-7:] for path in slices.files("rest")} == {"000-001", "000-003", "001-003", "002-001", "002-003"}
    assert sum(slices.computed.values()) <= 1.1 * slices.one()


def test_legs_of_several_parts_have_one_owner(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five parts of one slice and four of the other, in legs of three."""
    set_sizes(monkeypatch, GROUP_ROWS=600)
    slices = Slices(source, tmp_path, 2, band="any", negatives=3)
    for number in (1, 2):
        slices.mine(number)
    assert sum(slices.computed.values()) <= 1.15 * slices.one()


@pytest.mark.skipif(len(SCREENS) < 2, reason="this processor has one screen")
def test_slices_on_processors_that_differ(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sees the rows by other codes, in another order of lanes."""
    slices = Slices(source, tmp_path, 3, band="any", negatives=3, pick="random", skip=5)
    beside(monkeypatch, lambda: slices.mine(2, screen=SCREENS[1]))
    slices.mine(1)
    slices.mine(3, screen=SCREENS[-1])
    slices.one()


@in_turns(kind=["001-", "gates", "lists", "rest"], damage=["cut", "changed", "empty", "gone"])
def test_what_is_damaged_is_made_again(
    source: Path, tmp_path: Path, kind: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = Slices(source, tmp_path, 3, band="any", negatives=3)
    beside(monkeypatch, lambda: slices.mine(2))
    slices.mine(1)
    for path in slices.files(kind):
        whole = path.read_bytes()
        middle = len(whole) // 2
        new = {"cut": whole[:-9], "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]}
        path.write_bytes(new.get(damage, b""))
        if damage == "gone":
            path.unlink()
    slices.mine(3)
    slices.one()


@in_turns(at=["_write", "give", "take", "wait", "end"], time=[1, 2])
def test_a_slice_that_was_killed_goes_on(
    source: Path, tmp_path: Path, at: str, time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one runs meanwhile, from what is there."""
    slices, calls = Slices(source, tmp_path, 3, band="any", negatives=3), list[Any]()
    owner, name = (SliceExchange, at) if at != "end" else (minestream.outputs.run.Run, "write_part")
    before = getattr(owner, name)

    def killed(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == time:
            raise CapacityError("killed")
        return before(*given)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        if (at, time) != ("wait", 2):
            with pytest.raises(CapacityError, match="killed"):
                slices.mine(1)
    for number in (2, 1, 3):
        slices.mine(number, resume=True)
    slices.one()


def test_in_a_store(source: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    bucket = request.getfixturevalue("store")
    asked: dict[str, Any] = ASKED | {"band": "any", "negatives": 3}
    reports = [minestream.mine(source, f"{bucket}/out.parquet", shard=f"{n}/3", **asked) for n in (1, 2, 3)]
    assert any("exchange/" in name and "rest" in name for name in objects(bucket))
    minestream.merge(f"{bucket}/out.parquet", progress="none")
    one = minestream.mine(source, tmp_path / "out.parquet", **asked)
    assert objects(bucket)["out.parquet"] == (tmp_path / "out.parquet").read_bytes()
    assert sum(each.effort["pairs_computed"] for each in reports) <= 1.05 * one.effort["pairs_computed"]


@pytest.mark.parametrize(
    ("count", "patched", "options", "why"),
    [
        (2, {}, {"emit": "pairs", "negatives": 0, "margin": 0.2}, "all eligible negatives of each pair would travel"),
        (2, {"ENTRY": 10**9}, {}, "the lists that would travel cost more than the products that are saved"),
        (33, {}, {}, "so many slices would exchange too many files"),
        (2, {"rounds": 1}, {}, "the memory does not hold the answers of all anchors"),
    ],
)
def test_why_each_slice_mines_its_parts_against_all_rows(
    source: Path, tmp_path: Path, count: int, patched: dict[str, Any], options: dict[str, Any], why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if "ENTRY" in patched:
        monkeypatch.setattr(together, "ENTRY", patched["ENTRY"])
    if "rounds" in patched:
        monkeypatch.setattr(together, "WORTH", 10)
        monkeypatch.setattr(minestream.mining.shards.Mining, "rounds", lambda self, todo, _=None: ([i] for i in todo))
    slices = Slices(source, tmp_path, count, **options)
    said = f"each slice mines its parts against all rows: {why}"
    assert slices.mine(1, dry_run=True).plan["slices"] == said
    assert said in slices.mine(1).notes
    assert not slices.files("")


def test_a_plan_says_that_they_search_together(source: Path, tmp_path: Path) -> None:
    slices = Slices(source, tmp_path, 3)
    assert slices.mine(1, dry_run=True).plan["slices"] == together.TOGETHER["slice"]
    assert "slices" not in Slices(source, tmp_path, 1).mine(1, dry_run=True).plan
    assert not slices.files("")


def test_a_slice_waits_for_those_that_have_begun_and_no_longer_than_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    notes, slept = list[str](), list[float]()
    one, two = (SliceExchange(tmp_path, number, 3, tmp_path, notes.append) for number in (0, 1))
    clock = iter(range(1000))
    monkeypatch.setattr(exchange.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(exchange.time, "sleep", slept.append)
    one.wait("lists", {2: 10.0})  # it has not begun
    assert not slept
    one.wait("lists", {1: 5.0, 2: 10.0})
    assert len(slept) == 5
    assert notes == ["waiting for other slices, 5 s at most"]
    monkeypatch.setattr(exchange.time, "sleep", lambda _: two.give("lists", 0, iter([(pa.array([1]).to_numpy(),)])))
    one.wait("lists", {1: 500.0})
    assert next(clock) < 20
    one.wait("lists", {1: 500.0})
    assert len(notes) == 2
    assert one.take("lists", 2) is None
    assert [batch[0].tolist() for batch in one.take("lists", 1) or ()] == [[1]]
