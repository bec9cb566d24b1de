"""The door: `lit-ft fit | validate | test | predict --config FILE`, Lightning's command line with our defaults and links.

The only file that knows both wings.
"""

import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

from jsonargparse import Namespace
from jsonargparse.util import import_object
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback, instantiate_class
from lightning.pytorch.utilities import rank_zero_only
from rich.logging import RichHandler

import lit_ft.datamodules
import lit_ft.modules
from lit_ft.callbacks import HFExport, LabelReport, PredictionWriter, RunCheckpoint, RunLogger, Throughput
from lit_ft.callbacks.run_logger import run_folder
from lit_ft.errors import UserError
from lit_ft.ops.building import ModelSource
from lit_ft.ops.checkpoint_extras import load_config, read_extras
from lit_ft.runs import CONFIG, find_checkpoint, run_of

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

FIXED = ("model_type", "config_overrides", "config_name", "add_tokens", "labels", "problem_type")
"""Options that decide shapes or meaning of the weights: a checkpoint's values cannot be overruled."""

DEFAULTS: dict[str, Any] = {
    "max_epochs": 3,
    "gradient_clip_val": 1.0,
    "default_root_dir": "runs",
    "log_every_n_steps": 10,
}

UNACTIONABLE = (
    r".*does not have many workers.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*You are using a CUDA device.*Tensor Cores.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*`_pytree.LeafSpec.*",
    r".*Trying to infer the `batch_size`.*",
    r".*No positive samples in targets.*",
    r".*No negative samples in targets.*",
    r".*was nan. Ignoring these classes.*",
    r".*`.fit_loop.*logging interval.*",
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*`configure_optimizers` will be overridden.*",
    r".*LightningCLI's args parameter is intended.*",
    r".*lr_scheduler.step\(\).* before .*optimizer.step\(\).*",
    r".*found in eval mode.*|.*module\(s\) in eval mode.*",
    r".*pin_memory.*no accelerator.*",
    r".*The variance of predictions or target is close to zero.*",
    r".*use_distributed_sampler.*",
    r".*`compute` method of metric .* was called before the `update`.*",
    r".*PossibleUserWarning.*",
)
"""Warnings of libraries below us about things that are as they should be here."""


class SaveConfig(SaveConfigCallback):
    """Writes `config.yaml` into the run folder; a later command in the same folder writes `config.<command>.yaml`."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **kwargs: Any) -> None:
        super().__init__(parser, _without_links(config), save_to_log_dir=False)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Saves the parsed configuration, all defaults spelled out."""
        folder = run_folder(trainer)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            command = getattr(trainer.state.fn, "value", stage)
            path = folder / (f"config.{command}.yaml" if (folder / CONFIG).exists() else CONFIG)
            self.parser.save(self.config, str(path), skip_none=False, overwrite=True, multifile=False)


class LitFtCLI(LightningCLI):
    """LightningCLI in subclass mode, with run folders, checkpoints by name, and the model's options handed to the data."""

    def __init__(self, args: ArgsType = None) -> None:
        self.run: Path | None = None
        self.extras: dict[str, Any] | None = None
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveConfig,
            seed_everything_default=42,
            trainer_defaults=DEFAULTS,
            parser_kwargs={"prog": "lit-ft", "description": "Fine-tune transformers with Lightning, from YAML."},
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds our callbacks, each configurable under its own name."""
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.add_lightning_class_args(HFExport, "export")
        parser.add_lightning_class_args(PredictionWriter, "predictions")

    # Checkpoints

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses; a checkpoint's hyperparameters lie below YAML and command line, never above them."""
        words = list(sys.argv[1:] if args is None else args)
        words = _with_config_of_run(words)
        self.config = parser.parse_args(words)
        command = self.config.subcommand
        options = self.config[command]
        if not options.get("ckpt_path"):
            return
        path = find_checkpoint(str(options.ckpt_path), Path(options.trainer.default_root_dir))
        self.run = run_of(path)
        if path.is_file():
            self.extras = read_extras(path) if _is_ours(options) else None
        if self.extras is not None:
            base = _hyperparameters(self.extras, options)
            at = words.index(command) + 1
            self.config = parser.parse_args([*words[:at], "--config", json.dumps(base), *words[at:]])
            _check_fixed(self.config[command], self.extras)
        self.config[command].ckpt_path = str(path)

    def _parse_ckpt_path(self) -> None:
        """Replaces Lightning's step, which lets the checkpoint's hyperparameters overrule YAML and command line."""

    # Building

    def before_instantiate_classes(self) -> None:
        """Hands the model's options to the data."""
        options = self.config[self.subcommand]
        _link(options)
        if self.subcommand == "predict" and options.get("return_predictions") is None:
            options.return_predictions = False  # they go to disk, not into memory
        logger = options.trainer.logger
        self._wants_logger = logger is not False

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Adds the run's logger and our callbacks; the user's own ModelCheckpoint replaces ours."""
        options = self._get(self.config_init, "trainer")
        loggers = options.get("logger")
        if loggers is not False:
            own = [] if loggers in (None, True) else loggers if isinstance(loggers, list) else [loggers]
            run_logger = RunLogger(str(options.default_root_dir), self.run.name if self.run else None)
            if self.run is not None:
                run_logger = RunLogger(str(self.run.parent), self.run.name)
            kwargs["logger"] = [run_logger, *own]
        trainer = super().instantiate_trainer(**kwargs)
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(each, ModelCheckpoint) and not isinstance(each, RunCheckpoint) for each in callbacks):
            callbacks[:] = [each for each in callbacks if not isinstance(each, RunCheckpoint)]
        callbacks[0:0] = [Throughput(), LabelReport()]
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
        super()._run_subcommand(subcommand)
        self._say_what_is_left()

    @rank_zero_only
    def _say_what_is_left(self) -> None:
        folder = run_folder(self.trainer)
        if folder is None:
            return
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, HFExport) and callback.folder is not None:
                log.info(f"model: {callback.folder}")
            if isinstance(callback, PredictionWriter):
                for path in callback.written:
                    log.info(f"predictions: {path}")
        log.info(f"run: {folder}")


def _with_config_of_run(words: list[str]) -> list[str]:
    """`--ckpt_path` alone, without `--config`: the run's own configuration is used."""
    names = [word.partition("=")[0] for word in words]
    if (
        not words
        or words[0] not in LightningCLI.subcommands()
        or "--ckpt_path" not in names
        or {"--config", "-c"} & set(names)
    ):
        return words
    at = names.index("--ckpt_path")
    value = words[at].partition("=")[2] or (words[at + 1] if at + 1 < len(words) else "")
    roots = [
        word.partition("=")[2] or words[number + 1]
        for number, word in enumerate(words)
        if names[number] == "--trainer.default_root_dir"
    ]
    run = run_of(find_checkpoint(value, Path(roots[0] if roots else DEFAULTS["default_root_dir"])))
    return words if run is None else [words[0], "--config", str(run / CONFIG), *words[1:]]


