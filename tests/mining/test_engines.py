"""dask and Ray: the bytes of a local run, whatever dies meanwhile. Skipped where their packages are missing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_stores import objects, put, server, store  # noqa: F401 (fixtures)

import minestream
from minestream.errors import InputError, TransientError, UsageError
from minestream.mining.engines import deal
from minestream.system.progress import Advanced, Note

pytestmark = pytest.mark.engines
PACKAGES = {"dask": "distributed", "ray": "ray"}
ROWS, DIMENSION = 50_000, 8  # four parts
SECONDS = 300


@pytest.fixture(params=list(PACKAGES))
def engine(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(PACKAGES[request.param])
    return str(request.param)


def written(path: Path, rows: int) -> Path:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 200, rows)
    vectors = rng.standard_normal((200, DIMENSION))[labels] + 0.7 * rng.standard_normal((rows, DIMENSION))
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).reshape(-1)), DIMENSION)
    pq.write_table(pa.table({"id": pa.array(range(rows)), "label": labels, "embedding": column}), path)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("source") / "in.parquet", ROWS)


@pytest.fixture(scope="module")
def whole(source: Path) -> Path:
    minestream.mine(source, source.parent / "whole.parquet", progress="none")
    return source.parent / "whole.parquet"


def command(source: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "minestream", "mine", str(source), "-o", str(out), "--progress", "none", *options]


def workers(out: Path) -> list[int]:
    """The processes of workers that mine."""
    folders = (out.parent / f"{out.name}.partial").glob("worker-*")
    return [int(folder.name.split("-")[1]) for folder in folders]


def wait_for(what: Any) -> Any:
    ends = time.monotonic() + SECONDS
    while not (found := what()):
        assert time.monotonic() < ends
        time.sleep(0.01)
    return found


def records(out: Path) -> list[Path]:
    return list((out.parent / f"{out.name}.partial").glob("part-*.json"))


def exchanged(out: Path) -> list[Path]:
    return list((out.parent / f"{out.name}.partial").glob("exchange/*/*.arrows"))


def test_the_bytes_of_a_local_run(engine: str, source: Path, whole: Path, tmp_path: Path) -> None:
    report = minestream.mine(source, tmp_path / "whole.parquet", engine=engine, workers=2, progress="none")
    assert (tmp_path / "whole.parquet").read_bytes() == whole.read_bytes()
    assert report.stats.answer()["anchors"] == ROWS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole.parquet", "whole.parquet.manifest.json"]


def test_a_finishing_pass(engine: str, source: Path, tmp_path: Path) -> None:
    for name, options in {"local": {}, engine: {"engine": engine, "workers": 2}}.items():
        minestream.mine(source, tmp_path / name, order="shuffled", progress="none", **options)
    local, other = (sorted((tmp_path / name).iterdir()) for name in ("local", engine))
    assert [path.read_bytes() for path in local] == [path.read_bytes() for path in other]


def test_an_approximate_run(engine: str, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    source = written(tmp_path / "given" / "in.parquet", 2 * ROWS)  # so many that time is saved
    for name, options in {"local": {}, engine: {"engine": engine, "workers": 2}}.items():
        out = tmp_path / f"{name}.parquet"
        report = minestream.mine(source, out, approximate=0.8, band="any", negatives=4, progress="none", **options)
        facts = report.to_dict()["result"]["approximate"]
        assert 0 < facts["looked_at"] < 0.3
        assert facts["recall"]["share"] > 0.8
    assert len({path.read_bytes() for path in tmp_path.glob("*.parquet")}) == 1


def test_in_a_store(engine: str, source: Path, whole: Path, request: pytest.FixtureRequest) -> None:
    bucket = request.getfixturevalue("store")
    put(f"{bucket}/in.parquet", source.read_bytes())
    minestream.mine(f"{bucket}/in.parquet", f"{bucket}/out.parquet", engine=engine, workers=2, progress="none")
    found = objects(bucket)
    assert set(found) == {"in.parquet", "out.parquet", "out.parquet.manifest.json"}
    assert found["out.parquet"] == whole.read_bytes()


def test_a_killed_worker_is_replaced(engine: str, source: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    run = subprocess.Popen(command(source, out, "--engine", engine, "--workers", "2"), start_new_session=True)
    os.kill(wait_for(lambda: workers(out))[0], signal.SIGKILL)
    assert run.wait(SECONDS) == 0
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(("number", "same"), [(signal.SIGKILL, True), (signal.SIGKILL, False), (signal.SIGINT, False)])
def test_a_run_that_was_ended_is_gone_on_with(
    engine: str, source: Path, whole: Path, tmp_path: Path, number: int, same: bool
) -> None:
    """By the same engine from what was exchanged, or by one process."""
    out = tmp_path / "out.parquet"
    run = subprocess.Popen(command(source, out, "--engine", engine, "--workers", "2"), start_new_session=True)
    wait_for(lambda: exchanged(out))
    run.send_signal(number)
    assert run.wait(SECONDS) == (-9 if number == signal.SIGKILL else 130)
    assert not out.exists()
    kept = {path: path.stat().st_mtime_ns for path in exchanged(out)}
    assert kept
    again = ["--resume", "--engine", engine, "--workers", "2"] if same else ["--resume"]
    run = subprocess.Popen(command(source, out, *again))
    wait_for(lambda: records(out) or run.poll() is not None)
    assert not same or all(path.stat().st_mtime_ns == kept[path] for path in exchanged(out) if path in kept)
    assert run.wait(SECONDS) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "out.parquet.partial").exists()


def test_an_error_of_a_worker_is_the_users(
    engine: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "in.parquet"
    own.write_bytes(source.read_bytes())
    made = deal.job_of

    def changed(*run: Any) -> Any:
        pq.write_table(pq.read_table(own).slice(1), own)
        return made(*run)

    monkeypatch.setattr(deal, "job_of", changed)
    monkeypatch.setattr(deal, "leave", lambda *_: None)  # as on another machine: workers read INPUT themselves
    with pytest.raises(InputError, match="reads other data"):
        minestream.mine(own, tmp_path / "out.parquet", engine=engine, progress="none")
    assert not (tmp_path / "out.parquet.partial").exists()


def test_what_is_no_file_is_refused(engine: str, tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match="must be files"):
        minestream.mine(pq.read_table(source), tmp_path / "out.parquet", engine=engine, progress="none")


def test_one_worker_and_what_it_tells(engine: str, source: Path, whole: Path, tmp_path: Path) -> None:
    """The default on one machine; parts are told of while their unit runs, each once."""
    events: list[Any] = []
    minestream.mine(source, tmp_path / "whole.parquet", engine=engine, progress="none", progress_callback=events.append)
    assert (tmp_path / "whole.parquet").read_bytes() == whole.read_bytes()
    told = [event for event in events if isinstance(event, Advanced) and event.stage == "mine"]
    assert told[-1].done == told[-1].total


def test_a_cluster_of_ray_that_runs(source: Path, whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] % 10_000 + 20_000  # not among those that Ray's workers take
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    script = [sys.executable, "-m", "ray.scripts.scripts"]
    head = ["start", "--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    subprocess.run([*script, *head], env=environment, check=True, capture_output=True, timeout=SECONDS)
    try:
        mining = command(source, tmp_path / "out.parquet", "--engine", "ray", "--address", f"127.0.0.1:{port}")
        assert subprocess.run(mining, env=environment, check=False, timeout=SECONDS).returncode == 0
    finally:
        subprocess.run([*script, "stop", "--force"], env=environment, check=False, capture_output=True)
    assert (tmp_path / "out.parquet").read_bytes() == whole.read_bytes()


def test_a_cluster_of_dask_that_runs(source: Path, whole: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, memory_limit=0, dashboard_address=None, silence_logs=50
    ) as cluster:
        address = cluster.scheduler_address
        minestream.mine(source, tmp_path / "out.parquet", engine="dask", address=address, progress="none")
    assert (tmp_path / "out.parquet").read_bytes() == whole.read_bytes()


def test_no_cluster_at_the_address(engine: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="no workers of"):
        minestream.mine(source, tmp_path / "out.parquet", engine=engine, address="127.0.0.1:1", progress="none")


def test_a_script_without_a_guard_is_told_of_it(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    script = tmp_path / "unguarded.py"
    script.write_text(f"import minestream\nminestream.mine({str(source)!r}, 'out.parquet', engine='dask')\n")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1
    worker, own = done.stderr.split("minestream.errors.UsageError: ")[1:]
    assert worker.startswith(
        'engine="dask": a worker that starts has come to this line, too\nmine in a script, under if '
    )
    assert own.startswith('engine="dask": no worker starts here\nmine in a script, under if __name__ == "__main__": ')
    assert "another process" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [script.name]


def test_waiting_for_a_worker_is_told_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    from minestream.mining.engines import dask

    monkeypatch.setattr(dask, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(dask, "WORKERS_SECONDS", 0.3)
    events: list[Any] = []
    with distributed.LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50) as cluster:
        there: dict[str, Any] = {"engine": "dask", "address": cluster.scheduler_address, "progress": "none"}
        with pytest.raises(TransientError, match="no workers of dask"):
            minestream.mine(source, tmp_path / "out", progress_callback=events.append, **there)
    told = [event.text for event in events if isinstance(event, Note)]
    assert told == [f"waiting for a worker of dask at {there['address']}, 0.3 s at most"]
