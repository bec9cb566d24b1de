"""The best sequence of tags that a scheme allows: Viterbi without learned weights, all sentences at once."""

import torch
from torch import Tensor


def best_sequences(scores: Tensor, lengths: Tensor, follows: Tensor, begins: Tensor, ends: Tensor) -> Tensor:
    """Finds, for each sentence, the allowed tags with the highest sum of scores.

    Args:
        scores: log-probabilities `[sentences, words, tags]`.
        lengths: words of each sentence, at least one, `[sentences]`.
        follows: which tag may follow which, `[before, after]` bool.
        begins: which tags may begin a sentence, `[tags]` bool.
        ends: which tags may end one, `[tags]` bool.

    Returns:
        Ids `[sentences, words]`; 0 behind a sentence's end.
    """
    forbidden = torch.finfo(scores.dtype).min / 4  # two of them are no infinity yet
    step = torch.zeros_like(scores[0, :1]).expand(len(follows), -1).masked_fill(~follows, forbidden)
    last = torch.zeros_like(scores[0, 0]).masked_fill(~ends, forbidden)
    at_end = (lengths[:, None] - 1 == torch.arange(scores.shape[1], device=scores.device))[..., None] * last
    scores = scores + at_end
    best = scores[:, 0].masked_fill(~begins, forbidden)
    came_from = []
    for word in range(1, scores.shape[1]):
        reached, before = (best[:, :, None] + step).max(1)
        inside = (word < lengths)[:, None]
        best = torch.where(inside, reached + scores[:, word], best)
        came_from.append(torch.where(inside, before, torch.arange(best.shape[1], device=best.device)))
    tags = [best.argmax(1)]
    for before in reversed(came_from):
        tags.append(before.gather(1, tags[-1][:, None])[:, 0])
    found = torch.stack(tags[::-1], 1)
    return found.masked_fill(torch.arange(found.shape[1], device=found.device) >= lengths[:, None], 0)
