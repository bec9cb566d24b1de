import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lit_ft.data.readers import ReadOptions, file_format, read_file
from lit_ft.errors import UserError

ROWS = [{"text": "first, with comma", "label": "yes"}, {"text": 'second "quoted"\nline', "label": "no"}]


def read(path: Path, content: str | bytes, **options) -> dict[str, list]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_file(path, ReadOptions(**options)).to_pydict()


def encode(name: str) -> bytes:
    """ROWS in one format, written by somebody else's code."""
    frame, table, out = pd.DataFrame(ROWS), pa.Table.from_pylist(ROWS), io.BytesIO()
    if name == "csv":
        return frame.to_csv(index=False).encode()
    if name == "tsv":
        return frame.to_csv(index=False, sep="\t").encode()
    if name == "json":
        return json.dumps(ROWS).encode()
    if name == "jsonl":
        return frame.to_json(orient="records", lines=True).encode()
    if name == "parquet":
        frame.to_parquet(out)
    elif name == "arrow":
        with pa.ipc.new_file(out, table.schema) as writer:
            writer.write_table(table)
    else:
        return b"first\nsecond"
    return out.getvalue()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["csv", "tsv", "json", "jsonl", "parquet", "arrow", "txt"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, zipped: bool) -> None:
    content = encode(name)
    found = read(tmp_path / (f"a.{name}" + ".gz" * zipped), gzip.compress(content) if zipped else content)
    assert found == ({"text": ["first", "second"]} if name == "txt" else pd.DataFrame(ROWS).to_dict("list"))


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_sample_as_csv_module_and_json_read_it(sample: Path, name: str) -> None:
    text = (sample / f"{name}.csv").read_text(encoding="utf-8")
    ours = read_file(sample / f"{name}.csv", ReadOptions()).to_pylist()
    assert ours == list(csv.DictReader(io.StringIO(text, newline="")))
    lines = (sample / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    assert read_file(sample / f"{name}.jsonl", ReadOptions()).to_pylist() == [json.loads(line) for line in lines]


def test_arrow_stream(tmp_path: Path) -> None:
    table, out = pa.Table.from_pylist(ROWS), io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    assert read(tmp_path / "a.arrow", out.getvalue()) == table.to_pydict()


@pytest.mark.parametrize(
    "value", ["NA", "null", "None", "nan", "007", "2020-01-01", "1_000", "true", "+5", " x ", "1e400"]
)
def test_csv_text_stays_as_it_stands(tmp_path: Path, value: str) -> None:
    assert read(tmp_path / "a.csv", f"text,other\n{value},a\n{value},b\n")["text"] == [value, value]


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (["1", "-2", "0"], [1, -2, 0]),
        (["1", "", "3"], [1, None, 3]),
        (["0.5", "-1.0", ""], [0.5, -1.0, None]),
        (["0.50", "1.10"], ["0.50", "1.10"]),  # a float would lose the last digit
        (["1", "b"], ["1", "b"]),
        (["", "b"], ["", "b"]),
    ],
)
def test_csv_numbers(tmp_path: Path, cells: list[str], wanted: list) -> None:
    found = read(tmp_path / "a.csv", "text,label\n" + "".join(f"t,{cell}\n" for cell in cells))["label"]
    assert (found, [type(value) for value in found]) == (wanted, [type(value) for value in wanted])


def test_csv_numbers_as_pandas_reads_them(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=200)
    pd.DataFrame({"score": numbers}).to_csv(tmp_path / "a.csv", index=False)
    assert read_file(tmp_path / "a.csv", ReadOptions())["score"].to_pylist() == numbers.tolist()


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_stray_quotes_with_quoting_none(tmp_path: Path, delimiter: str) -> None:
    lines = [["text", "label"], ['"an open quote', "1"], ['5" pipe "', "0"], ['""', "1"]]
    content = "\n".join(delimiter.join(line) for line in lines) + "\n"
    found = read(tmp_path / ("a.csv" if delimiter == "," else "a.tsv"), content, quoting="none")
    assert found == {"text": [line[0] for line in lines[1:]], "label": [1, 0, 1]}


