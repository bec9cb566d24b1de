"""Cross-entropy at labelled positions through a model's own head, a chunk of rows at a time.

The logits of one chunk are all that ever exists: each chunk's gradients are taken at once, in the forward pass, and
backward only multiplies them. Float32 from the log-sum-exp on, whatever the head computes in.
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_ft.ops.liger import liger_loss
from lit_ft.ops.logits_only import LogitsOnly
from lit_ft.ops.projection import SharedProjection
from lit_ft.ops.split_model import SplitModel

Halves = SplitModel | LogitsOnly

CPU_ROWS = 256
"""Rows per chunk on a CPU: a GEMM of that height runs at full speed, and memory is what a higher one costs."""

GPU_ROWS = 2048
"""Rows per chunk on an accelerator, which shorter matrices would leave idle."""


def token_loss(split: Halves, hidden: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sums the cross-entropy over labelled positions.

    Args:
        split: whose head makes the logits.
        hidden: last hidden state at the labelled positions, `[n, hidden]`.
        targets: token ids `[n]`; all of them count.
        smoothing: share of the target that is spread over the whole vocabulary.

    Returns:
        The sum, a float32 scalar; 0 with a graph where n is 0, for other processes wait for these gradients.
    """
    parameters = split.head_parameters()
    if not torch.is_grad_enabled() or not (hidden.requires_grad or parameters):
        return token_scores(split, hidden, targets, smoothing)[0].sum()
    if not len(targets):
        return sum((part.flatten()[:0].sum() for part in [hidden, *parameters]), start=hidden.new_zeros(())).float()
    fused = None if smoothing else liger_loss(split, hidden, targets)
    if fused is not None:
        return fused
    total: Tensor = _ChunkedLoss.apply(split, hidden, targets, smoothing, *parameters)
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
    """(split, hidden, targets, label smoothing, *head parameters) -> sum of cross-entropy."""

    @staticmethod
    def forward(
        ctx: Any, split: Halves, hidden: Tensor, targets: Tensor, smoothing: float, *parameters: nn.Parameter
    ) -> Tensor:
        rows = min(chunk_rows(hidden.device), len(targets))
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if hidden.requires_grad else None
        sums: list[Tensor | None] = [None] * len(parameters)
        projection, memory = SharedProjection.of(parameters, rows), None
        for start in range(0, len(targets), rows):
            chunk, wanted = hidden[start : start + rows].detach(), targets[start : start + rows, None]
            with torch.enable_grad(), projection or nullcontext():
                logits = split.logits(chunk.requires_grad_(hidden_gradient is not None))
            if memory is None:
                memory = torch.empty_like(logits, dtype=torch.float32, requires_grad=False)
            slopes = torch.log_softmax(logits.detach(), -1, torch.float32, out=memory[: len(chunk)])
            total -= (1 - smoothing) * slopes.gather(1, wanted).sum()
            even = smoothing / slopes.shape[1]
            if smoothing:
                total -= even * slopes.sum()
            slopes.exp_().scatter_add_(1, wanted, slopes.new_full((), smoothing - 1.0).expand(wanted.shape))
            if smoothing:
                slopes -= even
            inputs = parameters if hidden_gradient is None else (chunk, *parameters)
            gradients = list(torch.autograd.grad(logits, inputs, slopes.to(logits.dtype), allow_unused=True))
            if hidden_gradient is not None:
                hidden_gradient[start : start + rows] = gradients.pop(0)
            for number, gradient in enumerate(gradients):
                so_far = sums[number]
                if gradient is not None:
                    # the first one is the buffer: no zeros to fill, and no second buffer where one chunk is all
                    sums[number] = gradient.float() if so_far is None else so_far.add_(gradient)
        if projection is not None and projection.gradient is not None:
            number = next(number for number, each in enumerate(parameters) if each is projection.weight)
            so_far = sums[number]
            sums[number] = projection.gradient if so_far is None else so_far.add_(projection.gradient)
        ctx.gradients = (hidden_gradient, *sums)
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
        return None, hidden, None, None, *weights
