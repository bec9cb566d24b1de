"""A checkpoint of ours -> the module that it is of, with its weights; classes that files name."""

from pathlib import Path
from typing import Any

from lit_ft.errors import UserError
from lit_ft.modules import TransformerModule
from lit_ft.objects import OURS, import_name, option_defaults
from lit_ft.ops.building.checkpoint_extras import read_extras
from lit_ft.runs import read_checkpoint


def load(path: Path, class_path: str | None = None, trust_remote_code: bool = False) -> tuple[Any, dict[str, Any]]:
    """Loads a checkpoint, a file or a sharded folder, with the module that it is of.

    Args:
        path: the checkpoint.
        class_path: the module's class; needed for classes that are not lit_ft's own.
        trust_remote_code: run code beside a model or in the checkpoint; what the file itself says of that is nothing.

    Raises:
        UserError: the class is not named, or is none of ours.
    """
    extras = read_extras(path)
    name = class_path or extras.get("class_path", "")
    kind = named_class(name, TransformerModule, bool(class_path), f"{path} is of {name}")
    taken = option_defaults(kind)
    options = {option: value for option, value in extras["hyper_parameters"].items() if option in taken}
    module = kind(**{**options, "trust_remote_code": trust_remote_code})
    checkpoint = read_checkpoint(path)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    return module.eval(), checkpoint


def named_class(name: str, kind: type, trusted: bool, said: str, to_trust: str | None = None) -> Any:
    """Imports a class that a file or a person names.

    Args:
        name: its path.
        kind: the class of lit_ft's that it has to be one of.
        trusted: a person has set `class_path`; else only lit_ft's own are imported.
        said: what is of this class, for errors.
        to_trust: what to set `class_path` to. Default: its path.

    Raises:
        UserError: it is not lit_ft's and nobody vouches for it, or it is no such class.
    """
    if not trusted and not name.startswith(OURS):
        raise UserError(f"{said}, which is not lit_ft's: if you trust it, set class_path to {to_trust or name}")
    try:
        found = import_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"class_path {name}: {error}") from None
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise UserError(f"class_path {name}: it is no {kind.__name__} of lit_ft")
    return found
