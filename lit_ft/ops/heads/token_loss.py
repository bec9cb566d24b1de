"""Cross-entropy at labelled positions through a model's own head, a chunk of rows at a time.

The logits of one chunk are all that ever exists: each chunk's gradients are taken at once, in the forward pass, and
backward only multiplies them. Float32 from the log-sum-exp on, whatever the head computes in.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_ft.ops.heads.gradients import Halves, HeadGradients
from lit_ft.ops.heads.liger import liger_loss

CPU_ROWS = 256
"""Rows per chunk on a CPU: a GEMM of that height runs at full speed, and memory is what a higher one costs."""

GPU_ROWS = 2048
"""Rows per chunk on an accelerator, which shorter matrices would leave idle."""


def token_loss(
    split: Halves, hidden: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Sums the cross-entropy over labelled positions.

    Args:
        split: whose head makes the logits.
        hidden: last hidden state at the labelled positions, `[n, hidden]`.
        targets: token ids `[n]`; all of them count.
        smoothing: share of the target that is spread over the whole vocabulary.
        weights: how much each position counts, `[n]`. Default: 1.

    Returns:
        The sum, a float32 scalar; 0 with a graph where n is 0, for other processes wait for these gradients.
    """
    parameters = split.head_parameters()
    if not torch.is_grad_enabled() or not (hidden.requires_grad or parameters):
        losses = token_scores(split, hidden, targets, smoothing)[0]
        return (losses if weights is None else losses * weights).sum()
    if not len(targets):
        return sum((part.flatten()[:0].sum() for part in [hidden, *parameters]), start=hidden.new_zeros(())).float()
    fused = None if smoothing or weights is not None else liger_loss(split, hidden, targets)
    if fused is not None:
        return fused
    total: Tensor = _ChunkedLoss.apply(split, hidden, targets, smoothing, weights, *parameters)
    return total


@torch.no_grad()
def token_scores(split: Halves, hidden: Tensor, targets: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Scores labelled positions one by one, without gradients.

    Args:
        split: whose head makes the logits.
        hidden: `[n, hidden]`.
        targets: token ids `[n]`.
        smoothing: as of `token_loss`.

    Returns:
        The cross-entropy `[n]`, float32, and whether the likeliest token is the target `[n]`.
    """
    rows = chunk_rows(hidden.device)
    losses, correct = [hidden.new_zeros(0, dtype=torch.float32)], [targets.new_zeros(0, dtype=torch.bool)]
    for chunk, wanted in zip(hidden.split(rows), targets.split(rows), strict=True):
        if len(wanted):
            logits = split.logits(chunk).float()
            losses.append(F.cross_entropy(logits, wanted, reduction="none", label_smoothing=smoothing))
            correct.append(logits.argmax(-1) == wanted)
    return torch.cat(losses), torch.cat(correct)


def chunk_rows(device: torch.device) -> int:
    """Returns how many rows get their logits at a time."""
    return CPU_ROWS if device.type == "cpu" else GPU_ROWS


class _ChunkedLoss(torch.autograd.Function):
    """(split, hidden, targets, label smoothing, weights, *head parameters) -> sum of cross-entropy."""

    @staticmethod
    def forward(
        ctx: Any,
        split: Halves,
        hidden: Tensor,
        targets: Tensor,
        smoothing: float,
        weights: Tensor | None,
        *parameters: nn.Parameter,
    ) -> Tensor:
        rows = min(chunk_rows(hidden.device), len(targets))
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradients, memory = HeadGradients(split, hidden, parameters, rows), None
        for start in range(0, len(targets), rows):
            wanted = targets[start : start + rows, None]
            share = 1.0 if weights is None else weights[start : start + rows, None]
            logits = gradients.logits(start)
            if memory is None:
                memory = torch.empty_like(logits, dtype=torch.float32, requires_grad=False)
            slopes = torch.log_softmax(logits.detach(), -1, torch.float32, out=memory[: len(wanted)])
            total -= (1 - smoothing) * (slopes.gather(1, wanted) * share).sum()
            even = smoothing / slopes.shape[1]
            if smoothing:
                total -= even * (slopes.sum(1, keepdim=True) * share).sum()
            slopes.exp_().scatter_add_(1, wanted, slopes.new_full((), smoothing - 1.0).expand(wanted.shape))
            if smoothing:
                slopes -= even
            if weights is not None:
                slopes *= share
            gradients.add(logits, slopes)
        ctx.gradients = gradients.result()
        ctx.dtypes = [hidden.dtype, *(parameter.dtype for parameter in parameters)]
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        # scaled in place, for they are as large as the weights: what was handed out once is spent
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("token_loss: backward runs once per forward (its gradients are not kept)")
        hidden, *weights = [
            None if gradient is None else gradient.mul_(outer[0]).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        return None, hidden, None, None, None, *weights
