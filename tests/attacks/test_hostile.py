"""Damaged and hostile files: each ends in an error in words or in the right rows; never a crash, a hang, a trace."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hostile import FORMATS, ROWS, SUFFIXES, Outcome, Random, Victim, damaged, table, twisted, whole
from tally import Attack

from minestream.cli.main import main
from minestream.learn.linear import Linear
from minestream.outputs.run import Run

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
    """A folder of outputs: whole, unfinished, in slices; and a linear embedding."""
    folder, patch = tmp_path_factory.mktemp("prepared"), pytest.MonkeyPatch()
    patch.chdir(folder)

    def mine(source: str, out: str, *options: str) -> int:
        return main(["mine", source, "-o", out, *CARRY, *QUIET, *options])

    rows = table()
    pq.write_table(rows, "rows.parquet")
    assert mine("rows.parquet", "out.parquet") == mine("rows.parquet", "parts") == 0
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


MERGE = [["merge", "OUT", *QUIET]]
CHECKS = [["describe", "OUT"], ["verify", "OUT"], ["describe", "OUT", "--json", "--html", "page.html"]]
RESUME = [["mine", "rows.parquet", "-o", "OUT", *CARRY, *QUIET, "--resume"]]
TARGETS: dict[str, tuple[str, Callable[[Path, Random], str], list[list[str]]]] = {
    "mined file": ("out.parquet", damaged_file, CHECKS),
    "mined part": ("parts/part-00000.parquet", damaged_file, [[*c[:1], "parts", *c[2:]] for c in CHECKS]),
    "metadata of a mined file": ("out.parquet", twisted_metadata, CHECKS),
    "manifest of a mined file": ("out.parquet.manifest.json", twisted_json, [*CHECKS, *RESUME]),
    "manifest of unfinished work": ("half.parquet.partial/manifest.json", twisted_json, RESUME),
    "record of a finished part": ("half.parquet.partial/part-00000.json", twisted_json, RESUME),
    "finished part": ("half.parquet.partial/parts/part-00000.parquet", damaged_file, RESUME),
    "manifest of a slice": (
        "cut.parquet.slices/slice-001-of-002.manifest.json", twisted_json, MERGE
    ),
    "part of a slice": (
        "cut.parquet.slices/slice-001-of-002/part-00000.parquet", damaged_file, MERGE
    ),
    "linear embedding": ("model.npz", damaged_file, [["apply", "model.npz", "rows.parquet", "-o", "p.parquet"]]),
}  # fmt: skip
RIGHT = {"half.parquet": "out.parquet", "cut.parquet": "out.parquet"}


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


# ---------------------------------------------------------------- whole files of wrong numbers


def archive(**arrays: Any) -> bytes:
    good = {"weights": np.eye(2, 4), "mean": np.zeros(4), "about": np.frombuffer(b'{"format": 1}', np.uint8)}
    np.savez_compressed(file := io.BytesIO(), **{n: a for n, a in (good | arrays).items() if a is not None})
    return file.getvalue()


def bomb() -> bytes:
    """Gigabytes of zeros in a few kilobytes, and a header that asks for more than there is."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as to:
        header = np.lib.format.magic(1, 0)
        text = str({"descr": "<f8", "fortran_order": False, "shape": (2**32, 4)}).encode().ljust(117) + b"\n"
        for name in ("weights", "mean", "about"):
            to.writestr(f"{name}.npy", header + len(text).to_bytes(2, "little") + text + bytes(2**20))
    return file.getvalue()


MODELS: dict[str, bytes] = {
    "no archive": b"x", "nothing": b"", "an empty archive": archive(weights=None, mean=None, about=None),
    "a bomb": bomb(), "texts": archive(weights=np.array([["x"]])), "another shape": archive(mean=np.zeros(3)),
    "no rows": archive(weights=np.zeros((0, 4))), "NaN": archive(weights=np.full((2, 4), np.nan)),
    "infinite means": archive(mean=np.full(4, np.inf)), "float32": archive(weights=np.eye(2, 4, dtype=np.float32)),
    "about a list": archive(about=np.frombuffer(b"[1]", np.uint8)),
    "about nothing": archive(about=np.zeros(0, np.uint8)),
    "about deeper and deeper": archive(about=np.frombuffer(b"[" * 100_000, np.uint8)),
    "another format": archive(about=np.frombuffer(b'{"format": 2}', np.uint8)), "no about": archive(about=None),
    "members that are no arrays": bomb().replace(b"\x93NUMPY", b"\x93numpy"), "a .npy file": whole("NumPy")[0],
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_none(name: str, victim: Victim, tmp_path: Path, attack: Attack) -> None:
    pq.write_table(table(), tmp_path / "rows.parquet")
    (tmp_path / "model.npz").write_bytes(MODELS[name])
    with attack(KIND, f"a linear embedding that is none: {name}"):
        victim.survive(tmp_path, "apply", "model.npz", "rows.parquet", "-o", "out.parquet", codes=(3, 4))


def test_text_offsets_beyond_their_buffer(victim: Victim, tmp_path: Path, attack: Attack) -> None:
    """Arrow's own reader of IPC takes them, and a process that uses such a text dies."""
    offsets = np.arange(ROWS + 1, dtype=np.int32)
    offsets[ROWS // 2] = 2_000_000_000
    text = pa.Array.from_buffers(pa.string(), ROWS, [None, pa.py_buffer(offsets), pa.py_buffer(b"x" * ROWS)])
    for name in ("label", "id", "text"):
        rows = table()
        batch = rows.set_column(rows.schema.names.index(name), name, text).combine_chunks().to_batches()[0]
        for opener, file in ((pa.ipc.new_file, "bad.arrow"), (pa.ipc.new_stream, "bad.arrows")):
            with opener(tmp_path / file, batch.schema) as to:
                to.write_batch(batch)
            with attack(KIND, f"text offsets beyond their buffer: {name}s"):
                arguments = ["mine", file, "-o", "out.parquet", *CARRY, *QUIET]
                assert victim.survive(tmp_path, *arguments, codes=(3,)).code == 3
