"""How a task's module is evaluated: validation is prediction plus scores, row by row, in sets of their own."""

from abc import abstractmethod
from typing import Any, Literal

from lightning.pytorch import LightningModule
from torch import Tensor

from lit_ft.data.batching.merging import Part
from lit_ft.errors import UserError
from lit_ft.modules.evaluation import EvaluationSet, beside, check_monitors, full_precision, prefixes
from lit_ft.ops.agreements import Batch, Description, check_metrics, check_parts, checked_loss
from lit_ft.ops.serving import serving


class EvaluatingModule(LightningModule):
    """Scores rows whose windows have all come, in any number of sets and processes; see `TransformerModule`.

    Args:
        logged_metrics: names of metrics that a subclass logs by itself, so that callbacks may monitor them.
        kwargs: options of the optimizer and of the model.

    Attributes:
        description: what the data say of their rows.
        monitor: the metric that the best checkpoint is chosen by, unless the user names another.
        monitor_mode: whether more of it is better.
        label_keys: what a batch calls its labels; the model itself never sees them.
        extra_keys: what else of a batch the model never sees.
        rows_stand_alone: whether a row scores the same whatever other rows there are, so that samples of rows say how
            sure the metrics are.
    """

    description: Description
    monitor = "val_loss"
    monitor_mode: Literal["min", "max"] = "min"
    label_keys: tuple[str, ...] = ("labels",)
    extra_keys: tuple[str, ...] = ()
    rows_stand_alone: bool = True
    known_description: Description

    def __init__(self, *, logged_metrics: list[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sets: dict[str, list[EvaluationSet]] = {}

    # What a task writes

    @abstractmethod
    def outputs(self, batch: Batch) -> Any:
        """Runs the model on a batch; returns what `loss` and `decode` are given."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the summed loss of a batch and the count to divide it by; rows without a label count nowhere."""

    @abstractmethod
    def decode(self, outputs: Any, batch: Batch) -> list[Part]:
        """Returns one small dict per feature."""

    def merge(self, parts: list[Part]) -> Part:
        """Makes one dict per row of its windows' parts; by default a row is one feature, and has no windows.

        Raises:
            UserError: there are windows.
        """
        if len(parts) > 1:
            raise UserError(f"{type(self).__name__} reads a row as one feature: leave stride out")
        return parts[0]

    def evaluation_loss(self, outputs: Any, batch: Batch, rows: list[Part]) -> tuple[Tensor, Tensor]:
        """Returns the summed loss of a batch and its count, of features or, where windows are merged, of `rows`."""
        return self.loss(outputs, batch)

    @abstractmethod
    def metrics(self, description: Description, stage: str) -> Any:
        """Makes the metrics of one evaluation set, on this module's device.

        Where they have `reset`, as torchmetrics' do, also in a dict, list or tuple, intervals are made with one set of
        them that is emptied each time; else a new one is asked for.
        """

    @abstractmethod
    def update(self, metrics: Any, rows: list[Part]) -> None:
        """Scores merged rows."""

    @abstractmethod
    def compute(self, metrics: Any) -> dict[str, Tensor]:
        """Returns the metrics by name, without a prefix; every process calls it."""

    @abstractmethod
    def metric_names(self, description: Description) -> list[str]:
        """Returns the names that `compute` will return."""

    @abstractmethod
    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns what is written for a merged row, as plain values."""

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """Returns how far off each of some merged rows is, `[rows]`, more is worse; NaN = nobody knows."""
        return None

    def said(self, row: Part) -> str:
        """Returns what the module makes of a merged row, in a few words."""
        return ", ".join(str(value) for name, value in self.prediction(row).items() if name != "scores")

    @property
    def leaves_metrics_out(self) -> bool:
        """Whether the last evaluation left some of the metrics out that it might have."""
        return False

    def label_table(self, stage: str) -> list[list[dict[str, Any]]]:
        """Returns a table of labels, or of what else rows are told apart by, for each set evaluated last.

        Every process calls it. By default it is what the metrics' own method `table` returns, and empty where they have
        none.
        """
        return [each.table() if hasattr(each, "table") else [] for each in self.set_metrics(stage)]

    def predict_parts(self, batch: Batch) -> list[Part]:
        """Returns one small dict per feature of a batch to predict."""
        return self.decode(self.outputs(batch), batch)

    # Evaluation: prediction, plus scores

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Scores the rows whose last window is in this batch; hands them on to callbacks, and where they stand."""
        return self._evaluate(batch, "val", dataloader_idx)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Does as `validation_step`."""
        return self._evaluate(batch, "test", dataloader_idx)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> list[dict[str, Any]]:
        """Returns the rows whose last window is in this batch: the input's own columns and the prediction."""
        rows = self._open("predict")[dataloader_idx].merger.add(self.predict_parts(batch), batch)
        return [beside(row.info, self.prediction(self.merge(row.parts))) for row in rows]

    def on_validation_epoch_start(self) -> None:
        """Starts afresh."""
        self._sets.pop("val", None)

    def on_test_epoch_start(self) -> None:
        """Starts afresh."""
        self._sets.pop("test", None)

    def on_predict_epoch_start(self) -> None:
        """Starts afresh."""
        self._sets.pop("predict", None)

    def on_validation_epoch_end(self) -> None:
        """Logs `val_loss` and the metrics of each set."""
        self._log_sets("val")

    def on_test_epoch_end(self) -> None:
        """Logs `test_loss` and the metrics of each set."""
        self._log_sets("test")

    def _evaluate(self, batch: Batch, stage: str, dataloader_idx: int) -> dict[str, Any]:
        evaluated = self._open(stage)[dataloader_idx]
        outputs = self.outputs(batch)
        parts = self.decode(outputs, batch)
        check_parts(self, parts, batch)
        complete = evaluated.merger.add(parts, batch)
        rows = [self.merge(row.parts) for row in complete]
        if set(self.label_keys) <= batch.keys():
            evaluated.add_loss(*checked_loss(self, self.evaluation_loss(outputs, batch, rows)))
        self.update(evaluated.metrics, rows)
        return {"rows": rows, "places": [(row.number, row.at) for row in complete]}

    def _open(self, stage: str) -> list[EvaluationSet]:
        if stage not in self._sets:
            with full_precision():  # under bf16-true Lightning would make their sums bfloat16
                names = self.set_names(stage)
                metrics = [None if stage == "predict" else self.metrics(self.description, stage) for _ in names]
                pairs = zip(names, metrics, strict=True)
                self._sets[stage] = [EvaluationSet(name, made, self.device) for name, made in pairs]
        return self._sets[stage]

    def set_metrics(self, stage: str) -> list[Any]:
        """Returns the metrics of each set that was evaluated last."""
        return [each.metrics for each in self._open(stage)]

    def set_names(self, stage: str) -> list[str]:
        """Returns the names of the sets of a stage."""
        kind = {"val": "validation"}.get(stage, stage)
        if hasattr(data := serving(self._trainer), "set_names"):
            return list(data.set_names(kind))
        batches = {"val": "num_val_batches", "test": "num_test_batches", "predict": "num_predict_batches"}
        return [""] * len(getattr(self._trainer, batches[stage]))

    def _log_sets(self, stage: str) -> None:
        sets = self._open(stage)
        chosen_by = {self.monitor, getattr(self.trainer.checkpoint_callback, "monitor", None)}
        for number, evaluated in enumerate(sets):
            computed = self.compute(evaluated.metrics)
            check_metrics(self, computed, self.metric_names(self.description))
            values = {"loss": evaluated.loss(), **computed}
            for prefix in prefixes(stage, [each.name for each in sets], number):
                for name, value in values.items():
                    self.log(prefix + name, value, prog_bar=prefix + name in chosen_by, rank_zero_only=False)

    def check_monitored(self) -> None:
        """Makes sure, before anything is built, that what callbacks monitor will be logged.

        Raises:
            UserError: it will not be; with the closest name.
        """
        description, data = self.known_description, serving(self._trainer)
        if not description or not hasattr(data, "set_names"):
            return
        sets = data.set_names("validation")
        names = {"loss", *self.metric_names(description)}
        known = {
            prefix + name for number in range(len(sets)) for prefix in prefixes("val", sets, number) for name in names
        }
        check_monitors(self.trainer, known | {"train_loss", *(self.hparams["logged_metrics"] or [])})
