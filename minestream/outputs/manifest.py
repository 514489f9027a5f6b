"""Manifests: what a run is, what it made, and how two of them differ."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import fields
from typing import Any, NamedTuple

import pyarrow as pa

from minestream._version import VERSION
from minestream.config.commands import Exporting, own_options
from minestream.config.mine_config import MineConfig
from minestream.config.option import check_value
from minestream.config.trainer_formats import FORMATS
from minestream.errors import MinestreamError, OutputError, TransientError, UsageError, is_text
from minestream.system.paths import AnyPath
from minestream.system.stats import ShardStats

AFRESH = "--overwrite starts afresh"


def read_json(path: AnyPath) -> dict[str, Any] | None:
    """The object in a JSON file, or None when there is none or it cannot be read."""
    try:
        values = json.loads(path.read_bytes())
    except (OutputError, TransientError):  # of a store
        raise
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def read_manifest(path: AnyPath) -> dict[str, Any] | None:
    """The manifest in a file, or None when there is no file or it is no manifest."""
    found = read_json(path)
    complete = found is not None and found.get("state") == "complete"
    return found if fits(found, COMPLETE if complete else WORK) else None


def report_of(manifest: dict[str, Any], place: AnyPath) -> dict[str, Any]:
    """The report in the manifest of a complete output; OutputError where there is none."""
    report: dict[str, Any] = manifest["report"]
    if not fits(report, REPORT):
        raise OutputError(f"the manifest of {place} holds no report", "mine it again with --overwrite")
    return report


def plan_of(work: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a run that begins; its `run` is a token by which every writer knows that it is still at work."""
    about = {"state": "working", "version": VERSION, "pyarrow": pa.__version__, "run": secrets.token_hex(8)}
    return about | work


def facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What must be equal for two runs to do the same work, under the names that users know, as JSON holds it."""
    manifest = json.loads(json.dumps(manifest))
    files: dict[str, dict[str, Any]] = {}
    for file in [*manifest.get("source", []), *(manifest.get("others") or [])]:
        name = f"{file.get('role') or 'source'} file {file['name']}"
        crc = files.get(name, {}).get("crc32", {}) | (file.get("crc32") or {})
        files[name] = files.get(name, {}) | file | {"crc32": crc}
    about = {name: manifest.get(name) for name in ("version", "pyarrow", "columns", "parts", "refilter")}
    return {**manifest.get("config", {}), **files, **about}


def work_digest(plan: dict[str, Any]) -> str:
    """A short digest of these facts, which the records of parts hold."""
    return hashlib.sha256(json.dumps(facts(plan), sort_keys=True).encode()).hexdigest()[:16]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two manifests, a line each."""
    before, after = facts(old), facts(new)
    lines = []
    for name in before | after:
        if before.get(name) == after.get(name):
            continue
        if isinstance((before | after)[name], dict) and " file " in name:
            words = "gone" if name not in after else "new" if name not in before else changed(before[name], after[name])
        else:
            words = f"{before.get(name)!r} -> {after.get(name)!r}"
        lines.append(f"{name}: {words}")
    return lines


def changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    """How a file that is read has changed, in words."""
    rows, recorded = after.get("rows"), before.get("rows")
    if rows != recorded and isinstance(rows, int) and isinstance(recorded, int):
        return f"rows {rows:,}, recorded {recorded:,}"
    old, new = before["crc32"], after["crc32"]
    columns = [kind for kind in old | new if old.get(kind) != new.get(kind)]
    return f"its contents changed ({', '.join(columns)})" if columns else "its contents changed"


def refuse_differences(what: str, old: dict[str, Any], new: dict[str, Any], hint: str = AFRESH) -> None:
    """Raise OutputError, its message starting with `what`, when two manifests describe different work."""
    lines = differences(old, new)
    if lines:
        raise OutputError(f"{what}:\n  " + "\n  ".join(lines), hint)


class Maybe(NamedTuple):
    """The shape of a value that may be missing or null."""

    shape: Any


