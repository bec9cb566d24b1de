"""Left wing: rows -> batches, one LightningDataModule per task."""

from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.datamodules.causal_lm import CausalLMDataModule
from lit_ft.datamodules.embedding_zero_shot import EmbeddingZeroShotDataModule
from lit_ft.datamodules.instruction_tuning import InstructionTuningDataModule
from lit_ft.datamodules.masked_lm import MaskedLMDataModule
from lit_ft.datamodules.multiple_choice import MultipleChoiceDataModule
from lit_ft.datamodules.preference import PreferenceDataModule
from lit_ft.datamodules.question_answering import QuestionAnsweringDataModule
from lit_ft.datamodules.sentence_embedding import SentenceEmbeddingDataModule
from lit_ft.datamodules.seq2seq import Seq2SeqDataModule
from lit_ft.datamodules.summarization import SummarizationDataModule
from lit_ft.datamodules.text_classification import TextClassificationDataModule
from lit_ft.datamodules.token_classification import TokenClassificationDataModule
from lit_ft.datamodules.translation import TranslationDataModule
from lit_ft.datamodules.zero_shot import ZeroShotDataModule

__all__ = [
    "CausalLMDataModule",
    "EmbeddingZeroShotDataModule",
    "InstructionTuningDataModule",
    "MaskedLMDataModule",
    "MultipleChoiceDataModule",
    "PreferenceDataModule",
    "QuestionAnsweringDataModule",
    "SentenceEmbeddingDataModule",
    "Seq2SeqDataModule",
    "SummarizationDataModule",
    "TextClassificationDataModule",
    "TokenClassificationDataModule",
    "TransformerDataModule",
    "TranslationDataModule",
    "ZeroShotDataModule",
]
