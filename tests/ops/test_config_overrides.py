"""Overrides of a configuration: values and nested values, what follows from them, and checkpoints that stay whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
)

from lit_ft.errors import UserError
from lit_ft.ops.building.config_overrides import override
from lit_ft.ops.building.models import ModelSource

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def built(folder: str, auto_class: Any = AutoModelForMaskedLM, **options: Any) -> Any:
    source = ModelSource(folder, **options)
    return source.build(auto_class, source.config(), False)


@pytest.mark.parametrize("fresh", [False, True])
def test_nested_values_keep_the_others(fresh: bool) -> None:
    before = LlamaConfig(rope_parameters=LLAMA3) if not fresh else LlamaConfig()
    kept = dict(before.rope_parameters)
    for overrides in ({"rope_parameters": {"rope_theta": 7.0}}, {"rope_parameters.rope_theta": 7.0}):
        after = override(before, overrides, fresh)
        assert after.rope_parameters == {**kept, "rope_theta": 7.0}
    assert before.rope_parameters == kept
    both = override(before, {"rope_parameters.rope_theta": 7.0, "rope_parameters.factor": 2.0}, fresh)
    assert both.rope_parameters == {**kept, "rope_theta": 7.0, "factor": 2.0}


@pytest.mark.parametrize("fresh", [False, True])
def test_configurations_inside_a_configuration(fresh: bool) -> None:
    before = AutoConfig.for_model("gemma3")
    sizes = before.text_config.to_dict()
    after = override(before, {"text_config": {"attention_dropout": 0.3}}, fresh)
    assert type(after.text_config) is type(before.text_config)
    assert after.text_config.to_dict() == {**sizes, "attention_dropout": 0.3}
    assert before.text_config.attention_dropout == 0.0
    with pytest.raises(UserError, match="did you mean 'attention_dropout'"):
        override(before, {"text_config.attention_dropuot": 0.3}, fresh)


def test_what_follows_from_a_value_follows_it_from_scratch() -> None:
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 3}
    assert ModelSource(model_type="llama", config_overrides=sizes).config().head_dim == 32
    config = ModelSource(model_type="qwen3", config_overrides={"num_hidden_layers": 3}).config()
    assert config.layer_types == ["full_attention"] * 3
    config = ModelSource(model_type="gpt2", config_overrides={"n_embd": 64, "num_hidden_layers": 3}).config()
    assert (config.hidden_size, config.n_layer) == (64, 3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hidden_sise": 1}, "has no 'hidden_sise' — did you mean 'hidden_size'"),
        ({"num_layers": 1}, "has no 'num_layers' — did you mean 'n(um_hidden|_)"),
        ({"hidden_size": "64"}, "hidden_size.*expected int, got str"),
        ({"use_cache": "no"}, "use_cache.*expected bool"),
        ({"rope_parameters": 3}, "rope_parameters"),
        ({"num_attention_heads": 5}, "not a multiple of the number of attention heads"),
    ],
)
def test_values_that_cannot_be(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ModelSource(model_type="llama", config_overrides=overrides).config()


@pytest.mark.parametrize(
    ("overrides", "guilty"),
    [
        ({"intermediate_size": 38}, "intermediate_size"),
        ({"hidden_dropout_prob": 0.3, "num_hidden_layers": 1}, "num_hidden_layers"),
        (
            {"vocab_size": 700, "max_position_embeddings": 170, "layer_norm_eps": 1e-6},
            "vocab_size, max_position_embeddings",
        ),
        ({"hidden_size": 48, "attention_probs_dropout_prob": 0.2}, "hidden_size"),
        ({"hidden_size": 33}, "hidden_size"),
    ],
)
def test_a_checkpoints_weights_stay(tiny: Callable[..., str], overrides: dict[str, Any], guilty: str) -> None:
    for options in ({}, {"ignore_mismatched_sizes": True}):
        source = ModelSource(tiny(), config_overrides=overrides)
        with pytest.raises(UserError, match=f"config_overrides: {guilty}: weights would have other shapes or names"):
            source.build(AutoModelForMaskedLM, source.config(), bool(options))


def test_what_changes_behaviour_alone_is_said(tiny: Callable[..., str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "lit_ft"):
        model, fresh = built(
            tiny("llama"),
            AutoModelForCausalLM,
            config_overrides={"attention_dropout": 0.1, "rope_parameters.rope_theta": 5e3, "use_cache": True},
        )
    assert model.config.attention_dropout == 0.1
    assert model.config.rope_parameters["rope_theta"] == 5e3
    said = [record.message for record in caplog.records if record.name == "lit_ft"]
    assert said[0] == "config_overrides: attention_dropout: 0.0 -> 0.1"
    assert said[1].startswith("config_overrides: rope_parameters: {")
    assert len(said) == 2  # use_cache is true already
    plain, plain_fresh = built(tiny("llama"), AutoModelForCausalLM)
    assert fresh == plain_fresh
    for name, weight in plain.base_model.state_dict().items():
        assert torch.equal(weight, model.base_model.state_dict()[name])


def test_the_check_draws_no_random_numbers(tiny: Callable[..., str]) -> None:
    heads = []
    for overrides in (None, {"hidden_dropout_prob": 0.3}):
        torch.manual_seed(5)
        heads.append(built(tiny(), config_overrides=overrides)[0].cls.predictions.transform.dense.weight)
    assert torch.equal(*heads)


def test_another_configuration_for_the_same_weights(tiny: Callable[..., str], tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(tiny())
    config.hidden_dropout_prob, config.id2label = 0.25, {0: "a", 1: "b", 2: "c"}
    config.save_pretrained(tmp_path / "same")
    model, _ = built(tiny(), AutoModelForSequenceClassification, config_name=str(tmp_path / "same"))
    assert model.config.hidden_dropout_prob == 0.25
    assert model.classifier.out_features == 3
    config.num_hidden_layers = 1
    config.save_pretrained(tmp_path / "other")
    for name in (str(tmp_path / "other"), tiny("roberta")):
        with pytest.raises(UserError, match="config_name: its model's weights have other names or shapes"):
            built(tiny(), config_name=name)
    with pytest.raises(UserError, match="config_overrides: intermediate_size: weights"):
        built(tiny(), config_name=str(tmp_path / "same"), config_overrides={"intermediate_size": 5})


def test_from_scratch_or_from_a_checkpoint_but_not_both(tiny: Callable[..., str]) -> None:
    sources: list[dict[str, Any]] = [{"model_name_or_path": tiny()}, {"config_name": tiny()}]
    for options in sources:
        with pytest.raises(UserError, match=r"model_type 'bert' trains from scratch.*leave one of them out"):
            ModelSource(model_type="bert", **options).config()
    model, fresh = ModelSource(config_name=tiny()).build(
        AutoModelForMaskedLM, ModelSource(config_name=tiny(), config_overrides={"hidden_size": 48}).config(), False
    )
    assert model.config.hidden_size == 48
    assert fresh == []
