"""Which column has which role: given names win, then known names, then the only column that fits."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from minestream.errors import InputError, nearest_name

ELEMENTS = {kind: np.dtype(kind.to_pandas_dtype()) for kind in (pa.float16(), pa.float32(), pa.float64(), pa.int8())}
SPARK_FIELDS = ("type", "size", "indices", "values")
_LISTED_COLUMNS = 12
_NUMBERED = re.compile(r"(.*?)[_. -]?(\d+)")  # the name of a coordinate's column: e0, dim_1, 2
_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+|")  # what pandas calls an index that has no name
Test = Callable[[pa.DataType], bool]


@dataclass(frozen=True)
class Columns:
    """The names of the columns found for each role."""

    embedding: str
    label: str | None
    id: str | None
    group: str | None
    carry: tuple[str, ...]
    version: str | None = None
    levels: tuple[str, ...] = ()  # of hierarchical labels: the columns of the coarser levels; `label` is the leaf's

    @property
    def labels(self) -> str | None:
        """The labels as --label names them."""
        return None if self.label is None else ",".join((*self.levels, self.label))

    @property
    def roles(self) -> dict[str, str]:
        """The role of each column other than the embedding."""
        roles: dict[str | None, str] = dict.fromkeys(self.levels, "level")
        roles |= {self.label: "level" if self.levels else "label"}
        roles |= {self.id: "id", self.group: "group", self.version: "version"}
        carried = {name: "carry" for name in self.carry if name not in roles}
        return {name: role for name, role in (roles | carried).items() if name is not None}


def numbered(names: Iterable[str]) -> dict[str, dict[int, str]]:
    """Columns that differ in a number at the end: by what stands before it, then by the number."""
    groups: dict[str, dict[int, str]] = {}
    for each in names:
        if found := _NUMBERED.fullmatch(each):
            groups.setdefault(found[1] or "embedding", {})[int(found[2])] = each
    return groups


def index_columns(schema: pa.Schema) -> set[str]:
    """The columns that hold an index of pandas: it numbers rows, and means something only where the user names it."""
    found = {name for name in schema.names if _INDEX.fullmatch(name)}
    with suppress(ValueError, LookupError, TypeError, RecursionError):  # whatever may stand there
        found |= {each for each in json.loads((schema.metadata or {})[b"pandas"])["index_columns"] if type(each) is str}
    return found


def _any_of(*tests: Test) -> Test:
    return lambda kind: any(test(kind) for test in tests)


is_list = _any_of(pat.is_list, pat.is_large_list, pat.is_fixed_size_list, pat.is_list_view, pat.is_large_list_view)
_is_text = _any_of(pat.is_string, pat.is_large_string, pat.is_string_view)
_is_binary = _any_of(pat.is_binary, pat.is_large_binary, pat.is_fixed_size_binary)
_is_id = _any_of(pat.is_integer, pat.is_string)
_is_group = _any_of(_is_id, pat.is_boolean)


def storage(kind: pa.DataType) -> pa.DataType:
    """The storage type of an extension type; any other type unchanged."""
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind


def plain(kind: pa.DataType) -> pa.DataType:
    """The type that rows of `kind` are decoded to: no dictionaries, runs, views, large or fixed-size lists."""
    kind = storage(kind)
    if pat.is_dictionary(kind) or pat.is_run_end_encoded(kind):
        return plain(kind.value_type)
    if _is_text(kind):
        return pa.string()
    return pa.list_(plain(kind.value_type)) if is_list(kind) else kind


def _list_of(test: Test) -> Test:
    return lambda kind: pat.is_list(kind) and test(kind.value_type)


def _is_single(kind: pa.DataType) -> bool:
    return not pat.is_nested(kind)


def typed(kind: pa.DataType) -> pa.DataType:
    """A plain type in which null, the type of columns without any value, becomes int64."""
    if pat.is_list(kind):
        return pa.list_(typed(kind.value_type))
    return pa.int64() if pat.is_null(kind) else kind


def _is_carried(kind: pa.DataType) -> bool:
    if pat.is_nested(kind) or pat.is_null(kind):
        return _list_of(_is_carried)(kind)
    # Parquet has no type for these.
    odd_decimal = pat.is_decimal(kind) and not 0 <= kind.scale <= kind.precision
    return not (pat.is_interval(kind) or kind == pa.binary(0) or odd_decimal)


def _is_image(kind: pa.DataType) -> bool:
    if pat.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)
    return _is_binary(kind)


def _is_version(kind: pa.DataType) -> bool:
    return _is_id(kind) or pat.is_floating(kind) or pat.is_temporal(kind) or pat.is_decimal(kind)


def holds_vectors(kind: pa.DataType, declared: str | None = None, as_text: bool = False) -> bool:
    """Whether a column of this plain type holds vectors, whose numbers are declared to be of a type, or not."""
    if declared is None and not as_text:
        return _list_of(ELEMENTS.__contains__)(kind) or _list_of(pat.is_uint8)(kind)
    if declared == "bf16":
        return _is_binary(kind) or kind in (pa.list_(pa.uint16()), pa.list_(pa.int16()))
    wide = as_text and _list_of(pat.is_floating)(kind)
    return wide or _list_of(pat.is_integer)(kind) or (declared is not None and _is_binary(kind))


def _is_spark_vector(kind: pa.DataType) -> bool:
    return pat.is_struct(kind) and all(kind.get_field_index(name) >= 0 for name in SPARK_FIELDS)


@dataclass(frozen=True)
class _Role:
    """A role of columns: `fits` and the tests of `remedies` take plain types; the first remedy that matches counts."""

    option: str
    names: tuple[str, ...]
    fits: Test
    remedies: tuple[tuple[Test, str], ...]
    otherwise: str
    instead: str = ""  # what else to do if no column fits
    may_be_null: bool = True  # whether a named column may be without any value, and so without a type

    def remedy(self, kind: pa.DataType) -> str:
        return next((text for test, text in self.remedies if test(kind)), self.otherwise)


_COMBINE = (
    "one number a row is no vector; combine such columns: pyarrow.FixedSizeListArray.from_arrays("
    "numpy.column_stack([table[name] for name in names]).ravel(), len(names))"
)
_EMBEDDING = _Role(
    "--embedding",
    ("embedding", "embeddings", "vector", "emb"),
    _list_of(ELEMENTS.__contains__),
    (
        (_is_binary, "say what its bytes are: --vector-type float32 (or float16, float64, int8, uint8, bf16)"),
        (_is_spark_vector, "a Spark vector: write it with pyspark.ml.functions.vector_to_array, or, when all are "
                           'dense, convert it: pyarrow.compute.struct_field(column, "values")'),
        (pat.is_struct, 'take the list out of it: pyarrow.compute.struct_field(column, "name of the field")'),
        (_list_of(pat.is_uint16), "--vector-type float32 takes them as numbers, bf16 as the bits of such"),
        (_list_of(pat.is_integer), "--vector-type float32 takes them as numbers"),
        (_list_of(pat.is_list), "several vectors a row: pool them to one, or write one row a vector"),
        (pat.is_string, "convert it: import json, pyarrow; pyarrow.array([json.loads(text) for text in "
                        "column.to_pylist()], pyarrow.list_(pyarrow.float32()))"),
        (pat.is_floating, _COMBINE),
        (pat.is_null, "where no row has a value there is no type: write it as minestream help inputs says (Nightly)"),
    ),
    "an embedding is a fixed_size_list, list or large_list of float16, float32, float64, int8 or uint8",
    may_be_null=False,
)  # fmt: skip
VECTORS, LABELS = "vectors", "label"  # the column of a .npy file: of two dimensions, of one
_ALONE = {
    ("label", VECTORS): "name the file of its labels with --labels FILE; one with ids, too, goes with --qrels",
    ("embedding", LABELS): "labels without vectors: name the vectors as INPUT, and these with --labels FILE",
}
_A_LABEL = "a label is an int, string, bool or dictionary of those, or a list of them"
_A_GROUP = "a group is an int, string, bool or dictionary of those"
_TAKE_FIELD = 'take what is meant out of it: pyarrow.compute.struct_field(column, "name of the field")'
_TAKE_FIRST = "one value a row is meant: pyarrow.compute.list_element(column, 0) takes the first"
_ROLES = {
    "embedding": _EMBEDDING,
    "guide": replace(  # of which no type can be declared
        _EMBEDDING, option="--guide",
        remedies=tuple(each for each in _EMBEDDING.remedies if "--vector-type" not in each[1]),
    ),
    "label": _Role(
        "--label",
        ("label", "labels", "class", "target", "y"),
        _any_of(_is_group, _list_of(_is_group)),
        (
            (pat.is_floating, "float labels compare badly: cast them, column.cast(pyarrow.int64()), .astype('Int64') "
                              "in pandas (NaN becomes null: unlabelled), array.astype(int) where none is NaN, or bin "
                              "them"),
            (_list_of(pat.is_floating),
             "vectors are no labels; float labels in lists are cast: column.cast(pyarrow.list_(pyarrow.int64()))"),
            (pat.is_struct, _TAKE_FIELD),
            (_list_of(_is_single), f"{_A_LABEL}: cast it, column.cast(pyarrow.list_(pyarrow.string()))"),
            (pat.is_nested, _A_LABEL),
        ),
        f"{_A_LABEL}: cast it, column.cast(pyarrow.string())",
        "list the positives with --qrels PAIRS, or say which rows belong together with --label COL",
    ),
    "level": _Role(
        "--label", (), _is_group, ((pat.is_struct, _TAKE_FIELD), (pat.is_list, "lists of labels have no levels")),
        "a level of labels is an int, string, bool or dictionary of those: cast it, column.cast(pyarrow.string())",
    ),
    "id": _Role(
        "--id",
        ("id", "_id", "docid", "doc_id", "pid", "qid"),
        _is_id,
        (
            (pat.is_floating, "float ids are not exact: cast them, column.cast(pyarrow.int64()), or name others"),
            (pat.is_struct, _TAKE_FIELD), (pat.is_list, _TAKE_FIRST), (pat.is_nested, "an id is an int or a string"),
        ),
        "an id is an int or a string: cast it, column.cast(pyarrow.string()), or name others",
        may_be_null=False,
    ),
    "group": _Role(
        "--group-column", (), _is_group,
        ((pat.is_struct, _TAKE_FIELD), (pat.is_list, _TAKE_FIRST), (pat.is_nested, _A_GROUP)),
        f"{_A_GROUP}: cast it, column.cast(pyarrow.string())",
    ),
    "version": _Role(
        "--version-column", (), _is_version, (),
        "a version is a number, a date, a time or a string: what is largest is newest",
    ),
    "carry": _Role(
        "", (), _is_carried, (),
        "carry plain columns: numbers, strings, lists; take single fields out of a struct",
    ),
    "image": _Role(
        "--image", (), _is_image, (), "pictures are binary, the bytes of PNG or JPEG files, or structs of such bytes"
    ),
}  # fmt: skip


def in_one_type(*kinds: pa.DataType) -> str:
    """The hint that says how columns of these plain types can be written with one type."""
    lists = [pat.is_list(kind) for kind in kinds]
    if any(lists) and not all(lists):
        return "as lists: pyarrow.array([[value] for value in column.to_pylist()])"
    text = "pyarrow.list_(pyarrow.string())" if all(lists) else "pyarrow.string()"
    return f"for example as texts: column.cast({text})"


@dataclass(frozen=True)
class Candidates:
    """The columns of an input as candidates for roles.

    ``distinct(name)`` gives (rows, distinct values) of a column if counting is cheap, else None. `declared` says what
    the numbers of vectors are; `as_text` that the types of numbers are a guess.
    """

    file: str
    schema: pa.Schema
    distinct: Callable[[str], tuple[int, int] | None] = lambda name: None
    declared: str | None = None
    as_text: bool = False

    def checked(self, role: str, name: str) -> str:
        """`name`, if exactly one column has it and its type fits `role`; else InputError."""
        rule, count = _ROLES[role], self.schema.names.count(name)
        if count == 0:
            option = f" ({rule.option})" if rule.option else f" to {role}"
            if role == "label" and self.schema.names == [VECTORS] and (name.endswith(".npy") or os.path.isfile(name)):
                raise InputError(f"{self.file}: no column {name!r}{option}", f"did you mean --labels {name}?")
            several, hint = name.split(","), nearest_name(name, self.schema.names)
            if role == "carry" and {*several} <= {*self.schema.names}:
                hint = f"each column by itself: {' '.join(f'--carry {each!r}' for each in several)}"
            raise InputError(f"{self.file}: no column {name!r}{option}", hint)
        if count > 1:
            raise InputError(f"{self.file}: {count} columns are named {name!r}", "rename all but one of them")
        untyped = rule.may_be_null and rule.fits(typed(plain(self._kind(name))))
        if not (untyped or self._fits(role, name)):
            message = f"{self.file}: column {name!r} cannot be the {role}: its type is {self._kind(name)}"
            hint = rule.remedy(plain(self._kind(name)))
            if self.declared and role in ("embedding", "guide"):
                what = "bytes and lists of uint16" if self.declared == "bf16" else "bytes and lists of whole numbers"
                hint = f"--vector-type {self.declared} is for {what}: leave it out, or name another"
            raise InputError(message, hint)
        return name

    def by_name(self, role: str, taken: set[str], notes: list[str]) -> str | None:
        """The first column with one of the role's names that fits, or None; `notes` name those that do not fit."""
        for name in self._known(role, taken):
            if self._fits(role, name):
                return self.checked(role, name)
            notes.append(f"column {name!r} is {self._kind(name)}: not used as {role}s")
        return None

    def required(
        self, role: str, taken: set[str], carry: Collection[str], notes: list[str], listable: bool = True
    ) -> str:  # fmt: skip
        """The column with a known name, or else the only one that fits (as a label: with repeated values).

        notes : gets one on a label whose values are too many to count
        listable : whether positives can be listed instead
        """
        known = self._known(role, taken)
        if known:
            return self.checked(role, next((name for name in known if self._fits(role, name)), known[0]))
        passed_over = {*taken, *carry, *index_columns(self.schema)}
        rest = [name for name in self.schema.names if name not in passed_over]
        free = [name for name in rest if self._fits(role, name)]
        shown = free[:_LISTED_COLUMNS]  # counting all of thousands would take long
        likely = [name for name in shown if not (role == "label" and self._nearly_all_differ(name))]
        if len(free) == len(likely) == 1:
            if role == "label" and self.distinct(free[0]) is None:
                notes.append(f"column {free[0]!r} is taken as the label, as no other can be: --label COL names another")
            return self.checked(role, free[0])
        none = f"no {role} column found; {'candidates' if free else 'columns'}"
        what = f"several columns may be the {role}" if len(free) > 1 else none
        best = [name for name in likely or free if role != "label" or not self._mostly_differs(name)]
        named = f"name one: {_ROLES[role].option} {best[0]}" if best else ""
        remedy = named if free else self._remedy(role, rest) if rest or role != "label" else ""
        instead = _ROLES[role].instead if listable else _ROLES[role].instead.rpartition(", or ")[2]
        hint = "; ".join(filter(None, (instead, remedy)))
        alone = _ALONE.get((role, *self.schema.names), hint)
        hint = alone if listable else alone.partition("; one with")[0]
        raise InputError(f"{self.file}: {what}: {self._listed(free or self.schema.names)}", hint)

    def unwanted(self, role: str, taken: set[str]) -> list[str]:
        """A note on the first column with a known name that fits, if there is one: it is not used."""
        found = [name for name in self._known(role, taken) if self._fits(role, name)]
        option = _ROLES[role].option
        return [
            f"column {name!r} is not used: {role}s count when they are named, {option} {name}" for name in found[:1]
        ]

    def _known(self, role: str, taken: set[str]) -> list[str]:
        """The columns with one of the role's names: exact spellings first, then in the order of the names."""
        names = _ROLES[role].names
        found = [name for name in self.schema.names if name.lower() in names and name not in taken]
        return sorted(found, key=lambda name: (name not in names, names.index(name.lower())))

    def _remedy(self, role: str, names: list[str]) -> str:
        """The hint that says how to convert one of the columns `names`, none of which fits."""
        kinds = [plain(self._kind(name)) for name in names]
        floats = sum(pat.is_floating(kind) for kind in kinds)
        if role == "embedding" and self.as_text:
            ours = (
                name for name, kind in zip(names, kinds, strict=True) if pat.is_integer(kind) or pat.is_floating(kind)
            )
            for of in numbered(ours).values():
                gap = next(number for number in range(min(1, *of), max(of) + 2) if number not in of)
                if len(of) > 1 and gap < max(of):
                    last = of[max(of)]
                    absent = re.sub(r"\d+$", str(gap), last)
                    return (
                        f"{absent} is missing before {last}: columns of CSV are one vector where no number is missing"
                    )
        if role == "embedding" and floats > 1:
            return f"{floats} columns hold one float each: {_COMBINE}"
        convertible = [kind for kind in kinds if pat.is_nested(kind) or _is_binary(kind)]
        return _ROLES[role].remedy((convertible or [pa.bool_()])[0])

    def _kind(self, name: str) -> pa.DataType:
        """The type of the first column of this name (`schema.field(name)` fails if two share it)."""
        return self.schema.field(self.schema.get_all_field_indices(name)[0]).type

    def _fits(self, role: str, name: str) -> bool:
        kind = plain(self._kind(name))
        if role in ("embedding", "guide"):
            return holds_vectors(kind, self.declared, self.as_text)
        return _ROLES[role].fits(kind)

    def _mostly_differs(self, name: str) -> bool:
        """Whether most rows have a value of their own, or all one value: a poor label."""
        rows, values = self.distinct(name) or (0, 0)
        return 2 * values > rows or values == 1

    def _nearly_all_differ(self, name: str) -> bool:
        """Whether four of five rows have a value of their own, as texts and ids have: no label to guess."""
        rows, values = self.distinct(name) or (0, 0)
        return values > 1 and 5 * values > 4 * rows

    def _listed(self, names: list[str]) -> str:
        shown = []
        for name in names[:_LISTED_COLUMNS]:
            counted = self.distinct(name)
            values = f", {counted[1]} distinct values in {counted[0]} rows" if counted else ""
            shown.append(f"{name} ({self._kind(name)}{values})")
        return "; ".join(shown) + (f"; and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
