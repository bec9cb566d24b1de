"""What every task's data module shares: sources, preparation once per machine, loaders, evaluation in whole rows."""

import logging
import math
import os
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, cast

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

import lit_ft
from lit_ft.data.cache import class_digest, preparation_root, tokenizer_digest
from lit_ft.data.collators import Batch, Feature, pad
from lit_ft.data.features import FeatureDataset
from lit_ft.data.prepare import Prepared, Work, prepare
from lit_ft.data.raw import Kind, RawRows, RawSource, SplitNames
from lit_ft.data.readers import Quoting, ReadOptions
from lit_ft.data.samplers import ContiguousSampler, GlobalOrderSampler, Key
from lit_ft.data.sources import HubSource, NamedFiles
from lit_ft.data.tokenization import TruncationSide
from lit_ft.datamodules.tokenizing import TokenizingDataModule
from lit_ft.errors import UserError

log = logging.getLogger("lit_ft")

STAGES: dict[str, tuple[Kind, ...]] = {
    "fit": ("train", "validation"),
    "validate": ("validation",),
    "test": ("test",),
    "predict": ("predict",),
}
LOADING_ONLY = {
    "batch_size", "eval_batch_size", "num_workers", "preprocessing_num_workers", "preparation_dir", "overwrite_cache",
    "pad_to_max_length", "pad_to_multiple_of", "cache_dir", "class_balanced_sampling",
}  # fmt: skip


