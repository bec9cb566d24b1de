"""Pairs of texts to translate or to shorten, and tiny encoder-decoders with tokenizers trained on them."""

import re
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CONFIG_MAPPING,
    AutoModelForSeq2SeqLM,
    MBart50Tokenizer,
    MBartTokenizer,
    NllbTokenizer,
    PegasusTokenizer,
    PreTrainedModel,
    T5Tokenizer,
)

from lit_ft.data.tokenizing.training import train_tokenizer
from tests.tiny import texts

SIZES = {
    "d_model": 32, "d_kv": 16, "d_ff": 37, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2,
    "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 37, "decoder_ffn_dim": 37, "max_position_embeddings": 160,
    "max_encoder_position_embeddings": 160, "max_decoder_position_embeddings": 160, "attention_window": [8, 8],
}  # fmt: skip
NO_DROPOUT = {
    "dropout_rate": 0.0, "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
}  # fmt: skip
FAMILIES = ["t5", "mt5", "bart", "mbart", "mbart50", "pegasus", "marian", "m2m_100", "nllb", "led"]
ARCHITECTURES = {"mbart50": "mbart", "nllb": "m2m_100"}
LANGUAGES = {"mbart": ("en_XX", "de_DE"), "mbart50": ("en_XX", "de_DE"), "nllb": ("eng_Latn", "deu_Latn")}
"""Codes of those whose tokenizer here is multilingual."""


def pair_rows(count: int, start: int = 0, **names: str) -> list[dict[str, Any]]:
    """Rows of `source` (a message) and `target` (its first words, in capitals)."""
    source, target = names.get("source", "source"), names.get("target", "target")
    found = []
    for number in range(start, start + count):
        words = texts()[number].split()[: 6 + number % 13]
        found.append({source: " ".join(words), target: " ".join(words[: 2 + number % 5]).upper()})
    return found


def _texts() -> list[str]:
    return [text for row in pair_rows(120) for text in row.values()]


def _pieces(specials: list[str]) -> list[tuple[str, float]]:
    """A unigram vocabulary of our texts: special pieces, then what is learned."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        _texts(),
        trainers.UnigramTrainer(vocab_size=300, show_progress=False, special_tokens=["<unk>"], unk_token="<unk>"),
    )
    learned = sorted(tokenizer.get_vocab())
    return [(piece, 0.0) for piece in specials] + [
        (piece, -1.0 - len(piece) ** -1.0) for piece in learned if piece not in {*specials, "<unk>"}
    ]


def make_tokenizer(family: str) -> Any:
    """The family's own tokenizer where it is a fast one, else that of BART; trained on our texts."""
    if family in ("t5", "mt5"):
        return T5Tokenizer(vocab=_pieces(["<pad>", "</s>", "<unk>"]), extra_ids=2)
    if family == "pegasus":
        return PegasusTokenizer(vocab=_pieces(["<pad>", "</s>", "<mask_1>", "<mask_2>", "<unk>"]), offset=0)
    if family in ("mbart", "mbart50"):
        kind = MBartTokenizer if family == "mbart" else MBart50Tokenizer
        return kind(vocab=_pieces(["<s>", "<pad>", "</s>", "<unk>"]))
    if family == "nllb":
        return NllbTokenizer(
            vocab={letter: number for number, letter in enumerate(["<s>", "<pad>", "</s>", "<unk>", *_letters()])},
            merges=[],
        )
    return train_tokenizer([_texts()], {"vocab_size": 400}, masked=True)


def _letters() -> list[str]:
    return ["▁", *sorted({letter for text in _texts() for letter in text if letter != " "})]


def tiny_seq2seq(family: str, tokenizer: Any, **overrides: Any) -> PreTrainedModel:
    """A tiny model without dropout, with weights large enough for attention to matter."""
    architecture = ARCHITECTURES.get(family, family)
    defaults = CONFIG_MAPPING[architecture]()
    names = {*vars(defaults), *CONFIG_MAPPING[architecture].attribute_map}
    values = {name: value for name, value in {**SIZES, **NO_DROPOUT}.items() if name in names}
    values |= {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if "decoder_vocab_size" in names:
        values["decoder_vocab_size"] = len(tokenizer)
    starts = {"t5": "pad", "mt5": "pad", "pegasus": "pad", "marian": "pad", "mbart": None}
    start = starts.get(family, "eos")
    values["decoder_start_token_id"] = None if start is None else getattr(tokenizer, f"{start}_token_id")
    config = CONFIG_MAPPING[architecture](**{**values, **overrides})
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 if parameter.dim() < 2 or family in ("t5", "mt5") else 4)
    return model


def make_seq2seq(family: str, folder: Path, **overrides: Any) -> str:
    """Saves a tiny model of a family and its tokenizer as an ordinary Hugging Face folder."""
    tokenizer = make_tokenizer(family)
    model = tiny_seq2seq(family, tokenizer, **overrides)
    model.generation_config.update(pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    model.generation_config.forced_eos_token_id = None
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def make_lively_seq2seq(family: str, folder: Path) -> str:
    """A tiny model whose texts depend on the source: as it is made, all are the same, and any mix-up would pass."""
    make_seq2seq(family, folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and re.search("encoder_attn|EncDecAttention", name):
                weight.mul_(3)
    model.save_pretrained(folder)
    return str(folder)
