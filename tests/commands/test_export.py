"""`lit-ft export`: checkpoints of every kind become folders that transformers opens, with nothing else at hand."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, pipeline

from lit_ft import cli
from lit_ft.commands.export import export
from lit_ft.errors import UserError
from tests.tiny import SAMPLE


def fit(model: str, root: Path, *more: str) -> Path:
    options = [
        "--model=TextClassificationModule", "--data=TextClassificationDataModule",
        f"--model.model_name_or_path={model}", f"--data.train_file={SAMPLE / 'train.csv'}",
        f"--data.validation_file={SAMPLE / 'validation.csv'}", "--data.text_column_names=text",
        "--data.max_train_samples=24", "--data.max_eval_samples=12", "--trainer.max_epochs=1",
        f"--trainer.default_root_dir={root}", "--trainer.enable_progress_bar=false", *more,
    ]  # fmt: skip
    folder = cli.main(["fit", *options]).folder
    assert folder is not None
    return folder


def test_a_checkpoint_alone_becomes_the_folder_that_fit_wrote(tiny: Callable[..., str], tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny("bert"), tmp_path / "source"))
    run = fit(str(source), tmp_path / "runs")
    shutil.rmtree(source)
    alone = Path(shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt"))
    folder = export(["--ckpt_path", str(alone), "--out", str(tmp_path / "out" / "hf")])
    theirs, ours = (pipeline("text-classification", str(path), top_k=None) for path in (run / "hf", folder))
    for text in ("my parcel is late", "the refund has not come"):
        assert ours(text) == theirs(text)
    assert {path.name for path in folder.iterdir()} == {path.name for path in (run / "hf").iterdir()}
    with pytest.raises(UserError, match=r"hf is there already: another --out, or --overwrite"):
        export(["--ckpt_path", str(alone), "--out", str(folder)])
    again = export(["--ckpt_path", "best", "--default_root_dir", str(tmp_path / "runs"), "--out", str(folder),
                    "--overwrite"])  # fmt: skip
    assert again == folder


def test_a_language_model(tiny: Callable[..., str], tmp_path: Path) -> None:
    done = cli.main([
        "fit", "--model=CausalLMModule", "--data=CausalLMDataModule", f"--model.model_name_or_path={tiny('gpt2')}",
        f"--data.train_file={SAMPLE / 'tales_validation.txt'}", "--data.block_size=64",
        "--data.validation_split_percentage=0", "--trainer.max_steps=2",
        f"--trainer.default_root_dir={tmp_path}", "--trainer.enable_progress_bar=false", "--export.enabled=false",
    ])  # fmt: skip
    assert done.folder is not None
    folder = export(["--ckpt_path", str(done.folder / "checkpoints" / "last.ckpt"), "--out", str(tmp_path / "lm")])
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    for name, value in model.state_dict().items():
        assert torch.equal(value, done.model.model.state_dict()[name]), name
    assert pipeline("text-generation", str(folder))("One day,", max_new_tokens=3)[0]["generated_text"]


def test_classes_of_others_are_not_imported_unasked(tiny: Callable[..., str], tmp_path: Path) -> None:
    run = fit(tiny("bert"), tmp_path / "runs", "--export.enabled=false")
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["lit_ft"]["class_path"] = "somebody.Module"
    torch.save(checkpoint, path)
    out = ["--out", str(tmp_path / "hf")]
    with pytest.raises(UserError, match=r"last.ckpt is of somebody.Module, which is not lit_ft's: if you trust it"):
        export(["--ckpt_path", str(path), *out])
    with pytest.raises(UserError, match=r"class_path somebody.Module: No module named 'somebody'"):
        export(["--ckpt_path", str(path), "--class_path", "somebody.Module", *out])
    with pytest.raises(UserError, match=r"class_path json.JSONDecoder: it is no TransformerModule of lit_ft"):
        export(["--ckpt_path", str(path), "--class_path", "json.JSONDecoder", *out])
    export(["--ckpt_path", str(path), "--class_path", "lit_ft.TextClassificationModule", *out])
    torch.save({"state_dict": {}}, tmp_path / "theirs.ckpt")
    with pytest.raises(UserError, match=r"theirs.ckpt: not a checkpoint of lit_ft"):
        export(["--ckpt_path", str(tmp_path / "theirs.ckpt"), "--out", str(tmp_path / "other")])
