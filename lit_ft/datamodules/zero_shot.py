"""Texts to be sorted under labels that no model was trained for: each text beside a hypothesis for every label."""

from typing import Any

import numpy as np

from lit_ft.data.batching.collators import Batch, Feature, pad_sequences, stack_labels
from lit_ft.data.ordering.samplers import Key
from lit_ft.data.reading.raw import Split
from lit_ft.data.viewing.row_views import SequenceView, several_parts
from lit_ft.datamodules.candidate_labels import CandidateLabelDataModule


class ZeroShotDataModule(CandidateLabelDataModule):
    """Rows of text -> batches of `input_ids`, `attention_mask` (and `token_type_ids`) `[batch, labels, seq]`.

    Each text is read as the premise of a hypothesis about every label, as transformers' pipeline
    `zero-shot-classification` does. To be scored (`test`, `validate`), rows have a label; `labels` `[batch]` are its
    numbers.
    """

    paired, pair_rule = True, "only_first"
    cut_advice = "texts are cut, not hypotheses: raise max_seq_length"

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Encodes each text beside each hypothesis, laid end to end; see the base."""
        texts, hypotheses = self.texts(rows), self.hypotheses
        size = len(hypotheses)
        encoded = self.encoder([text for text in texts for _ in range(size)], hypotheses * len(texts))
        return {
            **encoded.together(size, self.tokenizer.model_input_names),
            "row": np.arange(len(texts)),
            "tokens_cut": encoded.tokens_cut.reshape(-1, size).max(1),
            **self.label_features(rows, split),
        }

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads the pairs, and stacks the labels; see the base."""
        batch = pad_sequences(features, self.tokenizer, 0, self.static_length, self.hparams["pad_to_multiple_of"])
        return stack_labels(batch, features)

    def sequences(self, batch: Batch) -> list[SequenceView]:
        """The pairs, of which one is right; see the base."""
        label = int(batch["labels"][0]) if "labels" in batch else -1
        return several_parts(self.tokenizer, batch, self.hparams["candidate_labels"], label)
