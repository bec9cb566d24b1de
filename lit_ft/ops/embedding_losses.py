"""Losses of sentence embeddings, by sentence-transformers' names and formulas."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Returns the cosine of every vector of one to every vector of the other, `[n, m]`."""
    return F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).T


def ranking_losses(vectors: Tensor, scale: float, texts: Tensor | None = None, real: Tensor | None = None) -> Tensor:
    """Returns the loss of each anchor, `[n]`: its positive against all positives and negatives of the batch.

    MultipleNegativesRankingLoss (arXiv 1705.00652). What says the same as the anchor's positive, or is the positive of
    the same anchor, is no negative.

    Args:
        vectors: of anchors, positives and maybe negatives, `[n, k, size]`.
        scale: of the cosines.
        texts: a number for each text, the same for the same text, `[n, k]`; `None` = all are different.
        real: which rows count, bool `[n]`; `None` = all.
    """
    anchors, candidates = vectors[:, 0], vectors[:, 1:].transpose(0, 1).flatten(0, 1)
    scores = cosines(anchors, candidates).float() * scale
    rows = len(anchors)
    own = torch.arange(rows, device=scores.device)
    excluded = torch.zeros_like(scores, dtype=torch.bool)
    if texts is not None:
        said = texts[:, 1:].T.flatten()
        excluded |= said == texts[:, 1, None]
        excluded[:, :rows] |= texts[:, 0, None] == texts[:, 0]
    if real is not None:
        excluded |= ~real.repeat(vectors.shape[1] - 1)
    excluded[own, own] = False
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
