"""What a sweep is told: its YAML, the command's own options, and the words that are the run's; without Optuna."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NoReturn

from jsonargparse import ActionConfigFile, ArgumentParser
from jsonargparse.typing import PositiveInt

from lit_ft.errors import UserError, did_you_mean
from lit_ft.yaml_files import with_found_configs


@dataclass(frozen=True)
class Sweep:
    """A search for the options of a run by which it scores best.

    Args:
        run: YAML of the run, or several; looked for beside the sweep's own file, here, and among those that ship.
        parameters: what is searched: an option of the run, such as `model.learning_rate`, and its values:
            `{low: 1e-5, high: 1e-3, log: true}`, whole numbers `{low: 8, high: 64, step: 8}`, or `{choices: [8, 16]}`.
        metric: what trials are compared by. Default: what the run chooses its best checkpoint by.
        direction: whether less or more of it is better. Default: as the run's best checkpoint is chosen.
        n_trials: trials in all, those of before that a sweep goes on from included.
        sampler: proposes values: `tpe`, `random`, `grid`, or a class of `optuna.samplers`, as
            `{class_path: tpe, init_args: {n_startup_trials: 5}}`.
        pruner: stops trials early: `median`, `hyperband`, `halving`, `none`, or a class of `optuna.pruners`.
        jobs: trials at a time; they share out GPUs and threads of the processor.
        keep: whose checkpoints stay: of the `best` trial (and of failed ones), or of `all`.
        folder: where the sweep lies, and goes on from. Default: `sweeps/` and the name of its YAML.
        storage: URL of a database, or the file of Optuna's journal. Default: an SQLite file in the folder.
    """

    run: str | list[str]
    parameters: dict[str, dict[str, Any]]
    metric: str | None = None
    direction: Literal["minimize", "maximize"] | None = None
    n_trials: PositiveInt = 20  # type: ignore[valid-type]
    sampler: str | dict[str, Any] = "tpe"
    pruner: str | dict[str, Any] = "median"
    jobs: PositiveInt = 1  # type: ignore[valid-type]
    keep: Literal["best", "all"] = "best"
    folder: str | None = None
    storage: str | None = None

    def __post_init__(self) -> None:
        if not self.parameters:
            raise UserError(
                "parameters: nothing to search; name an option, such as model.learning_rate, and its values"
            )


CLASSES = ("model", "data", "optimizer", "lr_scheduler")
"""Parts of a run's configuration that are a class of one's choice, their options under `init_args`."""
KNOWN = [field.name for field in fields(Sweep)]
UNKNOWN = re.compile(r"Option '([\w.]+)' is not accepted")


class Parser(ArgumentParser):
    """Says what is wrong in a line, with the closest name."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Ends the command; see `ArgumentParser.error`."""
        unknown = UNKNOWN.search(message)
        if unknown is not None:
            hint = did_you_mean(unknown[1], KNOWN)
            raise UserError(f"a sweep has no key {unknown[1]!r}{hint}")
        raise UserError(f"sweep: {message}")


def parser() -> ArgumentParser:
    """Returns the options."""
    made = Parser(
        prog="lit-ft sweep",
        description="Searches for options with Optuna, each trial a run of its own; started again, it goes on. "
        "Options of the run, such as --data.train_file, go beside these.",
    )
    made.add_argument("-c", "--config", action=ActionConfigFile, help="YAML of the sweep")
    made.add_class_arguments(Sweep)
    return made


def read_sweep(words: Sequence[str]) -> tuple[Sweep, list[Path], list[str]]:
    """Reads the command line of a sweep.

    Args:
        words: of the command.

    Returns:
        The sweep, its YAML files, and the words that belong to the run.

    Raises:
        UserError: a key or a value cannot be used.
    """
    ours, of_run = split(words)
    given = parser().parse_args(with_found_configs(ours))
    files = [Path(str(each)) for each in given.pop("config") or []]
    return Sweep(**given.as_dict()), files, of_run


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divides words between sweep and run: a value goes with the option before it."""
    mine = {"-c", "-h", "--help", "--config", "--print_config", *(f"--{name}" for name in KNOWN)}
    parts: tuple[list[str], list[str]] = ([], [])
    at = 0
    for word in words:
        if word.startswith("--") or word in mine:
            option = word.partition("=")[0].rstrip("+")
            at = 0 if option in mine or option.startswith("--parameters.") else 1
        parts[at].append(word)
    return parts
