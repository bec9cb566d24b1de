"""The door: `lit-ft fit | validate | test | predict --config FILE`, Lightning's command line with our defaults."""

import json
import logging
import re
import shutil
import sys
from pathlib import Path
from types import MethodType, NoneType
from typing import Any, get_args

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback, instantiate_class
from lightning.pytorch.utilities import rank_zero_only

import lit_ft.datamodules
import lit_ft.modules
from lit_ft import standard_input
from lit_ft.callbacks import (
    DataReport,
    EvaluationRecord,
    HFExport,
    Interruption,
    LabelReport,
    LearningRate,
    LossGuard,
    PredictionWriter,
    RunCallback,
    RunCheckpoint,
    RunLogger,
    RunProgress,
    RunRecord,
    RunReport,
    Samples,
    Throughput,
)
from lit_ft.callbacks.interruption import Interrupted
from lit_ft.callbacks.run_logger import run_folder
from lit_ft.errors import UserError
from lit_ft.faults import LastBatch, explained
from lit_ft.objects import import_name, option_defaults, option_parameters
from lit_ft.ops.building.checkpoint_extras import read_extras
from lit_ft.parser import Parser
from lit_ft.resuming import AUTO, check_fixed, saved_options, taken_over, with_config_of_run
from lit_ft.runs import CHECKPOINTS, CONFIG, find_checkpoint, newest_or_none, run_of
from lit_ft.screen import quiet, show_metrics, speak
from lit_ft.yaml_files import with_found_configs

log = logging.getLogger("lit_ft")

LINKED = (
    "model_name_or_path",
    "model_revision",
    "tokenizer_name",
    "trust_remote_code",
    "gguf_file",
    "cache_dir",
    "add_tokens",
)
"""Options of the model that the data takes over."""

EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""What jsonargparse first leaves a string and then takes for a number."""

DEFAULTS: dict[str, Any] = {
    "max_epochs": 3,
    "gradient_clip_val": 1.0,
    "default_root_dir": "runs",
    "log_every_n_steps": 10,
}

AS_PARSED = {"skip_unset": False, "skip_validation": True}
"""How a configuration is written down: whole, and not checked once more."""


class SaveConfig(SaveConfigCallback):
    """Writes `config.yaml` into the run folder; a later command in the same folder writes `config.<command>.yaml`."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **kwargs: Any) -> None:
        super().__init__(parser, without_links(config), save_to_log_dir=False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks for the run's folder on every process, then saves on the first."""
        self.run = run_folder(trainer)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Saves the parsed configuration, all defaults spelled out."""
        if self.run is not None:
            self.run.mkdir(parents=True, exist_ok=True)
            command = getattr(trainer.state.fn, "value", stage)
            path = self.run / (f"config.{command}.yaml" if (self.run / CONFIG).exists() else CONFIG)
            self.parser.save(self.config, str(path), overwrite=True, multifile=False, **AS_PARSED)


class LitFtCLI(LightningCLI):
    """LightningCLI in subclass mode, with run folders, checkpoints by name, and model options handed to the data."""

    trainer_kind: type[Trainer] = Trainer

    def __init__(self, args: ArgsType = None) -> None:
        self.words = [str(word) for word in (sys.argv[1:] if args is None else args)]
        self.run: Path | None = None
        self.extras: dict[str, Any] | None = None
        self.last_batch = LastBatch()
        super().__init__(
            LightningModule,
            LightningDataModule,
            trainer_class=self.trainer_kind,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveConfig,
            parser_class=Parser,
            seed_everything_default=42,
            trainer_defaults=DEFAULTS,
            parser_kwargs={
                "prog": "lit-ft",
                "description": "Fine-tune transformers with Lightning, from YAML. Also: lit-ft quickstart, "
                "lit-ft preview, lit-ft report, lit-ft sweep, lit-ft schema, lit-ft completion, lit-ft export, "
                "lit-ft chat, lit-ft cache list, lit-ft cache clear.",
            },
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds our callbacks, each configurable under its own name."""
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.add_lightning_class_args(HFExport, "export")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_lightning_class_args(LossGuard, "loss_guard")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        asked = self.words[0] if self.words else ""
        if asked != subcommand and asked in self.subcommands():
            return self.init_parser(**kwargs)  # its options, which nobody asked for, would take their time
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand in ("validate", "test"):
            parser.set_defaults({"verbose": False})  # we show a table of our own
        if subcommand == "predict":
            parser.set_defaults({"return_predictions": False})  # they go to disk, not into memory
        return parser

    # Checkpoints

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses; a checkpoint's hyperparameters lie below YAML and command line, never above them."""
        given = with_found_configs(self.words)
        words = with_config_of_run(given, DEFAULTS["default_root_dir"])
        self.config = parser.parse_args(words)
        command = self.config.subcommand
        options = self.config[command]
        if not options.get("ckpt_path"):
            return
        root = Path(options.trainer.default_root_dir)
        path = newest_or_none(root) if options.ckpt_path == AUTO else find_checkpoint(str(options.ckpt_path), root)
        if path is None:
            options.ckpt_path = None
            return
        self.run = run_of(path)
        ours = issubclass(import_name(options.model.class_path), lit_ft.modules.TransformerModule)
        if ours:
            self.extras = read_extras(path)
            saved = saved_options(self.extras, options.model)
            if saved is not None:
                if taken_over(options.model.init_args, saved["init_args"]):  # else all is read again for nothing
                    at = words.index(command) + 1
                    below = ["--config", json.dumps({"model": saved})]
                    self.config = parser.parse_args([*words[:at], *below, *words[at:]])
                    if taken := taken_over(options.model.init_args, self.config[command].model.init_args):
                        log.info(f"options taken from the checkpoint: {taken}")
                check_fixed(self.config[command].model.init_args, self.extras)
        self.config[command].ckpt_path = str(path)

    def _parse_ckpt_path(self) -> None:
        """Replaces Lightning's step, which lets the checkpoint's hyperparameters overrule YAML and command line."""

    def _dump_config(self) -> None:
        """What Lightning keeps as hyperparameters, without its second check of what has just been parsed."""
        if not hasattr(self, "config_dump"):
            text = self.parser.dump(self.config, format="json", skip_link_targets=False, **AS_PARSED)
            self.config_dump = json.loads(text)[self.subcommand]

    # Building

    def before_instantiate_classes(self) -> None:
        """Hands the model's options to the data."""
        options = self.config[self.subcommand]
        given = (options.get("data") or {}).get("init_args") or {}
        if given.get("predict_file") == standard_input.NAME and self.subcommand == "predict":
            given["predict_file"] = standard_input.saved_input()
        _link(options)
        for wing in ("model", "data"):
            if options.get(wing):
                _check_values(wing, options[wing])

    def instantiate_classes(self) -> None:
        """Builds module, data module and Trainer; our own errors come through as they are."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, UserError):
                cause = cause.__cause__ or cause.__context__
            raise cause or error from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Adds the run's logger and our callbacks; the user's own ModelCheckpoint replaces ours."""
        options = self._get(self.config_init, "trainer")
        loggers = options.get("logger")
        if loggers is not False:
            own = [] if loggers in (None, True) else loggers if isinstance(loggers, list) else [loggers]
            root = str(self.run.parent) if self.run else str(options.default_root_dir)
            at = (self.extras["epoch"], self.extras["global_step"]) if self.extras else (0, 0)
            goes_on = self.subcommand == "fit" and self.extras is not None
            kwargs["logger"] = [RunLogger(root, self.run.name if self.run else None, at, goes_on), *own]
        asked = options.get("callbacks") or []
        asked = asked if isinstance(asked, list) else [asked]
        if options.get("enable_progress_bar") is not False and not any(isinstance(each, ProgressBar) for each in asked):
            kwargs["callbacks"] = [*asked, RunProgress()]
        keys = self._parser(self.subcommand).callback_keys
        if options.get("enable_checkpointing") is False and "checkpoint" in keys:
            keys.remove("checkpoint")
        trainer = super().instantiate_trainer(**kwargs)
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(each, ModelCheckpoint) and not isinstance(each, RunCheckpoint) for each in callbacks):
            callbacks[:] = [each for each in callbacks if not isinstance(each, RunCheckpoint)]
        callbacks[0:0] = [self.last_batch, Throughput(), LabelReport(), DataReport(), Samples()]
        callbacks[0:0] = [RunRecord(), EvaluationRecord(), LearningRate()]
        callbacks += [RunReport(), Interruption()]  # when all others have seen the step
        return trainer

    def _add_configure_optimizers_method_to_model(self, subcommand: str | None) -> None:
        """Puts `--optimizer` and `--lr_scheduler` in place of ours, once the model has parameters."""
        optimizer, scheduler = (self._get(self.config_init, key) for key in ("optimizer", "lr_scheduler"))
        if not optimizer:
            if scheduler:
                raise UserError("--lr_scheduler needs --optimizer beside it (or use model.lr_scheduler_type)")
            return

        def configure_optimizers(module: LightningModule) -> Any:
            made = instantiate_class((p for p in module.parameters() if p.requires_grad), _plain(optimizer))
            return self.configure_optimizers(
                module, made, instantiate_class(made, _plain(scheduler)) if scheduler else None
            )

        self.model.configure_optimizers = MethodType(configure_optimizers, self.model)
        with_schedule = f"the schedule {scheduler['class_path']}" if scheduler else "a constant learning rate"
        log.info(f"optimizer {optimizer['class_path']} with {with_schedule} replaces AdamW with warmup")

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs the command and ends with what it left."""
        if self.extras is not None:
            self.model.restore(self.extras)
            log.info(f"weights: {self.config[subcommand].ckpt_path}")
        elif subcommand in ("test", "validate", "predict") and not self.config[subcommand].get("ckpt_path"):
            name = getattr(self.model, "hparams", {}).get("model_name_or_path")
            log.info(f"weights: {name}, as they are, no checkpoint of ours (--ckpt_path best)")
        try:
            super()._run_subcommand(subcommand)
        except UserError:
            self._drop_empty_run()
            raise
        except Interrupted as interrupted:
            log.info(f"{interrupted}; goes on with --ckpt_path last: {self.folder}")
            raise SystemExit(interrupted.exit_status) from None
        except (RuntimeError, OSError, MemoryError) as error:
            message = explained(error, self.last_batch)
            if message is None:
                raise
            raise UserError(message) from error
        self._say_what_is_left()

    @rank_zero_only
    def _drop_empty_run(self) -> None:
        """Takes away the new folder of a run that never began."""
        for logger in self.trainer.loggers:
            if isinstance(logger, RunLogger) and self.run is None and not (Path(logger.log_dir) / CHECKPOINTS).exists():
                shutil.rmtree(logger.log_dir, ignore_errors=True)

    @rank_zero_only
    def _say_what_is_left(self) -> None:
        if self.subcommand in ("validate", "test"):
            show_metrics(str(self.subcommand), self.trainer.callback_metrics)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, HFExport) and callback.folder is not None:
                log.info(f"model: {callback.folder}")
            for path in callback.written if isinstance(callback, PredictionWriter) else []:
                log.info(f"predictions: {path}")
        if self.folder is not None:
            log.info(f"run: {self.folder}")

    @property
    def folder(self) -> Path | None:
        """The run's folder."""
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        return next((callback.run for callback in callbacks if isinstance(callback, RunCallback)), None)


