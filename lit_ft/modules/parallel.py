"""A model under Lightning's ModelParallelStrategy: shared out over the processes of its mesh (FSDP2)."""

import logging

from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedModel

from lit_ft.errors import UserError
from lit_ft.ops.building.sharding import shard

log = logging.getLogger("lit_ft")


def share_out(model: PreTrainedModel, mesh: DeviceMesh) -> None:
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
