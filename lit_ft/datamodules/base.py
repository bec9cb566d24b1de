"""What every task's data module shares: prepared rows in batches, a place in the epoch, evaluation in whole rows."""

import logging
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from lightning.pytorch.trainer.states import TrainerStatus
from torch.utils.data import DataLoader

from lit_ft.data.batching.collators import Batch, Feature, pad
from lit_ft.data.batching.dataset import FeatureDataset
from lit_ft.data.batching.twins import keep_twins
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.ordering.orders import StoppingStrategy, shuffled
from lit_ft.data.ordering.samplers import ContiguousSampler, Key, LengthSortedSampler, StepSampler, TokenBudgetSampler
from lit_ft.data.ordering.training_order import SamplingStrategy
from lit_ft.data.quality.report import table
from lit_ft.data.reading.raw import Split
from lit_ft.data.streaming.loader import PlacedBatch, StreamLoader
from lit_ft.data.viewing.row_views import SequenceView, token_parts
from lit_ft.datamodules.batch_notes import note_on_batches
from lit_ft.datamodules.loader_processes import begin_loading
from lit_ft.datamodules.place import PlacedDataModule
from lit_ft.datamodules.streaming import check_streaming, check_validation, stream_loader
from lit_ft.datamodules.viewing import summary, view
from lit_ft.errors import UserError, did_you_mean

log = logging.getLogger("lit_ft")

STAGES: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "validation"),
    "validate": ("validation",),
    "test": ("test",),
    "predict": ("predict",),
}
EvaluationStrategy = Literal["group_by_length", "sequential"]
LIMITS = {"validation": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}
SHOWN = 3
"""Random training rows that are said at the start of fit, as the scripts do."""
LEAST = {
    "batch_size": 1, "eval_batch_size": 1, "max_seq_length": 1, "pad_to_multiple_of": 1, "preprocessing_num_workers": 1,
    "num_workers": 0, "shuffle_buffer_size": 0, "data_seed": 0,
}  # fmt: skip


