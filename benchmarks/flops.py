"""Useful FLOPs of a model on its real tokens, and the machine's GEMM peak measured in the same run.

Useful: the products of matrices that the result needs. Padding, embeddings, logits that nobody asked for, dropout,
norms and the optimizer count nothing, so that `utilisation` (useful FLOPs / (seconds x peak)) falls with each of them.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from harness import Comparison, Measured, Round, compare
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

PEAK = "GEMM peak"
"""Name under which the machine takes its turn among the contestants."""
PROBE_IDS = (5, 7, 6, 8, 9)
SIZES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
REPEATS = {"cpu": 5, "cuda": 20}


@dataclass(frozen=True)
class ModelCost:
    """Weights that a forward pass multiplies with, by what they are multiplied with.

    Attributes:
        token: weights used for each real token (the layers).
        row: weights used once a row within the body (a pooler).
        label: weights used for each label (heads outside the body: a language model's, a classifier's).
        attention: layers x (heads x size of a head).
        causal: whether a token attends to those before it only: then half of each square counts.
    """

    token: int
    row: int
    label: int
    attention: int
    causal: bool

    @staticmethod
    def of(model: Any) -> "ModelCost":
        """Watches a row of five tokens pass a `transformers` model: which layers saw five vectors, which saw one.

        A layer that is used several times counts so often (ALBERT). Layers that see another number of vectors (tables
        of relative positions) and windows of attention shorter than a row are not looked at.
        """
        from lit_ft.ops.padding_free.tiny_run import undisturbed

        inside = set(model.base_model.modules())
        seen = {"token": 0, "row": 0, "label": 0}

        def watch(module: nn.Module, inputs: tuple[Any, ...], _: Any) -> None:
            weight: Any = module.weight
            width = weight.shape[0] if isinstance(module, Conv1D) else weight.shape[1]
            vectors = inputs[0].numel() // width
            if vectors in (1, len(PROBE_IDS)):
                seen["label" if module not in inside else "row" if vectors == 1 else "token"] += weight.numel()

        layers = [module for module in model.modules() if isinstance(module, (nn.Linear, Conv1D))]
        handles = [layer.register_forward_hook(watch) for layer in layers]
        try:
            with undisturbed(model) as device:
                ids = torch.tensor([PROBE_IDS], device=device)
                model(input_ids=ids, attention_mask=torch.ones_like(ids))
                counted = dict(seen)
                causal = _is_causal(model.base_model, ids)
        finally:
            for handle in handles:
                handle.remove()
        config = model.config.get_text_config()
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        width = config.num_attention_heads * size
        return ModelCost(**counted, attention=config.num_hidden_layers * width, causal=causal)

    def forward(self, counts: Tensor) -> float:
        """Returns the useful FLOPs of forward passes.

        Args:
            counts: what `count` returns, of one batch or the sum of several.
        """
        rows, tokens, squares, labels = (int(each) for each in counts)
        pairs = (squares + tokens) / 2 if self.causal else squares
        return 2 * (self.token * tokens + self.row * rows + self.label * labels) + 4 * self.attention * pairs

    def training(self, counts: Tensor) -> float:
        """Returns the useful FLOPs of steps: each product of forward becomes two more in backward."""
        return 3 * self.forward(counts)

    def count(self, batch: Mapping[str, Any]) -> Tensor:
        """Counts what a batch holds; see `count`."""
        return count(batch, self.causal)


@dataclass(frozen=True)
class EncoderDecoderCost:
    """Weights that a forward pass of an encoder-decoder multiplies with; every token of a target is labelled.

    Attributes:
        source: weights used for each token of a source: the encoder, keys and values of the decoder's look at it.
        target: weights used for each token of a target: the decoder and the head.
        width: heads x size of a head.
        layers: of the encoder, and of the decoder.
    """

    source: int
    target: int
    width: int
    layers: tuple[int, int]

    @staticmethod
    def of(model: Any) -> "EncoderDecoderCost":
        """Watches five tokens and their target of three pass: which layers saw five vectors, which saw three."""
        from lit_ft.ops.padding_free.tiny_run import undisturbed

        seen = {5: 0, 3: 0}

        def watch(module: nn.Linear, inputs: tuple[Any, ...], _: Any) -> None:
            seen[inputs[0].numel() // module.weight.shape[1]] += module.weight.numel()

        layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        handles = [layer.register_forward_hook(watch) for layer in layers]
        try:
            with undisturbed(model) as device:
                ids = torch.tensor([PROBE_IDS], device=device)
                model(input_ids=ids, decoder_input_ids=ids[:, :3])
        finally:
            for handle in handles:
                handle.remove()
        config = model.config
        size = getattr(config, "d_kv", None) or config.hidden_size // config.num_attention_heads
        depth = getattr(config, "encoder_layers", None) or config.num_layers
        layers_of_both = (depth, getattr(config, "num_decoder_layers", None) or config.decoder_layers)
        return EncoderDecoderCost(seen[5], seen[3], config.num_attention_heads * size, layers_of_both)

    def count(self, batch: Mapping[str, Any]) -> Tensor:
        """Counts rows, tokens of both sides, pairs that attend to each other in all layers, tokens of targets, `[4]`.

        Args:
            batch: `attention_mask` `[batch, seq]` and `labels` `[batch, target seq]`, -100 = padding.
        """
        sources, targets = batch["attention_mask"].sum(-1), batch["labels"].ne(-100).sum(-1)
        encoder, decoder = self.layers
        squares, seen = (sources * sources).sum(), (targets * (targets + 1) // 2 + targets * sources).sum()
        rows = sources.new_tensor(len(sources))
        return torch.stack([rows, (sources + targets).sum(), encoder * squares + decoder * seen, targets.sum()])

    def training(self, counts: Tensor) -> float:
        """Returns the useful FLOPs of steps.

        Args:
            counts: what `count` returns, of one batch or the sum of several.
        """
        _, tokens, pairs, targets = (int(each) for each in counts)
        return 3 * (2 * (self.source * (tokens - targets) + self.target * targets) + 4 * self.width * pairs)


def _is_causal(body: nn.Module, ids: Tensor) -> bool:
    other = ids.clone()
    other[0, -1] += 1
    first, second = (body(input_ids=each, attention_mask=torch.ones_like(each))[0][0, 0] for each in (ids, other))
    return bool(torch.equal(first, second))


def count(batch: Mapping[str, Any], causal: bool = False) -> Tensor:
    """Counts what a batch holds; asks no device for anything where there is an `attention_mask`.

    Args:
        batch: `input_ids` `[batch, seq]`; `attention_mask`, or `position_ids` that begin anew with each document and at
            each token of padding, or neither (no padding); `labels` `[batch]` or `[batch, seq]`, -100 = none.
        causal: whether labels `[batch, seq]` belong to the token before.

    Returns:
        Rows, real tokens, sum of the squared lengths, labels (rows, where there are none), `[4]`.
    """
    ids, labels = batch["input_ids"], batch.get("labels")
    lengths = _lengths(batch)
    rows = lengths.new_tensor(len(ids))
    if labels is not None and causal and labels.dim() == 2:
        labels = labels[:, 1:]
    labelled = rows if labels is None else labels.ne(-100).sum()
    return torch.stack([rows, lengths.sum(), (lengths * lengths).sum(), labelled])


def _lengths(batch: Mapping[str, Any]) -> Tensor:
    ids = batch["input_ids"]
    if batch.get("attention_mask") is not None:
        return batch["attention_mask"].sum(-1)  # type: ignore[no-any-return]
    if batch.get("position_ids") is not None:
        starts = (batch["position_ids"].flatten() == 0).nonzero().flatten()
        lengths = torch.cat([starts, starts.new_tensor([ids.numel()])]).diff()
        return lengths[lengths > 1]
    return ids.new_full((len(ids),), ids.shape[1])


def gemm_peak(device: str, precision: str = "32-true") -> Round:
    """Makes the machine's own turn: products of square matrices, with torch's threads and settings as they are.

    Args:
        device: `cpu` or `cuda`.
        precision: Lightning's word; bfloat16 matrices where it begins with `bf16`, float32 (TF32 where torch is set
            so) otherwise.

    Returns:
        A round that measures `peak`, FLOPs a second, the best of several.
    """
    dtype = torch.bfloat16 if precision.startswith("bf16") else torch.float32

    def once(size: int) -> float:
        one, two = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        product, best = one @ two, float("inf")
        for _ in range(REPEATS[device]):
            if device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            torch.matmul(one, two, out=product)
            if device == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
        return 2 * size**3 / best

    def run() -> Measured:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return {"peak": max(once(size) for size in SIZES[device])}

    return run


def with_utilisation(measured: dict[str, list[Measured]]) -> str:
    """Takes the machine's rounds out, and adds `utilisation` (%) to each round of the others that has `flops`, a rate.

    Returns:
        The sentence of what the peak was.
    """
    peaks = [each["peak"] for each in measured.pop(PEAK)]
    for rounds in measured.values():
        for each in rounds:
            each["utilisation"] = 100 * each["flops"] / median(peaks)
    low, middle, high = (value / 1e9 for value in (min(peaks), median(peaks), max(peaks)))
    return (
        f"GEMM peak: {middle:.0f} GFLOP/s ({low:.0f} - {high:.0f}), best of several square products once a round; "
        "utilisation: matrix products that the result needs, of real tokens and labelled places only, / (time x median)"
    )


def utilisation(measured: Mapping[str, list[Measured]], name: str = "") -> Comparison:
    """Compares utilisation, once `with_utilisation` has added it."""
    return compare(measured, "utilisation", f"{name}utilisation (useful FLOPs of the GEMM peak)", "%", "higher")
