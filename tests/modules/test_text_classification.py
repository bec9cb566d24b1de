"""TextClassificationModule trains tiny real models: every option of loss, head and parameters does what it says."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lit_ft.datamodules import TextClassificationDataModule
from lit_ft.errors import UserError
from lit_ft.modules import TextClassificationModule
from tests.modules.conftest import LABELS, NO_DROPOUT, sample_rows

Fit = Callable[..., Trainer]


def data_of(folder: str, dataset: Any, **kwargs: Any) -> TextClassificationDataModule:
    columns = {"text_column_names": "text", "label_column_name": "label"}
    return TextClassificationDataModule(model_name_or_path=folder, dataset=dataset, **{**columns, **kwargs})


def head_only(module: TextClassificationModule) -> Any:
    assert module.model is not None
    return module.model.classifier


class TrainLosses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.values.append(float(outputs["loss"]))


def losses_of(module: TextClassificationModule, data: Any, trainer: Fit, **kwargs: Any) -> list[float]:
    losses = TrainLosses()
    seed_everything(2)
    trainer(callbacks=[losses], **{"max_steps": 3, "limit_val_batches": 0, **kwargs}).fit(module, data)
    return losses.values


def batches(folder: str, labels: list[Any], size: int = 100) -> list[dict[str, Tensor]]:
    """Plain dicts, as anybody's loader would give them; without `row` and `windows`."""
    if folder == "bert":
        ids = torch.ones(len(labels), 4, dtype=torch.long)
        return [{"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor(labels)}]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    made = []
    for start in range(0, len(labels), size):
        part = labels[start : start + size]
        texts = [row["text"] for row in sample_rows(len(labels))[start : start + size]]
        encoded = tokenizer(texts, padding=True, truncation=True, max_length=24, return_tensors="pt")
        made.append({"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"],
                     "labels": torch.tensor(part)})  # fmt: skip
    return made


def test_learns_its_training_rows(headed: str, trainer: Fit) -> None:
    rows = sample_rows(32)
    data = data_of(headed, {"train": rows, "validation": rows}, batch_size=16)
    module = TextClassificationModule(model_name_or_path=headed, learning_rate=5e-3, warmup_ratio=0.1)
    seed_everything(0)
    run = trainer(max_epochs=80, check_val_every_n_epoch=80, gradient_clip_val=1.0)
    run.fit(module, data)
    accuracy = float(run.callback_metrics["val_accuracy"])
    assert accuracy >= 0.95
    # the metric says the same as the predictions
    test = data_of(headed, {"train": rows, "predict": rows}, predict_split_name="predict")
    predicted = [row for batch in run.predict(module, test) or [] for row in batch]
    right = sum(row["predicted_label"] == row["label"] for row in predicted)
    assert right / 32 == pytest.approx(accuracy)
    assert [row["text"] for row in predicted] == [row["text"] for row in rows]
    assert all(sum(row["scores"].values()) == pytest.approx(1, abs=1e-5) for row in predicted)
    assert all(row["score"] == max(row["scores"].values()) for row in predicted)


def test_balanced_class_weights(headed: str, trainer: Fit) -> None:
    rows = sample_rows(60)
    data = data_of(headed, {"train": rows}, validation_split_percentage=0, batch_size=60)
    module = TextClassificationModule(model_name_or_path=headed, class_weights="balanced")
    (loss,) = losses_of(module, data, trainer, max_steps=1)
    labels = [row["label"] for row in rows]
    assert set(labels) == set(LABELS)
    weights = compute_class_weight("balanced", classes=np.array(LABELS), y=labels)
    model = AutoModelForSequenceClassification.from_pretrained(headed)
    batch = next(iter(data.train_dataloader()))
    expected = torch.nn.CrossEntropyLoss(torch.tensor(weights, dtype=torch.float32))(
        model(**module.model_inputs(batch)).logits, batch["labels"]
    )
    assert len(set(Counter(labels).values())) > 1
    assert loss == pytest.approx(float(expected), abs=1e-5)


def test_class_weights_need_classes_and_one_for_each(headed: str, trainer: Fit) -> None:
    data = data_of(headed, {"train": sample_rows(8)}, validation_split_percentage=0, label_names=LABELS)
    module = TextClassificationModule(model_name_or_path=headed, class_weights=[1.0, 2.0])
    with pytest.raises(UserError, match=f"2 values for {len(LABELS)} labels"):
        trainer(max_steps=1).fit(module, data)
    loader = DataLoader(batches("bert", [0, 1]), batch_size=None)
    balanced = TextClassificationModule(model_name_or_path=headed, label_names=LABELS, class_weights="balanced")
    with pytest.raises(UserError, match="our data module"):
        trainer(max_steps=1).fit(balanced, loader)


def test_integer_class_weights_and_those_of_a_pretrained_head(headed: str, trainer: Fit) -> None:
    loader = DataLoader(batches(headed, list(range(len(LABELS)))), batch_size=None)
    weights = [1 + number for number in range(len(LABELS))]
    # no labels are given: the pretrained head names them
    module = TextClassificationModule(model_name_or_path=headed, class_weights=weights)
    (loss,) = losses_of(module, loader, trainer, max_steps=1)
    model, (batch,) = AutoModelForSequenceClassification.from_pretrained(headed), loader.dataset
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"], torch.tensor(weights).float())
    assert loss == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_decoders_classify(tiny: Callable[..., str], trainer: Fit, kind: str) -> None:
    rows = sample_rows(24)
    data = data_of(tiny(kind), {"train": rows, "predict": rows[:5]}, predict_split_name="predict", batch_size=8,
                   validation_split_percentage=0, eval_batch_size=5)  # fmt: skip
    module = TextClassificationModule(model_name_or_path=tiny(kind), learning_rate=1e-3)
    losses = losses_of(module, data, trainer, max_steps=12)
    assert sum(losses[-3:]) < sum(losses[:3])
    assert module.model is not None
    together = [row for batch in trainer().predict(module, data) or [] for row in batch]
    tokenizer = AutoTokenizer.from_pretrained(tiny(kind))
    # a batch of one has no padding: the same scores only when the pad token is known and the last real token read
    for row, result in zip(rows, together, strict=False):
        with torch.no_grad():
            alone = module.model.eval()(input_ids=torch.tensor([tokenizer(row["text"])["input_ids"]])).logits[0]
        assert list(result["scores"].values()) == pytest.approx(alone.softmax(-1).tolist(), abs=1e-5)


def test_added_tokens_get_embeddings(headed: str, trainer: Fit) -> None:
    words = ["glimmerwick", "bristlefen"]
    rows = [{**row, "text": "glimmerwick bristlefen " + row["text"]} for row in sample_rows(16)]
    data = data_of(headed, {"train": rows}, validation_split_percentage=0, add_tokens=words, label_names=LABELS)
    module = TextClassificationModule(model_name_or_path=headed, add_tokens=words)
    losses_of(module, data, trainer, max_steps=1)
    assert module.model is not None
    old = AutoModelForSequenceClassification.from_pretrained(headed).get_input_embeddings().weight
    new = module.model.get_input_embeddings().weight
    assert new.shape[0] == len(data.tokenizer) == module.model.config.vocab_size
    assert new.shape[0] > old.shape[0]
    ids = data.tokenizer("glimmerwick")["input_ids"]
    assert len(ids) == 3
    assert ids[1] >= old.shape[0]
    torch.testing.assert_close(new[ids[1]], old.mean(0), atol=2e-3, rtol=0)


def test_gradient_checkpointing_changes_no_loss(headed: str, trainer: Fit) -> None:
    rows = {"train": sample_rows(24)}
    plain, frugal = (
        losses_of(
            TextClassificationModule(model_name_or_path=headed, gradient_checkpointing=on, learning_rate=1e-3),
            data_of(headed, rows, validation_split_percentage=0, label_names=LABELS),
            trainer,
        )
        for on in (False, True)
    )
    assert frugal == pytest.approx(plain, abs=1e-6)
    module = TextClassificationModule(model_name_or_path=headed, gradient_checkpointing=True)
    assert module.build().is_gradient_checkpointing


def test_frozen_parameters_stay(headed: str, trainer: Fit) -> None:
    module = TextClassificationModule(model_name_or_path=headed, freeze=["^bert\\."], learning_rate=1e-2)
    data = data_of(headed, {"train": sample_rows(16)}, validation_split_percentage=0, label_names=LABELS)
    losses_of(module, data, trainer)
    before = AutoModelForSequenceClassification.from_pretrained(headed).state_dict()
    assert module.model is not None
    for name, value in module.model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("bert."), name
    everything = TextClassificationModule(model_name_or_path=headed, freeze=["."])
    with pytest.raises(UserError, match="nothing is left to train"):
        trainer(max_steps=1, limit_val_batches=0).fit(everything, data)


def test_layerwise_learning_rates(headed: str, trainer: Fit) -> None:
    module = TextClassificationModule(
        model_name_or_path=headed, layerwise_lr_decay=0.5, learning_rate=1e-2, lr_scheduler_type="constant"
    )
    data = data_of(headed, {"train": sample_rows(8)}, validation_split_percentage=0, label_names=LABELS)
    run = trainer(max_steps=1, limit_val_batches=0)
    run.fit(module, data)
    assert module.model is not None
    rates = {id(p): group["lr"] for group in run.optimizers[0].param_groups for p in group["params"]}
    named = {name: rates[id(parameter)] for name, parameter in module.model.named_parameters()}
    assert named["classifier.weight"] == named["bert.pooler.dense.weight"] == 1e-2
    assert named["bert.encoder.layer.1.output.dense.weight"] == pytest.approx(5e-3)
    assert named["bert.encoder.layer.0.attention.self.query.bias"] == pytest.approx(2.5e-3)
    assert named["bert.embeddings.word_embeddings.weight"] == pytest.approx(1.25e-3)


def test_a_head_of_another_size_is_replaced_only_when_asked(headed: str, trainer: Fit) -> None:
    rows = [{"text": row["text"], "label": str(len(row["text"]) % 2)} for row in sample_rows(16)]
    data = data_of(headed, {"train": rows}, validation_split_percentage=0, label_names=["even", "odd"])
    with pytest.raises(UserError, match="ignore_mismatched_sizes"):
        trainer(max_steps=1).fit(TextClassificationModule(model_name_or_path=headed), data)
    module = TextClassificationModule(model_name_or_path=headed, ignore_mismatched_sizes=True)
    losses_of(module, data, trainer, max_steps=1)
    assert head_only(module).out_features == 2
    assert module.model is not None
    assert module.model.config.label2id == {"even": 0, "odd": 1}


def test_own_loss(headed: str, trainer: Fit) -> None:
    rows = {"train": sample_rows(16)}
    plain, own, focal = (
        losses_of(
            TextClassificationModule(model_name_or_path=headed, loss=loss, learning_rate=1e-3),
            data_of(headed, rows, validation_split_percentage=0, label_names=LABELS),
            trainer,
        )
        for loss in (None, "CrossEntropyLoss", {"class_path": "FocalLoss", "init_args": {"gamma": 2.0}})
    )
    assert own == pytest.approx(plain, abs=1e-6)
    assert all(one < other for one, other in zip(focal, plain, strict=True))
    with pytest.raises(UserError, match="FocalLoss"):
        TextClassificationModule(model_name_or_path=headed, loss="FocalLos")
    with pytest.raises(UserError, match="belong to the built-in loss"):
        TextClassificationModule(model_name_or_path=headed, loss="FocalLoss", label_smoothing_factor=0.1)


def test_the_problem_type_of_a_pretrained_head(tiny: Callable[..., str], tmp_path: Path, trainer: Fit) -> None:
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(
        tiny(), problem_type="multi_label_classification", id2label={0: "x", 1: "y"}, **NO_DROPOUT
    ).save_pretrained(tmp_path / "multi")
    AutoTokenizer.from_pretrained(tiny()).save_pretrained(tmp_path / "multi")
    module = TextClassificationModule(model_name_or_path=str(tmp_path / "multi"))
    loader = DataLoader(batches(str(tmp_path / "multi"), [[1, 0], [1, 1], [0, 0]]), batch_size=None)
    (loss,) = losses_of(module, loader, trainer, max_steps=1)
    model, (batch,) = AutoModelForSequenceClassification.from_pretrained(tmp_path / "multi"), loader.dataset
    expected = model(**{**batch, "labels": batch["labels"].float()}).loss
    assert loss == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("own", [0, -1, None], ids=str)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_decoders_read_the_last_token_whatever_their_configuration_calls_padding(
    kind: str, own: int | None, tiny: Callable[..., str], trainer: Fit, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny(kind), tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": own}))
    rows = sample_rows(12)
    data = data_of(str(folder), {"train": rows, "validation": rows, "predict": rows}, predict_split_name="predict")
    module = TextClassificationModule(model_name_or_path=str(folder))
    run = trainer(max_steps=1, limit_val_batches=0)
    run.fit(module, data)
    scores = []
    for size in (1, 12):
        asked = data_of(str(folder), {"predict": rows}, predict_split_name="predict", eval_batch_size=size)
        found = [row for batch in run.predict(module, asked) or [] for row in batch]
        scores.append(sorted(max(row["scores"].values()) for row in found))
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_a_run_that_stopped_between_two_steps_leaves_nothing_to_the_next(
    tiny: Callable[..., str], trainer: Fit
) -> None:
    class Stop(Callback):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            trainer.should_stop = batch_idx == 5

    class Plain(TextClassificationModule):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)  # AdamW hides of what size gradients are

    data = data_of(tiny(), {"train": sample_rows(48), "validation": sample_rows(4)}, batch_size=4)
    module = Plain(model_name_or_path=tiny(), config_overrides=NO_DROPOUT)
    trainer(max_epochs=1, accumulate_grad_batches=4, callbacks=[Stop()]).fit(module, data)
    fresh = Plain(model_name_or_path=tiny(), config_overrides=NO_DROPOUT, label_names=data.description["labels"])
    fresh.build()
    fresh.load_state_dict(module.state_dict())
    for each in (module, fresh):
        seed_everything(1)
        trainer(max_steps=1, limit_val_batches=0).fit(each, data)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, fresh.state_dict()[name])


def test_the_schedule_ends_with_the_run_where_more_is_accumulated_later(tiny: Callable[..., str], trainer: Fit) -> None:
    rates: list[float] = []

    class Rates(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    data = data_of(tiny(), {"train": sample_rows(20), "validation": sample_rows(4)}, batch_size=4)
    module = TextClassificationModule(model_name_or_path=tiny(), learning_rate=1e-3)
    run = trainer(max_epochs=2, callbacks=[GradientAccumulationScheduler({0: 1, 1: 4}), Rates()])
    run.fit(module, data)
    assert run.global_step == 5 + 2
    assert rates[4] == pytest.approx(1e-3 * 2 / 7)
    assert rates[-1] == pytest.approx(0.0)
