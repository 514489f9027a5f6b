"""How units are dealt to the workers of an engine, told with threads of this process for workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support import set_sizes
from test_stores import embeddings, objects, put, server, store  # noqa: F401 (fixtures)

import minestream
from minestream.errors import InputError, OutputError, TransientError
from minestream.mining.engines import deal, worker
from minestream.system.progress import Advanced

PARTS = 9  # of 330 rows


class LostError(Exception):
    """A worker of the threads is no more."""


class WrappedError(Exception):
    """An error that hands over that of a worker, as one of Ray does."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("somewhere else")
        self.cause = cause


class Threads:
    """The engine: what its workers are asked for, and what fails instead."""

    def __init__(self) -> None:
        self.asked: list[deal.Unit] = []
        self.failing: dict[int, Exception] = {}  # by the number of the unit

    @contextmanager
    def workers(self, resources: Any, started: int, _note: Any) -> Iterator[deal.Workers]:
        """Two of them on a cluster, else as many as are wanted."""
        count = 2 if resources.address else started
        with ThreadPoolExecutor(count) as pool:
            yield deal.Workers(count, lambda job, unit: pool.submit(self._mined, job, unit), LostError)

    def _mined(self, job: deal.Job, unit: deal.Unit) -> deal.Unit:
        self.asked.append(unit)
        if error := self.failing.get(len(self.asked)):
            raise error
        return worker.mine_unit(job, unit)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    set_sizes(monkeypatch, PART_ANCHORS=40)
    engine = Threads()
    monkeypatch.setattr(deal, "engine_of", lambda name: engine.workers)
    monkeypatch.setattr(deal, "POLL_SECONDS", 0.01)
    yield engine
    for held in worker._loaded:
        held.closing.close()
    worker._loaded.clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    pq.write_table(embeddings(rows=330), tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def mine(source: Any, out: Any, **options: Any) -> None:
    minestream.mine(source, out, engine="dask", progress="none", **options)


@pytest.mark.parametrize("how", [{"workers": 1}, {"workers": 3}, {"address": "a cluster"}])
def test_each_part_is_dealt_once(threads: Threads, source: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    (tmp_path / "whole").mkdir()
    minestream.mine(source, tmp_path / "whole" / "out.parquet", progress="none")
    events: list[Any] = []
    mine(source, tmp_path / "out.parquet", **how, progress_callback=events.append)
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole" / "out.parquet").read_bytes()
    assert sorted(index for unit in threads.asked for index in unit) == list(range(PARTS))
    sizes = [len(unit) for unit in threads.asked]
    assert sizes == [3, 2, 1, 1, 1, 1] if "address" in how else len(sizes) == how["workers"]
    told = [event for event in events if isinstance(event, Advanced) and event.stage == "mine"]
    assert told[-1].done == told[-1].total == 330
    assert not (tmp_path / "out.parquet.partial").exists()


def test_a_run_that_failed_is_gone_on_with(threads: Threads, source: Path, tmp_path: Path) -> None:
    threads.failing[3] = LostError("killed")
    with pytest.raises(TransientError, match=r"workers of dask died while they mined: killed"):
        mine(source, tmp_path / "out", address="a cluster")
    finished = {int(path.stem[5:]) for path in (tmp_path / "out.partial").glob("part-*.json")}
    assert finished
    threads.asked.clear()
    threads.failing.clear()
    mine(source, tmp_path / "out", workers=2, resume=True)
    assert sorted(index for unit in threads.asked for index in unit) == sorted(set(range(PARTS)) - finished)
    minestream.mine(source, tmp_path / "whole", progress="none")
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (InputError("it reads other data"), InputError, "^it reads other data"),
        (WrappedError(InputError("it reads other data")), InputError, "^it reads other data"),
        (CancelledError(), TransientError, "workers of dask died"),
        (WrappedError(ValueError("no error of ours")), WrappedError, "somewhere else"),
    ],
)
def test_the_error_of_a_worker(
    threads: Threads, source: Path, tmp_path: Path, error: Exception, raised: type[Exception], said: str
) -> None:
    threads.failing[1] = error
    with pytest.raises(raised, match=said):
        mine(source, tmp_path / "out")
    assert os.listdir(tmp_path) == ["in.parquet"]


@pytest.mark.parametrize(
    "typed", ["in.parquet", "./in.parquet", "*.parquet", "../here/i?.parquet", ".", "../here/", "{}"]
)
def test_the_error_of_a_worker_shows_paths_as_they_were_typed(
    threads: Threads, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    (tmp_path / "here").mkdir()
    own = shutil.copy(source, tmp_path / "here" / "in.parquet")
    monkeypatch.chdir(tmp_path / "here")
    typed = typed.format(own)
    made = deal.job_of

    def broken(*run: Any) -> Any:
        own.write_bytes(b"no table at all")
        return made(*run)

    monkeypatch.setattr(deal, "job_of", broken)
    with pytest.raises(InputError) as of_worker:
        mine(typed, "../out.parquet")
    with pytest.raises(InputError) as here:
        minestream.mine(typed, "../out.parquet", progress="none")
    assert str(of_worker.value) == str(here.value)


def test_workers_that_were_taken_over_name_the_output_as_it_was_typed(
    threads: Threads, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deal, "units_of", lambda *about: [tuple(range(PARTS))])
    mined = threads._mined

    def taken_over(job: deal.Job, unit: deal.Unit) -> deal.Unit:
        manifest = tmp_path / "out.partial" / "manifest.json"
        manifest.write_text(manifest.read_text().replace(job.plan["run"], "another"))
        return mined(job, unit)

    monkeypatch.setattr(threads, "_mined", taken_over)
    with pytest.raises(OutputError, match=r"^another run took over out, and"):
        mine("in.parquet", "out")


def test_workers_and_a_store(threads: Threads, source: Path, request: pytest.FixtureRequest) -> None:
    bucket = request.getfixturevalue("store")
    put(f"{bucket}/in.parquet", source.read_bytes())
    threads.failing[1] = InputError("it reads other data")
    with pytest.raises(InputError, match=r"^it reads other data"):
        mine(f"{bucket}/in.parquet", f"{bucket}/out.parquet")
    threads.failing.clear()
    mine(f"{bucket}/in.parquet", f"{bucket}/out.parquet", workers=2)
    minestream.mine(f"{bucket}/in.parquet", f"{bucket}/whole/out.parquet", progress="none")
    found = objects(bucket)
    assert found["out.parquet"] == found["whole/out.parquet"]
    assert not [name for name in found if ".partial" in name]


WORKER = """
import sys
from types import SimpleNamespace
import numpy as np
import pyarrow as pa
from minestream.inputs.decode import lists_from
from minestream.mining.engines import worker
one = pa.nulls(1)
worker.mine_unit = lambda *given: lists_from(np.array([1]), one)
worker.mine_as_worker(SimpleNamespace(resources=SimpleNamespace(address=sys.argv[1] or None)), (0,))
print("pandas" in sys.modules)
"""


@pytest.mark.parametrize(("address", "loaded"), [("", False), ("tcp://cluster:8786", True)])
def test_arrow_loads_no_pandas_in_workers_that_a_run_starts(address: str, loaded: bool) -> None:
    """Those of a cluster have other work, too, which may need it."""
    pytest.importorskip("pandas")
    done = subprocess.run([sys.executable, "-c", WORKER, address], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(loaded)]
