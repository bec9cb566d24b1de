"""Pretrained weights in 4 or 8 bits by bitsandbytes, beside which an adapter is trained (QLoRA, arXiv 2305.14314)."""

import inspect
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel

from lit_ft.errors import UserError, did_you_mean

SIZES = ("load_in_4bit", "load_in_8bit")


def read_quantization(
    option: dict[str, Any], adapted: bool, gguf_file: str | None, beside: Sequence[str] = ()
) -> BitsAndBytesConfig:
    """Returns the configuration that transformers takes.

    Args:
        option: its keys, such as `{load_in_4bit: true, bnb_4bit_quant_type: nf4}`.
        adapted: whether an adapter is trained.
        gguf_file: the file that weights come from, if it is one.
        beside: names of modules that stay as they are.

    Raises:
        UserError: an unknown key or value, nothing to train, or bitsandbytes is not installed.
    """
    known = [name for name in inspect.signature(BitsAndBytesConfig).parameters if name != "kwargs"]
    for key in option.keys() - {*known}:
        raise UserError(f"quantization: there is no {key!r}{did_you_mean(key, known)}; known: {', '.join(known)}")
    if not any(option.get(size) for size in SIZES):
        raise UserError("quantization: set load_in_4bit: true or load_in_8bit: true")
    if not adapted:
        raise UserError("quantization: weights of a few bits cannot be trained: set peft, such as {peft_type: LORA}")
    if gguf_file is not None:
        raise UserError("quantization: weights of a GGUF file are read as floats; take a model in safetensors")
    if find_spec("bitsandbytes") is None:
        raise UserError("quantization needs bitsandbytes: pip install 'lit-ft[quantization]'")
    try:
        made = BitsAndBytesConfig(**option)
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"quantization: {' '.join(str(error).split())}") from None
    made.llm_int8_skip_modules = [*(made.llm_int8_skip_modules or []), *beside]
    return made


def heads(auto_class: Any, config: PreTrainedConfig, trust_remote_code: bool) -> list[str]:
    """Returns the names of a model's heads, which stay as they are: they may be fresh, and cost little."""
    with torch.device("meta"):
        model = auto_class.from_config(config, trust_remote_code=trust_remote_code)
    return [
        name for name, part in model.named_children() if isinstance(part, nn.Linear) or "Head" in type(part).__name__
    ]


def lies_quantized(config: PreTrainedConfig) -> bool:
    """Says whether a configuration is that of weights which bitsandbytes has quantized already."""
    known = getattr(config, "quantization_config", None)
    values = known if isinstance(known, dict) else {} if known is None else known.to_dict()
    method = values.get("quant_method", "bitsandbytes" if any(values.get(size) for size in SIZES) else None)
    return getattr(method, "value", method) == "bitsandbytes"


def check_trainable(name: str, option: dict[str, Any] | None, adapted: bool) -> None:
    """Makes sure that weights which lie quantized are not to be quantized, or trained.

    Args:
        name: of their folder.
        option: how weights are to be quantized.
        adapted: whether an adapter is trained, or nothing.

    Raises:
        UserError: they are.
    """
    if option is not None:
        raise UserError(f"quantization: the weights in {name!r} are quantized already: leave it out")
    if not adapted:
        raise UserError(
            f"model_name_or_path {name!r}: its weights are quantized (quantization_config in its config.json), and "
            "cannot be trained in full: set peft, such as {peft_type: LORA}, or take the model in full precision"
        )


def placed() -> dict[str, Any]:
    """Returns where quantized weights are loaded: on this process's device, for they are made there."""
    if not torch.cuda.is_available():
        return {"device_map": {"": "cpu"}}
    return {"device_map": {"": torch.cuda.current_device()}}


QUANTIZED = {"Linear4bit": "Params4bit", "Linear8bitLt": "Int8Params"}
"""Classes of bitsandbytes' layers, and of the weights in them."""


def settle(model: PreTrainedModel, fresh: Iterable[str] = (), lie_so: bool = False) -> None:
    """Takes the quantization out of the configuration that is saved, and leaves weights on a CPU as they lie.

    The configuration would say that they lie in a few bits where they are loaded from; it stays where they do so. For
    a CPU bitsandbytes packs them anew in evaluation, for which small matrices are too narrow.

    Args:
        model: with its pretrained weights.
        fresh: names of parameters that do not come from a checkpoint.
        lie_so: the weights are quantized where they are loaded from.

    Raises:
        UserError: some of those were to be quantized, or weights are not as their configuration says.
    """
    few = {name: part for name, part in model.named_modules() if type(part).__name__ in QUANTIZED}
    if wrong := sorted({name.rpartition(".")[0] for name in fresh} & few.keys()):
        fix = f"set llm_int8_skip_modules: {wrong} beside load_in_4bit"
        if lie_so:
            fix = "take the model in full precision, and set quantization"
        raise UserError(
            f"quantization: the checkpoint has no weights for {', '.join(wrong)}, and fresh ones are learned in full: "
            f"{fix}"
        )
    if whole := [name for name, part in few.items() if type(part.weight).__name__ != QUANTIZED[type(part).__name__]]:
        raise UserError(
            f"quantization_config in the model's config.json says that its weights are quantized, but {whole[0]} is "
            "not: take it out of there, and set quantization"
        )
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, name) and not (lie_so and name == "quantization_config"):
            delattr(model.config, name)


def quantized_parts(names: Iterable[str], parameters: Iterable[str]) -> set[str]:
    """Returns which entries of a `state_dict` belong to quantized weights, such as their scales.

    Args:
        names: of the entries.
        parameters: names of the model's parameters.
    """
    known = {*parameters}
    return {name for name in names if name not in known and any(start in known for start in _starts(name))}


def _starts(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:size]) for size in range(1, len(parts))]
