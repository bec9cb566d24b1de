"""Losses of classification heads as (sum, count), so that a step's loss is exact however its rows are dealt out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_ft.data.labels import IGNORED, ProblemType
from lit_ft.errors import UserError
from lit_ft.objects import load_object


def labelled(labels: Tensor) -> Tensor:
    """Returns which rows have a label, `[batch]`: class ids other than -100, numbers that are not NaN."""
    if labels.is_floating_point():
        return ~labels.reshape(len(labels), -1).isnan().any(1)
    return (labels.reshape(len(labels), -1) != IGNORED).all(1)


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    problem_type: ProblemType,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    own: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Sums the loss over the labelled rows; sum / count is what transformers' heads return.

    Args:
        logits: `[batch, labels]`.
        labels: ids `[batch]`, multi-hot `[batch, labels]` or numbers `[batch, targets]`.
        problem_type: cross-entropy, binary cross-entropy or squared error.
        class_weights: weight of each class `[labels]` (for multi-label: of its positive rows).
        label_smoothing: share of the target spread over all classes (multi-label: towards one half).
        own: another loss of (logits, labels): one value per row or element, or their mean.

    Returns:
        The sum and the count (of rows, or of their class weights) to divide it by.
    """
    rows = labelled(labels)
    logits = torch.where(rows[:, None], logits.float(), 0.0)  # whatever the model makes of other rows
    count = rows.sum().float()
    if class_weights is not None:
        class_weights = class_weights.to(logits)
    if own is not None:
        return _own_loss(own, logits[rows], labels[rows]), count
    # rows are masked, not picked: how many are picked only the device knows, and each step would wait for it
    if problem_type == "single_label":
        loss = F.cross_entropy(logits, labels, class_weights, None, IGNORED, None, "sum", label_smoothing)
        return loss, count if class_weights is None else (class_weights[labels * rows] * rows).sum()
    targets = torch.where(rows[:, None], labels.to(logits).reshape(logits.shape), 0.0)
    if problem_type == "multi_label":
        targets = targets * (1 - label_smoothing) + label_smoothing / 2
        values = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=class_weights, reduction="none")
    else:
        values = F.mse_loss(logits, targets, reduction="none")
    return (values.mean(1) * rows).sum(), count


