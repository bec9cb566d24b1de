"""Gradients of embeddings on a CPU without a fresh matrix of zeros, as large as the vocabulary, in every step.

A step touches some hundred rows of a large embedding, but backward makes all of its gradient anew, mostly zeros: 5 to
8 % of a small encoder's step. Here the rows travel alone, into a matrix that stays.
"""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

LEAST = 1 << 20
"""Weights from which an embedding is worth it: 4 MB of zeros."""


class _DenseAgain:
    """Runs when a weight's gradient is there: makes a sparse one dense, in memory of its own that it uses again."""

    def __init__(self) -> None:
        self.kept: Tensor | None = None

    def __call__(self, weight: Tensor) -> None:
        gradient = weight.grad
        if gradient is None or not gradient.is_sparse:
            return  # of the micro-batches before: the rows were added to it
        rows, places = gradient._indices()[0].unique(return_inverse=True)
        # as dense backward sums them, in the order of the tokens
        sums = torch.ops.aten.embedding_dense_backward(gradient._values(), places, len(rows), -1, False)
        if self.kept is None or self.kept.dtype != sums.dtype:
            self.kept = torch.empty_like(weight, requires_grad=False)
        weight.grad = self.kept.zero_().index_copy_(0, rows, sums)


def lean_embedding_gradients(model: nn.Module) -> Callable[[], None]:
    """Lets the large embeddings of a model hand on gradients of the rows they looked up; `.grad` is dense as ever.

    For training in one process, where nobody else takes gradients from backward. Memory of `.grad` is used again once
    `.grad` was set to `None`.

    Args:
        model: any model; embeddings that are tied to a head (whose gradient is there already), that lie on other
            devices, or have `max_norm` or `scale_grad_by_freq`, stay as they are.

    Returns:
        What undoes it.
    """
    uses = Counter(id(weight) for module in model.modules() for weight in module._parameters.values())
    changed = [
        module
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        and uses[id(module.weight)] == 1
        and not (module.sparse or module.max_norm or module.scale_grad_by_freq)
        and type(module.weight) is nn.Parameter
        and (module.weight.requires_grad and module.weight.device.type == "cpu" and module.weight.numel() >= LEAST)
    ]
    handles = [module.weight.register_post_accumulate_grad_hook(_DenseAgain()) for module in changed]
    for module in changed:
        module.sparse = True

    def undo() -> None:
        for module in changed:
            module.sparse = False
        for handle in handles:
            handle.remove()

    return undo
