"""Values of a configuration replaced by the user's, and the check that a checkpoint's weights still fit afterwards."""

import logging
from copy import deepcopy
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from lit_ft.errors import UserError, did_you_mean

log = logging.getLogger("lit_ft")

REFUSED = (StrictDataclassError, ValueError, TypeError, AttributeError)
"""What transformers says of a value that cannot be."""


def override(config: PreTrainedConfig, overrides: dict[str, Any], fresh: bool = False) -> PreTrainedConfig:
    """Returns a configuration with some values replaced.

    Args:
        config: stays as it is.
        overrides: values by name. What is a dict, or a configuration inside this one, keeps the values that are not
            named; `rope_parameters.rope_theta` names one of them, too.
        fresh: make it anew, so that values which follow from others (`head_dim`, `layer_types`) do so.

    Raises:
        UserError: an unknown name, or a value that cannot be.
    """
    config = deepcopy(config)
    values: dict[str, Any] = {}
    for key, value in overrides.items():
        name, *inner = key.split(".")
        _check_known(config, name)
        for part in reversed(inner):
            value = {part: value}
        try:
            values[name] = _merged(values.get(name, getattr(config, name)), value)
            if not fresh:
                setattr(config, name, values[name])
        except REFUSED as error:
            raise _explained(name, error) from None
    if not fresh:
        return config
    try:
        return type(config)(**values)
    except REFUSED as error:
        raise _explained(", ".join(values), error) from None


def check_weights_fit(
    auto_class: Any,
    own: PreTrainedConfig,
    given: PreTrainedConfig,
    overrides: dict[str, Any],
    trust_remote_code: bool = False,
) -> None:
    """Checks that a checkpoint's weights keep their names and shapes; builds models that take no memory to see it.

    What the overrides change otherwise is said.

    Args:
        auto_class: makes the model.
        own: the checkpoint's own configuration.
        given: that of `config_name`, where it is another one.
        overrides: values that replace those of `given`.
        trust_remote_code: make the model by code that lies beside the checkpoint.

    Raises:
        UserError: a weight changes; names the overrides at fault.
    """

    def weights(config: PreTrainedConfig) -> dict[str, torch.Size]:
        config = deepcopy(config)
        config.id2label = own.id2label  # heads follow the data, not the configuration
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            model = auto_class.from_config(config, trust_remote_code=trust_remote_code)
        return {name: weight.shape for name, weight in model.state_dict().items()}

    expected = weights(own)

    def fits(some: dict[str, Any]) -> bool:
        try:
            return weights(override(given, some)) == expected
        except (ValueError, RuntimeError, TypeError, AttributeError, KeyError, IndexError):
            return False  # such a model cannot even be made

    if not fits({}):
        raise UserError(
            "config_name: its model's weights have other names or shapes than those of model_name_or_path; leave "
            "one of the two out (config_name alone trains from scratch)"
        )
    if not fits(overrides):
        guilty = [name for name, value in overrides.items() if not fits({name: value})]
        raise UserError(
            f"config_overrides: {', '.join(guilty or overrides)}: weights would have other shapes or names than the "
            "checkpoint's; leave it out, or train from scratch (model_type instead of model_name_or_path)"
        )
    after = override(given, overrides)
    for name in dict.fromkeys(key.partition(".")[0] for key in overrides):
        if getattr(given, name) != getattr(after, name):
            log.info(f"config_overrides: {name}: {getattr(given, name)} -> {getattr(after, name)}")


def _check_known(config: PreTrainedConfig, name: str) -> None:
    if not hasattr(config, name):
        known = [known for known in {**vars(config), **type(config).attribute_map} if not known.startswith("_")]
        raise UserError(f"config_overrides: {type(config).__name__} has no {name!r}{did_you_mean(name, known)}")


def _merged(current: Any, value: Any) -> Any:
    if isinstance(value, dict) and isinstance(current, PreTrainedConfig):
        return override(current, value)
    if isinstance(value, dict) and isinstance(current, dict):
        return {**current, **{name: _merged(current.get(name), part) for name, part in value.items()}}
    return value


def _explained(names: str, error: Exception) -> UserError:
    return UserError(f"config_overrides: {names}: {' '.join(str(error).split())}")
