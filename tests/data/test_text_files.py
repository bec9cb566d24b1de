"""Text files by line, paragraph and document: against `datasets`, and against the text itself."""

import gzip
import io
import json
import re
import struct
import sys
import tracemalloc
import zipfile
import zlib
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_ft.data.mixture import mixed_source
from lit_ft.data.reading.formats import lines, text
from lit_ft.data.reading.raw import RawSource, Scratch
from lit_ft.data.reading.readers import ReadOptions, read_chunks
from lit_ft.data.streaming.order import Shard, ShardReader, Source
from lit_ft.data.streaming.source import StreamedSource
from lit_ft.data.streaming.streams import PART, FileStream
from lit_ft.errors import UserError

MODES = ["line", "paragraph", "document"]
FILES = {
    "plain": "one\ntwo\n\nthree\nfour\n",
    "no final newline": "one\ntwo\n\nthree\n\nfour",
    "blank lines": "\n\n\none\n\n\ntwo\n\n\n\n\nthree\n\n\n",
    "returns": "one\r\ntwo\r\n\r\nthree\r\n\r\n\r\nfour",
    "old returns": "one\rtwo\r\rthree\r",
    "separators": "one\ftwo\n\nthree\u2028four\x85five\x1cs\v\n\n\u00a0six\n",
    "wide": "één\n\n二つ😀\n三\n\n",
    "marked": "\ufeffone\n\ntwo\ufeff\n",
    "one line": "just one line",
    "spaces": " indented \n\n\ttabbed\t\n   \n",
}


def read(path: Path, rows: int = 8192, **options) -> list[dict]:
    return [row for _, table in read_chunks(path, ReadOptions(**options), rows=rows) for row in table.to_pylist()]


def texts(path: Path, rows: int = 8192, **options) -> list[str]:
    return [row["text"] for row in read(path, rows, **options)]


def write(path: Path, content: str | bytes) -> Path:
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
@pytest.mark.parametrize("sample_by", MODES)
@pytest.mark.parametrize("keep", [False, True])
def test_rows_are_those_of_datasets(sample_by: str, keep: bool, suffix: str, tmp_path: Path) -> None:
    for name, content in FILES.items():
        path = write(tmp_path / f"{name}{suffix}", content)
        theirs = load_dataset(
            "text", data_files=str(path), sample_by=sample_by, keep_linebreaks=keep, cache_dir=str(tmp_path / "cache"),
            split="train",
        )["text"]  # fmt: skip
        wanted = [theirs[0].removeprefix("\ufeff"), *theirs[1:]]
        ours = texts(path, sample_by=sample_by, keep_linebreaks=keep)
        if sample_by == "paragraph":  # they leave further blank lines at a paragraph's edge, and the last line's end
            wanted = [kept for row in wanted if (kept := row.removesuffix("\n   \n").strip("\n"))]
            ours = [row.removesuffix("\n   \n").strip("\n") if keep else row for row in ours]
        assert ours == wanted, name


def by_lines(content: str, keep: bool) -> list[str]:
    return [line if keep else line.removesuffix("\n") for line in io.StringIO(content, newline="\n")]


def by_paragraphs(content: str, keep: bool) -> list[str]:
    runs = [
        (kind, "".join(run)) for kind, run in groupby(by_lines(content, True), lambda line: bool(line.strip(BLANK)))
    ]
    if not keep:
        return [run.removesuffix("\n") for filled, run in runs if filled]
    first = "" if runs[0][0] else runs.pop(0)[1]
    joined = [run + (runs[at + 1][1] if at + 1 < len(runs) else "") for at, (filled, run) in enumerate(runs) if filled]
    return [first + joined[0], *joined[1:]]


BLANK = " \t\n\v\f\r"
TOKENS = [
    "a",
    "word",
    "é",
    "二",
    "😀",
    " ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    "\f",
    "\v",
    "\u2028",
    "\u00a0",
    "\x85",
    "x" * 9,
]
documents = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=40).map("".join).filter(lambda t: t.strip(BLANK))
found = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck), max_examples=500
)


