"""Vectors of many texts: of all rows together, a few texts at a time (GradCache), and those of all processes."""

from collections.abc import Callable, Mapping
from operator import itemgetter

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather
from torch.utils.checkpoint import checkpoint

from lit_ft.data.batching.twins import changed

Inputs = dict[str, Tensor]


def one_below_the_other(inputs: Mapping[str, Tensor]) -> Inputs:
    """Returns inputs `[rows, texts, seq]` as `[rows * texts, seq]`; those of other shapes stay what they are."""
    return {
        name: changed(value, lambda each: each.flatten(0, 1)) if value.dim() == 3 else value
        for name, value in inputs.items()
    }


def in_mini_batches(encode: Callable[[Inputs], Tensor], inputs: Inputs, size: int | None) -> Tensor:
    """Makes the vectors of texts with the memory of a few of them.

    No activations are kept: backward runs each mini-batch once more, with the same random numbers, when its turn comes.
    That is GradCache (arXiv 2101.06983), for each vector has its gradient before its text is run again.

    Args:
        encode: makes the vectors `[texts, size]` of inputs.
        inputs: of all texts, `[texts, ...]` each.
        size: texts of a mini-batch; `None` = all at once.
    """
    texts = len(inputs["input_ids"])
    if size is None or texts <= size or not torch.is_grad_enabled():
        return encode(inputs)
    made = []
    for start in range(0, texts, size):
        rows = itemgetter(slice(start, start + size))
        part = {name: changed(value, rows) for name, value in inputs.items()}
        made.append(checkpoint(encode, part, use_reentrant=False))
    return torch.cat(made)


def of_all_processes(tensor: Tensor) -> Tensor:
    """Returns the tensors of all processes end to end, of the same shape each; gradients find their way back."""
    if tensor.is_floating_point():
        return torch.cat(all_gather(tensor))
    every = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(every, tensor)
    return torch.cat(every)
