import csv
import gzip
import io
import json
import os
import random
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from lit_ft.data.readers import Position, ReadOptions, file_format, read_chunks
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
    texts = [chance.choice(["héllo", 'say "x"', "a, b", "two\nlines", "", "x" * 50]) + f" {n}" for n in range(53)]
    if name == "txt":
        return [{"text": text.replace("\n", " ")} for text in texts]
    return [{"text": text, "label": chance.choice("ab")} for text in texts]


@pytest.mark.parametrize("rows", [1, 5, 7, 53, 1000])
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
        assert rows_of(path, sent, rows=rows) == wanted[read:]
        assert rows_of(path, sent, rows=3) == wanted[read:]
    assert read == len(wanted)


@pytest.mark.parametrize("name", ["csv", "jsonl", "txt", "json"])
def test_blocks_are_cut_between_rows(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = many_rows(name)
    path = put(tmp_path, name, wanted)
    for block in range(1, 40):
        monkeypatch.setattr("lit_ft.data.formats.lines.BLOCK", block)
        monkeypatch.setattr("lit_ft.data.formats.json_array.BLOCK", block)
        assert rows_of(path) == wanted


def test_going_on_seeks_and_does_not_read_what_lies_before(tmp_path: Path) -> None:
    path = put(tmp_path, "jsonl", many_rows("jsonl"))
    position, _ = next(iter(read_chunks(path, ReadOptions(), rows=20)))
    damaged = bytearray(path.read_bytes())
    damaged[40 : position["byte"] - 1] = b"?" * (position["byte"] - 41)
    path.write_bytes(damaged)
    assert rows_of(path, position) == many_rows("jsonl")[20:]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_file_that_became_shorter(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, "csv", many_rows("csv"), name.endswith("gz"))
    *_, (position, _) = read_chunks(path, ReadOptions(), rows=50)
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
    for _ in range(400):
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


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pa.parquet.write_table(table, out)
    return out.getvalue()


LONG = "a sentence that goes on and on, " * 5
BAD = [
    ("a.csv", "", r"a\.csv: the file is empty"),
    ("a.jsonl", "\n \n", "the file is empty"),
    ("a.parquet", "", "the file is empty"),
    ("a.csv", b"\xef\xbb\xbf", "the file is empty"),
    ("a.json", b"\xef\xbb\xbf\n", "the file is empty"),
    ("a.json", "[]", "the file holds no rows"),
    ("a.parquet", parquet(pa.table({"a": pa.array([], pa.string())})), "the file holds no rows"),
    ("a.csv", "text,label\n", r"only a header, no rows; columns: \['text', 'label'\]"),
    ("a.csv", b"text\nfine\ncaf\xe9\n", r"a\.csv: line 3 is not UTF-8 \(byte 0xe9\).*iconv -f latin1"),
    ("a.txt", b"\xef\xbb\xbfa\n\xe9bc\n", r"line 2 is not UTF-8 \(byte 0xe9\)"),
    ("a.json", b'[{"a": 1},\n{"a": "\xe9"}]', r"line 2 is not UTF-8 \(byte 0xe9\)"),
    ("a.csv", "text,label\na,1\n".encode("utf-16"), r"the file is UTF-16, .*iconv -f UTF-16 -t UTF-8 a\.csv > utf8"),
    ("a.csv", "text,label\na,1\n".encode("utf-16-le"), "the file is UTF-16LE, .*iconv -f UTF-16LE -t UTF-8"),
    ("a.jsonl", '{"a": "bcdefgh"}'.encode("utf-16-be"), "the file is UTF-16BE, .*iconv -f UTF-16BE"),
    ("a.txt", "abc".encode("utf-32"), "the file is UTF-32, .*iconv -f UTF-32 "),
    ("a.csv", "text,label\na,1\nb\0,2\n", r"line 3 holds a NUL byte.*tr -d '\\000' < a\.csv"),
    ("a.csv", "text,label\na,1\nb,2,3\n", r"line 3: Expected 2 columns, got 3: 'b,2,3'; a field that holds ','"),
    ("a.csv", 'text,label\n"a\n\nx",1\n"b"\n', r"""line 5: Expected 2 columns, got 1: '"b"'; .*quoting: none"""),
    ("a.csv", f"text,label\n{LONG},1,\n", r"line 2: Expected 2 columns, got 8: 'a sentence .{,60}\.\.\.';"),
    ("a.csv", 'text,label\n"a,1\nb,2\n', r"""line 2: the quote that opens here is never closed: '"a,1.*quoting: n"""),
    ("a.csv", "text,label,text\na,1,b\n", r"line 1: columns \['text'\] appear twice"),
    ("a.csv", "text;label\na;1\nb, c;2\n", "line 1: the header 'text;label' is one column .* is the delimiter ';'"),
    ("a.csv", "text\tlabel\na\t1\n", r'is the delimiter a tab \("\\t"\)\? set delimiter'),
    ("a.tsv", "text|label\na|1\nb|2\n", r"is the delimiter '\|'"),
    ("a.tsv", 'text,label\n"a, b",1\nb,2\n', "is the delimiter ','"),
    ("a.csv", "great film,1\nawful,0\nfine,1\n", r"line 1: the header looks like .* data: '1' is a number like all"),
    ("a.csv", "great film,pos\nawful,neg\nfine,pos\nso so,pos\n", "line 1: .*'pos' appears again in 2 .*column_names"),
    ("a.csv", f'"{LONG}",x\nb,y\n', "line 1: .*is too long for a column's name.*set column_names"),
    ("a.csv", "text,label\na,1\ntext,label\nb,2\n", r"row 2 repeats the columns' names \['text', 'label'\]; delete it"),
    ("a.csv", ",text\n0,a\n1,b\n", r"line 1: column 1 of the header has no name.*to_csv\(index=False\)"),
    ("a.csv", "text, \na,b\n", "column 2 of the header has no name"),
    ("a.csv", '"te\nxt",label\na,b\n', r"column 1 of the header, 'te\\nxt', holds a line end"),
    ("a.csv", b"\xef\xbb\xbf\xef\xbb\xbftext,label\na,b\n", "column 1 of the header, .* holds a byte-order mark"),
    ("a.csv", "text,label\na,1\nb\rc,2\n", r"line 3 holds a lone carriage return, .*tr '\\r' '\\n'"),
    ("a.csv", '"text",label\n"a\n",1\nb\rc,2\n', "line 4 holds a lone carriage return"),
    ("a.txt", "a\nb\rc\n", "line 2 holds a lone carriage return"),
    ("a.txt", b"a\x1f\rb\rc\r" + b"d\re\r" * (1 << 20) + b"f\ng\r", "line 2097156 holds a lone line feed"),
    ("a.jsonl", '{"a": 1}\n{"a": \n', r"a\.jsonl: line 2: broken JSON"),
    ("a.json", '{"a": 1}\n{"a": \n', r"a\.json: line 2: broken JSON"),
    ("a.json", '[{"a": 1},\n{"a": }]', "line 2, column 7: broken JSON"),
    ("a.json", '[{"a": 1},\n{"a": 2}', r"line 2, column 9: broken JSON \(expected ',' or ']', found the end of"),
    ("a.json", '[{"a": 1},\n{"a": 2} {"a": 3}]', r"line 2, column 10: broken JSON \(expected ',' or ']', found '{'"),
    ("a.json", '[{"a": 1}] more', "line 1, column 12: broken JSON"),
    ("a.json", '{"a": 1,\n"b": }', "line 2, column 6: broken JSON"),
    ("a.json", "text\n", "line 1: expected a JSON object or array, found 'text"),
    ("a.json", '[{"a": 1}, 2]', "line 1, column 12: expected an object with named columns, found '2'"),
    ("a.jsonl", '{"a": 1}\n[1]', r"line 2: expected an object with named columns, found '\[1\]'"),
    ("a.jsonl", "text,label\na,1\n", "line 1: broken JSON .*each line is one whole object"),
    ("a.jsonl", '{"a": ' + "[" * 100_000 + "\n", "line 1: JSON that cannot be read"),
    ("a.jsonl", '{"a": 1}\n{"a": ' + "1" * 5000 + "}\n", "line 2: JSON that cannot be read"),
    ("a.jsonl", '{"a": [1]}\n{"a": "b"}', r"column 'a' mixes values of kinds list \(row 1\), str \(row 2\)"),
    ("a.jsonl", '{"a": {"b": 1}}\n\n{"a": 3}', r"column 'a' mixes values of kinds dict \(row 1\), int \(row 2\)"),
    ("a.jsonl", '{"a": [1, "b"]}\n', r"column 'a': the values inside its list \(row 1\) differ"),
    ("a.jsonl", '{"a": "x"}\n{"a": "\\ud83d"}', "row 2, column 'a': half of a surrogate pair"),
    ("a.jsonl", '{"\\ud83d": 1}', "column name .* holds half of a surrogate pair"),
    ("a.jsonl", "{}\n", "row 1: the object has no columns"),
    ("a.parquet", "junk", "not a readable parquet file"),
    ("a.parquet", parquet(pa.table({"a": ["x"] * 100}))[:-20], "not a readable parquet file.*cut or damaged"),
    ("a.arrow", "junk", "not a readable Arrow file or stream"),
    ("a.arrow", encode("arrow", ROWS)[:-30], "not a readable Arrow file or stream"),
    ("a.arrow", encode("stream", ROWS)[:-8], "the Arrow stream has no end mark: it was cut"),
    ("a.csv.gz", "plain", "not a complete gzip file"),
    ("a.csv.gz", gzip.compress(b"text\n" + b"a\n" * 99, mtime=0)[:-9], "not a complete gzip file"),
    ("a.parquet.gz", gzip.compress(parquet(pa.table({"a": ["x"]})))[:-9], "not a complete gzip file"),
    ("a.csv", gzip.compress(b"text\na\n"), r"the file is compressed with gzip: its name must end in \.gz"),
    ("a.csv", parquet(pa.table({"a": ["x"]})), "the file is a parquet file"),
    ("a.csv", b"PK\x03\x04...", r"the file is a zip archive \(or an Excel file\)"),
    ("a.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of git-lfs.*git lfs pull"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=[f"{n}-{case[0]}" for n, case in enumerate(BAD)])
def test_bad_files(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=rf"(?s){tmp_path}/{name}.*") as caught:
        rows_of(tmp_path / name)
    caught.match(f"(?s){message}")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "content",
    [
        "text\nfirst; second\nthird; fourth\n",  # semicolons below a header without any
        "a;b\nfirst; second\nthird\n",  # ... and in it, but not in all lines
        "text;label\n",  # one line says nothing
        "0,1\ngreat film,1\nawful,0\n",  # names of a DataFrame without names
        "word,tag\nthe,X\nword,Y\nof,X\n",  # a cell that happens to be a name
        "text,2020\na,x\nb,1\n",
        "text\ntext\nb\n",
    ],
)
def test_files_that_only_look_wrong(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    if content.count("\n") == 1:
        with pytest.raises(UserError, match="only a header"):
            rows_of(tmp_path / "a.csv")
    else:
        assert rows_of(tmp_path / "a.csv") == list(csv.DictReader(io.StringIO(content)))


def test_column_names_for_a_file_that_has_a_header(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 1 repeats the columns' names .*leave column_names out"):
        read(tmp_path / "a.csv", "x,y\n1,2\n", column_names=["x", "y"])
    with pytest.raises(UserError, match=r"column_names: columns \['x'\] appear twice"):
        read(tmp_path / "a.csv", "1,2\n", column_names=["x", "x"])


def test_wrong_number_of_column_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1: Expected 3 columns, got 2: 'a,1'; column_names gives 3 names"):
        read(tmp_path / "a.csv", "a,1\n", column_names=["x", "y", "z"])
    with pytest.raises(UserError, match=r"Expected 2 columns, got 1: 'a;1'; column_names .*is the delimiter ';'"):
        read(tmp_path / "a.csv", "a;1\n", column_names=["x", "y"])


@pytest.mark.parametrize("delimiter", ["||", "é", '"', "\n"])
def test_delimiters_that_are_none(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(UserError, match="must be one character"):
        read(tmp_path / "a.csv", "a||b\n1||2\n", delimiter=delimiter)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text\na\n")
    with pytest.raises(UserError, match=r"trian\.csv: no such file — did you mean 'train\.csv'\?"):
        rows_of(tmp_path / "trian.csv")
    with pytest.raises(UserError, match=rf"nor is there a folder {tmp_path}/data"):
        rows_of(tmp_path / "data" / "train.csv")


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UserError, match=r"d\.csv: is a folder, not a file; it holds no data files \(it is empty\)"):
        rows_of(tmp_path / "d.csv")
    for name in ("a.jsonl.gz", "b.jsonl.gz", "c.txt", "README.md"):
        (tmp_path / "d.csv" / name).write_text("x")
    with pytest.raises(UserError, match=r"name its files: '.*d\.csv/\*\.jsonl\.gz' \(2 of them\)"):
        rows_of(tmp_path / "d.csv")


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet", "arrow"])
def test_a_file_that_this_user_may_not_read(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, ROWS)
    path.chmod(0)
    nobody = 65534
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    was = os.geteuid()
    if was == 0:
        os.seteuid(nobody)
    try:
        with pytest.raises(UserError, match=rf"a\.{name}: permission denied; .*chmod \+r a\.{name}"):
            rows_of(path)
    finally:
        os.seteuid(was)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xlsx", "cannot read files of type 'xlsx'; known: csv, tsv"),
        ("a.jsnl", "did you mean 'jsonl'"),
        ("a", "type ''"),
    ],
)
def test_wrong_extension(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        file_format(Path(name))
