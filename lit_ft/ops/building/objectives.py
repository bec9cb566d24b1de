"""Which language modelling an architecture is made for: causal, masked, or XLNet's permutations."""

from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from lit_ft.errors import UserError

ENCODERS = {"bert-generation"}
"""Encoders unless their configuration says `is_decoder`, beside all that have both a masked and a causal model."""


def is_permutation(config: PreTrainedConfig) -> bool:
    """Says whether the model predicts the tokens of a text in a permuted order: XLNet."""
    return bool(config.model_type == "xlnet")


def check_causal(config: PreTrainedConfig) -> None:
    """Checks that a model of this configuration predicts each token from those before it alone.

    Raises:
        UserError: it does not, or has no such head; names what to use instead.
    """
    kind = config.model_type
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.is_encoder_decoder
    if is_permutation(config) or (masked and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        raise UserError(f"CausalLMModule: {kind} is a masked language model; use MaskedLMModule, MaskedLMDataModule")
    if not _has(config, "AutoModelForCausalLM", kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        raise UserError(f"CausalLMModule: {kind} is no causal language model; choose one such as gpt2 or llama")
    # where the one head looks both ways the loss would fall to nothing: the model sees what it is to predict
    switch = {"xlm": "causal"}.get(kind, "is_decoder")
    if (masked or kind in ENCODERS) and not getattr(config, switch, False):
        raise UserError(
            f"CausalLMModule: this {kind} model sees the tokens that it is to predict (a masked language model); use "
            f"MaskedLMModule, MaskedLMDataModule, or set config_overrides: {{{switch}: true}} to train it as a decoder"
        )


def check_masked(config: PreTrainedConfig) -> None:
    """Checks that a model of this configuration predicts masked tokens from all others.

    XLNet passes: it does so by permutations, with `XLNetLMHeadModel` (see `is_permutation`).

    Raises:
        UserError: it does not, or has no such head; names what to use instead.
    """
    kind = config.model_type
    if is_permutation(config):
        return
    if config.is_encoder_decoder:
        raise UserError(f"MaskedLMModule: {kind} writes its output token by token; choose an encoder such as roberta")
    if not _has(config, "AutoModelForMaskedLM", kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES):
        if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise UserError(
                f"MaskedLMModule: {kind} is a causal language model; use CausalLMModule, CausalLMDataModule"
            )
        raise UserError(f"MaskedLMModule: {kind} is no masked language model; choose an encoder such as roberta")
    for switch in ("is_decoder", "causal"):
        if getattr(config, switch, False) is True:
            raise UserError(
                f"MaskedLMModule: this {kind} model is a decoder ({switch}: true), which sees no token after a masked "
                f"one; use CausalLMModule, CausalLMDataModule, or set config_overrides: {{{switch}: false}}"
            )


def _has(config: PreTrainedConfig, auto_class: str, listed: bool) -> bool:
    """Says whether transformers, or the code beside the checkpoint, has such a model."""
    return listed or auto_class in (getattr(config, "auto_map", None) or {})
