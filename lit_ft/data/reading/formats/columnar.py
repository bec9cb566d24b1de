"""Parquet and Arrow files: read by row group and record batch, each checked before use."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from lit_ft.data.reading.formats.common import Chunks, Position, ReadOptions, opened
from lit_ft.errors import UserError

_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"

Part = Callable[[], Iterator[pa.RecordBatch]]


def read_parquet(path: Path, options: ReadOptions, position: Position | None, rows: int) -> Chunks:
    """Reads row group by row group."""
    with _random_access(path) as source, _readable(path, "parquet file"):
        file = pa.parquet.ParquetFile(source, page_checksum_verification=True)
        _check_schema(file.schema_arrow, path)

        def part(group: int) -> Iterator[pa.RecordBatch]:
            read = 0
            for batch in file.iter_batches(batch_size=rows, row_groups=[group], use_threads=False):
                read += batch.num_rows
                yield batch
            if read != file.metadata.row_group(group).num_rows:
                raise UserError(f"{path}: row group {group} holds {read} rows, not the number that it says; damaged")

        yield from _chunks(part, file.num_row_groups, position, rows)


def read_arrow(path: Path, options: ReadOptions, position: Position | None, rows: int) -> Chunks:
    """Reads record batch by record batch, from the file and the stream format."""
    with _random_access(path) as source, _readable(path, "Arrow file or stream"):
        if source.read(6) == b"ARROW1":
            file = pa.ipc.open_file(source)
            _check_schema(file.schema, path)
            yield from _chunks(lambda number: iter([file.get_batch(number)]), file.num_record_batches, position, rows)
            return
        source.seek(max(0, source.size() - len(_END_OF_STREAM)))
        whole = source.read() == _END_OF_STREAM
        source.seek(0)
        stream = pa.ipc.open_stream(source)
        _check_schema(stream.schema, path)
        yield from _chunks(lambda number: iter(stream), 1, position, rows)
        if not whole:
            raise UserError(f"{path}: the Arrow stream has no end mark: it was cut; write or download it again")


def _chunks(
    part: Callable[[int], Iterator[pa.RecordBatch]], parts: int, position: Position | None, rows: int
) -> Chunks:
    """Cuts the batches of numbered parts into chunks; a position is a part and the rows that were read of it."""
    at = position or {"part": 0, "skip": 0, "row": 0}
    for number in range(at["part"], parts):
        skip, read = at["skip"] if number == at["part"] else 0, 0
        for batch in part(number):
            begin = min(max(skip - read, 0), batch.num_rows)
            for start in range(begin, batch.num_rows, rows):
                piece = batch.slice(start, rows)
                piece.validate(full=True)
                done = read + start + piece.num_rows
                place = {"part": number, "skip": done, "row": at["row"] + piece.num_rows}
                at = {**at, "row": place["row"]}
                yield place, _plain(pa.Table.from_batches([piece]))
            read += batch.num_rows


def _plain(table: pa.Table) -> pa.Table:
    """Replaces the codes of a dictionary column (pandas' categories) by the values they stand for."""
    for number, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            values = table.column(number).cast(field.type.value_type)
            table = table.set_column(number, pa.field(field.name, values.type), values)
    return table


def _check_schema(schema: pa.Schema, path: Path) -> None:
    if not schema.names:
        raise UserError(f"{path}: the file has no columns")
    if repeated := sorted({name for name in schema.names if schema.names.count(name) > 1}):
        raise UserError(f"{path}: columns {repeated} appear twice; rename one")


@contextmanager
def _random_access(path: Path) -> Iterator[Any]:
    """Opens a file that is read in any order; a compressed one is first unpacked in the folder for temporary files."""
    with opened(path) as stream:
        if not stream.read(1):
            raise UserError(f"{path}: the file is empty")
        if path.suffix != ".gz":
            with pa.memory_map(str(path)) if path.suffix == ".arrow" else pa.OSFile(str(path)) as source:
                yield source
            return
        stream.seek(0)
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(stream, unpacked)
            unpacked.seek(0)
            yield pa.PythonFile(unpacked, mode="r")


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Turns whatever Arrow says of a damaged file into the user's error."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: not a readable {kind} ({reason}); cut or damaged? write or download it again"
        ) from None
