"""Every YAML of masked language modelling through the real command, checked by transformers' own model and pipeline."""

from collections.abc import Callable
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from tests.configs.documents import MASKED, PROMPTS, few_steps, text_column
from tests.configs.lively import lively_model
from tests.configs.running import fit_test_predict, logged, read_config, read_lines, to_run

LENGTH = 64


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    return cache(lambda kind: lively_model(kind, AutoModelForMaskedLM, tmp_path_factory.mktemp(kind)))


@pytest.mark.parametrize("name", to_run("masked_lm"))
def test_yaml_runs_from_texts_to_predictions(name: str, model_of: Callable[[str], str], tmp_path: Path) -> None:
    assert name in MASKED, f"configs/{name}.yaml has no local texts in tests/configs/documents.py"
    local, config = MASKED[name](tmp_path / "texts"), read_config(name)
    options = config["data"]["init_args"]
    scratch = local.architecture is None
    model = [] if local.architecture is None else [f"--model.model_name_or_path={model_of(local.architecture)}"]
    size = options["max_seq_length"] if scratch else LENGTH
    mask = "<mask>" if scratch else "[MASK]"
    gaps = [*(f"{prompt} {mask}" for prompt in PROMPTS), f"i {mask} to {mask} it"]
    model += [f"--data.max_seq_length={size}", "--data.num_workers=0"]
    words = few_steps(name, local, model, tmp_path / "gaps.jsonl", gaps)

    run, done = fit_test_predict(name, words, tmp_path / "runs", ["--trainer.precision=32-true"])

    (documents,) = local.tests.values()
    batches = list(done["test"].datamodule.test_dataloader()[0])
    by_line = options.get("line_by_line", False)
    check_blocks(run, batches, documents, size, by_line, options.get("mlm_probability", 0.15))
    if options.get("whole_word_mask"):
        check_whole_words(run, batches)
    check_loss(run, batches)
    check_filled(run, text_column(config), gaps)


def originals(batch: dict[str, Any]) -> list[list[int]]:
    """The blocks of a batch before they were masked."""
    ids = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
    return [row[mask.bool()].tolist() for row, mask in zip(ids, batch["attention_mask"], strict=True)]


def check_blocks(
    run: Path, batches: list[dict[str, Any]], documents: list[str], size: int, by_line: bool, share: float
) -> None:
    """The blocks, cut here by the exported tokenizer, and how many of their tokens are masked."""
    tokenizer = AutoTokenizer.from_pretrained(run / "hf")
    if by_line:
        kept = [text for text in documents if text]
        expected = tokenizer(kept, truncation=True, max_length=size)["input_ids"]
    else:
        tokens = list(chain(*tokenizer(documents, add_special_tokens=False)["input_ids"]))
        cut = [tokens[at : at + size - 2] for at in range(0, len(tokens), size - 2)]
        expected = [[tokenizer.cls_token_id, *block, tokenizer.sep_token_id] for block in cut]
    assert list(chain(*(originals(batch) for batch in batches))) == expected
    labels = torch.cat([batch["labels"][batch["attention_mask"].bool()] for batch in batches])
    content = sum(len(block) - 2 for block in expected)
    assert int((labels != -100).sum()) / content == pytest.approx(share, rel=0.35)


def check_whole_words(run: Path, batches: list[dict[str, Any]]) -> None:
    """Whether a piece of a word is masked is what the piece before it is."""
    tokenizer, words = AutoTokenizer.from_pretrained(run / "hf"), 0
    for batch in batches:
        for block, labels in zip(originals(batch), batch["labels"].tolist(), strict=True):
            pieces = tokenizer.convert_ids_to_tokens(block)
            for place in range(2, len(pieces)):
                if pieces[place].startswith("##"):
                    assert (labels[place] == -100) == (labels[place - 1] == -100)
                    words += labels[place] != -100
    assert words > 5


def check_loss(run: Path, batches: list[dict[str, Any]]) -> None:
    """The mean loss per masked token, by transformers' own model."""
    model = AutoModelForMaskedLM.from_pretrained(run / "hf").eval()
    loss = count = 0.0
    for batch in batches:
        with torch.no_grad():
            mean = model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss
        tokens = int((batch["labels"] != -100).sum())
        loss, count = loss + float(mean) * tokens, count + tokens
    assert logged(run)["test_loss"] == pytest.approx(loss / count, rel=1e-4)


def check_filled(run: Path, column: str, gaps: list[str]) -> None:
    """Input order, and what transformers' pipeline makes of the same texts."""
    written = read_lines(run / "predictions" / "gaps.jsonl")
    pipe = pipeline("fill-mask", str(run / "hf"), device="cpu")
    assert [row[column] for row in written] == gaps
    for row in written:
        answer = pipe(row[column])
        answer = answer if isinstance(answer[0], list) else [answer]
        for ours, theirs in zip(row["predictions"], answer, strict=True):
            assert [each["sequence"] for each in ours] == [each["sequence"] for each in theirs]
            assert [each["token_str"] for each in ours] == [each["token_str"] for each in theirs]
            np.testing.assert_allclose([e["score"] for e in ours], [e["score"] for e in theirs], rtol=1e-3)
