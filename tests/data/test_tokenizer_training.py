"""Trained tokenizers: texts come back, the same texts give the same tokenizer, RoBERTa's and GPT-2's conventions."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast, RobertaTokenizer

from lit_ft.commands.cache import Entry, cache
from lit_ft.data.caching.cache import find
from lit_ft.data.tokenizing.training import train_tokenizer, trained_folder
from lit_ft.errors import UserError
from tests.tiny import texts

SMALL = {"vocab_size": 600}


@pytest.fixture(scope="module")
def causal() -> PreTrainedTokenizerFast:
    return train_tokenizer([texts()], SMALL, masked=False)


@pytest.fixture(scope="module")
def masked() -> PreTrainedTokenizerFast:
    return train_tokenizer([texts()], SMALL, masked=True)


@settings(max_examples=150, deadline=None)
@given(text=st.text() | st.lists(st.sampled_from(texts()), max_size=3).map("\n\n  ".join))
def test_every_text_comes_back(causal: PreTrainedTokenizerFast, masked: PreTrainedTokenizerFast, text: str) -> None:
    for tokenizer in (causal, masked):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        if any(token in text for token in tokenizer.all_special_tokens):
            continue  # they are left out below, whoever wrote them
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_it_has_learned(causal: PreTrainedTokenizerFast) -> None:
    assert len(causal) == 600
    text = texts()[0]
    assert len(causal(text)["input_ids"]) < 0.6 * len(text.encode())


def test_causal_conventions(causal: PreTrainedTokenizerFast) -> None:
    assert causal.bos_token == causal.eos_token == "<|endoftext|>"
    assert causal.pad_token_id != causal.eos_token_id
    assert causal.unk_token is None
    assert causal.model_max_length > 10**9
    assert causal("a b")["input_ids"] == causal("a b", add_special_tokens=False)["input_ids"]
    assert causal("a<|endoftext|>b")["input_ids"][1] == causal.eos_token_id


def test_masked_conventions_are_those_of_roberta(masked: PreTrainedTokenizerFast) -> None:
    config = AutoConfig.for_model("roberta")
    assert (masked.bos_token_id, masked.pad_token_id, masked.eos_token_id) == (
        config.bos_token_id,
        config.pad_token_id,
        config.eos_token_id,
    )
    # the same vocabulary in transformers' own class
    model = json.loads(masked.backend_tokenizer.to_str())["model"]
    theirs = RobertaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    for pair in [("Is it here?", None), ("Is it<mask> here?", None), ("a  b", " c\n"), ("", "x"), ("ünï", "日本")]:
        assert masked(*pair)["input_ids"] == theirs(*pair)["input_ids"]
    assert masked.convert_ids_to_tokens(masked("a", "b")["input_ids"]) == ["<s>", "a", "</s>", "</s>", "b", "</s>"]
    assert masked.special_tokens_map == theirs.special_tokens_map
    # as in roberta-base's own files: the mask is a word with the space before it
    assert masked.convert_ids_to_tokens(masked("a <mask> b")["input_ids"])[1:3] == ["a", "<mask>"]


def test_the_same_texts_in_any_order_give_the_same_tokenizer(causal: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    again = train_tokenizer(([text] for text in reversed(texts())), SMALL, masked=False)
    assert again.backend_tokenizer.to_str() == causal.backend_tokenizer.to_str()
    script = (
        "from tests.tiny import texts; from lit_ft.data.tokenizing.training import train_tokenizer; import sys;"
        "train_tokenizer([texts()], {'vocab_size': 600}, masked=False).save_pretrained(sys.argv[1])"
    )
    for number, threads in enumerate(("1", "3")):
        environment = {**os.environ, "PYTHONHASHSEED": str(number), "RAYON_NUM_THREADS": threads}
        folder = tmp_path / str(number)
        subprocess.run([sys.executable, "-c", script, str(folder)], env=environment, check=True)
        assert AutoTokenizer.from_pretrained(folder).backend_tokenizer.to_str() == causal.backend_tokenizer.to_str()
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "01"]
    assert files[0] == files[1]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "roberta", "bert", "modernbert"])
def test_it_is_saved_and_loaded_beside_a_model(
    causal: PreTrainedTokenizerFast, masked: PreTrainedTokenizerFast, tmp_path: Path, kind: str
) -> None:
    tokenizer = causal if kind in ("gpt2", "llama") else masked
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    rows = [*texts()[:50], "  two  spaces ", "日本語\r\n", "", "a <mask> b<|endoftext|>"]
    assert loaded(rows)["input_ids"] == tokenizer(rows)["input_ids"]
    assert loaded(rows[:3], rows[3:6]).data == tokenizer(rows[:3], rows[3:6]).data
    assert loaded.special_tokens_map == tokenizer.special_tokens_map
    assert loaded.batch_decode(loaded(rows)["input_ids"]) == tokenizer.batch_decode(tokenizer(rows)["input_ids"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_sise": 300}, "did you mean 'vocab_size'"),
        ({"vocab_size": 257}, "vocab_size is 257, but must be at least 258"),
        ({"vocab_size": "300"}, "vocab_size is '300', but must be a whole number"),
        ({"vocab_size": True}, "whole number"),
        ({"min_frequency": 0}, "at least 1"),
        ({"min_frequency": 1.5}, "whole number"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        train_tokenizer([["a b"]], options, masked=False)
    with pytest.raises(UserError, match=message):
        trained_folder(options, False, "rows", tmp_path, lambda: [["a b"]])


@pytest.mark.parametrize("rows", [[], [[]], [["", "  "], ["\n"]]])
def test_no_text_is_refused(rows: list[list[str]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text"):
        train_tokenizer(rows, {}, masked=True)
    with pytest.raises(UserError, match="no text"):
        trained_folder({}, True, "rows", tmp_path, lambda: rows)
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_few_texts_give_fewer_tokens_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "lit_ft"):
        tokenizer = train_tokenizer([["ab ab"]], {"vocab_size": 300}, masked=False)
    assert len(tokenizer) == 259
    assert "259 tokens, not 300" in caplog.text


def test_it_is_trained_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[int] = []

    def rows() -> Iterator[list[str]]:
        asked.append(1)
        yield texts()[:100]
        yield texts()[100:150]

    rows_print = [{"": [["/data/plays.txt", "0" * 64]]}, "text"]
    first = trained_folder({"vocab_size": 300}, False, rows_print, tmp_path, rows)
    assert trained_folder({"vocab_size": 300, "min_frequency": 2}, False, rows_print, tmp_path, rows) == first
    assert len(asked) == 1
    assert find(first.name, tmp_path) == first
    others = [
        trained_folder({"vocab_size": 301}, False, rows_print, tmp_path, rows),
        trained_folder({"vocab_size": 300}, True, rows_print, tmp_path, rows),
        trained_folder({"vocab_size": 300}, False, [rows_print, "other"], tmp_path, rows),
    ]
    assert len({first, *others}) == 4
    assert len(asked) == 4
    expected = train_tokenizer([texts()[:150]], {"vocab_size": 300}, False)
    assert AutoTokenizer.from_pretrained(first)(texts())["input_ids"] == expected(texts())["input_ids"]
    entry = Entry(first)
    assert (entry.rows, entry.files, entry.model) == ("train 150", "plays.txt", "trained: 300 tokens")
    cache(["list", "--preparation_dir", str(tmp_path)])
    assert "trained: 300 tokens" in capsys.readouterr().out
