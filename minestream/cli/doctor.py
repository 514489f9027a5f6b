"""The command `doctor`: what minestream finds on this machine, to be pasted into a bug report."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

import minestream
from minestream.cli.help import Command
from minestream.cli.options import options_of, show_result
from minestream.cli.report import SCREENS
from minestream.cli.tables import sections
from minestream.config.commands import Doctoring
from minestream.config.resources import Resources, memory_budget, thread_count
from minestream.kernels import cache_note, cache_root
from minestream.system.machine import free_bytes, processor_name
from minestream.system.values import value_rows

REQUIRED = ("numba", "llvmlite", "numpy", "pyarrow", "click", "rich")
# The extras that bring what minestream can do more, and the packages that tell whether they are there.
EXTRAS = {
    "dask": ("dask", "distributed"), "ray": ("ray",), "hub": ("huggingface_hub",), "lance": ("pylance",),
    "torch": ("torch",), "pytorch-metric-learning": ("pytorch-metric-learning",),
    "sentence-transformers": ("sentence-transformers",), "sklearn": ("scikit-learn",), "lightning": ("lightning",),
    "examples": ("torch", "sentence-transformers", "pytorch-metric-learning", "nbclient", "ipykernel"),
}  # fmt: skip
VARIABLES = ("MINESTREAM_", "NUMBA_", "OMP_", "XDG_CACHE_HOME")


@click.command(cls=Command)
@options_of(Doctoring)
def doctor(as_json: bool) -> None:
    """Show the versions, the processor, the folder of compiled kernels, memory and optional packages: what a bug
    report needs. Whatever is broken, it says so and ends with exit code 0.

    \b
    Example:
      minestream doctor > doctor.txt
      minestream doctor --json
    """
    found = {name: _known(look) for name, look in LOOKS.items()}
    show_result(found, as_json, lambda _: sections({name: value_rows(part) for name, part in found.items()}))


def _known(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `look` finds, or why it finds nothing."""
    try:
        return look()
    except Exception as error:  # whatever is broken here is what the report is about
        return {"not_known": f"{type(error).__name__}: {error}"}


def _versions() -> dict[str, Any]:
    python = f"{platform.python_version()} ({sys.executable})"
    packages = {package: _version(package) or "missing" for package in REQUIRED}
    return {"minestream": minestream.__version__, "python": python, **packages, "platform": platform.platform()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> dict[str, Any]:
    from minestream.kernels.tile_shapes import TILES, host_cpu  # loads numba

    name, listed = host_cpu()
    features = sorted({each for tile in TILES.values() for each in tile.features})
    has = [each for each in features if f"+{each}" in listed.split(",")]
    return {
        "name": processor_name(), "compiled_for": name, "has": has,
        "lacks": [each for each in features if each not in has], "threads": thread_count(Resources()),
    }  # fmt: skip


def _screen() -> dict[str, Any]:
    from minestream.kernels.tile_shapes import TILES, host_tiles
    from minestream.search.screens import SCAN_ROWS, screens_of

    screen = (*screens_of(Resources(), SCAN_ROWS + 1, 1), "scan")[0]
    asked = os.environ.get("MINESTREAM_SCREEN", "auto")
    tile = host_tiles().get(screen)
    multiply = sorted(feature for each in TILES.values() if each.screen == "i8" for feature in each.features)
    has = "the processor multiplies bytes" if screen == "i8" else "the processor has no instruction to multiply bytes"
    why = f"{has} ({', '.join(TILES[tile].features if tile and screen == 'i8' else multiply)})"
    if asked != "auto":
        why = f"MINESTREAM_SCREEN is {asked}" + ("" if asked == screen else ", which this processor cannot run")
    few = f"inputs of up to {SCAN_ROWS:,} rows have none: every distance is exact"
    return {"used": SCREENS[screen], "why": why, "tile": tile, "small_inputs": few}


def _kernels() -> dict[str, Any]:
    root = cache_root()
    where = {"folder": None if root is None else str(root), "writable": root is not None}
    where |= {"problem": cache_note()} if cache_note() else {}
    from minestream.kernels.jit import code_folder

    folder = code_folder()
    return where | {"kernels_kept": 0 if folder is None else len(list(folder.glob("*.kernel")))}


def _memory() -> dict[str, Any]:
    return {"free_bytes": free_bytes(), "budget_bytes": memory_budget(Resources())}


def _optional() -> dict[str, Any]:
    return {extra: _extra(extra, packages) for extra, packages in EXTRAS.items()}


def _extra(extra: str, packages: tuple[str, ...]) -> str:
    there = [f"{package} {_version(package)}" for package in packages if _version(package)]
    missing = [package for package in packages if not _version(package)]
    ask = [f"missing {', '.join(missing)}: pip install 'minestream[{extra}]'"] if missing else []
    return "; ".join([*([", ".join(there)] if there else []), *ask])


def _environment() -> dict[str, Any]:
    """The variables that change what is done."""
    return {"set": [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)]}


LOOKS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "versions": _versions, "processor": _processor, "screen": _screen, "kernels": _kernels,
    "memory": _memory, "optional": _optional, "environment": _environment,
}  # fmt: skip
