"""Parameter groups against those of Hugging Face's Trainer, and depths by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, Trainer, TrainingArguments

from lit_ft.optim.groups import layer_depths, parameter_groups


def head(folder: str) -> PreTrainedModel:
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)


def named(model: PreTrainedModel, groups: list[dict[str, Any]]) -> dict[float, set[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[float, set[str]] = {}
    for group in groups:
        found.setdefault(group["weight_decay"], set()).update(names[id(parameter)] for parameter in group["params"])
    return found


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama", "modernbert"])
def test_equal_those_of_hugging_faces_trainer(tiny: Callable[..., str], tmp_path: Path, kind: str) -> None:
    model = head(tiny(kind))
    next(iter(model.parameters())).requires_grad_(False)
    arguments = TrainingArguments(output_dir=str(tmp_path), weight_decay=0.01, use_cpu=True, report_to="none")
    trainer = Trainer(model=model, args=arguments)
    theirs = named(model, trainer.create_optimizer().param_groups)
    ours = named(model, parameter_groups(model, 1e-3, 0.01))
    assert ours == theirs
    assert set(ours) == {0.0, 0.01}
    assert sum(map(len, ours.values())) == sum(1 for p in model.parameters() if p.requires_grad)
    assert {group["lr"] for group in parameter_groups(model, 1e-3, 0.01)} == {1e-3}


DEPTHS = {
    "bert": {
        "bert.embeddings.word_embeddings.weight": 3,
        "bert.embeddings.LayerNorm.bias": 3,
        "bert.encoder.layer.0.attention.self.query.weight": 2,
        "bert.encoder.layer.0.output.LayerNorm.weight": 2,
        "bert.encoder.layer.1.intermediate.dense.bias": 1,
        "bert.pooler.dense.weight": 0,
        "classifier.bias": 0,
    },
    "gpt2": {
        "transformer.wte.weight": 3,
        "transformer.wpe.weight": 3,
        "transformer.h.0.ln_1.weight": 2,
        "transformer.h.1.mlp.c_proj.bias": 1,
        "transformer.ln_f.weight": 0,
        "score.weight": 0,
    },
}


@pytest.mark.parametrize("kind", list(DEPTHS))
def test_learning_rates_fall_with_the_depth(tiny: Callable[..., str], kind: str) -> None:
    model = head(tiny(kind))
    rates, decays = {}, {}
    for group in parameter_groups(model, 1e-3, 0.01, layerwise_lr_decay=0.9):
        for parameter in group["params"]:
            rates[id(parameter)], decays[id(parameter)] = group["lr"], group["weight_decay"]
    parameters = dict(model.named_parameters())
    assert len(rates) == len(parameters)
    for name, depth in DEPTHS[kind].items():
        assert rates[id(parameters[name])] == pytest.approx(1e-3 * 0.9**depth), name
    # which parameters decay has nothing to do with their depth
    plain = named(model, parameter_groups(model, 1e-3, 0.01))
    assert {name for name, parameter in parameters.items() if decays[id(parameter)] == 0.01} == plain[0.01]


def test_layers_that_a_head_numbers_are_the_heads(tiny: Callable[..., str]) -> None:
    model = head(tiny())
    model.classifier = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Linear(32, 3))
    rates = {
        id(parameter): group["lr"]
        for group in parameter_groups(model, 1e-3, 0.01, layerwise_lr_decay=0.5)
        for parameter in group["params"]
    }
    named = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    assert named["classifier.0.weight"] == named["classifier.1.bias"] == 1e-3
    assert named["bert.encoder.layer.1.output.dense.weight"] == 5e-4


def test_a_model_without_layers_has_no_depths() -> None:
    assert set(layer_depths(["embed.weight", "dense.weight"]).values()) == {1}
