"""The keywords of the library's functions, from the table of options: written by scripts/keywords.py."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, TypedDict

# fmt: off
# ruff: noqa: UP013

# Of mine.
MineOptions = TypedDict("MineOptions", {
    "embedding": str | Sequence[str] | None, "label": str | Sequence[str] | None, "id": str | None,
    "vector_type": str | None, "dims": int | None, "group_column": str | None, "carry": str | Sequence[str],
    "where": str | None, "anchor_where": str | None, "candidate_where": str | None, "unlabeled": str,
    "unlabeled_value": str | int | None, "on_bad_rows": str, "on_duplicate_ids": str, "version_column": str | None,
    "window": int | None, "min_grade": float, "shared_ids": bool, "candidates_as": str, "on_missing_ids": str,
    "preset": str | None, "metric": str, "margin": float | None, "band": str | None, "negatives": int | None,
    "pick": str, "skip": int, "within_top": int | None, "simans_a": float, "simans_b": float,
    "approximate": float | None, "fallback": str, "epsilon": float | None, "positive_margin": float | None,
    "positives": str | None, "positives_per_anchor": int, "min_positive_similarity": float | None,
    "max_positive_similarity": float | None, "max_positive_rank": int | None, "rank_positives": int | None,
    "teachers": str, "normalize": bool, "drop_duplicates_within": float | str | None, "drop_duplicates_of": str | None,
    "keep_duplicate_positives": bool, "group_rule": str | None, "negatives_at": str | None, "seed": int,
    "max_similarity": float | None, "min_similarity": float | None, "absolute_margin": float | None,
    "relative_margin": float | None, "reference": str, "guide": str | None, "anchors": str | float | None,
    "anchors_per_label": int | None, "negatives_per_anchor": int | None, "max_per_negative_label": int | None,
    "max_uses": int | None, "emit": str, "loss": str | None, "swap": bool, "short_rows": str | None,
    "scores": str | None, "draw_weights": bool, "order": str, "float64": bool, "list_precision": str, "list_ids": bool,
    "corpus": Any, "qrels": Any, "exclude": Any, "exclude_rows": Any, "candidates": Any, "embedding_table": Any,
    "vectors": Any, "labels": Any, "max_rows": int | None, "require_rows": int | None, "max_short": str | float | None,
    "require_recall": float | None, "both_directions": bool, "memory": str | int, "scratch": str | PathLike[str] | None,
    "threads": int | None, "shard": str | None, "engine": str, "address": str | None, "workers": int | None,
    "resume": bool, "overwrite": bool, "dry_run": bool, "progress": str, "screen": str, "block_rows": int | None,
    "batch_rows": int,
}, total=False)

# Of mine_pipe.
PipeOptions = TypedDict("PipeOptions", {
    "embedding": str | Sequence[str] | None, "label": str | Sequence[str] | None, "id": str | None,
    "vector_type": str | None, "dims": int | None, "group_column": str | None, "carry": str | Sequence[str],
    "where": str | None, "anchor_where": str | None, "candidate_where": str | None, "unlabeled": str,
    "unlabeled_value": str | int | None, "on_bad_rows": str, "on_duplicate_ids": str, "version_column": str | None,
    "window": int | None, "min_grade": float, "shared_ids": bool, "candidates_as": str, "on_missing_ids": str,
    "preset": str | None, "metric": str, "margin": float | None, "band": str | None, "negatives": int | None,
    "pick": str, "skip": int, "within_top": int | None, "simans_a": float, "simans_b": float,
    "approximate": float | None, "fallback": str, "epsilon": float | None, "positive_margin": float | None,
    "positives": str | None, "positives_per_anchor": int, "min_positive_similarity": float | None,
    "max_positive_similarity": float | None, "max_positive_rank": int | None, "rank_positives": int | None,
    "teachers": str, "normalize": bool, "drop_duplicates_within": float | str | None, "drop_duplicates_of": str | None,
    "keep_duplicate_positives": bool, "group_rule": str | None, "negatives_at": str | None, "seed": int,
    "max_similarity": float | None, "min_similarity": float | None, "absolute_margin": float | None,
    "relative_margin": float | None, "reference": str, "guide": str | None, "anchors": str | float | None,
    "anchors_per_label": int | None, "negatives_per_anchor": int | None, "max_per_negative_label": int | None,
    "emit": str, "loss": str | None, "swap": bool, "short_rows": str | None, "scores": str | None, "draw_weights": bool,
    "float64": bool, "list_precision": str, "list_ids": bool, "corpus": Any, "qrels": Any, "exclude": Any,
    "exclude_rows": Any, "candidates": Any, "embedding_table": Any, "vectors": Any, "labels": Any,
    "max_rows": int | None, "require_rows": int | None, "max_short": str | float | None, "require_recall": float | None,
    "memory": str | int, "scratch": str | PathLike[str] | None, "threads": int | None, "dry_run": bool, "progress": str,
    "screen": str, "block_rows": int | None, "batch_rows": int,
}, total=False)

# Of mine_batches.
BatchOptions = TypedDict("BatchOptions", {
    "embedding": str | Sequence[str] | None, "label": str | Sequence[str] | None, "id": str | None,
    "vector_type": str | None, "dims": int | None, "group_column": str | None, "carry": str | Sequence[str],
    "where": str | None, "anchor_where": str | None, "candidate_where": str | None, "unlabeled": str,
    "unlabeled_value": str | int | None, "on_bad_rows": str, "on_duplicate_ids": str, "version_column": str | None,
    "window": int | None, "min_grade": float, "shared_ids": bool, "candidates_as": str, "on_missing_ids": str,
    "preset": str | None, "metric": str, "margin": float | None, "band": str | None, "negatives": int | None,
    "pick": str, "skip": int, "within_top": int | None, "simans_a": float, "simans_b": float,
    "approximate": float | None, "fallback": str, "epsilon": float | None, "positive_margin": float | None,
    "positives": str | None, "positives_per_anchor": int, "min_positive_similarity": float | None,
    "max_positive_similarity": float | None, "max_positive_rank": int | None, "rank_positives": int | None,
    "teachers": str, "normalize": bool, "drop_duplicates_within": float | str | None, "drop_duplicates_of": str | None,
    "keep_duplicate_positives": bool, "group_rule": str | None, "negatives_at": str | None, "seed": int,
    "max_similarity": float | None, "min_similarity": float | None, "absolute_margin": float | None,
    "relative_margin": float | None, "reference": str, "guide": str | None, "anchors": str | float | None,
    "anchors_per_label": int | None, "negatives_per_anchor": int | None, "max_per_negative_label": int | None,
    "emit": str, "loss": str | None, "swap": bool, "short_rows": str | None, "scores": str | None, "draw_weights": bool,
    "float64": bool, "list_precision": str, "list_ids": bool, "corpus": Any, "qrels": Any, "exclude": Any,
    "exclude_rows": Any, "candidates": Any, "embedding_table": Any, "vectors": Any, "labels": Any,
    "max_rows": int | None, "memory": str | int, "scratch": str | PathLike[str] | None, "threads": int | None,
    "progress": str, "screen": str, "block_rows": int | None, "batch_rows": int,
}, total=False)

# Of mine_arrays.
ArrayOptions = TypedDict("ArrayOptions", {
    "dims": int | None, "unlabeled": str, "unlabeled_value": str | int | None, "on_bad_rows": str,
    "on_duplicate_ids": str, "min_grade": float, "shared_ids": bool, "candidates_as": str, "on_missing_ids": str,
    "preset": str | None, "metric": str, "margin": float | None, "band": str | None, "negatives": int | None,
    "pick": str, "skip": int, "within_top": int | None, "simans_a": float, "simans_b": float,
    "approximate": float | None, "fallback": str, "epsilon": float | None, "positive_margin": float | None,
    "positives": str | None, "positives_per_anchor": int, "min_positive_similarity": float | None,
    "max_positive_similarity": float | None, "max_positive_rank": int | None, "rank_positives": int | None,
    "normalize": bool, "drop_duplicates_within": float | str | None, "drop_duplicates_of": str | None,
    "keep_duplicate_positives": bool, "group_rule": str | None, "seed": int, "max_similarity": float | None,
    "min_similarity": float | None, "absolute_margin": float | None, "relative_margin": float | None, "reference": str,
    "anchors": str | float | None, "anchors_per_label": int | None, "negatives_per_anchor": int | None,
    "max_per_negative_label": int | None, "max_uses": int | None, "emit": str, "loss": str | None, "swap": bool,
    "short_rows": str | None, "scores": str | None, "draw_weights": bool, "order": str, "float64": bool,
    "list_precision": str, "list_ids": bool, "qrels": Any, "exclude": Any, "exclude_rows": Any, "candidates": Any,
    "max_rows": int | None, "memory": str | int, "scratch": str | PathLike[str] | None, "threads": int | None,
    "progress": str, "screen": str, "block_rows": int | None, "batch_rows": int,
}, total=False)

# Of the estimators for scikit-learn.
EstimatorOptions = TypedDict("EstimatorOptions", {
    "dims": int | None, "unlabeled": str, "unlabeled_value": str | int | None, "on_bad_rows": str, "candidates_as": str,
    "preset": str | None, "metric": str, "margin": float | None, "band": str | None, "negatives": int | None,
    "pick": str, "skip": int, "within_top": int | None, "simans_a": float, "simans_b": float,
    "approximate": float | None, "fallback": str, "positives": str | None, "positives_per_anchor": int,
    "min_positive_similarity": float | None, "max_positive_similarity": float | None, "max_positive_rank": int | None,
    "rank_positives": int | None, "normalize": bool, "drop_duplicates_within": float | str | None,
    "drop_duplicates_of": str | None, "keep_duplicate_positives": bool, "seed": int, "max_similarity": float | None,
    "min_similarity": float | None, "absolute_margin": float | None, "relative_margin": float | None, "reference": str,
    "anchors": str | float | None, "anchors_per_label": int | None, "negatives_per_anchor": int | None,
    "max_per_negative_label": int | None, "max_uses": int | None, "draw_weights": bool, "list_precision": str,
    "list_ids": bool, "candidates": Any, "memory": str | int, "threads": int | None,
}, total=False)

# Of Miner.
WindowOptions = TypedDict("WindowOptions", {
    "embedding": str | Sequence[str] | None, "label": str | Sequence[str] | None, "id": str | None,
    "vector_type": str | None, "dims": int | None, "group_column": str | None, "carry": str | Sequence[str],
    "unlabeled": str, "unlabeled_value": str | int | None, "on_bad_rows": str, "on_duplicate_ids": str,
    "version_column": str | None, "preset": str | None, "metric": str, "margin": float | None, "band": str | None,
    "negatives": int | None, "pick": str, "skip": int, "within_top": int | None, "simans_a": float, "simans_b": float,
    "fallback": str, "epsilon": float | None, "positive_margin": float | None, "positives": str | None,
    "positives_per_anchor": int, "min_positive_similarity": float | None, "max_positive_similarity": float | None,
    "max_positive_rank": int | None, "rank_positives": int | None, "normalize": bool,
    "drop_duplicates_within": float | str | None, "drop_duplicates_of": str | None, "keep_duplicate_positives": bool,
    "group_rule": str | None, "seed": int, "max_similarity": float | None, "min_similarity": float | None,
    "absolute_margin": float | None, "relative_margin": float | None, "reference": str,
    "negatives_per_anchor": int | None, "max_per_negative_label": int | None, "emit": str, "loss": str | None,
    "swap": bool, "short_rows": str | None, "scores": str | None, "draw_weights": bool, "float64": bool,
    "list_precision": str, "list_ids": bool, "memory": str | int, "scratch": str | PathLike[str] | None,
    "threads": int | None, "progress": str, "screen": str, "block_rows": int | None, "batch_rows": int,
}, total=False)

# Of profile.
ProfileOptions = TypedDict("ProfileOptions", {
    "embedding": str | Sequence[str] | None, "label": str | Sequence[str] | None, "id": str | None,
    "vector_type": str | None, "dims": int | None, "group_column": str | None, "carry": str | Sequence[str],
    "unlabeled_value": str | int | None, "on_bad_rows": str, "on_duplicate_ids": str, "on_missing_ids": str,
    "metric": str, "normalize": bool, "group_rule": str | None, "exclude": Any, "exclude_rows": Any, "vectors": Any,
    "labels": Any, "memory": str | int, "scratch": str | PathLike[str] | None, "threads": int | None, "progress": str,
    "screen": str, "block_rows": int | None, "batch_rows": int,
}, total=False)

# Of fit.
FitOptions = TypedDict("FitOptions", {
    "embedding": str | Sequence[str] | None, "label": str | Sequence[str] | None, "id": str | None,
    "vector_type": str | None, "dims": int | None, "unlabeled_value": str | int | None, "on_bad_rows": str,
    "metric": str, "margin": float | None, "band": str | None, "negatives": int | None, "pick": str,
    "positives": str | None, "positives_per_anchor": int, "normalize": bool, "vectors": Any, "labels": Any,
    "memory": str | int, "threads": int | None, "overwrite": bool, "progress": str,
}, total=False)

# Of compare.
CompareOptions = TypedDict("CompareOptions", {
    "embedding": str | Sequence[str] | None, "label": str | Sequence[str] | None, "id": str | None,
    "vector_type": str | None, "dims": int | None, "unlabeled_value": str | int | None, "on_bad_rows": str,
    "on_duplicate_ids": str, "metric": str, "normalize": bool, "memory": str | int,
    "scratch": str | PathLike[str] | None, "threads": int | None, "progress": str, "screen": str,
    "block_rows": int | None, "batch_rows": int,
}, total=False)

# Of select.
SelectOptions = TypedDict("SelectOptions", {
    "carry": str | Sequence[str], "preset": str | None, "margin": float | None, "band": str | None,
    "negatives": int | None, "pick": str, "skip": int, "within_top": int | None, "simans_a": float, "simans_b": float,
    "positives": str | None, "positives_per_anchor": int, "min_positive_similarity": float | None,
    "max_positive_similarity": float | None, "max_positive_rank": int | None, "rank_positives": int | None,
    "keep_duplicate_positives": bool, "seed": int, "max_similarity": float | None, "min_similarity": float | None,
    "absolute_margin": float | None, "relative_margin": float | None, "reference": str, "guide": str | None,
    "anchors": str | float | None, "anchors_per_label": int | None, "negatives_per_anchor": int | None,
    "max_per_negative_label": int | None, "max_uses": int | None, "emit": str, "loss": str | None, "swap": bool,
    "short_rows": str | None, "draw_weights": bool, "order": str, "float64": bool, "max_rows": int | None,
    "require_rows": int | None, "max_short": str | float | None, "memory": str | int,
    "scratch": str | PathLike[str] | None, "threads": int | None, "resume": bool, "overwrite": bool, "progress": str,
}, total=False)

# Of refilter.
RefilterOptions = TypedDict("RefilterOptions", {
    "carry": str | Sequence[str], "preset": str | None, "margin": float | None, "band": str | None, "pick": str,
    "skip": int, "within_top": int | None, "simans_a": float, "simans_b": float, "positives": str | None,
    "positives_per_anchor": int, "min_positive_similarity": float | None, "max_positive_similarity": float | None,
    "max_positive_rank": int | None, "rank_positives": int | None, "keep_duplicate_positives": bool, "seed": int,
    "max_similarity": float | None, "min_similarity": float | None, "absolute_margin": float | None,
    "relative_margin": float | None, "reference": str, "guide": str | None, "anchors": str | float | None,
    "anchors_per_label": int | None, "negatives_per_anchor": int | None, "max_per_negative_label": int | None,
    "max_uses": int | None, "emit": str, "loss": str | None, "swap": bool, "short_rows": str | None,
    "draw_weights": bool, "order": str, "float64": bool, "max_rows": int | None, "require_rows": int | None,
    "max_short": str | float | None, "memory": str | int, "scratch": str | PathLike[str] | None, "threads": int | None,
    "resume": bool, "overwrite": bool, "progress": str,
}, total=False)

# Of batch.
ComposeOptions = TypedDict("ComposeOptions", {
    "embedding": str | Sequence[str] | None, "label": str | Sequence[str] | None, "id": str | None,
    "vector_type": str | None, "dims": int | None, "group_column": str | None, "where": str | None, "unlabeled": str,
    "unlabeled_value": str | int | None, "on_bad_rows": str, "on_duplicate_ids": str, "min_grade": float,
    "shared_ids": bool, "on_missing_ids": str, "metric": str, "normalize": bool, "group_rule": str | None,
    "corpus": Any, "qrels": Any, "exclude": Any, "exclude_rows": Any, "vectors": Any, "labels": Any,
    "memory": str | int, "scratch": str | PathLike[str] | None, "threads": int | None, "overwrite": bool,
    "progress": str, "screen": str, "block_rows": int | None, "batch_rows": int,
}, total=False)

# Of merge.
MergeOptions = TypedDict("MergeOptions", {
    "corpus": Any, "qrels": Any, "exclude": Any, "exclude_rows": Any, "embedding_table": Any, "vectors": Any,
    "labels": Any, "require_rows": int | None, "max_short": str | float | None, "require_recall": float | None,
    "memory": str | int, "scratch": str | PathLike[str] | None, "threads": int | None, "resume": bool,
    "overwrite": bool, "progress": str,
}, total=False)
