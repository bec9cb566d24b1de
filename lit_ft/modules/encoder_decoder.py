"""Encoder-decoders: built as the data say how long texts are and what they begin with; run, and asked for texts."""

import json
import logging
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel

from lit_ft.data.batching.twins import on_cpu
from lit_ft.data.labels import IGNORED
from lit_ft.modules.base import SAMPLE, Batch, Description
from lit_ft.modules.generating import GeneratingModule
from lit_ft.modules.language_modeling import SAMPLE_TOKENS, LabelledStates
from lit_ft.ops.building.seq2seq import (
    check_decoder_start,
    check_encoder_decoder,
    check_lengths,
    check_new_tokens,
    decoder_inputs,
    freeze_computed,
    scratch_values,
    set_padding,
)
from lit_ft.ops.decoding.generation import NEW_TOKENS, chosen_tokens, generating, in_groups, set_generation, texts_of
from lit_ft.ops.heads.token_loss import token_scores

log = logging.getLogger("lit_ft")


class EncoderDecoderModule(GeneratingModule):
    """Reads the hyperparameter `resize_position_embeddings`; use a task's own class, not this one."""

    auto_class = AutoModelForSeq2SeqLM
    _told: tuple[Any, ...] | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.hparams["model_type"] is not None:
            check_encoder_decoder(self.source.config())  # before any data is prepared

    # Building

    def setup(self, stage: str) -> None:
        """Tells a model that is there already (`load_from_checkpoint`) what these data say of texts; see the base."""
        super().setup(stage)
        if self.model is not None:
            self._set_generation(self.model)

    def check_model(self, config: PreTrainedConfig) -> None:
        """Refuses models without a decoder or its first token, and texts that are too long; see the base."""
        check_encoder_decoder(config)
        begin, values = self.description.get("decoder_begin", {}), self.config_kwargs(self.description)
        check_decoder_start(config, {**begin, **values})
        check_lengths(config, self.description, self.hparams["resize_position_embeddings"])
        if not self.hparams["resize_position_embeddings"]:
            check_new_tokens(config, self._new_tokens)

    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """What the decoder begins with, where the tokenizer or a new model's has to say it; see the base."""
        chosen = self.hparams["config_overrides"] or {}
        values = {}
        if self.source.model_name_or_path is None and self.tokenizer is not None:
            values = scratch_values(self.source.config(), self.tokenizer, chosen)
        begin = description.get("decoder_begin", {})
        return values | {name: number for name, number in begin.items() if name == "decoder_start_token_id"}

    def build(self) -> PreTrainedModel:
        """Builds the model, with as many positions as it needs; see the base."""
        if self._generation_of_checkpoint is None:
            self._told = None
        model = super().build()
        wanted = check_lengths(model.config, self.description, self.hparams["resize_position_embeddings"])
        if wanted is not None:
            if self.hparams["resize_position_embeddings"] is None:
                why = "as many as the longest texts (resize_position_embeddings)"
                log.info(f"the model gets {wanted} positions, {why}")
            model.resize_position_embeddings(wanted)
        freeze_computed(model)
        set_padding(model, self.tokenizer)
        if model.generation_config.decoder_start_token_id is None:
            model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id
        return model

    def _set_generation(self, model: PreTrainedModel) -> None:
        """Applies what the data say, where they did not say so before; the options of the module win."""
        length, begin = told = told_of_texts(self.description)
        if told == self._told:
            set_generation(model, self._generation)
            return
        known = self._told is not None and length == self._told[0]
        if length is None and model.generation_config.max_new_tokens is not None:
            known = True  # a folder says it, such as one that a run has exported
        new = {} if known else {"max_new_tokens": self._new_tokens}
        set_generation(model, {**new, **begin, **self._generation})
        self._told = told

    def restore(self, extras: dict[str, Any]) -> None:
        """What the data said of texts is part of the checkpoint's way of generating; see the base."""
        super().restore(extras)
        self._told = told_of_texts(self.description)

    def _take_generation(self, extras: dict[str, Any]) -> None:
        self._told = told_of_texts(json.loads(extras["description"]))
        super()._take_generation(extras)

    @property
    def _new_tokens(self) -> int:
        by_data = self.description.get("val_max_target_length")
        return int(self._generation.get("max_new_tokens") or by_data or NEW_TOKENS)

    # Running

    def outputs(self, batch: Batch) -> LabelledStates:
        """Runs the model, and takes the decoder's states that predict a labelled token; see the base."""
        return self.labelled(self.model_inputs(batch), on_cpu(batch["labels"]))

    def model_inputs(self, batch: Batch) -> Batch:
        """Returns the forward's keywords, the decoder's inputs among them; see the base."""
        inputs = super().model_inputs(batch)
        if "labels" in batch and "decoder_input_ids" not in inputs:
            assert self.model is not None
            inputs["decoder_input_ids"] = decoder_inputs(self.model, batch["labels"])
        return inputs

    def sample_inputs(self, batch: Batch) -> dict[str, Tensor]:
        """The first tokens of both sides of a few rows; see the base."""
        inputs = self.model_inputs(batch)
        names = ("input_ids", "attention_mask", "decoder_input_ids")
        return {name: inputs[name][:SAMPLE, :SAMPLE_TOKENS] for name in names if name in inputs}

    def text_sample(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """The text is its own target; see the base."""
        return {**tokens, "decoder_input_ids": tokens["input_ids"]}

    # Texts

    def generate(self, inputs: dict[str, Tensor]) -> list[list[str]]:
        """Writes `num_return_sequences` texts for each source, `input_ids` and `attention_mask` `[batch, seq]`."""
        return in_groups(texts_of(self.tokenizer, self.generated_ids(inputs)), len(inputs["input_ids"]))

    def of_encoder(self, batch: Batch) -> dict[str, Tensor]:
        """Returns what the encoder reads, such as LED's `global_attention_mask`, too."""
        inputs = super().model_inputs(batch)
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        return {name: value for name, value in tensors.items() if not name.startswith("decoder_")}

    def generated_ids(self, inputs: dict[str, Tensor]) -> Tensor:
        """Returns what is generated, `[batch * num_return_sequences, 1 + new]`, the decoder's first token before it."""
        assert self.model is not None
        model: Any = self.model if self.prompts is None else self.prompts.wrapped
        with self.without_padding, generating(self.model) as together:
            ids: Tensor = model.generate(**inputs, **together, tokenizer=self.tokenizer)
        return ids

    @torch.no_grad()
    def scores_of(self, inputs: dict[str, Tensor], ids: Tensor) -> list[float]:
        """Returns the mean log-probability of the tokens of generated texts, as many for every source, `[n]`."""
        assert self.model is not None
        counted, by_model = chosen_tokens(ids, self.model.generation_config)
        each = len(ids) // len(inputs["input_ids"])
        repeated = {name: value.repeat_interleave(each, 0) for name, value in inputs.items()}
        labels = ids[:, 1:].masked_fill(~counted, IGNORED)
        outputs = self.labelled({**repeated, "decoder_input_ids": ids[:, :-1]}, labels.cpu())
        losses, _ = token_scores(self.halves, outputs.hidden, outputs.targets)
        losses = losses * by_model[counted]
        sums = losses.new_zeros(len(ids)).index_add_(0, outputs.feature, losses)
        counts = counted.sum(1).clamp_min(1)
        return [round(value, 5) for value in (-sums / counts).tolist()]


def told_of_texts(description: Description) -> tuple[Any, dict[str, int]]:
    """Returns what data say of generated texts: how long they become, what they begin with."""
    return description.get("val_max_target_length"), description.get("decoder_begin", {})
