"""Damaged and hostile files: each ends in an error in words or in the right rows; never a crash, a hang, a trace."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import Attack
from hostile import FORMATS, SUFFIXES, Outcome, Random, Victim, damaged, table, twisted, whole

from minestream.cli import main
from minestream.linear import Linear
from minestream.sink import Run

KIND = "damaged bytes"
QUIET = ["--progress", "none"]
CARRY = ["--carry", "text"]


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    with Victim() as process:
        yield process


def all_of(seeds: range, attack: Attack, meet: Callable[[int], tuple[str, str, Callable[[], Any]]]) -> None:
    """Meet every seed, whatever became of those before it; fail with those that were not survived."""
    failures = []
    for seed in seeds:
        kind, what, run = meet(seed)
        try:
            with attack(kind, what):
                run()
        except AssertionError as error:
            failures.append(f"seed {seed}, {what}: {str(error).strip()[-1500:]}")
    assert not failures, f"{len(failures)} of {len(seeds)} not survived:\n" + "\n".join(failures)


def seeds_of(name: str, few: int, many: int) -> list[Any]:
    """Some in every run of the tests, and thousands of others."""
    return [
        pytest.param(name, range(few), id=f"{name}-{few}"),
        pytest.param(name, range(few, many), marks=pytest.mark.chaos, id=f"{name}-{many}"),
    ]


# ---------------------------------------------------------------- what is mined


@pytest.mark.parametrize(
    ("form", "seeds"),
    [case for form in [*FORMATS, "Arrow stream on standard input"] for case in seeds_of(form, 12, 1500)],
)
def test_damaged_inputs(form: str, seeds: range, victim: Victim, tmp_path: Path, attack: Attack) -> None:
    """What is mined of a damaged file is what pyarrow reads of it."""
    piped = form.endswith("standard input")
    of = "Arrow stream" if piped else form

    def meet(seed: int) -> tuple[str, str, Callable[[], Outcome]]:
        what, content = damaged(whole(of), np.random.default_rng([seed, list(FORMATS).index(of), piped]))
        folder = tmp_path / str(seed)
        bad = f"bad{SUFFIXES[of]}"

        def run() -> Outcome:
            folder.mkdir()
            pq.write_table(table(), folder / "rows.parquet")
            (folder / bad).write_bytes(content)
            inputs = ["rows.parquet", "--vectors", bad] if of == "NumPy" else ["-" if piped else bad]
            arguments = ["mine", *inputs, "-o", "out.parquet", *CARRY, *QUIET]
            found = victim.survive(folder, *arguments, compare=True, stdin=bad if piped else "")
            shutil.rmtree(folder)
            return found

        return KIND, f"{form}: {what}", run

    all_of(seeds, attack, meet)


# ---------------------------------------------------------------- what lies beside


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of outputs: whole, unfinished, in slices, of a source that has changed since; and a linear embedding."""
    folder, patch = tmp_path_factory.mktemp("prepared"), pytest.MonkeyPatch()
    patch.chdir(folder)

    def mine(source: str, out: str, *options: str) -> int:
        return main(["mine", source, "-o", out, *CARRY, *QUIET, *options])

    rows = table()
    moved = pc.if_else(pc.equal(rows["id"], "id-0007"), "label 0", rows["label"])
    pq.write_table(rows, "rows.parquet")
    pq.write_table(rows, "changing.parquet")
    assert mine("rows.parquet", "out.parquet") == mine("rows.parquet", "parts") == 0
    assert mine("changing.parquet", "changed.parquet", "--reserve", "8") == 0
    pq.write_table(rows.set_column(1, "label", moved), "changing.parquet")
    assert mine("changing.parquet", "expected.parquet") == 0
    assert (
        mine("rows.parquet", "cut.parquet", "--shard", "1/2")
        == mine("rows.parquet", "cut.parquet", "--shard", "2/2")
        == 0
    )

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with patch.context() as patched:
        patched.setattr(Run, "publish", stop)
        assert mine("rows.parquet", "half.parquet") == 130
    Linear(np.eye(2, 4), np.zeros(4), {}).save(Path("model.npz"))
    patch.undo()
    return folder


