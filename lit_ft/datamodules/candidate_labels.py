"""What data modules of texts share that are sorted under labels nobody trained for."""

from typing import Any

import numpy as np

from lit_ft.data.batching.collators import Batch
from lit_ft.data.labels import IGNORED, is_missing, is_no_category
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.reading.columns import Names, as_list, check_columns, find_text_columns, texts_of
from lit_ft.data.reading.raw import RawRows, Split, every_set
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.errors import RowError, UserError, did_you_mean


class CandidateLabelDataModule(TransformerDataModule):
    """Texts, and the labels that they may have; a task writes `tokenize` and `collate`.

    Args:
        candidate_labels: the labels, as they read best in the hypothesis.
        hypothesis_template: a sentence with `{}` where the label goes.
        text_column_names: column of the text; several are joined by a space. Guessed where there is one reading.
        label_column_name: column of the label, one of `candidate_labels`. Guessed.
        kwargs: options of every data module.

    Raises:
        UserError: no labels, a template without `{}`, rows that do not fit, or a label for which there is no room.
    """

    paired = False
    """Whether what is said with each label is read beside the text."""

    def __init__(
        self,
        *,
        candidate_labels: list[str],
        hypothesis_template: str = "This example is {}.",
        text_column_names: Names = "",
        label_column_name: str = "",
        max_seq_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_seq_length=max_seq_length, stride=None, truncation_side="first", **kwargs)
        if not candidate_labels or len({*candidate_labels}) < len(candidate_labels):
            raise UserError(f"candidate_labels is {candidate_labels}: give labels, each once")
        if hypothesis_template.format("a") == hypothesis_template.format("b"):
            raise UserError(f"hypothesis_template {hypothesis_template!r} has no {{}} where the label goes")

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Finds the columns; see the base."""
        every = every_set(raw)
        first, labelled = every[0], "predict" not in raw
        asked = self.hparams["text_column_names"], "", self.hparams["label_column_name"]
        texts, pairs, labels, _ = find_text_columns(first.data.column_names, first.place, *asked, {})
        if pairs:
            raise UserError(
                f"{first.place}: {texts[0]!r} and {pairs[0]!r} are a pair, and labels are said of one text: set "
                f"text_column_names to the column that it is in, or to {[*texts, *pairs]}, which are joined by a space"
            )
        if labelled and not labels:
            raise UserError(f"{first.place}: which column is the label? set label_column_name, or use predict")
        for rows in every:
            check_columns([*texts, *(labels if labelled else [])], rows.data.column_names, rows.place)
        self._check_room()
        self.description = {
            "labels": self.hparams["candidate_labels"],
            "problem_type": "single_label",
            "text_columns": texts,
            "label_column": labels[0] if labels else None,
        }
        return self.description

    def _check_room(self) -> None:
        """Makes sure that what is said with each label fits whole: cut, labels would be no longer told apart."""
        if self.longest_feature is None:
            return
        beside = self.tokenizer.num_special_tokens_to_add(pair=self.paired) + int(self.paired)  # and some of the text
        for said in self.hypotheses:
            more = len(self.tokenizer.encode(said, add_special_tokens=False)) + beside - self.longest_feature
            if more > 0:
                raise UserError(
                    f"{said!r} is {more} tokens longer than max_seq_length {self.longest_feature} has room for"
                    f"{' beside a text' if self.paired else ''}: raise it, or shorten hypothesis_template or the label"
                )

    def column_of_texts(self, known: dict[str, Any]) -> str:
        """The column of text; see the base."""
        names = as_list(self.hparams["text_column_names"])
        return names[0] if len(names) == 1 else super().column_of_texts(known)

    @property
    def hypotheses(self) -> list[str]:
        """What is said with each label."""
        return [self.hparams["hypothesis_template"].format(name) for name in self.hparams["candidate_labels"]]

    def input_columns(self, split: Split) -> list[str]:
        """Text and label; see the base."""
        known = self.description
        return [*known["text_columns"], *([known["label_column"]] if split != "predict" else [])]

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """The text and the label; see the base."""
        labels = None if split == "predict" else [*map(self._named, rows[self.description["label_column"]])]
        return RowContent([[*self.texts(rows)]], labels)

    def _named(self, cell: Any) -> str | None:
        """Returns what a cell names, be it a candidate or not; `None` = nothing."""
        name = str(cell).strip()
        nothing = is_missing(cell) or (is_no_category(cell) and name not in self.hparams["candidate_labels"])
        return None if nothing else name

    def label_of(self, batch: Batch) -> str | None:
        """The label's name; see the base."""
        label = int(batch["labels"][0]) if "labels" in batch else IGNORED
        return None if label == IGNORED else str(self.hparams["candidate_labels"][label])

    def texts(self, rows: dict[str, list[Any]]) -> list[str]:
        """Returns the text of each row."""
        return texts_of(rows, self.description["text_columns"])

    def label_features(self, rows: dict[str, list[Any]], split: Split) -> dict[str, np.ndarray]:
        """Returns the number of each row's label, and whether it is none of `candidate_labels`; nothing to predict.

        Raises:
            RowError: it is none of them, and that is an error (`on_bad_rows`).
        """
        if split == "predict":
            return {}
        names, cells = self.hparams["candidate_labels"], rows[self.description["label_column"]]
        places: dict[str | None, int] = {name: at for at, name in enumerate(names)}
        named = [self._named(cell) for cell in cells]
        found = np.array([places.get(name, IGNORED) for name in named], np.int64)
        unknown = np.array([name is not None and name not in places for name in named])
        if unknown.any() and self.refuses_unknown_labels:
            row = int(unknown.argmax())
            raise RowError(
                row, f"label {cells[row]!r} is none of candidate_labels {names}{did_you_mean(str(cells[row]), names)}"
            )
        return {"labels": found, "unknown_label": unknown}
