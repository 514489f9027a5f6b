"""The folder of compiled kernels: what is kept is found again, and nothing that happens to it does harm."""

from __future__ import annotations

import ast
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest

from minestream import kernels
from minestream.errors import UsageError
from minestream.kernels import jit

REPOSITORY = Path(__file__).parents[2]
KIND = "kernel cache"

KERNELS = """
from minestream.kernels.jit import kernel

@kernel
def double(x):
    return x * FACTOR

@kernel
def double_sum(n):
    total = 0.0
    for i in range(n):
        total += double(i)
    return total

FACTOR = 2.0
"""
SCRIPT = """
import made_kernels
from minestream.kernels import cache_note
from minestream.kernels.jit import compile_counts
print((made_kernels.double_sum(10), *compile_counts(), cache_note()))
"""


class Outcome(NamedTuple):
    answer: float
    hits: int
    misses: int
    note: str


class Runner:
    """Runs the two kernels in new processes that share a folder.

    They import a copy of the package: an edit of `kernels/` while the tests run would rightly recompile.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        (folder / "made_kernels.py").write_text(KERNELS)
        self.package = folder / "minestream"
        skipped = shutil.ignore_patterns("__pycache__", "data")
        shutil.copytree(REPOSITORY / "minestream", self.package, ignore=skipped)
        paths = [str(folder), os.environ.get("PYTHONPATH", "")]
        self.environment = os.environ | {"MINESTREAM_CACHE_DIR": str(self.cache), "PYTHONPATH": os.pathsep.join(paths)}

    def start(self, before: str = "", **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", before + SCRIPT]
        pipe = subprocess.PIPE
        environment = self.environment | variables
        return subprocess.Popen(command, env=environment, cwd=self.folder, stdout=pipe, stderr=pipe, text=True)

    def finish(self, process: subprocess.Popen[str]) -> Outcome:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        return Outcome(*ast.literal_eval(output))

    def run(self, before: str = "", **variables: str) -> Outcome:
        return self.finish(self.start(before, **variables))

    def files(self) -> list[Path]:
        return sorted(self.cache.glob("*/*.kernel"))


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_a_second_process_compiles_nothing(runner: Runner) -> None:
    assert runner.run() == Outcome(90.0, 0, 2, "")
    assert len(runner.files()) == 2
    assert runner.run() == Outcome(90.0, 1, 0, "")


def test_a_changed_source_is_compiled_again(runner: Runner) -> None:
    assert runner.run().answer == 90.0
    (runner.folder / "made_kernels.py").write_text(KERNELS.replace("FACTOR = 2.0", "FACTOR = 3.0"))
    assert runner.run() == Outcome(135.0, 0, 2, "")


def test_an_edit_of_any_kernel_file_compiles_again(runner: Runner) -> None:
    assert runner.run().misses == 2
    with (runner.package / "kernels" / "tile.py").open("a") as file:
        file.write("# edited\n")
    assert runner.run() == Outcome(90.0, 0, 2, "")


def test_code_for_another_tile_is_kept_apart(runner: Runner) -> None:
    assert runner.run(MINESTREAM_TILE="generic_8x12").misses == 2
    assert runner.run(MINESTREAM_TILE="avx2_6x16").misses == 2
    assert len({path.parent for path in runner.files()}) == 2


@pytest.mark.parametrize("damages", [("empty", "cut"), ("flipped", "foreign")], ids=str)
def test_a_damaged_file_is_compiled_again(runner: Runner, damages: tuple[str, ...]) -> None:
    """Of the two files, each in its way."""
    runner.run()
    for path, damage in zip(runner.files(), damages, strict=True):
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        if damage == "flipped":
            content[middle] ^= 1
        path.write_bytes({"empty": b"", "cut": content[:middle], "foreign": b"\x80\x04N."}.get(damage, content))
    assert runner.run() == Outcome(90.0, 0, 2, "")
    assert runner.run() == Outcome(90.0, 1, 0, "")


def test_a_process_killed_while_saving_leaves_nothing_behind_that_loads(runner: Runner) -> None:
    killed = runner.start("import os\nos.replace = lambda *_: os._exit(9)\n")
    killed.communicate()
    assert killed.returncode == 9
    assert runner.files() == []
    assert runner.run() == Outcome(90.0, 0, 2, "")
    assert runner.run() == Outcome(90.0, 1, 0, "")


def test_a_full_disk_does_not_stop_a_run(runner: Runner) -> None:
    full = "import os\ndef refuse(*_):\n    raise OSError(28, 'full')\nos.replace = refuse\n"
    assert runner.run(full) == Outcome(90.0, 0, 2, "")
    assert [path.name for path in runner.cache.glob("*/*")] == ["lock"]


def test_processes_at_once_compile_once(runner: Runner) -> None:
    together = [runner.start() for _ in range(3)]
    outcomes = [runner.finish(process) for process in together]
    assert {outcome.answer for outcome in outcomes} == {90.0}
    assert sum(outcome.misses for outcome in outcomes) == 2
    assert runner.run() == Outcome(90.0, 1, 0, "")


AHEAD = """
import sys
import made_kernels
from minestream.kernels import ahead
{before}
ahead.compile_ahead([(made_kernels.double_sum, (10,)), (made_kernels.double, (1,))], 2)
print(len(ahead._children), *[child.wait() for child in ahead._children])
sys.exit()
"""


def test_other_processes_compile_what_comes_later(runner: Runner) -> None:
    def compiled(before: str = "") -> str:
        return runner.start(AHEAD.format(before=before)).communicate()[0]

    assert compiled("sys.executable = '/no/such/python'") == "0\n"
    assert runner.files() == []
    assert compiled() == "2 0 0\n"
    assert len(runner.files()) == 2
    assert runner.run() == Outcome(90.0, 1, 0, "")
    assert compiled() == "0\n"


HOLD = """
import sys
from pathlib import Path
from minestream.kernels.jit import CompileLock
lock = CompileLock()
with lock:
    lock.acquire(Path(sys.argv[1]))
    print("held", flush=True)
    sys.stdin.read()
