"""The raw rows of a stage: which split comes from where, what is cut from train, how many rows are kept."""

import logging
import os
import pickle
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from lit_ft.data.caching.fingerprints import Stamp, content_digest, files_below, folder_digest, stamp
from lit_ft.data.labels import class_names
from lit_ft.data.reading.columns import check_columns
from lit_ft.data.reading.files import FileRows, read_files
from lit_ft.data.reading.readers import ReadOptions, extension, read_chunks
from lit_ft.data.reading.sources import Files, HubSource, NamedFiles, expand_files, in_memory, pick_split
from lit_ft.data.reading.splits import cut_validation, rows_kept, same_texts
from lit_ft.errors import RowError, UserError

log = logging.getLogger("lit_ft")

TEXT = "text"
"""Column of the lines of a txt file."""
Split = Literal["train", "validation", "test", "predict"]
SplitNames = str | dict[str, str]
Read = TypeVar("Read")
COVERED = frozenset(
    f"{kind}_{part}" for kind in ("train", "validation", "test", "predict") for part in ("file", "split_name")
)
"""Options of a data module that a source's fingerprint covers."""
Rows = npt.NDArray[np.int64]


@dataclass
class RawRows:
    """One named set of rows, on disk or in the memory that the user holds them in.

    Attributes:
        data: the rows.
        place: how messages name them (the file, or the data set and split).
        parts: name of each file and the number of its first row among the whole's; empty where there are no files.
        whole: all rows of the file or split, before the validation cut and the cap; `None` = `data`.
        kept: which of the whole's rows `data` holds, `[rows]`; `None` = all.
        naming: names a row by its number in the whole, where that takes more than files or a split.
    """

    data: Dataset
    place: str
    parts: Sequence[tuple[str, int]] = ()
    whole: Dataset | None = None
    kept: Rows | None = None
    naming: Callable[[int], str] | None = None

    def __len__(self) -> int:
        return len(self.data)

    def select(self, chosen: Rows | None) -> "RawRows":
        """Returns some of the rows, with their numbers in the whole; `None` = all."""
        if chosen is None:
            return self
        kept = chosen if self.kept is None else self.kept[chosen]
        return replace(self, data=self.data.select(chosen), whole=self.uncut, kept=kept)

    @property
    def uncut(self) -> Dataset:
        """All rows of the file or split."""
        return self.data if self.whole is None else self.whole

    def with_texts_in(self, column: str) -> "RawRows":
        """Returns the rows; where they are lines of txt files, their column gets this name."""
        lines = TEXT in self.data.column_names and {extension(Path(name)) for name, _ in self.parts} == {"txt"}
        return replace(self, data=self.data.rename_column(TEXT, column)) if lines and column != TEXT else self

    def where(self, row: int) -> str:
        """Names a row of `data` for a message: its file or split, and its number there, from 1."""
        number = row if self.kept is None else int(self.kept[row])
        if self.naming is not None:
            return self.naming(number)
        if not self.parts:
            return f"{self.place}: row {number + 1}"
        name, first = self.parts[bisect_right(self.parts, number, key=lambda part: part[1]) - 1]
        return f"{name}: row {number - first + 1}"

    def batches(self, columns: Sequence[str] | None = None, size: int = 4096) -> Iterator[dict[str, list[Any]]]:
        """Yields the rows in batches, as lists by column; never more than one batch is in memory.

        Ids of a ClassLabel column come as the names they stand for: another file may number them otherwise.
        """
        data = self.data if columns is None else self.data.select_columns(list(columns))
        names = {name: known for name in data.column_names if (known := class_names(data.features, name))}
        for part in _in_parts(data):
            for batch in part.iter(batch_size=size):
                yield {name: named_cells(cells, names.get(name)) for name, cells in batch.items()}

    def read(
        self, function: Callable[[dict[str, list[Any]]], Read], columns: Sequence[str] | None = None
    ) -> Iterator[Read]:
        """Yields what a function makes of each batch of some columns.

        Raises:
            UserError: the function refused a row by a `RowError`; the message names its file or split, and its number.
        """
        first = 0
        for batch in self.batches(columns):
            try:
                made = function(batch)
            except RowError as error:
                raise error.at(lambda row, first=first: self.where(first + row)) from None  # type: ignore[misc]
            yield made
            first += len(next(iter(batch.values())))

    def numbered_by(self, column: str) -> Rows:
        """Numbers the rows so that those of the same text have the same number; see `same_texts`.

        Raises:
            UserError: there is no such column.
        """
        check_columns([column], self.data.column_names, self.place)
        return same_texts(cell for batch in self.batches([column]) for cell in batch[column])


def every_set(raw: Mapping[Split, Mapping[str, RawRows]]) -> list[RawRows]:
    """Returns the sets of all kinds of split, one after the other."""
    return [rows for sets in raw.values() for rows in sets.values()]


