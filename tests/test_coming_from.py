"""The tables of docs/coming_from: every option of the scripts and of TrainingArguments is there, and ours are real."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest
import transformers
import yaml
from jsonschema import Draft7Validator
from lightning.pytorch import Callback
from transformers import Trainer, TrainerCallback, TrainingArguments

import lit_ft
from tests.tutorials.options import known, schema
from tests.tutorials.pages import blocks

ROOT = Path(__file__).parents[1]
PAGES, PINNED = ROOT / "docs" / "coming_from", (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
TASKS = {
    "run_glue": ("TextClassification",),
    "run_mlm": ("MaskedLM",),
    "run_clm": ("CausalLM",),
    "trainer": ("TextClassification", "InstructionTuning"),
}
OF_MODEL = (
    "model_name_or_path", "config_name", "tokenizer_name", "cache_dir", "use_fast_tokenizer", "model_revision", "token",
    "trust_remote_code",
)  # fmt: skip
OF_TEXTS = (
    *OF_MODEL, "model_type", "config_overrides", "dtype", "dataset_name", "dataset_config_name", "train_file",
    "validation_file", "max_train_samples", "max_eval_samples", "streaming", "overwrite_cache",
    "validation_split_percentage", "preprocessing_num_workers",
)  # fmt: skip
SCRIPTS = {
    "run_glue": (
        *OF_MODEL, "ignore_mismatched_sizes", "task_name", "dataset_name", "dataset_config_name", "max_seq_length",
        "overwrite_cache", "pad_to_max_length", "max_train_samples", "max_eval_samples", "max_predict_samples",
        "train_file", "validation_file", "test_file",
    ),
    "run_mlm": (*OF_TEXTS, "max_seq_length", "mlm_probability", "line_by_line", "pad_to_max_length"),
    "run_clm": (*OF_TEXTS, "block_size", "keep_linebreaks"),
}  # fmt: skip
"""Fields of ModelArguments and DataTrainingArguments of transformers' examples, which no package ships."""
OPTION = re.compile(r"`((?:model|data|trainer|checkpoint|export|predictions|loss_guard)\.(\w+)[\w.]*)`")
FLAG = re.compile(r"`--(\w+)[\w.]*[^`]*`")
ELSE = re.compile(r"not (needed|there): |`lit-ft |`HF_TOKEN`|the YAML file$")
"""What a row says where it names no option."""


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def rows(name: str) -> list[tuple[str, str]]:
    """The rows of the tables of a page whose last column is headed `here`."""
    found, ours = [], False
    for line in page(name).splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) != 2:
            ours = False
        elif cells[1] == "here":
            ours = True
        elif ours and set(cells[0]) != {"-"}:
            found.append((cells[0], cells[1]))
    return found


def named(name: str) -> list[str]:
    return [left.strip("`") for left, _ in rows(name)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_argument_of_a_script_has_its_row(name: str) -> None:
    assert sorted(named(name)) == sorted(SCRIPTS[name])


def test_every_field_of_the_trainer_has_its_row() -> None:
    listed = named("trainer")
    fields = [field.name for field in dataclasses.fields(TrainingArguments)]
    own = [each for each in inspect.signature(Trainer.__init__).parameters if each != "self"]
    assert not {*fields, *own} - {*listed}
    assert len(listed) == len({*listed})
    strangers = {*listed} - {*fields, *own}
    if f"transformers=={transformers.__version__}" in PINNED:  # the table is of that release: others have other fields
        assert all("Callback" in stranger for stranger in strangers), strangers


@pytest.mark.parametrize("name", TASKS)
def test_our_options_are_there(name: str) -> None:
    ours = known(f"{task}{end}" for task in TASKS[name] for end in ("Module", "DataModule"))
    for left, right in rows(name):
        options, flags = OPTION.findall(right), FLAG.findall(right)
        assert options or flags or ELSE.search(right), f"{name}.md: {left} leads nowhere: {right}"
        for whole, option in options:
            assert option in ours[whole.partition(".")[0]], f"{name}.md: {left}: there is no {whole}"
        for flag in flags:
            assert flag in ours[""], f"{name}.md: {left}: there is no --{flag}"


def test_hooks_of_callbacks_and_modules_are_there() -> None:
    text = page("trainer")
    hooks = text.partition("| TrainerCallback | ")[2].partition("\n\n")[0].splitlines()[2:]
    for line in hooks:
        left, right = (re.findall(r"`(on_\w+)`", cell) for cell in line.split("|")[1:3])
        assert all(hasattr(TrainerCallback, hook) for hook in left), line
        assert all(hasattr(Callback, hook) for hook in right), line
    for hook in ("loss", "metrics", "update", "compute", "decode", "configure_optimizers"):
        assert hasattr(lit_ft.TextClassificationModule, hook)
        assert f"`{hook}" in text


@pytest.mark.parametrize("name", TASKS)
def test_yaml_is_as_the_schema_says(name: str) -> None:
    found = [yaml.safe_load(block.text) for block in blocks(page(name)) if (block.title or "").endswith(".yaml")]
    assert found
    for config in found:
        assert not [*Draft7Validator(schema()).iter_errors(config)]
