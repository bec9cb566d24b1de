"""Hugging Face configurations and models: loaded, made from scratch, rebuilt from a checkpoint of ours."""

import inspect
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from lit_ft.data.labels import ProblemType
from lit_ft.data.reading.sources import resolve_path, why_not_loaded
from lit_ft.errors import UserError, did_you_mean
from lit_ft.ops.adapters.injecting import SUBFOLDER, base_of, is_adapter
from lit_ft.ops.building.config_overrides import check_weights_fit, override
from lit_ft.ops.building.positions import OFFSET_POSITIONS

log = logging.getLogger("lit_ft")

BASE_GGUF = "base_gguf_file"
"""What the configuration beside an exported adapter calls the file of the model that it was made for."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from; the names are those of transformers' scripts.

    Args:
        model_name_or_path: hub name, folder or `package://name/folder`; `None` = from scratch.
        config_name: configuration, where it is not the model's.
        model_type: architecture to make from scratch (`bert`, `gpt2`, ...).
        config_overrides: values that replace those of the configuration.
        model_revision: branch, tag or commit.
        trust_remote_code: run code that lies beside a checkpoint.
        gguf_file: name of the GGUF file in the folder.
        cache_dir: where downloads are kept.
        use_safetensors: read weights from safetensors only; `False` = also from pickles (`.bin`), tensors alone.
    """

    model_name_or_path: str | None = None
    config_name: str | None = None
    model_type: str | None = None
    config_overrides: dict[str, Any] | None = None
    model_revision: str = "main"
    trust_remote_code: bool = False
    gguf_file: str | None = None
    cache_dir: str | None = None
    use_safetensors: bool = True
    common: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        common: dict[str, Any] = {
            "revision": self.model_revision,
            "trust_remote_code": self.trust_remote_code,
            "cache_dir": self.cache_dir,
        }
        if self.gguf_file is not None:
            common["gguf_file"] = self.gguf_file
        object.__setattr__(self, "common", common)

    @property
    def adapter(self) -> str | None:
        """The folder, where it is that of an adapter: the model is then the one that it was made for."""
        folder = None if self.model_name_or_path is None else resolve_path(self.model_name_or_path)
        return folder if folder is not None and is_adapter(folder) else None

    def config(self) -> PreTrainedConfig:
        """Loads or makes the configuration.

        Raises:
            UserError: nothing there that is a model, an unknown `model_type`, or an override of no known name.
        """
        name = self.config_name or self.model_name_or_path
        if name is not None and self.model_type is not None:
            raise UserError(
                f"model_type {self.model_type!r} trains from scratch, but {name!r} is given, too: leave one of them out"
            )
        if name is not None:
            common = dict(self.common)
            if self.config_name is not None:
                common.pop("gguf_file", None)  # it lies in the model's folder
            if is_adapter(resolve_path(name)):
                common["subfolder"] = SUBFOLDER
                common.pop("gguf_file", None)  # it lies in the folder of the model that it was made for
            try:
                config = AutoConfig.from_pretrained(resolve_path(name), **common)
            except (OSError, ValueError, KeyError, ImportError) as error:
                why = why_not_loaded(name, error)
                raise UserError(f"model_name_or_path {name!r} is no model that can be loaded: {why}") from None
        elif self.model_type is None:
            raise UserError("no model: set model_name_or_path, or model_type to train from scratch")
        elif self.model_type not in CONFIG_MAPPING:
            raise UserError(
                f"unknown model_type {self.model_type!r}{did_you_mean(self.model_type, CONFIG_MAPPING.keys())}"
            )
        else:
            config = CONFIG_MAPPING[self.model_type]()
        return override(config, self.config_overrides or {}, fresh=name is None)

    def build(
        self, auto_class: Any, config: PreTrainedConfig, ignore_mismatched_sizes: bool, **kwargs: Any
    ) -> tuple[PreTrainedModel, list[str]]:
        """Loads the weights into a model with this configuration, or makes one with fresh weights.

        Returns:
            The model, and the names of the parameters that start fresh although a checkpoint was given.

        Raises:
            UserError: the folder holds no weights, or weights of other shapes; no model has this configuration.
        """
        if self.model_name_or_path is None:
            try:
                return auto_class.from_config(config, trust_remote_code=self.trust_remote_code, **kwargs), []
            except ValueError as error:
                raise UserError(f"no {config.model_type} model can be made: {' '.join(str(error).split())}") from None
        if self.config_overrides or self.config_name:
            given = replace(self, config_overrides=None).config()
            own = given if self.config_name is None else replace(self, config_overrides=None, config_name=None).config()
            check_weights_fit(auto_class, own, given, self.config_overrides or {}, self.trust_remote_code)
        file, common = self.gguf_file, self.common
        if self.adapter is not None and (file := getattr(config, BASE_GGUF, file)) is not None:
            common = {**common, "gguf_file": file}
        try:
            model, report = auto_class.from_pretrained(
                resolve_path(self.model_name_or_path) if self.adapter is None else base_of(self.adapter),
                config=config,
                ignore_mismatched_sizes=ignore_mismatched_sizes or self.adapter is not None,
                output_loading_info=True,
                use_safetensors=(self.use_safetensors and file is None) or None,
                weights_only=True,
                **common,
                **kwargs,
            )
        except (OSError, ValueError, ImportError, SafetensorError, UnpicklingError) as error:
            reason = str(error).strip().splitlines()[0]
            pickled = self.use_safetensors and "safetensors" in reason
            hint = "; if its weights are pickles (.bin) that you trust: use_safetensors: false" if pickled else ""
            raise UserError(f"model_name_or_path {self.model_name_or_path!r}: {reason}{hint}") from None
        except RuntimeError as error:
            if "ize" not in str(error):
                raise
            raise UserError(
                f"model_name_or_path {self.model_name_or_path!r}: its weights have other shapes than the configuration "
                f"(config_overrides? number of labels? then ignore_mismatched_sizes: true): {str(error)[:500]}"
            ) from None
        if file is not None:
            _forget_quantization(model)
        fresh = {*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])}
        return model, [name for name, _ in model.named_parameters() if name in fresh]


