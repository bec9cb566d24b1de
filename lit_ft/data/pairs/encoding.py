"""Sources and targets -> token ids, each side cut to a length of its own; every token lost is counted."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_ft.data.features.store import TARGETS
from lit_ft.data.pairs.languages import as_target
from lit_ft.data.tokenizing.texts import Encoded, TextEncoder, TruncationSide


class PairEncoder:
    """Encodes sources and targets as transformers' scripts do.

    Args:
        tokenizer: its languages are set.
        max_source_length: most tokens of a source, prefix and special tokens included; `None` = no limit.
        max_target_length: most tokens of a target that is trained on, special tokens included.
        val_max_target_length: most tokens of a target in evaluation.
        truncation_side: the part of a long source that is kept; of targets it is the beginning.
        source_prefix: put before every source.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_source_length: int | None,
        max_target_length: int | None,
        val_max_target_length: int | None,
        truncation_side: TruncationSide = "first",
        source_prefix: str = "",
    ) -> None:
        self.tokenizer, self.prefix = tokenizer, source_prefix
        self.of_sources = TextEncoder(
            tokenizer, max_source_length, truncation_side, option="max_source_length", paired=False
        )
        with as_target(tokenizer):  # a fast tokenizer is copied as it is then
            self.of_targets = {
                True: TextEncoder(tokenizer, max_target_length, option="max_target_length", paired=False),
                False: TextEncoder(tokenizer, val_max_target_length, option="val_max_target_length", paired=False),
            }

    def sources(self, texts: Sequence[str | None]) -> Encoded:
        """Encodes sources, each behind the prefix."""
        return self.of_sources([self.prefix + (text or "") for text in texts])

    def targets(self, texts: Sequence[str], training: bool) -> Encoded:
        """Encodes targets."""
        if self.tokenizer.is_fast:
            return self.of_targets[training](texts)
        with as_target(self.tokenizer):
            return self.of_targets[training](texts)

    def __call__(self, sources: Sequence[str | None], targets: Sequence[str] | None, training: bool) -> dict[str, Any]:
        """Returns the columns of features, one a row.

        Args:
            sources: one a row.
            targets: one a row, empty where there is none; `None` = rows to predict.
            training: whether they are trained on.
        """
        encoded = self.sources(sources)
        features: dict[str, Any] = {"input_ids": encoded.input_ids, "row": encoded.row}
        if targets is None:
            return {**features, "tokens_cut": encoded.tokens_cut}
        theirs = self.targets(targets, training)
        return {
            **features,
            TARGETS: theirs.input_ids,
            "target_cut": (theirs.tokens_cut > 0).astype(np.uint8),
            "tokens_cut": encoded.tokens_cut + theirs.tokens_cut,
        }
