"""Which order training rows come in, by the options of a data module: one sampler out of the orders there are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from lit_ft.data.features.ragged import Array
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.ordering.orders import (
    Rows,
    StoppingStrategy,
    TokenBatches,
    by_both,
    length_grouped,
    mixed,
    mixed_length,
    require_same_rows,
    sequential_token_batches,
    shuffled,
    token_batch_order,
    token_boundaries,
)
from lit_ft.data.ordering.samplers import GlobalOrderSampler, StepSampler, TokenBudgetSampler
from lit_ft.errors import UserError
from lit_ft.ranges import check_choice

SamplingStrategy = Literal["random", "sequential", "group_by_length"]


@dataclass(frozen=True)
class OwnOrder:
    """An order of rows that a task makes, by chance.

    Args:
        option: what asks for it.
        rows: gives as many row numbers as there are rows, for a seed and an epoch; features are read here, not before.
    """

    option: str
    rows: Callable[[int, int], Rows]


@dataclass(frozen=True)
class TrainingOrder:
    """Options of the order; see `TransformerDataModule`."""

    seed: int
    strategy: SamplingStrategy = "random"
    max_tokens: int | None = None
    multiple_of: int = 1
    probabilities: Sequence[float] | None = None
    stopping_strategy: StoppingStrategy = "first_exhausted"
    static_length: int | None = None
    """Length that every batch is padded to, where batches are not as long as their longest row."""
    drop_last: bool = False
    """Leave out the rows at the end of an epoch that fill no batch."""

    def sampler(
        self,
        store: FeatureStore,
        sizes: Sequence[int],
        own: OwnOrder | None,
        batch_size: int,
        num_replicas: int,
        rank: int,
    ) -> StepSampler[Any]:
        """Makes the sampler of a process.

        Args:
            store: the training features, those of several sources end to end.
            sizes: features of each source.
            own: the task's order; `None` = each row once, by the options.
            batch_size: features per process and step, where there is no token budget.
            num_replicas: number of processes.
            rank: this process.

        Raises:
            UserError: options that exclude each other.
        """
        self._check(sizes, own)
        if self.max_tokens is not None:
            require_same_rows(None if own is None else own.option, self.probabilities, self.stopping_strategy)
            if len(sides := store.sides()) > 1:
                return self._budgeted(*map(self.padded, sides), num_replicas=num_replicas, rank=rank)
            widths = store.most_sequences * self.padded(store.widths())
            return self._budgeted(widths, num_replicas=num_replicas, rank=rank)
        order, rows = partial(self._rows, sizes, own), len(store)
        if self.probabilities is not None:
            rows = mixed_length(sizes, self.probabilities, self.stopping_strategy)
        if self.strategy == "group_by_length":
            order = partial(self._grouped, order, store.widths(), batch_size * num_replicas)
        if self.drop_last:
            whole = rows - rows % (batch_size * num_replicas)
            if not whole:
                raise UserError(
                    f"dataloader_drop_last leaves nothing: {rows:,} rows do not fill a step of {batch_size} rows x "
                    f"{num_replicas} processes"
                )
            rows, order = whole, partial(_first, order, whole)
        return GlobalOrderSampler(order, rows, batch_size, num_replicas, rank)

    def padded(self, lengths: Array) -> Array:
        """Returns how long batches are padded whose longest row has so many tokens."""
        if self.static_length is not None:
            lengths = np.full_like(lengths, self.static_length)
        return -(-lengths // self.multiple_of) * self.multiple_of

    def settings(self, sampler: StepSampler[Any], own: OwnOrder | None) -> dict[str, Any]:
        """Returns, as plain values, what must be the same for a place within an epoch to mean the same rows.

        Args:
            sampler: what `sampler` returned.
            own: the task's order.
        """
        grouped = self.strategy == "group_by_length" and self.max_tokens is None
        return {
            "data_seed": self.seed,
            "number of training batches" if self.max_tokens else "number of training rows": sampler.units,
            "order by": None if own is None else own.option,
            "train_sampling_strategy": self.strategy,
            "max_tokens_per_batch": self.max_tokens,
            "pad_to_multiple_of": self.multiple_of if self.max_tokens else None,
            "probabilities": None if self.probabilities is None else list(self.probabilities),
            "stopping_strategy": self.stopping_strategy if self.probabilities else None,
            "dataloader_drop_last": self.drop_last,
            # runs of batches are sorted by length: other batches, other runs
            "batch_size x processes": sampler.units_per_step if grouped else None,
        }

    def _check(self, sizes: Sequence[int], own: OwnOrder | None) -> None:
        if self.drop_last and self.max_tokens is not None:
            raise UserError("max_tokens_per_batch makes no batches that could be short: leave dataloader_drop_last out")
        check_choice({"train_sampling_strategy": self.strategy}, "train_sampling_strategy", get_args(SamplingStrategy))
        if self.static_length is not None and self.max_tokens is not None:
            rows = max(self.max_tokens // self.static_length, 1)
            raise UserError(
                f"pad_to_max_length makes every row {self.static_length} tokens long: set batch_size: {rows} instead "
                f"of max_tokens_per_batch: {self.max_tokens}, or leave pad_to_max_length out"
            )
        if self.static_length is not None and self.strategy == "group_by_length":
            raise UserError(
                f"pad_to_max_length makes every row {self.static_length} tokens long, so there is nothing to group: "
                "leave it or train_sampling_strategy: group_by_length out"
            )
        if self.probabilities is not None and len(sizes) == 1:
            raise UserError("probabilities mix several sources: set sources, or leave probabilities out")
        if own is not None and (self.probabilities is not None or self.strategy == "sequential"):
            raise UserError(
                f"{own.option} draws rows by chance: leave out probabilities and train_sampling_strategy: sequential"
            )
        if self.probabilities is not None and self.strategy == "sequential":
            raise UserError("probabilities mix sources by chance: leave out train_sampling_strategy: sequential")

    def _rows(self, sizes: Sequence[int], own: OwnOrder | None, epoch: int) -> Rows:
        if own is not None:
            return own.rows(self.seed, epoch)
        if self.probabilities is not None:
            return mixed(sizes, self.probabilities, self.stopping_strategy, self.seed, epoch)
        rows = sum(sizes)
        return np.arange(rows) if self.strategy == "sequential" else shuffled(rows, self.seed, epoch)

    def _grouped(self, order: Any, lengths: Array, batch: int, epoch: int) -> Rows:
        return length_grouped(order(epoch), lengths, batch)

    def _budgeted(
        self, lengths: Array, targets: Array | None = None, *, num_replicas: int, rank: int
    ) -> TokenBudgetSampler:
        assert self.max_tokens is not None
        boundaries = token_boundaries(lengths, self.max_tokens, self.strategy == "sequential", targets)
        keys = lengths if targets is None else by_both(lengths, targets)
        return TokenBudgetSampler(partial(self._batches, keys, boundaries), len(boundaries) - 1, num_replicas, rank)

    def _batches(self, lengths: Array, boundaries: Rows, epoch: int) -> TokenBatches:
        if self.strategy == "sequential":
            return sequential_token_batches(boundaries)
        return token_batch_order(lengths, boundaries, self.seed, epoch)


def _first(order: Any, rows: int, epoch: int) -> Rows:
    return order(epoch)[:rows]  # type: ignore[no-any-return]
