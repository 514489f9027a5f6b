"""Who gets which bytes of --memory: the one table that reading, searching, writing and finishing ask for their sizes.

What is held all the time comes first: the rows' labels, ids and order; the vectors, where they fit; then what is
carried, and the codes of each screen, where they fit too. What else there is takes turns: batches while rows are read;
the cells of an approximate run before they are searched; blocks, survivors, answers and parts while they are; intervals
of rows while an output is finished.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from minestream.errors import CapacityError

READING, FINDING, SEARCHING, FINISHING = "reading", "finding cells", "searching and writing", "finishing"
ALWAYS = (READING, FINDING, SEARCHING, FINISHING)

# What, in words, and when it is held.
TABLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "rows": ("labels, ids and order of the rows", ALWAYS),
    "vectors": ("vectors of the rows", ALWAYS),
    "window": ("rows of the window of a stream, twice over", ALWAYS),
    "carried": ("carried columns and texts, at most", ALWAYS),
    "codes": ("vectors as the screens multiply them", (SEARCHING, FINISHING)),
    "given": ("vectors before they are normalised", (READING,)),
    "batches": ("rows on their way in, at most", (READING,)),
    "cells": ("a sample of the rows, and the centres of its cells", (FINDING,)),
    "blocks": ("rows that are multiplied at a time", (SEARCHING,)),
    "survivors": ("pairs that the screen lets through, at a time", (SEARCHING,)),
    "answers": ("answers of the anchors mined together, and how far each still looks", (SEARCHING,)),
    "parts": ("answers of the parts that are written at a time, and their rows", (SEARCHING,)),
    "room": ("rows put in order at a time, at most", (FINISHING,)),
    "groups": ("row groups of the output that are encoded at a time, at most", (FINISHING,)),
}

LEAST_BYTES = 16 << 20  # that any run needs
LIBRARY_BYTES = 260_000_000  # Python, its libraries and the kernels: beside --memory, whatever the job
ROW_BYTES = 136  # of every row: label, id, order (74), its place in the search
NEAR_ROW_BYTES = 200  # with --approximate: the cells near it, and its places in them
CARRIED_ROW_BYTES = 8  # and its place among the carried columns
TERMS_BYTES = 44  # of every row and screen, beside its code
ANCHOR_BYTES, PAIR_BYTES, ANSWER_BYTES = 128, 220, 20  # gates, edges, places and answers
FOUND_BYTES = 40  # of every negative of a part: taken from its list, put together, and while it is written; its loss
PAIR_ROW_BYTES = 36  # and where pairs are emitted, which are put in order
PART_ROW_BYTES = 120  # of a row as it is stored, beside ids and what is carried; while it is made, three times that
ORDERED_TIMES, ORDERED_ROW_BYTES = 4, 16  # a row put in order: gathered, sorted, merged, and the last; its place
GROUP_BYTES = 3 * (16 << 20)  # of a row group of the output: as it is read, joined, encoded
MADE_BYTES = 14 << 20  # for more rows of a part at a time: many are made in two thirds of the time that few take
MOST_WRITERS = 8  # a quarter of what they do holds the interpreter's lock: more would wait for it
MOST_SURVIVOR_BYTES, LEAST_SURVIVOR_BYTES = 16 << 20, 1 << 18  # of each thread
SWEPT_ROWS = (256, 2_048)  # at least, and where a quarter of what is left is enough for it
MOST_SWEPT_ROWS, MOST_SWEPT_THREADS = 16_384, 8  # at most; and so many times as many as threads are of so many
WORKING_SHARES = {"blocks": 8, "survivors": 16, "answers": 8}  # 1/16 of what the rows leave, ...: what a search needs
PAGE_BYTES = 8 << 20  # pages of the file, of each thread that reads
LEAST_BATCH_ROWS, MOST_BATCH_ROWS = 64, 8_192
LEAST_AHEAD, MOST_AHEAD = 2, 16  # batches that one of several threads reads before its rows are wanted
AHEAD_SHARE = 8  # an eighth of what is left, for more than the least


@dataclass(frozen=True, kw_only=True)
class Job:
    """What sizes depend on.

    Attributes
    ----------
    rows : int or None
        None: not known yet.
    vector_bytes, given_bytes : int
        Of a row, and its guide's, as they are held; and as they were given, where they are normalised.
    threads : int
    code_bytes : tuple of int
        Of a row, by screen.
    carried : int
        Tables that carry columns.
    in_memory : bool or None
        Where the vectors are; None: not known yet.
    id_bytes : int
        What ids take beyond eight bytes a row.
    approximate : bool
        Whether only rows near each other meet.
    cells_bytes : int
        What finding the cells takes, by which that is decided; 0 until the rows are read.
    read_bytes : int
        Of a row in its file, as far as the file says so.
    answer_bytes, part_bytes : int
        Of the part that takes most: its anchors and pairs while they are mined; what its answers and rows take then.
    """

    rows: int | None
    vector_bytes: int
    threads: int
    given_bytes: int = 0
    code_bytes: tuple[int, ...] = ()
    carried: int = 0
    in_memory: bool | None = None
    id_bytes: int = 0
    approximate: bool = False
    cells_bytes: int = 0
    read_bytes: int = 0
    answer_bytes: int = 0
    part_bytes: int = 0

    @property
    def row_bytes(self) -> int:
        """Of a row, beside its vector and its codes."""
        carried = CARRIED_ROW_BYTES if self.carried else 0
        carried += NEAR_ROW_BYTES if self.approximate else 0
        return ROW_BYTES + carried + TERMS_BYTES * len(self.code_bytes)

    def block_row_bytes(self, vectors: bool, codes: bool) -> int:
        """Of a row of a block, and one of the rows that meet it, by whether vectors, and codes, are in memory."""
        code = max(self.code_bytes, default=0)
        packed, read = 2 * code, 0 if codes else 2 * code
        return packed + read + (0 if vectors else 2 * self.vector_bytes) + 176


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """The bytes of each row of TABLE, and sizes that follow.

    Attributes
    ----------
    memory : int
        --memory.
    job : Job
    vector_rows : int
        Rows whose vectors may be in memory: more go to scratch, all of them.
    carried_bytes : int
        Of the carried columns of one table.
    batch_rows, block_rows : int
        How many rows are read, and swept, at a time, at most.
    readers, ahead : int
        How many threads read, and how many batches each of them before its rows are wanted.
    code_bytes : tuple of int
        What the codes of each screen may take in memory: more go to scratch.
    writers, encoders : int
        How many parts are written, and then row groups of the output encoded, at a time.
    made_bytes : int
        For the rows of a part that are made at a time, beyond what part_bytes has for them.
    """

    memory: int
    job: Job
    bytes: dict[str, int]
    vector_rows: int
    carried_bytes: int
    batch_rows: int
    readers: int
    ahead: int
    block_rows: int
    code_bytes: tuple[int, ...]
    writers: int
    encoders: int
    made_bytes: int

    def held(self, phase: str) -> int:
        """The bytes of one phase together."""
        return sum(size for name, size in self.bytes.items() if phase in TABLE[name][1])

    def most(self) -> int:
        """The bytes of the phase that takes most."""
        return max(map(self.held, ALWAYS))

    def enough(self) -> int:
        """A --memory whose plan fits, in whole MiB: what a plan takes grows a little with what it is given."""
        plan = self
        while plan.most() > plan.memory:
            plan = memory_plan(-(-plan.most() // 2**20) * 2**20, plan.job)
        return plan.memory

    def least(self) -> int:
        """A --memory that is enough, where vectors and codes may go to scratch."""
        return memory_plan(LEAST_BYTES, replace(self.job, in_memory=None)).enough()

    def facts(self) -> list[dict[str, Any]]:
        """The table: what takes how many bytes, when."""
        return [
            {"what": what, "bytes": self.bytes[name], "when": "always" if when == ALWAYS else ", ".join(when)}
            for name, (what, when) in TABLE.items()
            if self.bytes[name]
        ]

    def check(self, relief: str = "") -> None:
        """Raise CapacityError where a phase takes more than there is; `relief`: what else helps than more memory."""
        most = self.most()
        if most > self.memory:
            phase = max(ALWAYS, key=self.held)
            told = ", ".join(f"{TABLE[n][0]} {s:,}" for n, s in self.bytes.items() if s and phase in TABLE[n][1])
            raise CapacityError(
                f"--memory of {self.memory:,} bytes is too small: {phase} takes {most:,} bytes ({told})",
                f"raise --memory to {self.enough() // 2**20}MiB or more{relief}",
            )


def most_swept(threads: int) -> int:
    """The most rows that are multiplied at a time by so many threads: the more, the less often they wait."""
    return MOST_SWEPT_ROWS * max(1, threads // MOST_SWEPT_THREADS)


def encoders(room: int, threads: int) -> int:
    """How many row groups may be encoded at a time where half of so many bytes are for them: one or more."""
    return max(1, min(threads, room // 2 // GROUP_BYTES - 1))


def batches_held(readers: int, ahead: int) -> int:
    """How many batches are held while rows are read, at most.

    One thread: a batch as it is decoded, checked, and the next. Several: what each has read of its part of the input,
    and the next two of the first part; what is checked, and what is copied; the one in use.
    """
    return 3 if readers == 1 else readers * ahead + 2 + 2 * readers + 1


def reading_bytes(readers: int, ahead: int, batch_bytes: int) -> int:
    """What reading takes."""
    return readers * PAGE_BYTES + batches_held(readers, ahead) * batch_bytes


def _readers(room: int, threads: int, batch_bytes: int) -> tuple[int, int, int]:
    """How many threads read, and how many batches ahead, in so many bytes; and what that takes."""
    fitting = (each for each in range(2, threads + 1) if reading_bytes(each, LEAST_AHEAD, batch_bytes) <= room)
    readers = max(fitting, default=1)
    if readers == 1:
        return 1, 1, min(room, reading_bytes(1, 1, batch_bytes))
    spare = room // AHEAD_SHARE - reading_bytes(readers, 0, batch_bytes)
    ahead = max(LEAST_AHEAD, min(MOST_AHEAD, spare // (readers * batch_bytes)))
    return readers, ahead, reading_bytes(readers, ahead, batch_bytes)


def _codes_in_memory(job: Job, rows: int, spare: int, seldom: bool) -> list[int]:
    """The bytes of the codes of each screen that are in memory; not of later ones where those are used but seldom."""
    codes: list[int] = []
    for code in job.code_bytes:
        codes.append(rows * code if rows * code <= spare - sum(codes) and not (codes and seldom) else 0)
    return codes


def memory_plan(memory: int, job: Job) -> MemoryPlan:
    """Deal out the bytes of --memory."""
    rows = job.rows or 0
    state = rows * job.row_bytes + job.id_bytes
    left = max(0, memory - state)
    working = max(0, left - job.part_bytes - job.answer_bytes)
    survivors = max(LEAST_SURVIVOR_BYTES * job.threads, working // WORKING_SHARES["survivors"])
    swept_rows = (*SWEPT_ROWS, most_swept(job.threads))
    least, usual, most = (each * job.block_row_bytes(False, False) for each in swept_rows)
    blocks = max(least, min(usual, working // 4), working // WORKING_SHARES["blocks"])
    sizes = {
        "blocks": min(most, blocks),
        "survivors": min(MOST_SURVIVOR_BYTES * job.threads, survivors),
        "answers": job.answer_bytes + working // WORKING_SHARES["answers"],
        "parts": job.part_bytes,
    }
    spare = left - sum(sizes.values())
    # Of rows that are not counted yet their state comes beside their vectors.
    held, unknown = max(1, job.vector_bytes), 0 if job.rows is not None else job.row_bytes
    most_vectors = max(0, min(left // 2, spare))
    vector_rows = min(most_vectors // (held + unknown), left * 3 // 4 // (held + job.given_bytes + unknown))
    in_memory = job.in_memory if job.in_memory is not None else rows <= vector_rows
    sizes["vectors"] = rows * job.vector_bytes if in_memory else 0
    given = rows * job.given_bytes if in_memory else 0
    spare = max(0, spare - (sizes["vectors"] if job.rows is not None else most_vectors))
    read_row = job.vector_bytes + 64
    smallest = reading_bytes(1, 1, LEAST_BATCH_ROWS * read_row)
    reading = left - sizes["vectors"] - given - smallest  # what the smallest batches leave while rows are read
    sizes["carried"] = max(0, min(spare // 2, reading)) if job.carried else 0
    spare -= sizes["carried"]
    codes = _codes_in_memory(job, rows, spare, seldom=job.approximate and not in_memory)
    spare -= sum(codes)
    # More than one of what is left over.
    writers = max(1, min(job.threads, MOST_WRITERS, 1 + spare // 2 // max(1, job.part_bytes)))
    made = min(MADE_BYTES, max(0, spare - (writers - 1) * job.part_bytes) // 4 // writers)
    sizes["parts"] = writers * (job.part_bytes + made)
    spare -= sizes["parts"] - job.part_bytes
    # Anchors that are not mined together meet all rows again, which is dearer where these are read again.
    sizes["answers"] += min(spare, max(0, memory // (4 if in_memory else 2) - sizes["answers"]))
    free = max(0, left - sizes["vectors"] - sizes["carried"])
    most = MOST_BATCH_ROWS * max(read_row, job.read_bytes)
    readers, ahead, batches = _readers(max(free - given, smallest), job.threads, most)
    room = max(0, free - sum(codes))
    groups = min(room // 2, (job.threads + 1) * GROUP_BYTES)  # one is read
    swept = job.block_row_bytes(in_memory, all(codes))
    return MemoryPlan(
        memory=memory, job=job,
        bytes=dict.fromkeys(TABLE, 0) | sizes
        | {"rows": state, "given": given, "codes": sum(codes), "batches": batches, "cells": job.cells_bytes}
        | {"room": room - groups, "groups": groups},
        vector_rows=vector_rows,
        carried_bytes=sizes["carried"] // max(1, job.carried),
        batch_rows=min(MOST_BATCH_ROWS, (batches - PAGE_BYTES) // (batches_held(1, 1) * read_row)),
        readers=readers, ahead=ahead,
        block_rows=min(most_swept(job.threads), max(SWEPT_ROWS[0], sizes["blocks"] // swept)),
        code_bytes=tuple(codes),
        writers=writers,
        encoders=encoders(room, job.threads),
        made_bytes=made,
    )  # fmt: skip
