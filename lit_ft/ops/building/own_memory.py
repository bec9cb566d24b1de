"""Weights that are trained on a CPU lie where torch itself would lay them, however they were loaded."""

from torch import nn

ALIGNMENT = 64
"""Bytes that the addresses of torch's own memory are multiples of."""


def into_own_memory(model: nn.Module) -> None:
    """Copies weights that lie elsewhere, such as in a mapped file of safetensors.

    Matrix products of MKL round by the addresses of what they are given. Weights out of a checkpoint lie in torch's own
    memory; a run that goes on with them would differ in the last bit from one that began with a file.

    Args:
        model: on a CPU.
    """
    for value in (*model.parameters(), *model.buffers()):
        if value.is_floating_point() and value.data_ptr() % ALIGNMENT:
            value.data = value.data.clone()
