"""TextClassificationDataModule from rows of every kind to batches; prepared once. Labels and bad rows: beside it."""

import json
import multiprocessing
import os
import pickle
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch
from datasets import Dataset

from lit_ft.datamodules import TextClassificationDataModule
from tests.tiny import SAMPLE

TRAIN, VALIDATION, TEST = (f"{SAMPLE}/{name}.jsonl" for name in ("train", "validation", "test"))
ROWS = [{"text": f"text number {number}", "label": "yes" if number % 3 else "no"} for number in range(30)]


def rows_of(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


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
