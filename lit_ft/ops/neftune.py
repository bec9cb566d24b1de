"""Noise on the embeddings of tokens while a model is trained (NEFTune, arXiv 2310.05914)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


@contextmanager
def noisy_embeddings(model: PreTrainedModel, alpha: float, inputs: Mapping[str, Any]) -> Iterator[None]:
    """Adds uniform noise to the input embeddings, up to alpha / sqrt(L * d) for a sequence of L tokens of size d.

    L counts real tokens, wherever a sequence lies: in a padded batch, where transformers counts padding, too, or in a
    flat row.

    Args:
        model: that is run within.
        alpha: strength of the noise; nothing is added at 0, nor in evaluation mode.
        inputs: keywords of its forward: `sequence_lengths`, or an `attention_mask`, say how long sequences are.
    """
    if not alpha or not model.training:
        yield
        return
    lengths = _lengths(inputs)

    def add_noise(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        each = lengths.to(output.device, non_blocking=True)
        if output.shape[0] == len(each):
            each = each[:, None]
        else:  # sequences lie end to end
            each = each.repeat_interleave(each, output_size=output.shape[1])[None]
        most = alpha / (each * output.shape[-1]).clamp(min=1).sqrt()
        return output + torch.zeros_like(output).uniform_(-1, 1) * most[..., None].to(output.dtype)

    handle = model.get_input_embeddings().register_forward_hook(add_noise)
    try:
        yield
    finally:
        handle.remove()


def _lengths(inputs: Mapping[str, Any]) -> Tensor:
    if inputs.get("sequence_lengths") is not None:
        return torch.tensor(inputs["sequence_lengths"].lengths)
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    return torch.full((len(ids),), ids.shape[1]) if mask is None else mask.sum(1)  # type: ignore[no-any-return]
