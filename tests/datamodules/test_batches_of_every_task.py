"""Batches of similar length and token budgets in every task: the gradient of a step is that of its labelled tokens."""

import copy
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn.functional import cross_entropy

from lit_ft import (
    CausalLMDataModule,
    CausalLMModule,
    MaskedLMDataModule,
    MaskedLMModule,
    MultipleChoiceDataModule,
    MultipleChoiceModule,
    QuestionAnsweringDataModule,
    QuestionAnsweringModule,
    TextClassificationDataModule,
    TextClassificationModule,
    TokenClassificationDataModule,
    TokenClassificationModule,
)
from lit_ft.errors import UserError
from tests.questions import question_rows
from tests.sentences import sentences
from tests.tiny import texts

ROWS = [{"text": text, "label": ("no", "yes")[number % 2]} for number, text in enumerate(texts()[:60])]
CHOICES = [
    {"context": text[: 10 + number], "options": [text[-4 - at * number % 9 :] for at in range(3)], "label": number % 3}
    for number, text in enumerate(texts()[:60])
]
OFF = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
DECODER_OFF = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
TASKS: dict[str, tuple[Any, Any, str, dict[str, Any]]] = {
    "classification": (TextClassificationDataModule, TextClassificationModule, "bert", {}),
    "multiple choice": (
        MultipleChoiceDataModule, MultipleChoiceModule, "bert",
        {"dataset": CHOICES, "context_column_name": "context", "choice_column_names": "options"},
    ),
    "questions": (
        QuestionAnsweringDataModule, QuestionAnsweringModule, "bert",
        {"dataset": question_rows(40, unanswerable=True), "max_seq_length": 48, "doc_stride": 12},
    ),
    "tags": (
        TokenClassificationDataModule, TokenClassificationModule, "bert",
        {"dataset": sentences(60), "text_column_name": "tokens", "label_column_name": "tags", "max_seq_length": 24},
    ),
    "masked lines": (MaskedLMDataModule, MaskedLMModule, "bert", {"line_by_line": True}),
    "masked blocks": (MaskedLMDataModule, MaskedLMModule, "bert", {"max_seq_length": 24}),
    "causal rows": (CausalLMDataModule, CausalLMModule, "gpt2", {"packing": "none", "block_size": 64}),
    "causal blocks": (CausalLMDataModule, CausalLMModule, "gpt2", {"block_size": 24}),
    "causal packed": (
        CausalLMDataModule, CausalLMModule, "gpt2",
        {"packing": "best_fit", "block_size": 64, "isolate_documents": False},
    ),
}  # fmt: skip
ACCUMULATED = 3


def data_of(task: str, model: str, **options: Any) -> Any:
    return TASKS[task][0](
        model_name_or_path=model,
        **{"dataset": ROWS, "validation_split_percentage": 0, "batch_size": 4, **TASKS[task][3], **options},
    )


def labels_of(batch: dict[str, Tensor]) -> Tensor:
    """Labels of a batch; of answers to questions the first and the last token."""
    return batch["labels"] if "labels" in batch else torch.stack([batch["start_positions"], batch["end_positions"]], 1)


def rows_alone(batch: dict[str, Tensor]) -> list[tuple[dict[str, Tensor], Tensor]]:
    """Inputs and labels of each row without padding, of each document where they are kept apart."""
    alone = []
    for number, ids in enumerate(batch["input_ids"]):
        labels = labels_of(batch)[number]
        if ids.ndim == 2:  # choices: as wide as the longest of this row
            mask = batch["attention_mask"][number]
            columns = {"input_ids": ids, "attention_mask": mask, "token_type_ids": batch["token_type_ids"][number]}
            alone.append(({name: value[:, mask.any(0)][None] for name, value in columns.items()}, labels))
            continue
        if "start_positions" in batch:
            real = batch["attention_mask"][number].bool()
            alone.append(({name: batch[name][number][real][None] for name in ("input_ids", "token_type_ids")}, labels))
            continue
        if "attention_mask" in batch:
            real = batch["attention_mask"][number].bool()
            alone.append(({"input_ids": ids[real][None]}, labels[real] if labels.ndim else labels))
            continue
        begins = [*(batch["position_ids"][number] == 0).nonzero()[:, 0].tolist(), len(ids)]
        for start, stop in pairwise(begins):
            alone.append(({"input_ids": ids[start:stop][None]}, labels[start:stop]))
    return alone


