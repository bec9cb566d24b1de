"""Where streamed rows come from: files, the hub, memory; each in parts that can be read on from a kept position."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset, Features, IterableDataset
from datasets.exceptions import DatasetsError

from lit_ft.data.caching.digests import digest
from lit_ft.data.labels import class_names
from lit_ft.data.reading.formats.rows import texts as as_texts
from lit_ft.data.reading.lines import RowLines
from lit_ft.data.reading.readers import ReadOptions, file_format, read_chunks
from lit_ft.data.reading.sources import HubSource
from lit_ft.errors import UserError, did_you_mean

Position = dict[str, Any]
"""Where reading goes on within a part, as plain JSON; only the stream that made it knows what it means."""
Rows = npt.NDArray[np.int64]

CHUNK = 5000
"""Rows read at a time; divides the 10,000 that `datasets` reads of a csv file before it guesses the types anew."""
PART = 40
"""A row's number is `part << PART | row in the part`: known without having read the parts before."""


class Stream(ABC):
    """Rows in one or more parts (files), each read chunk by chunk from its beginning or a position on.

    Args:
        name: how messages name the stream.
        columns: column of the stream -> the name it is wanted under; the other columns keep theirs.

    Attributes:
        sizes: size of each part in a unit of its own (bytes, rows); `None` = unknown, taken to be alike.
        features: what the columns hold, where the data set says it; under their own names.
    """

    sizes: list[int] | None = None
    features: Features | None = None

    def __init__(self, name: str, columns: Mapping[str, str] | None = None) -> None:
        self.name, self.columns = name, dict(columns or {})

    @property
    @abstractmethod
    def parts(self) -> int:
        """Number of parts."""

    @abstractmethod
    def part_name(self, part: int) -> str:
        """How messages name a part."""

    @abstractmethod
    def read(self, part: int, position: Position | None, texts: Collection[str]) -> Iterator[tuple[Position, pa.Table]]:
        """Yields a part's rows in order, each chunk with the position after it; columns as they stand there.

        Args:
            part: number of the part.
            position: where to go on; `None` = at the beginning.
            texts: columns that are to be text, where a reader would lose how a number is written.
        """

    def chunks(self, part: int, position: Position | None = None) -> Iterator[tuple[Position, pa.Table]]:
        """Yields a part's rows in order, from a position on, under the names that are wanted.

        A column of the first rows that a chunk lacks (keys may be missing in JSON lines) is null there.

        Args:
            part: number of the part.
            position: where to go on; `None` = at the beginning.

        Yields:
            The position after the chunk, and the chunk.

        Raises:
            UserError: the part cannot be read.
        """
        own_names = {wanted: column for column, wanted in self.columns.items()}
        texts = [own_names.get(field.name, field.name) for field in self.schema if _is_text(field.type)]
        for after, table in self.read(part, position, texts):
            if table.num_rows:
                yield after, self._completed(self._renamed(table))

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of the first rows, under the names that are wanted.

        Raises:
            UserError: there are no rows, they cannot be read, or `columns` does not fit them.
        """
        tables = (table for part in range(self.parts) for _, table in self.read(part, None, ()) if table.num_rows)
        first = next(tables, None)
        if first is None:
            raise UserError(f"{self.name}: no rows")
        for column, wanted in self.columns.items():
            if column not in first.column_names:
                raise UserError(
                    f"{self.name}: no column {column!r} to call {wanted!r}; columns: {first.column_names}"
                    f"{did_you_mean(column, first.column_names)}"
                )
        names = self._renamed(first).column_names
        if repeated := {name for name in names if names.count(name) > 1}:
            raise UserError(f"{self.name}: renamed by {self.columns}, there are two columns {sorted(repeated)}")
        return self._renamed(first).schema

    def label_names(self) -> dict[str, list[str]]:
        """Returns the names of ClassLabel columns, whose cells are ids, by the name a column is wanted under."""
        found = {name: class_names(self.features, name) for name in self.features or ()}
        return {self.columns.get(name, name): names for name, names in found.items() if names}

    def where(self, number: int) -> str:
        """Names a row, by its number, for a message."""
        return f"{self.part_name(number >> PART)}: row {(number & ((1 << PART) - 1)) + 1}"

    def fingerprint(self) -> str:
        """Returns a hash that tells this stream from one of other rows, as far as that is known unread."""
        return digest([self.parts, self.sizes, self.columns, Path(self.part_name(0)).name])

    def _renamed(self, table: pa.Table) -> pa.Table:
        return table.rename_columns([self.columns.get(name, name) for name in table.column_names])

    def _completed(self, table: pa.Table) -> pa.Table:
        for field in self.schema:
            if field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        return table


class FileStream(Stream):
    """Files one after the other; a part is a file.

    Args:
        paths: the files.
        options: how delimited and plain text are read.
        columns: see `Stream`.
    """

    def __init__(
        self, paths: Sequence[Path], options: ReadOptions | None = None, columns: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(", ".join(map(str, paths)) if len(paths) < 4 else f"{paths[0]} ... {paths[-1]}", columns)
        self.paths, self.options = list(paths), options or ReadOptions()
        if missing := [path for path in paths if not path.is_file()]:
            raise UserError(f"{missing[0]}: no such file")
        self.sizes = [path.stat().st_size for path in paths]
        self._columns: tuple[int, list[str]] | None = None
        self._lines = [RowLines(path, self.options) for path in paths]

    @property
    def parts(self) -> int:
        """Number of files."""
        return len(self.paths)

    def part_name(self, part: int) -> str:
        """The file's path."""
        return str(self.paths[part])

    def read(self, part: int, position: Position | None, texts: Collection[str]) -> Iterator[tuple[Position, pa.Table]]:
        """Reads a file; formats that can seek are not read from their beginning."""
        for after, table in read_chunks(self.paths[part], self.options, position, CHUNK, texts):
            self._check_columns(part, table.column_names)
            self._lines[part].note(after)
            yield after, table

    def where(self, number: int) -> str:
        """Names a row, by its number, for a message; a paragraph or a piece with the line it begins at."""
        part = number >> PART
        return f"{self.part_name(part)}: {self._lines[part].name(number & ((1 << PART) - 1))}"

    def _check_columns(self, part: int, columns: list[str]) -> None:
        if self._columns is None:
            self._columns = (part, columns)
        first, wanted = self._columns
        whole = file_format(self.paths[part]) not in ("json", "jsonl")  # keys of JSON may be missing in some rows
        if whole and set(columns) != set(wanted):
            raise UserError(f"{self.paths[part]} has columns {columns}, but {self.paths[first]} has {wanted}")


