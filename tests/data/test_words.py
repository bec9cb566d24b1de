"""Rows of words as token ids: against transformers' own call, and windows in which each word has its place."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lit_ft.data.tokenizing.words import WordEncoder, needs_prefix_space, split_text, takes_prefix_space
from lit_ft.errors import UserError

VOCABULARY = [
    "The", "refund", ",", "parcel", "U.N.", "naïve", "straße", "1996-08-22", "don't", "antidisestablishmentarianism",
    "中文", "(", ")",
]  # fmt: skip
KINDS = ["bert", "roberta", "gpt2", "distilbert"]


def random_rows(count: int = 100, longest: int = 40) -> list[list[str]]:
    rng = random.Random(5)
    return [[rng.choice(VOCABULARY) for _ in range(rng.randint(0, longest))] for _ in range(count)]


def loaded(folder: str) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder, add_prefix_space=True) if needs_prefix_space(tokenizer) else tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_transformers(kind: str, tiny: Callable[..., str]) -> None:
    tokenizer, rows = loaded(tiny(kind)), [row for row in random_rows() if row]
    expected = tokenizer(rows, is_split_into_words=True)
    found = WordEncoder(tokenizer, None)(rows)
    assert found.input_ids.tolist() == expected["input_ids"]
    firsts, at = found.first.tolist(), 0
    for number, row in enumerate(rows):
        words = expected.word_ids(number)
        assert firsts[number] == [words.index(word) for word in range(len(row))]
        assert found.word[number].tolist() == [-1 if word is None else at + word for word in words]
        at += len(row)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", [0, 5, None])
def test_each_word_belongs_to_one_window(kind: str, stride: int | None, tiny: Callable[..., str]) -> None:
    tokenizer, rows = loaded(tiny(kind)), random_rows()
    whole, cut = WordEncoder(tokenizer, None)(rows), WordEncoder(tokenizer, 32, stride)(rows)
    assert max(cut.input_ids.lengths) <= 32
    assert len(cut.row) > len(rows)
    assert sorted(set(cut.row)) == list(range(100))
    owned = np.concatenate([cut.word[at][first] for at, first in enumerate(cut.first)])
    assert owned.tolist() == list(range(sum(map(len, rows)))), "each once, in order"
    assert not cut.tokens_cut.any()
    pieces = [np.concatenate([ids[owner >= 0] for ids, owner in zip(each.input_ids, each.word, strict=True)])
              for each in (whole, cut)]  # fmt: skip
    assert pieces[0].tolist() == pieces[1].tolist(), "no token is lost, none comes twice"
    if stride == 0:
        around = tokenizer.num_special_tokens_to_add()
        empty = 0 if around else sum(not row for row in rows)  # one token each, to attend to
        assert cut.input_ids.lengths.sum() == len(pieces[1]) + len(cut.row) * around + empty


def test_words_in_two_windows_belong_where_more_is_around_them(tiny: Callable[..., str]) -> None:
    tokenizer = loaded(tiny("bert"))
    found = WordEncoder(tokenizer, 12, 4)([["("] * 18])
    assert found.input_ids.lengths.tolist() == [12, 12, 8]
    assert found.first.lengths.tolist() == [8, 6, 4]


def test_each_window_takes_in_the_next_word(tiny: Callable[..., str]) -> None:
    # the long word fills a window alone: the overlap before it would leave it no room
    found = WordEncoder(loaded(tiny("bert")), 12, 4)([["("] * 8 + ["antidisestablishmentarianism" * 3] + ["("] * 4])
    assert found.input_ids.lengths.tolist() == [10, 12, 6]
    assert found.first.lengths.tolist() == [8, 1, 4]


def test_words_that_are_nothing_or_too_long(tiny: Callable[..., str]) -> None:
    tokenizer = loaded(tiny("bert"))
    found = WordEncoder(tokenizer, 8)([["(", "\u200d", ")"], [], ["antidisestablishmentarianism" * 3, ")"]])
    assert tokenizer.unk_token_id in found.input_ids[0]
    assert len(found.first[0]) == 3
    assert found.input_ids[1].tolist() == [tokenizer.cls_token_id, tokenizer.sep_token_id]
    lost = len(tokenizer("antidisestablishmentarianism" * 3, add_special_tokens=False)["input_ids"]) - 6
    assert found.tokens_cut.tolist() == [0, 0, lost, 0]
    assert lost > 0


@pytest.mark.parametrize(("length", "stride", "said"), [(3, None, "leaves no room"), (12, 5, "must be below half")])
def test_options_that_leave_no_room(length: int, stride: int | None, said: str, tiny: Callable[..., str]) -> None:
    with pytest.raises(UserError, match=said):
        WordEncoder(loaded(tiny("bert")), length, stride)


def test_text_is_split_at_spaces_and_signs() -> None:
    text = " It's 5°,\nOK"
    words, places = split_text(text)
    assert words == ["It", "'", "s", "5", "°", ",", "OK"]
    assert [text[start:end] for start, end in places] == words


@pytest.mark.parametrize(("text", "words"), [
    ("दिल्ली में", ["दिल्ली", "में"]),
    ("cafe\u0301, a", ["cafe\u0301", ",", "a"]),
    ("我住在3区", ["我", "住", "在", "3", "区"]),
    ("Ada's New-York_2 €5", ["Ada", "'", "s", "New", "-", "York_2", "€", "5"]),
])  # fmt: skip
def test_words_of_other_scripts(text: str, words: list[str]) -> None:
    found, places = split_text(text)
    assert found == words
    assert [text[start:end] for start, end in places] == words


def test_words_behind_a_pre_tokenizer_of_its_own() -> None:
    """Llama 3 and Qwen2 cut the text by a pattern first: each word is read as it is within a text."""
    backend = Tokenizer(models.BPE())
    pattern = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(["The sky is blue over New York"] * 50, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<e>", pad_token="<e>")
    words = ["The", "sky", "is", "blue", "over", "New-York"]
    found = WordEncoder(tokenizer, None)([words]).input_ids[0].tolist()
    assert found == tokenizer(" The sky is blue over New-York")["input_ids"]
    assert not takes_prefix_space(tokenizer)


def test_slow_tokenizers_say_by_themselves_whether_words_need_a_space() -> None:
    tokenizer = ByT5Tokenizer()
    assert not needs_prefix_space(tokenizer)
    tokenizer.add_prefix_space = False  # as byte-level ones in Python, beside checkpoints on the hub, call it
    assert needs_prefix_space(tokenizer)
