"""`lit-ft cache list | clear`: what was prepared, how large it is, when it was last used; and taking it away.

Starts without torch and Lightning.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from lit_ft.data.caching.cache import FOLDER, KEY, LOCK, UNFINISHED, being_prepared, preparation_root, remove
from lit_ft.data.caching.fingerprints import forget
from lit_ft.errors import UserError, did_you_mean

DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Entry:
    """One finished folder."""

    folder: Path

    @property
    def name(self) -> str:
        """The hash of all that went into it."""
        return self.folder.name

    @cached_property
    def size(self) -> int:
        """Bytes on disk."""
        return _size(self.folder)

    @property
    def made(self) -> float:
        """When it was finished, as `time.time`."""
        return (self.folder / KEY).stat().st_mtime

    @property
    def last_used(self) -> float:
        """When a run opened it last, as `time.time`."""
        return self.folder.stat().st_mtime

    @cached_property
    def key(self) -> dict[str, Any]:
        """What it depends on."""
        return _json(self.folder / KEY)

    @property
    def rows(self) -> str:
        """Number of rows by split, and by set where a split has several."""
        counts = _json(self.folder / "content.json").get("rows") or {}
        numbers = {f"{kind} {name}".strip(): number for kind, sets in counts.items() for name, number in sets.items()}
        return "\n".join(f"{name} {number:,}" for name, number in numbers.items())

    @property
    def model(self) -> str:
        """The tokenizer, or the model that it belongs to."""
        trained = self.key.get("trained_tokenizer")
        if trained is not None:
            return f"trained: {trained['vocab_size']:,} tokens"
        options = self.key.get("options") or {}
        return str(options.get("tokenizer_name") or options.get("model_name_or_path") or "")

    @property
    def files(self) -> str:
        """Names of the data set or of the files, the first few."""
        source = (self.key.get("options") or {}).get("dataset_name")
        paths = [*([source] if source else []), *_paths(self.key.get("rows"))]
        names = list(dict.fromkeys(Path(path).name for path in paths))
        return "\n".join(names[:4]) + (f"\nand {len(names) - 4} more" if len(names) > 4 else "")


def cache(arguments: list[str] | None = None) -> None:
    """Runs `lit-ft cache`.

    Args:
        arguments: the words after `cache`, those of the command line by default.

    Raises:
        UserError: a name is not known, or something cannot be deleted.
    """
    options = parser().parse_args(sys.argv[2:] if arguments is None else arguments)
    root = preparation_root(options.preparation_dir)
    if options.command == "list":
        show(root)
    else:
        clear(root, options.names, options.older_than_days, options.all, options.yes, options.dry_run)


def entries(root: Path) -> list[Entry]:
    """Finished folders, the one used last at the end; a folder that is not ours is none."""
    folders = [path for path in root.glob("*") if FOLDER.fullmatch(path.name) and not path.is_symlink()]
    return sorted((Entry(path) for path in folders if (path / KEY).is_file()), key=lambda entry: entry.last_used)


def show(root: Path) -> None:
    """Prints the table of what was prepared."""
    found = entries(root)
    if not found:
        print(f"nothing is prepared in {root}")
        return
    table = Table(title=str(root), show_lines=True)
    table.add_column("name", no_wrap=True)
    for column in ("size", "rows", "tokenizer", "data", "made", "last used"):
        table.add_column(column, overflow="fold", justify="right" if column == "size" else "left")
    for entry in found:
        times = [datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M") for at in (entry.made, entry.last_used)]
        table.add_row(entry.name, decimal(entry.size), entry.rows, entry.model, entry.files, *times)
    Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False).print(table)
    folders = "1 folder" if len(found) == 1 else f"{len(found)} folders"
    print(f"{folders}, {decimal(sum(entry.size for entry in found))} in {root}")


def clear(root: Path, names: list[str], older_than_days: float | None, everything: bool, yes: bool, dry: bool) -> None:
    """Deletes finished folders, and always what killed builds left.

    Args:
        root: where prepared folders lie.
        names: the folders to delete.
        older_than_days: delete only what no run has opened for so long.
        everything: delete all folders. Remembered fingerprints of files go too, unless folders are named.
        yes: do not ask.
        dry: only say what would be deleted.

    Raises:
        UserError: it is not said what to delete, a name is not known, or a folder cannot be deleted.
    """
    found = entries(root)
    before = time.time() - (older_than_days or 0) * DAY
    chosen = [entry for entry in _named(found, names, older_than_days, everything) if entry.last_used <= before]
    unfinished = [path for path in root.glob("*.tmp") if UNFINISHED.fullmatch(path.name) and not path.is_symlink()]
    folders = [*(entry.folder for entry in chosen), *unfinished]
    with _explained():
        busy = {name for name in {_name(path) for path in folders} if being_prepared(name, root)}
        for name in sorted(busy):
            print(f"{name} is being prepared right now: left alone")
        folders = [path for path in folders if _name(path) not in busy]
        total = 0
        for path in folders:
            total += (size := _size(path))
            what = "left by a build that was killed" if path in unfinished else Entry(path).model
            print(f"{path.name}  {decimal(size)}  {what}")
        if dry:
            print(f"{len(folders)} to delete, {decimal(total)} in {root}; nothing was deleted (--dry_run)")
        elif folders and not yes and not _agreed(f"delete these {len(folders)}, {decimal(total)}? [y/N] "):
            print("nothing was deleted")
        else:
            locks = [match[1] for path in root.glob("*.lock") if (match := LOCK.fullmatch(path.name))]
            for name in {_name(path) for path in folders} | {name for name in locks if not (root / name).exists()}:
                remove(name, root)
            if not names:
                forget(root, before)
            print(f"{sum(not path.exists() for path in folders)} deleted in {root}")


def parser() -> argparse.ArgumentParser:
    """Returns the options."""
    made = argparse.ArgumentParser(prog="lit-ft cache", description="Prepared data: what there is, and deleting it.")
    commands = made.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--preparation_dir", help="where prepared data lies (default: $LIT_FT_CACHE, ~/.cache/lit_ft)")
    commands.add_parser("list", parents=[common], help="what was prepared, its size, and when it was last used")
    clearing = commands.add_parser(
        "clear", parents=[common], help="delete prepared data; it is prepared anew when needed"
    )
    clearing.add_argument("names", nargs="*", metavar="name", help="folders to delete, as `list` names them")
    clearing.add_argument("--older_than_days", type=float, metavar="N", help="only what no run has opened for N days")
    clearing.add_argument("--all", action="store_true", help="all folders, and the remembered fingerprints of files")
    clearing.add_argument("--yes", action="store_true", help="do not ask")
    clearing.add_argument("--dry_run", action="store_true", help="only say what would be deleted")
    return made


def _named(found: list[Entry], names: list[str], older_than_days: float | None, everything: bool) -> list[Entry]:
    if names and everything:
        raise UserError("cache clear takes names or --all, not both")
    if not names and not everything and older_than_days is None:
        raise UserError("say what to clear: names (lit-ft cache list shows them), --older_than_days N, or --all")
    known = {entry.name: entry for entry in found}
    for name in names:
        if name not in known:
            raise UserError(f"nothing prepared is called {name!r}{did_you_mean(name, known)} (lit-ft cache list)")
    return [known[name] for name in dict.fromkeys(names)] if names else found


def _paths(prints: Any) -> list[str]:
    """Finds the paths in a key's fingerprints: pairs of a path and the sha256 of what is there, at any depth."""
    if isinstance(prints, dict):
        return [path for part in prints.values() for path in _paths(part)]
    if not isinstance(prints, list):
        return []
    if len(prints) == 2 and all(isinstance(part, str) for part in prints):
        return [prints[0]] if len(prints[1]) == 64 else []
    return [path for part in prints for path in _paths(part)]


def _name(path: Path) -> str:
    return path.name.partition(".")[0]


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be deleted: {error.strerror}") from None


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        raise UserError("nobody is there to ask: give --yes to delete, or --dry_run to only look") from None


def _size(folder: Path) -> int:
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(folder) for name in names)


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
