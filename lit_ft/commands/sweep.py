"""`lit-ft sweep --config FILE`: searches for options with Optuna, each trial a run in a process of its own."""

import fcntl
import inspect
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import yaml  # type: ignore[import-untyped]
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_ft.cli import LitFtCLI, without_links
from lit_ft.data.reading.columns import as_list
from lit_ft.errors import UserError, did_you_mean
from lit_ft.objects import import_name, option_parameters
from lit_ft.ops.adapters.injecting import read_settings
from lit_ft.pages.comparison import flat
from lit_ft.screen import quiet, speak
from lit_ft.sweeping.options import CLASSES, Sweep, read_sweep
from lit_ft.sweeping.options import parser as parser  # as other commands have one, for completion
from lit_ft.yaml_files import found_config

log = logging.getLogger("lit_ft")

RUN, LOCK = "run.yaml", "sweep.lock"
BEGIN_ANEW = "trials begin anew: take ckpt_path out (model_name_or_path takes an exported folder)"
DIRECTIONS = {"min": "minimize", "max": "maximize"}


class TrialCLI(LitFtCLI):
    """The command line of a trial: read, and its classes made, but not run."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes none: it would take a device."""
        return None  # type: ignore[return-value]

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs nothing."""

    @property
    def options(self) -> Any:
        """What was read."""
        return self.config["fit"]

    @property
    def direction(self) -> Any:
        """Whether less or more is better of what the run chooses its best checkpoint by."""
        checkpoint: Any = self._get(self.config_init, "checkpoint")
        mode = checkpoint.direction(self.model)
        if mode is None:
            raise UserError(f"{type(self.model).__name__} does not say what it is scored by: name metric and direction")
        return DIRECTIONS[mode]

    def as_text(self) -> str:
        """Returns the configuration as YAML, all defaults spelled out."""
        text: str = self._parser("fit").dump(without_links(self.options), skip_unset=False)
        return text

    def check(self, sweep: Sweep) -> None:
        """Refuses what a sweep cannot do.

        Raises:
            UserError: the run has no checkpoints of ours to go on from, or an option is unknown.
        """
        callbacks: Any = self._get(self.config_init, "trainer").get("callbacks") or []
        own = [type(each).__name__ for each in callbacks if isinstance(each, ModelCheckpoint)]
        if own or self.options.trainer.enable_checkpointing is False:
            what = f"take {own[0]} out of trainer.callbacks" if own else "leave trainer.enable_checkpointing out"
            raise UserError(f"trials are compared by the run's own checkpoint, and go on from it: {what}")
        if self.options.get("ckpt_path"):
            raise UserError(BEGIN_ANEW)
        if sweep.direction and not self.options.checkpoint.monitor:
            raise UserError(f"direction is {sweep.direction!r} of what? Name the metric, too")
        for name in sweep.parameters:
            self._check_name(name)

    def check_adapter(self) -> None:
        """Refuses keys that the kind of adapter does not know, which a run would when it builds the model."""
        settings = (self.options.model.get("init_args") or {}).get("peft")
        if settings:
            read_settings(settings.as_dict() if isinstance(settings, Namespace) else settings)

    def _check_name(self, name: str) -> None:
        """Refuses a parameter that is no option; of what lies within an option its owner will say."""
        part, _, rest = name.partition(".")
        known = self.known()
        if part in CLASSES and not self.options.get(part):
            raise UserError(f"parameters: {name!r}, but the run names no {part}")
        option = rest.removeprefix("init_args.").partition(".")[0]
        if f"{part}.{option}" in known or name in known:
            return
        raise UserError(f"parameters: the run has no option {name!r}{did_you_mean(name, known)}")

    def known(self) -> dict[str, Any]:
        """Returns the run's options by dotted names, with their types."""
        dests = [action.dest for action in self._parser("fit")._actions]
        types: dict[str, Any] = {name: None for name in dests if not name.endswith(".help")}
        types |= {f"trainer.{name}": each.annotation for name, each in inspect.signature(Trainer).parameters.items()}
        for part in CLASSES:
            types.pop(part)
            if self.options.get(part):
                options = option_parameters(import_name(self.options[part].class_path))
                types |= {f"{part}.{name}": each.annotation for name, each in options.items()}
        return types

    def fractions(self, names: Sequence[str]) -> set[str]:
        """Returns those options that take fractions."""
        kinds, found = self.known(), set()
        for name in names:
            kind = kinds.get(name.replace(".init_args", "", 1))
            taken = [kind, *get_args(kind)]
            if float in taken and int not in taken:
                found.add(name)
        return found


