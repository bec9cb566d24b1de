"""What causal and masked language models share: a loss at labelled positions only, and scores as sums over tokens."""

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.twins import on_cpu
from lit_ft.data.labels import IGNORED
from lit_ft.errors import UserError
from lit_ft.metrics.language_modeling import TokenScores
from lit_ft.modules.base import SAMPLE, Batch, Description, TransformerModule
from lit_ft.ops.building.positions import hard_limit, longest_input
from lit_ft.ops.building.sharding import is_sharded
from lit_ft.ops.heads.logits_only import LogitsOnly
from lit_ft.ops.heads.split_model import SplitModel, split_or_reason
from lit_ft.ops.heads.token_loss import token_loss, token_scores
from lit_ft.ops.padding_free.layout import Layout
from lit_ft.ops.padding_free.sequences import running_flat

log = logging.getLogger("lit_ft")

SUMS = ("loss", "tokens", "correct", "bytes")
"""What is summed up over the tokens of each row."""
SAMPLE_TOKENS = 32
"""Tokens of a row of a sample, whose scores are those of the whole vocabulary."""


@dataclass
class LabelledStates:
    """What the head needs to know of a batch.

    Attributes:
        hidden: last hidden states at the labelled positions, `[n, hidden]` (or logits, where a model does not split).
        targets: the tokens to be predicted there, `[n]`.
        feature: which row of the batch each is of, `[n]`.
        sequence: which sequence each is of, `[n]`: the row, or one of the documents that share rows.
    """

    hidden: Tensor
    targets: Tensor
    feature: Tensor
    sequence: Tensor


