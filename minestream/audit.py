"""Whether a mined output is whole, and what its source gives.

Nothing here imports the fast path: rows are derived again by the reference, which shares no code with it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream import reference
from minestream.contents import MinedOutput, file_metadata, mined_output, open_parquet, reading
from minestream.errors import InputError, VerifyMismatch
from minestream.source import Source, open_source
from minestream.writer import RowsCrc

OTHER_ENDS = 4  # pairs: for each sampled anchor, so many partners at most are derived too
BATCH_ROWS = 65_536

Rows = NDArray[np.int64]


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
    Holds the source's vectors in memory; O(sample n d) flops in NumPy loops. Carried columns are compared too,
    by another pass over the source. For pairs up to 4 partners a sampled anchor are derived as well, to see
    that every pair is picked by one of its ends.
    """
    mined = mined_output(path)
    found: dict[str, Any] = {"output": str(mined.path), "files": len(mined.files), "rows": check_files(mined)}
    if sample > 0:
        found |= Derivation(mined, source).check(sample, np.random.default_rng(seed))
    return {**found, "differences": []}


def expect(place: str, expected: Any, found: Any) -> None:
    """Raise VerifyMismatch unless what is found is as expected."""
    if expected != found:
        raise VerifyMismatch(
            f"{place}: expected {expected!r}, found {found!r}", "this is not what the source gives: mine it again"
        )


# ---------------------------------------------------------------- the files


def check_files(mined: MinedOutput) -> int:
    """Compare every file with its checksum and counts, and all with the manifest; returns the rows."""
    found: list[dict[str, Any]] = []
    for index, file in enumerate(mined.files):
        if mined.path.is_dir():
            expect(f"{mined.path}: a part is missing", f"part-{index:05d}.parquet", file.name)
        about, (rows, crc) = file_metadata(file), rows_crc(file)
        expect(f"{file}: rows and their CRC-32", (about["counts"]["rows"], about["rows_crc32"]), (rows, crc))
        expect(f"{file}: fingerprint", mined.about["fingerprint"], about["fingerprint"])
        found.append({"name": file.name, "rows": rows, "bytes": file.stat().st_size, "crc32": crc})
    total: int = sum(entry["rows"] for entry in found)
    if mined.manifest:
        for listed, entry in zip_longest(mined.manifest["files"], found):
            expect(f"{mined.path}: file by the manifest", listed, entry)
        by_manifest = mined.manifest["fingerprint"], mined.manifest["counts"]["rows"]
        expect(f"{mined.path}: fingerprint and rows by the manifest", by_manifest, (mined.about["fingerprint"], total))
    return total


def rows_crc(path: Path) -> tuple[int, str]:
    """Rows of a file and their CRC-32, from its contents."""
    rows = 0
    with reading(path, VerifyMismatch), open_parquet(path) as file:
        crc = RowsCrc(file.schema_arrow)
        for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
            crc.update(pa.Table.from_batches([batch]))
            rows += batch.num_rows
    return rows, crc.value()


# ---------------------------------------------------------------- the source


def open_recorded(mined: MinedOutput, source: Any) -> Source:
    """Open the source of a mined output with the options it was mined with; InputError when it is not found."""
    config, columns = mined.about["config"], mined.about["columns"]
    paths = find_source(mined, source)
    options = {name: config[name] for name in ("metric", "normalize", "on_bad_rows", "carry")}
    options |= {name: columns.get(name) or config[name] for name in ("embedding", "label", "id")}
    options["group_column"] = columns.get("group") or config["group_column"]
    vectors = [path for path in paths if str(path).endswith(".npy")]
    if vectors:
        options |= {"vectors": vectors, "embedding": config["embedding"]}
    return open_source([path for path in paths if path not in vectors], require_label=False, **options)


def find_source(mined: MinedOutput, source: Any) -> list[Any]:
    """The inputs: `source`, or the recorded names in it, beside the output, or in the working directory."""
    names = [entry["name"] for entry in mined.about["source"]]
    given = list(source) if isinstance(source, list | tuple) else [] if source is None else [source]
    one_folder = len(given) == 1 and isinstance(given[0], str | os.PathLike) and Path(given[0]).is_dir()
    folders = [Path(given[0])] if one_folder else [] if given else [mined.path.absolute().parent, Path.cwd()]
    for folder in folders:
        if all((folder / name).exists() for name in names):
            return [str(folder / name) for name in names]
    if given:
        return given
    looked = " and ".join(str(folder) for folder in dict.fromkeys(folders))
    raise InputError(f"the source ({', '.join(names[:3])}) is not in {looked}", "name the mined input with --source")


def same(what: str, recorded: Any, found: Any) -> None:
    """Raise InputError unless a fact about the source is as recorded."""
    if recorded != found:
        raise InputError(
            f"the source is not what was mined: {what}: {found}, recorded {recorded}",
            "give the mined input with --source, or mine again",
        )


