"""Names that people try, former ones and those of other tools: each is answered with what it is called here."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from minestream.config.trainer_formats import FORMATS
from minestream.errors import UsageError, nearest, nearest_name

_NIGHTLY = "mine again, or only new rows: minestream mine NEW --corpus ALL --shared-ids (or --anchor-where)"
_MARGINS = "mine once for each margin, each to an output of its own"
_GUIDE = "a column of each table holds the guide's vectors: --guide COL"
_EXPORT = "minestream mine INPUT -o x.parquet, then minestream export x.parquet --emit"
# Former commands, functions and options, and OPTION=VALUE for a former value of an option that is still there.
GONE: dict[str, str] = {
    "update": _NIGHTLY, "Update": _NIGHTLY, "reserve": _NIGHTLY,
    "mine_margins": _MARGINS, "margin=several": _MARGINS,
    "guide_queries": _GUIDE, "guide_corpus": _GUIDE,
    "short_rows=pad-random": "minestream export --short-rows repeat, which repeats the pair's own negatives, or drop",
    "short_rows=repeat": f"{_EXPORT} NAME --short-rows repeat",
    "text": f"{_EXPORT} NAME --text COL", "query_text": f"{_EXPORT} NAME --query-text COL",
    **{f"emit={name}": f"{_EXPORT} {name}{' --text COL' * bool(form.texts)}" for name, form in FORMATS.items()},
    "plots": "the charts stand as SVG in DIR/report.html: minestream profile INPUT -o DIR",
}  # fmt: skip
# Values of other tools, in small letters with underscores, by option.
FOREIGN_VALUES: dict[tuple[str, str], str] = {
    ("metric", "l2"): "euclidean, or sqeuclidean where the squares are meant (faiss)",
    ("metric", "ip"): "dot", ("metric", "inner_product"): "dot", ("metric", "innerproduct"): "dot",
    ("metric", "dot_product"): "dot", ("metric", "angular"): "cosine", ("metric", "cosine_similarity"): "cosine",
    ("metric", "euclid"): "euclidean", ("metric", "squared_euclidean"): "sqeuclidean",
    ("metric", "squared_l2"): "sqeuclidean", ("metric", "l2sqr"): "sqeuclidean",
}  # fmt: skip
_NOT_WRITTEN = {
    "mine_arrays": "it returns the rows and writes nothing: pyarrow.parquet.write_table(found.table(), 'out.parquet')",
    "mine_batches": "it returns a reader and writes nothing; minestream.mine(table, 'out.parquet') writes",
    "Miner": "feed() returns the rows of a batch and writes nothing: pyarrow.parquet.ParquetWriter takes them",
}
# Options of other tools.
_NO_DEVICE = (
    "there is none: it runs on the processor, a dozen seconds for 100,000 rows of 384 values on 2 cores; --dry-run of "
    "mine says how many it will take here"
)
_ONE_PROFILED = (
    "it looks at one table with labels; queries and a corpus are mined, and minestream describe OUT shows the distances"
)
_ONE_FITTED = "it learns from one table: queries and passages in one file, with a label for each query and its answers"
FOREIGN_OPTIONS: dict[str, str] = {
    "num_negatives": "--negatives (-k)", "range_min": "--skip", "range_max": "leave it out: all are looked at",
    "n_negatives": "--negatives (-k)", "hn_mining": "--band", "type_of_triplets": "--band", "miner": "--band",
    "top_k": "--negatives (-k)", "k": "--negatives (-k)", "alpha": "--margin", "p_positives": "--positives",
    "sampling_strategy": "--pick", "batch_size": "--memory", "num_workers": "--threads", "n_jobs": "--threads",
    "output_format": "--emit", "output_scores": "--scores",
    "distance": "--metric", "include_positives": "--emit tuples", "output": "-o", "random_state": "--seed",
    "max_score": "--max-similarity", "min_score": "--min-similarity", "hard_negatives_to_mine": "--negatives (-k)",
    "positive_margin_type": "--relative-margin or --absolute-margin",
    "limit": "--anchors, to mine for fewer anchors; --max-rows refuses a run that would write more",
    "max_samples": "--anchors, to mine for fewer anchors; --max-rows refuses a run that would write more",
    "fit exclude_rows": "make the label of such rows null, or leave them out of the file: minestream help learn",
    **dict.fromkeys(
        ("select metric", "select normalize", "select embedding", "select label", "select id", "select where",
         "select group_column", "select group_rule", "select negatives_at", "select drop_duplicates_within",
         "select drop_duplicates_of"),
        "the lists decide it: mine --emit lists with it",
    ),
    "select fallback": "mine it: the farthest stand in no list",
    "select epsilon": "mine it: pairs are not made of lists",
    "describe html": "minestream.describe_html('OUT', 'page.html') writes the page",
    "profile limit": "--sample 1000 to look at fewer anchors", "verify limit": "--sample 20 to check fewer anchors",
    **{f"profile {name}": _ONE_PROFILED for name in ("corpus", "qrels")},
    **{f"fit {name}": _ONE_FITTED for name in ("corpus", "qrels")},
    "force": "--overwrite", "format": "--emit", "output_file": "-o", "output_dir": "-o",
    **{f"{call} {name}": told for call, told in _NOT_WRITTEN.items()
       for name in ("out", "output", "output_file", "output_dir")},
    "gpu": _NO_DEVICE, "cuda": _NO_DEVICE, "device": _NO_DEVICE, "use_gpu": _NO_DEVICE, "fp16": _NO_DEVICE,
}  # fmt: skip


def refuse_gone(option: str, value: object) -> None:
    """Raise UsageError for a value that an option no longer takes."""
    if (now := GONE.get(f"{option}={'several' if isinstance(value, list | tuple) else value}")) is not None:
        raise UsageError(f"--{option.replace('_', '-')} takes {value!r} no more", now)


def foreign_option(command: str, plain: str, flags: Container[str]) -> str:
    """What a foreign name, with underscores, is for a command with these flags; "" where it has nothing like it."""
    if (special := FOREIGN_OPTIONS.get(f"{command} {plain}")) is not None:
        return special
    ours = FOREIGN_OPTIONS.get(plain, "")
    named = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", ours) if ours.startswith("-") else ()
    return ours if all(flag in flags for flag in named) else ""


def meaning(ours: str) -> str:
    """The hint for a foreign option."""
    return f"here that is {ours}" if ours.startswith("-") else ours


def unknown_option(name: str, value: object = None, known: Iterable[str] = (), ours: str = "") -> UsageError:
    """The error for a name that is none of the `known` options; `ours` is what it is here, where that is known."""
    plain = name.lstrip("-").replace("-", "_")
    if plain in GONE:
        return UsageError(f"there is no option {name!r} any more", GONE[plain])
    if ours := ours or FOREIGN_OPTIONS.get(plain, ""):
        if isinstance(value, str | int | float) and value is not True and re.fullmatch(r"--[a-z-]+( \(-k\))?", ours):
            ours = f"{ours.removesuffix(' (-k)')} {value!r}"
        return UsageError(f"no option {name!r}", meaning(ours))
    near = nearest(plain, list(known))
    return UsageError(f"no option {name!r}", f"{near}minestream help options lists those of mine")


def nearest_value(option: str, value: str, known: list[str]) -> str:
    """The hint for an unknown value: its name here, or else the nearest known one; then all of them."""
    here = FOREIGN_VALUES.get((option, value.lower().replace("-", "_")))
    return f"here that is {here}; known: {', '.join(known)}" if here else nearest_name(value.lower(), known)
