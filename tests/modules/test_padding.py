"""The option `padding_free` in real Trainers: losses, metrics, predictions and weights are those with padding."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from lit_ft import (
    CausalLMDataModule,
    CausalLMModule,
    MaskedLMDataModule,
    MaskedLMModule,
    MultipleChoiceDataModule,
    MultipleChoiceModule,
    TextClassificationDataModule,
    TextClassificationModule,
    TokenClassificationDataModule,
    TokenClassificationModule,
)
from lit_ft.errors import UserError
from lit_ft.ops.padding_free.attention import PREFIX
from tests.contract import KeepWeights
from tests.modules.conftest import NO_DROPOUT, sample_rows
from tests.modules.test_training_parity import Recorder, furthest, weights
from tests.processes import two_processes
from tests.sentences import TAGS, sentences
from tests.tiny import texts

OPTIMIZER = {"learning_rate": 1e-3, "adam_epsilon": 1e-3}
"""With a larger epsilon AdamW does not blow float noise up to whole steps."""


@pytest.fixture(scope="module")
def folders(headed: str, tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny model with head for each task, dropout off."""
    made = {"classification": headed}
    for task, kind, auto in (
        ("masked", "bert", AutoModelForMaskedLM),
        ("causal", "llama", AutoModelForCausalLM),
        ("choice", "bert", AutoModelForMultipleChoice),
        ("tags", "bert", AutoModelForTokenClassification),
    ):
        folder = str(tmp_path_factory.mktemp(task))
        torch.manual_seed(1)
        names = {"id2label": dict(enumerate(TAGS))} if task == "tags" else {}
        auto.from_pretrained(tiny(kind), **(NO_DROPOUT if kind == "bert" else {}), **names).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny(kind)).save_pretrained(folder)
        made[task] = folder
    return made


def data_for(task: str, folder: str, batch_size: int = 6) -> Any:
    options: dict[str, Any] = {"model_name_or_path": folder, "batch_size": batch_size, "eval_batch_size": 7}
    if task == "classification":
        parts = {"train": sample_rows(120), "validation": sample_rows(23, "validation"), "test": sample_rows(9)}
        names = {"text_column_names": "text", "label_column_name": "label"}
        return TextClassificationDataModule(dataset=parts, max_seq_length=48, **names, **options)
    if task == "choice":
        choices = [
            {"question": text[:30], "options": [text[at : 9 + 7 * at] for at in range(2 + row % 3)], "label": row % 2}
            for row, text in enumerate(texts()[:152])
        ]
        parts = {"train": choices[:120], "validation": choices[120:143], "test": choices[143:]}
        columns = {"question_column_name": "question", "choice_column_names": "options"}
        return MultipleChoiceDataModule(dataset=parts, max_seq_length=48, **columns, **options)
    if task == "tags":
        sets = {"train": sentences(120), "validation": sentences(23, 200), "test": sentences(9, 300)}
        names = {"text_column_name": "tokens", "label_column_name": "tags"}
        return TokenClassificationDataModule(dataset=sets, max_seq_length=24, **names, **options)
    rows = [{"text": text} for text in texts()]
    parts = {"train": rows[:120], "validation": rows[120:143]}
    if task == "masked":
        return MaskedLMDataModule(dataset=parts, max_seq_length=48, line_by_line=True, **options)
    return CausalLMDataModule(dataset=parts, block_size=48, packing="none", isolate_documents=False, **options)


MODULES = {
    "classification": TextClassificationModule,
    "choice": MultipleChoiceModule,
    "tags": TokenClassificationModule,
    "masked": MaskedLMModule,
    "causal": CausalLMModule,
}
TASKS = list(MODULES)