class HubStream(Stream):
    """A streamed data set of the `datasets` library; a part is one of its shards (mostly: files).

    Args:
        dataset: opened with `streaming=True`.
        name: how messages name it.
        columns: see `Stream`.
    """

    def __init__(self, dataset: IterableDataset, name: str, columns: Mapping[str, str] | None = None) -> None:
        super().__init__(name, columns)
        self.dataset, self.features = dataset.with_format("arrow"), dataset.features

    @property
    def parts(self) -> int:
        """Number of shards."""
        return int(self.dataset.num_shards)

    def part_name(self, part: int) -> str:
        """The data set, and which of its files."""
        return self.name if self.parts == 1 else f"{self.name}, file {part + 1} of {self.parts}"

    def read(self, part: int, position: Position | None, texts: Collection[str]) -> Iterator[tuple[Position, pa.Table]]:
        """Reads a shard; to go on within one, `datasets` reads it from its beginning, but no shard before it."""
        one = self.dataset.shard(num_shards=self.parts, index=part)
        if position is not None:
            one.load_state_dict(position)
        try:
            for table in one.iter(batch_size=CHUNK):
                self._check_kinds(part, table, texts)
                yield one.state_dict(), table
        except UserError:
            raise
        except (OSError, ValueError, pa.ArrowException, DatasetsError) as error:
            raise UserError(f"{self.part_name(part)}: {error.__cause__ or error}") from None

    def _check_kinds(self, part: int, table: pa.Table, texts: Collection[str]) -> None:
        for name in set(texts) & set(table.column_names):
            kind = table.schema.field(name).type
            if not _is_text(kind) and not pa.types.is_null(kind):  # 007 has become 7: too late to make it text
                raise UserError(
                    f"{self.part_name(part)}: column {name!r} is text in the first rows, but {kind} further on; name "
                    "the files themselves in train_file, where every cell is read as it stands"
                )


