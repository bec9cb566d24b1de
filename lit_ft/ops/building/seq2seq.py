"""Encoder-decoder models: what their decoders begin with, how long each side may be, and a new one's special tokens."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from lit_ft.data.labels import IGNORED
from lit_ft.errors import UserError
from lit_ft.ops.building.positions import hard_limit, usual_length

SIDES = {"source": "encoder", "target": "decoder"}
LONGEST = 1024
"""Tokens of a source where nobody says; the scripts' own limit."""


def check_encoder_decoder(config: PreTrainedConfig) -> None:
    """Makes sure that a model has an encoder and a decoder.

    Raises:
        UserError: it has one of them only.
    """
    if not config.is_encoder_decoder:
        raise UserError(
            f"{config.model_type} is no encoder-decoder: for decoders use CausalLMModule, for encoders a task's own"
        )


def decoder_inputs(model: PreTrainedModel, labels: Tensor) -> Tensor:
    """Returns what the decoder reads while it predicts labels, `[batch, target seq]`, by the model's own shift.

    Args:
        model: an encoder-decoder.
        labels: `[batch, target seq]`; -100 becomes padding.
    """
    nothing = (labels == IGNORED).all(1)
    if bool(nothing.any()):  # mBART looks for the last token, of which there is none
        labels = labels.clone()
        labels[nothing, 0] = model.config.eos_token_id or 0
    own: Any = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if own is not None:
        return own(labels)  # type: ignore[no-any-return]
    shift: Any = getattr(sys.modules[type(model).__module__], "shift_tokens_right", None)
    config = model.config
    if shift is not None:  # M2M100
        return shift(labels, config.pad_token_id, config.decoder_start_token_id)  # type: ignore[no-any-return]
    start = labels.new_full((len(labels), 1), config.decoder_start_token_id)
    shifted = torch.cat([start, labels[:, :-1]], 1)
    return shifted.masked_fill_(shifted == IGNORED, config.pad_token_id or 0)


def length_limit(config: PreTrainedConfig, side: str) -> int | None:
    """Returns the most tokens of a side (`source`, `target`) for which there are positions; `None` = any number."""
    own = getattr(config, f"max_{SIDES[side]}_position_embeddings", None)  # LED
    return int(own) if own is not None else None if config.model_type in RELATIVE + GROWING else hard_limit(config)


def usual_source_length(config: PreTrainedConfig | None, tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns how many tokens sources have where nobody says: as many as the model takes, up to 1,024."""
    most = None if config is None else length_limit(config, "source")
    return usual_length(config, tokenizer, min(most or LONGEST, LONGEST))


def wants_prefix(config: PreTrainedConfig | None) -> bool:
    """Says whether a model was trained with a prefix for each task before its sources."""
    return config is not None and config.model_type == "t5"


RELATIVE = ("t5", "mt5", "umt5", "longt5", "switch_transformers", "t5gemma", "t5gemma2")
"""Architectures whose positions are distances."""
GROWING = ("m2m_100", "nllb-moe", "fsmt")
"""Architectures that compute more positions by themselves where a text is longer."""


def freeze_computed(model: PreTrainedModel) -> None:
    """Freezes positions that are computed (Pegasus, Marian), which loading makes parameters that no gradient reaches.

    DistributedDataParallel would wait for their gradients.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding) and hasattr(module, "create_weight"):
            module.weight.requires_grad_(False)


def set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """Lets a model that does not know its padding take the tokenizer's: the decoder reads it behind short targets.

    Raises:
        UserError: the tokenizer does not know it, either.
    """
    if model.config.pad_token_id is not None and model.config.pad_token_id >= 0:  # some wrote -1 for none
        return
    if tokenizer is None or tokenizer.pad_token_id is None:
        raise UserError(
            f"{model.config.model_type}: neither model nor tokenizer has a token for padding: set "
            "model.config_overrides: {pad_token_id: ...}"
        )
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id


def check_new_tokens(config: PreTrainedConfig, new: int) -> None:
    """Makes sure that there are positions for what is generated.

    Raises:
        UserError: there are fewer.
    """
    most = length_limit(config, "target")
    if most is not None and new > most:
        raise UserError(f"generation: max_new_tokens {new} is above the model's {most} positions: lower it")


def check_lengths(config: PreTrainedConfig, description: Mapping[str, Any], resize: bool | None) -> int | None:
    """Compares how long sources and targets may be with the model's positions.

    Args:
        config: the model's.
        description: has what the data call their lengths.
        resize: whether the model may get more positions; `None` = it may.

    Returns:
        To how many positions the model has to be resized; `None` = it has enough.

    Raises:
        UserError: it has not, and shall not or cannot be resized.
    """
    names = {"source": ("max_source_length",), "target": ("max_target_length", "val_max_target_length")}
    lengths = {side: max(description.get(name, 0) for name in each) for side, each in names.items()}
    wanted = None
    for side, length in lengths.items():
        limit = length_limit(config, side)
        if limit is None or length <= limit:
            continue
        option = f"data.max_{side}_length {length} is above the model's {limit} positions"
        if resize is False:
            raise UserError(f"{option}: lower it, or set resize_position_embeddings: true")
        if config.model_type not in RESIZABLE:
            raise UserError(f"{option}, and {config.model_type} cannot get more: set it to {limit} or less")
        wanted = max(length, wanted or 0)
    return wanted


RESIZABLE = ("pegasus", "pegasus_x")
"""Architectures whose positions are computed, so that there may be more of them."""


def check_decoder_start(config: PreTrainedConfig, begin: dict[str, int]) -> None:
    """Makes sure that somebody says what the decoder begins with.

    Args:
        config: the model's.
        begin: what the tokenizer says, by the target's language.

    Raises:
        UserError: nobody does.
    """
    if begin.get("decoder_start_token_id", getattr(config, "decoder_start_token_id", None)) is None:
        raise UserError(
            f"{config.model_type}: the model does not say what its decoder begins with (decoder_start_token_id): set "
            "data.target_lang (data.lang) for a multilingual tokenizer, or model.config_overrides: "
            "{decoder_start_token_id: ...}"
        )


def scratch_values(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, chosen: dict[str, Any]
) -> dict[str, Any]:
    """Returns values of the configuration of a model from scratch that follow its tokenizer, beside the usual ones.

    The decoder begins with the token that it begins with in the architecture's own checkpoints: padding in T5 and
    Marian, the end of text in BART.

    Args:
        config: as the architecture has it by default.
        tokenizer: with all its added tokens.
        chosen: what the user chose stays.
    """
    start = getattr(config, "decoder_start_token_id", None)
    names = {name: getattr(config, f"{name}_token_id", None) for name in ("pad", "eos", "bos")}
    usual = "pad" if config.model_type in RELATIVE else "eos"
    like = next((name for name, number in names.items() if number is not None and number == start), usual)
    values = {"decoder_start_token_id": getattr(tokenizer, f"{like}_token_id")}
    if getattr(config, "forced_eos_token_id", None) is not None:
        values["forced_eos_token_id"] = tokenizer.eos_token_id
    if getattr(config, "decoder_vocab_size", None) is not None:
        values["decoder_vocab_size"] = len(tokenizer)
    return {name: value for name, value in values.items() if name not in chosen and value is not None}
