"""One set of raw rows -> files of features, by a task's own `tokenize`, in one process or several."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from lit_ft.data.features.ragged import Array, Column, Ragged, as_column
from lit_ft.data.features.store import FeatureStore, FeatureWriter
from lit_ft.data.grouping.blocks import Grouping
from lit_ft.data.preparing.progress import PreparationProgress
from lit_ft.data.quality.files import MarkWriter, mapped
from lit_ft.data.quality.kinds import BadRows
from lit_ft.data.quality.marks import MOST_UNKNOWN, RowMarks, row_marks
from lit_ft.data.reading.raw import RawRows, Split
from lit_ft.errors import RowError, UserError

BATCH = 2048
"""Rows that are encoded at a time."""
MOST_TEXT = 1 << 21
"""Characters that are encoded at a time, where rows are long."""

Batch = dict[str, list[Any]]


class RowContent(NamedTuple):
    """What rows are compared by: the cells of each text column, and the labels of a task that has them."""

    texts: list[list[str | None]]
    labels: list[Any] | None


class Task(Protocol):
    """What a data module says of its rows.

    Attributes:
        bad_rows: kinds of bad rows of its own, which `tokenize` tells by a column of that name.
    """

    bad_rows: Mapping[str, BadRows]

    @property
    def kinds_of_bad_rows(self) -> Mapping[str, BadRows]:
        """All kinds of bad rows, in the order in which they are judged."""

    def input_columns(self, split: Split) -> list[str] | None:
        """Raw columns that `tokenize` and `row_content` read; `None` = all."""

    def info_columns(self, present: list[str], split: Split) -> list[str]:
        """Raw columns that go along with the features."""

    def row_content(self, rows: Batch, split: Split) -> RowContent:
        """Texts and labels of a batch of rows."""

    def tokenize(self, rows: Batch, split: Split) -> dict[str, Any]:
        """Columns of features of a batch of rows."""

    def grouping(self, split: Split) -> Grouping | None:
        """What makes other features of all features of a set together, such as blocks of text; `None` = nothing."""

    def summarise(self, train: Sequence[FeatureStore]) -> dict[str, Any]:
        """What the description says of the prepared training features."""


@dataclass(frozen=True)
class Featurizer:
    """The work on one set.

    Attributes:
        task: the data module.
        rows: the raw rows.
        kind: which split they are.
        unknown_id: id of the unknown token; `None` = there is none.
        folder: where the files go.
    """

    task: Task
    rows: RawRows
    kind: Split
    unknown_id: int | None
    folder: Path

    @property
    def marks(self) -> Path:
        """Folder of the rows' marks, beside the features."""
        return self.folder / "marks"

    def part(self, number: int, start: int, stop: int, advance: Callable[[int, int], None]) -> None:
        """Writes the features of a range of rows to `features-<number>.arrow`, and their marks.

        Encoding the next batch goes on (outside of Python's lock) while this one is checked and written.

        Raises:
            UserError: a row cannot be used.
        """
        with (
            FeatureWriter(self.folder / f"features-{number:05}.arrow") as writer,
            MarkWriter(self.marks) as marks,
            ThreadPoolExecutor(1) as encoder,
        ):
            for first, batch, encoded in _ahead(self._batches(start, stop), encoder, self._tokenize):
                try:
                    content = self.task.row_content(batch, self.kind)
                    features = encoded.result()
                    check_features(features, f"{type(self.task).__name__}.tokenize")
                    columns, cut, marked = checked(content, features, self.unknown_id, self.task.bad_rows)
                except RowError as error:
                    raise error.at(lambda row, first=first: self.rows.where(first + row)) from None  # type: ignore[misc]
                if len(columns["row"]):
                    writer.add({**columns, "row": np.asarray(columns["row"]) + first})
                marks.write(first, marked, cut)
                advance(len(cut), sum(map(_bytes, content.texts)))

    def _batches(self, start: int, stop: int) -> Iterator[tuple[int, Batch]]:
        rows = replace(self.rows, data=self.rows.data.select(range(start, stop)))
        for batch in rows.batches(self.task.input_columns(self.kind), BATCH):
            for piece in _pieces(batch):
                yield start, piece
                start += len(next(iter(piece.values())))

    def _tokenize(self, batch: Batch) -> dict[str, Any]:
        return self.task.tokenize(batch, self.kind)


def check_features(features: dict[str, Any], whose: str) -> None:
    """Makes sure that a task's `tokenize` returned columns of one length, with those that there have to be.

    Raises:
        UserError: it did not.
    """
    lacking = [name for name in ("input_ids", "row") if name not in features]
    if lacking:
        raise UserError(f"{whose} returned no column {lacking[0]!r}; columns: {list(features)}")
    lengths = {name: len(column) for name, column in features.items()}
    other = next((name for name, length in lengths.items() if length != lengths["row"]), None)
    if other is not None:
        raise UserError(f"{whose}: column {other!r} has {lengths[other]} values, 'row' {lengths['row']}: one a feature")


