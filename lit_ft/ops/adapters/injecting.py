"""Adapters of PEFT within a model: read from the keys of an `adapter_config.json`, injected in place, merged.

PEFT takes seconds to import; nothing here does so before an adapter is asked for.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from lit_ft.data.reading.sources import resolve_path
from lit_ft.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT's files put before the name of each weight."""

SUBFOLDER = "config"
"""Where an adapter folder keeps the configuration of the whole model: beside `adapter_config.json`, transformers would
take the folder for the base model."""

REFUSED = {
    "ADALORA", "ADAPTION_PROMPT", "SHADOW", "XLORA", "POLY", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE",
}  # fmt: skip
"""Adapters that have to be told of every step, of tasks or of examples, or that wrap the model."""

TASK_TYPES = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForQuestionAnswering": "QUESTION_ANS",
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
}
"""PEFT's names for the tasks that it has a class for."""


def is_adapter(folder: str | Path) -> bool:
    """Says whether a folder holds an adapter and no model."""
    return (Path(folder) / CONFIG).is_file() and not (Path(folder) / "config.json").exists()


def base_of(folder: str | Path) -> str:
    """Returns the model that an adapter was made for.

    Raises:
        UserError: its folder does not say.
    """
    base = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise UserError(
            f"{folder}: {CONFIG} names no base_model_name_or_path: set model_name_or_path, and peft to this"
        )
    return str(base)


def read_settings(option: str | dict[str, Any]) -> dict[str, Any]:
    """Returns the keys of an adapter's configuration: those given, or those of a saved adapter.

    Args:
        option: the keys, or the folder of an adapter.

    Raises:
        UserError: no such folder, PEFT is not installed, or PEFT knows no such adapter or key.
    """
    if isinstance(option, str):
        path = Path(resolve_path(option)) / CONFIG
        if not path.is_file():
            raise UserError(f"peft: {option!r} is no folder of an adapter: it has no {CONFIG}")
        option = {**json.loads(path.read_text(encoding="utf-8")), "inference_mode": False}
    adapter_config(option)
    return dict(option)


def adapter_config(settings: dict[str, Any]) -> "PeftConfig":
    """Returns PEFT's configuration of these keys; see `read_settings`."""
    try:
        from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
    except ImportError:
        raise UserError("adapters need PEFT: pip install 'lit-ft[peft]'") from None
    kinds = {kind.value: made for kind, made in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    name = settings.get("peft_type")
    if name is None:
        raise UserError("peft: no peft_type, such as LORA; its other keys are those of an adapter_config.json")
    if str(name).upper() not in kinds:
        raise UserError(f"peft: unknown peft_type {name!r}{did_you_mean(str(name).upper(), kinds)}")
    name = str(name).upper()
    shared = {
        kind.value for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items() if getattr(tuner, "uses_shared_state", 0)
    }
    if name in REFUSED | shared:
        raise UserError(
            f"peft: {name} has to be told of steps, tasks or examples, or wraps the model, which is not supported: use "
            "LORA"
        )
    known = set(kinds[name].__dataclass_fields__)
    for key in settings.keys() - known - {"peft_type"}:
        raise UserError(f"peft: {name} has no {key!r}{did_you_mean(key, known)}")
    try:
        return kinds[name](**{key: value for key, value in settings.items() if key != "peft_type"})  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise UserError(f"peft: {name}: {' '.join(str(error).split())}") from None


def whole_modules(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Returns the outermost modules that have none but these parameters; a part at least for each of them.

    Raises:
        UserError: a parameter is that of a module whose other parts are not to be trained.
    """
    wanted = set(names)
    found: list[str] = []
    for path, module in model.named_modules():
        own = {f"{path}.{name}" for name, _ in module.named_parameters(remove_duplicate=False)}
        if path and own and own <= wanted and not any(path.startswith(f"{outer}.") for outer in found):
            found.append(path)
    return found


def inject(
    model: PreTrainedModel, settings: dict[str, Any], task: str, fresh: Iterable[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Puts an adapter into a model, in place: only it, and what is fresh, is trained from here on.

    Args:
        model: with its pretrained weights.
        settings: keys of the adapter's configuration.
        task: name of the auto class, for PEFT's `task_type`.
        fresh: names of parameters that do not come from a checkpoint.

    Returns:
        The settings with all that was found out, and the modules that are trained as a whole beside the adapter.

    Raises:
        UserError: it does not fit the model.
    """
    made = adapter_config(settings)
    saved = list(getattr(made, "modules_to_save", None) or [])
    saved += [
        name for name in whole_modules(model, fresh) if name.rpartition(".")[2] not in saved and name not in saved
    ]
    made.modules_to_save = saved or None  # type: ignore[attr-defined]
    made.task_type = made.task_type or TASK_TYPES.get(task)
    if getattr(made, "target_modules", "") is None and not _has_targets(made, model.config):
        made.target_modules = "all-linear"  # type: ignore[attr-defined]
    _check_release()
    try:
        model.add_adapter(made)
    except (ValueError, TypeError) as error:
        linear = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.Linear)}
        targets = getattr(made, "target_modules", None)
        raise UserError(
            f"peft: {' '.join(str(error).split()).partition('. ')[0]}; target_modules: {_plain(targets)}; "
            f"linear layers here: {', '.join(sorted(linear))}, or all-linear"
        ) from None
    if made.task_type is None:
        made.auto_mapping = {"base_model_class": type(model).__name__, "parent_library": type(model).__module__}
    return plain_settings(made), saved


