"""Each trainer's own code reads its format, trains on it, and takes its scores without glue."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_examples import need

import minestream
from minestream.config.trainer_formats import FORMATS
from minestream.outputs.trainers.export import export

pytestmark = pytest.mark.trainers

TOPICS, WORDS, TEXTS, K = 6, 12, 150, 4


def texts() -> tuple[list[str], list[int]]:
    """Texts of words of a topic among words of all topics."""
    draw = random.Random(0)
    found = []
    for number in range(TEXTS):
        topic = number % TOPICS
        own = [f"t{topic}w{draw.randrange(WORDS)}" for _ in range(4)]
        found.append((" ".join([*own, *(f"w{draw.randrange(40)}" for _ in range(5))]), topic))
    return [text for text, _ in found], [topic for _, topic in found]


def small_model(words: list[str]) -> Any:
    """Means of word vectors drawn at random: no download."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import set_seed

    set_seed(0)
    known = ["[UNK]", *sorted({word for text in words for word in text.split()})]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(known)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=32)], device="cpu")


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mined file beside its source, whose embeddings are those of the small model where it can be made."""
    folder = tmp_path_factory.mktemp("mined")
    rows, topics = texts()
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(TOPICS, 16))[topics] + 2 * rng.normal(size=(TEXTS, 16))
    table = {"id": [f"d{i}" for i in range(TEXTS)], "topic": topics, "text": rows, "embedding": list(vectors)}
    pq.write_table(pa.table(table), folder / "texts.parquet")
    minestream.mine(
        folder / "texts.parquet", folder / "mined.parquet", label="topic", negatives=K, margin=0.8,
        positives="random", positives_per_anchor=4, progress="none",
    )  # fmt: skip
    return folder / "mined.parquet"


def exported(mined: Path, folder: Path, emit: str, **options: Any) -> Path:
    out = folder / f"{emit}{FORMATS[emit].suffix}"
    report = export(mined, out, emit=emit, text="text", **options)
    assert report["rows"] > 50
    return out


def dataset(path: Path, folder: Path) -> Any:
    from datasets import Dataset

    read = Dataset.from_json if path.suffix == ".jsonl" else Dataset.from_parquet
    return read(str(path), cache_dir=str(folder / "cache"))


def trained(model: Any, data: Any, loss: Any, folder: Path) -> list[float]:
    """The losses along a short run."""
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    arguments: dict[str, Any] = {
        "output_dir": str(folder / "model"), "num_train_epochs": 3, "per_device_train_batch_size": 32,
        "learning_rate": 0.02, "logging_steps": 0.2, "save_strategy": "no", "report_to": "none", "use_cpu": True,
        "disable_tqdm": True, "seed": 0,
    }  # fmt: skip
    run = SentenceTransformerTrainer(
        model=model, args=SentenceTransformerTrainingArguments(**arguments), train_dataset=data, loss=loss
    )
    run.train()
    return [entry["loss"] for entry in run.state.log_history if "loss" in entry]


def need_sentence_transformers() -> None:
    need("torch", "sentence-transformers>=6", "datasets", "accelerate")


# ---------------------------------------------------------------- sentence-transformers


def test_training_on_tuples_lowers_the_loss(mined: Path, tmp_path: Path) -> None:
    need_sentence_transformers()
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    data = dataset(exported(mined, tmp_path, "st-tuples", scores="none"), tmp_path)
    assert data.column_names == ["anchor", "positive", *(f"negative_{place + 1}" for place in range(K))]
    model = small_model(texts()[0])
    losses = trained(model, data, MultipleNegativesRankingLoss(model), tmp_path)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["DistillKLDivLoss", "MarginMSELoss"])
@pytest.mark.parametrize("emit", ["st-tuples", "st-triplets"])
def test_distillation_takes_scores_as_they_are(mined: Path, tmp_path: Path, emit: str, name: str) -> None:
    need_sentence_transformers()
    from sentence_transformers import util
    from sentence_transformers.sentence_transformer import losses

    data = dataset(exported(mined, tmp_path, emit), tmp_path)
    assert data.column_names[-1] == "scores"
    model = small_model(texts()[0])
    loss = getattr(losses, name)(model, similarity_fct=util.pairwise_cos_sim)
    found = trained(model, data, loss, tmp_path)
    assert all(map(math.isfinite, found))
    assert found[-1] < found[0]


@pytest.mark.parametrize(
    ("emit", "scores", "name"),
    [
        ("st-triplets", "none", "TripletLoss"),
        ("st-labeled-pairs", "none", "ContrastiveLoss"),
        ("st-labeled-pairs", "similarity", "CoSENTLoss"),
    ],
)
def test_losses_take_their_layout(mined: Path, tmp_path: Path, emit: str, scores: str, name: str) -> None:
    need_sentence_transformers()
    from sentence_transformers.sentence_transformer import losses

    data = dataset(exported(mined, tmp_path, emit, scores=scores), tmp_path)
    model = small_model(texts()[0])
    found = trained(model, data, getattr(losses, name)(model), tmp_path)
    assert found[-1] < found[0]


@pytest.mark.parametrize("scores", ["none", "similarity"])
def test_cross_encoders_take_labeled_lists(mined: Path, tmp_path: Path, scores: str) -> None:
    """The collator that cross-encoder trainers use, on lists of different lengths."""
    need_sentence_transformers()
    torch = pytest.importorskip("torch")
    from sentence_transformers.cross_encoder.data_collator import CrossEncoderDataCollator

    data = dataset(exported(mined, tmp_path, "st-labeled-lists", scores=scores), tmp_path)
    kind = "labels" if scores == "none" else "scores"
    assert data.column_names == ["query", "documents", kind]
    batch = CrossEncoderDataCollator(preprocess_fn=lambda *inputs, **_: {})([data[i] for i in range(8)])
    assert [len(each) for each in batch["label"]] == [len(data[i]["documents"]) for i in range(8)]
    assert batch["label"][0].dtype == (torch.int64 if scores == "none" else torch.float32)


# ---------------------------------------------------------------- others


def test_pytorch_metric_learning_takes_index_tuples(mined: Path, tmp_path: Path) -> None:
    need("torch", "pytorch-metric-learning")
    import torch
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.losses import TripletMarginLoss

    rows = pq.read_table(exported(mined, tmp_path, "pml"))
    indices = tuple(torch.tensor(column.to_numpy()) for column in rows.columns)
    vectors = torch.from_numpy(np.stack(pq.read_table(mined.parent / "texts.parquet")["embedding"].to_numpy()))
    loss = TripletMarginLoss(margin=0.8, distance=CosineSimilarity())(vectors, indices_tuple=indices)
    assert abs(loss.item() - np.mean(pq.read_table(mined)["loss"].to_numpy())) < 1e-6


def test_flagembedding_files_keep_its_documented_rules(mined: Path, tmp_path: Path) -> None:
    need("datasets")
    data = dataset(exported(mined, tmp_path, "flagembedding"), tmp_path)
    assert data.column_names == ["query", "pos", "neg", "pos_scores", "neg_scores"]
    for row in data:
        assert isinstance(row["query"], str)
        assert len(row["pos"]) == len(row["pos_scores"]) > 0
        assert len(row["neg"]) == len(row["neg_scores"]) > 0
        assert {type(text) for text in row["pos"] + row["neg"]} == {str}


def test_tevatron_and_pylate_rows_name_documents_of_the_corpus(mined: Path, tmp_path: Path) -> None:
    need("datasets")
    known = set(pq.read_table(mined.parent / "texts.parquet")["id"].to_pylist())
    for row in dataset(exported(mined, tmp_path, "tevatron"), tmp_path):
        assert row["query_id"] in known
        assert row["query_text"]
        for name in ("positive_document_ids", "negative_document_ids"):
            assert row[name]
            assert set(row[name]) <= known
    for row in dataset(exported(mined, tmp_path, "pylate"), tmp_path):
        assert set(row["document_ids"]) <= known
        assert len(row["document_ids"]) == len(row["scores"]) == K + 1


def test_runs_are_lines_of_query_document_score(mined: Path, tmp_path: Path) -> None:
    """As readers of runs do: three fields by white space, scores falling within a query, no document twice."""
    run: dict[str, list[tuple[str, float]]] = {}
    for line in exported(mined, tmp_path, "trec").read_text().splitlines():
        query, document, score = line.strip().split()
        run.setdefault(query, []).append((document, float(score)))
    for ranked in run.values():
        scores = [score for _, score in ranked]
        assert scores == sorted(scores, reverse=True)
        assert len({document for document, _ in ranked}) == len(ranked)
