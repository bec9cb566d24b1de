"""One file in every format gives the same rows, from every position on; odd cells, quotes and line ends."""

import csv
import gzip
import io
import json
import random
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from lit_ft.data.reading.readers import Position, ReadOptions, read_chunks
from lit_ft.errors import UserError

ROWS = [{"text": "first, with comma", "label": "yes"}, {"text": 'second "quoted"\nline', "label": "no"}]


def rows_of(path: Path, position: Position | None = None, rows: int = 8192, **options) -> list[dict]:
    chunks = read_chunks(path, ReadOptions(**options), position, rows)
    return [row for _, chunk in chunks for row in chunk.to_pylist()]


def read(path: Path, content: str | bytes, **options) -> dict[str, list]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (_, chunk), *more = read_chunks(path, ReadOptions(**options))
    assert not more
    return chunk.to_pydict()


def encode(name: str, rows: list[dict]) -> bytes:
    """Rows in one format, written by somebody else's code."""
    frame, table, out = pd.DataFrame(rows), pa.Table.from_pylist(rows), io.BytesIO()
    if name == "csv":
        return frame.to_csv(index=False).encode()
    if name == "tsv":
        return frame.to_csv(index=False, sep="\t").encode()
    if name == "json":
        return json.dumps(rows, indent=1).encode()
    if name == "jsonl":
        return frame.to_json(orient="records", lines=True).encode()
    if name == "parquet":
        pa.parquet.write_table(table, out, row_group_size=7)
    elif name in ("arrow", "stream"):
        make = pa.ipc.new_file if name == "arrow" else pa.ipc.new_stream
        with make(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    else:
        return "\n".join(row["text"] for row in rows).encode()
    return out.getvalue()


NOBODY = 65534
FORMATS = ["csv", "tsv", "json", "jsonl", "parquet", "arrow", "stream", "txt"]


def put(folder: Path, name: str, rows: list[dict], zipped: bool = False) -> Path:
    path = folder / (f"a.{'arrow' if name == 'stream' else name}" + ".gz" * zipped)
    content = encode(name, rows)
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, zipped: bool) -> None:
    wanted = [{"text": "first, with comma"}, {"text": 'second "quoted"'}, {"text": "line"}] if name == "txt" else ROWS
    assert rows_of(put(tmp_path, name, ROWS, zipped)) == wanted


def many_rows(name: str) -> list[dict]:
    chance = random.Random(0)
    texts = [chance.choice(["héllo", 'say "x"', "a, b", "two\nlines", "", "x" * 50]) + f" {n}" for n in range(23)]
    if name == "txt":
        return [{"text": text.replace("\n", " ")} for text in texts]
    return [{"text": text, "label": chance.choice("ab")} for text in texts]


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_reading_goes_on_at_every_position(tmp_path: Path, name: str, zipped: bool, rows: int) -> None:
    wanted = many_rows(name)
    path = put(tmp_path, name, wanted, zipped)
    read = 0
    for position, chunk in read_chunks(path, ReadOptions(), rows=rows):
        assert 0 < len(chunk) <= rows
        assert chunk.to_pylist() == wanted[read : read + len(chunk)]
        read += len(chunk)
        assert position["row"] == read
        sent = json.loads(json.dumps(position))
        assert rows_of(path, sent) == wanted[read:]
    assert read == len(wanted)


