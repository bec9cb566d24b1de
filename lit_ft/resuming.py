"""What a checkpoint brings to the command line: its run's configuration, its hyperparameters, and what they forbid."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningCLI

from lit_ft.errors import UserError
from lit_ft.ops.building.checkpoint_extras import load_config
from lit_ft.ops.building.models import ModelSource
from lit_ft.runs import CONFIG, find_checkpoint, newest_or_none, run_of
from lit_ft.yaml_files import WORDS

FIXED = ("model_type", "config_overrides", "config_name", "add_tokens", "labels", "problem_type")
"""Options that decide shapes or meaning of the weights: a checkpoint's values cannot be overruled."""

AUTO = "auto"
"""`--ckpt_path` of runs that a scheduler starts again and again: `last` where there is one, else from the start."""

SHAPES = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads")


def with_config_of_run(words: list[str], root: str) -> list[str]:
    """Adds the run's own `config.yaml` to a command line that has `--ckpt_path` but no `--config`.

    Args:
        words: the command line, subcommand first.
        root: where runs lie unless `--trainer.default_root_dir` says otherwise.
    """
    given = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        given[name] = value if equals else following
    if not words or words[0] not in LightningCLI.subcommands() or {*WORDS} & {*given}:
        return words
    if "--ckpt_path" not in given:
        return words
    name, root = given["--ckpt_path"], given.get("--trainer.default_root_dir", root)
    checkpoint = newest_or_none(Path(root)) if name == AUTO else find_checkpoint(name, Path(root))
    run = None if checkpoint is None else run_of(checkpoint)
    if run is None:
        return words
    return [words[0], "--config", str(run / CONFIG), *words[1:], f"--ckpt_path={checkpoint}"]


def saved_options(extras: dict[str, Any], model: Namespace) -> dict[str, Any] | None:
    """Returns a checkpoint's hyperparameters as a configuration of the model; `None` when they are of another class.

    Whether code beside a model is run is not for the file to say.
    """
    left_out = ("_instantiator", "trust_remote_code")
    values = {name: value for name, value in extras["hyper_parameters"].items() if name not in left_out}
    class_path = values.pop("_class_path", model.class_path)
    return {"class_path": class_path, "init_args": values} if class_path == model.class_path else None


def taken_over(before: Namespace, after: Namespace) -> dict[str, Any]:
    """Returns the options that neither YAML nor command line gave and that the checkpoint's hyperparameters changed."""
    return {name: value for name, value in after.items() if before.get(name) != value}


def check_fixed(asked: Namespace, extras: dict[str, Any]) -> None:
    """Refuses options that ask for other shapes than the checkpoint's.

    Raises:
        UserError: the option, and both values.
    """
    saved = extras["hyper_parameters"]
    for name in FIXED:
        value = asked.get(name)
        value = value.as_dict() if isinstance(value, Namespace) else value
        if name in saved and value != saved[name]:
            raise UserError(f"model.{name} is {value!r}, but the checkpoint was trained with {saved[name]!r}")
    name = asked.get("model_name_or_path")
    if name is None or name == saved.get("model_name_or_path"):
        return
    options = ("model_revision", "trust_remote_code", "gguf_file", "cache_dir")
    source = ModelSource(name, **{key: asked[key] for key in options})
    try:
        config = source.config()
    except UserError:
        return  # gone since: the checkpoint has its own copy of the configuration
    trained = load_config(extras["config"], source)
    for key in SHAPES:
        theirs, ours = getattr(config, key, None), getattr(trained, key, None)
        if theirs != ours:
            raise UserError(f"model_name_or_path {name!r} has {key} {theirs}, the checkpoint {ours}: another model")
