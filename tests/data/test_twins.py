"""What was on the CPU is still known there after a batch has moved; `meta` stands for a device that cannot be read."""

import torch

from lit_ft import TextClassificationDataModule
from lit_ft.data.batching.twins import on_cpu
from lit_ft.ops.padding_free.layout import Layout


def test_a_moved_batch_remembers_itself() -> None:
    data = TextClassificationDataModule(model_name_or_path="none", train_file="none.csv")
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    batch = {"input_ids": mask * 7, "attention_mask": mask, "info": [{"a": 1}, {}]}
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved["attention_mask"].device.type == "meta"
    assert moved["info"] == batch["info"]
    assert torch.equal(on_cpu(moved["attention_mask"]), mask)
    layout = Layout.of(moved["attention_mask"])
    assert layout.sequences.lengths == (2, 3)
    flat = layout.flatten(moved["input_ids"])
    assert (flat.device.type, flat.shape) == ("meta", (1, 5))


def test_on_the_cpu_nothing_is_kept() -> None:
    data = TextClassificationDataModule(model_name_or_path="none", train_file="none.csv")
    moved = data.transfer_batch_to_device({"input_ids": torch.ones(2, 2)}, torch.device("cpu"), 0)
    assert not hasattr(moved["input_ids"], "_twin")
    assert on_cpu(moved["input_ids"]) is not None
