"""QuestionAnsweringDataModule from files of each kind to batches; every bad input is named or counted."""

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_ft import QuestionAnsweringDataModule
from lit_ft.errors import UserError
from tests.questions import Rows, nested, question_rows

Make = Callable[..., QuestionAnsweringDataModule]
SMALL: dict[str, Any] = {"max_seq_length": 48, "doc_stride": 12, "batch_size": 4}


@pytest.fixture
def make(tiny: Callable[..., str]) -> Make:
    def build(stage: str = "fit", **options: Any) -> QuestionAnsweringDataModule:
        data = QuestionAnsweringDataModule(**{"model_name_or_path": tiny("bert"), **SMALL, **options})
        data.setup(stage)
        return data

    return build


def answers_of(data: QuestionAnsweringDataModule, batches: list[dict[str, Any]]) -> list[str]:
    """Decoded answers of all windows; empty where there is none."""
    found = []
    for batch in batches:
        spans = zip(batch["input_ids"], batch["start_positions"], batch["end_positions"], strict=True)
        found += ["" if start == 0 else data.tokenizer.decode(ids[start : stop + 1]) for ids, start, stop in spans]
    return found


def plain(data: QuestionAnsweringDataModule, text: str) -> str:
    return data.tokenizer.decode(data.tokenizer(text, add_special_tokens=False)["input_ids"])


def write(path: Path, rows: Rows) -> str:
    """In the shape that the file's name says."""
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows({**row, "answers": json.dumps(row["answers"])} for row in rows)
    elif path.stem == "nested":
        path.write_text(json.dumps(nested(rows)))
    elif path.stem == "listed":
        pairs = [zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True) for row in rows]
        lists = [[{"text": text, "answer_start": start} for text, start in each] for each in pairs]
        path.write_text(json.dumps([{**row, "answers": each} for row, each in zip(rows, lists, strict=True)]))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("name", ["nested.json", "flat.jsonl", "listed.json", "cells.csv"])
def test_files_of_every_shape_give_the_same_batches(make: Make, tmp_path: Path, name: str) -> None:
    rows = question_rows(24, unanswerable=True)
    data = make(train_file=write(tmp_path / name, rows), validation_split_percentage=0)
    memory = make(dataset={"train": rows}, validation_split_percentage=0)
    seen, expected = list(data.train_dataloader()), list(memory.train_dataloader())
    assert len(seen) > 6
    for batch, other in zip(seen, expected, strict=True):
        assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "start_positions", "end_positions"}
        for key, value in batch.items():
            assert torch.equal(value, other[key])
    assert data.description["unanswerable"]
    first = [plain(data, row["answers"]["text"][0]) for row in rows if row["answers"]["text"]]
    assert {text for text in answers_of(data, seen) if text} == set(first)
    assert len([text for text in answers_of(data, seen) if text]) >= len(first)


def test_evaluation_hands_along_what_scoring_needs(make: Make) -> None:
    rows = question_rows(9, unanswerable=True)
    data = make("validate", dataset={"validation": [{**row, "other": "o"} for row in rows]})
    (loader,) = data.val_dataloader()
    for batch in loader:
        for at, info in enumerate(batch["info"]):
            row = rows[int(batch["row"][at])]
            assert info == row  # and nothing more
            held = batch["char_starts"][at] >= 0
            edges = zip(batch["char_starts"][at][held].tolist(), batch["char_ends"][at][held].tolist(), strict=True)
            text = "".join(row["context"][start:end] for start, end in edges)
            assert text.lower() in "".join(row["context"].split()).lower()
            start, stop = int(batch["start_positions"][at]), int(batch["end_positions"][at])
            assert (start == 0) == (int(batch["cls_index"][at]) == start)
            if start:
                found = row["context"][batch["char_starts"][at][start] : batch["char_ends"][at][stop]]
                assert found == row["answers"]["text"][0]


def test_rows_to_predict_need_no_answers_and_keep_all_columns(make: Make, tmp_path: Path) -> None:
    rows = [
        {"number": number, "q": row["question"], "c": row["context"]} for number, row in enumerate(question_rows(5))
    ]
    path = write(tmp_path / "new.jsonl", rows)
    data = make("predict", predict_file=path, question_column_name="q", context_column_name="c")
    (loader,) = data.predict_dataloader()
    seen = {info["number"]: info for batch in loader for info in batch["info"]}
    assert [seen[number] for number in range(5)] == rows
    assert "start_positions" not in next(iter(loader))


