"""Screens: the arithmetic that proposes candidates, and the codes of all rows that it multiplies."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.config.resources import Resources
from minestream.errors import UsageError, nearest_name
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.vectors import Store
from minestream.kernels import quantize as kernels
from minestream.kernels import sweep
from minestream.kernels.tile import INTERVAL, LOW, control_of
from minestream.kernels.tile_shapes import Tile, host_tile, host_tiles
from minestream.kernels.types import TALLIES
from minestream.search.rotation import plain_rotation, rotation_of
from minestream.system.threads import Workers, apart, slices

LARGEST_DIMENSION = 16_384  # of integers: an int8 accumulator holds that many products
VAIN_SECONDS, VAIN_SECONDS_PER_VALUE = 1.0e-7, 4e-10  # of a distance made exact, and a coordinate of it
ENCODED_PARTS = 4  # for each thread, of the rows that are encoded together
DOUBT = 2.0  # early steps look worse than the later ones will be
SIGN_BIT = 0x80000000


@dataclass(frozen=True, slots=True)
class Screen:
    """One row of SCREENS.

    Attributes
    ----------
    dtype : numpy dtype
        Of the codes.
    word : numpy dtype
        Of the 32-bit words in which the tile reads the codes.
    encode : function
        (frame, of integers the rotation, vectors, square, out_codes, out_terms)
    rate : float
        Operations a second and thread, roughly: for the choice and the projection.
    """

    dtype: Any
    word: Any
    encode: Callable[..., None]
    rate: float


SCREENS: dict[str, Screen] = {
    "f32": Screen(np.float32, np.float32, kernels.float_codes, 1.0e11),
    "i16": Screen(np.int16, np.uint32, kernels.integer_codes, 2.0e11),
    "i8": Screen(np.int8, np.int32, kernels.integer_codes, 3.5e11),
}


def code_bytes(screen: str, dimension: int) -> int:
    """Bytes of the code of one row, in whole words of four."""
    itemsize: int = np.dtype(SCREENS[screen].dtype).itemsize
    return 4 * -(-dimension * itemsize // 4)


def usable_screens(dimension: int) -> list[str]:
    """The screens that this host has a tile for, fastest first."""
    usable = [name for name in SCREENS if name in host_tiles() and (name == "f32" or dimension <= LARGEST_DIMENSION)]
    return sorted(usable, key=lambda name: -SCREENS[name].rate)


def worth_changing(screen: str, sharper: str, dimension: int, values: float, vain: float) -> bool:
    """Whether a sharper screen is predicted to be faster.

    values, vain : so far, products computed, and distances made exact that a sharper screen would not let through
    """
    slower = 1 / SCREENS[sharper].rate - 1 / SCREENS[screen].rate
    lost = vain * (VAIN_SECONDS + VAIN_SECONDS_PER_VALUE * dimension)
    return lost > DOUBT * 2.0 * dimension * values * slower


class Codes:
    """All rows as codes of one screen, by slot.

    Parameters
    ----------
    loaded : Dataset
    name : str
        Key of SCREENS.
    workers : Workers
    threads : int
    budget_bytes, scratch : int, Path
        As for Store.
    """

    def __init__(
        self, loaded: Dataset, name: str, workers: Workers, threads: int, budget_bytes: int, scratch: Path
    ) -> None:
        self.name, self.screen = name, SCREENS[name]
        self.tile: Tile = host_tile(name)
        store, n = loaded.store, loaded.store.rows
        self.dimension = store.dimension
        self.words = code_bytes(name, store.dimension) // 4
        self.rotation = rotation_of(loaded) if name == "i8" else plain_rotation(store.dimension)
        self.prefix, self.shift = self.rotation.prefix, self.rotation.shift
        self.store = Store(self.words, np.dtype(np.uint32), budget_bytes, scratch, n)
        self.terms = kernels.Terms(
            np.empty(n), np.empty(n), np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32),
            np.empty(n, np.float32), np.empty(n, np.float32), np.empty((n, 2), np.int32),
        )  # fmt: skip
        whole = self.store.room(n) if store.in_memory else None
        together = store.pass_rows if whole is None else max(1, n)
        for first in range(0, n, together):
            end = min(n, first + together)
            block = np.empty((end - first, self.words), np.uint32) if whole is None else whole
            vectors = store.block(first, end)
            parts = slices(end - first, ENCODED_PARTS * threads)
            workers.run([self._encoder(loaded, vectors, first, rows, block) for rows in parts])
            if whole is None:
                self.store.append(block)
        self.store.seal()

    def __getstate__(self) -> dict[str, Any]:
        """All but what is compiled, which pickles of another process do not hold."""
        return {name: value for name, value in vars(self).items() if name not in ("screen", "tile")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.screen, self.tile = SCREENS[self.name], host_tile(self.name)

    def _encoder(
        self, loaded: Dataset, vectors: NDArray[Any], first: int, rows: slice, out: NDArray[np.uint32]
    ) -> Callable[[], None]:
        slots = slice(first + rows.start, first + rows.stop)
        terms = kernels.Terms._make(field[slots] for field in self.terms)
        codes = out[rows].view(self.screen.dtype)
        how = (loaded.frame,) if self.name == "f32" else (loaded.frame, self.rotation)
        return lambda: self.screen.encode(*how, vectors[rows], loaded.rows.square[slots], codes, terms)

    def rows_of(
        self, slots: NDArray[np.integer], workers: Workers | None = None, threads: int = 1
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Codes that include those of `slots`, and the row of each slot in them; see Store.take."""
        whole = self.store.whole()
        if whole is not None:
            return whole, slots.astype(np.int64)
        _, first, at = np.unique(self.store.places(slots), return_index=True, return_inverse=True)
        return self.store.take(slots[first], workers, threads), at

    def values(self, slots: NDArray[np.integer]) -> NDArray[np.float64]:
        """Rows as their codes stand for them, float64 (m, values of a code)."""
        words, at = self.rows_of(slots)
        coded = words.view(self.screen.dtype)[at]
        steps = np.where(np.arange(coded.shape[1]) < self.prefix, 2.0 ** (self.shift / 2), 1.0)
        values: NDArray[np.float64] = coded * self.terms.scale[slots, None] * steps
        return values

    def row_flip(self, mirrored: bool) -> int:
        """The bits by which words of the row side are flipped when they are packed."""
        if self.name == "i8":
            return kernels.OFFSET if self.tile.unsigned_rows else 0
        return SIGN_BIT if mirrored and self.name == "f32" else 0

    def side(self, own: slice, panels: NDArray[np.uint32], unit: int = 1, intervals: int = 1) -> sweep.Side:
        """A slice of all lanes, packed as `panels`, without terms and gates: see filled()."""
        count, _, width = panels.shape
        return sweep.Side(
            own.start, own.stop - own.start, np.arange(own.start, own.stop, dtype=np.int32), unit,
            panels.view(self.screen.word),
            np.empty((count, LOW + INTERVAL * intervals, width), np.float32), np.empty((count, 2, width), np.int32),
            *(np.empty((count, 2), np.int32) for _ in range(3)),
        )  # fmt: skip

    def row_sign(self, mirrored: bool) -> float:
        """What the scales of the row side are multiplied by."""
        return -1.0 if mirrored and self.name != "f32" else 1.0

    def scratch(self, intervals: int = 1, checked: bool = False) -> sweep.Scratch:
        """What one thread works in, for gates of so many intervals; tiles are `checked` behind the prefix."""
        tile, control = self.tile, control_of(self.words, intervals, self.prefix_words, self.shift, checked)
        return sweep.Scratch(
            apart((2, tile.rows), np.uint64), apart((tile.rows, tile.columns), np.float32), control,
            apart((2,), np.int64), apart((TALLIES,), np.int64),
        )  # fmt: skip

    @property
    def prefix_words(self) -> int:
        """Words of the prefix."""
        return self.words if self.prefix == self.dimension else self.prefix // 4

    def close(self) -> None:
        """Release memory and scratch."""
        self.store.close()


