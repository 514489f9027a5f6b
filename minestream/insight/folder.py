"""The output folder of a profile, on a disk or in a store: what it may hold already, and how its files are written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from minestream.errors import OutputError, UsageError
from minestream.inputs.given import Given, refuse_inputs
from minestream.insight.pages import profile_page
from minestream.insight.sight import Sight
from minestream.outputs.atomic import disk_errors
from minestream.outputs.foreign import as_recorded, text_crc
from minestream.outputs.manifest import Maybe, fits, read_json
from minestream.outputs.mined import PROFILE
from minestream.outputs.stores import target_at
from minestream.outputs.target import ENDINGS
from minestream.system.contract import findings, printed
from minestream.system.memory import scratch_folder
from minestream.system.paths import AnyPath, RemotePath

RECORDED = {"outputs": [{"files": [{"name": str, "bytes": Maybe(int), "crc32": Maybe(str)}]}]}
FILES = ("suspects.parquet", "duplicates.parquet", "report.html", PROFILE)


def profile_folder(out: AnyPath, overwrite: bool, given: list[Given]) -> AnyPath:
    """The output folder; raises OutputError, before anything is read, when a profile cannot be written there."""
    if out.suffix.lower() in ENDINGS:
        raise UsageError(
            f"profile writes a folder, not {out.name}", f"-o {out.parent / out.stem}: report.html is in it then"
        )
    refuse_inputs(out, [out], [out / name for name in FILES], given)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file", "profile writes a folder: choose another -o")
    target_at(out).refuse_place()
    there = [path for name in FILES if (path := out / name).exists()]
    if any(not as_recorded(path, record) for path, record in _recorded(out, there)):
        raise OutputError(
            f"{out} holds files of these names that profile did not write: {', '.join(path.name for path in there)}",
            "choose another -o",
        )
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(f"{out} holds files", "--overwrite replaces those of a profile")
    return out


def _recorded(out: AnyPath, files: list[AnyPath]) -> list[tuple[AnyPath, dict[str, Any] | None]]:
    """Each of the files with its record in the profile.json of the folder, which has none of itself."""
    profile = read_json(out / PROFILE) or {}
    known = {file["name"]: file for file in profile["outputs"][0]["files"]} if fits(profile, RECORDED) else {}
    return [(path, known.get(path.name)) for path in files if path.name != PROFILE or not known]


def write_profile(
    folder: AnyPath, found: dict[str, Any], tables: dict[str, pa.Table], sight: Sight, *lines: str | None
) -> None:
    """Write the files of a profile; profile.json, which lists the others, comes last."""
    with scratch_folder(None) as scratch, disk_errors(scratch if isinstance(folder, RemotePath) else folder / PROFILE):
        for name, table in tables.items():
            pq.write_table(table, scratch / f"{name}.parquet", compression="zstd")
        (scratch / "report.html").write_text(profile_page(found, tables, sight, *lines), encoding="utf-8")
        made = [scratch / name for name in FILES if name != PROFILE]
        rows = {f"{name}.parquet": table.num_rows for name, table in tables.items()}
        found["written"] = [
            {"name": path.name, "rows": rows.get(path.name), "bytes": path.stat().st_size, "crc32": text_crc(path)}
            for path in made
        ] + [{"name": PROFILE}]
        (scratch / PROFILE).write_text(printed(findings("profile", found)), encoding="utf-8")
        if isinstance(folder, Path):
            folder.mkdir(exist_ok=True)
        for path in [*made, scratch / PROFILE]:
            _put(path, folder / path.name)


def _put(path: Path, place: AnyPath) -> None:
    """Copy a local file to its place, whole or not at all."""
    if isinstance(place, RemotePath):
        place.upload(path)
        return
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    shutil.copyfile(path, temporary)
    os.replace(temporary, place)
