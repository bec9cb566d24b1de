"""What modules share that give replies rewards: means of them, and how far off those of a row are."""

import torch
from torch import Tensor

from lit_ft.data.batching.merging import Part
from lit_ft.metrics.preferences import RewardScores, names
from lit_ft.modules.base import Description, TransformerModule


class RewardingModule(TransformerModule):
    """Scores chosen and rejected replies, or good and bad ones; a task writes what their rewards are.

    Parts have `chosen_reward` and `rejected_reward`, or of single replies `reward` and `desirable`.
    """

    def metrics(self, description: Description, stage: str) -> RewardScores:
        """Means of rewards; see the base."""
        return RewardScores(description.get("paired") is not False).to(self.device)

    def update(self, metrics: RewardScores, rows: list[Part]) -> None:
        """Adds the rewards of each row; see the base."""
        if metrics.paired:
            sides = [[row[f"{side}_reward"] for row in rows] for side in ("chosen", "rejected")]
        else:
            sides = [[row["reward"] for row in rows if bool(row["desirable"]) is good] for good in (True, False)]
        metrics.update(*(torch.stack(side) if side else torch.zeros(0, device=self.device) for side in sides))

    def compute(self, metrics: RewardScores) -> dict[str, Tensor]:
        """Returns the metrics; see the base."""
        return metrics.compute()  # type: ignore[no-any-return]

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return names(description.get("paired") is not False)

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """How much more reward the rejected reply gets; of single replies how far off theirs is; see the base."""
        if "reward" in rows[0]:
            return torch.stack([-row["reward"] if bool(row["desirable"]) else row["reward"] for row in rows])
        return torch.stack([row["rejected_reward"] - row["chosen_reward"] for row in rows])
