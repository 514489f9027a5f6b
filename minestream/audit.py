"""What is in a mined output (describe), and whether it is what its source gives (verify).

Nothing here imports the fast path: rows are derived again by the reference, which shares no code with it.
"""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream import reference
from minestream.errors import InputError, VerifyMismatch
from minestream.sink import RowsCrc, read_json
from minestream.source import Source, open_source
from minestream.stats import mean

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
EXACT_VALUES = 4_000_000  # more values than these are thinned evenly before their quantiles are taken
MEASURED = ("distance_ap", "distance_an", "distance_pn", "distance", "scores", "loss", "losses")
ENDS = ("anchor", "positive", "negative", "left", "right")
OTHER_ENDS = 4  # pairs: for each sampled anchor, so many partners at most are derived too
BATCH_ROWS = 65_536
MANIFEST = ".manifest.json"

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class MinedOutput:
    """A mined file or folder.

    Attributes
    ----------
    path : Path
    files : tuple of Path
        The file, or the parts in order.
    manifest : dict or None
        The manifest beside it, when it is complete.
    """

    path: Path
    files: tuple[Path, ...]
    manifest: dict[str, Any] | None

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The key-value metadata of the first file."""
        return file_metadata(self.files[0])

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        config: dict[str, Any] = json.loads(self.metadata["minestream.config"])
        return config

    @property
    def columns(self) -> dict[str, Any]:
        """The input columns used."""
        columns: dict[str, Any] = json.loads(self.metadata["minestream.columns"])
        return columns

    def source(self) -> list[dict[str, Any]]:
        """The identity of the source: name, rows and crc32 of each file."""
        source: list[dict[str, Any]] = json.loads(self.metadata["minestream.source"])
        return source

    def batches(self, names: list[str] | None = None) -> Iterator[tuple[Path, int, pa.RecordBatch]]:
        """All rows (of the columns `names`), with the file and the row there of each batch's first."""
        for path in self.files:
            start = 0
            with open_parquet(path) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
                    yield path, start, batch
                    start += batch.num_rows


def open_parquet(path: Path) -> pq.ParquetFile:
    """A Parquet file whose pages are checked as they are read."""
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20, page_checksum_verification=True)


def file_metadata(path: Path) -> dict[str, str]:
    """The key-value metadata that minestream wrote into a file."""
    try:
        found = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} is not a readable Parquet file: {error}", "give a mined file or folder") from error
    if b"minestream.rows_crc32" not in found:
        raise InputError(f"{path} was not written by minestream", "give a mined file or folder")
    return {name.decode(): value.decode() for name, value in found.items()}


def mined_output(path: str | os.PathLike[str]) -> MinedOutput:
    """The mined output at `path`: a file, a folder of parts, or the manifest of either.

    Raises
    ------
    InputError
        When there is none, or `path` is one part of a folder.
    """
    out = Path(path)
    if out.name.endswith(MANIFEST):
        out = out.with_name(out.name.removesuffix(MANIFEST))
    manifest = read_json(out.with_name(out.name + MANIFEST))
    if manifest is not None and manifest.get("state") != "complete":
        manifest = None
    if out.is_dir():
        files = tuple(sorted(out.glob("part-*.parquet")))
        if not files:
            raise InputError(f"{out} holds no part-*.parquet", "give a mined file or folder")
        return MinedOutput(out, files, manifest)
    if not out.exists():
        unfinished = out.with_name(out.name + ".partial").exists()
        hint = "it is unfinished: mine with --resume" if unfinished else "give a mined file or folder"
        raise InputError(f"{out} does not exist", hint)
    if manifest is None and out.match("part-*.parquet"):
        raise InputError(f"{out} is one part of a folder", f"give the folder: {out.parent}")
    return MinedOutput(out, (out,), manifest)