def choice_loss(logits: Tensor, labels: Tensor, present: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Sums the cross-entropy over rows whose number of choices differs.

    Args:
        logits: `[batch, choices]`.
        labels: the right choice of each row, `[batch]`; -100 for rows that do not count.
        present: which choices a row has, `[batch, choices]`.
        label_smoothing: share of the target spread over all choices of a row.

    Returns:
        The sum and the count of labelled rows.
    """
    rows = labelled(labels)
    # whatever the model makes of other rows and of missing choices, it must not reach the gradient
    present = present | ~rows[:, None]
    logits = torch.where(rows[:, None] & present, logits.float(), 0.0).masked_fill(~present, -torch.inf)
    chances = logits.log_softmax(-1)
    right = chances.gather(1, (labels * rows)[:, None])[:, 0]
    even = torch.where(present, chances, 0.0).sum(1) / present.sum(1)
    values = (1 - label_smoothing) * right + label_smoothing * even
    return -(values * rows).sum(), rows.sum().float()


def row_losses(logits: Tensor, labels: Tensor, problem_type: ProblemType) -> Tensor:
    """Returns how far off each row is, `[batch]`; NaN of those without a label.

    Args:
        logits: `[batch, labels]`.
        labels: ids `[batch]`, multi-hot `[batch, labels]` or numbers `[batch, targets]`.
        problem_type: cross-entropy, binary cross-entropy or absolute error.
    """
    if problem_type == "single_label":
        losses = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")
    elif problem_type == "multi_label":
        losses = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none").mean(-1)
    else:
        losses = (logits - labels.view_as(logits)).abs().mean(-1)
    return losses.masked_fill(~labelled(labels), torch.nan)


def score_losses(scores: Tensor, labels: Tensor) -> Tensor:
    """Returns minus the logarithm of the right label's score, `[batch]`; NaN of rows without a label.

    Args:
        scores: probabilities, `[batch, labels]`.
        labels: ids, `[batch]`.
    """
    right = scores.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    return -right.log().masked_fill(~labelled(labels), torch.nan)


def _own_loss(own: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
    """Sums a loss that gives a value per row or element, or a mean, over labelled rows."""
    if not len(labels):  # means of nothing are NaN; the zero keeps the graph, which other processes wait for
        return logits.sum() * 0.0
    values = own(logits, labels)
    return values * len(labels) if values.dim() == 0 else values.reshape(len(labels), -1).mean(1).sum()


def mean(total: Tensor, count: Tensor) -> Tensor:
    """Returns total / count, 0 where nothing was counted; a count may lie below 1, for it may be a sum of weights."""
    return total / torch.where(count > 0, count, torch.ones_like(count))


def balanced_class_weights(counts: Sequence[int], rows: int, problem_type: ProblemType) -> list[float]:
    """Returns rows / (classes * count) of each class; for multi-label negatives / positives of each label."""
    seen = [max(count, 1) for count in counts]
    if problem_type == "multi_label":
        return [(rows - count) / count for count in seen]
    return [rows / (len(seen) * count) for count in seen]


def weights_of_classes(wanted: Literal["balanced"] | Sequence[float], description: Mapping[str, Any]) -> Tensor:
    """Returns the weight of each class, `[labels]`.

    Args:
        wanted: `balanced`, or a weight per class.
        description: `problem_type`, `labels`, and for balanced weights `label_counts` and `num_train_rows`.

    Raises:
        UserError: there are no classes, nobody has counted them, or there is another number of them.
    """
    kind, size = description["problem_type"], len(description["labels"])
    if kind == "regression":
        raise UserError("class_weights need classes, but problem_type is regression")
    if wanted == "balanced":
        if "label_counts" not in description:
            raise UserError("class_weights: balanced needs our data module, which counts the labels; or give a list")
        wanted = balanced_class_weights(description["label_counts"], description["num_train_rows"], kind)
    if len(wanted) != size:
        raise UserError(f"class_weights has {len(wanted)} values for {size} labels")
    return torch.tensor(wanted, dtype=torch.float32)


def _probabilities(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if labels.is_floating_point():
        return logits.sigmoid(), labels
    return logits.softmax(-1), F.one_hot(labels, logits.shape[-1]).to(logits.dtype)


class FocalLoss(nn.Module):
    """Cross-entropy that fades for rows already right (Lin et al. 2017), for single and multi-label.

    Args:
        gamma: how fast it fades; 0 is plain cross-entropy.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of each row `[batch]`, or of each element `[batch, labels]` for multi-label."""
        if labels.is_floating_point():
            cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        else:
            cross_entropy = F.cross_entropy(logits, labels, reduction="none")
        wrong = -torch.expm1(-cross_entropy)
        # the slope of a power below 1 is infinite at 0, where certain rows lie
        return wrong.clamp(min=1e-12) ** self.gamma * cross_entropy


class OrdinalLoss(nn.Module):
    """Squared earth mover's distance of ordered classes (Hou et al. 2016): a near miss costs less than a far one."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of each row, `[batch]`; the classes are ordered by their ids."""
        predicted, target = _probabilities(logits, labels)
        return (predicted.cumsum(-1) - target.cumsum(-1)).square().sum(-1)


def load_loss(spec: str | dict[str, Any] | None) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Makes the loss that a class path (or `{class_path, init_args}`) names.

    Raises:
        UserError: there is no such class or function.
    """
    if spec is None:
        return None
    own = load_object(spec, ("lit_ft.ops.losses.classification", "torch.nn"))
    if not callable(own):
        raise UserError(f"loss: {spec} cannot be called")
    return own  # type: ignore[no-any-return]
