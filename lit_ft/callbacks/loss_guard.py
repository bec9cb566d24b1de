"""What to do when the loss is no number, and a record of the rows that made it so."""

import json
import logging
import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lit_ft.callbacks.base import RunCallback
from lit_ft.errors import UserError

log = logging.getLogger("lit_ft")

KEPT = 20
"""Batches that are recorded at most."""


@dataclass
class Seen:
    """A batch whose loss may be not finite; looked at when the device has come so far."""

    loss: Tensor
    event: Any
    batch: Any
    epoch: int
    batch_idx: int
    step: int

    def finite(self) -> bool:
        """Waits for the loss, and says whether it is a number."""
        if self.event is not None:
            self.event.synchronize()
        return math.isfinite(float(self.loss))


class LossGuard(RunCallback):
    """Looks at the loss of every batch; where it is NaN or infinite, writes the batch down and stops or skips the step.

    On a GPU the loss is read one batch later, so that nothing waits for it; no checkpoint is written in between. To
    skip, it is read at once.

    Args:
        on_nonfinite: `stop`, or `skip`: the optimizer leaves this step out, on all processes; such steps are counted.
    """

    def __init__(self, on_nonfinite: Literal["stop", "skip"] = "stop") -> None:
        self.on_nonfinite = on_nonfinite
        self.skipped = 0
        self._batch: tuple[Any, int] = (None, 0)
        self._seen: deque[Seen] = deque()
        self._bad_window = False
        self._recorded = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keeps the batch at hand."""
        self._batch = (batch, batch_idx)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Looks at the loss, or at that of the batch before."""
        batch, batch_idx = self._batch
        kept, event = loss.detach(), None
        if is_late(loss):
            kept = kept.to("cpu", non_blocking=True)
            event = torch.get_device_module(loss.device).Event()
            event.record()
        self._seen.append(Seen(kept, event, batch, trainer.current_epoch, batch_idx, trainer.global_step))
        later = event is not None and self.on_nonfinite == "stop"
        self._look(trainer, pl_module, leave=1 if later else 0)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Makes sure that nothing is saved that a bad loss has spoilt."""
        self._look(trainer, pl_module, leave=0)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the last batch; says how many steps were skipped."""
        self._look(trainer, pl_module, leave=0)
        if self.skipped:
            log.warning(f"{self.skipped:,} steps were skipped, for their loss was not finite")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Takes the gradients away where the step is to be skipped: AdamW leaves parameters without one alone."""
        if self.on_nonfinite == "stop":
            return
        together: Any = trainer.strategy.reduce_boolean_decision
        bad = together(self._bad_window, all=False) if trainer.world_size > 1 else self._bad_window
        self._bad_window = False
        if bad:
            self.skipped += 1
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None

    def _look(self, trainer: Trainer, module: LightningModule, leave: int) -> None:
        while len(self._seen) > leave:
            seen = self._seen.popleft()
            if not seen.finite():
                self._found(trainer, module, seen)

    def _found(self, trainer: Trainer, module: LightningModule, seen: Seen) -> None:
        self._bad_window = True
        where = ""
        if self.run is not None and self._recorded < KEPT:
            self._recorded += 1
            name = f"epoch={seen.epoch}-batch={seen.batch_idx}-process={trainer.global_rank}.jsonl"
            where = f"; its rows: {record(self.run / 'nonfinite' / name, trainer, module, seen)}"
        what = f"the loss of epoch {seen.epoch}, batch {seen.batch_idx} (step {seen.step}) is {float(seen.loss)}{where}"
        if self.on_nonfinite == "skip":
            log.warning(f"{what}; the step is skipped")
            return
        raise UserError(
            f"{what}. Often: a learning rate that is too high, precision 16-mixed, a broken row. The last checkpoint "
            "is from before it (--ckpt_path last); loss_guard.on_nonfinite: skip leaves such steps out"
        )


def is_late(loss: Tensor) -> bool:
    """Says whether reading a tensor would wait for a device."""
    return loss.device.type != "cpu"


def record(path: Path, trainer: Any, module: Any, seen: Seen) -> Path:
    """Writes the rows of a batch: number, text (of several choices a list), labels by their names.

    The number is that in the training set, or of several sources that in the source, which is named.

    Returns:
        The file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer, batch = getattr(module, "tokenizer", None), seen.batch
    data = trainer.datamodule
    rows = data.train_rows_at(seen.epoch, seen.batch_idx) if hasattr(data, "train_rows_at") else None
    ids: Any = batch.get("input_ids", []) if isinstance(batch, dict) else []
    names = getattr(module, "label_keys", ("labels",))
    lines = []
    for place in range(len(ids)):
        labels = {name: batch[name][place].tolist() if name in batch else None for name in names}
        source, row = data.source_of_row(rows[place]) if rows is not None and len(rows) == len(ids) else ("", None)
        of_source = {"source": source} if source else {}
        lines.append({**of_source, "row": row, "text": _text(batch, place, tokenizer), **labels})
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def _text(batch: Any, place: int, tokenizer: Any) -> Any:
    ids, mask = batch["input_ids"][place], batch.get("attention_mask")
    if ids.dim() > 1:
        masks = [None] * len(ids) if mask is None else [each.bool() for each in mask[place]]
        return [
            _decoded(one, real, tokenizer) for one, real in zip(ids, masks, strict=True) if real is None or real.any()
        ]
    return _decoded(ids, None if mask is None else mask[place].bool(), tokenizer)


def _decoded(ids: Tensor, real: Tensor | None, tokenizer: Any) -> Any:
    tokens = (ids if real is None else ids[real]).tolist()
    return tokens if tokenizer is None else tokenizer.decode(tokens)
