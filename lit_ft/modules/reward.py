"""Reward models: a number for a conversation, learned from pairs of replies."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.parts import side_by_side, taken_apart
from lit_ft.data.labels import IGNORED
from lit_ft.errors import UserError
from lit_ft.metrics.preferences import means, names
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.reply_rewards import RewardingModule
from lit_ft.ops.building.models import SEQUENCE_HEAD, check_head, padding_config
from lit_ft.ranges import NOT_NEGATIVE, check_ranges

NAME = "reward"
"""The only label of the head."""


class RewardModule(RewardingModule):
    """Gives chosen replies more than rejected ones (Bradley-Terry); batches are those of `PreferenceDataModule`.

    Metrics: `reward_chosen`, `reward_rejected`, `reward_margin` and `reward_accuracy`, how often the chosen reply gets
    more. Predictions are the rewards of the replies at hand, of single replies (no `chosen` and `rejected`), too.

    Args:
        center_rewards_coefficient: weight of the squared sum of a pair's rewards, which keeps them around 0
            (arXiv 2312.09244).
        kwargs: options of every module.
    """

    auto_class = AutoModelForSequenceClassification
    extra_keys = ("desirable",)
    pipeline_tag = "text-classification"
    card_example = """from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this/folder")
model = AutoModelForSequenceClassification.from_pretrained("this/folder")
chat = [{"role": "user", "content": "A question"}, {"role": "assistant", "content": "A reply"}]
inputs = tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)
reward = model(input_ids=inputs["input_ids"]).logits[0, 0]"""

    def __init__(self, *, center_rewards_coefficient: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_ranges(self.hparams, {"center_rewards_coefficient": NOT_NEGATIVE})

    def setup(self, stage: str) -> None:
        """Makes sure that there are pairs, and no head for something else; see the base."""
        super().setup(stage)
        if self.description.get("paired") is False and stage != "predict":
            raise UserError("rewards are learned from pairs: give rows with chosen and rejected")
        check_head(self.trained_config, [NAME], SEQUENCE_HEAD, self.hparams["ignore_mismatched_sizes"])

    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """One number for each row; see the base."""
        padding = padding_config(self.source.config(), self.tokenizer, self.auto_class)
        return {"id2label": {0: NAME}, "label2id": {NAME: 0}, "problem_type": "regression", **padding}

    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The chosen reply's logarithmic odds of being the better one; see the base."""
        chosen, rejected = outputs.logits.float().squeeze(-1).chunk(2)
        losses = -F.logsigmoid(chosen - rejected)
        if self.hparams["center_rewards_coefficient"]:
            losses = losses + self.hparams["center_rewards_coefficient"] * (chosen + rejected) ** 2
        there = (batch["labels"] != IGNORED).any(1).view(2, -1).all(0)  # none in rows that fill up a batch
        return torch.where(there, losses, 0.0).sum(), there.sum()

    def progress(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """The rewards of a training batch; see the base."""
        chosen, rejected = outputs.logits.detach().squeeze(-1).chunk(2)
        return means(chosen, rejected, paired=True)

    def decode(self, outputs: Any, batch: Batch) -> list[Part]:
        """Takes the rewards of each row; see the base."""
        rewards = outputs.logits.detach().float().squeeze(-1)
        if self.description.get("paired") is False:
            return taken_apart(len(rewards), reward=rewards)
        return side_by_side(reward=rewards)

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics, those of pairs, for there is no training on others; see the base."""
        return names(paired=True)

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the rewards; see the base."""
        return {name: float(value) for name, value in row.items()}
