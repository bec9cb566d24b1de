"""Malformed files of every format: rows that an independent reader agrees with, or our message; nothing else."""

import csv
import gzip
import io
import json
import re
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from lit_ft.data.reading.files import read_files
from lit_ft.data.reading.readers import ReadOptions, read_chunks
from lit_ft.errors import UserError

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "arrow", "stream", "txt")
NAMES = tuple(
    f"rows.{kind}{zipped}"
    for kind in ("csv", "tsv", "json", "jsonl", "parquet", "arrow", "txt")
    for zipped in ("", ".gz")
)
MARKS = (
    *(b'"', b'""', b",", b";", b"\t", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\r\n", b" ", b"\\", b"'", b"{", b"}", b"["),
    *(b"]", b"{}", b"[]", b"null", b"1", b"0.5", b"-", b"text", b"\0", b"\xff", b"\xe9", b"\xef\xbb\xbf", b"\x0c"),
    *("\u2028".encode(), b"\xc2\x85", b"\\ud83d", b"\x1a", b"NaN", b'{"text": "a", "label": [1]}\n', b"a,b\n"),
    b"[" * 5000,
)  # fmt: skip
CELLS = ("a", "a good film", "1", "0.5", "", "x, y", 'say "x"', "two\nlines", "é 文", "1", "0", "yes", "Text")


def encode(kind: str, rows: list[dict[str, str]]) -> bytes:
    table, out = pa.Table.from_pylist(rows), io.BytesIO()
    if kind in ("csv", "tsv"):
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), dialect="excel" if kind == "csv" else "excel-tab")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()
    if kind == "json":
        return json.dumps(rows, indent=1, ensure_ascii=False).encode()
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if kind == "parquet":
        pa.parquet.write_table(table, out, row_group_size=3)
    elif kind == "txt":
        return "".join(row["text"] + "\n" for row in rows).encode()
    else:
        with (pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream)(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    return out.getvalue()


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Some bytes with up to three things done to them."""
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        place = draw(st.integers(0, len(content)))
        end = min(len(content), place + draw(st.integers(1, 12)))
        match draw(
            st.sampled_from(["insert", "insert", "insert", "flip", "cut", "delete", "repeat", "random", "lines"])
        ):
            case "insert":
                content = content[:place] + draw(st.sampled_from(MARKS)) + content[place:]
            case "flip" if place < len(content):
                content = content[:place] + bytes([content[place] ^ draw(st.integers(1, 255))]) + content[place + 1 :]
            case "cut":
                content = content[:place]
            case "delete":
                content = content[:place] + content[end:]
            case "repeat":
                content = content[:end] + content[place:]
            case "random":
                content = content[:place] + draw(st.binary(max_size=8)) + content[place:]
            case "lines":
                content = content.replace(*draw(st.sampled_from([(b"\n", b"\r\n"), (b"\r\n", b"\n"), (b"\n", b"\r")])))
    return content


@st.composite
def malformed(draw: st.DrawFn, kind: str) -> tuple[str, bytes]:
    """The name and the content of a file: a good one, damaged, at times under another name or in another encoding."""
    cells = st.sampled_from(CELLS)
    texts = draw(st.lists(st.tuples(cells, cells), min_size=1, max_size=12))
    content = draw(damaged(encode(kind, [{"text": text, "label": label} for text, label in texts])))
    name = "rows." + kind.replace("stream", "arrow") if draw(st.integers(0, 9)) else draw(st.sampled_from(NAMES))
    if not draw(st.integers(0, 19)):
        content = content.decode(errors="replace").encode(
            draw(st.sampled_from(["utf-16", "utf-16-le", "latin1"])), "replace"
        )
    if draw(st.integers(0, 4)) == 0:
        name, content = name.removesuffix(".gz") + ".gz", gzip.compress(content, mtime=0)
        content = draw(damaged(content)) if draw(st.booleans()) else content
    return name, content


def reference(name: str, content: bytes) -> int | None:
    """Counts the rows with other readers; -1 without even a header, `None` where they do not accept the file."""
    try:
        content = gzip.decompress(content) if name.endswith(".gz") else content
        return _COUNT[name.split(".")[1]](content)
    except (OSError, EOFError, zlib.error, ValueError, csv.Error, pa.ArrowException, RecursionError):
        return None


def _text(content: bytes) -> str:
    return content.removeprefix(b"\xef\xbb\xbf").decode()


def _count_delimited(delimiter: str) -> Callable[[bytes], int]:
    return lambda content: sum(map(bool, csv.reader(io.StringIO(_text(content), newline=""), delimiter=delimiter))) - 1


def _count_json(content: bytes) -> int | None:
    try:
        value = json.loads(_text(content))
    except json.JSONDecodeError:
        return sum(1 for line in re.split("[\r\n]", _text(content)) if line.strip() and json.loads(line) is not None)
    if isinstance(value, dict):
        return 1 if not any(isinstance(cell, list) for cell in value.values()) else None
    return len(value) if isinstance(value, list) else None


def _count_arrow(content: bytes) -> int:
    opener = pa.ipc.open_file if content.startswith(b"ARROW1") else pa.ipc.open_stream
    return opener(pa.BufferReader(content)).read_all().num_rows


_COUNT: dict[str, Callable[[bytes], int | None]] = {
    "csv": _count_delimited(","),
    "tsv": _count_delimited("\t"),
    "json": _count_json,
    "jsonl": _count_json,
    "parquet": lambda content: pa.parquet.read_table(pa.BufferReader(content)).num_rows,
    "arrow": _count_arrow,
    # a line end that was converted twice is one
    "txt": lambda content: len(io.StringIO(re.sub("\r+\n", "\n", _text(content)), newline=None).readlines()),
}


def check(name: str, content: bytes) -> None:
    """Reads one file: the count that the reference has, or an error of ours that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        wanted = reference(name, content)
        try:
            rows = read_files(str(path), ReadOptions(), Path(folder)).data.to_list()
        except UserError as error:
            rows, refused = None, str(error)
        event(f"{path.suffix}: {'refused' if rows is None else 'read'}, reference: {wanted is not None}")
        if rows is None:
            assert name in refused
            assert len(refused) < 1500
        else:
            assert wanted in (None, len(rows))
            assert count_in_small_chunks(path) in (None, len(rows))


def count_in_small_chunks(path: Path) -> int | None:
    """Counts the rows when reading starts anew after every second one."""
    count, place = 0, None
    try:
        while chunk := next(iter(read_chunks(path, ReadOptions(), place, rows=2)), None):
            place, table = chunk
            count += len(table)
    except UserError as error:
        if re.search("looks like a row of data|values inside its", str(error)):
            return None  # of two rows alone
        raise
    return count


in_every_run_alike = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("kind", FORMATS)
@settings(in_every_run_alike, max_examples=200 // len(FORMATS))
@given(data=st.data())
def test_malformed_files_are_read_whole_or_refused(kind: str, data: st.DataObject) -> None:
    check(*data.draw(malformed(kind)))
