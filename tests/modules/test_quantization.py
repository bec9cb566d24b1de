"""An adapter beside weights of four bits: PEFT as reference, checkpoints, going on, what is refused."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from lit_ft import CausalLMModule
from lit_ft.commands.export import export as export_command
from lit_ft.errors import UserError
from lit_ft.loading import load
from lit_ft.ops.adapters.quantizing import settle
from tests.modules.test_adapters import LORA, causal, fitted, with_adapter
from tests.modules.test_exact_resume import check, classification
from tests.preferences import make_preference_model

pytest.importorskip("bitsandbytes")
FOUR = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    """On CPUs bitsandbytes compiles what these few weights are read by: half a minute for nothing."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_preference_model(tmp_path_factory.mktemp("quantized") / "model")


@pytest.fixture(scope="module")
def packed(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a model whose weights lie there in four bits."""
    folder = tmp_path_factory.mktemp("packed") / "model"
    options = BitsAndBytesConfig(**FOUR, bnb_4bit_compute_dtype=torch.float32)
    AutoModelForCausalLM.from_pretrained(model, quantization_config=options).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return str(folder)


def theirs(model: str) -> Any:
    options = BitsAndBytesConfig(**FOUR)
    made = AutoModelForCausalLM.from_pretrained(model, quantization_config=options, dtype=torch.float32)
    settle(made)  # or a CPU packs the weights anew, for which they are too small
    return made


def test_trains_as_peft_beside_transformers_weights(model: str) -> None:
    module, data = with_adapter(causal, {**LORA, "init_lora_weights": False}, quantization=FOUR)(model)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    torch.manual_seed(5)
    net = module.build()
    total, count = module.loss(module.outputs(batch), batch)
    (total / count).backward()
    trained = {name for name, value in net.named_parameters() if value.grad is not None}
    assert trained
    assert all("lora_" in name for name in trained)

    other = get_peft_model(theirs(model), LoraConfig(r=4, lora_alpha=16, target_modules="all-linear"))
    adapter = {f"base_model.model.{name}": value for name, value in net.state_dict().items() if "lora_" in name}
    assert not other.load_state_dict(adapter, strict=False).unexpected_keys
    loss = other.train()(**batch, use_cache=False).loss
    loss.backward()
    torch.testing.assert_close(total / count, loss, rtol=1e-4, atol=1e-5)
    found = dict(net.named_parameters())
    for name, value in other.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(
                found[name.removeprefix("base_model.model.")].grad, value.grad, rtol=1e-3, atol=1e-6
            )


def test_checkpoints_hold_the_adapter_alone_and_its_folder_opens_beside_the_weights(model: str, tmp_path: Path) -> None:
    module, data = with_adapter(causal, LORA, quantization=FOUR)(model)
    path = fitted((module, data), tmp_path)
    saved = torch.load(path, weights_only=True)
    assert all("lora_" in name for name in saved["state_dict"])
    folder = export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "hf")])
    assert "quantization_config" not in json.loads((folder / "config" / "config.json").read_text())
    opened = PeftModel.from_pretrained(theirs(model), str(folder)).eval()
    ids = next(iter(data.train_dataloader()))["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(opened(input_ids=ids).logits, module.model.eval()(input_ids=ids).logits)
    with pytest.raises(UserError, match="export it without merging"):
        export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "merged"), "--merge"])


def test_a_run_goes_on_exactly(tiny: Callable[..., str], tmp_path: Path) -> None:
    task = with_adapter(classification, {**LORA, "lora_dropout": 0.1}, quantization=FOUR)
    check(task, tiny("bert"), tmp_path, {"max_epochs": 2}, max_train_samples=30)


def test_weights_that_lie_in_few_bits_are_as_with_the_option(model: str, packed: str, tmp_path: Path) -> None:
    net = with_adapter(causal, LORA)(packed)[0].build()
    other = with_adapter(causal, LORA, quantization=FOUR)(model)[0].build()
    name = "model.layers.0.mlp.up_proj.base_layer.weight"
    assert type(net.get_parameter(name)).__name__ == "Params4bit"
    assert torch.equal(net.get_parameter(name), other.get_parameter(name))
    assert {name for name, value in net.named_parameters() if value.requires_grad} == {
        name for name, value in other.named_parameters() if value.requires_grad
    }
    module, data = with_adapter(causal, LORA)(packed)
    path = fitted((module, data), tmp_path)
    assert all("lora_" in name for name in torch.load(path, weights_only=True)["state_dict"])
    folder = export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "hf")])
    config = AutoConfig.from_pretrained(folder, subfolder="config")  # as its card says
    opened = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(packed, config=config), str(folder))
    settle(opened.base_model.model, lie_so=True)
    ids = next(iter(data.train_dataloader()))["input_ids"]
    with torch.no_grad():
        expected = module.model.eval()(input_ids=ids).logits
        torch.testing.assert_close(opened.eval()(input_ids=ids).logits, expected)
        torch.testing.assert_close(module.reopened(folder).eval()(input_ids=ids).logits, expected)
        torch.testing.assert_close(load(path)[0].model(input_ids=ids).logits, expected)
    with pytest.raises(UserError, match="export it without merging"):
        export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "merged"), "--merge"])


def test_a_run_on_weights_that_lie_in_few_bits_goes_on_exactly(packed: str, tmp_path: Path) -> None:
    task = with_adapter(classification, {**LORA, "lora_dropout": 0.1})
    check(task, packed, tmp_path, {"max_epochs": 2}, max_train_samples=30)


def test_weights_that_lie_in_few_bits_are_not_trained_or_quantized_again(packed: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be trained in full: set peft.*or take the model in full precision"):
        fitted(causal(packed), tmp_path)
    assert causal(packed)[0].build().is_quantized  # to be evaluated
    module, _ = with_adapter(causal, LORA, quantization=FOUR)(packed)
    with pytest.raises(UserError, match="are quantized already: leave it out"):
        module.build()
    net = with_adapter(causal, LORA)(packed)[0].build()
    fresh = "model.layers.0.mlp.up_proj.base_layer"
    with pytest.raises(UserError, match=f"no weights for {fresh}.*full precision, and set quantization"):
        settle(net, [f"{fresh}.weight"], lie_so=True)


def test_a_configuration_that_says_few_bits_of_whole_weights_is_refused(model: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = BitsAndBytesConfig(**FOUR).to_dict()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"but model.layers.0.* is not: take it out of there, and set quantization"):
        with_adapter(causal, LORA)(str(folder))[0].build()


def test_heads_stay_as_they_are_and_other_fresh_weights_are_refused(tiny: Callable[..., str]) -> None:
    module, data = with_adapter(classification, LORA, quantization=FOUR)(tiny("bert"))
    data.setup("fit")
    module.description = data.description
    net = module.build()
    kinds = {name: type(part).__name__ for name, part in net.named_modules()}
    assert kinds["bert.pooler.dense.base_layer"] == "Linear4bit"
    assert kinds["classifier.original_module"] == "Linear"
    with pytest.raises(UserError, match=r"llm_int8_skip_modules: \['bert.pooler.dense.base_layer'\]"):
        settle(net, ["bert.pooler.dense.base_layer.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantization": {"load_in_4bits": True}, "peft": LORA}, "did you mean 'load_in_4bit'"),
        ({"quantization": {"bnb_4bit_quant_type": "nf4"}, "peft": LORA}, "set load_in_4bit: true"),
        ({"quantization": {**FOUR, "bnb_4bit_quant_type": 4}, "peft": LORA}, "bnb_4bit_quant_type must be"),
        ({"quantization": FOUR}, "set peft, such as"),
        ({"quantization": FOUR, "peft": LORA, "gguf_file": "a.gguf"}, "GGUF file are read as floats"),
    ],
)
def test_what_cannot_be_is_refused(model: str, options: dict[str, Any], message: str) -> None:
    module = CausalLMModule(model_name_or_path=model, **{**options, "gguf_file": None})
    module.source = type(module.source)(model, gguf_file=options.get("gguf_file"))
    with pytest.raises(UserError, match=message):
        module.quantized(AutoConfig.from_pretrained(model))
