"""The shapes of register tiles, and which of them this host runs."""

from __future__ import annotations

import os
from functools import cache
from typing import NamedTuple

import llvmlite.binding as llvm
from numba.core import config
from numba.core.codegen import get_host_cpu_features

from minestream.errors import UsageError, nearest_name

TILE_VARIABLE = "MINESTREAM_TILE"


class Tile(NamedTuple):
    """A register tile: its shape, the width of its vectors, and the instruction set that it is made for.

    Attributes
    ----------
    rows, columns : int
        Shape of the accumulators; `columns` is at most 64, the bits of a row's mask.
    lanes : int
        32-bit values in a vector register.
    features : tuple of str
        LLVM's names of the CPU features that the shape needs; none for the shape that fits everywhere.
    multiply : str
        The instruction: "fma" for float32 panels; else the name of LLVM's dot product of four pairs of bytes a
        lane, for int8 panels, or of two pairs of 16 bits, for int16 panels.
    """

    rows: int
    columns: int
    lanes: int
    features: tuple[str, ...]
    multiply: str = "fma"

    @property
    def screen(self) -> str:
        """f32, i16 or i8."""
        if self.multiply == "fma":
            return "f32"
        return "i16" if "vpdpwssd" in self.multiply else "i8"

    @property
    def unsigned_rows(self) -> bool:
        """Whether the row side is multiplied as bytes 0 ... 255, so that 128 is added to its codes."""
        return "vpdpbusd" in self.multiply


# Of each screen the first whose features the host has is the host's; the order is that of speed.
TILES: dict[str, Tile] = {
    "avx512_8x48": Tile(8, 48, 16, ("avx512f",)),
    "avx2_6x16": Tile(6, 16, 8, ("avx2", "fma")),
    "generic_8x12": Tile(8, 12, 4, ()),
    "avx512vnni_8x48": Tile(8, 48, 16, ("avx512vnni",), "x86.avx512.vpdpbusd.512"),
    "avxvnni_6x16": Tile(6, 16, 8, ("avxvnni",), "x86.avx512.vpdpbusd.256"),
    "avx512vnni16_8x48": Tile(8, 48, 16, ("avx512vnni",), "x86.avx512.vpdpwssd.512"),
    "avxvnni16_6x16": Tile(6, 16, 8, ("avxvnni",), "x86.avx512.vpdpwssd.256"),
    "dotprod_8x12": Tile(8, 12, 4, ("dotprod",), "aarch64.neon.sdot.v4i32.v16i8"),
}


@cache
def host_cpu() -> tuple[str, str]:
    """The CPU that numba compiles for: asked once, since a forked child would wait for ever for LLVM's lock.

    Returns
    -------
    name, features : str
        LLVM's words, features as "+avx2,-avx512f,...". `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` count as
        they do for numba; features that a name alone implies are not listed, so set both.
    """
    name = llvm.get_host_cpu_name() if config.CPU_NAME is None else config.CPU_NAME
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return name, features


@cache
def host_tiles() -> dict[str, str]:
    """The names in `TILES` of the tiles that this process compiles, by screen: asked once, then fixed.

    Every host has an f32 tile; one of i8, or of i16, only those with such dot products. `$MINESTREAM_TILE` names
    the tile of its screen instead.

    Raises
    ------
    UsageError
        `$MINESTREAM_TILE` is set and names no tile.
    """
    features = set(host_cpu()[1].split(","))
    found: dict[str, str] = {}
    for name, tile in TILES.items():
        if features.issuperset(f"+{each}" for each in tile.features):
            found.setdefault(tile.screen, name)
    asked = os.environ.get(TILE_VARIABLE)
    if asked:
        if asked not in TILES:
            raise UsageError(f"{TILE_VARIABLE}: no tile {asked!r}", nearest_name(asked, list(TILES)))
        found[TILES[asked].screen] = asked
    return found


def host_tile(screen: str) -> Tile:
    """The host's tile of a screen."""
    return TILES[host_tiles()[screen]]
