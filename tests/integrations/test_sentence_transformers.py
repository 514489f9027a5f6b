"""sentence-transformers: its trainer on composed batches and rows mined again, its mine_hard_negatives beside ours."""

from __future__ import annotations

import inspect
import json
import pickle
import random
import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream import UsageError

pytestmark = pytest.mark.peers
st = pytest.importorskip("sentence_transformers")
hub = pytest.importorskip("datasets")
accelerate = pytest.importorskip("accelerate")

from minestream.integrations import sentence_transformers as ours  # noqa: E402 (it needs them)

QUIET = {"progress": "none"}
WORDS = 60
SIZE = 5
Row = Any
Rows = list[list[int]]


def small_model() -> Any:
    """Means of word vectors drawn at random."""
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"[UNK]": 0} | {f"w{word}": word + 1 for word in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).normal(size=(WORDS + 1, 24)).astype(np.float32)
    return st.SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu")


def texts(count: int, seed: int = 0) -> list[str]:
    """Six words each, no text twice."""
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{word}" for word in rng.choice(WORDS, 6, replace=False)) for _ in range(count)]


class Seen:
    """A dataset of pairs of texts by number, and the numbers that its batches had."""

    def __init__(self, pairs: int, seed: int = 0) -> None:
        anchors, positives = texts(pairs, seed), texts(pairs, seed + 1)
        self.batches: Rows = []

        def look_up(batch: dict[str, list[int]]) -> dict[str, list[str]]:
            self.batches.append(batch["pair"])
            return {name: [each[at] for at in batch["pair"]]
                    for name, each in (("anchor", anchors), ("positive", positives))}  # fmt: skip

        self.dataset = hub.Dataset.from_dict({"pair": range(pairs)})
        self.dataset.set_transform(look_up)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tuples.parquet of 62 pairs; b.parquet: two epochs of batches of five; ragged.parquet: the last not full."""
    folder = tmp_path_factory.mktemp("world")
    vectors = list(np.random.default_rng(0).normal(size=(62, 4)).astype(np.float32))
    pq.write_table(pa.table({"label": np.arange(62) // 3, "embedding": vectors}), folder / "rows.parquet")
    minestream.mine(folder / "rows.parquet", folder / "tuples.parquet", emit="tuples", band="any", **QUIET)
    for name, last in (("b", False), ("ragged", True)):
        minestream.batch(folder / "tuples.parquet", folder / f"{name}.parquet", batch_size=SIZE, epochs=2,
                         keep_last=last, **QUIET)  # fmt: skip
    return folder


def in_file(path: Path, epoch: int) -> Rows:
    """The batches of an epoch as the file has them."""
    rows = [row for row in pq.read_table(path).to_pylist() if row["epoch"] == epoch % 2]
    return [[row["pair_row"] for row in own] for _, own in groupby(rows, key=lambda row: row["batch"])]


def flat(batches: Rows) -> list[int]:
    return [row for batch in batches for row in batch]


def pairs_of(world: Path) -> int:
    return int(pq.read_metadata(world / "tuples.parquet").num_rows)


def trained(world: Path, data: Any, sampler: Any, epochs: int = 3, **options: Any) -> Rows:
    """Train with their trainer; how many batches each dataset had been asked for when each epoch began."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    seen = options.pop("seen")
    begun: Rows = []

    class Counting(TrainerCallback):  # type: ignore[misc]
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            begun.append([len(each.batches) for each in seen])

    model = small_model()
    extra = {name: options.pop(name) for name in ("eval_dataset",) if name in options}
    args = st.SentenceTransformerTrainingArguments(
        output_dir=str(world / "model"), num_train_epochs=epochs, batch_sampler=sampler, use_cpu=True,
        report_to="none", save_strategy="no", disable_tqdm=True, **{"per_device_train_batch_size": SIZE, **options},
    )  # fmt: skip
    trainer = st.SentenceTransformerTrainer(
        model, args, train_dataset=data, loss=MultipleNegativesRankingLoss(model), callbacks=[Counting()], **extra
    )
    trainer.train()
    return [*begun, [len(each.batches) for each in seen]]


