"""Prompts in, texts out: every option of transformers' `generate`, checked by name before a model is loaded."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from lit_ft.data.pairs.languages import language_codes
from lit_ft.errors import UserError, did_you_mean
from lit_ft.ops.building.sharding import rest_whole

log = logging.getLogger("lit_ft")

NEW_TOKENS = 128
"""Tokens that are generated where nobody says how many; transformers' own 20 end in the middle of a sentence."""

OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
OF_BEAMS = ("early_stopping", "length_penalty")
"""Options that do nothing without `do_sample`, or without `num_beams`; transformers saves no model that has them so."""

OF_OTHER_WAYS = (
    "num_beam_groups",
    "diversity_penalty",
    "penalty_alpha",
    "dola_layers",
    "constraints",
    "force_words_ids",
)
"""Options of ways of generating that transformers has taken out."""
FORBIDDEN = ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states")
"""Options that change what `generate` returns, which is not ours to hand on."""


def check_generation(options: dict[str, Any] | None) -> dict[str, Any]:
    """Checks options of `generate`.

    Returns:
        The options.

    Raises:
        UserError: one is unknown, or its value is refused by transformers.
    """
    options = dict(options or {})
    if "max_length" in options:
        raise UserError("generation: max_length counts the prompt, too: set max_new_tokens, how much is to come")
    known = [name for name in vars(GenerationConfig()) if not name.startswith("_") and name not in FORBIDDEN]
    for name in options:
        if name not in known:
            raise UserError(f"generation: there is no option {name!r}{did_you_mean(name, known)}")
    # not strictly, for the model's own way of generating completes them: it may have beams, or sample
    own = {} if {"num_beams", "do_sample"} & options.keys() else {"num_return_sequences": 1}
    try:
        GenerationConfig(**{**options, **own}).validate()
    except (ValueError, TypeError) as error:
        raise UserError(f"generation: {' '.join(str(error).split())}") from None
    if options.get("temperature") is not None and not options["temperature"] > 0:
        raise UserError(
            f"generation: temperature {options['temperature']} must be above 0 (do_sample: false is greedy)"
        )
    return options


def length_options(options: dict[str, Any], own: GenerationConfig | None = None) -> dict[str, Any]:
    """Returns options that say how long texts become, whoever says it.

    Args:
        options: those of the user.
        own: the model's own, once it is loaded.
    """
    # null says nothing; handed on, it would be transformers' own 20 tokens, whatever the model says
    said = {name: value for name, value in options.items() if name != "max_new_tokens" or value is not None}
    if "max_new_tokens" in said or (own is not None and own.max_new_tokens is not None):
        return said
    return {"max_new_tokens": NEW_TOKENS, **said}


def end_with(model: PreTrainedModel, token: int | None) -> list[int]:
    """Lets a token end what a model generates, beside those that do already; returns all of them."""
    known: Any = model.generation_config.eos_token_id
    ends = known if isinstance(known, list) else [] if known is None else [known]
    if token is not None and token not in ends:
        ends = model.generation_config.eos_token_id = [*ends, token]
    return ends


def chosen_tokens(ids: Tensor, config: GenerationConfig) -> tuple[Tensor, Tensor]:
    """Returns which generated tokens are part of a text, its end included, and which of them the model chose.

    Args:
        ids: what `generate` returned of an encoder-decoder, `[batch, 1 + new]`; the decoder's first token is no text.
        config: the way of generating. Tokens that it forces at the beginning, and where no more may come, are certain.

    Returns:
        Two masks of `ids[:, 1:]`.
    """
    new, ends = ids[:, 1:], config.eos_token_id
    behind = torch.zeros_like(new, dtype=torch.bool)
    if ends is not None:
        ended = torch.isin(new, torch.tensor(ends, device=ids.device)).cumsum(1) > 0
        behind[:, 1:] = ended[:, :-1]
    elif config.pad_token_id is not None:
        behind = new == config.pad_token_id
    forced = torch.zeros_like(behind)
    if config.forced_bos_token_id is not None:
        forced[:, :1] = True
    most = config.max_new_tokens or (config.max_length or 0) - 1
    if config.forced_eos_token_id is not None and new.shape[1] == most:
        forced[:, -1] = True
    return ~behind, ~behind & ~forced


