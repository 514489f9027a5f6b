"""What the benchmarks wrote, as Markdown; scripts/readme.py puts it into bench/README.md, a few rows into README.md.

    python bench/report.py [FOLDER]    print it from the results in FOLDER (default: bench/results)

Only what has been measured is told; the standard library is enough.
"""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
WIDTH = 120
NOTHING = "Not measured yet: `python bench/run.py full FOLDER` writes what this part is made from."
JOBS = {"nearest": "`--band any -k {k}`", "default": "default", "bulk": "`--positives random --positives-per-anchor 4`"}
TITLES = (
    "data", "rows x values", "job", "minestream, whole run", "faiss, search alone", "faiss / minestream",
    "as installed / minestream", "faiss / our sweep", "our peak memory", "faiss's",
)  # fmt: skip
APPROXIMATE_TITLES = ("data", "rows x values", "search", "recall", "build and search", "minestream, exact", "ratio")
APPROXIMATE = {
    "faiss_hnsw": "faiss HNSW32, ef {at}", "faiss_ivf": "faiss IVF1024, nprobe {at}",
    "torch_bfloat16": "torch, bfloat16 and topk",
}  # fmt: skip
RETRIEVAL_TITLES = (
    "filter", "positive", "negatives", "sentence-transformers'", "queries short, ours / its", "minestream",
    "sentence-transformers (call)", "ratio", "minestream's function of that name (ratio of calls)",
    "peak memory, ours / its / the function's",
)  # fmt: skip

BATCH_TITLES = (
    "data", "pairs", "method", "left out", "nearest similarity, over random's", "whole command", "search", "composing",
    "peak memory",
)  # fmt: skip
SCALE_TITLES = ("rows", "run", "seconds (foretold)", "of exact", "recall", "peak memory")
SCALED = {
    "approximate": "`--approximate`", "faiss_hnsw": "faiss HNSW{index}, ef {breadth}",
    "faiss_ivf": "faiss IVF{index}, nprobe {breadth}",
}  # fmt: skip
WORST_TITLES = ("data", "rows x values", "exact", "`--approximate`", "ratio", "of which measuring")
KNOWN_ROWS = 117_659  # of wordnet
RULE_TITLES = ("data", "rule", "options", "anchors", "rows", "time", "peak memory")
SELECT_TITLES = (
    "data", "lists", "mined in", "size", "bytes a candidate", "peak memory", "a policy, median", "slowest",
    "peak memory of select", "mined anew",
)  # fmt: skip
FIT_TITLES = (
    "data", "positives", "band", "pick", "recall@1", "gain over raw (least to largest)", "over random triplets",
)  # fmt: skip
ENGINE_TITLES = ("job", "engine", "workers", "products", "whole run", "start-up", "overhead beyond it")
SHOWN = (  # in the short table: data and job
    ("wordnet", "nearest"), ("wordnet", "default"), ("wordnet", "bulk"), ("wordnet-static", "default"),
)  # fmt: skip
ALONE_SHOWN = 32  # threads, of which is told what most of them wait for
LEAST_RECALL = 0.98  # of the approximate search in the short table
FIT_SHOWN = 6  # of each set, the best

Results = dict[str, Any]