@pytest.mark.parametrize("name", ["b", "ragged"])
def test_their_trainer_has_the_batches_of_each_epoch(name: str, world: Path) -> None:
    seen = Seen(pairs_of(world))
    sampler = ours.batch_sampler(world / f"{name}.parquet", seen.dataset)
    edges = trained(world, seen.dataset, sampler, seen=[seen])
    for epoch in range(3):
        (first,), (end,) = edges[epoch : epoch + 2]
        assert seen.batches[first:end] == in_file(world / f"{name}.parquet", epoch)
    assert in_file(world / f"{name}.parquet", 0) != in_file(world / f"{name}.parquet", 1)


@pytest.mark.parametrize("mixing", ["round_robin", "proportional"])
def test_their_trainer_mixes_the_batches_of_several_datasets(mixing: str, world: Path) -> None:
    """Two of them with as many rows, and none of the third. Rows of several datasets are asked for one by one."""
    one, other, free = Seen(pairs_of(world)), Seen(pairs_of(world), 5), Seen(50, 7)
    files = {"one": world / "b.parquet", "other": world / "ragged.parquet"}
    data = {"one": one.dataset, "other": other.dataset, "free": free.dataset}
    sampler = ours.batch_sampler(files, {name: data[name] for name in files})
    with pytest.warns(UserWarning, match="a dataset of 50 rows has no file"):
        edges = trained(world, data, sampler, seen=[one, other, free], multi_dataset_batch_sampler=mixing)
    least = min(len(in_file(file, epoch)) for file in files.values() for epoch in (0, 1))
    least = min(least, 50 // SIZE) if mixing == "round_robin" else 100
    for epoch in range(3):
        for at, (seen, file) in enumerate([(one, files["one"]), (other, files["other"])]):
            composed = flat(in_file(file, epoch)[:least])
            assert flat(seen.batches[edges[epoch][at] : edges[epoch + 1][at]])[: len(composed)] == composed
        assert sorted(flat(free.batches[edges[epoch][2] : edges[epoch + 1][2]])) == list(range(50))


def test_an_evaluation_has_their_own_batches(world: Path) -> None:
    seen, held = Seen(pairs_of(world)), Seen(12, 3)
    sampler = ours.batch_sampler(world / "b.parquet", seen.dataset)
    with pytest.warns(UserWarning, match="a dataset of 12 rows has no file"):
        trained(world, seen.dataset, sampler, seen=[seen, held], eval_dataset=held.dataset, eval_strategy="epoch",
                per_device_eval_batch_size=SIZE, epochs=1)  # fmt: skip
    assert sorted(flat(held.batches[-3:])) == list(range(12))


def test_what_does_not_fit_is_refused(world: Path) -> None:
    fits, wrong = Seen(pairs_of(world)), Seen(40)
    path = world / "b.parquet"
    with pytest.raises(UsageError, match=r"b\.parquet is of 62 rows, and the dataset has 40"):
        ours.batch_sampler(path, wrong.dataset)
    with pytest.raises(UsageError, match=r"batches of \['a'\], datasets \['a', 'b'\]"):
        ours.batch_sampler({"a": path}, {"a": fits.dataset, "b": wrong.dataset})
    sampler = ours.batch_sampler(path, fits.dataset)
    with pytest.raises(UsageError, match="has batches of 5, the trainer of 8") as refused:
        sampler(fits.dataset, batch_size=8, drop_last=False)
    assert refused.value.hint.startswith("per_device_train_batch_size=5")
    with pytest.raises(UsageError, match="the trainer has a copy of a dataset"):
        sampler(Seen(pairs_of(world)).dataset, batch_size=SIZE, drop_last=False)


def test_saved_arguments_hold_no_datasets(world: Path) -> None:
    """Their trainer pickles its arguments with every checkpoint, and a transform of a dataset need not be pickled."""
    dataset = Seen(pairs_of(world)).dataset
    saved = pickle.loads(pickle.dumps(ours.batch_sampler(world / "b.parquet", dataset)))
    with pytest.warns(UserWarning, match="a dataset of 62 rows has no file"):
        saved(dataset, batch_size=SIZE, drop_last=False)


def sampler_of(path: Path, **how: Any) -> ours.ComposedBatches:
    dataset = Seen(ours.Batches(path).pair_rows).dataset
    return ours.batch_sampler(path, dataset)(dataset, **{"batch_size": SIZE, "drop_last": False, **how})


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Say how many processes train."""

    monkeypatch.setattr(ours.dist, "is_initialized", lambda: True)
    return lambda count: monkeypatch.setattr(ours.dist, "get_world_size", lambda: count)


@pytest.mark.parametrize("name", ["b", "ragged"])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.filterwarnings("ignore:.*make no full round")
def test_every_process_has_as_many_batches(count: int, name: str, world: Path, ranks: Callable[[int], None]) -> None:
    ranks(count)
    sampler = sampler_of(world / f"{name}.parquet")
    shard = accelerate.data_loader.BatchSamplerShard
    shares = [shard(sampler, count, rank, even_batches=False) for rank in range(count)]
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        full = [batch for batch in in_file(world / f"{name}.parquet", epoch) if len(batch) == SIZE]
        dealt = [list(share) for share in shares]
        assert [len(own) for own in dealt] == [len(full) // count] * count == [len(share) for share in shares]
        assert sorted(batch for own in dealt for batch in own) == sorted(full[: len(full) // count * count])


def test_what_several_processes_leave_out_is_said(world: Path, ranks: Callable[[int], None]) -> None:
    counts = [len(in_file(world / "b.parquet", epoch)) for epoch in (0, 1)]
    ranks(5)
    with pytest.warns(UserWarning, match=rf"b\.parquet: {sum(n % 5 for n in counts)} batches make no full round of 5"):
        sampler_of(world / "b.parquet")
    ranks(100)
    with pytest.raises(UsageError, match=r"100 processes need more full batches"):
        sampler_of(world / "b.parquet")


def test_drop_last_and_epochs_of_another_length(tmp_path: Path) -> None:
    """The trainer plans with the fullest epoch: what is shorter ends earlier, and nothing is left out."""
    sizes = [[5, 5, 3], [5, 5, 5, 4], [5]]
    rows = [(epoch, batch, row) for epoch, own in enumerate(sizes) for batch, size in enumerate(own)
            for row in range(size)]  # fmt: skip
    epoch, batch, row = map(np.array, zip(*rows, strict=True))
    about = {"minestream.batches": json.dumps({"batch_size": 5}), "minestream.pair_rows": "5"}
    table = pa.table({"epoch": epoch, "batch": batch, "pair_row": row}).replace_schema_metadata(about)
    pq.write_table(table, tmp_path / "b.parquet")
    for drop, lengths in ((False, [3, 4, 1]), (True, [2, 3, 1])):
        sampler = sampler_of(tmp_path / "b.parquet", drop_last=drop)
        assert len(sampler) == max(lengths)
        for number in range(6):
            sampler.set_epoch(number)
            assert len(list(sampler)) == lengths[number % 3]
            assert len(sampler) == max(lengths)


def test_the_guide_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page on batches shows, on other texts and a small model."""
    page = Path(minestream.__file__).with_name("guide") / "batches.md"
    (program,) = [text for text in re.findall(r"```python\n(.*?)```", page.read_text(), re.S) if "Trainer(" in text]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    said = texts(200)
    table = {
        "id": range(200),
        "label": np.arange(200) // 4,
        "text": said,
        "embedding": list(small_model().encode(said)),
    }
    pq.write_table(pa.table(table), "docs.parquet")
    small_model().save("small")
    exec(program.replace("sentence-transformers/all-MiniLM-L6-v2", "small").replace("64", "8"), {})
    assert list((tmp_path / "model").iterdir())


# ---------------------------------------------------------------- mine_hard_negatives

ALL = 200  # a window that holds the whole corpus


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    """Pairs of 40 queries and texts of three of their words, one to three; some twice, a column too many; a corpus."""
    own = zip(texts(80, 2), [text.split() for text in texts(40, 1) for _ in "ab"], strict=True)
    pairs = [(" ".join(words), f"{' '.join(words[:3])} {' '.join(text.split()[:3])}") for text, words in own]
    one, other = zip(*(pairs[:31] + pairs[32:] + pairs[:5] + [(pairs[0][0], pairs[2][1])]), strict=True)
    dataset = hub.Dataset.from_dict({"query": one, "source": ["s"] * len(one), "document": other})
    return {"dataset": dataset, "model": small_model(), "corpus": texts(120, 3), "positive_column_name": "document"}


def both(known: dict[str, Any], **options: Any) -> tuple[list[Row], list[Row]]:
    """The rows of theirs and of ours, with scores rounded, once columns and types were found to be the same."""
    theirs = {**known, "verbose": False, **options}
    random.seed(theirs.pop("seed", 0))
    one = st.util.mine_hard_negatives(**{"range_max": ALL, **theirs})
    two = ours.mine_hard_negatives(**{**known, "verbose": False, **options})
    assert one.column_names == two.column_names
    assert len(one) == 0 or one.features == two.features
    return [rounded(row) for row in one], [rounded(row) for row in two]


def rounded(row: Any) -> Any:
    if isinstance(row, dict):
        return {name: rounded(value) for name, value in row.items()}
    if isinstance(row, list):
        return [rounded(value) for value in row]
    return pytest.approx(row, abs=1e-5) if isinstance(row, float) else row


FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "absolute margin": {"absolute_margin": 0.2},
    "relative margin": {"relative_margin": 0.3},
    "margins": {"absolute_margin": 0.1, "relative_margin": 0.4, "num_negatives": 7},
    "former margin": {"margin": 0.3},
    "bounds": {"max_score": 0.3, "min_score": -0.1, "num_negatives": 5},
    "skipped": {"relative_margin": 0.3, "range_min": 4},
    "no corpus": {"corpus": None, "absolute_margin": 0.1},
    "positives": {"include_positives": True},
    "chunks": {"faiss_batch_size": 8, "absolute_margin": 0.2},
}


