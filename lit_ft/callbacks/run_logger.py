"""`metrics.csv` in the run folder; a run that goes on continues the file instead of replacing it."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.csv_logs import _ExperimentWriter
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from lit_ft.runs import new_run, run_number


class RunLogger(CSVLogger):
    """Lightning's CSV logger, writing straight into `<save_dir>/version_N/`.

    Args:
        save_dir: where runs lie.
        version: name of an existing run folder to go on in; `None` = a new one.
        at: epoch and step of the checkpoint that `validate` or `test` start from, which Lightning takes for 0.
        goes_on: training goes on at that step: what a killed run logged after it will be logged again.
    """

    def __init__(
        self, save_dir: str, version: str | None = None, at: tuple[int, int] = (0, 0), goes_on: bool = False
    ) -> None:
        self.at = (0, 0) if goes_on else at
        self.until = at[1] if goes_on else None
        folder = None if version is None else _version(version)
        super().__init__(os.path.abspath(save_dir), name="", version=folder, flush_logs_every_n_steps=50)

    @property
    def version(self) -> int | str:
        """Number of the run's folder; asked on the first process, it makes a new one."""
        if self._version is None and getattr(rank_zero_only, "rank", 0) == 0:
            self._version = run_number(new_run(Path(self.save_dir)))
        return "" if self._version is None else self._version

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of `metrics.csv`."""
        if self._experiment is None:
            self._experiment = _ContinuedWriter(self.log_dir, self.until)
        return self._experiment

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Appends a row of metrics."""
        if not step and self.at[1]:
            metrics, step = {**metrics, "epoch": self.at[0]}, self.at[1]
        super().log_metrics(metrics, step)

    def log_hyperparams(self, params: Any = None) -> None:
        """Does nothing: `config.yaml` holds them."""


class _ContinuedWriter(_ExperimentWriter):
    """Lightning's writer, which keeps what is there; `until` = but for steps from there on."""

    def __init__(self, log_dir: str, until: int | None = None) -> None:
        self.until, self._last = until, ""
        super().__init__(log_dir)

    def log_metrics(self, metrics_dict: dict[str, float], step: int | None = None) -> None:
        """Notes a row; not once more what a checkpoint had logged ahead."""
        super().log_metrics(metrics_dict, step)
        noted = repr(self.metrics[-1])  # of a NaN, too
        if noted == self._last:
            self.metrics.pop()
        self._last = noted

    def _check_log_dir_exists(self) -> None:
        if not Path(self.metrics_file_path).is_file():
            return
        with open(self.metrics_file_path, newline="") as file:
            reader = csv.DictReader(file)
            self.metrics_keys, rows = list(reader.fieldnames or []), list(reader)
        if self.until is not None:
            kept = [row for row in rows if (row.get("step") or "").isdecimal() and int(row["step"]) < self.until]
            self._write_whole(self.metrics_keys, kept)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with open(self.metrics_file_path, newline="") as file:
            rows = list(csv.DictReader(file))
        self._write_whole(fieldnames, rows)

    def _write_whole(self, fieldnames: list[str], rows: list[dict[str, Any]]) -> None:
        working = Path(self.metrics_file_path).with_suffix(".writing")
        with working.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames)
            writer.writeheader()
            writer.writerows(rows)
        working.replace(self.metrics_file_path)

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Does nothing."""


def _version(name: str) -> int | str:
    """Returns the number of a run's folder, or the name of one that was renamed."""
    number = run_number(Path(name))
    return name if number == -1 else number


def run_folder(trainer: Trainer) -> Path | None:
    """Returns the run's folder, the same on every process; `None` where nothing is to be written (`fast_dev_run`).

    Every process must ask.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    loggers = [logger for logger in trainer.loggers if isinstance(logger, RunLogger)]
    folder = loggers[0].log_dir if loggers else trainer.log_dir or trainer.default_root_dir
    told = Path(trainer.strategy.broadcast(str(folder)))
    for logger in loggers:
        logger._version = _version(told.name)  # the other processes have none of their own
    return told


def place(trainer: Trainer) -> dict[str, int]:
    """Returns step and epoch of the weights, those of a checkpoint that `test` starts from, too."""
    now = (trainer.current_epoch, trainer.global_step)
    epoch, step = next((each.at for each in trainer.loggers if isinstance(each, RunLogger) and not now[1]), now)
    return {"step": step, "epoch": epoch}
