"""Writing mined rows in a trainer's format, with their texts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from minestream.config.border import public
from minestream.config.commands import Exporting, check_own
from minestream.config.effects import idle
from minestream.config.option import flag_of
from minestream.config.resources import Resources, memory_budget
from minestream.config.trainer_formats import FORMATS, ROLES, SCORES_MEAN, chosen
from minestream.errors import InputError, UsageError
from minestream.inputs.dataset.carried import CarriedColumns
from minestream.inputs.decode import as_array
from minestream.inputs.files import vectors_among
from minestream.inputs.given import Given
from minestream.outputs.mined import RESCORING, MinedOutput, mined_output, open_parquet, reading
from minestream.outputs.origin import PATHS, entries, find, open_recorded, same_files
from minestream.outputs.parquet import write_lines, write_rows
from minestream.outputs.single_file import Draft, ending_in, publishing
from minestream.outputs.trainers.columns import Scoring, anchor_role
from minestream.outputs.trainers.convert import Counts, as_lines, convert
from minestream.outputs.trainers.texts import Texts, text_column
from minestream.system import ragged
from minestream.system.paths import readable, text_of
from minestream.system.stats import most_negatives
from minestream.system.stores import shown
from minestream.system.values import many, verb

BATCH_ROWS = 16_384


@public()
def export(
    mined: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, *, emit: str, text: str | None = None,
    query_text: str | None = None, source: Any = None, corpus: Any = None, scores: str | None = None,
    short_rows: str | None = None, overwrite: bool = False, memory: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Write mined triplets or tuples in a trainer's format.

    Parameters
    ----------
    mined : path
        A mined file or folder of triplets or tuples, in the order of its anchors.
    out : path, optional
        The file to write; its name ends as the format's files do. Default: the stem of `mined` and the format's name,
        in the working directory.
    emit : str
        The name of the format.
    text, query_text : str, optional
        Columns of the texts; query_text where those of the queries have another name. Default: the one text column
        that was carried. Carried columns are used as they are; others are read from the source.
    source, corpus : path, list of paths or Arrow object, optional
        The mined inputs, when they are not where they were, beside the mined file or in the working directory.
    scores, short_rows : str, optional
        Default: the format's; after refilter the scores of its table ("similarity" asks for the mined ones).
    overwrite : bool
    memory : str
        Bound on the texts that are held; others go to a scratch file beside `out`.

    Returns
    -------
    dict
        output, emit, scores, short_rows, and what was counted.

    Raises
    ------
    UsageError, InputError, OutputError
        For what the format cannot carry; a missing or changed source or column, a null text; an output that exists.
    """
    found, given = mined_output(mined), {"text": text, "query_text": query_text, "source": source, "corpus": corpus}
    check_own(Exporting, short_rows=short_rows)
    config = found.about["config"]
    scores, short_rows = chosen(emit, config["metric"], scores, short_rows, RESCORING in found.about)
    refuse(found)
    form, counts, k = FORMATS[emit], Counts(), most_negatives(config)
    named = f"{Path(shown(mined)).stem}{f'.{emit}'.removesuffix(form.suffix)}{form.suffix}"
    place = ending_in(form.suffix, named if out is None else out, f"--emit {emit}")
    read = [Given("MINED", text_of(found.path)), Given("--source", source), Given("--corpus", corpus)]
    with publishing(place, overwrite, read) as draft:
        texts = texts_of(found, form.texts, given, memory, draft) if form.texts else {}
        scoring = Scoring.of(scores, config["metric"], config["float64"])
        tables = convert(
            emit, triplets(found, counts), k=k, scoring=scoring, short_rows=short_rows, texts=texts, counts=counts
        )
        said = {"emit": emit, "scores": scores, "short_rows": short_rows}
        with draft.spent.stage("rows"):
            record = _written(draft, found, tables, said)
    notes = _margins_by_pair(found, emit, counts.joined) + idle(
        "export", given, texts=form.texts, carried=any(isinstance(each, str) for each in texts.values()),
        two_tables=config["two_tables"], query_text=query_text,
    )  # fmt: skip
    counted = {"negatives": k} | asdict(counts) | {"bytes": record["bytes"], "notes": notes}
    return draft.told(record) | {"mined": str(found.path), **said, **counted}


def _written(draft: Draft, found: MinedOutput, tables: Iterator[pa.Table], said: dict[str, str]) -> dict[str, Any]:
    """Write converted rows as Parquet, or as lines with a manifest; returns their {rows, bytes, crc32}."""
    config = found.about["config"] | said
    if FORMATS[said["emit"]].suffix != ".parquet":
        record = write_lines(draft.path, as_lines(said["emit"], tables))
        # A file of text says nothing about itself: by this manifest --overwrite knows it as ours.
        draft.manifest = {name: found.about[name] for name in ("version", "fingerprint", "columns", "source")} | {
            "state": "complete", "config": config, "parts": 1, "counts": {"rows": record["rows"]},
            "files": [{"name": draft.target.final.name, **record}], "report": {},
        }  # fmt: skip
        return record
    changed: dict[str, Any] = {"config": config}
    if RESCORING in found.about:
        changed["scores"] = SCORES_MEAN[said["scores"]]
    first = next(tables)  # there is at least one
    return write_rows(draft.path, first.schema, chain([first], tables), metadata_like(found, **changed))


def _margins_by_pair(found: MinedOutput, emit: str, joined: int) -> list[str]:
    """A note on the margins that were kept by pair, where the negatives of the pairs of `joined` anchors are joined."""
    rules = [found.about["config"], found.about.get(RESCORING, {}).get("rule", {})]
    margins = ", ".join(
        f"{flag_of(name)} {rule[name]:g}"
        for rule in rules
        for name in ("relative_margin", "absolute_margin")
        if rule.get(name) is not None and rule.get("reference") == "pair"
    )
    note = (
        f"{many(joined, 'anchor')} {verb(joined, 'have')} several positives, and {emit} joins their negatives: "
        f"{margins} was kept between each negative and its own positive alone (mine or refilter with --reference min: "
        "with all of them)"
    )
    return [note] if joined and margins else []