@pytest.mark.parametrize("name", FILTERS)
def test_what_is_mined_is_theirs_where_their_window_holds_all(name: str, known: dict[str, Any]) -> None:
    theirs, own = both(known, **FILTERS[name])
    assert theirs == own
    assert len(own) > 10


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("shape", ["triplet", "n-tuple", "labeled-pair", "labeled-list"])
def test_every_shape_is_theirs(shape: str, scored: bool, known: dict[str, Any]) -> None:
    theirs, own = both(known, output_format=shape, output_scores=scored, absolute_margin=0.2)
    assert theirs == own
    assert len(own) > 10


@pytest.mark.parametrize("options", [
    {"range_max": 9}, {"range_max": 9, "relative_margin": 0.3}, {"range_max": 30, "range_min": 3, "max_score": 0.3},
    {"range_max": 12, "include_positives": True}, {"range_max": 9, "sampling_strategy": "random", "seed": 5},
    {"range_max": 30, "absolute_margin": 0.2, "sampling_strategy": "random", "output_format": "labeled-list"},
])  # fmt: skip
def test_a_window_that_is_asked_for_is_theirs(options: dict[str, Any], known: dict[str, Any]) -> None:
    theirs, own = both(known, **options)
    assert theirs == own
    assert len(own) > 10


