"""Tiny language models of many architectures, from configs alone, for what claims to need no line for each."""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel, XLNetLMHeadModel

from tests.tiny import SIZES

VOCABULARY = 97

CAUSAL: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {},
    "gemma2": {"head_dim": 16, "sliding_window": 4, "query_pre_attn_scalar": 16},
    "cohere": {"logit_scale": 0.3},
    "granite": {"logits_scaling": 3.0},
    "opt": {"ffn_dim": 37, "word_embed_proj_dim": 16, "do_layer_norm_before": True},
    "gpt_neox": {},
    "qwen3": {"head_dim": 16},
    "phi": {},
    "mamba": {"state_size": 4},
    "falcon": {},
    "bloom": {},
    "gptj": {"rotary_dim": 8},
    "mpt": {"d_model": 32},
    "mistral": {"head_dim": 16, "sliding_window": 4},
    "gemma3_text": {"head_dim": 16, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    "phi3": {"sliding_window": 4},
    "olmo2": {},
    "smollm3": {},
}
MASKED: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {},
    "distilbert": {},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "deberta-v2": {},
    "modernbert": {},
    "mpnet": {},
    "xlm": {"emb_dim": 32, "n_words": VOCABULARY},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
}
XLNET = {"d_model": 32, "n_head": 2, "d_inner": 37, "n_layer": 2}


def tiny_language_model(model_type: str, causal: bool = True, **overrides: Any) -> PreTrainedModel:
    """Makes a tiny model with a language modelling head; no dropout, weights large enough for attention to matter."""
    config_class = CONFIG_MAPPING[model_type]
    names = {*vars(config_class()), *config_class.attribute_map}
    sizes = {name: value for name, value in SIZES.items() if name in names}
    specials = {name: 0 for name in ("pad_token_id", "bos_token_id", "eos_token_id") if name in names}
    rates = {name: 0.0 for name in names if "dropout" in name or name.endswith(("_pdrop", "_drop", "_prob"))}
    rates = {name: rate for name, rate in rates.items() if isinstance(getattr(config_class(), name, None), float)}
    more = XLNET if model_type == "xlnet" else {**CAUSAL, **MASKED}.get(model_type, {})
    config = config_class(**{**sizes, **specials, **rates, "vocab_size": VOCABULARY, **more, **overrides})
    torch.manual_seed(0)
    if model_type == "xlnet":
        model: PreTrainedModel = XLNetLMHeadModel(config)
    else:
        model = (AutoModelForCausalLM if causal else AutoModelForMaskedLM).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.train()
