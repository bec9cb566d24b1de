"""CoNLL files in their layouts, by hand and against a straightforward reader, in chunks of any size."""

import random
from pathlib import Path
from typing import Any

import pytest

from lit_ft.data.reading.files import read_files
from lit_ft.data.reading.formats.common import ReadOptions
from lit_ft.data.reading.formats.conll import read_conll
from lit_ft.data.reading.readers import read_chunks
from lit_ft.errors import UserError

NEWS = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O

# id w7
# NN I-NP O
\t
Peter NNP I-NP I-PER


-DOCSTART- -X- O O

# id w8
BRUSSELS NNP I-NP I-LOC"""

UNIVERSAL = """# newdoc id = a
# sent_id = a-1
# text = Vámonos ya .
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\tMood=Imp\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
2.1\tx\tx\tX\t_\t_\t_\t_\t_\t_
3\tNew York\tNY\tPROPN\t_\t_\t1\tobj\t_\tSpaceAfter=No

# sent_id = a-2
1\tya\tya\tADV\t_\t_\t0\troot\t_\t_

"""

GERMAN = """#\thttp://www.heise.de/1.html\t[2010-07-04]\t
1\tGleich\tO\tO
2\t"\tB-OTH\tO

#\thttp://www.heise.de/2.html\t[2010-07-04]\t
1\t#\tO\tB-PER
"""


def read(path: Path, rows: int = 8192, **options: Any) -> list[dict[str, Any]]:
    return [row for _, table in read_chunks(path, ReadOptions(**options), rows=rows) for row in table.to_pylist()]


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_news(tmp_path: Path) -> None:
    rows = read(written(tmp_path, "eng.conll", NEWS))
    assert [row["tokens"] for row in rows] == [["EU", "rejects"], ["#"], ["Peter"], ["BRUSSELS"]]
    assert [row["tags"] for row in rows] == [["I-ORG", "O"], ["O"], ["I-PER"], ["I-LOC"]]
    assert rows[0]["column_2"] == ["NNP", "VBZ"]
    assert [row["id"] for row in rows] == [None, "w7", None, "w8"]
    assert [row["opens_document"] for row in rows] == [True, False, False, True]
    named = read(written(tmp_path, "eng.conll", NEWS), column_names=["words", "pos", "chunk", "ner"])
    assert list(named[0]) == ["id", "opens_document", "words", "pos", "chunk", "ner"]


def test_universal_dependencies(tmp_path: Path) -> None:
    first, second = read(written(tmp_path, "es.conllu", UNIVERSAL))
    assert first["tokens"] == ["Vamos", "nos", "New York"]
    assert first["upos"] == ["VERB", "PRON", "PROPN"]
    assert (first["id"], first["opens_document"]) == ("a-1", True)
    assert (second["id"], second["opens_document"], second["tokens"]) == ("a-2", False, ["ya"])


def test_a_column_that_counts_words(tmp_path: Path) -> None:
    first, second = read(written(tmp_path, "de.conll", GERMAN))
    assert first == {
        "id": None, "opens_document": False, "number": ["1", "2"], "tokens": ["Gleich", '"'],
        "column_3": ["O", "B-OTH"], "tags": ["O", "O"],
    }  # fmt: skip
    assert (second["tokens"], second["tags"]) == (["#"], ["B-PER"])
    named = read(written(tmp_path, "de.conll", GERMAN), column_names=["place", "tokens", "ner", "nested"])
    assert named[0]["place"] == ["1", "2"]


def random_file(folder: Path) -> tuple[Path, list[list[list[str]]]]:
    rng = random.Random(1)
    sentences = [
        [[f"w{rng.randint(0, 99)}é", rng.choice(["O", "B-X"])] for _ in range(rng.randint(1, 6))] for _ in range(300)
    ]
    text = ""
    for sentence in sentences:
        text += "-DOCSTART- O\n\n" * (rng.random() < 0.2) + "".join(" ".join(word) + "\n" for word in sentence)
        text += "\n" * rng.randint(1, 3)
    return written(folder, "random.conll", text), sentences


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
def test_chunks_of_any_size_and_going_on_behind_each(rows: int, tmp_path: Path) -> None:
    path, sentences = random_file(tmp_path)
    whole = read(path)
    assert [[list(pair) for pair in zip(row["tokens"], row["tags"], strict=True)] for row in whole] == sentences
    documents = path.read_text(encoding="utf-8").count("-DOCSTART-")
    assert sum(row["opens_document"] for row in whole) == documents > 30
    seen: list[dict[str, Any]] = []
    for number, (position, table) in enumerate(read_chunks(path, ReadOptions(), rows=rows)):
        assert position["row"] == len(seen) + len(table)
        seen += table.to_pylist()
        if number in (0, 3):
            after = [
                row for _, rest in read_conll(path, ReadOptions(), position, 50, False) for row in rest.to_pylist()
            ]
            assert after == whole[len(seen) :]
    assert seen == whole


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.conll", "a O\nb O\n\nc\n", r"a.conll: line 4: 1 columns, but 2 in the first line with a word: 'c'"),
        ("a.conllu", "1\ta\tO\n", r"a.conllu: 3 columns, but CoNLL-U has 10; name the file .conll"),
        ("a.conll", "# nothing\n\n", r"a.conll: no line with a word"),
        ("a.conll", "", r"a.conll: the file is empty"),
    ],
)
def test_files_that_are_broken(name: str, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        read(written(tmp_path, name, text))
    with pytest.raises(UserError, match="4 columns, but column_names gives 2 names"):
        read(written(tmp_path, "b.conll", NEWS), column_names=["words", "ner"])


def test_rows_are_named_by_their_line(tmp_path: Path) -> None:
    path = written(tmp_path, "eng.conll", NEWS)
    rows = read_files(str(path), ReadOptions(), tmp_path)
    assert rows.naming is not None
    assert [rows.naming(row).removeprefix(f"{path}: ") for row in (0, 2, 3)] == [
        "row 1 (line 1)", "row 3 (line 9)", "row 4 (line 12)",
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [
    ("#nlp\tHT\nis\tVBZ\n", [["#nlp", "is"]]),
    ("I PRP\n\n#fun HT\n\nyou PRP\n", [["I"], ["#fun"], ["you"]]),
    ("# id 7\nI PRP O\n", [["I"]]),
    ("-DOCSTART- O\nJohn B-PER\nran O\n-DOCSTART- O\nMary B-PER\n", [["John", "ran"], ["Mary"]]),
    ("prix O\n10\u00a0000 O\n", [["prix", "10\u00a0000"]]),
    ("a O\n\u3000 O\n", [["a", "\u3000"]]),
    ("a\tX\tO\nb\tX\t\n", [["a", "b"]]),
    ("a\tX\tO\t\nb\tX\tO\n", [["a", "b"]]),
])  # fmt: skip
def test_signs_that_are_no_comments_and_spaces_that_part_nothing(text: str, expected: Any, tmp_path: Path) -> None:
    rows = read(written(tmp_path, "a.conll", text))
    assert [row["tokens"] for row in rows] == expected
    if "DOCSTART" in text:
        assert [row["opens_document"] for row in rows] == [True, True]
