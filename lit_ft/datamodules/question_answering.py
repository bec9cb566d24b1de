"""Extractive question answering data: questions about contexts, read in windows that overlap (after run_qa)."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, get_args

import numpy as np

from lit_ft.data.answers.columns import USUAL, AnswerColumns, column_of, find_columns
from lit_ft.data.answers.places import OnBadAnswer, Spans, State, count_states, note_on_states
from lit_ft.data.answers.span_labels import NOTHING, count_windows, span_labels, windows_to_keep
from lit_ft.data.answers.windows import ContextWindows
from lit_ft.data.batching.collators import Batch, Feature, place_spans
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.ordering.samplers import Key
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.reading.formats.answers import answer_key
from lit_ft.data.reading.raw import RawRows, Rows, Split
from lit_ft.data.tokenizing.texts import token_columns
from lit_ft.data.viewing.row_views import Role, SequenceView, sequence, tokens_and_answer
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.errors import UserError
from lit_ft.ranges import NOT_NEGATIVE, check_choice, check_ranges


class QuestionAnsweringDataModule(TransformerDataModule):
    """Questions about contexts -> batches of `input_ids`, `attention_mask`, `start_positions`, `end_positions`.

    Files are SQuAD's own (nested JSON, 1.1 and 2.0), or hold a row per question. The answers of a row are
    `{"text": [...], "answer_start": [...]}`, a list of `{"text": ..., "answer_start": ...}`, or texts alone, which are
    where `answer_start_column_name` says, else where they come first; an empty list = the question cannot be answered.
    The first answer is trained on, all are scored against.

    The labels are tokens `[batch]`, of the CLS token where a window does not hold the answer. In evaluation batches
    hold also `cls_index` `[batch]`, and `char_starts` and `char_ends` `[batch, seq]`: the characters of each token in
    the context, -100 or -1 elsewhere.

    Args:
        question_column_name: column of the question. Default: `question`.
        context_column_name: column of the text that holds the answer. Default: `context`.
        answer_column_name: column of the answers. Default: `answers` or `answer`; rows to predict need none.
        answer_start_column_name: column of where answers begin, in characters, if they are texts alone. Default:
            `answer_start`, where there is one.
        id_column_name: column of what names a row in messages. Default: `id`, where there is one.
        max_seq_length: most tokens of a window, special tokens included.
        doc_stride: tokens of the context that a window has in common with the one before.
        negative_window_ratio: train on at most this many windows without the answer per window with it (in the mean,
            for questions that can be answered). Default: on all.
        on_bad_answer: what to do where an answer is not in its context: `error`, or `drop` it: the row is not trained
            on, and scored by its texts alone.
        kwargs: options of every data module.

    Raises:
        UserError: the rows do not fit; the message names file, column and fix.
    """

    cut_advice = "questions are cut where they leave no room for the context: raise max_seq_length, or lower doc_stride"
    learns_classes = False

    def __init__(
        self,
        *,
        question_column_name: str = "",
        context_column_name: str = "",
        answer_column_name: str = "",
        answer_start_column_name: str = "",
        id_column_name: str = "",
        max_seq_length: int | None = 384,
        doc_stride: int = 128,
        negative_window_ratio: float | None = None,
        on_bad_answer: OnBadAnswer = "error",
        **kwargs: Any,
    ) -> None:
        super().__init__(max_seq_length=max_seq_length, truncation_side="first", stride=None, **kwargs)
        check_ranges(self.hparams, {"negative_window_ratio": NOT_NEGATIVE})
        check_choice(self.hparams, "on_bad_answer", get_args(OnBadAnswer))

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Finds the columns; verifies and counts the answers; see the base."""
        self.description = {**known, "max_seq_length": self.longest_feature, "doc_stride": self.hparams["doc_stride"]}
        every = [(rows, kind != "predict") for kind, sets in raw.items() for rows in sets.values()]
        self.description |= find_columns(every, self._asked, known).plain()
        _ = self.windows  # options that leave no room are named before all rows are read
        unanswerable = bool(known.get("unanswerable"))
        for rows, answered in every:
            states = np.zeros(len(State), np.int64)
            for spans in rows.read(self._spans, self.input_columns("validation")) if answered else ():
                states += count_states(spans)
            unanswerable |= bool(states[State.UNANSWERABLE])
            if note := note_on_states(states):
                self.notes.append(f"{rows.place}: {note}")
        return {**self.description, "unanswerable": unanswerable}

    def input_columns(self, split: Split) -> list[str]:
        """Question, context, answers and id; see the base."""
        return self._columns.needed(answered=split != "predict")

    def info_columns(self, present: list[str], split: Split) -> list[str]:
        """The context, which answers are cut from, and the gold answers; in prediction all columns."""
        evaluated = split not in ("train", "predict")
        return self.input_columns(split) if evaluated else super().info_columns(present, split)

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """Question and context, and the different answers; see the base."""
        columns = self._columns
        answers = None if split == "predict" else list(map(answer_key, rows[columns.answer]))
        return RowContent([[*texts] for texts in columns.texts(rows)], answers)

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Makes the windows and their labels; see the base."""
        questions, contexts = self._columns.texts(rows)
        windows = self.windows(questions, contexts)
        features: dict[str, Any] = {}
        if split != "predict":
            spans = self._spans(rows)
            labels, inside = span_labels(windows, spans, self.hparams["on_bad_answer"])
        if split == "train":
            kept = (spans.state != State.LOST)[windows.row]
            if (ratio := self.hparams["negative_window_ratio"]) is not None:
                keys = ["\n".join(row) for row in zip(questions, contexts, strict=True)]
                kept &= windows_to_keep(windows.row, inside, keys, ratio)
            count = np.bincount(windows.row, minlength=len(contexts))
            windows, labels, inside = windows.only(kept), labels[kept], inside[kept]
            made = np.where(windows.begins, count[windows.row], 0)  # once a row
            features |= {"holds_answer": inside, "windows_made": made}
        if split != "predict":
            features["labels"] = labels
        features |= token_columns(windows, self.tokenizer.model_input_names)
        if split != "train":
            features |= {name: getattr(windows, name) for name in ("cls_index", "char_starts", "char_ends")}
        return features

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads the windows and moves places to where their tokens are; see the base."""
        return place_spans(super().collate(features, split, keys), features)

    def sequences(self, batch: Batch) -> list[SequenceView]:
        """Question and context, in which the answer is marked; see the base."""
        ids, span = tokens_and_answer(self.tokenizer, batch)
        roles: list[Role] = ["plain"] * len(ids)
        roles[span] = ["answer"] * len(ids[span])
        return [sequence(self.tokenizer, ids, roles)]

    def label_of(self, batch: Batch) -> str | None:
        """The answer; see the base."""
        if "start_positions" not in batch:
            return None
        ids, span = tokens_and_answer(self.tokenizer, batch)
        return repr(self.tokenizer.decode(ids[span]).strip()) if ids[span] else NOTHING

    def label_counts(self, store: FeatureStore) -> dict[str, int]:
        """Counts the windows with an answer, and those without; see the base."""
        return count_windows(store)

    def summarise(self, train: Sequence[FeatureStore]) -> dict[str, Any]:
        """Says how many windows hold an answer; see the base."""
        kept, holding = sum(map(len, train)), sum(store.total("holds_answer") for store in train)
        if not kept:
            raise UserError("no training row has its answer in the context: on_bad_answer drops them all")
        left_out = sum(store.total("windows_made") for store in train) - kept
        chosen = f", {left_out:,} are left out (negative_window_ratio)" if left_out else ""
        self.notes.append(f"train: {kept:,} windows, {holding:,} of them with an answer{chosen}")
        return {}

    def groups(self, rows: RawRows) -> Rows | None:
        """Keeps the questions about a context together; see the base."""
        return rows.numbered_by(column_of("context", self._asked, self.known, rows.data.column_names))

    @cached_property
    def windows(self) -> ContextWindows:
        """Lays questions beside windows of their contexts.

        Raises:
            UserError: the tokenizer is a slow one, or `doc_stride` leaves no room.
        """
        return ContextWindows(self.tokenizer, self.longest_feature, self.hparams["doc_stride"])

    @property
    def _columns(self) -> AnswerColumns:
        return AnswerColumns.of(self.description)

    @property
    def _asked(self) -> dict[str, str]:
        return {name: self.hparams[f"{name}_column_name"] for name in USUAL}

    def _spans(self, rows: dict[str, list[Any]]) -> Spans:
        return self._columns.spans(rows, self.hparams["on_bad_answer"])
