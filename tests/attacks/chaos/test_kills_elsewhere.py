"""kill -9 of runs into a store, of slices and of their merge; what they leave is gone on with."""

from __future__ import annotations

import random
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attacked import Job, Undisturbed, contents
from test_kills import IN_A_ROW, KIND, QUIET
from test_stores import objects, server, store  # noqa: F401 (fixtures)

pytestmark = pytest.mark.chaos


def assert_whole(left: dict[str, bytes], whole: dict[str, Any], name: str, kept: dict[str, bytes]) -> None:
    """Fail unless the objects of a store are whole, the manifest's last, and finished parts are as they were."""
    final = {key: data for key, data in left.items() if not key.startswith(f"{name}.partial/")}
    assert set(final) <= set(whole)
    for key, data in final.items():
        assert key.endswith(".manifest.json") or data == whole[key], f"{key} is not whole"
    published = f"{name}.manifest.json" in final
    assert not published or set(final) == set(whole)
    finished = {key: data for key, data in left.items() if ".partial/part-" in key}
    parts = {key.replace("/part-", "/parts/part-").replace(".json", ".parquet") for key in finished}
    if not published:
        assert parts <= set(left), "a record without its part"
        assert kept.items() <= finished.items(), "a finished part is lost, or was mined again"
    kept |= finished


@pytest.mark.parametrize("name", ["out.parquet", "out"])
@pytest.mark.parametrize("kills", [50])
def test_into_a_store(
    name: str, kills: int, rows: Path, store: str, drawn: random.Random, undisturbed: Undisturbed, attack: Any,  # noqa: F811 (fixture)
    tmp_path: Path,
) -> None:  # fmt: skip
    whole = undisturbed(["mine", str(rows), "-o", name, *QUIET])
    number = 0
    (tmp_path / "tmp").mkdir()
    while kills > 0:
        out, number, kept = f"{store}/{number}", number + 1, dict[str, bytes]()
        arguments = ["mine", str(rows), "-o", f"{out}/{name}", *QUIET]
        job = Job(tmp_path / "work", arguments, {"TMPDIR": str(tmp_path / "tmp")})
        with ExitStack() as survived:
            for _ in range(min(kills, IN_A_ROW)):
                if not job.start("--resume").killed_after(drawn.uniform(0, 1.3 * whole.seconds)):
                    break
                kills -= 1
                survived.enter_context(attack(KIND, f"mine into a store ({name}), at a random moment"))
                assert_whole(objects(out), whole.files, name, kept)
            job.run("--resume").assert_told(0)
            found = objects(out)
            assert set(found) == set(whole.files)
            assert all(found[key] == data for key, data in whole.files.items() if isinstance(data, bytes))
    assert list(job.folder.iterdir()) == []


# ---------------------------------------------------------------- slices


SLICED = {"one file": [], "a finishing pass": ["--order", "shuffled"]}


@pytest.mark.parametrize("kind", SLICED)
@pytest.mark.parametrize("kills", [50])
def test_slices_and_their_merge(
    kind: str, kills: int, rows: Path, drawn: random.Random, undisturbed: Undisturbed, attack: Any, tmp_path: Path
) -> None:
    arguments = ["mine", str(rows), "-o", "out.parquet", *SLICED[kind], *QUIET]
    whole = undisturbed(arguments)
    for number in range(max(1, kills // 10)):
        folder = tmp_path / f"{number}"
        with ExitStack() as survived:
            for own in ("1/2", "2/2"):
                mining = Job(folder, [*arguments, "--shard", own])
                for _ in range(1 + kills // 20):
                    if mining.start("--resume").killed_after(drawn.uniform(0, whole.seconds)):
                        survived.enter_context(attack(KIND, "mine a slice, at a random moment"))
                mining.run("--resume").assert_told(0)
            source = ["--source", str(rows)] if SLICED[kind] else []
            merging = Job(folder, ["merge", "out.parquet", *source, "--progress", "none"])
            for _ in range(1 + kills // 5):
                if merging.start("--resume").killed_after(drawn.uniform(0, 1) * whole.seconds):
                    survived.enter_context(attack(KIND, "merge, at a random moment"))
                assert (folder / "out.parquet.slices").is_dir()
            merging.run("--resume").assert_told(0)
            found = {name: data for name, data in contents(folder).items() if ".slices/" not in name}
            assert found["out.parquet"] == whole.files["out.parquet"]
            assert set(found) == set(whole.files)
        shutil.rmtree(folder)
