"""Right wing: batches -> loss, metrics and outputs, one LightningModule per task."""

from lit_ft.modules.base import TransformerModule
from lit_ft.modules.causal_lm import CausalLMModule
from lit_ft.modules.embedding_zero_shot import EmbeddingZeroShotModule
from lit_ft.modules.instruction_tuning import InstructionTuningModule
from lit_ft.modules.masked_lm import MaskedLMModule
from lit_ft.modules.multiple_choice import MultipleChoiceModule
from lit_ft.modules.preference import PreferenceModule
from lit_ft.modules.question_answering import QuestionAnsweringModule
from lit_ft.modules.reward import RewardModule
from lit_ft.modules.sentence_embedding import SentenceEmbeddingModule
from lit_ft.modules.seq2seq import Seq2SeqModule
from lit_ft.modules.summarization import SummarizationModule
from lit_ft.modules.text_classification import TextClassificationModule
from lit_ft.modules.token_classification import TokenClassificationModule
from lit_ft.modules.translation import TranslationModule
from lit_ft.modules.zero_shot import ZeroShotModule

__all__ = [
    "CausalLMModule",
    "EmbeddingZeroShotModule",
    "InstructionTuningModule",
    "MaskedLMModule",
    "MultipleChoiceModule",
    "PreferenceModule",
    "QuestionAnsweringModule",
    "RewardModule",
    "SentenceEmbeddingModule",
    "Seq2SeqModule",
    "SummarizationModule",
    "TextClassificationModule",
    "TokenClassificationModule",
    "TransformerModule",
    "TranslationModule",
    "ZeroShotModule",
]
