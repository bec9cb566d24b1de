"""How long an input may be: what a model was made for, and where its positions end."""

from typing import Any

from transformers import PreTrainedConfig

OFFSET_POSITIONS = (
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
"""Architectures whose positions begin after the padding token's id, as RoBERTa's do."""

UNBOUNDED = (
    "granitemoehybrid",
    "inkling2_text",
    "inkling_text",
    "jamba",
    "kimi_linear",
    "nemotron_h",
    "rwkv",
    "tapas",
    "xglm",
    "zamba",
    "zamba2",
)
"""Architectures that name a length but have no table of positions that ends there."""


def longest_input(config: PreTrainedConfig, tokenizer: Any) -> int | None:
    """Returns the most tokens that the model was made for, or `None` where nothing says so."""
    known = [tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else None, _positions(config)]
    limits = [limit for limit in known if isinstance(limit, int) and limit > 0]
    return min(limits) if limits else None


def is_rotary(config: PreTrainedConfig) -> bool:
    """Says whether positions are rotations computed as needed: longer inputs run, though the model never saw any."""
    text = config.get_text_config()
    kind = getattr(text, "position_embedding_type", None)
    if kind is not None:
        return kind in ("rope", "rotary")
    return bool(getattr(text, "rope_parameters", None) or getattr(text, "rope_theta", None))


def hard_limit(config: PreTrainedConfig) -> int | None:
    """Returns the most tokens for which there are positions at all, as where they are learned.

    `None` where they are rotary, relative (T5, XLNet, BLOOM, DeBERTa v3) or where there are none (Mamba): then
    `longest_input` says what the model was made for.
    """
    text = config.get_text_config()
    kind = getattr(text, "position_embedding_type", None) or "absolute"
    if is_rotary(config) or text.model_type in UNBOUNDED or kind in ("alibi", "nope", "none"):
        return None
    if getattr(text, "position_biased_input", True) is False:  # DeBERTa: relative ones only
        return None
    limit = _positions(config)
    return limit if limit is not None and limit > 0 else None


def _positions(config: PreTrainedConfig) -> int | None:
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if text.model_type == "mpt":
        positions = text.max_seq_len
    absolute = getattr(text, "position_embedding_type", None) in (None, "absolute")
    if isinstance(positions, int) and text.model_type in OFFSET_POSITIONS and absolute:
        positions -= (text.pad_token_id or 0) + 1
    return positions if isinstance(positions, int) else None
