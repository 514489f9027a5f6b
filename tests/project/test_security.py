"""The package runs nothing that it reads."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "minestream"
MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "subprocess", "pty", "runpy", "code"}
CALLS = re.compile(
    r"(eval|exec|compile|__import__|import_module)"
    r"|os\.(system|popen|startfile|fork\w*|exec\w*|spawn\w*|posix_spawn\w*)|pickle\.\w+"
)
AHEAD = "kernels/ahead.py"
ALLOWED = {
    ("kernels/jit.py", "import pickle"),  # its own compiled code, in a folder that is this user's alone
    ("kernels/jit.py", "pickle.loads"),
    # Python itself, to compile what this process tells it by a pipe.
    *(
        (AHEAD, what)
        for what in ("import subprocess", "import pickle", "pickle.dumps", "pickle.loads", "import_module")
    ),
    # What this process has read, for its workers: in a folder that is this user's alone.
    *(("mining/engines/attached.py", what) for what in ("import pickle", "pickle.dumps", "pickle.loads")),
    ("__init__.py", "import_module"),  # the public names, from a table in that file
    ("cli/groups.py", "import_module"),  # the commands, from a table in that file
    ("mining/engines/__init__.py", "import_module"),  # the engines, likewise
    ("mining/arrays.py", "import_module"),  # pandas or polars, where the caller asks for their frames
    # What mine_hard_negatives of sentence-transformers imports by name in its own code, faiss aside.
    ("integrations/sentence_transformers.py", "__import__"),
}


def suspicious(name: str, source: str) -> set[tuple[str, str]]:
    """The imports and calls of a file that could run what it reads."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            found |= {(name, f"import {each}") for each in modules if each.split(".")[0] in MODULES}
        if isinstance(node, ast.Call):
            called, keywords = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
            if CALLS.fullmatch(called):
                found.add((name, called))
            if called.endswith("np.load") and keywords.get("allow_pickle") != "False":
                found.add((name, "np.load without allow_pickle=False"))
            if keywords.get("shell") == "True":
                found.add((name, "a shell"))
    return found


def test_the_package_runs_nothing_that_it_reads() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        found |= suspicious(path.relative_to(PACKAGE).as_posix(), path.read_text())
    assert found == ALLOWED


@pytest.mark.parametrize("line", [
    "import pickle", "from yaml import load", "import subprocess as s", "eval(x)", "exec(x)", "os.system(x)",
    "os.execv(x, y)", "__import__(x)", "np.load(x)", "np.load(x, allow_pickle=True)", "run(x, shell=True)",
])  # fmt: skip
def test_the_scan_sees(line: str) -> None:
    assert suspicious("file.py", line)
