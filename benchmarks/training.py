"""Steps of lit_ft under Lightning and of Hugging Face's Trainer, counted and timed by the same meter."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from flops import EncoderDecoderCost, ModelCost, count
from harness import Measured
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments
from transformers import Trainer as HuggingFaceTrainer


class Meter:
    """Counts rows, real tokens and useful FLOPs of the steps, and times them; asks the device for nothing in between.

    Args:
        skip: steps that are not counted.
        cost: of the model; without it there are no FLOPs.
    """

    def __init__(self, skip: int = 0, cost: ModelCost | EncoderDecoderCost | None = None) -> None:
        self.skip, self.cost, self.begun = skip, cost, 0
        self.losses: list[torch.Tensor] = []
        self._zero()

    def _zero(self) -> None:
        self.steps = self.padded = 0
        self.counts = torch.zeros(4, dtype=torch.long)
        self.started = self.seconds = 0.0

    def start(self) -> None:
        """An epoch begins."""
        self.started = self.now()

    def stop(self) -> None:
        """The epoch has ended."""
        self.seconds = self.now() - self.started

    def count(self, batch: Any) -> None:
        """A step begins."""
        self.begun += 1
        self.steps += 1
        self.padded += batch["input_ids"].numel()
        if isinstance(self.cost, EncoderDecoderCost):
            self.padded += batch["labels"].numel()
        counted = count(batch) if self.cost is None else self.cost.count(batch)
        self.counts = self.counts.to(counted.device, non_blocking=True) + counted

    def loss(self, loss: torch.Tensor) -> None:
        """The loss of a step is known."""
        self.losses.append(loss.detach().clone())

    def stepped(self) -> None:
        """A step has ended."""
        if self.begun == self.skip:
            self._zero()
            self.start()

    def measured(self) -> Measured:
        """Returns seconds a step, and rates, of what was counted."""
        rows, tokens, *_ = self.counts.tolist()
        counts: Measured = {"steps": self.steps, "rows": rows, "tokens": tokens}
        if self.cost is not None:
            counts["flops"] = self.cost.training(self.counts)
        rates = {name: value / self.seconds for name, value in counts.items()}
        rates["step"] = self.seconds / self.steps
        if torch.cuda.is_available():
            rates["device_memory"] = torch.cuda.max_memory_allocated() / 1e6
        return {**rates, "epoch_tokens": float(tokens), "padding": self.padded / tokens}

    @staticmethod
    def now() -> float:
        """Returns the time, once the device has done its work."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


class LightningMeter(Callback):
    """Tells a meter what Lightning's Trainer does."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_train_epoch_start(self, *_: Any) -> None:
        """An epoch begins."""
        self.meter.start()

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, number: int) -> None:
        """A step begins."""
        self.meter.count(batch)

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *_: Any) -> None:
        """A step has ended."""
        self.meter.loss(outputs["loss"])
        self.meter.stepped()

    def on_train_epoch_end(self, *_: Any) -> None:
        """The epoch has ended."""
        self.meter.stop()


class PredictionClock(Callback):
    """Times a prediction from the loader on: rows are prepared, and the model is loaded."""

    def on_predict_start(self, *_: Any) -> None:
        """Begins."""
        self.started = Meter.now()

    def on_predict_end(self, *_: Any) -> None:
        """Ends."""
        self.seconds = Meter.now() - self.started


class HuggingFaceMeter(TrainerCallback):
    """Tells a meter what Hugging Face's Trainer does; `CountingTrainer` tells it the rest."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """An epoch begins."""
        self.meter.start()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step has ended."""
        self.meter.stepped()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """The epoch has ended."""
        self.meter.stop()


class CountingTrainer(HuggingFaceTrainer):
    """Hugging Face's Trainer, counting; on given batches where there are some."""

    def __init__(self, meter: Meter, batches: list[Any] | None = None, **kwargs: Any) -> None:
        super().__init__(callbacks=[HuggingFaceMeter(meter)], **kwargs)
        self.meter, self.batches = meter, batches

    def get_train_dataloader(self) -> Any:
        """Returns the Trainer's own loader, or the given batches."""
        if self.batches is None:
            return super().get_train_dataloader()
        return DataLoader(self.batches, batch_size=None, pin_memory=torch.cuda.is_available())  # type: ignore[arg-type]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Counts and steps."""
        self.meter.count(inputs)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.meter.loss(loss)
        return loss


def lightning_trainer(accelerator: str, *callbacks: Callback, precision: Any = "32-true", **limits: Any) -> Trainer:
    """Makes a Trainer that writes nothing."""
    return Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        gradient_clip_val=1.0,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **limits,
    )


def hugging_face_trainer(
    options: Any,
    model: PreTrainedModel,
    folder: Path,
    meter: Meter,
    settings: dict[str, Any],
    **given: Any,
) -> CountingTrainer:
    """Makes a Trainer with its defaults (fused AdamW, linear decay, clipping 1.0), which writes nothing.

    Args:
        options: with `batch_size`, `seed`, `accelerator` and `precision`.
        model: to train.
        folder: that the Trainer believes it writes to.
        meter: counts.
        settings: further `TrainingArguments`.
        given: `train_dataset`, `data_collator`, ..., or `batches`.
    """
    arguments = TrainingArguments(str(folder / "trainer"), **usual_settings(options), **settings)
    return CountingTrainer(meter, model=model, args=arguments, **given)


def usual_settings(options: Any) -> dict[str, Any]:
    """Returns the `TrainingArguments` of every Trainer that is measured, those of TRL and sentence-transformers, too.

    Args:
        options: with `batch_size`, `seed`, `accelerator` and `precision`.
    """
    return {
        "per_device_train_batch_size": options.batch_size,
        "optim": "adamw_torch_fused",
        "max_grad_norm": 1.0,
        "seed": options.seed,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": options.accelerator == "cpu",
        "bf16": options.precision == "bf16-mixed",
    }


def without_dropout(model: PreTrainedModel) -> None:
    """Sets every dropout of a configuration to 0, for a model that is loaded anew from it."""
    for name, value in model.config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(model.config, name, 0.0)


def compare_losses(ours: Sequence[Any], theirs: Sequence[Any], steps: int, allowed: float, what: str) -> str:
    """Returns the sentence that the losses of some steps are the same.

    Raises:
        RuntimeError: a loss differs by more than `allowed`, or there are not so many.
    """
    pairs = [(float(one), float(other)) for one, other in zip(ours, theirs, strict=True)]
    differences = [abs(one - other) for one, other in pairs]
    furthest = max(differences)  # passes over NaN
    if len(pairs) != steps or not all(each <= allowed for each in differences):
        raise RuntimeError(f"{what}: losses of {len(pairs)} of {steps} steps differ by up to {furthest:.2e}: {pairs}")
    return f"{what}: losses of {steps} steps within {furthest:.1e} (allowed {allowed:g})"
