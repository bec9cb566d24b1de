"""InstructionTuningModule: transformers' own loss, packed or not; replies that end; the export in a pipeline."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, pipeline

from lit_ft import InstructionTuningDataModule, InstructionTuningModule, cli
from tests.conversations import chat_rows, conversation, make_chat_model, write_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_chat_model(tmp_path_factory.mktemp("chat"))


@pytest.mark.parametrize("packing", ["none", "best_fit"])
def test_the_loss_is_transformers(model: str, tmp_path: Path, packing: Any) -> None:
    data = InstructionTuningDataModule(
        model_name_or_path=model, train_file=write_rows(tmp_path / "rows.jsonl", chat_rows(12)), batch_size=4,
        validation_split_percentage=0, packing=packing, max_seq_length=150,
    )  # fmt: skip
    data.prepare_data()
    data.setup("fit")
    module = InstructionTuningModule(model_name_or_path=model)
    module.description = data.description
    module.build()
    other = AutoModelForCausalLM.from_pretrained(model)
    other.resize_token_embeddings(len(data.tokenizer))
    assert module.model is not None
    other.load_state_dict(module.model.state_dict())
    for batch in data.train_dataloader():
        total, count = module.loss(module.outputs(batch), batch)
        given = {name: value for name, value in batch.items() if name in ("input_ids", "attention_mask", "labels")}
        if packing == "best_fit":
            given["position_ids"] = batch["position_ids"]
        expected = other(**given, use_cache=False).loss  # with a cache they keep nothing apart
        torch.testing.assert_close(total / count, expected, rtol=1e-4, atol=1e-5)


def test_from_yaml_to_replies(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write_rows(tmp_path / "train.jsonl", chat_rows(40))
    held_out = write_rows(tmp_path / "held_out.jsonl", chat_rows(8, 50))
    words = [
        "--model=InstructionTuningModule", "--data=InstructionTuningDataModule", f"--model.model_name_or_path={model}",
        f"--data.train_file={train}", f"--data.validation_file={held_out}", "--data.batch_size=8",
        "--model.learning_rate=0.003", "--trainer.max_epochs=2", f"--trainer.default_root_dir={tmp_path / 'runs'}",
        "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--data.packing=best_fit",
        "--data.max_seq_length=150", "--model.generation={max_new_tokens: 6}",
        "--model.sample_prompts=[where is my order]",
    ]  # fmt: skip
    cli.main(["fit", *words])
    run = tmp_path / "runs" / "version_0"
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert {each["prompt"] for each in samples} == {"where is my order"}
    write_rows(tmp_path / "ask.jsonl", [{"messages": conversation(60)[:1]}, {"messages": conversation(61, 2)}])
    cli.main([
        "predict", f"--ckpt_path={run}", f"--data.predict_file={tmp_path / 'ask.jsonl'}",
        f"--trainer.default_root_dir={tmp_path / 'runs'}", "--trainer.accelerator=cpu",
    ])  # fmt: skip
    (path,) = (run / "predictions").glob("*.jsonl")
    predicted = [json.loads(line) for line in path.read_text().splitlines()]
    assert [set(row) >= {"messages", "reply"} for row in predicted] == [True, True]
    config = json.loads((run / "hf" / "generation_config.json").read_text())
    reply = pipeline("text-generation", str(run / "hf"))
    end = reply.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in (config["eos_token_id"] if isinstance(config["eos_token_id"], list) else [config["eos_token_id"]])
    theirs = reply(conversation(60)[:1], max_new_tokens=6, do_sample=False)[0]["generated_text"][-1]["content"]
    assert theirs.strip() == predicted[0]["reply"].strip()