def _forget_quantization(model: PreTrainedModel) -> None:
    """Makes what a GGUF file gave the ordinary floats that it is: transformers would refuse to save or cast them."""
    model.hf_quantizer, model.is_quantized = None, False
    for owner, name in (
        (model, "quantization_method"),
        (model.config, "quantization_config"),
        (model.config, "_pre_quantization_dtype"),
        (model.config, "_is_quantized"),
    ):
        if hasattr(owner, name):
            delattr(owner, name)


SEQUENCE_HEAD, TOKEN_HEAD = "ForSequenceClassification", "ForTokenClassification"
"""How the names of classes end whose heads know labels."""


def pretrained_labels(config: PreTrainedConfig, head: str) -> list[str] | None:
    """Returns the label names of a checkpoint that has a trained head of a kind, or `None`."""
    heads = [name for name in config.architectures or [] if name.endswith(head)]
    names = [str(config.id2label[number]) for number in sorted(config.id2label or {})]  # some wrote numbers
    return names if heads and names else None


def head_of(auto_class: Any) -> str:
    """Returns how the names of classes end that have the head of one of transformers' `AutoModelFor...`."""
    return str(auto_class.__name__).removeprefix("AutoModel")


def label_config(names: Sequence[str]) -> dict[str, Any]:
    """Returns the values of a configuration that name a head's labels by id."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }


def padding_config(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase | None, auto_class: Any
) -> dict[str, Any]:
    """Returns the tokenizer's padding for the configuration of a decoder: its head reads the last token that is none.

    Args:
        config: the model's; where it knows no padding, any model gets the tokenizer's.
        tokenizer: of the rows.
        auto_class: transformers' `AutoModelFor...` of the head.
    """
    own, theirs = config.pad_token_id, None if tokenizer is None else tokenizer.pad_token_id
    if theirs is None or own == theirs or (own is not None and not _reads_last_token(config, auto_class)):
        return {}
    if own is not None:
        log.info(f"padding is token {theirs}, as the tokenizer has it; the model's configuration said {own}")
    return {"pad_token_id": theirs}


def _reads_last_token(config: PreTrainedConfig, auto_class: Any) -> bool:
    """Says whether the forward of a head looks for padding."""
    kind = auto_class._model_mapping.get(type(config), None)  # `None`: code beside a checkpoint
    return kind is not None and "pad_token_id" in inspect.getsource(kind.forward)


def check_head(config: PreTrainedConfig | None, names: Sequence[str], head: str, ignore_mismatched_sizes: bool) -> None:
    """Makes sure that a trained head of a kind has as many labels as the data, unless a new one is wanted.

    Raises:
        UserError: it has more, or fewer.
    """
    known = pretrained_labels(config, head) if config is not None else None
    if known is not None and len(known) != len(names) and not ignore_mismatched_sizes:
        raise UserError(
            f"the pretrained head has {len(known)} labels {known}, the data {len(names)}: "
            "set ignore_mismatched_sizes: true to start with a new head"
        )


def check_names(config: PreTrainedConfig, values: dict[str, Any], auto_class: Any) -> None:
    """Makes sure that labels which a trained head knows keep their places in it.

    Args:
        config: of the checkpoint, as it is.
        values: what it is to be told, perhaps with `id2label`.
        auto_class: what the model is opened with.

    Raises:
        UserError: a label would be read off the weights of another one.
    """
    known = pretrained_labels(config, head_of(auto_class))
    names = list((values.get("id2label") or {}).values())
    moved = [name for name in names if name in (known or []) and known and known.index(name) != names.index(name)]
    if moved:
        raise UserError(
            f"the pretrained head knows {known}, the data have {names}: {moved[0]!r} would get the weights of another "
            "label; name them in the head's order, or set ignore_mismatched_sizes: true to start with a new head"
        )


HEADS: dict[ProblemType, str] = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
"""Our problem types by transformers' names for them."""


