"""Models from folders and from scratch, their dtype, embeddings and freezing, and a checkpoint's extras."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from lit_ft.data.labels import ProblemType
from lit_ft.data.tokenizing.training import train_tokenizer
from lit_ft.errors import UserError
from lit_ft.modules import TextClassificationModule
from lit_ft.ops.building.checkpoint_extras import load_config, load_tokenizer_files, pack, read_extras
from lit_ft.ops.building.models import (
    SEQUENCE_HEAD,
    ModelSource,
    fit_to_tokenizer,
    freeze,
    pretrained_labels,
    resize_embeddings,
    weights_dtype,
)
from lit_ft.ops.building.positions import longest_input
from tests.modules.conftest import NO_DROPOUT
from tests.tiny import texts

TEXTS = ["Is it waterproof?", "  The LAMP arrived — broken, again!  ", "", "Larkspur #15340 ünïcödé"]


@pytest.fixture(scope="session")
def halved(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("halved")
    AutoModel.from_pretrained(tiny(), dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny()).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    return str(folder)


@pytest.mark.parametrize(
    ("dtype", "precision", "expected"),
    [
        (None, "32-true", torch.float32),
        (None, "bf16-mixed", torch.float32),
        (None, "bf16-true", torch.bfloat16),
        (None, "16-true", torch.float16),
        ("float32", "bf16-true", torch.float32),
        ("bfloat16", "32-true", torch.bfloat16),
        ("auto", "32-true", torch.bfloat16),
    ],
)
def test_dtype_of_a_folder_in_bfloat16(halved: str, dtype: Any, precision: str, expected: torch.dtype) -> None:
    source = ModelSource(halved)
    built = source.build(
        AutoModelForSequenceClassification, source.config(), False, dtype=weights_dtype(dtype, precision)
    )
    model = built[0] if isinstance(built, tuple) else built
    assert {parameter.dtype for parameter in model.parameters()} == {expected}


def test_the_modules_default_is_float32(halved: str) -> None:
    labels = ["a", "b"]
    plain = TextClassificationModule(model_name_or_path=halved, label_names=labels).build()
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}
    asked = TextClassificationModule(model_name_or_path=halved, label_names=labels, dtype="auto").build()
    assert {parameter.dtype for parameter in asked.parameters()} == {torch.bfloat16}


def test_from_scratch() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    source = ModelSource(model_type="bert", config_overrides={**sizes, "vocab_size": 50})
    module = TextClassificationModule(
        model_type="bert", config_overrides={**sizes, "vocab_size": 50}, label_names=["a", "b", "c"]
    )
    assert source.config().hidden_size == 16
    model = module.build()
    assert model.config.num_labels == 3
    assert model.get_input_embeddings().weight.shape == (50, 16)
    assert model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "brt"}, "did you mean 'b"),
        ({"model_type": "modernbrt"}, "did you mean 'modernbert'"),
        ({}, "set model_name_or_path, or model_type"),
        ({"model_type": "bert", "config_overrides": {"hidden_sise": 3}}, "did you mean 'hidden_size'"),
        ({"model_type": "bert", "config_overrides": {"hidden_size": "wide"}}, "hidden_size.*int"),
    ],
)
def test_bad_sources_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ModelSource(**options).config()


def test_folders_that_are_no_model_are_refused(tiny: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model that can be loaded"):
        ModelSource(str(tmp_path)).config()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no model that can be loaded"):
        ModelSource(str(tmp_path)).config()
    AutoConfig.from_pretrained(tiny()).save_pretrained(tmp_path)
    source = ModelSource(str(tmp_path))
    with pytest.raises(UserError, match=str(tmp_path)):
        source.build(AutoModel, source.config(), False)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=str(tmp_path)):
        source.build(AutoModel, source.config(), False)


def test_weights_of_other_shapes_are_refused(tiny: Callable[..., str]) -> None:
    source = ModelSource(tiny(), config_overrides={"intermediate_size": 38})
    with pytest.raises(UserError, match="other shapes"):
        source.build(AutoModel, source.config(), False)


def test_labels_of_a_pretrained_head(tiny: Callable[..., str], tmp_path: Path) -> None:
    assert pretrained_labels(AutoConfig.from_pretrained(tiny()), SEQUENCE_HEAD) is None
    model = AutoModelForSequenceClassification.from_pretrained(tiny(), id2label={0: "no", 1: "yes"})
    model.save_pretrained(tmp_path)
    assert pretrained_labels(AutoConfig.from_pretrained(tmp_path), SEQUENCE_HEAD) == ["no", "yes"]


def test_longest_input(tiny: Callable[..., str]) -> None:
    tokenizer, config = AutoTokenizer.from_pretrained(tiny()), AutoConfig.from_pretrained(tiny())
    assert longest_input(config, tokenizer) == 160
    tokenizer.model_max_length = 100
    assert longest_input(config, tokenizer) == 100
    tokenizer.model_max_length = int(1e30)
    assert longest_input(AutoConfig.for_model("t5"), tokenizer) is None


def test_embeddings_never_shrink(tiny: Callable[..., str]) -> None:
    model = AutoModel.from_pretrained(tiny())
    old = model.get_input_embeddings().weight.detach().clone()
    resize_embeddings(model, len(old) - 50)
    assert torch.equal(model.get_input_embeddings().weight, old)
    resize_embeddings(model, len(old) + 3)
    assert len(model.get_input_embeddings().weight) == len(old) + 3 == model.config.vocab_size
    assert torch.equal(model.get_input_embeddings().weight[: len(old)], old)


def test_freezing(tiny: Callable[..., str]) -> None:
    model = AutoModel.from_pretrained(tiny())
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    wanted = {name for name in sizes if "embeddings" in name or "layer.0." in name}
    # the second pattern overlaps the first: nothing is counted twice
    frozen = freeze(model, ["embeddings", r"embeddings|layer\.0\."])
    assert frozen == sum(sizes[name] for name in wanted)
    assert {name for name, parameter in model.named_parameters() if not parameter.requires_grad} == wanted
    with pytest.raises(UserError, match="matches no parameter"):
        freeze(model, ["encoder.layers"])


@pytest.mark.parametrize("kind", ["bert", "gpt2", "roberta"])
def test_extras_bring_back_tokenizer_and_configuration(tiny: Callable[..., str], tmp_path: Path, kind: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny(kind))
    tokenizer.add_tokens(["larkspur"])
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    config = AutoConfig.from_pretrained(tiny(kind))
    config.id2label, config.classification_threshold = {0: "nö", 1: "yes"}, 0.37
    config.label2id = {"nö": 0, "yes": 1}
    description = {"labels": ["nö", "yes"], "problem_type": "multi_label"}
    torch.save({"lit_ft": pack(description, config, tokenizer), "hyper_parameters": {"freeze": None}}, tmp_path / "a")
    extras = read_extras(tmp_path / "a")
    assert json.loads(extras["description"]) == description
    again = load_config(extras["config"])
    assert type(again) is type(config)
    assert again.to_dict() == config.to_dict()
    assert again.id2label == {0: "nö", 1: "yes"}
    assert again.classification_threshold == 0.37
    loaded = load_tokenizer_files(extras["tokenizer"])
    assert loaded is not None
    assert loaded(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    assert loaded(TEXTS[0], TEXTS[1]).data == tokenizer(TEXTS[0], TEXTS[1]).data
    assert loaded.pad(loaded(TEXTS)).data == tokenizer.pad(tokenizer(TEXTS)).data
    assert (loaded.pad_token, loaded.model_max_length) == (tokenizer.pad_token, tokenizer.model_max_length)


def test_a_tokenizers_binary_files_come_back(tmp_path: Path, tiny: Callable[..., str]) -> None:
    class WithModel:
        def save_pretrained(self, folder: str) -> None:
            AutoTokenizer.from_pretrained(tiny()).save_pretrained(folder)
            (Path(folder) / "spiece.model").write_bytes(bytes(range(256)))

    files = pack({}, AutoConfig.from_pretrained(tiny()), WithModel())["tokenizer"]  # type: ignore[arg-type]
    assert files["spiece.model"].startswith("base64:")
    assert load_tokenizer_files(files)(TEXTS)["input_ids"] == AutoTokenizer.from_pretrained(tiny())(TEXTS)["input_ids"]  # type: ignore[misc]
    assert load_tokenizer_files({}) is None


def test_files_that_are_no_checkpoint_of_ours_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("nothing")
    with pytest.raises(UserError, match="read safely"):
        read_extras(tmp_path / "text.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="not a checkpoint of lit_ft"):
        read_extras(tmp_path / "other.ckpt")


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
def test_the_head_is_configured_as_transformers_expects(tiny: Callable[..., str], kind: ProblemType) -> None:
    model = TextClassificationModule(
        model_name_or_path=tiny(), label_names=["a", "b"], problem_type=kind, config_overrides=NO_DROPOUT
    ).build()
    again = AutoModelForSequenceClassification.from_config(model.config)
    ids = torch.tensor([[2, 7, 3]])
    labels = torch.tensor([1]) if kind == "single_label" else torch.tensor([[0.0, 1.0]])
    loss, logits = again(ids, labels=labels)[:2]
    expected = {
        "single_label": torch.nn.functional.cross_entropy,
        "multi_label": torch.nn.functional.binary_cross_entropy_with_logits,
        "regression": torch.nn.functional.mse_loss,
    }[kind](logits, labels)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "modernbert", "roberta", "xlm"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_model_from_scratch_fits_its_tokenizer(kind: str, masked: bool) -> None:
    tokenizer = train_tokenizer([texts()], {"vocab_size": 500}, masked)
    tokenizer.add_tokens(["larkspur"])
    config = AutoConfig.for_model(kind)
    fit_to_tokenizer(config, tokenizer)
    assert config.vocab_size == 501
    names = [name for name in ("bos", "eos", "pad") if hasattr(config, f"{name}_token_id")]
    assert names
    for name in names:
        assert getattr(config, f"{name}_token_id") == getattr(tokenizer, f"{name}_token_id")
    ids = {name: value for name, value in vars(config).items() if re.fullmatch(r"[a-z]+_token_id", name)}
    assert all(value is None or 0 <= value < 501 for value in ids.values()), ids


def test_padding_that_ends_texts_too_is_trained() -> None:
    tokenizer = train_tokenizer([texts()], {"vocab_size": 300}, masked=False)
    tokenizer.pad_token = tokenizer.eos_token
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = ModelSource(model_type="llama", config_overrides=sizes).config()
    fit_to_tokenizer(config, tokenizer, sizes)
    assert config.pad_token_id is None
    model: Any = AutoModel.from_config(config)
    embeddings = model.get_input_embeddings()
    embeddings(torch.tensor([tokenizer.eos_token_id])).sum().backward()
    assert embeddings.weight.grad[tokenizer.eos_token_id].abs().sum() > 0
    roberta = AutoConfig.for_model("roberta")  # its positions begin after padding
    fit_to_tokenizer(roberta, tokenizer)
    assert roberta.pad_token_id == tokenizer.eos_token_id


def test_what_the_user_chose_stays() -> None:
    tokenizer = train_tokenizer([texts()], {"vocab_size": 300}, masked=False)
    for kind, name in (("gpt2", "vocab_size"), ("xlm", "n_words"), ("xlm", "vocab_size")):
        for size in (299, 320):
            chosen = {name: size, "eos_token_id": 7}
            config = ModelSource(model_type=kind, config_overrides=chosen).config()
            if size < 300:
                with pytest.raises(UserError, match="vocab_size 299 is below the tokenizer's 300 tokens"):
                    fit_to_tokenizer(config, tokenizer, chosen)
            else:
                fit_to_tokenizer(config, tokenizer, chosen)
                assert (config.vocab_size, config.eos_token_id) == (320, 7)
                assert config.bos_token_id == tokenizer.bos_token_id
