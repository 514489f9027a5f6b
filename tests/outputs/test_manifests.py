"""Damaged and hostile outputs, manifests and work folders: refused, or used to make what was to be made."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from attacks import CARRY, DAMAGED_BYTES, HOSTILE_INPUT, INPUT, MANIFESTS_AND_NAMES, OUTPUT, QUIET, all_of, seeds_of
from hostile import DEEP, Random, Victim, damaged, table, twisted
from tally import Attack

from minestream.cli.main import main
from minestream.learn.linear import Linear
from minestream.outputs.manifest import Maybe, fits
from minestream.outputs.run import Run


def stop(*_: Any, **__: Any) -> None:
    """An interrupt, in place of what publishes."""
    raise KeyboardInterrupt


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

        return DAMAGED_BYTES, f"{target}: {what}", run

    all_of(seeds, attack, meet)


Change = Callable[[dict[str, Any]], Any]


def put(path: str, *place: Any, value: Any = None) -> Change:
    """The change that puts a value at a place, `path` being its name in a test."""

    def change(found: dict[str, Any]) -> None:
        inner: Any = found
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = value

    change.__name__ = path
    return change


CHANGES = [
    put("source a number", "source", value=1), put("source of numbers", "source", value=[1]),
    put("source without names", "source", value=[{}]), put("a role that is a number", "source", 0, "role", value=5),
    put("config a list", "config", value=[]), put("columns a text", "columns", value="x"),
    put("parts a text", "parts", value="many"), put("parts beyond counting", "parts", value=10**400),
    put("fingerprint nothing", "fingerprint"), put("a fingerprint that is no text", "fingerprint", value="\ud800"),
    put("something deep", "source", value=DEEP),
]  # fmt: skip
OF_SLICES = [
    *CHANGES, put("10^18 slices", "slice", "of", value=10**18), put("10^18 parts", "parts", value=10**18),
    put("slices of texts", "slice", "of", value="x"), put("no slice", "slice"),
    put("a slice of nothing", "slice", value={}),
    put("files nothing", "files"), put("files of numbers", "files", value=[1]), put("no files", "files", value=[]),
    put("a report of nothing", "report", value={}), put("no statistics", "files", 0, "stats"),
    put("statistics of texts", "files", 0, "stats", "anchors", value="x"),
    put("sizes of texts", "files", 0, "bytes", value=""),
    put("an unknown option", "config", "new", value=1), put("an unknown metric", "config", "metric", value="far"),
    put("a metric that is a list", "config", "metric", value=["cosine"]),
    put("k a text", "config", "negatives", value="k"),
    put("a negative part", "slice", "parts", value=[-1]),
]  # fmt: skip


def named(change: Change) -> str:
    return change.__name__


@pytest.mark.parametrize("change", OF_SLICES, ids=named)
def test_slices_are_merged_by_whole_manifests(
    change: Change, folder: Path, refusal: Callable[..., str], attack: Attack
) -> None:
    for each in ("1/2", "2/2"):
        assert main(["mine", "rows.parquet", "-o", "out.parquet", "--shard", each, *QUIET]) == 0
    for path in Path("out.parquet.slices").glob("*.manifest.json"):
        manifest = json.loads(path.read_text())
        with suppress(IndexError):  # a slice without parts
            change(manifest)
        path.write_text(json.dumps(manifest))
    with attack(MANIFESTS_AND_NAMES, f"a slice's manifest: {named(change)}"):
        refusal((OUTPUT,), "merge", "out.parquet", *QUIET)
        assert not Path("out.parquet").exists()


OF_RECORDS = [
    put("bytes a text", "bytes", value="x"), put("no statistics", "stats"), put("statistics a list", "stats", value=[]),
    put("statistics of texts", "stats", "anchors", value="x"),
    put("statistics of lists", "stats", "dropped", value=[1]),
    put("a statistic that is nothing", "stats", "anchors"),
    put("another CRC-32", "crc32", value="00000000"), put("rows nothing", "rows"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change"),
    [("manifest", each) for each in CHANGES] + [("part-00000", each) for each in OF_RECORDS],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_no_run_goes_on_with_half_a_record(
    name: str, change: Change, folder: Path, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    """It is mined afresh, as where there is none."""

    with monkeypatch.context() as patched:
        patched.setattr(Run, "publish", stop)
        assert main(["mine", "rows.parquet", "-o", "out.parquet", *QUIET]) == 130
    assert main(["mine", "rows.parquet", "-o", "expected.parquet", *QUIET]) == 0
    path = Path(f"out.parquet.partial/{name}.json")
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with attack(MANIFESTS_AND_NAMES, f"the {name} of unfinished work: {named(change)}"):
        assert main(["mine", "rows.parquet", "-o", "out.parquet", "--resume", *QUIET]) in (0, OUTPUT)
        if Path("out.parquet").exists():
            assert pq.read_table("out.parquet").equals(pq.read_table("expected.parquet"))


METADATA: dict[str, dict[str, str]] = {
    "config that is no JSON": {"config": "{"}, "config a list": {"config": "[]"},
    "a metric that there is not": {"config": '{"metric": "far"}'},
    "an option of another type": {"config": '{"swap": 1}'},
    "JSON deeper and deeper": {"config": "[" * 100_000}, "counts of texts": {"counts": '{"rows": "x"}'},
    "counts beyond counting": {"counts": '{"rows": 1' + "0" * 400 + "}"}, "source of numbers": {"source": "[1]"},
    "source without names": {"source": "[{}]"}, "columns a number": {"columns": "1"}, "no version": {"version": ""},
}  # fmt: skip


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize("command", ["describe", "verify"])
def test_what_a_file_says_of_itself(
    command: str, name: str, folder: Path, refusal: Callable[..., str], attack: Attack
) -> None:
    assert main(["mine", "rows.parquet", "-o", "out.parquet", *QUIET]) == 0
    Path("out.parquet.manifest.json").unlink()
    found = {key: value for key, value in pq.read_metadata("out.parquet").metadata.items() if b"minestream." in key}
    found |= {f"minestream.{key}".encode(): value.encode() for key, value in METADATA[name].items()}
    if name == "no version":
        del found[b"minestream.version"]
    pq.write_table(pq.read_table("out.parquet").replace_schema_metadata(found), "out.parquet")
    with attack(MANIFESTS_AND_NAMES, f"what a mined file says of itself: {name}"):
        refusal((INPUT,), command, "out.parquet")


def test_shapes() -> None:
    shape = {"a": int, "b": Maybe([str]), str: (int, float)}
    for good in ({"a": 1}, {"a": 0, "b": None}, {"a": -1, "b": ["x"], "c": 0.5}, {"a": 2**63 - 1}):
        assert fits(good, shape), good
    for bad in (
        {},
        {"a": True},
        {"a": 2**63},
        {"a": 1.0},
        {"a": 1, "b": "x"},
        {"a": 1, "b": [1]},
        {"a": 1, "c": "x"},
        [],
        1,
    ):
        assert not fits(bad, shape), bad


def test_parquet_columns_whose_names_are_no_text(folder: Path, refusal: Callable[..., str], attack: Attack) -> None:
    assert main(["mine", "rows.parquet", "-o", "out.parquet", *QUIET]) == 0
    Path("out.parquet").write_bytes(Path("out.parquet").read_bytes().replace(b"distance_ap", b"\xff\xfestance_ap"))
    for command in ("describe", "verify"):
        with attack(MANIFESTS_AND_NAMES, "column names of bytes that are no text"):
            refusal((INPUT, 1), command, "out.parquet")


def changed_metadata(path: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Rewrite a mined file with another value in its metadata."""
    found = {key: value for key, value in pq.read_metadata(path).metadata.items() if key.startswith(b"minestream.")}
    key = f"minestream.{name}".encode()
    found[key] = json.dumps(change(json.loads(found[key]))).encode()
    pq.write_table(pq.read_table(path).replace_schema_metadata(found), path)


