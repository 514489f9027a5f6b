"""The options that single commands have beside those of `mine`: a class a command, in the order of its help."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from minestream.config.option import COUNT, FIRST, OFTEN, Range, check_value, option
from minestream.config.trainer_formats import FORMATS, SCORES_MEAN, SHORT_ROWS_OF_FORMATS

OPTIMIZERS = {
    "adam": "each weight by its own running mean and spread (Kingma 2015; 0.9, 0.999)",
    "sgd": "the gradient times the learning rate",
}
MISSING_SCORES = {
    "error": "refuse the table",
    "drop": "leave such rows out, counted",
    "keep": "keep them behind the scored ones, with a null score, past every filter that it would be judged by",
}


def _out(default: object, help: str, metavar: str = "OUT", group: str = "") -> Any:
    return option(default, "text", group, help, flags=("-o", "--out"), metavar=metavar, use=FIRST)


def _overwrite(help: str = "Replace OUT when it exists.") -> Any:
    return option(False, "flag", "", help)


def _mined_table(help: str) -> Any:
    return option(None, "text", "", help, metavar="PATH")


@dataclass(frozen=True, kw_only=True)
class Mining:
    """Options of `mine` that the library takes by position."""

    out: str | None = _out(
        None, "A .parquet file, a folder of parts, or - for an Arrow stream. Default: INPUT's stem.triplets.parquet, "
        "here.", group="Output"
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Printing:
    """On the command line alone: --quiet and --json of all commands, --verbose of those that report a run."""

    config: str | None = option(
        None, "text", "Input", "Options, INPUT and -o from a TOML file; what is given beside it wins.", metavar="FILE",
        use=OFTEN
    )  # fmt: skip
    save_config: str | None = option(
        None, "text", "Output", "Write the options given to a TOML file for --config.", metavar="FILE"
    )  # fmt: skip
    verbose: bool = option(
        False, "flag", "Output", "Report the options, the search and the seconds of each stage, too.",
        flags=("-v", "--verbose")
    )  # fmt: skip
    quiet: bool = option(
        False, "flag", "Output", "Print nothing but errors, and show no progress.", flags=("-q", "--quiet")
    )  # fmt: skip
    as_json: bool = option(
        False, "flag", "Output", "Print JSON and nothing else on standard output: minestream help json.",
        flags=("--json",)
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Repeating:
    """Options of `repeat`."""

    out: str | None = _out(None, "Where the rows go. Default: where they went.", "NEW")
    overwrite: bool = _overwrite()


@dataclass(frozen=True, kw_only=True)
class Merging:
    """Options of `merge`."""

    out: str | None = _out(None, "The file or folder to write, where slices are named one by one.")
    source: tuple[str, ...] = option(
        (), "repeat", "", "The mined input, for what needs all rows at once: pairs, shuffled order, a limit of uses.",
        metavar="PATH"
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Exporting:
    """Options of `export`."""

    out: str | None = _out(None, "The file to write. Default: MINED's stem and the format's name.")
    emit: str = option(MISSING, "choice", "", "The format.", choices=FORMATS)
    text: str | None = option(
        None, "text", "", "Column of the texts. Default: the only text column carried.", metavar="COL"
    )  # fmt: skip
    query_text: str | None = option(
        None, "text", "", "Column of the texts of the queries. Default: --text.", metavar="COL"
    )  # fmt: skip
    source: str | None = _mined_table("The mined input, if it is neither where it was nor beside MINED nor here.")
    corpus: str | None = _mined_table("The mined corpus, likewise.")
    scores: str | None = option(
        None, "choice", "", "The scores; rescored, after refilter, are its table's. Default: the format's.",
        choices=SCORES_MEAN
    )  # fmt: skip
    short_rows: str | None = option(
        None, "choice", "", "Pairs with fewer than k negatives. Default: the format's.", choices=SHORT_ROWS_OF_FORMATS
    )  # fmt: skip
    overwrite: bool = _overwrite()


@dataclass(frozen=True, kw_only=True)
class Refiltering:
    """Options of `refilter`."""

    scores: str = option(MISSING, "text", "", "Table of query_id, document_id, score (as --qrels).", metavar="TABLE")
    negatives: int = option(
        MISSING, "integer", "", "Negatives of a pair that stay.", flags=("-k", "--negatives"), metavar="K"
    )  # fmt: skip
    out: str = _out(MISSING, "The .parquet file to write.")
    missing_scores: str = option("error", "choice", "", "Mined rows that lack a score.", choices=MISSING_SCORES)
    overwrite: bool = _overwrite()


UNDECIDED = {
    "drop": "leave them out, counted",
    "error": "refuse",
    "keep": "take what the list has: such pairs are short, or their draws are among fewer",
}


BUCKETS_BY = {
    "rank": "the place among the negatives of a pair",
    "similarity": "the similarity of the negative, or its score",
    "loss": "the loss",
}
VERDICTS = {"positive": "a false negative: it becomes a positive", "drop": "taken out", "keep": "a negative, as it was"}


@dataclass(frozen=True, kw_only=True)
class Selecting:
    """Options of `select` beside those of mine."""

    out: str = _out(MISSING, "A .parquet file, or a folder of parts.")
    undecided: str = option(
        "drop", "choice", "", "Pairs for which the list ends before the rule is satisfied.", choices=UNDECIDED
    )  # fmt: skip
    scores: tuple[str, ...] = option(
        (), "repeat", "", "Scores to choose by: TABLE of query_id, document_id, score, or NAME=TABLE, repeatable. Or, "
        "of tuples, what column scores holds, as for mine.", metavar="TABLE"
    )  # fmt: skip
    by: str | None = option(
        None, "text", "", "The score as a formula of those names and sim, the similarity: 0.7*ce + 0.3*sim. Or, with "
        f"--buckets, what rows are hard by: {', '.join(BUCKETS_BY)}.", metavar="FORMULA"
    )  # fmt: skip
    buckets: int | None = option(
        None, "integer", "", "Add a column bucket: rows from easy (0) to hard, in N parts of one size (triplets).",
        metavar="N", within=Range(2, 1_000)
    )  # fmt: skip
    missing_scores: str = option(
        "error", "choice", "", "Candidates and positives that lack a score (keep: of mined rows only).",
        choices=MISSING_SCORES
    )  # fmt: skip
    verdicts: str | None = option(
        None, "text", "", f"A judge's table query_id, document_id, verdict ({', '.join(VERDICTS)}).", metavar="TABLE"
    )  # fmt: skip
    qrels_out: str | None = option(
        None, "text", "", "With --verdicts: a .parquet file for all positives, old and new.", metavar="FILE"
    )  # fmt: skip
    source: str | None = _mined_table("The mined input, if it is neither where it was nor beside LISTS nor here.")
    corpus: str | None = _mined_table("The mined corpus, likewise.")
    qrels: str | None = _mined_table("The known positives, likewise.")
    exclude: str | None = _mined_table("The excluded pairs, likewise.")
    exclude_rows: str | None = _mined_table("The excluded rows, likewise.")


@dataclass(frozen=True, kw_only=True)
class Profiling:
    """Options of `profile`."""

    out: str | None = _out(None, "Folder for profile.json, report.html and the tables. Default: none.", "DIR")
    margins: tuple[float, ...] | None = option(
        None, "text", "", "Margins to compare. Default: by the metric.", flags=("--margin",), metavar="M,M,..."
    )  # fmt: skip
    sample: int | None = option(
        None, "integer", "", "Anchors, drawn by the seed, that meet all rows. Default: all up to 20,000 rows, then "
        "5,000.", metavar="N", within=COUNT
    )  # fmt: skip
    full: bool = option(False, "flag", "", "All anchors, whatever it costs.")
    near: float | None = option(
        None, "number", "", "Distance of near duplicates. Default: a tenth of the median nearest positive's.",
        metavar="T"
    )  # fmt: skip
    suspects_above: float | None = option(
        None, "number", "",
        "List suspects of at least this suspicion, 0 to 1 (no promise: minestream help hygiene). Default: all that are "
        "doubtful.",
        metavar="S", within=Range(0, 1, hint="a number from 0 to 1, such as 0.9")
    )  # fmt: skip
    image: str | None = option(
        None, "text", "", "Column of PNG or JPEG bytes: report.html shows those of suspects and hubs.", metavar="COL"
    )  # fmt: skip
    overwrite: bool = _overwrite("Replace a profile that stands in DIR.")


@dataclass(frozen=True, kw_only=True)
class Describing:
    """Options of `describe` on the command line; the library has describe_html()."""

    html: str | None = option(
        None, "text", "", "Write the same as one page that opens without a network.", metavar="FILE"
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Verifying:
    """Options of `verify`."""

    sample: int = option(
        100, "integer", "", "Anchors to derive again.", metavar="N", within=Range(0, hint="0 compares checksums alone")
    )
    source: str | None = _mined_table("The mined input, if it is neither where it was nor beside OUT nor here.")
    corpus: str | None = _mined_table("The mined corpus, likewise.")
    qrels: str | None = _mined_table("The known positives, likewise.")
    exclude: str | None = _mined_table("The excluded pairs, likewise.")
    exclude_rows: str | None = _mined_table("The excluded rows, likewise.")
    candidates: str | None = _mined_table("The candidates, likewise.")


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """Options of `compare`."""

    within: float | None = option(
        None, "number", "", "Distance of near duplicates. Default: 0.02 (cosine).", metavar="T"
    )  # fmt: skip
    out: str | None = _out(None, "A .parquet file for the validation rows that are near duplicates.")
    overwrite: bool = _overwrite()


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How `fit` trains; see there."""

    dimension: int | None = option(
        None, "integer", "", "Coordinates of the result. Default: as many as INPUT's.", metavar="E", within=COUNT
    )  # fmt: skip
    center: bool = option(False, "flag", "", "Take the mean of the training rows off first.")
    epochs: int = option(20, "integer", "", "Most epochs.", metavar="N", within=COUNT)
    patience: int = option(5, "integer", "", "Stop after N epochs without a better one.", metavar="N", within=COUNT)
    optimizer: str = option("adam", "choice", "", "The optimizer.", choices=OPTIMIZERS)
    learning_rate: float = option(1e-3, "number", "", "The learning rate.", metavar="R", within=Range(0, inside=True))
    step_rows: int = option(512, "integer", "", "Triplets of a step.", metavar="N", within=COUNT)
    validation: float = option(
        0.2, "number", "", "Share of the labels held out.", metavar="SHARE",
        within=Range(0, 1, inside=True, hint="0.2 holds out a fifth")
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Fitting(Learning):
    """Options of `fit`."""

    out: str = _out(MISSING, "The .npz file to write.")


@dataclass(frozen=True, kw_only=True)
class Applying:
    """Options of `apply`."""

    out: str = _out(MISSING, "The .parquet file to write.")
    threads: int = option(1, "integer", "", "Threads.", metavar="N", within=COUNT)
    overwrite: bool = _overwrite()


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Options of `sample`."""

    overwrite: bool = _overwrite("Replace PATH when it exists.")


@dataclass(frozen=True, kw_only=True)
class Doctoring:
    """Options of `doctor`: none."""


def own_options(command: type[Any]) -> dict[str, Field[Any]]:
    """The options of a class above, by name."""
    return {spec.name: spec for spec in fields(command)}


def check_own(command: type[Any], **values: object) -> None:
    """Refuse values outside the choices or the range of their options."""
    for name, value in values.items():
        check_value(own_options(command)[name], value)