def test_no_window_leaves_a_query_short(known: dict[str, Any]) -> None:
    options = {**known, "verbose": False, "absolute_margin": 0.6, "num_negatives": 2}
    short, full = st.util.mine_hard_negatives(**options), ours.mine_hard_negatives(**options)
    every = st.util.mine_hard_negatives(**options, range_max=ALL)
    assert len(short) < len(every)
    assert full.to_dict() == every.to_dict()


def test_random_negatives_are_of_the_seed(known: dict[str, Any]) -> None:
    def drawn(**options: Any) -> Any:
        state = random.getstate()
        options |= {"verbose": False, "sampling_strategy": "random", "absolute_margin": 0.1}
        found = ours.mine_hard_negatives(**known, **options)
        assert random.getstate() == state
        return found.to_dict()

    assert drawn() == drawn(seed=0) != drawn(seed=1) == drawn(seed=1)


class Crossing:
    """A cross-encoder by the letters that two texts share."""

    def predict(self, pairs: list[tuple[str, str]], **_: Any) -> Any:
        shared = [len({*one.split()} & {*other.split()}) + int(other[1:3]) / 100 for one, other in pairs]
        return pytest.importorskip("torch").tensor(shared)


@pytest.mark.parametrize("options", [{"absolute_margin": 0.3}, {"max_score": 2.0, "range_max": 20}, {"min_score": 0.1}])
def test_a_cross_encoder_scores_the_same_candidates(options: dict[str, Any], known: dict[str, Any]) -> None:
    options = {**known, "cross_encoder": Crossing(), "output_scores": True, "verbose": False, **options}
    theirs, own = st.util.mine_hard_negatives(**options), ours.mine_hard_negatives(**options)
    assert [rounded(row) for row in theirs] == list(own)
    assert len(own) > 10


