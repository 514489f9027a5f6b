"""How a source is read, and which columns are found for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from minestream.config.option import check_value
from minestream.config.resolve import OPTION_FIELDS
from minestream.errors import UsageError
from minestream.inputs.columns import Candidates, Columns
from minestream.inputs.where import Where

Needed = bool | Literal["only"] | None  # whether labels are: see require_label


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How a source is read.

    Attributes
    ----------
    embedding, label, id, group_column, version_column : str, optional
        Names of columns; found automatically if not given, except a group and a version.
    carry : sequence of str
        Columns to copy to the output.
    vectors : path, glob pattern, or list, optional
        ``.npy`` files that hold the vectors, aligned by row with the inputs.
    vector_type : str, optional
        What the numbers of the vectors are, where their column does not say.
    dims : int, optional
        How many of the first values of every vector count. Default: all.
    metric, normalize
        Zero vectors are bad with cosine or when normalising.
    on_bad_rows : {"error", "drop"}
        Whether bad rows raise an error, or are marked and counted.
    batch_rows : int
        Most rows of a batch.
    require_label : bool, "only" or None
        Whether a label must be found, "only" where positives cannot be listed instead; False: only by a known name;
        None: only if `label` is given.
    where : Where, optional
        Only rows that meet it are decoded, checked and returned.
    may_be_empty : bool
        Whether a source without rows is accepted.
    window : int, optional
        That of a stream, in which no positives can be listed.
    every_id : bool
        Whether the ids of rows that do not meet `where` are needed too; then whole files are read.
    negatives_at : str, optional
        The coarser level of labels that negatives share.
    bare : bool
        Whether the vectors are left unread: batches have none, and no row is bad.
    """

    embedding: str | None = None
    label: str | None = None
    id: str | None = None
    group_column: str | None = None
    version_column: str | None = None
    carry: Sequence[str] = ()
    vectors: Any = None
    vector_type: str | None = None
    dims: int | None = None
    metric: str = "cosine"
    normalize: bool = False
    on_bad_rows: str = "error"
    batch_rows: int = 8192
    require_label: Needed = True
    where: Where | None = None
    may_be_empty: bool = False
    window: int | None = None
    every_id: bool = False
    negatives_at: str | None = None
    bare: bool = False

    def __post_init__(self) -> None:
        for name in ("on_bad_rows", "batch_rows"):
            check_value(OPTION_FIELDS[name], getattr(self, name))

    @classmethod
    def of(cls, config: Mapping[str, Any], **other: Any) -> ReadOptions:
        """The options that a configuration sets; `other` options win."""
        same = {spec.name for spec in fields(cls)} & config.keys() - {"where"}
        named = {name: config[name] for name in same}
        if isinstance(named.get("embedding"), list | tuple):  # the others are read beside it
            named["embedding"] = named["embedding"][0]
        return cls(**named | other)

    def beside(self, column: str | None, id: str | None, **other: Any) -> ReadOptions:
        """The options to read other vectors of the same rows, and their ids; `other` options win."""
        same: dict[str, Any] = {
            "metric": self.metric, "normalize": self.normalize, "on_bad_rows": self.on_bad_rows,
            "batch_rows": self.batch_rows, "where": self.where,
        }  # fmt: skip
        return ReadOptions(embedding=column, id=id, require_label=None, **same | other)


def find_columns(seen: Candidates, asked: ReadOptions, vectors: str | None = None) -> tuple[Columns, list[str]]:
    """Find the columns, given by name or automatically; notes say which known names are not used.

    A label that is no column's name may be several, joined by commas: the levels of its hierarchy, coarse to fine.

    vectors : the name for vectors that come from .npy files
    """
    if vectors and asked.embedding is not None:
        raise UsageError("--embedding and --vectors exclude each other", "leave one of them out")
    notes: list[str] = []
    levels, label = _levels(seen, asked)
    given = {"embedding": asked.embedding, "label": label, "id": asked.id, "group": asked.group_column,
             "version": asked.version_column}  # fmt: skip
    chosen = {role: seen.checked(role, name) for role, name in given.items() if name is not None}
    carry = asked.carry
    for name in carry:
        seen.checked("carry", name)
    if not vectors and "embedding" not in chosen:
        chosen["embedding"] = seen.required("embedding", set(chosen.values()), (), notes)
    if chosen.get("embedding") in carry:
        raise UsageError(f"--carry {chosen['embedding']}: the embedding cannot be carried", "join it back by row or id")
    for role in ("id", "label"):
        taken = set(chosen.values())
        if role == "label" and asked.require_label is None:
            notes += seen.unwanted(role, taken | {*carry}) if role not in chosen else []
        elif role not in chosen:
            must = role == "label" and asked.require_label
            found = (
                seen.required(role, taken, carry, notes, asked.window is None and must is True)
                if must
                else seen.by_name(role, taken, notes)
            )
            chosen |= {role: found} if found is not None else {}
    label, id, group, version = (chosen.get(role) for role in ("label", "id", "group", "version"))
    carried = tuple(dict.fromkeys(carry))
    return Columns(vectors or chosen["embedding"], label, id, group, carried, version, levels), notes


def _levels(seen: Candidates, asked: ReadOptions) -> tuple[tuple[str, ...], str | None]:
    """The columns of the coarser levels of labels, and that of the labels themselves, as far as they are named."""
    *coarser, label = [asked.label]
    if asked.label is not None and "," in asked.label and asked.label not in seen.schema.names:
        *coarser, label = [seen.checked("level", name.strip()) for name in asked.label.split(",")]
    levels, at = tuple(map(str, coarser)), asked.negatives_at
    if label in levels or len({*levels}) < len(levels):
        raise UsageError(f"--label {asked.label} names a level twice", "name each column once, the coarsest first")
    if levels and asked.window is not None:
        raise UsageError(
            f"--label {asked.label}: labels of several levels are not for --window",
            "name one column; where leaves of one name differ, one that holds the whole path",
        )
    if at is not None and at not in levels:
        one_of = f"coarser are: {', '.join(levels)}" if levels else "--label names several levels, the coarsest first"
        what = "is the finest level, where every negative differs" if levels and at == label else "is no coarser level"
        raise UsageError(f"--negatives-at {at} {what}", f"{one_of}{'' if levels else ': --label dept,category,leaf'}")
    return levels, label
