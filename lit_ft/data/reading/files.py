"""Files of any mix of formats -> one data set on disk, memory-mapped; never more than a chunk in memory."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetInfo

from lit_ft.data.reading.formats.arrow_out import ArrowOut, disk_errors
from lit_ft.data.reading.formats.kinds import FileKinds, MixedColumn
from lit_ft.data.reading.lines import RowLines, RowNames
from lit_ft.data.reading.parallel import parallel_sides, read_parallel
from lit_ft.data.reading.readers import ReadOptions, check_documents, file_format, read_chunks
from lit_ft.data.reading.sources import Files, named_files
from lit_ft.errors import UserError


@dataclass(frozen=True)
class FileRows:
    """Rows that were read from files.

    Attributes:
        data: all rows, memory-mapped from one Arrow stream on disk.
        parts: each file, as the user named it, and the index in `data` of its first row.
        naming: names a row by its index in `data`, where rows begin at some line of a text; else `None`.
    """

    data: Dataset
    parts: list[tuple[str, int]]
    naming: RowNames | None


def read_files(names: Files, options: ReadOptions, folder: Path) -> FileRows:
    """Reads files into one data set; all must have the same columns.

    A column of csv or tsv cells becomes numbers only where nothing is lost by it in any row; a column whose scalars
    are of several kinds becomes text; all other values stay as they stand.

    Args:
        names: one name, a list of names, or globs.
        options: how delimited and plain text are read.
        folder: where the rows are written to; the caller makes and removes it.

    Raises:
        UserError: see `lit_ft.data.reading.readers.read_chunks`; also when two files have different columns, a column
            mixes kinds, labels are numbered otherwise in another file, parallel files do not fit, or the disk is full.
    """
    files = named_files(names, options)
    if (sides := parallel_sides(files, options)) is not None:
        return FileRows(*read_parallel(sides, options, folder), None)
    check_documents([path for _, path in files], options)
    as_text: frozenset[str] = frozenset()
    while True:
        with disk_errors(folder):
            place = Path(tempfile.mkdtemp(dir=folder))
        try:
            return _read(files, options, place, as_text)
        except MixedColumn as mixed:  # some of its values were read as numbers: once more, as they are written
            shutil.rmtree(place)
            if mixed.column in as_text:
                raise UserError(f"{names}: column {mixed.column!r} mixes kinds that do not go together") from None
            as_text |= {mixed.column}


def _read(files: list[tuple[str, Path]], options: ReadOptions, folder: Path, as_text: frozenset[str]) -> FileRows:
    segments, kinds, parts, lines = _Segments(folder), FileKinds(as_text), [], []
    for name, path in files:
        parts.append((name, segments.rows))
        lines.append(RowLines(path, options))
        kinds.begin(path)
        cells = file_format(path, options) in ("csv", "tsv")
        for after, chunk in read_chunks(path, options, as_text=as_text):
            lines[-1].note(after)
            segments.write(chunk, kinds.add(chunk, cells), cells)
        kinds.end()
    features = kinds.features()
    stream = segments.whole(features.arrow_schema.remove_metadata(), kinds.empty_columns())
    naming = None if all(file.are_rows for file in lines) else RowNames(parts, lines)
    return FileRows(Dataset.from_file(str(stream), info=DatasetInfo(features=features)), parts, naming)


class _Segments:
    """The rows in the order they come, in as many streams as their schema changes: it only ever gets wider."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, 0
        self._parts: list[tuple[ArrowOut, bool]] = []

    def write(self, chunk: pa.Table, schema: pa.Schema, cells: bool) -> None:
        """Appends rows in a schema; an empty cell of csv is kept as an empty string."""
        if not self._parts or (self._parts[-1][0].schema, self._parts[-1][1]) != (schema, cells):
            self._close()
            self._parts.append((ArrowOut(self.folder / f"part-{len(self._parts)}.arrow", schema), cells))
        self._parts[-1][0].write(_fitted(chunk, schema, fill="" if cells else None))
        self.rows += len(chunk)

    def whole(self, schema: pa.Schema, empty: set[str]) -> Path:
        """Returns the path of one stream with all rows.

        Args:
            schema: of that stream.
            empty: columns whose cells are all empty, to be null.
        """
        self._close()
        if len(self._parts) == 1 and self._parts[0][0].schema == schema and not empty:
            return self._parts[0][0].path
        out = ArrowOut(self.folder / "rows.arrow", schema)
        for part, cells in self._parts:
            with pa.OSFile(str(part.path)) as file:  # not mapped: its pages would count as ours
                for batch in pa.ipc.open_stream(file):
                    table = pa.Table.from_batches([batch])
                    out.write(_fitted(_empty_to_null(table, schema, empty) if cells else table, schema))
            part.path.unlink()
        out.close()
        return out.path

    def _close(self) -> None:
        if self._parts:
            self._parts[-1][0].close()


def _fitted(table: pa.Table, schema: pa.Schema, fill: str | None = None) -> pa.Table:
    columns = []
    for field in schema:
        column = table[field.name] if field.name in table.column_names else pa.nulls(len(table))
        if column.null_count == len(column) and column.type != field.type:
            column = pa.nulls(len(column), field.type)
        if fill is not None and column.null_count:
            column = column.fill_null(fill)
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowInvalid:  # a whole number that no decimal can stand for
            raise MixedColumn(field.name) from None
    return pa.table(columns, schema=schema)


def _empty_to_null(table: pa.Table, schema: pa.Schema, empty: set[str]) -> pa.Table:
    for number, name in enumerate(table.column_names):
        if name in empty or schema.field(name).type != pa.string():
            column = table.column(number)
            table = table.set_column(
                number, name, pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
            )
    return table
