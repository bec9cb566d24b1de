"""Permutation language modeling, as XLNet is trained: which tokens are predicted, and what each of them may see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lit_ft.data.features.ragged import Array
from lit_ft.data.labels import IGNORED
from lit_ft.data.ordering.chance import States, row_states, uniform
from lit_ft.data.ordering.samplers import Key
from lit_ft.errors import UserError

# streams of chance
_LENGTH, _START, _ORDER = range(3)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Permutation:
    """Makes XLNet's inputs; a pure function of seed, epoch and row, also of how far the row is padded.

    The targets and their order are distributed as those of transformers' `DataCollatorForPermutationLanguageModeling`:
    runs of up to `max_span_length` tokens, each somewhere in a stretch of `1 / plm_probability` times its length; all
    other tokens are seen by all. Targets are put in a random order within each half of a row (a half can be kept as
    the memory of the next segment), the first half before the second. A target sees those before it, as mask tokens.
    A row of odd length is treated as if it had one token more, so no length is refused.

    Args:
        mask_token_id: stands for each target; `None` = the tokenizer has no such token, which is an error.
        pad_token_id: fills up the rows, at either side.
        special_ids: tokens that are never targets: `tokenizer.all_special_ids`.
        plm_probability: share of tokens to predict.
        max_span_length: most tokens in a run of targets.
        seed: the same seed gives the same targets and orders.

    Raises:
        UserError: an option is out of range, or there is no mask token.
    """

    mask_token_id: int | None
    pad_token_id: int
    special_ids: Sequence[int]
    plm_probability: float = 1 / 6
    max_span_length: int = 5
    seed: int = 42

    def __post_init__(self) -> None:
        if self.mask_token_id is None:
            raise UserError("the tokenizer has no mask token, which permutation language modeling needs")
        if not 0 < self.plm_probability <= 1:
            raise UserError(f"plm_probability {self.plm_probability} must be above 0 and at most 1")
        if self.max_span_length < 1:
            raise UserError(f"max_span_length {self.max_span_length} must be at least 1 token")

    def __call__(self, input_ids: torch.Tensor, keys: Sequence[Key]) -> dict[str, torch.Tensor]:
        """Returns what `XLNetLMHeadModel` takes; the caller adds the attention mask that hides padding.

        Args:
            input_ids: padded rows, `[batch, seq]`.
            keys: epoch and index of each row.

        Returns:
            `input_ids` `[batch, seq]`, `perm_mask` `[batch, seq, seq]` (1 where a token does not see another),
            `target_mapping` `[batch, targets, seq]` (1 where a prediction stands) and `labels` `[batch, targets]`,
            filled up with -100 to the most targets of a row. The model predicts only these: transformers' collator
            has it compute a prediction for every token, at several times the cost, and throws most of them away.
        """
        ids = input_ids.numpy()
        states = row_states(self.seed, keys)
        real = ids != self.pad_token_id
        # a row's own place of each token, from 0 at its first, so that padding changes nothing
        places = np.arange(ids.shape[1]) - real.argmax(axis=1)[:, None]
        targets = self._in_runs(states, places) & real & ~np.isin(ids, np.asarray(self.special_ids, ids.dtype))
        lengths = np.where(real, places + 1, 0).max(axis=1)
        hidden = self._hidden(states, places, lengths, targets, real & ~targets)
        rows, columns = np.nonzero(targets)
        counts = targets.sum(axis=1)
        numbers = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        labels = np.full((len(ids), max(int(counts.max(initial=0)), 1)), IGNORED, np.int64)
        labels[rows, numbers] = ids[rows, columns]
        mapping = np.zeros((*labels.shape, ids.shape[1]), np.float32)
        mapping[rows, numbers, columns] = 1
        return {
            "input_ids": torch.from_numpy(np.where(targets, np.asarray(self.mask_token_id, np.int64), ids)),
            "perm_mask": torch.from_numpy(hidden.astype(np.float32)),
            "target_mapping": torch.from_numpy(mapping),
            "labels": torch.from_numpy(labels),
        }

    def _in_runs(self, states: States, places: Array) -> Mask:
        """Says which tokens are in a run of targets, `[batch, seq]`."""
        width = places.shape[1]
        numbers = np.arange(-(-width // int(1 / self.plm_probability)))
        lengths = 1 + (uniform(states[:, None], numbers, _LENGTH) * self.max_span_length).astype(np.int64)
        stretches = (lengths / self.plm_probability).astype(np.int64)
        within = uniform(states[:, None], numbers, _START) * (stretches - lengths + 1)
        starts = np.cumsum(stretches, axis=1) - stretches + within.astype(np.int64)
        # runs do not overlap: a token is in one where more runs have begun than have ended
        changes = np.zeros((len(states), width + 1), np.int64)
        rows = np.broadcast_to(np.arange(len(states))[:, None], starts.shape)
        np.add.at(changes, (rows, np.minimum(starts, width)), 1)
        np.add.at(changes, (rows, np.minimum(starts + lengths, width)), -1)
        inside = np.cumsum(changes, axis=1) > 0
        return np.asarray(np.take_along_axis(inside, np.maximum(places, 0), axis=1) & (places >= 0))

    def _hidden(self, states: States, places: Array, lengths: Array, targets: Mask, given: Mask) -> Mask:
        """Says which tokens (last axis) are hidden from which, `[batch, seq, seq]`: targets that are not before them.

        Args:
            states: chance of each row, `[batch]`.
            places: places in the row, `[batch, seq]`.
            lengths: lengths of the rows, `[batch]`.
            targets: `[batch, seq]`.
            given: tokens that are seen by all, and see no target, `[batch, seq]`.
        """
        half = (lengths[:, None] + 1) // 2
        second = places >= half
        order = second + uniform(states[:, None], np.where(second, places - half, places), _ORDER)
        order = np.where(given, -1.0, order)
        return np.asarray((order[:, :, None] <= order[:, None, :]) & targets[:, None, :])


def labels_at_tokens(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Lays the labels of a batch of one permuted row where their tokens are, `[1, seq]`; they stand by themselves."""
    known = batch["labels"][0] != IGNORED
    labels = torch.full_like(batch["input_ids"], IGNORED)
    labels[0, batch["target_mapping"][0, known].argmax(-1)] = batch["labels"][0, known]
    return labels
