import json
import math
import multiprocessing
import os
import pickle
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from transformers import AutoConfig, AutoModelForSequenceClassification

from lit_ft.data.reading.raw import RawRows
from lit_ft.datamodules import TextClassificationDataModule
from lit_ft.errors import UserError
from tests.tiny import SAMPLE

TRAIN, VALIDATION, TEST = (f"{SAMPLE}/{name}.jsonl" for name in ("train", "validation", "test"))
ROWS = [{"text": f"text number {number}", "label": "yes" if number % 3 else "no"} for number in range(30)]


def rows_of(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def make(tiny):
    def build(stage: str = "fit", **options) -> TextClassificationDataModule:
        data = TextClassificationDataModule(**{"model_name_or_path": tiny("bert"), **options})
        data.setup(stage)
        return data

    return build


def one(loaders: list) -> list[dict]:
    (loader,) = loaders
    return list(loader)


def texts_of(data: TextClassificationDataModule, batches: list[dict]) -> list[str]:
    return [
        text for batch in batches for text in data.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    ]


def plain(data: TextClassificationDataModule, texts: list[str]) -> list[str]:
    return data.tokenizer.batch_decode(data.tokenizer(texts, truncation=True)["input_ids"], skip_special_tokens=True)


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_sample_from_files_to_batches_without_a_trainer(tiny, ending: str) -> None:
    data = TextClassificationDataModule(
        model_name_or_path=tiny("bert"),
        train_file=f"{SAMPLE}/train.{ending}",
        validation_file=f"{SAMPLE}/validation.{ending}",
        max_seq_length=160,
        batch_size=16,
    )
    data.prepare_data()
    data.setup("fit")
    rows, seen = rows_of(TRAIN), list(data.train_dataloader())
    names = sorted({row["label"] for row in rows})
    assert data.description["labels"] == names
    assert data.description["label_counts"] == [Counter(row["label"] for row in rows)[name] for name in names]
    pairs = zip(texts_of(data, seen), torch.cat([batch["labels"] for batch in seen]).tolist(), strict=True)
    wanted = zip(plain(data, [row["text"] for row in rows]), [names.index(row["label"]) for row in rows], strict=True)
    assert sorted(pairs) == sorted(wanted)
    assert set(seen[0]) == {"input_ids", "attention_mask", "token_type_ids", "labels"}

    rows, seen = rows_of(VALIDATION), one(data.val_dataloader())
    assert texts_of(data, seen) == plain(data, [row["text"] for row in rows])
    assert torch.cat([batch["labels"] for batch in seen]).tolist() == [names.index(row["label"]) for row in rows]
    assert torch.cat([batch["row"] for batch in seen]).tolist() == list(range(len(rows)))


def test_prediction_hands_the_raw_rows_along(make) -> None:
    data = make("predict", train_file=TRAIN, predict_file=f"{SAMPLE}/unlabeled.jsonl")
    assert data.set_names("predict") == ["unlabeled"]
    batches = one(data.predict_dataloader())
    assert [row for batch in batches for row in batch["info"]] == rows_of(f"{SAMPLE}/unlabeled.jsonl")
    assert "labels" not in batches[0]


def test_test_rows_are_predicted_without_predict_file(make) -> None:
    data = make("predict", train_file=TRAIN, test_file=TEST)
    assert [row["id"] for batch in one(data.predict_dataloader()) for row in batch["info"]] == [
        r["id"] for r in rows_of(TEST)
    ]


def test_the_limit_of_prediction_holds_for_test_rows_too(make) -> None:
    options = {"train_file": TRAIN, "test_file": TEST, "max_eval_samples": 2, "max_predict_samples": 5}
    data = make("predict", **options, sample_head=True)
    predicted = [row["id"] for batch in one(data.predict_dataloader()) for row in batch["info"]]
    assert predicted == [row["id"] for row in rows_of(TEST)[:5]]


@pytest.mark.parametrize(
    "kind",
    [list, pd.DataFrame, Dataset.from_list, lambda rows: {"train": rows}],
    ids=["list", "pandas", "Dataset", "dict"],
)
def test_rows_in_memory(make, kind) -> None:
    data = make(dataset=kind(ROWS), validation_split_percentage=10, batch_size=30)
    batches = [*data.train_dataloader(), *one(data.val_dataloader())]
    wanted = zip(plain(data, [row["text"] for row in ROWS]), [int(row["label"] == "yes") for row in ROWS], strict=True)
    assert sorted(
        zip(texts_of(data, batches), torch.cat([b["labels"] for b in batches]).tolist(), strict=True)
    ) == sorted(wanted)
    assert [len(batch["labels"]) for batch in batches] == [27, 3]
    assert sorted(batches[1]["labels"].tolist()) == [0, 1, 1]


def test_data_set_with_splits_and_class_labels_in_another_order(make) -> None:
    def part(rows: list[dict], names: list[str]) -> Dataset:
        return Dataset.from_list(rows, features=Features({"text": Value("string"), "label": ClassLabel(names=names)}))

    parts = DatasetDict({"train": part(ROWS, ["yes", "no"]), "validation": part(ROWS, ["no", "yes"])})
    data = make(dataset=parts, batch_size=30)
    wanted = [int(row["label"] == "no") for row in ROWS]
    assert data.description["labels"] == ["yes", "no"]
    assert one(data.val_dataloader())[0]["labels"].tolist() == wanted


def test_a_tensor_format_on_the_data_set_changes_nothing(make) -> None:
    rows = Dataset.from_list([{"text": row["text"], "label": number % 2} for number, row in enumerate(ROWS)])
    data = make(dataset={"train": rows.with_format("torch"), "validation": rows}, batch_size=30)
    assert one(data.val_dataloader())[0]["labels"].tolist() == [0, 1] * 15


def test_several_validation_sets(make) -> None:
    data = make(
        train_file=TRAIN, validation_file={"first": VALIDATION, "second": TEST}, max_eval_samples=20, sample_head=True
    )
    assert data.set_names("validation") == ["first", "second"]
    for loader, path in zip(data.val_dataloader(), (VALIDATION, TEST), strict=True):
        wanted = [data.description["labels"].index(row["label"]) for row in rows_of(path)[:20]]
        assert torch.cat([batch["labels"] for batch in loader]).tolist() == wanted


@pytest.mark.parametrize("head", [True, False])
def test_caps_keep_every_label_name(make, head: bool) -> None:
    data = make(train_file=TRAIN, validation_file=VALIDATION, max_train_samples=5, max_eval_samples=7, sample_head=head)
    assert data.description["labels"] == sorted({row["label"] for row in rows_of(TRAIN)})
    assert [len(sets[""]) for sets in data.features.values()] == [5, 7]
    assert (sum(data.description["label_counts"]), data.description["num_train_rows"]) == (5, 5)


@pytest.mark.parametrize("stride", [None, 4])
def test_long_rows_are_cut_or_windowed_and_it_is_said(make, stride: int | None) -> None:
    options = {"train_file": TRAIN, "validation_file": VALIDATION, "max_seq_length": 16, "stride": stride}
    data = make(**options, preprocessing_num_workers=2)
    whole = data.tokenizer([row["text"] for row in rows_of(VALIDATION)], truncation=stride is not None, max_length=16,
                           stride=stride or 0, return_overflowing_tokens=stride is not None)  # fmt: skip
    batches = one(data.val_dataloader())
    ids = [
        row[mask.bool()].tolist()
        for b in batches
        for row, mask in zip(b["input_ids"], b["attention_mask"], strict=True)
    ]
    if stride is None:
        lost = [len(row) - 16 for row in whole["input_ids"] if len(row) > 16]
        note = (
            f"{VALIDATION}: {len(lost)} of {len(ids)} rows are longer than max_seq_length and lose {sum(lost)} tokens"
        )
        assert any(text.startswith(note) for text in prepared_notes())
    else:
        assert ids == whole["input_ids"]
        owners = torch.tensor(whole["overflow_to_sample_mapping"])
        assert torch.equal(torch.cat([batch["row"] for batch in batches]), owners)
        assert torch.equal(torch.cat([batch["windows"] for batch in batches]), torch.bincount(owners)[owners])


def prepared_notes() -> list[str]:
    root = Path(os.environ["LIT_FT_CACHE"])
    return [note for path in root.glob("*/content.json") for note in json.loads(path.read_text())["notes"]]


@pytest.mark.parametrize("workers", [0, 1])
def test_padding_options_and_loader_processes(make, workers: int) -> None:
    options = {"dataset": ROWS, "num_workers": workers, "max_seq_length": 40}
    assert {batch["input_ids"].shape[1] for batch in make(**options, pad_to_max_length=True).train_dataloader()} == {40}
    widths = {batch["input_ids"].shape[1] for batch in make(**options, pad_to_multiple_of=8).train_dataloader()}
    assert all(width % 8 == 0 for width in widths)


def test_pickled_data_module_gives_the_same_batches(make) -> None:
    data = make(dataset=ROWS)
    for ours, theirs in zip(data.train_dataloader(), pickle.loads(pickle.dumps(data)).train_dataloader(), strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_pairs_and_joined_columns(make) -> None:
    rows = [{"premise": f"a {n}", "hypothesis": f"b {n}", "title": "t", "label": n % 2} for n in range(20)]
    options = {"dataset": {"train": rows, "validation": rows}, "batch_size": 20}
    pairs = one(make(**options).val_dataloader())[0]
    data = make(
        **options,
        text_column_names=["title", "premise"],
        text_column_delimiter=" / ",
        text_pair_column_names="hypothesis",
    )
    wanted = data.tokenizer(
        [row["premise"] for row in rows], [row["hypothesis"] for row in rows], padding=True, return_tensors="pt"
    )
    for name, tensor in wanted.items():
        assert torch.equal(pairs[name], tensor)
    joined = [(f"t / {row['premise']}", row["hypothesis"]) for row in rows]
    wanted = data.tokenizer(joined, padding=True, return_tensors="pt")
    assert torch.equal(one(data.val_dataloader())[0]["input_ids"], wanted["input_ids"])


def test_pair_column_alone_leaves_the_text_to_be_guessed(make) -> None:
    rows = [{"body": f"a {n}", "other": f"b {n}", "label": n % 2} for n in range(20)]
    data = make(dataset=rows, text_pair_column_names="other")
    assert (data.description["text_columns"], data.description["pair_columns"]) == (["body"], ["other"])


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


def test_the_same_content_is_prepared_once_and_any_change_anew(make, tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", ROWS)

    def folders(**options) -> set[Path]:
        make(train_file=path, **options)
        return {entry for entry in (tmp_path / "prepared").iterdir() if entry.is_dir()}

    assert len(folders()) == len(folders(batch_size=2, num_workers=1)) == 1
    write(tmp_path / "train.jsonl", ROWS)
    assert len(folders()) == 1
    assert len(folders(max_seq_length=20)) == 2
    write(tmp_path / "train.jsonl", ROWS[::-1])
    assert len(folders()) == 3


def _prepare(options: dict) -> None:
    TextClassificationDataModule(**options).prepare_data()


def test_two_runs_that_start_together_prepare_once(tiny, tmp_path: Path) -> None:
    options = {"model_name_or_path": tiny("bert"), "train_file": TRAIN, "preparation_dir": str(tmp_path / "shared")}
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_prepare, args=(options,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list((tmp_path / "shared").glob("*/content.json"))) == 1


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


def test_nan_marks_multi_label_rows_without_labels(make) -> None:
    rows = [{"text": "a", "label": ["x"]}, {"text": "b", "label": ["y", "x"]}] * 4
    data = make(dataset={"train": rows, "validation": [*rows[:1], {"text": "c", "label": None}]})
    labels = one(data.val_dataloader())[0]["labels"].tolist()
    assert labels[0] == [1.0, 0.0]
    assert all(math.isnan(value) for value in labels[1])
