"""Train a sentence-transformers model on mined triplets: a tiny model with random weights, in seconds on a CPU.

The texts come from Python's own documentation, labelled by module: nothing is downloaded. Files go to the working
directory.
"""

from __future__ import annotations

import importlib
import inspect
import re

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric, TripletLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import resolve_ids
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import set_seed

import minestream

MODULES = ("asyncio", "inspect", "math", "os", "socket", "statistics")


def documentation() -> dict[str, str]:
    """First paragraphs of docstrings, with the module each comes from."""
    found: dict[str, str] = {}
    for module in MODULES:
        for member in vars(importlib.import_module(module)).values():
            text = inspect.getdoc(member) if inspect.isroutine(member) else None
            if text and len(text) > 40:
                found.setdefault(" ".join(text.split("\n\n")[0].split()), module)
    return found


def small_model(texts: list[str]) -> SentenceTransformer:
    """Means of word vectors drawn at random."""
    words = sorted({word for text in texts for word in re.findall(r"\w+", text.lower())})
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(["[UNK]", *words])}, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=64)], device="cpu")


def recall_at_1(model: SentenceTransformer, labelled: list[tuple[str, str]]) -> float:
    """The share of texts whose nearest other text has their label."""
    embeddings = model.encode([text for text, _ in labelled])
    nearest = model.similarity(embeddings, embeddings).fill_diagonal_(-2).argmax(1).tolist()
    hits = [labelled[near][1] == label for near, (_, label) in zip(nearest, labelled, strict=True)]
    return sum(hits) / len(hits)


def main() -> None:
    """Embed, mine, train; print what it was worth."""
    set_seed(0)
    found = sorted(documentation().items())
    held_out, kept = found[::4], [item for place, item in enumerate(found) if place % 4]
    texts, labels = [text for text, _ in kept], [label for _, label in kept]
    model = small_model(texts)
    ids = [f"doc-{number}" for number in range(len(texts))]
    rows = {"id": ids, "text": texts, "label": labels, "embedding": list(model.encode(texts))}
    pq.write_table(pa.table(rows), "docs.parquet")

    report = minestream.mine("docs.parquet", positives="random", positives_per_anchor=8, overwrite=True)
    before = recall_at_1(model, held_out)

    documents = Dataset.from_parquet("docs.parquet").select_columns(["id", "text"])
    train = Dataset.from_parquet("docs.triplets.parquet")
    train.set_transform(resolve_ids({"anchor_id": documents, "positive_id": documents, "negative_id": documents}))
    print(train[0])

    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir="model", num_train_epochs=5, per_device_train_batch_size=64, learning_rate=0.01,
            logging_steps=0.2, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
        ),
        train_dataset=train,
        loss=TripletLoss(model, TripletDistanceMetric.COSINE, triplet_margin=0.2),
    )  # fmt: skip
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    after = recall_at_1(model, held_out)
    print(
        f"{report.stats.rows:,} triplets of {len(texts)} texts: loss {losses[0]:.3f} to {losses[-1]:.3f},"
        f" recall@1 on {len(held_out)} held-out texts {before:.3f} to {after:.3f}"
    )


if __name__ == "__main__":
    main()
