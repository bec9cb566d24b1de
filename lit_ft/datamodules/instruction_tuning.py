"""Conversations to learn replies from: formats told by their columns, the chat template, labels on replies alone."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from transformers import PreTrainedTokenizerBase

from lit_ft.data.blocks import TextBlocks
from lit_ft.data.causal_batches import causal_batch
from lit_ft.data.chat_encoding import ChatEncoder, check_tokens, read_template
from lit_ft.data.chat_rendering import ChatRenderer, TrainOn
from lit_ft.data.chats import ChatFormat, Conversation, find_format
from lit_ft.data.collators import Batch, Feature, pad
from lit_ft.data.featurizing import RowContent
from lit_ft.data.packing import BestFit
from lit_ft.data.ragged import Array, Column, Ragged
from lit_ft.data.raw import Kind, RawRows
from lit_ft.data.samplers import Key
from lit_ft.data.store import FeatureStore
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.errors import RowError, UserError, did_you_mean
from lit_ft.ops.positions import hard_limit, longest_input

Packing = Literal["none", "best_fit"]
LONGEST = 2048
"""Tokens of a conversation where nobody says."""


class InstructionTuningDataModule(TransformerDataModule):
    """Conversations -> batches of `input_ids` and `labels`, `[batch, seq]`; rows to predict end where a reply begins.

    Formats, told by their columns: `messages` (OpenAI; with `tools`), `conversations` (ShareGPT), `instruction`,
    `input` and `output` (Alpaca), `prompt` and `completion`, `text`. Labels are -100 but at replies and the token that
    ends them. With `packing: best_fit` there are `position_ids`, which begin anew at each conversation, and no
    `attention_mask`.

    Args:
        chat_columns: a format's names for columns that are called otherwise, such as `{messages: dialogue}`.
        chat_template: a file, one of `chatml`, `llama3`, `gemma`, `mistral`, `alpaca`, or Jinja. Default: the
            tokenizer's.
        chat_template_kwargs: further variables of the template, such as `{enable_thinking: false}`.
        train_on: `assistant` (all replies), `last` (the last reply) or `all` (everything). A message with
            `train: false` is left out, another one with `train: true` learned.
        packing: `none` (a conversation is a row) or `best_fit` (whole conversations share rows, and know nothing of
            each other).
        max_seq_length: most tokens of a row. Default: what the model takes, at most 2,048. What is longer is cut at the
            end (`truncation_side`), and counted; `on_bad_rows: {cut: drop}` or `error` leaves it out, or stops.
        kwargs: options of every data module.

    Raises:
        UserError: the rows do not fit; the message names file, row and fix.
    """

    usual_packing = None
    too_long = "longer than max_seq_length"
    cut_advice = "raise it, or on_bad_rows: {cut: drop} leaves them out"

    def __init__(
        self,
        *,
        chat_columns: dict[str, str] | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
        train_on: TrainOn = "assistant",
        packing: Packing = "none",
        max_seq_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_seq_length=max_seq_length, stride=None, **kwargs)
        for option, value, known in (
            ("train_on", train_on, get_args(TrainOn)),
            ("packing", packing, get_args(Packing)),
        ):
            if value not in known:
                raise UserError(f"{option} is {value!r}; choices: {', '.join(known)}{did_you_mean(value, known)}")
        self._formats: dict[Kind, ChatFormat] = {}

    def describe(self, raw: dict[Kind, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Tells the formats; see the base."""
        for kind, sets in raw.items():
            for rows in sets.values():
                try:
                    found = find_format(self._present(rows, kind), self.hparams["chat_columns"])
                except UserError as error:
                    raise UserError(f"{rows.place}: {error}") from None
                if self._formats.setdefault(kind, found) != found:
                    raise UserError(f"the {kind} sets are in different formats: {self._formats[kind]}, {found}")
                columns = ", ".join(found.columns.values())
                self.notes.append(f"{rows.place}: conversations in the format {found.name} ({columns})")
        if loose := check_tokens(self.tokenizer, self.renderer):
            self.notes.append(
                f"the tokenizer has no token {', '.join(loose)} of the chat template, and writes it in pieces: "
                f"model.add_tokens: {loose}, or another chat_template"
            )
        self.description = {
            **known,
            "length": self.longest_feature,
            "end_of_reply": self.encoder.end_of_reply(),
        }
        return self.description

    def input_columns(self, split: Kind) -> list[str]:
        """Those of the format; see the base."""
        return list(self._formats[split].columns.values())

    def row_content(self, rows: dict[str, list[Any]], split: Kind) -> RowContent:
        """All that is said; see the base."""
        said: list[str | None] = [
            conversation.text or "\n".join(f"{each['role']}: {each['content']}" for each in conversation.messages)
            for conversation in self._conversations(rows, split)
        ]
        return RowContent([said], None)

    def tokenize(self, rows: dict[str, list[Any]], split: Kind) -> dict[str, Any]:
        """Renders and encodes conversations, cut to their length; see the base."""
        conversations, most = self._conversations(rows, split), self.longest_feature
        if split == "predict":
            prompts = self.encoder.prompts(conversations)
            kept = [ids[-most:] for ids in prompts]
            features: dict[str, Any] = {"input_ids": Ragged.of([each.tolist() for each in kept])}
        else:
            prompts, learned = self.encoder(conversations, self.hparams["train_on"])
            part = slice(-most, None) if self.hparams["truncation_side"] == "last" else slice(most)
            kept, marks = [ids[part] for ids in prompts], [each[part].astype(int) for each in learned]
            features = {
                "input_ids": Ragged.of([each.tolist() for each in kept]),
                "learned": Ragged.of([each.tolist() for each in marks]),
            }
        cut = np.array([len(whole) - len(rest) for whole, rest in zip(prompts, kept, strict=True)], np.int64)
        return {**features, "row": np.arange(len(kept)), "tokens_cut": cut}

    def grouping(self, split: Kind) -> TextBlocks | None:
        """Packs whole conversations; see the base."""
        if split == "predict" or self.hparams["packing"] == "none":
            return None
        return TextBlocks(BestFit(self.longest_feature), self.longest_feature, ([], []), [], isolated=True)

    def summarise(self, train: Sequence[FeatureStore]) -> dict[str, Any]:
        """Counts rows without anything to learn; see the base.

        Raises:
            UserError: there is nothing to learn in any row.
        """
        counts = np.concatenate([np.zeros(0, np.int64), *(_sums(each) for store in train for each in store.pieces())])
        idle = int((counts == 0).sum())
        if len(counts) and idle == len(counts):
            raise UserError(
                f"there is nothing to learn in {idle:,} training rows: train_on, train: false, or a max_seq_length "
                "that cuts all replies off"
            )
        if idle:
            self.notes.append(
                f"train: {idle:,} rows have nothing to learn (their replies are cut off, or train: false)"
            )
        return {}

    def collate(self, features: list[Feature], split: Kind, keys: list[Key]) -> Batch:
        """Pads conversations on the right, those to reply to on the left; see the base."""
        multiple = self.hparams["pad_to_multiple_of"]
        if split == "predict":
            return pad(features, self.tokenizer, None, multiple, "left")
        return causal_batch(features, keys, self.tokenizer, self.static_length, multiple)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, which has the chat template from here on; see the base."""
        found = super().tokenizer
        if self._template is not None:
            found.chat_template = self._template
        return found

    @cached_property
    def _template(self) -> str | None:
        return read_template(self.hparams["chat_template"])

    @cached_property
    def renderer(self) -> ChatRenderer:
        """Writes conversations by the template."""
        return ChatRenderer(self.tokenizer, kwargs=self.hparams["chat_template_kwargs"])

    @cached_property
    def encoder(self) -> ChatEncoder:  # type: ignore[override]
        """Encodes them."""
        return ChatEncoder(self.tokenizer, self.renderer)

    @property
    def longest_feature(self) -> int:
        """Most tokens of a row: by option, as the checkpoint's run had it, or what the model takes, up to 2,048.

        Raises:
            UserError: the model cannot take so many.
        """
        config, run = self.pretrained_config(), (getattr(self._module, "description", None) or {}).get("length")
        most = None if config is None else hard_limit(config)
        known = self.tokenizer.model_max_length if config is None else longest_input(config, self.tokenizer)
        size = int(self.hparams["max_seq_length"] or run or min(known or LONGEST, LONGEST))
        if most is not None and size > most:
            raise UserError(f"max_seq_length {size} is above the model's {most} positions")
        return size

    def _shown(self, feature: Feature) -> str:
        learned = feature["input_ids"][feature["learned"] > 0]
        return f"{super()._shown(feature)}, of which is learned: {self.tokenizer.decode(learned)[:300]!r}"

    def _present(self, rows: RawRows, kind: Kind) -> list[str]:
        present = list(rows.data.column_names)
        # of rows to reply to the reply may be missing
        return [*present, *({"output", "completion"} - {*present})] if kind == "predict" else present

    def _conversations(self, rows: dict[str, list[Any]], split: Kind) -> list[Conversation]:
        found, names = [], list(rows)
        for number, cells in enumerate(zip(*rows.values(), strict=True)):
            try:
                found.append(self._formats[split].read(dict(zip(names, cells, strict=True)), split != "predict"))
            except UserError as error:
                raise RowError(number, str(error)) from None
        return found


def _sums(columns: dict[str, Column]) -> Array:
    """Returns how many tokens of each row are learned, `[rows]`."""
    learned = columns["learned"]
    assert isinstance(learned, Ragged)
    return np.diff(np.concatenate([[0], np.cumsum(learned.values, dtype=np.int64)])[learned.offsets])