class MemoryStream(Stream):
    """Rows in memory, or a saved data set that is mapped into it; one part.

    Args:
        dataset: the rows.
        name: how messages name them.
        columns: see `Stream`.
    """

    def __init__(self, dataset: Dataset, name: str, columns: Mapping[str, str] | None = None) -> None:
        super().__init__(name, columns)
        self.dataset, self.features = dataset.with_format("arrow"), dataset.features
        self.sizes = [len(dataset)]

    @property
    def parts(self) -> int:
        """One."""
        return 1

    def part_name(self, part: int) -> str:
        """The stream's name."""
        return self.name

    def read(self, part: int, position: Position | None, texts: Collection[str]) -> Iterator[tuple[Position, pa.Table]]:
        """Cuts the rows into chunks."""
        for start in range(position["row"] if position else 0, len(self.dataset), CHUNK):
            table = self.dataset[start : start + CHUNK]
            yield {"row": start + table.num_rows}, table


def open_hub(source: HubSource, split: str, columns: Mapping[str, str] | None = None) -> Stream:
    """Opens a data set of the hub, a local folder of data files, or one saved by `save_to_disk`, as a stream.

    Args:
        source: which data set.
        split: which split; `config/split` takes it from another configuration.
        columns: see `Stream`.

    Raises:
        UserError: no such data set or split.
    """
    place = f"dataset {source.name!r}, split {split!r}"
    data = source.stream(split)
    return MemoryStream(data, place, columns) if isinstance(data, Dataset) else HubStream(data, place, columns)


def numbered_chunks(stream: Stream) -> Iterator[tuple[Rows, pa.Table]]:
    """Yields all rows of a stream in order, each chunk with the numbers of its rows `[rows]`."""
    for part in range(stream.parts):
        row = 0
        for _, table in stream.chunks(part):
            yield (part << PART) + np.arange(row, row + table.num_rows), table
            row += table.num_rows


def collect(stream: Stream, wanted: Callable[[Rows], npt.NDArray[np.bool_]], limit: int | None = None) -> pa.Table:
    """Collects the rows that a function of their numbers asks for, in one pass that ends when there are enough.

    Args:
        stream: the rows.
        wanted: row numbers `[rows]` -> which to take, such as `partial(held_out, percentage=5, seed=42)`.
        limit: most rows; `None` = all.

    Returns:
        The rows, with one more column `row_number` to name them by (`stream.where`).

    Raises:
        UserError: there are none, or the stream cannot be read.
    """
    taken, missing = [], limit
    for numbers, table in numbered_chunks(stream):
        mask = wanted(numbers)
        rows = table.filter(pa.array(mask)).append_column("row_number", pa.array(numbers[mask]))
        taken.append(rows if missing is None else rows.slice(0, missing))
        if missing is not None:
            missing -= taken[-1].num_rows
            if missing == 0:
                return joined(taken)
    if not sum(table.num_rows for table in taken):
        raise UserError(f"{stream.name}: none of the rows is among those asked for")
    return joined(taken)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Lays tables end to end; a column that is text in one of them and numbers in another becomes text."""
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        kinds = {table.schema.field(name).type for table in tables if name in table.column_names} - {pa.null()}
        if len(kinds) > 1 and any(map(_is_text, kinds)):
            tables = [_as_text(table, name) for table in tables]
    return pa.concat_tables(tables, promote_options="permissive").combine_chunks()


def _as_text(table: pa.Table, name: str) -> pa.Table:
    place = table.schema.get_field_index(name)
    if place < 0 or _is_text(table.schema.field(place).type):
        return table
    return table.set_column(place, name, as_texts(table.column(place).to_pylist()))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
