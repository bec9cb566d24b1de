"""Any option with any value: a run, or an error of ours (or the parser's) that names it; never a bare traceback."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_ft import (
    CausalLMDataModule,
    CausalLMModule,
    InstructionTuningDataModule,
    InstructionTuningModule,
    MaskedLMDataModule,
    MaskedLMModule,
    MultipleChoiceDataModule,
    MultipleChoiceModule,
    PreferenceDataModule,
    PreferenceModule,
    QuestionAnsweringDataModule,
    QuestionAnsweringModule,
    TextClassificationDataModule,
    TextClassificationModule,
    cli,
)
from lit_ft.errors import UserError
from lit_ft.objects import option_defaults
from tests.tiny import SAMPLE

TEMPLATE = ["--data.chat_template=chatml"]
TASKS: dict[str, tuple[type, type, str, list[str]]] = {
    "classification": (
        TextClassificationModule, TextClassificationDataModule, "bert", ["--data.text_column_names=text"],
    ),
    "masked_lm": (MaskedLMModule, MaskedLMDataModule, "bert", ["--data.text_column_name=text"]),
    "causal_lm": (CausalLMModule, CausalLMDataModule, "gpt2", ["--data.text_column_name=text"]),
    "question_answering": (
        QuestionAnsweringModule, QuestionAnsweringDataModule, "bert",
        ["--data.question_column_name=label", "--data.context_column_name=text", "--data.answer_column_name=text",
         "--data.max_seq_length=64", "--data.doc_stride=8"],
    ),
    "multiple_choice": (MultipleChoiceModule, MultipleChoiceDataModule, "bert", ["--data.label_column_name=label"]),
    "instruction_tuning": (InstructionTuningModule, InstructionTuningDataModule, "llama", TEMPLATE),
    "preference": (PreferenceModule, PreferenceDataModule, "llama", TEMPLATE),
}  # fmt: skip
FILES = {"instruction_tuning": "chats_train.jsonl", "preference": "preferences_train.jsonl"}
CHOICES = "prompt,ending0,ending1,label\n" + "".join(f"order {n},is late,is lost,{n % 2}\n" for n in range(12))
LEFT_ALONE = {
    "dataset",  # from Python only
    "torch_compile",  # minutes
    "num_workers", "preprocessing_num_workers",  # processes by the thousand
    "preparation_dir", "cache_dir",  # folders of any name
}  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([
        "", "null", "true", "false", "on", "off", "auto", "0", "1", "-1", "2", "3.5", "-0.5", "1e-5", "1e400", "nan",
        "~", "[]", "{}", "[1, 2]", '["a"]', '{"a": 1}', "text", "label", "txet", "linear", "lineer", "bert", "../..",
        "/", str(SAMPLE / "train.csv"), "package://lit_ft/sample_data/train.csv", "999999999999", "é",
    ]),
    st.integers(-5, 5000).map(str),
    st.floats(-2, 2).map(str),
    st.text("abc_-:{}[]\"'#&*!| ", max_size=8),
)  # fmt: skip


@st.composite
def changed(draw: Any, task: str) -> list[str]:
    """One or two options of a task with any values; one in five is misspelt."""
    module, data, _, _ = TASKS[task]
    wings = {"model": option_defaults(module), "data": option_defaults(data)}
    options = [(wing, name) for wing, names in wings.items() for name in names if name not in LEFT_ALONE]
    words = []
    for wing, name in draw(st.lists(st.sampled_from(options), min_size=1, max_size=2)):
        if not draw(st.integers(0, 4)):
            place = draw(st.integers(0, len(name) - 1))
            name = name[:place] + name[place + 1 :]
        words.append(f"--{wing}.{name}={draw(VALUES)}")
    return words


def run(task: str, words: list[str], model: str, root: Path) -> str:
    """Fits one step; returns how it ended."""
    module, data, _, own = TASKS[task]
    file = SAMPLE / "train.csv"
    if task in FILES:
        file = SAMPLE / FILES[task]
    if task == "multiple_choice":
        file = root / "choices.csv"
        file.write_text(CHOICES)
    base = [
        "fit", f"--model={module.__name__}", f"--data={data.__name__}", f"--model.model_name_or_path={model}",
        f"--data.train_file={file}", *own, "--data.max_train_samples=8", "--data.max_eval_samples=4",
        "--trainer.max_steps=1", f"--trainer.default_root_dir={root}", f"--data.preparation_dir={root / 'prepared'}",
        "--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.enable_checkpointing=false",
        "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--export.enabled=false",
        "--trainer.num_sanity_val_steps=0",
    ]  # fmt: skip
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            cli.main([*base, *words])
    except UserError as error:
        return str(error)
    except SystemExit:
        return said.getvalue()
    return "ran"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("examples", [8, pytest.param(170, marks=pytest.mark.soak)])
def test_any_option(task: str, examples: int, tiny: Callable[..., str], tmp_path: Path) -> None:
    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(changed(task))
    def tried(words: list[str]) -> None:
        assert run(task, words, tiny(TASKS[task][2]), tmp_path).strip()

    tried()


def test_a_misspelt_value_names_the_right_one(tiny: Callable[..., str], tmp_path: Path) -> None:
    for task, word, expected in (
        ("classification", "--model.lr_scheduler_type=lineer", "'linear'"),
        ("classification", "--data.train_sampling_strategy=radnom", "random"),
        ("masked_lm", "--data.mlm_probabilty=0.2", "'mlm_probability'"),
        ("causal_lm", "--data.max_seq_length=20", "--data.block_size"),
        ("causal_lm", "--data.text_column_name=txet", "'text'"),
        ("question_answering", "--data.context_column_name=txet", "'text'"),
        ("question_answering", "--data.on_bad_answer=dorp", "drop"),
        ("multiple_choice", "--data.choice_column=ending0", "'choice_column_names'"),
        ("multiple_choice", "--data.label_kind=leter", "letter"),
        ("instruction_tuning", "--model.loss_weighting=exmaple", "example"),
        ("instruction_tuning", "--data.train_on=asistant", "'assistant'"),
        ("preference", "--model.loss_type=simgoid", "sigmoid"),
        ("preference", "--data.chat_template=chatlm", "'chatml'"),
    ):
        said = run(task, [word], tiny(TASKS[task][2]), tmp_path)
        assert expected in said, said
