"""MineConfig: what is mined, with a fingerprint that tells runs apart.

Its fields, with those of Tables and Resources (resources.py), are the one table of options: the command line, its help,
the keywords of the library and the guide are made from them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from minestream.config.metrics import METRICS
from minestream.config.option import COUNT, FIRST, OFTEN, Range, option
from minestream.config.rules import (
    BANDS,
    CANDIDATES_AS,
    DUPLICATES_OF,
    EMITS,
    FALLBACKS,
    GROUP_RULES,
    LIST_PRECISIONS,
    LOSSES,
    MISSING_IDS,
    ORDERS,
    PICKS,
    POSITIVE_RULES,
    PRESETS,
    REFERENCES,
    SCORES,
    SHORT_ROWS,
    TEACHERS,
    UNLABELED,
    VECTOR_TYPES,
)

RANKS = Range(1, 1_000, hint="as many of the nearest negatives are looked for, of every anchor")
MOST_WINDOW_ROWS = 2**30  # slots are int32


@dataclass(frozen=True, slots=True, kw_only=True)
class MineConfig:
    """What is mined. Every field is the option of `minestream mine` of the same name, whose help says what it means."""

    embedding: str | tuple[str, ...] | None = option(
        None, "columns", "Input",
        "Column of the embeddings (repeatable: see --teachers). Default: found by name, else by type.",
        flags=("--embedding", "--embedding-column"), metavar="COL", use=FIRST
    )  # fmt: skip
    label: str | None = option(
        None, "text", "Input",
        "Column of the labels; of levels: dept,category,leaf. Default: found by name, else by type.",
        flags=("--label", "--label-column"), metavar="COL", use=FIRST
    )  # fmt: skip
    id: str | None = option(
        None, "text", "Input", "Column of the ids: int or string. Without one, rows go by number.",
        flags=("--id", "--id-column"), metavar="COL", use=OFTEN
    )  # fmt: skip
    vector_type: str | None = option(
        None, "choice", "Input", "What the numbers of the embeddings are, where they are bytes, whole numbers or text.",
        choices=VECTOR_TYPES
    )  # fmt: skip
    dims: int | None = option(
        None, "integer", "Input", "Of every embedding the first N values alone, as of Matryoshka models.", metavar="N",
        within=COUNT
    )  # fmt: skip
    group_column: str | None = option(
        None, "text", "Input", "Column of groups (document, session, camera): see --group-rule.", metavar="COL"
    )  # fmt: skip
    carry: tuple[str, ...] = option(
        (), "repeat", "Input",
        "Column to carry to the output, repeatable (triplets, tuples: as anchor_COL, positive_COL, negative_COL).",
        metavar="COL", use=FIRST
    )  # fmt: skip
    where: str | None = option(
        None, "text", "Input",
        "Rows that take part at all, as: year >= 2024 and lang in ('en', 'de') (with --corpus: of both tables).",
        metavar="EXPR", use=OFTEN
    )  # fmt: skip
    anchor_where: str | None = option(
        None, "text", "Input", "Rows that may be anchors, of those that take part.", metavar="EXPR"
    )  # fmt: skip
    candidate_where: str | None = option(
        None, "text", "Input", "Rows that may be positives and negatives (with --corpus: rows of it).", metavar="EXPR"
    )  # fmt: skip
    unlabeled: str = option("ignore", "choice", "Input", "What rows with a null label are.", choices=UNLABELED)
    unlabeled_value: str | None = option(
        None, "text", "Input", "A label value that means null, for sets that write -1.", metavar="V"
    )  # fmt: skip
    on_bad_rows: str = option(
        "error", "choice", "Input",
        "Rows without a vector (null, empty, null elements, another length), with NaN or inf, and zero rows where the "
        "metric needs a direction.", choices={"error": "refuse the input", "drop": "leave them out, counted"}
    )  # fmt: skip
    on_duplicate_ids: str = option(
        "error", "choice", "Input", "Rows that share an id.",
        choices={"error": "refuse the input", "last": "the last counts, or the newest", "first": "the first counts"}
    )  # fmt: skip
    version_column: str | None = option(
        None, "text", "Input", "With last: of rows that share an id the largest value here counts.", metavar="COL"
    )  # fmt: skip
    window: int | None = option(
        None, "integer", "Input",
        "INPUT is a stream: each row is mined for among the ROWS rows before it, in memory that does not grow.",
        metavar="ROWS", within=Range(1, MOST_WINDOW_ROWS, hint="without it the candidates are all rows")
    )  # fmt: skip

    min_grade: float = option(
        1.0, "number", "Retrieval", "Pairs of --qrels with a lower grade are no positives.", metavar="G"
    )  # fmt: skip
    shared_ids: bool = option(
        False, "flag", "Retrieval",
        "Queries and corpus share one id space: the same id is the same item (always so without --qrels)."
    )  # fmt: skip
    candidates_as: str = option("only", "choice", "Retrieval", "What --candidates are.", choices=CANDIDATES_AS)
    on_missing_ids: str = option(
        "error", "choice", "Retrieval", "Pairs and rows to exclude whose id is unknown.", choices=MISSING_IDS
    )  # fmt: skip

    preset: str | None = option(
        None, "choice", "What is mined", "Another miner's rule; an option given beside it wins.", choices=PRESETS,
        use=OFTEN
    )  # fmt: skip
    metric: str = option("cosine", "choice", "What is mined", "Distance.", choices=METRICS, use=FIRST)
    margin: float | None = option(
        None, "number", "What is mined",
        "Margin m, a distance. Default: cosine 0.2 (pairs 0.5; --corpus: if the band needs one); other metrics: none.",
        metavar="M",
        within=Range(0, inside=True, hint="cosine distances run from 0 to 2; 0.2 is the default for triplets"),
        use=FIRST
    )  # fmt: skip
    band: str = option(
        None, "choice", "What is mined",
        "Which negatives, by distance x, the positive's p and m. Default: semi-hard (pairs: violating; --qrels: any).",
        choices=BANDS, use=FIRST
    )  # fmt: skip
    negatives: int = option(
        None, "integer", "What is mined",
        "Negatives k for each (anchor, positive). Default: 1 (pairs: 16 a row, 0 = all; lists: 256).",
        flags=("-k", "--negatives"), metavar="K", use=FIRST
    )  # fmt: skip
    pick: str = option("nearest", "choice", "What is mined", "Which k of the eligible negatives.", choices=PICKS)
    skip: int = option(
        0, "integer", "What is mined", "Leave out the S nearest eligible negatives first.", metavar="S", within=Range(0)
    )  # fmt: skip
    within_top: int | None = option(
        None, "integer", "What is mined",
        "Pick among the N nearest eligible negatives only, less the S of --skip: ranks S + 1 to N.", metavar="N",
        within=COUNT
    )  # fmt: skip
    simans_a: float = option(
        1.0, "number", "What is mined",
        "With --pick simans: how narrowly, the weights are exp(-A (s - s_positive - B)^2). Cosines need a larger one.",
        metavar="A", within=Range(0, inside=True, hint="--pick random draws uniformly")
    )  # fmt: skip
    simans_b: float = option(
        0.0, "number", "What is mined",
        "With --pick simans: by how much more similar than the positive the likeliest negatives are.", metavar="B"
    )  # fmt: skip
    approximate: float | None = option(
        None, "number", "What is mined",
        "Find at least this share of the negatives, 0.95 say, among rows near each other; the share is measured.",
        metavar="RECALL", within=Range(0, 1, inside=True, hint="0.95; leave it out for the exact rows")
    )  # fmt: skip
    fallback: str = option(
        "none", "choice", "What is mined", "What a pair without any negative in its band takes.", choices=FALLBACKS
    )  # fmt: skip
    epsilon: float | None = option(
        None, "number", "What is mined",
        "Multi-similarity: similar pairs less than E above the nearest negative, dissimilar ones less than E below "
        "the farthest positive (--emit pairs -k 0).", metavar="E"
    )  # fmt: skip
    positive_margin: float | None = option(
        None, "number", "What is mined", "Similar pairs farther apart than P only (--emit pairs).", metavar="P"
    )  # fmt: skip
    positives: str = option(
        None, "choice", "What is mined", "Which positives of an anchor. Default: easiest (with --qrels: all).",
        choices=POSITIVE_RULES, use=OFTEN
    )  # fmt: skip
    positives_per_anchor: int = option(
        1, "integer", "What is mined", "Positives for each anchor.", metavar="N",
        within=Range(1, hint="--positives all takes every one"), use=OFTEN
    )  # fmt: skip
    min_positive_similarity: float | None = option(
        None, "number", "What is mined", "Positives whose similarity to the anchor is less than S are none.",
        metavar="S"
    )  # fmt: skip
    max_positive_similarity: float | None = option(
        None, "number", "What is mined", "Positives whose similarity to the anchor is more than S are none.",
        metavar="S"
    )  # fmt: skip
    max_positive_rank: int | None = option(
        None, "integer", "What is mined",
        "Positives are those alone that fewer than R of the anchor's negatives are nearer than; adds positive_rank.",
        metavar="R", within=RANKS
    )  # fmt: skip
    rank_positives: int | None = option(
        None, "integer", "Output",
        "Adds positive_rank: 1 and how many of the anchor's negatives are nearer, up to CAP; CAP + 1 means more.",
        metavar="CAP", within=RANKS
    )  # fmt: skip
    teachers: str = option(
        "union", "choice", "What is mined",
        "Of several embeddings, each of which finds k negatives for a pair: which of these are taken.", choices=TEACHERS
    )  # fmt: skip
    normalize: bool = option(False, "flag", "What is mined", "Divide every row by its norm first.")
    drop_duplicates_within: float | None = option(
        0.0, "threshold", "What is mined",
        "Drop negatives within T of the anchor's or the positive's vector. 0 (default): equal vectors only, for cosine "
        "those of one direction; none: off.", metavar="T|none", within=Range(0, hint="none drops no duplicates")
    )  # fmt: skip
    drop_duplicates_of: str = option(
        None, "choice", "What is mined", "Whose near duplicates are dropped. Default: both (with --corpus: positive).",
        choices=DUPLICATES_OF
    )  # fmt: skip
    keep_duplicate_positives: bool = option(
        False, "flag", "What is mined", "Do not pass over positives within T of the anchor."
    )  # fmt: skip
    group_rule: str = option(
        None, "choice", "What is mined",
        "The kinds of pair that rows of one group may not form. Default: both (with --qrels: negatives).",
        choices=GROUP_RULES
    )  # fmt: skip
    negatives_at: str | None = option(
        None, "text", "What is mined",
        "Of labels of several levels: negatives share the anchor's value of this coarser one, but not the finest.",
        metavar="LEVEL"
    )  # fmt: skip
    seed: int = option(0, "integer", "What is mined", "Seed of every draw.", metavar="INT")

    max_similarity: float | None = option(
        None, "number", "Filters", "Keep negatives whose similarity to the anchor is at most S.", metavar="S", use=OFTEN
    )  # fmt: skip
    min_similarity: float | None = option(
        None, "number", "Filters", "Keep negatives whose similarity is at least S.", metavar="S"
    )  # fmt: skip
    absolute_margin: float | None = option(
        None, "number", "Filters", "Keep negatives at least G less similar than the reference.", metavar="G", use=OFTEN
    )  # fmt: skip
    relative_margin: float | None = option(
        None, "number", "Filters",
        "Keep negatives less similar than the reference by the share R of it: 0.05 keeps up to 95 %.", metavar="R",
        within=Range(most=1, hint="a share of the reference: 0.05 is 5 %"), use=FIRST
    )  # fmt: skip
    reference: str = option("pair", "choice", "Filters", "What margins are measured from.", choices=REFERENCES)
    guide: str | None = option(
        None, "text", "Filters", "Column of a second embedding, whose similarities must pass the same filters too.",
        metavar="COL"
    )  # fmt: skip

    anchors: str | None = option(
        None, "share", "Balance", "Mine for N anchors, or P% of them, drawn by the seed.", metavar="N|P%", use=OFTEN
    )  # fmt: skip
    anchors_per_label: int | None = option(
        None, "integer", "Balance", "At most N anchors a label, drawn by the seed.", metavar="N", within=COUNT
    )  # fmt: skip
    negatives_per_anchor: int | None = option(
        None, "integer", "Balance", "At most K rows an anchor, dealt round by round over its positives (triplets).",
        metavar="K", within=COUNT
    )  # fmt: skip

    max_per_negative_label: int | None = option(
        None, "integer", "Balance",
        "At most M negatives of one label for each (anchor, positive); those without one are not counted.", metavar="M",
        within=COUNT
    )  # fmt: skip
    max_uses: int | None = option(
        None, "integer", "Balance", "Let no row be a negative more than U times in the whole run.", metavar="U",
        within=COUNT
    )  # fmt: skip

    emit: str = option("triplets", "choice", "Output", "Shape of the output.", choices=EMITS, use=FIRST)
    loss: str | None = option(
        None, "choice", "Output", "Loss column. Default: triplet (pairs: contrastive).", choices=LOSSES
    )  # fmt: skip
    swap: bool = option(False, "flag", "Output", "Loss with the smaller of d(a, n) and d(p, n); adds distance_pn.")
    short_rows: str | None = option(
        None, "choice", "Output", "Pairs with fewer than k negatives. Default: keep (tuples: drop).", choices=SHORT_ROWS
    )  # fmt: skip
    scores: str | None = option(
        None, "choice", "Output", "Column scores of tuples. Default for cosine and dot: similarity.", choices=SCORES
    )  # fmt: skip
    draw_weights: bool = option(
        False, "flag", "Output", "Adds draw_weight (tuples: draw_weights), by which --pick simans drew each negative."
    )  # fmt: skip
    order: str = option("anchor", "choice", "Output", "Order of the rows.", choices=ORDERS, use=OFTEN)
    float64: bool = option(False, "flag", "Output", "Store distances, losses and scores as double.")
    list_precision: str = option(
        "float64", "choice", "Output", "How --emit lists stores distances.", choices=LIST_PRECISIONS
    )  # fmt: skip
    list_ids: bool = option(False, "flag", "Output", "Store ids in lists beside row numbers (--emit lists).")

    two_tables: bool = option(False, "derived", "", "Whether there is a --corpus.")
    listed_positives: bool = option(False, "derived", "", "Whether there are --qrels.")
    exclusions: bool = option(False, "derived", "", "Whether there are --exclude or --exclude-rows.")
    turned: bool = option(False, "derived", "", "Whether lists of pairs are read turned round: by --both-directions.")
    listed_candidates: bool = option(False, "derived", "", "Whether there are --candidates.")
    tabled: tuple[str, ...] = option((), "derived", "", "The embeddings that lie in tables of their own.")

    @property
    def split_roles(self) -> bool:
        """Whether anchors and candidates are different rows of one table."""
        return not self.two_tables and (self.anchor_where is not None or self.candidate_where is not None)

    @property
    def similarity_filters(self) -> bool:
        """Whether negatives are filtered by similarity."""
        bounds = self.max_similarity, self.min_similarity, self.absolute_margin, self.relative_margin
        return any(bound is not None for bound in bounds)

    @property
    def rank_cap(self) -> int | None:
        """Up to which rank the column positive_rank is exact; None: there is none."""
        return self.rank_positives or self.max_positive_rank

    @property
    def deserving(self) -> bool:
        """Whether some positives are none."""
        bounds = self.min_positive_similarity, self.max_positive_similarity, self.max_positive_rank
        return any(bound is not None for bound in bounds)

    @property
    def guided(self) -> bool:
        """Whether similarities of a second embedding are filtered, too."""
        return self.guide is not None

    @property
    def first_embedding(self) -> str | None:
        """The column of the first embedding; None: it is to be found."""
        return self.embedding if isinstance(self.embedding, str | None) else self.embedding[0]

    @property
    def other_embeddings(self) -> tuple[str, ...]:
        """The embeddings behind the first: with it they are the teachers."""
        named = () if isinstance(self.embedding, str | None) else self.embedding
        return tuple(dict.fromkeys((*named[1:], *self.tabled)))

    @property
    def taught(self) -> bool:
        """Whether several teachers find the negatives."""
        return bool(self.other_embeddings) or self.candidates_teach

    @property
    def candidates_teach(self) -> bool:
        """Whether the candidates from elsewhere are one more teacher."""
        return self.listed_candidates and self.candidates_as == "too"

    @property
    def anchor_role(self) -> str:
        """What column names call the anchor."""
        return "query" if self.two_tables else "anchor"

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, as JSON holds it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when any field does."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
