"""Dropout on the CPU for a fifth of the price: torch's draws one number per element by a serial `bernoulli_`.

Here one random byte decides each element, eight to a number of torch's default generator, so that `torch.manual_seed`,
saved states and gradient checkpointing reproduce it. Bytes know probabilities in steps of 1 / 256; what is missing is
made up by a few single hits, exactly.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def drop_bits(shape: int | Sequence[int], probability: float, device: torch.device | str | int | None = None) -> Tensor:
    """Draws which elements to keep, each by itself.

    Args:
        shape: of the mask, or its number of elements.
        probability: to drop an element, at least 0 and below 1.
        device: of the mask.

    Returns:
        1 where an element is kept, else 0, uint8, of that shape.
    """
    size = torch.Size([shape] if isinstance(shape, int) else shape)
    device = torch.device("cpu" if device is None else device)
    if device.type != "cpu":
        return torch.empty(size, dtype=torch.uint8, device=device).bernoulli_(1 - probability)
    count = size.numel()
    # without bounds random_ never sets the sign bit, and every eighth byte would lie below 128
    numbers = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)
    below = int(256 * probability)
    keep = numbers.view(torch.uint8)[:count].ge_(below)
    # As many hits as a Poisson distribution says, each anywhere, leave an element alone with the chance exp(-mean),
    # independently of all others; mean is chosen for (1 - below / 256) * exp(-mean) = 1 - probability.
    mean = math.log((1 - below / 256) / (1 - probability))
    if mean > 0 and count:
        hits = int(torch.poisson(torch.tensor(mean * count, dtype=torch.float64)))
        keep.index_fill_(0, torch.randint(count, (hits,)), 0)
    return keep.view(size)


class _Dropout(torch.autograd.Function):
    """Keeps a byte per element for backward, where torch keeps a float."""

    @staticmethod
    def forward(x: Tensor, keep: Tensor, scale: float) -> Tensor:
        return _applied(x, keep, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.scale = inputs[2]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _applied(gradients[0], ctx.saved_tensors[0], ctx.scale), None, None


def _applied(x: Tensor, keep: Tensor, scale: float) -> Tensor:
    # In place, for fresh memory costs more than the arithmetic. The scale comes last: as a bfloat16 it would be off.
    return keep.to(x.dtype).mul_(x).mul_(scale)


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Zeroes elements by chance and scales the others by 1 / (1 - p), as `torch.nn.functional.dropout` does.

    Args:
        x: any shape.
        p: probability to drop an element.
        training: whether anything happens at all.

    Returns:
        A tensor of the same shape and dtype. Same distribution as torch's on the CPU, other numbers; elsewhere, and
        under `torch.compile` (which fuses its own), torch's.
    """
    # subclasses, such as sharded tensors, know how to drop by themselves
    ours = training and 0 < p < 1 and x.device.type == "cpu" and x.is_floating_point() and type(x) is Tensor
    if not ours or torch.compiler.is_compiling():
        return F.dropout(x, p, training)
    dropped: Tensor = _Dropout.apply(x, drop_bits(x.shape, p), 1 / (1 - p))  # type: ignore[no-untyped-call]
    return dropped


def _forward(module: nn.Dropout, input: Tensor) -> Tensor:  # by the name that nn.Dropout gives it
    return dropout(input, module.p, module.training)


def fast_dropout(model: nn.Module) -> Callable[[], None]:
    """Lets the `nn.Dropout` modules of a model drop by `dropout` of this file, until undone.

    Modules of other types, in-place ones and those whose `forward` somebody else has replaced stay as they are.
    Weights, classes and `repr` do not change; a copy or a pickle of the model keeps what it has.

    Args:
        model: any model; itself a dropout, or with dropouts in it.

    Returns:
        What undoes it.
    """
    changed = [
        module
        for module in model.modules()
        if type(module) is nn.Dropout and not module.inplace and "forward" not in vars(module)
    ]
    for module in changed:
        # on the instance and for good: gradient checkpointing runs it again in backward; a partial can be pickled
        module.forward = partial(_forward, module)  # type: ignore[method-assign]

    def undo() -> None:
        for module in changed:
            vars(module).pop("forward", None)

    return undo