def checked(
    content: RowContent, features: dict[str, Any], unknown_id: int | None, own: Iterable[str] = ()
) -> tuple[dict[str, Column], Array, RowMarks]:
    """Marks a batch of rows by their content and their features.

    Args:
        content: what the rows are compared by.
        features: what a task's `tokenize` returned.
        unknown_id: id of the unknown token; `None` = there is none.
        own: kinds of bad rows of the task's own.

    Returns:
        The columns to be stored, the tokens that each row lost `[rows]`, and the rows' marks.
    """
    columns = {name: as_column(values) for name, values in features.items()}
    row, ids = columns.pop("row"), columns["input_ids"]
    assert isinstance(row, np.ndarray)
    if not len(row):  # of an empty list nobody knows what it would hold
        row, ids = np.zeros(0, np.int64), Ragged.of([])
    assert isinstance(ids, Ragged)
    size = len(content.texts[0])

    one_each = len(row) == size and bool((row == np.arange(size)).all())

    def of_rows(counts: Column) -> Array:
        assert isinstance(counts, np.ndarray)
        if one_each:
            return counts
        return np.bincount(row, weights=counts, minlength=size).astype(np.int64)

    none = np.zeros(len(row))
    told = ("unknown_label", *own)
    cut, *others = (of_rows(columns.pop(name, none)) for name in ("tokens_cut", *told))
    unknown = of_rows(ids.sums(ids.values == (-1 if unknown_id is None else unknown_id)))
    tokens = of_rows(ids.lengths)
    marks = replace(row_marks(content.texts, content.labels), own=told[1:])
    seen = {"cut": cut > 0, "unknown_tokens": unknown > MOST_UNKNOWN * tokens}
    seen |= {name: counts > 0 for name, counts in zip(told, others, strict=True)}
    for kind, which in seen.items():
        marks = marks.flagged(kind, which)
    return {**columns, "row": row}, cut, marks


def _pieces(batch: Batch) -> Iterator[Batch]:
    """Cuts a batch where its rows are long: encoding takes some hundred bytes a token."""
    lengths = np.zeros(len(next(iter(batch.values()))), np.int64)
    for column in batch.values():
        lengths += np.fromiter(map(_size, column), np.int64, len(lengths))
    if lengths.sum() <= MOST_TEXT:
        yield batch
        return
    piece = np.cumsum(lengths) // MOST_TEXT
    edges = [0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(lengths)]
    for start, stop in pairwise(edges):
        yield {name: cells[start:stop] for name, cells in batch.items()}


def _size(cell: Any) -> int:
    """Returns about how many characters a cell holds; a list is taken for one of words."""
    return len(cell) if isinstance(cell, str) else 8 * len(cell) if isinstance(cell, list) else 0


def _bytes(texts: list[str | None]) -> int:
    joined = "".join(filter(None, texts))
    return len(joined) if joined.isascii() else len(joined.encode("utf-8", "surrogatepass"))


def _ahead(
    batches: Iterator[tuple[int, Batch]], pool: ThreadPoolExecutor, run: Callable[[Batch], Any]
) -> Iterator[tuple[int, Batch, "Future[Any]"]]:
    """Yields batches with what `run` makes of them, always one batch ahead."""
    waiting: tuple[int, Batch, Future[Any]] | None = None
    for first, batch in batches:
        started = pool.submit(run, batch)
        if waiting is not None:
            yield waiting
        waiting = (first, batch, started)
    if waiting is not None:
        yield waiting


def featurize(job: Featurizer, processes: int) -> tuple[RowMarks, Array]:
    """Turns a set into files of features.

    Args:
        job: the set.
        processes: how many processes share the rows; each writes a file of its own.

    Returns:
        The rows' marks, and the tokens that each row lost, `[rows]`, mapped from `job.marks`.

    Raises:
        UserError: a row cannot be used, or a process died.
    """
    size = len(job.rows)
    processes = max(1, min(processes, size // BATCH))
    with PreparationProgress(job.rows.place, size) as progress:
        if processes == 1:
            job.part(0, 0, size, progress.advance)
        else:
            edges = np.linspace(0, size, processes + 1).astype(int).tolist()
            _in_processes(job, list(pairwise(edges)), progress)
    return mapped(job.marks, tuple(job.task.bad_rows))


def _in_processes(job: Featurizer, ranges: list[tuple[int, int]], progress: PreparationProgress) -> None:
    pipes, workers = [], []
    for number, (start, stop) in enumerate(ranges):
        receiver, sender = multiprocessing.Pipe(duplex=False)
        worker = multiprocessing.Process(target=_work, args=(job, number, start, stop, sender), daemon=True)
        worker.start()
        sender.close()
        pipes.append(receiver)
        workers.append(worker)
    try:
        while pipes:
            for pipe in wait(pipes):
                assert isinstance(pipe, Connection)
                if _receive(pipe, progress):
                    pipes.remove(pipe)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _receive(pipe: Connection, progress: PreparationProgress) -> bool:
    """Takes what a process says; returns whether it is done."""
    try:
        kind, value = pipe.recv()
    except EOFError:
        raise UserError(
            f"{progress.place}: a process that tokenizes was killed (out of memory?); lower preprocessing_num_workers"
        ) from None
    if kind == "error":
        raise value
    if kind == "rows":
        progress.advance(*value)
    return bool(kind == "done")


def _work(job: Featurizer, number: int, start: int, stop: int, sender: Connection) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes share the cores already
    try:
        job.part(number, start, stop, lambda *done: sender.send(("rows", done)))
        sender.send(("done", None))
    except UserError as error:
        sender.send(("error", UserError(str(error))))
    except Exception:
        sender.send(("error", RuntimeError(f"in a process that tokenizes:\n{traceback.format_exc()}")))
