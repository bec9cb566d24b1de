"""Extractive question answering: any AutoModelForQuestionAnswering on contexts of any length."""

from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoModelForQuestionAnswering

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.parts import taken_apart
from lit_ft.data.reading.columns import text_of
from lit_ft.data.reading.formats.answers import read_answers
from lit_ft.errors import UserError
from lit_ft.metrics.question_answering import NAMES, NAMES_WITH_NULL, AnswerScores, lack
from lit_ft.metrics.question_types import question_type
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.threshold import ThresholdModule
from lit_ft.ops.decoding.answering import KEYS_OF_WINDOWS, Candidates, candidates_of
from lit_ft.ops.decoding.spans import span_loss
from lit_ft.ranges import AT_LEAST_ONE, check_ranges


class QuestionAnsweringModule(ThresholdModule):
    """Finds answers in contexts; batches are those of `QuestionAnsweringDataModule`.

    Any batch with `start_positions` and `end_positions` `[batch]` can be trained on; what the answers say is known of
    our data module's batches only. The loss is the mean of the cross-entropies of start and end; unlike transformers'
    it leaves padding out, so that it does not depend on how far a row is padded.

    Args:
        n_best_size: how many answers to keep of each question.
        max_answer_length: most tokens of an answer.
        version_2_with_negative: questions may have no answer: they are scored as SQuAD 2.0 is, and predictions may be
            empty. Default: where a row of the data has none, or the pretrained model was trained so.
        null_score_diff_threshold: how much the score of no answer has to be above that of the best answer for there to
            be none; `auto` = that of the best F1 on the validation set, stored with the model. Default: that of the
            pretrained model, else 0.
        kwargs: options of every module.
    """

    auto_class = AutoModelForQuestionAnswering
    pipeline_tag = "question-answering"
    card_example = """from lit_ft import load_predictor

predictor = load_predictor("this/folder")
predictor({"question": "Who wrote it?", "context": "It was written by Mary Shelley."})"""
    monitor = "val_f1"
    monitor_mode = "max"
    predicted_text = "answer"
    label_keys = ("start_positions", "end_positions")
    extra_keys = KEYS_OF_WINDOWS
    threshold_option = threshold_key = "null_score_diff_threshold"
    usual_threshold = 0.0

    def __init__(
        self,
        *,
        n_best_size: int = 20,
        max_answer_length: int = 30,
        version_2_with_negative: bool | None = None,
        null_score_diff_threshold: float | Literal["auto"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_ranges(self.hparams, {"n_best_size": AT_LEAST_ONE, "max_answer_length": AT_LEAST_ONE})

    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """Notes in the configuration that there may be no answer; see the base."""
        return {"version_2_with_negative": True} if self.has_threshold(description) else {}

    @property
    def reads_rows_by(self) -> tuple[str, ...]:  # type: ignore[override]
        """Whether there may be no answer, where the module itself is not told."""
        return ("unanswerable",) if self.hparams["version_2_with_negative"] is None else ()

    def setup(self, stage: str) -> None:
        """Notes what these data say in the configuration of a model that other data built; see the base."""
        super().setup(stage)
        if self.model is not None:
            self.model.config.update(self.config_kwargs(self.description))
            self.note_threshold()

    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy over the tokens of each row; see the base."""
        start, end = (batch[name] for name in self.label_keys)
        return span_loss(outputs.start_logits, outputs.end_logits, start, end, batch.get("attention_mask"))

    def scores(self, outputs: Any) -> Tensor:
        """Returns both logits, `[2, batch, seq]`; see the base."""
        return torch.stack([outputs.start_logits, outputs.end_logits])

    def decode(self, outputs: Any, batch: Batch) -> list[Part]:
        """Keeps the best spans of each window, with its context and gold answers."""
        if "info" not in batch or "char_starts" not in batch:  # of somebody else's loader
            return [{}] * len(batch["input_ids"])
        context, answers, question = (self.description[f"{name}_column"] for name in ("context", "answer", "question"))
        start, end, infos = outputs.start_logits, outputs.end_logits, batch["info"]
        found = candidates_of(start, end, batch, self.hparams["n_best_size"], self.hparams["max_answer_length"])
        return taken_apart(
            len(found),
            candidates=found,
            context=[text_of(info[context]) for info in infos],
            answers=[info.get(answers) for info in infos],
            question_type=[question_type(text_of(info.get(question))) for info in infos],
        )

    def merge(self, parts: list[Part]) -> Part:
        """Takes the best spans of all windows."""
        if not parts[0]:
            return {}
        windows, context = [part["candidates"] for part in parts], parts[0]["context"]
        return parts[0] | {"candidates": Candidates.merged(windows, context, self.hparams["n_best_size"])}

    def metrics(self, description: Description, stage: str) -> AnswerScores:
        """Exact match and F1, with those of SQuAD 2.0 where there may be no answer."""
        threshold = None if self.searches_threshold(description, stage) else self.threshold
        return AnswerScores(self.has_threshold(description), threshold).to(self.device)

    def update(self, metrics: AnswerScores, rows: list[Part]) -> None:
        """Scores the rows whose answers are known; see the base."""
        known = [(row, golds) for row in rows if (golds := _golds(row)) is not None]
        best = [row["candidates"].best_text(row["context"]) for row, _ in known]
        odds = [row["candidates"].null_odds for row, _ in known]
        metrics.update(best, [golds for _, golds in known], odds, [row["question_type"] for row, _ in known])

    def compute(self, metrics: AnswerScores) -> dict[str, Tensor]:
        """Returns the metrics; see the base."""
        values = metrics.compute()
        return {name: values[name] for name in self.metric_names(self.description)}

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """How much is missing to a token F1 of 1; see the base."""
        if not rows[0]:
            return None
        said = [row["candidates"].prediction(row["context"], 1, self.known_threshold)["answer"] for row in rows]
        return torch.tensor([lack(answer, _golds(row)) for answer, row in zip(said, rows, strict=True)])

    def said(self, row: Part) -> str:
        """The answer, its probability, and what it should be; see the base."""
        made = self.prediction(row)
        golds = ", ".join(map(repr, _golds(row) or ())) or "none"
        return f"{made['answer']!r} ({made['score']:.1%}), not {golds}"

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return NAMES_WITH_NULL if self.has_threshold(description) else NAMES

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the answer, its probability and its characters, the best others, and how likely there is none."""
        if not row:
            raise UserError("answers are known of our data module's batches only")
        found: Candidates = row["candidates"]
        return found.prediction(row["context"], self.hparams["n_best_size"], self.known_threshold)

    def has_threshold(self, description: Description) -> bool:
        """Where there may be no answer: how much likelier that has to be than the best one; see the base."""
        if self.hparams["version_2_with_negative"] is not None:
            return bool(self.hparams["version_2_with_negative"])
        config = self.model.config if self.model is not None else self.hf_config or self.source.config()
        return bool(description.get("unanswerable") or getattr(config, "version_2_with_negative", False))


def _golds(row: Part) -> list[str] | None:
    """Returns the gold answers of a row, none where it has no answer; `None` = nobody knows them."""
    answers = read_answers(row.get("answers"))
    return None if answers is None else [answer.text for answer in answers]
