"""`run.json` in the run folder: each command, its machine and its end; `data_summary.json`: what the data hold."""

import json
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lit_ft.callbacks.base import RunCallback, sets_before, write_json
from lit_ft.callbacks.logger_files import tell_options
from lit_ft.callbacks.run_logger import RunLogger, place
from lit_ft.pages.run_files import RECORD, SUMMARY

PACKAGES = ("lit_ft", "torch", "lightning", "transformers", "datasets", "tokenizers", "torchmetrics", "peft")


class RunRecord(RunCallback):
    """Notes that a command began, and how it ended; one that was killed has no end."""

    def __init__(self) -> None:
        self.began = time.time()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes before the first step."""
        super().setup(trainer, pl_module, stage)
        if self.run is None or not trainer.is_global_zero:
            return
        self.run.mkdir(parents=True, exist_ok=True)
        entry = {
            "command": str(getattr(trainer.state.fn, "value", stage)),
            "words": sys.argv,
            "module": type(pl_module).__name__,
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "ended": None,
            "status": "running",
            "machine": machine(trainer),
        }
        commands = [*read_commands(self.run), entry]
        write_json(self.run / RECORD, {"commands": commands, "versions": versions()})
        data: Any = getattr(trainer, "datamodule", None)
        if trainer.state.fn == "fit":
            wings = {"model": pl_module.hparams, "data": getattr(data, "hparams", {}), "trainer": _told(trainer)}
            for logger in trainer.loggers:
                if not isinstance(logger, RunLogger):
                    tell_options(logger, wings)
        if hasattr(data, "summary"):
            _add_summary(self.run / SUMMARY, data.summary())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Notes the end."""
        self._end(trainer, "finished")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Notes what ended the command."""
        said = " ".join(str(exception).split())[:500]
        self._end(trainer, f"{type(exception).__name__}: {said}" if said else type(exception).__name__)

    def _end(self, trainer: Trainer, status: str) -> None:
        if self.run is None or not trainer.is_global_zero:
            return
        commands = read_commands(self.run)
        if commands and commands[-1]["ended"] is None:
            ended = datetime.now(UTC).isoformat(timespec="seconds")
            seconds = round(time.time() - self.began, 1)
            commands[-1] |= {"ended": ended, "seconds": seconds, "status": status, **place(trainer)}
            write_json(self.run / RECORD, {"commands": commands, "versions": versions()})


def read_commands(run: Path) -> list[dict[str, Any]]:
    """Returns what was noted of the commands of a run; empty where nothing was."""
    path = run / RECORD
    return json.loads(path.read_text(encoding="utf-8"))["commands"] if path.is_file() else []  # type: ignore[no-any-return]


def machine(trainer: Trainer) -> dict[str, Any]:
    """Returns what a command runs on."""
    device: Any = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": f"{device.type}: {name}",
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "precision": str(trainer.precision),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Returns the versions of what a run stands on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _told(trainer: Trainer) -> dict[str, Any]:
    """Returns what a Trainer was told that matters for what is learned."""
    names = ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision", "world_size")
    return {name: getattr(trainer, name) for name in names}


def _add_summary(path: Path, summary: dict[str, Any]) -> None:
    """Writes what the sets of a stage hold; those of other stages stay."""
    before = sets_before(path, summary["sets"])
    if before:
        known = {finding["what"] for finding in summary["findings"]}
        splits = {one["split"] for one in before["sets"]}
        kept = [
            each
            for each in before["findings"]
            if each["what"] not in known and each["what"].partition(":")[0].partition("/")[0] in splits
        ]
        summary = {
            "sets": [*before["sets"], *summary["sets"]],
            "batches": summary["batches"] or before["batches"],
            "findings": [*kept, *summary["findings"]],
        }
    write_json(path, summary)