"""


def test_processes_wait_for_a_kernel_that_another_compiles_and_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit, "LOCK_SECONDS", 0.2)
    one, other = (tmp_path / f"kernel-{number:032x}.kernel" for number in (1, 2**32 - 1))
    command, pipe = [sys.executable, "-c", HOLD, str(one)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lock = jit.CompileLock()
        with lock:
            assert lock.acquire(other)
            with lock:
                assert lock.acquire(one)
                assert lock._held == [2**32 - 1, None], "it is held"
            holder.communicate()
            with lock:
                assert lock.acquire(one)
                assert lock._held == [2**32 - 1, 1]


FORK_WHILE_COMPILING = """
import os, signal, threading, time
import made_kernels
from minestream.kernels import jit as compiled
beside = threading.Thread(target=made_kernels.double_sum, args=(10,))
beside.start()
while not compiled._compile_lock._held:
    time.sleep(0.001)
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(made_kernels.double_sum(10) != 90.0)
beside.join()
assert os.waitpid(child, 0)[1] == 0, "the forked child hangs"
"""


def test_a_child_forked_while_a_kernel_is_compiled_can_compile(runner: Runner, attack: Any) -> None:
    with attack(KIND, "a fork while another thread compiles"):
        assert runner.run(FORK_WHILE_COMPILING).answer == 90.0


def test_the_users_cache_is_next_and_a_vanished_folder_is_harmless(runner: Runner) -> None:
    blocked = runner.folder / "file"
    blocked.write_text("")
    home = {"MINESTREAM_CACHE_DIR": str(blocked / "child"), "XDG_CACHE_HOME": str(runner.folder / "home")}
    told = runner.run(**home)
    assert told[:3] == (90.0, 0, 2)
    assert str(blocked / "child") in told.note
    assert "is not used" in told.note
    assert runner.run(**home)[:3] == (90.0, 1, 0)
    shutil.rmtree(runner.folder / "home")
    vanish = "import shutil\nfrom minestream.kernels.jit import code_folder\nshutil.rmtree(code_folder())\n"
    assert runner.run(vanish, **home)[:3] == (90.0, 0, 2)


NO_HOME = """
import os, pwd
def unknown(user):
    raise KeyError(user)
