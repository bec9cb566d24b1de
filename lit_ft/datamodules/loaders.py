"""A data module's loaders: training batches from its place on, evaluation in whole rows, and streams."""

import logging
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from lightning.pytorch.trainer.states import TrainerStatus
from torch.utils.data import DataLoader

from lit_ft.data.batching.collators import Batch, Feature, pad
from lit_ft.data.batching.dataset import FeatureDataset
from lit_ft.data.batching.twins import keep_twins
from lit_ft.data.ordering.samplers import ContiguousSampler, Key, LengthSortedSampler, StepSampler, TokenBudgetSampler
from lit_ft.data.reading.raw import Split
from lit_ft.data.streaming.loader import PlacedBatch, StreamLoader
from lit_ft.datamodules.batch_notes import note_on_batches
from lit_ft.datamodules.loader_processes import begin_loading
from lit_ft.datamodules.place import PlacedDataModule
from lit_ft.datamodules.streaming import stream_loader
from lit_ft.ranges import AT_LEAST_ONE, NOT_NEGATIVE, check_choice, check_ranges

log = logging.getLogger("lit_ft")

EvaluationStrategy = Literal["group_by_length", "sequential"]
LIMITS = {"validation": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}


class LoadingDataModule(PlacedDataModule):
    """Loaders of the rows of all splits; see `TransformerDataModule`.

    Args:
        eval_batch_size: rows per process and step in evaluation and prediction. Default: `batch_size`.
        eval_sampling_strategy: `group_by_length` (evaluation and prediction in a Trainer run rows of similar length
            together, and our modules put their outputs back in input order) or `sequential`.
        shuffle_buffer_size: rows that `streaming` shuffles together; 0 = rows come as they stand.
        num_workers: processes that load batches, per process of the run.
        multiprocessing_context: how loader processes start: `fork`, `spawn` or `forkserver`. Default: Python's.
        kwargs: options of the order of training rows, of where they come from and how they are prepared.
    """

    loading_options: ClassVar[frozenset[str]] = PlacedDataModule.loading_options | {
        "eval_batch_size", "eval_sampling_strategy", "shuffle_buffer_size", "num_workers", "multiprocessing_context",
    }  # fmt: skip

    def __init__(
        self,
        *,
        eval_batch_size: int | None = None,
        eval_sampling_strategy: EvaluationStrategy = "group_by_length",
        shuffle_buffer_size: int = 10_000,
        num_workers: int = 0,
        multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        ranges = {"eval_batch_size": AT_LEAST_ONE, "num_workers": NOT_NEGATIVE, "shuffle_buffer_size": NOT_NEGATIVE}
        check_ranges(self.hparams, ranges)
        check_choice(self.hparams, "eval_sampling_strategy", get_args(EvaluationStrategy))
        self._stream: StreamLoader | None = None
        self._explained: StepSampler[Any] | None = None

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads features into a batch; `keys` are the (epoch, index) of each, for what depends on chance."""
        return pad(features, self.tokenizer, self.static_length, self.hparams["pad_to_multiple_of"])

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of the training rows, in an order that is a pure function of seed and epoch."""
        if self.hparams["streaming"]:
            self._stream = stream_loader(self)
            return self._stream
        sampler = self._train_sampler
        if self._explained is not sampler and (note := note_on_batches(self, sampler, self._own_order)):
            log.info(note)
        if self._explained is not sampler and self.hparams["dataloader_drop_last"]:
            rows = len(self.features["train"][""])
            log.info(f"dataloader_drop_last: each epoch leaves out {rows - sampler.units:,} of {rows:,} rows")
        self._explained = sampler
        self._go_on(sampler)
        size = None if isinstance(sampler, TokenBudgetSampler) else self.hparams["batch_size"]
        return self._loader(self.features["train"][""], sampler, "train", size)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """One loader per validation set."""
        return self._evaluation_loaders("validation")

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """One loader per test set."""
        return self._evaluation_loaders("test")

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        """One loader per set to predict."""
        return self._evaluation_loaders("predict")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Notes the place of a streamed batch that is about to be used."""
        return self._stream.take(batch) if self._stream is not None and isinstance(batch, PlacedBatch) else batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves a batch, whose tensors remember what they were: modules that look for places in them need not wait."""
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        if isinstance(batch, dict):
            keep_twins(batch, moved)
        return moved

    def _evaluation_loaders(self, kind: Split) -> list[DataLoader[Any]]:
        size = self.hparams["eval_batch_size"] or self.hparams["batch_size"]
        samplers = {
            name: self._evaluation_sampler(data, kind, size) for name, data in self.features.get(kind, {}).items()
        }
        return [
            self._loader(self.features[kind][name], sampler, kind, size, getattr(sampler, "settles", None))
            for name, sampler in samplers.items()
        ]

    def _evaluation_sampler(self, data: FeatureDataset, kind: Split, batch_size: int) -> ContiguousSampler:
        # outside of a run nobody says how many batches will be used, and rows would wait for batches that never come
        running = self.trainer is not None and self.trainer.state.status == TrainerStatus.RUNNING
        if not running or self.static_length or self.hparams["eval_sampling_strategy"] == "sequential":
            return ContiguousSampler(data.row_of_feature, *self.processes)
        limit = getattr(self.trainer, LIMITS[kind])
        return LengthSortedSampler(data.row_of_feature, data.store.widths(), batch_size, limit, *self.processes)

    def _loader(
        self,
        data: FeatureDataset,
        sampler: Any,
        kind: Split,
        batch_size: int | None,
        settles: dict[int, int] | None = None,
    ) -> DataLoader[Any]:
        workers = self.hparams["num_workers"]
        return DataLoader(
            data,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context=self.hparams["multiprocessing_context"] if workers else None,
            worker_init_fn=partial(begin_loading, rank=self.processes[1]) if workers else None,
            pin_memory=torch.cuda.is_available(),
            collate_fn=partial(self.batch_of, kind, settles=settles),
        )

    def batch_of(self, kind: Split, features: list[Feature] | Feature, settles: dict[int, int] | None = None) -> Batch:
        """Collates features of any split, with what evaluation needs beside them.

        Args:
            kind: the split.
            features: what the data set gave.
            settles: of a `LengthSortedSampler`; batches to predict say as `settled` which rows have come with them.
        """
        if isinstance(features, dict):  # for `overfit_batches`, Lightning replaces a sampler of whole batches
            features = [features]
        extras = {name: [feature.pop(name, None) for feature in features] for name in ("key", "row", "windows", "info")}
        batch = self.collate(features, kind, extras["key"])
        if kind == "train":
            return batch
        batch |= {name: torch.tensor(extras[name]) for name in ("row", "windows")}
        if kind == "predict" and settles is not None:
            batch["settled"] = max(settles.get(index, 0) for _, index in extras["key"])
        return batch if extras["info"][0] is None else {**batch, "info": extras["info"]}

    def __getstate__(self) -> dict[str, Any]:
        # worker processes get the data module without the run that it is in
        known = {"_tokenizer": self.tokenizer, "_config": self.pretrained_config()}
        return {**self.__dict__, **known, "trainer": None, "_order": None, "_explained": None, "_stream": None}
