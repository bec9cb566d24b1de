"""Token classification data: words and a tag for each, in windows that lose no word (after run_ner)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from lit_ft.data.batching.collators import Batch, Feature, pad_labels, padding_before
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.labels import class_names, names_not_streamed
from lit_ft.data.ordering.samplers import Key
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.quality.kinds import BadRows
from lit_ft.data.reading.raw import RawRows, Split, every_set
from lit_ft.data.reading.readers import ReadOptions
from lit_ft.data.tags.coding import TagCoder, count_tags, piece_labels
from lit_ft.data.tags.columns import find_columns as columns_of
from lit_ft.data.tags.description import describe_known, describe_tags, scheme_of_rows, survey
from lit_ft.data.tags.rows import TagReader, reading_of
from lit_ft.data.tags.schemes import OUTSIDE, TagScheme, check_scheme
from lit_ft.data.tokenizing.texts import token_columns
from lit_ft.data.tokenizing.words import WordEncoder, needs_prefix_space, takes_prefix_space
from lit_ft.data.viewing.row_views import SequenceView, labelled_part
from lit_ft.datamodules.labelled import LabelledDataModule
from lit_ft.ops.building.models import TOKEN_HEAD

SCHEMES = ("tag_scheme", "data_scheme")
"""What the model learned, and what the rows are in that it learned from."""


class TokenClassificationDataModule(LabelledDataModule):
    """Sentences of tagged words -> batches of `input_ids`, `attention_mask` and `labels`, each `[batch, seq]`.

    A row is a list of words and a list of as many tags (names, or ids); or a text and its entities, as `{"start": ...,
    "end": ..., "label": ...}` or `[start, end, label]` in characters. Files of a word a line are CoNLL-2003's,
    CoNLL-U's, GermEval's, or any with columns: conll, conllu, tsv and txt (txt files to predict hold a text a line).

    Sentences that are too long are read in windows; a word in two of them belongs to the one where it has more words
    around it. Labels are -100 where a token is not to be learned: special tokens, pieces of words behind the first, and
    words of other windows. In evaluation batches hold also `first_tokens` `[batch, words]`: the first token of each
    word that belongs to a window, -1 behind the last.

    Args:
        text_column_name: column of the words, or of the text: its name, or its number in the file. Default: `tokens`,
            `words`, `text` or `sentence`, else the first list.
        label_column_name: column of the tags or entities: its name, or its number in the file (from 1; -1 = the last
            one). Default: the last one.
        tag_scheme: scheme that entities are learned in (`IO`, `IOB1`, `IOB2`, `BIOES` or `BILOU`), whichever the data
            has. Default: that of the pretrained head, else of the data.
        label_all_tokens: learn all tokens of a word, those behind the first as the inside of its entity.
        label_names: tags in the order of their ids, for columns that hold ids, and for `streaming`.
        max_seq_length: most tokens of a window, special tokens included. Default: the most that the model takes.
        stride: most tokens by which windows overlap. Default: a quarter of a window.
        kwargs: options of every data module.

    Raises:
        UserError: the rows do not fit; the message names file, column and fix.
    """

    head = TOKEN_HEAD
    cut_advice = "a word does not fit a window: raise max_seq_length"
    bad_rows: Mapping[str, BadRows] = {
        "ill_formed_tags": BadRows("have tags that their scheme does not allow", "mend them")
    }

    def __init__(
        self,
        *,
        text_column_name: int | str = "",
        label_column_name: int | str = "",
        tag_scheme: TagScheme | None = None,
        label_all_tokens: bool = False,
        label_names: list[str] | None = None,
        max_seq_length: int | None = None,
        stride: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_seq_length=max_seq_length, truncation_side="first", stride=stride, **kwargs)
        self.hparams["tag_scheme"] = None if tag_scheme is None else check_scheme(tag_scheme)

    def reading(self, read: ReadOptions, predicting: bool) -> ReadOptions:
        """Files of tsv and txt hold a word a line, too; txt files to predict a text; see the base."""
        return replace(read, as_conll=("tsv",) if predicting else ("tsv", "txt"))

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Loads a tokenizer that takes each word for one, and is exported so; see the base."""
        tokenizer = super().load_tokenizer()
        if not (needs_prefix_space(tokenizer) and takes_prefix_space(tokenizer)):
            return tokenizer
        given = self.hparams["tokenizer_kwargs"]
        self.hparams["tokenizer_kwargs"] = {**(given or {}), "add_prefix_space": True}
        try:
            return super().load_tokenizer()
        finally:
            self.hparams["tokenizer_kwargs"] = given

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Finds out also what scheme the rows to be scored are in; see the base."""
        super().describe(raw, known)
        scored = [] if "predict" in raw else every_set(raw)
        if scored and "train" not in raw:
            found = survey(scored, self._reader).scheme
            self.description["data_scheme"] = scheme_of_rows(found, *map(self.description.get, SCHEMES))
        for rows in scored if self.description["words"] == "text" else ():
            if note := survey([rows], self._reader).spans.note():
                self.notes.append(f"{rows.place}: {note}")
        return self.description

    def find_columns(self, sets: Sequence[RawRows], known: dict[str, Any], labelled: bool) -> dict[str, Any]:
        """Finds the columns of words and tags, and how they are written; see the base."""
        options, first = self.hparams, sets[0]
        text, tags = columns_of(sets, options["text_column_name"], options["label_column_name"], known, labelled)
        reading = known.get("words")
        if reading is None and (labelled or not self.source.sets("train")):
            cells = next(first.batches([text, tags] if labelled else [text]))
            reading = reading_of(cells[text], cells[tags] if labelled else None)
        said = f"{first.place}: reading {text!r} as words"
        self.notes.append(f"{said} and {tags!r} as tags" if labelled else said)
        return {"text_column": text, "tag_column": tags, "words": reading or "list"}

    def train_columns(self, train: list[RawRows], known: dict[str, Any]) -> dict[str, Any]:
        """All columns: rows to predict do not say how train is read; see the base."""
        return self.find_columns(train, known, labelled=True)

    def known_labels(
        self, given: list[str], sets: Sequence[RawRows], known: dict[str, Any], config: PreTrainedConfig | None
    ) -> dict[str, Any]:
        """The head's tags and their scheme; see the base."""
        return describe_known(given, known.get("tag_scheme") or getattr(config, "tag_scheme", None))

    def train_labels(self, train: list[RawRows], given: list[str] | None, known: dict[str, Any]) -> dict[str, Any]:
        """The tags and their scheme; see the base."""
        named = (class_names(rows.data.features, self.description["tag_column"]) for rows in train)
        own = self.hparams["label_names"] or next(filter(None, named), None)
        if self.hparams["streaming"] and not own and not given:
            raise names_not_streamed(train[0].place, "tags")
        described, notes = describe_tags(
            survey(train, self._reader), own, given, "labels" in known, self.hparams["tag_scheme"]
        )
        self.notes += notes
        return described

    def input_columns(self, split: Split) -> list[str]:
        """Words and tags; see the base."""
        return [self.description[name] for name in ("text_column", "tag_column")[: 1 if split == "predict" else 2]]

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """The words and how many they are, and the tags; see the base."""
        words = self._reader.words(rows)
        texts: list[list[str | None]] = [[" ".join(row) for row in words], [str(len(row)) for row in words]]
        if split == "predict":
            return RowContent(texts, None)
        tags = self._reader.tags(rows, words)
        return RowContent(texts, [None if row is None else " ".join(row) or "no words" for row in tags])

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Encodes words and tags, in windows; see the base."""
        words = self._reader.words(rows)
        encoded = self.words(words)
        features = token_columns(encoded, self.tokenizer.model_input_names)
        if split != "train":
            features["first"] = encoded.first
        if split != "predict":
            strict, column = self.refuses_unknown_labels, self.description["tag_column"]
            sizes = np.fromiter(map(len, words), np.int64, len(words))
            coder = TagCoder(*(self.description[name] for name in ("labels", "tag_scheme", "data_scheme")))
            ids, unknown, ill_formed = coder.encode(self._reader.tags(rows, words), sizes, strict, column)
            every = self.hparams["label_all_tokens"]
            features["labels"] = piece_labels(encoded, ids, coder.labels, coder.scheme, every)
            features["unknown_label"], features["ill_formed_tags"] = unknown[encoded.row], ill_formed[encoded.row]
        return features

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads the features, their labels and the places of their words; see the base."""
        batch = super().collate(features, split, keys)
        mask = batch["attention_mask"]
        if "labels" in features[0]:
            batch["labels"] = pad_labels(mask, [feature["labels"] for feature in features])
        if "first" in features[0]:
            before = padding_before(mask).tolist()
            firsts = [torch.from_numpy(each["first"] + left) for each, left in zip(features, before, strict=True)]
            batch["first_tokens"] = torch.nn.utils.rnn.pad_sequence(firsts, batch_first=True, padding_value=-1).long()
        return batch

    def sequences(self, batch: Batch) -> list[SequenceView]:
        """Tokens with their tags, but for `O`; see the base."""
        if "labels" not in batch:
            return super().sequences(batch)
        said = [None if name == OUTSIDE else name for name in self.description["labels"]]
        return [labelled_part(self.tokenizer, batch, batch["labels"], ("ignored", "learned"), said.__getitem__)]

    def label_counts(self, store: FeatureStore) -> dict[str, int]:
        """Counts the labelled tokens of each tag, of entities those of each type; see the base."""
        return count_tags(store, self.description["labels"], self.description["tag_scheme"])

    @cached_property
    def words(self) -> WordEncoder:
        """Encodes rows of words.

        Raises:
            UserError: `max_seq_length` and `stride` leave no room.
        """
        return WordEncoder(self.tokenizer, self.longest_feature, self.hparams["stride"])

    @property
    def _reader(self) -> TagReader:
        names = self.description
        return TagReader(names["text_column"], names["tag_column"], names["words"], self.hparams["label_names"])
