"""`data_report.json` in the run folder: what was found in the rows, and what was done about it."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lit_ft.callbacks.base import RunCallback, sets_before, write_json

NAME = "data_report.json"


class DataReport(RunCallback):
    """Writes the report that the data module made when it prepared the rows; a later stage adds its sets."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes before the first step, so that a run that is killed has it, too."""
        super().setup(trainer, pl_module, stage)
        report = getattr(getattr(trainer, "datamodule", None), "report", None)
        if report and self.run is not None and trainer.is_global_zero:
            self.run.mkdir(parents=True, exist_ok=True)
            _write(self.run / NAME, report)


def _write(path: Path, report: dict[str, Any]) -> None:
    before = sets_before(path, report["sets"])
    if before:
        meaning = {**before["meaning"], **report["meaning"]}
        report = {**report, "meaning": meaning, "sets": [*before["sets"], *report["sets"]]}
    write_json(path, report)
