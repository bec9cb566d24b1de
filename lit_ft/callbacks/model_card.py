"""The model card that an exported folder carries: task, data, metrics, hyperparameters, versions."""

import os
from typing import Any

import datasets
import lightning
import torch
import transformers
from huggingface_hub import ModelCard, ModelCardData

import lit_ft

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

Of the checkpoint in this folder (epoch {{ epoch }}, step {{ step }}):

| metric | value |
|---|---|
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
model = {auto_class}.from_pretrained("{base}", config=config)
model = PeftModel.from_pretrained(model, "this/folder")"""


def model_card(module: Any, checkpoint: dict[str, Any], adapter: bool = False) -> str:
    """Writes the card of a checkpoint.

    Args:
        module: the module that it is of.
        checkpoint: the checkpoint, loaded.
        adapter: the folder holds an adapter alone.
    """
    description = module.description
    base = str(module.hparams["model_name_or_path"] or module.hparams["model_type"])
    hub_name = base if "/" in base and "://" not in base and not base.startswith((".", "/", "~")) else None
    metrics = {
        name: value for name, value in checkpoint["lit_ft"].get("metrics", {}).items() if not name.startswith("train_")
    }
    data = getattr(getattr(module._trainer, "datamodule", None), "hparams", {})
    named = {name: value for name, value in data.items() if name in DATA_OPTIONS and value is not None}
    options = {name: value for name, value in module.hparams.items() if name in TRAINING_OPTIONS and value is not None}
    options |= {name: data[name] for name in ("batch_size", "class_balanced_sampling") if data.get(name)}
    options |= _run_options(module._trainer)
    versions = {
        "lit_ft": lit_ft,
        "lightning": lightning,
        "transformers": transformers,
        "torch": torch,
        "datasets": datasets,
    }
    card = ModelCard.from_template(
        ModelCardData(
            library_name="peft" if adapter else "transformers",
            pipeline_tag=module.pipeline_tag,
            base_model=hub_name,
            tags=["lit_ft", "lightning"],
        ),
        template_str=TEMPLATE,
        title=f"{base.removeprefix('package://').rstrip('/')}, fine-tuned",
        base=base,
        module=type(module).__name__,
        example=_example(module, adapter),
        task="\n".join(
            f"- {name}: {value}" for name, value in description.items() if name in ("problem_type", "labels")
        )
        or f"- {module.pipeline_tag or type(module).__name__}",
        data="\n".join(f"- {name}: `{value}`" for name, value in named.items())
        or "not recorded (the rows came from Python)",
        epoch=checkpoint.get("epoch", "?"),
        step=checkpoint.get("global_step", "?"),
        metrics="\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(metrics.items())) or "| none | |",
        hyperparameters="\n".join(f"- {name}: {value}" for name, value in options.items()),
        versions="\n".join(f"- {name} {package.__version__}" for name, package in versions.items()),
    )
    return str(card)


def _example(module: Any, adapter: bool) -> str:
    name = module.auto_class.__name__
    if adapter:
        return ADAPTER_EXAMPLE.format(auto_class=name, base=module.adapter["base_model_name_or_path"])
    return module.card_example or EXAMPLE.format(auto_class=name)


def _run_options(trainer: Any) -> dict[str, Any]:
    if trainer is None:
        return {}
    return {
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "gradient_clip_val": trainer.gradient_clip_val,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "precision": trainer.precision,
        "processes": trainer.world_size,
        "seed": os.environ.get("PL_GLOBAL_SEED", "none"),
    }


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
