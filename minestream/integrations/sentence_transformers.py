"""For sentence-transformers: composed batches in its trainers, and hard negatives mined once or while it trains."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from random import Random
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from minestream.errors import UsageError
from minestream.integrations import extra
from minestream.integrations.batches import Batches
from minestream.mining.arrays import mine_arrays

with extra("sentence-transformers"):
    import torch.distributed as dist
    from datasets import Dataset
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.util import hard_negatives
    from torch.utils.data import RandomSampler
    from transformers import TrainerCallback

THEIRS = inspect.unwrap(hard_negatives.mine_hard_negatives)
PARAMETERS = inspect.signature(THEIRS).parameters
SIGNATURE = inspect.Signature([*PARAMETERS.values(), PARAMETERS["range_min"].replace(name="seed")])  # an int, 0
OURS = {"margin": "absolute_margin", "max_score": "max_similarity", "min_score": "min_similarity"}  # filters of ours


class batch_sampler:  # noqa: N801 (it is called as a function)
    """The batches of `minestream batch`, as `batch_sampler` of the training arguments.

    Parameters
    ----------
    batches : path, or dict of paths by name of a dataset
    datasets : Dataset, or dict of them
        The very objects that the trainer gets, with the rows that `pair_row` numbers: all, in their order.

    Notes
    -----
    Epoch e has composed epoch e, begun again after the last; the trainer plans with the fullest. Several processes take
    whole rounds of full batches; in one, drop_last leaves out the rest. It warns of rounds that are not whole, and of
    datasets that are not named, as eval_dataset, which have the trainer's own batches."""

    def __init__(self, batches: Any, datasets: Any) -> None:
        if not isinstance(batches, Mapping):
            batches, datasets = {"": batches}, {"": datasets}
        if batches.keys() != datasets.keys():
            raise UsageError(f"batches of {sorted(batches)}, datasets {sorted(datasets)}", "a file for each dataset")
        self._known = [(Batches(path), datasets[name]) for name, path in batches.items()]
        for composed, dataset in self._known:
            if len(dataset) != composed.pair_rows:
                what = f"{composed.path} is of {composed.pair_rows:,} rows, and the dataset has {len(dataset):,}"
                raise UsageError(what, "give the rows that pair_row numbers, all and in their order, or compose anew")

    def __getstate__(self) -> dict[str, Any]:
        return {"_known": []}  # the trainer saves its arguments with each model: datasets do not go along

    def __call__(self, dataset: Any, **how: Any) -> DefaultBatchSampler:
        for composed, own in self._known:
            if own is dataset:
                return ComposedBatches(composed, dataset, **how)
        if any(len(own) == len(dataset) for _, own in self._known):
            raise UsageError("the trainer has a copy of a dataset", "give batch_sampler the very object that it gets")
        warnings.warn(f"a dataset of {len(dataset):,} rows has no file: it has the trainer's own batches", stacklevel=2)
        return DefaultBatchSampler(RandomSampler(dataset, generator=how.get("generator")), **how)


