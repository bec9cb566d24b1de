"""Scores and predictions of TextClassificationModule, of every kind of label: by scikit-learn and by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, mean_squared_error
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification

from lit_ft.datamodules import TextClassificationDataModule
from lit_ft.errors import UserError
from lit_ft.modules import TextClassificationModule
from tests.modules.conftest import LABELS, sample_rows
from tests.modules.test_text_classification import Fit, batches, data_of, losses_of


def multi_label_rows(number: int) -> list[dict[str, Any]]:
    rows = sample_rows(number)
    return [
        {"text": row["text"], "labels": [name for name in "aeiz" if row["text"].lower().count(name) > 3]}
        for row in rows
    ]


def test_multi_label_with_the_threshold_found_and_kept(tiny: Callable[..., str], trainer: Fit) -> None:
    rows = multi_label_rows(48)
    data = data_of(
        tiny(), {"train": rows, "validation": rows, "predict": rows}, batch_size=16, label_column_name="labels",
        predict_split_name="predict", label_names=list("aeiz"),
    )  # fmt: skip
    module = TextClassificationModule(
        model_name_or_path=tiny(), learning_rate=3e-3, metrics=["MultilabelHammingDistance"]
    )
    seed_everything(0)
    run = trainer(max_epochs=6)
    run.fit(module, data)
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    assert module.model is not None
    assert module.model.config.problem_type == "multi_label_classification"
    predicted = [row for batch in run.predict(module, data) or [] for row in batch]

    truth = torch.tensor([[name in row["labels"] for name in "aeiz"] for row in rows]).int().numpy()
    scores = torch.tensor([[row["scores"][name] for name in "aeiz"] for row in predicted]).numpy()
    found = {round(0.01 * step, 2): f1_score(truth, scores >= 0.01 * step, average="micro") for step in range(1, 100)}
    threshold = module.model.config.classification_threshold
    assert threshold != 0.5
    assert logged["val_threshold"] == pytest.approx(threshold)
    assert found[threshold] == pytest.approx(max(found.values()))
    assert logged["val_f1_micro"] == pytest.approx(max(found.values()), abs=1e-6)
    chosen = [[name in row["predicted_labels"] for name in "aeiz"] for row in predicted]
    assert chosen == (scores >= threshold).tolist()
    assert logged["val_multilabel_hamming_distance"] == pytest.approx(float(((scores >= 0.5) != truth).mean()))
    # a test is scored at the stored threshold, and searches no other
    data_test = data_of(tiny(), {"test": rows[:20]}, label_column_name="labels", label_names=list("aeiz"))
    (tested,) = run.test(module, data_test, verbose=False)
    assert tested["test_threshold"] == pytest.approx(threshold)
    assert tested["test_f1_micro"] == pytest.approx(f1_score(truth[:20], scores[:20] >= threshold, average="micro"))
    assert {row["label"] for row in module.label_table("test")[0]} == set("aeiz")


@pytest.mark.parametrize("given", ["auto", 0.3])
def test_a_checkpoint_brings_its_threshold_to_a_model_that_was_trained_further(
    given: Any, tiny: Callable[..., str], trainer: Fit, tmp_path: Path
) -> None:
    data = data_of(
        tiny(), {"train": multi_label_rows(16), "test": multi_label_rows(16)}, label_column_name="labels",
        label_names=list("aeiz"),
    )  # fmt: skip
    module = TextClassificationModule(model_name_or_path=tiny(), threshold=given)
    run = trainer(max_epochs=1)
    run.fit(module, data)
    assert module.model is not None
    module.model.config.classification_threshold = 0.11
    run.save_checkpoint(tmp_path / "best.ckpt")
    module.model.config.classification_threshold = 0.77  # of a later epoch
    (tested,) = run.test(module, data, ckpt_path=str(tmp_path / "best.ckpt"), verbose=False)
    expected = 0.11 if given == "auto" else given
    assert tested["test_threshold"] == pytest.approx(expected)
    assert module.model.config.classification_threshold == expected


def test_a_threshold_given_beside_a_checkpoint_is_used_and_exported(tiny: Callable[..., str], tmp_path: Path) -> None:
    options: dict[str, Any] = {"label_names": ["a", "b"], "problem_type": "multi_label"}
    trained = TextClassificationModule(model_name_or_path=tiny(), **options)
    trained.build().config.classification_threshold = 0.5  # as found in training
    checkpoint: dict[str, Any] = {"state_dict": trained.state_dict()}
    trained.on_save_checkpoint(checkpoint)
    for given, expected, said in (("auto", 0.5, ["a"]), (0.9, 0.9, []), (0.1, 0.1, ["a", "b"]), (0, 0, ["a", "b"])):
        module = TextClassificationModule(model_name_or_path=tiny(), threshold=given, **options)
        module.restore(checkpoint["lit_ft"])
        module.build().save_pretrained(tmp_path)
        row = {"logits": torch.tensor([1.0, -1.0]), "label": torch.tensor([1, 0])}  # probabilities 0.73 and 0.27
        assert module.prediction(row)["predicted_labels"] == said
        scores = module.metrics(module.description, "test")
        module.update(scores, [row])
        assert float(scores.compute()["subset_accuracy"]) == (said == ["a"])
        exported = json.loads((tmp_path / "config.json").read_text())
        assert exported["classification_threshold"] == module.threshold == expected


@pytest.mark.parametrize(("options", "message"), [
    ({"threshold": "best"}, "threshold is 'best'; it must be a number or auto"),
    ({"label_smoothing_factor": 1.0}, "label_smoothing_factor is 1.0; it must be at least 0 and below 1"),
])  # fmt: skip
def test_options_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TextClassificationModule(**options)


def test_windows_are_averaged(headed: str, trainer: Fit) -> None:
    rows = [{"text": " ".join(row["text"] for row in sample_rows(n)), "label": LABELS[n % 3]} for n in (1, 4, 2, 6, 1)]
    data = data_of(headed, {"train": rows, "predict": rows}, predict_split_name="predict", max_seq_length=16,
                   stride=4, eval_batch_size=3)  # fmt: skip
    module = TextClassificationModule(model_name_or_path=headed)
    run = trainer()
    predicted = [row for batch in run.predict(module, data) or [] for row in batch]
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(headed).eval(), data.tokenizer
    assert len(predicted) == len(rows)
    for row, result in zip(rows, predicted, strict=True):
        ids = tokenizer(row["text"], add_special_tokens=False)["input_ids"]
        # 14 tokens beside [CLS] and [SEP], each window 4 tokens back into the one before it
        starts = [0, *(start for start in range(10, len(ids), 10) if start + 4 < len(ids))]
        windows = [[2, *ids[start : start + 14], 3] for start in starts]
        with torch.no_grad():
            logits = torch.stack([model(input_ids=torch.tensor([window])).logits[0] for window in windows]).mean(0)
        expected = dict(zip(LABELS, logits.softmax(-1).tolist(), strict=True))
        assert result["scores"] == pytest.approx(expected, abs=1e-5)


def test_labels_given_with_a_plain_loader(tiny: Callable[..., str], trainer: Fit) -> None:
    loader = DataLoader(batches(tiny(), [0, 1, -100, 2, 1, 0, 2], size=3), batch_size=None)
    module = TextClassificationModule(model_name_or_path=tiny(), label_names=["a", "b", "c"])
    run = trainer(max_epochs=1)
    run.fit(module, loader, loader)
    assert module.model is not None
    assert module.model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert sum(row["support"] for row in module.label_table("val")[0]) == 6
    logits = torch.cat([module.model.eval()(**module.model_inputs(b)).logits.detach() for b in loader.dataset])
    labels = torch.cat([b["labels"] for b in loader.dataset])
    expected = torch.nn.functional.cross_entropy(logits, labels)
    assert float(run.callback_metrics["val_loss"]) == pytest.approx(float(expected), abs=1e-5)
    rows = [row for batch in trainer().predict(module, loader) or [] for row in batch]
    assert [row["predicted_label"] for row in rows] == ["abc"[number] for number in logits.argmax(-1)]
    nameless = TextClassificationModule(model_name_or_path=tiny())
    with pytest.raises(UserError, match="label_names="):
        trainer(max_steps=1).fit(nameless, loader)


def test_only_unlabelled_rows_in_a_batch_and_in_an_evaluation(headed: str, trainer: Fit) -> None:
    loader = DataLoader(batches(headed, [-100, -100, 1, 2], size=2), batch_size=None)
    losses = losses_of(TextClassificationModule(model_name_or_path=headed), loader, trainer, max_steps=2)
    assert losses[0] == 0
    assert losses[1] > 0
    blank = DataLoader(batches(headed, [-100, -100]), batch_size=None)
    (scores,) = trainer().test(TextClassificationModule(model_name_or_path=headed), blank, verbose=False)
    assert scores["test_accuracy"] == 0


def test_regression_with_several_targets(tiny: Callable[..., str], trainer: Fit) -> None:
    rows = [
        {"text": row["text"], "length": len(row["text"]) / 100, "words": len(row["text"].split()) / 10}
        for row in sample_rows(40)
    ]
    rows[3] |= {"length": None}
    data = data_of(tiny(), {"train": rows[4:], "validation": rows, "predict": rows}, predict_split_name="predict",
                   label_column_name=["length", "words"], batch_size=12)  # fmt: skip
    module = TextClassificationModule(model_name_or_path=tiny(), learning_rate=5e-3, metrics=["R2Score"])
    run = trainer(max_epochs=5)
    seed_everything(0)
    run.fit(module, data)
    logged = dict(run.callback_metrics)
    predicted = [row["prediction"] for batch in run.predict(module, data) or [] for row in batch]
    kept = [number for number in range(40) if number != 3]
    truth = [[rows[number]["length"], rows[number]["words"]] for number in kept]
    guess = [[predicted[number]["length"], predicted[number]["words"]] for number in kept]
    assert float(logged["val_mse"]) == pytest.approx(mean_squared_error(truth, guess), rel=1e-4)
    assert float(logged["val_loss"]) == pytest.approx(float(logged["val_mse"]), rel=1e-5)
    ranks = [spearmanr([row[n] for row in truth], [row[n] for row in guess]).statistic for n in range(2)]
    assert float(logged["val_spearman"]) == pytest.approx(sum(ranks) / 2, abs=1e-4)


def test_several_evaluation_sets(headed: str, trainer: Fit, tmp_path: Path) -> None:
    files = {}
    for name, rows in {"first": sample_rows(9), "second": sample_rows(8, "test")}.items():
        files[name] = str(tmp_path / f"{name}.csv")
        lines = [f'"{row["text"].replace(chr(34), chr(39))}",{row["label"]}' for row in rows]
        Path(files[name]).write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    data = TextClassificationDataModule(
        model_name_or_path=headed, train_file=files["first"], validation_file=files, label_names=LABELS,
        text_column_names="text", label_column_name="label",
    )  # fmt: skip
    module = TextClassificationModule(model_name_or_path=headed, metrics=["CohenKappa", "MulticlassJaccardIndex"])
    run = trainer(max_epochs=1)
    run.fit(module, data)
    logged = run.callback_metrics
    names = {"loss", "accuracy", "f1_macro", "mcc", "auroc", "multiclass_cohen_kappa", "combined_score"}
    for name in names:
        assert logged[f"val_{name}"] == logged[f"val_first_{name}"]
        assert f"val_second_{name}" in logged
    assert logged["val_first_loss"] != logged["val_second_loss"]
    tables = module.label_table("val")
    assert [sum(row["support"] for row in table) for table in tables] == [9, 8]
    kappa, jaccard = logged["val_multiclass_cohen_kappa"], logged["val_multiclass_jaccard_index"]
    assert float(logged["val_combined_score"]) == pytest.approx(float(kappa + jaccard) / 2)
    # a monitor may name any of them, and nothing else
    assert set(module.metric_names(module.description)) | {"loss"} >= names


def test_unknown_metric_is_refused_before_the_weights_are_loaded(headed: str, trainer: Fit) -> None:
    module = TextClassificationModule(model_name_or_path=headed, metrics=["MulticlasF1Score"])
    data = data_of(headed, {"train": sample_rows(8)}, validation_split_percentage=0, label_names=LABELS)
    with pytest.raises(UserError, match="did you mean 'MulticlassF1Score'"):
        trainer(max_steps=1).fit(module, data)
    assert module.model is None