class TokensWorkedOn(Callback):
    """Notes how many tokens the linear layers see at most in each batch, and how many places there are."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        tokens = [0]

        def note(_: Any, args: Any) -> None:
            tokens.append(args[0].numel() // args[0].shape[-1])

        layers = [module for module in pl_module.model.modules() if isinstance(module, torch.nn.Linear)]
        self.handles = [layer.register_forward_pre_hook(note) for layer in layers]
        self.tokens, self.places = tokens, batch["input_ids"].numel()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen.append((max(self.tokens), self.places))
        for handle in self.handles:
            handle.remove()


def run(
    task: str, folder: str, option: str, trainer: Callable[..., Trainer], batch_size: int = 6, **kwargs: Any
) -> tuple[Any, list[float], dict[str, float], list[tuple[int, int]]]:
    """Trains a few steps and validates; returns the module, losses, metrics, and what it worked on."""
    more = {name: kwargs.pop(name) for name in ("gradient_checkpointing", "dtype") if name in kwargs}
    seed_everything(1)
    module = MODULES[task](model_name_or_path=folder, padding_free=option, **OPTIMIZER, **more)
    recorder, count = Recorder(), TokensWorkedOn()
    fitting = trainer(
        **{"max_steps": 8, "val_check_interval": 1, "gradient_clip_val": 1.0, "callbacks": [recorder, count], **kwargs}
    )
    fitting.fit(module, data_for(task, folder, batch_size))
    return module, recorder.losses, {k: float(v) for k, v in fitting.callback_metrics.items()}, count.seen


@pytest.mark.parametrize("task", TASKS)
def test_the_same_training_and_scores(
    task: str, folders: dict[str, str], trainer: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lit_ft"):
        found = {option: run(task, folders[task], option, trainer) for option in ("off", "auto", "on")}
    assert "padding is computed" not in caplog.text
    padded, losses, metrics, seen = found["off"]
    assert all(tokens == places for tokens, places in seen)
    for option in ("auto", "on"):
        module, mine, scores, worked_on = found[option]
        assert len(worked_on) == len(seen) == 8
        assert sum(tokens for tokens, _ in worked_on) < 0.9 * sum(places for _, places in worked_on)
        np.testing.assert_allclose(mine, losses, rtol=1e-5)
        assert furthest(weights(module), weights(padded)) < 1e-5
        assert scores.keys() == metrics.keys() > {"val_loss", "train_loss"}
        for name, value in metrics.items():
            assert scores[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("task", ["classification", "choice", "tags"])
def test_the_same_predictions(task: str, folders: dict[str, str], trainer: Callable[..., Trainer]) -> None:
    predicted = {}
    for option in ("off", "on"):
        seed_everything(1)
        module = MODULES[task](model_name_or_path=folders[task], padding_free=option)
        data = data_for(task, folders[task])
        tested = trainer().test(module, data)[0]
        batches = trainer().predict(module, data)
        predicted[option] = [row for batch in batches for row in batch], tested
    (rows, tested), (others, tested_flat) = predicted["off"], predicted["on"]
    assert len(rows) == len(others) > 0
    assert tested_flat == pytest.approx(tested, rel=1e-4, abs=1e-6)
    for one, other in zip(rows, others, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if isinstance(value, (dict, float)) or name == "scores":
                assert other[name] == pytest.approx(value, rel=1e-4, abs=1e-6)
            else:
                assert other[name] == value


@pytest.mark.parametrize("option", ["off", "auto"])
def test_off_leaves_the_model_alone(option: str, folders: dict[str, str], trainer: Callable[..., Trainer]) -> None:
    module = run("classification", folders["classification"], option, trainer, max_steps=1)[0]
    names = {name for each in module.model.modules() for name in ("forward",) if name in vars(each)}
    ours = module.model.config._attn_implementation.startswith(PREFIX) or bool(names)
    assert ours == (option == "auto")


def test_on_is_an_error_where_the_model_cannot(tiny: Callable[..., str], trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(UserError, match=r"padding_free: on: .*AttentionInterface; set it to auto"):
        run("classification", tiny("convbert"), "on", trainer, max_steps=1)


def test_auto_says_where_the_model_cannot(
    tiny: Callable[..., str], trainer: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lit_ft"):
        run("classification", tiny("convbert"), "auto", trainer, max_steps=2)
    assert caplog.text.count("padding is computed: ConvBertForSequenceClassification computes attention without") == 1


@pytest.mark.parametrize("task", TASKS)
def test_accumulated_gradients_equal_those_with_padding(
    task: str, folders: dict[str, str], trainer: Callable[..., Trainer]
) -> None:
    whole, parts = {"max_steps": 3, "batch_size": 12}, {"max_steps": 3, "batch_size": 4, "accumulate_grad_batches": 3}
    expected = weights(run(task, folders[task], "off", trainer, **whole)[0])
    assert furthest(weights(run(task, folders[task], "on", trainer, **parts)[0]), expected) < 1e-5


@pytest.mark.parametrize("task", TASKS)
def test_recomputed_activations_give_the_same(
    task: str, folders: dict[str, str], trainer: Callable[..., Trainer]
) -> None:
    expected = run(task, folders[task], "off", trainer, max_steps=4)
    found = run(task, folders[task], "on", trainer, max_steps=4, gradient_checkpointing=True)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)
    assert furthest(weights(found[0]), weights(expected[0])) < 1e-5


@pytest.mark.parametrize("precision", ["bf16-mixed", pytest.param("bf16-true", marks=pytest.mark.soak)])
@pytest.mark.parametrize("task", TASKS)
def test_half_precision(task: str, precision: str, folders: dict[str, str], trainer: Callable[..., Trainer]) -> None:
    losses = [
        run(task, folders[task], option, trainer, max_steps=4, precision=precision)[1] for option in ("off", "on")
    ]
    assert all(math.isfinite(loss) for loss in losses[1])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.03)


def test_dropout_trains_in_half_precision(folders: dict[str, str], tiny: Callable[..., str], trainer: Any) -> None:
    for task, kind in (("classification", "bert"), ("causal", "llama")):
        losses = run(task, tiny(kind), "on", trainer, max_steps=4, precision="bf16-mixed")[1]
        assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.soak  # tests/test_contract.py has two processes, too
@pytest.mark.parametrize("task", ["tags", "choice"])
def test_two_processes_equal_one_with_padding(
    task: str, folders: dict[str, str], tmp_path: Path, trainer: Callable[..., Trainer]
) -> None:
    one = run(task, folders[task], "off", trainer, batch_size=8, max_steps=4)
    path = tmp_path / "two.pt"
    spread = {**two_processes(), "callbacks": [KeepWeights(path)]}
    two = run(task, folders[task], "on", trainer, batch_size=4, max_steps=4, **spread)
    assert furthest(weights(one[0]), torch.load(path, weights_only=True)) < 1e-5
    for name in one[2].keys() - {"train_loss"}:  # that of one process's own rows
        assert two[2][name] == pytest.approx(one[2][name], rel=1e-4, abs=1e-6), name