@found
@given(
    documents, st.sampled_from(MODES), st.booleans(), st.integers(1, 30), st.integers(4, 12), st.integers(1, 4),
    st.sampled_from([".txt", ".txt.gz"]), st.sampled_from(["", "\ufeff"]),
)  # fmt: skip
def test_every_text_in_every_chunking(
    tmp_path: Path, content: str, sample_by: str, keep: bool, block: int, piece: int, rows: int, suffix: str, mark: str
) -> None:
    options = ReadOptions(sample_by=sample_by, keep_linebreaks=keep)
    path = write(tmp_path / f"a{suffix}", mark + content)
    plain = content.replace("\r\n", "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "DOCUMENT_PIECE", piece)
        whole = read(path, sample_by=sample_by, keep_linebreaks=keep)  # in blocks of 4 MB
        patch.setattr(lines, "BLOCK", block)
        chunks = list(read_chunks(path, options, rows=rows))
        assert [row for _, table in chunks for row in table.to_pylist()] == whole
        done = 0
        for position, table in chunks:
            assert 1 <= len(table) <= rows
            done += len(table)
            kept = json.loads(json.dumps(position))
            assert [row for _, rest in read_chunks(path, options, kept) for row in rest.to_pylist()] == whole[done:]
            before = (mark + content).encode()[: position["byte"]]
            assert (position["row"], position["line"]) == (done, 1 + before.count(b"\n"))
        stream = FileStream([path], options)
        beginnings = [stream.where(row) for row in range(len(whole))]
    column = [row["text"] for row in whole]
    assert all(column) or sample_by == "line"
    if keep or sample_by == "document":
        assert "".join(column) == plain
    if sample_by == "line":
        assert column == by_lines(plain, keep)
        assert beginnings == [f"{path}: row {row + 1}" for row in range(len(column))]
        return
    if sample_by == "paragraph":
        assert column == by_paragraphs(plain, keep)
    else:
        check_pieces(whole, content, piece)
    assert beginnings == [
        f"{path}: row {row + 1} (line {1 + plain.count(chr(10), 0, place)})"
        for row, place in enumerate(places(plain, column))
    ]


def places(content: str, rows: list[str]) -> list[int]:
    """The offsets that the rows begin at; each is searched behind the one before."""
    found, place = [], 0
    for row in rows:
        found.append(content.index(row, place))
        place = found[-1] + len(row)
    return found


def check_pieces(rows: list[dict], content: str, longest: int) -> None:
    numbers = np.array([row["document_part"] for row in rows])
    assert numbers[0] % (1 << 24) == 0
    np.testing.assert_array_equal(np.diff(numbers), 1)
    for row in rows[:-1]:
        piece = row["text"]
        assert len(piece.encode()) <= longest
        assert piece.endswith("\n") or "\n" not in piece
        assert piece.endswith(("\n", " ", "\t")) or not re.search("[\n \t]", piece)
        assert piece.endswith(("\n", " ", "\t")) or len(piece.encode()) > longest - 4 or "\r" in content


def test_documents_of_several_files_are_told_apart(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.txt", "word\n" * 40_000) for name in "ab"]
    columns = [[row["document_part"] for row in read(path, sample_by="document")] for path in paths]
    for path, column in zip(paths, columns, strict=True):
        assert column == [(zlib.crc32(str(path).encode()) << 24) + number for number in range(4)]
    assert len(set(map(len, texts(paths[0], sample_by="document")))) == 2, "all pieces but the last are full"
    assert not set(columns[0]) & set(columns[1])
    assert set(read(paths[0])[0]) == {"text"}
    assert set(read(paths[0], sample_by="paragraph")[0]) == {"text"}


def test_more_pieces_than_there_are_numbers_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "DOCUMENT_PIECE", 4)
    monkeypatch.setattr(text, "PART_BITS", 3)
    path = write(tmp_path / "a.txt", "abc\n" * 8)
    assert len(read(path, sample_by="document")) == 8
    with pytest.raises(UserError, match=r"a\.txt: one document of more than 8 pieces"):
        read(write(path, "abc\n" * 9), sample_by="document")


@pytest.mark.parametrize("content", ["a word, " * 5_000_000, "二" * 14_000_000, "short\n" * 7_000_000])
def test_a_document_of_any_size_in_flat_memory(content: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", content)
    tracemalloc.start()
    length = chunks = 0
    for _, table in read_chunks(path, ReadOptions(sample_by="document")):
        chunks += 1
        for piece in table["text"].to_pylist():
            assert content.startswith(piece, length)
            length += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length == len(content)
    assert chunks < 15, "what is written in small chunks is read whole as soon as it is mapped"
    assert peak < 24 << 20
    assert path.stat().st_size > 38 << 20


@pytest.mark.parametrize("sample_by", MODES)
def test_old_and_doubled_returns(sample_by: str, tmp_path: Path) -> None:
    for content in ("a\rb\r\rc\r", "a\r\r\nb\r\r\n\r\nc\r\n"):
        path = write(tmp_path / "a.txt", content)
        assert "".join(texts(path, sample_by=sample_by, keep_linebreaks=True)) == "a\nb\n\nc\n"


def test_a_piece_never_ends_within_a_return_and_its_line_feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "DOCUMENT_PIECE", 8)
    path = write(tmp_path / "a.txt", b"abcdefg\r\nabcdef\r\r\nabcdefgh\r\nab\r\n")
    assert texts(path, sample_by="document") == ["abcdefg", "\n", "abcdef", "\n", "abcdefgh", "\nab\n"]


PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
BAD = {
    "not UTF-8": (b"one\n\ntwo\nthr\xe9e\n", r"line 4 is not UTF-8 \(byte 0xe9\)"),
    "NUL": (b"one word\nand another\n\nthr\0ee words\n" * 2, "line 4 holds a NUL byte"),
    "return": (b"one\n\ntwo\nthree\rfour\n", "line 4 holds a lone carriage return"),
    "empty": (b"", "the file is empty"),
    "blank": (b"\n \n\f\n", "the file is empty"),
    "zeros": (b"\0" * 5000, "the file is binary"),
    "program": (Path(sys.executable).resolve().read_bytes()[:50_000], r"the file is binary \(a program\)"),
    "image": (PNG, r"the file is binary \(an image\)"),
    "deflated": (zlib.compress(str(list(range(5000))).encode()), "the file is binary, not text"),
    "UTF-16": ("one\n".encode("utf-16"), "the file is UTF-16"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("sample_by", MODES)
def test_what_is_no_text_is_said_by_line(sample_by: str, name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    with pytest.raises(UserError, match=rf"{tmp_path}/a\.txt: {message}"):
        read(write(tmp_path / "a.txt", content), sample_by=sample_by)


def test_an_archive_and_texts_that_begin_like_one(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(UserError, match="is a zip archive"):
        read(write(tmp_path / "a.txt", out.getvalue()))
    for content in ("GIF89a é", "BZh is how bzip2 begins", "%PDF-1.4 also\n", "\x1b[31mred\x1b[0m", "old\n\x1a"):
        assert texts(write(tmp_path / "a.txt", content), sample_by="document") == [content]


def test_a_text_without_blank_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "LONGEST", 1000)
    monkeypatch.setattr(lines, "BLOCK", 100)
    path = write(tmp_path / "a.txt", "line\n" * 1000)
    with pytest.raises(UserError, match=r"a\.txt: a paragraph takes more than .*no blank line.*sample_by: document"):
        read(path, sample_by="paragraph")
    assert len(read(path, sample_by="document")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_by": "paragrph"}, "sample_by is 'paragrph'; .*did you mean 'paragraph'"),
        ({"keep_linebreaks": "yes"}, "keep_linebreaks is 'yes', expected true or false"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ReadOptions(**options)


def source(kind: type[RawSource] = RawSource, **options) -> RawSource:
    known = {name: options.pop(name) for name in ("sample_by", "keep_linebreaks") if name in options}
    files = {"train": None, "validation": None, "test": None, "predict": None, **options}
    return kind(None, None, files, {}, ReadOptions(**known), validation_split_percentage=0)


def test_files_are_read_as_each_source_says(tmp_path: Path) -> None:
    content = "a\nb\n\nc\n"
    path = str(write(tmp_path / "a.txt", content))
    mixed = mixed_source(
        source(sample_by="paragraph"),
        {
            "own": {"train_file": path},
            "lines": {"train_file": path, "sample_by": "line", "keep_linebreaks": True},
            "whole": {"train_file": path, "sample_by": "document"},
        },
    )
    loaded = mixed.load("train", lambda rows: None, Scratch(tmp_path / "scratch"))
    found = {name: rows.data["text"][:] for name, rows in loaded.items()}
    assert found == {"own": ["a\nb", "c"], "lines": ["a\n", "b\n", "\n", "c\n"], "whole": [content]}


def test_rows_on_disk_are_named_with_their_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_ft.data.reading.lines.SPACING", 1 << 20)
    first = write(tmp_path / "a.txt", "\n\n" + "one\ntwo\n\n" * 200_000)
    second = write(tmp_path / "b.txt.gz", "x\n\n\n\ny\r\nz\r\n")
    raw = source(train=[str(first), str(second)], sample_by="paragraph")
    rows = raw.load("train", lambda rows: None, Scratch(tmp_path / "scratch"))[""]
    assert rows.where(0) == f"{first}: row 1 (line 3)"
    assert rows.where(150_000) == f"{first}: row 150001 (line 450003)"
    assert rows.select(np.array([5, 200_001])).where(1) == f"{second}: row 2 (line 5)"
    first.unlink()
    assert rows.where(7) == f"{first}: row 8"


def test_pieces_in_a_stream_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "DOCUMENT_PIECE", 12)
    contents = ["".join(f"line {number}\n" for number in range(count)) for count in (30, 17)]
    paths = [write(tmp_path / f"{at}.txt", content) for at, content in enumerate(contents)]
    streamed = source(StreamedSource, train=[str(path) for path in paths], sample_by="document")
    (one,) = streamed.streams
    assert isinstance(one, Source)
    seen: dict[int, dict] = {}
    for number in (0, 1):
        reader = ShardReader(one, 0, Shard(number, 2), seed=1, buffer=9)
        while reader.epoch == 0:
            block, at = reader.pick()
            (row,) = block.table.slice(at, 1).to_pylist()
            assert seen.setdefault(int(block.numbers[at]), row) is row
            if len(seen) == 20:  # goes on in the middle
                place = json.loads(json.dumps(reader.place()))
                reader = ShardReader(one, 0, Shard(number, 2), seed=1, buffer=9)
                reader.load(place)
    in_order = [seen[number] for number in sorted(seen)]
    assert "".join(row["text"] for row in in_order) == "".join(contents)
    assert one.stream.where((1 << PART) + 3) == f"{paths[1]}: row 4 (line 4)"
    assert sorted(row["document_part"] % (1 << 24) for row in in_order)[-1] == 29
