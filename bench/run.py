"""Run the whole suite, one command each, on the Parquet files of a folder.

    python bench/run.py quick FOLDER [--results FOLDER]    about 4 minutes: samples; into bench/results/quick
    python bench/run.py full FOLDER [--results FOLDER]     one to two hours: every row; into bench/results

FOLDER holds the files that SUITES names by their stems; a command whose files are missing is left out and named at the
end, and the exit code is then 1, as when a command fails.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

from common import BENCH, RESULTS

# {stem} is that file of the folder; what follows it is a number of rows, and of labels drawn anew: GloVe's are mostly
# one class, "unlabelled", whose rows among each other would not be compared at all.
SUITES: dict[str, tuple[str, ...]] = {
    "quick": (
        "bench_tile.py --runs 3",
        "bench_start.py --runs 1",
        "bench_mine.py {wordnet}:20000 --runs 1",
        "bench_sweep.py {wordnet-static}:20000 --rows 20000 --runs 1",
        "bench_scaling.py {wordnet-static} --rows 24000 --axes rows threads --runs 1",
        "bench_memory.py {wordnet}:20000 --memory 64MiB --runs 1",
        "bench_long.py 20000:64MiB",
        "bench_peers.py {wordnet-static}:10000 --runs 1",
        "bench_approximate.py {wordnet-static}:10000 --runs 1",
        "bench_scale.py {wordnet-static} --rows 25000 --runs 1",
        "bench_scale.py --worst 70000 --runs 1",
        "bench_retrieval.py {wordnet}:20000 --queries 2000 --runs 1",
        "bench_fit.py {wordnet-static}:4000 --runs 1",
        "bench_batch.py {debian-static}:source --rows 100000",
        "bench_select.py --rows 100000 --queries 5000 -k 500",
        "bench_rules.py {debian} {debian-static} --queries 2000 --rows 20000",
        "bench_proof.py {debian} {fashion} --runs 1",
        "bench_suspects.py {fashion}:4000 --runs 1",
        "bench_window.py --runs 1 --rows 200000",
        "bench_estimate.py {debian-static}",
    ),
    "full": (
        "bench_tile.py --runs 9",
        "bench_start.py --runs 3",
        "bench_mine.py {wordnet} {debian} {wordnet-static} {debian-static} {glove}:200000:50 {fashion} --runs 3",
        "bench_sweep.py {wordnet} {debian} {wordnet-static} {debian-static} {glove}:200000:50 {fashion} --runs 3",
        "bench_scaling.py {wordnet} --runs 3",
        "bench_memory.py {wordnet} --memory 256MiB --runs 3",
        "bench_long.py",
        "bench_peers.py {wordnet}:30000 --runs 3",
        "bench_approximate.py {wordnet} {wordnet-static} --runs 3",
        "bench_scale.py {wordnet} --runs 1",
        "bench_scale.py --worst --runs 3",
        "bench_retrieval.py {wordnet} --runs 3",
        "bench_fit.py {wordnet-static}:12000 {debian-static}:12000 --identities {debian-static} source",
        "bench_batch.py {debian}:source {debian-static}:source {wordnet}",
        "bench_select.py {debian}:source",
        "bench_rules.py {debian} {debian-static}",
        "bench_proof.py {debian} {fashion} --runs 5",
        "bench_suspects.py {fashion}:10000 {debian-static}:10000 {wordnet-static}:10000 --by {debian-static} source",
        "bench_window.py --runs 5",
        "bench_estimate.py {fashion} {glove} {wordnet-static} {debian-static} {debian} --runs 3",
    ),
}
FOLDERS = {"quick": RESULTS / "quick", "full": RESULTS}
STEM = re.compile(r"\{(?P<stem>[\w-]+)\}")


def missing(command: str, folder: Path) -> list[str]:
    """The files that a command needs and the folder has not."""
    return [stem for stem in STEM.findall(command) if not (folder / f"{stem}.parquet").exists()]


def run(command: str, folder: Path, results: Path) -> bool:
    """Run one command with its files in place; whether it succeeded."""
    script, *given = STEM.sub(lambda found: f"{folder / found['stem']}.parquet", command).split(" ")
    print(f"$ python bench/{command}", flush=True)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, str(BENCH / script), *given, "--results", str(results)])
    print(f"{time.perf_counter() - start:,.0f} s\n", flush=True)
    return done.returncode == 0


def main() -> int:
    """Run a suite; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=list(SUITES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    results = (given.results or FOLDERS[given.suite]).resolve()
    failures = []
    for command in SUITES[given.suite]:
        if lacking := missing(command, given.folder):
            failures.append(f"left out, there is no {', '.join(lacking)}: {command}")
        elif not run(command, given.folder.resolve(), results):
            failures.append(f"failed: {command}")
    print("\n".join(failures) or f"all done: {results}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
