"""Tiny models of many architectures, from configs alone, for what claims to need no line for each."""

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
OTHERS: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "xlnet": {"d_model": 32, "n_head": 2, "d_inner": 37, "n_layer": 2},
    "squeezebert": {"embedding_size": 32, "intermediate_size": 64},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "luke": {"entity_vocab_size": 11, "entity_emb_size": 16},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
}
"""What others need beyond `tests.tiny.SIZES`; the two above are also what tests of language models run over."""


def tiny_model(model_type: str, kind: Any, **overrides: Any) -> PreTrainedModel:
    """Makes a tiny model, without dropout and with weights large enough for attention to matter, in training mode.

    Args:
        model_type: architecture.
        kind: an auto class, such as `AutoModelForMaskedLM`, or a model class.
        overrides: values of the configuration; they win over all defaults.
    """
    config_class = CONFIG_MAPPING[model_type]
    names = {*vars(config_class()), *config_class.attribute_map}
    sizes = {name: value for name, value in SIZES.items() if name in names}
    specials = {name: 0 for name in ("pad_token_id", "bos_token_id", "eos_token_id") if name in names}
    rates = {name: 0.0 for name in names if "dropout" in name or name.endswith(("_pdrop", "_drop", "_prob"))}
    rates = {name: rate for name, rate in rates.items() if isinstance(getattr(config_class(), name, None), float)}
    more = {**CAUSAL, **MASKED, **OTHERS}.get(model_type, {})
    config = config_class(**{**sizes, **specials, **rates, "vocab_size": VOCABULARY, **more, **overrides})
    torch.manual_seed(0)
    model: PreTrainedModel = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # some heads have a rate of their own
    return model.train()


def tiny_language_model(model_type: str, causal: bool = True, **overrides: Any) -> PreTrainedModel:
    """Makes such a model with a language modelling head."""
    if model_type == "xlnet":
        return tiny_model(model_type, XLNetLMHeadModel, **overrides)
    return tiny_model(model_type, AutoModelForCausalLM if causal else AutoModelForMaskedLM, **overrides)
