"""FSDP2 on two processes through the real command: the training of one process with twice the batch, and its model."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, pipeline

from lit_ft import cli
from lit_ft.commands.export import export
from tests.conversations import write_rows
from tests.pairs import make_seq2seq, pair_rows
from tests.preferences import judged_rows, make_preference_model
from tests.preferences import pair_rows as reply_rows
from tests.processes import Command
from tests.tiny import SAMPLE

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
         "--trainer.log_every_n_steps=1"]  # fmt: skip
NO_DROPOUT = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
}


def classification(model: str, *more: str) -> list[str]:
    """46 rows, which do not divide by the batches, and 11 to validate on, which do not divide by the processes."""
    return [
        "fit", "--model=TextClassificationModule", "--data=TextClassificationDataModule",
        f"--model.model_name_or_path={model}", "--model.learning_rate=0.001", "--model.adam_epsilon=0.001",
        f"--model.config_overrides={json.dumps(NO_DROPOUT['bert'])}",
        f"--data.train_file={SAMPLE / 'train.csv'}", f"--data.validation_file={SAMPLE / 'validation.csv'}",
        "--data.text_column_names=text", "--data.max_train_samples=46", "--data.max_eval_samples=11",
        "--trainer.max_epochs=2", *QUIET, *more,
    ]  # fmt: skip


def causal(model: str, *more: str) -> list[str]:
    """Tied embeddings, recomputed activations, several documents in a block."""
    return [
        "fit", "--model=CausalLMModule", "--data=CausalLMDataModule", f"--model.model_name_or_path={model}",
        "--model.learning_rate=0.001", "--model.adam_epsilon=0.001", "--model.gradient_checkpointing=true",
        f"--model.config_overrides={json.dumps(NO_DROPOUT['gpt2'])}",
        f"--data.train_file={SAMPLE / 'tales_validation.txt'}",
        f"--data.validation_file={SAMPLE / 'tales_validation.txt'}",
        "--data.block_size=64", "--data.max_eval_samples=5", "--trainer.max_steps=6", *QUIET, *more,
    ]  # fmt: skip


def two(words: list[str], root: Path, sharded: bool, *more: str) -> str:
    strategy = {
        "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
        "init_args": {"data_parallel_size": 2, "tensor_parallel_size": 1, "save_distributed_checkpoint": sharded},
    }
    strategies = [f"--trainer.strategy={json.dumps(strategy)}", "--trainer.devices=2"]
    return Command(*words, *strategies, f"--trainer.default_root_dir={root}", *more).succeed()


def scores(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [{name: value for name, value in row.items() if name.startswith("val_")} for row in rows]


@pytest.mark.parametrize(
    ("words", "kind", "auto"),
    [
        pytest.param(classification, "bert", AutoModelForSequenceClassification, id="classification"),
        pytest.param(causal, "gpt2", AutoModelForCausalLM, id="causal_lm", marks=pytest.mark.soak),
    ],
)
def test_two_shards_equal_one_process(
    tiny: Callable[..., str], tmp_path: Path, words: Any, kind: str, auto: Any
) -> None:
    one = cli.main([*words(tiny(kind)), f"--trainer.default_root_dir={tmp_path / 'one'}", "--data.batch_size=8"])
    said = two(words(tiny(kind), "--data.batch_size=4"), tmp_path / "two", False)
    assert "weights shared out over 2 processes" in said
    run = tmp_path / "two" / "version_0"
    assert one.folder is not None
    expected, found = scores(one.folder), scores(run)
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-5)
    first, second = (auto.from_pretrained(folder / "hf").state_dict() for folder in (one.folder, run))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=2e-5, rtol=0)


@pytest.mark.soak
def test_a_folder_of_shards_goes_on_and_becomes_one_model(tiny: Callable[..., str], tmp_path: Path) -> None:
    words = classification(tiny("bert"), "--data.batch_size=4", "--model.lr_scheduler_type=constant")
    two(words, tmp_path / "whole", True)
    two(words, tmp_path / "parts", True, "--trainer.max_epochs=1")
    two(words, tmp_path / "parts", True, "--ckpt_path=last")
    models = []
    for name in ("whole", "parts"):
        folder = tmp_path / name / "version_0" / "checkpoints" / "last.ckpt"
        assert folder.is_dir()
        models.append(export(["--ckpt_path", str(folder), "--out", str(tmp_path / f"{name}_hf")]))
    whole, parts = (AutoModelForSequenceClassification.from_pretrained(model).state_dict() for model in models)
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert pipeline("text-classification", str(models[0]))("where is my parcel")[0]["label"]


def translating(model: str, folder: Path, *more: str) -> list[str]:
    """Texts of 11 rows, which do not divide by the processes, generated and scored after each epoch."""
    words = ["--model=TranslationModule", "--data=TranslationDataModule", f"--model.model_name_or_path={model}"]
    for name, rows in {"train": pair_rows(24), "validation": pair_rows(11, 30)}.items():
        files = {side: folder / f"{name}.{side}" for side in ("en", "de")}
        for path, column in zip(files.values(), ("source", "target"), strict=True):
            path.write_text("".join(row[column] + "\n" for row in rows), encoding="utf-8")
        words.append(f"--data.{name}_file={json.dumps([str(path) for path in files.values()])}")
    return [
        *words, "--data.source_lang=en", "--data.target_lang=de", "--data.max_target_length=24",
        "--model.learning_rate=0.01", "--model.adam_epsilon=0.001", "--model.max_generate_samples=9",
        "--model.generation={num_beams: 2}", "--model.metrics=[exact_match, generated_length]",
        "--trainer.max_epochs=2", *QUIET, *more,
    ]  # fmt: skip


@pytest.mark.soak
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_two_shards_generate_as_one_process(tmp_path: Path, family: str) -> None:
    words = translating(make_seq2seq(family, tmp_path / family), tmp_path)
    one = cli.main(["fit", *words, f"--trainer.default_root_dir={tmp_path / 'one'}", "--data.batch_size=8"])
    two(["fit", *words, "--data.batch_size=4", "--model.padding_free=on"], tmp_path / "two", False)
    assert one.folder is not None
    run = tmp_path / "two" / "version_0"
    expected, found = scores(one.folder), scores(run)
    assert len(expected) > 1
    assert "val_generated_length" in expected[-1]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)

    words += [f"--data.predict_file={tmp_path / 'validation.en'}", "--ckpt_path=last"]
    cli.main(["predict", *words, f"--trainer.default_root_dir={tmp_path / 'one'}", "--data.batch_size=8"])
    two(["predict", *words, "--data.batch_size=4"], tmp_path / "two", False)
    rows = [
        [json.loads(line) for line in (each / "predictions" / "validation.jsonl").read_text().splitlines()]
        for each in (one.folder, run)
    ]
    assert [row["prediction"] for row in rows[1]] == [row["prediction"] for row in rows[0]]
    assert [row["score"] for row in rows[1]] == pytest.approx([row["score"] for row in rows[0]], abs=1e-3)
    assert len(rows[0]) == 11


LORA = json.dumps({"peft_type": "LORA", "r": 4, "target_modules": "all-linear"})


@pytest.mark.soak
def test_two_shards_train_an_adapter_as_one_process(tiny: Callable[..., str], tmp_path: Path) -> None:
    words = causal(tiny("gpt2"), f"--model.peft={LORA}", "--seed_everything=7")
    one = cli.main([*words, f"--trainer.default_root_dir={tmp_path / 'one'}", "--data.batch_size=8"])
    two([*words, "--data.batch_size=4"], tmp_path / "two", False)
    assert one.folder is not None
    run = tmp_path / "two" / "version_0"
    expected, found = scores(one.folder), scores(run)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-5)
    first, second = (load_file(folder / "hf" / "adapter_model.safetensors") for folder in (one.folder, run))
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=2e-5, rtol=0)


def preferring(model: str, folder: Path, loss_type: str, *more: str) -> list[str]:
    """19 pairs, or judged replies, which do not divide by the processes."""
    rows = judged_rows(19) if loss_type == "kto" else reply_rows(19)
    path = write_rows(folder / "pairs.jsonl", rows)
    return [
        "fit", "--model=PreferenceModule", "--data=PreferenceDataModule", f"--model.model_name_or_path={model}",
        f"--model.loss_type={loss_type}", "--model.learning_rate=0.001", "--model.adam_epsilon=0.001",
        f"--data.train_file={path}", f"--data.validation_file={path}", "--data.max_seq_length=400",
        "--trainer.max_epochs=2", *QUIET, *more,
    ]  # fmt: skip


@pytest.mark.soak
@pytest.mark.parametrize("options", [[], ["--model.precompute_ref_log_probs=false"]], ids=["precomputed", "second"])
def test_two_shards_prefer_as_one_process(tmp_path: Path, options: list[str]) -> None:
    words = preferring(make_preference_model(tmp_path / "model"), tmp_path, "sigmoid", *options)
    one = cli.main([*words, f"--trainer.default_root_dir={tmp_path / 'one'}", "--data.batch_size=8"])
    two([*words, "--data.batch_size=4"], tmp_path / "two", False)
    assert one.folder is not None
    expected, found = scores(one.folder), scores(tmp_path / "two" / "version_0")
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-4)


@pytest.mark.soak
@pytest.mark.parametrize("loss_type", ["sigmoid", "kto"])
def test_two_processes_prefer_as_one(tmp_path: Path, loss_type: str) -> None:
    words = preferring(make_preference_model(tmp_path / "model"), tmp_path, loss_type)
    one = cli.main([*words, f"--trainer.default_root_dir={tmp_path / 'one'}", "--data.batch_size=8"])
    spread = ["--trainer.strategy=ddp", "--trainer.devices=2", "--data.batch_size=4"]
    Command(*words, *spread, f"--trainer.default_root_dir={tmp_path / 'two'}").succeed()
    assert one.folder is not None
    expected, found = scores(one.folder), scores(tmp_path / "two" / "version_0")
    # KTO's divergence is that of each process's batch
    most = 2e-2 if loss_type == "kto" else 2e-4
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=most)
