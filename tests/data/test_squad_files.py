"""SQuAD's nested files are rows of questions; what is broken in them is named."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lit_ft.data.reading.files import read_files
from lit_ft.data.reading.readers import ReadOptions, read_chunks
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
    with pytest.raises(UserError, match=r"a.json: paragraph 2 of 'Messages' has no context \(a text\); it has {'qas'"):
        read_files(write(tmp_path / "a.json", rows), ReadOptions(), tmp_path)
    rows = nested(question_rows(2))
    rows["data"][0]["paragraphs"][0]["qas"][0]["is_impossible"] = True
    with pytest.raises(UserError, match="question 'q0' is_impossible, but has the answer"):
        read_files(write(tmp_path / "b.json", rows), ReadOptions(), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda paragraphs: paragraphs[1].pop("qas"), "paragraph 2 of 'Messages' has no qas"),
        (lambda paragraphs: paragraphs[1].update(qas=None), "paragraph 2 of 'Messages' has no qas"),
        (lambda paragraphs: paragraphs[1].update(qas=["who?"]), "paragraph 2 of 'Messages' has no qas"),
        (lambda paragraphs: paragraphs[1].update(context=None), "paragraph 2 of 'Messages' has no context"),
        (lambda paragraphs: paragraphs.append("text"), "'Messages' has no paragraphs"),
        (lambda paragraphs: paragraphs[1]["qas"][0].update(answers=[7]), "answers of question 'q1': found"),
    ],
)
def test_what_is_no_question_is_named(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    rows = nested(question_rows(3))
    change(rows["data"][0]["paragraphs"])
    with pytest.raises(UserError, match=re.escape(message)):
        read_files(write(tmp_path / "a.json", rows), ReadOptions(), tmp_path)


def test_answers_in_other_shapes(tmp_path: Path) -> None:
    rows = nested(question_rows(3))
    first, second, _ = (paragraph["qas"][0] for paragraph in rows["data"][0]["paragraphs"])
    first["answers"] = {"text": [each["text"] for each in first["answers"]], "answer_start": ["4", "4"]}
    second["answers"] = [{"text": each["text"]} for each in second["answers"]]
    read = read_files(write(tmp_path / "a.json", rows), ReadOptions(), tmp_path).data["answers"]
    expected = [row["answers"] for row in question_rows(3)]
    assert read[0] == {**expected[0], "answer_start": [4, 4]}
    assert read[1] == {**expected[1], "answer_start": [None, None]}
    assert read[2] == expected[2]
