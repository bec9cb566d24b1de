"""Optuna's study of a sweep: where it lies, who proposes values, who stops trials."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from lit_ft.errors import UserError
from lit_ft.objects import load_object
from lit_ft.sweeping.space import Space, size

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "grid": "BruteForceSampler"}
PRUNERS = {
    "median": "MedianPruner",
    "hyperband": "HyperbandPruner",
    "halving": "SuccessiveHalvingPruner",
    "none": "NopPruner",
}
Direction = Literal["minimize", "maximize"]
SEED = 42
SEQUENCES = ("GridSampler", "QMCSampler")
"""Samplers whose seed is that of one sequence for all trials."""
PRUNER = "pruner"
"""What a study notes for its trials: what stops them, as it stands in the YAML."""
PRUNED = "pruned"
"""What a trial notes of itself when its pruner stops it: after which validation."""
METRIC = "metric"
"""What a trial notes of itself when it begins: what it is scored by."""
TRIAL = "LIT_FT_TRIAL"
"""Variable that tells a run the process of its sweep and the number of the trial that it is: `4711:0`."""
WAITS = 60
"""Seconds that a process waits while others write."""

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # its samplers and pruners


def storage_at(place: str) -> optuna.storages.BaseStorage:
    """Opens a database by its URL, or a journal by its path.

    Raises:
        UserError: it cannot be opened.
    """
    waits = {"connect_args": {"timeout": WAITS}} if place.startswith("sqlite:") else {}
    try:
        if "://" not in place:
            return JournalStorage(JournalFileBackend(place))
        return optuna.storages.RDBStorage(place, engine_kwargs=waits)
    except Exception as error:  # the system's, SQLAlchemy's, or any driver's
        raise UserError(f"storage {place}: {str(error).splitlines()[0]}") from None


def default_storage(folder: Path) -> str:
    """Returns the URL of the file in a sweep's folder.

    SQLite, and not Optuna's journal: the system lets go of its lock when a process is killed, and what was written by
    halves is rolled back; half a line at the end of a journal is there for good.
    """
    return f"sqlite:///{(folder / 'study.db').resolve()}"


def sampler_of(spec: str | Mapping[str, Any], space: Space, trial: int) -> optuna.samplers.BaseSampler:
    """Makes the sampler for a trial: what it draws is a matter of its seed, the trial's number and those before.

    Raises:
        UserError: there is no such sampler, or it takes no such argument.
    """
    made = _spelled_out(spec, SAMPLERS)
    arguments = dict(made.get("init_args") or {})
    moved = 0 if str(made.get("class_path")).rpartition(".")[2] in SEQUENCES else trial
    if isinstance(arguments.get("seed"), int):
        arguments["seed"] += moved
    grid_size(spec, space)
    kind = optuna.samplers.BaseSampler
    return _loaded({**made, "init_args": arguments}, optuna.samplers, kind, seed=SEED + moved)  # type: ignore[no-any-return]


def grid_size(spec: str | Mapping[str, Any], space: Space) -> int | None:
    """Returns how many trials a grid has; `None` of other samplers. Optuna's own would draw some of them twice.

    Raises:
        UserError: the grid has no end.
    """
    if _spelled_out(spec, SAMPLERS).get("class_path") != SAMPLERS["grid"]:
        return None
    points = size(space)
    if points is None:
        raise UserError("sampler: a grid needs an end: give every range a step, or choices")
    return points


def pruner_of(spec: str | Mapping[str, Any]) -> optuna.pruners.BasePruner:
    """Makes the pruner.

    Raises:
        UserError: there is no such pruner, or it takes no such argument.
    """
    return _loaded(_spelled_out(spec, PRUNERS), optuna.pruners, optuna.pruners.BasePruner)  # type: ignore[no-any-return]


def _spelled_out(spec: str | Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    made = {"class_path": spec} if isinstance(spec, str) else dict(spec)
    path = str(made.get("class_path"))
    return made | ({"class_path": names[path]} if path in names else {})


def _loaded(spec: dict[str, Any], home: Any, kind: type, **known: Any) -> Any:
    try:
        loaded = load_object(spec, (home.__name__,), known)
    except ImportError as error:  # some samplers need further packages
        raise UserError(f"{spec['class_path']}: {error}") from None
    if not isinstance(loaded, kind):
        raise UserError(f"{spec['class_path']} is no {kind.__name__} of Optuna")
    return loaded


def open_study(place: str, name: str, direction: Direction, sweep: Mapping[str, Any]) -> optuna.Study:
    """Opens a study, a new one or the one that is there.

    Args:
        place: the storage.
        name: of the study.
        direction: `minimize` or `maximize`.
        sweep: what all trials have in common, as plain flat values.

    Raises:
        UserError: the study that is there is of another sweep.
    """
    study = optuna.create_study(storage=storage_at(place), study_name=name, direction=direction, load_if_exists=True)
    known = study.user_attrs.get("sweep")
    if known is None:
        study.set_user_attr("sweep", dict(sweep))
    elif known != sweep:
        other = [key for key in dict.fromkeys([*sweep, *known]) if sweep.get(key) != known.get(key)]
        raise UserError(f"{place} holds a sweep with another {', '.join(other[:5])}: name another --folder")
    return study


def better_of(study: optuna.Study) -> Callable[..., Any]:
    """Returns `min` or `max`: which of some values is the best."""
    return min if study.direction == optuna.study.StudyDirection.MINIMIZE else max


def tell(study: optuna.Study, trial: int, value: float | None, state: optuna.trial.TrialState) -> bool:
    """Ends a trial; says whether its sampler has nothing more to propose."""
    try:
        study.tell(trial, value, state)
    except RuntimeError as error:
        if "Study.stop" not in str(error):  # a sampler that is through calls it, but there is no loop of Optuna's
            raise
        return True
    return False
