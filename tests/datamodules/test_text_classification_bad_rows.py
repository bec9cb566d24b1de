"""What is wrong with rows of text classification, or with what is asked of them, is named with place and fix."""

from pathlib import Path

import pytest

from lit_ft.errors import UserError
from tests.datamodules.test_text_classification_data import ROWS, TRAIN, write


def bad(rows: list[dict], number: int, **change: object) -> list[dict]:
    return [{**row, **change} if place == number - 1 else row for place, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("train", "validation", "options", "message"),
    [
        (ROWS, ROWS, {"text_column_names": "txet"}, r"train\.jsonl has no column 'txet'; .* — did you mean 'text'"),
        (ROWS, ROWS, {"label_column_name": "lable"}, r"train\.jsonl has no column 'lable'; .* — did you mean 'label'"),
        (ROWS, [{"text": "a", "lbl": "no"}], {}, r"validation\.jsonl has no column 'label'; .* — did you mean 'lbl'"),
        (
            [{"text": "a", "kind": "no"}] * 4,
            ROWS,
            {},
            r"train\.jsonl: which column is the label\?.*set label_column_name",
        ),
        (
            [{"text": "a", "kind": "no"}] * 4,
            None,
            {"text_column_names": "text"},
            r"train\.jsonl: which column is the label\?",
        ),
        (
            [{"a": "a", "b": "a", "label": 1}],
            ROWS,
            {},
            r"train\.jsonl: which column is the text\?.*set text_column_names",
        ),
        ([{"text": "a", "label": "no"}] * 5, ROWS, {}, r"train\.jsonl: column 'label' has one label only \(\['no'\]\)"),
        (
            ROWS,
            bad(ROWS, 7, label="yse"),
            {},
            r"validation\.jsonl: row 7, column \['label'\]: label 'yse' is unknown.*'yes'",
        ),
        (bad(ROWS, 9, label=None), ROWS, {}, r"train\.jsonl: 1 of 30 rows have no label .*the first is row 9;"),
        (bad(ROWS, 29, label=None), None, {}, r"train\.jsonl: 1 of \d+ rows have no label .*the first is row 29;"),
        (ROWS, [{"text": "a", "label": None}], {}, r"validation\.jsonl: no row has a label.*use predict"),
        (
            bad(ROWS, 4, label="maybe"),
            ROWS,
            {"label_names": ["no", "yes"]},
            r"train\.jsonl: row 4, .*label 'maybe' is unknown",
        ),
        (ROWS, ROWS, {"problem_type": "regression"}, r"train\.jsonl: row 1, .*'no' is no number"),
        (ROWS, ROWS, {"problem_type": "multi_label"}, r"train\.jsonl: row 1, .*set label_delimiter"),
        (ROWS, ROWS, {"max_seq_length": 161}, "max_seq_length 161 is above the model's 160 tokens"),
        (ROWS, ROWS, {"tokenizer_name": "/no/such/folder"}, "'/no/such/folder' holds no tokenizer"),
        (
            [{"text": "a", "label": 1.0}, {"text": "b", "label": 2.0}],
            ROWS,
            {},
            "'label' holds floats without fractions",
        ),
    ],
)
def test_bad_rows(make, tmp_path: Path, train: list, validation: list | None, options: dict, message: str) -> None:
    files = {"train_file": write(tmp_path / "train.jsonl", train)}
    if validation is not None:
        files["validation_file"] = write(tmp_path / "validation.jsonl", validation)
    with pytest.raises(UserError, match=message):
        make(**files, **options)
    assert not list((tmp_path / "prepared").glob("*/content.json"))


@pytest.mark.parametrize(
    ("stage", "options", "message"),
    [
        ("fit", {}, "no training rows: set train_file or dataset_name"),
        ("test", {"train_file": TRAIN}, "no test rows: set test_file or test_split_name"),
        ("predict", {"train_file": TRAIN}, "no predict rows: set predict_file or test_file"),
        ("fit", {"train_file": "trian.csv"}, r"trian\.csv: no such file"),
        ("fit", {"train_file": "train.xlsx"}, "cannot read files of type 'xlsx'"),
        (
            "test",
            {"train_file": TRAIN, "dataset": {"test": [{"text": "a", "label": -1}] * 3}},
            "no row has a label.*use predict",
        ),
        (
            "fit",
            {"dataset": [{"text": f"t{n}", "label": n / 7} for n in range(30)], "class_balanced_sampling": True},
            "class_balanced_sampling needs one label a row, not regression",
        ),
    ],
)
def test_missing_rows(make, stage: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(stage, **options).train_dataloader()


def test_no_model(make) -> None:
    with pytest.raises(UserError, match="no tokenizer: set model_name_or_path or tokenizer_name"):
        make(model_name_or_path=None, train_file=TRAIN)
