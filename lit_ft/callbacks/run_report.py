"""`report.html` and `report.md` in the run folder, at the end of every command, however it ends."""

from lightning.pytorch import LightningModule, Trainer

from lit_ft.callbacks.base import RunCallback
from lit_ft.callbacks.logger_files import hand_on
from lit_ft.pages.write import PAGE, TEXT, write_report


class RunReport(RunCallback):
    """Writes the report from what lies in the folder."""

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes it when all others are done."""
        self._report(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Writes what there is."""
        self._report(trainer)

    def _report(self, trainer: Trainer) -> None:
        if self.run is None or not trainer.is_global_zero or not self.run.is_dir():
            return
        for logger in trainer.loggers:
            logger.save()  # metrics.csv waits for 50 rows
        write_report(self.run)
        for logger in trainer.loggers:
            hand_on(logger, self.run / PAGE, self.run / TEXT, trainer.global_step)
