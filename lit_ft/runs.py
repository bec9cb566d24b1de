"""The folder that a run leaves: `<default_root_dir>/version_N/`, and the checkpoints in it by name."""

import logging
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.load import _load_distributed_checkpoint

from lit_ft.errors import UserError, did_you_mean
from lit_ft.ops.building.checkpoint_extras import SHARDS_EXTRAS
from lit_ft.ops.building.shards import SHARDS_INDEX, check_shards

log = logging.getLogger("lit_ft")

CONFIG, CHECKPOINTS, EXPORT, PREDICTIONS = "config.yaml", "checkpoints", "hf", "predictions"
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


def run_number(folder: Path) -> int:
    """Returns N of `version_N`, -1 for anything else."""
    number = folder.name.removeprefix("version_")
    return int(number) if folder.name.startswith("version_") and number.isdecimal() else -1


def new_run(root: Path) -> Path:
    """Makes the next free `version_N` under `root`; two runs that start together get two folders."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"trainer.default_root_dir {str(root)!r} cannot be made: {error.strerror}") from None
    number = 1 + max((run_number(path) for path in root.iterdir()), default=-1)
    while True:
        try:
            (root / f"version_{number}").mkdir()
            return root / f"version_{number}"
        except FileExistsError:
            number += 1


def newest_run(root: Path) -> Path:
    """Returns the newest run under `root` that has saved a checkpoint.

    Raises:
        UserError: there is none.
    """
    runs = [
        path for path in root.glob("version_*") if run_number(path) >= 0 and any((path / CHECKPOINTS).glob("*.ckpt"))
    ]
    if not runs:
        raise UserError(f"no run with a checkpoint under {root.resolve()} (trainer.default_root_dir)")
    newest = max(runs, key=run_number)
    later = sorted(path.name for path in root.glob("version_*") if run_number(path) > run_number(newest))
    if later:
        log.info(f"{', '.join(later)}: no checkpoint there; the newest run with one is {newest.name}")
    return newest


def run_of(checkpoint: Path) -> Path | None:
    """Returns the run folder that a checkpoint lies in, or `None` when it lies elsewhere."""
    folder = checkpoint.parent
    return folder.parent if folder.name == CHECKPOINTS and (folder.parent / CONFIG).is_file() else None


def find_checkpoint(name: str, root: Path) -> Path:
    """Finds what `--ckpt_path` names.

    Args:
        name: a file, a run folder (its best checkpoint), or `last` or `best` of the newest run under `root`.
        root: where runs lie.

    Raises:
        UserError: there is no such checkpoint, it is damaged, or not safe to read.
    """
    found = _named(name, root)
    if found.is_dir():
        check_shards(found)
    return found


def _named(name: str, root: Path) -> Path:
    if name in ("last", "best"):
        return _in_run(newest_run(root), name)
    path = Path(name).expanduser()
    if path.is_file():
        if (found := damage(path)) is not None:
            raise UserError(f"{path} is damaged ({found}): take another one, or --ckpt_path last")
        return path
    if (path / CHECKPOINTS).is_dir():
        return _in_run(path, "best")
    if path.is_dir() and (path / SHARDS_INDEX).is_file():
        return path
    near = [str(entry) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(f"ckpt_path {name!r}: no such file or run folder{did_you_mean(name, [*near, 'last', 'best'])}")


def newest_or_none(root: Path) -> Path | None:
    """Returns the newest checkpoint of the newest run under `root`, or `None` where nothing was saved yet."""
    return find_checkpoint("last", root) if any(root.glob(f"version_*/{CHECKPOINTS}/*.ckpt")) else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Loads a checkpoint, a file or a folder of shards, as one dictionary; weights of a file stay on disk (mapped).

    Raises:
        UserError: a folder is not safe to read.
    """
    if path.is_dir():
        check_shards(path)
        return _load_distributed_checkpoint(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # type: ignore[no-any-return]


def damage(checkpoint: Path) -> str | None:
    """Reads a checkpoint through and compares the checksum of each part of it; returns what is wrong, if anything.

    Of a folder of shards only that all were written, for then its index and what is beside them was.
    """
    if checkpoint.is_dir():
        missing = [name for name in (SHARDS_INDEX, SHARDS_EXTRAS) if not (checkpoint / name).is_file()]
        return f"no {missing[0]} in it: it was not finished" if missing else None
    at = checkpoint.stat()
    return _damage(checkpoint, at.st_size, at.st_mtime_ns)


@cache
def _damage(checkpoint: Path, size: int, changed: int) -> str | None:
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        return str(error) or type(error).__name__
    return None if broken is None else f"the checksum of {broken} does not fit"


def _in_run(run: Path, name: str) -> Path:
    saved = sorted((run / CHECKPOINTS).glob("*.ckpt"), key=lambda path: (path.name == LAST, _step(path)), reverse=True)
    if not saved:
        raise UserError(f"{run}: no checkpoint in it")
    newest = _first_whole(saved)
    if name == "last":
        return newest
    best = best_of(newest)
    if best is None:
        raise UserError(f"{run}: no 'best' checkpoint; there are: {[path.name for path in saved]}")
    if (found := damage(best)) is not None:
        raise UserError(f"{best} is damaged ({found}); whole is {newest.name}: --ckpt_path last")
    return best


def _step(checkpoint: Path) -> int:
    """Returns how far training was, -1 where the file does not say; times of files may lie: clocks are set back."""
    file = checkpoint / SHARDS_EXTRAS if checkpoint.is_dir() else checkpoint
    try:
        return int(torch.load(file, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception:  # whatever a damaged file holds; what is wrong with it is said where it would be used
        return -1


def _first_whole(checkpoints: list[Path]) -> Path:
    """Returns the first checkpoint that is whole, and says which are not.

    Raises:
        UserError: none is.
    """
    for path in checkpoints:
        found = damage(path)
        if found is None:
            return path
        log.warning(f"{path} is damaged ({found}): the one before it is used")
    raise UserError(f"every checkpoint in {checkpoints[0].parent} is damaged: {[path.name for path in checkpoints]}")


def best_of(checkpoint: Path) -> Path | None:
    """Reads which file beside a checkpoint its `ModelCheckpoint` held for the best; folders may have moved since."""
    file = checkpoint / SHARDS_EXTRAS if checkpoint.is_dir() else checkpoint
    callbacks = torch.load(file, map_location="cpu", weights_only=True, mmap=True).get("callbacks", {})
    for name, state in callbacks.items():
        if "Checkpoint" in name and isinstance(state, dict) and state.get("best_model_path"):
            best = checkpoint.parent / Path(state["best_model_path"]).name
            return best if best.exists() else None
    return None
