"""Every bad input gets one message that names place and fix, without a traceback, before any weights are loaded."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from lit_ft import cli
from lit_ft.__main__ import entry
from lit_ft.errors import UserError

Run = Callable[..., None]
ROWS = [
    {"text": f"message number {n} about {('billing', 'delivery')[n % 2]}", "label": ("pay", "ship")[n % 2]}
    for n in range(20)
]


@pytest.fixture
def run(tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(tiny, tmp_path, monkeypatch)


def runner(tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on good rows with one thing wrong; loading weights would fail the test."""

    def no_weights(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("weights were loaded before the input was checked")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", no_weights)
    write(tmp_path / "good.jsonl", ROWS)

    def start(*words: str, command: str = "fit", model: str | None = None, task: str = "TextClassification") -> None:
        good = tmp_path / "good.jsonl"
        cli.main(
            [
                command,
                f"--model={task}Module",
                f"--data={task}DataModule",
                f"--model.model_name_or_path={model or tiny('gpt2' if task == 'CausalLM' else 'bert')}",
                f"--data.train_file={good}",
                f"--data.validation_file={good}",
                f"--data.test_file={good}",
                f"--trainer.default_root_dir={tmp_path / 'runs'}",
                "--trainer.max_epochs=1",
                "--trainer.enable_progress_bar=false",
                *words,
            ]
        )

    return start


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


FILES = {
    "missing": ("godo.jsonl", None, r"godo\.jsonl: no such file — did you mean 'good\.jsonl'\?"),
    "wrong extension": ("rows.xls", b"text,label\n", r"rows\.xls: cannot read files of type 'xls'; known: csv, tsv"),
    "empty": ("rows.csv", b"", r"rows\.csv: the file is empty"),
    "header only": ("rows.csv", b"text,label\n", r"rows\.csv: only a header, no rows; columns: \['text', 'label'\]"),
    "not utf-8": (
        "rows.csv",
        "text,label\nok,a\ncaf\u00e9,b\n".encode("latin1"),
        r"rows\.csv: line 3 is not UTF-8 \(byte 0xe9\)",
    ),
    "broken json": ("rows.jsonl", b'{"text": "a", "label": "b"}\n{"text": "a"\n', r"rows\.jsonl: line 2: broken JSON"),
    "ragged csv": ("rows.csv", b"text,label\na,b\na,b,c\n", r"rows\.csv: .*Expected 2 columns, got 3"),
    "cut gzip": ("rows.csv.gz", gzip.compress(b"text,label\na,b\n" * 99)[:-20], r"rows\.csv\.gz: not a complete gzip"),
    "one label": ("rows.csv", b"text,label\na,x\nb,x\n", r"rows\.csv: column 'label' has one label only \(\['x'\]\)"),
    "no labels": ("rows.jsonl", b'{"text": "a", "label": null}\n' * 2, r"rows\.jsonl: no row has a label in column"),
    "nested text": (
        "rows.jsonl",
        b'{"text": {"en": "a"}, "label": "x"}\n{"text": {"en": "b"}, "label": "y"}\n',
        r"rows\.jsonl: column 'text' is nested \(.*\), not text; name another column, or flatten it",
    ),
    "null label": (
        "rows.csv",
        b"text,label\na,x\nb,\nc,y\n",
        r"rows\.csv: 1 of 3 rows have no label .*the first is row 2;",
    ),
    "other column": ("rows.csv", b"txt,label\na,x\nb,y\n", r"rows\.csv has no column 'text'.*did you mean 'txt'\?"),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_train_files(name: str, run: Run, tmp_path: Path) -> None:
    file, content, message = FILES[name]
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        run(f"--data.train_file={tmp_path / file}", "--data.text_column_names=text")


OPTIONS = {
    "misspelt column": (
        ["--data.text_column_names=txet"],
        r"good\.jsonl has no column 'txet'; .*did you mean 'text'\?",
    ),
    "misspelt label": (["--data.label_column_name=lable"], r"has no column 'lable'; .*did you mean 'label'\?"),
    "regression on names": (
        ["--data.problem_type=regression"],
        r"row 1, .*'pay' is no number, but problem_type is regression",
    ),
    "multi-label on names": (
        ["--data.problem_type=multi_label"],
        r"row 1, .*problem_type is multi_label: set label_delimiter",
    ),
    "monitor": (
        ["--checkpoint.monitor=val_acuracy"],
        r"monitors 'val_acuracy', which is not logged — did you mean 'val_accuracy'\?",
    ),
    "too long": (["--data.max_seq_length=4096"], r"max_seq_length 4096 is above the model's 160 tokens"),
    "warmup": (
        ["--model.num_warmup_steps=100"],
        r"warmup of 100 steps is longer than the training of 3 optimizer steps",
    ),
    "schedule": (["--model.lr_scheduler_type=linaer"], r"unknown lr_scheduler_type 'linaer'.*did you mean 'linear'\?"),
    "metric": (['--model.metrics=["MulticlassCohenKapa"]'], r"no such name in .*did you mean 'MulticlassCohenKappa'\?"),
    "loss": (["--model.loss=FocalLos"], r"'FocalLos': no such name in .*"),
    "class weights": (["--model.class_weights=[1.0,2.0,3.0]"], r"class_weights has 3 values for 2 labels"),
    "unknown option": (["--model.learning_rat=1"], r"has no option 'learning_rat' — did you mean 'learning_rate'\?"),
    "two values": (
        ["--data.model_name_or_path=other"],
        r"data\.model_name_or_path is 'other', .*set it on the model only",
    ),
    "config override": (['--model.config_overrides={"hidden_dropout": 0.1}'], r"no 'hidden_dropout' — did you mean"),
    "stride": (["--data.max_seq_length=20", "--data.stride=19"], r"stride 19 must be below half"),
    "no rows left to train": (["--data.train_file=null"], r"no train rows: set train_file"),
    "batch size": (["--data.batch_size=0"], r"batch_size is 0; it must be at least 1"),
    "workers": (["--data.num_workers=-1"], r"num_workers is -1; it must be at least 0"),
    "seed of the order": (["--data.data_seed=-1"], r"data_seed is -1; it must be at least 0"),
    "share": (["--data.validation_split_percentage=150"], r"validation_split_percentage 150.* is not from 0 to 99"),
    "set name": (['--data.validation_file={"a/b": "x.csv"}'], r"'a/b' cannot name a set"),
    "folder": (["--trainer.default_root_dir=/proc/none"], r"default_root_dir '/proc/none' cannot be made"),
    "scheduler alone": (["--lr_scheduler=StepLR", "--lr_scheduler.step_size=1"], r"--lr_scheduler needs --optimizer"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_bad_options(name: str, run: Run) -> None:
    words, message = OPTIONS[name]
    with pytest.raises(UserError, match=message):
        run(*words)


def test_label_of_validation_unknown_to_train(run: Run, tmp_path: Path) -> None:
    rows = write(tmp_path / "val.jsonl", [*ROWS[:3], {"text": "x", "label": "shipp"}])
    with pytest.raises(
        UserError, match=r"val\.jsonl: row 4, .*label 'shipp' is unknown; labels: .*did you mean 'ship'\?"
    ):
        run(f"--data.validation_file={rows}")


def test_folder_that_is_no_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty' holds no tokenizer|empty' is no model"):
        run(model=str(tmp_path / "empty"))


@pytest.mark.parametrize("command", ["test", "predict", "fit"])
@pytest.mark.parametrize("name", ["last", "best"])
def test_no_checkpoint_is_an_error(name: str, command: str, run: Run) -> None:
    with pytest.raises(UserError, match=r"no run with a checkpoint under .*runs"):
        run(f"--ckpt_path={name}", command=command)


def test_checkpoint_that_is_none_of_ours(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"x\.ckpt is damaged \(File is not a zip file\): take another one"):
        run(f"--ckpt_path={tmp_path / 'x.ckpt'}", command="test")
    with pytest.raises(UserError, match=r"y\.ckpt': no such file or run folder — did you mean .*x\.ckpt"):
        run(f"--ckpt_path={tmp_path / 'y.ckpt'}", command="test")


def test_console_command_ends_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: Callable[..., str]
) -> None:
    words = [
        "fit",
        "--model=TextClassificationModule",
        "--data=TextClassificationDataModule",
        "--data.train_file=nowhere.csv",
    ]
    monkeypatch.setattr("sys.argv", ["lit-ft", *words, f"--model.model_name_or_path={tiny('bert')}"])
    with pytest.raises(SystemExit) as ended:
        entry()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("lit-ft: error: nowhere.csv: no such file")