NUMBER = (int, float)
LIMIT = 2**63  # of what is counted
STATS = {spec.name: Maybe({str: NUMBER} if "dict" in str(spec.type) else NUMBER) for spec in fields(ShardStats)}
RECORD = {"rows": int, "bytes": int, "crc32": str, "stats": STATS}
WORK = {
    "config": dict, "fingerprint": str, "columns": dict, "parts": int,
    "source": [{"name": str, "role": Maybe(str), "rows": Maybe(int), "crc32": Maybe({str: int})}],
    "slice": Maybe({"number": int, "of": int, "parts": [int]}),
    "others": Maybe([{"name": str, "role": Maybe(str), "crc32": {str: str}}]),
    "read": Maybe([{"role": str, "path": str}]),
}  # fmt: skip
REPORT = {
    "config": dict, "columns": dict, "plan": dict, "stats": STATS, "notes": [str], "seconds": NUMBER,
    "source": {"rows": int, "dimension": int, "dtype": str, "dropped": {str: int}, "rows_taking_part": int},
}  # fmt: skip
COMPLETE = WORK | {
    "counts": {"rows": int, str: int}, "report": {"stats": Maybe(STATS)},
    "files": [{"name": str, "rows": int, "bytes": int, "crc32": str, "stats": Maybe(STATS)}],
}  # fmt: skip
ABOUT = {
    "version": str, "fingerprint": str, "labels": str, "loss": str, "rows_crc32": str, "config": dict, "columns": dict,
    "source": [{"name": str, "role": Maybe(str), "rows": int, "crc32": {str: int}}], "counts": {"rows": int, str: int},
    "refilter": Maybe({
        "table": {"name": str, "rows": int}, "missing_scores": str, "scores": str, "before": Maybe(dict),
        "rule": {"negatives": int, "relative_margin": Maybe(NUMBER), "absolute_margin": Maybe(NUMBER)},
    }),
}  # fmt: skip
OF_KINDS: dict[str, Any] = {  # of options; the others are text
    "integer": int, "number": NUMBER, "threshold": NUMBER, "flag": bool, "derived": bool,
    "repeat": [str],
}  # fmt: skip


def fits(value: Any, shape: Any) -> bool:
    """Whether a value of JSON has a shape.

    Parameters
    ----------
    value : Any
    shape : type, tuple, list, dict or Maybe
        A type, or several; a list of one shape; an object by its names, with `str` for those that are not named.
    """
    if isinstance(shape, Maybe):
        return value is None or fits(value, shape.shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(each, shape[0]) for each in value)
    if isinstance(shape, dict):
        return isinstance(value, dict) and _names_fit(value, shape)
    if isinstance(value, bool):
        return shape is bool
    if isinstance(value, str):
        return shape is str and is_text(value)
    return isinstance(value, shape) and not (isinstance(value, int) and abs(value) >= LIMIT)


def _names_fit(values: dict[str, Any], shape: dict[Any, Any]) -> bool:
    named = all(fits(values.get(name), each) for name, each in shape.items() if name is not str)
    return named and (str not in shape or all(fits(values[name], shape[str]) for name in values.keys() - shape.keys()))


def config_of(recorded: dict[str, Any], place: object, refusal: type[MinestreamError]) -> MineConfig:
    """The configuration that a file or manifest records; raises `refusal` for unknown options."""
    known = {spec.name: spec for spec in fields(MineConfig)}
    if recorded.get("emit") in tuple(FORMATS):  # a list would be no key
        known |= {name: spec for name, spec in own_options(Exporting).items() if name in known}
    recorded = {name: value for name, value in recorded.items() if name in known or value is not None}
    wrong = sorted(recorded.keys() - known.keys())
    for name in known.keys() & recorded.keys():
        try:
            check_value(known[name], recorded[name])
            several = isinstance(recorded[name], list) and "tuple" in str(known[name].type)
            if not fits(recorded[name], Maybe([str] if several else OF_KINDS.get(known[name].metadata["kind"], str))):
                wrong.append(f"{name} {recorded[name]!r}")
        except (UsageError, TypeError):  # a list is no key among the choices
            wrong.append(f"{name} {recorded[name]!r}")
    if wrong:
        what = f"{place} was mined with options that this version does not have: {', '.join(wrong)}"
        raise refusal(what, "mine again")
    held: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in recorded.items()
    }
    return MineConfig(**held | {"carry": held.get("carry") or (), "tabled": held.get("tabled") or ()})
