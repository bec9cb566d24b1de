"""Log-probabilities of tokens through a model's own head, one by one and with gradients, a chunk of rows at a time.

What a loss makes of them is known only when all are there (preferences compare whole replies), so backward makes the
logits of each chunk once more instead of keeping them: a little arithmetic for memory that does not grow.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lit_ft.ops.heads.gradients import Halves, HeadGradients
from lit_ft.ops.heads.token_loss import chunk_rows, token_scores


def token_log_probs(split: Halves, hidden: Tensor, targets: Tensor) -> Tensor:
    """Returns the log-probability of each target.

    Args:
        split: whose head makes the logits.
        hidden: last hidden state before each target, `[n, hidden]`.
        targets: token ids, `[n]`.

    Returns:
        `[n]`, float32; with a graph where n is 0, too, for other processes wait for these gradients.
    """
    parameters = split.head_parameters()
    if not torch.is_grad_enabled() or not (hidden.requires_grad or parameters):
        return -token_scores(split, hidden, targets)[0]
    if not len(targets):
        return sum((part.flatten()[:0] for part in [hidden, *parameters]), start=hidden.new_zeros(0)).float()
    made: Tensor = _LogProbs.apply(split, hidden, targets, *parameters)
    return made


class _LogProbs(torch.autograd.Function):
    """(split, hidden, targets, *head parameters) -> log-probabilities `[n]`."""

    @staticmethod
    def forward(ctx: Any, split: Halves, hidden: Tensor, targets: Tensor, *parameters: nn.Parameter) -> Tensor:
        kind = hidden.device.type
        ctx.save_for_backward(hidden, targets, *parameters)
        ctx.split = split
        ctx.autocast = {"dtype": torch.get_autocast_dtype(kind), "enabled": torch.is_autocast_enabled(kind)}
        return -token_scores(split, hidden, targets)[0]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        hidden, targets, *parameters = ctx.saved_tensors
        rows = min(chunk_rows(hidden.device), len(targets))
        with torch.autocast(hidden.device.type, **ctx.autocast):
            gradients = HeadGradients(ctx.split, hidden, ctx.split.head_parameters(), rows)
            for start in range(0, len(targets), rows):
                wanted, weights = (each[start : start + rows, None] for each in (targets, outer[0]))
                logits = gradients.logits(start)
                slopes = torch.log_softmax(logits.detach(), -1, torch.float32).exp_().mul_(-weights)
                gradients.add(logits, slopes.scatter_add_(1, wanted, weights))
            found = gradients.result()
        made = [
            None if gradient is None else gradient.to(value.dtype)
            for gradient, value in zip(found, [hidden, *parameters], strict=True)
        ]
        return None, made[0], None, *made[1:]