def refuse(found: MinedOutput) -> None:
    """Raise UsageError unless the mined rows are triplets or tuples in the order of their anchors."""
    emit = found.about["config"]["emit"]
    if emit not in NATIVE:
        lists = f"minestream select {found.path} makes triplets or tuples of them, to go on with"
        raise UsageError(
            f"{found.path} holds {emit}", lists if emit == "lists" else "mine with --emit triplets or tuples"
        )
    if found.about["config"]["order"] != "anchor":
        raise UsageError(
            f"{found.path} is shuffled: the negatives of a pair do not stand together",
            "mine with --order anchor; trainers shuffle by themselves",
        )


def _exploded(table: pa.Table, config: dict[str, Any]) -> pa.Table:
    """Tuples as triplets, one row for each negative; distances are computed back from the scores, in float64."""
    negatives = as_array(table["negative_rows"])
    lengths = negatives.value_lengths().to_numpy()
    pair = pa.array(np.repeat(np.arange(len(table)), lengths))
    columns = {}
    for name in (name for name in table.column_names if name != "scores"):
        column = as_array(table[name])
        taught = name == "found_by" or name.startswith(("similarity_", "distance_"))  # of each negative, too
        many = name in ("losses", "draw_weights") or name.startswith("negative_")
        columns[name.removesuffix("es" if name == "losses" else "s") if many else name] = (
            column.flatten() if many or taught else column.take(pair)
        )
    if "scores" in table.column_names:
        flat = as_array(table["scores"]).flatten().to_numpy().astype(np.float64)
        similar = (config["scores"], config["metric"]) == ("similarity", "cosine")
        positive = ragged.starts(lengths + 1)[:-1]
        distance = 1.0 - flat if similar else 0.0 - flat
        columns["distance_ap"] = pa.array(distance[positive]).take(pair)
        columns["distance_an"] = pa.array(np.delete(distance, positive))
    return pa.table(columns)


NATIVE: dict[str, Callable[[pa.Table, dict[str, Any]], pa.Table]] = {
    "triplets": lambda table, config: table,
    "tuples": _exploded,
}


def triplets(found: MinedOutput, counts: Counts | None = None) -> Iterator[pa.Table]:
    """The rows of a mined output as triplets: an empty table first, for its schema; `counts` gets tuples with none."""
    config = found.about["config"]
    native = NATIVE[config["emit"]]
    with reading(found.files[0], InputError):
        yield native(pq.read_schema(readable(found.files[0])).empty_table(), config)
    for path in found.files:
        with reading(path, InputError), open_parquet(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
                if counts is not None and "negative_rows" in batch.schema.names:
                    lengths = batch.column("negative_rows").value_lengths()
                    counts.leave_out_empty(int((lengths.to_numpy() == 0).sum()))
                yield native(pa.Table.from_batches([batch]), config)


def text_names(found: MinedOutput, text: str | None, query_text: str | None) -> tuple[str, str]:
    """The columns of the texts of documents and of queries: those given, or the only text that was carried."""
    if text is None:
        schema = next(triplets(found)).schema
        carried = [n for n in found.about["config"]["carry"] if schema.field(f"positive_{n}").type == pa.string()]
        if len(carried) != 1:
            several = f"several were carried: {', '.join(carried)}" if carried else "none was carried"
            raise UsageError(f"the format holds texts; {several}", "name their column: --text COL")
        text = carried[0]
    return text, query_text or text


def texts_of(found: MinedOutput, roles: tuple[str, ...], given: dict[str, Any], memory: str, draft: Draft) -> Texts:
    """Where the texts of `roles` are: in the mined rows that carry them, else in the source."""
    document, query = text_names(found, given["text"], given["query_text"])
    columns = next(triplets(found)).column_names
    anchor = anchor_role(columns)
    carried = {role: f"{anchor}_{query}" if role == "anchor" else f"{role}_{document}" for role in roles}
    if set(carried.values()) <= set(columns):
        return carried

    def read(table: str, name: str, option: str) -> CarriedColumns:
        """A text column of INPUT ("") or of the corpus, which must be the table that was mined."""
        paths = find(found, table, {"": given["source"], "corpus": given["corpus"]})
        draft.refuse_inputs([Given("the source", paths)])
        arrays = vectors_among(paths)
        own = [path for path in paths if path not in arrays]
        with draft.spent.stage("texts"):
            texts = text_column(own, name, memory_budget(Resources(memory=memory)) // 4, draft.path.parent, option)
        opened = open_recorded(found, table, paths, carry=())
        for _ in opened.batches():  # its checksums are known once all rows have been read
            pass
        same_files(entries(found, table), opened.identity(), PATHS[table])
        return texts

    if anchor == "query":
        queries = {"anchor": read("", query, "--query-text")}
        return queries | (dict.fromkeys(ROLES[1:], read("corpus", document, "--text")) if roles == ROLES else {})
    if query != document:
        raise UsageError("--query-text is for two tables; here queries and documents are one", "leave it out")
    return dict.fromkeys(roles, read("", document, "--text"))


def metadata_like(found: MinedOutput, **changed: Any) -> dict[str, str]:
    """The metadata of a mined output with some of it `changed`; without its counts and the CRC-32 of its rows."""
    about = {name: value for name, value in found.about.items() if name not in ("counts", "rows_crc32")} | changed
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for name, value in about.items()
    }
    return {f"minestream.{name}": value for name, value in texts.items()}
