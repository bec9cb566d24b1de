"""Tiny models with larger weights: as they are made, all tokens get the same score, and any mix-up would pass."""

from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING

from tests.tiny import SIZES, make_tokenizer


def lively_model(kind: str, auto_class: Any, folder: Path) -> str:
    """Saves a tiny model with a head, and its tokenizer, as an ordinary Hugging Face folder."""
    causal = auto_class.__name__ == "AutoModelForCausalLM"
    tokenizer = make_tokenizer(pair_template=not causal)
    if not causal and kind != "bert":
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    config = CONFIG_MAPPING[kind]()
    known = {*vars(config), *CONFIG_MAPPING[kind].attribute_map}
    sizes = {name: value for name, value in SIZES.items() if name in known}
    names = [name for name in known if name in ("bos_token_id", "eos_token_id", "pad_token_id")]
    ids = {name: getattr(tokenizer, name) for name in names}
    torch.manual_seed(0)
    model = auto_class.from_config(CONFIG_MAPPING[kind](vocab_size=len(tokenizer), **sizes, **ids))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and not any(part in name for part in ("embed", "wte", "wpe")):
                weight.mul_(8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
