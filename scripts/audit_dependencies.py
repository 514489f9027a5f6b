"""Say what an install of minestream brings, and fail where that is not what was agreed on.

    python scripts/audit_dependencies.py

Fails (exit 1) when a package comes along that is not in ALLOWED, when a licence is unknown or not in LICENCES, when the
package imports what pyproject.toml does not declare, and when pip-audit knows of a vulnerability. Where pip-audit is
not installed, or does not reach its database, this is said and nothing is looked up.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {  # each with what it is for
    "numba": "compiles the kernels", "llvmlite": "the kernels' vector code", "numpy": "arrays",
    "pyarrow": "Parquet and Arrow", "click": "the command line", "rich": "tables and bars on a terminal",
    "markdown-it-py": "of rich", "mdurl": "of rich", "pygments": "of rich", "colorama": "of click, on Windows",
}  # fmt: skip
LICENCES = re.compile(
    r"MIT( License)?|BSD( License)?|BSD-[23]-Clause|0BSD|Zlib|CC0-1\.0|Apache-2\.0( WITH LLVM-exception)?"
)
MODULES = {
    "ipykernel": {"IPython"}, "dask": {"dask", "distributed"}, "pylance": {"lance"}, "scikit-learn": {"sklearn"},
    "sentence-transformers": {"sentence_transformers", "transformers"},
}  # of other names  # fmt: skip
AUDIT_SECONDS = 300


def declared() -> tuple[set[str], set[str]]:
    """The packages that pyproject.toml asks for: always, and with any extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [text for extra in project["optional-dependencies"].values() for text in extra]
    return {Requirement(text).name for text in project["dependencies"]}, {Requirement(text).name for text in optional}


def brought(names: set[str]) -> list[str]:
    """Those packages and all that they bring here, sorted."""
    found: set[str] = set()
    left = sorted(names)
    while left:
        name = left.pop().lower()
        if name not in found:
            found.add(name)
            needed = map(Requirement, metadata.requires(name) or ())
            left += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return sorted(found)


def licence(about: metadata.PackageMetadata) -> str:
    """A package's licence: the expression, else its classifiers, else the field, if that is a name and no text."""
    classes = [text.split(" :: ")[-1] for text in about.get_all("Classifier") or () if text.startswith("License ::")]
    field = about.get("License") or ""
    return about.get("License-Expression") or " AND ".join(classes) or (field if len(field) < 50 else "")


def agreed(text: str) -> bool:
    """Whether every licence of an expression is one that was agreed on; of alternatives one is enough."""
    return any(all(LICENCES.fullmatch(each.strip(" ()")) for each in own.split(" AND ")) for own in text.split(" OR "))


def imported(package: Path) -> Iterator[tuple[str, str]]:
    """The top-level modules that the files of a package import, with the file; what Python has itself left out."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {package.name}:
                yield top, path.relative_to(package.parent).as_posix()


def undeclared(package: Path, packages: set[str]) -> list[str]:
    """Imports of modules that no declared package holds."""
    known = {module for name in packages for module in MODULES.get(name, {name.replace("-", "_")})}
    return sorted(
        {f"{path} imports {top}, which is not declared" for top, path in imported(package) if top not in known}
    )


def vulnerable(pins: list[str]) -> list[str]:
    """What pip-audit knows of these versions; says so where it does not run."""
    if util.find_spec("pip_audit") is None:
        print("known vulnerabilities: NOT looked up, pip-audit is not installed")
        return []
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins))
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "-r", file.name, "--no-deps", "--disable-pip", "-f", "json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_SECONDS, check=False)
            found = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            print("known vulnerabilities: NOT looked up, pip-audit failed: is there a network?")
            return []
    skipped = [each["name"] for each in found if "skip_reason" in each]
    more = f"; NOT looked up, its database does not answer for them: {', '.join(skipped)}" if skipped else ""
    print(
        f"known vulnerabilities: looked up by pip-audit for {len(found) - len(skipped)} of {len(found)} packages{more}"
    )
    return [f"{each['name']}: {flaw['id']}" for each in found for flaw in each.get("vulns", ())]


def main() -> int:
    """Print the table and what is wrong; 1 if anything is."""
    core, optional = declared()
    names, wrong = brought(core), []
    print(f"{'package':16}{'version':10}{'MB':>6}  {'direct':7}{'wheel':36}licence")
    for name in names:
        found = metadata.distribution(name)
        size = sum(each.size or 0 for each in found.files or ()) / 1e6
        wheel = re.search(r"^Tag: (.*)$", found.read_text("WHEEL") or "", re.MULTILINE)
        own = licence(found.metadata)
        direct = "yes" if name in {each.lower() for each in core} else ""
        print(f"{name:16}{found.version:10}{size:6.1f}  {direct:7}{wheel[1] if wheel else 'none':36}{own or 'unknown'}")
        wrong += [] if name in ALLOWED else [f"{name} is not in the list of what may come along"]
        wrong += [] if agreed(own) else [f"{name}: the licence {own or 'unknown'!r} was not agreed on"]
    wrong += undeclared(ROOT / "minestream", core | optional)
    wrong += vulnerable([f"{name}=={metadata.version(name)}" for name in names])
    print("\n".join(f"error: {each}" for each in wrong) or f"{len(names)} packages, nothing wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
