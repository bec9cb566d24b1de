"""What is prepared is never stale and never missed: one option, row or file at a time, through the data module."""

import inspect
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_ft import TextClassificationDataModule, TextClassificationModule
from lit_ft.errors import UserError
from tests.processes import METHOD

ROWS = [
    {"text": f"text number {n} of some length", "label": ("no", "yes")[n % 2], "other": f"o {n}"} for n in range(40)
]

CHANGES = {
    "use_fast_tokenizer": False, "model_revision": "other", "trust_remote_code": True, "add_tokens": ["zyxwv"],
    "tokenizer_kwargs": {"padding_side": "left"}, "quoting": "none", "delimiter": ";", "column_names": ["a", "b"],
    "validation_split_percentage": 20, "max_train_samples": 30, "max_eval_samples": 1, "max_predict_samples": 3,
    "sample_head": True, "max_seq_length": 7, "truncation_side": "last", "stride": 1,
    "sample_by": "document", "keep_linebreaks": True,
    "on_bad_rows": {"duplicate": "drop"}, "column_mapping": {"other": "another"}, "text_column_names": "other",
    "text_pair_column_names": "other", "text_column_delimiter": "/", "label_column_name": "label",
    "problem_type": "single_label", "label_names": ["no", "yes"],
}  # fmt: skip
"""Options that change, or may change, what is prepared."""
SAME = {
    "batch_size": 3, "eval_batch_size": 5, "num_workers": 1, "preprocessing_num_workers": 2, "data_seed": 7,
    "pad_to_max_length": True, "pad_to_multiple_of": 8, "dataloader_drop_last": True,
    "train_sampling_strategy": "sequential",
    "max_tokens_per_batch": 1000, "eval_sampling_strategy": "sequential", "shuffle_buffer_size": 5,
    "stopping_strategy": "all_exhausted",
    "multiprocessing_context": "spawn", "class_balanced_sampling": True, "cache_dir": "elsewhere",
    "predict_file": "not there.csv", "predict_split_name": "x", "test_file": "not there.csv", "test_split_name": "x",
}  # fmt: skip
"""Options of other stages, of loading, or of the machine."""
ELSEWHERE = {
    "model_name_or_path", "tokenizer_name", "gguf_file", "dataset", "dataset_name", "dataset_config_name",
    "dataset_revision", "train_file", "validation_file", "train_split_name", "validation_split_name", "sources",
    "streaming", "probabilities", "preparation_dir", "overwrite_cache", "label_delimiter",
}  # fmt: skip
"""Options that say where rows or tokenizer come from (tested below and in test_text_classification_*.py)."""


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def prepare(tiny, tmp_path: Path):
    """Prepares for fit; returns how many prepared folders there are then."""
    path = write(tmp_path / "train.jsonl", ROWS)

    def run(**options) -> int:
        TextClassificationDataModule(
            **{"model_name_or_path": tiny("bert"), "train_file": path, "text_column_names": "text", **options}
        ).prepare_data()
        return len(list((tmp_path / "prepared").glob("*/content.json")))

    return run


def parameters(*classes: type) -> set[str]:
    """Names of all that data modules, and what they stand on, are made with."""
    ours = {each for kind in classes for each in kind.__mro__ if each.__module__.startswith("lit_ft.")}
    return {name for each in ours for name in inspect.signature(each.__init__).parameters} - {"self", "kwargs"}


def test_every_option_is_in_one_of_the_tables() -> None:
    assert parameters(TextClassificationDataModule) == set(CHANGES) | set(SAME) | ELSEWHERE


@pytest.mark.parametrize("option", CHANGES)
def test_an_option_that_changes_the_result_prepares_anew(option: str, prepare) -> None:
    assert prepare() == 1
    assert prepare(**{option: CHANGES[option]}) == 2


def test_other_options_do_not(prepare) -> None:
    assert prepare() == 1
    for option, value in SAME.items():
        assert prepare(**{option: value}) == 1, option


def test_rows_decide_not_times(prepare, tmp_path: Path) -> None:
    assert prepare() == 1
    write(tmp_path / "train.jsonl", ROWS)
    assert prepare() == 1
    write(tmp_path / "train.jsonl", [*ROWS[:-1], {**ROWS[-1], "text": "text number 39 of some lengtH"}])
    assert prepare() == 2
    write(tmp_path / "train.jsonl", ROWS)
    assert prepare() == 2


def test_another_tokenizer_or_place(prepare, tiny, tmp_path: Path) -> None:
    assert prepare() == 1
    assert prepare(tokenizer_name=tiny("gpt2")) == 2
    assert prepare(preparation_dir=str(tmp_path / "elsewhere")) == 2
    assert len(list((tmp_path / "elsewhere").glob("*/content.json"))) == 1


