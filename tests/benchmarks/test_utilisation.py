"""Useful FLOPs against torch's own counter, what batches hold, and the benchmarks of rows without padding."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, load_from_disk
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from tests.pairs import make_tokenizer, tiny_seq2seq
from tests.preferences import make_preference_model
from tests.processes import METHOD

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts_find_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])


@pytest.fixture
def small_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds less for every round."""
    monkeypatch.setattr(script("flops"), "SIZES", {"cpu": (64, 128)})


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A command line small enough for a test."""
    return ["--rounds", "1", "--warmup", "0", "--out", str(tmp_path / "results")]


def script(name: str) -> Any:
    return import_module(name)


def names(content: dict[str, Any]) -> list[list[str]]:
    return [list(comparison["contestants"]) for comparison in content["comparisons"]]


@pytest.mark.parametrize(
    ("model_type", "head"),
    [
        ("bert", AutoModelForSequenceClassification),  # pools within the body
        ("bert", AutoModelForMaskedLM),
        ("roberta", AutoModelForSequenceClassification),
        ("distilbert", AutoModelForSequenceClassification),
        ("albert", AutoModelForMaskedLM),  # one layer, used again and again
        ("gpt2", AutoModelForCausalLM),  # Conv1D
        ("llama", AutoModelForCausalLM),  # fewer keys than queries
    ],
)
def test_useful_flops_without_padding_are_those_that_torch_counts(
    model_type: str, head: Any, tiny: Callable[..., str]
) -> None:
    flops, size = script("flops"), 12
    model = head.from_pretrained(tiny(model_type), attn_implementation="eager").train()
    cost = flops.ModelCost.of(model)
    assert model.training
    assert cost.causal == (head is AutoModelForCausalLM)
    ids = torch.arange(5, 5 + size)[None]
    labels = torch.tensor([1]) if head is AutoModelForSequenceClassification else ids
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    with FlopCounterMode(display=False) as counter:
        loss = model(**batch).loss
        forward = counter.get_total_flops()
        loss.backward()
    whole = replace(cost, causal=False)  # torch counts the squares of which causal models use half
    # some releases of transformers make rotary angles as a product, two FLOPs an angle, which nobody needs to count
    angles = counter.get_total_flops() - whole.training(flops.count(batch))
    assert angles == forward - whole.forward(flops.count(batch))
    assert angles in (0, size * model.config.hidden_size // model.config.num_attention_heads)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_both_sides_of_an_encoder_decoder_are_counted(family: str) -> None:
    model = tiny_seq2seq(family, make_tokenizer(family), attn_implementation="eager").train()
    cost = script("flops").EncoderDecoderCost.of(model)
    ids = torch.arange(5, 17)[None]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, :7]}
    counts = cost.count(batch)
    assert counts[[0, 1, 3]].tolist() == [1, 19, 7]
    counts[2] += cost.layers[1] * (7 * 7 - 7 * 8 // 2)  # torch counts the squares of which decoders use half
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    assert cost.training(counts) == counter.get_total_flops()
    half = {
        **batch,
        "attention_mask": torch.arange(12)[None] < 6,
        "labels": ids.masked_fill(torch.arange(12) > 2, -100),
    }
    assert cost.count(half).tolist() == [1, 9, cost.layers[0] * 36 + cost.layers[1] * (6 + 18), 3]


def test_what_is_not_needed_is_not_useful() -> None:
    cost = script("flops").ModelCost(token=10, row=3, label=100, attention=7, causal=False)
    counts = torch.tensor([2, 5, 13, 1])  # rows of two and three tokens, of which one is labelled
    assert cost.forward(counts) == 2 * (10 * 5 + 3 * 2 + 100 * 1) + 4 * 7 * 13
    causal = replace(cost, causal=True)
    assert causal.forward(counts) == 2 * (10 * 5 + 3 * 2 + 100 * 1) + 4 * 7 * (3 + 6)  # pairs up to each token
    assert causal.training(counts) == 3 * causal.forward(counts)


def test_a_batch_holds_its_real_tokens_whatever_it_is_written_as() -> None:
    count, ids = script("flops").count, torch.ones(2, 4, dtype=torch.long)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    labels = torch.tensor([[1, 1, 1, -100], [1, -100, -100, -100]])
    assert count({"input_ids": ids, "attention_mask": mask, "labels": labels}).tolist() == [2, 5, 13, 4]
    assert count({"input_ids": ids, "attention_mask": mask, "labels": labels}, causal=True).tolist() == [2, 5, 13, 2]
    assert count({"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([3, -100])}).tolist() == [
        2,
        5,
        13,
        1,
    ]
    assert count({"input_ids": ids, "attention_mask": mask}).tolist() == [2, 5, 13, 2]
    assert count({"input_ids": ids}).tolist() == [2, 8, 32, 2]
    positions = torch.tensor([[0, 1, 2, 0], [0, 1, 0, 1]])  # three tokens and padding, then two documents of two
    assert count({"input_ids": ids, "position_ids": positions}).tolist() == [2, 7, 17, 2]


def test_utilisation_is_the_share_of_the_median_peak() -> None:
    flops = script("flops")
    measured = {
        "ours": [{"flops": 30e9}, {"flops": 60e9}, {"flops": 40e9}],
        flops.PEAK: [{"peak": 50e9}, {"peak": 200e9}, {"peak": 80e9}],
    }
    assert "80 GFLOP/s (50 - 200)" in flops.with_utilisation(measured)
    assert flops.utilisation(measured).values == {"ours": [37.5, 75, 50]}


def test_rows_are_as_long_as_the_workload_says() -> None:
    workload = script("workload")
    said = workload.describe_lengths([12] * 94 + [40] * 6)
    assert said == "100 rows of 13.7 tokens (median 12, 95 % up to 40)"
    shape = replace(workload.SHAPES["intents"], tokens=(14, 12, 40))
    assert workload.describe_lengths([12] * 94 + [40] * 6, shape) == said
    with pytest.raises(RuntimeError, match=r"expected mean, median and 95th percentile \(14, 12, 30\)"):
        workload.describe_lengths([12] * 94 + [40] * 6, workload.SHAPES["intents"])
    labels = {label for _, label in workload.made_up(2000, 1, workload.SHAPES["intents"])}
    assert len(labels) == 77


def test_grouped_batches_are_drawn_from_the_longest_to_the_shortest() -> None:
    lengths = np.random.default_rng(1).permutation(200).tolist()
    batches = script("chats_step").grouped_batches(lengths, 4, 10, seed=1)
    assert all(len(batch) == 4 for batch in batches)
    spans = sorted(sorted(lengths[row] for row in batch) for batch in batches)
    assert [span[0] // 20 for span in spans] == list(range(10))  # one of each tenth
    assert sum(span[3] - span[0] == 3 for span in spans) >= 9  # the Trainer has the longest row change places
    assert batches != sorted(batches, key=lambda batch: -lengths[batch[0]])


@pytest.mark.soak
@pytest.mark.usefixtures("small_peak")
def test_chats_step(options: list[str], tiny: Callable[..., str]) -> None:
    sizes = ["--steps", "2", "--batch_size", "3", "--block_size", "160", "--words", "15"]
    content = script("chats_step").main([*options, *sizes, "--model", tiny("llama")], start_method=METHOD)
    assert names(content)[0][:3] == ["lit_ft", "Trainer", "Trainer, group_by_length"]
    assert "labels of all 9 rows are the same" in content["checks"][0]
    assert "losses of 3 steps within" in content["checks"][1]
    step, rate, _, utilisation = content["comparisons"]
    for name, ratio in rate["ratios"].items():
        assert ratio["values"] == pytest.approx(step["ratios"][name]["values"])
        assert ratio["values"] == pytest.approx(utilisation["ratios"][name]["values"])  # the same rows


@pytest.mark.soak
def test_replies_step(options: list[str], tmp_path: Path) -> None:
    pytest.importorskip("trl")
    model = make_preference_model(tmp_path / "model")
    sizes = ["--steps", "2", "--batch_size", "2", "--block_size", "160", "--words", "12"]
    content = script("replies_step").main([*options, *sizes, "--model", model], start_method=METHOD)
    assert names(content) == [["lit_ft", "TRL's SFTTrainer", "lit_ft, padding_free off"]] * 3
    assert "losses of 3 steps within" in content["checks"][0]
    packed = [*options, *sizes, "--model", model, "--packing", "best_fit"]
    content = script("replies_step").main(packed, start_method=METHOD)
    assert names(content) == [["lit_ft", "TRL's SFTTrainer"]] * 3
    assert "losses of 3 steps within" in content["checks"][0]


@pytest.mark.soak
def test_preferences_step(options: list[str], tmp_path: Path) -> None:
    pytest.importorskip("trl")
    model = make_preference_model(tmp_path / "model")
    sizes = ["--steps", "2", "--batch_size", "2", "--block_size", "160", "--words", "12"]
    content = script("preferences_step").main([*options, *sizes, "--model", model], start_method=METHOD)
    assert names(content) == [["lit_ft", "TRL's DPOTrainer"]] * 3
    assert "losses of 3 steps within" in content["checks"][0]


@pytest.mark.soak
def test_embeddings_step(options: list[str], tiny: Callable[..., str]) -> None:
    pytest.importorskip("sentence_transformers")
    sizes = ["--steps", "2", "--batch_size", "4", "--block_size", "64", "--words", "8"]
    content = script("embeddings_step").main([*options, *sizes, "--model", tiny("bert")], start_method=METHOD)
    assert names(content) == [["lit_ft", "SentenceTransformerTrainer"]] * 3
    assert "losses of 3 steps within" in content["checks"][0]


def test_chats_that_differ_are_no_equal_work(tiny: Callable[..., str], tmp_path: Path) -> None:
    chats, text = script("chats_step"), script("text_training")
    work = text.TextWork(tiny("llama"), tmp_path / "chats.jsonl", tmp_path, 160, 2, 1, 1, "cpu")
    chats.write_rows(work, script("corpus").SOURCE, 15)
    data = chats.data_module(work)
    data.setup("fit")
    assert "labels of all 4 rows are the same" in chats.check_batches(data, work)
    rows = load_from_disk(str(tmp_path / "theirs")).to_list()
    rows[-1]["labels"][-1] += 1
    shutil.rmtree(tmp_path / "theirs")
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "theirs"))
    with pytest.raises(RuntimeError, match="batch 1 differs"):
        chats.check_batches(data, work)


@pytest.mark.usefixtures("small_peak")
def test_prediction(options: list[str], tiny: Callable[..., str]) -> None:
    content = script("prediction").main([*options, "--rows", "30", "--batch_size", "8", "--model", tiny("bert")])
    assert names(content)[0][:3] == ["lit_ft", "Trainer.predict", "Trainer.predict, sorted by length"]
    assert all("the labels of 30 texts are the same" in check for check in content["checks"])


def test_predictions_that_differ_are_no_equal_work() -> None:
    check = script("prediction").check
    one = {"a": np.array([0.4, 0.6]), "b": np.array([0.500001, 0.499999])}
    assert "the labels of 2 texts" in check(one, {**one, "b": np.array([0.499999, 0.500001])}, "other", 1e-5)
    with pytest.raises(RuntimeError, match=r"differ by up to 1\.0+e-01, 0 labels"):
        check(one, {**one, "a": np.array([0.3, 0.7])}, "other", 1e-2)
    with pytest.raises(RuntimeError, match="has 2 texts, other 1"):
        check(one, {"a": one["a"]}, "other", 1e-2)


@pytest.mark.usefixtures("small_peak")
def test_lightning_overhead(options: list[str], tiny: Callable[..., str]) -> None:
    content = script("lightning_overhead").main(
        [*options, "--steps", "2", "--batch_size", "8", "--model", tiny("bert"), "--accelerator", "cpu"]
    )
    assert "losses of 2 steps within" in content["checks"][0]
    step, share, _ = content["comparisons"]
    ours, bare = (step["contestants"][name]["median"] for name in ("lit_ft", "bare loop"))
    assert share["contestants"]["lit_ft"]["median"] == pytest.approx(100 * (ours - bare) / ours)


@pytest.mark.soak  # four starts of a command
def test_startup(options: list[str], tiny: Callable[..., str]) -> None:
    content = script("startup").main([*options, "--rows", "40", "--model", tiny("bert")])
    assert names(content) == [["lit_ft", "bare LightningCLI"]] * 2
    assert "losses of 1 steps within" in content["checks"][0]
