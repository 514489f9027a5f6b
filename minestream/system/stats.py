"""Counters of the rows mined and of the work done for them, and the report of a run."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from html import escape
from typing import Any

from minestream.system.contract import contract, left_out, output_entry, stages
from minestream.system.recall import recall_facts
from minestream.system.values import many, verb

WAITED = "read: waiting for input"  # a stage within another
NOT_RECORDED = ("effort", "inputs", "files", "subcommand", "back")  # in a manifest: it lists files and what was read


@dataclass(slots=True)
class ShardStats:
    """Sums over one shard, or over all; apart from the seconds they do not depend on how the search went."""

    anchors: int = 0
    pairs: int = 0  # (anchor, positive) pairs mined for; --emit pairs: rows
    rows: int = 0
    similar_pairs: int = 0  # of --emit pairs: rows of two similar rows
    full: int = 0
    short: int = 0
    empty: int = 0
    losses: int = 0  # loss values: one a row, in tuples one a negative
    active_rows: int = 0  # loss values inside the margin
    loss_sum: float = 0.0
    active_loss_sum: float = 0.0

    under_min_positive: int = 0  # anchors that lost positives to --min-positive-similarity
    over_max_positive: int = 0  # to --max-positive-similarity
    beyond_max_rank: int = 0  # to --max-positive-rank
    lost_every_positive: int = 0
    fallbacks: int = 0  # pairs without a negative in their band that took the farthest
    undecided: int = 0  # pairs of lists that end before the rule is satisfied
    duplicate_positives: int = 0  # pairs whose positive is a duplicate of the anchor, for want of another
    at_anchor: int = 0  # negatives at distance 0 from their anchor; this and the next not under --max-uses
    same_text: int = 0  # negatives whose carried text is that of their anchor or positive
    nearer_passed_over: int = 0  # negatives nearer than the first emitted one, summed over pairs where known
    nearer_pairs: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # by rules that look at candidates one by one
    recalls: dict[str, int] = field(default_factory=dict)  # of --approximate, see recall.py: how many anchors have each
    seconds: dict[str, float] = field(default_factory=dict)

    def answer(self) -> dict[str, int]:
        """The counters that files carry."""
        return {name: getattr(self, name) for name in ("anchors", "pairs", "rows", "full", "short", "empty")}

    def notes(self) -> list[str]:
        """Warnings about rows that may harm a training, one line each."""
        warnings = (
            ("lie", self.at_anchor, "at distance 0 from their anchor: where those are the same item, "
             "--drop-duplicates-within 0 --drop-duplicates-of both leaves them out"),
            ("carry", self.same_text, "the same text as their anchor or positive: export leaves them out"),
        )  # fmt: skip
        return [f"{many(count, 'negative')} {verb(count, does)} {what}" for does, count, what in warnings if count]

    def drop(self, rule: str, count: int) -> None:
        """Count `count` candidates dropped by `rule`."""
        if count:
            self.dropped[rule] = self.dropped.get(rule, 0) + int(count)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the wall-clock seconds of the block to stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def add(self, other: ShardStats) -> None:
        """Add the sums of another shard to this one."""
        for name, value in asdict(other).items():
            mine = getattr(self, name)
            if isinstance(value, dict):
                for key, number in value.items():
                    mine[key] = mine.get(key, 0) + number
            else:
                setattr(self, name, mine + value)

    def taken(self) -> ShardStats:
        """A copy of the counters, which start from zero again."""
        taken = copy.deepcopy(self)
        fresh = ShardStats()
        for each in fields(self):
            setattr(self, each.name, getattr(fresh, each.name))
        return taken

    def to_dict(self) -> dict[str, Any]:
        """Every counter by name, as JSON holds it."""
        return asdict(self)

    def with_means(self) -> dict[str, Any]:
        """Every counter by name, and the means."""
        return asdict(self) | {
            "mean_loss": mean(self.loss_sum, self.losses),
            "mean_active_loss": mean(self.active_loss_sum, self.active_rows),
            "active_fraction": mean(self.active_rows, self.losses),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ShardStats:
        """The counters that to_dict wrote; the means of a report are left out."""
        return cls(**{spec.name: values[spec.name] for spec in fields(cls) if values.get(spec.name) is not None})


def merged(parts: Iterable[ShardStats]) -> ShardStats:
    """The sum of `parts`; the loss sums by fsum."""
    total, seen = ShardStats(), []
    for part in parts:
        total.add(part)
        seen.append(part)
    total.loss_sum = math.fsum(part.loss_sum for part in seen)
    total.active_loss_sum = math.fsum(part.active_loss_sum for part in seen)
    return total


@dataclass(slots=True)
class Effort:
    """The work of the searches in a process, which depends on threads, memory and timing; stored in no file."""

    pairs_computed: int = 0
    tiles: int = 0  # from here on of the search for negatives
    tiles_hit: int = 0
    survivors: int = 0
    exact_distances: int = 0
    screens_changed: int = 0  # searches that went on with a sharper screen
    eligible: int = 0  # from here on among survivors
    in_group: int = 0
    duplicates: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What a run did.

    Attributes
    ----------
    output : str or None
        The file or folder written; None for mine_arrays, streams and dry runs.
    config : dict
        The resolved configuration.
    columns : dict
        The input columns used.
    source : dict
        rows, dimension, dtype, files; rows dropped by cause; rows that take part.
    plan : dict
        Pairs, parts, most rows, bytes; for a dry run also the means and the projected seconds.
    stats : ShardStats
        The funnel and the seconds by stage.
    notes : tuple of str
        What the user should know, one line each; in Python also what was left out.
    seconds : float
        Wall-clock seconds of the whole run.
    complete : bool
        False for a dry run.
    already : bool
        True when --resume found the output complete.
    command : str or None
        The command line that does the same; None for tables in memory.
    folder : str or None
        The folder that its relative paths start from.
    effort : dict
        The means and the amount of work; they differ from run to run, so to_dict leaves them out.
    inputs, files : tuple of dict
        The tables read and the files of the output, as to_dict lists them.
    subcommand : {"mine", "merge", "select"}
    back : Report or None
        Of the second output, with --both-directions.
    """

    output: str | None
    config: dict[str, Any]
    columns: dict[str, Any]
    source: dict[str, Any]
    plan: dict[str, Any]
    stats: ShardStats
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    complete: bool = True
    already: bool = False
    command: str | None = None
    folder: str | None = None
    effort: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[dict[str, Any], ...] = ()
    files: tuple[dict[str, Any], ...] = ()
    subcommand: str = "mine"
    back: Report | None = None

    def __repr__(self) -> str:
        done = "already complete" if self.already else f"{self.seconds:.1f} s" if self.complete else "a dry run"
        dropped = sum(self.source.get("dropped", {}).values())
        left_out = f" ({many(dropped, 'row')} of the input left out)" if dropped else ""
        made = f"{many(self.stats.rows, 'row')} of {many(self.stats.pairs, 'pair')}"
        return f"Report({self.output}: {made}{left_out}, {done})"

    def _repr_html_(self) -> str:
        """What was written, from what, how hard it is, and the notes, for a notebook."""
        stats, given = self.stats, self.source.get("rows", 0)
        loss = mean(stats.loss_sum, stats.losses)
        rows = {
            self.config.get("emit", "rows"): f"{stats.rows:,}",
            "anchors": f"{stats.anchors:,} of {self.source.get('queries', given):,} rows",
            "mean loss": "" if loss is None else f"{loss:.4g}",
            "time": f"{self.seconds:.1f} s",
        }
        cells = "".join(f"<tr><td>{escape(name)}</td><td>{text}</td></tr>" for name, text in rows.items() if text)
        return f"<p>{escape(repr(self))}</p><table>{cells}</table>" + "".join(f"<p>{escape(n)}</p>" for n in self.notes)

    @classmethod
    def of(cls, output: object, recorded: dict[str, Any], stats: ShardStats, **more: Any) -> Report:
        """A report with config, columns, source and plan taken from the record of the run."""
        about = {name: recorded[name] for name in ("config", "columns", "source", "plan")}
        return cls(output=None if output is None else str(output), stats=stats, **about, **more)

    def pairs_left_out(self) -> dict[str, int]:
        """How many pairs of anchor and positive have no row in the output, by cause."""
        counts = {"no negative": self.stats.empty, "fewer than k negatives": self.stats.short}
        leaves_out = short_left_out(self.config) if self.config else (False, False)
        return {why: count for (why, count), out in zip(counts.items(), leaves_out, strict=True) if out and count}

    def record(self) -> dict[str, Any]:
        """The report with the means, as manifests hold it; equal for equal runs, apart from the seconds."""
        values = asdict(self) | {"stats": self.stats.with_means()}
        return {name: each for name, each in values.items() if name not in NOT_RECORDED}

    def to_dict(self) -> dict[str, Any]:
        """The report as --json prints it; see contract.py."""
        counted, source = self.stats.with_means(), self.source
        dropped, seconds, recalls = (counted.pop(name) for name in ("dropped", "seconds", "recalls"))
        of_source = {"rows": "rows_read", "rows_taking_part": "", "without_positive": "rows_without_positive"}
        counted |= {new or name: source[name] for name, new in of_source.items() if name in source}
        counted["anchors_without_negative"] = sum(source.get("without_negative", {}).values())
        listed = source.get("listed", {})
        counted |= {f"{name}_pairs": listed.get(f"--{name}", {}).get("pairs", 0) for name in ("qrels", "exclude")}
        causes = left_out("rows", source.get("dropped", {})) + left_out("candidates", dropped)
        causes += left_out("anchors", {"no positive": alone} if (alone := source.get("without_positive")) else {})
        lost = self.stats.lost_every_positive
        causes += left_out("anchors", {"no positive passes": lost} if lost else {})
        causes += left_out("pairs", self.pairs_left_out())
        for option, found in listed.items():
            causes += left_out(f"pairs of {option}", found["left_out"])
        state = "already_complete" if self.already else "complete" if self.complete else "plan"
        outputs = [] if self.output is None else [output_entry(self.output, self.files, self.stats.rows)]
        back = None if self.back is None else self.back.to_dict()
        outputs += [] if back is None else back["outputs"]
        return contract(
            self.subcommand, state=state, command=self.command, folder=self.folder, inputs=list(self.inputs),
            outputs=outputs, seconds={"total": self.seconds, "stages": stages(seconds)}, counters=counted,
            left_out=causes, notes=list(self.notes), configuration=self.config,
            result={"columns": self.columns, "plan": self.plan, "approximate": recall_facts(recalls) or None}
            | {"back": back and {name: back[name] for name in ("counters", "left_out", "notes")}},
        )  # fmt: skip


def short_left_out(config: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether pairs without any negative, and pairs with fewer than k, have no row in the output."""
    drops = config["short_rows"] == "drop" and config["emit"] not in ("pairs", "lists")
    return drops or config["emit"] == "triplets", drops


def most_negatives(config: Mapping[str, Any]) -> int:
    """How many negatives a pair has at most: k, or the rows of its anchor where these are fewer."""
    k: int = config["negatives"]
    return min(k, config.get("negatives_per_anchor") or k)


def mean(total: float, count: int) -> float | None:
    """total / count, or None when count is 0."""
    return total / count if count else None
