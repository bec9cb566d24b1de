"""Masked language modelling data: blocks or lines of text, masked anew each epoch (after run_mlm and run_plm)."""

from functools import cached_property
from typing import Any, Literal

from lit_ft.data.batching.collators import Batch, Feature, pad_labels
from lit_ft.data.batching.guesses import OPTIONS, chances, check_asked, check_way, way_of_guessing, with_words
from lit_ft.data.batching.masking import Masking
from lit_ft.data.batching.permutation import Permutation, labels_at_tokens
from lit_ft.data.grouping.blocks import TextBlocks
from lit_ft.data.grouping.cutting import Wrapped
from lit_ft.data.labels import IGNORED
from lit_ft.data.ordering.samplers import Key, fillers
from lit_ft.data.preparing.prepare import Prepared
from lit_ft.data.reading.raw import Split
from lit_ft.data.tokenizing.texts import token_columns
from lit_ft.data.tokenizing.word_starts import WordStarts
from lit_ft.data.viewing.row_views import SequenceView, labelled_part
from lit_ft.datamodules.language_modeling import LanguageModelingDataModule
from lit_ft.errors import UserError
from lit_ft.ops.building.objectives import is_permutation


class MaskedLMDataModule(LanguageModelingDataModule):
    """Text -> batches of masked `input_ids`, `attention_mask` and `labels`, `[batch, seq]`; -100 where not predicted.

    Masks are a pure function of seed, epoch and row: new ones each epoch in training, always the same in evaluation.
    For XLNet: permutations instead of masks (`perm_mask`, `target_mapping`). Rows to predict are texts with the mask
    token in them.

    Args:
        max_seq_length: tokens of a block, special tokens included. Default: what the model takes, at most 1,024.
        line_by_line: each row by itself, cut at `max_seq_length`, instead of blocks; rows without text are dropped.
        sample_by: what a document is in a txt file. Default: a `line` with `line_by_line`, else the `document`.
        mlm_probability: share of tokens to predict.
        mask_replace_prob: share of these that become the mask token.
        random_replace_prob: share of these that become a random token; the rest stay as they are.
        whole_word_mask: predict all tokens of a word, or none.
        span_mask: predict spans of whole words, of geometric lengths (SpanBERT, Joshi et al. 2020).
        span_geometric_p: parameter of these lengths.
        max_span_length: most words of a span (default 10), or tokens of a span of XLNet's (default 5).
        plm_probability: share of tokens that XLNet predicts.
        permutation: predict permutations as XLNet does. Default: where the model is an XLNet.
        kwargs: options of every language modelling data module.

    Raises:
        UserError: the rows or options do not fit; the message names file, column and fix.
    """

    masked, length_option = True, "max_seq_length"
    loading_options = LanguageModelingDataModule.loading_options | OPTIONS

    def __init__(
        self,
        *,
        max_seq_length: int | None = None,
        line_by_line: bool = False,
        sample_by: Literal["line", "paragraph", "document"] | None = None,
        keep_linebreaks: bool = False,
        document_separator: bool = False,
        mlm_probability: float = 0.15,
        mask_replace_prob: float = 0.8,
        random_replace_prob: float = 0.1,
        whole_word_mask: bool = False,
        span_mask: bool = False,
        span_geometric_p: float = 0.2,
        max_span_length: int | None = None,
        plm_probability: float = 1 / 6,
        permutation: bool | None = None,
        on_bad_rows: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        resolved = sample_by or ("line" if line_by_line else "document")
        super().__init__(
            max_seq_length=max_seq_length,
            sample_by=resolved,
            keep_linebreaks=keep_linebreaks,
            document_separator=document_separator,
            stride=None,
            on_bad_rows={"empty_text": "drop", **(on_bad_rows or {})} if line_by_line else on_bad_rows,
            **kwargs,
        )
        self.hparams["sample_by"] = resolved
        if line_by_line and resolved == "document":
            raise UserError("line_by_line cuts each row at max_seq_length, so a row cannot be a whole document: set "
                            "sample_by to line or paragraph, or line_by_line: false")  # fmt: skip
        if whole_word_mask and span_mask:
            raise UserError("span_mask masks whole words already: leave whole_word_mask out")

    def prepare_stage(self, kinds: tuple[Split, ...], overwrite: bool = False) -> Prepared:
        """Checks what is not part of what is prepared; see the base."""
        if self.tokenizer.mask_token_id is None:
            raise UserError(
                "the tokenizer has no mask token, so its model is no masked one: use CausalLMModule and "
                "CausalLMDataModule, or another model"
            )
        check_way(self.hparams, self.permuted)
        _ = self._chance("train")  # checks the other options
        self._with_words([])
        return super().prepare_stage(kinds, overwrite)

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Encodes documents, lines, or texts to fill in; see the base."""
        if split != "predict" and not self.hparams["line_by_line"]:
            return self.documents(rows, split)
        texts = self.texts(rows)
        encoded = self.encoder(texts)
        features = token_columns(encoded, ())  # the model sets segments itself
        if split == "predict":
            check_asked(encoded, len(texts), self.tokenizer, self.longest_feature)
        return features

    def grouping(self, split: Split) -> TextBlocks | None:
        """Cuts documents into blocks, each with the tokenizer's special tokens around it; see the base."""
        if split == "predict" or self.hparams["line_by_line"]:
            return None
        before, behind = self.document_encoder.prefix, self.document_encoder.suffix
        room = self.longest_feature - len(before) - len(behind)
        if room < 1:
            raise UserError(f"max_seq_length {self.longest_feature} leaves no room beside the special tokens")
        cut = Wrapped(room, self.hparams["drop_last"])
        return TextBlocks(cut, self.longest_feature, ([], []), self._separator(), around_blocks=(before, behind))

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Masks or permutes, and pads; see the base."""
        if split == "predict":
            return super().collate(features, split, keys)
        chance = self._chance(split)
        if isinstance(chance, Permutation):
            batch = super().collate(features, split, keys)
            batch |= chance(batch["input_ids"], chances(keys, split))
        else:
            masked = chance(self._with_words(features), chances(keys, split))
            batch = super().collate(masked, split, keys)
            batch["labels"] = pad_labels(batch["attention_mask"], [feature["labels"] for feature in masked])
        batch["labels"][fillers(keys)] = IGNORED
        return batch

    def sequences(self, batch: Batch) -> list[SequenceView]:
        """Tokens, those to be guessed with what they are; see the base."""
        if "labels" not in batch:
            return super().sequences(batch)
        labels = labels_at_tokens(batch) if self.permuted else batch["labels"]
        return [labelled_part(self.tokenizer, batch, labels, ("plain", "masked"))]

    @cached_property
    def permuted(self) -> bool:
        """Whether permutations are predicted, as XLNet does."""
        config = self.pretrained_config()
        given: bool | None = self.hparams["permutation"]
        return (config is not None and is_permutation(config)) if given is None else given

    def _chance(self, split: Split) -> Masking | Permutation:
        seed = self.seed if split == "train" else None
        return way_of_guessing(self.hparams, self.tokenizer, self.permuted, seed)

    def _with_words(self, features: list[Feature]) -> list[Feature]:
        whole = self.hparams["whole_word_mask"] or self.hparams["span_mask"]
        return with_words(features, self._word_starts) if whole else features

    @cached_property
    def _word_starts(self) -> WordStarts:
        return WordStarts(self.tokenizer)

    def _separator(self) -> list[int]:
        if not self.hparams["document_separator"]:
            return []
        for separator in (self.tokenizer.sep_token_id, self.tokenizer.eos_token_id):
            if separator is not None:
                return [separator]
        raise UserError("document_separator: the tokenizer has no separator: set document_separator: false")