class SourceRows:
    """All rows of the source of a mined output, as the reference takes them; refuses another source."""

    def __init__(self, mined: MinedOutput, source: Any) -> None:
        config, recorded = mined.about["config"], mined.about["source"]
        self._source = open_recorded(mined, source)
        self._carry = config["carry"]
        self.count = sum(entry["rows"] for entry in recorded if "vectors" in entry["crc32"])
        same("rows", self.count, self._source.rows or self.count)
        self.vectors = np.empty((self.count, self._source.dimension), self._source.dtype)
        self.takes_part = np.zeros(self.count, bool)
        columns: dict[str, list[Any]] = {"labels": [], "ids": [], "groups": []}
        for batch in self._source.batches():
            start, end = batch.start_row, batch.start_row + len(batch.vectors)
            same("rows", self.count, max(self.count, end))
            self.vectors[start:end], self.takes_part[start:end] = batch.vectors, ~batch.bad
            for name, values in columns.items():
                array = getattr(batch, name)
                values.extend([] if array is None else array.to_pylist())
        identity = self._source.identity()
        same("files", len(recorded), len(identity))
        for old, new in zip(recorded, identity, strict=True):
            for fact in ("rows", "crc32"):
                same(f"{fact} of {new['name']}", old[fact], new[fact])
        if config["unlabeled_value"] is not None:
            columns["labels"] = [without(config["unlabeled_value"], label) for label in columns["labels"]]
        self.labels = columns["labels"] or [None] * self.count
        self.ids, self.groups = columns["ids"] or None, columns["groups"] or None
        if self.ids is not None and config["on_duplicate_ids"] != "error":
            rows = np.flatnonzero(self.takes_part)[:: 1 if config["on_duplicate_ids"] == "last" else -1]
            kept = {self.ids[row]: row for row in rows.tolist()}
            self.takes_part[:] = False
            self.takes_part[list(kept.values())] = True

    def carried(self, rows: Rows) -> dict[str, dict[int, Any]]:
        """The carried values of the sorted `rows`, by column and row, from another pass over the source."""
        found: dict[str, dict[int, Any]] = {name: {} for name in self._carry}
        for batch in self._source.batches() if found else ():
            assert batch.carry is not None
            low, high = np.searchsorted(rows, [batch.start_row, batch.start_row + len(batch.vectors)])
            taken = batch.carry.take(pa.array(rows[low:high] - batch.start_row))
            for name, values in found.items():
                values |= zip(rows[low:high].tolist(), taken.column(name).to_pylist(), strict=True)
        return found


def without(value: str, label: Any) -> Any:
    """The label, or None where its text is `value`; element by element in a list."""
    if isinstance(label, list):
        return [without(value, element) for element in label]
    if isinstance(label, bool):
        return None if str(label).lower() == value.lower() else label
    return None if str(label) == value else label


# ---------------------------------------------------------------- rows again


class Stored(NamedTuple):
    """A row of the output, and where it stands."""

    file: Path
    row: int
    values: dict[str, Any]

    def at(self, column: str) -> str:
        """The place of a value, in words."""
        return f"{self.file}: row {self.row}, column {column}"


