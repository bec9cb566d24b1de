"""`predictions/<set>.jsonl` (parquet, conll, txt, npy): streamed to disk batch by batch, in input order at the end."""

import logging
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer

from lit_ft.callbacks.base import RunCallback
from lit_ft.callbacks.prediction_files import KINDS, PredictionFile
from lit_ft.ops.serving import serving
from lit_ft.runs import PREDICTIONS

log = logging.getLogger("lit_ft")


class PredictionWriter(RunCallback):
    """Writes what `predict_step` returns: the input's own columns, the prediction, the scores.

    Args:
        format: `jsonl`, `parquet`; for tagged words `conll`; for texts that are written `txt` (one line each, line ends
            within escaped); for one vector a row `npy` (an array `[rows, size]`, without the input's columns).
    """

    def __init__(self, format: Literal["jsonl", "parquet", "conll", "txt", "npy"] = "jsonl") -> None:
        self.format = format
        self.written: list[Path] = []
        self._open: dict[int, PredictionFile] = {}

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes away what a killed run left half-written."""
        if self.run is not None and trainer.is_global_zero:
            for part in (self.run / PREDICTIONS).glob(".*.part"):
                part.unlink()
        trainer.strategy.barrier("stale predictions")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Appends a batch's complete rows to this process's file."""
        if self.run is None or not outputs or not isinstance(outputs[0], dict):
            return
        if dataloader_idx not in self._open:
            path = self._part(dataloader_idx, trainer.global_rank)
            path.parent.mkdir(parents=True, exist_ok=True)
            sets = getattr(getattr(trainer, "datamodule", None), "features", {}).get("predict", {})
            schema = list(sets.values())[dataloader_idx].info.features.arrow_schema if sets else None
            self._open[dataloader_idx] = KINDS[self.format](path, schema, pl_module)
        self._open[dataloader_idx].write(outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Joins the processes' files; each appears whole under its final name."""
        for file in self._open.values():
            file.close()
        self._open.clear()
        trainer.strategy.barrier("predictions")
        if not trainer.is_global_zero or self.run is None:
            return
        kind = KINDS[self.format]
        for number, name in enumerate(self._names(trainer)):
            parts = [self._part(number, rank) for rank in range(trainer.world_size)]
            parts = [part for part in parts if part.exists()]
            if parts:
                target = self.run / PREDICTIONS / f"{name}.{self.format}"
                working = target.with_suffix(".joining")
                kind.join(parts, working)
                working.replace(target)
                for part in parts:
                    part.unlink()
                self.written.append(target)

    def _names(self, trainer: Trainer) -> list[str]:
        if hasattr(data := serving(trainer), "set_names"):
            return list(data.set_names("predict"))
        return [str(number) for number in range(len(trainer.num_predict_batches))]

    def _part(self, dataloader_idx: int, rank: int) -> Path:
        assert self.run is not None
        return self.run / PREDICTIONS / f".{dataloader_idx}-{rank}.{self.format}.part"
