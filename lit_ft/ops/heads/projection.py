"""The product of a head with its vocabulary, in memory that all chunks of a loss share.

The logits of a chunk and the weight's gradient are as large as the model's largest weights. Made anew for each chunk
they cost as much as the arithmetic: a CPU hands out fresh memory page by page, and adding up gradients takes passes.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class SharedProjection(TorchFunctionMode):
    """Within it, the first `F.linear` by one weight writes into memory that the next time writes into again.

    Whatever the head does before and after is none of its business.

    Attributes:
        weight: `[vocab, hidden]`.
        gradient: of the weight, the sum over all backward passes so far; `None` where there was none, or it is frozen.
    """

    def __init__(self, weight: nn.Parameter, rows: int) -> None:
        super().__init__()
        self.weight = weight
        self.gradient: Tensor | None = None
        self._logits = weight.new_empty(rows, len(weight))
        self._fresh = True

    @classmethod
    def of(cls, parameters: Sequence[nn.Parameter], rows: int) -> "SharedProjection | None":
        """Takes a head's widest weight; `None` where float32 sums would not be those of plain backward.

        Args:
            parameters: of the head.
            rows: at most so many are projected at a time.
        """
        matrices = [each for each in parameters if each.dim() == 2 and type(each) is nn.Parameter]
        widest = max(matrices, key=len, default=None)
        if widest is None or widest.dtype != torch.float32 or torch.is_autocast_enabled(widest.device.type):
            return None
        return cls(widest, rows)

    def __enter__(self) -> "SharedProjection":
        self._fresh = True
        return super().__enter__()  # type: ignore[no-any-return]

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not F.linear or kwargs or len(args) < 2 or args[1] is not self.weight or not self._fresh:
            return function(*args, **(kwargs or {}))
        hidden: Tensor = args[0]
        bias: Tensor | None = args[2] if len(args) > 2 else None
        if hidden.dtype != self.weight.dtype or hidden.numel() > len(self._logits) * hidden.shape[-1]:
            return function(*args)
        self._fresh = False
        logits: Tensor = _Projection.apply(hidden.flatten(0, -2), self.weight, bias, self)  # type: ignore[no-untyped-call]
        return logits.view(*hidden.shape[:-1], -1)

    def project(self, hidden: Tensor, bias: Tensor | None) -> Tensor:
        """Writes the logits of `[n, hidden]`."""
        out = self._logits[: len(hidden)]
        weight = self.weight.detach().t()
        return torch.mm(hidden, weight, out=out) if bias is None else torch.addmm(bias, hidden, weight, out=out)

    def add_gradient(self, slopes: Tensor, hidden: Tensor) -> None:
        """Adds the weight's gradient, of slopes `[n, vocab]` and `[n, hidden]`."""
        if self.gradient is None:
            self.gradient = torch.mm(slopes.t(), hidden)
        else:
            self.gradient.addmm_(slopes.t(), hidden)


class _Projection(torch.autograd.Function):
    """(hidden `[n, hidden]`, weight, bias, projection) -> logits `[n, vocab]`; the weight's gradient goes elsewhere."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, projection: SharedProjection) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        ctx.projection = projection
        return projection.project(hidden, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (hidden, weight), (slopes,) = ctx.saved_tensors, gradients
        if ctx.needs_input_grad[1]:
            ctx.projection.add_gradient(slopes, hidden)
        of_hidden = slopes @ weight if ctx.needs_input_grad[0] else None
        return of_hidden, None, slopes.sum(0) if ctx.needs_input_grad[2] else None, None
