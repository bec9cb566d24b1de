"""SIGTERM and Ctrl-C in training: the step is finished, `last.ckpt` is written, the exit status says which it was."""

import logging
import signal
import threading
from typing import Any, NoReturn

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_ft.callbacks.checkpoint import RunCheckpoint

log = logging.getLogger("lit_ft")


class Interrupted(BaseException):
    """Ends a run whose state is saved; no `Exception`, so that nothing on the way takes it for a fault.

    Args:
        signum: the signal that asked for it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_status = 128 + signum  # as a shell has it, and schedulers expect


class Interruption(Callback):
    """Waits for the end of the step (where validation is due, for its end), saves, raises `Interrupted`.

    To be the last callback, so that the others have seen the step. A second signal ends the run at once. Where
    Lightning requeues jobs of SLURM, SIGTERM is its own.
    """

    def __init__(self) -> None:
        self._received = 0
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens, where signals can be heard."""
        if threading.current_thread() is not threading.main_thread():
            return
        environment = trainer.strategy.cluster_environment if hasattr(trainer.strategy, "cluster_environment") else None
        requeues = isinstance(environment, SLURMEnvironment) and environment.auto_requeue
        for signum in (signal.SIGINT,) if requeues else (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, self._hear)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listens no longer."""
        self._listen_no_more()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stops after a validation, which has saved what there is to save."""
        if any(callback.has_saved(trainer) for callback in self._ours(trainer)) and self._asked(trainer):
            self._stop()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Saves and stops; within a window of micro-batches, and where validation is due, a little later."""
        if not RunCheckpoint.is_within_step(trainer) and self._asked(trainer):
            for callback in self._ours(trainer):
                callback.save_step(trainer)
            self._stop()

    def _hear(self, signum: int, _: Any) -> None:
        if self._received:
            self._listen_no_more()
            raise Interrupted(signum)
        self._received = signum
        log.info(f"{signal.Signals(signum).name}: saves and stops after this step; once more: stops at once")

    def _asked(self, trainer: Trainer) -> bool:
        """Says whether any process was told to stop; all of them ask at the same place."""
        together: Any = trainer.strategy.reduce_boolean_decision
        here = bool(self._received)
        return bool(together(here, all=False)) if trainer.world_size > 1 else here

    def _ours(self, trainer: Trainer) -> list[RunCheckpoint]:
        return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, RunCheckpoint)]

    def _stop(self) -> NoReturn:
        self._listen_no_more()
        raise Interrupted(self._received or signal.SIGTERM)

    def _listen_no_more(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
