"""Causal language models that learn which replies are better: DPO, IPO, hinge, robust DPO, ORPO, SimPO and KTO."""

from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.mismatched import mismatched
from lit_ft.data.batching.parts import side_by_side, taken_apart
from lit_ft.data.batching.twins import on_cpu
from lit_ft.data.labels import IGNORED
from lit_ft.errors import UserError
from lit_ft.metrics.preferences import RewardScores, means
from lit_ft.modules.base import Batch
from lit_ft.modules.reference import ReferenceModule
from lit_ft.modules.reply_rewards import RewardingModule
from lit_ft.modules.replying import ReplyingModule
from lit_ft.ops.heads.token_log_probs import token_log_probs
from lit_ft.ops.losses.preferences import BETA, WITHOUT_REFERENCE, Compared, LossType, Replies
from lit_ft.ranges import BELOW_ONE_HALF, NOT_NEGATIVE, POSITIVE, check_choice, check_ranges


class PreferenceModule(RewardingModule, ReferenceModule, ReplyingModule):  # type: ignore[misc]
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
        check_choice(self.hparams, "loss_type", get_args(LossType))
        weights = dict.fromkeys(("rpo_alpha", "desirable_weight", "undesirable_weight"), NOT_NEGATIVE)
        check_ranges(self.hparams, {"beta": POSITIVE, "label_smoothing": BELOW_ONE_HALF, **weights})
        if label_smoothing and loss_type not in ("sigmoid", "robust", "simpo"):
            raise UserError(f"label_smoothing belongs to sigmoid, robust and simpo; loss_type is {loss_type}")
        if rpo_alpha and loss_type == "kto":
            raise UserError("rpo_alpha is for pairs; loss_type is kto")
        self.beta = BETA.get(loss_type, 0.1) if beta is None else beta

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
        return Replies.of_tokens(each, states.feature, len(batch["input_ids"]))

    def outputs(self, batch: Batch) -> Compared:  # type: ignore[override]
        """Runs the model, and the reference where the loss has one; see the base."""
        reference = self.reference_log_probs(batch) if self.compares else None
        there = (on_cpu(batch["labels"])[:, 1:] != IGNORED).any(1)  # no copy to wait for
        return Compared(replace(self._scored(batch), reference=reference), there, self._desirable(batch))

    def _desirable(self, batch: Batch) -> Tensor | None:
        """Returns which replies are good, `[rows]`; `None` of pairs, unless the loss takes them apart."""
        if "desirable" in batch:
            return batch["desirable"] > 0  # type: ignore[no-any-return]
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
        options = self.hparams
        if outputs.desirable is not None:
            weights = (options["desirable_weight"], options["undesirable_weight"])
            return outputs.loss_of_singles(self._divergence(batch), self.beta, weights)
        alpha = 1.0 if options["loss_type"] == "orpo" else options["rpo_alpha"]
        return outputs.loss_of_pairs(
            options["loss_type"], self.beta, options["label_smoothing"], options["simpo_gamma"], alpha
        )

    def progress(self, outputs: Compared, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        """The rewards of a training batch; see the base."""
        rewards, there = outputs.replies.rewards(self.beta), outputs.there
        if "desirable" not in batch:
            chosen, rejected = (side[outputs.pairs] for side in rewards.chunk(2))
            return means(chosen, rejected, paired=True)
        good = on_cpu(batch["desirable"]) > 0
        # a batch of single replies may have none that are good, or bad
        return means(rewards[there & good], rewards[there & ~good], paired=False)

    # Evaluation

    def decode(self, outputs: Compared, batch: Batch) -> list[Part]:  # type: ignore[override]
        """Takes rewards, log-probabilities and numbers of tokens of each row; see the base."""
        replies = outputs.replies
        values = {
            "reward": replies.rewards(self.beta), "log_prob": replies.log_probs.detach(), "tokens": replies.tokens
        }  # fmt: skip
        if "desirable" in batch or self.description.get("paired") is False:
            return taken_apart(len(replies.tokens), desirable=outputs.desirable, **values)
        return side_by_side(**values)

    def evaluation_loss(self, outputs: Any, batch: Batch, rows: list[Part]) -> tuple[Tensor, Tensor]:
        """The loss of the batch; see the base."""
        return self.loss(outputs, batch)

    def update(self, metrics: RewardScores, rows: list[Part]) -> None:  # type: ignore[override]
        """Adds the rewards of rows that have a reply to compare; see the base."""
        super().update(metrics, [row for row in rows if _compared(row)])

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """How much more reward the worse reply gets, where there are replies to compare; see the base."""
        found = super().wrongness(rows)
        known = torch.tensor([_compared(row) for row in rows], device=self.device)
        return None if found is None else found.where(known, torch.nan)

    def said(self, row: Part) -> str:
        """The rewards; see the base."""
        return ", ".join(f"{name} {value:.3f}" for name, value in self.prediction(row).items() if "reward" in name)

    def predict_parts(self, batch: Batch) -> list[Part]:
        """Scores the replies at hand; see the base."""
        return self.decode(self.outputs(batch), batch)

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns rewards and log-probabilities of the replies; see the base."""
        made = {name: value for name, value in row.items() if name != "desirable"}
        return {name: int(value) if name.endswith("tokens") else float(value) for name, value in made.items()}


def _compared(row: Part) -> bool:
    """Says whether tokens are left of each reply of a row, and somebody judged it."""
    return all(row[name] > 0 for name in ("tokens", "chosen_tokens", "rejected_tokens") if name in row)
