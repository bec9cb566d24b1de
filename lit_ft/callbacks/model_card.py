"""The model card that an exported folder carries: task, data, metrics, hyperparameters, versions."""

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import lightning
import torch
import transformers
from huggingface_hub import EvalResult, ModelCard, ModelCardData

import lit_ft
from lit_ft.callbacks.hub import mistake_in
from lit_ft.ops.building.models import BASE_GGUF
from lit_ft.pages.report import between
from lit_ft.pages.report_text import table
from lit_ft.pages.run_files import RunFiles, in_order, read_run

TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

Fine-tuned from `{{ base }}` with lit_ft ({{ module }}).

```python
{{ example }}
```

## Task

{{ task }}

## Data

{{ data }}

## Metrics

Of the checkpoint in this folder (epoch {{ epoch }}, step {{ step }}){{ note }}:

| metric | value | 95 of 100 such sets |
|---|---:|---|
{{ metrics }}

## Hyperparameters

{{ hyperparameters }}

## Versions

{{ versions }}
"""

EXAMPLE = """from transformers import AutoTokenizer, {auto_class}

tokenizer = AutoTokenizer.from_pretrained("this/folder")
model = {auto_class}.from_pretrained("this/folder")"""
ADAPTER_EXAMPLE = """from peft import PeftModel
from transformers import AutoConfig, {auto_class}

