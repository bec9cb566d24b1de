"""The loss of an optimizer step = sum over all its rows / their count, over micro-batches and processes.

Lightning averages averages: wrong as soon as micro-batches differ in what they count. Here backward runs on the sum of
each micro-batch times a constant, and the gradients are rescaled once per step, before clipping.
"""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DeepSpeedStrategy
from torch import Tensor
from torch.distributed.tensor import DTensor

from lit_ft.ops.building.sharding import alike, whole
from lit_ft.ops.losses.classification import mean


class LossNormaliser:
    """Keeps the counts of the current window of micro-batches.

    Attributes:
        scale: what sums are multiplied by in backward: 1 / the mean count per micro-batch of the last step, so that
            losses and gradients are of ordinary size before the rescaling. Part of the checkpoint.
    """

    def __init__(self) -> None:
        self.scale: float | Tensor = 1.0
        self._counts: list[Tensor] = []
        self._gradients: dict[str, Tensor] = {}

    def begin(self) -> None:
        """Forgets a window that an earlier run has left open."""
        self._counts, self._gradients = [], {}

    def state(self, module: LightningModule) -> dict[str, Any]:
        """Returns what a checkpoint keeps; of an open window of micro-batches also the gradients so far.

        Every process calls it: a window's sums are the means over processes, so that all of them can go on with it.
        """
        state: dict[str, Any] = {"scale": float(self.scale)}
        if self._counts:
            reduce: Any = module.trainer.strategy.reduce if module.trainer.world_size > 1 else lambda tensor: tensor
            state["counts"] = [float(reduce(count.float())) for count in self._counts]
            state["gradients"] = {
                name: whole(parameter.grad) if isinstance(parameter.grad, DTensor) else reduce(parameter.grad.clone())
                for name, parameter in module.named_parameters()
                if parameter.grad is not None
            }
        return state

    def load(self, state: dict[str, Any], module: LightningModule) -> None:
        """Takes up what `state` returned."""
        self.scale = state["scale"]
        self._counts = [torch.tensor(count, device=module.device) for count in state.get("counts", [])]
        self._gradients = state.get("gradients", {})

    def loss(self, module: LightningModule, total: Tensor, count: Tensor) -> Tensor:
        """Returns what to call backward on for one micro-batch."""
        if not self._needed(module):
            return mean(total, count)
        for name in list(self._gradients):  # of a window that a checkpoint has left open
            parameter = module.get_parameter(name)
            parameter.grad = alike(self._gradients.pop(name).to(parameter.device), parameter)
        self._counts.append(count.detach())
        return total * self.scale

    def rescale(self, module: LightningModule, optimizer: torch.optim.Optimizer) -> None:
        """Makes the gradients those of sum / count over the whole step; call it in `on_before_optimizer_step`."""
        if not self._counts:
            return
        trainer: Any = module.trainer
        parts = len(self._counts) * trainer.world_size
        total = torch.stack(self._counts).sum().float()
        if trainer.world_size > 1:
            total = trainer.strategy.reduce(total, reduce_op="sum")
        total = torch.where(total > 0, total, torch.ones_like(total))
        # Lightning divided each micro-batch by the window's nominal length, the strategy averaged over processes
        factor = trainer.accumulate_grad_batches * trainer.world_size / (self.scale * total)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if gradients:  # none: the step is left out
            torch._foreach_mul_(gradients, factor)
        self.scale = parts / total
        self._counts.clear()

    @staticmethod
    def _needed(module: LightningModule) -> bool:
        trainer = module._trainer
        if trainer is None or isinstance(trainer.strategy, DeepSpeedStrategy):  # its engine averages by itself
            return False
        return trainer.accumulate_grad_batches > 1 or trainer.world_size > 1
