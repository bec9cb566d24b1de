"""What a sweep leaves: `best.yaml`, `trials.csv`, `sweep.html`, and a table on the screen."""

import csv
import io
import math
import sys
import warnings
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import optuna
import yaml  # type: ignore[import-untyped]
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from lit_ft.pages import charts, html
from lit_ft.pages.write import write_whole
from lit_ft.sweeping.space import Space, as_yaml
from lit_ft.sweeping.study import METRIC, better_of

BEST, TABLE, PAGE = "best.yaml", "trials.csv", "sweep.html"


def best_or_none(study: optuna.Study) -> FrozenTrial | None:
    """Returns the best trial; `None` before one has ended well."""
    try:
        return study.best_trial
    except ValueError:
        return None


def metric_of(study: optuna.Study) -> str:
    """Returns what trials are compared by, as they noted it."""
    trials = study.get_trials(deepcopy=False)
    return next((trial.user_attrs[METRIC] for trial in trials if METRIC in trial.user_attrs), "value")


def write(study: optuna.Study, folder: Path, space: Space, run: Mapping[str, Any]) -> None:
    """Writes the files, each whole or not at all."""
    best, (header, rows) = best_or_none(study), table(study, space)
    if best is not None:
        first = f"# trial {best.number}: {metric_of(study)} {best.value:.6g}\n"
        values = as_yaml({name: best.params[name] for name in space}, run)
        write_whole(folder / BEST, first + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_whole(folder / TABLE, text.getvalue())
    write_whole(folder / PAGE, page(study, space))


def table(study: optuna.Study, space: Space) -> tuple[list[str], list[list[Any]]]:
    """Returns header and a row for each trial, the best first, those without a value of their own last."""
    sign = 1 if better_of(study) is min else -1

    def place(trial: FrozenTrial) -> tuple[float, int]:
        scored = trial.state == TrialState.COMPLETE and trial.value is not None
        return sign * trial.value if scored else math.inf, trial.number  # type: ignore[operator]

    rows = []
    for trial in sorted(study.get_trials(deepcopy=False), key=place):
        seconds = None if trial.duration is None else round(trial.duration.total_seconds())
        values = [trial.params.get(name) for name in space]
        validations = len(trial.intermediate_values)
        rows.append([trial.number, trial.value, trial.state.name.lower(), validations, seconds, *values])
    return ["trial", metric_of(study), "state", "validations", "seconds", *space], rows


def importances(study: optuna.Study) -> dict[str, float]:
    """Returns each parameter's share in what differs between trials; empty where they are too few or all alike."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # that there are too few trials
        try:
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()  # the one that needs no other package
            return optuna.importance.get_param_importances(study, evaluator=evaluator)
        except (ValueError, RuntimeError, UserWarning):
            return {}


def page(study: optuna.Study, space: Space) -> str:
    """Returns the page: how the best value came down over the trials, what mattered, all trials."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    values = [(trial.number, trial.value) for trial in done if trial.value is not None]
    so_far = accumulate((value for _, value in values), better_of(study))
    best = [(number, value) for (number, _), value in zip(values, so_far, strict=True)]
    header, rows = table(study, space)
    body = [charts.lines({"trial": values, "best so far": best}, header[1], dots=True)]
    if found := importances(study):
        shares = [(name, round(100 * share)) for name, share in found.items()]
        body += ["<h2>importance of the parameters, %</h2>", html.bars(shares, "importance")]
    body += ["<h2>trials</h2>", html.table(header, [[short(cell) for cell in row] for row in rows])]
    return html.page(f"sweep {study.study_name}", body)


def show(study: optuna.Study, folder: Path, space: Space, run: str) -> None:
    """Prints the table, and what to do next.

    Args:
        study: the study.
        folder: of the sweep.
        space: the parameters.
        run: the file with the run's configuration.
    """
    header, rows = table(study, space)
    told = Table(*(name.rpartition(".")[2] for name in header), title=f"{study.direction.name.lower()} {header[1]}")
    for row in rows:
        told.add_row(*map(short, row))
    Console(width=None if sys.stdout.isatty() else 160).print(told)
    if found := importances(study):
        print("importance: " + ", ".join(f"{name} {share:.0%}" for name, share in found.items()))
    best = best_or_none(study)
    if best is None:
        print("no trial has ended well")
        return
    print(f"best: trial {best.number}, {header[1]} {best.value:.5g}: {shown(best.params)}")
    print(f"train with it: lit-ft fit --config {run} --config {folder / BEST}")
    print(f"compare runs:  lit-ft report {folder}/trial_*/version_0")


def shown(values: Mapping[str, Any]) -> str:
    """Returns values in a line."""
    return ", ".join(f"{name} {short(value)}" for name, value in values.items())


def short(value: Any) -> str:
    """Returns a value as people read it."""
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