def _link(options: Namespace) -> None:
    """Copies the model's options to the data; a different value given there is an error."""
    model, data = options.model.get("init_args") or {}, (options.get("data") or {}).get("init_args") or {}
    own = _linked_defaults(options)
    for name in LINKED:
        if name not in model or name not in data:
            continue
        if data[name] not in (model[name], own[name]):
            raise UserError(f"data.{name} is {data[name]!r}, model.{name} is {model[name]!r}: set it on the model only")
        data[name] = model[name]


def without_links(config: Namespace) -> Namespace:
    """Takes out of a configuration to be saved what the data only copied from the model."""
    config = config.clone()
    for name, default in _linked_defaults(config).items():
        if name in config.data.init_args:
            config.data.init_args[name] = default
    return config


def _linked_defaults(options: Namespace) -> dict[str, Any]:
    """What a data class has by itself for the options that it takes from the model."""
    if not (options.get("data") or {}).get("init_args"):
        return {}
    defaults = option_defaults(import_name(options.data.class_path))
    return {name: defaults.get(name) for name in LINKED}


def _check_values(wing: str, part: Namespace) -> None:
    """Names like `#1 String`, `null` or `1e5`, typed on the command line, are read as YAML: as something else."""
    given = part.get("init_args") or {}
    for name, option in option_parameters(import_name(part.class_path)).items():
        value, kinds = given.get(name, option.default), {*(get_args(option.annotation) or [option.annotation])}
        quotes = "put it into the YAML file in quotes, or give a list: '[\"#1 String\"]'"
        if value is None and option.default not in (None, option.empty) and NoneType not in kinds:
            hint = quotes if isinstance(option.default, str) else f"leave it out, and it is {option.default!r}"
            raise UserError(f"{wing}.{name} was read as YAML and is nothing; {hint}")
        number = isinstance(value, int | float) or (isinstance(value, str) and EXPONENT.fullmatch(value))
        if number and str in kinds and not kinds & {int, float, bool, Any}:
            raise UserError(f"{wing}.{name} was read as YAML and is the number {value}; {quotes}")


def _plain(value: Any) -> dict[str, Any]:
    return value.as_dict() if isinstance(value, Namespace) else dict(value)


def main(args: list[str] | None = None) -> LitFtCLI:
    """Runs a command.

    Args:
        args: words of the command line, `sys.argv[1:]` by default.

    Returns:
        The finished command line object, with `trainer`, `model` and `datamodule`.

    Raises:
        UserError: what the user can mend.
    """
    quiet()
    speak()
    return LitFtCLI(args)
