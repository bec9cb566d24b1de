"""Seq2SeqModule on tiny models of every family: trains as transformers' Trainer does, and is exported."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainingArguments,
)

from lit_ft import Seq2SeqModule, TranslationDataModule, TranslationModule
from lit_ft.callbacks.export import export
from lit_ft.runs import read_checkpoint
from tests.modules.given_batches import Seq2SeqTrainerOnGivenBatches
from tests.pairs import FAMILIES, LANGUAGES, pair_rows

Fit = Callable[..., Trainer]


def data_of(folder: str, family: str = "bart", **options: Any) -> TranslationDataModule:
    source, target = LANGUAGES.get(family, ("en", "de"))
    names = {"source": source, "target": target}
    usual = {
        "dataset": {"train": pair_rows(48, **names), "validation": pair_rows(10, 60, **names)},
        "batch_size": 6, "max_target_length": 40, "source_lang": source, "target_lang": target,
    }  # fmt: skip
    return TranslationDataModule(model_name_or_path=folder, **{**usual, **options})


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.values.append(float(outputs["loss"]))


@pytest.mark.parametrize(
    ("family", "smoothing"), [("t5", 0.0), ("t5", 0.1), ("bart", 0.0), ("marian", 0.1), ("mbart", 0.0)]
)
def test_twenty_steps_equal_seq2seq_trainers(
    family: str, smoothing: float, folder: Callable[[str], str], trainer: Fit, tmp_path: Path
) -> None:
    steps, path = 20, folder(family)
    data = data_of(
        path,
        family,
        dataset={
            "train": pair_rows(120, **dict(zip(("source", "target"), LANGUAGES.get(family, ("en", "de")), strict=True)))
        },
        validation_split_percentage=0,
    )
    seed_everything(1)
    losses = Losses()
    ours = Seq2SeqModule(
        model_name_or_path=path, learning_rate=1e-3, num_warmup_steps=3, label_smoothing_factor=smoothing,
        padding_free="on",
    )  # fmt: skip
    trainer(max_steps=steps, gradient_clip_val=1.0, callbacks=[losses]).fit(ours, data)

    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForSeq2SeqLM.from_pretrained(path)
    assert ours.model is not None
    for name, value in ours.model.named_parameters():  # some releases of transformers train Marian's computed positions
        model.get_parameter(name).requires_grad_(value.requires_grad)
    collate = DataCollatorForSeq2Seq(tokenizer, model=model)
    batches = []
    for batch, _ in zip(data.train_dataloader(), range(steps), strict=False):
        rows = [
            {
                "input_ids": ids[mask > 0].tolist(),
                "attention_mask": mask[mask > 0].tolist(),
                "labels": labels[labels != -100].tolist(),
            }
            for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
        ]
        batches.append(dict(collate(rows)))
    assert len({batch["labels"].shape for batch in batches}) > 2
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path / "theirs"), max_steps=steps, warmup_steps=3, learning_rate=1e-3, max_grad_norm=1.0,
        save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, label_smoothing_factor=smoothing,
    )  # fmt: skip
    theirs = Seq2SeqTrainerOnGivenBatches(batches, model=model, args=arguments, processing_class=tokenizer)
    theirs.train()
    assert len(losses.values) == len(theirs.losses) == steps
    np.testing.assert_allclose(losses.values, theirs.losses, atol=1e-4)
    assert max(theirs.losses) - min(theirs.losses) > 0.2
    assert ours.model is not None
    for name, value in ours.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], atol=2e-4, rtol=0, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_generates_and_is_exported(
    family: str, folder: Callable[[str], str], trainer: Fit, tmp_path: Path
) -> None:
    data = data_of(folder(family), family, max_target_length=40)
    module = TranslationModule(
        model_name_or_path=folder(family), learning_rate=3e-3, generation={"num_beams": 2}, metrics=["exact_match"]
    )
    run = trainer(max_steps=8, val_check_interval=8, enable_checkpointing=False)
    run.fit(module, data)
    scores = {name: float(value) for name, value in run.callback_metrics.items()}
    assert {"val_loss", "val_perplexity", "val_accuracy", "val_exact_match"} <= set(scores)
    assert scores["val_loss"] == pytest.approx(math.log(scores["val_perplexity"]), abs=1e-4)
    path = tmp_path / "run.ckpt"
    run.save_checkpoint(path)
    target = export(module, read_checkpoint(path), tmp_path / "hf", None)

    predicted = [
        row
        for batch in run.predict(
            module,
            data_of(
                folder(family),
                family,
                dataset={"predict": pair_rows(5, 30, source=LANGUAGES.get(family, ("en",))[0], target="x")},
                predict_split_name="predict",
            ),
        )
        for row in batch
    ]
    tokenizer, model = AutoTokenizer.from_pretrained(target), AutoModelForSeq2SeqLM.from_pretrained(target).eval()
    texts = [row["source"] for row in pair_rows(5, 30)]
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    written = tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)
    assert [row["prediction"] for row in predicted] == written
    assert model.generation_config.num_beams == 2
    assert model.generation_config.max_new_tokens == 40
    if family in LANGUAGES:
        code = tokenizer.convert_tokens_to_ids(LANGUAGES[family][1])
        began = model.generation_config
        assert code in (began.forced_bos_token_id, began.decoder_start_token_id)
        assert (tokenizer.src_lang, tokenizer.tgt_lang) == LANGUAGES[family]
        assert (model.generate(**inputs)[:, :2] == code).any(1).all()


def test_loss_of_a_set_is_that_of_transformers(folder: Callable[[str], str], trainer: Fit) -> None:
    path, rows = folder("t5"), pair_rows(10, 60, source="en", target="de")
    module = Seq2SeqModule(model_name_or_path=path, label_smoothing_factor=0.2, predict_with_generate=False)
    (scores,) = trainer().validate(module, data_of(path, "t5", batch_size=4), verbose=False)
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForSeq2SeqLM.from_pretrained(path).eval()
    total, count = 0.0, 0
    for row in rows:
        inputs = tokenizer(row["en"], text_target=row["de"], return_tensors="pt")
        size = inputs["labels"].numel()
        total += float(model(**inputs).loss) * size
        count += size
    assert scores["val_loss"] == pytest.approx(total / count, rel=1e-5)
    assert set(scores) == {"val_loss", "val_perplexity", "val_accuracy"}


def test_targets_of_fillers_count_nowhere(folder: Callable[[str], str]) -> None:
    for family in ("mbart", "t5", "m2m_100"):
        module = Seq2SeqModule(model_name_or_path=folder(family))
        module.build()
        ids = torch.tensor([[5, 6, 7], [8, 9, 1]])
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.full((2, 3), -100)}
        total, count = module.loss(module.outputs(batch), batch)
        assert (float(total), float(count)) == (0.0, 0.0)
        total.backward()
        batch["labels"][0, :2] = torch.tensor([7, 2])
        inputs = module.model_inputs(batch)
        assert (inputs["decoder_input_ids"] >= 0).all()
        total, count = module.loss(module.outputs(batch), batch)
        assert module.model is not None
        assert float(total / count) == pytest.approx(
            float(module.model(**inputs, labels=batch["labels"]).loss), rel=1e-5
        )


@pytest.mark.parametrize("options", [{}, {"max_tokens_per_batch": 150}, {"train_sampling_strategy": "group_by_length"}])
def test_a_step_is_the_mean_over_its_labelled_tokens(
    options: dict[str, Any], folder: Callable[[str], str], trainer: Fit
) -> None:
    batches: list[Any] = []
    slopes: list[dict[str, torch.Tensor]] = []

    class Noting(Seq2SeqModule):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            batches.append(batch)
            return super().training_step(batch, batch_idx)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            super().on_before_optimizer_step(optimizer)
            slopes.append({name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None})

    module = Noting(model_name_or_path=folder("t5"), learning_rate=0.0, predict_with_generate=False)
    trainer(max_steps=2, accumulate_grad_batches=3).fit(module, data_of(folder("t5"), "t5", **options))
    model = AutoModelForSeq2SeqLM.from_pretrained(folder("t5"))
    counts = [int((batch["labels"] != -100).sum()) for batch in batches]
    assert len(set(counts[:3])) > 1
    for step in range(2):
        model.zero_grad()
        some = range(3 * step, 3 * step + 3)
        for number in some:
            batch = batches[number]
            names = ("input_ids", "attention_mask", "labels")
            loss = model(**{name: batch[name] for name in names}).loss
            (loss * counts[number] / sum(counts[at] for at in some)).backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(slopes[step][name], parameter.grad, atol=1e-6, rtol=1e-4, msg=name)