class ComposedBatches(DefaultBatchSampler):
    """The batches of one dataset; see batch_sampler."""

    def __init__(self, batches: Batches, dataset: Any, **how: Any) -> None:
        super().__init__(dataset, **how)
        self._batches, self._ranks = batches, dist.get_world_size() if dist.is_initialized() else 1
        self._seed = self.generator.initial_seed if self.generator else int  # 0
        self._begun, size = self._seed(), batches.batch_size
        if self.batch_size != size:
            what = f"{batches.path} has batches of {size}, the trainer of {self.batch_size}"
            raise UsageError(what, f"per_device_train_batch_size={size}, or compose batches of {self.batch_size}")
        counts = [len(self._of(epoch)) for epoch in range(batches.epochs)]
        self._count, left_out = max(counts), sum(map(batches.count, range(batches.epochs))) - sum(counts)
        if not min(counts):
            raise UsageError(f"{batches.path}: {self._ranks} processes need more full batches", "compose smaller ones")
        if left_out and self._ranks > 1:
            warnings.warn(f"{batches.path}: {left_out:,} batches make no full round of {self._ranks}", stacklevel=2)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the trainer's epoch; where it mixes datasets, the seed of the generator alone tells it."""
        return iter(self._of(self.epoch + self._seed() - self._begun))

    def _of(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, in the order in which processes take turns: they share out full ones alone."""
        full = self._ranks > 1 or self.drop_last
        rows = [rows.tolist() for rows in self._batches.of(epoch) if rows.size == self.batch_size or not full]
        return rows[: len(rows) - len(rows) % self._ranks]


class _Index:
    """What their mine_hard_negatives needs of an index of faiss: it is searched once for each query, in order."""

    def __init__(self, how: Mapping[str, Any]) -> None:
        self._how, self.done = how, 0

    def add(self, corpus: Any) -> None:
        """Take the rows to search, and number the pairs that are known as they do: (query, row), sorted."""
        how, columns = self._how, self._how["dataset"].column_names
        names = how["anchor_column_name"], how["positive_column_name"]
        texts = [list(how["dataset"][own if own in columns else columns[at]]) for at, own in enumerate(names)]
        query, row = ({text: at for at, text in enumerate(dict.fromkeys(each))}
                      for each in (texts[0], [*(how["corpus"] or ()), *texts[1]]))  # fmt: skip
        pairs = np.array([(query[one], row[other]) for one, other in zip(*texts, strict=True)])
        self._corpus, self._pairs = np.asarray(corpus, np.float32), np.unique(pairs, axis=0)
        self._most = int(np.bincount(self._pairs[:, 0]).max())  # positives of a query

    def search(self, queries: Any, k: int) -> tuple[Any, Any]:
        """Similarities and rows of k candidates a query: the nearest, or its positives and the nearest that pass."""
        how, most, queries = self._how, self._most, np.asarray(queries, np.float32)
        asked = [name for name in ("absolute_margin", "relative_margin", *OURS) if how[name] is not None]
        windowed = how["range_max"] is not None or how["cross_encoder"] is not None
        first, end = np.searchsorted(self._pairs[:, 0], [self.done, self.done + len(queries)])
        query, positive = (self._pairs[first:end] - [self.done, 0]).T
        self.done += len(queries)
        found = mine_arrays(
            queries, corpus=self._corpus, qrels=pa.table({"query_id": query, "positive_id": positive}), metric="dot",
            positives="easiest", reference="min", drop_duplicates_within=None, negatives=k if windowed else k - most,
            **({} if windowed else {OURS.get(name, name): how[name] for name in asked}),
        )  # fmt: skip
        scores, rows = np.full((len(queries), most + k), -np.inf, np.float32), np.full((len(queries), most + k), -1)
        of_pairs = (queries[query] * self._corpus[positive]).sum(axis=1)
        for own, to, x, at in ((query, positive, of_pairs, 0), (found.query, found.negative, -found.distance_an, most)):
            place = own, at + np.arange(own.size) - np.searchsorted(own, own)
            scores[place], rows[place] = x, to
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def mine_hard_negatives(*given: Any, **options: Any) -> Any:
    """The function of this name of sentence-transformers, with its parameters and results, and exact.

    Without range_max it looks as far as it takes for num_negatives that pass the filters; theirs looks at the nearest
    few alone. With range_max, or a cross_encoder that filters, it considers the same candidates as theirs. A further
    keyword is the seed of what "random" draws. use_faiss is not needed: minestream searches. Errors are ValueErrors.
    """
    how: dict[str, Any] = {name: each.default for name, each in SIGNATURE.parameters.items()}
    how |= SIGNATURE.bind(*given, **options).arguments
    if (similarity := getattr(how["model"], "similarity_fn_name", "cosine")) not in ("cosine", "dot"):
        raise UsageError(f"the similarity of the model is {similarity}", 'set model.similarity_fn_name = "cosine"')
    index = _Index(how)
    faiss = SimpleNamespace(IndexFlatIP=lambda _: index)
    # Their own function, in which faiss is the index above, what is drawn has a seed, and no bar speaks of faiss.
    found = {"__import__": lambda name, *rest: faiss if name == "faiss" else __import__(name, *rest)}
    instead = {"__builtins__": THEIRS.__builtins__ | found, "random": Random(how.pop("seed"))}
    instead["trange"] = lambda *of, **_: range(*of)
    mined = FunctionType(THEIRS.__code__, THEIRS.__globals__ | instead)(**how | {"use_faiss": True})
    if not index.done:
        raise UsageError("this sentence-transformers mines in another way", "install sentence-transformers 6.0")
    return mined


mine_hard_negatives.__dict__["__signature__"] = SIGNATURE


class ReminingCallback(TrainerCallback):
    """Mines again with the model as it is trained: `dataset`, which the trainer gets, exchanges its rows.

    Parameters
    ----------
    pairs, model, **options
        Of mine_hard_negatives. A first mining, at once, says how many rows there are: of fewer some come again, of
        more as many are drawn.
    every : "epoch" or int
        Before each epoch, or after so many steps (the next batch is fetched by then).
    """

    def __init__(self, pairs: Any, model: Any, every: int | str = "epoch", **options: Any) -> None:
        if options.get("cache_folder") or not (every == "epoch" or (isinstance(every, int) and every > 0)):
            raise UsageError(f"every={every!r}", '"epoch" or a number of steps; without cache_folder, as models change')
        self._every, self._mine = every, partial(mine_hard_negatives, pairs, **{"verbose": False} | options)
        self._mined = self._mine(model)
        self.dataset = Dataset.from_dict({"row": range(len(self._mined))})
        self.dataset.set_transform(lambda rows: self._mined[rows["row"]])
        setattr(self, "on_epoch_begin" if every == "epoch" else "on_step_end", self._again)

    def _again(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        if args.dataloader_num_workers and (self._every != "epoch" or args.dataloader_persistent_workers):
            raise UsageError("workers keep the rows that they began with", "dataloader_num_workers=0")
        if state.global_step and (self._every == "epoch" or state.global_step % self._every == 0):
            mined = self._mine(model)
            if not len(mined):
                raise UsageError(f"step {state.global_step}: no negative passes the filters", "wider filters")
            order = np.random.default_rng(state.global_step).permutation(len(mined))
            self._mined = mined.select(np.resize(order, len(self.dataset)))