os.environ.pop("HOME", None)
pwd.getpwuid = unknown
"""


@pytest.mark.parametrize(("what", "before"), [("a home that cannot be written", ""), ("no home at all", NO_HOME)])
def test_without_a_home_the_temporary_folder_keeps_kernels(runner: Runner, what: str, before: str, attack: Any) -> None:
    temporary = runner.folder / "temporary"
    temporary.mkdir()
    variables = {"MINESTREAM_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": "/dev/null", "TMPDIR": str(temporary)}
    with attack(KIND, what):
        assert runner.run(before, **variables) == Outcome(90.0, 0, 2, "")
        assert runner.run(before, **variables) == Outcome(90.0, 1, 0, "")


def test_a_disk_that_takes_no_whole_file_keeps_nothing(runner: Runner, attack: Any) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
    with attack(KIND, "a disk that is full half way through a kernel's file"):
        assert runner.run(limit) == Outcome(90.0, 0, 2, "")
        assert [path.name for path in runner.cache.glob("*/*")] == ["lock"]


def test_versions_side_by_side_keep_their_own(runner: Runner, attack: Any) -> None:
    version = runner.package / "_version.py"
    old = version.read_text()
    found = []
    with attack(KIND, "two versions in turn on one cache folder"):
        for text in (old, old.replace('"0.', '"7.')) * 2:
            version.write_text(text)
            found.append(runner.run()[:3])
        assert found == [(90.0, 0, 2), (90.0, 0, 2), (90.0, 1, 0), (90.0, 1, 0)]
        assert len({path.parent for path in runner.files()}) == 2


def test_code_under_the_name_of_other_code_is_not_run(runner: Runner, attack: Any) -> None:
    runner.run()
    one, other = runner.files()
    content = one.read_bytes()
    with attack(KIND, "the files of two kernels exchanged"):
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
        assert runner.run() == Outcome(90.0, 0, 2, "")


@pytest.mark.parametrize("count", [200, pytest.param(20_000, marks=pytest.mark.chaos)])
@pytest.mark.parametrize("damage", ["flipped", "cut", "zeroed"])
def test_no_damaged_file_is_loaded(
    damage: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Any
) -> None:
    monkeypatch.setattr(jit, "code_folder", lambda: tmp_path)

    @jit.kernel
    def next_one(x):
        return x + 1

    assert next_one(1) == 2
    (path,) = tmp_path.glob("*.kernel")
    whole = path.read_bytes()
    read = next_one._cache._read  # type: ignore[attr-defined]
    assert read(path, next_one.targetctx) is not None  # type: ignore[attr-defined]
    rng = np.random.default_rng(count)
    for _ in range(count):
        content, at, bit = bytearray(whole), int(rng.integers(len(whole) - 1)), int(rng.integers(8))
        if damage == "flipped":
            content[at] ^= 1 << bit
        elif damage == "cut":
            del content[at:]
        else:
            content[at:] = bytes(len(whole) - at)
        path.write_bytes(content)
        with attack("damaged bytes", f"a kept kernel, {damage} at random"):
            assert content == whole or read(path, next_one.targetctx) is None  # type: ignore[attr-defined]


def test_without_a_place_for_temporary_files_kernels_are_compiled(runner: Runner, attack: Any) -> None:
    before = """
import tempfile
def none():
    raise FileNotFoundError(2, "No usable temporary directory found")
tempfile._get_default_tempdir = none
"""
    variables = {"MINESTREAM_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": "/dev/null"}
    with attack(KIND, "no folder at all that can be written"):
        assert runner.run(before, **variables)[:3] == (90.0, 0, 2)


def test_without_any_folder_one_line_says_so(runner: Runner) -> None:
    blocked = runner.folder / "file"
    blocked.write_text("")
    nowhere = f"import tempfile\ntempfile.tempdir = {str(blocked / 'child')!r}\n"
    variables = {"MINESTREAM_CACHE_DIR": str(blocked / "child"), "XDG_CACHE_HOME": str(blocked / "child")}
    outcome = runner.run(nowhere, **variables)
    assert outcome[:3] == (90.0, 0, 2)
    assert "MINESTREAM_CACHE_DIR" in outcome.note
    assert "\n" not in outcome.note


def test_a_temporary_folder_open_to_others_is_not_trusted(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert kernels._made(tmp_path, shared=True) == tmp_path
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert kernels._made(link, shared=True) is None
    tmp_path.chmod(0o755)
    assert kernels._made(tmp_path, shared=True) is None
    assert kernels._made(tmp_path) == tmp_path
    for mode in (0o777, 0o775, 0o757):
        tmp_path.chmod(mode)
        assert kernels._made(tmp_path) is None


def test_a_folder_of_somebody_else_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    if os.stat(tmp_path).st_uid:  # root is trusted
        assert kernels._made(tmp_path) is None
    found = os.stat_result((0o40755, 0, 0, 1, 4321, 0, 0, 0, 0, 0))
    assert not kernels._is_ours(found, 0o022)


def test_parts_of_kernels_are_compiled_with_them_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "code_folder", lambda: tmp_path)

    @jit.kernel
    def _half(x: float) -> float:
        return x / 2

    @jit.kernel(inline=True)
    def twice(x: float) -> float:
        return x * 2

    @jit.kernel
    def both(x: float) -> float:
        return _half(x) + twice(x)

    assert both(3.0) == both(3.0) == 7.5
    for part in (_half, twice):
        with pytest.raises(TypeError, match="is a part of other kernels: Python cannot call it"):
            part(3.0)


def test_a_kernel_that_does_not_compile_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "code_folder", lambda: tmp_path)

    @jit.kernel
    def wrong(x):
        return x.no_such_attribute

    with pytest.raises(numba.TypingError):
        wrong(1.0)
    assert not jit._compile_lock._held
    assert jit._compile_lock._descriptor is None


def test_numba_of_others_is_left_alone() -> None:
    @numba.njit
    def plain(x):
        return x + 1

    assert plain(1) == 2
    assert type(plain) is not jit.KernelDispatcher
    assert os.environ.get("NUMBA_CACHE_DIR", "") == numba.config.CACHE_DIR


def test_a_compiler_that_is_switched_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba's own functions, which kernels call, do not compile either: nothing but a refusal can be right."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.raises(UsageError, match="NUMBA_DISABLE_JIT") as refused:
        runpy.run_path(jit.__file__)
    assert "unset it" in refused.value.hint