def sweep(arguments: list[str] | None = None) -> None:
    """Runs the command.

    Raises:
        UserError: the sweep or its run cannot be as it is told.
    """
    asked, files, words = read_sweep(sys.argv[2:] if arguments is None else arguments)
    quiet()
    speak()
    if find_spec("optuna") is None:
        raise UserError("a sweep needs Optuna: pip install 'lit-ft[sweep]'")
    from lit_ft.sweeping.space import as_yaml, points, space_of
    from lit_ft.sweeping.study import pruner_of, sampler_of

    if any(word.partition("=")[0] == "--ckpt_path" for word in words):
        raise UserError(BEGIN_ANEW)
    folders = [*(file.parent for file in files), Path()]
    configs = [f"--config={found_config(name, folders)}" for name in as_list(asked.run)]
    of_run = ["fit", *configs, *_of_metric(asked), *words]
    cli = TrialCLI(of_run)
    cli.check(asked)
    run = yaml.safe_load(cli.as_text())
    space = space_of(asked.parameters, cli.fractions([*asked.parameters]))
    for values in points(space):
        TrialCLI([*of_run, f"--config={json.dumps(as_yaml(values, run))}"]).check_adapter()
    pruner_of(asked.pruner)
    sampler_of(asked.sampler, space, 0)
    folder = Path(asked.folder or Path("sweeps") / (files[-1].stem if files else "sweep"))
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / LOCK) as lock:
        received = _search(asked, space, folder, cli, lock)
    if received:
        log.info("the same command goes on")
        raise SystemExit(128 + received)


def _search(asked: Sweep, space: Any, folder: Path, cli: TrialCLI, lock: int) -> int:
    """Runs the trials and shows what came out; returns the signal that ended it, or 0."""
    from lit_ft.sweeping.loop import PARAMETERS, Loop
    from lit_ft.sweeping.results import best_or_none, show, write
    from lit_ft.sweeping.study import default_storage, open_study
    from lit_ft.sweeping.trials import Processes

    text, place, file = cli.as_text(), asked.storage or default_storage(folder), folder / RUN
    run = yaml.safe_load(text)
    shared = {**flat(run), **{f"parameters.{name}": each for name, each in asked.parameters.items()}}
    study = open_study(place, folder.resolve().name, cli.direction, shared)
    file.write_text(text, encoding="utf-8")
    callback = {"storage": place, "study": study.study_name}

    def words(where: Path) -> list[str]:
        return trial_words(file, where, where / PARAMETERS, callback)

    loop = Loop(asked, study, space, run, folder, Processes(asked.jobs, lock), words)
    received = loop.go_on()
    write(study, folder, space, run)
    show(study, folder, space, str(file))
    if not received and loop.failures and best_or_none(study) is None:
        raise UserError(f"no trial ended well: see {folder}/trial_*/log.txt")
    return received


def trial_words(run: Path, folder: Path, parameters: Path, told: Mapping[str, Any]) -> list[str]:
    """Returns the words of a trial's `fit`: the same at its start, and when it goes on.

    Args:
        run: file with the run's configuration.
        folder: of the trial.
        parameters: file with the trial's values.
        told: what the callback needs to find the study.
    """
    callback = {"class_path": "lit_ft.callbacks.pruning.Pruning", "init_args": dict(told)}
    return [
        f"--config={run}", f"--config={parameters}", f"--trainer.default_root_dir={folder}",
        f"--trainer.callbacks+={json.dumps(callback)}", "--trainer.enable_progress_bar=false", "--export.enabled=false",
        "--ckpt_path=auto",
    ]  # fmt: skip


def _of_metric(sweep: Sweep) -> list[str]:
    """Returns the words by which the run chooses its best checkpoint by the sweep's metric."""
    mode = {long: short for short, long in DIRECTIONS.items()}.get(sweep.direction or "")
    given = {"monitor": sweep.metric, "mode": mode}
    return [f"--checkpoint.{name}={value}" for name, value in given.items() if value is not None]


@contextmanager
def held(lock: Path) -> Iterator[int]:
    """Holds a sweep's folder; trials get the descriptor, so that a sweep that was killed holds it until they ended."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info(f"{lock.parent} is in use, by a sweep or by the last trials of one that was killed: waits")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()
