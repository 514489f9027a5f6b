"""`verify`: whether a mined output is complete and holds the rows that its source gives.

Rows are derived again by reference.py. Nothing here imports the fast path.
"""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream import reference
from minestream.config.border import public
from minestream.config.commands import Verifying, check_own, own_options
from minestream.config.effects import idle
from minestream.config.trainer_formats import FORMATS
from minestream.errors import InputError, VerifyMismatchError
from minestream.inputs.given import ROLES
from minestream.insight.verify_tables import read_recorded
from minestream.outputs.buckets import BUCKET
from minestream.outputs.mined import DAMAGED, MinedOutput, file_metadata, mined_output, open_parquet, rows_crc
from minestream.outputs.origin import is_split
from minestream.system.paths import AnyPath, readable
from minestream.system.recall import lower_bound

ANCHOR_ROLES, CANDIDATE_ROLES = ("anchor", "query"), ("positive", "negative", "left", "right")
RESERVE_TIMES, RESERVE_MORE = 4, 32  # with --max-uses a pair chooses from its 4 k + 32 best negatives
OTHER_ENDS = 4  # with --emit pairs: partners that are derived, too, for each sampled anchor
BATCH_ROWS = 65_536
UNLIKE = "this is not what the source gives: mine it again"
UNDERIVED = "checksums alone are compared: a trainer's rows do not say where they come from"
Rows = NDArray[np.int64]


