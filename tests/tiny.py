"""Tiny models of real architectures, made from a config, with a tokenizer trained on the sample data."""

import json
from collections import Counter
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedTokenizerFast

SAMPLE = Path(__file__).parent.parent / "lit_ft" / "sample_data"
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "max_position_embeddings": 160,
    # other architectures' names for the same
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 160,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 37,
    "num_key_value_heads": 2,
}


@cache
def _messages() -> tuple[str, ...]:
    return tuple(json.loads(line)["text"] for line in (SAMPLE / "train.jsonl").read_text(encoding="utf-8").splitlines())


def texts() -> list[str]:
    """Messages of the training sample."""
    return [*_messages()]


def make_tokenizer(vocabulary: int = 600, pair_template: bool = True) -> PreTrainedTokenizerFast:
    """Makes a WordPiece tokenizer of letters and frequent words; the library's trainer breaks ties by chance.

    Without the template it has no special tokens and no padding (as GPT-2's).
    """
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = Counter(word for text in texts() for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = sorted({letter for word in words for letter in word})
    frequent = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    pieces = [*SPECIALS, *letters, *(f"##{letter}" for letter in letters), *frequent][:vocabulary]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    if not pair_template:
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[SEP]", model_max_length=160
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=160,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
    )


def make_tiny_model(model_type: str, folder: Path) -> str:
    """Saves a tiny model without a head, and its tokenizer, as an ordinary Hugging Face folder."""
    decoder = model_type in ("gpt2", "llama")
    tokenizer = make_tokenizer(pair_template=not decoder)
    if model_type in ("distilbert", "roberta"):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    defaults = vars(CONFIG_MAPPING[model_type]())
    names = set(defaults) | set(CONFIG_MAPPING[model_type].attribute_map)
    sizes = {name: value for name, value in SIZES.items() if name in names}
    specials = {} if decoder else {"pad_token_id": 0}
    config = CONFIG_MAPPING[model_type](vocab_size=len(tokenizer), **sizes, **specials)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
