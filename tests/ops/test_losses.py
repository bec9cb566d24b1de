"""Losses as (sum, count) against transformers' own heads, LabelSmoother, torch and formulas by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from transformers import AutoModelForSequenceClassification
from transformers.trainer_pt_utils import LabelSmoother

from lit_ft.errors import UserError
from lit_ft.ops.losses.classification import (
    FocalLoss,
    OrdinalLoss,
    balanced_class_weights,
    classification_loss,
    labelled,
    load_loss,
    mean,
)

ROWS, SIZE = 7, 4


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(ROWS, SIZE, generator=torch.Generator().manual_seed(0)) * 2


@pytest.fixture
def ids() -> Tensor:
    return torch.tensor([0, 3, 1, 1, 2, 0, 3])


@pytest.fixture
def multi_hot() -> Tensor:
    return torch.randint(0, 2, (ROWS, SIZE), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize(
    ("problem_type", "size"), [("single_label", 3), ("multi_label", 3), ("regression", 1), ("regression", 3)]
)
def test_equals_the_heads_of_transformers(tiny: Callable[..., str], problem_type: Any, size: int) -> None:
    head = problem_type if problem_type == "regression" else f"{problem_type}_classification"
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny(), num_labels=size, problem_type=head).eval()
    batch = {"input_ids": torch.randint(5, 100, (6, 9)), "attention_mask": torch.ones(6, 9, dtype=torch.long)}
    labels = {
        "single_label": torch.randint(0, size, (6,)),
        "multi_label": torch.randint(0, 2, (6, size)).float(),
        "regression": torch.randn(6, size),
    }[problem_type]
    outputs = model(**batch, labels=labels)
    total, count = classification_loss(outputs.logits, labels, problem_type)
    assert float(count) == 6
    torch.testing.assert_close(total / count, outputs.loss)


def test_the_loss_of_a_whole_is_that_of_its_parts(logits: Tensor, ids: Tensor) -> None:
    weights = torch.tensor([0.01, 0.2, 0.1, 0.05])
    parts = [classification_loss(logits[at], ids[at], "single_label", weights) for at in (slice(2), slice(2, None))]
    total, count = (sum(values) for values in zip(*parts, strict=True))
    torch.testing.assert_close(total / count, nn.CrossEntropyLoss(weights)(logits, ids))
    # small weights: the count is below one, and must divide all the same
    assert 0 < float(parts[0][1]) < 1
    torch.testing.assert_close(mean(*parts[0]), nn.CrossEntropyLoss(weights)(logits[:2], ids[:2]))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_label_smoothing_equals_transformers(logits: Tensor, ids: Tensor, share: float) -> None:
    theirs = LabelSmoother(epsilon=share)({"logits": logits}, ids)
    total, count = classification_loss(logits, ids, "single_label", label_smoothing=share)
    torch.testing.assert_close(total / count, theirs)
    ids[2] = -100
    total, count = classification_loss(logits, ids, "single_label", label_smoothing=share)
    kept = ids != -100
    expected = nn.CrossEntropyLoss(label_smoothing=share)(logits[kept], ids[kept])
    torch.testing.assert_close(total / count, expected)


def test_label_smoothing_of_several_labels_goes_towards_one_half(logits: Tensor, multi_hot: Tensor) -> None:
    total, count = classification_loss(logits, multi_hot, "multi_label", label_smoothing=0.2)
    expected = nn.BCEWithLogitsLoss()(logits, torch.where(multi_hot == 1, 0.9, 0.1))
    torch.testing.assert_close(total / count, expected)


def test_class_weights_equal_torchs(logits: Tensor, ids: Tensor, multi_hot: Tensor) -> None:
    weights = torch.tensor([1.0, 0.2, 3.0, 0.5])
    total, count = classification_loss(logits, ids, "single_label", weights, label_smoothing=0.1)
    torch.testing.assert_close(total / count, nn.CrossEntropyLoss(weights, label_smoothing=0.1)(logits, ids))
    total, count = classification_loss(logits, multi_hot, "multi_label", weights)
    torch.testing.assert_close(total / count, nn.BCEWithLogitsLoss(pos_weight=weights)(logits, multi_hot))
    # a module in bfloat16 casts its buffers too, while losses are in float32
    total, count = classification_loss(logits.bfloat16(), ids, "single_label", weights.bfloat16())
    assert total.dtype == torch.float32
    assert float(total / count) == pytest.approx(float(nn.CrossEntropyLoss(weights)(logits, ids)), rel=0.02)


def test_balanced_class_weights_equal_sklearns(ids: Tensor, multi_hot: Tensor) -> None:
    expected = compute_class_weight("balanced", classes=np.arange(SIZE), y=ids.numpy())
    assert balanced_class_weights(ids.bincount().tolist(), ROWS, "single_label") == pytest.approx(expected.tolist())
    counts = multi_hot.sum(0).int().tolist()
    ratios = [sum(column == 0) / sum(column == 1) for column in multi_hot.T.numpy()]
    assert balanced_class_weights(counts, ROWS, "multi_label") == pytest.approx(ratios)
    assert all(map(math.isfinite, balanced_class_weights([3, 0], 3, "single_label")))


def labels_of(problem_type: str) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    if problem_type == "single_label":
        return torch.randint(0, SIZE, (ROWS,), generator=generator)
    if problem_type == "multi_label":
        return torch.randint(0, 2, (ROWS, SIZE), generator=generator).float()
    return torch.randn(ROWS, SIZE, generator=generator)


PROBLEMS: list[Any] = ["single_label", "multi_label", "regression"]
OWN: list[Any] = [None, "FocalLoss", "torch.nn.CrossEntropyLoss", "torch.nn.MSELoss", "torch.nn.BCEWithLogitsLoss"]
FITTING = [
    (problem, own)
    for problem in PROBLEMS
    for own in OWN
    if own is None
    or (own in ("FocalLoss", "torch.nn.CrossEntropyLoss") and problem == "single_label")
    or (own in ("FocalLoss", "torch.nn.BCEWithLogitsLoss") and problem == "multi_label")
    or (own == "torch.nn.MSELoss" and problem == "regression")
]


@pytest.mark.parametrize(("problem_type", "own"), FITTING)
def test_unlabelled_rows_count_nowhere(logits: Tensor, problem_type: Any, own: Any) -> None:
    labels, loss = labels_of(problem_type), load_loss(own)
    nothing = -100 if problem_type == "single_label" else math.nan
    expected = classification_loss(logits[1:-2], labels[1:-2], problem_type, own=loss)
    for row in (0, -2, -1):
        labels[row] = nothing
    logits[0] = math.nan  # whatever the model makes of such a row
    logits.requires_grad_()
    total, count = classification_loss(logits, labels, problem_type, own=loss)
    assert labelled(labels).tolist() == [False, True, True, True, True, False, False]
    torch.testing.assert_close((total, count), expected)
    (gradient,) = torch.autograd.grad(total, logits)
    assert gradient[[0, -2, -1]].abs().sum() == 0
    assert gradient[1:-2].abs().sum() > 0


@pytest.mark.parametrize(("problem_type", "own"), FITTING)
def test_nothing_labelled_is_zero_with_finite_gradients(logits: Tensor, problem_type: Any, own: Any) -> None:
    labels = torch.full_like(labels_of(problem_type), -100 if problem_type == "single_label" else math.nan)
    logits.requires_grad_()
    weights = torch.ones(SIZE) if problem_type != "regression" else None
    total, count = classification_loss(logits, labels, problem_type, weights, own=load_loss(own))
    assert (float(total), float(count), float(mean(total, count))) == (0, 0, 0)
    (gradient,) = torch.autograd.grad(mean(total, count), logits)
    assert torch.equal(gradient, torch.zeros_like(logits))


def test_a_row_with_one_number_missing_is_unlabelled() -> None:
    assert labelled(torch.tensor([[1.0, math.nan], [0.0, 1.0]])).tolist() == [False, True]
    assert labelled(torch.tensor([math.nan, 1.0])).tolist() == [False, True]


def test_integer_labels_from_anybodys_loader(logits: Tensor, multi_hot: Tensor) -> None:
    assert classification_loss(logits, multi_hot.long(), "multi_label") == classification_loss(
        logits, multi_hot, "multi_label"
    )
    stars = torch.tensor([1, 5, 3, 3, 2, 4, 1])
    total, count = classification_loss(logits[:, :1], stars, "regression")
    torch.testing.assert_close(total / count, nn.MSELoss()(logits[:, 0], stars.float()))


def test_focal_loss(logits: Tensor, ids: Tensor, multi_hot: Tensor) -> None:
    torch.testing.assert_close(FocalLoss(gamma=0)(logits, ids), nn.CrossEntropyLoss(reduction="none")(logits, ids))
    torch.testing.assert_close(
        FocalLoss(gamma=0)(logits, multi_hot), nn.BCEWithLogitsLoss(reduction="none")(logits, multi_hot)
    )
    right = logits.softmax(-1)[torch.arange(ROWS), ids]
    torch.testing.assert_close(FocalLoss(gamma=1.5)(logits, ids), -((1 - right) ** 1.5) * right.log())
    sure = logits.sigmoid() * multi_hot + (1 - logits.sigmoid()) * (1 - multi_hot)
    torch.testing.assert_close(FocalLoss()(logits, multi_hot), -((1 - sure) ** 2) * sure.log())


def test_focal_loss_has_finite_gradients_where_it_is_certain() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    for gamma in (0.5, 1.0, 2.0):
        (gradient,) = torch.autograd.grad(FocalLoss(gamma)(logits, torch.tensor([0, 0])).sum(), logits)
        assert bool(gradient.isfinite().all()), gamma


def test_ordinal_loss_by_hand() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    # cumulated: .7 .9 1 against 1 1 1, and .1 .3 1 against the same
    losses = OrdinalLoss()(probabilities.log(), torch.tensor([0, 0]))
    assert losses.tolist() == pytest.approx([0.3**2 + 0.1**2, 0.9**2 + 0.7**2])


def test_own_losses_equal_the_built_in_ones(logits: Tensor, ids: Tensor) -> None:
    own = load_loss("torch.nn.CrossEntropyLoss")
    torch.testing.assert_close(
        classification_loss(logits, ids, "single_label", own=own), classification_loss(logits, ids, "single_label")
    )
    smooth = load_loss({"class_path": "CrossEntropyLoss", "init_args": {"label_smoothing": 0.1}})
    torch.testing.assert_close(
        classification_loss(logits, ids, "single_label", own=smooth),
        classification_loss(logits, ids, "single_label", label_smoothing=0.1),
    )
    targets = labels_of("regression")
    for spec in ("MSELoss", {"class_path": "torch.nn.MSELoss", "init_args": {"reduction": "none"}}):
        torch.testing.assert_close(
            classification_loss(logits, targets, "regression", own=load_loss(spec)),
            classification_loss(logits, targets, "regression"),
        )
    function = load_loss("torch.nn.functional.cross_entropy")
    torch.testing.assert_close(
        classification_loss(logits, ids, "single_label", own=function)[0], nn.CrossEntropyLoss()(logits, ids) * ROWS
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("FocalLos", "did you mean 'FocalLoss'"),
        ("CrossEntropyLos", "did you mean 'CrossEntropyLoss'"),
        ("torch.nn.MSELos", "did you mean 'MSELoss'"),
        ("no_such_module.Loss", "no_such_module"),
        ({"class_path": "FocalLoss", "init_args": {"gama": 1}}, "gama"),
        ({"class_path": "FocalLoss", "args": {}}, r"unknown keys \['args'\]"),
        ({"init_args": {}}, "no class_path"),
        ({"class_path": "torch.nn.functional.cross_entropy", "init_args": {"reduction": "sum"}}, "no init_args"),
        ("math.pi", "cannot be called"),
    ],
)
def test_bad_losses_are_refused_by_name(spec: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_loss(spec)


@pytest.mark.parametrize("problem_type", ["single_label", "multi_label", "regression"])
@pytest.mark.parametrize("weighted", [False, True])
def test_no_step_waits_for_the_device(problem_type: Any, weighted: bool) -> None:
    # fake tensors have shapes, but no values: whatever must know one to go on fails
    with FakeTensorMode():
        labels = labels_of(problem_type)
        with pytest.raises(DynamicOutputShapeException):
            labels[labelled(labels)]
        with pytest.raises(DataDependentOutputException):
            bool(labelled(labels).any())
        logits = torch.randn(ROWS, SIZE, requires_grad=True)
        weights = torch.ones(SIZE) if weighted and problem_type != "regression" else None
        total, count = classification_loss(logits, labels, problem_type, weights, label_smoothing=0.1)
        mean(total, count).backward()
        assert logits.grad is not None