# ---------------------------------------------------------------- describe


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What is in a mined file or folder.

    Parameters
    ----------
    path : path
        The output, or its manifest.

    Returns
    -------
    dict
        Only what JSON holds. Means are over all rows and over active rows (of tuples: over negatives), by
        fsum for each row group, then of those. Quantiles are exact up to 4,000,000 values, else those of
        every i-th value: `quantiles_of` says which.
    """
    mined = mined_output(path)
    metadata, config = mined.metadata, mined.config
    measures = measured(mined, config)
    counts = mined.manifest["counts"] if mined.manifest else json.loads(metadata["minestream.counts"])
    if not mined.manifest and len(mined.files) > 1:
        every = [json.loads(file_metadata(file)["minestream.counts"]) for file in mined.files]
        counts = {name: sum(part.get(name, 0) for part in every) for name in every[0]}
    found = {
        "output": str(mined.path),
        "version": metadata["minestream.version"],
        "files": len(mined.files),
        "bytes": sum(file.stat().st_size for file in mined.files),
        "rows": sum(pq.read_metadata(file).num_rows for file in mined.files),
        "labels": metadata["minestream.labels"],
        "loss": metadata["minestream.loss"],
        **measures,
        "counts": counts,
        "columns": mined.columns,
        "source": mined.source(),
        "config": config,
    }
    if mined.manifest and mined.manifest.get("report"):
        found["report"] = mined.manifest["report"]
    return found


def measured(mined: MinedOutput, config: dict[str, Any]) -> dict[str, Any]:
    """Loss means, active rows and quantiles, from one pass over the row groups."""
    schema = pq.read_schema(mined.files[0])
    names = [name for name in MEASURED if name in schema.names]
    total = sum(pq.read_metadata(file).num_rows for file in mined.files)
    thinned: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    sums: list[tuple[float, float]] = []
    seen, active_rows, losses, exact = 0, 0, 0, True
    for group in row_groups(mined, names):
        values = {name: flat(group.column(name)) for name in names}
        for name, column in values.items():
            each = 1 + total * max(1, len(column) // max(1, group.num_rows)) // EXACT_VALUES
            thinned[name].append(column[-seen % each :: each])
            exact = exact and each == 1
        seen += group.num_rows
        loss = values.get("loss", values.get("losses"))
        if loss is not None:
            active = active_mask(values, config)
            chosen = loss[active] if active is not None else loss[:0]
            sums.append((math.fsum(loss.tolist()), math.fsum(chosen.tolist())))
            active_rows, losses = active_rows + len(chosen), losses + len(loss)
    found: dict[str, Any] = {}
    if sums:
        known = config["emit"] != "tuples" or config["loss"] != "triplet-soft"
        found["mean_loss"] = mean(math.fsum(part[0] for part in sums), losses)
        found["mean_active_loss"] = mean(math.fsum(part[1] for part in sums), active_rows)
        found["active_rows"] = active_rows if known else None
        found["active_fraction"] = mean(active_rows, losses) if known else None
    found["quantiles_of"] = "every value" if exact else "an even sample of the values"
    found["quantiles"] = {name: quantiles(parts) for name, parts in thinned.items()}
    return found


def row_groups(mined: MinedOutput, names: list[str]) -> Iterator[pa.Table]:
    """Every row group, `names` of its columns."""
    for path in mined.files if names else ():
        with open_parquet(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=names, use_threads=False)


def flat(column: pa.ChunkedArray) -> NDArray[Any]:
    """The numbers of a column, those of lists one after the other, without nulls."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    values: NDArray[Any] = (array.flatten() if pa.types.is_list(array.type) else array).drop_null().to_numpy()
    return values


def active_mask(values: dict[str, NDArray[Any]], config: dict[str, Any]) -> NDArray[np.bool_] | None:
    """Which rows are violating; None for tuples with a soft loss, which hold no distances.

    A plain loss is above 0 exactly there; otherwise the stored distances tell, to their rounding.
    """
    if config["loss"] != "triplet-soft" and not config.get("swap"):
        positive: NDArray[np.bool_] = values["loss" if "loss" in values else "losses"] > 0
        return positive
    if "distance_an" not in values:
        return None
    bound = values["distance_ap"].astype(np.float64) + config["margin"]
    inside: NDArray[np.bool_] = values["distance_an"] < bound
    return inside