def _prepare_slowly(options: dict, started: Path) -> None:
    class Slow(TextClassificationDataModule):
        def tokenize(self, rows: dict, split: str) -> dict:
            started.touch()
            time.sleep(60)
            return super().tokenize(rows, split)

    Slow(**options).prepare_data()


def test_a_kill_in_the_middle_leaves_nothing_that_counts(tiny, tmp_path: Path) -> None:
    options = {
        "model_name_or_path": tiny("bert"),
        "train_file": write(tmp_path / "t.jsonl", ROWS),
        "text_column_names": "text",
    }
    process = multiprocessing.get_context("fork").Process(target=_prepare_slowly, args=(options, tmp_path / "started"))
    process.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not list((tmp_path / "prepared").glob("*/content.json"))
    data = TextClassificationDataModule(**options)
    data.setup("fit")
    assert len(data.features["train"][""]) == 38


def test_a_file_that_changes_between_preparation_and_training_is_an_error(tiny, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"

    class Edited(TextClassificationDataModule):
        def setup(self, stage: str = "fit") -> None:
            write(path, ROWS[1:])
            super().setup(stage)

    data = Edited(model_name_or_path=tiny("bert"), train_file=write(path, ROWS), text_column_names="text")
    with pytest.raises(UserError, match=r"train\.jsonl changed while its rows were in use"):
        Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False).fit(
            TextClassificationModule(model_name_or_path=tiny("bert")), data
        )


@pytest.mark.parametrize("options", [{}, {"max_tokens_per_batch": 200}])
def test_loader_processes_that_are_no_forks_on_the_first_start(options: dict, tiny, tmp_path: Path) -> None:
    data = TextClassificationDataModule(
        model_name_or_path=tiny("bert"), train_file=write(tmp_path / "t.jsonl", ROWS), text_column_names="text",
        num_workers=1, multiprocessing_context=METHOD, **options,
    )  # fmt: skip
    data.prepare_data()
    data.setup("fit")
    assert sum(len(batch["labels"]) for batch in data.train_dataloader()) == 38


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.soak)])
def test_loader_processes_give_the_batches_of_the_main_one(tiny, tmp_path: Path, context: str) -> None:
    options = {
        "model_name_or_path": tiny("bert"),
        "train_file": write(tmp_path / "t.jsonl", ROWS),
        "text_column_names": "text",
    }
    batches = []
    for loading in ({}, {"num_workers": 2, "multiprocessing_context": context}):
        data = TextClassificationDataModule(**options, **loading)
        data.setup("fit")
        batches.append([*data.train_dataloader(), *data.val_dataloader()[0]])
    for ours, theirs in zip(*batches, strict=True):
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_token_budget_bounds_every_batch(tiny, tmp_path: Path) -> None:
    rows = [{"text": "word " * (n % 9 + 1), "label": ("no", "yes")[n % 2]} for n in range(80)]
    data = TextClassificationDataModule(model_name_or_path=tiny("bert"), dataset=rows, max_tokens_per_batch=60)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert len(batches) == data.num_train_batches
    assert max(batch["input_ids"].numel() for batch in batches) <= 60
    assert sum(len(batch["labels"]) for batch in batches) == 76
    padding = sum(int((batch["attention_mask"] == 0).sum()) for batch in batches)
    assert padding < 0.1 * sum(batch["input_ids"].numel() for batch in batches)


def texts_in(data: TextClassificationDataModule) -> list[str]:
    store = data.features["train"][""].store
    return sorted(data.tokenizer.batch_decode([store[number]["input_ids"] for number in range(len(store))]))


@pytest.mark.parametrize("kind", ["files", "saved"])
def test_an_edited_folder_is_never_stale(kind: str, tiny, tmp_path: Path) -> None:
    """Not even where the file's size and time are put back, which `datasets` itself trusts."""
    folder = tmp_path / "folder"
    folder.mkdir()
    rows = [{"text": f"order {n}", "label": ("no", "yes")[n % 2]} for n in range(6)]

    def fill(word: str) -> None:
        changed = [{**row, "text": row["text"].replace("order", word)} for row in rows]
        if kind == "saved":
            Dataset.from_list(changed).save_to_disk(str(folder))
        else:
            write(folder / "train.jsonl", changed)
        for path in folder.iterdir():
            os.utime(path, (1_700_000_000, 1_700_000_000))

    for word in ("order", "refun"):
        fill(word)
        data = TextClassificationDataModule(
            model_name_or_path=tiny("bert"),
            dataset_name=str(folder),
            validation_split_percentage=0,
            text_column_names="text",
        )
        data.setup("fit")
        wanted = data.tokenizer.batch_decode(data.tokenizer([f"{word} {n}" for n in range(6)])["input_ids"])
        assert texts_in(data) == sorted(wanted)