def speed(folder: Path = RESULTS) -> str:
    """The whole part as Markdown: the machine, one table, and a line for each other question."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    if not found.keys() & {*TABLES, *LINES}:
        return NOTHING
    first = found.get("mine", next(iter(found.values())))
    measured = f"Measured on {machine(first['environment'])}."
    tables = [tell(found[name]) for name, tell in TABLES.items() if name in found]
    lines = [filled(f"- {tell(found[name])}", "  ") for name, tell in LINES.items() if name in found]
    return "\n\n".join(filter(None, [filled(measured), *tables, "\n".join(lines)]))


def short_speed(folder: Path = RESULTS) -> str:
    """One small table of six rows: four jobs, the best approximate search that comes near, a filter of retrieval."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}
    if not {"mine", "retrieval"} <= found.keys():
        return NOTHING
    mined, near, filtered = found["mine"], found.get("approximate", {"rows": []}), found["retrieval"]
    enough = [row for row in near["rows"] if row["data"] == SHOWN[0][0] and row["recall"] >= LEAST_RECALL]
    rows = [
        (f"{row['data']}, {row['rows']:,} x {row['dimension']}", JOBS[row["job"]].format(k=row["k"]),
         f"{row['seconds']:.1f} s", f"faiss, exact, {row['faiss_seconds']:.1f} s", times(row["ratio"]))
        for row in mined["rows"] if (row["data"], row["job"]) in SHOWN
    ] + [
        (f"{row['data']}, {row['rows']:,} x {row['dimension']}", JOBS["nearest"].format(k=row["k"]),
         f"{row['seconds']:.1f} s", f"{approximate_name(row)}, recall {row['recall']:.3f}, {row['peer_seconds']:.1f} s",
         times(row["ratio"]))
        for row in sorted(enough, key=lambda row: row["peer_seconds"])[:1]
    ] + [
        (f"{row['data']}, {row['queries']:,} queries of {row['queries'] + row['corpus']:,} x {row['dimension']}",
         f"`--{row['option'].replace('_', '-')} {row['value']}`", f"{row['seconds']:.1f} s, {row['rows']:,} negatives",
         f"sentence-transformers {row['peer_seconds']:.1f} s, {row['peer_rows']:,} negatives "
         f"({filtered['environment']['date']}, faiss {as_set(filtered)})", times(row["ratio"]))
        for row in filtered["rows"][:1]
    ]  # fmt: skip
    told = (
        f"Medians on {machine(mined['environment'])}. Ours are whole runs, from process start to finished Parquet; of "
        f"faiss it is the search of {mined['rows'][0]['faiss_k']} neighbours alone at its fastest settings, of an "
        f"approximate index the build too: it knows no labels and has its vectors in memory already. Of "
        f"sentence-transformers it is the process, with nothing to encode."
    )
    return f"{filled(told)}\n\n{table(('data', 'job', 'minestream', 'peer', 'peer / minestream'), rows)}"


def training(folder: Path = RESULTS) -> str:
    """What mining and composing are worth to models trained from nothing."""
    path = folder / "proof.json"
    if not path.exists():
        return NOTHING
    results = json.loads(path.read_text(encoding="utf-8"))
    rows = results["rows"]
    tasks, ways = (list(dict.fromkeys(row[key] for row in rows)) for key in ("task", "way"))
    of = {(row["task"], row["way"]): row for row in rows}
    titles = ("trained on", *(f"{task}: recall@1, gain (least to largest)" for task in tasks))
    return table(titles, [(way, *(gained(of[task, way]) for task in tasks)) for way in ways])


def gained(row: dict[str, Any]) -> str:
    """A cell of the table of training."""
    found = f", {row['found']:.0%} of them found" if row["found"] < 1 else ""
    gain = f", {row['gain']:+.4f} ({row['least_gain']:+.4f} to {row['largest_gain']:+.4f})" if row["gain"] else ""
    return f"{row['recall']:.4f}{gain}{found}"


def machine(environment: dict[str, Any]) -> str:
    """Where and with what it was measured."""
    packages = environment["packages"]
    versions = [f"{name} {packages[name]}" for name in ("minestream", "faiss-cpu", "numpy") if name in packages]
    return f"{environment['cores']} cores of {environment['cpu']}, {environment['date']}: {', '.join(versions)}"


def mine(results: Results) -> str:
    """End to end, with the sentence that says what is compared."""
    rows = [mine_row(row) for row in results["rows"]]
    told = (
        f"Whole runs, from process start to finished Parquet, beside the search alone of faiss IndexFlatIP for "
        f"{results['rows'][0]['faiss_k']} neighbours, which knows no labels and has its vectors in memory already, at "
        f"the fastest of the settings that are tried ({settings_text(results)}). Medians of {fewest_runs(results)} "
        f"interleaved runs. The job is what differs from the default. The second ratio is that of faiss as it is "
        f"installed, timed once; the last that of its search to the sweep stage alone."
    )
    return f"{filled(told)}\n\n{table(TITLES, rows)}"


