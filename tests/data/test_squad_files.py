import json
from pathlib import Path

import pytest

from lit_ft.data.files import read_files
from lit_ft.data.readers import ReadOptions, read_chunks
from lit_ft.errors import UserError
from tests.questions import nested, question_rows


def write(path: Path, value: object, indent: int | None = None) -> str:
    path.write_text(json.dumps(value, indent=indent))
    return str(path)


@pytest.mark.parametrize("indent", [None, 2])
def test_nested_files_are_rows_of_questions(tmp_path: Path, indent: int | None) -> None:
    rows = question_rows(9, unanswerable=True)
    data = read_files(write(tmp_path / "squad.json", nested(rows), indent), ReadOptions(), tmp_path).data
    assert data.column_names == ["id", "title", "question", "context", "answers"]
    assert data.remove_columns("title").to_list() == rows


def test_chunks_whose_questions_have_no_answer_go_with_others(tmp_path: Path) -> None:
    rows = question_rows(9, unanswerable=True)
    rows.sort(key=lambda row: len(row["answers"]["text"]))
    path = tmp_path / "squad.json"
    write(path, nested(rows))
    chunks = list(read_chunks(path, ReadOptions(), rows=3))
    assert [len(chunk) for _, chunk in chunks] == [3, 3, 3]
    assert read_files(str(path), ReadOptions(), tmp_path).data.remove_columns("title").to_list() == rows
    # reading goes on behind a chunk
    again = [row for _, chunk in read_chunks(path, ReadOptions(), chunks[0][0], 3) for row in chunk.to_pylist()]
    assert [row["id"] for row in again] == [row["id"] for row in rows[3:]]


def test_plausible_answers_are_none_and_a_missing_list_is_no_label(tmp_path: Path) -> None:
    question = {
        "question": "who?",
        "id": 7,
        "is_impossible": True,
        "plausible_answers": [{"text": "a", "answer_start": 0}],
    }
    other = {"question": "what?", "id": "8"}
    data = {"data": [{"title": "t", "paragraphs": [{"context": "a b", "qas": [question, other]}]}]}
    rows = read_files(write(tmp_path / "a.json", data), ReadOptions(), tmp_path).data
    assert rows["id"] == ["7", "8"]
    assert rows["answers"] == [{"text": [], "answer_start": []}, None]


def test_broken_paragraphs_are_named(tmp_path: Path) -> None:
    rows = nested(question_rows(2))
    del rows["data"][0]["paragraphs"][1]["context"]
    with pytest.raises(UserError, match="a paragraph of 'Messages' has no context; it has 'qas'"):
        read_files(write(tmp_path / "a.json", rows), ReadOptions(), tmp_path)
    rows = nested(question_rows(2))
    rows["data"][0]["paragraphs"][0]["qas"][0]["is_impossible"] = True
    with pytest.raises(UserError, match="question 'q0' is_impossible, but has the answer"):
        read_files(write(tmp_path / "b.json", rows), ReadOptions(), tmp_path)
