"""FSDP2: weights, gradients and moments of a model shared out over processes, layer by layer."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from lit_ft.errors import UserError

log = logging.getLogger("lit_ft")


def share_out(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shards a model over the data-parallel processes.

    Raises:
        UserError: the strategy asks for tensor parallelism, for which a plan per architecture would be needed.
    """
    data, tensor = mesh["data_parallel"], mesh["tensor_parallel"]
    if tensor.size() > 1:
        raise UserError(
            f"ModelParallelStrategy: tensor_parallel_size is {tensor.size()}, and there are no plans for that: set "
            f"data_parallel_size: {mesh.size()} and tensor_parallel_size: 1 (configs/trainer/fsdp2.yaml)"
        )
    layers = shard(model, data)
    log.info(f"weights shared out over {data.size()} processes, {layers} layers one by one (FSDP2)")


def shard(model: nn.Module, mesh: DeviceMesh) -> int:
    """Shards each layer by itself, so that one at a time is whole, and what is left with the model.

    Args:
        model: a transformers model, its weights loaded on every process.
        mesh: the processes that share.

    Returns:
        How many layers there are.
    """
    from torch.distributed.fsdp import fully_shard  # takes a while to import

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return len(layers)


def is_sharded(model: nn.Module) -> bool:
    """Returns whether a model's weights are in pieces."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


@contextmanager
def rest_whole(model: Any) -> Iterator[bool]:
    """Makes whole what is in no layer, embeddings say, so that parts of a sharded model run by themselves.

    Yields:
        Whether the model is sharded.
    """
    if not is_sharded(model):
        yield False
        return
    model._get_fsdp_state()._lazy_init()  # else the first layer that runs takes itself for the whole model
    model.unshard()
    try:
        yield True
    finally:
        model.reshard()


def whole(tensor: Tensor) -> Tensor:
    """Returns all of a tensor that is in pieces, on every process; all of them have to call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def alike(tensor: Tensor, other: Tensor) -> Tensor:
    """Returns a tensor in pieces where another one is."""
    return distribute_tensor(tensor, other.device_mesh, other.placements) if isinstance(other, DTensor) else tensor
