"""The benchmarks on plain text: the text itself, what counts as equal, and a tiny run of every entry."""

import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForMaskedLM, AutoTokenizer

from tests.processes import METHOD

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts_find_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A command line small enough for a test."""
    return ["--rounds", "1", "--out", str(tmp_path / "results")]


def script(name: str) -> Any:
    return import_module(name)


def names(content: dict[str, Any]) -> list[list[str]]:
    return [list(comparison["contestants"]) for comparison in content["comparisons"]]


def test_text_is_the_shuffled_lines_over_and_over(tmp_path: Path) -> None:
    corpus, source = script("corpus"), tmp_path / "source.txt"
    kept = ["one", "", "two words", "dreißig"]
    source.write_text("\n".join(kept) + "\n", encoding="utf-8")
    count = corpus.write_text(tmp_path / "text.txt", str(source), 0.001, seed=1)
    written = (tmp_path / "text.txt").read_bytes()
    lines = written.decode().split("\n")[:-1]
    assert 1000 <= len(written) < 1010
    assert len(lines) == count
    for start in range(0, count - 4, 4):
        assert Counter(lines[start : start + 4]) == Counter(kept)
    corpus.write_text(tmp_path / "again.txt", str(source), 0.001, seed=1)
    corpus.write_text(tmp_path / "other.txt", str(source), 0.001, seed=2)
    assert (tmp_path / "again.txt").read_bytes() == written != (tmp_path / "other.txt").read_bytes()


def test_documents_are_as_long_as_instructions(tmp_path: Path) -> None:
    corpus = script("corpus")
    count = corpus.write_documents(tmp_path / "documents.jsonl", corpus.SOURCE, 100_000, seed=1)
    rows = [json.loads(line)["text"].split() for line in (tmp_path / "documents.jsonl").read_text().splitlines()]
    assert len(rows) == count
    assert sum(map(len, rows)) >= 100_000
    assert 120 < sum(map(len, rows)) / count < 140
    assert min(map(len, rows)) < 40 < 400 < max(map(len, rows))


def test_the_model_both_sides_start_from_is_one_and_dropout_goes_where_it_is_unwanted(
    tmp_path: Path, tiny: Callable[..., str]
) -> None:
    corpus = script("corpus")
    first, second = (
        corpus.own_model(tiny("bert"), tmp_path / name, AutoModelForMaskedLM, 1, dropout)
        for name, dropout in (("with", True), ("without", False))
    )
    one, two = (AutoModelForMaskedLM.from_pretrained(folder) for folder in (first, second))
    assert one.config.hidden_dropout_prob == 0.1
    assert two.config.hidden_dropout_prob == two.config.attention_probs_dropout_prob == 0
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name]), name
    assert corpus.split_gguf("package://some/model.Q4.gguf") == ("package://some", "model.Q4.gguf")
    assert corpus.split_gguf("package://some/model") == ("package://some/model", None)


def test_steps_that_warm_up_are_in_no_number() -> None:
    meter = script("training").Meter(skip=2)
    meter.start()
    for size in (100, 50, 2, 4):
        meter.count({"input_ids": torch.zeros(size, 3)})
        meter.loss(torch.tensor(float(size)))
        meter.stepped()
    meter.stop()
    measured = meter.measured()
    assert (meter.steps, measured["epoch_tokens"]) == (2, 18)
    assert measured["rows"] == pytest.approx(3 * measured["steps"])
    assert measured["step"] == pytest.approx(1 / measured["steps"])
    assert [float(loss) for loss in meter.losses] == [100, 50, 2, 4]


def test_losses_must_be_as_many_and_agree() -> None:
    compare = script("training").compare_losses
    assert "losses of 2 steps within 1.0e-05" in compare([1.0, 2.0], [1.0, 2.00001], 2, 1e-4, "these")
    for ours, theirs in (([1.0, 2.0], [1.0, 2.1]), ([1.0], [1.0]), ([1.0, math.nan], [1.0, math.nan])):
        with pytest.raises(RuntimeError, match="these: losses of"):
            compare(ours, theirs, 2, 1e-4, "these")


def test_text_preparation(options: list[str], tiny: Callable[..., str]) -> None:
    sizes = ["--megabytes", "0.02", "0.04", "--check_megabytes", "0.3", "--block_size", "32"]
    content = script("text_preparation").main([*options, *sizes, "--model", tiny("bert")], start_method=METHOD)
    assert [line[:5] for line in names(content)] == [
        [
            "lit_ft",
            "map + group_texts",
            "map + group_texts, num_proc 2",
            "lit_ft, 2 processes",
            "lit_ft, its own rules",
        ]
    ] * 8
    assert "are the same, token for token and in order" in content["checks"][0]
    assert sum("-> 0.0" in note for note in content["notes"]) == 2
    for time, speed in zip(content["comparisons"][::4], content["comparisons"][1::4], strict=True):
        for name, values in time["contestants"].items():
            size = values["values"][0] * speed["contestants"][name]["values"][0]
            assert 0.02 < size < 0.041  # MB, as written


def test_blocks_that_differ_are_no_equal_work(
    tmp_path: Path, tiny: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation = script("text_preparation")
    file = tmp_path / "text.txt"
    script("corpus").write_text(file, script("corpus").SOURCE, 0.01, 1)
    tokenized = preparation.tokenized

    def other(*arguments: Any) -> Dataset:
        rows = tokenized(*arguments)
        return rows.select([*range(1, len(rows)), 0])  # type: ignore[no-any-return]

    monkeypatch.setattr(preparation, "tokenized", other)
    with pytest.raises(RuntimeError, match="blocks are not group_texts'"):
        preparation.check(file, tiny("bert"), tmp_path, 32)


def test_masked_lm_step(options: list[str], tiny: Callable[..., str]) -> None:
    sizes = ["--steps", "2", "--check_steps", "2", "--batch_size", "4", "--max_seq_length", "16"]
    content = script("masked_lm_step").main([*options, *sizes, "--model", tiny("bert")], start_method=METHOD)
    assert "losses of 2 steps within" in content["checks"][0]
    assert names(content) == [["lit_ft", "Trainer"]] * 4
    step, rate, memory, _ = content["comparisons"]
    for name, values in step["contestants"].items():
        assert values["values"][0] * rate["contestants"][name]["values"][0] == pytest.approx(4 * 16)
        assert 20 < memory["contestants"][name]["values"][0] < 3000


@pytest.mark.soak
def test_causal_lm_step(options: list[str], tiny: Callable[..., str]) -> None:
    sizes = ["--steps", "2", "--block_size", "16", "32", "--tokens", "64"]
    content = script("causal_lm_step").main([*options, *sizes, "--model", tiny("llama")], start_method=METHOD)
    kinds = ["4 x 16 tokens, blocks of run-on text", "2 x 32 tokens, blocks of run-on text"]
    kinds += ["2 x 32 tokens, blocks of documents apart"]
    assert [check.split(":")[0] for check in content["checks"]] == kinds
    assert all("losses of 3 steps within" in check for check in content["checks"])
    assert [comparison["what"].split(":")[0] for comparison in content["comparisons"][::4]] == kinds


def test_accuracy_is_the_share_of_masked_places_that_are_right(tiny: Callable[..., str]) -> None:
    masked_accuracy = script("domain_adaptation").masked_accuracy
    model = AutoModelForMaskedLM.from_pretrained(tiny("bert")).train()
    ids = torch.arange(5, 29).reshape(3, 8)
    with torch.no_grad():
        predicted = model.eval()(ids, torch.ones_like(ids)).logits.argmax(-1)
    labels = torch.full_like(ids, -100)
    labels[0, 1], labels[1, 2], labels[2, 3] = predicted[0, 1], predicted[1, 2], predicted[2, 3] + 1
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    assert masked_accuracy(model.train(), [batch]) == pytest.approx(100 * 2 / 3)
    assert model.training


def test_domain_adaptation(options: list[str], tmp_path: Path, tiny: Callable[..., str]) -> None:
    for name, size in (("train", 24), ("validation", 12)):
        file = tmp_path / f"{name}.csv"
        file.write_text("text,label\n" + "".join(f"the {name} tea is cold {n},{n % 2}\n" for n in range(size)))
    files = [f"--{name}_file={tmp_path / name}.csv" for name in ("train", "validation")]
    sizes = ["--batch_size", "4", "--max_seq_length", "8", "--evaluations", "2", "--classify"]
    content = script("domain_adaptation").main([*options, *files, *sizes, "--model", tiny("bert")])
    texts = [f"the train tea is cold {number}" for number in range(24)]
    ids = AutoTokenizer.from_pretrained(tiny("bert"))(texts, add_special_tokens=False)["input_ids"]
    total = math.ceil(sum(map(len, ids)) / 6 / 4)  # blocks of 8 hold [CLS] and [SEP], too
    assert [comparison["what"] for comparison in content["comparisons"]] == [
        f"masked accuracy after {math.ceil(total / 2)} steps",
        f"masked accuracy after {total} steps",
        f"{total} steps of training, evaluation left out",
        "classification afterwards: accuracy",
        "classification afterwards: f1_macro",
    ]
    assert names(content)[0] == ["lit_ft", "Trainer"]
    assert names(content)[-1] == ["adapted", "not adapted"]
    assert "val_accuracy of adapted weights" in content["checks"][0]
