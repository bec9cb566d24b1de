"""What a person sees: our messages, on the first process, and no warning about what is as it should be."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import datasets
import transformers
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

log = logging.getLogger("lit_ft")

UNACTIONABLE = (
    r".*does not have many workers.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*LeafSpec.*",
    r".*could not find the monitored key in the returned metrics.*",  # RunCheckpoint says it in our words
    r".*Total length of `list` across ranks is zero.*",  # no validation set
    r".*(instantiate_classes|add_instantiator|skip_none|JSONARGPARSE).*",  # between Lightning and jsonargparse
    r".*dataloader is not resumable.*",  # ours is
    r".*will save all targets and predictions in (the )?buffer.*",
    r".*sync_dist=True.*",  # our metrics gather by themselves
    r".*No (positive|negative) samples in targets.*",
    r".*was nan. Ignoring these classes.*",
    r".*number of training batches .* is smaller than the logging interval.*",
    r".*LightningCLI's args parameter is intended.*",
    r".*lr_scheduler.step\(\).* before .*optimizer.step\(\).*",
    r".*pin_memory.*no accelerator.*",
    r".*`is_gradient_checkpointing` is deprecated.*",  # PEFT asks for it
    r".*variance of predictions or target is close to zero.*",
    r".*`compute` method of metric .* was called before the `update`.*",
)
SILENT_LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "bitsandbytes.backends.cpu.ops",
)
UNACTIONABLE_MESSAGES = (
    "💡",
    "to estimate number of stepping batches",
    "TPU available",
    "GPU available: False",
    "Seed set to",
    "Restoring states from",  # we say which weights are used
    "Loaded model weights from",
    "Failed to load CPU gemm_4bit_forward",  # said of every run, also of those without 4 bits
)


def quiet() -> None:
    """Silences the libraries below us where a user could not act on what they say."""
    for pattern in UNACTIONABLE:
        warnings.filterwarnings("ignore", message=pattern)
    for name in SILENT_LOGGERS:
        logging.getLogger(name).addFilter(_is_actionable)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.utils.logging.set_verbosity_error()


def _is_actionable(record: logging.LogRecord) -> bool:
    return not any(part in record.getMessage() for part in UNACTIONABLE_MESSAGES)


class _Print(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)


def speak() -> None:
    """Shows our messages, on the first process only."""
    if getattr(rank_zero_only, "rank", 0) != 0:
        return
    log.setLevel(logging.INFO)  # somebody may have set another since
    if not log.handlers:
        log.addHandler(_Print())
        log.propagate = False


def show_metrics(title: str, metrics: Mapping[str, Any]) -> None:
    """Prints a table of metrics."""
    table = Table("metric", "value", title=title)
    for name, value in metrics.items():
        table.add_row(name, f"{float(value):.4f}")
    Console().print(table)
