"""What ends a run from outside, in words: memory, loader processes, disks; and what to do about each."""

import errno
import re
from typing import Any

import torch
from lightning.pytorch import Callback

OUT_OF_MEMORY = re.compile(r"not enough memory|out of memory|can't allocate memory|Cannot allocate memory")
WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\)")
DISKS = {
    errno.ENOSPC: "there is no space left: free some, or lead the run elsewhere (trainer.default_root_dir, "
    "data.preparation_dir)",
    errno.EDQUOT: "the quota is used up: free some, or lead the run elsewhere (trainer.default_root_dir, "
    "data.preparation_dir)",
    errno.EROFS: "it lies on a disk that can only be read: lead the run elsewhere (trainer.default_root_dir, "
    "data.preparation_dir)",
}


class LastBatch(Callback):
    """Remembers the shape of the batch at hand, for the message when it was too large.

    Attributes:
        shape: rows and tokens of the batch, padding included; `None` before the first.
        longest: real tokens of its longest row.
        training: whether the batch was one of training.
    """

    def __init__(self) -> None:
        self.shape: tuple[int, ...] | None = None
        self._mask: torch.Tensor | None = None
        self.training = False

    @property
    def longest(self) -> int | None:
        """Real tokens of the longest row, where that can still be read."""
        try:
            return None if self._mask is None else int(self._mask.sum(-1).max())
        except RuntimeError:
            return None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Notes it."""
        self._note(batch, True)

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
        """Notes it."""
        self._note(batch, False)

    def on_test_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
        """Notes it."""
        self._note(batch, False)

    def on_predict_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
        """Notes it."""
        self._note(batch, False)

    def _note(self, batch: Any, training: bool) -> None:
        ids = batch.get("input_ids") if isinstance(batch, dict) else None
        self.shape, self.training = None if ids is None else tuple(ids.shape), training
        self._mask = batch.get("attention_mask") if ids is not None else None


def explained(error: BaseException, last: LastBatch) -> str | None:
    """Returns what an error means to the user; `None` where it is none of these.

    Args:
        error: what ended the run.
        last: the batch at hand.
    """
    text = str(error)
    lacking = isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or OUT_OF_MEMORY.search(text))
    if lacking or isinstance(error, torch.OutOfMemoryError | MemoryError):
        return _too_large(text, last)
    if isinstance(error, RuntimeError) and (found := WORKER.search(text)):
        return (
            f"{found[0]} was killed: mostly by the system, for want of memory. Lower data.num_workers (0 loads in the "
            "main process); the run goes on with --ckpt_path last"
        )
    if isinstance(error, OSError) and error.errno in DISKS:
        return f"{error.filename or 'a file'} could not be written: {DISKS[error.errno]}"
    return None


def _too_large(text: str, last: LastBatch) -> str:
    if last.shape is None:
        return f"out of memory before the first batch: {text.splitlines()[0] if text else 'no more is known'}"
    size, rows = "data.batch_size" if last.training else "data.eval_batch_size", last.shape[0]
    longest = "" if last.longest is None else f", its longest row has {last.longest:,}"
    first = f"out of memory on a batch of {rows:,} rows padded to {last.shape[-1]:,} tokens{longest}: lower {size}"
    if not last.training:
        return f"{first} ({text.splitlines()[0]})"
    return (
        f"{first} (with trainer.accumulate_grad_batches higher by the same factor the training stays the same) or the "
        "length (max_seq_length, block_size), or set model.gradient_checkpointing: true, or data.max_tokens_per_batch, "
        f"which bounds every batch ({text.splitlines()[0]})"
    )
