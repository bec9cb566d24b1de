"""Left wing: rows -> batches, one LightningDataModule per task."""

from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.datamodules.text_classification import TextClassificationDataModule

__all__ = ["TextClassificationDataModule", "TransformerDataModule"]
