"""Text as a stream, cut into blocks and masked on the fly: the blocks of a prepared run, and a place that is kept."""

from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import AutoTokenizer

from lit_ft import CausalLMDataModule, CausalLMModule, MaskedLMDataModule, MaskedLMModule
from lit_ft.errors import UserError
from tests.tiny import SAMPLE, texts


def make_data(kind: str, model: str, **options: Any) -> Any:
    causal = {"block_size": 32} if kind == "causal" else {"max_seq_length": 32}
    make = CausalLMDataModule if kind == "causal" else MaskedLMDataModule
    return make(
        **{
            "model_name_or_path": model,
            "train_file": str(SAMPLE / "train.jsonl"),
            "text_column_name": "text",
            "validation_split_percentage": 0,
            "batch_size": 4,
            **causal,
            **options,
        }
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [("causal", {}), ("causal", {"packing": "none"}), ("masked", {}), ("masked", {"line_by_line": True})],
)
def test_a_stream_in_order_gives_the_blocks_of_a_prepared_run(
    kind: str, options: dict[str, Any], tiny: Callable[..., str]
) -> None:
    model = tiny("llama" if kind == "causal" else "bert")
    prepared = make_data(kind, model, **options)
    prepared.prepare_stage(("train", "validation"))
    prepared.setup("fit")
    store = prepared.features["train"][""].store
    blocks = [store[number]["input_ids"].tolist() for number in range(len(store))]
    came = streamed_blocks(kind, model, len(blocks), **options)
    # the stream goes on behind the last row, so only the last block can be longer there
    assert came[:-1] == blocks[:-1]
    assert len(came[-1]) >= len(blocks[-1])


def test_best_fit_keeps_the_documents_of_a_stream_whole(tiny: Callable[..., str]) -> None:
    model = tiny("llama")
    tokenizer = AutoTokenizer.from_pretrained(model)
    documents = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts()[:256]]
    whole = {tuple(ids) for ids in documents if len(ids) <= 32}
    # blocks of the first 256 rows, which are drawn together
    came = streamed_blocks("causal", model, sum(map(len, documents)) // 32 + 20, packing="best_fit")
    found = set()
    for block in came:
        ends = [place for place, token in enumerate(block, 1) if token == tokenizer.eos_token_id]
        found |= {tuple(block[start:stop]) for start, stop in pairwise([0, *ends])}
    assert whole <= found
    assert sum(map(len, came)) > 0.95 * 32 * len(came)


def streamed_blocks(kind: str, model: str, count: int, **options: Any) -> list[list[int]]:
    data = make_data(kind, model, streaming=True, shuffle_buffer_size=0, batch_size=1, **options)
    data.setup("fit")
    came = []
    for batch in islice(data.train_dataloader(), count):
        labels = batch["labels"]
        ids = batch["input_ids"] if kind == "causal" else torch.where(labels == -100, batch["input_ids"], labels)
        came.append(ids[0].tolist())
    return came


class Rows(Callback):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append({name: value.tolist() for name, value in batch.items()})


def run(kind: str, model: str, folder: Path, workers: int, resume: str | None = None, **options: Any) -> tuple:
    seed_everything(3)
    data = make_data(kind, model, streaming=True, shuffle_buffer_size=100, num_workers=workers, **options)
    module = (CausalLMModule if kind == "causal" else MaskedLMModule)(model_name_or_path=model, learning_rate=1e-3)
    rows = Rows()
    trainer = Trainer(
        max_steps=30, limit_val_batches=0, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
        callbacks=[rows, ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=1)],
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=resume)
    return rows.seen, module.state_dict()


@pytest.mark.parametrize(
    ("kind", "options", "workers"),
    [
        ("causal", {}, 0),
        pytest.param("causal", {}, 2, marks=pytest.mark.soak),
        pytest.param("causal", {"packing": "best_fit"}, 0, marks=pytest.mark.soak),
        ("causal", {"packing": "best_fit"}, 2),
        ("masked", {}, 0),
        pytest.param("masked", {}, 2, marks=pytest.mark.soak),
    ],
)
def test_a_run_that_goes_on_sees_the_blocks_and_masks_still_to_come(
    kind: str, options: dict[str, Any], workers: int, tiny: Any, tmp_path: Path
) -> None:
    model = tiny("llama" if kind == "causal" else "bert")  # llama has no dropout: the weights are equal, too
    seen, weights = run(kind, model, tmp_path / "whole", workers, **options)
    assert len(seen) == 30
    for step in (1, 17):
        path = str(tmp_path / "whole" / f"step={step}.ckpt")
        rest, again = run(kind, model, tmp_path / f"from{step}", workers, path, **options)
        assert rest == seen[step:]
        if kind == "causal":
            assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_another_block_size_is_refused_within_a_stream(tiny: Any, tmp_path: Path) -> None:
    run("causal", tiny("llama"), tmp_path / "whole", 0)
    with pytest.raises(UserError, match="grouping"):
        run("causal", tiny("llama"), tmp_path / "again", 0, str(tmp_path / "whole" / "step=17.ckpt"), block_size=16)