def quantiles(parts: list[NDArray[Any]]) -> dict[str, float]:
    """The quantiles of finite values, by name: min, 1%, ..., median, ..., max."""
    values = np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)
    if not len(values):
        return {}
    names = {0.0: "min", 0.5: "median", 1.0: "max"}
    found = np.quantile(values, QUANTILES, method="inverted_cdf").tolist()
    return {names.get(q, f"{q:.0%}"): value for q, value in zip(QUANTILES, found, strict=True)}


# ---------------------------------------------------------------- verify


def verify(path: str | os.PathLike[str], *, sample: int = 100, source: Any = None, seed: int = 0) -> dict[str, Any]:
    """Check a mined output against its checksums, then derive sampled anchors again and compare row by row.

    Parameters
    ----------
    path : path
        The output, or its manifest.
    sample : int
        Anchors to derive; three of four from those in the output, the rest from other rows. 0: none, and the
        source is not needed.
    source : path, list of paths or Arrow object, optional
        The mined input or its folder; looked for by its recorded names in the output's folder, then in the
        working directory.
    seed : int
        Seed of the sample.

    Returns
    -------
    dict
        What was checked.

    Raises
    ------
    VerifyMismatch
        At the first difference, naming file, row, column, what was expected and what was found.
    InputError
        When the source is not found or is not the one that was mined.

    Notes
    -----
    Holds the source in memory; O(sample n d) flops in NumPy loops. For pairs up to 4 partners a sampled
    anchor are derived as well, to see that every pair is picked by one of its ends.
    """
    mined = mined_output(path)
    found: dict[str, Any] = {"output": str(mined.path), "files": len(mined.files), "rows": check_files(mined)}
    if sample > 0:
        found |= Derivation(mined, source).check(sample, np.random.default_rng(seed))
    return {**found, "differences": []}


def check_files(mined: MinedOutput) -> int:
    """Compare every file with its checksum and counts, and all with the manifest; returns the rows."""
    names, rows = [file.name for file in mined.files], 0
    if mined.path.is_dir() and names != [f"part-{index:05d}.parquet" for index in range(len(names))]:
        raise VerifyMismatch(f"{mined.path}: a part is missing: found {', '.join(names[:5])} ...")
    listed = {entry["name"]: entry for entry in (mined.manifest or {}).get("files", [])}
    if mined.manifest and sorted(listed) != names:
        raise VerifyMismatch(f"{mined.path}: the manifest lists {len(listed)} files, found {len(names)}")
    for file in mined.files:
        metadata = file_metadata(file)
        expect(file, "fingerprint", mined.metadata["minestream.fingerprint"], metadata["minestream.fingerprint"])
        count, crc = rows_crc(file)
        expect(file, "rows", json.loads(metadata["minestream.counts"])["rows"], count)
        expect(file, "CRC-32 of the rows", metadata["minestream.rows_crc32"], crc)
        if mined.manifest:
            expect(
                file, "fingerprint by the manifest", mined.manifest["fingerprint"], metadata["minestream.fingerprint"]
            )
            expect(file, "rows by the manifest", listed[file.name]["rows"], count)
            expect(file, "CRC-32 of the rows by the manifest", listed[file.name]["crc32"], crc)
        rows += count
    if mined.manifest:
        expect(mined.path, "rows by the manifest", mined.manifest["counts"]["rows"], rows)
    return rows


def expect(place: Path, what: str, expected: Any, found: Any) -> None:
    """Raise VerifyMismatch unless `found` is as `expected`."""
    if expected != found:
        raise VerifyMismatch(
            f"{place}: {what}: expected {expected!r}, found {found!r}", "the file was altered; mine it again"
        )


