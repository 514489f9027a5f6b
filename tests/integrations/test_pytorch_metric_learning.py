"""Miners for pytorch-metric-learning: the triplets of its own, in a batch, its memory and a window; and training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minestream import UsageError

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_metric_learning")

from pytorch_metric_learning import losses, miners, trainers  # noqa: E402
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance  # noqa: E402

from minestream.integrations.pytorch_metric_learning import TripletMiner, WindowMiner  # noqa: E402

EVERY = {"positives": "all", "negatives": 64, "drop_duplicates_within": None}  # as many triplets as there are
BANDS = {"violating": "all", "hard": "hard", "semi-hard": "semihard", "easy": "easy"}
METRICS: dict[str, tuple[Any, dict[str, Any]]] = {
    "cosine": (CosineSimilarity, {"metric": "cosine"}),
    "euclidean": (LpDistance, {"metric": "euclidean", "normalize": True}),
}
Triplets = set[tuple[int, int, int]]


def stream(rows: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, rows)
    vectors = rng.normal(size=(rows, 6)) + 1.5 * rng.normal(size=(4, 6))[labels]
    return torch.tensor(vectors, dtype=torch.float32), torch.tensor(labels)


def triplets_of(rows: Any) -> Triplets:
    found = list(zip(*(each.tolist() for each in rows), strict=True))
    assert len(set(found)) == len(found)
    return set(found)


def theirs(band: str, metric: str) -> Any:
    return miners.TripletMarginMiner(0.2, BANDS[band], distance=METRICS[metric][0]())


def ours(kind: Any, band: str, metric: str, *window: int) -> Any:
    return kind(*window, band=band, margin=0.2, **METRICS[metric][1], **EVERY)


class Spied(losses.CrossBatchMemory):
    """A memory that shows the triplets it gave its loss, by the number of the row in the stream."""

    def create_indices_tuple(self, *given: Any) -> Any:
        found = super().create_indices_tuple(*given)
        place = self.curr_batch_idx[-1]
        self.seen = getattr(self, "seen", 0) + len(given[0])
        rows = [self.seen - 1 - (place - each) % self.memory_size for each in found[1:]]
        self.triplets = triplets_of([self.seen - len(given[0]) + found[0], *rows])
        return found


def memory(size: int, miner: Any, metric: str = "cosine") -> Spied:
    loss = losses.TripletMarginLoss(0.2, distance=METRICS[metric][0]())
    return Spied(loss, embedding_size=6, memory_size=size, miner=miner)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("band", BANDS)
def test_in_a_batch_the_triplets_are_those_of_their_miner(band: str, metric: str) -> None:
    embeddings, labels = stream(50)
    miner = ours(TripletMiner, band, metric)
    found = miner(embeddings.requires_grad_(), labels)
    assert triplets_of(found) == triplets_of(theirs(band, metric)(embeddings, labels))
    assert miner.num_triplets == len(found[0]) > 50
    loss = losses.TripletMarginLoss(0.2, distance=METRICS[metric][0]())
    assert torch.allclose(
        loss(embeddings, labels, found), loss(embeddings, labels, theirs(band, metric)(embeddings, labels))
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("band", BANDS)
def test_in_their_memory_the_triplets_are_those_of_their_miner(band: str, metric: str) -> None:
    """Over steps that fill the memory and go round it, with their losses."""
    embeddings, labels = stream(90)
    one, other = (memory(40, each, metric) for each in (ours(TripletMiner, band, metric), theirs(band, metric)))
    for step in range(0, 90, 15):
        batch = embeddings[step : step + 15], labels[step : step + 15]
        assert torch.allclose(one(*batch), other(*batch))
        assert one.triplets == other.triplets
        assert one.triplets
    assert one.has_been_filled


@pytest.mark.parametrize("size", [1, 7, 30, 90])
@pytest.mark.parametrize("band", BANDS)
def test_in_a_window_the_triplets_are_those_of_their_memory_row_by_row(band: str, size: int) -> None:
    embeddings, labels = stream(90)
    window, found, expected = 25, set(), set()
    row_by_row = memory(window + 1, theirs(band, "cosine"))
    miner = ours(WindowMiner, band, "cosine", window)
    for row in range(90):
        row_by_row(embeddings[row : row + 1], labels[row : row + 1])
        expected |= {each for each in row_by_row.triplets if each[0] != each[1]}  # left in where one row is a batch
    for first in range(0, 90, size):
        batch, own = embeddings[first : first + size], labels[first : first + size]
        anchor, *others = miner(batch, own)
        assert torch.equal(miner.ref_emb[: len(batch)], batch)
        places = {tuple(vector): row for row, vector in enumerate(embeddings.tolist())}  # no two rows are equal
        positive, negative = ([places[tuple(v)] for v in miner.ref_emb[each].tolist()] for each in others)
        assert torch.equal(miner.ref_labels[others[0]], own[anchor])
        assert not (miner.ref_labels[others[1]] == own[anchor]).any()
        assert len(miner.ref_emb) <= len(batch) + window
        found |= set(zip((anchor + first).tolist(), positive, negative, strict=True))
    assert found == expected
    assert len(found) > 90


def test_the_k_nearest_beside_a_positive_that_is_drawn() -> None:
    """What theirs do not have: all options of minestream, with a memory too."""
    embeddings, labels = stream(60)
    miner = TripletMiner(band="any", positives="random", negatives=3, seed=7)
    anchors = torch.bincount(miner(embeddings, labels)[0], minlength=60)
    assert anchors.tolist() == [3] * 60
    in_memory = memory(60, miner)
    in_memory(embeddings, labels)
    assert len(in_memory.triplets) == 180  # the anchor itself, which is in the memory, is nobody's positive
    assert all(len(set(each)) == 3 for each in in_memory.triplets)


def test_dtypes_notes_and_what_is_refused() -> None:
    embeddings, labels = stream(20)
    miner = TripletMiner(seed=3)
    found = miner(embeddings.to(torch.bfloat16), labels)
    assert {each.dtype for each in found} == {torch.int64}
    assert any("seed has no effect" in note for note in miner.notes), miner.notes
    assert WindowMiner(8).notes == []
    for kind in (TripletMiner, lambda **options: WindowMiner(8, **options)):
        with pytest.raises(UsageError, match="a miner gives triplets, not pairs"):
            kind(emit="pairs")
        with pytest.raises(UsageError, match="negatives"):
            kind(preset="multi-similarity")  # which is of pairs
        with pytest.raises(UsageError, match="no option 'bnad'"):
            kind(bnad="any")
    with pytest.raises(UsageError, match="WindowMiner takes no ref_emb"):
        WindowMiner(8)(embeddings, labels, embeddings.clone(), labels)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [5, 5, 5, 5]])
def test_a_batch_without_positives_or_negatives_has_no_triplets(labels: list[int]) -> None:
    embeddings, own = torch.randn(4, 6), torch.tensor(labels)
    memories = [(), *((torch.randn(3, 6), torch.full((3,), label)) for label in (5, 9))]
    for miner, given in [(WindowMiner(8), ()), *((TripletMiner(), each) for each in memories)]:
        assert [(len(each), each.dtype) for each in miner(embeddings, own, *given)] == [(0, torch.int64)] * 3
    found = TripletMiner(band="any")(embeddings, own, torch.randn(6, 6), torch.tensor([0, 1, 2, 3, 5, 9]))
    assert found[0].tolist() == [0, 1, 2, 3]
    loss = losses.TripletMarginLoss()
    assert loss(embeddings, own, TripletMiner()(embeddings, own)) == 0


def test_without_its_ref_emb_the_triplets_of_a_window_are_no_rows() -> None:
    embeddings, labels = stream(60)
    miner, loss = WindowMiner(50), losses.TripletMarginLoss()
    miner(embeddings[:30], labels[:30])
    found = miner(embeddings[30:], labels[30:])
    assert int(found[1].max()) >= 30
    with pytest.raises(IndexError, match="out of bounds"):
        loss(embeddings[30:], labels[30:], found)


def test_a_batch_that_fails_leaves_the_window_as_it_was() -> None:
    embeddings, labels = stream(60)
    one, other = WindowMiner(40), WindowMiner(40)
    for miner in (one, other):
        miner(embeddings[:30], labels[:30])
    with pytest.raises(ValueError, match="not finite in rows 0, 1"):
        one(embeddings[30:] * float("nan"), labels[30:])
    assert triplets_of(one(embeddings[30:], labels[30:])) == triplets_of(other(embeddings[30:], labels[30:]))
    assert torch.equal(one.ref_emb, other.ref_emb)


# ---------------------------------------------------------------- training


class Rows(torch.utils.data.Dataset[Any]):
    """Vectors whose labels show in some of their values, among louder noise."""

    def __init__(self) -> None:
        vectors, self.labels = stream(240)
        self.vectors = torch.cat(
            [torch.tensor(np.random.default_rng(1).normal(size=(240, 6)) * 6).float(), vectors], dim=1
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return self.vectors[row], int(self.labels[row])

    def violations(self, model: Any) -> int:
        with torch.no_grad():
            return len(theirs("violating", "cosine")(model(self.vectors), self.labels)[0])


def begun() -> tuple[Any, Any, Rows, Any]:
    torch.manual_seed(0)
    model = torch.nn.Linear(12, 4)
    loss_function = losses.TripletMarginLoss(0.2, distance=CosineSimilarity())
    return model, torch.optim.Adam(model.parameters(), lr=0.02), Rows(), loss_function


@pytest.mark.parametrize("where", ["batch", "memory"])
def test_their_trainer_trains(where: str) -> None:
    model, optimizer, rows, loss = begun()
    before = rows.violations(model)
    miner, steps = TripletMiner(band="violating", positives="all", negatives=8), []
    in_memory = losses.CrossBatchMemory(loss, embedding_size=4, memory_size=100, miner=miner)
    trainers.MetricLossOnly(
        models={"trunk": model},
        optimizers={"trunk_optimizer": optimizer},
        batch_size=24,
        loss_funcs={"metric_loss": loss if where == "batch" else in_memory},
        dataset=rows,
        mining_funcs={"tuple_miner": miner} if where == "batch" else {},
        dataloader_num_workers=0,
        end_of_iteration_hook=lambda trainer: steps.append(miner.num_triplets),
    ).train(num_epochs=4)
    assert len(steps) == 40
    assert rows.violations(model) < 0.6 * before


def test_a_loop_with_a_window_trains() -> None:
    model, optimizer, rows, loss_function = begun()
    before = rows.violations(model)
    loader = torch.utils.data.DataLoader(rows, batch_size=24, shuffle=True)
    miner = WindowMiner(window=4096, band="violating", positives="random", negatives=8)
    for _ in range(4):
        for vectors, labels in loader:
            embeddings = model(vectors)
            triplets = miner(embeddings, labels)
            loss = loss_function(embeddings, labels, triplets, miner.ref_emb, miner.ref_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert not miner.ref_emb.requires_grad
    assert len(miner.ref_emb) > 100
    assert rows.violations(model) < 0.8 * before  # many rows of the window are those of an earlier model
