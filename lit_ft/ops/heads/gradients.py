"""Gradients of a language model's head, added up over chunks of positions whose logits are all that ever exists."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from lit_ft.ops.heads.logits_only import LogitsOnly
from lit_ft.ops.heads.projection import SharedProjection
from lit_ft.ops.heads.split_model import SplitModel

Halves = SplitModel | LogitsOnly


class HeadGradients:
    """Makes logits a chunk at a time, and adds up what their gradients are to the head and to the states before it.

    Args:
        split: whose head makes the logits.
        hidden: last hidden state at the labelled positions, `[n, hidden]`.
        parameters: of the head, those that are trained.
        rows: positions of a chunk.
    """

    def __init__(self, split: Halves, hidden: Tensor, parameters: Sequence[nn.Parameter], rows: int) -> None:
        self.split, self.hidden, self.parameters, self.rows = split, hidden, parameters, rows
        self._of_hidden = torch.empty_like(hidden) if hidden.requires_grad else None
        self._sums: list[Tensor | None] = [None] * len(parameters)
        self._projection = SharedProjection.of(parameters, rows)
        self._chunk: slice | None = None
        self._states = hidden

    def logits(self, start: int) -> Tensor:
        """Makes the logits of the chunk that begins at a position, `[rows, vocab]`, with their graph."""
        self._chunk = slice(start, start + self.rows)
        with torch.enable_grad(), self._projection or nullcontext():
            self._states = self.hidden[self._chunk].detach().requires_grad_(self._of_hidden is not None)
            return self.split.logits(self._states)

    def add(self, logits: Tensor, slopes: Tensor) -> None:
        """Takes the gradients of the chunk.

        Args:
            logits: what `logits` returned last.
            slopes: the loss's gradient with respect to them, `[rows, vocab]`.
        """
        inputs = self.parameters if self._of_hidden is None else (self._states, *self.parameters)
        gradients = list(torch.autograd.grad(logits, inputs, slopes.to(logits.dtype), allow_unused=True))
        if self._of_hidden is not None:
            assert self._chunk is not None
            self._of_hidden[self._chunk] = gradients.pop(0)
        for number, gradient in enumerate(gradients):
            self._add(number, gradient)

    def result(self) -> tuple[Tensor | None, ...]:
        """Returns the gradient of the hidden states, and that of each parameter in float32; `None` = there is none."""
        shared = self._projection
        if shared is not None and shared.gradient is not None:
            self._add(next(at for at, each in enumerate(self.parameters) if each is shared.weight), shared.gradient)
        return (self._of_hidden, *self._sums)

    def _add(self, number: int, gradient: Tensor | None) -> None:
        if gradient is None:
            return
        so_far = self._sums[number]
        # the first one is the buffer: no zeros to fill, and no second buffer where one chunk is all
        self._sums[number] = gradient.float() if so_far is None else so_far.add_(gradient)