def _is_ours(options: Namespace) -> bool:
    """Says whether the model's class is one of ours or derives from one."""
    return issubclass(import_object(options.model.class_path), lit_ft.modules.TransformerModule)


def _hyperparameters(extras: dict[str, Any], options: Namespace) -> dict[str, Any]:
    """Returns the checkpoint's hyperparameters as a configuration, where they are of the same class."""
    values = {name: value for name, value in extras["hyper_parameters"].items() if name != "_instantiator"}
    class_path = values.pop("_class_path", options.model.class_path)
    if class_path != options.model.class_path:
        return {}
    return {"model": {"class_path": class_path, "init_args": values}}


def _check_fixed(options: Namespace, extras: dict[str, Any]) -> None:
    """Raises a `UserError` where YAML or command line ask for other shapes than the checkpoint's."""
    saved, asked = extras["hyper_parameters"], options.model.init_args
    for name in FIXED:
        if name in saved and asked.get(name) != saved[name] and _as_dict(asked.get(name)) != saved[name]:
            raise UserError(f"model.{name} is {asked.get(name)!r}, but the checkpoint was trained with {saved[name]!r}")
    name = asked.get("model_name_or_path")
    if name is not None and name != saved.get("model_name_or_path"):
        try:
            config = ModelSource(
                name, **{key: asked[key] for key in ("model_revision", "gguf_file", "cache_dir")}
            ).config()
        except UserError:
            return  # gone since: the checkpoint has its own copy of the configuration
        trained = load_config(extras["config"])
        for key in ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads"):
            if getattr(config, key, None) != getattr(trained, key, None):
                raise UserError(
                    f"model_name_or_path {name!r} has {key} {getattr(config, key, None)}, "
                    f"the checkpoint {getattr(trained, key, None)}: it is of another model"
                )


def _link(options: Namespace) -> None:
    """Copies the model's options to the data; a different value given there is an error."""
    model, data = options.model.get("init_args") or {}, (options.get("data") or {}).get("init_args") or {}
    for name in LINKED:
        if name not in model or name not in data:
            continue
        if data[name] not in (model[name], None, False, "main"):
            raise UserError(f"data.{name} is {data[name]!r}, model.{name} is {model[name]!r}: set it on the model only")
        data[name] = model[name]


def _without_links(config: Namespace) -> Namespace:
    """Takes out of a configuration to be saved what the data only copied from the model."""
    config = config.clone()
    data = (config.get("data") or {}).get("init_args") or {}
    for name in LINKED:
        if name in data:
            data[name] = {"model_revision": "main", "trust_remote_code": False}.get(name)
    return config


def _plain(value: Any) -> dict[str, Any]:
    return value.as_dict() if isinstance(value, Namespace) else dict(value)


def _as_dict(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else value


def _quiet() -> None:
    for pattern in UNACTIONABLE:
        warnings.filterwarnings("ignore", message=pattern)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).addFilter(lambda record: "💡" not in record.getMessage())


def _speak() -> None:
    if getattr(rank_zero_only, "rank", 0) == 0 and not log.handlers:
        handler = RichHandler(show_time=False, show_path=False, show_level=False, markup=False, highlighter=None)
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False


def main(args: list[str] | None = None) -> LitFtCLI:
    """Runs a command.

    Args:
        args: words of the command line, `sys.argv[1:]` by default.

    Returns:
        The finished command line object, with `trainer`, `model` and `datamodule`.

    Raises:
        UserError: what the user can mend.
    """
    _quiet()
    _speak()
    return LitFtCLI(args)


def entry() -> None:
    """The console command: a user's error ends it with one line and exit status 2, not with a traceback."""
    command: Callable[[], object] = main
    if sys.argv[1:2] == ["quickstart"]:
        from lit_ft.commands.quickstart import quickstart

        command = quickstart
    try:
        command()
    except UserError as error:
        sys.stderr.write(f"lit-ft: error: {error}\n")
        raise SystemExit(2) from None