class LanguageModelingModule(TransformerModule):
    """A language model of any architecture; use a task's own class, not this one.

    The head runs at labelled positions only, some hundred at a time: logits `[batch, seq, vocab]` never exist.

    Args:
        kwargs: options of every module.
    """

    ways: tuple[str, ...] = ("",)
    """Ways of scoring a text, by what their metrics' names begin with."""

    def setup(self, stage: str) -> None:
        """Checks the architecture before any weights are loaded; see the base."""
        super().setup(stage)
        self.check_model(self._config)

    def check_model(self, config: PreTrainedConfig) -> None:
        """Refuses what this task or these data cannot do with an architecture.

        Raises:
            UserError: with the fix.
        """

    def check_length(self, config: PreTrainedConfig, option: str) -> None:
        """Refuses features that are longer than the model's positions; the data cannot know those of a new model.

        Args:
            config: the model's.
            option: name of the data's option for the length.

        Raises:
            UserError: they are.
        """
        most, size = hard_limit(config), getattr(self._datamodule, "longest_feature", None)
        if not isinstance(size, int):
            return
        if most is not None and size > most:
            raise UserError(f"data.{option} {size} is above the model's {most} positions: set it to {most} or less")
        known = None if self.tokenizer is None else longest_input(config, self.tokenizer)
        if known is not None and size > known:
            log.info(f"{option} {size} is above the {known} tokens that the model was trained on")

    def build(self) -> PreTrainedModel:
        """Builds the model; see the base."""
        for name in ("halves", "_kept_together"):
            self.__dict__.pop(name, None)  # what an earlier model was like
        return super().build()

    @cached_property
    def halves(self) -> SplitModel | LogitsOnly:
        """The model's body and head; or the whole where it does not split, which is said."""
        assert self.model is not None
        if self.prompts is not None:
            return LogitsOnly.of(self.prompts)
        sharded = is_sharded(self.model)  # asked first: a forward pass leaves embeddings and head whole for a while
        split, reason = split_or_reason(self.model)
        if split is None:
            log.info(f"logits are made at every position: {reason}")
            return LogitsOnly.of(self.model)
        return LogitsOnly(split.logits_at) if sharded else split

    def loss(self, outputs: LabelledStates, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the labelled tokens; see the base."""
        count = outputs.hidden.new_full((), len(outputs.targets), dtype=torch.float32)  # no copy to wait for
        return token_loss(self.halves, outputs.hidden, outputs.targets), count

    def decode(self, outputs: LabelledStates, batch: Batch) -> list[Part]:
        """Sums loss, tokens, right ones and bytes of each row; see the base."""
        loss, correct = token_scores(self.halves, outputs.hidden, outputs.targets)
        values = torch.stack([loss, torch.ones_like(loss), correct.float(), self.bytes_of(outputs.targets)], dim=1)
        sums = values.new_zeros(len(batch["input_ids"]), len(SUMS)).index_add_(0, outputs.feature, values)
        return [dict(zip(SUMS, row, strict=True)) for row in sums]

    def bytes_of(self, tokens: Tensor) -> Tensor:
        """Returns how many bytes of text each token stands for, `[n]`, where that is scored."""
        return torch.zeros_like(tokens, dtype=torch.float32)

    def merge(self, parts: list[Part]) -> Part:
        """Adds up the windows' sums."""
        return parts[0] if len(parts) == 1 else {name: sum(part[name] for part in parts) for name in parts[0]}

    def evaluation_loss(self, outputs: Any, batch: Batch, rows: list[Part]) -> tuple[Tensor, Tensor]:
        """Adds up the rows' sums; see the base."""
        zero = torch.zeros((), device=self.device)
        return sum((row["loss"] for row in rows), zero), sum((row["tokens"] for row in rows), zero)

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """The mean loss of a token of each row; see the base."""
        losses, tokens = (torch.stack([row[name] for row in rows]) for name in ("loss", "tokens"))
        return losses / tokens  # NaN of a row without tokens

    def said(self, row: Part) -> str:
        """The row's perplexity; see the base."""
        return f"perplexity {float((row['loss'] / row['tokens']).exp()):,.1f} over {int(row['tokens']):,} tokens"

    def metrics(self, description: Description, stage: str) -> dict[str, TokenScores]:
        """Sums over tokens for each way of scoring; see the base."""
        return {way: TokenScores().to(self.device) for way in self.ways}

    def update(self, metrics: dict[str, TokenScores], rows: list[Part]) -> None:
        """Adds the rows' sums; see the base."""
        for way in self.ways if rows else ():
            metrics[way].update(*(torch.stack([row[way + name] for row in rows]) for name in SUMS))

    def compute(self, metrics: dict[str, TokenScores]) -> dict[str, Tensor]:
        """Returns the metrics; see the base."""
        values = {way + name: value for way in self.ways for name, value in metrics[way].compute().items()}
        return {name: values[name] for name in self.metric_names(self.description) if name in values}

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return ["perplexity", "accuracy"]

    def sample_inputs(self, batch: Batch) -> dict[str, Tensor]:
        """The first tokens of a few rows; see the base."""
        return {"input_ids": batch["input_ids"][:SAMPLE, :SAMPLE_TOKENS]}

    def labelled(self, inputs: dict[str, Any], targets: Tensor) -> LabelledStates:
        """Runs the model on a padded batch; takes the hidden states where there is something to predict.

        Args:
            inputs: keywords of the model's forward.
            targets: what each position predicts, `[batch, seq]`, on the CPU rather than elsewhere; -100 = nothing.
        """
        _ = self.halves  # found by passes of its own, which are padded
        if self.prompts is not None:
            rows = torch.arange(len(targets), device=targets.device)[:, None].expand_as(targets)
            return self.states(inputs, targets, rows, rows)
        free = self.without_padding
        layout = free.layout_of(inputs) if free.whole else None
        if layout is not None:
            return self.labelled_flat(free.flat(inputs, layout), targets, layout)
        rows = torch.arange(len(targets), device=targets.device)[:, None].expand_as(targets)
        with free:
            return self.states(inputs, targets, rows, rows)

    def labelled_flat(self, inputs: dict[str, Any], targets: Tensor, layout: Layout) -> LabelledStates:
        """Runs the model on a flat row.

        Args:
            inputs: keywords of the model's forward for the flat row, with `sequence_lengths`.
            targets: what each position of the padded batch predicts, as in `labelled`.
            layout: of the padded batch.
        """
        _ = self.halves
        with running_flat():
            flat, lengths = layout.flatten(targets), torch.tensor(layout.sequences.lengths)
            of_token = torch.repeat_interleave(lengths)[None]
            return self.states(inputs, flat, layout.row_of_token(), of_token)

    def states(self, inputs: dict[str, Any], targets: Tensor, rows: Tensor, sequences: Tensor) -> LabelledStates:
        """Runs the model; takes the hidden states where there is something to predict.

        Args:
            inputs: keywords of the model's forward.
            targets: what each position predicts, -100 = nothing; `[batch, seq]`, or of a flat row `[1, total]`.
            rows: which row of the batch each position is of, likewise.
            sequences: which sequence, likewise.
        """
        targets, halves, device = on_cpu(targets), self.halves, inputs["input_ids"].device
        wanted = targets != IGNORED
        if isinstance(halves, SplitModel):
            place = wanted.flatten().nonzero()[:, 0].to(device, non_blocking=True)
            at = halves.hidden(**inputs).flatten(0, 1).index_select(0, place)
        else:
            at = halves.logits_at(wanted.to(device), **inputs)
        places = (targets, rows.cpu(), sequences.cpu())
        chosen = (each[wanted].to(device, non_blocking=True) for each in places)
        return LabelledStates(at, *chosen)

    @property
    def _config(self) -> PreTrainedConfig:
        if self.model is not None:
            return self.model.config
        return self.hf_config or self._config_of_source

    @cached_property
    def _config_of_source(self) -> PreTrainedConfig:
        return self.source.config()