def _check_release() -> None:
    from transformers.integrations.peft import MIN_PEFT_VERSION
    from transformers.utils.peft_utils import check_peft_version

    try:
        check_peft_version(min_version=MIN_PEFT_VERSION)
    except ValueError as error:
        raise UserError(f"peft: {error}, or an older transformers: pip install -U peft") from None


def plain_settings(made: "PeftConfig") -> dict[str, Any]:
    """Returns all keys of a configuration as plain values."""
    return json.loads(json.dumps(made.to_dict(), default=_plain))  # type: ignore[no-any-return]


def _has_targets(made: "PeftConfig", config: PreTrainedConfig) -> bool:
    from peft.utils import constants

    kind = str(getattr(made.peft_type, "value", made.peft_type))
    table = getattr(constants, f"TRANSFORMERS_MODELS_TO_{kind}_TARGET_MODULES_MAPPING", {})
    return config.model_type in table


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset)) else getattr(value, "value", str(value))


@contextmanager
def without_adapter(model: nn.Module) -> Iterator[None]:
    """Has a model run as it was before it got its adapter.

    transformers' `disable_adapters` would also say anew which weights are trained.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    parts: list[Any] = [
        part for part in model.modules() if isinstance(part, (BaseTunerLayer, AuxiliaryTrainingWrapper))
    ]
    before = [part._disable_adapters for part in parts]
    try:
        for part in parts:
            part._disable_adapters = True
        yield
    finally:
        for part, state in zip(parts, before, strict=True):
            part._disable_adapters = state


def load_weights(model: PreTrainedModel, folder: str) -> None:
    """Loads a saved adapter's weights into one that was injected with its settings.

    Raises:
        UserError: they are pickled, or of another model.
    """
    from peft import set_peft_model_state_dict

    try:
        weights = {name.removeprefix(PREFIX): value for name, value in read_weights(folder).items()}
        result: Any = set_peft_model_state_dict(model, weights, adapter_name="default")
    except KeyError as error:
        raise UserError(
            f"peft: the adapter in {folder!r} has no weights for {error}, which is trained as a whole here "
            "(modules_to_save)"
        ) from None
    except (RuntimeError, SafetensorError) as error:
        raise UserError(
            f"peft: the adapter in {folder!r} is of another model: {' '.join(str(error).split())[:300]}"
        ) from None
    if strangers := list(result.unexpected_keys):
        raise UserError(f"peft: the adapter in {folder!r} is of another model: this one has no {strangers[0]!r}")


def read_weights(folder: str) -> dict[str, Tensor]:
    """Returns the weights of a saved adapter by their names there.

    Raises:
        UserError: there are none, or they are pickled.
    """
    path = Path(resolve_path(folder)) / WEIGHTS
    if not path.is_file():
        raise UserError(f"peft: {folder!r} has no {WEIGHTS}; pickled weights (.bin) are not read")
    return load_file(path)


def save(model: PreTrainedModel, state: dict[str, Tensor], folder: Path) -> None:
    """Writes the adapter of a model as PEFT does: its configuration, and its weights as safetensors.

    Args:
        model: with an adapter.
        state: the model's weights, which may be others than it has now.
        folder: to write to.
    """
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(model, state_dict=state, adapter_name="default", save_embedding_layers=False)
    write_folder(folder, {PREFIX + name: value for name, value in found.items()}, model.peft_config["default"], model)


def write_folder(folder: Path, weights: dict[str, Tensor], config: "PeftConfig", model: PreTrainedModel) -> None:
    """Writes the folder of an adapter.

    Args:
        folder: to write to.
        weights: by PEFT's names.
        config: of the adapter.
        model: that has the adapter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = {name: value.contiguous().clone() for name, value in weights.items()}
    save_file(own, folder / WEIGHTS, metadata={"format": "pt"})
    config.save_pretrained(str(folder))
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


def opened(base: PreTrainedModel, folder: Path) -> "PeftModel":
    """Returns a base model with the adapter in a folder, as PEFT opens it; the base is changed."""
    from peft import PeftModel

    return PeftModel.from_pretrained(base, str(folder))


def merged(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Returns a base model with the adapter in a folder added to its weights; the base is changed.

    Raises:
        UserError: the base is quantized.
    """
    if getattr(base, "is_quantized", False):
        raise UserError("a quantized model cannot take an adapter into its weights: export it without merging")
    return opened(base, folder).merge_and_unload(safe_merge=True)  # type: ignore[operator,no-any-return]
