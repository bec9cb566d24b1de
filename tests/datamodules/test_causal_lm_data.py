"""Blocks, labels and positions of causal language modelling, against the scripts' own code and transformers' models."""

import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

from lit_ft import CausalLMDataModule
from lit_ft.errors import UserError
from tests.tiny import texts

SCRIPTS = {"document_separator": False, "isolate_documents": False}


@pytest.fixture(scope="module")
def decoder(tiny: Callable[..., str]) -> str:
    return tiny("llama")


@pytest.fixture
def make(decoder: str, tmp_path: Path) -> Callable[..., CausalLMDataModule]:
    def made(**options: Any) -> CausalLMDataModule:
        defaults = {"model_name_or_path": decoder, "preparation_dir": str(tmp_path / "prepared"), "block_size": 32}
        return CausalLMDataModule(**{**defaults, **options})

    return made


def ready(data: CausalLMDataModule, stage: str = "fit") -> CausalLMDataModule:
    data.prepare_stage({"fit": ("train", "validation"), "predict": ("predict",)}[stage])
    data.setup(stage)
    return data


def blocks(data: CausalLMDataModule) -> list[list[int]]:
    store = data.features["train"][""].store
    return [store[number]["input_ids"].tolist() for number in range(len(store))]


def group_texts(examples: dict[str, list[list[int]]], block_size: int) -> list[list[int]]:
    """transformers' run_clm.py, but for the remainder, which it drops."""
    concatenated = list(chain(*examples["input_ids"]))
    return [concatenated[at : at + block_size] for at in range(0, len(concatenated), block_size)]


def test_the_scripts_rules_give_the_scripts_blocks(make: Callable[..., CausalLMDataModule], decoder: str) -> None:
    data = ready(
        make(dataset={"train": [{"text": text} for text in texts()]}, validation_split_percentage=0, **SCRIPTS)
    )
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    assert blocks(data) == group_texts({"input_ids": tokenizer(texts())["input_ids"]}, 32)


def test_batches_are_those_of_transformers_collator(make: Callable[..., CausalLMDataModule], decoder: str) -> None:
    rows = [{"text": text} for text in texts()[:30]]
    data = ready(make(dataset={"train": rows}, validation_split_percentage=0, packing="none", batch_size=7, **SCRIPTS))
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    tokenizer.pad_token = "[PAD]"
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    for batch in data.train_dataloader():
        real = batch["attention_mask"].bool()
        theirs = collator(
            [{"input_ids": ids[mask].tolist()} for ids, mask in zip(batch["input_ids"], real, strict=True)]
        )
        assert torch.equal(batch["attention_mask"], theirs["attention_mask"])
        assert torch.equal(batch["labels"], theirs["labels"])


@pytest.mark.parametrize("packing", ["wrapped", "best_fit", "none"])
def test_every_token_is_there_once_behind_its_document(
    make: Callable[..., CausalLMDataModule], decoder: str, packing: str
) -> None:
    data = ready(
        make(dataset={"train": [{"text": text} for text in texts()]}, packing=packing, validation_split_percentage=0)
    )
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    documents = [[*ids, tokenizer.eos_token_id] for ids in tokenizer(texts())["input_ids"]]
    store = data.features["train"][""].store
    assert sorted(chain(*blocks(data))) == sorted(chain(*documents))
    pieces = []
    for number in range(len(store)):
        feature = store[number]
        assert feature["documents"].sum() == len(feature["input_ids"]) <= 32
        edges = feature["documents"].cumsum()[:-1]
        pieces += [piece.tolist() for piece in torch.tensor(feature["input_ids"]).tensor_split(torch.tensor(edges))]
    if packing != "wrapped":
        assert sorted(pieces) == sorted(ids[at : at + 32] for ids in documents for at in range(0, len(ids), 32))
    assert list(chain(*pieces)) == list(chain(*documents)) or packing == "best_fit"


def test_transformers_keeps_documents_apart_by_our_positions(
    make: Callable[..., CausalLMDataModule], decoder: str
) -> None:
    rows = [{"text": text} for text in texts()[:40]]
    data = ready(make(dataset={"train": rows}, validation_split_percentage=0, packing="best_fit", batch_size=4))
    model = AutoModelForCausalLM.from_pretrained(decoder).eval()
    batch = next(iter(data.train_dataloader()))
    assert "attention_mask" not in batch
    with torch.no_grad():
        # as in training; with a cache transformers does not look at positions
        packed = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        for ids, positions, labels, logits in zip(
            batch["input_ids"], batch["position_ids"], batch["labels"], packed, strict=True
        ):
            starts = (positions == 0).nonzero()[:, 0].tolist()
            for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
                alone = model(input_ids=ids[start:stop][None]).logits[0]
                torch.testing.assert_close(logits[start:stop], alone, atol=1e-5, rtol=1e-5)
                assert labels[start] == -100  # nothing predicts a document's first token
                assert torch.equal(labels[start + 1 : stop], ids[start + 1 : stop])


