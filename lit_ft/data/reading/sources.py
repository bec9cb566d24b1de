"""Where rows come from: files (one, a list, a glob), a hub or local data set, or objects in memory."""

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from datasets import Dataset, DatasetDict, IterableDataset, get_dataset_split_names, load_dataset, load_from_disk
from datasets.data_files import EmptyDatasetError
from datasets.exceptions import DataFilesNotFoundError, DatasetsError
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from lit_ft.data.caching.fingerprints import Stamp, files_below, stamp
from lit_ft.data.reading.readers import ReadOptions, check_file, file_format, rows_to_table
from lit_ft.errors import UserError, did_you_mean

Files = str | list[str]
NamedFiles = str | list[str] | dict[str, Files]
Opened = TypeVar("Opened", Dataset, IterableDataset)

PACKAGE_SCHEME = "package://"


def resolve_path(name: str) -> str:
    """Turns `package://some_package/inside/path` into the path on disk; any other name is returned as it is.

    Raises:
        UserError: the package is not installed, or the path leads out of it.
    """
    if not name.startswith(PACKAGE_SCHEME):
        return name
    package, _, inside = name.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = find_spec(package)  # unlike importlib.resources it does not run the package
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{name}: the package {package!r} is not installed (pip install {package})")
    home = Path(spec.submodule_search_locations[0])
    # as it is written: installers may keep a package's files elsewhere, behind links
    if not (found := Path(os.path.normpath(home / inside))).is_relative_to(home):
        raise UserError(f"{name}: leads out of the package {package!r}, to {found}")
    return str(found)


def why_not_loaded(name: str, error: Exception) -> str:
    """Says why nothing could be loaded from a name that may be a folder's or the hub's: the first line of the error."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if Path(resolve_path(name)).exists():
        return reason
    try:
        validate_repo_id(name)
    except HFValidationError:
        return f"there is no such folder in {Path.cwd()}"
    return f"there is no such folder in {Path.cwd()}, and of the hub: {reason}"


def expand_files(names: Files, options: ReadOptions | None = None) -> list[Path]:
    """Lists the files behind one name, a list of names, or globs, in a stable order.

    Raises:
        UserError: a glob matches nothing, or the list is empty.
    """
    return [path for _, path in named_files(names, options)]


def named_files(names: Files, options: ReadOptions | None = None) -> list[tuple[str, Path]]:
    """Lists the files as `expand_files` does, each with what the user called it.

    Raises:
        UserError: a glob matches nothing, a name is a folder, or the list is empty.
    """
    if not names:
        raise UserError("the list of files is empty: name at least one")
    files: list[tuple[str, Path]] = []
    for name in [names] if isinstance(names, str) else names:
        path = Path(resolve_path(name)).expanduser()
        if glob.has_magic(str(path)) and not path.exists():
            matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())
            if not matches:
                raise UserError(f"{name}: the pattern matches no file{_matched_folders(path)}")
            _check_inside(name, path, matches)
            files.extend((str(match), match) for match in matches)
        else:
            if path.is_dir():
                check_file(path)
            file_format(path, options)
            files.append((name, path))
    return files


def _fixed_part(pattern: Path) -> Path:
    return next(folder for folder in pattern.parents if not glob.has_magic(str(folder)))


def _check_inside(name: str, pattern: Path, matches: list[Path]) -> None:
    """Refuses links that lead out of the folder that a pattern names: whoever filled it could name any file."""
    folder = _fixed_part(pattern).resolve()
    # the hub's cache keeps the files of a snapshot as links to `blobs` beside it
    allowed = folder.parents[1] if len(folder.parents) > 1 and folder.parent.name == "snapshots" else folder
    for match in matches:
        if not (target := match.resolve()).is_relative_to(allowed):
            raise UserError(
                f"{name}: {match} is a link that leads out of {folder}, to {target}; list that file by name"
            )


def _matched_folders(pattern: Path) -> str:
    parent = _fixed_part(pattern)
    return "" if parent.is_dir() else f" (there is no folder {parent})"


@dataclass(frozen=True)
class HubSource:
    """A data set by name, from the hub or a local folder (`save_to_disk` output or a folder of data files)."""

    name: str
    config_name: str | None = None
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder that is meant, if one is."""
        folder = Path(resolve_path(self.name)).expanduser()
        return folder if folder.is_dir() else None

    def load(self, split: str) -> Dataset:
        """Loads one split; `config/split` takes it from another configuration (XNLI's languages).

        Raises:
            UserError: no such data set or split.
        """
        return self._split(split, streaming=False)  # type: ignore[no-any-return]

    def stream(self, split: str) -> Dataset | IterableDataset:
        """Opens one split to be read as it comes, by the same names; one that is saved is mapped into memory.

        Raises:
            UserError: no such data set or split.
        """
        return self._split(split, streaming=True)  # type: ignore[no-any-return]

    def splits(self) -> set[str]:
        """Names of the splits there are; rows are loaded for it only where nothing else says them (without network)."""
        if self.folder is None or not _is_saved(self.folder):
            try:
                return set(
                    get_dataset_split_names(str(self.folder or self.name), self.config_name, revision=self.revision)
                )
            except (OSError, ValueError, RuntimeError, DatasetsError):
                pass  # loading says what is wrong
        return set(self._parts(self.config_name))

    def _split(self, split: str, streaming: bool) -> Any:
        config, _, name = split.rpartition("/")
        return pick_split(self._parts(config or self.config_name, streaming), name, f"dataset_name {self.name!r}")

    def _parts(self, config_name: str | None, streaming: bool = False) -> Mapping[str, Any]:
        folder = Path(resolve_path(self.name)).expanduser()
        if folder.is_file() and folder.suffix != ".py":
            raise UserError(f"dataset_name {self.name!r} is a file; name it in train_file (or validation_file, ...)")
        try:
            if _is_saved(folder):
                loaded = load_from_disk(str(folder))
            elif streaming:
                path = str(folder) if folder.is_dir() else self.name
                loaded = load_dataset(path, config_name, revision=self.revision, streaming=True)
            elif folder.is_dir():
                stamps = tuple(stamp(path) for path in files_below(folder))
                loaded = _loaded_folder(str(folder), config_name, stamps)
            else:
                loaded = load_dataset(self.name, config_name, revision=self.revision)
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            raise UserError(
                f"dataset_name {self.name!r}: {str(error).rpartition(' ')[2]} is a loading script: foreign code, "
                "which is never run here; run it yourself with an older `datasets`, save_to_disk, and name that folder "
                "(on the hub, revision: refs/convert/parquet often has the rows)"
            ) from None
        except (EmptyDatasetError, DataFilesNotFoundError) as error:
            if folder.is_dir():
                found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "it is empty"
                raise UserError(f"dataset_name {self.name!r}: the folder holds no data files ({found})") from None
            raise UserError(f"dataset_name {self.name!r}: {error}") from None
        except (OSError, ValueError, DatasetsError) as error:
            reason = error.__cause__ or error  # datasets wraps what it cannot read into an error that does not say why
            raise UserError(f"dataset_name {self.name!r}: {reason}") from None
        return loaded if isinstance(loaded, Mapping) else {"train": loaded}


