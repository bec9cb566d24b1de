"""How long an input may be: what a model was made for, and where its positions end."""

from typing import Any

from transformers import PreTrainedConfig

from lit_ft.errors import UserError

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


def longest_input(config: PreTrainedConfig | None, tokenizer: Any) -> int | None:
    """Returns the most tokens that a model (or its tokenizer) was made for, or `None` where nothing says so."""
    known = [tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else None]
    known += [_positions(config)] if config is not None else []
    limits = [limit for limit in known if isinstance(limit, int) and limit > 0]
    return min(limits) if limits else None


def usual_length(config: PreTrainedConfig | None, tokenizer: Any, most: int) -> int:
    """Returns how many tokens features have where nobody says: as many as the model was made for, up to `most`."""
    return min(longest_input(config, tokenizer) or most, most)


def check_length(option: str, size: int, config: PreTrainedConfig | None) -> int:
    """Returns the length that an option gives features.

    Raises:
        UserError: the model has not so many positions.
    """
    most = None if config is None else hard_limit(config)
    if most is not None and size > most:
        raise UserError(f"{option} {size} is above the model's {most} positions")
    return size


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