def test_windows_score_each_token_once(make: Callable[..., CausalLMDataModule], decoder: str) -> None:
    long = " ".join(texts()[:12])
    data = make(dataset={"train": [{"text": long}], "validation": [{"text": long}]}, stride=8, **SCRIPTS)
    data = ready(data)
    ids = AutoTokenizer.from_pretrained(decoder)(long)["input_ids"]
    scored = []
    for batch in data.val_dataloader()[0]:
        assert batch["input_ids"].shape[1] <= 32
        for tokens, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            assert torch.equal(labels[labels != -100], tokens[labels != -100])
            scored += labels[labels != -100].tolist()
    assert scored == ids


def test_prompts_are_padded_on_the_left_and_cut_at_the_start(make: Callable[..., CausalLMDataModule]) -> None:
    short, long = "where is my order", " ".join(texts()[:20])
    data = ready(make(dataset={"predict": [{"text": short}, {"text": long}, {"text": ""}]}, batch_size=3), "predict")
    (loader,) = data.predict_dataloader()
    batch = next(iter(loader))
    tokenizer = data.tokenizer
    assert batch["input_ids"].shape == (3, 159)  # the model takes 160: one is left for what comes
    assert batch["input_ids"][1].tolist() == tokenizer(long)["input_ids"][-159:]
    assert tokenizer.decode(batch["input_ids"][0][batch["attention_mask"][0].bool()]) == short
    assert batch["attention_mask"][:, -1].tolist() == [1, 1, 1]
    assert batch["attention_mask"].sum(1).tolist() == [len(tokenizer(short)["input_ids"]), 159, 1]
    assert any("1 of 3 rows are longer" in note for note in data.prepare_stage(("predict",)).notes)


def test_prompts_of_a_txt_file_are_lines(make: Callable[..., CausalLMDataModule], tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("one day\nthe little\n")
    data = ready(make(predict_file=str(tmp_path / "prompts.txt")), "predict")
    (loader,) = data.predict_dataloader()
    assert [info["text"] for info in next(iter(loader))["info"]] == ["one day", "the little"]


def test_texts_to_score_are_no_prompts(make: Callable[..., CausalLMDataModule]) -> None:
    data = make(dataset={"test": [{"text": "a text to score"}]})
    with pytest.raises(UserError, match=r"^no predict rows: set predict_file or predict_split_name$"):
        data.prepare_stage(("predict",))


def test_a_file_is_a_document_however_long(
    make: Callable[..., CausalLMDataModule], decoder: str, tmp_path: Path
) -> None:
    text = "\n".join(texts() * 6) + "\n"
    (tmp_path / "long.txt").write_text(text)
    assert len(text) > 3 * (1 << 16)
    data = ready(make(train_file=str(tmp_path / "long.txt"), validation_split_percentage=0))
    end = AutoTokenizer.from_pretrained(decoder).eos_token_id
    tokens = list(chain(*blocks(data)))
    assert tokens.count(end) == tokens[::-1].count(end)
    assert tokens[-1] == end
    plain = AutoTokenizer.from_pretrained(decoder)(text)["input_ids"]
    assert tokens == [*plain, end]  # the tiny tokenizer does not see line ends, so pieces cost it nothing
    positions = next(iter(data.train_dataloader()))["position_ids"]
    assert (positions == torch.arange(32)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 1}, "block_size is 1; it must be at least 2"),
        ({"fim_rate": 1.5}, "fim_rate is 1.5; it must be at least 0 and at most 1"),
        ({"stride": 32}, "stride 32 is what windows of block_size 32 overlap by: from 1 to 31"),
        ({"fim_rate": 0.5}, "fim_prefix_token: the tokenizer has no token '<fim_prefix>'"),
        ({"text_column_name": "txet"}, "has no column 'txet'; columns: ['text', 'n'] — did you mean 'text'?"),
        ({"text_column_name": "n"}, "column 'n' holds int64, not text; columns of text: ['text']"),
        ({"block_size": 5000, "drop_last": True}, "tokens do not fill one block of 5000"),
    ],
)
def test_wrong_options_are_named(
    make: Callable[..., CausalLMDataModule], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        ready(make(dataset={"train": [{"text": "a b c", "n": 1}] * 9}, validation_split_percentage=0, **options))
