"""Multiple choice data: a context, a question or both, and any number of choices, one of them right."""

from functools import cached_property
from typing import Any, get_args

import numpy as np

from lit_ft.data.batching.collators import Batch, Feature, pad_sequences, stack_labels
from lit_ft.data.choices.columns import ChoiceLayout, find_layout
from lit_ft.data.choices.encoding import ChoiceEncoder
from lit_ft.data.choices.rows import ChoiceLabels, LabelKind, LabelVotes, check_enough, read_choices
from lit_ft.data.choices.survey import survey_choices
from lit_ft.data.choices.texts import choice_texts
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.ordering.samplers import Key
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.reading.columns import Names, as_list, texts_of
from lit_ft.data.reading.raw import RawRows, Rows, Split, every_set
from lit_ft.data.tokenizing.texts import token_columns
from lit_ft.data.viewing.row_views import SequenceView, several_parts
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.errors import UserError
from lit_ft.ranges import check_choice


class MultipleChoiceDataModule(TransformerDataModule):
    """Rows of choices -> batches of `input_ids`, `attention_mask` (and `token_type_ids`) `[batch, choices, seq]`.

    `labels` `[batch]` are the numbers of the right choices, -100 where a row has none. Rows may have different numbers
    of choices: the `attention_mask` of those that a row lacks is all zeros. A choice is read as the second text of a
    pair, behind its question where there is one. What comes first, the context or else the question, is cut where it is
    too long, then the question; choices are cut last.

    Args:
        context_column_name: column of the text that comes first, such as an article.
        question_column_name: column of what each choice answers or goes on with; without a context it comes first.
        choice_column_names: columns of one choice each, or one column of lists (`["a", "b"]`, or `text` and `label` of
            each). An empty or null choice is none. All three are guessed where none of them is given.
        label_column_name: column that says which choice is right.
        label_kind: how it says so: `index`, `letter` (A is the first), `name` (the `label` of lists, or the name of the
            choice's column) or `text` (the choice itself). Default: what fits most rows.
        first_label: number of the first choice, where labels are numbers.
        blank: what the choice takes the place of in a question that has it, such as `_` in RACE; other questions are
            followed by the choice.
        question_texts: texts to read instead of what the question column holds, as
            `{"cause": "What was the cause?", "effect": "What happened then?"}`.
        kwargs: options of every data module.

    Raises:
        UserError: the rows do not fit; the message names file, column and fix.
    """

    cut_advice = "raise max_seq_length; choices are cut last"
    learns_classes = False

    def __init__(
        self,
        *,
        context_column_name: str = "",
        question_column_name: str = "",
        choice_column_names: Names = "",
        label_column_name: str = "",
        label_kind: LabelKind | None = None,
        first_label: int = 0,
        blank: str = "",
        question_texts: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(stride=None, **kwargs)
        check_choice(self.hparams, "label_kind", (None, *get_args(LabelKind)))
        if first_label not in (0, 1):
            raise UserError(f"first_label is {first_label}; choices are counted from 0 or from 1")

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Finds the columns, counts the choices of each row, and finds out how labels are written; see the base."""
        every = every_set(raw)
        labelled = "predict" not in raw
        layout, guessed = find_layout(every[0], self._asked, known, labelled)
        if guessed:
            self.notes.append(f"{every[0].place}: reading {layout.inputs} as context, question and choices")
        for rows in every:
            layout.check(rows, labelled)
        votes, counts = LabelVotes(layout.label, self.hparams["first_label"]), set[int]()
        for rows in every:
            found, notes = survey_choices(rows, layout, votes if labelled else None)
            counts |= found
            self.notes += notes
        kind = self.hparams["label_kind"] or known.get("label_kind")
        if kind is None and labelled:
            kind = votes.winner(every[0].place)
            self.notes.append(f"{every[0].place}: labels in {layout.label!r} read as {kind}")
        return {
            **known,
            **layout.plain(),
            "label_kind": kind,
            "first_label": self.hparams["first_label"] or known.get("first_label", 0),
            "choice_counts": sorted(counts),
            "blank": self.hparams["blank"] or known.get("blank", ""),
            "question_texts": self.hparams["question_texts"] or known.get("question_texts"),
        }

    def input_columns(self, split: Split) -> list[str]:
        """Context, question, choices and label; see the base."""
        return [*self._layout.inputs, *([self._layout.label] if split != "predict" else [])]

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """What is asked, the choices, and the right one; see the base."""
        choices = read_choices(rows, self._layout.choices)
        asked = [self._texts(rows, name) for name in ("context", "question")]
        questions = ["\n".join(filter(None, cells)) for cells in zip(*filter(None, asked), strict=True)]
        texts: list[list[str | None]] = [list(questions), ["\n".join(each.texts) for each in choices]]
        if split == "predict":
            return RowContent(texts, None)
        return RowContent(texts, self._labels.chosen(rows[self._layout.label], choices))

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Encodes each row's choices, laid end to end, and its label; see the base."""
        choices = read_choices(rows, self._layout.choices)
        check_enough(choices)
        contexts, questions = (self._texts(rows, name) for name in ("context", "question"))
        encoded = self._choice_encoder(choice_texts(contexts, questions, choices, self.description["blank"]))
        features = {**token_columns(encoded, self.tokenizer.model_input_names), "sequences": encoded.lengths}
        if split != "predict":
            strict = self.refuses_unknown_labels
            labels, unknown = self._labels.encode(rows[self._layout.label], choices, strict)
            features["labels"], features["unknown_label"] = np.array(labels, np.int64), np.array(unknown)
        return features

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads choices and their number, and stacks the labels; see the base."""
        most = max(self.description["choice_counts"]) if self.static_length else 0
        batch = pad_sequences(features, self.tokenizer, most, self.static_length, self.hparams["pad_to_multiple_of"])
        return stack_labels(batch, features)

    def sequences(self, batch: Batch) -> list[SequenceView]:
        """The choices, of which one is right; see the base."""
        label = int(batch["labels"][0]) if "labels" in batch else -1
        titles = [f"choice {number + 1}" for number in range(batch["input_ids"].shape[1])]
        return several_parts(self.tokenizer, batch, titles, label)

    def label_counts(self, store: FeatureStore) -> dict[str, int]:
        """Counts how often which choice is right; see the base."""
        if "labels" not in store.column_names:
            return {}
        labels = store.column("labels")
        counts = np.bincount(labels[labels >= 0], minlength=store.most_sequences).tolist()
        return {f"choice {number + 1}": count for number, count in enumerate(counts)}

    def groups(self, rows: RawRows) -> Rows | None:
        """Keeps the rows about a context together; see the base."""
        name = find_layout(rows, self._asked, self.known, labelled=False)[0].context
        return rows.numbered_by(name) if name else None

    @cached_property
    def _choice_encoder(self) -> ChoiceEncoder:
        return ChoiceEncoder(self.tokenizer, self.longest_feature, self.hparams["truncation_side"])

    @property
    def _layout(self) -> ChoiceLayout:
        return ChoiceLayout.of(self.description)

    @property
    def _labels(self) -> ChoiceLabels:
        known = self.description
        return ChoiceLabels(known["label_column"], known["label_kind"], known["first_label"])

    @property
    def _asked(self) -> ChoiceLayout:
        options = self.hparams
        choices = as_list(options["choice_column_names"])
        return ChoiceLayout(
            options["context_column_name"], options["question_column_name"], choices, options["label_column_name"]
        )

    def _texts(self, rows: dict[str, list[Any]], which: str) -> list[str] | None:
        name = self.description[f"{which}_column"]
        if not name:
            return None
        texts = texts_of(rows, [name])
        instead = self.description["question_texts"] if which == "question" else None
        return [instead.get(text, text) for text in texts] if instead else texts
