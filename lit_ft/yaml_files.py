"""Finds the YAML files that a command names: where it says, or among the configurations that ship with the package."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from lit_ft.errors import UserError, did_you_mean

WORDS = ("--config", "-c")
"""Before the name of a file."""
SHIPPED = "configs"


def shipped_config(name: str) -> Path:
    """Returns the path of a configuration that ships with the package (in a checkout: in `configs/`)."""
    home = Path(str(files("lit_ft")))
    installed = home / SHIPPED
    return (installed if installed.is_dir() else home.parent / SHIPPED) / name.removeprefix(f"{SHIPPED}/")


def found_config(name: str, folders: Sequence[Path] = (Path(),)) -> Path:
    """Finds a file in one of some folders, or else among those that ship.

    Args:
        name: such as `my.yaml`, `configs/summarization/files.yaml` or `summarization/files.yaml`.
        folders: where to look first.

    Raises:
        UserError: there is none; the closest name is said.
    """
    places = [*(folder / name for folder in folders), shipped_config(name)]
    found = next((path for path in places if path.is_file()), None)
    if found is not None:
        return found
    of_place = [place.parent for place in places[:-1] if place.parent.is_dir()]
    near = [str(Path(name).parent / path.name) for folder in of_place for path in folder.glob("*.y*ml")]
    root = shipped_config("")
    near += [f"{SHIPPED}/{path.relative_to(root)}" for path in root.rglob("*.yaml")]
    same = [each for each in near if Path(each).name == name]  # `conll2003.yaml`
    hint = did_you_mean(name, near) if len(same) != 1 else f" — did you mean {same[0]!r}?"
    raise UserError(f"{name}: no such file here, nor among the configurations of lit_ft{hint}")


def with_found_configs(words: Sequence[str]) -> list[str]:
    """Returns the words of a command line, each `--config` with the path of its file.

    Raises:
        UserError: there is none.
    """
    found = []
    for before, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=")
        if before in WORDS:
            found.append(_path(word))
        else:
            found.append(f"{option}={_path(value)}" if equals and option in WORDS else word)
    return found


def _path(value: str) -> str:
    # a configuration can also be given as it stands: `--config '{"seed_everything": 1}'`
    if not value.strip() or value.lstrip()[0] in "{-" or "\n" in value:
        return value
    path = found_config(value)
    try:
        yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:  # jsonargparse does not say which file
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{path}{where}: {error.problem}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is no YAML file: {error}") from None
    return str(path)