def rows_crc(path: Path) -> tuple[int, str]:
    """Rows of a file and their CRC-32, from its contents."""
    rows = 0
    try:
        with open_parquet(path) as file:
            crc = RowsCrc(file.schema_arrow)
            for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
                crc.update(pa.Table.from_batches([batch]))
                rows += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise VerifyMismatch(
            f"{path}: a page cannot be read: {error}", "the file was altered; mine it again"
        ) from error
    return rows, crc.value()


class Derivation:
    """The source of a mined output, and what the reference derives from it."""

    def __init__(self, mined: MinedOutput, source: Any) -> None:
        self.mined, self.config = mined, mined.config
        self.names = pq.read_schema(mined.files[0]).names
        self.pairs = self.config["emit"] == "pairs"
        opened = open_recorded(mined, source)
        batches = list(opened.batches())
        same_source(mined, opened)
        self.vectors = np.concatenate([batch.vectors for batch in batches])
        self.labels = self._column([batch.labels for batch in batches])
        self.ids = self._column([batch.ids for batch in batches])
        self.groups = self._column([batch.groups for batch in batches])
        carried = [batch.carry for batch in batches if batch.carry is not None]
        names = opened.columns.carry
        self.carry = {name: self._column([batch.column(name) for batch in carried]) for name in names}
        if self.labels is not None and self.config["unlabeled_value"] is not None:
            self.labels = [without_value(label, self.config["unlabeled_value"]) for label in self.labels]
        self.takes_part = ~np.concatenate([batch.bad for batch in batches])
        if self.ids is not None and self.config["on_duplicate_ids"] != "error":
            self._leave_out_duplicate_ids(self.config["on_duplicate_ids"] == "last")

    @staticmethod
    def _column(arrays: list[Any]) -> list[Any] | None:
        return None if arrays[0] is None else [value for array in arrays for value in array.to_pylist()]

    def _leave_out_duplicate_ids(self, last: bool) -> None:
        rows = np.flatnonzero(self.takes_part).tolist()
        assert self.ids is not None
        kept = {self.ids[row]: row for row in (rows if last else reversed(rows))}
        self.takes_part[:] = False
        self.takes_part[list(kept.values())] = True

    def check(self, sample: int, rng: np.random.Generator) -> dict[str, int]:
        """Derive sampled anchors and compare; returns what was compared."""
        anchors, absent = self.sample(sample, rng)
        places, found = self.rows_of(anchors)
        expected = self.derive(anchors)
        counts = {"anchors": len(anchors), "anchors_absent": absent, "rows_compared": len(places)}
        if not self.pairs:
            self.compare(places, found, expected)
            return counts
        return counts | self.compare_pairs(anchors, places, found, expected, rng)

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Rows, int]:
        """Up to `count` anchors in row order, spread over those in the output and over the other rows."""
        present = np.zeros(len(self.vectors), bool)
        names = [name for name in ("anchor_row", "left_row", "right_row") if name in self.names]
        for file, start, batch in self.mined.batches(names):
            for name in names:
                rows = batch.column(name).to_numpy(zero_copy_only=False)
                outside = np.flatnonzero((rows < 0) | (rows >= len(present)))
                if len(outside):
                    value = rows[outside[0]].item()
                    self.differs(file, start + int(outside[0]), name, f"0..{len(present) - 1}", value)
                present[rows] = True
        inside, others = np.flatnonzero(present), np.flatnonzero(~present & self.takes_part)
        absent = min(len(others), max(count // 4, count - len(inside)))
        chosen = np.concatenate([spread(inside, count - absent, rng), spread(others, absent, rng)])
        return np.sort(chosen), absent

    def rows_of(self, anchors: Rows) -> tuple[list[tuple[Path, int]], list[dict[str, Any]]]:
        """The rows of the output of `anchors` (pairs: that touch them), each with file and row."""
        chosen = np.zeros(len(self.vectors), bool)
        chosen[anchors] = True
        places: list[tuple[Path, int]] = []
        found: list[dict[str, Any]] = []
        for file, start, batch in self.mined.batches():
            if self.pairs:
                mask = chosen[batch.column("left_row").to_numpy()] | chosen[batch.column("right_row").to_numpy()]
            else:
                mask = chosen[batch.column("anchor_row").to_numpy()]
            rows = np.flatnonzero(mask)
            places += [(file, start + row) for row in rows.tolist()]
            found += batch.take(pa.array(rows)).to_pylist()
        return places, found

    def derive(self, anchors: Rows) -> list[dict[str, Any]]:
        """The rows that the reference gives for `anchors`, as the output would store them."""
        rules = {
            name: self.config[name] for name in inspect.signature(reference.mine).parameters if name in self.config
        }
        if rules["anchors"] is not None and not rules["anchors"].endswith("%"):
            rules["anchors"] = int(rules["anchors"])
        if self.pairs:
            rules["short_rows"] = None
        labels = [None] * len(self.vectors) if self.labels is None else self.labels
        columns = reference.mine(
            self.vectors, labels=labels, ids=self.ids, groups=self.groups, takes_part=self.takes_part,
            only_anchors=anchors.tolist(), **rules,
        ).columns  # fmt: skip
        columns |= self.carried(columns)
        kinds = {field.name: field.type for field in pq.read_schema(self.mined.files[0])}
        if sorted(columns) != sorted(kinds):
            raise VerifyMismatch(f"{self.mined.path}: columns: expected {sorted(columns)}, found {sorted(kinds)}")
        # Stored values are compared, so those expected take the way through the stored type.
        stored = {name: pa.array(values, kinds[name]).to_pylist() for name, values in columns.items()}
        return [dict(zip(stored, row, strict=True)) for row in zip(*stored.values(), strict=True)]

    def carried(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The carried columns of every end; of a tuple's negatives, lists of them."""
        found = {}
        for end in ENDS:
            for name, values in self.carry.items():
                assert values is not None
                if f"{end}_row" in columns:
                    found[f"{end}_{name}"] = [values[row] for row in columns[f"{end}_row"]]
                elif f"{end}_rows" in columns:
                    plural = f"{end}_{name}s" if f"{end}_{name}s" in self.names else f"{end}_{name}"
                    found[plural] = [[values[row] for row in rows] for rows in columns[f"{end}_rows"]]
        return found

    def compare(
        self, places: list[tuple[Path, int]], found: list[dict[str, Any]], expected: list[dict[str, Any]]
    ) -> None:
        """Compare rows in order."""
        for place, row, wanted in zip(places, found, expected, strict=False):
            for name in self.names:
                if row[name] != wanted[name]:
                    self.differs(*place, name, wanted[name], row[name])
        if len(found) > len(expected):
            self.differs(*places[len(expected)], "every column", "no such row", found[len(expected)])
        if len(found) < len(expected):
            after = places[-1] if places else (self.mined.files[0], 0)
            self.differs(*after, "every column", f"one more row after it: {expected[len(found)]}", "none")

    def compare_pairs(
        self,
        anchors: Rows,
        places: list[tuple[Path, int]],
        found: list[dict[str, Any]],
        expected: list[dict[str, Any]],
        rng: np.random.Generator,
    ) -> dict[str, int]:
        """Every pair a sampled row picks is there, and every pair it is in was picked by one of its ends."""

        def ends(row: dict[str, Any]) -> tuple[int, int]:
            return row["left_row"], row["right_row"]

        picked = {ends(row) for row in expected}
        mine = [place for place, row in enumerate(found) if ends(row) in picked]
        self.compare([places[place] for place in mine], [found[place] for place in mine], expected)
        rest = [place for place, row in enumerate(found) if ends(row) not in picked]
        sampled = set(anchors.tolist())
        partners = np.unique([end for place in rest for end in ends(found[place]) if end not in sampled])
        partners = spread(partners.astype(np.int64), OTHER_ENDS * len(anchors), rng)
        known = {ends(row): row for row in self.derive(partners)}
        checked = set(partners.tolist())
        unchecked = 0
        for place in rest:
            pair = ends(found[place])
            if pair in known:
                self.compare([places[place]], [found[place]], [known[pair]])
            elif set(pair) <= checked | sampled:
                self.differs(*places[place], "left_row, right_row", "no such pair: neither end picks it", pair)
            else:
                unchecked += 1
        return {"partners": len(partners), "pairs_not_checked": unchecked}

    def differs(self, file: Path, row: int, column: str, expected: Any, found: Any) -> None:
        """Raise VerifyMismatch."""
        raise VerifyMismatch(
            f"{file}: row {row}, column {column}: expected {expected!r}, found {found!r}",
            "the rows are not what the source gives: mine it again",
        )


def spread(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """`count` of `rows` (all when they are fewer), one drawn from each of as many equal stretches."""
    if count >= len(rows):
        return rows
    edges = np.linspace(0, len(rows), count + 1).astype(np.int64)
    return rows[rng.integers(edges[:-1], edges[1:])]


def without_value(label: Any, value: str) -> Any:
    """The label, or None where its text is `value`; element by element in a list."""
    if isinstance(label, list):
        return [without_value(element, value) for element in label]
    text = str(label).lower() if isinstance(label, bool) else str(label)
    return None if text == (value.lower() if isinstance(label, bool) else value) else label


def open_recorded(mined: MinedOutput, source: Any) -> Source:
    """Open the source of a mined output with the options it was mined with.

    Raises
    ------
    InputError
        When it is not found.
    """
    config, columns = mined.config, mined.columns
    names = [entry["name"] for entry in mined.source()]
    paths = find_source(mined, names, source)
    options = {name: config[name] for name in ("metric", "normalize", "on_bad_rows", "carry")}
    options |= {name: columns.get(name) or config[name] for name in ("embedding", "label", "id")}
    options["group_column"] = columns.get("group") or config["group_column"]
    vectors = [path for path in paths if str(path).endswith(".npy")]
    if vectors:
        options |= {"vectors": vectors, "embedding": config["embedding"]}
    return open_source([path for path in paths if path not in vectors], require_label=False, **options)


def find_source(mined: MinedOutput, names: list[str], source: Any) -> list[Any]:
    """The inputs: `source`, or the recorded names in it, beside the output, or in the working directory."""
    given = source if isinstance(source, list | tuple) else [] if source is None else [source]
    one_folder = len(given) == 1 and isinstance(given[0], str | os.PathLike) and Path(given[0]).is_dir()
    folders = [Path(given[0])] if one_folder else [] if given else [mined.path.absolute().parent, Path.cwd()]
    for folder in folders:
        if all((folder / name).exists() for name in names):
            return [str(folder / name) for name in names]
    if given:
        return list(given)
    looked = " and ".join(str(folder) for folder in dict.fromkeys(folders))
    raise InputError(f"the source ({', '.join(names[:3])}) is not in {looked}", "name the mined input with --source")


def same_source(mined: MinedOutput, opened: Source) -> None:
    """Refuse a source whose rows or checksums are not those recorded."""
    recorded, now = mined.source(), opened.identity()
    if len(recorded) != len(now):
        raise InputError(
            f"the source has {len(now)} files, {len(recorded)} were mined", "give the mined input with --source"
        )
    for old, new in zip(recorded, now, strict=True):
        for name in ("rows", "crc32"):
            if old[name] != new[name]:
                raise InputError(
                    f"{new['name']} is not what was mined: {name} {new[name]}, recorded {old[name]}",
                    "give the mined input with --source, or mine again",
                )
