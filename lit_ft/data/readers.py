"""One file on disk -> one Arrow table: csv, tsv, json, jsonl, parquet, arrow and txt, each also gzipped.

Values are kept as they stand in the file: no text becomes null because it reads `NA`, no string becomes a date.
"""

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from lit_ft.errors import UserError, did_you_mean

Quoting = Literal["minimal", "none"]


@dataclass(frozen=True)
class ReadOptions:
    """How delimited text is read.

    Args:
        column_names: names of the columns of files that have no header line.
        quoting: `minimal` (fields may stand in double quotes) or `none` (a quote is a character like any other).
        delimiter: the separator; `None` means comma for csv and tab for tsv.
    """

    column_names: list[str] | None = None
    quoting: Quoting = "minimal"
    delimiter: str | None = None


def read_file(path: Path, options: ReadOptions) -> pa.Table:
    """Reads one file by its extension.

    Raises:
        UserError: unknown extension, missing or empty file, text that is not UTF-8, broken rows (line named).
    """
    reader = _READERS[file_format(path)]
    if not path.is_file():
        raise UserError(f"{path}: no such file{_neighbour(path)}")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a complete gzip file ({error})") from None
    if not content.removeprefix(codecs.BOM_UTF8).strip():
        raise UserError(f"{path}: the file is empty")
    table = reader(content, path, options)
    if table.num_rows == 0:
        raise UserError(f"{path}: only a header, no rows; columns: {table.column_names}")
    return table


def file_format(path: Path) -> str:
    """Returns the format that the extension names, `.gz` taken off.

    Raises:
        UserError: the extension is none of ours.
    """
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    name = suffixes[-1][1:].lower() if suffixes else ""
    if name not in _READERS:
        known = ", ".join(_READERS)
        raise UserError(
            f"{path}: cannot read files of type {name!r}; known: {known} (each also .gz){did_you_mean(name, _READERS)}"
        )
    return name


def _neighbour(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor is there a folder {path.parent})"
    return did_you_mean(path.name, (entry.name for entry in path.parent.iterdir()))


def _decode(content: bytes, path: Path) -> str:
    content = content.removeprefix(codecs.BOM_UTF8)  # not "utf-8-sig": it counts the error's place without the mark
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line} is not UTF-8 (byte {content[error.start]:#04x}); "
            f"convert the file: iconv -f latin1 -t utf-8 {path.name}"
        ) from None


def _read_delimited(default_delimiter: str) -> Callable[[bytes, Path, ReadOptions], pa.Table]:
    def read(content: bytes, path: Path, options: ReadOptions) -> pa.Table:
        text = _decode(content, path)
        delimiter = options.delimiter or default_delimiter
        if len(delimiter.encode()) != 1:
            raise UserError(f'{path}: delimiter {delimiter!r} must be one character (a tab in YAML is "\\t")')
        quote = '"' if options.quoting == "minimal" else False
        names = options.column_names or _header(text, path, delimiter, options.quoting)
        if repeated := {name for name in names if names.count(name) > 1}:
            raise UserError(f"{path}: columns {sorted(repeated)} appear twice in the header")
        try:
            table = pa.csv.read_csv(
                io.BytesIO(text.encode()),
                # one thread: with several, Arrow does not say which row is broken
                read_options=pa.csv.ReadOptions(
                    column_names=options.column_names, use_threads=False, block_size=1 << 26
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=delimiter, quote_char=quote, newlines_in_values=bool(quote)
                ),
                convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
            )
        except pa.ArrowInvalid as error:
            # the row, however long, would bury the fix
            reason = str(error) if len(str(error)) <= 200 else f"{str(error)[:200]}..."
            if options.column_names is not None:
                reason += f"; column_names gives {len(names)} names"
            hint = "" if options.quoting == "none" else "; stray quotes in the text? try `quoting: none`"
            raise UserError(f"{path}: {reason}{hint}") from None
        columns = [_as_numbers(column) for column in table.columns]
        return pa.table(columns, names=table.column_names)

    return read


def _header(text: str, path: Path, delimiter: str, quoting: Quoting) -> list[str]:
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL,
    )
    try:
        return next(row for row in rows if row)  # blank lines before the header are skipped, as Arrow does
    except csv.Error as error:
        raise UserError(f"{path}: line 1: the header cannot be read ({error}); a stray quote?") from None


