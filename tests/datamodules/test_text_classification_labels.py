"""Labels of texts, of every kind, as batches have them; whose names and order hold, and rows that have none."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from transformers import AutoConfig, AutoModelForSequenceClassification

from lit_ft.data.reading.raw import RawRows
from lit_ft.datamodules import TextClassificationDataModule
from tests.datamodules.test_text_classification_data import ROWS, one, prepared_notes


def test_data_set_with_splits_and_class_labels_in_another_order(make) -> None:
    def part(rows: list[dict], names: list[str]) -> Dataset:
        return Dataset.from_list(rows, features=Features({"text": Value("string"), "label": ClassLabel(names=names)}))

    parts = DatasetDict({"train": part(ROWS, ["yes", "no"]), "validation": part(ROWS, ["no", "yes"])})
    data = make(dataset=parts, batch_size=30)
    wanted = [int(row["label"] == "no") for row in ROWS]
    assert data.description["labels"] == ["yes", "no"]
    assert one(data.val_dataloader())[0]["labels"].tolist() == wanted


MULTI = [["a", "b"], ["c"], [], ["b"]] * 5
VECTORS = [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]] * 5


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"label": MULTI}, {}),
        ({"label": [";".join(names) for names in MULTI]}, {"label_delimiter": ";"}),
        ({"label": VECTORS}, {"label_names": ["a", "b", "c"]}),
        ({"label": [["abc".index(name) for name in names] for names in MULTI]}, {"label_names": ["a", "b", "c"]}),
        (
            {name: [int(row[place]) for row in VECTORS] for place, name in enumerate("abc")},
            {"label_column_name": ["a", "b", "c"]},
        ),
    ],
    ids=["names", "delimited", "multi-hot", "ids", "columns"],
)
def test_multi_label(make, columns: dict, options: dict) -> None:
    rows = pd.DataFrame({"text": [f"t {n}" for n in range(20)], **columns}).to_dict("records")
    data = make(dataset={"train": rows, "validation": rows}, batch_size=20, text_column_names="text", **options)
    assert (data.description["problem_type"], data.description["labels"]) == ("multi_label", ["a", "b", "c"])
    assert one(data.val_dataloader())[0]["labels"].tolist() == VECTORS
    assert data.description["label_counts"] == [5, 10, 5]


def test_nan_marks_multi_label_rows_without_labels(make) -> None:
    rows = [{"text": "a", "label": ["x"]}, {"text": "b", "label": ["y", "x"]}] * 4
    data = make(dataset={"train": rows, "validation": [*rows[:1], {"text": "c", "label": None}]})
    labels = one(data.val_dataloader())[0]["labels"].tolist()
    assert labels[0] == [1.0, 0.0]
    assert all(math.isnan(value) for value in labels[1])


@pytest.mark.parametrize("targets", [["score"], ["x", "y"]])
def test_regression(make, targets: list[str]) -> None:
    rows = [{"text": f"t {n}", **{name: n / 7 + place for place, name in enumerate(targets)}} for n in range(20)]
    unlabelled = [*rows, {"text": "none", **dict.fromkeys(targets)}]
    data = make(dataset={"train": rows, "validation": unlabelled}, label_column_name=targets, batch_size=21)
    assert (data.description["problem_type"], data.description["labels"]) == ("regression", targets)
    labels = one(data.val_dataloader())[0]["labels"]
    torch.testing.assert_close(labels[:20], torch.tensor([[row[name] for name in targets] for row in rows]))
    assert labels[20].isnan().all()


def test_unlabelled_validation_rows_are_marked_and_counted(make) -> None:
    rows = [{"text": f"t {n}", "label": n % 2} for n in range(10)]
    data = make(
        dataset={"train": rows, "validation": [*rows[:2], {"text": "x", "label": -1}, {"text": "", "label": None}]}
    )
    assert one(data.val_dataloader())[0]["labels"].tolist() == [0, 1, -100, -100]
    note = "dataset, split 'validation': 2 of 4 rows have no label (empty, null or -1) and are not scored"
    assert note in prepared_notes()
    (found,) = [one["found"] for one in data.report["sets"] if one["split"] == "validation"]
    assert (found["unlabelled"]["count"], found["empty_text"]["count"], found["seen_in_train"]["count"]) == (2, 1, 2)


@pytest.fixture
def head(tiny, tmp_path: Path):
    """A checkpoint with a trained head for the given labels."""

    def make(names: list[str], problem_type: str | None = None) -> str:
        config = AutoConfig.from_pretrained(tiny("bert"))
        config.id2label, config.problem_type = dict(enumerate(names)), problem_type
        AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "head")
        return str(tmp_path / "head")

    return make


@pytest.mark.parametrize(
    ("names", "labels", "wanted"),
    [
        (["POS", "NEG"], ["neg", "pos"], [1, 0]),
        (["POS", "neutral", "NEG"], ["neg", "pos"], [2, 0]),
        (["POS", "NEG"], [0, 1], [0, 1]),
        (["LABEL_0", "LABEL_1"], ["neg", "pos"], [0, 1]),
        (["other", "names"], ["neg", "pos"], [0, 1]),
    ],
    ids=["order and case", "subset", "ids", "placeholders", "mismatch"],
)
def test_labels_follow_the_pretrained_head(make, tiny, head, names: list[str], labels: list, wanted: list[int]) -> None:
    rows = [{"text": f"t {n}", "label": labels[n % 2]} for n in range(8)]
    options = {
        "model_name_or_path": head(names),
        "tokenizer_name": tiny("bert"),
        "dataset": {"train": rows, "validation": rows},
    }
    data = make(**options)
    assert one(data.val_dataloader())[0]["labels"].tolist() == wanted * 4
    mismatch = [note for note in prepared_notes() if "are not those of the pretrained head" in note]
    assert bool(mismatch) == (names == ["other", "names"])


def test_scoring_a_multi_label_checkpoint_reads_vectors_without_train_rows(make, tiny, head) -> None:
    rows = [{"text": "x", "label": vector} for vector in ([1, 0, 1], [0, 1, 0])]
    path = head(["a", "b", "c"], "multi_label_classification")
    data = make("test", model_name_or_path=path, tokenizer_name=tiny("bert"), dataset={"test": rows})
    assert one(data.test_dataloader())[0]["labels"].tolist() == [[1, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize(
    ("cells", "problem_type", "wanted"),
    [(["b", "a"], "single_label", [1, 0]), ([[0, 1], [1, 0]], "multi_label", [[0.0, 1.0], [1.0, 0.0]])],
)
def test_labels_named_by_the_module_alone_are_enough_to_score(
    tiny, cells: list, problem_type: str, wanted: list
) -> None:
    data = TextClassificationDataModule(model_name_or_path=tiny("bert"))
    rows = RawRows(Dataset.from_dict({"text": ["x", "y"], "label": cells}), "test.csv")
    description = data.describe({"test": {"": rows}}, {"labels": ["a", "b"], "problem_type": problem_type})
    assert description["labels"] == ["a", "b"]
    assert data.tokenize(rows.data[:], "test")["labels"].tolist() == wanted


def test_class_balanced_sampling(make) -> None:
    rows = [{"text": f"t {n}", "label": int(n >= 180)} for n in range(200)]
    data = make(dataset=rows, validation_split_percentage=0, class_balanced_sampling=True, batch_size=200)
    assert 60 < next(iter(data.train_dataloader()))["labels"].sum() < 140
