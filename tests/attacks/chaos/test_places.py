"""Places that refuse, vanish, or are taken: a clear end, and what stood there stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attacked import OUTPUT, Job, Undisturbed, contents
from test_kills import Halfway, arguments_of

KIND = "output folder"


@pytest.fixture
def fixed() -> Iterator[Callable[[Path], None]]:
    """Makes a folder and what is in it unchangeable, even for root; skips where that cannot be."""
    folders: list[Path] = []

    def fix(folder: Path) -> None:
        if shutil.which("chattr") is None:
            pytest.skip("no chattr")
        if subprocess.run(["chattr", "-R", "+i", str(folder)], capture_output=True, check=False).returncode:
            pytest.skip("this user or file system has no unchangeable files")
        folders.append(folder)

    yield fix
    for folder in folders:
        subprocess.run(["chattr", "-R", "-i", str(folder)], check=True)


def test_an_unchangeable_folder(few_rows: Path, fixed: Callable[[Path], None], attack: Any, tmp_path: Path) -> None:
    job = Job(tmp_path / "work", ["mine", str(few_rows), "-o", "out.parquet"])
    fixed(job.folder)
    with attack(KIND, "not writable"):
        job.run().assert_told(OUTPUT, "out.parquet")
        assert list(job.folder.iterdir()) == []


def test_a_read_only_disk(few_rows: Path, attack: Any, tmp_path: Path) -> None:
    job = Job(tmp_path / "work", ["mine", str(few_rows), "-o", "out.parquet"])
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(job.folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    try:
        with attack(KIND, "on a read-only disk"):
            job.run().assert_told(OUTPUT, "read-only")
            assert list(job.folder.iterdir()) == []
    finally:
        subprocess.run(["umount", str(job.folder)], check=True)


PARTS = "out.parquet.partial/parts"
# What is done to which place when which file is there.
ATTACKS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "its unfinished work removed": ("out.parquet.partial", "out.parquet.partial/manifest.json", shutil.rmtree),
    "the folder of its parts removed": (PARTS, f"{PARTS}/part-00000.parquet", shutil.rmtree),
    "a finished part removed": (f"{PARTS}/part-00000.parquet", "out.parquet.partial/part-00000.json", os.remove),
    "a finished part cut": (
        f"{PARTS}/part-00000.parquet", "out.parquet.partial/part-00000.json", lambda path: os.truncate(path, 100)
    ),
    "its lock removed": ("out.parquet.partial/lock", "out.parquet.partial/manifest.json", os.remove),
    "the folder renamed": (".", "out.parquet.partial/manifest.json", lambda path: os.rename(path, f"{path}.elsewhere")),
}  # fmt: skip


@pytest.mark.parametrize(
    "what",
    ["its unfinished work removed", *(pytest.param(what, marks=pytest.mark.chaos) for what in list(ATTACKS)[1:])],
)
def test_removed_during_the_run(what: str, rows: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path) -> None:
    arguments = arguments_of("one file", rows)
    whole = undisturbed(arguments).files
    place, moment, change = ATTACKS[what]
    job = Job(tmp_path / "work", arguments)
    with attack(KIND, what):
        process = job.start()
        assert process.wait_for((job.folder / moment).exists)
        change(job.folder / place)
        ended = process.ended()
        ended.assert_plain()
        assert ended.code in (0, OUTPUT)
        if not job.folder.exists():
            os.rename(f"{job.folder}.elsewhere", job.folder)
        if ended.code == 0:
            assert contents(job.folder) == whole
        Halfway(job.folder, whole).assert_whole()
        job.run("--resume").assert_told(0)
        assert contents(job.folder) == whole


@pytest.mark.chaos
def test_made_unchangeable_during_the_run(
    rows: Path, fixed: Callable[[Path], None], undisturbed: Undisturbed, attack: Any, tmp_path: Path
) -> None:
    arguments = arguments_of("a folder of parts", rows)
    job = Job(tmp_path / "work", arguments)
    with attack(KIND, "made unchangeable during the run"):
        process = job.start()
        assert process.wait_for((job.folder / "out.partial" / "manifest.json").exists)
        fixed(job.folder)
        process.ended().assert_told(OUTPUT, "writing")
        subprocess.run(["chattr", "-R", "-i", str(job.folder)], check=True)
        job.run("--resume").assert_told(0)
        assert contents(job.folder) == undisturbed(arguments).files


# ---------------------------------------------------------------- two runs


@pytest.mark.parametrize("option", ["--resume", pytest.param("--overwrite", marks=pytest.mark.chaos)])
def test_a_second_run_is_refused(
    option: str, rows: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path
) -> None:
    """The second says why it ends, and the first does not notice."""
    arguments = arguments_of("a folder of parts", rows)
    job = Job(tmp_path / "work", arguments)
    second = Job(job.folder, arguments)
    second.log = tmp_path / "second.log"
    with attack("two runs", f"a second run with {option}, while the first mines"):
        process = job.start()
        assert process.wait_for((job.folder / "out.partial" / "manifest.json").exists)
        process.popen.send_signal(signal.SIGSTOP)  # else it might be done before the second has looked
        try:
            second.run(option).assert_told(OUTPUT, "another process is writing")
        finally:
            process.popen.send_signal(signal.SIGCONT)
        process.ended().assert_told(0)
        assert contents(job.folder) == undisturbed(arguments).files


@pytest.mark.chaos
@pytest.mark.parametrize("times", [20])
def test_two_runs_that_begin_together(
    times: int, few_rows: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path
) -> None:
    arguments = ["mine", str(few_rows), "-o", "out.parquet", "--progress", "none"]
    for number in range(times):
        folder = tmp_path / f"{number}"
        jobs = [Job(folder, arguments), Job(folder, arguments)]
        with attack("two runs", "that begin together"):
            ended = [process.ended() for process in [job.start() for job in jobs]]
            assert {each.code for each in ended} <= {0, OUTPUT}
            assert any(each.code == 0 for each in ended)
            for each in ended:
                each.assert_plain()
            assert contents(folder) == undisturbed(arguments).files
