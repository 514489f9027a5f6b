"""The inputs that a mined output was made from, found again and compared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minestream.config.option import flag_of
from minestream.config.resources import Tables
from minestream.errors import InputError, MinestreamError
from minestream.inputs.files import DATASET, MEMORY, STREAM, vectors_among
from minestream.inputs.given import ROLES
from minestream.inputs.read_options import ReadOptions
from minestream.inputs.source import Source, open_source
from minestream.inputs.tables import Sources
from minestream.inputs.where import joint
from minestream.outputs.manifest import changed, refuse_differences
from minestream.outputs.mined import MinedOutput
from minestream.outputs.target import AGAIN
from minestream.system.paths import AnyPath, place_of, text_of
from minestream.system.progress import Progress

PATHS = {
    "": "--source", "corpus": "--corpus", "known positives": "--qrels", "excluded pairs": "--exclude",
    "excluded rows": "--exclude-rows", "candidates": "--candidates",
}  # fmt: skip
OWN_TABLE = "--embedding-table"  # of the roles of other embeddings

IN_MEMORY = (MEMORY, STREAM, DATASET)  # how the names of what was no file begin


def entries(mined: MinedOutput, role: str) -> list[dict[str, Any]]:
    """What the output recorded of the tables of a role; "" is INPUT's."""
    return [entry for entry in mined.about["source"] if entry.get("role", "") == role]


def find(mined: MinedOutput, role: str, given: Mapping[str, Any]) -> list[Any]:
    """The tables of a role: as given, else where they were when they were mined, else by name beside OUT or here."""
    names = [entry["name"] for entry in entries(mined, role)]
    outside = next((name for name in names if is_outside(name)), None)
    if outside is not None:
        raise InputError(f"{mined.path} names a source outside every folder: {outside!r}", "mine it again")
    own = given.get(role)
    paths = list(own) if isinstance(own, list | tuple) else [] if own is None else [own]
    named = f"name {'that table' if role else 'the mined input'} with {PATHS.get(role, OWN_TABLE)}"
    there, on_disk = mined_from(mined, role), [name for name in names if not name.startswith(IN_MEMORY)]
    if len(on_disk) < len(names) and (not paths or (on_disk and len(paths) < len(names))):
        labels = f"pyarrow.table({{'{mined.about['columns']['label']}': labels}})"
        both = f"[{', '.join([labels, *map(repr, there or on_disk)])}]"
        what = "labels" if on_disk else f"a table of {role}" if role else "rows"
        raise InputError(
            f"{mined.path} was mined of {what} that no file holds: {names[0]}",
            f"in Python give labels and vectors: source={both}" if on_disk else named,
        )
    one_folder = len(paths) == 1 and isinstance(paths[0], str | os.PathLike) and place_of(paths[0]).is_dir()
    folders: list[AnyPath] = [place_of(paths[0])] if one_folder else []
    looked: list[str] = []
    if not paths:
        if there and all(map(_is_there, there)):
            return there
        looked = sorted({os.path.dirname(path) for path in there})
        folders = [mined.path.absolute().parent, Path.cwd()]
        if isinstance(given.get(""), str | os.PathLike):
            beside = place_of(given[""])
            folders.append(beside if beside.is_dir() else beside.absolute().parent)
    for folder in folders:
        if all((folder / name).exists() for name in names):
            return [text_of(folder / name) for name in names]
    if paths:
        return paths
    looked += [str(folder) for folder in folders]
    what = "the source" if not role else f"the table of {role}"
    raise InputError(f"{what} ({', '.join(names[:3])}) is not in {' and '.join(dict.fromkeys(looked))}", named)


def mined_tables(mined: MinedOutput, given: Mapping[str, Any]) -> tuple[list[Any], Tables]:
    """INPUT and the tables beside it, found again.

    given : by option ("" is INPUT's) the tables that are named; None: looked for
    """
    by_role = {"": given[""]} | {role: given[name] for name, role in ROLES.items()}
    there = {each.get("role", "") for each in mined.about["source"]}
    there -= {"corpus"} if is_split(mined.about["config"]) else set()  # that is INPUT again
    found = {name: find(mined, role, by_role) for name, role in ROLES.items() if role in there}
    tables: dict[str, Any] = {name: paths[0] if len(paths) == 1 else paths for name, paths in found.items()}
    return find(mined, "", by_role), Tables(**tables)