class TransformerDataModule(PlacedDataModule):
    """Rows from files, the hub or memory, tokenized once and served in batches by transformers' names.

    A task writes `describe`, `tokenize`, `collate` and, where it needs them, `row_content`, `input_columns`,
    `info_columns`, `summarise`, `strata`, `groups`, `train_order`, `sequences`, `label_of` and `label_counts`.

    Args:
        data_seed: seed of the order of training rows. Default: the run's seed.
        train_sampling_strategy: `random`, `sequential`, or `group_by_length` (batches of rows of similar length: less
            padding, but no longer random batches).
        max_tokens_per_batch: batches of rows of similar length with at most this many tokens per process, padding
            included, instead of `batch_size` rows.
        eval_sampling_strategy: `group_by_length` (evaluation and prediction in a Trainer run rows of similar length
            together, and our modules put their outputs back in input order) or `sequential`.
        shuffle_buffer_size: rows that `streaming` shuffles together; 0 = rows come as they stand.
        probabilities: share of each of the `sources` in training, in their order. Default: by size.
        stopping_strategy: when an epoch of a mixture ends, as in `datasets.interleave_datasets`.
        pad_to_max_length: pad every batch to `max_seq_length` (static shapes) instead of to its longest row.
        dataloader_drop_last: leave out the rows at the end of a training epoch that fill no step, others each time.
        pad_to_multiple_of: round the padded length up to a multiple of this.
        batch_size: rows per process and step.
        eval_batch_size: rows per process and step in evaluation and prediction. Default: `batch_size`.
        num_workers: processes that load batches, per process of the run.
        multiprocessing_context: how loader processes start: `fork`, `spawn` or `forkserver`. Default: Python's.
        kwargs: options of where the rows come from and how they are prepared.
    """

    loading_options: ClassVar[frozenset[str]] = PlacedDataModule.loading_options | {
        "data_seed", "train_sampling_strategy", "max_tokens_per_batch", "eval_sampling_strategy", "shuffle_buffer_size",
        "probabilities", "stopping_strategy", "pad_to_max_length", "dataloader_drop_last", "pad_to_multiple_of",
        "batch_size", "eval_batch_size", "num_workers", "multiprocessing_context",
    }  # fmt: skip

    usual_packing: ClassVar[str | None] = "wrapped"
    """What batches of packed rows are compared with, if with anything."""
    learns_classes: ClassVar[bool] = True
    """Whether each label that is counted has to be learned."""

    def __init__(
        self,
        *,
        data_seed: int | None = None,
        train_sampling_strategy: SamplingStrategy = "random",
        max_tokens_per_batch: int | None = None,
        eval_sampling_strategy: EvaluationStrategy = "group_by_length",
        shuffle_buffer_size: int = 10_000,
        probabilities: list[float] | None = None,
        stopping_strategy: StoppingStrategy = "first_exhausted",
        pad_to_max_length: bool = False,
        dataloader_drop_last: bool = False,
        pad_to_multiple_of: int | None = None,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for option, least in LEAST.items():
            value = self.hparams[option]
            if value is not None and value < least:
                raise UserError(f"{option} is {value}; it must be at least {least}")
        if eval_sampling_strategy not in (known := get_args(EvaluationStrategy)):
            hint = did_you_mean(eval_sampling_strategy, known)
            raise UserError(
                f"eval_sampling_strategy is {eval_sampling_strategy!r}, expected {' or '.join(known)}{hint}"
            )
        self.known_rows: dict[Split, dict[str, dict[int, tuple[str, int]]]] = {}
        self._stream: StreamLoader | None = None
        self._explained: StepSampler[Any] | None = None

    # What a task writes

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads features into a batch; `keys` are the (epoch, index) of each, for what depends on chance."""
        return pad(features, self.tokenizer, self.static_length, self.hparams["pad_to_multiple_of"])

    def sequences(self, batch: Batch) -> list[SequenceView]:
        """Takes a batch of one row apart for people: the sequences that the model reads."""
        return token_parts(self.tokenizer, batch)

    def label_of(self, batch: Batch) -> str | None:
        """Returns what is to be predicted of the row as a whole in a batch of one; `None` = nothing, or no label."""
        return None

    def summary(self) -> dict[str, Any]:
        """Returns what the sets at hand hold and what is wrong with them, as plain JSON; see `viewing.summary`."""
        return summary(self)

    def label_counts(self, store: FeatureStore) -> dict[str, int]:
        """Counts the features of each label; empty where there are none to be counted."""
        return {}

    # Lightning's hooks

    def prepare_data(self) -> None:
        """Tokenizes the rows of the coming stage, once per machine; does nothing when that was done before."""
        stage = str(self.trainer.state.fn.value) if self.trainer and self.trainer.state.fn else "fit"
        if stage == "fit" and self.hparams["streaming"]:
            check_streaming(self)
        self._used = {}  # from here on files must stay as they are
        self.prepare_stage(STAGES[stage], overwrite=self.hparams["overwrite_cache"])

    def setup(self, stage: str = "fit") -> None:
        """Maps the prepared features of a stage (`fit`, `validate`, `test`, `predict`) into memory."""
        stage = str(getattr(stage, "value", stage))
        prepared = self.prepare_stage(STAGES[stage])
        self.description, self.report = prepared.description, prepared.report
        for note in [*prepared.notes, table(prepared.report)]:
            if note:
                log.info(note)
        for kind, sets in prepared.sets.items():
            self.known_rows[kind] = {name: each.known_rows for name, each in sets.items()}
            self.features[kind] = {name: FeatureDataset(each.features, each.info) for name, each in sets.items()}
        if stage == "fit":
            self._start = None  # of an earlier fit; Lightning restores after `setup`
        if stage == "fit" and self.hparams["streaming"]:
            check_streaming(self)
            check_validation(self)
        elif stage == "fit":
            stores = [each.features for each in prepared.sets["train"].values()]
            self.features["train"] = {"": FeatureDataset(FeatureStore.joined(stores))}
            self._train_sizes, self._order = [len(store) for store in stores], None
            _ = self._train_sampler  # options that exclude each other are named before a model is built
            for index in shuffled(len(self.features["train"][""]), self.seed, 0)[:SHOWN].tolist():
                log.info(f"a training row: {view(self, 'train', '', index).plain()}")

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

    # The parts

    def set_names(self, kind: Split) -> list[str]:
        """Names of the evaluation sets of one kind, in the order of their loaders."""
        return list(self.features.get(kind, {}))

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
