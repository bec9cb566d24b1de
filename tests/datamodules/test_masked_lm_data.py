"""Blocks and masks of masked language modelling: what every block looks like, and what chance depends on."""

import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from lit_ft import MaskedLMDataModule
from lit_ft.errors import UserError
from tests.tiny import texts

Make = Callable[..., MaskedLMDataModule]


@pytest.fixture
def make(tiny: Callable[..., str], tmp_path: Path) -> Make:
    def made(**options: Any) -> MaskedLMDataModule:
        rows = [{"text": text} for text in texts()]
        defaults = {
            "model_name_or_path": tiny("bert"),
            "dataset": {"train": rows[:-40], "validation": rows[-40:]},
            "preparation_dir": str(tmp_path / "prepared"),
            "max_seq_length": 32,
        }
        return MaskedLMDataModule(**{**defaults, **options})

    return made


def ready(data: MaskedLMDataModule, stage: str = "fit") -> MaskedLMDataModule:
    data.prepare_stage({"fit": ("train", "validation"), "predict": ("predict",)}[stage])
    data.setup(stage)
    return data


def original(batch: dict[str, Any]) -> torch.Tensor:
    return torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])


def epoch(data: MaskedLMDataModule, number: int) -> list[dict[str, Any]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def test_every_block_looks_like_what_the_model_was_trained_on(make: Make, tiny: Callable[..., str]) -> None:
    data = ready(make())
    tokenizer = AutoTokenizer.from_pretrained(tiny("bert"))
    store = data.features["train"][""].store
    blocks = [store[number]["input_ids"].tolist() for number in range(len(store))]
    assert {len(block) for block in blocks[:-1]} == {32}
    assert all(block[0] == tokenizer.cls_token_id and block[-1] == tokenizer.sep_token_id for block in blocks)
    # nothing is dropped, and no special token stands between: the scripts mix [CLS] and [SEP] into blocks
    content = tokenizer(texts()[:-40], add_special_tokens=False)["input_ids"]
    assert list(chain(*(block[1:-1] for block in blocks))) == list(chain(*content))


def test_a_separator_between_documents_on_demand(make: Make, tiny: Callable[..., str]) -> None:
    data = ready(make(document_separator=True))
    tokenizer = AutoTokenizer.from_pretrained(tiny("bert"))
    store = data.features["train"][""].store
    content = list(chain(*(store[number]["input_ids"][1:-1].tolist() for number in range(len(store)))))
    assert content.count(tokenizer.sep_token_id) == len(texts()) - 40


def test_lines_are_cut_and_empty_ones_dropped_and_counted(make: Make, tiny: Callable[..., str]) -> None:
    lines = ["where is my order", "", " ".join(texts()[:5]), "thank you"]
    data = ready(
        make(dataset={"train": [{"text": line} for line in lines]}, line_by_line=True, validation_split_percentage=0)
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny("bert"))
    store = data.features["train"][""].store
    kept = [line for line in lines if line]
    expected = tokenizer(kept, truncation=True, max_length=32)["input_ids"]
    assert [store[number]["input_ids"].tolist() for number in range(len(store))] == expected
    assert "empty_text" in str(data.report)


def test_masks_are_new_each_epoch_and_the_same_for_the_same_epoch(make: Make) -> None:
    data = ready(make(batch_size=16))
    first, again, second = epoch(data, 0), epoch(data, 0), epoch(data, 1)
    assert all(torch.equal(one["input_ids"], two["input_ids"]) for one, two in zip(first, again, strict=True))
    by_text = {
        tuple(ids.tolist()): labels
        for batch in first
        for ids, labels in zip(original(batch), batch["labels"], strict=True)
    }
    same = [
        torch.equal(by_text[tuple(ids.tolist())], labels)
        for batch in second
        for ids, labels in zip(original(batch), batch["labels"], strict=True)
    ]
    assert sum(same) < len(same) / 10


def test_masks_do_not_depend_on_the_batch_or_the_worker(make: Make) -> None:
    def by_text(**options: Any) -> dict[tuple[int, ...], list[int]]:
        data = ready(make(**options))
        return {
            tuple(ids[mask.bool()].tolist()): labels[mask.bool()].tolist()
            for batch in epoch(data, 3)
            for ids, labels, mask in zip(original(batch), batch["labels"], batch["attention_mask"], strict=True)
        }

    assert by_text(batch_size=4) == by_text(batch_size=16, num_workers=1) == by_text(batch_size=9, line_by_line=False)


@pytest.mark.parametrize("options", [{}, {"whole_word_mask": True}, {"span_mask": True}, {"line_by_line": True}])
def test_evaluation_masks_are_always_the_same(make: Make, options: dict[str, Any]) -> None:
    one, other = (ready(make(**options, eval_batch_size=size)) for size in (8, 8))
    for first, second in zip(one.val_dataloader()[0], other.val_dataloader()[0], strict=True):
        assert torch.equal(first["input_ids"], second["input_ids"])
        assert torch.equal(first["labels"], second["labels"])
        assert (first["labels"] != -100).any()


def test_whole_words_are_masked_whole(make: Make, tiny: Callable[..., str]) -> None:
    data = ready(make(whole_word_mask=True, mlm_probability=0.3))
    tokenizer = AutoTokenizer.from_pretrained(tiny("bert"))
    words = 0
    for batch in epoch(data, 0):
        for ids, labels in zip(original(batch), batch["labels"], strict=True):
            pieces = tokenizer.convert_ids_to_tokens(ids.tolist())
            for at, piece in enumerate(pieces[1:], 1):
                if piece.startswith("##") and not pieces[at - 1].startswith("["):
                    assert (labels[at] == -100) == (labels[at - 1] == -100)
                    words += 1
    assert words > 500


def test_texts_to_fill_in_need_a_mask(make: Make) -> None:
    data = ready(make(dataset={"predict": [{"text": "where is my [MASK]"}]}), "predict")
    (loader,) = data.predict_dataloader()
    batch = next(iter(loader))
    assert (batch["input_ids"] == data.tokenizer.mask_token_id).sum() == 1
    assert "labels" not in batch
    with pytest.raises(UserError, match=r"row 2.*no '\[MASK\]' to fill in"):
        ready(make(dataset={"predict": [{"text": "a [MASK]"}, {"text": "none"}]}), "predict")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mlm_probability": 1.5}, "mlm_probability 1.5"),
        ({"whole_word_mask": True, "span_mask": True}, "leave whole_word_mask out"),
        ({"line_by_line": True, "sample_by": "document"}, "a row cannot be a whole document"),
        ({"max_seq_length": 2}, "max_seq_length 2 leaves no room beside the special tokens"),
        ({"max_seq_length": 500}, "max_seq_length 500 is above the model's 160 positions"),
    ],
)
def test_wrong_options_are_named(make: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        ready(make(**options))


def test_a_causal_models_tokenizer_is_named(make: Make, tiny: Callable[..., str]) -> None:
    with pytest.raises(UserError, match="use CausalLMModule"):
        ready(make(model_name_or_path=tiny("gpt2")))
