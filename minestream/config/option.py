"""What an option of the command line is, and what other tools call theirs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field
from math import inf, isfinite
from typing import Any

from minestream.config.gone import GONE, refuse_gone
from minestream.errors import UsageError, is_text, nearest_name

GROUPS = ("Input", "Retrieval", "What is mined", "Filters", "Balance", "Output", "Resources")


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that an option takes, which are finite; `hint` says what to do instead of giving another."""

    least: float = -inf
    most: float = inf
    inside: bool = False  # whether the ends are left out
    hint: str = ""

    def check(self, flag: str, value: object) -> None:
        """Raise UsageError for a number outside; what is no number is not looked at."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        at_end = self.inside and value in (self.least, self.most)
        if at_end or not isfinite(value) or not self.least <= value <= self.most:
            what = str(self) if isfinite(value) else "a finite number"
            raise UsageError(f"{flag} must be {what}, not {value}", self.hint)

    def __str__(self) -> str:
        if self.least == -inf:
            return f"at most {self.most:,}" if self.most < inf else "a finite number"
        if self.most < inf:
            return f"between {self.least:,} and {self.most:,}"
        return f"above {self.least:,}" if self.inside else f"at least {self.least:,}"


FINITE, COUNT = Range(), Range(1)


def option(
    default: Any,
    kind: str,
    group: str,
    help: str,
    *,
    flags: tuple[str, ...] = (),
    choices: Mapping[str, object] | None = None,
    metavar: str = "",
    within: Range = FINITE,
) -> Any:
    """A field that is also an option; `kind` names how the command line reads it (cli/options.py), or hidden.

    An option whose default is dataclasses.MISSING must be given.
    """
    meta = {
        "kind": kind, "group": group, "help": help, "flags": flags, "choices": choices, "metavar": metavar,
        "within": within,
    }  # fmt: skip
    return field(default=default, metadata=meta)


def long_flag(spec: Field[Any]) -> str:
    """The long command-line option of a field."""
    flags: tuple[str, ...] = spec.metadata["flags"]
    long = [flag for flag in flags if flag.startswith("--")]
    return long[0] if long else "--" + spec.name.replace("_", "-")


def help_of(spec: Field[Any], *, choices: bool = True, default: bool = True) -> str:
    """The help of an option in a line: with its choices, unless they are listed below it, and its default."""
    about = spec.metadata
    text: str = about["help"] + (f" One of {', '.join(about['choices'])}." if choices and about["choices"] else "")
    if not default or (about["choices"] and not choices) or "default" in text.lower():
        return text
    nothing = spec.default is None or spec.default is MISSING or about["kind"] in ("flag", "repeat")
    return text if nothing else f"{text} Default: {spec.default}."


def check_value(spec: Field[Any], value: object) -> None:
    """Refuse a value outside the field's choices, naming the nearest one, or its range, and text no file can hold."""
    choices = spec.metadata["choices"]
    if isinstance(value, str) and not is_text(value):
        raise UsageError(f"{long_flag(spec)} {value!r} is no UTF-8", "check the encoding of the terminal")
    refuse_gone(spec.name, value)
    spec.metadata["within"].check(long_flag(spec), value)
    if choices is None or value is None or (isinstance(value, str) and value in choices):
        return
    raise UsageError(f"{long_flag(spec)} has no value {value!r}", nearest_value(spec.name, str(value), list(choices)))


# What a keyword may be, by the type that its annotation names.
_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "int": (int, "a whole number"), "float": ((int, float), "a number"), "bool": (bool, "True or False"),
    "str": (str, "a text"),
}  # fmt: skip


def of_type(flag: str, annotation: str, value: Any) -> Any:
    """A value as its annotation has it; what NumPy and torch hold in no dimension is a number.

    Annotations that name other types are not looked at.

    Raises
    ------
    UsageError
        For a value of another type, or a whole number beyond int64.
    """
    names = annotation.split(" | ")
    kinds = [_TYPES[name] for name in names if name in _TYPES]
    if (value is None and "None" in names) or len(kinds) + names.count("None") < len(names):
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if "bool" in names and value in (0, 1):
        value = bool(value)
    if "str" in names and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not any(isinstance(value, types) for types, _ in kinds) or (isinstance(value, bool) and "bool" not in names):
        shown = f"{value!r}" if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
        raise UsageError(f"{flag} takes {' or '.join(what for _, what in kinds)}, not {shown}", _instead(flag, value))
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UsageError(f"{flag} {value} is beyond what 64 bits hold", "give a smaller number")
    return value


def _instead(flag: str, value: object) -> str:
    """The hint for a number in a text, or for several values where there was a time of several."""
    if isinstance(value, list | tuple):
        return GONE.get(f"{flag.lstrip('-')}=several", "")
    try:
        return f"without quotes: {float(value):g}" if isinstance(value, str) else ""
    except ValueError:
        return ""


def nearest_value(option: str, value: str, known: list[str]) -> str:
    """A remedy line for an unknown value: what it is called here, else the nearest known one; then all of them."""
    here = FOREIGN_VALUES.get((option, value.lower().replace("-", "_")))
    return f"here that is {here}; known: {', '.join(known)}" if here else nearest_name(value, known)


# What other tools call our values: (option, its value in small letters and underscores).
FOREIGN_VALUES: dict[tuple[str, str], str] = {
    ("metric", "l2"): "euclidean, or sqeuclidean where the squares are meant (faiss)",
    ("metric", "ip"): "dot", ("metric", "inner_product"): "dot", ("metric", "innerproduct"): "dot",
    ("metric", "dot_product"): "dot", ("metric", "angular"): "cosine", ("metric", "cosine_similarity"): "cosine",
    ("metric", "euclid"): "euclidean", ("metric", "squared_euclidean"): "sqeuclidean",
    ("metric", "squared_l2"): "sqeuclidean", ("metric", "l2sqr"): "sqeuclidean",
}  # fmt: skip
NO_DEVICE = (
    "nothing: it runs on the processor, a dozen seconds for 100,000 rows of 384 values on 2 cores; --dry-run says how "
    "many it will take here"
)
FOREIGN_OPTIONS: dict[str, str] = {
    "num_negatives": "--negatives (-k)", "range_min": "--skip", "range_max": "nothing: every candidate is looked at",
    "n_negatives": "--negatives (-k)", "hn_mining": "--band", "type_of_triplets": "--band", "miner": "--band",
    "top_k": "--negatives (-k)", "k": "--negatives (-k)", "alpha": "--margin", "p_positives": "--positives",
    "sampling_strategy": "--pick", "batch_size": "--memory", "num_workers": "--threads", "n_jobs": "--threads",
    "output_format": "--emit", "output_scores": "--scores", "embedding_column": "--embedding", "labels": "--label",
    "distance": "--metric", "include_positives": "--emit tuples", "output": "-o", "random_state": "--seed",
    "max_score": "--max-similarity", "min_score": "--min-similarity", "hard_negatives_to_mine": "--negatives (-k)",
    "positive_margin_type": "--relative-margin or --absolute-margin",
    "limit": "--anchors 100 to mine for fewer anchors; --max-rows refuses a run that would write more",
    "max_samples": "--anchors 100 to mine for fewer anchors; --max-rows refuses a run that would write more",
    "gpu": NO_DEVICE, "cuda": NO_DEVICE, "device": NO_DEVICE, "use_gpu": NO_DEVICE, "fp16": NO_DEVICE,
}  # fmt: skip