@contextmanager
def generating(model: PreTrainedModel) -> Iterator[dict[str, Any]]:
    """Evaluation mode, no gradients; yields what `generate` must be told where the weights are shared out (FSDP2).

    There the processes run each layer together, so that all generate until the last one is done.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), rest_whole(model) as sharded:
            yield {"synced_gpus": True} if sharded else {}
    finally:
        model.train(training)


def set_generation(model: PreTrainedModel, options: dict[str, Any]) -> None:
    """Makes options part of the model's own way of generating, which is saved with it.

    What the model's own has and does nothing, such as a temperature without sampling, is taken out, and what `generate`
    would refuse, or return otherwise than we read it.

    Raises:
        UserError: they contradict each other, or the model's own.
    """
    config = model.generation_config
    if config.temperature == 0:  # as some write that nothing is sampled
        config.temperature, config.do_sample = None, False
    _take_out((*OF_OTHER_WAYS, *FORBIDDEN), config, options, "cannot be generated with")
    _update(config, options)
    _take_out(_idle(config), config, options, "did nothing without do_sample or num_beams")
    if options.get("max_new_tokens") is not None:
        config.max_length = None  # one of the two
        if (config.min_length or 0) > options["max_new_tokens"]:
            raise UserError(
                f"generation: the model generates at least {config.min_length} tokens (min_length), but max_new_tokens "
                f"is {options['max_new_tokens']}: set min_length, too"
            )
    _update(config, {}, strict=True)  # or it could not be saved


def _idle(config: GenerationConfig) -> tuple[str, ...]:
    """Returns the options that have no effect."""
    return (OF_SAMPLING if config.do_sample is not True else ()) + (OF_BEAMS if (config.num_beams or 1) == 1 else ())


def _take_out(names: Sequence[str], config: GenerationConfig, options: dict[str, Any], why: str) -> None:
    """Takes out what the model's own way says of some options, where the user says nothing, and tells so."""
    usual = GenerationConfig()
    own = [name for name in names if name not in options]
    found = [name for name in own if getattr(config, name, None) not in (None, False, getattr(usual, name, None))]
    for name in found:
        setattr(config, name, None)
    if found:
        log.info(f"the model's own {', '.join(found)} {why}, and will not be saved")


def _update(config: GenerationConfig, options: dict[str, Any], strict: bool = False) -> None:
    try:
        config.update(**options)
        config.validate(strict=strict)
    except ValueError as error:
        raise UserError(f"generation: {' '.join(str(error).split())}") from None


def generated(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: dict[str, Tensor],
) -> list[list[str]]:
    """Goes on from prompts by the model's own way of generating; where it does not say how far, `NEW_TOKENS` tokens.

    Args:
        model: a model that can generate.
        tokenizer: decodes what comes out.
        prompts: `input_ids` and `attention_mask`, padded on the left, `[batch, seq]`.

    Returns:
        For each prompt, the texts (without the prompt), `num_return_sequences` of them.
    """
    with generating(model) as together:
        chosen = {"pad_token_id": tokenizer.pad_token_id, **length_options({}, model.generation_config)}
        ids = model.generate(**prompts, **chosen, **together, tokenizer=tokenizer)
    texts = tokenizer.batch_decode(ids[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
    return in_groups(texts, len(prompts["input_ids"]))


def texts_of(tokenizer: PreTrainedTokenizerBase | None, ids: Tensor) -> list[str]:
    """Returns what an encoder-decoder generated as texts.

    Args:
        tokenizer: decodes; it has to be there.
        ids: of tokens, `[texts, seq]`.
    """
    assert tokenizer is not None, "texts need a tokenizer: set tokenizer_name"
    codes, padding = [*language_codes(tokenizer).values()], tokenizer.pad_token_id
    if codes and padding is not None:  # M2M100's tokenizer does not take its codes for special tokens
        ids = ids.masked_fill(torch.isin(ids, torch.tensor(codes, device=ids.device)), padding)
    return list(tokenizer.batch_decode(ids, skip_special_tokens=True))


def in_groups(values: Sequence[Any], groups: int) -> list[list[Any]]:
    """Returns values that lie end to end by what they are of, such as the texts of each prompt; as many of each."""
    each = len(values) // groups
    return [list(values[start : start + each]) for start in range(0, len(values), each)]
