"""A callback that writes into the run's folder."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_ft.callbacks.run_logger import run_folder


class RunCallback(Callback):
    """Knows the run's folder from `setup` on.

    Attributes:
        run: the folder, the same on every process; `None` where nothing is to be written (`fast_dev_run`).
    """

    run: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks for the folder once, on every process: the first one tells the others."""
        self.run = run_folder(trainer)


def write_json(path: Path, content: Any) -> None:
    """Writes a file beside its place and moves it there, so that nobody finds half of it."""
    working = path.with_suffix(".tmp")
    working.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    working.replace(path)