@pytest.mark.parametrize("name", ["../secret.parquet", "a/../../secret.parquet", "{folder}/secret.parquet"])
def test_a_source_outside_is_not_looked_up(
    name: str, folder: Path, attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "secret.parquet").write_bytes(Path("rows.parquet").read_bytes())
    (folder / "in").mkdir()
    os.chdir("in")
    assert main(["mine", "../rows.parquet", "-o", "out.parquet", *QUIET]) == 0
    Path("out.parquet.manifest.json").unlink()
    outside = name.format(folder=folder)
    changed_metadata(Path("out.parquet"), "source", lambda found: [found[0] | {"name": outside}])
    capsys.readouterr()
    with attack(HOSTILE_INPUT, "a mined file whose source leads elsewhere: verify"):
        assert main(["verify", "out.parquet"]) == INPUT
        assert "outside" in capsys.readouterr().err


def mined_slices() -> Path:
    for each in ("1/2", "2/2"):
        assert main(["mine", "rows.parquet", "-o", "out.parquet", "--shard", each, *QUIET]) == 0
    return Path("out.parquet.slices")


@pytest.mark.parametrize("name", ["../../../secret.parquet", "{folder}/secret.parquet", "part-00001.parquet", "."])
def test_a_slice_names_its_own_parts_only(name: str, folder: Path, attack: Attack) -> None:
    (folder / "in").mkdir()
    os.chdir("in")
    Path("rows.parquet").write_bytes((folder / "rows.parquet").read_bytes())
    slices = mined_slices()
    (path,) = (path for path in slices.glob("*.manifest.json") if json.loads(path.read_text())["files"])
    manifest = json.loads(path.read_text())
    (own,) = slices.glob("*/part-00000.parquet")
    own.rename(folder / "secret.parquet")  # right in every byte
    manifest["files"][0]["name"] = name.format(folder=folder)
    path.write_text(json.dumps(manifest))
    with attack(HOSTILE_INPUT, "a manifest whose parts lead elsewhere: merge"):
        assert main(["merge", "out.parquet", *QUIET]) == OUTPUT
        assert not Path("out.parquet").exists()


def test_work_folders_that_are_links_are_left_alone(folder: Path, attack: Attack) -> None:
    (folder / "precious").mkdir()
    for name in ("lock", "diary"):
        (folder / "precious" / name).write_text("mine")
    Path("out.parquet.partial").symlink_to("precious")
    with attack(HOSTILE_INPUT, "a link in place of the folder of unfinished work"):
        assert main(["mine", "rows.parquet", "-o", "out.parquet", "--overwrite", *QUIET]) == OUTPUT
        assert (folder / "precious" / "diary").read_text() == "mine"


def test_a_footer_over_which_pyarrow_aborts(victim: Victim, prepared: Path, tmp_path: Path) -> None:
    """Asked for a column of an unknown repetition, pyarrow ends the process by an exception of C++."""
    whole, name = (prepared / "out.parquet").read_bytes(), b"\x18\x06harder"
    assert b"%\x02" + name in whole
    (tmp_path / "out.parquet").write_bytes(whole.replace(b"%\x02" + name, b"%\x0f" + name))
    victim.survive(tmp_path, "describe", "out.parquet", codes=(0, 3))
