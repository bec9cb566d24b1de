"""Hashes of files' content that are remembered, so that a second start does not read a gigabyte again; never stale."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from lit_ft.errors import UserError

MEMORY = "fingerprints"
RACY_NS = 2_000_000_000
"""A file younger than this when it was read may change without a new time: no filesystem's clock is coarser."""
SKIPPED_FOLDERS = {".git", ".cache", "__pycache__"}
CACHED = ("cache-", "indices-", "tmp")


class Stamp(NamedTuple):
    """What changes with a file's content; the time of the inode cannot be set back, that of the content can."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def stamp(path: Path) -> Stamp:
    """Returns what shows cheaply, a moment later, whether a file is still the same.

    Raises:
        UserError: the file cannot be looked at.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def check_unchanged(before: dict[Path, Stamp]) -> None:
    """Compares files with their earlier stamps.

    Raises:
        UserError: one of them was written, replaced or deleted since.
    """
    for path, then in before.items():
        if not path.exists():
            raise UserError(f"{path} was deleted while its rows were in use: put it back, then start again")
        now = stamp(path)
        if now != then:
            raise UserError(
                f"{path} changed while its rows were in use ({then.size} bytes then, {now.size} now): "
                f"start again when nothing writes to it"
            )


def content_digest(path: Path, root: Path) -> str:
    """Returns the sha256 of a file's content, in hexadecimal.

    It is remembered under `root` with the file's stamp, and read from there as long as the stamp is the same. A file
    that changed in the last two seconds is not remembered (as git's "racily clean" entries): another change within
    the same tick of the clock would not be seen.

    Args:
        path: the file.
        root: where prepared folders lie.

    Raises:
        UserError: the file cannot be read, or it changes while it is read.
    """
    path = path.resolve()
    before = stamp(path)
    memory = root / MEMORY / f"{hashlib.sha256(os.fsencode(path)).hexdigest()}.json"
    remembered = _recall(memory, path, before)
    if remembered is not None:
        return remembered
    started = time.time_ns()
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    check_unchanged({path: before})
    if max(before.mtime_ns, before.ctime_ns) + RACY_NS <= started:
        _remember(memory, {"path": str(path), "stamp": list(before), "sha256": found})
    return found


def folder_digest(folder: Path, root: Path) -> str:
    """Hashes names and contents of all files in a folder, remembering the contents; see `content_digest`.

    Raises:
        UserError: a file cannot be read, or it changes while it is read.
    """
    names_and_contents = hashlib.sha256()
    for path in files_below(folder):
        name = os.fsencode(path.relative_to(folder).as_posix())
        names_and_contents.update(name + b"\0" + content_digest(path, root).encode())
    return names_and_contents.hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Lists a folder's files in a stable order, through links too, without what only tools read.

    What `Dataset.map` caches in a folder made by `save_to_disk` is no part of the data.
    """
    return sorted(_below(folder, frozenset()))


def forget(root: Path, before: float) -> int:
    """Deletes what was last remembered before a time (in seconds, as `time.time`); returns how many entries."""
    count = 0
    for path in (root / MEMORY).glob("*"):
        if (
            path.suffix in (".json", ".tmp")
            and len(path.name.partition(".")[0]) == 64
            and path.lstat().st_mtime < before
        ):
            path.unlink(missing_ok=True)
            count += path.suffix == ".json"
    return count


def _below(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:  # a link back to where we came from
        return
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from None
    saved = any(path.name == "state.json" for path in paths)
    for path in paths:
        if path.is_dir():
            if path.name not in SKIPPED_FOLDERS:
                yield from _below(path, above | {real})
        elif path.is_file() and not (saved and path.suffix == ".arrow" and path.name.startswith(CACHED)):
            yield path


def _recall(memory: Path, path: Path, now: Stamp) -> str | None:
    try:
        entry = json.loads(memory.read_text(encoding="utf-8"))
        if entry["path"] == str(path) and entry["stamp"] == list(now) and len(entry["sha256"]) == 64:
            return str(entry["sha256"])
    except (OSError, ValueError, KeyError, TypeError):  # never seen, or damaged: it costs a look into the file
        pass
    return None


def _remember(memory: Path, entry: dict[str, object]) -> None:
    working = memory.with_name(f"{memory.stem}.{uuid4().hex}.tmp")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        working.write_text(json.dumps(entry), encoding="utf-8")
        working.replace(memory)
    except OSError:  # a read-only or full disk costs time only
        with suppress(OSError):
            working.unlink(missing_ok=True)