@pytest.mark.parametrize("kind", ["memory", "saved", "files"])
def test_other_streamed_rows_have_another_validation_set(kind: str, tiny, tmp_path: Path) -> None:
    seen = []
    for word in ("order", "refund"):
        rows = [{"text": f"{word} {n}", "label": ("no", "yes")[n % 2]} for n in range(100)]
        options: dict = {"dataset": rows}
        if kind == "saved":
            Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
            options = {"dataset_name": str(tmp_path / "saved")}
        if kind == "files":
            options = {"train_file": write(tmp_path / "rows.jsonl", rows)}
        data = TextClassificationDataModule(
            model_name_or_path=tiny("bert"), streaming=True, label_names=["no", "yes"], **options
        )
        data.setup("fit")
        store = data.features["validation"][""].store
        seen.append(data.tokenizer.decode(store[0]["input_ids"]))
    assert "order" in seen[0]
    assert "refund" in seen[1]


def test_the_models_limit_is_part_of_the_key(tiny, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny("bert"), folder)
    rows = [{"text": "word " * 150, "label": ("no", "yes")[n % 2]} for n in range(8)]
    longest = []
    for limit in (160, 64):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": limit}))
        data = TextClassificationDataModule(model_name_or_path=str(folder), dataset=rows, max_seq_length=None)
        data.setup("fit")
        longest.append(int(data.features["train"][""].store.lengths().max()))
    assert longest[0] > longest[1] == 64


def test_one_file_read_in_two_ways(tiny, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;b,no\nc;d,yes\n" * 5)
    source = {"train_file": str(tmp_path / "t.csv"), "validation_split_percentage": 0}
    data = TextClassificationDataModule(
        model_name_or_path=tiny("bert"),
        text_column_names="text",
        sources={
            "comma": {**source, "column_names": ["text", "label"]},
            "semicolon": {**source, "column_names": ["label", "text"], "delimiter": ";"},
        },
    )
    data.setup("fit")
    assert set(data.description["labels"]) == {"no", "yes", "a", "c"}


def test_rows_in_memory_are_not_in_the_checkpoint(tiny, tmp_path: Path) -> None:
    model = tiny("bert")
    data = TextClassificationDataModule(
        model_name_or_path=model, sources={"one": {"dataset": ROWS}}, text_column_names="text"
    )
    module = TextClassificationModule(model_name_or_path=model)
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = Trainer(max_epochs=2, limit_val_batches=0, **quiet)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    saved = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert saved["datamodule_hyper_parameters"]["sources"] == {"one": {}}


def test_one_data_module_in_several_fits(tiny, tmp_path: Path) -> None:
    model = tiny("bert")
    data = TextClassificationDataModule(model_name_or_path=model, dataset=ROWS, text_column_names="text", batch_size=4)
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "limit_val_batches": 0}
    saving = ModelCheckpoint(tmp_path, filename="x", every_n_train_steps=4)
    Trainer(max_steps=4, callbacks=[saving], **quiet).fit(TextClassificationModule(model_name_or_path=model), data)
    for resume, steps in ((tmp_path / "x.ckpt", 10), (None, 10)):  # 38 rows in batches of 4
        trainer = Trainer(max_epochs=1, enable_checkpointing=False, **quiet)
        trainer.fit(TextClassificationModule(model_name_or_path=model), data, ckpt_path=resume, weights_only=False)
        assert trainer.global_step == steps
    trainer.test(
        TextClassificationModule(model_name_or_path=model),
        TextClassificationDataModule(
            model_name_or_path=model, dataset={"train": ROWS, "test": ROWS}, text_column_names="text"
        ),
        verbose=False,
    )
    trainer.save_checkpoint(tmp_path / "y.ckpt")


@pytest.mark.parametrize(
    ("rows", "actions", "message"),
    [
        ([{"text": "\u200b", "label": "no"}], {"empty_text": "error"}, r"row \d+, one of the rows that have no text"),
        ([{"text": "na\u00c3\u00afve caf\u00c3\u00a9", "label": "no"}], {"mojibake": "error"}, "look garbled"),
        ([{"text": "a", "label": "no"}], {"duplicate": "drop"}, "on_bad_rows: duplicate: drop needs to know all rows"),
    ],
)
def test_row_checks_of_a_stream(rows: list, actions: dict, message: str, tiny) -> None:
    data = TextClassificationDataModule(
        model_name_or_path=tiny("bert"), dataset=rows * 20, streaming=True, label_names=["no", "yes"],
        on_bad_rows=actions, validation_split_percentage=0,
    )  # fmt: skip

    def first_batch() -> None:
        data.setup("fit")
        next(iter(data.train_dataloader()))

    with pytest.raises(UserError, match=message):
        first_batch()