def _as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Turns a column of strings into numbers where nothing is lost by it (`007` stays text); empty becomes null."""
    trimmed = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    values = trimmed.drop_null()
    if len(values) == 0:
        return trimmed
    if pc.all(pc.match_substring_regex(values, r"^(0|-?[1-9]\d{0,17})$")).as_py():
        return trimmed.cast(pa.int64())
    # "1.50" stays text: it may be a version or a price, to be written as it stood
    number = r"^-?(0|[1-9]\d{0,14})(\.\d{1,20})?([eE][+-]?\d{1,2})?$"
    is_number = pc.all(pc.match_substring_regex(values, number)).as_py()
    if is_number and all(repr(float(value)) == value for value in values.to_pylist()):
        return trimmed.cast(pa.float64())
    return column


def _read_json(content: bytes, path: Path, options: ReadOptions) -> pa.Table:
    text = _decode(content, path)
    if text.lstrip()[0] not in "[{":
        raise UserError(f"{path}: line 1: expected a JSON object or array, found {text.lstrip()[:20]!r}")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip()[0] == "{":  # one object a line under the name .json
            return _read_jsonl(content, path, options)
        raise UserError(f"{path}: line {error.lineno}, column {error.colno}: broken JSON ({error.msg})") from None
    if isinstance(value, dict):
        lists = [key for key, rows in value.items() if isinstance(rows, list) and rows and isinstance(rows[0], dict)]
        value = value[lists[0]] if len(lists) == 1 else [value]
    return rows_to_table(value, str(path))


def _read_jsonl(content: bytes, path: Path, options: ReadOptions) -> pa.Table:
    rows = []
    for number, line in enumerate(_decode(content, path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: line {number}: broken JSON ({error.msg}): {line.strip()[:60]!r}") from None
        if not isinstance(rows[-1], dict):
            raise UserError(
                f"{path}: line {number}: expected an object with named columns, found {line.strip()[:60]!r}"
            )
    return rows_to_table(rows, str(path))


def rows_to_table(rows: list[dict[str, Any]], place: str) -> pa.Table:
    """Builds a table from a list of dicts; a key that a row lacks is null there.

    Raises:
        UserError: a row is no dict, or a column holds values of different kinds.
    """
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{place}: row {number}: expected an object with named columns, found {str(row)[:60]!r}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except UnicodeEncodeError:
            number = next(number for number, value in enumerate(values, start=1) if not _is_text(value))
            raise UserError(
                f"{place}: row {number}, column {name!r}: half of a surrogate pair (such as \\ud83d) is no character; "
                "write the text as UTF-8"
            ) from None
        except OverflowError:
            columns[name] = pa.array([None if value is None else str(value) for value in values])
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            kinds = {type(value) for value in values if value is not None}
            if not kinds <= {str, int, float, bool}:
                found = sorted(kind.__name__ for kind in kinds)
                raise UserError(f"{place}: column {name!r} mixes values of kinds {found}; make it one kind") from None
            columns[name] = pa.array([None if value is None else str(value) for value in values])
    return pa.table(columns)


def _is_text(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_text(content: bytes, path: Path, options: ReadOptions) -> pa.Table:
    # not splitlines(): it also cuts at form feeds and Unicode separators inside a line
    lines = _decode(content, path).replace("\r\n", "\n").removesuffix("\n").split("\n")
    return pa.table({"text": lines})


def _read_parquet(content: bytes, path: Path, options: ReadOptions) -> pa.Table:
    try:
        return pa.parquet.read_table(io.BytesIO(content))
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a readable parquet file ({error})") from None


def _read_arrow(content: bytes, path: Path, options: ReadOptions) -> pa.Table:
    for opener in (pa.ipc.open_file, pa.ipc.open_stream):
        try:
            return opener(io.BytesIO(content)).read_all()
        except pa.ArrowInvalid:
            continue
    raise UserError(f"{path}: neither an Arrow file nor an Arrow stream")


_READERS: dict[str, Callable[[bytes, Path, ReadOptions], pa.Table]] = {
    "csv": _read_delimited(","),
    "tsv": _read_delimited("\t"),
    "json": _read_json,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
    "txt": _read_text,
}
