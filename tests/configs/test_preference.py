"""Every YAML of preferences through the real command; what is predicted, by transformers on the exported folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tests.configs.running import fit_test_predict, logged, read_config, read_lines, to_run
from tests.conversations import write_rows
from tests.preferences import judged_rows, make_preference_model, pair_rows

Rows = list[dict[str, Any]]


def whole(count: int, start: int) -> Rows:
    """As UltraFeedback has them: the prompt as a text, and once more in the conversations."""
    return [
        {"prompt": "the same", **{side: row["prompt"] + row[side] for side in ("chosen", "rejected")}, "score": 7.5}
        for row in pair_rows(count, start)
    ]


PREFERENCES: dict[str, Callable[[int, int], Rows]] = {
    "preference/files": pair_rows,
    "preference/kto": judged_rows,
    "preference/lora_smollm2": pair_rows,
    "preference/reward": whole,
    "preference/ultrafeedback": whole,
}
"""Rows with the columns of each YAML's own data set."""


@pytest.mark.parametrize("name", to_run("preference"))
def test_yaml_runs_from_preferences_to_rewards(name: str, tmp_path: Path) -> None:
    options, rows = read_config(name), PREFERENCES[name]
    model = make_preference_model(tmp_path / "model")
    files = {
        split: write_rows(tmp_path / f"{split}.jsonl", rows(count, start))
        for split, start, count in (("train", 0, 16), ("validation", 40, 6), ("test", 50, 6), ("predict", 60, 3))
    }
    words = [
        f"--model.model_name_or_path={model}", "--data.max_seq_length=400", "--data.batch_size=4",
        *(f"--data.{split}_file={path}" for split, path in files.items()), "--trainer.accumulate_grad_batches=1",
        "--data.dataset_name=null", "--data.validation_split_name=null", "--export.merge_adapter=true",
        "--trainer.precision=32-true", "--trainer.max_epochs=1", "--trainer.accelerator=cpu",
    ]  # fmt: skip
    if "gguf_file" in options["model"]["init_args"]:
        words.append("--model.gguf_file=null")
    run, _ = fit_test_predict(name, words, tmp_path / "runs")
    metrics = {"val_reward_margin", "test_reward_margin", "train_reward_margin"}
    assert metrics <= set(logged(run))

    (predictions,) = (run / "predictions").glob("*.jsonl")
    predicted = read_lines(predictions)
    assert len(predicted) == 3
    tokenizer = AutoTokenizer.from_pretrained(run / "hf")
    reward = options["model"]["class_path"] == "RewardModule"
    theirs = (AutoModelForSequenceClassification if reward else AutoModelForCausalLM).from_pretrained(run / "hf").eval()
    for row, told in zip(rows(3, 60), predicted, strict=True):
        for side in ("chosen", "rejected") if "chosen" in row else ("completion",):
            asked = row["prompt"] if isinstance(row["prompt"], list) else []
            name_of = "" if side == "completion" else f"{side}_"
            expected = scored(theirs, tokenizer, [*asked, *row[side]], reward)
            found = told[f"{name_of}reward" if reward else f"{name_of}log_prob"]
            assert found == pytest.approx(expected, abs=2e-3)


@torch.no_grad()
def scored(model: Any, tokenizer: Any, messages: Rows, reward: bool) -> float:
    """The reward of a conversation, or the log-probability of its last reply."""
    ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)["input_ids"]
    if reward:
        return float(model(input_ids=ids).logits[0, 0])
    begin = tokenizer.apply_chat_template(
        messages[:-1], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"].shape[1]
    each = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), -1)
    return float(each.gather(1, ids[0, 1:, None])[begin - 1 :].sum())
