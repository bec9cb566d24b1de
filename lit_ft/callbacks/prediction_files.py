"""Files of predictions, written row by row and joined at the end: JSONL, parquet, CoNLL, plain text, arrays."""

import json
import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lit_ft.errors import UserError

Row = dict[str, Any]


class PredictionFile(Protocol):
    """Takes the rows of one process.

    Attributes:
        suffix: of the file's name.
    """

    suffix: str

    def __init__(self, path: Path, schema: pa.Schema | None, module: Any) -> None:
        """Opens a file; `schema` is that of the input's own columns, the module is whose predictions they are."""

    def write(self, rows: list[Row]) -> None:
        """Appends rows."""

    def close(self) -> None:
        """Ends the file."""

    @staticmethod
    def join(parts: list[Path], target: Path) -> None:
        """Lays the processes' files end to end."""


class _Text:
    """A text file; those of all processes lie end to end."""

    def __init__(self, path: Path, schema: pa.Schema | None, module: Any) -> None:
        self.file, self.module = path.open("w", encoding="utf-8"), module

    def close(self) -> None:
        """Ends the file."""
        self.file.close()

    @staticmethod
    def join(parts: list[Path], target: Path) -> None:
        """Lays the processes' files end to end."""
        with target.open("wb") as whole:
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole)


class JsonLines(_Text):
    """Appends rows to a JSONL file."""

    suffix = "jsonl"

    def write(self, rows: list[Row]) -> None:
        """Appends rows."""
        self.file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


class PlainText(_Text):
    """Appends what was written for each row (the best text where there are several) as one line.

    Line ends within a text, and backslashes, are written as escapes, so that a line is a row, and can be read back.
    """

    suffix = "txt"

    def write(self, rows: list[Row]) -> None:
        """Appends texts.

        Raises:
            UserError: the rows have no text, or several of which none is the best.
        """
        name = getattr(self.module, "predicted_text", "prediction")
        for row in rows:
            text = row.get(name)
            if not isinstance(text, str):
                raise UserError(f"predictions as txt need one text a row, but rows have {list(row)}: use jsonl")
            self.file.write(text.translate(ESCAPES) + "\n")


ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})


class Conll(_Text):
    """Appends sentences, a word a line: the word, its own tag where it has one, the predicted tag (for conlleval).

    Columns are separated by tabs.
    """

    suffix = "conll"

    def write(self, rows: list[Row]) -> None:
        """Appends sentences.

        Raises:
            UserError: the rows are no tagged words.
        """
        for row in rows:
            if "predicted_tags" not in row:
                raise UserError(
                    f"predictions as conll need tagged words, but rows have {list(row)}: use jsonl or parquet"
                )
            columns_of = self.module.description
            words = row.get("words") or row[columns_of["text_column"]]
            own = row.get(columns_of["tag_column"])
            columns = [words, own, row["predicted_tags"]] if _are_tags(own, words) else [words, row["predicted_tags"]]
            if row.get("opens_document"):
                self.file.write("\t".join(["-DOCSTART-", *["O"] * (len(columns) - 1)]) + "\n\n")
            if row.get("id") is not None:
                self.file.write(f"# id = {row['id']}\n")
            lines = zip(*columns, strict=True)
            self.file.writelines("\t".join(map(str, line)) + "\n" for line in lines)
            self.file.write("\n")


def _are_tags(cell: Any, words: list[str]) -> bool:
    return isinstance(cell, list) and len(cell) == len(words) and all(isinstance(tag, str) for tag in cell)


