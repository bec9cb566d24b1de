"""Right wing: batches -> loss, metrics and outputs, one LightningModule per task."""

from lit_ft.modules.base import TransformerModule
from lit_ft.modules.text_classification import TextClassificationModule

__all__ = ["TextClassificationModule", "TransformerModule"]
