"""Folders named by the hash of all that went into them: built once, by one process, appearing whole or not at all."""

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from lit_ft.data.caching.digests import digest
from lit_ft.errors import UserError

log = logging.getLogger("lit_ft")

ENVIRONMENT = "LIT_FT_CACHE"
KEY, MANIFEST = "key.json", "manifest.json"
FOLDER = re.compile(r"[0-9a-f]{24}")
UNFINISHED = re.compile(r"([0-9a-f]{24})\.[0-9a-f]{32}\.tmp")
LOCK = re.compile(r"([0-9a-f]{24})\.lock")
FULL = {errno.ENOSPC, errno.EDQUOT}
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
ELSEWHERE = f"set preparation_dir (or the environment variable {ENVIRONMENT}) to a folder that can be written"


def preparation_root(directory: str | None) -> Path:
    """Returns where prepared data lies: the given folder, else `$LIT_FT_CACHE`, else `~/.cache/lit_ft`."""
    return Path(directory or os.environ.get(ENVIRONMENT) or Path.home() / ".cache" / "lit_ft").expanduser()


def once(key: dict[str, Any], build: Callable[[Path], None], root: Path, overwrite: bool = False) -> Path:
    """Returns the folder that `build` filled for this key, building it only when it is not there yet, whole.

    Processes that start together wait for the one that builds; what an interrupted build leaves never counts. A run
    that has the folder's files mapped keeps them when the folder is built anew.

    Args:
        key: everything that the result depends on, as plain values.
        build: fills the (empty) folder it is given.
        root: where prepared folders lie.
        overwrite: build anew.

    Raises:
        UserError: the folder cannot be written, or its disk is full.
    """
    target = root / digest(key)
    found = None if overwrite else find(target.name, root)
    if found is not None:
        return found
    _make(root)
    with _naming(root), _locked(target):
        found = None if overwrite else find(target.name, root)  # the process we waited for may have built it
        if found is not None:
            return found
        if target.is_dir() and not overwrite:
            log.info(f"{target} was damaged after it was prepared ({_damage(target)}): prepared anew")
        _sweep(target)
        working = _beside(target)
        working.mkdir()
        try:
            build(working)
            (working / KEY).write_text(json.dumps(key, indent=1, sort_keys=True, default=str))
            (working / MANIFEST).write_text(json.dumps({"sizes": _sizes(working)}, indent=1))
            _put_away(target)
            working.rename(target)
        finally:
            _sweep(target)
    return target


def find(name: str, root: Path) -> Path | None:
    """Returns the finished folder of this name and marks it as used now; `None` when there is none that is whole."""
    folder = root / name
    if FOLDER.fullmatch(name) is None or _damage(folder) is not None:
        return None
    with suppress(OSError):  # another user's folder: it can be read all the same
        os.utime(folder)
    return folder


def remove(name: str, root: Path) -> bool:
    """Deletes what there is under a name: its folder, its lock, what killed builds left.

    Returns:
        False, and nothing was deleted, when it is being prepared right now.
    """
    lock = FileLock(root / f"{name}.lock", mode=0o666)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    try:
        _put_away(root / name)
        _sweep(root / name)
        Path(lock.lock_file).unlink(missing_ok=True)  # still held: filelock lets nobody in by a lock that has no name
    finally:
        lock.release()
    return True


def being_prepared(name: str, root: Path) -> bool:
    """Says whether a process builds the folder of this name right now."""
    path = root / f"{name}.lock"
    if not path.exists():
        return False
    lock = FileLock(path, mode=0o666)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def _damage(folder: Path) -> str | None:
    """Says what is not as the build left it; only sizes are looked at, so that opening stays cheap."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text())["sizes"]
        for name, size in sizes.items():
            found = (folder / name).stat().st_size
            if found != size:
                return f"{name} has {found} bytes instead of {size}"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    return None


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _beside(target: Path) -> Path:
    return target.with_name(f"{target.name}.{uuid4().hex}.tmp")


def _put_away(target: Path) -> None:
    """Renames a folder before it is deleted: others see it whole or not at all."""
    with suppress(FileNotFoundError):
        target.rename(_beside(target))


def _sweep(target: Path) -> None:
    """Deletes what has no finished name; nobody else builds while we hold the lock."""
    for path in target.parent.glob(f"{target.name}.*.tmp"):
        if UNFINISHED.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _make(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"preparation_dir {str(root)!r} cannot be made: {error.strerror}; {ELSEWHERE}") from None


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    lock = FileLock(target.with_name(f"{target.name}.lock"), mode=0o666)  # other users of the cache wait for it, too
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info(f"another process prepares {target}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _naming(root: Path) -> Iterator[None]:
    """Says where to write instead, when it is the place that fails."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not _of_the_place(cause, root):
            cause = cause.__cause__ or cause.__context__  # libraries wrap it
        if not isinstance(cause, OSError):
            raise
        place, reason = f"preparation_dir {str(root)!r}", cause.strerror or cause
        if cause.errno in FULL:
            free = "free some space (lit-ft cache clear deletes earlier preparations)"
            raise UserError(f"{place}: the disk is full ({reason}); {free}, or {ELSEWHERE}") from error
        raise UserError(f"{place} cannot be written: {reason}; {ELSEWHERE}") from error


def _of_the_place(error: BaseException, root: Path) -> bool:
    if not isinstance(error, OSError):
        return False
    if error.filename is None:  # a write into an open file
        return error.errno in FULL
    inside = root.absolute() in Path(os.fsdecode(error.filename)).absolute().parents
    return inside and error.errno in FULL | DENIED