def test_own_columns_and_a_closest_name(make: Make) -> None:
    names = {"id": "number", "question": "ask", "context": "passage", "answers": "gold"}
    rows = [{names[name]: cell for name, cell in row.items()} for row in question_rows(8)]
    columns = {"question_column_name": "ask", "context_column_name": "passage", "answer_column_name": "gold"}
    data = make(dataset={"train": rows}, validation_split_percentage=0, **columns, id_column_name="number")
    assert len(data.features["train"][""]) >= 8
    with pytest.raises(UserError, match=r"has no column 'passag'; columns: .* did you mean 'passage'"):
        make(dataset={"train": rows}, validation_split_percentage=0, **{**columns, "context_column_name": "passag"})
    with pytest.raises(UserError, match="has no column 'question'"):
        make(dataset={"train": rows}, validation_split_percentage=0)
    only = [{name: row[name] for name in ("question", "context")} for row in question_rows(4)]
    with pytest.raises(UserError, match="has no column 'answers'"):
        make("validate", dataset={"validation": only})


def test_repairs_are_counted_and_lost_answers_named_or_dropped(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    rows = question_rows(12)
    rows[1]["answers"]["answer_start"] = [start + 3 for start in rows[1]["answers"]["answer_start"]]
    rows[2]["answers"] = rows[2]["answers"]["text"][:1]
    rows[2]["answers"] = {"text": rows[2]["answers"], "answer_start": None}
    whole = [json.dumps(row["answers"]) for row in rows]
    data = [{**row, "answers": cell} for row, cell in zip(rows, whole, strict=True)]
    with caplog.at_level(logging.INFO, "lit_ft"):
        make(dataset={"train": data}, validation_split_percentage=0)
    assert "1 of 12 answers stand elsewhere in the context" in caplog.text
    assert "1 of 12 answers come without answer_start" in caplog.text
    data[4]["answers"] = json.dumps({"text": ["zebra"], "answer_start": [4]})
    with pytest.raises(UserError, match=r"row 5, answer 'zebra' of question 'q4' is not in its context"):
        make(dataset={"train": data}, validation_split_percentage=0)
    caplog.clear()
    with caplog.at_level(logging.INFO, "lit_ft"):
        made = make(dataset={"train": data, "validation": data}, on_bad_answer="drop")
    assert "1 of 12 answers are not in their context: their rows are not trained on" in caplog.text
    assert set(made.features["train"][""].row_of_feature.tolist()) == set(range(12)) - {4}
    # it is scored by its text, and has no loss
    batches = [batch for loader in made.val_dataloader() for batch in loader]
    labels = {
        int(row): int(at) for batch in batches for row, at in zip(batch["row"], batch["start_positions"], strict=True)
    }
    assert set(labels) == set(range(12))
    assert labels[4] == -100


def test_rows_of_mixed_shapes_are_named(make: Make, tmp_path: Path) -> None:
    rows = question_rows(4)
    rows[2]["answers"] = [{"text": "a", "answer_start": 0}]
    with pytest.raises(UserError, match=r"column 'answers' mixes values of kinds dict \(row 1\), list \(row 3\)"):
        make(train_file=write(tmp_path / "a.jsonl", rows))
    texts = [{**row, "answers": 7} for row in question_rows(4)]
    with pytest.raises(UserError, match=r"a2.jsonl: row 1, answers of question 'q0': found 7, expected"):
        make(train_file=write(tmp_path / "a2.jsonl", texts), validation_split_percentage=0)


def test_rows_without_a_label(make: Make, tmp_path: Path) -> None:
    rows = question_rows(6)
    rows[3]["answers"] = None
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match="have no label"):
        make(train_file=path, validation_split_percentage=0)
    data = make("validate", validation_file=path)
    batches = [batch for loader in data.val_dataloader() for batch in loader]
    without = {
        int(row)
        for batch in batches
        for row, at in zip(batch["row"], batch["end_positions"], strict=True)
        if at == -100
    }
    assert without == {3}
    none = write(tmp_path / "b.jsonl", [{**row, "answers": None} for row in rows])
    with pytest.raises(UserError, match="no row has a label, so there is nothing to score; use predict"):
        make("validate", validation_file=none)


