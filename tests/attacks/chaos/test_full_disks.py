"""Full disks and limits on files: a clear end, nothing half written, and --resume once there is space."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from attacked import CAPACITY, Job, Undisturbed, contents
from test_kills import Halfway

from minestream.errors import CapacityError
from minestream.inputs.dataset.carried import CarriedColumns

KIND = "full disk"
QUIET = ["--progress", "none", "--threads", "1", "--memory", "16MiB"]
OUTS = {
    "one file": ["-o", "out.parquet"], "a folder of parts": ["-o", "out"],
    "a finishing pass": ["-o", "out.parquet", "--order", "shuffled"],
}  # fmt: skip
PLENTY = 1 << 30


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, as large as `resize` says; skips where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mounted, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount")
    if done.returncode:
        pytest.skip("may not mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def assert_full(job: Job, whole: dict[str, Any], word: str = "space", **how: Any) -> Halfway:
    """Run a job that has no space to finish: it says so, and keeps its parts."""
    halfway = Halfway(job.folder, whole)
    job.run("--resume", **how).assert_told(CAPACITY, word)
    halfway.assert_whole()
    left = {path.name for path in (job.folder / f"{halfway.out}.partial").glob("*")}
    assert left <= {"lock", "manifest.json", "parts"} | {f"{Path(part).stem}.json" for part in halfway.kept}
    assert (job.folder / f"{halfway.out}.partial").exists() == bool(halfway.kept)
    assert list(job.folder.glob(".*")) == []
    return halfway


def resumed(job: Job, whole: dict[str, Any], halfway: Halfway) -> None:
    """With space again it goes on, and ends as if nothing had been."""
    job.run("--resume").assert_told(0)
    assert not halfway.kept.keys() & job.rewritten()
    assert contents(job.folder) == whole


@pytest.mark.parametrize(
    ("out", "shares"),
    [
        ("one file", (0.8,)),
        *(pytest.param(out, tuple(n / 20 for n in range(20)), marks=pytest.mark.chaos) for out in OUTS),
    ],
)
def test_a_small_disk(
    out: str, shares: tuple[float, ...], rows: Path, disk: Path, undisturbed: Undisturbed, attack: Any
) -> None:
    """Sizes up to that of the output and its parts: it ends in a part, in the one file beside them, at publishing."""
    arguments = ["mine", str(rows), *OUTS[out], *QUIET]
    whole = undisturbed(arguments).files
    output = sum(len(data) for data in whole.values() if isinstance(data, bytes))
    for share in shares:
        job = Job(disk / f"{share}", arguments)
        job.log = disk.parent / "log"
        with attack(KIND, f"a small disk, mine to {out}"):
            resize(disk, 4096 * round(share * output * (1 if out == "a folder of parts" else 2) / 4096) + 4096)
            halfway = assert_full(job, whole)
            resize(disk, PLENTY)
            resumed(job, whole, halfway)
        subprocess.run(["rm", "-r", str(job.folder)], check=True)


def file_limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.chaos
@pytest.mark.parametrize(("out", "shares"), [(out, tuple(n / 10 for n in range(10))) for out in OUTS])
def test_a_limit_on_the_size_of_a_file(
    out: str, shares: tuple[float, ...], rows: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path
) -> None:
    arguments = ["mine", str(rows), *OUTS[out], *QUIET]
    whole = undisturbed(arguments).files
    largest = max(len(data) for data in whole.values() if isinstance(data, bytes))
    for share in shares:
        job = Job(tmp_path / f"{share}", arguments)
        with attack(KIND, f"a limit on the size of a file, mine to {out}"):
            halfway = assert_full(job, whole, "ulimit", before=lambda size=int(share * largest): file_limit(size))
            resumed(job, whole, halfway)


@pytest.mark.chaos
def test_scratch_has_no_name(many_rows: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path) -> None:
    """A run that is killed at any moment leaves no scratch file, because none has ever had a name."""
    arguments = ["mine", str(many_rows), "-o", "out.parquet", "--anchors", "100", *QUIET]
    job = Job(tmp_path / "work", arguments)
    with attack("kill -9", "when scratch files are made"):
        job.run(moment=r"\.minestream-").assert_told(0)
        assert contents(job.folder) == undisturbed(arguments).files


def test_carried_columns_that_scratch_does_not_hold(
    attack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with attack(KIND, "a full scratch folder"), open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
        with pytest.raises(CapacityError, match="scratch"):
            CarriedColumns(0, tmp_path).append(pa.record_batch({"text": ["words"]}))


@pytest.mark.chaos
@pytest.mark.parametrize("megabytes", [0, 1, 3, 6, 8])
def test_a_full_scratch_folder(
    megabytes: int, many_rows: Path, disk: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path
) -> None:
    arguments = ["mine", str(many_rows), "-o", "out.parquet", *QUIET, "--scratch", str(disk)]
    whole = undisturbed([*arguments[:-2]]).files
    job = Job(tmp_path / "work", arguments)
    with attack(KIND, "a full scratch folder"):
        resize(disk, (megabytes << 20) + 4096)
        job.run().assert_told(CAPACITY, "scratch", "--scratch")
        assert list(job.folder.iterdir()) == []
        resize(disk, PLENTY)
        job.run("--resume").assert_told(0)
        assert contents(job.folder) == whole
        assert os.listdir(disk) == []
