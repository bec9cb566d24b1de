"""`predictions/<set>.jsonl` (or parquet): streamed to disk batch by batch, in input order at the end."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch import LightningModule, Trainer

from lit_ft.callbacks.base import RunCallback
from lit_ft.runs import PREDICTIONS

log = logging.getLogger("lit_ft")
Row = dict[str, Any]


class JsonLines:
    """Appends rows to a JSONL file."""

    def __init__(self, path: Path, schema: pa.Schema | None) -> None:
        self.file = path.open("w", encoding="utf-8")

    def write(self, rows: list[Row]) -> None:
        """Appends rows."""
        self.file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)

    def close(self) -> None:
        """Ends the file."""
        self.file.close()

    @staticmethod
    def join(parts: list[Path], target: Path) -> None:
        """Lays the processes' files end to end."""
        with target.open("wb") as whole:
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole)


class Parquet:
    """Appends rows to a parquet file; the input's columns keep their types."""

    def __init__(self, path: Path, schema: pa.Schema | None) -> None:
        self.path, self.inputs = path, schema
        self.writer: pq.ParquetWriter | None = None

    def write(self, rows: list[Row]) -> None:
        """Appends rows."""
        if self.writer is None:
            inferred = [pa.field(each.name, _known(each.type)) for each in pa.Table.from_pylist(rows).schema]
            known = self.inputs.names if self.inputs is not None else []
            fields = [
                self.inputs.field(field.name) if self.inputs and field.name in known else field for field in inferred
            ]
            self.writer = pq.ParquetWriter(self.path, pa.schema(fields))
        self.writer.write_table(pa.Table.from_pylist(rows, schema=self.writer.schema))

    def close(self) -> None:
        """Ends the file."""
        if self.writer is not None:
            self.writer.close()

    @staticmethod
    def join(parts: list[Path], target: Path) -> None:
        """Lays the processes' files end to end."""
        files = [pq.ParquetFile(part) for part in parts if part.exists()]
        with pq.ParquetWriter(target, files[0].schema_arrow) as writer:
            for file in files:
                for batch in file.iter_batches():
                    writer.write_batch(batch)


def _known(kind: pa.DataType) -> pa.DataType:
    """A batch without a single value says nothing of the type: text, as labels are."""
    if pa.types.is_null(kind):
        return pa.string()
    return pa.list_(_known(kind.value_type)) if pa.types.is_list(kind) else kind


class PredictionWriter(RunCallback):
    """Writes what `predict_step` returns: the input's own columns, the prediction, the scores.

    Args:
        format: `jsonl` or `parquet`.
    """

    def __init__(self, format: Literal["jsonl", "parquet"] = "jsonl") -> None:
        self.format = format
        self.written: list[Path] = []
        self._open: dict[int, JsonLines | Parquet] = {}

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
            self._open[dataloader_idx] = (JsonLines if self.format == "jsonl" else Parquet)(path, schema)
        self._open[dataloader_idx].write(outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Joins the processes' files; each appears whole under its final name."""
        for file in self._open.values():
            file.close()
        self._open.clear()
        trainer.strategy.barrier("predictions")
        if not trainer.is_global_zero or self.run is None:
            return
        kind = JsonLines if self.format == "jsonl" else Parquet
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
        names = getattr(getattr(trainer, "datamodule", None), "set_names", None)
        if names is not None:
            return list(names("predict"))
        return [str(number) for number in range(len(trainer.num_predict_batches))]

    def _part(self, dataloader_idx: int, rank: int) -> Path:
        assert self.run is not None
        return self.run / PREDICTIONS / f".{dataloader_idx}-{rank}.{self.format}.part"
