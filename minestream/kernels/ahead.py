"""Compiling kernels in other processes while this one compiles those it needs before: numba compiles one at a time."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from numba import typeof

_CHILD = """
import pickle, sys
sys.path[:], calls = pickle.load(sys.stdin.buffer)
from minestream.kernels import ahead
ahead.compile_calls(calls)
"""
_children: list[subprocess.Popen[bytes]] = []  # kept, since nobody waits for them


def compiles(kernel: Any) -> bool:
    """Whether this process has neither compiled nor loaded a kernel so far."""
    return not kernel.signatures


def compile_ahead(calls: Sequence[tuple[Any, tuple[Any, ...]]], processes: int) -> None:
    """Have kernels compiled for arguments like these, by other processes; returns at once.

    Those whose code is kept are left out. A call that comes before its kernel is done waits for it, as for any process
    that compiles the same; where no process can be started, the call compiles.

    Parameters
    ----------
    calls : sequence of (kernel, arguments)
        The longest to compile first.
    processes : int
        At most so many are started.
    """
    typed = [(kernel, tuple(map(typeof, arguments))) for kernel, arguments in calls if compiles(kernel)]
    missing = [
        (kernel.py_func.__module__, kernel.py_func.__name__, types)
        for kernel, types in typed
        if kernel._cache.is_missing(types)
    ]
    command = [sys.executable or "", "-I", "-c", _CHILD]
    for first in range(min(processes, len(missing))):
        with suppress(OSError):
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _children.append(child)
            with child.stdin as pipe:  # type: ignore[union-attr]  # a pipe was asked for
                pipe.write(pickle.dumps((sys.path, pickle.dumps(missing[first::processes]))))


def compile_calls(calls: bytes) -> None:
    """Compile kernels in this process: pickled (module, name, numba types) of each."""
    for module, name, types in pickle.loads(calls):
        getattr(import_module(module), name).compile(types)
