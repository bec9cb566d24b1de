"""Which of two checkpoints is the better one: by what metrics say of themselves, by modules, by what is asked for."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torchmetrics import Metric, classification, regression

from lit_ft.callbacks.checkpoint import RunCheckpoint

KNOWN = [
    each
    for home in (classification, regression)
    for each in vars(home).values()
    if isinstance(each, type) and issubclass(each, Metric) and each.higher_is_better in (True, False)
    if each.__name__ not in ("BinaryFairness", "BinaryGroupStatRates")  # no single number, so never logged
]


def test_extra_metrics_go_as_torchmetrics_says() -> None:
    assert len(KNOWN) > 50
    for metric in KNOWN:
        name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", metric.__name__).lower()
        for monitor in (f"val_{name}", f"val_mae_set_{name}", f"val_f1_{name}"):
            assert RunCheckpoint(monitor=monitor).mode == ("max" if metric.higher_is_better else "min"), monitor


LESS = "loss perplexity pseudo_perplexity bits_per_byte calibration_error mse mae ter"
MORE = "accuracy f1_macro mcc auroc map spearman rouge1 bleu chrf exact_match reward_margin mrr_at_10 counter"


@pytest.mark.parametrize("prefix", ["val_", "val_loss_set_", "val_mae_set_", "test_ter_"])
def test_our_own_metrics_go_by_the_end_of_the_name(prefix: str) -> None:
    modes = {name: RunCheckpoint(monitor=prefix + name).mode for name in (LESS + " " + MORE).split()}
    assert modes == dict.fromkeys(LESS.split(), "min") | dict.fromkeys(MORE.split(), "max")
    for name in ("val_loss/dataloader_idx_1", "train_loss_epoch", "val_mse_step"):  # as Lightning names what steps log
        assert RunCheckpoint(monitor=name).mode == "min"


class Scored(LightningModule):
    """Logs 3, 1, 2, under one name of which `monitor_mode` alone says that less of it is better."""

    monitor, monitor_mode = "val_cost", "min"

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.values = iter([3.0, 1.0, 2.0])

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        value = next(self.values)
        self.log_dict({"val_cost": value, "val_bits_per_byte": value, "val_f1": value})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


CASES: list[tuple[dict[str, Any], str, float]] = [
    ({}, "min", 1),
    ({"mode": "max"}, "max", 3),
    ({"monitor": "val_cost"}, "min", 1),
    ({"monitor": "val_bits_per_byte"}, "min", 1),
    ({"monitor": "val_bits_per_byte", "mode": "max"}, "max", 3),
    ({"monitor": "val_f1"}, "max", 3),
]


@pytest.mark.parametrize(("told", "mode", "best"), CASES, ids=str)
def test_the_mode_is_the_one_asked_for_else_the_modules_else_the_names(
    told: dict[str, Any], mode: str, best: float, tmp_path: Path
) -> None:
    saving = RunCheckpoint(**told)
    saving.dirpath = str(tmp_path)
    trainer = Trainer(
        accelerator="cpu", max_epochs=3, callbacks=[saving], logger=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    batches = torch.utils.data.DataLoader([0])  # type: ignore[arg-type]
    trainer.fit(Scored(), batches, batches)
    assert (saving.mode, saving.best_model_score) == (mode, best)
