"""A LightningModule trained by AdamW with linear warmup: the scripts' optimizer, by the scripts' option names."""

import math
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from transformers import PreTrainedModel

from lit_ft.errors import UserError
from lit_ft.ops.embedding_gradients import lean_embedding_gradients
from lit_ft.ops.serving import serving
from lit_ft.optim.groups import parameter_groups
from lit_ft.optim.ranges import RANGES
from lit_ft.optim.schedules import apply_options, check_schedule, schedule, warmup_steps
from lit_ft.ranges import check_ranges


class AdamWModule(LightningModule):
    """The optimizer and its schedule; see `TransformerModule`.

    Args:
        learning_rate: peak learning rate of AdamW.
        weight_decay: of all parameters but biases and norms.
        adam_beta1: AdamW's first beta.
        adam_beta2: AdamW's second beta.
        adam_epsilon: AdamW's epsilon.
        lr_scheduler_type: schedule after the warmup, by transformers' name (`linear`, `cosine`, ...).
        lr_scheduler_kwargs: further arguments of the schedule.
        num_warmup_steps: optimizer steps of linear warmup.
        warmup_ratio: warmup as a share of all optimizer steps; used where `num_warmup_steps` is 0.
        layerwise_lr_decay: factor of the learning rate from each layer to the one below it.
        loraplus_lr_ratio: learning rate of LoRA's second matrices, as a multiple of the first ones' (LoRA+).
        kwargs: options of the model.

    Attributes:
        model: the Hugging Face model, once it is built.
        monitor: what a plateau schedule watches.
    """

    model: PreTrainedModel | None
    monitor: str
    _undo_lean: Callable[[], None] = staticmethod(lambda: None)

    def __init__(
        self,
        *,
        learning_rate: float = 5e-5,
        weight_decay: float = 0.0,
        adam_beta1: float = 0.9,
        adam_beta2: float = 0.999,
        adam_epsilon: float = 1e-8,
        lr_scheduler_type: str = "linear",
        lr_scheduler_kwargs: dict[str, Any] | None = None,
        num_warmup_steps: int = 0,
        warmup_ratio: float = 0.0,
        layerwise_lr_decay: float | None = None,
        loraplus_lr_ratio: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_schedule(lr_scheduler_type)
        check_ranges(self.hparams, RANGES)

    def configure_optimizers(self) -> Any:
        """AdamW (fused where there is one) with linear warmup and a schedule of transformers."""
        options = self.hparams
        assert self.model is not None
        groups = self._parameter_groups()
        if not groups:
            raise UserError(
                "nothing is left to train: freeze, or an adapter's folder as model_name_or_path (name it in peft)"
            )
        optimizer = torch.optim.AdamW(
            groups,
            lr=options["learning_rate"],
            betas=(options["adam_beta1"], options["adam_beta2"]),
            eps=options["adam_epsilon"],
            fused=self._can_fuse(),
        )
        if self.trainer.precision == "bf16-mixed":
            # Lightning refuses to clip beside a fused step under any mixed precision, but bf16 has no scaler to disturb
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        steps = self._training_steps()
        warmup = warmup_steps(options["num_warmup_steps"], options["warmup_ratio"], steps)
        scheduler = schedule(options["lr_scheduler_type"], optimizer, warmup, steps, options["lr_scheduler_kwargs"])
        plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        timing = {"interval": "epoch", "monitor": self.monitor} if plateau else {"interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **timing}}

    def on_fit_start(self) -> None:
        """Spares the gradients of large embeddings their zeros, where no other process waits for them."""
        if self.trainer.world_size == 1 and self.model is not None:
            self._undo_lean = lean_embedding_gradients(self.model)

    def on_fit_end(self) -> None:
        """Leaves the model as it was."""
        self._undo_lean()

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Steps, and frees the gradients at once: Lightning would keep them all through the next forward pass."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if not self.trainer.strategy.handles_gradient_accumulation:  # else (DeepSpeed) this is no step yet
            optimizer.zero_grad()

    def on_train_start(self) -> None:
        """Lets explicit options win over what a checkpoint's optimizer and schedule remember."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        if self.trainer.ckpt_path is None or type(optimizer) is not torch.optim.AdamW or self.model is None:
            return
        options = self.hparams
        groups = self._parameter_groups()
        if len(groups) == len(optimizer.param_groups) and "initial_lr" in optimizer.param_groups[0]:
            apply_options(
                optimizer,
                self.lr_schedulers(),
                groups,
                betas=(options["adam_beta1"], options["adam_beta2"]),
                eps=options["adam_epsilon"],
            )

    def _parameter_groups(self) -> list[dict[str, Any]]:
        assert self.model is not None
        options = self.hparams
        return parameter_groups(
            self.model,
            options["learning_rate"],
            options["weight_decay"],
            options["layerwise_lr_decay"],
            options["loraplus_lr_ratio"],
        )

    def _can_fuse(self) -> bool:
        # fp16's gradient scaler would unscale inside the fused step, after clipping
        return self.device.type in ("cpu", "cuda", "xpu", "mps") and self.trainer.precision != "16-mixed"

    def check_warmup(self) -> None:
        """Makes sure that the warmup ends within the run, where its length is known.

        Raises:
            UserError: it does not.
        """
        steps = self._planned_steps()
        if steps is not None and steps != math.inf:
            warmup_steps(self.hparams["num_warmup_steps"], self.hparams["warmup_ratio"], int(steps))

    def _training_steps(self) -> int:
        planned = self._planned_steps()
        steps = self.trainer.estimated_stepping_batches if planned is None else planned
        if steps == math.inf:
            raise UserError("the schedule needs an end: set trainer.max_steps or trainer.max_epochs")
        return int(steps)

    def _planned_steps(self) -> float | None:
        """Returns the optimizer steps of the run, without making the training loader.

        Lightning's `estimated_stepping_batches` makes it, before a checkpoint has said where in the epoch to begin.
        `None` where the data module does not say how many batches it has.
        """
        trainer, batches = self.trainer, getattr(serving(self.trainer), "num_train_batches", None)
        if batches is None:
            return None
        limit = trainer.limit_train_batches
        if isinstance(limit, int):
            batches = min(batches, limit)
        elif batches != math.inf:
            batches = int(batches * limit)
        steps = math.inf
        if batches != math.inf and trainer.max_epochs not in (None, -1):
            steps = sum(math.ceil(batches / self._accumulated(epoch)) for epoch in range(max(trainer.max_epochs, 1)))
        return min(trainer.max_steps if trainer.max_steps >= 0 else math.inf, steps)

    def _accumulated(self, epoch: int) -> int:
        """Returns of how many batches the optimizer steps of an epoch are."""
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        planned = next((each for each in callbacks if isinstance(each, GradientAccumulationScheduler)), None)
        return planned.get_accumulate_grad_batches(epoch) if planned else self.trainer.accumulate_grad_batches