def by_hand(model: Any, batches: list[dict[str, Tensor]], causal: bool) -> dict[str, Tensor]:
    """Gradient of the summed loss of all rows, each run by itself, over the count of what is labelled."""
    model.zero_grad()
    total, count = torch.zeros(()), 0
    for inputs, labels in [row for batch in batches for row in rows_alone(batch)]:
        outputs = model(**inputs)
        logits = outputs.logits if "logits" in outputs else torch.cat([outputs.start_logits, outputs.end_logits])
        logits, labels = (logits[0, :-1], labels[1:]) if causal else (logits.reshape(-1, logits.shape[-1]), labels)
        total = total + cross_entropy(logits, labels.reshape(-1), reduction="sum", ignore_index=-100)
        count += int((labels != -100).sum())
    (total / count).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def trained(
    task: str, model: str, folder: Path, **options: Any
) -> tuple[Any, list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Fits for three optimizer steps at a learning rate of 0; returns the module, its batches and its gradients."""
    batches: list[dict[str, Tensor]] = []
    gradients: list[dict[str, Tensor]] = []

    class Noting(TASKS[task][1]):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            batches.append({name: value.clone() for name, value in batch.items()})
            return super().training_step(batch, batch_idx)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            super().on_before_optimizer_step(optimizer)
            gradients.append({name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None})

    torch.manual_seed(0)
    module = Noting(
        model_name_or_path=model, learning_rate=0.0, config_overrides=OFF if "bert" in model else DECODER_OFF
    )
    trainer = Trainer(
        max_steps=3, accumulate_grad_batches=ACCUMULATED, accelerator="cpu", logger=False, default_root_dir=folder,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data_of(task, model, **options))
    return module, batches, gradients


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("options", [{"train_sampling_strategy": "group_by_length"}, {"max_tokens_per_batch": 200}])
def test_a_step_is_the_mean_over_what_is_labelled(
    task: str, options: dict[str, Any], tiny: Any, tmp_path: Path
) -> None:
    module, batches, gradients = trained(task, tiny(TASKS[task][2]), tmp_path, **options)
    counts = {int((labels_of(batch) != -100).sum()) for batch in batches[:ACCUMULATED]}
    if "max_tokens_per_batch" in options:
        assert max(batch["input_ids"].numel() for batch in batches) <= 200
        assert len(counts) > 1 or "blocks" in task  # so that a mean of means would be wrong
    assert len(gradients) == 3
    model = copy.deepcopy(module.model)
    for step, ours in enumerate(gradients):
        some = batches[step * ACCUMULATED : (step + 1) * ACCUMULATED]
        theirs = by_hand(model, some, task.startswith("causal"))
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("task", TASKS)
def test_the_first_batch_is_the_largest(task: str, tiny: Any) -> None:
    for options in ({"train_sampling_strategy": "group_by_length"}, {"max_tokens_per_batch": 200}):
        data = data_of(task, tiny(TASKS[task][2]), **options)
        data.setup("fit")
        for epoch in range(2):
            loader = data.train_dataloader()
            loader.sampler.set_epoch(epoch)
            sizes = [batch["input_ids"].numel() for batch in loader]
            assert sizes[0] == max(sizes)


def notes_of(caplog: pytest.LogCaptureFixture, data: Any) -> list[str]:
    """What is said when training starts."""
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="lit_ft"):
        data.setup("fit")
        for _ in range(2):  # Lightning may make the loader anew
            data.train_dataloader()
    return [record.getMessage() for record in caplog.records if "rows a step" in record.getMessage()]


def test_what_a_choice_changes_is_said_once(tiny: Any, caplog: pytest.LogCaptureFixture) -> None:
    words = [2, 2, 2, 2, 4, 4, 8, 8]  # and [CLS], [SEP]: two rows of 10 tokens, two of 6, four of 4
    rows = [{"text": "a " * size, "label": ("no", "yes")[number % 2]} for number, size in enumerate(words)]
    options = {"dataset": rows, "batch_size": 2}
    assert notes_of(caplog, data_of("classification", tiny(), **options)) == []
    assert notes_of(caplog, data_of("classification", tiny(), **options, train_sampling_strategy="sequential")) == []
    (note,) = notes_of(caplog, data_of("classification", tiny(), **options, max_tokens_per_batch=12))
    # 10 | 10 | 6 6 | 4 4 4 | 4
    assert note.startswith(
        "max_tokens_per_batch 12: 1.6 (1-3) rows a step, 5 steps an epoch, 9.6 (4-12) real tokens a step, 0.0% "
        "padding; random batches, batch_size 2: 2 rows a step, 4 steps an epoch, 12 "
    )
    assert note.endswith("a step has 0.8x the tokens: one that was found for the usual batches wants 0.89x "
                         "(AdamW's square-root rule)")  # fmt: skip
    (note,) = notes_of(
        caplog, data_of("classification", tiny(), **options, max_tokens_per_batch=12, pad_to_multiple_of=6)
    )
    # 12 | 12 | 6 6 | 6 6 | 6 6, in tokens of which 48 of 60 are real
    assert "1.6 (1-2) rows a step, 5 steps an epoch, 9.6 (8-" in note
    assert " real tokens a step, 20.0% padding" in note
    options["dataset"] = rows * 10  # the longest row comes first, at the price of another place
    (note,) = notes_of(caplog, data_of("classification", tiny(), **options, train_sampling_strategy="group_by_length"))
    assert "group_by_length: 2 rows a step, 40 steps an epoch, 12 (8-20) real tokens a step, " in note
    assert note.endswith("A step has as many rows as before, so a learning rate stays what it is")


def test_figures_are_those_of_the_batches(tiny: Any, caplog: pytest.LogCaptureFixture) -> None:
    for task in TASKS:
        for options in ({"train_sampling_strategy": "group_by_length"}, {"max_tokens_per_batch": 200}):
            data = data_of(task, tiny(TASKS[task][2]), **options)
            (note,) = notes_of(caplog, data)
            batches = list(data.train_dataloader())
            rows = sum(len(batch["input_ids"]) for batch in batches)
            places = sum(batch["input_ids"].numel() for batch in batches)
            real = int(data.features["train"][""].store.lengths().sum())
            shown = f"{rows / len(batches):.1f}".removesuffix(".0")
            assert f": {shown} " in note
            assert f" rows a step, {len(batches)} steps an epoch, " in note
            assert f" real tokens a step, {1 - real / places:.1%} padding; " in note
            assert note.startswith("packing ") == ("packing" in TASKS[task][3])


def test_grouping_of_full_blocks_is_said_to_be_of_no_use(tiny: Any, caplog: pytest.LogCaptureFixture) -> None:
    options = {"train_sampling_strategy": "group_by_length", "drop_last": True}
    (note,) = notes_of(caplog, data_of("causal blocks", tiny("gpt2"), **options))
    assert note.endswith("Here grouping saves next to nothing: leave it out")


def test_packing_is_compared_with_full_blocks(tiny: Any, caplog: pytest.LogCaptureFixture) -> None:
    data = data_of("causal rows", tiny("gpt2"))
    (note,) = notes_of(caplog, data)
    lengths = data.features["train"][""].store.lengths()
    blocks = -(-int(lengths.sum()) // 64)
    assert f" rows a step, {-(-len(lengths) // 4)} steps an epoch" in note
    usual = note.partition("; packing wrapped, batch_size 4: ")[2]
    assert f" rows a step, {-(-blocks // 4)} steps an epoch, " in usual


@pytest.mark.parametrize("task", TASKS)
def test_static_shapes(tiny: Any, task: str, caplog: pytest.LogCaptureFixture) -> None:
    """XLA compiles a step for each shape: one for training, and what the last batch of an evaluation adds."""
    length = "block_size" if task.startswith("causal") else "max_seq_length"
    options = {"pad_to_max_length": True, "dataloader_drop_last": True, length: 24}
    data = data_of(task, tiny(TASKS[task][2]), **options)
    caplog.set_level(logging.INFO, logger="lit_ft")
    data.setup("fit")
    for epoch in (0, 1):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        shapes = {tuple((name, tuple(value.shape)) for name, value in batch.items()) for batch in loader}
        assert len(shapes) == 1
        shape = dict(next(iter(shapes)))["input_ids"]
        assert shape == ((4, 3, 24) if task == "multiple choice" else (4, 24))
    rows = len(data.features["train"][""])
    assert f"each epoch leaves out {rows % 4} of {rows} rows" in caplog.text or not rows % 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"dataloader_drop_last": True, "batch_size": 100},
            "leaves nothing: 60 rows do not fill a step of 100 rows x 1",
        ),
        ({"dataloader_drop_last": True, "max_tokens_per_batch": 200}, "leave dataloader_drop_last out"),
        (
            {"max_tokens_per_batch": 200, "pad_to_max_length": True, "max_seq_length": 60},
            "makes every row 60 tokens long: set batch_size: 3 instead of max_tokens_per_batch: 200",
        ),
        (
            {"train_sampling_strategy": "group_by_length", "pad_to_max_length": True, "max_seq_length": 60},
            "makes every row 60 tokens long, so there is nothing to group",
        ),
        ({"train_sampling_strategy": "by_length"}, "train_sampling_strategy is 'by_length'; choices: random"),
        ({"max_tokens_per_batch": 5}, "max_tokens_per_batch is 5, but .* set it to at least"),
        (
            {"max_tokens_per_batch": 200, "streaming": True, "label_names": ["no", "yes"]},
            "max_tokens_per_batch needs to know all rows, streaming does not",
        ),
    ],
)
def test_choices_that_make_no_sense_are_named_before_a_model_is_built(
    options: dict[str, Any], message: str, tiny: Any
) -> None:
    data = data_of("classification", tiny(), **options)
    with pytest.raises(UserError, match=message):
        data.setup("fit")
