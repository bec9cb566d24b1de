"""Tells Optuna's study what each validation scored, and ends the run where its pruner says so.

Optuna's own callback (optuna-integration) counts epochs, so that of several validations within one it sees the first
alone, and it ends the run by an error; among several processes it wants a call after `fit`.
"""

import logging
import os
import signal
from typing import Any

import optuna
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_ft.errors import UserError
from lit_ft.sweeping.study import METRIC, PRUNED, PRUNER, TRIAL, pruner_of, storage_at

log = logging.getLogger("lit_ft")


class Pruning(Callback):
    """Reports the metric by which the run's best checkpoint is chosen; the first process does, all of them follow.

    Which trial of the study this is stands in an environment variable, so that a run that somebody starts from a
    trial's `config.yaml` reports nothing.

    Args:
        storage: where the study lies.
        study: its name; it knows the pruner.
    """

    def __init__(self, storage: str, study: str) -> None:
        self.storage, self.study = storage, study
        self.validations = 0
        self.trial: optuna.Trial | None = None
        self._sweep = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the trial, on the first process."""
        if not trainer.is_global_zero or TRIAL not in os.environ:
            return
        self._sweep, number = map(int, os.environ[TRIAL].split(":"))
        sampler = optuna.samplers.RandomSampler()  # another one would begin to propose
        study = optuna.load_study(study_name=self.study, storage=storage_at(self.storage), sampler=sampler)
        study.pruner = pruner_of(study.user_attrs[PRUNER])
        self.trial = optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
        self.trial.set_user_attr(METRIC, metric_of(trainer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports; the sanity check is none, and a validation without the metric neither."""
        if trainer.sanity_checking:
            return
        stops, step = False, self.validations  # from 0, as Optuna's pruners count
        self.validations += 1
        value = None if self.trial is None else trainer.callback_metrics.get(metric_of(trainer))
        if self.trial is not None and value is not None:
            self.trial.report(float(value), step)
            stops = self.trial.should_prune()
            if stops:
                self.trial.set_user_attr(PRUNED, self.validations)
                log.info(f"the pruner stops this trial after validation {self.validations}")
        together: Any = trainer.strategy.reduce_boolean_decision
        if together(stops, all=False):
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Saves and stops, as by SIGTERM, where the sweep that started this trial was killed."""
        if self._sweep and os.getppid() != self._sweep:
            self._sweep = 0  # once: a second signal would end it at once
            os.kill(os.getpid(), signal.SIGTERM)

    def state_dict(self) -> dict[str, Any]:
        """How many validations there were, so that a trial that goes on counts on."""
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counts on."""
        self.validations = state_dict["validations"]


def metric_of(trainer: Trainer) -> str:
    """Returns what the run's best checkpoint is chosen by.

    Raises:
        UserError: there is nothing to choose it by.
    """
    monitor = getattr(trainer.checkpoint_callback, "monitor", None)
    if monitor is None:
        raise UserError("a sweep compares trials by validation: the run needs a validation set, and limit_val_batches")
    return str(monitor)
