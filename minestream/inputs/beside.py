"""Other embeddings of the rows, beside the first: the guide, and those of other teachers.

They are columns of the tables themselves, which are then read twice, or lie in tables of their own, joined by id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minestream.config.mine_config import MineConfig
from minestream.config.resources import Tables
from minestream.errors import InputError, UsageError
from minestream.inputs.columns import Candidates, holds_vectors, plain
from minestream.inputs.files import open_inputs
from minestream.inputs.given import GUIDE, OF_CORPUS, TEACHER
from minestream.inputs.source import Source, open_source


@dataclass(frozen=True)
class Beside:
    """Another embedding of the rows.

    Attributes
    ----------
    role : str
        "guide", or "embedding NAME": in the source identity and in messages.
    sources : tuple of Source
        The vectors of the rows of each table, by row, or by id.
    by_id : bool
    """

    role: str
    sources: tuple[Source, ...]
    by_id: bool = False

    @property
    def name(self) -> str:
        """What output columns call it."""
        return self.role.removeprefix(TEACHER)

    def by_role(self) -> Iterator[tuple[str, Source]]:
        """Each source with its role in the source identity."""
        return ((self.role + OF_CORPUS * (self.by_id and side), each) for side, each in enumerate(self.sources))

    def identity(self) -> Iterator[dict[str, Any]]:
        """Its entries in the source identity."""
        return (entry | {"role": role} for role, source in self.by_role() for entry in source.identity())


def open_beside(
    inputs: Any, config: MineConfig, tables: Tables, anchors: Source, corpus: Source | None
) -> tuple[Beside, ...]:
    """Open what --guide, --embedding and --embedding-table name, for the rows of each table that meet its condition."""
    given = [inputs] if corpus is None or tables.corpus is None else [inputs, tables.corpus]
    sources = [source for source in (anchors, corpus) if source is not None]
    first, found = anchors.columns.embedding, []
    if first in config.other_embeddings:
        raise UsageError(f"--embedding {first} is the first embedding and another one", "name each embedding once")
    for role in [*(TEACHER + name for name in config.other_embeddings), *([GUIDE] if config.guided else [])]:
        theirs = (tables.embedding_table or {}).get(role.removeprefix(TEACHER)) if role != GUIDE else None
        if theirs is not None:
            _refuse_count(role.removeprefix(TEACHER), theirs, sources)
        elif not all(source.repeatable for source in sources):
            twice = "--guide" if role == GUIDE else "a second --embedding"
            raise UsageError(f"{twice} reads its input twice, which a stream cannot be", "pass a file or a table")
        each = zip(theirs or given, sources, strict=False)
        opened = (open_again(config, role, table, source) for table, source in each)
        found.append(Beside(role, tuple(opened), by_id=theirs is not None))
    return tuple(found)


def open_again(config: MineConfig, role: str, table: Any, source: Source) -> Source:
    """The source of another embedding, in a table of its own or in that of a source."""
    name = role.removeprefix(TEACHER)
    if role == GUIDE:
        return _of_same_rows(table, config.guide or "", "guide", source)
    if name in config.tabled:
        return _of_own_table(name, table, source)
    return _of_same_rows(table, name, "embedding", source)


def _of_same_rows(given: Any, column: str, kind: str, source: Source) -> Source:
    """Another column of vectors of the rows of a table."""
    first = open_inputs(given)[0]
    asked, more = source.options, dict[str, Any]()
    if kind == "embedding":
        names = first.schema.names
        natural = column in names and holds_vectors(plain(first.schema.field(names.index(column)).type))
        more = {"dims": asked.dims, "vector_type": None if natural else asked.vector_type}
    Candidates(first.name, first.schema, declared=more.get("vector_type"), as_text=first.as_text).checked(kind, column)
    return open_source(given, asked.beside(column, source.columns.id, **more))


def _refuse_count(name: str, tables: Sequence[Any], sources: Sequence[Source]) -> None:
    """UsageError unless an embedding has one table of its own for each table."""
    if len(tables) != len(sources):
        wanted = "twice, first for INPUT, then for the corpus" if len(sources) > 1 else "once: there is no --corpus"
        raise UsageError(f"--embedding-table {name}=... is given {len(tables)} times", f"give it {wanted}")


def _of_own_table(name: str, table: Any, source: Source) -> Source:
    first, id = open_inputs(table)[0], source.columns.id
    if id is None:
        raise UsageError(
            f"--embedding-table {name}=...: {first.name} is joined by id, and {source.name} has no ids",
            "name its column with --id",
        )
    there = first.schema.names
    asked = source.options
    found = open_source(table, asked.beside(
        name if name in there else None, id if id in there else None, dims=asked.dims,
        vector_type=asked.vector_type, where=None,
    ))  # fmt: skip
    if found.columns.id is None:
        raise InputError(f"{first.name}: no ids to join it by; there are {', '.join(there)}", f"call them {id}")
    return found