class TransformerDataModule(TokenizingDataModule):
    """Rows from files, the hub or memory, tokenized once and served in batches by transformers' names.

    A task writes `describe`, `tokenize`, `collate` and, where it needs them, `strata` and `train_weights`.

    Args:
        model_name_or_path: checkpoint whose tokenizer is used (hub name, folder, or `package://name/folder` inside an
            installed package). On the command line it follows the model's.
        tokenizer_name: tokenizer, where it is not the model's.
        model_revision: branch, tag or commit of the model on the hub.
        use_fast_tokenizer: use the Rust tokenizer where there is one.
        tokenizer_kwargs: further arguments of `AutoTokenizer.from_pretrained`, such as `do_lower_case`.
        trust_remote_code: run code that lies beside a checkpoint on the hub.
        gguf_file: name of the GGUF file in the model's folder.
        cache_dir: where downloads from the hub are kept.
        add_tokens: words to add to the vocabulary; on the command line it follows the model's.
        dataset: objects in memory: Dataset, DatasetDict, list of dicts, DataFrame, or a dict of these by split
            (Python only).
        dataset_name: data set on the hub, or a local folder.
        dataset_config_name: configuration of that data set.
        dataset_revision: branch, tag or commit of that data set.
        train_file: training rows: csv, tsv, json, jsonl, parquet, arrow or txt, each also gzipped; one file, a list, or
            a glob.
        validation_file: validation rows; a dict of name to files makes several sets, each with its metric prefix.
        test_file: test rows, as `validation_file`.
        predict_file: rows to predict, as `validation_file`. Without it, the test rows are predicted.
        column_names: names of the columns of csv and tsv files that have no header line.
        quoting: `minimal` (csv fields may stand in double quotes) or `none` (quotes are ordinary characters).
        delimiter: separator of csv and tsv files, where it is neither comma nor tab.
        train_split_name: split of the data set to train on.
        validation_split_name: split to validate on; a dict of name to split makes several sets. `config/split` takes it
            from another configuration.
        test_split_name: split to test on, as `validation_split_name`.
        predict_split_name: split to predict, as `validation_split_name`.
        validation_split_percentage: share of the training rows to cut for validation where there is no validation
            split, in percent, seeded and stratified. 0 = no validation.
        max_train_samples: train on at most this many rows (a seeded sample).
        max_eval_samples: validate and test on at most this many rows.
        max_predict_samples: predict at most this many rows.
        sample_head: take the first rows instead of a sample.
        data_seed: seed of the order of training rows. Default: the run's seed.
        max_seq_length: most tokens of a feature, special tokens included.
        truncation_side: the part of a longer text that is kept: `first`, `last` or `head_and_tail`.
        stride: make windows that overlap by this many tokens instead of cutting longer texts.
        pad_to_max_length: pad every batch to `max_seq_length` (static shapes) instead of to its longest row.
        pad_to_multiple_of: round the padded length up to a multiple of this.
        batch_size: rows per process and step.
        eval_batch_size: rows per process and step in evaluation and prediction. Default: `batch_size`.
        num_workers: processes that load batches, per process of the run.
        preprocessing_num_workers: processes that tokenize.
        preparation_dir: where prepared data is kept. Default: `$LIT_FT_CACHE`, else `~/.cache/lit_ft`.
        overwrite_cache: prepare anew even if it was done before.
    """

    def __init__(
        self,
        *,
        model_name_or_path: str | None = None,
        tokenizer_name: str | None = None,
        model_revision: str = "main",
        use_fast_tokenizer: bool = True,
        tokenizer_kwargs: dict[str, Any] | None = None,
        trust_remote_code: bool = False,
        gguf_file: str | None = None,
        cache_dir: str | None = None,
        add_tokens: list[str] | None = None,
        dataset: Any = None,
        dataset_name: str | None = None,
        dataset_config_name: str | None = None,
        dataset_revision: str | None = None,
        train_file: str | list[str] | None = None,
        validation_file: NamedFiles | None = None,
        test_file: NamedFiles | None = None,
        predict_file: NamedFiles | None = None,
        column_names: list[str] | None = None,
        quoting: Quoting = "minimal",
        delimiter: str | None = None,
        train_split_name: str = "train",
        validation_split_name: SplitNames | None = None,
        test_split_name: SplitNames | None = None,
        predict_split_name: SplitNames | None = None,
        validation_split_percentage: float = 5,
        max_train_samples: int | None = None,
        max_eval_samples: int | None = None,
        max_predict_samples: int | None = None,
        sample_head: bool = False,
        data_seed: int | None = None,
        max_seq_length: int | None = 128,
        truncation_side: TruncationSide = "first",
        stride: int | None = None,
        pad_to_max_length: bool = False,
        pad_to_multiple_of: int | None = None,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        preprocessing_num_workers: int | None = None,
        preparation_dir: str | None = None,
        overwrite_cache: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["dataset"], logger=False)
        for option, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size is not None and size < 1:
                raise UserError(f"{option} is {size}; it must be at least 1")
        self.source = RawSource(
            dataset=dataset,
            hub=HubSource(dataset_name, dataset_config_name, dataset_revision) if dataset_name else None,
            files={"train": train_file, "validation": validation_file, "test": test_file, "predict": predict_file},
            split_names={
                "train": train_split_name,
                "validation": validation_split_name,
                "test": test_split_name,
                "predict": predict_split_name,
            },
            read=ReadOptions(column_names, quoting, delimiter),
            validation_split_percentage=validation_split_percentage,
            limits={
                "train": max_train_samples,
                "validation": max_eval_samples,
                "test": max_eval_samples,
                "predict": max_predict_samples,
            },
            head=sample_head,
        )
        self.description: dict[str, Any] = {}
        self.notes: list[str] = []
        self.features: dict[Kind, dict[str, FeatureDataset]] = {}
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._start = (0, 0)

    # What a task writes

    @abstractmethod
    def describe(self, raw: dict[Kind, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Returns what the model must know of the data (label names, problem type) as plain JSON.

        Args:
            raw: the rows of the stage, by kind and set.
            known: what a checkpoint or the module's own arguments say already; empty when they say nothing.
        """

    @abstractmethod
    def tokenize(self, rows: dict[str, list[Any]], split: Kind) -> dict[str, list[Any]]:
        """Turns a batch of raw rows into features.

        Returns:
            Columns of features; `row` is the index, in this batch, of the row that each feature came from, and
            `tokens_cut` the tokens lost in it (counted, then dropped).
        """

    def collate(self, features: list[Feature], split: Kind, keys: list[Key]) -> Batch:
        """Pads features into a batch; `keys` are the (epoch, index) of each, for what depends on chance."""
        width = self.encoder.max_seq_length if self.hparams["pad_to_max_length"] else None
        return pad(features, self.tokenizer, width, self.hparams["pad_to_multiple_of"])

    def strata(self, rows: Dataset, place: str) -> Sequence[Hashable] | None:
        """Returns one key per row, in whose proportions the validation split is cut; `None` = by chance alone."""
        return None

    def train_weights(self) -> Any:
        """Returns how often each training feature is drawn, `[features]`; `None` = each once."""
        return None

    # Lightning's hooks

    def prepare_data(self) -> None:
        """Tokenizes the rows of the coming stage, once per machine; does nothing when that was done before."""
        stage = str(self.trainer.state.fn.value) if self.trainer and self.trainer.state.fn else "fit"
        self._prepare(stage, overwrite=self.hparams["overwrite_cache"])

    def setup(self, stage: str = "fit") -> None:
        """Maps the prepared features of a stage (`fit`, `validate`, `test`, `predict`) into memory."""
        prepared = self._prepare(str(getattr(stage, "value", stage)))
        self.description = prepared.description
        for note in prepared.notes:
            log.info(note)
        for kind, sets in prepared.sets.items():
            self.features[cast(Kind, kind)] = {
                name: FeatureDataset(features, rows, rows.column_names if kind == "predict" else None)
                for name, (features, rows) in sets.items()
            }
        if "train" in self.features and getattr(stage, "value", stage) == "fit":
            self._show(self.features["train"][""])

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of the training rows, in an order that is a pure function of seed and epoch."""
        data, size = self.features["train"][""], self.hparams["batch_size"]
        replicas, rank = self._processes()
        sampler = GlobalOrderSampler(len(data), size, self.seed, replicas, rank, self.train_weights())
        sampler.start = self._start
        sampler.set_epoch(self._start[0])  # worker processes fetch before Lightning says which epoch it is
        return self._loader(data, sampler, "train", size)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """One loader per validation set."""
        return self._evaluation_loaders("validation")

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """One loader per test set."""
        return self._evaluation_loaders("test")

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        """One loader per set to predict."""
        return self._evaluation_loaders("predict")

    def state_dict(self) -> dict[str, Any]:
        """Returns the place in the epoch: Lightning itself would go on with the epoch's first rows."""
        if self.trainer is None:
            return {}
        epoch, progress = self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress
        if progress.is_last_batch:
            return {"epoch": epoch + 1, "batches": 0}
        return {"epoch": epoch, "batches": progress.current.ready, "rows": progress.current.ready * self._rows_per_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on at the checkpoint's place; called before the training loader is made.

        Raises:
            UserError: the place lies within an epoch, and batches have another size now.
        """
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return  # Lightning restores in every stage, but only training has a place
        if state_dict["batches"] * self._rows_per_step != state_dict.get("rows", 0):
            size = state_dict["rows"] // state_dict["batches"]
            raise UserError(
                f"the checkpoint lies within an epoch of {size} rows a step (batch_size x processes), now they are "
                f"{self._rows_per_step}: keep the size, or go on from the end of an epoch"
            )
        self._start = (state_dict["epoch"], state_dict["batches"])

    # The parts

    @property
    def seed(self) -> int:
        """Seed of the order of training rows."""
        given = self.hparams["data_seed"]
        return int(os.environ.get("PL_GLOBAL_SEED", 42)) if given is None else int(given)

    @property
    def num_train_batches(self) -> int:
        """Batches of an epoch, per process; known from `setup` on, without making the loader."""
        return math.ceil(len(self.features["train"][""]) / self._rows_per_step)

    @property
    def _rows_per_step(self) -> int:
        return int(self.hparams["batch_size"]) * self._processes()[0]

    def set_names(self, kind: Kind) -> list[str]:
        """Names of the evaluation sets of one kind, in the order of their loaders."""
        return list(self.features.get(kind, {}))

    def load_rows(self, kind: Kind) -> dict[str, RawRows]:
        """Loads the raw rows of one kind of split, by set.

        Raises:
            UserError: there are none, or they cannot be read.
        """
        origin = self._origin(kind)
        loaded = self.source.load(origin, self.strata)
        if not loaded and kind != "validation":
            option = "predict_file or test_file" if kind == "predict" else f"{kind}_file or {kind}_split_name"
            raise UserError(f"no {kind} rows: set {option}")
        if kind == "predict":
            return {name or self.source.stem(origin): rows for name, rows in loaded.items()}
        return loaded

    def _show(self, data: FeatureDataset, rows: int = 3) -> None:
        """Says what the model will see of a few random training rows, as the scripts do."""
        for index in GlobalOrderSampler(len(data), rows, self.seed).order(0)[:rows].tolist():
            feature = data.features[index]
            text = self.tokenizer.decode(feature["input_ids"])
            log.info(f"a training row: {text[:300]!r} -> {feature.get('labels')}")

    def _prepare(self, stage: str, overwrite: bool = False) -> Prepared:
        kinds = STAGES[stage]
        known = dict(getattr(self._module, "description", None) or {})
        config = self.pretrained_config()
        labels_from_train = not known and "train" not in kinds
        key = {
            "lit_ft": lit_ft.__version__,
            "class": class_digest(type(self)),
            "options": {name: value for name, value in self.hparams.items() if name not in LOADING_ONLY},
            "tokenizer": tokenizer_digest(self.tokenizer),
            "known": known,
            "head": [config.id2label, config.architectures, config.problem_type] if config else None,
            "train": self._train_fingerprint() if labels_from_train else None,
            "rows": {kind: self.source.fingerprint(self._origin(kind)) for kind in kinds},
        }
        root = preparation_root(self.hparams["preparation_dir"])
        workers = self.hparams["preprocessing_num_workers"]
        return prepare(key, lambda: self._work(kinds, known), root, workers, overwrite)

    def _train_fingerprint(self) -> Any:
        try:
            return self.source.fingerprint("train")
        except UserError:  # not there: it only matters where the labels are read from it, and there it is said
            return None

    def _work(self, kinds: tuple[Kind, ...], known: dict[str, Any]) -> Work:
        rows = {kind: self.load_rows(kind) for kind in kinds}
        self.notes = []
        self.description = self.describe(rows, known)
        return Work(rows, self.description, self.tokenize, self.notes)

    def _origin(self, kind: Kind) -> Kind:
        return "test" if kind == "predict" and not self.source.sets("predict") else kind

    def _processes(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _evaluation_loaders(self, kind: Kind) -> list[DataLoader[Any]]:
        replicas, rank = self._processes()
        size = self.hparams["eval_batch_size"] or self.hparams["batch_size"]
        return [
            self._loader(data, ContiguousSampler(data.row_of_feature, replicas, rank), kind, size)
            for data in self.features.get(kind, {}).values()
        ]

    def _loader(self, data: FeatureDataset, sampler: Any, kind: Kind, batch_size: int) -> DataLoader[Any]:
        workers = self.hparams["num_workers"]
        return DataLoader(
            data,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=partial(self._collate, kind),
        )

    def _collate(self, kind: Kind, features: list[Feature]) -> Batch:
        extras = {name: [feature.pop(name, None) for feature in features] for name in ("key", "row", "windows", "info")}
        batch = self.collate(features, kind, extras["key"])
        if kind == "train":
            return batch
        batch |= {name: torch.tensor(extras[name]) for name in ("row", "windows")}
        return batch if extras["info"][0] is None else {**batch, "info": extras["info"]}

    def __getstate__(self) -> dict[str, Any]:
        # worker processes get the data module without the run that it is in
        return {**self.__dict__, "_tokenizer": self.tokenizer, "trainer": None}
