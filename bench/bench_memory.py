"""Does a run stay within --memory plus the process's own baseline, with the same bytes as with plenty?

python bench/bench_memory.py FILE.parquet [--memory 256MiB] [options of minestream mine after --]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

from common import write_results

BASELINE_BYTES = 250_000_000  # interpreter, numba, pyarrow and compiled kernels


def run(path: Path, memory: str, out: Path, options: list[str]) -> dict[str, Any]:
    """One run: seconds, peak bytes and a checksum of the output."""
    command = [sys.executable, "-m", "minestream", "mine", str(path), "-o", str(out), "--memory", memory, "--progress",
               "none", "--json", *options]  # fmt: skip
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"failed: {' '.join(command)}")
    return {
        "data": path.stem, "memory": memory, "seconds": time.perf_counter() - start,
        "peak_bytes": usage.ru_maxrss * 1024, "output_crc32": zlib.crc32(out.read_bytes()),
    }  # fmt: skip


def main() -> None:
    """Two runs, one within the asked memory and one with 8 GiB; written to bench/results/memory.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--memory", default="256MiB")
    parser.add_argument("options", nargs="*", help="after --: options of minestream mine")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = [
            run(given.file, memory, Path(name) / f"{memory}.parquet", given.options)
            for memory in (given.memory, "8GiB")
        ]
    for row in rows:
        print(row)
    print("same bytes:", rows[0]["output_crc32"] == rows[1]["output_crc32"])
    print("above baseline:", f"{rows[0]['peak_bytes'] - BASELINE_BYTES:,} bytes")
    print(write_results("memory", rows))


if __name__ == "__main__":
    main()
