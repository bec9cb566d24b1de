"""Parallel text files, line by line the same in two languages -> one data set on disk with a column for each."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from datasets import Dataset

from lit_ft.data.reading.formats.arrow_out import ArrowOut
from lit_ft.data.reading.readers import ReadOptions, file_format, read_chunks
from lit_ft.errors import UserError

Named = tuple[str, Path]
"""A file as the user named it, and its path."""


def sides_of(source_lang: str | None, target_lang: str | None) -> tuple[str, str]:
    """Returns what files and columns of the two sides are called: by their languages, where these are two."""
    sides = (source_lang or "source", target_lang or "target")
    return sides if sides[0] != sides[1] else ("source", "target")


def check_not_parallel(files: Sequence[str], sides: tuple[str, str]) -> None:
    """Makes sure that no file is of one side alone, by its name: these are not streamed.

    Raises:
        UserError: one is.
    """
    if any(side_of(Path(name), sides) is not None for name in files):
        raise UserError("streaming: parallel text files are read as a whole: leave it out, or write pairs to jsonl")


def side_of(path: Path, sides: tuple[str, str]) -> int | None:
    """Returns which side a file is of by its name: `train.de`, `train.de.gz`, `train.de.txt`; `None` = it says none."""
    parts = path.name.removesuffix(".gz").split(".")[1:]
    for part in reversed(parts):
        for whole in (True, False):
            names = [side if whole else re.split(r"[_-]", side.strip("_"))[0] for side in sides]
            if names.count(part) == 1:
                return names.index(part)
    return None


def parallel_sides(files: Sequence[Named], options: ReadOptions) -> tuple[list[Named], list[Named]] | None:
    """Returns the files of the sources and those of the targets; `None` where these are no files of plain text.

    Args:
        files: all files of a split.
        options: with the names of the sides.

    Raises:
        UserError: there are not as many of one side as of the other, or their names do not say which they are of; a
            file's type is unknown.
    """
    if options.sides is None or any(file_format(path, options) != "txt" for _, path in files):
        return None
    found = [side_of(path, options.sides) for _, path in files]
    endings = [path.name.removesuffix(".gz").rpartition(".")[2] for _, path in files]
    if found.count(None) == len(found) and len(set(endings)) == 1:
        _check_text(files[0][1], *options.sides)  # `train.jsonlines` is no text, and two of them are no pair
    if found == [None, None]:
        found = [0, 1]  # the source comes first
    if found == [None]:
        found = [0]
    source, target = ([file for file, which in zip(files, found, strict=True) if which == side] for side in (0, 1))
    if None in found or (len(target) not in (0, len(source))):
        names = [name for name, _ in files]
        raise UserError(
            f"{names}: parallel files come in twos, one that ends in .{options.sides[0]} and one in "
            f".{options.sides[1]} (or two files, the source first)"
        )
    return source, target


def _check_text(path: Path, *sides: str) -> None:
    try:
        file_format(path)
    except UserError as error:
        raise UserError(f"{error}; files of lines end in .txt, .{' or .'.join(sides)}") from None


def read_parallel(
    files: tuple[list[Named], list[Named]], options: ReadOptions, folder: Path
) -> tuple[Dataset, list[tuple[str, int]]]:
    """Reads parallel files, a row a line; without files of targets the sources alone, in rows by `sample_by`.

    Args:
        files: what `parallel_sides` returned.
        options: with the names of the sides, which the columns get.
        folder: where the rows are written to.

    Returns:
        The rows, memory-mapped, and each file of sources with the number of its first row.

    Raises:
        UserError: two files do not have equally many lines, or are to be read otherwise than by lines.
    """
    assert options.sides is not None
    (sources, targets), sides = files, options.sides
    if targets:
        if options.sample_by != "line":
            raise UserError(f"sample_by: {options.sample_by}: parallel files are read line by line: leave it out")
        options = replace(options, keep_linebreaks=False)
    names = sides[: 2 if targets else 1]
    out = ArrowOut(folder / "pairs.arrow", pa.schema([(name, pa.string()) for name in names]))
    rows, parts = 0, []
    for place, source in enumerate(sources):
        parts.append((source[0], rows))
        both = [source, targets[place]] if targets else [source]
        for columns in _lines_of(both, options):
            out.write(pa.table(columns, names=list(names)))
            rows += len(columns[0])
    out.close()
    return Dataset.from_file(str(out.path)), parts


def _lines_of(files: list[Named], options: ReadOptions) -> Iterator[list[pa.ChunkedArray]]:
    """Yields equally many lines of each file until all end.

    Raises:
        UserError: one ends before the others.
    """
    readers = [read_chunks(path, options) for _, path in files]
    waiting: list[pa.ChunkedArray] = [pa.chunked_array([], pa.string()) for _ in files]
    seen, ended = [0] * len(files), False
    while not ended:
        for number, reader in enumerate(readers):
            if not len(waiting[number]):
                chunk = next(reader, None)
                if chunk is not None:
                    waiting[number] = chunk[1]["text"]
                    seen[number] += len(waiting[number])
        size = min(map(len, waiting))
        ended = size == 0
        if not ended:
            yield [column[:size] for column in waiting]
            waiting = [column[size:] for column in waiting]
    for number, reader in enumerate(readers):
        seen[number] += sum(len(table) for _, table in reader)
    if len(set(seen)) > 1:
        counts = ", ".join(f"{name} has {count:,} lines" for (name, _), count in zip(files, seen, strict=True))
        raise UserError(
            f"{counts}: line by line one is to be the translation of the other; was one of them cut, or blank lines "
            "taken out of it?"
        )
