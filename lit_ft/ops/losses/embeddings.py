"""Losses of sentence embeddings, by sentence-transformers' names and formulas."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_ft.data.likeness.columns import Kind
from lit_ft.errors import UserError

BatchTriplets = Literal["all", "hard", "hard_soft_margin", "semi_hard"]
Loss = Literal[
    "multiple_negatives", "triplet", "cosent", "cosine", "contrastive",
    "batch_all", "batch_hard", "batch_hard_soft_margin", "batch_semi_hard",
]  # fmt: skip
LOSSES: dict[Kind, tuple[Loss, ...]] = {
    "pairs": ("multiple_negatives", "triplet"),
    "scored": ("cosent", "cosine", "contrastive"),
    "labelled": ("batch_all", "batch_hard", "batch_hard_soft_margin", "batch_semi_hard"),
}
"""Losses of each kind of rows, the default one first."""


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Returns the cosine of every vector of one to every vector of the other, `[n, m]`."""
    return F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).T


def check_loss(loss: Loss, kind: Kind, columns: Sequence[str]) -> None:
    """Makes sure that a loss is one of these rows.

    Raises:
        UserError: it is not.
    """
    if loss not in LOSSES[kind]:
        rows = {"pairs": "pairs", "scored": "pairs with scores", "labelled": "texts with labels"}[kind]
        raise UserError(f"loss {loss} is not for {rows}: choose one of {', '.join(LOSSES[kind])}")
    if loss == "triplet" and len(columns) != 3:
        raise UserError(f"loss triplet wants three columns, anchor, positive and negative; there are {columns}")


def summed_loss(loss: Loss, vectors: Tensor, labels: Tensor | None, scale: float, margin: float | None) -> Tensor:
    """Returns a loss of rows that are not each other's negatives, summed over them, a scalar.

    Args:
        loss: any but `multiple_negatives`.
        vectors: of each row's texts, `[n, k, size]`.
        labels: scores, or numbers for labels, `[n]`; not of triplets in rows.
        scale: of the cosines in `cosent`.
        margin: of distances; `None` = the usual one.
    """
    if not len(vectors):
        return vectors.sum()
    if loss == "triplet":
        return triplet_losses(vectors, margin or 5.0).sum()
    assert labels is not None
    if loss.startswith("batch_"):  # one number for all triplets of rows: each row has its share
        triplets: Any = loss.removeprefix("batch_")
        return batch_triplet_loss(triplets, vectors[:, 0], labels, margin or 5.0) * len(vectors)
    one, other = vectors[:, 0], vectors[:, 1]
    if loss == "cosent":
        return cosent_loss(one, other, labels, scale) * len(vectors)
    if loss == "contrastive":
        return contrastive_losses(one, other, labels, margin or 0.5).sum()
    return cosine_losses(one, other, labels).sum()


def ranking_losses(
    vectors: Tensor,
    scale: float,
    texts: Tensor | None = None,
    real: Tensor | None = None,
    first: int = 0,
    rows: int | None = None,
) -> Tensor:
    """Returns the loss of each anchor, `[rows]`: its positive against all positives and negatives of the batch.

    MultipleNegativesRankingLoss (arXiv 1705.00652). What says the same as the anchor's positive, or is the positive of
    the same anchor, is no negative.

    Args:
        vectors: of anchors, positives and maybe negatives, `[n, k, size]`.
        scale: of the cosines.
        texts: a number for each text, the same for the same text, `[n, k]`; `None` = all are different.
        real: which rows count, bool `[n]`; `None` = all.
        first: the first row whose loss is asked for.
        rows: how many from there on; `None` = all.
    """
    size = len(vectors)
    asked = slice(first, size if rows is None else first + rows)
    candidates = vectors[:, 1:].transpose(0, 1).flatten(0, 1)
    scores = cosines(vectors[asked, 0], candidates).float() * scale
    own = torch.arange(size, device=scores.device)[asked]
    excluded = torch.zeros_like(scores, dtype=torch.bool)
    if texts is not None:
        excluded |= texts[:, 1:].T.flatten() == texts[asked, 1, None]
        excluded[:, :size] |= texts[asked, 0, None] == texts[:, 0]
    if real is not None:
        excluded |= ~real.repeat(vectors.shape[1] - 1)
    excluded[own - first, own] = False
    return F.cross_entropy(scores.masked_fill(excluded, -torch.inf), own, reduction="none")


