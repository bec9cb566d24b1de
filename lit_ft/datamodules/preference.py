"""Pairs of replies, one better than the other, or replies that are judged good or bad, as batches to compare."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from lit_ft.data.batching.collators import Batch, Feature, pad_labels, pad_sequences
from lit_ft.data.chats.encoding import cut_to, end_to_end
from lit_ft.data.chats.formats import Conversation
from lit_ft.data.chats.preferences import LABEL, Preference, PreferenceFormat, find_preferences
from lit_ft.data.features.ragged import Array, Ragged
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.labels import IGNORED
from lit_ft.data.ordering.samplers import Key, LengthSortedSampler, fillers
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.quality.kinds import BadRows
from lit_ft.data.reading.raw import RawRows, Split
from lit_ft.data.viewing.row_views import SequenceView, token_parts
from lit_ft.datamodules.chats import ChatDataModule
from lit_ft.errors import RowError, UserError

PARTS: tuple[Split, ...] = ("train", "validation")
"""Splits of a fit."""
JUDGEMENTS = {True: "desirable", False: "undesirable"}


class PreferenceDataModule(ChatDataModule):
    """Preferences -> batches of `input_ids`, `attention_mask` and `labels`, `[2 * batch, seq]`, chosen replies first.

    Formats, told by their columns: `chosen` and `rejected`, each a reply to `prompt`, `messages`, `conversations` or
    `instruction` and `input`, or a list of messages that holds both; or single replies with `label` (true = a good
    one): `prompt` and `completion`, `messages`, or `conversations`. Batches of single replies are `[batch, seq]`, and
    `desirable` `[batch]` says which are good (1), bad (0), or were judged by nobody (-1). Labels are -100 but at the
    replies that are compared and the tokens that end them.

    Args:
        kwargs: options of every data module of conversations.

    Raises:
        UserError: the rows do not fit; the message names file, row and fix.
    """

    bad_rows: Mapping[str, BadRows] = {
        "equal_replies": BadRows("have the same reply as chosen and as rejected", "nothing can be learned from them")
    }

    def find_format(self, columns: Sequence[str], split: Split) -> PreferenceFormat:
        """Tells how preferences are held; see the base."""
        return find_preferences(columns, self.hparams["chat_columns"], judged=split != "predict")

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Tells the formats, and whether there are pairs; see the base.

        Raises:
            UserError: some sets are pairs, and others are not.
        """
        description = super().describe(raw, known)
        pairs = [place for place, each in self.formats.items() if each.paired]
        single = [place for place, each in self.formats.items() if not each.paired]
        if pairs and single:
            raise UserError(
                f"{pairs[0]} holds pairs of replies, {single[0]} single ones: they cannot be learned together"
            )
        self.description = {**description, "paired": bool(pairs)}
        return self.description

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """What is said on either side, and the judgement; see the base."""
        found: list[Preference] = self.read_rows(rows, split)
        texts: list[list[str | None]] = [[each.chosen.whole for each in found]]
        if any(each.rejected is not None for each in found):
            texts.append([None if each.rejected is None else each.rejected.whole for each in found])
        if not _judged(self.find_format(list(rows), split), split):
            return RowContent(texts, None)
        return RowContent(texts, [None if each.desirable is None else str(each.desirable) for each in found])

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Renders and encodes both conversations of each row, laid end to end; see the base."""
        found, shape = self.read_rows(rows, split), self.find_format(list(rows), split)
        sides = [each for row in found for each in (row.chosen, row.rejected) if each is not None]
        size = 2 if shape.paired else 1
        encoded = self._encoded(sides, size)
        kept, marks, cut = cut_to(self.longest_feature, self.hparams["truncation_side"], *encoded)
        if judged := _judged(shape, split):  # nothing is learned of a reply that nobody judged
            marks = [mark * (row.desirable is not None) for mark, row in zip(marks, found, strict=True)]
        features: dict[str, Any] = {
            "input_ids": end_to_end(kept, size),
            "learned": end_to_end(marks, size),
            "sequences": Ragged.of(np.array([len(each) for each in kept]).reshape(-1, size).tolist()),
            "row": np.arange(len(found)),
            "tokens_cut": cut.reshape(-1, size).sum(1),
            "equal_replies": np.array([row.equal for row in found]),
        }
        if judged:
            features["desirable"] = np.array([-1 if row.desirable is None else row.desirable for row in found], np.int8)
        return features

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads the replies on the right, the chosen ones first; see the base."""
        options = self.hparams
        batch = pad_sequences(features, self.tokenizer, 0, self.static_length, options["pad_to_multiple_of"], "right")
        batch = {name: value.transpose(0, 1).flatten(0, 1) for name, value in batch.items()}
        marks = [mark for side in zip(*(_sides(each, "learned") for each in features), strict=True) for mark in side]
        learned = pad_labels(batch["attention_mask"], marks) > 0
        learned[fillers(keys).repeat(len(learned) // len(features))] = False
        batch["labels"] = torch.where(learned, batch["input_ids"], IGNORED)
        if "desirable" in features[0]:
            batch["desirable"] = torch.tensor([int(feature["desirable"]) for feature in features], dtype=torch.int8)
        return batch

    def every_batch(self) -> Iterator[Batch]:
        """Batches of all training and validation rows, each row once: this process's share of them."""
        size = self.hparams["eval_batch_size"] or self.hparams["batch_size"]
        for kind in PARTS:
            for data in self.features.get(kind, {}).values():
                sampler = LengthSortedSampler(np.arange(len(data)), data.store.widths(), size, 1.0, *self.processes)
                yield from DataLoader(
                    data, batch_size=size, sampler=sampler, collate_fn=lambda features: self.batch_of("train", features)
                )

    def sequences(self, batch: Batch) -> list[SequenceView]:
        """The chosen and the rejected conversation, or the only one; see the base."""
        names, columns = ("input_ids", "attention_mask", "labels"), len(batch["input_ids"])
        sides = [{name: batch[name][[at]] for name in names} for at in range(columns)]
        titles = ("chosen", "rejected") if columns > 1 else (None,)
        return [
            replace(*token_parts(self.tokenizer, side), title=title) for side, title in zip(sides, titles, strict=True)
        ]

    def label_of(self, batch: Batch) -> str | None:
        """How a single reply is judged; see the base."""
        judged = int(batch["desirable"][0]) if "desirable" in batch else -1
        return None if judged < 0 else JUDGEMENTS[bool(judged)]

    def label_counts(self, store: FeatureStore) -> dict[str, int]:
        """Counts good and bad single replies; see the base."""
        if "desirable" not in store.column_names:
            return {}
        judged = store.column("desirable")
        return {JUDGEMENTS[good]: int((judged == good).sum()) for good in (True, False)}

    def _encoded(self, sides: list[Conversation], per_row: int) -> tuple[list[Any], list[Any]]:
        try:
            return self.encoder(sides)
        except RowError as error:
            raise RowError(error.row // per_row, str(error)) from None


def _judged(shape: PreferenceFormat, split: Split) -> bool:
    """Says whether rows are single replies with a judgement."""
    return split != "predict" and LABEL in shape.columns


def _sides(feature: Feature, column: str) -> list[Array]:
    """Takes what is laid end to end apart."""
    return np.split(feature[column], np.cumsum(feature["sequences"])[:-1])
