#!/usr/bin/env bash
# Everything to be green before a commit. PYTHON names the interpreter; default: that of .venv, else the first found.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
[ -x "$(command -v "$python")" ] || python=python3

run() {
    printf '$ %s\n' "$*"
    "$@"
}

run "$python" -m ruff check .
run "$python" -m ruff format --check .
run "$python" -m mypy
run "$python" scripts/readme.py --check
run "$python" scripts/keywords.py --check
run "$python" -m pytest "$@"
