"""`evaluation.<stage>.json` in the run folder: how sure the metrics of each set are, and which rows are most wrong."""

import heapq
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MetricCollection

from lit_ft.callbacks.base import RunCallback, write_json
from lit_ft.callbacks.label_report import MOST_ON_SCREEN
from lit_ft.callbacks.run_logger import place
from lit_ft.data.viewing.row_views import RowView, one_row
from lit_ft.metrics.binned import CalibrationError
from lit_ft.metrics.starting_afresh import reset
from lit_ft.pages.run_files import evaluation_file

WORST = 20
"""Rows that are named."""
KEPT = 2_000
"""Rows of a set that are drawn from, the first ones."""
DRAWS, LEAST, SECONDS = 200, 40, 8.0
"""Samples drawn with replacement, the fewest that say something, and the time that may be spent on a set."""
PERCENT = (2.5, 97.5)
TEXT = 400
"""Characters of a row's text."""


class SetRecord:
    """What is kept of one evaluation set while it is evaluated.

    Attributes:
        rows: merged rows, the first ones.
        worst: a heap of (wrongness, number, text and what was made of it).
        seen: rows.
        reliability: how often predictions are right by how sure they are.
        labels: how well each label is found, and for what it is taken; or each type of question answered.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.worst: list[tuple[float, int, dict[str, Any]]] = []
        self.seen = 0
        self.reliability: list[list[float]] = []
        self.labels: list[dict[str, Any]] = []

    def add(self, module: Any, data: Any, batch: dict[str, Any], outputs: dict[str, Any]) -> None:
        """Takes the rows that were completed with a batch."""
        rows, places = outputs["rows"], outputs["places"]
        self.seen += len(rows)
        self.rows += rows[: max(KEPT - len(self.rows), 0)]
        wrong = module.wrongness(rows) if rows else None
        if wrong is None:
            return
        for row, (number, at), value in zip(rows, places, wrong.tolist(), strict=True):
            if math.isnan(value) or (len(self.worst) == WORST and value <= self.worst[0][0]):
                continue
            entry = {"row": number, "wrong": value, "said": module.said(row), **_shown(data, batch, at)}
            keep = heapq.heappush if len(self.worst) < WORST else heapq.heapreplace
            keep(self.worst, (value, -number, entry))  # of equal ones the first

    def mistakes(self) -> list[dict[str, Any]]:
        """Returns the rows that are most wrong, the worst first."""
        return [entry for _, _, entry in sorted(self.worst, key=lambda each: each[:2], reverse=True)]


@dataclass
class Evaluated:
    """What is kept of an evaluation.

    Attributes:
        place: step and epoch of the weights.
        metrics: of all sets, as they were logged.
        sets: by number.
    """

    place: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    sets: dict[int, SetRecord] = field(default_factory=dict)


class EvaluationRecord(RunCallback):
    """Records, at the end of fit, the validation that chose the best checkpoint, and what `validate` and `test` find.

    Where this process has not seen that validation (the run went on and found nothing better), or nothing is monitored,
    it is the last one. Intervals are those of 200 samples of the rows, drawn with replacement (bootstrap, 95 %):
    between them another such set might score. They are made where one process evaluates, of the first 2,000 rows of a
    set.
    """

    def __init__(self) -> None:
        self.last, self.best = Evaluated(), Evaluated()
        self._score: float | None = None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts afresh."""
        self._keep_best(trainer)
        self.last = Evaluated()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts afresh."""
        self.last = Evaluated()

    def on_validation_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Takes a batch's rows."""
        self._add(trainer, module, outputs, batch, dataloader_idx)

    def on_test_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Takes a batch's rows."""
        self._add(trainer, module, outputs, batch, dataloader_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records what `validate` found."""
        if trainer.sanity_checking:
            return
        self._end(trainer, pl_module, "val")
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module, "val", self.last)
        elif self.run is not None and trainer.is_global_zero:  # of an earlier fit: other weights are the best by now
            (self.run / evaluation_file("val")).unlink(missing_ok=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the best validation."""
        self._keep_best(trainer)
        self._write(trainer, pl_module, "val", self.best if self.best.sets else self.last)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records what `test` found."""
        self._end(trainer, pl_module, "test")
        self._write(trainer, pl_module, "test", self.last)

    def _keep_best(self, trainer: Trainer) -> None:
        """Keeps the last evaluation, where a checkpoint was chosen by it: that is done after `on_validation_end`."""
        score = getattr(trainer.checkpoint_callback, "best_model_score", None)
        if score is not None and float(score) != self._score:
            self._score, self.best = float(score), self.last

    def _add(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, number: int) -> None:
        if self.run is None or trainer.sanity_checking or not isinstance(outputs, dict) or "places" not in outputs:
            return
        record = self.last.sets.setdefault(number, SetRecord())
        record.add(module, getattr(trainer, "datamodule", None), batch, outputs)

    def _end(self, trainer: Trainer, module: Any, stage: str) -> None:
        """Takes what is known of an evaluation only at its end."""
        metrics = trainer.callback_metrics.items()
        self.last.metrics = {name: float(value) for name, value in metrics if name.startswith(f"{stage}_")}
        self.last.place = place(trainer)
        # of many labels a table is large, whom each is taken for above all, and this is done at every validation
        if hasattr(module, "label_table") and len(module.description.get("labels", ())) <= MOST_ON_SCREEN:
            for number, table in enumerate(module.label_table(stage)):
                if table:
                    self.last.sets.setdefault(number, SetRecord()).labels = table
        if trainer.world_size == 1:
            for number, record in self.last.sets.items():
                record.reliability = reliability(module.set_metrics(stage)[number])

    def _write(self, trainer: Trainer, module: Any, stage: str, evaluated: Evaluated) -> None:
        if self.run is None or not hasattr(module, "set_names"):
            return
        made = []
        for number, name in enumerate(module.set_names(stage)):  # on every process, also where none of its rows are
            record = evaluated.sets.get(number, SetRecord())
            every = _gathered(trainer, record)
            if not every["seen"]:
                continue
            entry = {"name": name, "rows": every["seen"], "mistakes": every["mistakes"], "labels": record.labels}
            if trainer.world_size == 1:
                entry["intervals"] = intervals(module, stage, record.rows)
                entry["of"] = len(record.rows)
                entry["reliability"] = record.reliability
            made.append(entry)
        if made and trainer.is_global_zero:
            found = {**evaluated.place, "metrics": evaluated.metrics, "sets": made}
            write_json(self.run / evaluation_file(stage), found)
        self.last, self.best = Evaluated(), Evaluated()


def intervals(module: Any, stage: str, rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Returns between what 95 of 100 other such sets would score, by metric; nothing where that would take long.

    Args:
        module: makes and updates metrics.
        stage: whose metrics.
        rows: merged rows of a set.
    """
    if len(rows) < 2 or not module.rows_stand_alone:
        return {}
    chance, began, found = np.random.default_rng(0), time.perf_counter(), list[dict[str, float]]()
    metrics = None
    with torch.no_grad():
        while len(found) < DRAWS and time.perf_counter() - began < SECONDS:
            if metrics is None or not reset(metrics):
                metrics = module.metrics(module.description, stage)
            module.update(metrics, [rows[at] for at in chance.integers(len(rows), size=len(rows))])
            found.append({name: float(value) for name, value in module.compute(metrics).items()})
    if len(found) < LEAST:
        return {}
    values = {name: np.array([each[name] for each in found]) for name in found[0]}
    return {
        name: [round(float(side), 5) for side in np.percentile(each, PERCENT)]
        for name, each in values.items()
        if np.isfinite(each).all()
    }


def reliability(metrics: Any) -> list[list[float]]:
    """Returns the bins of the calibration error among the metrics of a set; empty where there is none."""
    if isinstance(metrics, CalibrationError):
        return metrics.reliability()
    inner = metrics.values() if isinstance(metrics, Mapping | MetricCollection) else metrics
    found = [reliability(each) for each in inner] if isinstance(inner, Iterable) else []
    return next((each for each in found if each), [])


def _gathered(trainer: Trainer, record: SetRecord) -> dict[str, Any]:
    """Returns rows and mistakes of all processes; every one of them asks."""
    own = {"seen": record.seen, "mistakes": record.mistakes()}
    every: list[Any] = [own]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        every = [None] * trainer.world_size
        torch.distributed.all_gather_object(every, own)
    mistakes = sorted((each for one in every for each in one["mistakes"]), key=lambda each: -each["wrong"])
    return {"seen": sum(one["seen"] for one in every), "mistakes": mistakes[:WORST]}


def _shown(data: Any, batch: dict[str, Any], at: int) -> dict[str, Any]:
    """Returns what the row says, and its label, where our data module made the batch."""
    if not hasattr(data, "sequences") or "row" not in batch:
        return {"text": None, "label": None}
    row = one_row(batch, at)
    return {"text": RowView(tuple(data.sequences(row))).text[:TEXT], "label": data.label_of(row)}
