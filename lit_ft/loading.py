"""A checkpoint of ours -> the module that it is of, with its weights."""

from pathlib import Path
from typing import Any

from lit_ft.errors import UserError
from lit_ft.modules import TransformerModule
from lit_ft.objects import import_name, option_defaults
from lit_ft.ops.building.checkpoint_extras import read_extras
from lit_ft.runs import read_checkpoint


def load(path: Path, class_path: str | None = None) -> tuple[Any, dict[str, Any]]:
    """Loads a checkpoint, a file or a sharded folder, with the module that it is of.

    Args:
        path: the checkpoint.
        class_path: the module's class; needed for classes that are not lit_ft's own.

    Raises:
        UserError: the class is not named, or is none of ours.
    """
    extras = read_extras(path)
    name = class_path or extras.get("class_path", "")
    if class_path is None and not name.startswith("lit_ft."):
        raise UserError(f"{path} is of {name}, which is not lit_ft's: if you trust it, set class_path to {name}")
    try:
        kind = import_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"class_path {name}: {error}") from None
    if not (isinstance(kind, type) and issubclass(kind, TransformerModule)):
        raise UserError(f"{name} is no TransformerModule of lit_ft")
    taken = option_defaults(kind)
    module = kind(**{option: value for option, value in extras["hyper_parameters"].items() if option in taken})
    checkpoint = read_checkpoint(path)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    return module.eval(), checkpoint
