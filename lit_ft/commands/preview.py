"""`lit-ft preview --config FILE`: the data of any task before a run, and what is wrong with them; loads no weights."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from rich.console import Console

from lit_ft.callbacks.throughput import real_tokens
from lit_ft.cli import LitFtCLI
from lit_ft.data.reading.raw import Split
from lit_ft.data.viewing.findings import Finding
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.datamodules.viewing import batches, figures, findings, some_views
from lit_ft.errors import UserError
from lit_ft.pages.preview import Preview, SetPreview
from lit_ft.pages.preview_page import page
from lit_ft.pages.preview_screen import show
from lit_ft.screen import quiet

WARMUP, STEPS = 2, 6
"""Steps of a measurement that are not counted, and those that are."""
STAGES_SHOWN: tuple[tuple[str, Split], ...] = (("fit", "train"), ("test", "test"), ("predict", "predict"))


class Clock(Callback):
    """Times steps, without the first ones."""

    def __init__(self) -> None:
        self.tokens, self.started, self.seconds = 0, 0.0, 0.0

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, number: int) -> None:
        """Counts the real tokens of a batch."""
        if number == WARMUP:
            self.started = _now()
        if number >= WARMUP:
            self.tokens += int(real_tokens(batch))

    def on_train_end(self, *_: Any) -> None:
        """Ends."""
        self.seconds = _now() - self.started


class Previewer(Trainer):
    """A Trainer that shows the data instead of training."""

    def preview(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        rows: int = 4,
        html: str | None = None,
        strict: bool = False,
        measure: bool = False,
    ) -> Preview:
        """Shows rows as the model will see them, what each set holds, and what is wrong with it.

        Args:
            model: the module; its weights are loaded for `measure` only.
            datamodule: the data module.
            rows: rows of each set that are shown.
            html: write a page to this file, too.
            strict: end with exit status 1 where something would stop a run, or harms what is learned or scored.
            measure: train a few steps (and forget them) to tell how long an epoch takes.

        Raises:
            UserError: the rows cannot be read.
        """
        if not isinstance(datamodule, TransformerDataModule):
            raise UserError(f"preview shows the data modules of lit_ft; {type(datamodule).__name__} is none of them")
        self.strategy.connect(model)
        datamodule.trainer = self
        made = preview_of(model, datamodule, rows)
        made.epochs = None if self.max_steps != -1 else self.max_epochs
        if measure and made.batches:
            made.token_seconds = self._token_seconds(model, datamodule)
        show(made, Console())
        if html is not None:
            Path(html).write_text(page(made), encoding="utf-8")
        return made

    def _token_seconds(self, model: LightningModule, data: TransformerDataModule) -> float:
        clock = Clock()
        self.callbacks.append(clock)  # type: ignore[attr-defined]
        self.fit_loop.epoch_loop.max_steps = min(STEPS + WARMUP, int(data.num_train_batches))
        self.limit_val_batches = self.num_sanity_val_steps = 0
        self.fit(model, datamodule=data)
        return clock.seconds / max(clock.tokens, 1)


class PreviewCLI(LitFtCLI):
    """The command line of a preview: all of a run's options, and none of its traces."""

    trainer_kind = Previewer

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """One command, so that no other's options are read."""
        return {"preview": {"model", "datamodule"}}

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the Trainer without loggers and callbacks."""
        self._parser(self.subcommand).callback_keys.clear()
        off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = LightningCLI.instantiate_trainer(self, **off, enable_model_summary=False, **kwargs)
        trainer.callbacks.clear()  # type: ignore[attr-defined]
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        options = self.config_init[subcommand]
        names = ("rows", "html", "strict", "measure")
        given = {name: options[name] for name in names}
        made = self.trainer.preview(self.model, self.datamodule, **given)  # type: ignore[attr-defined]
        if given["html"]:
            print(f"page: {given['html']}")
        if given["strict"] and any(finding.gravity != "note" for finding in made.findings):
            raise SystemExit(1)


def preview_of(module: LightningModule, data: TransformerDataModule, rows: int) -> Preview:
    """Prepares the sets of each stage that there is, as a run does, and collects what is to be shown of them.

    Args:
        module: the module, which is told what the data are like, as a checkpoint is.
        data: the data module, with a Trainer.
        rows: rows of each set that are shown.
    """
    made = Preview(f"{type(data).__name__}, {type(module).__name__}")
    stages = [stage for stage, kind in STAGES_SHOWN if data.source.sets(kind)]
    if "fit" in stages and "predict" in stages:
        stages.remove("predict")
    for stage in stages or ["fit"]:
        made.add(_set_up(data, stage))
        sets, of_batches = figures(data), batches(data)
        made.add(findings(data, sets, of_batches))
        for each in sets:
            views = some_views(data, each["split"], each["name"], rows)  # type: ignore[arg-type]
            made.sets.append(SetPreview(each, list(views)))
        if stage == "fit":
            made.batches = of_batches
        module.description = data.description  # type: ignore[assignment]
        data.features.clear()
    return made


def _set_up(data: TransformerDataModule, stage: str) -> list[Finding]:
    """Prepares a stage; rows that would stop a run are left out, and said."""
    try:
        data.setup(stage)
        return []
    except UserError as error:
        if "error" not in data.on_bad_rows.values():
            raise
        said = str(error)
    data.on_bad_rows = {kind: "drop" if action == "error" else action for kind, action in data.on_bad_rows.items()}
    data.hparams["on_bad_rows"] = dict(data.on_bad_rows)  # what is prepared now is not what a run uses
    data.setup(stage)
    return [Finding("stops", said, "the rest of this preview leaves such rows out")]


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def preview(args: list[str] | None = None) -> None:
    """Runs the command."""
    quiet()
    PreviewCLI(args)