def refuse_another(mined: MinedOutput, sources: Sources) -> None:
    """InputError unless the tables that were read are those that were mined; vectors that were not read may differ."""
    unread = {"vectors"} if sources.bare else set()

    def known(each: Mapping[str, Any]) -> dict[str, Any]:
        return {**each, "crc32": {kind: crc for kind, crc in each["crc32"].items() if kind not in unread}}

    found = list(map(known, sources.identity()))
    for role in dict.fromkeys(each.get("role", "") for each in found):
        if role in PATHS:
            of_role = [each for each in found if each.get("role", "") == role]
            same_files(list(map(known, entries(mined, role))), of_role, PATHS[role])


def mined_from(mined: MinedOutput, role: str) -> list[str]:
    """Where the files of a role lay when they were mined, by the manifest."""
    return [each["path"] for each in (mined.manifest or {}).get("read") or [] if each["role"] == role]


def _is_there(path: str) -> bool:
    try:
        return place_of(path).exists()
    except MinestreamError:  # of a store that is not reached: the file may be elsewhere too
        return False


def is_outside(name: str) -> bool:
    """Whether a recorded name leads out of its folder; minestream writes no such name."""
    return os.path.isabs(name) or ".." in Path(name).parts


def open_recorded(mined: MinedOutput, role: str, paths: list[Any], carry: tuple[str, ...] | None = None) -> Source:
    """Open INPUT ("") or the corpus with the options it was mined with."""
    config = mined.about["config"]
    columns = mined.about["columns"] if not role else mined.about["columns"]["corpus"]
    vectors = vectors_among(paths)
    option = "candidate_where" if role else "anchor_where"

    def named(name: str) -> str | None:
        return columns.get(name) or (None if role else config[name])

    reading = ReadOptions.of(
        config, embedding=config["embedding"] if vectors else named("embedding"), label=named("label"), id=named("id"),
        group_column=columns.get("group") or config["group_column"], version_column=columns.get("version"),
        carry=config["carry"] if carry is None else carry, vectors=vectors or None,
        require_label=None if columns.get("label") is None else False, may_be_empty=config["two_tables"] and not role,
        where=joint(config.get("where"), config[option], flag_of(option)),
        every_id=config["on_duplicate_ids"] != "error",
    )  # fmt: skip
    return open_source([path for path in paths if path not in vectors], reading)


def same(what: str, recorded: Any, found: Any, option: str = "--source") -> None:
    """Raise InputError unless a fact about a table is as recorded."""
    if recorded != found:
        raise _another(f"{what}: {found}, recorded {recorded}", option)


def _another(difference: str, option: str) -> InputError:
    hint = f"name what was mined with {option}, or mine again"
    return InputError(f"the source is not what was mined: {difference}", hint)


def same_files(recorded: list[dict[str, Any]], found: list[dict[str, Any]], option: str) -> None:
    """Raise InputError unless all files of a table are as recorded."""
    same("files", len(recorded), len(found), option)
    for old, new in zip(recorded, found, strict=True):
        if (old["rows"], old["crc32"]) != (new["rows"], new["crc32"]):
            raise _another(f"{new['name']}: {changed(old, new)}", option)


def refuse_changes(sources: Sources, what: str, recorded: dict[str, Any], progress: Progress) -> None:
    """Read all tables, and raise OutputError, its message starting with `what`, unless they are as recorded.

    A difference in the number of rows is found without reading, where the files say it.
    """
    every = [("", sources.anchors), *([("corpus", sources.corpus)] if sources.corpus else [])]
    every += [pair for each in sources.beside for pair in each.by_role()]
    counts = [(role, *each) for role, source in every for each in source.named().values()]
    known = all(rows is not None for *_, rows in counts)
    if known:
        roles = {role for role, _ in every}
        then = [entry | {"crc32": {}} for entry in recorded["source"] if entry.get("role", "") in roles]
        now = [{"name": name, "rows": rows} | ({"role": role} if role else {}) for role, name, rows in counts]
        refuse_differences(what, {"source": then}, {"source": now}, AGAIN)
    progress.stage("compare", sum(rows or 0 for *_, rows in counts) * known, "rows")
    for _, source in every:
        for batch in source.batches():
            progress.advance(len(batch.rows))
    found = {"source": sources.identity(), "others": sources.others(), "columns": sources.columns_used()}
    refuse_differences(what, recorded, recorded | found, AGAIN)


def is_split(config: Mapping[str, Any]) -> bool:
    """Whether anchors and candidates are different rows of one table."""
    conditions = config["anchor_where"], config["candidate_where"]
    return not config["two_tables"] and any(each is not None for each in conditions)
