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
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from lit_ft.data.files import read_files
from lit_ft.data.readers import ReadOptions, read_chunks
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
def malformed(draw: st.DrawFn) -> tuple[str, bytes]:
    """The name and the content of a file: a good one, damaged, at times under another name or in another encoding."""
    cells = st.sampled_from(CELLS)
    texts = draw(st.lists(st.tuples(cells, cells), min_size=1, max_size=12))
    kind = draw(st.sampled_from(FORMATS))
    content = draw(damaged(encode(kind, [{"text": text, "label": label} for text, label in texts])))
    name = "rows." + kind.replace("stream", "arrow") if draw(st.integers(0, 9)) else draw(st.sampled_from(NAMES))
    if not draw(st.integers(0, 19)):
        content = content.decode(errors="replace").encode(
            draw(st.sampled_from(["utf-16", "utf-16-le", "latin1"])), "replace"
        )
    if draw(st.integers(0, 3)) == 0:
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
    if isinstance(value, list):
        return len(value)
    return 1 if not any(isinstance(cell, list) for cell in value.values()) else None


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
        refused = ""
        try:
            rows = len(read_files(str(path), ReadOptions(), Path(folder)).data)
            in_small_chunks = sum(len(chunk) for _, chunk in read_chunks(path, ReadOptions(), rows=2))
        except UserError as error:
            refused = str(error)
        event(
            f"{path.suffix}: {'refused' if refused else 'read'}, reference {'refuses' if wanted is None else 'reads'}"
        )
        if refused:
            assert name in refused
            assert len(refused) < 1500
        else:
            assert rows == in_small_chunks
            assert wanted is None or rows == wanted


common = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@settings(common, max_examples=200)
@given(malformed())
@example(("rows.csv", b'text,label\na "b\n"c",1\n'))
def test_malformed_files_are_read_whole_or_refused(file: tuple[str, bytes]) -> None:
    check(*file)
