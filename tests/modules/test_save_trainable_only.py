"""Checkpoints without the frozen weights: smaller, and whole again wherever the pretrained model is the same."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import pipeline

from lit_ft import TextClassificationDataModule, TextClassificationModule, cli
from lit_ft.commands.export import export
from lit_ft.errors import UserError
from tests.tiny import SAMPLE

FROZEN = {"freeze": ["embeddings", r"layer\.0\."], "save_trainable_only": True}


def fitted(model: str, folder: Path, **options: Any) -> tuple[TextClassificationModule, Path]:
    data = TextClassificationDataModule(
        model_name_or_path=model, train_file=str(SAMPLE / "train.csv"), text_column_names="text", max_train_samples=24,
        validation_split_percentage=0, add_tokens=options.get("add_tokens"),
    )  # fmt: skip
    module = TextClassificationModule(model_name_or_path=model, learning_rate=1e-3, **options)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    trainer.save_checkpoint(folder / "saved.ckpt")
    return module, folder / "saved.ckpt"


def test_frozen_weights_stay_out_and_come_back(tiny: Callable[..., str], tmp_path: Path) -> None:
    module, path = fitted(tiny("bert"), tmp_path, **FROZEN)
    saved = torch.load(path, weights_only=True)["state_dict"]
    trainable = {name for name, value in module.named_parameters() if value.requires_grad}
    assert saved.keys() & dict(module.named_parameters()).keys() == trainable
    again = TextClassificationModule.load_from_checkpoint(path)
    for name, value in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_another_pretrained_model_is_refused(tiny: Callable[..., str], tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny("bert"), tmp_path / "source"))
    _, path = fitted(str(source), tmp_path, **FROZEN)
    shutil.rmtree(source)
    with pytest.raises(UserError, match=r"model_name_or_path .*source"):
        TextClassificationModule.load_from_checkpoint(path)
    moved = TextClassificationModule.load_from_checkpoint(path, model_name_or_path=tiny("bert"))
    assert moved.model is not None
    with torch.no_grad():
        moved.model.bert.embeddings.word_embeddings.weight[5, 0] += 1
    moved.model.save_pretrained(source)
    with pytest.raises(UserError, match=r"left \d+ frozen weights out, .*source' are others now"):
        TextClassificationModule.load_from_checkpoint(path)


def test_frozen_weights_that_lie_nowhere_are_saved(tiny: Callable[..., str], tmp_path: Path) -> None:
    module, path = fitted(tiny("bert"), tmp_path, add_tokens=["<order>"], freeze=["embeddings", "classifier"],
                          save_trainable_only=True)  # fmt: skip
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert "model.classifier.weight" in saved  # fresh
    assert "model.bert.embeddings.word_embeddings.weight" in saved  # one row more
    assert "model.bert.embeddings.position_embeddings.weight" not in saved
    again = TextClassificationModule.load_from_checkpoint(path)
    for name, value in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_model_from_scratch_is_saved_whole(tiny: Callable[..., str], tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    data = TextClassificationDataModule(
        tokenizer_name=tiny("bert"), train_file=str(SAMPLE / "train.csv"), text_column_names="text",
        max_train_samples=8, validation_split_percentage=0,
    )  # fmt: skip
    module = TextClassificationModule(model_type="bert", tokenizer_name=tiny("bert"), config_overrides=sizes, **FROZEN)
    trainer = Trainer(accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False,
                      enable_progress_bar=False)  # fmt: skip
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    assert torch.load(tmp_path / "saved.ckpt", weights_only=True)["state_dict"].keys() == module.state_dict().keys()


def test_the_command_goes_on_and_exports(
    tiny: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "fit", "--model=TextClassificationModule", "--data=TextClassificationDataModule",
        f"--model.model_name_or_path={tiny('bert')}", f"--data.train_file={SAMPLE / 'train.csv'}",
        f"--data.validation_file={SAMPLE / 'validation.csv'}", "--data.text_column_names=text",
        "--data.max_train_samples=24", "--data.max_eval_samples=12", f"--trainer.default_root_dir={tmp_path}",
        "--trainer.enable_progress_bar=false", '--model.freeze=["embeddings"]', "--model.save_trainable_only=true",
    ]  # fmt: skip
    cli.main([*words, "--trainer.max_epochs=1"])
    assert "save_trainable_only: checkpoints hold" in capsys.readouterr().out
    done = cli.main([*words, "--trainer.max_epochs=2", "--ckpt_path=last"])
    assert done.folder == tmp_path / "version_0"
    assert "fresh weights" not in capsys.readouterr().out
    best = done.folder / "checkpoints" / "best.ckpt"
    assert "model.bert.embeddings.word_embeddings.weight" not in torch.load(best, weights_only=True)["state_dict"]
    out = export(["--ckpt_path", str(best), "--out", str(tmp_path / "hf")])
    written, exported = (pipeline("text-classification", str(path)) for path in (done.folder / "hf", out))
    assert written("where is my parcel") == exported("where is my parcel")
