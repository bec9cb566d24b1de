"""Causal language models that learn which replies are better: DPO, IPO, hinge, robust DPO, ORPO, SimPO and KTO."""

import math
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.twins import on_cpu
from lit_ft.data.labels import IGNORED
from lit_ft.errors import UserError, did_you_mean
from lit_ft.metrics.preferences import RewardScores, means, names
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.reference import ReferenceModule
from lit_ft.modules.replying import ReplyingModule
from lit_ft.ops.heads.token_log_probs import token_log_probs
from lit_ft.ops.losses.preferences import BETA, WITHOUT_REFERENCE, LossType, Replies, kto_losses, pair_losses


@dataclass(frozen=True)
class Compared:
    """What is known of the replies of a batch.

    Attributes:
        replies: all of them, those chosen first where they are pairs.
        there: which rows have a reply, bool `[n]`, on the CPU.
        desirable: which of single replies are good, bool `[n]`; `None` = they are pairs.
    """

    replies: Replies
    there: Tensor
    desirable: Tensor | None

    @property
    def pairs(self) -> Tensor:
        """Which pairs have both replies, bool `[n / 2]`, on the CPU."""
        return self.there.view(2, -1).all(0)


class PreferenceModule(ReferenceModule, ReplyingModule):
    """Makes chosen replies likelier than rejected ones; batches are those of `PreferenceDataModule`.

    A reply's reward is `beta` times how much likelier it has become (of `orpo` and `simpo`: times its mean
    log-probability). Metrics: `reward_chosen`, `reward_rejected`, `reward_margin`, and of pairs `reward_accuracy`, how
    often the chosen reply has the higher reward. Predictions are rewards and log-probabilities of the replies at hand;
    new replies are written by `InstructionTuningModule` or `lit-ft chat` on the export.

    Args:
        loss_type: `sigmoid` (DPO), `ipo`, `hinge`, `robust`, `orpo`, `simpo`, or `kto` for replies that are judged one
            by one (or pairs, taken apart).
        beta: how far a difference of log-probabilities counts. Default: 0.1, of `simpo` 2.
        label_smoothing: share of the pairs that may be the wrong way round (`sigmoid`, `robust`, `simpo`).
        rpo_alpha: weight of the mean loss of the chosen replies' tokens, added to that of pairs (of `orpo` it is 1).
        simpo_gamma: margin of `simpo`.
        desirable_weight: weight of good replies in `kto`.
        undesirable_weight: weight of bad ones.
        precompute_ref_log_probs: compute the log-probabilities of the model that training begins with before it, once
            for all rows, and keep them for other runs; `false` asks that model at each step: the adapter is switched
            off, or a second model is in memory. Default: switch off an adapter, precompute without one.
        kwargs: options of `CausalLMModule`; `sample_prompts` are what users say, each a conversation of its own.

    Raises:
        UserError: an option is out of its range, or does not belong to the loss.
    """

    def __init__(
        self,
        *,
        loss_type: LossType = "sigmoid",
        beta: float | None = None,
        label_smoothing: float = 0.0,
        rpo_alpha: float = 0.0,
        simpo_gamma: float = 0.5,
        desirable_weight: float = 1.0,
        undesirable_weight: float = 1.0,
        precompute_ref_log_probs: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if loss_type not in (known := get_args(LossType)):
            raise UserError(f"loss_type is {loss_type!r}; choices: {', '.join(known)}{did_you_mean(loss_type, known)}")
        self.beta = BETA.get(loss_type, 0.1) if beta is None else beta
        if not 0 < self.beta < math.inf:
            raise UserError(f"beta is {beta}; it must be above 0")
        if not 0 <= label_smoothing < 0.5:
            raise UserError(f"label_smoothing is {label_smoothing}; it must be at least 0 and below 0.5")
        if label_smoothing and loss_type not in ("sigmoid", "robust", "simpo"):
            raise UserError(f"label_smoothing belongs to sigmoid, robust and simpo; loss_type is {loss_type}")
        for option in ("rpo_alpha", "desirable_weight", "undesirable_weight"):
            if not 0 <= self.hparams[option] < math.inf:
                raise UserError(f"{option} is {self.hparams[option]}; it must be at least 0")
        if rpo_alpha and loss_type == "kto":
            raise UserError("rpo_alpha is for pairs; loss_type is kto")

    @property
    def compares(self) -> bool:
        """Says whether the loss has a reference; see the base."""
        return self.hparams["loss_type"] not in WITHOUT_REFERENCE

    @property
    def may_precompute(self) -> bool:
        """KTO asks about replies that stand under other prompts, as the batch has them; see the base."""
        return self.hparams["loss_type"] != "kto"  # type: ignore[no-any-return]

    def setup(self, stage: str) -> None:
        """Checks that there are a reference, and pairs; see the base."""
        super().setup(stage)
        self.check_reference()
        if self.description.get("paired") is False and self.hparams["loss_type"] != "kto" and stage != "predict":
            raise UserError(
                f"loss_type {self.hparams['loss_type']} compares pairs, and these rows are single replies: set "
                "loss_type: kto, or give rows with chosen and rejected"
            )

    # Log-probabilities

    def reply_log_probs(self, batch: Batch) -> Tensor:
        """Returns the log-probability of each row's labelled tokens, summed, `[rows]`."""
        return self._scored(batch).log_probs

    def _scored(self, batch: Batch) -> Replies:
        states = super().outputs(batch)
        each = token_log_probs(self.halves, states.hidden, states.targets)
        sums = each.new_zeros(len(batch["input_ids"]))
        tokens = torch.zeros_like(sums, dtype=torch.long).index_add_(0, states.feature, torch.ones_like(states.feature))
        return Replies(sums.index_add(0, states.feature, each), tokens)

    def outputs(self, batch: Batch) -> Compared:  # type: ignore[override]
        """Runs the model, and the reference where the loss has one; see the base."""
        reference = self.reference_log_probs(batch) if self.compares else None
        there = (on_cpu(batch["labels"])[:, 1:] != IGNORED).any(1)  # no copy to wait for
        return Compared(replace(self._scored(batch), reference=reference), there, self._desirable(batch))

    def _desirable(self, batch: Batch) -> Tensor | None:
        """Returns which replies are good, `[rows]`; `None` of pairs, unless the loss takes them apart."""
        if "desirable" in batch:
            return batch["desirable"]  # type: ignore[no-any-return]
        if self.hparams["loss_type"] != "kto" or self.description.get("paired") is False:
            return None
        size = len(batch["input_ids"])
        return torch.arange(size, device=self.device) < size // 2

    @torch.no_grad()
    def _divergence(self, batch: Batch) -> Tensor:
        """Returns how much likelier replies to other prompts have become, over all processes; at least 0."""
        mixed = mismatched(batch, self.description.get("length"))
        found = torch.zeros((), device=self.device)
        if mixed is not None:
            mixed = {name: value.to(self.device) for name, value in mixed.items()}
            found = (self.reply_log_probs(mixed) - self.reference_log_probs(mixed)).mean()
        # only training has as many batches on every process
        if self._trainer is not None and self.trainer.world_size > 1 and self.trainer.training:
            found = self.trainer.strategy.reduce(found, reduce_op="mean")  # type: ignore[assignment]
        return found.clamp(min=0)

    # Loss

    def loss(self, outputs: Compared, batch: Batch) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The loss of pairs, or of single replies; see the base."""
        options, replies = self.hparams, outputs.replies
        if outputs.desirable is not None:
            weights = (options["desirable_weight"], options["undesirable_weight"])
            losses = kto_losses(replies, outputs.desirable, self._divergence(batch), self.beta, weights)
            return losses[outputs.there].sum(), losses.new_full((), int(outputs.there.sum()))
        count = replies.log_probs.new_full((), int(outputs.pairs.sum()))
        if not outputs.pairs.any():
            return replies.log_probs.sum() * 0.0, count
        chosen, rejected = (side[outputs.pairs] for side in replies.halves())
        losses = pair_losses(
            options["loss_type"], chosen, rejected, self.beta, options["label_smoothing"], options["simpo_gamma"]
        )
        alpha = 1.0 if options["loss_type"] == "orpo" else options["rpo_alpha"]
        if alpha:
            losses = losses - alpha * chosen.log_probs.sum() / chosen.tokens.sum()
        return losses.sum(), count

    def progress(self, outputs: Compared, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        """The rewards of a training batch; see the base."""
        rewards, there = outputs.replies.rewards(self.beta), outputs.there
        if "desirable" not in batch:
            chosen, rejected = (side[outputs.pairs] for side in rewards.chunk(2))
            return means(chosen, rejected, paired=True)
        good = on_cpu(batch["desirable"])
        # a batch of single replies may have none that are good, or bad
        return means(rewards[there & good], rewards[there & ~good], paired=False)

    # Evaluation

    def decode(self, outputs: Compared, batch: Batch) -> list[Part]:  # type: ignore[override]
        """Takes rewards, log-probabilities and numbers of tokens of each row; see the base."""
        replies, size = outputs.replies, len(outputs.replies.tokens)
        rewards, log_probs = replies.rewards(self.beta), replies.log_probs.detach()
        values = {"reward": rewards, "log_prob": log_probs, "tokens": replies.tokens}
        if "desirable" in batch or self.description.get("paired") is False:
            good = outputs.desirable if outputs.desirable is not None else [None] * size
            return [{"desirable": good[at], **{name: each[at] for name, each in values.items()}} for at in range(size)]
        half = size // 2
        sides = (("chosen", 0), ("rejected", half))
        return [
            {f"{side}_{name}": each[first + at] for name, each in values.items() for side, first in sides}
            for at in range(half)
        ]

    def evaluation_loss(self, outputs: Any, batch: Batch, rows: list[Part]) -> tuple[Tensor, Tensor]:
        """The loss of the batch; see the base."""
        return self.loss(outputs, batch)

    def metrics(self, description: Description, stage: str) -> RewardScores:  # type: ignore[override]
        """Means of rewards; see the base."""
        return RewardScores(description.get("paired") is not False).to(self.device)

    def update(self, metrics: RewardScores, rows: list[Part]) -> None:  # type: ignore[override]
        """Adds the rewards of rows that have a reply to compare; see the base."""
        if metrics.paired:
            rows = [row for row in rows if row["chosen_tokens"] > 0 and row["rejected_tokens"] > 0]
            sides = [[row[f"{side}_reward"] for row in rows] for side in ("chosen", "rejected")]
        else:
            rows = [row for row in rows if row["tokens"] > 0]
            sides = [[row["reward"] for row in rows if bool(row["desirable"]) is good] for good in (True, False)]
        metrics.update(*(torch.stack(side) if side else torch.zeros(0, device=self.device) for side in sides))

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """How much more reward the rejected reply gets; of single replies how far off theirs is; see the base."""
        if "reward" in rows[0]:
            return torch.stack([-row["reward"] if bool(row["desirable"]) else row["reward"] for row in rows])
        return torch.stack([row["rejected_reward"] - row["chosen_reward"] for row in rows])

    def said(self, row: Part) -> str:
        """The rewards; see the base."""
        return ", ".join(f"{name} {value:.3f}" for name, value in self.prediction(row).items() if "reward" in name)

    def compute(self, metrics: RewardScores) -> dict[str, Tensor]:  # type: ignore[override]
        """Returns the metrics; see the base."""
        return metrics.compute()  # type: ignore[no-any-return]

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return names(description.get("paired") is not False)

    def predict_parts(self, batch: Batch) -> list[Part]:
        """Scores the replies at hand; see the base."""
        return self.decode(self.outputs(batch), batch)

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns rewards and log-probabilities of the replies; see the base."""
        made = {name: value for name, value in row.items() if name != "desirable"}
        return {name: int(value) if name.endswith("tokens") else float(value) for name, value in made.items()}


def mismatched(batch: Batch, longest: int | None = None) -> Batch | None:
    """Puts the reply of the row before under each row's prompt, on the CPU; `None` where there is one row.

    Args:
        batch: `input_ids`, `attention_mask`, `labels`, `[rows, seq]`, padded on the right.
        longest: most tokens of a row; what is longer is cut.

    Returns:
        A batch of as many rows as have a reply.
    """
    ids, labels, real = (on_cpu(batch[name]) for name in ("input_ids", "labels", "attention_mask"))
    known = labels != IGNORED
    rows = known.any(1).nonzero()[:, 0].tolist()
    if len(rows) < 2:
        return None
    begins, ends = known.int().argmax(1).tolist(), real.sum(1).tolist()
    pairs = list(zip(rows, [rows[-1], *rows[:-1]], strict=True))
    tokens = [torch.cat([ids[one, : begins[one]], ids[other, begins[other] : ends[other]]]) for one, other in pairs]
    marks = [
        torch.cat([labels[one, : begins[one]], labels[other, begins[other] : ends[other]]]) for one, other in pairs
    ]
    made = {
        "input_ids": pad_sequence(tokens, batch_first=True),
        "labels": pad_sequence(marks, batch_first=True, padding_value=IGNORED),
        "attention_mask": pad_sequence([torch.ones_like(each) for each in tokens], batch_first=True),
    }
    return {name: value[:, :longest] for name, value in made.items()}