class Derivation:
    """The rows of some anchors, as stored and as the reference derives them."""

    def __init__(self, mined: MinedOutput, source: Any) -> None:
        self.mined, self.config = mined, mined.about["config"]
        self.schema = pq.read_schema(mined.files[0])
        self.pairs = self.config["emit"] == "pairs"
        self.ends = ["left_row", "right_row"] if self.pairs else ["anchor_row"]  # the columns that hold anchors
        self.source = SourceRows(mined, source)

    def check(self, sample: int, rng: np.random.Generator) -> dict[str, int]:
        """Derive sampled anchors and compare; returns what was compared."""
        anchors, absent = self.sample(sample, rng)
        found, expected = list(self.rows_of(anchors)), self.derive(anchors)
        counts = {"anchors": len(anchors), "anchors_absent": absent, "rows_compared": len(found)}
        if self.pairs:
            return counts | self.compare_pairs(anchors, found, expected, rng)
        self.compare(found, expected)
        return counts

    def batches(self, names: list[str] | None = None) -> Iterator[tuple[Path, int, pa.RecordBatch]]:
        """All rows of the output (of its columns `names`), with file and first row of each batch."""
        for path in self.mined.files:
            start = 0
            with open_parquet(path) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
                    yield path, start, batch
                    start += batch.num_rows

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Rows, int]:
        """Up to `count` anchors in row order, spread over those in the output and over the other rows."""
        present = np.zeros(self.source.count, bool)
        for file, start, batch in self.batches(self.ends):
            for name in self.ends:
                rows = batch.column(name).to_numpy()
                for place in np.flatnonzero((rows < 0) | (rows >= len(present))).tolist():
                    expect(Stored(file, start + place, {}).at(name), f"0..{len(present) - 1}", rows[place].item())
                present[rows] = True
        inside, others = np.flatnonzero(present), np.flatnonzero(~present & self.source.takes_part)
        absent = min(len(others), max(count // 4, count - len(inside)))
        chosen = np.concatenate([spread(inside, count - absent, rng), spread(others, absent, rng)])
        return np.sort(chosen), absent

    def rows_of(self, anchors: Rows) -> Iterator[Stored]:
        """The rows of the output of `anchors`; of pairs, those that touch them."""
        chosen = np.zeros(self.source.count, bool)
        chosen[anchors] = True
        for file, start, batch in self.batches():
            touched = [chosen[batch.column(name).to_numpy()] for name in self.ends]
            rows = np.flatnonzero(np.logical_or.reduce(touched))
            for row, values in zip(rows.tolist(), batch.take(pa.array(rows)).to_pylist(), strict=True):
                yield Stored(file, start + row, values)

    def derive(self, anchors: Rows) -> list[dict[str, Any]]:
        """The rows that the reference gives for `anchors`, as the output would store them."""
        known, source = inspect.signature(reference.mine).parameters, self.source
        rules = {name: value for name, value in self.config.items() if name in known}
        if rules["anchors"] is not None and not rules["anchors"].endswith("%"):
            rules["anchors"] = int(rules["anchors"])
        if self.pairs:
            rules["short_rows"] = None
        columns = reference.mine(
            source.vectors, labels=source.labels, ids=source.ids, groups=source.groups,
            takes_part=source.takes_part, only_anchors=anchors.tolist(), **rules,
        ).columns  # fmt: skip
        columns |= self.carried(columns)
        expect(f"{self.mined.path}: columns", sorted(columns), sorted(self.schema.names))
        # Stored values are compared, so those expected take the way through the stored type.
        stored = [pa.array(columns[field.name], field.type).to_pylist() for field in self.schema]
        return [dict(zip(self.schema.names, row, strict=True)) for row in zip(*stored, strict=True)]

    def carried(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The carried columns of every end; of a tuple's negatives, lists of them."""
        ends = {name.removesuffix("_row"): rows for name, rows in columns.items() if name.endswith("_row")}
        lists = {name.removesuffix("_rows"): rows for name, rows in columns.items() if name.endswith("_rows")}
        needed = {row for rows in ends.values() for row in rows}
        needed |= {row for tuples in lists.values() for rows in tuples for row in rows}
        found: dict[str, list[Any]] = {}
        for name, values in self.source.carried(np.array(sorted(needed), np.int64)).items():
            found |= {f"{end}_{name}": [values[row] for row in rows] for end, rows in ends.items()}
            for end, tuples in lists.items():
                found[f"{end}_{name}s"] = [[values[row] for row in rows] for rows in tuples]
        return found

    def compare(self, found: list[Stored], expected: list[dict[str, Any]]) -> None:
        """Compare rows in order."""
        for row, wanted in zip(found, expected, strict=False):
            for name in self.schema.names:
                if row.values[name] != wanted[name]:
                    expect(row.at(name), wanted[name], row.values[name])
        for row in found[len(expected) :]:
            expect(row.at("every column"), "no such row", row.values)
        for wanted in expected[len(found) :]:
            last = found[-1] if found else Stored(self.mined.files[0], 0, {})
            expect(last.at("every column"), f"one more row after it: {wanted}", "none")

    def compare_pairs(
        self, anchors: Rows, found: list[Stored], expected: list[dict[str, Any]], rng: np.random.Generator
    ) -> dict[str, int]:
        """Every pair a sampled row picks is there, and every pair it is in was picked by one of its ends."""
        picked = {ends_of(row) for row in expected}
        self.compare([row for row in found if ends_of(row.values) in picked], expected)
        rest = [row for row in found if ends_of(row.values) not in picked]
        sampled = set(anchors.tolist())
        others = {end for row in rest for end in ends_of(row.values)} - sampled
        partners = spread(np.array(sorted(others), np.int64), OTHER_ENDS * len(anchors), rng)
        derived = {ends_of(row): row for row in self.derive(partners)}
        checked, unchecked = sampled | set(partners.tolist()), 0
        for row in rest:
            ends = ends_of(row.values)
            if ends in derived:
                self.compare([row], [derived[ends]])
            elif checked.issuperset(ends):
                expect(row.at("left_row, right_row"), "no such pair: neither end picks it", ends)
            else:
                unchecked += 1
        return {"partners": len(partners), "pairs_not_checked": unchecked}


def ends_of(pair: dict[str, Any]) -> tuple[int, int]:
    """The rows of a pair."""
    return pair["left_row"], pair["right_row"]


def spread(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """`count` of `rows` (all when they are fewer), one drawn from each of as many equal stretches."""
    if count >= len(rows):
        return rows
    edges = np.linspace(0, len(rows), count + 1).astype(np.int64)
    return rows[rng.integers(edges[:-1], edges[1:])]
