"""Checkpoint files that appear whole or not at all, and what to do where a disk takes no more."""

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from lit_ft.errors import UserError
from lit_ft.runs import LAST, PREVIOUS

log = logging.getLogger("lit_ft")


class WholeFiles(TorchCheckpointIO):
    """Writes beside the place, syncs, renames; the newest checkpoint leaves the one before it as `previous.ckpt`.

    A checkpoint goes straight into its file, where Lightning would make it in memory once more.

    Args:
        on_failure: what to do when a file cannot be written: `warn` (go on; the older one stays) or `stop`.
    """

    def __init__(self, on_failure: Literal["warn", "stop"] = "warn") -> None:
        super().__init__()
        self.on_failure = on_failure
        self._said = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint.

        Raises:
            UserError: it could not be written, and that is to stop the run.
        """
        if "://" in str(path) or storage_options is not None:  # a bucket knows no rename
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path, start = Path(path), time.perf_counter()
        working = path.with_name(f".{path.name}.writing")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with working.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if path.name == LAST and path.exists():
                path.replace(path.with_name(PREVIOUS))
            working.replace(path)
            sync(path.parent)
        except (OSError, RuntimeError) as error:  # torch's writer turns some of the first into the second
            with contextlib.suppress(OSError):
                working.unlink(missing_ok=True)
            self._fail(path, error)
            return
        if not self._said:
            self._said = True
            size = path.stat().st_size / 1e6
            log.info(f"a checkpoint is {size:,.0f} MB and takes {time.perf_counter() - start:.1f} s")

    def _fail(self, path: Path, error: Exception) -> None:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        reason = cause.strerror if isinstance(cause, OSError) else str(error).splitlines()[0]
        there = "the one before it stays" if path.exists() else "there is none yet"
        message = f"{path} could not be written: {reason}; {there}"
        if self.on_failure == "stop":
            raise UserError(f"{message} (checkpoint.on_failure: warn would go on)") from None
        log.warning(f"{message}, and the run goes on (checkpoint.on_failure: stop would end it)")


def sync(path: Path) -> None:
    """Makes a file, or renames within a folder, outlast a crash of the machine, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_files(folder: Path) -> None:
    """Does so with all files in a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            sync(path)
