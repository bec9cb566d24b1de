"""Every metric against scikit-learn, over batches with a short last one, absent classes and unlabelled rows."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

from lit_ft.errors import UserError
from lit_ft.metrics.binned import CalibrationError, Spearman
from lit_ft.metrics.classification import (
    NAMES,
    SWEEP,
    ClassificationScores,
    extra_metrics,
)
from lit_ft.ops.decoding.labels import probabilities
from tests.processes import METHOD

ROWS, SIZE = 205, 6


def made(problem_type: str, rows: int = ROWS, sharpness: float = 2.0) -> tuple[Tensor, Tensor]:
    """Scores and labels that agree more than chance; of six classes, the last never occurs."""
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(rows, SIZE, generator=generator)
    if problem_type == "single_label":
        labels = torch.randint(0, SIZE - 1, (rows,), generator=generator)
        logits[torch.arange(rows), labels] += 1
    elif problem_type == "multi_label":
        labels = (torch.rand(rows, SIZE, generator=generator) < 0.25).float()
        labels[:, -1] = 0
        logits += 1.5 * labels - 1
    else:
        labels = logits + torch.randn(rows, SIZE, generator=generator)
        sharpness = 1
    return probabilities(logits * sharpness, problem_type), labels  # type: ignore[arg-type]


def scored(problem_type: Any, scores: Tensor, labels: Tensor, size: int = 64, **kwargs: Any) -> tuple[Any, dict]:
    metrics = ClassificationScores(problem_type, "abcdef"[: scores.shape[1]], **kwargs)
    for start in range(0, len(scores), size):  # 205 rows: the last batch has 13
        metrics.update(scores[start : start + size], labels[start : start + size])
    return metrics, {name: float(value) for name, value in metrics.compute().items()}


def expected_single(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    guess = scores.argmax(1)
    areas = [sk.roc_auc_score(labels == at, scores[:, at]) for at in range(SIZE) if (labels == at).sum() > 0]
    means = {
        f"{name}_macro": function(labels, guess, average="macro", zero_division=0)
        for name, function in {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}.items()
    }
    return {
        **means,
        "accuracy": sk.accuracy_score(labels, guess),
        "f1_micro": sk.f1_score(labels, guess, average="micro"),
        "precision_weighted": sk.precision_score(labels, guess, average="weighted", zero_division=0),
        "recall_weighted": sk.recall_score(labels, guess, average="weighted", zero_division=0),
        "f1_weighted": sk.f1_score(labels, guess, average="weighted", zero_division=0),
        "mcc": sk.matthews_corrcoef(labels, guess),
        "auroc": float(np.mean(areas)),
        "calibration_error": calibration_by_hand(scores, labels),
    }


def calibration_by_hand(scores: np.ndarray, labels: np.ndarray) -> float:
    confidence, right = scores.max(1), scores.argmax(1) == labels
    error = 0.0
    for number in range(15):
        inside = (confidence >= number / 15) & ((confidence < (number + 1) / 15) | (number == 14))
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return error


def expected_multi(scores: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, float]:
    guess = scores >= threshold
    occurring = labels.any(0)
    return {
        "threshold": threshold,
        "f1_micro": sk.f1_score(labels, guess, average="micro", zero_division=0),
        # labels that neither occur nor are predicted have no F1
        "f1_macro": sk.f1_score(labels, guess, average="macro", zero_division=np.nan),
        "precision_micro": sk.precision_score(labels, guess, average="micro", zero_division=0),
        "recall_micro": sk.recall_score(labels, guess, average="micro", zero_division=0),
        "subset_accuracy": sk.accuracy_score(labels, guess),
        "map": sk.average_precision_score(labels[:, occurring], scores[:, occurring], average="macro"),
        "auroc": sk.roc_auc_score(labels[:, occurring], scores[:, occurring], average="macro"),
    }


def expected_regression(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    columns = list(zip(scores.T, labels.T, strict=True))
    return {
        "mse": sk.mean_squared_error(labels, scores),
        "mae": sk.mean_absolute_error(labels, scores),
        "pearson": float(np.mean([pearsonr(*pair).statistic for pair in columns])),
        "spearman": float(np.mean([spearmanr(*pair).statistic for pair in columns])),
    }


TOLERANCE = {"auroc": 2e-3, "map": 2e-3}


def assert_close(found: dict[str, float], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=TOLERANCE.get(name, 2e-6)), name


def test_single_label_equals_sklearn() -> None:
    scores, labels = made("single_label")
    metrics, found = scored("single_label", scores, labels)
    assert set(found) == set(NAMES["single_label"])
    assert set(labels.tolist()) == set(range(SIZE - 1))
    assert_close(found, expected_single(scores.numpy(), labels.numpy()))
    names = list("abcdef")
    table = metrics.table()
    guess = scores.argmax(1).numpy()
    columns = sk.precision_recall_fscore_support(labels.numpy(), guess, labels=range(SIZE), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [row[key] for row in table] == pytest.approx(values.tolist()), key
    confusion = sk.confusion_matrix(labels.numpy(), guess, labels=range(SIZE))
    assert [[row[f"predicted {name}"] for name in names] for row in table] == confusion.tolist()
    assert confusion[:, SIZE - 1].sum() > 0  # the class that never occurs is sometimes predicted


def test_a_class_that_is_neither_there_nor_predicted() -> None:
    scores, labels = made("single_label")
    scores[:, -1] = 0
    scores /= scores.sum(1, keepdim=True)
    _, found = scored("single_label", scores, labels)
    assert_close(found, expected_single(scores.numpy(), labels.numpy()))


def test_multi_label_equals_sklearn_at_a_given_threshold() -> None:
    scores, labels = made("multi_label")
    metrics, found = scored("multi_label", scores, labels, threshold=0.4)
    assert set(found) == set(NAMES["multi_label"])
    assert_close(found, expected_multi(scores.numpy(), labels.numpy(), np.float32(0.4)))
    columns = sk.precision_recall_fscore_support(labels.numpy(), scores.numpy() >= 0.4, zero_division=0)
    table = metrics.table()
    for key, values in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [row[key] for row in table] == pytest.approx(values.tolist(), abs=1e-6), key


def test_a_label_neither_there_nor_predicted_leaves_macro_f1_alone() -> None:
    scores, labels = made("multi_label")
    scores[:, -1] = 0.01
    _, found = scored("multi_label", scores, labels, threshold=0.5)
    expected = expected_multi(scores.numpy(), labels.numpy(), 0.5)
    assert found["f1_macro"] == pytest.approx(expected["f1_macro"], abs=1e-6)
    five = sk.f1_score(labels[:, :-1].numpy(), scores[:, :-1].numpy() >= 0.5, average="macro")
    assert found["f1_macro"] == pytest.approx(five, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_is_the_best_of_all(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(60, 3, generator=generator) < 0.3).float()
    scores = (torch.randn(60, 3, generator=generator) + 2 * labels - 2).sigmoid()
    _, found = scored("multi_label", scores, labels, size=25)
    tried = [sk.f1_score(labels.numpy(), scores.numpy() >= np.float32(t), average="micro") for t in SWEEP]
    best = [t for t, value in zip(SWEEP, tried, strict=True) if value == pytest.approx(max(tried), abs=1e-9)]
    assert found["f1_micro"] == pytest.approx(max(tried), abs=1e-6)
    assert found["threshold"] == pytest.approx(best[len(best) // 2], abs=1e-6)
    expected = expected_multi(scores.numpy(), labels.numpy(), np.float32(found["threshold"]))
    # with so few rows one tie within a bin weighs more than with many
    areas = {name: expected.pop(name) for name in ("auroc", "map")}
    assert_close(found, expected)
    assert {name: found[name] for name in areas} == pytest.approx(areas, abs=0.01)


@pytest.mark.parametrize("sharpness", [0.1, 1, 8, 30, 80])
@pytest.mark.parametrize("problem_type", ["single_label", "multi_label"])
def test_areas_hold_for_very_confident_and_very_unsure_models(problem_type: str, sharpness: float) -> None:
    scores, labels = made(problem_type, 3000, sharpness)
    _, found = scored(problem_type, scores, labels, size=1000)
    if problem_type == "single_label":
        expected = {"auroc": expected_single(scores.numpy(), labels.numpy())["auroc"]}
    else:
        full = expected_multi(scores.numpy(), labels.numpy(), 0.5)
        expected = {name: full[name] for name in ("auroc", "map")}
    assert_close(found, expected)
    assert 0.6 < expected["auroc"] < 0.95


def test_areas_of_perfect_and_of_useless_scores() -> None:
    labels = torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 0]])
    assert scored("multi_label", labels, labels)[1]["auroc"] == 1
    assert scored("multi_label", labels, labels)[1]["map"] == 1
    assert scored("multi_label", 1 - labels, labels)[1]["auroc"] == 0
    labels = labels.repeat(500, 1)
    for constant in (0.0, 0.3, 1.0):
        found = scored("multi_label", torch.full((2000, 2), constant), labels)[1]
        assert found["auroc"] == 0.5
        assert found["map"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("targets", [1, 3])
def test_regression_equals_sklearn(targets: int) -> None:
    scores, labels = made("regression")
    scores, labels = scores[:, :targets].contiguous(), labels[:, :targets].contiguous()
    _, found = scored("regression", scores, labels)
    assert set(found) == set(NAMES["regression"])
    assert_close(found, expected_regression(scores.numpy(), labels.numpy()))


@pytest.mark.parametrize("problem_type", ["single_label", "multi_label", "regression"])
def test_nothing_scored_gives_numbers_all_the_same(problem_type: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metrics = ClassificationScores(problem_type, "abc")
        values, table = metrics.compute(), metrics.table()
    assert set(values) == set(NAMES[problem_type])
    assert all(row["support"] == 0 for row in table)


SPLIT = {"uneven": 150, "one process has a single row": 204, "one process has none": ROWS}


def _score_a_share(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    results = {}
    for problem_type, size in (("single_label", SIZE), ("multi_label", SIZE), ("regression", 1), ("regression", 3)):
        scores, labels = made(problem_type)
        if problem_type == "regression":
            scores, labels = scores[:, :size].contiguous(), labels[:, :size].contiguous()
        for name, cut in SPLIT.items():
            mine = slice(0, cut) if rank == 0 else slice(cut, None)
            metrics, found = scored(problem_type, scores[mine], labels[mine])
            results[problem_type, size, name] = (found, metrics.table())
    if rank == 1:
        torch.save(results, f"{folder}/results.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("targets", [1, 2])
def test_one_row_has_no_rank_correlation(targets: int) -> None:
    metric = Spearman(num_outputs=targets)
    row = torch.rand(1, targets) if targets > 1 else torch.rand(1)
    metric.update(row, row)
    assert bool(metric.compute().isnan().all())  # as scipy's
    metric.update(row + 1, row + 2)
    torch.testing.assert_close(metric.compute(), torch.ones(targets).squeeze())


def test_two_processes_with_uneven_rows_equal_one(tmp_path: Any, free_port: int) -> None:
    mp.start_processes(_score_a_share, (free_port, str(tmp_path)), nprocs=2, start_method=METHOD)
    results = torch.load(tmp_path / "results.pt", weights_only=True)
    assert len(results) == 4 * len(SPLIT)
    for (problem_type, size, name), (found, table) in results.items():
        scores, labels = made(problem_type)
        if problem_type == "regression":
            scores, labels = scores[:, :size].contiguous(), labels[:, :size].contiguous()
        metrics, whole = scored(problem_type, scores, labels)
        assert found == pytest.approx(whole, abs=1e-5), (problem_type, size, name)
        assert table == metrics.table(), (problem_type, size, name)
        assert_close(found, {"accuracy": expected_single(scores.numpy(), labels.numpy())["accuracy"]}
                     if problem_type == "single_label" else {})  # fmt: skip


def test_extra_metrics_by_name_path_and_arguments() -> None:
    scores, labels = made("single_label")
    specs: list[Any] = [
        "CohenKappa",
        "torchmetrics.classification.MulticlassJaccardIndex",
        {"class_path": "MulticlassFBetaScore", "init_args": {"beta": 2.0, "average": "weighted"}},
    ]
    _, found = scored("single_label", scores, labels, extras=specs)
    truth, guess = labels.numpy(), scores.argmax(1).numpy()
    expected = {
        "multiclass_cohen_kappa": sk.cohen_kappa_score(truth, guess),
        "multiclass_jaccard_index": sk.jaccard_score(truth, guess, average="macro", zero_division=0),
        "multiclass_fbeta_score": sk.fbeta_score(truth, guess, beta=2, average="weighted", zero_division=0),
    }
    extra = {name: value for name, value in found.items() if name not in NAMES["single_label"]}
    combined = extra.pop("combined_score")
    assert extra.keys() == {"multiclass_cohen_kappa", "multiclass_jaccard_index", "multiclass_f_beta_score"}
    assert list(extra.values()) == pytest.approx(list(expected.values()), abs=1e-6)
    assert combined == pytest.approx(np.mean(list(expected.values())), abs=1e-6)


def test_one_extra_metric_is_its_own_score() -> None:
    _, found = scored("single_label", *made("single_label"), extras=["CohenKappa"])
    assert "combined_score" not in found


def test_binary_metrics_are_glues() -> None:
    scores, labels = made("single_label")
    scores, labels = scores[:, :2] / scores[:, :2].sum(1, keepdim=True), (labels > 2).long()
    _, found = scored("single_label", scores, labels, extras=["BinaryF1Score", "BinaryPrecision"])
    guess = scores.argmax(1).numpy()
    assert found["binary_f1_score"] == pytest.approx(sk.f1_score(labels.numpy(), guess), abs=1e-6)
    assert found["binary_precision"] == pytest.approx(sk.precision_score(labels.numpy(), guess), abs=1e-6)
    assert found["f1_macro"] != pytest.approx(found["binary_f1_score"], abs=1e-3)


def test_extra_metrics_of_other_problem_types() -> None:
    scores, labels = made("multi_label")
    _, found = scored("multi_label", scores, labels, extras=["HammingDistance", "MultilabelRankingLoss"])
    assert found["multilabel_hamming_distance"] == pytest.approx(
        sk.hamming_loss(labels.numpy(), scores.numpy() >= 0.5), abs=1e-6
    )
    assert found["multilabel_ranking_loss"] == pytest.approx(
        sk.label_ranking_loss(labels.numpy(), scores.numpy()), abs=1e-5
    )
    scores, labels = made("regression")
    _, found = scored("regression", scores[:, :1], labels[:, :1], extras=["R2Score", "ExplainedVariance"])
    truth, guess = labels[:, 0].numpy(), scores[:, 0].numpy()
    assert found["r2_score"] == pytest.approx(sk.r2_score(truth, guess), abs=1e-5)
    assert found["explained_variance"] == pytest.approx(sk.explained_variance_score(truth, guess), abs=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("MulticlasF1Score", "did you mean 'MulticlassF1Score'"),
        ("PearsonCorCoef", "did you mean 'PearsonCorrCoef'"),
        ("torchmetrics.classification.BinaryF1", "did you mean 'Binary"),
        ({"class_path": "MulticlassF1Score", "init_args": {"averag": "micro"}}, "averag"),
        ("torch.nn.Linear", "Linear"),
        ("torch.nn.ReLU", "no torchmetrics metric"),
    ],
)
def test_bad_metrics_are_refused_by_name(spec: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        extra_metrics([spec], "single_label", 3)


def test_two_metrics_of_one_name_are_refused() -> None:
    specs: list[Any] = ["MulticlassF1Score", {"class_path": "MulticlassF1Score", "init_args": {"average": "micro"}}]
    with pytest.raises(UserError, match="multiclass_f1_score"):
        extra_metrics(specs, "single_label", 3)


def test_scores_that_are_no_numbers_make_no_calibration_error() -> None:
    metric = CalibrationError()
    metric.update(torch.tensor([[0.5, 0.5], [math.nan, math.nan]]), torch.tensor([0, 1]))
    assert math.isnan(float(metric.compute()))
