"""One file on disk -> chunks of rows: csv, tsv, json, jsonl, parquet, arrow, txt, conll(u), each also gzipped.

Values are kept as they stand in the file: no text becomes null because it reads `NA`, no string becomes a date.
Nothing is read whole, but a JSON object that wraps a list.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from lit_ft.data.reading.formats.columnar import read_arrow, read_parquet
from lit_ft.data.reading.formats.common import Chunks, Position, Quoting, ReadOptions, SampleBy
from lit_ft.data.reading.formats.conll import read_conll
from lit_ft.data.reading.formats.delimited import read_delimited
from lit_ft.data.reading.formats.json_files import read_json
from lit_ft.data.reading.formats.rows import is_scalar, rows_to_table, texts
from lit_ft.data.reading.formats.text import read_text
from lit_ft.errors import UserError, did_you_mean

__all__ = [
    "Position",
    "Quoting",
    "ReadOptions",
    "SampleBy",
    "check_documents",
    "check_file",
    "file_format",
    "read_chunks",
    "rows_to_table",
]

_READERS: dict[str, Callable[[Path, ReadOptions, Position | None, int], Chunks]] = {
    "csv": partial(read_delimited, default_delimiter=","),
    "tsv": partial(read_delimited, default_delimiter="\t"),
    "parquet": read_parquet,
    "arrow": read_arrow,
    "txt": read_text,
    "conll": partial(read_conll, universal=False),
    "conllu": partial(read_conll, universal=True),
}
_FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "arrow", "txt", "conll", "conllu")


def read_chunks(
    path: Path,
    options: ReadOptions,
    position: Position | None = None,
    rows: int = 8192,
    as_text: Collection[str] = (),
) -> Chunks:
    """Reads one file by its extension, in order.

    Cells of csv and tsv are strings, an empty one is null; other formats have their values as they stand, of one kind
    within a chunk (a column may be of another kind in the next, or be missing there when no row of the chunk has it).

    Args:
        path: the file.
        options: how delimited and plain text are read.
        position: where to go on; `None` = the beginning.
        rows: most rows in a chunk.
        as_text: columns whose scalars become text in any case.

    Yields:
        The position behind the chunk, in plain JSON, and the chunk. Reading goes on there by seeking; only gzip and
        JSON objects that wrap a list are read and skipped up to it.

    Raises:
        UserError: unknown extension, missing or empty file, text that is not UTF-8, broken rows (line named).
    """
    kind = file_format(path, options)
    check_file(path)
    if kind in ("json", "jsonl"):
        chunks = read_json(path, kind == "jsonl", position, rows, as_text)
    else:
        chunks = _READERS[kind](path, options, position, rows)
    after = position
    for after, table in chunks:
        for name in as_text:
            if name in table.column_names and is_scalar(table[name].type):
                written = texts(table[name].to_pylist())
                table = table.set_column(table.column_names.index(name), name, written)
        yield after, table
    if after is None:
        raise UserError(f"{path}: the file holds no rows")


def file_format(path: Path, options: ReadOptions | None = None) -> str:
    """Returns the format that the extension names, `.gz` taken off, by these options.

    Raises:
        UserError: the extension is none of ours.
    """
    name = extension(path)
    if name not in _FORMATS and options is not None and options.sides is not None:
        return "txt"  # `train.de`
    if name not in _FORMATS:
        hint = did_you_mean(name, _FORMATS)
        raise UserError(
            f"{path}: cannot read files of type {name!r}; known: {', '.join(_FORMATS)} (each also .gz){hint}; "
            "a file that is one of these needs a name that ends so (ln -s)"
        )
    return "conll" if options is not None and name in options.as_conll else name


def check_documents(paths: Collection[Path], options: ReadOptions) -> None:
    """Makes sure that files belong together where txt files are documents, which come in numbered pieces.

    Raises:
        UserError: there are txt files among others.
    """
    others = [path for path in paths if file_format(path, options) != "txt"]
    if options.sample_by == "document" and 0 < len(others) < len(paths):
        text = next(path for path in paths if path not in others)
        raise UserError(
            f"{text} is one document (sample_by: document), but {others[0]} beside it has a row for each: "
            "set sample_by to line or paragraph, or name them in sources of their own"
        )


def check_file(path: Path) -> None:
    """Makes sure that there is a file to read.

    Raises:
        UserError: there is none (the closest name is said), or it is a folder (what it holds is said).
    """
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder, not a file; {_content(path)}")
        if not path.is_file():
            raise UserError(f"{path}: no such file{_neighbour(path)}")
    except PermissionError as error:
        raise UserError(f"{path}: permission denied for {error.filename}; make it readable for this user") from None


def extension(path: Path) -> str:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    return suffixes[-1][1:].lower() if suffixes else ""


def _content(folder: Path) -> str:
    names = [Path(name) for name in sorted(os.listdir(folder))]
    formats = Counter(extension(name) for name in names if extension(name) in _FORMATS)
    if not formats:
        return f"it holds no data files ({', '.join(map(str, names[:5])) or 'it is empty'})"
    (best, count), *_ = formats.most_common(1)
    example = next(name for name in names if extension(name) == best)
    return f"name its files: '{folder}/*{''.join(example.suffixes)}' ({count} of them)"


def _neighbour(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor is there a folder {path.parent})"
    return did_you_mean(path.name, os.listdir(path.parent))