def test_its_parameters_are_theirs() -> None:
    theirs = inspect.signature(st.util.mine_hard_negatives).parameters
    own = dict(inspect.signature(ours.mine_hard_negatives).parameters)
    assert own.pop("seed").default == 0
    assert list(own.items()) == list(theirs.items())


def test_what_is_encoded_is_kept_and_prompted_as_theirs_is(known: dict[str, Any], tmp_path: Path) -> None:
    prompts = {"query_prompt": "w1 w2 ", "corpus_prompt": "w3 ", "batch_size": 7}
    theirs, own = both(known, cache_folder=str(tmp_path / "theirs"), **prompts)
    assert theirs == own != both(known)[1]
    ours.mine_hard_negatives(**known, verbose=False, cache_folder=str(tmp_path / "own"), **prompts)
    kept = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("theirs", "own")]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 2


def test_what_cannot_be_mined_is_refused(known: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong, words in [
        ({"num_negatives": 0}, "at least 1"), ({"range_min": 9, "range_max": 9}, "smaller than range_max"),
        ({"output_format": "pairs"}, "Invalid output_format"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            ours.mine_hard_negatives(**known, **wrong)
    with pytest.raises(ValueError, match="The dataset is empty"):
        ours.mine_hard_negatives(known["dataset"].select([]), known["model"])
    with pytest.raises(TypeError, match="colour"):
        ours.mine_hard_negatives(**known, colour=1)
    far = small_model()
    far.similarity_fn_name = "euclidean"
    with pytest.raises(UsageError, match="similarity of the model is euclidean"):
        ours.mine_hard_negatives(**{**known, "model": far})
    monkeypatch.setattr(ours, "THEIRS", other := lambda **_: None)
    assert other() is None
    with pytest.raises(UsageError, match="mines in another way"):
        ours.mine_hard_negatives(**known)


# ---------------------------------------------------------------- ReminingCallback

Triplets = set[tuple[str, ...]]
MINED: dict[str, Any] = {"absolute_margin": 0.05, "num_negatives": 2, "verbose": False}


def remined(known: dict[str, Any], every: Any, folder: Path) -> tuple[list[Triplets], list[Triplets], list[Triplets]]:
    """Train for three epochs: the callback's rows before each step, those mined anew, and those trained on."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    pairs = known["dataset"].select_columns(["query", "document"]).select(range(30))
    held, mined, seen = [], [], []
    model = small_model()
    callback = ours.ReminingCallback(pairs, model, every, **MINED)

    class Watching(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            held.append({tuple(callback.dataset[at].values()) for at in range(len(callback.dataset))})
            mined.append({tuple(row.values()) for row in ours.mine_hard_negatives(pairs, model, **MINED)})

    class Loss(MultipleNegativesRankingLoss):  # type: ignore[misc]
        def forward(self, features: Any, labels: Any) -> Any:
            assert model.training
            said = [[" ".join(f"w{word - 1}" for word in text) for text in each["input_ids"].reshape(-1, 6).tolist()]
                    for each in features]  # fmt: skip
            seen.append(set(zip(*said, strict=True)))
            return super().forward(features, labels)

    args = st.SentenceTransformerTrainingArguments(
        output_dir=str(folder), num_train_epochs=3, per_device_train_batch_size=20, use_cpu=True, learning_rate=0.5,
        report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    given = {"train_dataset": callback.dataset, "loss": Loss(model), "callbacks": [callback, Watching()]}
    st.SentenceTransformerTrainer(model, args, **given).train()
    return held, mined, seen


def test_each_epoch_has_the_rows_of_its_own_mining(known: dict[str, Any], tmp_path: Path) -> None:
    held, mined, seen = remined(known, "epoch", tmp_path)
    steps = len(held) // 3
    for epoch in range(3):
        rows = held[epoch * steps]
        assert rows <= mined[epoch * steps]
        assert len(rows) >= min(len(mined[0]), len(mined[epoch * steps]))
        for step in range(epoch * steps, (epoch + 1) * steps):
            assert held[step] == rows
            assert seen[step] <= rows
    assert not any(seen[step] <= held[0] for step in range(steps, 3 * steps))


def test_rows_change_after_so_many_steps(known: dict[str, Any], tmp_path: Path) -> None:
    held, mined, _ = remined(known, 2, tmp_path)
    for step, rows in enumerate(held):
        assert (rows <= mined[step]) if step % 2 == 0 else (rows == held[step - 1])
    assert len(set(map(frozenset, held))) == (len(held) + 1) // 2 > 2


def test_remining_that_means_nothing_is_refused(known: dict[str, Any], tmp_path: Path) -> None:
    given = {name: known[name] for name in ("dataset", "model")}
    for every in (0, "step", 1.5, None):
        with pytest.raises(UsageError, match="every="):
            ours.ReminingCallback(*given.values(), every)
    with pytest.raises(UsageError, match="without cache_folder"):
        ours.ReminingCallback(*given.values(), cache_folder=str(tmp_path))

    class Arguments:
        dataloader_num_workers, dataloader_persistent_workers = 1, True

    class State:
        global_step = 1

    for every, persistent in (("epoch", True), (1, False)):
        callback = ours.ReminingCallback(*given.values(), every, positive_column_name="document", **MINED)
        Arguments.dataloader_persistent_workers = persistent
        event = callback.on_epoch_begin if every == "epoch" else callback.on_step_end
        with pytest.raises(UsageError, match="workers keep the rows"):
            event(Arguments, State, None, model=known["model"])
    Arguments.dataloader_num_workers = 0
    again = ours.ReminingCallback(*given.values(), positive_column_name="document", **MINED)
    again._mine = lambda model: known["dataset"].select([])
    with pytest.raises(UsageError, match="step 1: no negative passes the filters"):
        again.on_epoch_begin(Arguments, State, None, model=known["model"])


def test_the_number_of_rows_stays(known: dict[str, Any]) -> None:
    """Of fewer rows all are there, and some again; of more as many, other ones at another step."""

    class Arguments:
        dataloader_num_workers = 0

    class State:
        global_step = 0

    again = ours.ReminingCallback(known["dataset"], known["model"], positive_column_name="document", **MINED)
    count, drawn = len(again.dataset), []
    for step, rows in enumerate((count // 2, 3 * count, 3 * count), start=1):
        State.global_step, mined = step, hub.Dataset.from_dict({"negative": list(map(str, range(rows)))})
        again._mine = lambda model, mined=mined: mined
        again.on_epoch_begin(Arguments, State, None, model=known["model"])
        assert len(again.dataset) == count
        drawn.append({row["negative"] for row in again.dataset})
    assert list(map(len, drawn)) == [count // 2, count, count]
    assert drawn[1] != drawn[2]
