"""`checkpoints/best.ckpt` and `checkpoints/last.ckpt`: the best by the module's monitor, and the newest."""

import logging
import re
import shutil
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_ft.callbacks.whole_files import WholeFiles
from lit_ft.ops.serving import serving
from lit_ft.runs import LAST, PREVIOUS

log = logging.getLogger("lit_ft")


class RunCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint with our names and the module's own monitor as the default.

    Args:
        monitor: metric that the best checkpoint is chosen by. Default: the module's (`val_loss`).
        mode: `min` or `max`. Default: the module's for its own monitor, else by the end of the metric's name: `min` for
            losses, errors, distances and their like.
        save_top_k: how many of the best to keep.
        every_n_train_steps: also save `last.ckpt` every so many optimizer steps.
        save_weights_only: leave optimizer and loops out; smaller, but a run cannot go on from it.
        on_failure: what to do when a file cannot be written, as on a full disk: `warn` (the older file stays, the run
            goes on) or `stop`.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        save_top_k: int = 1,
        every_n_train_steps: int | None = None,
        save_weights_only: bool = False,
        on_failure: Literal["warn", "stop"] = "warn",
    ) -> None:
        super().__init__(
            filename="best" if save_top_k == 1 else "epoch={epoch}-step={step}",
            monitor=monitor,
            mode=mode or ("min" if monitor is None else _direction(monitor)),
            save_last=True,
            save_top_k=save_top_k,
            save_weights_only=save_weights_only,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

        self.told, self.every, self.files = mode, every_n_train_steps, WholeFiles(on_failure)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the scores of the best, also where the run's folder has moved since."""
        if self.dirpath is None:
            return super().load_state_dict(state_dict)
        here = Path(self.dirpath)
        paths = {name: _moved(path, here) for name, path in state_dict.items() if name.endswith("_model_path")}
        models = {_moved(path, here): score for path, score in state_dict["best_k_models"].items()}
        return super().load_state_dict({**state_dict, **paths, "best_k_models": models, "dirpath": self.dirpath})

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Saves the newest state in between; which checkpoint is the best stays a matter of validation."""
        super().on_train_batch_end(trainer, pl_module, *args)
        if not self.every or trainer.global_step % self.every or self._should_skip_saving_checkpoint(trainer):
            return
        if self.is_within_step(trainer):
            return
        before = self._last_global_step_saved
        self.save_step(trainer)
        self._last_global_step_saved = before  # else a validation at this step would save nothing

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the newest state, also where it is no better: a run that goes on shall not validate again."""
        super().on_validation_end(trainer, pl_module)
        if not self._should_save_on_train_epoch_end(trainer):
            self._save_anyway(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same, where an epoch ends with its only validation, or without one."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._should_save_on_train_epoch_end(trainer):
            self._save_anyway(trainer)

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Any]) -> None:
        """Leaves the best as it is where the module says that this validation left some metrics out."""
        left_out = getattr(trainer.lightning_module, "leaves_metrics_out", False)
        if self.monitor is None or self.monitor in monitor_candidates or not left_out:
            super()._save_topk_checkpoint(trainer, monitor_candidates)

    def _save_anyway(self, trainer: Trainer) -> None:
        if not self._should_skip_saving_checkpoint(trainer):
            self.save_now(trainer)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes the module's monitor, where there is validation to compute it; writes whole files."""
        super().setup(trainer, pl_module, stage)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # somebody's own stays
            trainer.strategy.checkpoint_io = self.files
        names = getattr(serving(trainer), "set_names", None)
        validates = trainer.limit_val_batches != 0 and (names is None or names("validation") != [])
        if not validates and stage == "fit":
            self.monitor = None
        elif (mode := self.direction(pl_module)) is not None:
            self.monitor = self.monitor or str(pl_module.monitor)
            if mode != self.mode:
                self._ModelCheckpoint__init_monitor_mode(mode)  # type: ignore[attr-defined]

    def direction(self, module: Any) -> Literal["min", "max"] | None:
        """Returns which is better of what a module's best checkpoint is chosen by; `None` where nothing says what."""
        own = getattr(module, "monitor", None)
        if self.monitor is None and own is None:
            return None
        if self.told is None and self.monitor in (None, own):
            return module.monitor_mode  # type: ignore[no-any-return]
        return self.told or _direction(str(self.monitor))

    @staticmethod
    def is_within_step(trainer: Trainer) -> bool:
        """Says, at the end of a batch, whether more micro-batches or a validation belong to this step."""
        loop: Any = trainer.fit_loop
        batches = loop.epoch_loop
        return bool(batches._should_accumulate() or batches._should_check_val_fx(loop._data_fetcher))

    def has_saved(self, trainer: Trainer) -> bool:
        """Says whether this step is saved."""
        return self._last_global_step_saved == trainer.global_step

    def save_now(self, trainer: Trainer) -> None:
        """Saves `last.ckpt`, where this step was not saved already."""
        if not self.has_saved(trainer):
            candidates: dict[str, Any] = self._monitor_candidates(trainer)
            self._save_last_checkpoint(trainer, candidates)

    def save_step(self, trainer: Any) -> None:
        """Saves `last.ckpt` at the end of a batch, whose metrics Lightning would log a moment later."""
        trainer._logger_connector.update_train_step_metrics()
        self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        for logger in trainer.loggers:
            logger.save()  # a run that goes on from here shall find all that was logged before
        self._keep_previous(trainer, Path(filepath))
        super()._save_checkpoint(trainer, filepath)

    @staticmethod
    def _keep_previous(trainer: Trainer, path: Path) -> None:
        """Of a folder of shards; files are `WholeFiles`' matter."""
        if path.name != LAST or not trainer.strategy.broadcast(path.is_dir()):
            return
        if trainer.is_global_zero:
            shutil.rmtree(path.with_name(PREVIOUS), ignore_errors=True)
            path.rename(path.with_name(PREVIOUS))
        trainer.strategy.barrier("previous checkpoint")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the last state where the end of training fell between two checkpoints."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        super().on_train_end(trainer, pl_module)
        if self.monitor is not None and self.monitor not in trainer.callback_metrics:
            log.info("training ended before the first validation: nothing to choose the best by (val_check_interval?)")
        self.save_now(trainer)


def _moved(path: str, folder: Path) -> str:
    return str(folder / Path(path).name) if path else ""


LESS_IS_BETTER = re.compile(
    r"(loss|error(_rate)?|distance|divergence|deviance_score|probability_score|perplexity|bits_per_byte|mse|mae"
    r"|_ter|_eer)(_step|_epoch)?(/dataloader_idx_\d+)?$"
)
"""How names of metrics end of which less is better, but for what Lightning appends; `val_` and sets stand before it."""


def _direction(monitor: str) -> Literal["min", "max"]:
    return "min" if LESS_IS_BETTER.search(monitor) else "max"
