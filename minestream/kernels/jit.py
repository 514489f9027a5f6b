"""The `kernel` decorator: numba's nopython compiler with a folder of compiled code that is ours alone.

Why not `cache=True`: numba's key holds neither the globals of a kernel nor the files that it calls into, its
folder is shared with everything else, and its index is written before the data, unlocked. Here each compiled
signature is one file with its own checksum, moved into place when complete, in a folder whose name changes
with anything that changes code. Whatever goes wrong with that folder, the kernel is compiled in memory.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, overload

import llvmlite
import numba
from numba.core import config, serialize, sigutils
from numba.core.caching import NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher

from minestream._version import VERSION
from minestream.errors import UsageError
from minestream.kernels import cache_root
from minestream.kernels.tile_shapes import host_cpu, host_tiles

if sys.platform != "win32":
    import fcntl
Function = TypeVar("Function", bound=Callable[..., Any])
LOCK_SECONDS = 120.0  # then compile without: the lock saves work, the files are safe by themselves
FILE_HEADER = b"minestream kernel 1\n"
_dispatchers: list[KernelDispatcher] = []
if config.DISABLE_JIT:  # Python cannot run the instructions that kernels are made of
    raise UsageError(
        "NUMBA_DISABLE_JIT is set, and minestream mines with compiled code only",
        "unset it, or set it to 0 for this command; describe, verify and export work with it",
    )


@overload
def kernel(function: Function, /) -> Function: ...


@overload
def kernel(
    *, inline: bool = False, allocates: bool = False, boundscheck: bool | None = None
) -> Callable[[Function], Function]: ...


def kernel(
    function: Function | None = None,
    /,
    *,
    inline: bool = False,
    allocates: bool = False,
    boundscheck: bool | None = None,
) -> Function | Callable[[Function], Function]:
    """Compile a module-level function with numba, without the interpreter lock, and keep the code on disk.

    Python cannot call kernels whose names begin with an underscore: they are parts of others, and compiled as such.

    Parameters
    ----------
    function : function
        May call other kernels and intrinsics. A closure is compiled but not kept.
    inline : bool, optional
        Always inlined into other kernels: for functions of many arrays, which a call would copy. Python cannot call
        it, either.
    allocates : bool, optional
        Whether it makes arrays. Else no references are counted: threads that slice one array would wait for each
        other at its counter, and spend more time there than on the work.
    boundscheck : bool, optional
        As for numba; None follows `NUMBA_BOUNDSCHECK`.

    Returns
    -------
    function
        A numba dispatcher with the signature of the function.

    Notes
    -----
    Code is kept per contents of `kernels/*.py` and of the function's own file. Globals that it reads, and
    kernels that it calls, must come from those.
    """

    def decorate(python_function: Function) -> Function:
        options: dict[str, Any] = {"nopython": True, "nogil": True, "_nrt": allocates, "no_cfunc_wrapper": True}
        if inline:  # what Python and C would call it by takes longer to compile than the function
            options |= {"forceinline": True, "no_cpython_wrapper": True}
        if boundscheck is not None:
            options["boundscheck"] = boundscheck
        inner = inline or python_function.__name__.startswith("_")
        dispatcher: Any = (InnerDispatcher if inner else KernelDispatcher)(python_function, targetoptions=options)
        _dispatchers.append(dispatcher)
        return dispatcher

    return decorate if function is None else decorate(function)


def compile_counts() -> tuple[int, int]:
    """How many kernel signatures this process loaded from disk, and how many it compiled.

    Returns
    -------
    hits, misses : int
        Summed over all kernels. A kernel called only by a loaded kernel is counted in neither.
    """
    hits = sum(sum(each.stats.cache_hits.values()) for each in _dispatchers)
    return hits, sum(sum(each.stats.cache_misses.values()) for each in _dispatchers)


@cache
def code_folder() -> Path | None:
    """The folder of this process's compiled kernels, made on the first call; None when nothing can be kept.

    Its name is a digest of all that changes code from outside a kernel: the versions of minestream, Python,
    numba and llvmlite, the contents of `kernels/*.py`, the CPU's name and features, the tile, and numba's
    options for code generation.
    """
    root = cache_root()
    if root is None:
        return None
    digest = hashlib.sha256()
    switches = [config.OPT, config.BOUNDSCHECK, config.DEBUGINFO_DEFAULT]
    switches += [config.LOOP_VECTORIZE, config.SLP_VECTORIZE]
    versions = [VERSION, sys.version, numba.__version__, llvmlite.__version__]
    for part in [*versions, *host_cpu(), *host_tiles().values(), *map(str, switches), KERNELS_DIGEST]:
        digest.update(part.encode() + b"\0")
    folder = root / f"{VERSION}-{host_cpu()[0]}-{'-'.join(host_tiles().values())}-{digest.hexdigest()[:24]}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return None
    return folder


def _file_digest(path: str | Path) -> str:
    """Of the contents; "" when there is no file: typed at a prompt, or run from a string."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


