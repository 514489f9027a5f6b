"""Build what a release would upload, and check it; nothing is uploaded.

    python scripts/release.py [--python python3.12 ...] [--keep FOLDER]

From a clone of the commit: one version everywhere, wheel and sdist, what they hold, a page that renders, and each
installed by itself in a new environment of every given Python, where the sample is mined and verified from an empty
folder. Ends with exit code 1 at the first check that fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ("py.typed", "data/digits.parquet", "guide/mining.md", "guide/bands.svg")
HELD = tuple(f"minestream/{name}" for name in BESIDE)  # beside every tracked .py of the package
KEPT_OUT = re.compile(r"(^|/)(tests|bench|scripts|build|__pycache__|\.[^/]+)(/|$)")
VERSION = re.compile(r'^VERSION = "(?P<version>[^"]+)"$', re.MULTILINE)
OUT = "digits.triplets.parquet"
MINED = ("sample digits.parquet", "mine digits.parquet", f"describe {OUT}", f"verify {OUT} --sample 50")
JOURNEY = (*MINED, "help mining")


class Failed(Exception):
    """A check that did not pass."""


def version_of(source: str) -> str:
    """The version that _version.py says, given its text."""
    found = VERSION.search(source)
    if found is None:
        raise Failed("minestream/_version.py holds no VERSION")
    return found["version"]


def has_heading(changelog: str, version: str) -> bool:
    """Whether a heading of the changelog names exactly this version."""
    headings = (line for line in changelog.splitlines() if line.startswith("## "))
    return any(re.search(rf"(?<![\w.]){re.escape(version)}(?![\w.])", line) for line in headings)


def faults(names: Iterable[str], modules: Iterable[str]) -> list[str]:
    """What an archive lacks, and what it holds and should not: its names, without the folder that all lie in."""
    held = set(names)
    missing = [f"lacks {name}" for name in (*modules, *HELD) if name not in held]
    missing += [] if any(name.split("/")[-1] == "LICENSE" for name in held) else ["lacks LICENSE"]
    return missing + [f"holds {name}" for name in sorted(held) if KEPT_OUT.search(name)]


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """The output of a command that must succeed; Python finds nothing but what is installed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MINESTREAM"))}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=kept | variables, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"$ {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def passed(what: str) -> None:
    """Tick off one check."""
    print(f"[x] {what}", flush=True)


def environment(folder: Path, python: str, *packages: str | Path) -> Path:
    """The folder of commands of a new environment with these packages."""
    run(python, "-m", "venv", folder, cwd=folder.parent)
    run(folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *packages, cwd=folder.parent)
    return folder / "bin"


def journey(commands: Path, version: str, work: Path) -> None:
    """What the README begins with, from an empty folder."""
    work.mkdir()
    variables = {"MINESTREAM_CACHE_DIR": str(work.parent / "cache"), "PATH": "/usr/bin:/bin"}
    if (said := run(commands / "minestream", "--version", cwd=work).split()[-1]) != version:
        raise Failed(f"minestream --version says {said}, not {version}")
    for line in JOURNEY:
        run(commands / "minestream", *line.split(), cwd=work, **variables)
    shutil.rmtree(work)


def release(work: Path, pythons: list[str]) -> None:
    """Every check, in order."""
    if changed := run("git", "status", "--porcelain", cwd=ROOT):
        raise Failed(f"not committed:\n{changed}")
    source = work / "source"
    run("git", "clone", "--quiet", ROOT, source, cwd=work)
    passed(f"all is committed: {run('git', 'describe', '--always', cwd=ROOT).strip()}")
    version = version_of((source / "minestream" / "_version.py").read_text(encoding="utf-8"))
    if not has_heading((source / "CHANGELOG.md").read_text(encoding="utf-8"), version):
        raise Failed(f"CHANGELOG.md has no heading of {version}")
    passed(f"CHANGELOG.md has a heading of {version}")
    pins = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    tools = environment(work / "tools", sys.executable, *pins["release"])
    run(tools / "python", "-m", "build", "--outdir", work / "dist", source, cwd=work)
    (wheel,), (sdist,) = (sorted((work / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    passed(f"built {wheel.name} and {sdist.name}")
    modules = run("git", "ls-files", "minestream/*.py", cwd=source).split()
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        (metadata,) = (file.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    with tarfile.open(sdist) as archive:
        inside = [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]
    for archived, held in ((wheel, names), (sdist, inside)):
        if found := faults(held, modules):
            raise Failed(f"{archived.name}: {'; '.join(found)}")
    passed(f"they hold {len(modules)} modules, {', '.join(HELD)}, LICENSE; no tests, no benchmarks")
    if HeaderParser().parsestr(metadata)["Version"] != version:
        raise Failed(f"the metadata is not of {version}")
    run(tools / "twine", "check", "--strict", wheel, sdist, cwd=work)
    passed("the metadata is of that version, and README.md renders")
    for number, python in enumerate(pythons):
        for archived in (wheel, sdist):
            name = f"{number}-{archived.suffix[1:]}"
            journey(environment(work / name, python, archived), version, work / f"{name}-empty")
            shutil.rmtree(work / name)
            told = run(python, "-V", cwd=work).strip()
            passed(f"{archived.name} installed alone with {told}: sample, mine, describe, verify")


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=[sys.executable], metavar="PYTHON", help="default: this one")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="put wheel and sdist there when all has passed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        try:
            release(Path(name), given.python)
        except Failed as error:
            print(f"[ ] {error}", file=sys.stderr)
            return 1
        if given.keep:
            shutil.copytree(Path(name) / "dist", given.keep, dirs_exist_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
