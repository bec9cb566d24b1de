"""Texts to be sorted under labels that no model was trained for, by how near their vectors are."""

from typing import Any

from lit_ft.data.batching.collators import Batch, Feature, stack_labels
from lit_ft.data.ordering.samplers import Key
from lit_ft.data.reading.raw import RawRows, Split
from lit_ft.data.tokenizing.texts import token_columns
from lit_ft.datamodules.candidate_labels import CandidateLabelDataModule


class EmbeddingZeroShotDataModule(CandidateLabelDataModule):
    """Rows of text -> batches of `input_ids`, `attention_mask` (and `token_type_ids`) `[batch, seq]`.

    What is said with each label goes to the module by the description. To be scored (`test`, `validate`), rows have a
    label; `labels` `[batch]` are its numbers.

    Args:
        hypothesis_template: what is said with a label, with `{}` where it goes.
        prompt: what stands before each text, such as `"query: "`.
        kwargs: `candidate_labels`, and options of every data module.

    Raises:
        UserError: see `CandidateLabelDataModule`.
    """

    def __init__(self, *, hypothesis_template: str = "{}", prompt: str = "", **kwargs: Any) -> None:
        super().__init__(hypothesis_template=hypothesis_template, **kwargs)

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Finds the columns; see the base."""
        self.description = {**super().describe(raw, known), "hypotheses": self.hypotheses}
        return self.description

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Encodes the texts; see the base."""
        encoded = self.encoder([self.hparams["prompt"] + text for text in self.texts(rows)])
        return {**token_columns(encoded, self.tokenizer.model_input_names), **self.label_features(rows, split)}

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads the texts, and stacks the labels; see the base."""
        return stack_labels(super().collate(features, split, keys), features)