def test_empty_contexts_and_long_questions_are_counted(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    rows = question_rows(8, unanswerable=True)
    rows[2]["context"] = ""
    rows[5]["question"] = "why " * 60
    with caplog.at_level(logging.INFO, "lit_ft"):
        data = make(dataset={"train": rows}, validation_split_percentage=0)
    assert "1 of 8 rows are longer than max_seq_length and lose 38 tokens (questions are cut" in caplog.text
    assert "empty_text" in caplog.text
    assert data.features["train"][""].row_of_feature.tolist().count(2) == 1


def test_options_without_room_are_named(make: Make) -> None:
    rows = question_rows(4)
    with pytest.raises(UserError, match="doc_stride 34 must be from 0 to 33"):
        make(dataset={"train": rows}, doc_stride=34)
    with pytest.raises(UserError, match="max_seq_length 384 is above the model's 160 tokens"):
        make(dataset={"train": rows}, max_seq_length=384)
    with pytest.raises(UserError, match="negative_window_ratio is -1"):
        make(dataset={"train": rows}, negative_window_ratio=-1)
    with pytest.raises(UserError, match="on_bad_answer is 'keep'"):
        make(dataset={"train": rows}, on_bad_answer="keep")


def test_windows_without_the_answer_are_left_out_and_counted(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    rows = question_rows(16, messages=4)
    options = {"dataset": {"train": rows, "validation": rows}}
    whole = make(**options)
    with caplog.at_level(logging.INFO, "lit_ft"):
        less = make(**options, negative_window_ratio=1.0)

    def counted(data: QuestionAnsweringDataModule) -> tuple[int, int]:
        found = answers_of(data, list(data.train_dataloader()))
        return len(found), sum(text != "" for text in found)

    (every, holding), (kept, still) = counted(whole), counted(less)
    assert still == holding >= 16
    assert kept <= 2 * holding < every
    assert f"train: {kept:,} windows, {holding:,} of them with an answer, {every - kept:,} are left out" in caplog.text
    # evaluation reads all
    assert len(less.features["validation"][""]) == len(whole.features["validation"][""]) == every


def test_equal_questions_about_equal_contexts_are_found(make: Make) -> None:
    rows = question_rows(6)
    rows += [{**rows[0], "id": "again"}, {**rows[1], "id": "other", "answers": {"text": [], "answer_start": []}}]
    data = make(dataset={"train": rows}, validation_split_percentage=0, on_bad_rows={"duplicate": "drop"})
    assert 6 not in data.features["train"][""].row_of_feature
    assert "contradicting_labels" in json.dumps(data.report)


def test_several_processes_prepare_the_same(make: Make) -> None:
    rows = question_rows(40, messages=2) * 120
    one = make(dataset={"train": rows}, validation_split_percentage=0)
    two = make(
        dataset={"train": rows}, validation_split_percentage=0, preprocessing_num_workers=2, overwrite_cache=True
    )
    for number in range(0, len(one.features["train"][""]), 97):
        for name, value in one.features["train"][""].store[number].items():
            assert (value == two.features["train"][""].store[number][name]).all()


def test_streamed_rows_give_windows_row_by_row(make: Make, tmp_path: Path) -> None:
    rows = question_rows(20, messages=2)
    path = write(tmp_path / "train.jsonl", rows)
    data = make(train_file=path, validation_split_percentage=0, streaming=True, shuffle_buffer_size=0)
    prepared = make(train_file=path, validation_split_percentage=0, train_sampling_strategy="sequential")
    stream = iter(data.train_dataloader())
    for expected in list(prepared.train_dataloader())[:-1]:
        batch = data.on_before_batch_transfer(next(stream), 0)
        assert {name: value.tolist() for name, value in batch.items()} == {n: v.tolist() for n, v in expected.items()}


@pytest.mark.parametrize("column", ["context", "passage"])
def test_a_cut_leaves_the_questions_about_a_context_together(column: str, make: Make) -> None:
    rows = [
        {"question": f"{each['question']} {number}", column: each["context"], "answers": each["answers"]}
        for number in range(5)
        for each in question_rows(12)
    ]
    named = {} if column == "context" else {"context_column_name": column}
    data = make(dataset={"train": rows}, validation_split_percentage=20, **named)
    seen = {kind: data.features[kind][""].row_of_feature for kind in ("train", "validation")}
    assert sum(len(set(numbers.tolist())) for numbers in seen.values()) == 60
    held = {data.features["validation"][""][(0, number)]["info"][column] for number in range(len(seen["validation"]))}
    assert len(held) == 2  # 10 rows are nearer to 12 than 15
    trained = {
        data.tokenizer.decode(window["input_ids"]).split("[SEP]")[1]
        for window in (data.features["train"][""].store[number] for number in range(len(seen["train"])))
    }
    for context in held:  # no window of it is trained on
        assert not any(plain(data, context)[:40] in text for text in trained)


def test_places_of_answers_may_have_a_column_of_their_own(make: Make, tmp_path: Path) -> None:
    rows = [{"question": f"what {n}", "context": f"{n} tea, and tea, and more tea", "answer": "tea"} for n in range(8)]
    starts = [(2, 11, 25)[number % 3] for number in range(8)]
    for name in ("a.csv", "a.jsonl"):
        path = tmp_path / name
        given = [{**row, "begins": start} for row, start in zip(rows, starts, strict=True)]
        if name == "a.jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in given))
        else:
            with path.open("w", newline="") as file:
                table = csv.DictWriter(file, list(given[0]))
                table.writeheader()
                table.writerows(given)
        data = make(
            train_file=str(path), validation_split_percentage=0, answer_start_column_name="begins",
            train_sampling_strategy="sequential",
        )  # fmt: skip
        for number, start in enumerate(starts):
            window = data.features["train"][""].store[number]
            before = data.tokenizer(rows[number]["context"][:start], add_special_tokens=False)["input_ids"]
            asked = data.tokenizer(rows[number]["question"])["input_ids"]
            assert window["labels"].tolist() == [len(asked) + len(before)] * 2
    with pytest.raises(UserError, match="has no column 'begin'"):
        make(train_file=str(path), answer_start_column_name="begin", validation_split_percentage=0)
    found = make(dataset={"train": [{**row, "answer_start": 11} for row in rows]}, validation_split_percentage=0)
    assert found.description["answer_start_column"] == "answer_start"


def test_columns_that_nobody_asked_for_may_be_missing_elsewhere(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    rows = question_rows(8)
    bare = [{name: row[name] for name in ("question", "context", "answers")} for row in rows]
    data = make(dataset={"train": rows, "validation": bare})
    assert data.description["id_column"] == ""
    with pytest.raises(UserError, match="has no column 'id'"):
        make(dataset={"train": rows, "validation": bare}, id_column_name="id")
    texts = [
        {**row, "answers": row["answers"]["text"][:1], "answer_start": row["answers"]["answer_start"][0]}
        for row in rows
    ]
    with caplog.at_level(logging.INFO, "lit_ft"):
        make(dataset={"train": texts, "validation": [{**row, "answers": row["answers"]["text"]} for row in bare]})
    assert caplog.text.count("8 of 8 answers come without answer_start") == 2


def test_what_is_no_text_is_named(make: Make, tmp_path: Path) -> None:
    rows = question_rows(4)
    with pytest.raises(UserError, match=r"column 'context' is nested .* not text; name another"):
        make(dataset={"train": [{**row, "context": [row["context"]]} for row in rows]})
    with pytest.raises(UserError, match="column 'context' cannot be both question and context"):
        make(dataset={"train": rows}, question_column_name="context")
    for number, content in enumerate(({"version": "2.0", "data": []}, {"data": {"a": 1}})):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match="has no column 'context'; columns: "):
            make(train_file=str(path))


def test_all_answers_lost_leave_nothing_to_train_on(make: Make) -> None:
    rows = [{**row, "answers": {"text": ["zebra"], "answer_start": [3]}} for row in question_rows(5)]
    with pytest.raises(UserError, match="no training row has its answer in the context: on_bad_answer drops them all"):
        make(dataset={"train": rows}, on_bad_answer="drop", validation_split_percentage=0)


def test_an_answer_that_the_tokenizer_drops_is_lost_by_option(make: Make) -> None:
    odd = {
        "id": "odd",
        "question": "how",
        "context": "so \u200b it",
        "answers": {"text": ["\u200b"], "answer_start": [3]},
    }
    rows = {"train": [*question_rows(6), odd], "validation": [odd]}
    with pytest.raises(UserError, match=r"the tokenizer drops; take it out, or set on_bad_answer: drop"):
        make(dataset=rows)
    data = make(dataset=rows, on_bad_answer="drop")
    assert len(data.features["train"][""]) == len(
        make(dataset={"train": rows["train"][:-1], "validation": rows["train"][:2]}).features["train"][""]
    )
