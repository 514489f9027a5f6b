"""The rows that benchmarks run on: Parquet files, samples of them, and synthetic sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = ["id", "label", "embedding"]
ROW_GROUP_ROWS = 8192
TWINS = 1000
TIGHT_CLASSES = 200
TIGHT_SPREAD = 0.3  # length of the noise beside centres of length 1
LABELS = 50
HEAPED = 0.9  # of the rows are equal
DATA_HELP = "FILE.parquet, FILE:ROWS (a seeded sample) or FILE:ROWS:LABELS (and that many labels drawn anew)"


@dataclass(frozen=True)
class DataFile:
    """FILE, FILE:ROWS or FILE:ROWS:LABELS, as DATA_HELP explains. FILE has columns id, label and embedding."""

    path: Path
    rows: int | None = None
    labels: int | None = None

    @classmethod
    def parse(cls, text: str) -> DataFile:
        """What a command line names."""
        path, *numbers = text.split(":")
        if len(numbers) > 2:
            raise ValueError(text)
        return cls(Path(path), *map(int, numbers))

    @property
    def name(self) -> str:
        """What results call it."""
        return self.path.stem

    def written(self, folder: Path, dimension: int | None = None) -> Path:
        """The file itself, or one in `folder` with the rows, labels and leading coordinates that are asked for."""
        if self.rows is None and self.labels is None and dimension is None:
            return self.path
        table = pq.read_table(self.path, columns=COLUMNS)
        chosen = sample_rows(table.num_rows, self.rows or table.num_rows)
        vectors = matrix(table["embedding"])[chosen, :dimension]
        labels = table["label"].to_numpy()[chosen]
        if self.labels is not None:
            labels = np.random.default_rng(0).integers(0, self.labels, labels.size)
        path = folder / f"{self.name}-{len(vectors)}-{vectors.shape[1]}.parquet"
        write(path, vectors, labels, table["id"].to_numpy()[chosen])
        return path


def sample_rows(available: int, wanted: int) -> np.ndarray:
    """`wanted` of the row numbers, in order: always the same ones, and the whole when it asks for all or more."""
    return np.sort(np.random.default_rng(0).permutation(available)[:wanted])


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of embeddings as float32 (n, d)."""
    flat = column.combine_chunks()
    values: np.ndarray = flat.flatten().to_numpy().astype(np.float32, copy=False)
    return values.reshape(len(flat), -1)


def write(path: Path, vectors: np.ndarray, labels: np.ndarray, ids: np.ndarray | None = None) -> None:
    """A Parquet file of rows (n, d) as minestream and the peers read it."""
    values = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    arrays = [
        pa.array(np.arange(len(vectors)) if ids is None else ids),
        pa.array(np.asarray(labels, np.int32)),
        pa.FixedSizeListArray.from_arrays(values, vectors.shape[1]),
    ]
    pq.write_table(pa.table(arrays, names=COLUMNS), path, row_group_size=ROW_GROUP_ROWS)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vectors float32 (n, d) and labels (n,) of a file, batch by batch: nothing is in memory twice."""
    file = pq.ParquetFile(path)
    rows = file.metadata.num_rows
    labels: np.ndarray = np.empty(rows, np.int64)
    vectors: np.ndarray = np.empty((rows, dimension_of(path)), np.float32)
    first = 0
    for batch in file.iter_batches(ROW_GROUP_ROWS, columns=COLUMNS[1:]):
        end = first + batch.num_rows
        labels[first:end] = batch.column("label").to_numpy()
        vectors[first:end] = batch.column("embedding").flatten().to_numpy().reshape(batch.num_rows, -1)
        first = end
    return vectors, labels


def dimension_of(path: Path) -> int:
    """Coordinates of a row."""
    size: int = pq.read_schema(path).field("embedding").type.list_size
    return size


def rows_of(path: Path) -> int:
    """Rows of a file."""
    count: int = pq.ParquetFile(path).metadata.num_rows
    return count


def gaussian(rows: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Isotropic rows, all about equally far from each other: the worst case of every screen."""
    generator = np.random.default_rng(0)
    return generator.standard_normal((rows, dimension), np.float32), generator.integers(0, LABELS, rows)


def twins(rows: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Every row a thousand times, in shuffled order; equal rows have one label, and so have several of those sets."""
    generator = np.random.default_rng(1)
    distinct = max(2, rows // TWINS)
    of_row = generator.permutation(np.arange(rows) % distinct)
    return generator.standard_normal((distinct, dimension), np.float32)[of_row], of_row % max(2, distinct // 4)


def tight(rows: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """What a trained model gives: classes far smaller than the distances between them."""
    generator = np.random.default_rng(2)
    centres = generator.standard_normal((TIGHT_CLASSES, dimension), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    labels = generator.integers(0, TIGHT_CLASSES, rows)
    noise = generator.standard_normal((rows, dimension), np.float32)
    return centres[labels] + np.float32(TIGHT_SPREAD / dimension**0.5) * noise, labels


def heaped(rows: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Nine of ten rows are equal, the others isotropic."""
    vectors, labels = gaussian(rows, dimension)
    vectors[np.random.default_rng(3).random(rows) < HEAPED] = vectors[0]
    return vectors, labels


def equal(rows: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """All rows are equal."""
    vectors, labels = gaussian(rows, dimension)
    return np.tile(vectors[:1], (rows, 1)), labels


SYNTHETIC: dict[str, Callable[[int, int], tuple[np.ndarray, np.ndarray]]] = {
    "gaussian": gaussian,
    "twins": twins,
    "tight": tight,
}
# Of which near cells tell nothing.
WORST: dict[str, Callable[[int, int], tuple[np.ndarray, np.ndarray]]] = {
    "isotropic": gaussian,
    "one huge cell": heaped,
    "all rows equal": equal,
}
