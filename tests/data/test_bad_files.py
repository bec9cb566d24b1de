"""Each way in which a file is known to come broken, and the words that say so."""

import csv
import gzip
import io
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from lit_ft.data.reading.readers import file_format
from lit_ft.errors import UserError
from tests.data.test_readers import ROWS, encode, put, read, rows_of

NOBODY = 65534


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
    ("a.csv", "text,label\na,1\n".encode("utf-16"), r"the file is UTF-16, .*iconv -f UTF-16 -t UTF-8 > new-a\.csv"),
    ("a.csv", "text,label\na,1\n".encode("utf-16-le"), "the file is UTF-16LE, .*iconv -f UTF-16LE -t UTF-8"),
    ("a.jsonl", '{"a": "bcdefgh"}'.encode("utf-16-be"), "the file is UTF-16BE, .*iconv -f UTF-16BE"),
    ("a.txt", "abc".encode("utf-32"), "the file is UTF-32, .*cat a.txt . iconv -f UTF-32 "),
    ("a.csv", "text,label\na,1\nb\0,2\n", r"line 3 holds a NUL byte.*cat a\.csv \| tr -d '\\000' > new-a\.csv"),
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
    ("a.csv", "text,label,\na,1,\nb,2,\n", r"line 1: column 3 of the header has no name \(\['text', 'label', ''\]\)"),
    ("a.csv", 'text,label\n"Good" film,1\n', """line 2: the quote .* closed in the middle of a field: '"Good" f"""),
    ("a.csv", "text, \na,b\n", "column 2 of the header has no name"),
    ("a.csv", '"te\nxt",label\na,b\n', r"column 1 of the header, 'te\\nxt', holds a line end"),
    ("a.csv", b"\xef\xbb\xbf\xef\xbb\xbftext,label\na,b\n", "column 1 of the header, .* holds a byte-order mark"),
    ("a.csv", "text,label\na,1\nb\rc,2\n", r"line 3 holds a lone carriage return, .*cat a\.csv \| tr '\\r' '\\n' > n"),
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
        ",text\n0,a\n1,b\n",  # pandas' index
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
def test_a_file_that_this_user_may_not_read(name: str) -> None:
    with tempfile.TemporaryDirectory() as made:  # tmp_path lies in a folder that only its owner may enter
        folder, was = Path(made), os.geteuid()
        path = put(folder, name, ROWS)
        path.chmod(0)
        (folder / "closed").mkdir(0)
        folder.chmod(0o755)
        os.seteuid(NOBODY if was == 0 else was)
        try:
            with pytest.raises(UserError, match=rf"a\.{name}: permission denied; .*chmod \+r a\.{name}"):
                rows_of(path)
            with pytest.raises(UserError, match=rf"permission denied for {folder}/closed"):
                rows_of(folder / "closed" / path.name)
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
