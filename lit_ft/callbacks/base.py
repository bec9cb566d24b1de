"""A callback that writes into the run's folder."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_ft.callbacks.run_logger import run_folder
from lit_ft.pages.write import write_whole


class RunCallback(Callback):
    """Knows the run's folder from `setup` on.

    Attributes:
        run: the folder, the same on every process; `None` where nothing is to be written (`fast_dev_run`).
    """

    run: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks for the folder once, on every process: the first one tells the others."""
        self.run = run_folder(trainer)


def sets_before(path: Path, sets: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns what earlier stages wrote about a run's sets, but for those that are written anew; empty = nothing."""
    if not path.is_file():
        return {}
    before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    now = {(one["split"], one["name"]) for one in sets}
    return {**before, "sets": [one for one in before["sets"] if (one["split"], one["name"]) not in now]}


def write_json(path: Path, content: Any) -> None:
    """Writes plain values, whole or not at all."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False))