config = AutoConfig.from_pretrained("this/folder", subfolder="config")  # the labels, too
model = {auto_class}.from_pretrained("{base}", config=config{file})
model = PeftModel.from_pretrained(model, "this/folder")"""

WITH_INTERVALS, WITHOUT = (
    "; beside it between what 95 of 100 other such sets would score (bootstrap over the rows)",
    "; how sure they are is not on record",
)
UNKNOWN = "unknown"
"""A data set that is not on the hub, as model indexes have it."""
SAME = 1e-4
"""Difference, relative, up to which two evaluations are the same one."""


class Figure(NamedTuple):
    """A metric of the checkpoint, and between what another such set would score; `None` = nobody knows."""

    name: str
    value: float
    interval: tuple[float, float] | None


def model_card(module: Any, checkpoint: dict[str, Any], adapter: bool = False, run: Path | None = None) -> str:
    """Writes the card of a checkpoint.

    Args:
        module: the module that it is of.
        checkpoint: the checkpoint, loaded.
        adapter: the folder holds an adapter alone.
        run: the run's folder, where it lies in one: what is known of its data and its evaluations.
    """
    files = read_run(run) if run is not None else RunFiles(Path())
    base = str(module.hparams["model_name_or_path"] or module.hparams["model_type"])
    title = f"{_shown(base).removeprefix('package://').rstrip('/')}, fine-tuned"
    data = dict(getattr(getattr(module._trainer, "datamodule", None), "hparams", {}) or _told(files, "data"))
    found = figures(checkpoint, files)
    card = ModelCard.from_template(
        card_data(module, found, data, title, adapter),
        template_str=TEMPLATE,
        title=title,
        base=_shown(base),
        module=type(module).__name__,
        example=_example(module, adapter),
        task=_lines({name: module.description.get(name) for name in ("problem_type", "labels")})
        or f"- {module.pipeline_tag or type(module).__name__}",
        data="\n".join(filter(None, (_lines(_named(data, DATA_OPTIONS), code=True), _lines(_rows(files)))))
        or "not recorded (the rows came from Python)",
        epoch=checkpoint.get("epoch", "?"),
        step=checkpoint.get("global_step", "?"),
        note=WITH_INTERVALS if any(each.interval for each in found) else WITHOUT if found else "",
        metrics="\n".join(table((name, f"{value:.4f}", between(interval)) for name, value, interval in found))
        or "| none | | |",
        hyperparameters=_lines(_hyperparameters(module, data, files)),
        versions="\n".join(f"- {package.__name__} {package.__version__}" for package in PACKAGES),
    )
    return str(card)


def figures(checkpoint: dict[str, Any], run: RunFiles) -> list[Figure]:
    """Returns the metrics of a checkpoint: those it was saved with, and those that `test` found of the same weights.

    Intervals come from the run's evaluations, where these are of this very step, and found the same.
    """
    step = checkpoint.get("global_step")
    of_it = {stage: record for stage, record in run.evaluations.items() if record["step"] == step}
    logged = checkpoint["lit_ft"].get("metrics", {})
    metrics = {name: value for name, value in logged.items() if name.startswith(("val_", "test_"))}
    recorded = of_it.get("val", {}).get("metrics", {})
    same = {name for name, value in metrics.items() if math.isclose(value, recorded.get(name, math.nan), rel_tol=SAME)}
    tested = of_it.get("test", {}).get("metrics", {})
    metrics |= tested
    known = same | tested.keys()
    return [Figure(name, metrics[name], run.interval(name) if name in known else None) for name in in_order(metrics)]


def card_data(module: Any, found: list[Figure], data: dict[str, Any], title: str, adapter: bool) -> ModelCardData:
    """Returns what the hub reads of a card.

    Args:
        module: the module.
        found: its metrics.
        data: the data module's options.
        title: what the model is called.
        adapter: the folder holds an adapter alone.
    """
    name = hub_name(data.get("dataset_name"))
    options = {"dataset_config": data.get("dataset_config_name"), "dataset_revision": data.get("dataset_revision")}
    results = [
        EvalResult(
            task_type=module.pipeline_tag,
            dataset_type=name or UNKNOWN,
            dataset_name=name or UNKNOWN,
            metric_type=each.name.partition("_")[2],
            metric_name=each.name,
            metric_value=round(each.value, 5),
            **(options if name else {}),
        )
        for each in found
        if module.pipeline_tag and math.isfinite(each.value)  # an index is of a task that the hub knows
    ]
    return ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag=module.pipeline_tag,
        base_model=hub_name(module.hparams["model_name_or_path"]),
        datasets=name,
        tags=["lit_ft", "lightning"],
        model_name=title if results else None,
        eval_results=results or None,
    )


def hub_name(name: Any) -> str | None:
    """Returns the name of a model or data set on the hub; `None` for what lies elsewhere."""
    if not isinstance(name, str) or os.path.exists(os.path.expanduser(name)):
        return None
    return name if "/" in name and mistake_in(name) is None else None


def _shown(value: Any) -> Any:
    """Returns options without the folders of this machine, which are nobody's business."""
    if isinstance(value, dict):
        return {name: _shown(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    local = isinstance(value, str) and (value.startswith(("/", "~", ".")) or os.path.exists(value))
    return Path(value).name if local else value


def _named(options: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: _shown(options[name]) for name in names if options.get(name) is not None}


def _lines(values: dict[str, Any], code: bool = False) -> str:
    around = "`" if code else ""
    return "\n".join(f"- {name}: {around}{value}{around}" for name, value in values.items() if value is not None)


def _told(files: RunFiles, part: str) -> dict[str, Any]:
    options = files.config.get(part) or {}
    return dict(options.get("init_args", options))


def _rows(files: RunFiles) -> dict[str, str]:
    """Returns how many rows each set has."""
    found = {}
    for one in files.data.get("sets", []):
        of = "" if one["kept"] == one["rows"] else f" of {one['rows']:,}"
        found["/".join(filter(None, (one["split"], one["name"])))] = f"{one['kept']:,}{of} rows"
    return found


def _example(module: Any, adapter: bool) -> str:
    name = module.auto_class.__name__
    if adapter:
        file = module.source.gguf_file or getattr(module.model.config, BASE_GGUF, None)
        base, said = module.adapter["base_model_name_or_path"], f', gguf_file="{file}"' if file else ""
        return ADAPTER_EXAMPLE.format(auto_class=name, base=base, file=said)
    return module.card_example or EXAMPLE.format(auto_class=name)


def _hyperparameters(module: Any, data: dict[str, Any], files: RunFiles) -> dict[str, Any]:
    options = _named(module.hparams, TRAINING_OPTIONS)
    options |= {name: data[name] for name in ("batch_size", "class_balanced_sampling") if data.get(name)}
    trainer = module._trainer
    if trainer is None:
        seed = {"seed": files.config["seed_everything"]} if "seed_everything" in files.config else {}
        return options | _named(_told(files, "trainer"), TRAINER_OPTIONS) | seed
    options |= {name: getattr(trainer, name) for name in TRAINER_OPTIONS}
    return options | {"processes": trainer.world_size, "seed": os.environ.get("PL_GLOBAL_SEED", "none")}


PACKAGES = (lit_ft, lightning, transformers, torch, datasets)
DATA_OPTIONS = (
    "dataset_name", "dataset_config_name", "dataset_revision", "train_file", "validation_file", "test_file",
    "max_seq_length", "block_size", "packing", "mlm_probability", "truncation_side", "stride",
    "validation_split_percentage", "max_train_samples",
)  # fmt: skip
TRAINING_OPTIONS = (
    "learning_rate", "weight_decay", "lr_scheduler_type", "num_warmup_steps", "warmup_ratio", "layerwise_lr_decay",
    "label_smoothing_factor", "class_weights", "loss", "freeze", "peft", "loraplus_lr_ratio",
    "adam_beta1", "adam_beta2", "adam_epsilon",
)  # fmt: skip
TRAINER_OPTIONS = ("max_epochs", "max_steps", "gradient_clip_val", "accumulate_grad_batches", "precision")
