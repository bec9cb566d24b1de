"""What a task of your own is written with, under one name: base classes, their types, and the helpers of ours."""

from lit_ft.data.batching.collators import Batch, Feature, pad, pad_labels, pad_sequences, place_spans, stack_labels
from lit_ft.data.batching.merging import Part
from lit_ft.data.features.ragged import Ragged
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.grouping.blocks import Grouping
from lit_ft.data.labels import IGNORED
from lit_ft.data.ordering.samplers import Key
from lit_ft.data.ordering.training_order import OwnOrder
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.quality.kinds import BadRows
from lit_ft.data.reading.columns import check_columns
from lit_ft.data.reading.raw import RawRows, Split
from lit_ft.data.tokenizing.texts import Encoded, TextEncoder
from lit_ft.data.viewing.row_views import SequenceView, Token
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.errors import RowError, UserError
from lit_ft.modules.base import Description, TransformerModule
from lit_ft.ops.building.models import label_config, pretrained_labels
from lit_ft.ops.losses.classification import classification_loss, labelled, mean

__all__ = [
    "IGNORED",
    "BadRows",
    "Batch",
    "Description",
    "Encoded",
    "Feature",
    "FeatureStore",
    "Grouping",
    "Key",
    "OwnOrder",
    "Part",
    "Ragged",
    "RawRows",
    "RowContent",
    "RowError",
    "SequenceView",
    "Split",
    "TextEncoder",
    "Token",
    "TransformerDataModule",
    "TransformerModule",
    "UserError",
    "check_columns",
    "classification_loss",
    "label_config",
    "labelled",
    "mean",
    "pad",
    "pad_labels",
    "pad_sequences",
    "place_spans",
    "pretrained_labels",
    "stack_labels",
]