def _is_saved(folder: Path) -> bool:
    return any((folder / marker).is_file() for marker in ("dataset_dict.json", "dataset_info.json", "state.json"))


@lru_cache(maxsize=4)
def _loaded_folder(folder: str, config_name: str | None, stamps: tuple[Stamp, ...]) -> Any:
    # `datasets` trusts the files' times: a file that was edited and has its old time would give the old rows
    return load_dataset(folder, config_name, download_mode="force_redownload")


def in_memory(data: Any, place: str = "dataset") -> dict[str, Dataset]:
    """Turns a Dataset, DatasetDict, list of dicts, DataFrame, or a dict of these by split, into data sets by split.

    Raises:
        UserError: the object is none of these.
    """
    if isinstance(data, DatasetDict):
        return dict(data)
    if isinstance(data, Dataset):
        return {"train": data}
    if isinstance(data, Mapping):
        nested = [name for name, part in data.items() if isinstance(part, Mapping)]
        if nested:
            raise UserError(f"{place}[{nested[0]!r}]: expected the rows of one split, found a dict")
        return {name: in_memory(part, f"{place}[{name!r}]")["train"] for name, part in data.items()}
    if isinstance(data, list):
        if not data:
            raise UserError(f"{place}: the list has no rows")
        return {"train": Dataset(rows_to_table(data, place))}
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        try:
            return {"train": Dataset.from_pandas(data, preserve_index=False)}
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            raise UserError(f"{place}: the DataFrame cannot be read ({error}); make each column one kind") from None
    raise UserError(
        f"{place}: expected a Dataset, DatasetDict, list of dicts or DataFrame, found {type(data).__name__}"
    )


def pick_split(parts: Mapping[str, Opened], split: str, place: str) -> Opened:
    """Takes one split out of a loaded data set.

    Raises:
        UserError: there is no such split.
    """
    if split not in parts:
        raise UserError(f"{place} has no split {split!r}; splits: {sorted(parts)}{did_you_mean(split, parts)}")
    data = parts[split]
    if isinstance(data, IterableDataset):
        return data
    # a format set for other uses (tensors, only some columns) would change what is read
    plain = data.format["type"] is None and list(data.format["columns"]) == data.column_names
    return data if plain else data.with_format(None)