# Taken now, before the kernels are imported: a file edited between its import and its first compile must not
# have the old code kept under the digest of the new.
KERNELS_DIGEST = " ".join(f"{path.name} {_file_digest(path)}" for path in sorted(Path(__file__).parent.glob("*.py")))


def compiles_first() -> bool:
    """Whether no compiled kernel is kept yet, so that the first run of each must compile it."""
    folder = code_folder()
    return folder is None or not any(folder.glob("*.kernel"))


class CompileLock:
    """One compiler of a kernel among all processes that share a folder: from the miss to the end of that compile.

    Entered at every compile, nested ones included, under numba's own lock; taken only by `acquire`. A kernel
    that is loaded never waits, nor one that nobody else compiles: each is a byte of the file that is locked. No two
    processes wait for each other, since a kernel never waits for one that calls it. `seconds` is what compiling and
    loading took so far in this process, but for a compile that is not done.
    """

    def __init__(self) -> None:
        self._held: list[int | None] = []  # the byte locked by each compile under way, the outermost first
        self._descriptor: int | None = None
        self._began = self.seconds = 0.0

    def __enter__(self) -> None:
        if not self._held:
            self._began = time.perf_counter()
        self._held.append(None)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        byte = self._held.pop()
        if byte is not None and self._descriptor is not None and sys.platform != "win32":
            with suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, byte)
        if not self._held:
            self.seconds += time.perf_counter() - self._began
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def acquire(self, path: Path) -> bool:
        """Lock a kernel's file until the innermost compile ends; whether that was tried (then look again)."""
        if sys.platform == "win32":
            return False
        try:
            if self._descriptor is None:
                self._descriptor = os.open(path.parent / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            byte = int(path.stem[-8:], 16)
            give_up = time.monotonic() + LOCK_SECONDS
            while time.monotonic() < give_up:
                with suppress(BlockingIOError):
                    fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
                    self._held[-1] = byte
                    return True
                time.sleep(0.02)
        except OSError:  # a file system without locks, or a folder that vanished
            pass
        return True


_compile_lock = CompileLock()


def running_seconds() -> float:
    """A clock that stands still while kernels are compiled, or compiled ones loaded: for rates, and the time left."""
    return (_compile_lock._began if _compile_lock._held else time.perf_counter()) - _compile_lock.seconds


if hasattr(os, "register_at_fork"):  # a child would wait for ever for a lock that another thread held
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


class InnerLibrary(JITCodeLibrary):  # type: ignore[misc]  # numba is not typed
    """Code that only other kernels call: it goes into theirs, where it is optimised and assembled with the rest."""

    def finalize(self) -> None:
        """Link what it calls, and leave the rest to the kernels that call it."""
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """0: there is no machine code."""
        return 0

    @property
    def codegen(self) -> InnerLibrary:
        """What sets the environment of a function once it is assembled: see set_env."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Nothing: an environment stands in assembled code."""


class InnerCompiler(Compiler):  # type: ignore[misc]  # numba is not typed
    """numba's compiler, of a kernel that only other kernels call."""

    def __init__(self, typing_context: Any, target_context: Any, library: Any, *arguments: Any) -> None:
        library = InnerLibrary(target_context.codegen(), "inner")
        super().__init__(typing_context, target_context, library, *arguments)


class KernelDispatcher(CPUDispatcher):  # type: ignore[misc]  # numba is not typed
    """numba's dispatcher of one function, with our files behind it."""

    def __init__(self, py_func: Any, **settings: Any) -> None:
        super().__init__(py_func, **settings)
        self._cache = KernelFiles(py_func, settings.get("targetoptions", {}))

    def compile(self, sig: Any) -> Any:
        with global_compiler_lock, _compile_lock:
            return super().compile(sig)


class InnerDispatcher(KernelDispatcher):
    """The dispatcher of a kernel that only other kernels call."""

    def __init__(self, py_func: Any, **settings: Any) -> None:
        super().__init__(py_func, pipeline_class=InnerCompiler, **settings)
        self._cache = NullCache()

    def __call__(self, *arguments: Any) -> Any:
        """Refuse: there is no machine code of it alone."""
        raise TypeError(f"{self.py_func.__name__} is a part of other kernels: Python cannot call it")


class KernelFiles(NullCache):  # type: ignore[misc]  # numba is not typed
    """The compiled signatures of one function: a file each, complete and checked, or not there.

    Parameters
    ----------
    function : function
        What is compiled.
    options : dict
        The options it is compiled with.
    """

    def __init__(self, function: Any, options: dict[str, Any]) -> None:
        self._function = function
        self._options = repr(sorted((name, _ordered(value)) for name, value in options.items()))
        self._stamp = _file_digest(inspect.getfile(function))

    @property
    def cache_path(self) -> str | None:
        folder = code_folder()
        return None if folder is None else str(folder)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled signature, or None, in which case its file is locked: the caller compiles."""
        target_context.refresh()
        path = self._path(sig)
        if path is None:
            return None
        found = self._read(path, target_context)
        if found is None and _compile_lock.acquire(path):
            found = self._read(path, target_context)  # compiled by another process while we waited
        return found

    def is_missing(self, sig: Any) -> bool:
        """Whether a signature could be kept and is not."""
        path = self._path(sig)
        return path is not None and not path.exists()

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write the compiled signature; a failure is silent, since the code in memory is good."""
        path = self._path(sig)
        if path is None or data.lifted or data.library.has_dynamic_globals:
            return
        scratch = ""
        try:
            payload = serialize.dumps(data._reduce())
            descriptor, scratch = tempfile.mkstemp(dir=path.parent, suffix=".part")
            with os.fdopen(descriptor, "wb") as file:
                file.write(_sealed(path, payload))
            os.replace(scratch, path)
        except Exception:  # a full disk, or an object that does not pickle
            with suppress(OSError):
                if scratch:
                    os.unlink(scratch)

    def _path(self, sig: Any) -> Path | None:
        folder = code_folder()
        if folder is None or not self._stamp or self._function.__closure__ is not None:
            return None
        code = self._function.__code__
        name = f"{self._function.__module__}.{self._function.__qualname__}"
        types = repr(sigutils.normalize_signature(sig))
        key = "\0".join([name, str(code.co_firstlineno), code.co_code.hex(), self._stamp, self._options, types])
        return folder / f"{self._function.__name__}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.kernel"

    def _read(self, path: Path, target_context: Any) -> Any:
        start = len(FILE_HEADER) + hashlib.sha256().digest_size
        try:
            content = path.read_bytes()
            payload = content[start:]
            if content != _sealed(path, payload):
                return None
            return CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:  # absent, or written by something that is not what it was
            return None


def _sealed(path: Path, payload: bytes) -> bytes:
    """What a file holds; its checksum is of its name too, which says whose code that is."""
    return FILE_HEADER + hashlib.sha256(path.name.encode() + payload).digest() + payload


def _ordered(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value
