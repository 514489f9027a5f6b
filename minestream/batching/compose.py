"""`batch`: training batches composed of mined pairs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Unpack

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream._version import VERSION
from minestream.batching.batches import Ends, Epoch, composed
from minestream.batching.methods import METHODS, Draws, Plan, near_pairs
from minestream.batching.origins import Origin, origin_of
from minestream.batching.pairs import MinedPairs, slots_of
from minestream.batching.written import nearest_in_batch, tables
from minestream.config.batching import SEARCHING, Batching, asked_batching
from minestream.config.border import public
from minestream.config.effects import idle
from minestream.config.keywords import ComposeOptions
from minestream.config.metrics import METRICS
from minestream.errors import CapacityError, InputError, UsageError
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.vectors import pair_distances
from minestream.kernels.batching import PairSlots
from minestream.mining.driver import Driver
from minestream.outputs.buckets import BUCKET
from minestream.outputs.parquet import write_rows
from minestream.outputs.single_file import ending_in, publishing
from minestream.search.searcher import Searcher
from minestream.system.progress import Callback

GROUP_SIZE = 8  # pairs of a community, unless it is a whole batch


@public(ComposeOptions, refuses=True)
def batch(
    inputs: Any, out: str | os.PathLike[str], *, pairs_from: str = "mined", preset: str | None = None,
    batch_size: int = 64, method: str | None = None, group_size: int | None = None, neighbors: int | None = None,
    skip: int | None = None, stratify: str | None = None, equal: bool = False, epochs: int = 1,
    hardness_schedule: str | None = None, false_negatives: str = "known", false_negative_margin: float = 0.1,
    same: str | Sequence[str] | None = None, mask: bool = False, keep_last: bool = False, seed: int = 0,
    source: Any = None, progress_callback: Callback | None = None, **options: Unpack[ComposeOptions],
) -> dict[str, Any]:  # fmt: skip
    """Compose training batches of pairs: pairs that are near each other meet, false negatives do not.

    Parameters
    ----------
    inputs : path, Arrow object, or list of them
        A mined file or folder of triplets or tuples: its pairs are composed; its negatives go along. With `pairs_from`
        labels or qrels a table, as for mine().
    out : path
        The .parquet file to write: a row an (epoch, batch, place).
    pairs_from, preset, batch_size, method, group_size, neighbors, skip, stratify, equal, epochs, hardness_schedule
        As the options of `minestream batch`, whose help says what each means.
    false_negatives, false_negative_margin, same, mask, keep_last
        Likewise. A positive of another pair is a false negative of an anchor when labels, groups, qrels or exclusions
        make it no negative, when it equals the anchor or its positive (in its vector, or in a column of `same`), and
        ("similar") when it is nearer to the anchor than its own positive by more than the margin, a distance of the
        mined metric.
    seed : int
        Of what is drawn: another seed, or epoch, composes other batches.
    source : path, list of paths or Arrow object, optional
        The mined input, if it is neither where it was nor beside `inputs` nor in the working directory; of mined pairs
        `corpus`, `qrels`, `exclude` and `exclude_rows` likewise.
    progress_callback : callable, optional
    **options
        As for mine(). Of mined pairs only the tables above, and those that change no row.

    Returns
    -------
    dict
        output, batches (of each epoch), what was left out and why, hardness: the mean distance of an anchor to the
        nearest negative in its batch, beside that of random batches, and the configuration.

    Raises
    ------
    UsageError, InputError, CapacityError, OutputError

    Notes
    -----
    Every pair is in one batch of every epoch, unless it is counted as left out. The bytes depend on neither threads
    nor memory. Cost: for graph and nearest one exact search of the anchors among the positives; then batch_size
    relations a pair and epoch, with "similar" as many distances; for labels the distances within each label, too.
    """
    asked = asked_batching(
        preset=preset, batch_size=batch_size, method=method, group_size=group_size, neighbors=neighbors, skip=skip,
        stratify=stratify, equal=equal, epochs=epochs, hardness_schedule=hardness_schedule, mask=mask,
        false_negatives=false_negatives, false_negative_margin=false_negative_margin, keep_last=keep_last,
        pairs_from=pairs_from, same=same,
    )  # fmt: skip
    place, how = ending_in(".parquet", out, "batch"), {**options}
    overwrite = bool(how.pop("overwrite", False))
    origin = origin_of(inputs, asked, seed, source, how)
    chosen, unused = asked.config() | {"seed": seed}, _without_effect(asked, origin, {**how, "source": source})
    with (
        publishing(place, overwrite, origin.given) as draft,
        Driver(origin.config, origin.resources, progress_callback) as driver,
    ):
        sources = driver.open(origin.inputs, origin.tables)
        loaded, searcher = driver.dataset(sources)
        pairs = origin.take(driver, sources, searcher)
        with draft.spent.stage("search"):
            plan, counted = _plan(asked, pairs, searcher, driver), list[Epoch]()

        def epochs_of() -> Iterator[Epoch]:
            driver.progress.stage("batches", asked.epochs, "epochs")
            for number, share in enumerate(asked.shares()):
                ends = Ends(asked.keep_last, asked.equal)
                with draft.spent.stage("compose"):
                    counted.append(composed(plan, METHODS[asked.method or ""], asked.batch_size, ends, number, share))
                _refuse_none(counted[-1], asked, pairs)
                driver.progress.advance(1)
                yield counted[-1]

        negatives = slots_of(loaded, loaded.table("negative"), pairs.negative, pairs.name)
        rows = tables(plan, pairs, negatives, epochs_of(), asked.mask)
        first = next(rows)
        about = {
            "version": VERSION, "batches": json.dumps(chosen, sort_keys=True), "mined": pairs.about["fingerprint"],
            "pair_rows": pairs.rows,
        }  # fmt: skip
        metadata = {f"minestream.{name}": str(value) for name, value in about.items()}
        record = write_rows(draft.path, first.schema, chain([first], rows), metadata)
        report = _report(plan, asked, counted, loaded, driver.config.metric)
        report["notes"] = [*pairs.notes, *report["notes"], *unused]
        draft.manifest = _manifest(pairs.about, chosen, draft.target.final.name, record, report)
    return draft.told(record) | {"mined": pairs.name, **report, "options": chosen, "rows": record["rows"]}


def _without_effect(asked: Batching, origin: Origin, options: Mapping[str, Any]) -> list[str]:
    """A line for each option that was given and changes nothing."""
    margin = asked.false_negative_margin
    given = {
        **options, "same": asked.same, "group_size": asked.group_size, "hardness_schedule": asked.hardness_schedule,
        "false_negative_margin": None if margin == Batching.false_negative_margin else margin,
    }  # fmt: skip
    return asked.late() + idle(
        "batch", given, random=asked.method == "random", similar=asked.false_negatives == "similar",
        unmarked=asked.false_negatives == "off" and not asked.mask, **origin.facts,
    )  # fmt: skip


def _refuse_none(epoch: Epoch, asked: Batching, pairs: MinedPairs) -> None:
    """Raise InputError where not one batch was composed."""
    if epoch.start.size > 1:
        return
    if not epoch.fullest:
        raise InputError(
            f"{pairs.name} holds no pair", "mine with other options: minestream describe says what is there"
        )
    kept = "" if asked.false_negatives == "off" else " without false negatives"
    one = f" of {'every' if asked.equal else 'one'} {asked.stratify}" if asked.stratify else ""
    of_one = " of one of them" * asked.equal
    hint = f"--batch-size {epoch.fullest}" if epoch.fullest > 1 else "--keep-last keeps batches that are not full"
    off = ", or --false-negatives off with --mask, and leave masked places out of the loss" if kept else ""
    raise InputError(
        f"no batch of {asked.batch_size} pairs{one}{kept} can be composed of {pairs.name}: "
        f"the fullest{of_one} holds {epoch.fullest}",
        hint + off,
    )


def _plan(asked: Batching, pairs: MinedPairs, searcher: Searcher, driver: Driver) -> Plan:
    """What the batches are composed of."""
    loaded, method = searcher.loaded, METHODS[asked.method or ""]
    anchor = slots_of(loaded, loaded.table(pairs.role), pairs.anchor, pairs.name)
    positive = slots_of(loaded, loaded.table("positive"), pairs.positive, pairs.name)
    slots = PairSlots(
        anchor, positive, loaded.rows, asked.false_negatives != "off", METRICS[driver.config.metric].code,
        np.empty(0), np.empty((0, loaded.store.dimension), np.float32), _same(asked.same, pairs),
    )  # fmt: skip
    if asked.false_negatives == "similar":
        slots = _with_distances(slots, loaded, asked.false_negative_margin, driver.config.metric)
    stratum = _strata(asked.stratify, pairs)
    near = None
    if asked.method in SEARCHING:
        near = near_pairs(searcher, slots, stratum, asked.neighbors or 0, asked.skip or 0, driver.progress)
    size = asked.group_size or (
        min(asked.batch_size, pairs.count + 1) if method.whole else min(asked.batch_size, GROUP_SIZE)
    )
    bucket = pairs.column(BUCKET, largest=True) if asked.hardness_schedule is not None else None
    harder = None if bucket is None else np.asarray(bucket, np.int64)
    return Plan(searcher, slots, Draws(slots, driver.config.seed), stratum, near, size, harder)


def _with_distances(slots: PairSlots, loaded: Dataset, margin: float, metric: str) -> PairSlots:
    """The same pairs, among which nearer positives of others are false negatives, too."""
    vectors = loaded.store.whole()
    if vectors is None:
        raise CapacityError(
            "--false-negatives similar compares vectors one by one, and they do not fit the memory",
            "give more --memory, or --false-negatives known",
        )
    own = pair_distances(loaded.store, loaded.rows.square, metric, slots.anchor, slots.positive)
    return slots._replace(least=own - margin, vectors=vectors)


def _strata(name: str | None, pairs: MinedPairs) -> NDArray[np.int64]:
    """The stratum of each pair, int64[pairs]: by a column of theirs; without one all are of one."""
    if name is None:
        return np.zeros(pairs.count, np.int64)
    values = _values("--stratify", (name, f"{pairs.role}_{name}"), pairs)
    return np.asarray(values.dictionary_encode(null_encoding="encode").indices.to_numpy(), np.int64)


def _same(names: tuple[str, ...], pairs: MinedPairs) -> NDArray[np.int32]:
    """Codes of the values of columns, int32[columns, 2, pairs]: of each anchor and its positive; -1 for nulls."""
    out = np.empty((len(names), 2, pairs.count), np.int32)
    for codes, name in zip(out, names, strict=True):
        both = pa.chunked_array([_values("--same", (f"{end}_{name}",), pairs) for end in (pairs.role, "positive")])
        encoded = both.combine_chunks().dictionary_encode()
        codes[:] = np.asarray(encoded.indices.fill_null(-1)).reshape(2, -1)
    return out


def _values(option: str, columns: tuple[str, ...], pairs: MinedPairs) -> pa.Array:
    """The values of each pair in the first of some columns that there is."""
    for column in columns:
        values = pairs.column(column)
        if values is not None:
            if pa.types.is_nested(values.type) or column.startswith("negative_"):
                what = f"{option}: {column} may have several values a pair"
                raise UsageError(what, "name a column of anchors or positives")
            return values
    hint = f"mine with --carry {columns[0].removeprefix(f'{pairs.role}_')}"
    raise UsageError(f"{option}: {pairs.name} has no column {columns[0]}", hint)


def _report(
    plan: Plan, asked: Batching, epochs: list[Epoch], loaded: Dataset, metric: str
) -> dict[str, Any]:  # fmt: skip
    """What was composed, and how near the negatives are beside those of random batches."""
    random = composed(plan, METHODS["random"], asked.batch_size, Ends(asked.keep_last, False), 0, 1.0)
    nearest, of_random = (nearest_in_batch(plan, metric, epoch) for epoch in (epochs[0], random))
    similar = METRICS[metric].similarity and nearest is not None and of_random is not None
    hardness = {
        "nearest_distance": nearest, "of_random": of_random,
        "similarity_ratio": (1 - (nearest or 0)) / (1 - (of_random or 0)) if similar and of_random != 1 else None,
    }  # fmt: skip
    left_out = sum((epoch.left_out for epoch in epochs), Counter[str]())
    strata = int(plan.stratum.max(initial=-1)) + 1
    notes = (
        []
        if loaded.labeled or loaded.rows.known_start.size
        else [f"there are neither labels nor qrels: only equal {', '.join(('rows', *asked.same))} make false negatives"]
    )
    return {
        "pairs": plan.stratum.size, "batches": [epoch.start.size - 1 for epoch in epochs], "strata": strata,
        "left_out": dict(left_out), "hardness": hardness, "notes": notes,
    }  # fmt: skip


def _manifest(
    about: Mapping[str, Any], chosen: dict[str, Any], name: str, record: dict[str, Any], report: dict[str, Any]
) -> dict[str, Any]:
    """The manifest beside the batches: what was composed, of what."""
    return {key: about[key] for key in ("version", "fingerprint", "columns", "source")} | {
        "state": "complete", "config": about["config"] | {"batches": chosen}, "parts": 1,
        "counts": {"rows": record["rows"]}, "files": [{"name": name, **record}], "report": report,
    }  # fmt: skip
