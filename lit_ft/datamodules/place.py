"""A LightningDataModule that knows its place among the training rows: it is saved, and a run goes on from there."""

import math
import os
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, ClassVar

from lightning.pytorch.trainer.states import TrainerStatus

from lit_ft.data.batching.dataset import FeatureDataset
from lit_ft.data.features.store import FeatureStore, first_rows
from lit_ft.data.ordering.orders import StoppingStrategy
from lit_ft.data.ordering.samplers import StepSampler
from lit_ft.data.ordering.training_order import OwnOrder, SamplingStrategy, TrainingOrder
from lit_ft.data.preparing.prepare import PreparedSet
from lit_ft.data.reading.raw import Split
from lit_ft.datamodules.batch_notes import note_on_change
from lit_ft.datamodules.preparing import PreparingDataModule
from lit_ft.errors import UserError
from lit_ft.ops.serving import serves
from lit_ft.ranges import AT_LEAST_ONE, NOT_NEGATIVE, check_ranges


class PlacedDataModule(PreparingDataModule):
    """The order of training rows, a function of seed and epoch, and the place in it; see `TransformerDataModule`.

    Args:
        data_seed: seed of the order of training rows. Default: the run's seed.
        train_sampling_strategy: `random`, `sequential`, or `group_by_length` (batches of rows of similar length: less
            padding, but no longer random batches).
        max_tokens_per_batch: batches of rows of similar length with at most this many tokens per process, padding
            included, instead of `batch_size` rows.
        batch_size: rows per process and step.
        probabilities: share of each of the `sources` in training, in their order. Default: by size.
        stopping_strategy: when an epoch of a mixture ends, as in `datasets.interleave_datasets`.
        dataloader_drop_last: leave out the rows at the end of a training epoch that fill no step, others each time.
        pad_to_max_length: pad every batch to `max_seq_length` (static shapes) instead of to its longest row.
        pad_to_multiple_of: round the padded length up to a multiple of this.
        kwargs: options of where the rows come from and how they are prepared.
    """

    loading_options: ClassVar[frozenset[str]] = PreparingDataModule.loading_options | {
        "data_seed", "train_sampling_strategy", "max_tokens_per_batch", "batch_size", "probabilities",
        "stopping_strategy", "dataloader_drop_last", "pad_to_max_length", "pad_to_multiple_of",
    }  # fmt: skip

    def __init__(
        self,
        *,
        data_seed: int | None = None,
        train_sampling_strategy: SamplingStrategy = "random",
        max_tokens_per_batch: int | None = None,
        batch_size: int = 8,
        probabilities: list[float] | None = None,
        stopping_strategy: StoppingStrategy = "first_exhausted",
        dataloader_drop_last: bool = False,
        pad_to_max_length: bool = False,
        pad_to_multiple_of: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_ranges(
            self.hparams, {"batch_size": AT_LEAST_ONE, "pad_to_multiple_of": AT_LEAST_ONE, "data_seed": NOT_NEGATIVE}
        )
        self.features: dict[Split, dict[str, FeatureDataset]] = {}
        self.known_rows: dict[Split, dict[str, dict[int, tuple[str, int]]]] = {}
        self._train_sizes: list[int] = []
        self._first_rows: dict[str, int] = {}
        self._own_order: OwnOrder | None = None
        self._order: StepSampler[Any] | None = None
        self._start: tuple[int, int] | None = None

    def train_order(self) -> OwnOrder | None:
        """Returns an order of the training features that is the task's own; `None` = that of the options.

        Streams are asked, too, which have no features and refuse any such order.
        """
        return None

    @property
    def seed(self) -> int:
        """Seed of the order of training rows."""
        given = self.hparams["data_seed"]
        return int(os.environ.get("PL_GLOBAL_SEED", 42)) if given is None else int(given)

    @property
    def num_train_batches(self) -> float:
        """Batches of an epoch, per process; known from `setup` on, without making the loader; a stream never ends."""
        return math.inf if self.hparams["streaming"] else self._train_sampler.steps

    def train_rows_at(self, epoch: int, batch_idx: int) -> list[int] | None:
        """Returns which rows of the training set a batch of this process holds; `None` of a stream.

        The rows of several `sources` are numbered on from each to the next; `source_of_row` says which one is meant.
        """
        if self.hparams["streaming"]:
            return None
        features = self._train_sampler.rows_at(epoch, batch_idx)
        return [int(row) for row in self.features["train"][""].row_of_feature[features]]

    def source_of_row(self, row: int) -> tuple[str, int]:
        """Returns which of the `sources` a row of the training set is of (`""` without any), and its number there."""
        name, first = next(each for each in reversed(self._first_rows.items()) if each[1] <= row)
        return name, row - first

    def _join(self, sets: Mapping[str, PreparedSet]) -> None:
        """Lays the training rows of several sources end to end, and what is known of some of them."""
        stores = [each.features for each in sets.values()]
        self._first_rows = dict(zip(sets, first_rows(stores), strict=True))
        self._train_sizes, self._order = [len(store) for store in stores], None
        self.features["train"] = {"": FeatureDataset(FeatureStore.joined(stores))}
        known = [
            # a row behind the last one that has features has no number here
            [(first + row, said) for row, said in each.known_rows.items() if row < each.features.rows]
            for first, each in zip(self._first_rows.values(), sets.values(), strict=True)
        ]
        # in turn, so that the first few of them are of all sources
        self.known_rows["train"] = {"": dict(one for turn in zip_longest(*known) for one in turn if one is not None)}

    @property
    def _train_sampler(self) -> StepSampler[Any]:
        replicas, rank = self.processes
        if self._order is None or self._order.num_replicas != replicas:
            if "train" not in self.features:
                raise UserError('the training rows are not there yet: call prepare_data() and setup("fit") before')
            store, self._own_order = self.features["train"][""].store, self.train_order()
            self._order = self.training_order.sampler(
                store, self._train_sizes, self._own_order, self.hparams["batch_size"], replicas, rank
            )
        return self._order

    @property
    def training_order(self) -> TrainingOrder:
        """The order of training rows, by the options."""
        options = self.hparams
        return TrainingOrder(
            self.seed,
            options["train_sampling_strategy"],
            options["max_tokens_per_batch"],
            options["pad_to_multiple_of"] or 1,
            options["probabilities"],
            options["stopping_strategy"],
            self.static_length,
            options["dataloader_drop_last"],
        )

    def _run_facts(self) -> dict[str, Any]:
        return {"processes": self.processes[0], "batch_size": self.hparams["batch_size"], "rows": self.train_digest}

    def _order_settings(self) -> dict[str, Any]:
        return self.training_order.settings(self._train_sampler, self._own_order)

    @property
    def static_length(self) -> int | None:
        """The length that every batch is padded to, with `pad_to_max_length`."""
        return self.longest_feature if self.hparams["pad_to_max_length"] else None

    @property
    def processes(self) -> tuple[int, int]:
        """How many processes train, and which of them this one is."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    @property
    def is_left_out(self) -> bool:
        """Whether others' loaders were given to the run that goes on: there is nothing to prepare, and no place."""
        going_on = self.trainer is not None and self.trainer.state.status == TrainerStatus.RUNNING
        return going_on and not serves(self.trainer, self)

    def state_dict(self) -> dict[str, Any]:
        """Returns the place in the epoch: Lightning itself would go on with the epoch's first rows."""
        if self.trainer is None or "train" not in self.features or self.is_left_out:
            return {}  # a stream's loader has a state of its own
        loop = self.trainer.fit_loop
        # not `current_epoch`: at the end of fit it counts an epoch as done that was not
        epoch, progress = max(loop.epoch_progress.current.ready - 1, 0), loop.epoch_loop.batch_progress
        place = {"settings": self._order_settings(), "run": self._run_facts()}
        if progress.is_last_batch:
            return {**place, "epoch": epoch + 1, "units": 0}
        return {**place, "epoch": epoch, "units": self._train_sampler.units_after(epoch, progress.current.ready)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on at the checkpoint's place; called before the training loader is made.

        Raises:
            UserError: the place lies within an epoch, and rows come in another order now.
        """
        if not state_dict or self.hparams["streaming"] or (self.trainer and self.trainer.state.fn != "fit"):
            return  # Lightning restores in every stage, but only training has a place
        then, now = state_dict["settings"], self._order_settings()
        changed = [name for name in now if then.get(name) != now[name]]
        if state_dict["units"] and changed:
            raise UserError(
                f"the checkpoint lies within an epoch; there {changed[0]} was {then.get(changed[0])}, now it is "
                f"{now[changed[0]]}: keep it, or go on from a checkpoint at the end of an epoch"
            )
        self._start = (state_dict["epoch"], state_dict["units"])
        note_on_change(state_dict, self._run_facts(), self.hparams["max_tokens_per_batch"] is not None)

    def _go_on(self, sampler: StepSampler[Any]) -> None:
        """Begins at the place of a checkpoint, and has Lightning count the steps before it as this run would have."""
        if self._start is None or self.trainer is None:
            return
        sampler.start_at(*self._start)  # worker processes fetch before Lightning says which epoch it is
        loop: Any = self.trainer.fit_loop
        epoch, _ = self._start
        progress = loop.epoch_loop.batch_progress.current
        if loop.epoch_progress.current.processed > epoch:  # fit ended within that epoch, which goes on now
            for counted in (loop.epoch_progress.current, loop.epoch_progress.total):
                counted.processed -= 1
                counted.completed = min(counted.completed, counted.processed)
            loop.restarting = True
        elif loop.restarting and self._start[1] == 0 and 0 < epoch == loop.epoch_progress.current.processed:
            loop._restarting = loop.epoch_loop._restarting = False  # with `max_steps` it says so between epochs, too
        shift = sampler.steps_before(self._start[1]) - progress.ready
        for name in ("ready", "started", "processed", "completed"):
            setattr(progress, name, getattr(progress, name) + shift)
        self._start = None  # a loader that is made anew later has the sampler, which knows the place