def damaged_file(path: Path, rng: Random) -> str:
    what, content = damaged([path.read_bytes()], rng)
    path.write_bytes(content)
    return what


def twisted_json(path: Path, rng: Random) -> str:
    path.write_text(json.dumps(twisted(json.loads(path.read_bytes()), rng)))
    return "values of other types, sizes and places"


def twisted_metadata(path: Path, rng: Random) -> str:
    """What a mined file says of itself."""
    rows = pq.read_table(path)
    every = {name.decode(): value.decode() for name, value in pq.read_metadata(path).metadata.items()}
    found = {name: value for name, value in every.items() if name.startswith("minestream.")}
    name = list(found)[int(rng.integers(len(found)))]
    structured = found[name][:1] in "{["
    found[name] = json.dumps(twisted(json.loads(found[name]), rng)) if structured else str(twisted("", rng))
    pq.write_table(
        rows.replace_schema_metadata({key: value.encode("utf-8", "replace") for key, value in found.items()}), path
    )
    return "values of other types, sizes and places"


UPDATE = [["update", "OUT", *QUIET]]
MERGE = [["merge", "OUT", *QUIET]]
CHECKS = [["describe", "OUT"], ["verify", "OUT"], ["describe", "OUT", "--json", "--html", "page.html"]]
RESUME = [["mine", "rows.parquet", "-o", "OUT", *CARRY, *QUIET, "--resume"]]
TARGETS: dict[str, tuple[str, Callable[[Path, Random], str], list[list[str]]]] = {
    "mined file": ("out.parquet", damaged_file, CHECKS),
    "mined part": ("parts/part-00000.parquet", damaged_file, [[*c[:1], "parts", *c[2:]] for c in CHECKS]),
    "metadata of a mined file": ("out.parquet", twisted_metadata, [*CHECKS, *UPDATE]),
    "manifest of a mined file": ("out.parquet.manifest.json", twisted_json, [*CHECKS, *RESUME, *UPDATE]),
    "manifest of unfinished work": ("half.parquet.partial/manifest.json", twisted_json, RESUME),
    "record of a finished part": ("half.parquet.partial/part-00000.json", twisted_json, RESUME),
    "finished part": ("half.parquet.partial/parts/part-00000.parquet", damaged_file, RESUME),
    "manifest of a slice": (
        "cut.parquet.slices/slice-001-of-002.manifest.json", twisted_json, MERGE
    ),
    "part of a slice": (
        "cut.parquet.slices/slice-001-of-002/part-00000.parquet", damaged_file, MERGE
    ),
    "reserve": ("changed.parquet.reserve.parquet", damaged_file, UPDATE),
    "linear embedding": ("model.npz", damaged_file, [["apply", "model.npz", "rows.parquet", "-o", "p.parquet"]]),
}  # fmt: skip
RIGHT = {"half.parquet": "out.parquet", "cut.parquet": "out.parquet", "changed.parquet": "expected.parquet"}


@pytest.mark.parametrize(("target", "seeds"), [case for target in TARGETS for case in seeds_of(target, 5, 400)])
def test_damaged_files_beside(
    target: str, seeds: range, victim: Victim, prepared: Path, tmp_path: Path, attack: Attack
) -> None:
    """Outputs, manifests, unfinished work and models: refused, or used to make what was to be made."""
    name, damage, commands = TARGETS[target]
    out = name.partition(".parquet")[0] + ".parquet"

    def meet(seed: int) -> tuple[str, str, Callable[[], None]]:
        rng = np.random.default_rng([seed, list(TARGETS).index(target)])
        folder = tmp_path / str(seed)
        shutil.copytree(prepared, folder)
        what = damage(folder / name, rng)
        arguments = [out if each == "OUT" else each for each in commands[seed % len(commands)]]

        def run() -> None:
            found = victim.survive(folder, *arguments, codes=(0, 1, 2, 3, 4, 5))
            if found.code == 0 and out in RIGHT:
                assert pq.read_table(folder / out).equals(pq.read_table(prepared / RIGHT[out])), "other rows"
            shutil.rmtree(folder)

        return KIND, f"{target}: {what}", run

    all_of(seeds, attack, meet)
