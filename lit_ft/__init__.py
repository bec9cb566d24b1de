"""Fine-tune transformers with Lightning: every task a YAML file away, every class usable on its own."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "CausalLMDataModule": "lit_ft.datamodules",
    "CausalLMModule": "lit_ft.modules",
    "EmbeddingZeroShotDataModule": "lit_ft.datamodules",
    "EmbeddingZeroShotModule": "lit_ft.modules",
    "InstructionTuningDataModule": "lit_ft.datamodules",
    "InstructionTuningModule": "lit_ft.modules",
    "MaskedLMDataModule": "lit_ft.datamodules",
    "MaskedLMModule": "lit_ft.modules",
    "MultipleChoiceDataModule": "lit_ft.datamodules",
    "MultipleChoiceModule": "lit_ft.modules",
    "PreferenceDataModule": "lit_ft.datamodules",
    "PreferenceModule": "lit_ft.modules",
    "Predictor": "lit_ft.predictor",
    "QuestionAnsweringDataModule": "lit_ft.datamodules",
    "QuestionAnsweringModule": "lit_ft.modules",
    "RewardModule": "lit_ft.modules",
    "SentenceEmbeddingDataModule": "lit_ft.datamodules",
    "Seq2SeqDataModule": "lit_ft.datamodules",
    "SentenceEmbeddingModule": "lit_ft.modules",
    "Seq2SeqModule": "lit_ft.modules",
    "SummarizationDataModule": "lit_ft.datamodules",
    "SummarizationModule": "lit_ft.modules",
    "TextClassificationDataModule": "lit_ft.datamodules",
    "TextClassificationModule": "lit_ft.modules",
    "TokenClassificationDataModule": "lit_ft.datamodules",
    "TokenClassificationModule": "lit_ft.modules",
    "TransformerDataModule": "lit_ft.datamodules",
    "TransformerModule": "lit_ft.modules",
    "TranslationDataModule": "lit_ft.datamodules",
    "TranslationModule": "lit_ft.modules",
    "ZeroShotDataModule": "lit_ft.datamodules",
    "ZeroShotModule": "lit_ft.modules",
    "load_predictor": "lit_ft.predictor",
}
__all__ = [
    "CausalLMDataModule",
    "CausalLMModule",
    "EmbeddingZeroShotDataModule",
    "EmbeddingZeroShotModule",
    "InstructionTuningDataModule",
    "InstructionTuningModule",
    "MaskedLMDataModule",
    "MaskedLMModule",
    "MultipleChoiceDataModule",
    "MultipleChoiceModule",
    "Predictor",
    "PreferenceDataModule",
    "PreferenceModule",
    "QuestionAnsweringDataModule",
    "QuestionAnsweringModule",
    "RewardModule",
    "SentenceEmbeddingDataModule",
    "SentenceEmbeddingModule",
    "Seq2SeqDataModule",
    "Seq2SeqModule",
    "SummarizationDataModule",
    "SummarizationModule",
    "TextClassificationDataModule",
    "TextClassificationModule",
    "TokenClassificationDataModule",
    "TokenClassificationModule",
    "TransformerDataModule",
    "TransformerModule",
    "TranslationDataModule",
    "TranslationModule",
    "ZeroShotDataModule",
    "ZeroShotModule",
    "__version__",
    "load_predictor",
]

if TYPE_CHECKING:
    from lit_ft.datamodules import (
        CausalLMDataModule,
        EmbeddingZeroShotDataModule,
        InstructionTuningDataModule,
        MaskedLMDataModule,
        MultipleChoiceDataModule,
        PreferenceDataModule,
        QuestionAnsweringDataModule,
        SentenceEmbeddingDataModule,
        Seq2SeqDataModule,
        SummarizationDataModule,
        TextClassificationDataModule,
        TokenClassificationDataModule,
        TransformerDataModule,
        TranslationDataModule,
        ZeroShotDataModule,
    )
    from lit_ft.modules import (
        CausalLMModule,
        EmbeddingZeroShotModule,
        InstructionTuningModule,
        MaskedLMModule,
        MultipleChoiceModule,
        PreferenceModule,
        QuestionAnsweringModule,
        RewardModule,
        SentenceEmbeddingModule,
        Seq2SeqModule,
        SummarizationModule,
        TextClassificationModule,
        TokenClassificationModule,
        TransformerModule,
        TranslationModule,
        ZeroShotModule,
    )
    from lit_ft.predictor import Predictor, load_predictor


def __getattr__(name: str) -> Any:
    # torch and Lightning take seconds to import: only when something of theirs is asked for
    if name not in _HOME:
        raise AttributeError(f"module 'lit_ft' has no attribute {name!r}; it has {sorted(_HOME)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