def pretrained_problem_type(config: PreTrainedConfig | None) -> ProblemType:
    """Returns the problem type that a trained head was made for; `single_label` where it does not say."""
    kinds = {head: kind for kind, head in HEADS.items()}
    return kinds.get(str(getattr(config, "problem_type", None)), "single_label")


TOKEN_IDS = re.compile(r"(bos|eos|pad|sep|cls|unk|mask)_token_id")


def fit_to_tokenizer(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, overrides: dict[str, Any] | None = None
) -> None:
    """Gives the configuration of a model from scratch the tokenizer's vocabulary and special tokens.

    The defaults are those of a well-known checkpoint: GPT-2's end of text, 50256, is outside a vocabulary of 8,000.
    Padding that is the end of text, too, is no padding to the model: Llama would never train its embedding.

    Args:
        config: changed in place.
        tokenizer: with all its added tokens.
        overrides: what the user chose stays.

    Raises:
        UserError: the user chose a vocabulary that is smaller than the tokenizer's.
    """
    text = config.get_text_config()
    other_names = type(text).attribute_map
    chosen = {other_names.get(name, name) for name in overrides or {}}
    if other_names.get("vocab_size", "vocab_size") not in chosen:
        text.vocab_size = len(tokenizer)
    elif text.vocab_size < len(tokenizer):
        raise UserError(
            f"config_overrides: vocab_size {text.vocab_size:,} is below the tokenizer's {len(tokenizer):,} tokens; "
            "leave it out (it follows the tokenizer), or choose a larger one"
        )
    for name in list(vars(text)):
        found = TOKEN_IDS.fullmatch(name)
        if found is None or name in chosen:
            continue
        number = getattr(tokenizer, name, None)
        shared = number in (tokenizer.bos_token_id, tokenizer.eos_token_id)
        if found[1] == "pad" and shared and text.model_type not in OFFSET_POSITIONS:
            number = None
        with suppress(StrictDataclassError):  # some cannot be without: theirs stays
            setattr(text, name, number)


def resize_embeddings(model: PreTrainedModel, vocabulary: int) -> list[str]:
    """Adds embedding rows for new tokens; never removes rows (vocabularies are padded on purpose).

    Returns:
        Names of the parameters that grew.
    """
    try:
        rows = model.get_input_embeddings().weight.shape[0]
    except NotImplementedError:  # CANINE hashes characters
        return []
    if vocabulary <= rows:
        return []
    before = {name: value.shape for name, value in model.named_parameters(remove_duplicate=False)}
    model.resize_token_embeddings(vocabulary, mean_resizing=True)
    return [name for name, value in model.named_parameters(remove_duplicate=False) if value.shape != before.get(name)]


def freeze(model: nn.Module, patterns: list[str]) -> int:
    """Freezes the parameters whose names match a regular expression.

    Returns:
        How many parameters (numbers, not tensors) were frozen.

    Raises:
        UserError: a pattern matches nothing.
    """
    frozen = 0
    for pattern in patterns:
        matched = [parameter for name, parameter in model.named_parameters() if re.search(pattern, name)]
        if not matched:
            names = [name for name, _ in model.named_parameters()]
            raise UserError(f"freeze: {pattern!r} matches no parameter{did_you_mean(pattern, names)}")
        for parameter in matched:
            frozen += parameter.numel() if parameter.requires_grad else 0
            parameter.requires_grad_(False)
    return frozen


DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def weights_dtype(dtype: str | None, precision: str) -> torch.dtype | str:
    """Returns the dtype of the weights: as asked, else float32 unless the Trainer's precision is a true lower one.

    `from_pretrained` follows the file by default: a bfloat16 folder would train in pure bfloat16 unasked.
    """
    if dtype == "auto":
        return "auto"
    if dtype is not None:
        return DTYPES[dtype]
    return {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}.get(
        precision, torch.float32
    )
