"""Models and tokenizers of a class of their own, whose code lies beside them: trained, gone on with, exported."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lit_ft import load_predictor
from lit_ft.commands.export import export as export_command
from lit_ft.errors import UserError
from lit_ft.ops.building.checkpoint_extras import load_config, load_tokenizer_files, pack
from lit_ft.ops.building.models import ModelSource
from lit_ft.resuming import saved_options
from tests.modules.test_adapters import LORA, fitted
from tests.modules.test_exact_resume import classification
from tests.tiny import make_tiny_model

CONFIGURATION = """from transformers import BertConfig

class MyConfig(BertConfig):
    model_type = "my_bert"
"""
MODEL = """from transformers import BertForSequenceClassification
from .my_configuration import MyConfig

class MyForSequenceClassification(BertForSequenceClassification):
    config_class = MyConfig
"""
WORDS = """from transformers import PreTrainedTokenizerFast

class MyWords(PreTrainedTokenizerFast):
    pass
"""


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A folder of a model and a tokenizer that transformers does not know."""
    folder = tmp_path / "own"
    make_tiny_model("bert", folder)
    for name, code in (("my_configuration", CONFIGURATION), ("my_model", MODEL), ("my_words", WORDS)):
        (folder / f"{name}.py").write_text(code)
    classes = {
        "AutoConfig": "my_configuration.MyConfig",
        "AutoModelForSequenceClassification": "my_model.MyForSequenceClassification",
    }
    changed(folder / "config.json", model_type="my_bert", architectures=["MyModel"], auto_map=classes)
    words = {"AutoTokenizer": [None, "my_words.MyWords"]}
    changed(folder / "tokenizer_config.json", tokenizer_class="MyWords", auto_map=words)
    return str(folder)


def trusting(model: str, **options: Any) -> tuple[Any, Any]:
    module, data = classification(model, trust_remote_code=True)
    return type(module)(model_name_or_path=model, trust_remote_code=True, **options), data


@pytest.mark.parametrize("peft", [None, LORA])
def test_checkpoint_and_exported_folder_open_again(own: str, tmp_path: Path, peft: dict[str, Any] | None) -> None:
    module, data = trusting(own, peft=peft)
    path = fitted((module, data), tmp_path)
    rows = ["where is my parcel", "thank you"]
    expected = [row["score"] for row in load_predictor(path, device="cpu", trust_remote_code=True)(rows)]
    for load in (load_predictor, type(module).load_from_checkpoint):  # whatever the file says of it
        with pytest.raises(UserError, match="trust_remote_code: true"):
            load(path)
    folder = export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "hf"), "--trust_remote_code"])
    again = load_predictor(folder, device="cpu", trust_remote_code=True)
    assert [row["score"] for row in again(rows)] == pytest.approx(expected)
    assert type(again.module.model).__name__ == "MyForSequenceClassification"
    assert type(again.module.model.config).__name__ == "MyConfig"
    assert type(again.module.tokenizer).__name__ == "MyWords"
    assert module.reopened(folder) is not None
    if peft is None:
        opened = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
        assert ".hf." in type(opened).__module__  # by the code in the folder itself
    assert type(AutoTokenizer.from_pretrained(folder, trust_remote_code=True)).__name__ == "MyWords"
    on, rows_again = trusting(own, peft=peft)
    trainer = Trainer(accelerator="cpu", max_steps=4, logger=False, enable_checkpointing=False, limit_val_batches=0)
    trainer.fit(on, rows_again, ckpt_path=path, weights_only=False)
    assert trainer.global_step == 4


def test_code_is_run_only_where_it_is_trusted(own: str, tiny: Callable[..., str]) -> None:
    trusted = ModelSource(own, trust_remote_code=True)
    module, _ = trusting(own)
    packed = pack({}, trusted.config(), module.tokenizer)
    assert type(load_config(packed["config"], trusted)).__name__ == "MyConfig"
    for source in (None, ModelSource(own)):
        with pytest.raises(UserError, match=r"'my_bert' is none of transformers'.*model.trust_remote_code: true"):
            load_config(packed["config"], source)
    with pytest.raises(UserError, match=r"model_type is 'my_bert', that of .* 'bert': set model_name_or_path"):
        load_config(packed["config"], ModelSource(tiny("bert"), trust_remote_code=True))
    with pytest.raises(UserError, match=r"tokenizer is of a class of its own.*model.trust_remote_code: true"):
        load_tokenizer_files(packed["tokenizer"])
    assert type(load_tokenizer_files(packed["tokenizer"], True)).__name__ == "MyWords"


def test_a_checkpoints_options_do_not_say_that_code_is_trusted() -> None:
    extras = {"hyper_parameters": {"learning_rate": 0.5, "trust_remote_code": True, "_class_path": "One"}}
    taken = saved_options(extras, Namespace(class_path="One"))
    assert taken == {"class_path": "One", "init_args": {"learning_rate": 0.5}}
