"""Quirks that folders on the hub have: they cost nobody a run, and what is exported says the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizerFast,
    CanineConfig,
    CanineModel,
    pipeline,
)

from lit_ft import QuestionAnsweringDataModule, QuestionAnsweringModule, TextClassificationModule
from lit_ft.callbacks.export import export
from lit_ft.ops.building.models import resize_embeddings
from lit_ft.runs import read_checkpoint
from tests.modules.conftest import sample_rows
from tests.modules.test_text_classification import data_of
from tests.tiny import texts

Fit = Callable[..., Trainer]


def changed(folder: str, target: Path, **values: Any) -> str:
    """A copy of a folder with other values in its configuration."""
    copy = Path(shutil.copytree(folder, target))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **values}))
    return str(copy)


def test_labels_that_are_numbers(tiny: Callable[..., str], trainer: Fit, tmp_path: Path) -> None:
    whole = tmp_path / "head"
    AutoModelForSequenceClassification.from_pretrained(tiny(), num_labels=2).save_pretrained(whole)
    BertTokenizerFast.from_pretrained(tiny()).save_pretrained(whole)
    folder = changed(str(whole), tmp_path / "model", id2label={"0": 0, "1": 1}, label2id={"0": 0, "1": 1})
    rows = [{**row, "label": at % 2} for at, row in enumerate(sample_rows(12))]
    data, module = (
        data_of(folder, {"train": rows, "validation": rows}),
        TextClassificationModule(model_name_or_path=folder),
    )
    trainer(max_steps=1).fit(module, data)
    assert data.description["labels"] == ["0", "1"]


def test_a_model_without_embeddings_of_a_vocabulary_keeps_what_it_has() -> None:
    model = CanineModel(CanineConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
    assert resize_embeddings(model, 10**6) == []


def test_pairs_for_a_model_of_one_segment(tiny: Callable[..., str], trainer: Fit, tmp_path: Path) -> None:
    """As of klue/roberta: its tokenizer tells the texts of a pair apart, its model does not."""
    folder = changed(tiny(), tmp_path / "model", type_vocab_size=1)
    rows = [{**row, "other": "and so on"} for row in sample_rows(12)]
    data = data_of(folder, {"train": rows, "validation": rows}, text_pair_column_names="other")
    module = TextClassificationModule(model_name_or_path=folder, ignore_mismatched_sizes=True)
    trainer(max_steps=1).fit(module, data)
    assert "token_type_ids" in next(iter(data.train_dataloader()))


def test_a_model_built_by_other_data_learns_that_there_may_be_no_answer(tiny: Callable[..., str], trainer: Fit) -> None:
    asked = [
        {"id": str(at), "question": "what?", "context": text, "answers": {"text": [text[:4]], "answer_start": [0]}}
        for at, text in enumerate(texts()[:8])
    ]
    gaps = [{**row, "answers": {"text": [], "answer_start": []}} if at % 2 else row for at, row in enumerate(asked)]
    data = QuestionAnsweringDataModule(
        model_name_or_path=tiny(), dataset={"train": gaps, "validation": asked}, max_seq_length=60, doc_stride=10
    )
    module = QuestionAnsweringModule(model_name_or_path=tiny())
    trainer().validate(module, data, verbose=False)
    trainer(max_steps=1, limit_val_batches=0).fit(module, data)
    assert module.model is not None
    assert module.model.config.version_2_with_negative is True
    assert module.model.config.null_score_diff_threshold == pytest.approx(0.0)


@pytest.mark.parametrize("kept", ["first", "last"])
def test_the_exported_tokenizer_cuts_as_training_did(
    kept: str, tiny: Callable[..., str], trainer: Fit, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny(), tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.truncation_side, tokenizer.model_max_length = "left", 24
    tokenizer.save_pretrained(folder)
    rows = [{**row, "text": " ".join([row["text"]] * 6)} for row in sample_rows(12)]
    data = data_of(
        str(folder), {"train": rows, "validation": rows, "predict": rows}, predict_split_name="predict",
        max_seq_length=24, truncation_side=kept,
    )  # fmt: skip
    module, run = TextClassificationModule(model_name_or_path=str(folder)), trainer(max_steps=1)
    run.fit(module, data)
    ours = sorted(row["score"] for batch in run.predict(module, data) or [] for row in batch)
    run.save_checkpoint(tmp_path / "run.ckpt")
    export(module, read_checkpoint(tmp_path / "run.ckpt"), tmp_path / "hf", None)
    classify = pipeline("text-classification", str(tmp_path / "hf"))
    theirs = sorted(found["score"] for found in classify([row["text"] for row in rows], truncation=True))
    assert ours == pytest.approx(theirs, abs=1e-5)