def packing(
    words: NDArray[np.uint32], rows: NDArray[np.int64], width: int, flip: int
) -> tuple[NDArray[np.uint32], Callable[[slice], None]]:
    """Panels (panels, words of a row, width) of some rows, empty, and what packs some of them as the tile reads them.

    Parameters
    ----------
    words : uint32 (m, words)
    rows : int64[n]
    width : int
        Rows of a panel.
    flip : int
        Applied to every word by exclusive or.
    """
    out = np.empty((-(-rows.size // width), words.shape[1], width), np.uint32)

    def pack(part: slice) -> None:
        kernels.pack(words, rows[part.start * width : part.stop * width], np.uint32(flip), out[part])

    return out, pack


def packed(
    words: NDArray[np.uint32], rows: NDArray[np.int64], width: int, workers: Workers, threads: int
) -> NDArray[np.uint32]:  # fmt: skip
    """The panels of packing(), packed."""
    panels, pack = packing(words, rows, width, 0)
    workers.run([partial(pack, part) for part in slices(len(panels), threads)])
    return panels


def filled(
    side: sweep.Side, pack: Callable[[slice], None], lanes: sweep.Lanes, sign: float, workers: Workers, threads: int
) -> sweep.Side:  # fmt: skip
    """The side, with its panels packed, and with what stays the same from step to step: see sweep.set_side()."""
    width = side.terms.shape[2]

    def task(part: slice) -> None:
        first = part.start * width
        own = side._replace(
            lanes=side.lanes - first, lane=side.lane[first:], panels=side.panels[part], terms=side.terms[part],
            start=side.start[part], labels=side.labels[part], twins=side.twins[part], parents=side.parents[part],
        )  # fmt: skip
        pack(part)
        sweep.set_side(lanes, own, sign)

    workers.run([partial(task, part) for part in slices(len(side.terms), threads)])
    return side


def screens_of(resources: Resources, rows: int, dimension: int) -> tuple[str, ...]:
    """The screens to use, the first choice first: the keyword screen, else MINESTREAM_SCREEN, else those of the host.

    No screens mean the scan. A screen that the host lacks is replaced by those it has: the rows mined are the same.
    Of three the slowest is left out: the bounds of float32 are only some five times as sharp as those of int16.

    Raises
    ------
    UsageError
        For an unknown screen.
    """
    asked = os.environ.get("MINESTREAM_SCREEN", "auto") if resources.screen == "auto" else resources.screen
    if asked not in ("auto", "scan", *SCREENS):
        raise UsageError(f"no screen {asked!r}", nearest_name(asked, ["auto", "scan", *SCREENS]))
    usable = usable_screens(dimension)
    if asked in usable:
        return (asked,)
    return () if asked == "scan" or (asked == "auto" and rows <= SCAN_ROWS) else tuple(usable[:2])


SCAN_ROWS = 4_096  # inputs up to here are scanned: fewer kernels to load, and as fast