@pytest.mark.parametrize("name", ["csv", "jsonl", "txt", "json"])
def test_blocks_are_cut_between_rows(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = many_rows(name)
    path = put(tmp_path, name, wanted)
    for block in (1, 2, 3, 5, 8, 13, 21, 34):
        monkeypatch.setattr("lit_ft.data.reading.formats.lines.BLOCK", block)
        monkeypatch.setattr("lit_ft.data.reading.formats.json_array.BLOCK", block)
        assert rows_of(path) == wanted


def test_going_on_seeks_and_does_not_read_what_lies_before(tmp_path: Path) -> None:
    path = put(tmp_path, "jsonl", many_rows("jsonl"))
    position, _ = next(iter(read_chunks(path, ReadOptions(), rows=10)))
    damaged = bytearray(path.read_bytes())
    damaged[20 : position["byte"] - 1] = b"?" * (position["byte"] - 21)
    path.write_bytes(damaged)
    assert rows_of(path, position) == many_rows("jsonl")[10:]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_file_that_became_shorter(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, "csv", many_rows("csv"), name.endswith("gz"))
    *_, (position, _) = read_chunks(path, ReadOptions(), rows=20)
    put(tmp_path, "csv", ROWS, name.endswith("gz"))
    with pytest.raises(UserError, match="the file is shorter now; it was changed"):
        rows_of(path, position)


def test_a_cell_of_many_blocks(tmp_path: Path) -> None:
    long = 'a "b", c\n' * 1_000_000
    frame = pd.DataFrame({"text": ["x", long, "y"], "label": ["1", "2", "1"]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    for name in ("a.csv", "a.jsonl"):
        assert [row["text"] for row in rows_of(tmp_path / name)] == ["x", long, "y"]


def test_csv_module_agrees_on_quotes_and_line_ends(tmp_path: Path) -> None:
    chance, path = random.Random(1), tmp_path / "a.csv"
    pieces = ["a", " ", '""', '"', ",", "\n", "\r\n", "é"]
    for _ in range(150):
        quoted = ['"' + "".join(chance.choices([p for p in pieces if p != '"'], k=3)) + '"' for _ in range(6)]
        plain = [
            "x" + "".join(chance.choices([p for p in pieces if p not in (",", "\n", "\r\n")], k=3)) for _ in range(6)
        ]
        cells = [chance.choice(pair) for pair in zip(quoted, plain, strict=True)]
        text = "h1,h2\n" + "".join(
            f"{a},{b}" + chance.choice(["\n", "\r\n"]) for a, b in zip(cells[::2], cells[1::2], strict=True)
        )
        path.write_bytes(text.encode())
        wanted = list(csv.DictReader(io.StringIO(text, newline="")))
        assert rows_of(path, rows=2) == wanted


def test_empty_cells_are_null_and_the_rest_are_strings(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", 'text,label\nNA,1\n,2\n"",007\n')
    assert found == {"text": ["NA", None, None], "label": ["1", "2", "007"]}


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_stray_quotes_with_quoting_none(tmp_path: Path, delimiter: str) -> None:
    lines = [["text", "label"], ['"an open quote', "1"], ['5" pipe "', "0"], ['""', "1"]]
    content = "\n".join(delimiter.join(line) for line in lines) + "\n"
    found = read(tmp_path / ("a.csv" if delimiter == "," else "a.tsv"), content, quoting="none")
    assert found == {"text": [line[0] for line in lines[1:]], "label": ["1", "0", "1"]}


def test_mark_windows_line_ends_and_newline_in_a_field(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbftext,label\r\n"one\r\ntwo",a\r\nthree,b\n'
    assert read(tmp_path / "a.csv", content) == {"text": ["one\r\ntwo", "three"], "label": ["a", "b"]}
    assert read(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\n") == {"text": ["one", "two"]}
    assert read(tmp_path / "a.json", b'\xef\xbb\xbf[{"a": 1}]') == {"a": [1]}
    assert read(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\n') == {"a": [1, 2]}


def test_line_ends_that_were_converted_twice(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", b"text,label\r\r\na,1\r\r\nb,2\r\r\n") == {"text": ["a", "b"], "label": ["1", "2"]}
    assert read(tmp_path / "a.txt", b"a\r\r\nb\r\r\n") == {"text": ["a", "b"]}


def test_old_mac_line_ends(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", 'text,label\r"a",1\rb,2\r') == {"text": ["a", "b"], "label": ["1", "2"]}
    assert read(tmp_path / "a.txt", "a\rb\r") == {"text": ["a", "b"]}
    assert read(tmp_path / "a.jsonl", '{"a": 1}\r{"a": 2}') == {"a": [1, 2]}


def test_blank_lines_are_no_rows_and_change_no_values(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "\ntext\nNA\n\n007\n\n") == {"text": ["NA", "007"]}


def test_column_names_and_delimiter(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "good;1\nbad;0\n", column_names=["text", "label"], delimiter=";")
    assert found == {"text": ["good", "bad"], "label": ["1", "0"]}


@pytest.mark.parametrize("name", ["a.b", 'say "x"', " label", "label ", "a/b", "naïve 文", "0"])
def test_column_names_are_kept_as_they_are(tmp_path: Path, name: str) -> None:
    pd.DataFrame({"text": ["x", "y"], name: ["u", "v"]}).to_csv(tmp_path / "a.csv", index=False)
    assert rows_of(tmp_path / "a.csv") == [{"text": "x", name: "u"}, {"text": "y", name: "v"}]


def test_text_lines_end_at_newlines_only(tmp_path: Path) -> None:
    lines = ["a\x0cb", "", "c\u2028d\x85e", "f"]
    assert read(tmp_path / "a.txt", "\n".join(lines) + "\n") == {"text": lines}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_key_that_a_row_lacks_is_null(tmp_path: Path, name: str) -> None:
    content = '{"text": "a\u2028b", "label": 1}\n\n{"text": "c", "note": "n"}\n'
    assert read(tmp_path / name, content) == {"text": ["a\u2028b", "c"], "label": [1, None], "note": [None, "n"]}


@pytest.mark.parametrize(
    "content",
    [
        '[{"a": 1}, {"a": 2}]',
        '{"data": [{"a": 1}, {"a": 2}], "version": 3}',
        '{"a": 1}\n{"a": 2}',
        ' [{"a":1},\n{"a":2}]\n',
    ],
)
def test_json_shapes(tmp_path: Path, content: str) -> None:
    assert read(tmp_path / "a.json", content) == {"a": [1, 2]}


def test_an_array_under_the_name_of_lines(tmp_path: Path) -> None:
    assert read(tmp_path / "a.jsonl", '[{"a": 1},\n{"a": 2}]\n') == {"a": [1, 2]}


def test_one_json_object_is_one_row(tmp_path: Path) -> None:
    assert read(tmp_path / "a.json", '{"text": "x", "label": ["a"]}') == {"text": ["x"], "label": [["a"]]}
    assert read(tmp_path / "a.json", '{\n "text": "x",\n "label": {"b": 1}\n}') == {"text": ["x"], "label": [{"b": 1}]}


def test_mixed_scalars_become_text_and_large_numbers_keep_their_digits(tmp_path: Path) -> None:
    assert read(tmp_path / "a.jsonl", '{"a": 1}\n{"a": "b"}') == {"a": ["1", "b"]}
    assert read(tmp_path / "b.jsonl", f'{{"a": {2**63 + 5}}}') == {"a": [str(2**63 + 5)]}


def test_columns_that_are_wanted_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1, "b": 1}\n{"a": 2.5, "b": [2]}\n'.replace("[2]", "2"))
    (_, chunk), *_ = read_chunks(tmp_path / "a.jsonl", ReadOptions(), as_text=["a"])
    assert chunk.to_pydict() == {"a": ["1", "2.5"], "b": [1, 2]}
    pd.DataFrame({"a": [1, 2], "b": [[1], [2]]}).to_parquet(tmp_path / "a.parquet")
    (_, chunk), *_ = read_chunks(tmp_path / "a.parquet", ReadOptions(), as_text=["a", "b", "c"])
    assert chunk.to_pydict() == {"a": ["1", "2"], "b": [[1], [2]]}
