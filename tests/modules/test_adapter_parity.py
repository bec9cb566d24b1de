"""Adapters without padding, and with activations recomputed: the loss and the gradients of plain padded execution."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor

from tests.modules.test_adapters import KINDS, TASKS, model_for, with_adapter

LINEAR = {name: {**kind, "init_lora_weights": False} for name, kind in KINDS.items() if name != "IA3"}
IA3 = {"peft_type": "IA3", "init_ia3_weights": False}
FULL = {"classification": "LORA", "causal": "DoRA", "questions": "IA3"}
"""What runs each time; the others in `make soak`."""


def step(task: str, kind: dict[str, Any], model: str, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and the gradients of all that is trained."""
    seed_everything(3, verbose=False)
    module, data = with_adapter(TASKS[task], kind, **options)(model)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_steps=1)
    trainer.datamodule = data  # type: ignore[attr-defined]
    module.trainer, data.trainer = trainer, trainer
    data.setup("fit")
    module.setup("validate")
    seed_everything(4, verbose=False)
    module.configure_model()
    net = module.model
    net.train(options.get("gradient_checkpointing", False))
    for part in net.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0  # of T5's attention
    batch = next(iter(data.train_dataloader()))
    total, count = module.loss(module.outputs(batch), batch)
    (total / count).backward()
    ran_flat = module.without_padding.reason is None
    assert ran_flat is (module.hparams["padding_free"] != "off")
    return (total / count).detach(), {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def cases() -> list[Any]:
    return [
        pytest.param(task, name, marks=() if FULL.get(task) == name else pytest.mark.soak)
        for task in TASKS
        for name in ("LORA", "rsLoRA", "DoRA", "IA3")
    ]


@pytest.mark.parametrize(("task", "name"), cases())
def test_no_padding_is_computed_beside_an_adapter(
    tiny: Callable[..., str], tmp_path: Path, task: str, name: str
) -> None:
    model, kind = model_for(task, tiny, tmp_path), LINEAR.get(name, IA3)
    expected, theirs = step(task, kind, model, padding_free="off")
    for options in ({}, {"gradient_checkpointing": True}):
        loss, ours = step(task, kind, model, **options)
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        assert ours.keys() == theirs.keys()
        assert any("lora_" in each or "ia3_" in each for each in ours)
        for each, value in theirs.items():
            torch.testing.assert_close(ours[each], value, rtol=2e-3, atol=5e-5)
