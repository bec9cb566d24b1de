"""Losses of preference optimisation, from the log-probabilities of whole replies."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PairLoss = Literal["sigmoid", "ipo", "hinge", "robust", "orpo", "simpo"]
LossType = Literal[PairLoss, "kto"]

WITHOUT_REFERENCE: tuple[str, ...] = ("orpo", "simpo")
"""Losses that compare the model with itself alone."""

BETA = {"simpo": 2.0}
"""The usual `beta`, where it is not 0.1."""


@dataclass(frozen=True)
class Replies:
    """What a model thinks of some replies.

    Attributes:
        log_probs: of each reply, summed over its tokens, `[n]`.
        tokens: how many tokens each has, `[n]`.
        reference: the same of the model that training began with, `[n]`; `None` for losses without one.
    """

    log_probs: Tensor
    tokens: Tensor
    reference: Tensor | None = None

    @classmethod
    def of_tokens(cls, log_probs: Tensor, reply: Tensor, size: int) -> "Replies":
        """Adds up the log-probabilities of tokens, `[tokens]`, by which of `size` replies each is of, `[tokens]`."""
        sums = log_probs.new_zeros(size)
        tokens = torch.zeros_like(sums, dtype=torch.long).index_add_(0, reply, torch.ones_like(reply))
        return cls(sums.index_add(0, reply, log_probs), tokens)

    def __getitem__(self, rows: slice | Tensor) -> "Replies":
        reference = None if self.reference is None else self.reference[rows]
        return Replies(self.log_probs[rows], self.tokens[rows], reference)

    def halves(self) -> tuple["Replies", "Replies"]:
        """Returns the first half, those chosen, and the second one, those rejected."""
        size = len(self.tokens) // 2
        return self[:size], self[size:]

    @property
    def ratio(self) -> Tensor:
        """How much more likely each has become, as a logarithm, `[n]`."""
        assert self.reference is not None
        return self.log_probs - self.reference

    @property
    def mean(self) -> Tensor:
        """Mean log-probability of a token of each, `[n]`."""
        return self.log_probs / self.tokens.clamp(min=1)

    def rewards(self, beta: float) -> Tensor:
        """Returns the implicit reward of each, `[n]`, without a graph."""
        return beta * (self.mean if self.reference is None else self.ratio).detach()


def pair_losses(
    loss_type: PairLoss, chosen: Replies, rejected: Replies, beta: float, smoothing: float = 0.0, gamma: float = 0.5
) -> Tensor:
    """Returns the loss of each pair, `[n]`.

    `sigmoid` is DPO (arXiv 2305.18290), with `smoothing` conservative DPO; `robust` (arXiv 2403.00409), `ipo` (arXiv
    2310.12036; as its authors have it, of means over tokens), `hinge` (SLiC, arXiv 2305.10425), `simpo` (arXiv
    2405.14734) and the odds ratio of `orpo` (arXiv 2403.07691, to which the likelihood of the chosen reply is added).

    Args:
        loss_type: which loss.
        chosen: the better replies.
        rejected: the worse ones, in the same order.
        beta: how far a difference counts; of `ipo` its tau.
        smoothing: share of the pairs that are taken to be the wrong way round (`sigmoid`, `robust`, `simpo`).
        gamma: margin of `simpo`.
    """
    if loss_type == "ipo":
        chosen_mean, rejected_mean = (each.ratio / each.tokens.clamp(min=1) for each in (chosen, rejected))
        return (chosen_mean - rejected_mean - 1 / (2 * beta)) ** 2  # type: ignore[no-any-return]
    if loss_type == "orpo":
        odds = chosen.mean - rejected.mean - _log1mexp(chosen.mean) + _log1mexp(rejected.mean)
        return -beta * F.logsigmoid(odds)
    if loss_type == "simpo":
        margin = beta * (chosen.mean - rejected.mean) - gamma
    else:
        margin = beta * (chosen.ratio - rejected.ratio)
    if loss_type == "hinge":
        return torch.relu(1 - margin)
    right, wrong = -F.logsigmoid(margin), -F.logsigmoid(-margin)
    if loss_type == "robust":
        return ((1 - smoothing) * right - smoothing * wrong) / (1 - 2 * smoothing)
    return (1 - smoothing) * right + smoothing * wrong


def kto_losses(
    replies: Replies, desirable: Tensor, divergence: Tensor, beta: float, weights: tuple[float, float] = (1.0, 1.0)
) -> Tensor:
    """Returns KTO's loss of each reply (arXiv 2402.01306), `[n]`.

    Args:
        replies: good and bad ones.
        desirable: which of them are good, bool `[n]`.
        divergence: how far the model has gone from the reference, a scalar of at least 0, without a graph.
        beta: how far a difference counts.
        weights: of good and of bad replies.
    """
    gain = beta * (replies.ratio - divergence)
    losses = 1 - torch.sigmoid(torch.where(desirable, gain, -gain))
    good, bad = (losses.new_full((), weight) for weight in weights)
    return torch.where(desirable, good, bad) * losses


@dataclass(frozen=True)
class Compared:
    """What is known of the replies of a batch.

    Attributes:
        replies: all of them, those chosen first where they are pairs.
        there: which rows have a reply, bool `[n]`, on the CPU.
        desirable: which of single replies are good, bool `[n]`; `None` = they are pairs.
    """

    replies: Replies
    there: Tensor
    desirable: Tensor | None

    @property
    def pairs(self) -> Tensor:
        """Which pairs have both replies, bool `[n / 2]`, on the CPU."""
        return self.there.view(2, -1).all(0)

    def loss_of_pairs(
        self, loss_type: PairLoss, beta: float, smoothing: float, gamma: float, alpha: float
    ) -> tuple[Tensor, Tensor]:
        """Returns the summed loss of pairs and their count.

        Args:
            loss_type: which loss.
            beta: see `pair_losses`.
            smoothing: likewise.
            gamma: likewise.
            alpha: weight of the mean loss of the chosen replies' tokens, which is added.
        """
        count = self.replies.log_probs.new_full((), int(self.pairs.sum()))
        if not self.pairs.any():
            return self.replies.log_probs.sum() * 0.0, count
        chosen, rejected = (side[self.pairs] for side in self.replies.halves())
        losses = pair_losses(loss_type, chosen, rejected, beta, smoothing, gamma)
        if alpha:
            losses = losses - alpha * chosen.log_probs.sum() / chosen.tokens.sum()
        return losses.sum(), count

    def loss_of_singles(self, divergence: Tensor, beta: float, weights: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Returns the summed loss of single replies and their count; see `kto_losses`."""
        assert self.desirable is not None
        losses = kto_losses(self.replies, self.desirable, divergence, beta, weights)
        return losses[self.there].sum(), losses.new_full((), int(self.there.sum()))


def _log1mexp(value: Tensor) -> Tensor:
    """Returns log(1 - exp(value)) of negative values, exactly for large ones and for small ones."""
    near = value > -0.6931
    return torch.where(
        near,
        torch.log(-torch.expm1(torch.where(near, value, -1.0))),
        torch.log1p(-torch.exp(torch.where(near, -1.0, value))),
    )
