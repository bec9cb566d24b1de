"""Every YAML of instruction tuning through the real command, on rows of its own kind; replies by transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.configs.running import fit_test_predict, logged, read_config, read_lines, to_run
from tests.conversations import conversation, make_chat_model, write_rows

Rows = list[dict[str, Any]]


def messages(start: int, count: int) -> Rows:
    return [{"messages": conversation(number, 1 + number % 2)} for number in range(start, start + count)]


def sharegpt(start: int, count: int) -> Rows:
    names = {"user": "human", "assistant": "gpt"}
    return [
        {"conversations": [{"from": names[each["role"]], "value": each["content"]} for each in row["messages"]]}
        for row in messages(start, count)
    ]


def alpaca(start: int, count: int) -> Rows:
    pairs = [conversation(number) for number in range(start, start + count)]
    return [
        {"instruction": asked["content"], "input": "", "output": said["content"], "text": "the same once more"}
        for asked, said in pairs
    ]


CHATS: dict[str, Callable[[int, int], Rows]] = {
    "instruction_tuning/alpaca": alpaca,
    "instruction_tuning/files": messages,
    "instruction_tuning/lora_smollm2": messages,
    "instruction_tuning/messages": messages,
    "instruction_tuning/qlora_gpu": messages,
    "instruction_tuning/sharegpt": sharegpt,
}
"""Rows with the columns of each YAML's own data set."""


@pytest.mark.parametrize("name", to_run("instruction_tuning"))
def test_yaml_runs_from_chats_to_replies(name: str, tmp_path: Path) -> None:
    options, rows = read_config(name)["data"]["init_args"], CHATS[name]
    model = make_chat_model(tmp_path / "model")
    files = {
        split: write_rows(tmp_path / f"{split}.jsonl", rows(start, count))
        for split, start, count in (("train", 0, 24), ("validation", 40, 6), ("test", 50, 6), ("predict", 60, 3))
    }
    words = [
        f"--model.model_name_or_path={model}", "--model.gguf_file=null", "--data.max_seq_length=150",
        "--model.quantization=null", "--model.dtype=float32", "--trainer.accumulate_grad_batches=1",
        *(f"--data.{split}_file={path}" for split, path in files.items()), "--data.batch_size=4",
        "--data.dataset_name=null", "--data.validation_split_name=null", "--export.merge_adapter=true",
        "--trainer.precision=32-true", "--trainer.max_epochs=1", "--trainer.accelerator=cpu",
    ]  # fmt: skip
    run, _ = fit_test_predict(name, words, tmp_path / "runs", ["--model.generation={max_new_tokens: 6}"])
    assert {"val_accuracy", "val_perplexity", "test_accuracy"} <= set(logged(run))

    tokenizer = AutoTokenizer.from_pretrained(run / "hf")
    theirs = AutoModelForCausalLM.from_pretrained(run / "hf").eval()
    (predictions,) = (run / "predictions").glob("*.jsonl")
    predicted = read_lines(predictions)
    assert len(predicted) == 3
    for number, row in enumerate(predicted):
        asked = conversation(60 + number, 1 if rows is alpaca else 1 + (60 + number) % 2)[:-1]
        inputs = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        inputs.pop("token_type_ids", None)
        made = theirs.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert row["reply"] == tokenizer.decode(made, skip_special_tokens=True)
    if "chat_template" in options:
        assert tokenizer.chat_template