def mine_row(row: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    return (
        row["data"], f"{row['rows']:,} x {row['dimension']}", JOBS[row["job"]].format(k=row["k"]),
        f"{row['seconds']:.1f} s", f"{row['faiss_seconds']:.1f} s", times(row["ratio"]),
        times(row["faiss_plain_seconds"] / row["seconds"]), times(row["sweep_ratio"]),
        megabytes(row["peak_bytes"]), megabytes(row["faiss_peak_bytes"]),
    )  # fmt: skip


def settings_text(results: Results) -> str:
    """The fastest settings of faiss by data set."""
    told = {row["data"]: " ".join(row["faiss_setting"].values()) or "as installed" for row in results["rows"]}
    return ", ".join(f"{name}: {setting}" for name, setting in told.items())


def as_set(results: Results) -> str:
    """How faiss was set where these results were measured."""
    return "at its fastest" if all("faiss_setting" in row for row in results["rows"]) else "as installed"


def approximate(results: Results) -> str:
    """Approximate searches beside exact runs."""
    k = results["rows"][0]["k"]
    told = (
        f"Approximate searches for the same {k} nearest rows: of these building the index and searching count, of "
        f"minestream the whole run ({JOBS['nearest'].format(k=k)}), which is exact. Recall is that of a sample of "
        f"rows, against float64 brute force; medians of {fewest_runs(results)} runs in turn."
    )
    rows = [
        (row["data"], f"{row['rows']:,} x {row['dimension']}", approximate_name(row), f"{row['recall']:.3f}",
         f"{row['peer_seconds']:.1f} s", f"{row['seconds']:.1f} s", times(row["ratio"]))
        for row in results["rows"]
    ]  # fmt: skip
    return f"{filled(told)}\n\n{table(APPROXIMATE_TITLES, rows)}"


def approximate_name(row: dict[str, Any]) -> str:
    """A search with its breadth."""
    return APPROXIMATE[row["contender"]].format(at=row["breadth"])


def scale(results: Results) -> str:
    """Exact and approximate runs as rows grow, beside approximate indexes."""
    rows, runs = results["rows"], fewest_runs(results)
    first, repeated = rows[0], f"Medians of {runs} runs in turn." if runs > 1 else "One run each."
    told = (
        f"Exact runs and `--approximate {results['target']:g}` as rows grow: {first['dimension']} coordinates, rows of "
        f"{results['data']} and from {KNOWN_ROWS:,} on copies of them with noise, "
        f"{JOBS['nearest'].format(k=first['k'])}, whole runs. Indexes: building and searching, at the recall of the "
        f"approximate run, each the fastest of those tried. In brackets what `--dry-run` foretold. {repeated} On "
        f"{machine(results['environment'])}."
    )
    exact = {row["rows"]: row["seconds"] for row in rows if row["contender"] == "exact"}
    cells = [
        (f"{row['rows']:,}", SCALED.get(row["contender"], row["contender"]).format(**row), scale_seconds(row),
         f"{row['seconds'] / exact[row['rows']]:.2f}", scale_recall(row), megabytes(row["peak_bytes"]))
        for row in rows
    ]  # fmt: skip
    near = {row["rows"]: row["seconds"] for row in rows if row["contender"] == "approximate" and row["looked_at"] < 1}
    grown = [
        f"{name} as n^{exponent(own):.2f}" for name, own in (("exact", exact), ("approximate", near)) if len(own) > 1
    ]
    growth = f"Seconds grow, {'; '.join(grown)}." if grown else ""
    return "\n\n".join(filter(None, [filled(told), table(SCALE_TITLES, cells), growth]))


def scale_seconds(row: dict[str, Any]) -> str:
    """The seconds of a run, and those foretold."""
    foretold = f" ({row['projected_seconds']:,.0f})" if "projected_seconds" in row else ""
    return f"{row['seconds']:,.1f} s{foretold}"


def scale_recall(row: dict[str, Any]) -> str:
    """The recall that a run told, with its bound and how many pairs it looked at; an index's."""
    if row["contender"] == "exact" or row.get("looked_at") == 1.0:
        return "1"
    if "at_least" not in row:
        return f"{row['recall']:.3f}"
    return f"{row['recall']:.3f}, at least {row['at_least']:.3f}; {row['looked_at']:.1%} of all pairs"


def worst(results: Results) -> str:
    """Approximate runs of data that near cells tell nothing of."""
    rows, runs = results["rows"], fewest_runs(results)
    repeated = f"medians of {runs} runs in turn" if runs > 1 else "one run each"
    told = (
        f"`--approximate {results['target']:g}` of the worst data, {JOBS['nearest'].format(k=rows[0]['k'])}: the run "
        f"is exact, after the time of finding that out. Whole runs, {repeated}, on {machine(results['environment'])}."
    )
    cells = [
        (row["data"], f"{row['rows']:,} x {row['dimension']}", f"{row['exact_seconds']:.1f} s",
         f"{row['seconds']:.1f} s", f"{row['ratio']:.2f}", f"{row['measuring_seconds']:.1f} s")
        for row in rows
    ]  # fmt: skip
    return f"{filled(told)}\n\n{table(WORST_TITLES, cells)}"


def exponent(seconds: dict[int, float]) -> float:
    """e of c n^e, from the fewest rows to the most."""
    few, many = min(seconds), max(seconds)
    return math.log(seconds[many] / seconds[few]) / math.log(many / few)


def curves(folder: Path = RESULTS) -> str:
    """The tables of scale alone, for its guide page."""
    paths = [path for name in ("scale", "worst") if (path := folder / f"{name}.json").exists()]
    return "\n\n".join(TABLES[path.stem](json.loads(path.read_text(encoding="utf-8"))) for path in paths) or NOTHING


def retrieval(results: Results) -> str:
    """Queries, a corpus and known positives, beside sentence-transformers."""
    rows = results["rows"]
    first = rows[0]
    told = (
        f"Queries and a corpus of {first['data']} ({first['queries']:,} and {first['corpus']:,} rows x "
        f"{first['dimension']}), one known positive each, {first['k']} negatives, beside sentence-transformers' "
        f"mine_hard_negatives with faiss {as_set(results)} and its default window: the same vectors, each a process "
        f"from Parquet to Parquet, medians of {fewest_runs(results)} runs in turn. Nothing is encoded; the time of the "
        f"other's call alone, without its imports and files, is in brackets. The positive is the nearest row of the "
        f"query's label, or one drawn from it. Ours are all that exist, up to {first['k']} a query; its own are the "
        f"first of ours."
    )
    return f"{filled(told)}\n\n{table(RETRIEVAL_TITLES, [retrieval_row(row) for row in rows])}"


def retrieval_row(row: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    return (
        f"`--{row['option'].replace('_', '-')} {row['value']}`", row["positives"], f"{row['rows']:,}",
        f"{row['peer_rows']:,} ({row['peer_rows'] / row['rows']:.1%})",
        f"{row['short_queries']:,} / {row['peer_short_queries']:,}", f"{row['seconds']:.1f} s",
        f"{row['peer_seconds']:.1f} s ({row['peer_call_seconds']:.1f} s)", times(row["ratio"]),
        f"{row['instead_call_seconds']:.1f} s ({times(row['instead_ratio'])})",
        " / ".join(megabytes(row[f"{name}peak_bytes"]) for name in ("", "peer_", "instead_")),
    )  # fmt: skip


def batch(results: Results) -> str:
    """Composed batches by method."""
    told = (
        f"`minestream batch --batch-size {results['rows'][0]['batch_size']}` of mined pairs, one epoch: the nearest "
        f"similarity of an anchor to a negative in its batch, over that in random batches, and the seconds of the "
        f"whole command, of its search for near pairs, and of composing."
    )
    rows = [
        (row["data"], f"{row['pairs']:,}", row["method"], f"{row['left_out']:,}", f"{row['similarity_ratio']:.2f}",
         f"{row['seconds']:.1f} s", f"{row['search_seconds']:.1f} s", f"{row['compose_seconds']:.1f} s",
         megabytes(row["peak_bytes"]))
        for row in results["rows"]
    ]  # fmt: skip
    return f"{filled(told)}\n\n{table(BATCH_TITLES, rows)}"


def select(results: Results) -> str:
    """Lists of candidates, and policies that choose from them."""
    first = results["rows"][0]
    told = (
        f"Lists of {first['k']:,} candidates (`mine --emit lists`, float64), and {len(first['policies'])} policies by "
        "which `select` chooses from each, whole commands. One of them is mined anew, too, and the files are equal: "
        f"`{first['mined_anew']}`."
    )
    rows = [
        (row["data"], f"{row['anchors']:,}", f"{row['list_seconds']:.0f} s", f"{row['list_bytes'] / 1e9:.2f} GB",
         f"{row['bytes_a_candidate']:.1f}", megabytes(row["list_peak_bytes"]), f"{row['median_seconds']:.1f} s",
         f"{row['most_seconds']:.1f} s", megabytes(row["most_peak_bytes"]), f"{row['mined_anew_seconds']:.0f} s")
        for row in results["rows"]
    ]  # fmt: skip
    return f"{filled(told)}\n\n{table(SELECT_TITLES, rows)}"


def rules(results: Results) -> str:
    """What single rules cost beside plain mining."""
    rows = [
        (row["data"], row["rule"], f"`{row['options']}`", f"{row['anchors']:,}", f"{row['rows']:,}",
         f"{row['seconds']:.1f} s", megabytes(row["peak_bytes"]))
        for row in results["rows"]
    ]  # fmt: skip
    told = "What single rules cost: whole commands of `mine`, beside plain mining of the same rows."
    return f"{filled(told)}\n\n{table(RULE_TITLES, rows)}"


def tile(results: Results) -> str:
    """The register tiles."""
    rows = results["rows"]
    dimensions = ", ".join(str(row["d"]) for row in rows)
    text = f"the float32 tile, gates included, runs at {span(rows, 'f32_over_matmul')} numpy's matmul"
    if all(row["i8_over_f32"] for row in rows):
        text += f", the int8 tile at {span(rows, 'i8_over_f32')} the float32 tile"
    return f"**Tile** (d = {dimensions}): {text}."


def sweep(results: Results) -> str:
    """The search alone, real and synthetic sets."""
    rows = sorted(results["rows"], key=lambda row: float(row["ratio_whole_search"]))
    worst = rows[0]
    return (
        f"**Search alone** (k = {worst['k']}, {', '.join(row['data'] for row in rows)}): "
        f"{span(rows, 'ratio_whole_search')} the search of faiss {as_set(results)}, codes and packing included; "
        f"slowest on {worst['data']}, {worst['rows']:,} x {worst['dimension']}."
    )


def scaling(results: Results) -> str:
    """Exponents in rows."""
    counts = [row["rows"] for row in results["rows"] if row["axis"] == "rows"]
    named = {"sweep": "the sweep", "whole": "the whole run", "faiss": f"the search of faiss {as_set(results)}"}
    exponents = results["exponents"]
    told = [f"{text} as n^{exponents[name]:.2f}" for name, text in named.items() if exponents[name]]
    return f"**Growth** with n rows ({min(counts):,} to {max(counts):,}): {', '.join(told)}."


def memory(results: Results) -> str:
    """Peaks at several budgets, job by job."""
    jobs: dict[str, list[dict[str, Any]]] = {}
    for row in results["rows"]:
        jobs.setdefault(f"{row['data']} ({row['rows']:,} x {row['dimension']}, {row['options']})", []).append(row)
    budgets = [row["memory"] for row in next(iter(jobs.values()))]
    peaks = {
        job: ", ".join(
            f"refused, needs {row['needs']}" if "needs" in row
            else f"{megabytes(row['peak_bytes'])}{'' if row['within'] else ' (over)'}"
            for row in own
        )
        for job, own in jobs.items()
    }  # fmt: skip
    same = "the same bytes at every budget" if results["same_bytes"] else "OTHER BYTES"
    return (
        f"**Memory**: peaks of the process with `--memory` {', '.join(budgets)}; {same}; (over): above that and "
        f"{megabytes(results['baseline_bytes'])}. {'; '.join(f'{job}: {told}' for job, told in peaks.items())}."
    )


def long(results: Results) -> str:
    """Memory over the whole time of large runs."""
    told = [
        f"{row['rows']:,} x {row['dimension']} with `--memory {row['memory']}`, {row['anchors']:,} anchors: "
        f"{row['seconds'] / 60:.0f} minutes beside other work, peak {megabytes(row['peak_bytes'])}, "
        f"{row['growth']:.2f} times as much at the end as early, {megabytes(row['scratch_bytes'])} of scratch"
        for row in results["rows"]
    ]
    return f"**Long runs**: {'; '.join(told)} (`bench/results/long.svg` shows memory over time)."


def start(results: Results) -> str:
    """Cold and warm starts."""
    rows = {row["job"]: row for row in results["rows"]}
    jobs = {"scan": "1,797 digits as they are scanned", "sweep": "through the sweep"}
    told = [
        f"{text} {rows[job]['warm_seconds']:.1f} s ({rows[job]['cold_seconds']:.1f} s the first time, kernels compiled)"
        for job, text in jobs.items()
    ]
    return f"**Start**: {', '.join(told)}; `--help` {results['help_seconds']:.2f} s."


def fit(results: Results) -> str:
    """A linear embedding by positive rule and band, beside random triplets."""
    rows = results["rows"]
    sets = {
        row["data"]: f"{row['data']} ({row['rows']:,} x {row['dimension']}, {row['labels']:,} labels, "
        f"raw {row['raw']:.4f})"
        for row in rows
    }
    told = (
        f"A linear embedding (`minestream fit`, {results['epochs']} epochs) by what it is trained on: "
        f"{'; '.join(sets.values())}. Recall@1 among the rows of labels that neither training nor the choice of the "
        f"epoch has seen ({results['aside']:.0%} of them); means of {rows[0]['seeds']} seeds, which draw those labels "
        f"too. Random triplets are never fewer than the mined ones."
    )
    ranked = sorted(rows, key=lambda row: (list(sets).index(row["data"]), -row["gain"]))
    places = {name: iter(range(len(ranked))) for name in sets}
    ranked = [row for row in ranked if next(places[row["data"]]) < FIT_SHOWN or fit_row(row)[-1] == "random triplets"]
    return f"{filled(told)}\n\n{table(FIT_TITLES, [fit_row(row) for row in ranked])}"


def fit_row(row: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    by_chance = (row["positives"], row["band"], row["pick"]) == ("random", "any", "random")
    return (
        row["data"], row["positives"], row["band"], row["pick"], f"{row['recall']:.4f}",
        f"{row['gain']:+.4f} ({row['least_gain']:+.4f} to {row['largest_gain']:+.4f})",
        "random triplets" if by_chance else f"{row['over_random']:+.4f}",
    )  # fmt: skip


SUSPECT_TITLES = ("data", "rows", "labels", "swapped", "precision at 50", "precision at the number swapped",
                  "listed", "suspicion from 0.5", "from 0.75", "from 0.9")  # fmt: skip


def suspects(results: Results) -> str:
    """How many of swapped labels stand at the top of the suspects."""
    told = (
        f"2 % of the labels swapped by chance: the share of them at the top of `suspects.parquet`; medians of "
        f"{fewest_runs(results)} draws, least to largest in brackets. At most the number swapped can be among 50. "
        "Beside it the share of them among the rows whose suspicion is at least so large; what nobody swapped may be "
        "wrong too."
    )

    def spread(values: list[float]) -> str:
        return f"({min(values):.2f} to {max(values):.2f})"

    rows = [
        (row["data"], f"{row['rows']:,}", f"{row['labels']:,}", f"{row['planted']:,}",
         f"{row['precision_at_50']:.2f} {spread(row['all_precision_at_50'])}",
         f"{row['precision_at_planted']:.2f} {spread(row['all_precision_at_planted'])}", f"{row['listed']:,.0f}",
         *(f"{row['precision_above'][cut]:.2f}" for cut in ("0.5", "0.75", "0.9")))
        for row in results["rows"]
    ]  # fmt: skip
    return f"{filled(told)}\n\n{table(SUSPECT_TITLES, rows)}"


WINDOW_TITLES = (
    "batch", "window x values", "every semi-hard triplet, a batch", "cross-batch memory", "minestream", "ratio",
    "minestream's default", "ratio",
)  # fmt: skip


def window(results: Results) -> str:
    """A stream within a window, beside a cross-batch memory; then the long stream."""
    rows = [
        (f"{row['batch']}", f"{row['window']:,} x {row['dimension']}", f"{row['every_triplets_a_batch']:,.0f}",
         f"{row['peer_ms_a_batch']:.0f} ms", f"{row['every_ms_a_batch']:.0f} ms", times(row["every_ratio"]),
         f"{row['default_ms_a_batch']:.1f} ms", times(row["default_ratio"]))
        for row in results["rows"]
    ]  # fmt: skip
    told = (
        f"Streams, `minestream.Miner` beside pytorch-metric-learning's CrossBatchMemory with TripletMarginMiner: the "
        f"same batches and windows, medians of {fewest_runs(results)} runs in turn. The peer gives indices of every "
        f"semi-hard triplet; ours are rows with distances and losses, every triplet, or one an anchor (the default)."
    )
    long = results["stream"]
    flat = (
        f"A stream of {long['rows']:,} rows x {long['dimension']} with ids, window {long['window']:,}, batches of "
        f"{long['batch']:,}: {long['rows_a_second']:,.0f} rows a second; a batch takes "
        f"{1e3 * long['latency_median_seconds']:.0f} ms (median), {1e3 * long['latency_p99_seconds']:.0f} ms (99th "
        f"percentile), {1e3 * long['latency_max_seconds']:.0f} ms (most). After the first tenth the process holds "
        f"{megabytes(long['least_settled_bytes'])} to {megabytes(long['most_settled_bytes'])}."
    )
    return f"{filled(told)}\n\n{table(WINDOW_TITLES, rows)}\n\n{filled(flat)}"


def engines(results: Results) -> str:
    """Engines beside one process."""
    rows = results["rows"]
    first = rows[0]
    same = "The bytes are the same." if all(row["same_bytes"] for row in rows) else "THE BYTES DIFFER."
    told = (
        f"Engines on {first['data']}, {first['rows']:,} x {first['dimension']}, beside one process; all have as many "
        f"threads, shared by the workers. Start-up is what an engine takes longer over 1,797 digits; the overhead is "
        f"what it takes longer beyond that. Products are those of all processes over those of one; slices are "
        f"processes without an engine, and their merge. One worker takes a few seconds to read the input again, "
        f"however long it mines. {same} Medians of {fewest_runs(results)} runs, interleaved, each a process of its own."
    )
    return f"{filled(told)}\n\n{table(ENGINE_TITLES, map(engine_row, rows))}"


def engine_row(row: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    started = "", ""
    if row["engine"] != "local":
        run = row["seconds"] - row["start_seconds"]
        more = run - run / (1 + row["overhead"])
        started = f"{row['start_seconds']:.1f} s", f"{more:+.1f} s, {row['overhead']:+.0%}"
    products = f"{row['products']:.2f}" if "products" in row else ""
    return row["job"], row["engine"], f"{row['workers']}", products, f"{row['seconds']:.1f} s", *started


def large(results: Results) -> str:
    """What runs that nobody measured would take."""
    rows = results["rows"]
    plans = [
        f"{row['rows']:,} rows ({row['vectors_bytes'] / 1e9:,.0f} GB), {row['way']}: {duration(row['seconds'])}"
        for row in sorted(rows, key=lambda row: int(row["rows"]))
    ]
    errors = " and ".join(f"{way} {error:+.0%}" for way, error in results["errors"].items())
    return (
        f"**By a model, not measured**, x {rows[0]['dimension']} on {rows[0]['cores']} such cores of one machine: "
        f"{'; '.join(plans)}. Every stage grows on as it grew up to {results['largest_measured_rows']:,} rows, all "
        f"of it divides among cores as `--dry-run` says of mining, and memory holds everything. That many rows the "
        f"smaller runs foretell with an error of {errors}."
    )


def duration(seconds: float) -> str:
    """Seconds as minutes or hours."""
    return f"{seconds / 3600:,.1f} hours" if seconds >= 7200 else f"{seconds / 60:,.1f} minutes"


def cores(results: Results) -> str:
    """What many cores would bring."""
    one, *many = results["runs"]
    rows = {threads: [row for row in results["rows"] if row["threads"] == threads] for threads in (2, ALONE_SHOWN)}
    left = {
        threads: f"{sum(row['alone'] for row in some):.1f} s (" + ", ".join(
            f"{row['stage']} {row['alone']:.1f} of {row['seconds']:.1f}"
            for row in sorted(some, key=lambda row: -row["alone"])
        ) + ")"
        for threads, some in rows.items()
    }  # fmt: skip
    told = ", ".join(
        f"{run['threads']} threads {run['seconds']:,.1f} s, "
        f"{run['times']:.1f} to {run['times_at_most']:.1f} times faster"
        for run in many
    )
    job = f"`{results['options']}`" if results["options"] else "the default job"
    return (
        f"**Cores**: {results['data']} ({results['file_rows']:,} x {results['dimension']}), {job}, as if each thread "
        f"had a core of its own: one thread {one['seconds']:,.1f} s; {told}. Measured with threads that take turns on "
        f"{results['environment']['cores']} cores; the larger number of times is that of a run in which all divides "
        f"but what one of two threads did alone. That was {left[2]}; of {ALONE_SHOWN} threads one alone {left[32]}."
    )


TABLES: dict[str, Callable[[Results], str]] = {
    "mine": mine, "approximate": approximate, "scale": scale, "worst": worst,
    "retrieval": retrieval, "batch": batch, "select": select, "rules": rules,
    "suspects": suspects, "fit": fit,
    "window": window, "engines": engines,
}  # fmt: skip
LINES: dict[str, Callable[[Results], str]] = {
    "sweep": sweep,
    "tile": tile,
    "scaling": scaling,
    "memory": memory,
    "long": long,
    "start": start,
    "cores": cores,
    "large": large,
}


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    titles = list(titles)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(text: str, indent: str = "") -> str:
    """Text in lines of the pages' width; those after the first are indented."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def times(ratio: float | None) -> str:
    """A ratio, or that there is none."""
    return f"{ratio:.1f}" if ratio else "none"


def span(rows: list[dict[str, Any]], name: str) -> str:
    """The least and the largest ratio of a column."""
    least, largest = (f"{pick(row[name] for row in rows):.2g}" for pick in (min, max))
    return f"{least} times" if least == largest else f"{least} to {largest} times"


def megabytes(size: float) -> str:
    """Bytes in MB, as the README counts them."""
    return f"{size / 1e6:,.0f} MB"


def fewest_runs(results: Results) -> int:
    """How many runs the medians are of, at least."""
    return min(int(row["runs"]) for row in results["rows"])


if __name__ == "__main__":
    print(speed(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS))