@public()
def verify(
    path: str | os.PathLike[str], *, sample: int = 100, source: Any = None, seed: int = 0, corpus: Any = None,
    qrels: Any = None, exclude: Any = None, exclude_rows: Any = None, candidates: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """Check a mined output against its checksums, then derive sampled anchors again and compare row by row.

    Parameters
    ----------
    path : path
        The output, or its manifest.
    sample : int
        How many anchors are derived again; three of four are in the output, the rest are other rows. With 0 only
        checksums are compared, and the source is not needed.
    source : path, list of paths or Arrow object, optional
        The mined input or its folder. Default: looked for at its recorded path, then by its name in the folder of
        the output and in the working directory.
    seed : int
        Draws the sample.
    corpus, qrels, exclude, exclude_rows, candidates : path or Arrow object, optional
        The other tables that were mined, when they are not found like the input.

    Returns
    -------
    dict
        The files, rows and anchors that were checked.

    Raises
    ------
    VerifyMismatchError
        At the first difference, with its file, row and column, and the expected and the stored value.
    InputError
        When the source is not found, or is not the one that was mined.

    Notes
    -----
    Holds the vectors of the source in memory. Cost: O(sample n d) operations in NumPy loops, and another pass over the
    source for carried columns. With emit pairs up to 4 partners of each anchor are derived, too: either end may pick.
    """
    check_own(Verifying, sample=sample)
    mined = mined_output(path, VerifyMismatchError)
    config, every_anchor = mined.about["config"], False
    tables = {
        "corpus": corpus, "qrels": qrels, "exclude": exclude, "exclude_rows": exclude_rows, "candidates": candidates
    }  # fmt: skip
    trainer = config["emit"] in FORMATS
    if "refilter" in mined.about and sample > 0 and not trainer:
        raise InputError(f"{mined.path} was filtered again by other scores", "--sample 0 checks its checksums")
    found: dict[str, Any] = {"output": str(mined.path), "files": len(mined.files), "rows": check_files(mined)}
    if sample > 0 and not trainer:
        given = {role: tables[name] for name, role in (ROLES | {"candidates": "candidates"}).items()}
        derivation = Derivation(mined, {"": source} | given)
        found |= derivation.check(sample, np.random.default_rng(seed % 2**64))
        every_anchor = sample >= derivation.source.anchors.takes_part.sum()
    asked = {
        "sample": None if sample == own_options(Verifying)["sample"].default else sample,
        "seed": seed or None,
        "source": source,
    }
    notes = idle(
        "verify", asked | tables, sample=sample, every=every_anchor, trainer=trainer, two_tables=config["two_tables"],
        roles={each.get("role") for each in mined.about["source"]},
    )  # fmt: skip
    return {**found, "notes": [*notes, *[UNDERIVED] * (trainer and not notes)], "differences": []}


def expect(place: str, expected: Any, found: Any, hint: str = UNLIKE) -> None:
    """Raise VerifyMismatchError unless the two values are equal."""
    if expected != found:
        raise VerifyMismatchError(f"{place}: expected {expected!r}, found {found!r}", hint)


def check_files(mined: MinedOutput) -> int:
    """Compare every file with its checksum and counts, and with the manifest; returns the number of rows."""
    total, manifest = 0, mined.manifest or {}
    for index, file in enumerate(mined.files):
        if mined.path.is_dir() and not manifest and file.name != (name := f"part-{index:05d}.parquet"):
            raise VerifyMismatchError(f"{mined.path}: {name} is missing", DAMAGED)
        about = file_metadata(file, VerifyMismatchError, DAMAGED)
        rows, crc = rows_crc(file, VerifyMismatchError)
        found = {"rows": rows, "crc32": crc, "bytes": file.stat().st_size, "fingerprint": about["fingerprint"]}
        own = {"rows": about["counts"]["rows"], "crc32": about["rows_crc32"], "fingerprint": mined.about["fingerprint"]}
        by_manifest = {**manifest["files"][index], "fingerprint": manifest["fingerprint"]} if manifest else {}
        for says, facts in (("its metadata", own), ("the manifest", by_manifest)):
            for fact in (fact for fact in found if fact in facts):
                what = "CRC-32 of its rows" if fact == "crc32" else fact
                expect(f"{file}: {what}, by {says}", facts[fact], found[fact], DAMAGED)
        total += rows
    if manifest:
        expect(f"{mined.path}: rows, by the manifest", manifest["counts"]["rows"], total, DAMAGED)
    return total


class Stored(NamedTuple):
    """A row of the output, with its place."""

    file: AnyPath
    row: int
    values: dict[str, Any]

    def at(self, column: str) -> str:
        """The place of one of its values, for messages."""
        return f"{self.file}: row {self.row}, column {column}"


class Derivation:
    """Compares the stored rows of some anchors with those that the reference derives."""

    def __init__(self, mined: MinedOutput, given: Mapping[str, Any]) -> None:
        self.mined, self.config = mined, mined.about["config"]
        schema = pq.read_schema(readable(mined.files[0]))
        at = schema.get_field_index(BUCKET)  # of all rows together: no anchor tells its own
        self.schema = schema if at < 0 else schema.remove(at)
        self.pairs = self.config["emit"] == "pairs"
        anchor = "query_row" if self.config["two_tables"] else "anchor_row"
        self.ends = ["left_row", "right_row"] if self.pairs else [anchor]  # the columns that hold anchors
        self.keys = [*self.ends, "positive_row", "negative_row"]
        self.capped = self.config["max_uses"] is not None
        if self.capped and self.config["emit"] == "tuples":
            raise InputError("tuples with --max-uses cannot be derived again", "--sample 0 checks the checksums")
        self.approximate = self.config.get("approximate") is not None
        if self.approximate and self.config["emit"] != "triplets":
            raise InputError(
                f"{self.config['emit']} of --approximate are not derived again, triplets are",
                "--sample 0 checks the checksums; describe shows the recall that was measured",
            )
        self.source = read_recorded(mined, given, reference.standing)

    def check(self, sample: int, rng: np.random.Generator) -> dict[str, int]:
        """Derive sampled anchors again and compare; returns how many anchors and rows were compared."""
        anchors, absent = self.sample(sample, rng)
        found, expected = list(self.rows_of(anchors)), self.derive(anchors) if anchors.size else []
        counts = {"anchors": len(anchors), "anchors_absent": absent, "rows_compared": len(found)}
        if self.pairs:
            return counts | self.compare_pairs(anchors, found, expected, rng)
        if self.approximate:
            return counts | self.compare_approximate(anchors, found, expected)
        if self.capped:
            self.compare_capped(found, expected)
            return counts | {"uses_of_the_most_used": self.most_uses()}
        self.compare(found, expected)
        return counts

    def batches(self, names: list[str] | None = None) -> Iterator[tuple[AnyPath, int, pa.RecordBatch]]:
        """The output in batches, each with its file and first row; only the columns `names`, if given."""
        for path in self.mined.files:
            start = 0
            with open_parquet(path) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
                    yield path, start, batch
                    start += batch.num_rows

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Rows, int]:
        """Up to `count` anchors in row order, and how many of them are not in the output.

        Of the latter, rows that were mined for are drawn first: an anchor whose rows were lost is one of them.
        """
        present = np.zeros(self.source.anchors.count, bool)
        for file, start, batch in self.batches(self.ends):
            for name in self.ends:
                rows = batch.column(name).to_numpy()
                for place in np.flatnonzero((rows < 0) | (rows >= len(present))).tolist():
                    expect(Stored(file, start + place, {}).at(name), f"0..{len(present) - 1}", rows[place].item())
                present[rows] = True
        mined_for = np.zeros(len(present), bool)
        if self.source.anchors.takes_part.any():
            mined_for[self.derived([]).anchors] = True
        inside, missing = np.flatnonzero(present), np.flatnonzero(~present & mined_for)
        others = np.flatnonzero(~present & ~mined_for & self.source.anchors.takes_part)
        absent = min(len(missing) + len(others), max(count // 4, count - len(inside)))
        chosen = [drawn(inside, count - absent, rng), drawn(missing, absent, rng)]
        chosen.append(drawn(others, absent - len(chosen[1]), rng))
        return np.sort(np.concatenate(chosen)), absent

    def rows_of(self, anchors: Rows) -> Iterator[Stored]:
        """The rows of the output that hold one of `anchors`; of pairs, at either end."""
        chosen = np.zeros(self.source.anchors.count, bool)
        chosen[anchors] = True
        for file, start, batch in self.batches():
            touched = [chosen[batch.column(name).to_numpy()] for name in self.ends]
            rows = np.flatnonzero(np.logical_or.reduce(touched))
            for row, values in zip(rows.tolist(), batch.take(pa.array(rows)).to_pylist(), strict=True):
                yield Stored(file, start + row, values)

    def derived(self, anchors: list[int]) -> reference.Mined:
        """The rows that the reference gives for `anchors`."""
        known, source = inspect.signature(reference.mine).parameters, self.source
        rules = {name: value for name, value in self.config.items() if name in known}
        if rules["anchors"] is not None and not rules["anchors"].endswith("%"):
            rules["anchors"] = int(rules["anchors"])
        if self.pairs:
            rules["short_rows"] = None
        if self.capped:  # who takes a negative depends on all pairs; which ones a pair may take does not
            reserve = RESERVE_TIMES * self.config["negatives"] + RESERVE_MORE
            if self.config.get("within_top") is not None:
                reserve = min(reserve, self.config["within_top"] - self.config["skip"])
            rules |= {"max_uses": None, "negatives": reserve, "short_rows": "keep", "negatives_per_anchor": None}
            rules |= {"emit": "triplets", "scores": None, "order": "anchor"}
        if self.approximate:  # what it takes for want of others lies behind what an exact run takes
            rules["negatives"] = RESERVE_TIMES * self.config["negatives"] + RESERVE_MORE
        rules |= source.arguments()
        return reference.mine(source.anchors.vectors, only_anchors=anchors, **rules)

    def derive(self, anchors: Rows) -> list[dict[str, Any]]:
        """The rows that the reference gives for `anchors`, with the columns and types of the output."""
        columns = self.derived(anchors.tolist()).columns
        if is_split(self.config):  # the reference knows them as queries and corpus
            columns = {name.replace("query_", "anchor_"): values for name, values in columns.items()}
        columns |= self.carried(columns)
        expect(f"{self.mined.path}: columns", sorted(columns), sorted(self.schema.names))
        # Expected values are rounded to the stored type, as the stored ones were.
        stored = [pa.array(columns[field.name], field.type).to_pylist() for field in self.schema]
        return [dict(zip(self.schema.names, row, strict=True)) for row in zip(*stored, strict=True)]

    def carried(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The carried columns of every end of the rows; for the negatives of tuples, lists."""
        found: dict[str, list[Any]] = {}
        for table, roles in ((self.source.anchors, ANCHOR_ROLES), (self.source.candidates, CANDIDATE_ROLES)):
            ends = {role: columns[f"{role}_row"] for role in roles if f"{role}_row" in columns}
            lists = {role: columns[f"{role}_rows"] for role in roles if f"{role}_rows" in columns}
            needed = {row for rows in ends.values() for row in rows}
            needed |= {row for tuples in lists.values() for rows in tuples for row in rows}
            for name, values in table.carried(np.array(sorted(needed), np.int64)).items():
                found |= {f"{end}_{name}": [values[row] for row in rows] for end, rows in ends.items()}
                for end, tuples in lists.items():
                    found[f"{end}_{name}s"] = [[values[row] for row in rows] for rows in tuples]
        return found

    def compare(self, found: list[Stored], expected: list[dict[str, Any]]) -> None:
        """Compare rows one by one."""
        for row, wanted in zip(found, expected, strict=False):
            for name in self.schema.names:
                if row.values[name] != wanted[name]:
                    expect(row.at(name), wanted[name], row.values[name])
        for row in found[len(expected) :]:
            expect(row.at("every column"), "no such row", row.values)
        for wanted in expected[len(found) :]:
            last = found[-1] if found else Stored(self.mined.files[0], 0, {})
            expect(last.at("every column"), f"one more row after it: {wanted}", "none")

    def compare_capped(self, found: list[Stored], expected: list[dict[str, Any]]) -> None:
        """Check, with --max-uses, that every stored row is one that its pair may take."""
        by_key = {tuple(row[name] for name in self.keys): row | {"harder": None} for row in expected}
        for row in found:
            key = tuple(row.values[name] for name in self.keys)
            if key not in by_key:
                expect(row.at(", ".join(self.keys)), "a negative among the pair's best", key)
            self.compare([row], [by_key[key]])

    def compare_approximate(
        self, anchors: Rows, found: list[Stored], expected: list[dict[str, Any]]
    ) -> dict[str, Any]:  # fmt: skip
        """Check rows of --approximate that are among a pair's best, and measure how much of what is best was found.

        Each must equal the derived one, but for `harder`, which counts rows that were looked at.
        """
        by_key: dict[tuple[int, ...], dict[str, Any]] = {}
        place = Counter[tuple[int, int]]()
        best: dict[tuple[int, ...], int] = {}  # of the rows that an exact run takes, the anchor
        for row in expected:
            key = tuple(row[name] for name in self.keys)
            by_key[key] = row
            if place[key[:2]] < self.config["negatives"]:
                best[key] = key[0]
            place[key[:2]] += 1
        stored = {tuple(row.values[name] for name in self.keys): row for row in found}
        for key, own in stored.items():
            if key in by_key:
                same = {"harder": own.values["harder"]} if "harder" in own.values else {}
                self.compare([own], [by_key[key] | same])
        wanted = Counter(best.values())
        hit = Counter(anchor for key, anchor in best.items() if key in stored)
        shares = np.array([hit[anchor] / count for anchor, count in wanted.items()])
        return {
            "rows_not_checked": len(stored.keys() - by_key.keys()),
            "recall": round(float(shares.mean()), 4) if shares.size else 1.0,
            "recall_at_least": round(lower_bound(shares), 4),
        }  # fmt: skip

    def most_uses(self) -> int:
        """How often the most used negative is used; raises VerifyMismatchError when that is more than --max-uses."""
        uses: Counter[int] = Counter()
        for _, _, batch in self.batches(["negative_row"]):
            uses.update(batch.column("negative_row").to_pylist())
        most = max(uses.values(), default=0)
        if most > self.config["max_uses"]:
            expect(f"{self.mined.path}: uses of a negative", f"at most {self.config['max_uses']}", most)
        return most

    def compare_pairs(
        self, anchors: Rows, found: list[Stored], expected: list[dict[str, Any]], rng: np.random.Generator
    ) -> dict[str, int]:
        """Check that the pairs that sampled rows pick are stored, and that their stored pairs are picked by an end."""
        picked = {ends_of(row) for row in expected}
        self.compare([row for row in found if ends_of(row.values) in picked], expected)
        rest = [row for row in found if ends_of(row.values) not in picked]
        sampled = set(anchors.tolist())
        others = {end for row in rest for end in ends_of(row.values)} - sampled
        partners = drawn(np.array(sorted(others), np.int64), OTHER_ENDS * len(anchors), rng)
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
    """The rows at the ends of a pair."""
    return pair["left_row"], pair["right_row"]


def drawn(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """`count` of `rows`, one from each of `count` equal ranges; all when there are fewer."""
    if count >= len(rows):
        return rows
    edges = np.linspace(0, len(rows), count + 1).astype(np.int64)
    return rows[rng.integers(edges[:-1], edges[1:])]
