"""`{stage}_labels.csv`: precision, recall and F1 of every label, and what it is taken for; or of types of questions."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from lit_ft.callbacks.base import RunCallback
from lit_ft.ops.serving import serving
from lit_ft.pages.run_files import COLUMNS

MOST_ON_SCREEN = 40


class LabelReport(RunCallback):
    """Writes the table of every evaluation set, and prints it where it fits a screen."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports after `validate`; during fit it would only repeat."""
        if trainer.state.fn == "validate":
            self._report(trainer, pl_module, "val", "validation")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports after `test`."""
        self._report(trainer, pl_module, "test", "test")

    def _report(self, trainer: Trainer, module: Any, stage: str, kind: str) -> None:
        if not hasattr(module, "label_table"):  # somebody else's
            return
        tables = module.label_table(stage)  # computed on every process: it gathers
        if not trainer.is_global_zero or self.run is None:
            return
        data = serving(trainer)
        names = data.set_names(kind) if hasattr(data, "set_names") else [str(n) for n in range(len(tables))]
        for name, table in zip(names, tables, strict=True):
            if table:
                suffix = f"_{name}" if name and len(tables) > 1 else ""
                kind = next(iter(table[0]))
                _write(self.run / f"{stage}{suffix}_{kind}s.csv", table)
                if len(table) <= MOST_ON_SCREEN:
                    _show(table, f"{stage}{suffix}: each {kind.replace('_', ' ')}")


def _write(path: Path, table: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)


def _show(table: list[dict[str, object]], title: str) -> None:
    shown = [name for name in table[0] if name in COLUMNS]
    screen = Table(*shown, title=title)
    for row in table:
        screen.add_row(*(f"{row[name]:.3f}" if isinstance(row[name], float) else str(row[name]) for name in shown))
    Console().print(screen)
