"""What a step shows, and how often it looks at a metric to show it."""

from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lit_ft.callbacks import RunProgress, progress


class _Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).sum()
        self.log("train_loss", torch.tensor(float(batch_idx)), prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class _Bar(RunProgress):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        self.seen.append(metrics)
        return metrics


# ten steps; the clock goes on by so many seconds at each
@pytest.mark.parametrize(("seconds", "shown"), [(0.0, [0, 9]), (0.1, [0, 3, 6, 9]), (1.0, list(range(10)))])
def test_steps_look_at_metrics_only_when_the_bar_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, seconds: float, shown: list[int]
) -> None:
    times = iter(100 + step * seconds for step in range(10))
    monkeypatch.setattr(progress, "monotonic", lambda: next(times))
    monkeypatch.setattr(progress, "PER_SECOND", 4)
    bar = _Bar()
    trainer = Trainer(
        accelerator="cpu", devices=1, max_epochs=1, callbacks=[bar], default_root_dir=tmp_path,
        logger=False, enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(_Module(), DataLoader(torch.ones(10, 1)))
    assert [int(metrics["train_loss"]) for metrics in bar.seen[: len(shown)]] == shown
    assert bar.progress is not None
    assert bar.progress.tasks[bar.train_progress_bar_id or 0].completed == 10


def test_the_number_of_the_run_is_left_out(tmp_path: Any) -> None:
    bar = _Bar()
    trainer = Trainer(
        accelerator="cpu", devices=1, max_steps=1, callbacks=[bar], logger=CSVLogger(tmp_path),
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(_Module(), DataLoader(torch.ones(1, 1)))
    assert bar.seen
    assert all("v_num" not in metrics for metrics in bar.seen)
