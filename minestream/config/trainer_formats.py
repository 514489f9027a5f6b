"""The trainer formats as a table of names, text and data: what each holds and what it may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from minestream.config.metrics import METRICS
from minestream.config.rules import SHORT_ROWS
from minestream.errors import UsageError, nearest_name

ROLES = ("anchor", "positive", "negative")
SHORT_ROWS_OF_FORMATS = SHORT_ROWS | {"repeat": "repeat the pair's own negatives"}
MEANT = ("similarity", "negative-distance")  # scores that mean something
RESCORED = "rescored"  # the scores of the table that refilter read last, where the rows have them
SCORES_MEAN = {
    RESCORED: "rescored: those of the table that the rows were chosen by last",
    "similarity": "similarity: that of the mined embeddings, not of the table that the rows were chosen by last",
    "negative-distance": "negative-distance: minus the distance of the mined embeddings",
    "none": "none",
}  # what converted rows that refilter chose say of their scores


@dataclass(frozen=True, slots=True)
class Format:
    """One trainer's input: a value of --emit of `minestream export`.

    Attributes
    ----------
    help : str
    suffix : str
        Of the file, which decides how rows are written.
    texts : tuple of str
        The roles whose texts it holds.
    scores, short_rows : tuple of str
        What it can carry; the first is the default.
    joins : bool
        Whether the negatives of all positives of an anchor stand together.
    """

    help: str
    suffix: str
    texts: tuple[str, ...]
    scores: tuple[str, ...]
    short_rows: tuple[str, ...]
    joins: bool = False

    def takes(self, rescored: bool) -> tuple[str, ...]:
        """The scores that it can carry, the default first; rows that refilter chose have those of its table, too."""
        if not rescored or self.scores == ("none",):
            return self.scores
        return (*self.scores, RESCORED) if self.scores[0] == "none" else (RESCORED, *self.scores)


_RAGGED = ("keep", "drop")
_FIXED = ("drop", "repeat")
FORMATS: dict[str, Format] = {
    "st-triplets": Format(
        "sentence-transformers: anchor, positive, negative, scores [positive, negative]",
        ".parquet", ROLES, (*MEANT, "none"), _RAGGED,
    ),
    "st-tuples": Format(
        "sentence-transformers: anchor, positive, negative_1 to negative_k, scores (k + 1)",
        ".parquet", ROLES, (*MEANT, "none"), _FIXED,
    ),
    "st-labeled-pairs": Format(
        "sentence-transformers: anchor, document, label 1 or 0; with --scores a score instead",
        ".parquet", ROLES, ("none", *MEANT), _RAGGED, True,
    ),
    "st-labeled-lists": Format(
        "sentence-transformers: query, documents, labels; with --scores their scores instead",
        ".parquet", ROLES, ("none", *MEANT), _RAGGED, True,
    ),
    "flagembedding": Format(
        "FlagEmbedding, JSON lines: query, pos, neg, pos_scores, neg_scores",
        ".jsonl", ROLES, (*MEANT, "none"), _RAGGED, True,
    ),
    "tevatron": Format(
        "Tevatron: query_id, query_text, positive_document_ids, negative_document_ids",
        ".parquet", ("anchor",), ("none",), _RAGGED, True,
    ),
    "trec": Format(
        "lines of qid, docid, score of the negatives, the highest score first",
        ".trec", (), MEANT, _RAGGED, True,
    ),
    "pylate": Format(
        "PyLate distillation: query_id, document_ids and scores, the positive first",
        ".parquet", (), MEANT, _FIXED,
    ),
    "pml": Format(
        "pytorch-metric-learning: anchor_idx, positive_idx, negative_idx, row numbers",
        ".parquet", (), ("none",), _RAGGED,
    ),
}  # fmt: skip


def chosen(
    emit: str, metric: str, scores: str | None, short_rows: str | None, rescored: bool = False
) -> tuple[str, str]:
    """The scores and the rule for short rows of a format, its defaults filled in; `rescored` rows come from refilter.

    Raises
    ------
    UsageError
        For an unknown name, what the format cannot carry, or a similarity that the metric does not have.
    """
    if emit not in FORMATS:
        raise UsageError(f"no trainer format {emit!r}", nearest_name(emit, list(FORMATS)))
    form = FORMATS[emit]
    takes = form.takes(rescored)
    scores_of, rule = scores or takes[0], short_rows or form.short_rows[0]
    if scores_of == RESCORED and not rescored:
        raise UsageError(f"--scores {RESCORED}: no table has scored these rows", "minestream refilter does that")
    if scores_of not in takes:
        raise UsageError(f"--emit {emit} cannot carry --scores {scores_of}", f"it takes {', '.join(takes)}")
    if scores_of == "similarity" and not METRICS[metric].similarity:
        others = " or ".join(name for name in takes if name != "similarity")
        raise UsageError(f"--metric {metric} has no similarity", f"choose --scores {others}")
    if rule not in form.short_rows:
        width = "every row of it holds k negatives" if form.short_rows == _FIXED else "its rows may have any length"
        raise UsageError(f"--emit {emit} cannot --short-rows {rule}: {width}", f"it takes {', '.join(form.short_rows)}")
    return scores_of, rule