def _in_parts(data: Dataset, part_bytes: int = 1 << 26) -> Iterator[Dataset]:
    """Yields a mapped data set in pieces, each mapped anew: what was read of the one before leaves the memory."""
    mapped = sum(os.path.getsize(file["filename"]) for file in data.cache_files)
    rows = len(data) if mapped <= part_bytes else max(1, len(data) * part_bytes // mapped)
    for start in range(0, len(data), rows):
        # a data set that is mapped from files pickles as their names
        own = pickle.loads(pickle.dumps(data)) if rows < len(data) else data  # noqa: S301
        yield own.select(range(start, min(start + rows, len(data))))


def named_cells(cells: list[Any], names: list[str] | None) -> list[Any]:
    """Puts names in place of the ids of a ClassLabel column; without names the cells stay as they are."""
    if names is None:
        return cells

    def named(cell: Any) -> Any:
        if isinstance(cell, list):
            return [named(part) for part in cell]
        if cell is None or cell == -1:
            return None
        return names[cell] if 0 <= cell < len(names) else cell

    return [named(cell) for cell in cells]


Strata = Callable[[RawRows], Rows | None]
Groups = Callable[[RawRows], Rows | None]


@dataclass
class Scratch:
    """A folder that files are read into, each list of files once.

    Args:
        folder: where; whoever made it takes it away.
    """

    folder: Path
    done: dict[str, FileRows] = field(default_factory=dict)

    def read(self, names: Files, options: ReadOptions) -> FileRows:
        """Returns the rows of some files, memory-mapped."""
        key = str((names, options))
        if key not in self.done:
            folder = self.folder / str(len(self.done))
            folder.mkdir(parents=True)
            self.done[key] = read_files(names, options, folder)
        return self.done[key]


@dataclass(frozen=True)
class RawSource:
    """Finds and loads the rows of each kind of split.

    Args:
        dataset: objects in memory, by split (see `lit_ft.data.reading.sources.in_memory`), or `None`.
        hub: a data set by name, or `None`.
        files: the files of each kind; they come before the data set's own splits.
        split_names: the split of each kind in the data set; a dict names several evaluation sets.
        read: how delimited and plain text are read.
        read_to_predict: how files of rows to predict are read; `None` = as the others.
        column_mapping: new names for columns.
        validation_split_percentage: share cut from train where there is no validation split; 0 = none.
        seed: of the cut and of the samples.
        limits: most rows of each kind.
        head: keep the first rows instead of a seeded sample.
    """

    dataset: Any
    hub: HubSource | None
    files: Mapping[Split, NamedFiles | None]
    split_names: Mapping[Split, SplitNames | None]
    read: ReadOptions = field(default_factory=ReadOptions)
    read_to_predict: ReadOptions | None = None
    column_mapping: Mapping[str, str] = field(default_factory=dict)
    validation_split_percentage: float = 5
    seed: int = 42
    limits: Mapping[Split, int | None] = field(default_factory=dict)
    head: bool = False
    covered_options = COVERED

    def __post_init__(self) -> None:
        if not 0 <= self.validation_split_percentage < 100:
            raise UserError(f"validation_split_percentage {self.validation_split_percentage} is not from 0 to 99")
        for kind, limit in self.limits.items():
            if limit is not None and limit < 1:
                raise UserError(f"the most rows to {kind} cannot be {limit}; leave the option out for all")

    @property
    def streams(self) -> list[Any]:
        """Training rows that are streamed: none."""
        return []

    @cached_property
    def parts(self) -> dict[str, Dataset]:
        """Splits of the objects in memory."""
        return {} if self.dataset is None else in_memory(self.dataset)

    def sets(self, kind: Split) -> dict[str, Files | str]:
        """Returns the sets of one kind by name: their files, or their split's name; a single unnamed set is `""`."""
        files = self.files.get(kind)
        if files is not None:
            return named_sets(files) if isinstance(files, dict) else {"": files}
        names = self.split_names.get(kind)
        if self.dataset is None and self.hub is None:
            return {}
        if names is None:
            return {"": kind} if kind in self._known_splits() else {}
        return named_sets(names) if isinstance(names, dict) else {"": names}

    def stem(self, kind: Split) -> str:
        """Returns a name for the one unnamed set of a kind: its file's, without extensions, or its split's."""
        (where,) = self.sets(kind).values()
        if self.files.get(kind) is None:
            return str(where).rpartition("/")[2]
        path = expand_files(where, self.read)[0]
        return Path(path.name.removesuffix(".gz")).stem

    def cuts_validation(self) -> bool:
        """Says whether the validation split is cut from train."""
        return self.validation_split_percentage > 0 and not self.sets("validation")

    def fingerprint(self, kind: Split, root: Path) -> Any:
        """Returns plain values that change whenever the rows of this kind do.

        Args:
            kind: which split.
            root: where the digests of files are remembered.
        """
        if kind == "validation" and not self.sets(kind):
            return self.fingerprint("train", root) if self.cuts_validation() else None
        prints: dict[str, Any] = {"cut": kind == "train" and self.cuts_validation()}
        for name, where in self.sets(kind).items():
            if self.files.get(kind) is not None:
                prints[name] = [[str(path), content_digest(path, root)] for path in self._paths(where)]
            elif self.dataset is None and (folder := self._hub().folder) is not None:
                prints[name] = [where, str(folder), folder_digest(folder, root)]
            else:
                prints[name] = [where, self._split(str(where))._fingerprint]
        return prints

    def stamps(self, kind: Split) -> dict[Path, Stamp]:
        """Returns what shows, a moment later, whether the files of this kind are still the same."""
        if kind == "validation" and self.cuts_validation():
            kind = "train"
        if self.files.get(kind) is None:
            folder = self._hub().folder if self.dataset is None and self.hub else None
            return {path: stamp(path) for path in files_below(folder)} if folder else {}
        return {path: stamp(path) for where in self.sets(kind).values() for path in self._paths(where)}

    def _paths(self, where: Files) -> list[Path]:
        paths = expand_files(where, self.read)
        for path in paths:
            if not path.is_file():
                next(read_chunks(path, self.read))  # raises with the closest name
        return paths

    def load(
        self,
        kind: Split,
        strata: Strata,
        scratch: Scratch,
        groups: Groups | None = None,
        limited_as: Split | None = None,
    ) -> dict[str, RawRows]:
        """Loads the rows of one kind, by set.

        Args:
            kind: which split.
            strata: numbers the stratum of each row of train, for the cut.
            scratch: where files are read into.
            groups: numbers the group of each row of train, which the cut keeps together.
            limited_as: whose limit holds. Default: the kind's own.

        Raises:
            UserError: there is no such split, or a file cannot be read.
        """
        if kind in ("train", "validation") and self.cuts_validation():
            return {"": self._capped(self._cut(kind, strata, scratch, groups), kind)}
        read = {name: self._read(kind, where, scratch) for name, where in self.sets(kind).items()}
        return {name: self._capped(rows, limited_as or kind) for name, rows in read.items()}

    def _cut(self, kind: Split, strata: Strata, scratch: Scratch, groups: Groups | None) -> RawRows:
        sets = self.sets("train")
        if not sets:
            raise UserError("no training rows: set train_file or dataset_name" + self._known_message())
        (where,) = sets.values()
        whole = self._read("train", where, scratch)
        together = groups(whole) if groups is not None else None
        if kind == "validation" and together is not None and len(np.unique(together)) == 1:
            log.info(f"{whole.place}: all rows have the same context, so training and validation rows share it")
        train, validation = cut_validation(
            len(whole), self.validation_split_percentage, self.seed, strata(whole), together
        )
        return whole.select(train if kind == "train" else validation)

    def _read(self, kind: Split, where: Files | str, scratch: Scratch) -> RawRows:
        if self.files.get(kind) is not None:
            names = [where] if isinstance(where, str) else where
            rows = scratch.read(where, (self.read_to_predict if kind == "predict" else None) or self.read)
            place = ", ".join(names) if len(names) < 4 else f"{names[0]} ... {names[-1]} ({len(names)} files)"
            return self._renamed(RawRows(rows.data, place, rows.parts, naming=rows.naming), kind)
        return self._renamed(RawRows(self._split(str(where)), f"{self._name()}, split {where!r}"), kind)

    def _renamed(self, rows: RawRows, kind: Split) -> RawRows:
        present = rows.data.column_names
        if kind != "predict":  # rows to predict may lack the label
            check_columns(self.column_mapping, present, rows.place)
        mapping = {old: new for old, new in self.column_mapping.items() if old in present}
        for new in mapping.values():
            if new in present and new not in mapping:
                raise UserError(f"{rows.place}: column_mapping makes a second column {new!r}; columns: {present}")
        return replace(rows, data=rows.data.rename_columns(mapping))

    def _split(self, name: str) -> Dataset:
        data = pick_split(self.parts, name, self._name()) if self.dataset is not None else self._hub().load(name)
        if len(data) == 0:
            raise UserError(f"{self._name()}, split {name!r}: no rows")
        return data

    def _capped(self, rows: RawRows, kind: Split) -> RawRows:
        return rows.select(rows_kept(len(rows), self.limits.get(kind), self.seed, self.head))

    def _hub(self) -> HubSource:
        assert self.hub is not None
        return self.hub

    def _name(self) -> str:
        return "dataset" if self.dataset is not None else f"dataset {self._hub().name!r}"

    def _known_splits(self) -> set[str]:
        return set(self.parts) if self.dataset is not None else self._hub().splits()

    def _known_message(self) -> str:
        return (
            ""
            if self.dataset is None and self.hub is None
            else f"; splits of {self._name()}: {sorted(self._known_splits())}"
        )


def named_sets(sets: Mapping[str, Any]) -> dict[str, Any]:
    """Returns sets by name, where all names can be part of a metric's and of a file's.

    Raises:
        UserError: one cannot.
    """
    for name in sets:
        if not re.fullmatch(r"[\w.-]+", name):
            raise UserError(
                f"{name!r} cannot name a set: metrics and files are called after it; use letters and digits"
            )
    return dict(sets)
