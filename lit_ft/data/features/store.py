"""Features on disk: Arrow files of flat arrays, written in one go and memory-mapped by every process."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from lit_ft.data.features.ragged import (
    Array,
    Column,
    Ragged,
    as_column,
    concatenate,
    from_arrow,
    length_of,
    taken,
    to_arrow,
)

CHUNK = 1 << 15
"""Features of a record batch: few enough to be written from memory, many enough that files open quickly."""
CHUNK_VALUES = 1 << 22
"""Numbers of a record batch, where features are long."""
SEQUENCES = "sequences"
"""Column of the lengths of each feature's sequences, where it has several (choices, say) laid end to end."""
TARGETS = "target_ids"
"""Column of the tokens of each feature's target, where it has one beside its `input_ids`."""


class FeatureWriter:
    """Writes columns of features to one Arrow file, in chunks.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.features = path, 0
        self._waiting: list[dict[str, Column]] = []
        self._writer: pa.RecordBatchFileWriter | None = None

    def __enter__(self) -> "FeatureWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def add(self, columns: Mapping[str, Any]) -> None:
        """Appends features; every call must bring the same columns."""
        made = {name: _stored(name, as_column(values)) for name, values in columns.items()}
        self.features += length_of(made.values())
        self._waiting.append(made)
        features = sum(length_of(part.values()) for part in self._waiting)
        values = sum(_size(column) for part in self._waiting for column in part.values())
        if features >= CHUNK or values >= CHUNK_VALUES:
            self._flush()

    def _flush(self) -> None:
        parts = [part for part in self._waiting if length_of(part.values())] or self._waiting[:1]
        self._waiting = []
        if not parts:
            return
        arrays = {name: to_arrow(concatenate([part[name] for part in parts])) for name in parts[0]}
        batch = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
        if self._writer is None:
            self._writer = pa.RecordBatchFileWriter(str(self.path), batch.schema)
        self._writer.write_batch(batch)


def _stored(name: str, column: Column) -> Column:
    """Returns a column as it is stored: numbers, no booleans.

    Raises:
        TypeError: it holds something else.
    """
    values = column.values if isinstance(column, Ragged) else column
    if values.dtype.kind not in "fiub":
        raise TypeError(f"features may hold numbers only, but column {name!r} holds {values.dtype}")
    if values.dtype.kind != "b":
        return column
    return Ragged(values.astype(np.uint8), column.offsets) if isinstance(column, Ragged) else values.astype(np.uint8)


def _size(column: Column) -> int:
    return len(column.values) if isinstance(column, Ragged) else column.size


class FeatureStore:
    """Features of one split, memory-mapped; pickles as its paths.

    Args:
        paths: files of a `FeatureWriter`, laid end to end.
        kept: the features that count, by number, `[features]`; `None` = all.
        rows_before: added to the numbers of each file's rows, for files of several sets; `None` = nothing.
    """

    def __init__(
        self, paths: Sequence[Path], kept: Array | None = None, rows_before: Sequence[int] | None = None
    ) -> None:
        self.paths, self.kept = list(paths), kept
        self.rows_before = [0] * len(self.paths) if rows_before is None else list(rows_before)
        self.chunks: list[dict[str, Column]] = []
        for path, before in zip(self.paths, self.rows_before, strict=True):
            file = pa.ipc.open_file(pa.memory_map(str(path)))
            for number in range(file.num_record_batches):
                batch = file.get_batch(number)
                chunk = {name: from_arrow(batch.column(name)) for name in batch.schema.names}
                if before:
                    chunk["row"] = np.asarray(chunk["row"]) + before
                self.chunks.append(chunk)
        sizes = [length_of(chunk.values()) for chunk in self.chunks]
        self.starts = [0, *np.cumsum(sizes).tolist()]

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.kept is None else len(self.kept)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns the columns of one feature: numbers, or views of the mapped file."""
        place = index if self.kept is None else int(self.kept[index])
        number = bisect_right(self.starts, place) - 1
        local = place - self.starts[number]
        return {name: column[local] for name, column in self.chunks[number].items()}

    @property
    def rows(self) -> int:
        """One more than the number of the last row that has features."""
        return int(self[len(self) - 1]["row"]) + 1 if len(self) else 0

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return list(self.chunks[0])

    def column(self, name: str) -> Array:
        """Returns a column of numbers, `[features]` or `[features, n]`, copied into memory."""
        whole = concatenate([chunk[name] for chunk in self.chunks])
        assert not isinstance(whole, Ragged), f"{name!r} is ragged: too large to copy"
        return whole if self.kept is None else whole[self.kept]

    def parts(self, *names: str) -> Iterator[list[Array]]:
        """Yields columns of numbers piece by piece, so that a wide one is never in memory as a whole."""
        for start, chunk in zip(self.starts, self.chunks, strict=False):
            columns = [np.asarray(chunk[name]) for name in names]
            if self.kept is not None:
                first, last = np.searchsorted(self.kept, [start, start + len(columns[0])])
                columns = [column[self.kept[first:last] - start] for column in columns]
            yield columns

    def total(self, name: str) -> int:
        """Returns the sum of a column of whole numbers."""
        return sum(int(part.sum()) for (part,) in self.parts(name))

    def pieces(self) -> Iterator[dict[str, Column]]:
        """Yields all columns piece by piece, the features that count only."""
        for start, chunk in zip(self.starts, self.chunks, strict=False):
            if self.kept is None:
                yield chunk
                continue
            first, last = np.searchsorted(self.kept, [start, start + length_of(chunk.values())])
            yield {name: taken(column, self.kept[first:last] - start) for name, column in chunk.items()}

    def lengths(self, name: str = "input_ids") -> Array:
        """Returns the length of each feature, `[features]`, read off the offsets."""
        parts = [chunk[name].lengths for chunk in self.chunks]  # type: ignore[union-attr]
        whole = np.concatenate(parts)
        return whole if self.kept is None else whole[self.kept]

    def widths(self) -> Array:
        """Returns how wide each feature makes its batch, `[features]`: its tokens, or those of its longest sequence.

        The lengths of the sequences of a feature that has several, such as choices, are in a column `sequences`. Where
        features have targets, their tokens count, too.
        """
        if SEQUENCES not in self.column_names:
            return sum(self.sides())  # type: ignore[return-value]
        columns = [self._sequences(chunk) for chunk in self.chunks]
        whole = np.concatenate([np.maximum.reduceat(each.values, each.offsets[:-1]) for each in columns])
        return whole if self.kept is None else whole[self.kept]

    def sides(self) -> list[Array]:
        """Returns the lengths, `[features]`, of what is padded by itself: of inputs, and of targets if there are."""
        return [self.lengths(name) for name in ("input_ids", TARGETS) if name in self.column_names]

    @property
    def most_sequences(self) -> int:
        """The most sequences of a feature: 1, unless there is a column `sequences`."""
        if SEQUENCES not in self.column_names:
            return 1
        return max(int(self._sequences(chunk).lengths.max(initial=1)) for chunk in self.chunks)

    def _sequences(self, chunk: dict[str, Column]) -> Ragged:
        column = chunk[SEQUENCES]
        assert isinstance(column, Ragged)
        return column

    @classmethod
    def joined(cls, stores: Sequence["FeatureStore"]) -> "FeatureStore":
        """Lays several stores of the same columns end to end; their rows are numbered on, as `first_rows` says."""
        if len(stores) == 1:
            return stores[0]
        starts = np.cumsum([0, *(store.starts[-1] for store in stores)])
        kept = None
        if any(store.kept is not None for store in stores):
            parts = [np.arange(store.starts[-1]) if store.kept is None else store.kept for store in stores]
            kept = np.concatenate([part + start for part, start in zip(parts, starts.tolist(), strict=False)])
        before = [
            rows + first for store, first in zip(stores, first_rows(stores), strict=True) for rows in store.rows_before
        ]
        return cls([path for store in stores for path in store.paths], kept, before)

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "kept": self.kept, "rows_before": self.rows_before}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def first_rows(stores: Sequence[FeatureStore]) -> list[int]:
    """Returns the number that row 0 of each store has where they are laid end to end."""
    return [0, *accumulate(store.rows for store in stores[:-1])]