def test_mark_windows_line_ends_and_newline_in_a_field(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbftext,label\r\n"one\r\ntwo",a\r\nthree,b\r\n'
    assert read(tmp_path / "a.csv", content) == {"text": ["one\r\ntwo", "three"], "label": ["a", "b"]}
    assert read(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\r\n") == {"text": ["one", "two"]}
    assert read(tmp_path / "a.json", b'\xef\xbb\xbf[{"a": 1}]') == {"a": [1]}


def test_blank_line_before_the_header_changes_no_values(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "\ntext\nNA\n007\n") == {"text": ["NA", "007"]}


def test_old_mac_line_ends(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "text,label\ra,1\rb,2\r") == {"text": ["a", "b"], "label": [1, 2]}


def test_column_names_and_delimiter(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "good;1\nbad;0\n", column_names=["text", "label"], delimiter=";")
    assert found == {"text": ["good", "bad"], "label": [1, 0]}


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


def test_one_json_object_is_one_row(tmp_path: Path) -> None:
    assert read(tmp_path / "a.json", '{"text": "x", "label": ["a"]}') == {"text": ["x"], "label": [["a"]]}


def test_mixed_scalars_become_text_and_large_numbers_keep_their_digits(tmp_path: Path) -> None:
    assert read(tmp_path / "a.jsonl", '{"a": 1}\n{"a": "b"}') == {"a": ["1", "b"]}
    assert read(tmp_path / "b.jsonl", f'{{"a": {2**63 + 5}}}') == {"a": [str(2**63 + 5)]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"a\.csv: the file is empty"),
        ("a.jsonl", "\n \n", "the file is empty"),
        ("a.csv", b"\xef\xbb\xbf", "the file is empty"),
        ("a.json", b"\xef\xbb\xbf\n", "the file is empty"),
        ("a.csv", "text,label\n", r"only a header, no rows; columns: \['text', 'label'\]"),
        ("a.csv", b"text\nfine\ncaf\xe9\n", r"a\.csv: line 3 is not UTF-8 \(byte 0xe9\).*iconv -f latin1"),
        ("a.txt", b"\xef\xbb\xbfa\n\xe9bc\n", r"line 2 is not UTF-8 \(byte 0xe9\)"),
        ("a.csv", "text,label\na,1\nb,2,3\n", r"Row #3: Expected 2 columns, got 3: b,2,3.*quoting: none"),
        ("a.csv", 'text,label\n"a,1\nb,2\n', "Row #2: Expected 2 columns, got 1"),
        ("a.csv", "text,label,text\na,1,b\n", r"columns \['text'\] appear twice"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', r"a\.jsonl: line 2: broken JSON"),
        ("a.json", '{"a": 1}\n{"a": \n', r"a\.json: line 2: broken JSON"),
        ("a.json", '[{"a": 1},\n{"a": }]', "line 2, column 7: broken JSON"),
        ("a.json", '[{"a": 1}] more', "line 1, column 12: broken JSON"),
        ("a.json", "text\n", "line 1: expected a JSON object or array, found 'text"),
        ("a.json", '[{"a": 1}, 2]', "row 2: expected an object with named columns, found '2'"),
        ("a.jsonl", '{"a": 1}\n[1]', "line 2: expected an object with named columns"),
        ("a.jsonl", '{"a": [1]}\n{"a": "b"}', r"column 'a' mixes values of kinds \['list', 'str'\]"),
        ("a.jsonl", '{"a": "x"}\n{"a": "\\ud83d"}', "row 2, column 'a': half of a surrogate pair"),
        ("a.parquet", "junk", "not a readable parquet file"),
        ("a.arrow", "junk", "neither an Arrow file nor an Arrow stream"),
        ("a.csv.gz", "plain", "not a complete gzip file"),
        ("a.csv.gz", gzip.compress(b"text\n" + b"a\n" * 99, mtime=0)[:-9], "not a complete gzip file"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"(?s){tmp_path}/{name}.*") as caught:
        read(tmp_path / name, content)
    caught.match(f"(?s){message}")


def test_wrong_number_of_column_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Expected 3 columns, got 2: a,1; column_names gives 3 names"):
        read(tmp_path / "a.csv", "a,1\n", column_names=["x", "y", "z"])


def test_long_delimiter(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"delimiter '\|\|' must be one character"):
        read(tmp_path / "a.csv", "a||b\n1||2\n", delimiter="||")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text\na\n")
    with pytest.raises(UserError, match=r"trian\.csv: no such file — did you mean 'train\.csv'\?"):
        read_file(tmp_path / "trian.csv", ReadOptions())
    with pytest.raises(UserError, match=rf"nor is there a folder {tmp_path}/data"):
        read_file(tmp_path / "data" / "train.csv", ReadOptions())


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