class Parquet:
    """Appends rows to a parquet file; the input's columns keep their types.

    Rows wait while a column's type is not known: a list of entities says nothing until there is one.
    """

    suffix = "parquet"

    def __init__(self, path: Path, schema: pa.Schema | None, module: Any) -> None:
        self.path, self.inputs = path, schema
        self.writer: pq.ParquetWriter | None = None
        self.waiting: list[Row] = []

    def write(self, rows: list[Row]) -> None:
        """Appends rows."""
        if self.writer is not None:
            self.writer.write_table(pa.Table.from_pylist(rows, schema=self.writer.schema))
            return
        self.waiting += rows
        schema = self._schema()
        if not any(_UNKNOWN in (field.metadata or {}) for field in schema):
            self._begin(schema)

    def close(self) -> None:
        """Ends the file."""
        if self.waiting:
            self._begin(self._schema())
        if self.writer is not None:
            self.writer.close()

    def _begin(self, schema: pa.Schema) -> None:
        rows, self.waiting = self.waiting, []
        self.writer = pq.ParquetWriter(self.path, schema)
        self.write(rows)

    def _schema(self) -> pa.Schema:
        inputs = {field.name: field for field in self.inputs or []}
        inferred = pa.Table.from_pylist(self.waiting).schema
        return pa.schema([inputs.get(field.name) or _known(field) for field in inferred])

    @staticmethod
    def join(parts: list[Path], target: Path) -> None:
        """Lays the processes' files end to end."""
        files = [pq.ParquetFile(part) for part in parts if part.exists()]
        known: dict[str, pa.Field] = {}
        for field in (field for file in files for field in file.schema_arrow):
            if field.name not in known or _UNKNOWN in (known[field.name].metadata or {}):
                known[field.name] = field
        schema = pa.schema([field.remove_metadata() for field in known.values()])
        with pq.ParquetWriter(target, schema) as writer:
            for file in files:
                for batch in file.iter_batches():
                    same = batch.schema.equals(schema)
                    writer.write_batch(batch if same else pa.RecordBatch.from_pylist(batch.to_pylist(), schema))


_UNKNOWN = b"unknown"


def _known(field: pa.Field) -> pa.Field:
    """Without a single value nothing is known of the type: text, as labels are, until another file knows better."""
    kind = _with_text(field.type)
    return field if kind == field.type else pa.field(field.name, kind, metadata={_UNKNOWN: b""})


def _with_text(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return pa.string()
    return pa.list_(_with_text(kind.value_type)) if pa.types.is_list(kind) else kind


class Vectors:
    """Appends the vector of each row to an array `[rows, size]`, float32: `numpy.load(path)`.

    Until the end there are bare numbers; the header of a `.npy` file, which counts the rows, comes with `join`.
    """

    suffix = "npy"

    def __init__(self, path: Path, schema: pa.Schema | None, module: Any) -> None:
        self.file = path.open("wb")

    def write(self, rows: list[Row]) -> None:
        """Appends vectors.

        Raises:
            UserError: the rows have none, or several.
        """
        if "embedding" not in rows[0]:
            raise UserError(f"predictions as npy need one vector a row, but rows have {list(rows[0])}: use parquet")
        vectors = np.array([row["embedding"] for row in rows], np.float32)
        if not self.file.tell():
            self.file.write(np.int64(vectors.shape[1]).tobytes())
        self.file.write(vectors.tobytes())

    def close(self) -> None:
        """Ends the file."""
        self.file.close()

    @staticmethod
    def join(parts: list[Path], target: Path) -> None:
        """Lays the processes' vectors end to end."""
        sized = [(part, int(np.fromfile(part, np.int64, 1)[0])) for part in parts if part.stat().st_size]
        size = sized[0][1] if sized else 0
        rows = sum(part.stat().st_size - 8 for part, _ in sized) // (4 * max(size, 1))
        with target.open("wb") as whole:
            np.lib.format.write_array_header_1_0(whole, {"descr": "<f4", "fortran_order": False, "shape": (rows, size)})
            for part, _ in sized:
                with part.open("rb") as file:
                    file.seek(8)
                    shutil.copyfileobj(file, whole)


KINDS: dict[str, type[PredictionFile]] = {kind.suffix: kind for kind in (JsonLines, Parquet, Conll, PlainText, Vectors)}
"""Kinds of files by the name of their format."""
