"""Conversations to learn replies from: formats told by their columns, the chat template, labels on replies alone."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from lit_ft.data.batching.causal import causal_batch
from lit_ft.data.batching.collators import Batch, Feature
from lit_ft.data.chats.encoding import cut_to, end_to_end
from lit_ft.data.chats.formats import ChatFormat, find_format
from lit_ft.data.chats.rendering import TrainOn
from lit_ft.data.grouping.blocks import TextBlocks
from lit_ft.data.grouping.packing import best_fit
from lit_ft.data.ordering.samplers import Key
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.reading.raw import Split
from lit_ft.datamodules.chats import ChatDataModule
from lit_ft.ranges import check_choice

Packing = Literal["none", "best_fit"]


class InstructionTuningDataModule(ChatDataModule):
    """Conversations -> batches of `input_ids` and `labels`, `[batch, seq]`; rows to predict end where a reply begins.

    Formats, told by their columns: `messages` (OpenAI; with `tools`), `conversations` (ShareGPT), `instruction`,
    `input` and `output` (Alpaca), `prompt` and `completion`, `text`. Labels are -100 but at replies and the token that
    ends them. With `packing: best_fit` there are `position_ids`, which begin anew at each conversation, and no
    `attention_mask`.

    Args:
        train_on: `assistant` (all replies), `last` (the last reply) or `all` (everything). A message with
            `train: false` is left out, another one with `train: true` learned.
        packing: `none` (a conversation is a row) or `best_fit` (whole conversations share rows, and know nothing of
            each other).
        kwargs: options of every data module of conversations.

    Raises:
        UserError: the rows do not fit; the message names file, row and fix.
    """

    def __init__(
        self,
        *,
        train_on: TrainOn = "assistant",
        packing: Packing = "none",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice(self.hparams, "train_on", get_args(TrainOn))
        check_choice(self.hparams, "packing", get_args(Packing))

    def find_format(self, columns: Sequence[str], split: Split) -> ChatFormat:
        """Tells how conversations are held; see the base."""
        # of rows to reply to the reply may be missing
        missing = sorted({"output", "completion"} - {*columns}) if split == "predict" else []
        return find_format([*columns, *missing], self.hparams["chat_columns"])

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """All that is said; see the base."""
        return RowContent([[each.whole for each in self.read_rows(rows, split)]], None)

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Renders and encodes conversations, cut to their length; see the base."""
        conversations, most = self.read_rows(rows, split), self.longest_feature
        if split == "predict":
            kept, _, cut = cut_to(most, "last", self.encoder.prompts(conversations))
            features = {}
        else:
            encoded = self.encoder(conversations, self.hparams["train_on"])
            kept, marks, cut = cut_to(most, self.hparams["truncation_side"], *encoded)
            features = {"learned": end_to_end(marks)}
        return {"input_ids": end_to_end(kept), **features, "row": np.arange(len(kept)), "tokens_cut": cut}

    def grouping(self, split: Split) -> TextBlocks | None:
        """Packs whole conversations; see the base."""
        if split == "predict" or self.hparams["packing"] == "none":
            return None
        packed = best_fit(self.longest_feature, self.hparams["streaming"] and split == "train")
        return TextBlocks(packed, self.longest_feature, ([], []), [], isolated=True)

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads conversations on the right, those to reply to on the left; see the base."""
        multiple = self.hparams["pad_to_multiple_of"]
        return causal_batch(features, keys, self.tokenizer, self.static_length, multiple, split == "predict")
