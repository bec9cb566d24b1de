"""Causal language modelling data: text in blocks to train on, prompts to go on from (after run_clm and run_fim)."""

from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from lit_ft.data.batching.causal import causal_batch
from lit_ft.data.batching.collators import Batch, Feature
from lit_ft.data.grouping.blocks import TextBlocks
from lit_ft.data.grouping.cutting import Grouper, Separate, Sliding, Wrapped
from lit_ft.data.grouping.fim import TOKENS, fill_in_the_middle, fim_ids
from lit_ft.data.grouping.packing import best_fit
from lit_ft.data.ordering.samplers import Key
from lit_ft.data.reading.raw import Split
from lit_ft.datamodules.language_modeling import LanguageModelingDataModule
from lit_ft.errors import UserError
from lit_ft.ops.building.positions import longest_input
from lit_ft.ranges import SHARE, check_choice, check_ranges

Packing = Literal["wrapped", "best_fit", "none"]
OF_FIM = ("fim_rate", "fim_spm_rate", *TOKENS)
"""Options of filling in the middle."""
SEED = 42
"""Of what is rearranged by chance while rows are prepared."""


class CausalLMDataModule(LanguageModelingDataModule):
    """Text -> batches of `input_ids` and `labels`, `[batch, seq]`; rows to predict are prompts.

    `labels` are the ids themselves, as in transformers (the model shifts them); -100 where nothing is to be predicted.
    With `isolate_documents` there are `position_ids`, which begin anew at every document, and no `attention_mask`: by
    that, transformers' own models keep documents apart, too. Padding is made of documents of one token.

    Args:
        block_size: tokens of a block. Default: what the model takes, at most 1,024.
        isolate_documents: no token attends to another document, and positions begin anew. Off: as in run_clm.
        packing: how documents become blocks: `wrapped` (laid end to end and cut), `best_fit` (documents up to
            `block_size` stay whole) or `none` (a document each).
        drop_last: drop the last block of a split where it is shorter than the others; for `wrapped`.
        stride: in evaluation, read each document in windows of `block_size` that overlap by this many tokens, which
            are context and not scored again. Default: blocks as in training.
        fim_rate: share of documents that are rearranged for filling in the middle (Bavarian et al. 2022).
        fim_spm_rate: share of these with the suffix first.
        fim_prefix_token: token before the prefix.
        fim_middle_token: token before the middle.
        fim_suffix_token: token before the suffix.
        kwargs: options of every language modelling data module.

    Raises:
        UserError: the rows or options do not fit; the message names file, column and fix.
    """

    masked, length_option = False, "block_size"
    too_long, cut_advice = "longer than the model takes", "the end of a prompt is kept"

    def __init__(
        self,
        *,
        block_size: int | None = None,
        isolate_documents: bool = True,
        packing: Packing = "wrapped",
        drop_last: bool = False,
        stride: int | None = None,
        fim_rate: float = 0.0,
        fim_spm_rate: float = 0.5,
        fim_prefix_token: str = "<fim_prefix>",  # noqa: S107
        fim_middle_token: str = "<fim_middle>",  # noqa: S107
        fim_suffix_token: str = "<fim_suffix>",  # noqa: S107
        **kwargs: Any,
    ) -> None:
        super().__init__(drop_last=drop_last, stride=stride, max_seq_length=None, truncation_side="last", **kwargs)
        check_choice(self.hparams, "packing", get_args(Packing))
        if drop_last and packing != "wrapped":
            raise UserError(f"drop_last is for packing: wrapped; with {packing} each block is as long as its documents")
        if block_size is not None and block_size < 2:
            raise UserError(f"block_size is {block_size}; it must be at least 2: the first token predicts the second")
        check_ranges(self.hparams, {"fim_rate": SHARE, "fim_spm_rate": SHARE})

    def describe(self, raw: dict[Split, Any], known: dict[str, Any]) -> dict[str, Any]:
        """Finds the text column; checks the tokens that the options need; see the base."""
        if "predict" not in raw:
            self._separator()
            _ = self._fim_ids
            size, stride = self.longest_feature, self.hparams["stride"]
            if stride is not None and not 1 <= stride < size:
                raise UserError(
                    f"stride {stride} is what windows of block_size {size} overlap by: from 1 to {size - 1}"
                )
        description = super().describe(raw, known)
        if self.hparams["fim_rate"] and description["pieces"]:
            self.notes.append("fim_rate: of long txt files, each piece of 64 KB is rearranged by itself")
        return description

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Encodes documents, or prompts; see the base."""
        if split == "predict":
            return self._prompts(rows)
        features = self.documents(rows, split)
        if (ids := self._fim_ids) is not None:
            options = self.hparams
            features["input_ids"] = fill_in_the_middle(
                features["input_ids"], options["fim_rate"], options["fim_spm_rate"], *ids, seed=SEED
            )
        return features

    def grouping(self, split: Split) -> TextBlocks | None:
        """Cuts documents into blocks; see the base."""
        if split == "predict":
            return None
        around = self.document_encoder.prefix, self.document_encoder.suffix
        apart: bool = self.hparams["isolate_documents"]
        made_of = [self.hparams[name] for name in OF_FIM]
        return TextBlocks(
            self._grouper(split), self.longest_feature, around, self._separator(), made_of, isolated=apart
        )

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads blocks on the right, prompts on the left; makes labels and positions; see the base."""
        multiple = self.hparams["pad_to_multiple_of"]
        return causal_batch(features, keys, self.tokenizer, self.static_length, multiple, split == "predict")

    def _grouper(self, split: Split) -> Grouper:
        options, size = self.hparams, self.longest_feature
        if options["stride"] is not None and split != "train":
            return Sliding(size, options["stride"])
        if options["packing"] == "none":
            return Separate(size)
        if options["packing"] == "best_fit":
            return best_fit(size, options["streaming"] and split == "train")
        return Wrapped(size, options["drop_last"])

    def _separator(self) -> list[int]:
        """Returns the end-of-text token, unless the tokenizer puts it behind every text by itself."""
        suffix, end = self.document_encoder.suffix, self.tokenizer.eos_token_id
        if not self.hparams["document_separator"] or (suffix and suffix[-1] == end):
            return []
        if end is None:
            raise UserError(
                "document_separator: the tokenizer has no end-of-text token: set tokenizer_kwargs: {eos_token: ...}, "
                "or document_separator: false (for a masked model: use MaskedLMModule, MaskedLMDataModule)"
            )
        return [end]

    @cached_property
    def _fim_ids(self) -> tuple[int, int, int] | None:
        return fim_ids(self.tokenizer, self.hparams) if self.hparams["fim_rate"] else None

    def _prompts(self, rows: dict[str, list[Any]]) -> dict[str, Any]:
        """Encodes prompts; of one that the model cannot take as a whole, the end is kept."""
        limit = longest_input(self.pretrained_config(), self.tokenizer)
        whole = self.document_encoder.prompts(self.texts(rows))
        # one token at least is to come
        kept = whole if limit is None else self.document_encoder.ends(whole, limit - 1)
        return {"input_ids": kept, "row": np.arange(len(whole)), "tokens_cut": whole.lengths - kept.lengths}
