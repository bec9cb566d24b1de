"""Where rows come from: files (one, a list, a glob), a hub or local data set, or objects in memory."""

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError

from lit_ft.data.readers import ReadOptions, file_format, read_file, rows_to_table
from lit_ft.errors import UserError, did_you_mean

Files = str | list[str]
NamedFiles = str | list[str] | dict[str, Files]

PACKAGE_SCHEME = "package://"


def resolve_path(name: str) -> str:
    """Turns `package://some_package/inside/path` into the path on disk; any other name is returned as it is.

    Raises:
        UserError: the package is not installed.
    """
    if not name.startswith(PACKAGE_SCHEME):
        return name
    package, _, inside = name.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = find_spec(package)  # unlike importlib.resources it does not run the package
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{name}: the package {package!r} is not installed (pip install {package})")
    return str(Path(spec.submodule_search_locations[0], inside))


def expand_files(names: Files) -> list[Path]:
    """Lists the files behind one name, a list of names, or globs, in a stable order.

    Raises:
        UserError: a glob matches nothing, or the list is empty.
    """
    if not names:
        raise UserError("the list of files is empty: name at least one")
    paths: list[Path] = []
    for name in [names] if isinstance(names, str) else names:
        resolved = str(Path(resolve_path(name)).expanduser())
        if glob.has_magic(resolved) and not Path(resolved).exists():
            matches = sorted(path for path in map(Path, glob.glob(resolved, recursive=True)) if path.is_file())
            if not matches:
                raise UserError(f"{name}: the pattern matches no file")
            paths.extend(matches)
        else:
            file_format(Path(resolved))
            paths.append(Path(resolved))
    return paths


def read_files(names: Files, options: ReadOptions) -> Dataset:
    """Reads files of any mix of formats into one data set; all must have the same columns.

    Raises:
        UserError: see `lit_ft.data.readers.read_file`; also when two files have different columns.
    """
    paths = expand_files(names)
    tables = [read_file(path, options) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if set(table.column_names) != set(tables[0].column_names):
            raise UserError(f"{path} has columns {table.column_names}, but {paths[0]} has {tables[0].column_names}")
    try:
        table = pa.concat_tables(_of_one_kind(tables), promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(f"{names}: the files' columns differ in kind ({error})") from None
    return Dataset(table)


def _of_one_kind(tables: list[pa.Table]) -> list[pa.Table]:
    """Makes a csv column of numbers, or of nothing, text where another file shows that it is text."""
    for name in tables[0].column_names:
        kinds = {table[name].type for table in tables if table[name].null_count < len(table)}
        if len(kinds) == 1 or kinds == {pa.int64(), pa.string()}:
            kind = pa.string() if len(kinds) > 1 else kinds.pop()
            tables = [table if table[name].type == kind else _cast(table, name, kind) for table in tables]
    return tables


def _cast(table: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    column = table[name]
    values = pa.nulls(len(column), kind) if column.null_count == len(column) else column.cast(kind)
    return table.set_column(table.column_names.index(name), name, values)


@dataclass(frozen=True)
class HubSource:
    """A data set by name, from the hub or a local folder (`save_to_disk` output or a folder of data files)."""

    name: str
    config_name: str | None = None
    revision: str | None = None

    def load(self, split: str) -> Dataset:
        """Loads one split; `config/split` takes it from another configuration (XNLI's languages).

        Raises:
            UserError: no such data set or split.
        """
        config, _, split = split.rpartition("/")
        return pick_split(self._parts(config or self.config_name), split, f"dataset_name {self.name!r}")

    def splits(self) -> set[str]:
        """Names of the splits there are."""
        return set(self._parts(self.config_name))

    def _parts(self, config_name: str | None) -> Mapping[str, Dataset]:
        folder = Path(resolve_path(self.name)).expanduser()
        try:
            if any((folder / marker).is_file() for marker in ("dataset_dict.json", "dataset_info.json", "state.json")):
                loaded = load_from_disk(str(folder))
            else:
                path = str(folder) if folder.exists() else self.name
                loaded = load_dataset(path, config_name, revision=self.revision)
        except (OSError, ValueError, DatasetsError) as error:
            reason = error.__cause__ or error  # datasets wraps what it cannot read into an error that does not say why
            raise UserError(f"dataset_name {self.name!r}: {reason}") from None
        return loaded if isinstance(loaded, Mapping) else {"train": loaded}


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


def pick_split(parts: Mapping[str, Dataset], split: str, place: str) -> Dataset:
    """Takes one split out of a loaded data set.

    Raises:
        UserError: there is no such split.
    """
    if split not in parts:
        raise UserError(f"{place} has no split {split!r}; splits: {sorted(parts)}{did_you_mean(split, parts)}")
    data = parts[split]
    # a format set for other uses (tensors, only some columns) would change what is read
    plain = data.format["type"] is None and list(data.format["columns"]) == data.column_names
    return data if plain else data.with_format(None)
