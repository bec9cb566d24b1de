"""Multiple choice from files to batches: layouts of known data sets, transformers' own collator, what is said."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from transformers import AutoTokenizer, DataCollatorForMultipleChoice

from lit_ft import MultipleChoiceDataModule
from lit_ft.errors import UserError
from tests.tiny import texts

Make = Callable[..., MultipleChoiceDataModule]
ENDINGS = ["ending0", "ending1", "ending2", "ending3"]
MESSAGES = texts()


def swag(number: int) -> list[dict[str, Any]]:
    return [
        {"sent1": MESSAGES[row], "sent2": ("she", "the card")[row % 2], "label": row % 4}
        | {name: f"{MESSAGES[40 + 4 * row + at][: 9 + 3 * at]}" for at, name in enumerate(ENDINGS)}
        for row in range(number)
    ]


@pytest.fixture
def make(tiny: Any) -> Make:
    def build(rows: Any, stage: str = "fit", **options: Any) -> MultipleChoiceDataModule:
        source = {"dataset": rows} if not isinstance(rows, str) else {"train_file": rows}
        data = MultipleChoiceDataModule(
            **{"model_name_or_path": tiny("bert"), "validation_split_percentage": 0, **source, **options}
        )
        data.setup(stage)
        return data

    return build


def decoded(data: MultipleChoiceDataModule, batch: dict[str, Any]) -> list[list[str]]:
    """Texts of the choices that there are."""
    found = []
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        kept = [one[real.bool()] for one, real in zip(ids, mask, strict=True) if real.any()]
        found.append([data.tokenizer.decode(one) for one in kept])
    return found


def first(data: MultipleChoiceDataModule) -> dict[str, Any]:
    return next(iter(data.train_dataloader()))


IN_ORDER = {"train_sampling_strategy": "sequential"}


@pytest.mark.parametrize("options", [{}, {"pad_to_multiple_of": 8}, {"max_seq_length": 24}], ids=str)
@pytest.mark.parametrize("side", ["right", "left"])
def test_batches_are_those_of_transformers_collator(make: Make, tiny: Any, side: str, options: dict[str, Any]) -> None:
    rows = swag(12)
    data = make(rows, batch_size=5, **IN_ORDER, tokenizer_kwargs={"padding_side": side}, **options)
    tokenizer = AutoTokenizer.from_pretrained(tiny("bert"), padding_side=side)
    features = []
    for row in rows:  # run_swag's own lines, but that only the context is cut
        firsts, seconds = [row["sent1"]] * 4, [f"{row['sent2']} {row[name]}" for name in ENDINGS]
        encoded = tokenizer(firsts, seconds, truncation="only_first", max_length=options.get("max_seq_length", 128))
        features.append({**encoded, "label": row["label"]})
    collator = DataCollatorForMultipleChoice(tokenizer, pad_to_multiple_of=options.get("pad_to_multiple_of"))
    batches = list(data.train_dataloader())
    assert [len(batch["labels"]) for batch in batches] == [5, 5, 2]
    for number, ours in enumerate(batches):
        theirs = collator([dict(feature) for feature in features[5 * number : 5 * number + 5]])
        assert set(ours) == set(theirs) == {"input_ids", "attention_mask", "token_type_ids", "labels"}
        for name, value in theirs.items():
            assert torch.equal(ours[name], value), name


UNEQUAL = [
    {"question": "what is it", "choices": {"text": ["a card", "a bank"], "label": ["A", "B"]}, "answerKey": "B"},
    {"question": "who", "choices": {"text": [*"wxyz", "me"], "label": list("ABCDE")}, "answerKey": "E"},
    {"question": "why", "choices": {"text": ["so", "no", "go"], "label": list("123")}, "answerKey": "1"},
]


def test_rows_with_different_numbers_of_choices(make: Make) -> None:
    data = make(UNEQUAL, batch_size=3, **IN_ORDER)
    batch = first(data)
    assert batch["input_ids"].shape[:2] == (3, 5)
    assert batch["attention_mask"].any(-1).sum(1).tolist() == [2, 5, 3]
    assert (batch["input_ids"] * (1 - batch["attention_mask"])).sum() == 0
    assert batch["labels"].tolist() == [1, 4, 0]
    assert decoded(data, batch)[0] == ["[CLS] what is it [SEP] a card [SEP]", "[CLS] what is it [SEP] a bank [SEP]"]
    assert data.description["choice_counts"] == [2, 3, 5]
    assert data.description["label_kind"] == "name"
    static = make(UNEQUAL, batch_size=1, pad_to_max_length=True, max_seq_length=20)
    assert {tuple(batch["input_ids"].shape) for batch in static.train_dataloader()} == {(1, 5, 20)}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
        if path.suffix != ".tsv":
            writer.writeheader()
        writer.writerows(rows)
    return str(path)


LAYOUTS: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any], list[str], int]] = {
    "swag": (
        "csv", [{"sent1": "a b", "sent2": "c", "ending0": "d", "ending1": "e", "label": "1"}], {},
        ["[CLS] a b [SEP] c d [SEP]", "[CLS] a b [SEP] c e [SEP]"], 1,
    ),
    "hellaswag": (
        "jsonl", [{"ctx_a": "a", "ctx_b": "b", "ctx": "a b", "endings": ["d", "e"], "label": "1"}], {},
        ["[CLS] a b [SEP] d [SEP]", "[CLS] a b [SEP] e [SEP]"], 1,
    ),
    "race": (
        "jsonl", [{"article": "a", "question": "b _ c", "options": ["d", "e"], "answer": "A"}], {"blank": "_"},
        ["[CLS] a [SEP] b d c [SEP]", "[CLS] a [SEP] b e c [SEP]"], 0,
    ),
    "race without blanks": (
        "jsonl", [{"article": "a", "question": "b", "options": ["d", "e"], "answer": "B"}], {"blank": "_"},
        ["[CLS] a [SEP] b d [SEP]", "[CLS] a [SEP] b e [SEP]"], 1,
    ),
    "arc": (
        "jsonl", [{"question": "b", "choices": {"text": ["d", "e"], "label": ["1", "2"]}, "answerKey": "2"}], {},
        ["[CLS] b [SEP] d [SEP]", "[CLS] b [SEP] e [SEP]"], 1,
    ),
    "copa": (
        "jsonl", [{"premise": "a", "choice1": "d", "choice2": "e", "question": "cause", "label": 0}],
        {"question_texts": {"cause": "it is", "effect": "so"}},
        ["[CLS] a [SEP] it is d [SEP]", "[CLS] a [SEP] it is e [SEP]"], 0,
    ),
    "codah": (
        "tsv", [{"category": "x", "prompt": "a", "ending0": "d", "ending1": "e", "label": "0"}],
        {"column_names": ["category", "prompt", "ending0", "ending1", "label"]},
        ["[CLS] a [SEP] d [SEP]", "[CLS] a [SEP] e [SEP]"], 0,
    ),
    "winogrande": (
        "jsonl", [{"sentence": "a _ b", "option1": "d", "option2": "e", "answer": "2"}],
        {"question_column_name": "sentence", "choice_column_names": ["option1", "option2"], "label_column_name":
         "answer", "blank": "_", "first_label": 1},
        ["[CLS] a d b [SEP]", "[CLS] a e b [SEP]"], 1,
    ),
    "own text": (
        "csv", [{"q": "b", "right": "e", "x": "d", "y": "e"}],
        {"question_column_name": "q", "choice_column_names": ["x", "y"], "label_column_name": "right"},
        ["[CLS] b [SEP] d [SEP]", "[CLS] b [SEP] e [SEP]"], 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(make: Make, tmp_path: Path, name: str) -> None:
    ending, rows, options, expected, label = LAYOUTS[name]
    data = make(write(tmp_path / f"rows.{ending}", rows), batch_size=1, **options)
    batch = first(data)
    assert decoded(data, batch) == [expected]
    assert batch["labels"].tolist() == [label]


def test_class_labels_are_read_by_name(make: Make) -> None:
    columns = {name: Value("string") for name in ("premise", "question", "choice1", "choice2")}
    features = Features({**columns, "label": ClassLabel(names=["choice1", "choice2"])})
    rows = [{"premise": "a", "question": "cause", "choice1": "b", "choice2": "c", "label": at} for at in (1, 0, -1, 1)]
    parts = {"train": Dataset.from_list(rows, features=features)}
    data = make(parts, batch_size=4, **IN_ORDER, on_bad_rows={"unlabelled": "drop"})
    assert first(data)["labels"].tolist() == [1, 0, 1]
    assert data.description["label_kind"] == "name"


def test_missing_choices_and_repeated_ones_are_said(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    rows = swag(6)
    rows[1]["ending3"] = None
    rows[2] |= {"ending1": " ", "label": 2}
    rows[4]["ending2"] = rows[4]["ending0"]
    with caplog.at_level("INFO", "lit_ft"):
        data = make(rows, batch_size=6, **IN_ORDER)
    batch = first(data)
    assert batch["attention_mask"].any(-1).sum(1).tolist() == [4, 3, 3, 4, 4, 4]
    assert batch["labels"].tolist() == [0, 1, 1, 3, 0, 1]  # of those that there are
    assert "2 of 6 rows have empty choices, which count as none" in caplog.text
    assert "rows have different numbers of choices: 2 rows of 3, 4 rows of 4" in caplog.text
    assert "1 of 6 rows have the same choice twice" in caplog.text
    assert "reading ['sent1', 'sent2', 'ending0', 'ending1', 'ending2', 'ending3'] as context" in caplog.text
    assert "labels in 'label' read as index" in caplog.text


def test_cut_contexts_are_counted_and_may_be_dropped(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"ctx": "a " * size, "endings": ["b", "c d"], "label": 0} for size in (4, 20, 5)]
    with caplog.at_level("INFO", "lit_ft"):
        data = make(rows, max_seq_length=15, batch_size=3, **IN_ORDER)
    # 15 tokens, of them three special ones and two of the longer choice
    assert "1 of 3 rows are longer than max_seq_length and lose 10 tokens" in caplog.text
    assert decoded(data, first(data))[1] == [f"[CLS] {'a ' * 11}[SEP] b [SEP]", f"[CLS] {'a ' * 10}[SEP] c d [SEP]"]
    dropped = make(rows, max_seq_length=15, batch_size=3, on_bad_rows={"cut": "drop"})
    assert dropped.report["sets"][0]["found"]["cut"]["dropped"] == 1
    assert len(first(dropped)["labels"]) == 2


def test_rows_seen_in_training_are_found_by_question_and_choices(make: Make) -> None:
    rows = swag(8)
    other = [{**rows[0]}, {**rows[1], "ending2": "something else"}, {**rows[2], "label": 3}]
    report = make({"train": rows, "validation": other}, batch_size=8).report
    found = next(one["found"] for one in report["sets"] if one["split"] == "validation")
    assert found["seen_in_train"]["count"] == 2
    assert "contradicting_labels" not in found or found["contradicting_labels"]["count"] <= 2


GOOD = {"question": "b", "choices": ["c", "d"], "answerKey": "A"}


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([GOOD, {**GOOD, "choices": ["c"]}], {}, "rows.jsonl: row 2, one choice only, 'c': a row needs two or more"),
        ([GOOD, {**GOOD, "choices": None}], {}, "row 2, no choices: a row needs"),
        ([GOOD, {**GOOD, "answerKey": "C"}], {}, "row 2, column 'answerKey': label 'C' is not from A to B"),
        ([{**GOOD, "answerKey": at} for at in (1, 2)], {}, "row 2, .*labels count from 1\\? then set first_label: 1"),
        ([{**GOOD, "answerKey": "?"}], {}, "column 'answerKey' holds labels such as '\\?', which are neither"),
        ([{**GOOD, "answerKey": ""}], {}, "no row has a label in column 'answerKey'"),
        ([{**GOOD, "answerKey": ""}, GOOD], {}, "unlabelled"),
        ([{"question": "b", "choices": ["c", "d"]}], {}, "which column is the label"),
        ([{"text": "b", "answer": "A"}], {}, "which columns are context, question and choices"),
        ([GOOD], {"label_column_name": "choices"}, "column 'choices' cannot be two of context, question, choices"),
        ([GOOD], {"choice_column_names": "choices"}, "neither context_column_name nor question_column_name given"),
        ([GOOD], {"question_column_name": "question"}, "no choice_column_names given"),
        ([GOOD], {"question_column_name": "qestion", "choice_column_names": "choices"}, "did you mean 'question'"),
        ([GOOD], {"question_column_name": "choices", "choice_column_names": "question"}, "column 'choices' is nested"),
        (
            [{**GOOD, "more": "c"}],
            {"question_column_name": "question", "choice_column_names": "more"},
            "column 'more' alone holds one choice",
        ),
        ([GOOD], {"label_kind": "leter"}, "label_kind is 'leter'.*did you mean 'letter'"),
        ([GOOD], {"first_label": 2}, "first_label is 2; choices are counted from 0 or from 1"),
        ([GOOD], {"max_seq_length": 4}, "max_seq_length 4 leaves no room"),
    ],
)
def test_what_is_wrong_is_named(
    make: Make, tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(write(tmp_path / "rows.jsonl", rows), **options)


def test_rows_with_unknown_labels_may_be_dropped(make: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [GOOD, {**GOOD, "answerKey": "C"}, {**GOOD, "answerKey": "B"}])
    data = make(path, on_bad_rows={"unknown_label": "drop"}, batch_size=3, **IN_ORDER)
    assert first(data)["labels"].tolist() == [0, 1]
    (found,) = [one["found"] for one in data.report["sets"]]
    said = {"count": 1, "dropped": 1, "examples": ["row 2"], "rows": [1], "texts": ["'b' | 'c\\nd'"]}
    assert found["unknown_label"] == said
    assert "unlabelled" not in found


def test_rows_without_a_label_are_not_scored(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "rows.jsonl", [GOOD, {**GOOD, "answerKey": ""}])
    with caplog.at_level("INFO", "lit_ft"):
        data = make([GOOD], validation_file=path, batch_size=2)
    (loader,) = data.val_dataloader()
    assert next(iter(loader))["labels"].tolist() == [0, -100]
    assert "1 of 2 rows have no label (empty, null or -1) and are not scored" in caplog.text


def test_rows_to_predict_need_no_label(make: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "new.jsonl", [{"question": "b", "choices": ["c", "d", "e"]}])
    data = make([GOOD], "predict", predict_file=path)
    (loader,) = data.predict_dataloader()
    (batch,) = loader
    assert "labels" not in batch
    assert batch["info"] == [{"question": "b", "choices": ["c", "d", "e"]}]


def test_a_token_budget_counts_all_places_of_a_batch(make: Make) -> None:
    rows = swag(40)
    data = make(rows, max_tokens_per_batch=900)
    sizes = [batch["input_ids"].numel() for batch in data.train_dataloader()]
    assert max(sizes) <= 900
    assert sum(sizes) / len(sizes) > 500
    for multiple in (None, 16):
        mixed = make(UNEQUAL * 10, max_tokens_per_batch=300, pad_to_multiple_of=multiple)
        batches = list(mixed.train_dataloader())
        assert sum(len(batch["labels"]) for batch in batches) == 30
        assert max(batch["input_ids"].numel() for batch in batches) <= 300


def test_processes_prepare_the_same_features(make: Make) -> None:
    rows = [{**row, "sent1": f"{row['sent1']} {at}"} for at in range(60) for row in swag(80)]
    one, two = (make(rows, preprocessing_num_workers=processes, batch_size=50, **IN_ORDER) for processes in (1, 2))
    for ours, theirs in zip(one.train_dataloader(), two.train_dataloader(), strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_stream_gives_the_same_features(make: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", swag(20))
    whole = make(path, batch_size=20, **IN_ORDER)
    data = make(path, batch_size=20, streaming=True, shuffle_buffer_size=0)
    ours = next(iter(data.train_dataloader()))
    ours = data.on_before_batch_transfer(ours, 0)
    expected = first(whole)
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_a_cut_leaves_the_rows_about_a_context_together(make: Make) -> None:
    rows = [{**row, "sent2": f"{row['sent2']} {at}"} for at in range(4) for row in swag(10)]
    data = make(rows, validation_split_percentage=30, label_column_name="label")
    (held,) = data.val_dataloader()
    sets = [
        {text.split("[SEP]")[0] for batch in batches for row in decoded(data, batch) for text in row}
        for batches in (data.train_dataloader(), held)
    ]
    assert [len(each) for each in sets] == [7, 3]
    assert not sets[0] & sets[1]
    assert sum(len(batch["row"]) for batch in held) == 12
    alone = make([{**row, "sent1": ""} for row in rows], validation_split_percentage=30)  # nothing in common
    assert sum(len(batch["row"]) for batch in alone.val_dataloader()[0]) == 12
