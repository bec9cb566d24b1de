"""The contract in every task: batches, splits, order, resuming, export, predictions, padding, processes."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import lit_ft
from tests.contract import FLOAT, LONG, TaskContract
from tests.conversations import chat_rows
from tests.pairs import make_seq2seq
from tests.pairs import pair_rows as text_pairs
from tests.preferences import judged_rows, make_preference_model, pair_rows
from tests.questions import question_rows
from tests.sentences import sentences
from tests.tiny import texts

Keys = dict[str, tuple[int, torch.dtype]]
SEQUENCES: Keys = {"input_ids": (2, LONG), "attention_mask": (2, LONG), "token_type_ids": (2, LONG)}


class TestTextClassification(TaskContract):
    module_class, data_class = lit_ft.TextClassificationModule, lit_ft.TextClassificationDataModule
    keys: ClassVar[Keys] = {**SEQUENCES, "labels": (1, LONG)}

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return [{"text": text, "label": "xyz"[at % 3]} for at, text in enumerate(texts()[start : start + count])]


@pytest.mark.soak  # another kind of rows of a task that is here
class TestPairsAndNumbers(TaskContract):
    module_class, data_class = lit_ft.TextClassificationModule, lit_ft.TextClassificationDataModule
    keys: ClassVar[Keys] = {**SEQUENCES, "labels": (2, FLOAT)}
    data_options: ClassVar[dict[str, Any]] = {"text_column_names": "a", "text_pair_column_names": "b"}

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return [
            {"a": text, "b": text[: 9 + at], "label": at / 7 + 0.5}
            for at, text in enumerate(texts()[start : start + count])
        ]


class TestTokenClassification(TaskContract):
    module_class, data_class = lit_ft.TokenClassificationModule, lit_ft.TokenClassificationDataModule
    keys: ClassVar[Keys] = {**SEQUENCES, "labels": (2, LONG)}
    data_options: ClassVar[dict[str, Any]] = {"text_column_name": "tokens", "label_column_name": "tags"}

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return sentences(count, start)


class TestQuestionAnswering(TaskContract):
    module_class, data_class = lit_ft.QuestionAnsweringModule, lit_ft.QuestionAnsweringDataModule
    keys: ClassVar[Keys] = {**SEQUENCES, "start_positions": (1, LONG), "end_positions": (1, LONG)}
    data_options: ClassVar[dict[str, Any]] = {"max_seq_length": 64, "doc_stride": 12}

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return question_rows(count, start, unanswerable=True)


class TestMultipleChoice(TaskContract):
    module_class, data_class = lit_ft.MultipleChoiceModule, lit_ft.MultipleChoiceDataModule
    keys: ClassVar[Keys] = {**dict.fromkeys(SEQUENCES, (3, LONG)), "labels": (1, LONG)}

    data_options: ClassVar[dict[str, Any]] = {"context_column_name": "context", "choice_column_names": "choices"}

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return [
            {"context": text[:40], "choices": [text[at : 12 + 9 * at] for at in range(2 + row % 3)], "label": row % 2}
            for row, text in enumerate(texts()[start : start + count])
        ]


class TestMaskedLM(TaskContract):
    module_class, data_class = lit_ft.MaskedLMModule, lit_ft.MaskedLMDataModule
    keys: ClassVar[Keys] = {"input_ids": (2, LONG), "attention_mask": (2, LONG), "labels": (2, LONG)}
    data_options: ClassVar[dict[str, Any]] = {"line_by_line": True}

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return [{"text": f"{text} [MASK]" if start == 80 else text} for text in texts()[start : start + count]]


class TestCausalLM(TaskContract):
    module_class, data_class, architecture = lit_ft.CausalLMModule, lit_ft.CausalLMDataModule, "llama"
    keys: ClassVar[Keys] = dict.fromkeys(("input_ids", "position_ids", "labels"), (2, LONG))
    data_options: ClassVar[dict[str, Any]] = {"block_size": 32}
    module_options: ClassVar[dict[str, Any]] = {"generation": {"max_new_tokens": 4}}
    pads = False
    rows_are_features = False

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return [{"text": text[:90]} for text in texts()[start : start + count]]


class TestText2Text(TaskContract):
    module_class, data_class, architecture = lit_ft.Seq2SeqModule, lit_ft.Seq2SeqDataModule, "t5"
    keys: ClassVar[Keys] = {"input_ids": (2, LONG), "attention_mask": (2, LONG), "labels": (2, LONG)}
    data_options: ClassVar[dict[str, Any]] = {"max_target_length": 20}
    module_options: ClassVar[dict[str, Any]] = {"generation": {"max_new_tokens": 4}}

    @pytest.fixture
    def model(self, tmp_path: Path) -> str:
        return make_seq2seq("t5", tmp_path / "t5")

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return text_pairs(count, start)


class TestInstructionTuning(TaskContract):
    module_class, data_class, architecture = lit_ft.InstructionTuningModule, lit_ft.InstructionTuningDataModule, "llama"
    keys: ClassVar[Keys] = {"input_ids": (2, LONG), "attention_mask": (2, LONG), "labels": (2, LONG)}
    data_options: ClassVar[dict[str, Any]] = {"max_seq_length": 160}
    module_options: ClassVar[dict[str, Any]] = {"generation": {"max_new_tokens": 4}}

    @pytest.fixture
    def model(self, tmp_path: Path) -> str:
        return make_preference_model(tmp_path / "llama")

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return chat_rows(count, start)


class TestPreference(TestInstructionTuning):
    module_class, data_class = lit_ft.PreferenceModule, lit_ft.PreferenceDataModule

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return pair_rows(count, start)


@pytest.mark.soak  # another kind of rows of a task that is here
class TestJudgedReplies(TestPreference):
    keys: ClassVar[Keys] = {**TestPreference.keys, "desirable": (1, torch.int8)}
    module_options: ClassVar[dict[str, Any]] = {"loss_type": "kto"}

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return judged_rows(count, start)


class TestReward(TestPreference):
    module_class: Any = lit_ft.RewardModule
    module_options: ClassVar[dict[str, Any]] = {}


class TestSentenceEmbedding(TaskContract):
    module_class, data_class = lit_ft.SentenceEmbeddingModule, lit_ft.SentenceEmbeddingDataModule
    keys: ClassVar[Keys] = {
        **dict.fromkeys(SEQUENCES, (3, LONG)), "text_ids": (2, LONG), "real": (1, torch.bool)
    }  # fmt: skip

    module_options: ClassVar[dict[str, Any]] = {"gather_across_devices": True}

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return [{"anchor": text[:30], "positive": text[30:]} for text in texts()[start : start + count]]
