"""Text to text: what summarization, translation and any other pairs of source and target share (after run_seq2seq)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from lit_ft.data.batching.collators import Batch, Feature, pad, pad_targets
from lit_ft.data.features.store import TARGETS, FeatureStore
from lit_ft.data.labels import IGNORED
from lit_ft.data.ordering.samplers import FILLER, Key
from lit_ft.data.pairs.columns import AskedPairs, PairColumns, find_columns
from lit_ft.data.pairs.encoding import PairEncoder
from lit_ft.data.pairs.languages import decoder_begin, set_languages
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.reading.columns import Names, as_list
from lit_ft.data.reading.parallel import check_not_parallel, sides_of
from lit_ft.data.reading.raw import RawRows, Split, every_set
from lit_ft.data.reading.readers import ReadOptions
from lit_ft.data.viewing.row_views import SequenceView, target_part
from lit_ft.datamodules.own_tokenizer import OwnTokenizerDataModule
from lit_ft.errors import UserError
from lit_ft.ops.building.seq2seq import usual_source_length, wants_prefix
from lit_ft.ranges import AT_LEAST_ONE, check_ranges

DROPPED = {"empty_text": "drop", "unlabelled": "drop"}
"""Rows without a source or a target: left out and counted, as the scripts leave them out."""


class Seq2SeqDataModule(OwnTokenizerDataModule):
    """Pairs of texts -> batches of `input_ids`, `attention_mask` `[batch, seq]` and `labels` `[batch, target seq]`.

    Rows hold source and target as two columns, as a nested column (`{"en": ..., "ro": ...}`), or line by line in two
    parallel text files, given as a list: `train_file: [x.source, x.target]`. A target may be a list of texts, or in
    several columns: the first is trained on, all are references in evaluation. Rows without source or target are left
    out and counted.

    Args:
        source_column_name: column of the source. Default: where there is one reading.
        source_template: makes the source of several columns, such as `question: {question} context: {context}`.
        target_column_names: column of the target; several hold a reference each. `summary` is also `summary1`,
            `summary2`.
        source_prefix: put before every source, such as `summarize: ` for T5.
        source_lang: language of the source, for multilingual tokenizers and nested columns (`en_XX`, `eng_Latn`, `en`).
        target_lang: language of the target.
        forced_bos_token: token or language code that generated text begins with. Default: the target's language, where
            the tokenizer puts it first.
        max_source_length: most tokens of a source. Default: what the model takes, at most 1,024.
        max_target_length: most tokens of a target that is trained on.
        val_max_target_length: most tokens of a target in evaluation, and of a generated text. Default:
            `max_target_length`.
        ignore_pad_token_for_loss: nothing is to be predicted at padding.
        kwargs: options of every data module, and `train_tokenizer`, which learns of sources and targets.

    Raises:
        UserError: the rows do not fit; the message names file, column and fix.
    """

    masked = True
    options_of_texts = (
        "source_column_name", "source_template", "target_column_names", "source_lang", "target_lang",
    )  # fmt: skip
    loading_options = OwnTokenizerDataModule.loading_options | {"ignore_pad_token_for_loss"}
    language_options = ("source_lang", "target_lang")
    too_long = "longer than max_source_length or max_target_length"
    cut_advice = "raise the one that is short"

    def __init__(
        self,
        *,
        source_column_name: str = "",
        source_template: str = "",
        target_column_names: Names = "",
        source_prefix: str | None = None,
        source_lang: str | None = None,
        target_lang: str | None = None,
        forced_bos_token: str | None = None,
        max_source_length: int | None = None,
        max_target_length: int = 128,
        val_max_target_length: int | None = None,
        ignore_pad_token_for_loss: bool = True,
        **kwargs: Any,
    ) -> None:
        self.parallel_sides = sides_of(source_lang, target_lang)
        kwargs["on_bad_rows"] = {**DROPPED, **(kwargs.get("on_bad_rows") or {})}
        super().__init__(max_seq_length=None, stride=None, **kwargs)
        # what a task fixes for its users is on no command line, and Lightning saves only what is
        self.hparams.update(
            source_column_name=source_column_name,
            target_column_names=target_column_names,
            source_lang=source_lang,
            target_lang=target_lang,
        )
        if source_column_name and source_template:
            raise UserError("source_template makes the source, source_column_name names one: leave one out")
        lengths = ("max_source_length", "max_target_length", "val_max_target_length")
        check_ranges(self.hparams, dict.fromkeys(lengths, AT_LEAST_ONE))
        if kwargs.get("streaming"):
            check_not_parallel(as_list(kwargs.get("train_file")), self.parallel_sides)
        self._columns_of: dict[Split, list[str]] = {}
        self._spoken: PreTrainedTokenizerBase | None = None

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Finds the columns; says how targets begin and how long they become; see the base."""
        options = self.hparams
        columns = find_columns(every_set(raw)[0], self._asked, known, labelled="predict" not in raw)
        for kind, sets in raw.items():
            self._columns_of[kind] = columns.needed_of(kind, sets.values())
        prefix = options["source_prefix"]
        if prefix is None and not (prefix := known.get("source_prefix", "")) and wants_prefix(self.pretrained_config()):
            self.notes.append("T5 was trained with a prefix for each task: set source_prefix, such as 'summarize: '")
        of_run = known.get("val_max_target_length") if "predict" in raw else None
        self.description = {
            **known,
            "columns": columns.plain(),
            "source_prefix": prefix,
            "max_source_length": self.longest_feature,
            "max_target_length": options["max_target_length"],
            "val_max_target_length": options["val_max_target_length"] or of_run or options["max_target_length"],
            "decoder_begin": decoder_begin(self.tokenizer, options["forced_bos_token"]),
        }
        return self.description

    def reading(self, read: ReadOptions, predicting: bool) -> ReadOptions:
        """Two files may hold a side each; see the base."""
        return replace(read, sides=self.parallel_sides)

    def column_of_texts(self, known: dict[str, Any]) -> str:
        """The side of the sources; see the base."""
        return self.parallel_sides[0]

    def input_columns(self, split: Split) -> list[str]:
        """Source and targets; see the base."""
        return self._columns_of[split]

    def info_columns(self, present: list[str], split: Split) -> list[str]:
        """The references in evaluation, all columns in prediction; see the base."""
        if split in ("train", "predict"):
            return super().info_columns(present, split)
        columns = self._columns
        return [columns.nested] if columns.nested in present else columns.references_among(present)

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """The source, and the target that is trained on; see the base."""
        sources = self._columns.sources(rows)
        # in a list, where it is empty by intent, so that it is not taken for a missing one
        labels = [text if text or text is None else [text] for text in self._targets(rows)]
        return RowContent([sources], None if split == "predict" else labels)

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Encodes sources, and targets where there are; see the base."""
        targets = None if split == "predict" else [text or "" for text in self._targets(rows)]
        return self.pair_encoder(self._columns.sources(rows), targets, split == "train")

    def summarise(self, train: Sequence[FeatureStore]) -> dict[str, Any]:
        """Says how many targets are cut, which teaches a model to stop early; see the base."""
        cut = sum(store.total("target_cut") for store in train)
        if cut:
            self.notes.append(
                f"train: {cut:,} targets are cut to max_target_length {self.hparams['max_target_length']}"
            )
        return {}

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads sources and targets; see the base."""
        options = self.hparams
        batch = pad(features, self.tokenizer, self.static_length, options["pad_to_multiple_of"])
        if TARGETS in features[0]:
            # rows that only fill up a batch learn nothing, and make it no wider
            sizes = [0 if key[1] == FILLER else None for key in keys]
            targets = [row[TARGETS][:size] for row, size in zip(features, sizes, strict=True)]
            padding = IGNORED if options["ignore_pad_token_for_loss"] else int(self.tokenizer.pad_token_id or 0)
            static = self._target_length(split) if options["pad_to_max_length"] else None
            batch["labels"] = pad_targets(targets, padding, static, options["pad_to_multiple_of"])
        return batch

    @cached_property
    def pair_encoder(self) -> PairEncoder:
        """Encodes both sides."""
        options, prefix = self.hparams, self.description["source_prefix"]
        lengths = (self._target_length("train"), self._target_length("validation"))
        return PairEncoder(self.tokenizer, self.longest_feature, *lengths, options["truncation_side"], prefix)

    @property
    def longest_feature(self) -> int:
        """Most tokens of a source: by option, as the checkpoint's run had it, or what the model takes, up to 1,024."""
        given = self.hparams["max_source_length"] or self.known.get("max_source_length")
        return int(given or usual_source_length(self.pretrained_config(), self.tokenizer))

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, its languages set; see the base."""
        found = super().tokenizer
        if found is not self._spoken:
            source, target = (self.hparams[name] for name in ("source_lang", "target_lang"))
            restored = getattr(self._module, "restored_tokenizer", None) is found
            set_languages(found, source, target, self.language_options, keep=restored)
            self._spoken = found
        return found

    def texts_in(self, rows: RawRows) -> Iterator[list[str]]:
        """Sources and targets; see the base."""
        columns = find_columns(rows, self._asked, {}, labelled=True)
        columns.check(rows.data.column_names, True, rows.place)
        for batch in rows.batches(columns.needed(rows.data.column_names, True), 1024):
            yield [text for text in columns.sources(batch) if text]
            yield [text for texts in columns.references(batch) for text in texts]

    @property
    def _asked(self) -> AskedPairs:
        options = self.hparams
        source, targets = options["source_column_name"], as_list(options["target_column_names"])
        languages = (options["source_lang"], options["target_lang"])
        return AskedPairs(source, targets, options["source_template"], languages, self.parallel_sides[0])

    @property
    def _columns(self) -> PairColumns:
        return PairColumns(**self.description["columns"])

    def _targets(self, rows: dict[str, list[Any]]) -> list[str | None]:
        return [texts[0] if texts else None for texts in self._columns.references(rows)]

    def _target_length(self, split: Split) -> int:
        options = self.hparams
        length = options["max_target_length"] if split == "train" else options["val_max_target_length"]
        return int(length or options["max_target_length"])

    def sequences(self, batch: Batch) -> list[SequenceView]:
        """Source and target; see the base."""
        source = replace(*super().sequences({**batch, "labels": None}), title="source")
        return [source, target_part(self.tokenizer, batch["labels"])] if "labels" in batch else [source]
