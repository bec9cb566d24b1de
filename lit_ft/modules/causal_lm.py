"""Causal language models: any AutoModelForCausalLM, trained on blocks of text; predicting is generating."""

import json
import logging
import math
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel

from lit_ft.data.documents import DocumentEncoder
from lit_ft.data.labels import IGNORED
from lit_ft.data.merging import Part
from lit_ft.data.ragged import Array
from lit_ft.data.token_bytes import token_bytes
from lit_ft.errors import UserError
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.language_modeling import LabelledStates, LanguageModelingModule
from lit_ft.ops.checkpoint_extras import KEY
from lit_ft.ops.generation import check_generation, generated
from lit_ft.ops.objectives import check_causal
from lit_ft.ops.positions import hard_limit
from lit_ft.ops.sequences import cannot_isolate, flat_inputs, isolate, running_flat

log = logging.getLogger("lit_ft")

NEW_TOKENS = 128
"""Tokens that are generated where nobody says how many; transformers' own 20 end in the middle of a sentence."""


class CausalLMModule(LanguageModelingModule):
    """Predicts each token from those before it; batches are those of `CausalLMDataModule` or any with the same names.

    Predicting goes on from prompts; each prediction is `generated_text` (a list where several sequences are asked for).

    Args:
        generation: options of transformers' `generate`, such as `{max_new_tokens: 64, do_sample: true}`.
        sample_prompts: prompts to go on from after each validation; the texts are logged and kept in `samples.jsonl`.
        kwargs: options of every module.
    """

    auto_class = AutoModelForCausalLM
    pipeline_tag = "text-generation"
    card_example = """from transformers import pipeline

write = pipeline("text-generation", "this/folder")
write("The beginning of a text", max_new_tokens=50)"""

    def __init__(
        self,
        *,
        generation: dict[str, Any] | None = None,
        sample_prompts: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._generation_of_checkpoint: str | None = None
        self._generation = check_generation(generation)
        if "max_length" not in self._generation:
            self._generation = {"max_new_tokens": NEW_TOKENS, **self._generation}

    def check_model(self, config: PreTrainedConfig) -> None:
        """Refuses masked models, blocks and prompts that are too long; see the base."""
        check_causal(config)
        self.check_length(config, "block_size")
        data, predicting = self._datamodule, self.trainer.state.fn == "predict"
        if not predicting and getattr(getattr(data, "hparams", None), "isolate_documents", False):
            kind = AutoModelForCausalLM._model_mapping.get(type(config), None)  # `None`: code beside a checkpoint
            reason = None if kind is None else cannot_isolate(kind, self.hparams["attn_implementation"])
            if reason is not None:
                raise UserError(f"{reason}: set data.isolate_documents: false")
        sets, samples = getattr(data, "features", {}).get("predict", {}), self.hparams["sample_prompts"]
        if predicting:
            self._check_prompts("a prompt", [each.store.lengths() for each in sets.values()])
        elif samples:
            if self.tokenizer is None:
                raise UserError("sample_prompts need a tokenizer: set tokenizer_name")
            self._check_prompts("sample_prompts: one", [DocumentEncoder(self.tokenizer).prompts(samples).lengths])

    def _check_prompts(self, name: str, lengths: list[Array]) -> None:
        most, longest = hard_limit(self._config), max((int(each.max(initial=0)) for each in lengths), default=0)
        if most is not None and longest + self._new_tokens > most:
            raise UserError(
                f"{name} of {longest} tokens and generation.max_new_tokens {self._new_tokens} are above the model's "
                f"{most} positions: lower max_new_tokens, or shorten the prompt"
            )

    def build(self) -> PreTrainedModel:
        """Builds the model with the checkpoint's own way of generating; see the base."""
        model = super().build()
        if self._generation_of_checkpoint is not None:
            model.generation_config = GenerationConfig.from_dict(json.loads(self._generation_of_checkpoint))
        return model

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the model's way of generating; see the base."""
        super().on_save_checkpoint(checkpoint)
        assert self.model is not None
        checkpoint[KEY]["generation"] = self.model.generation_config.to_json_string(use_diff=False)

    def restore(self, extras: dict[str, Any]) -> None:
        """Takes the checkpoint's way of generating, too; see the base."""
        super().restore(extras)
        self._generation_of_checkpoint = extras["generation"]

    def outputs(self, batch: Batch) -> LabelledStates:
        """Runs the body of the model, and takes the states that predict a labelled token; see the base."""
        ids, targets = batch["input_ids"], shifted(batch["labels"])
        if "position_ids" not in batch:
            return self.labelled({"input_ids": ids, "attention_mask": batch.get("attention_mask")}, targets)
        if self._kept_together is not None:
            raise UserError(f"{self._kept_together}: set data.isolate_documents: false")
        real = in_documents(batch["position_ids"])
        rows = torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
        flat = flat_inputs({name: batch[name][real][None] for name in ("input_ids", "position_ids")})
        _ = self.halves  # found by a pass of its own, which is not flat
        with running_flat():
            return self.labelled(flat, targets[real][None], rows[real][None])

    @cached_property
    def _kept_together(self) -> str | None:
        """Why the model cannot keep documents apart; `None` where it can, and from then on does."""
        assert self.model is not None
        return isolate(self.model)

    def predict_parts(self, batch: Batch) -> list[Part]:
        """Goes on from each prompt; see the base."""
        texts = self.generate({name: batch[name] for name in ("input_ids", "attention_mask")})
        return [{"generated_text": each[0] if len(each) == 1 else each} for each in texts]

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns what was generated; see the base."""
        return row

    def generate(self, prompts: dict[str, Tensor]) -> list[list[str]]:
        """Goes on from prompts, `input_ids` and `attention_mask` padded on the left, `[batch, seq]`."""
        assert self.model is not None
        assert self.tokenizer is not None
        return generated(self.model, self.tokenizer, prompts, self._generation)

    def samples(self) -> list[dict[str, Any]]:
        """Goes on from `sample_prompts`, one by one."""
        prompts = self.hparams["sample_prompts"]
        if not prompts:
            return []
        assert self.tokenizer is not None
        encode, made = DocumentEncoder(self.tokenizer), []
        with isolate_rng():  # or what follows in training would depend on the samples
            for prompt in prompts:
                ids = torch.tensor(encode.prompts([prompt]).tolist(), device=self.device)
                texts = self.generate({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
                made.append({"prompt": prompt, "generated_text": texts[0][0]})
        return made

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return [*super().metric_names(description), "bits_per_byte"]

    def bytes_of(self, tokens: Tensor) -> Tensor:
        """Returns how many bytes of text each token stands for; NaN without a tokenizer; see the base."""
        if self.tokenizer is None:
            return torch.full_like(tokens, math.nan, dtype=torch.float32)
        return self._bytes_of_token.to(tokens.device)[tokens]

    @cached_property
    def _bytes_of_token(self) -> Tensor:
        assert self.tokenizer is not None
        return torch.from_numpy(token_bytes(self.tokenizer)).float()

    @property
    def _new_tokens(self) -> int:
        return int(self._generation.get("max_new_tokens") or 0)


def in_documents(positions: Tensor) -> Tensor:
    """Returns which tokens are in a document of more than one token, `[batch, seq]`: others, padding, teach nothing."""
    flat = positions.flatten()
    follows = torch.cat([flat[1:] > 0, flat.new_zeros(1, dtype=torch.bool)])
    real = (flat > 0) | follows
    real[:1] |= ~real.any()  # a model cannot run on nothing
    return real.reshape(positions.shape)


def shifted(labels: Tensor) -> Tensor:
    """Returns what each position predicts, `[batch, seq]`: the label of the next one; -100 at the end."""
    return torch.cat([labels[:, 1:], labels.new_full((len(labels), 1), IGNORED)], dim=1)
