"""One data module for several models, one after the other: each is given rows by its own tokenizer, on disk, too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from lit_ft import (
    TextClassificationDataModule,
    TextClassificationModule,
    TokenClassificationDataModule,
    TokenClassificationModule,
)
from tests.tiny import texts

QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "max_steps": 1, "limit_val_batches": 0,
}  # fmt: skip
ROWS = texts()[:12]
TASKS: dict[str, tuple[Any, Any, list[dict[str, Any]], tuple[str, str]]] = {
    "texts": (
        TextClassificationModule, TextClassificationDataModule,
        [{"text": text, "label": "ab"[at % 2]} for at, text in enumerate(ROWS)], ("bert", "llama"),
    ),
    "words": (
        TokenClassificationModule, TokenClassificationDataModule,
        [{"tokens": text.split(), "tags": ["O", *["B-X"] * (len(text.split()) - 1)]} for text in ROWS],
        ("bert", "gpt2"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_each_model_reads_by_its_own_tokenizer(task: str, tiny: Callable[..., str], tmp_path: Path) -> None:
    module, data, rows, kinds = TASKS[task]
    paths = []
    for kind in kinds:
        run, trained = Trainer(**QUIET), module(model_name_or_path=tiny(kind))
        run.fit(
            trained,
            data(model_name_or_path=tiny(kind), dataset={"train": rows, "validation": rows}, max_seq_length=100),
        )
        run.save_checkpoint(tmp_path / f"{kind}.ckpt")
        paths.append(tmp_path / f"{kind}.ckpt")

    def loss(path: Path, asked: Any) -> float:
        (found,) = Trainer(**QUIET).test(module.load_from_checkpoint(path), asked, verbose=False)
        return float(found["test_loss"])

    def made(cache: str) -> Any:
        return data(dataset={"test": rows}, max_seq_length=100, preparation_dir=str(tmp_path / cache))

    alone = [loss(path, made(f"alone {path.stem}")) for path in paths]
    shared = made("shared")
    assert [loss(path, shared) for path in (*paths, paths[0])] == pytest.approx([*alone, alone[0]], abs=1e-6)
    assert loss(paths[1], made("shared")) == pytest.approx(alone[1], abs=1e-6), "what lies on disk is the second one's"


def test_options_that_are_set_later_count(tiny: Callable[..., str]) -> None:
    rows = [{"text": text, "label": "ab"[at % 2]} for at, text in enumerate(ROWS)]
    data = TextClassificationDataModule(model_name_or_path=tiny(), dataset={"train": rows, "validation": rows})
    data.setup("fit")
    assert max(data.features["train"][""].store.lengths()) > 8
    data.hparams["max_seq_length"] = 8
    data.setup("fit")
    assert max(data.features["train"][""].store.lengths()) == 8
