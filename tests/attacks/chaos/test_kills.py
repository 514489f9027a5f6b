"""kill -9, at random moments and before every change of a file: --resume ends in the bytes of a run left alone."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Set
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attacked import OUTPUT, Job, Undisturbed, Whole, contents, records

KIND = "kill -9"
QUIET = ["--progress", "none", "--threads", "1"]
KINDS = {
    "one file": ["-o", "out.parquet"],
    "a folder of parts": ["-o", "out"],
    "a finishing pass": ["-o", "out.parquet", "--order", "shuffled", "--max-uses", "3", "--anchors", "17000"],
}
REPLACED = {
    "one file in the place of another": ["-o", "out.parquet"],
    "a folder in the place of another": ["-o", "out"],
    "a shuffled folder in the place of another": ["-o", "out", "--order", "shuffled"],
}
IN_A_ROW = 5
OTHER = ["--margin", "0.3"]


class Halfway:
    """What must hold of a folder whenever a run in it was ended.

    Parameters
    ----------
    folder : Path
    whole : dict
        What an undisturbed run leaves in such a folder.
    """

    def __init__(self, folder: Path, whole: dict[str, Any]) -> None:
        self.folder, self.whole = folder, whole
        self.out = next(name for name in whole if name.endswith(".manifest.json")).removesuffix(".manifest.json")
        self.kept: dict[str, tuple[int, int]] = {}

    def assert_whole(self, old: dict[str, Any] | None = None, rewritten: Set[str] = frozenset()) -> None:
        """Fail unless what bears a final name is whole, and the parts that were finished before are so still."""
        assert not self.kept.keys() & rewritten, "a finished part was mined again"
        found = contents(self.folder)
        work = f"{self.out}.partial/"
        final = {name: data for name, data in found.items() if not name.startswith(work)}
        for name, data in final.items():
            assert data == self.whole.get(name) or (old and data == old.get(name)), f"{name} is not whole"
        if any(name == self.out or name.startswith(f"{self.out}/") for name in final) and old is None:
            assert self.output_of(final) == self.output_of(self.whole)
        finished = records(self.folder / f"{self.out}.partial")
        if f"{self.out}.manifest.json" not in final and old is None:
            assert self.kept.items() <= finished.items(), "a finished part is lost"
        self.kept |= finished

    def output_of(self, files: dict[str, Any]) -> dict[str, Any]:
        """The files of the output alone."""
        return {name: data for name, data in files.items() if not name.endswith(".manifest.json")}


def arguments_of(kind: str, rows: Path) -> list[str]:
    return ["mine", str(rows), *{**KINDS, **REPLACED}[kind], "--memory", "16MiB", *QUIET]


@pytest.mark.parametrize(
    ("kind", "kills"), [("a folder of parts", 1), *(pytest.param(kind, 50, marks=pytest.mark.chaos) for kind in KINDS)]
)
def test_at_random_moments(
    kind: str, kills: int, drawn: random.Random, undisturbed: Undisturbed, attack: Any, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    arguments = arguments_of(kind, request.getfixturevalue("rows" if kills < 10 else "many_rows"))
    whole = undisturbed(arguments)
    while kills > 0:
        job = Job(tmp_path / f"{kills}", arguments)
        kills -= killed_until_done(
            job, whole, min(kills, IN_A_ROW), drawn, attack, f"mine to {kind}, at a random moment"
        )


def killed_until_done(job: Job, whole: Whole, most: int, drawn: random.Random, attack: Any, what: str) -> int:
    """Kill a run and resume it until it finishes, or was killed `most` times and is left alone; how often that was."""
    halfway, kills = Halfway(job.folder, whole.files), 0
    with ExitStack() as survived:
        while kills < most and job.start("--resume").killed_after(drawn.uniform(0, whole.seconds)):
            kills += 1
            survived.enter_context(attack(KIND, what))
            halfway.assert_whole(rewritten=job.rewritten())
        job.run("--resume").assert_told(0)
        assert contents(job.folder) == whole.files
        assert list(job.folder.glob(".*")) == []
    shutil.rmtree(job.folder)
    return kills


MOMENTS = {
    "a part is there and its record is not": "os.rename .*/part-00000.json",
    "the output is there and its manifest is not": "os.rename .*/out.parquet.manifest.json",
    "half of the unfinished work is removed": "os.rmdir .*/parts",
}


@pytest.mark.parametrize(
    "when",
    [
        "half of the unfinished work is removed",
        *(pytest.param(when, marks=pytest.mark.chaos) for when in list(MOMENTS)[:-1]),
    ],
)
def test_at_a_moment(when: str, rows: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path) -> None:
    arguments = arguments_of("one file", rows)
    with attack(KIND, "mine, before a change of a file"):
        killed_and_resumed(Job(tmp_path / "work", arguments), undisturbed(arguments), MOMENTS[when])


def killed_and_resumed(job: Job, whole: Whole, moment: int | str) -> None:
    """End a run before one change of a file, and resume it."""
    halfway = Halfway(job.folder, whole.files)
    assert job.run(moment=moment).code == -signal.SIGKILL
    halfway.assert_whole()
    job.run("--resume").assert_told(0)
    assert not halfway.kept.keys() & job.rewritten()
    assert contents(job.folder) == whole.files
    assert not [path for path in job.folder.iterdir() if path.name not in {name.split("/")[0] for name in whole.files}]


@pytest.mark.chaos
@pytest.mark.parametrize("kind", KINDS)
def test_before_every_change_of_a_file(
    kind: str, rows: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path
) -> None:
    arguments = arguments_of(kind, rows)
    whole = undisturbed(arguments)
    for moment in range(1, len(whole.changes) + 1):
        with attack(KIND, "mine, before a change of a file"):
            killed_and_resumed(Job(tmp_path / f"{moment}", arguments), whole, moment)


@pytest.mark.parametrize("kind", ["a folder in the place of another"])
def test_between_two_renames(kind: str, rows: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path) -> None:
    old, job, new = replacing(kind, rows, undisturbed, tmp_path)
    with attack(KIND, f"while {kind} is put there"):
        replaced_and_resumed(job, old, new, "os.rename .*/out.manifest.json")


@pytest.mark.chaos
@pytest.mark.parametrize("kind", REPLACED)
def test_while_another_output_is_replaced(
    kind: str, rows: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path
) -> None:
    _, counted, _ = replacing(kind, rows, undisturbed, tmp_path)
    counted.run("--overwrite").assert_told(0)
    for moment in range(1, len(counted.changes()) + 1):
        old, job, new = replacing(kind, rows, undisturbed, tmp_path)
        with attack(KIND, f"while {kind} is put there"):
            replaced_and_resumed(job, old, new, moment)


def replacing(
    kind: str, rows: Path, undisturbed: Undisturbed, tmp_path: Path
) -> tuple[dict[str, Any], Job, dict[str, Any]]:
    """An output, the job that is to replace it, and what that leaves."""
    old, job = undisturbed(arguments_of(kind, rows)), Job(tmp_path / "work", [*arguments_of(kind, rows), *OTHER])
    shutil.rmtree(job.folder)
    shutil.copytree(old.folder, job.folder)
    return old.files, job, undisturbed(job.arguments).files


def replaced_and_resumed(job: Job, old: dict[str, Any], new: dict[str, Any], moment: int | str) -> None:
    """End a run that replaces an output before one change of a file, and resume it."""
    assert job.run("--overwrite", moment=moment).code == -signal.SIGKILL
    halfway = Halfway(job.folder, new)
    halfway.assert_whole(old)
    begun = (job.folder / f"{halfway.out}.partial" / "manifest.json").exists()
    ended = job.run("--resume")
    if ended.code == OUTPUT:  # nothing was begun: OUT is another's work, and stays
        assert not begun
        assert {name: data for name, data in contents(job.folder).items() if ".partial/" not in name} == old
        ended = job.run("--overwrite")
    ended.assert_told(0)
    assert contents(job.folder) == new
