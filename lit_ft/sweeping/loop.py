"""Starts trials, tells the study how each ended, and goes on with those that a killed sweep left."""

import logging
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import yaml  # type: ignore[import-untyped]
from optuna.trial import FrozenTrial, TrialState

from lit_ft.errors import UserError
from lit_ft.runs import CHECKPOINTS
from lit_ft.sweeping.options import Sweep
from lit_ft.sweeping.results import best_or_none, shown, write
from lit_ft.sweeping.space import Space, as_yaml
from lit_ft.sweeping.study import METRIC, PRUNED, PRUNER, better_of, grid_size, pruner_of, sampler_of, tell
from lit_ft.sweeping.trials import LOG, Processes, last_lines

log = logging.getLogger("lit_ft")

PARAMETERS = "parameters.yaml"
PAUSE = 0.1
"""Seconds between two looks at the trials."""
GIVEN_UP = 3
"""Trials that fail before any other has ended."""


class Loop:
    """Runs trials until there are as many as were asked for.

    Args:
        sweep: what is asked for.
        study: Optuna's.
        space: the distributions of the parameters.
        run: the run's configuration.
        folder: of the sweep.
        processes: the trials that run.
        words: makes the command line of a trial, of its folder.
    """

    def __init__(
        self,
        sweep: Sweep,
        study: optuna.Study,
        space: Space,
        run: Mapping[str, Any],
        folder: Path,
        processes: Processes,
        words: Callable[[Path], list[str]],
    ) -> None:
        self.sweep, self.study, self.space, self.run = sweep, study, space, run
        self.folder, self.processes, self.words = folder, processes, words
        study.set_user_attr(PRUNER, sweep.pruner)
        study.pruner = pruner_of(sweep.pruner)  # Hyperband's brackets concern the sampler, too
        self.limit = min(sweep.n_trials, grid_size(sweep.sampler, space) or sweep.n_trials)
        self.received = 0
        self.exhausted = False
        self.failures = 0

    def go_on(self) -> int:
        """Runs until the end; returns the signal that asked for another one, or 0."""
        if self.sweep.keep == "best":
            log.info("keep: best: checkpoints of trials that turn out not to be the best are deleted")
        with self._listening():
            left = self._left()
            if left:
                log.info(f"goes on with {'trials' if len(left) > 1 else 'trial'} {', '.join(map(str, left))}")
            while True:
                for number, status in self.processes.ended():
                    self._judge(number, status)
                while not self.received and self.processes.free and (left or self._more()):
                    self._start(left.pop(0) if left else self._ask())
                if not self.processes.running:
                    return self.received
                time.sleep(PAUSE)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C are handed on, at once and each time; so is whatever else ends the sweep."""
        before = {signum: signal.signal(signum, self._hear) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            if self.processes.running:
                self.processes.stop()
                self.processes.wait()
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _hear(self, signum: int, _: Any) -> None:
        if not self.received:
            log.info(f"{signal.Signals(signum).name}: trials save and stop; once more: they stop at once")
        self.received = signum
        self.processes.stop()

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _left(self) -> list[int]:
        """Returns what a sweep before left running; ends what was pruned, or had no values yet, when it was killed."""
        left = []
        for trial in self._trials(TrialState.RUNNING):
            if PRUNED in trial.user_attrs:
                tell(self.study, trial.number, None, TrialState.PRUNED)
            elif trial.params.keys() != self.space.keys():
                tell(self.study, trial.number, None, TrialState.FAIL)
            else:
                left.append(trial.number)
        return left

    def _more(self) -> bool:
        return not self.exhausted and len(self._trials()) < self.limit

    def _ask(self) -> int:
        self.study.sampler = sampler_of(self.sweep.sampler, self.space, len(self._trials()))
        return self.study.ask(self.space).number

    def _start(self, number: int) -> None:
        trial = self._trials()[number]
        place = folder_of(self.folder, number)
        place.mkdir(parents=True, exist_ok=True)
        values = {name: trial.params[name] for name in self.space}
        text = yaml.safe_dump(as_yaml(values, self.run), sort_keys=False, allow_unicode=True)
        (place / PARAMETERS).write_text(text, encoding="utf-8")
        log.info(f"trial {number} starts: {shown(values)}")
        self.processes.start(number, place, self.words(place))

    def _judge(self, number: int, status: int) -> None:
        """Tells the study how a trial ended; one that was stopped with the sweep stays as it is, to go on."""
        trial, place = self._trials()[number], folder_of(self.folder, number)
        if self.received and status:
            return
        numbers = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
        if status or not (numbers or PRUNED in trial.user_attrs):
            tell(self.study, number, None, TrialState.FAIL)
            self.failures += 1
            end = "\n  ".join(last_lines(place)) if status else "no validation gave a number"
            log.info(f"trial {number} failed ({said(status)}): {place / LOG}\n  {end}")
        elif PRUNED in trial.user_attrs:
            self.exhausted |= tell(self.study, number, None, TrialState.PRUNED)
            log.info(f"trial {number} was stopped by the pruner after validation {trial.user_attrs[PRUNED]}")
        else:
            best = better_of(self.study)(numbers)
            self.exhausted |= tell(self.study, number, best, TrialState.COMPLETE)
            log.info(f"trial {number}: {trial.user_attrs.get(METRIC)} {best:.5g}")
        self._clean()
        write(self.study, self.folder, self.space, self.run)
        ended = self._trials(TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED)
        if len(ended) >= GIVEN_UP and all(each.state == TrialState.FAIL for each in ended):
            raise UserError(f"all of {len(ended)} trials failed, so that no more are tried: see {place / LOG}")

    def _clean(self) -> None:
        """Takes checkpoints away that nobody is going to use."""
        if self.sweep.keep == "all":
            return
        best = best_or_none(self.study)
        for trial in self._trials(TrialState.COMPLETE, TrialState.PRUNED):
            if best is None or trial.number != best.number:
                for path in folder_of(self.folder, trial.number).glob(f"*/{CHECKPOINTS}"):
                    shutil.rmtree(path, ignore_errors=True)


def folder_of(folder: Path, number: int) -> Path:
    """Returns where a trial lies."""
    return folder / f"trial_{number}"


def said(status: int) -> str:
    """Returns an exit status in words."""
    return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