def cosent_loss(one: Tensor, other: Tensor, labels: Tensor, scale: float) -> Tensor:
    """Returns CoSENT's loss of a batch, a scalar: pairs with a higher label shall have the higher cosine.

    Args:
        one: vectors, `[n, size]`.
        other: those they are compared with, `[n, size]`.
        labels: how alike they are, `[n]`.
        scale: of the cosines.
    """
    scores = F.cosine_similarity(one, other).float() * scale
    differences = (scores[:, None] - scores[None, :])[labels[:, None] < labels[None, :]]
    return torch.logsumexp(torch.cat([differences.new_zeros(1), differences]), 0)


def cosine_losses(one: Tensor, other: Tensor, labels: Tensor) -> Tensor:
    """Returns the squared difference of each pair's cosine to its label, `[n]` (CosineSimilarityLoss)."""
    return (F.cosine_similarity(one, other).float() - labels) ** 2


def triplet_losses(vectors: Tensor, margin: float) -> Tensor:
    """Returns the loss of each anchor, positive and negative, `[n]`: distances that differ by a margin (TripletLoss).

    Args:
        vectors: `[n, 3, size]`.
        margin: of the Euclidean distances.
    """
    anchor, positive, negative = vectors.float().unbind(1)
    nearer, farther = F.pairwise_distance(anchor, positive), F.pairwise_distance(anchor, negative)
    return F.relu(nearer - farther + margin)


def contrastive_losses(one: Tensor, other: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Returns the loss of each pair, `[n]`: alike (1) draws together, unlike (0) pushes apart (ContrastiveLoss).

    Args:
        one: vectors, `[n, size]`.
        other: those they are compared with, `[n, size]`.
        labels: 1 or 0, `[n]`.
        margin: of the cosine distance from which unlike texts are far enough apart.
    """
    distances = 1 - F.cosine_similarity(one, other).float()
    return 0.5 * (labels * distances**2 + (1 - labels) * F.relu(margin - distances) ** 2)


def batch_triplet_loss(kind: BatchTriplets, vectors: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Returns the loss of labelled texts, a scalar: those of a label shall be nearer than others by a margin.

    The triplets are those of the batch: `all`, or for each text (`hard`, `hard_soft_margin`: arXiv 1703.07737) its
    farthest mate and nearest other, or for each two mates (`semi_hard`: arXiv 1503.03832) the nearest other that is
    farther away than the mate. Sentence-transformers' BatchAllTripletLoss and the like.

    Args:
        kind: which triplets.
        vectors: `[n, size]`.
        labels: a number for each label, `[n]`.
        margin: of the Euclidean distances; not of `hard_soft_margin`.
    """
    distances = _distances(vectors.float())
    same = labels[:, None] == labels[None, :]
    mates = same & ~torch.eye(len(labels), dtype=torch.bool, device=same.device)
    if kind == "all":
        losses = F.relu(distances[:, :, None] - distances[:, None, :] + margin) * (mates[:, :, None] & ~same[:, None])
        return losses.sum() / (losses > 1e-16).sum().clamp(min=1)
    if kind == "semi_hard":
        ordered = distances.masked_fill(same, torch.inf).sort(1).values
        places = torch.searchsorted(ordered.detach(), distances.detach(), right=True)
        nearest = ordered.gather(1, places.clamp(max=len(labels) - 1))
        farthest = distances.masked_fill(same, 0).amax(1, keepdim=True)
        chosen = torch.where(nearest.isfinite(), nearest, farthest)
        return (F.relu(distances - chosen + margin) * mates).sum() / mates.sum().clamp(min=1)
    farthest_mate = (distances * mates).amax(1)
    nearest_other = (distances + distances.amax(1, keepdim=True) * same).amin(1)
    differences = farthest_mate - nearest_other
    return (F.softplus(differences) if kind == "hard_soft_margin" else F.relu(differences + margin)).mean()


def _distances(vectors: Tensor) -> Tensor:
    """Euclidean, `[n, n]`; the root of zero has no gradient, so that zeros stay what they are."""
    products = vectors @ vectors.T
    lengths = products.diagonal()
    squared = (lengths[None, :] - 2 * products + lengths[:, None]).clamp(min=0)
    zero = squared == 0
    return squared.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)
