"""Causal language models: any AutoModelForCausalLM, trained on blocks of text; predicting is generating."""

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.twins import on_cpu
from lit_ft.data.grouping.documents import DocumentEncoder
from lit_ft.data.labels import IGNORED
from lit_ft.data.tokenizing.token_bytes import token_bytes
from lit_ft.errors import UserError
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.generating import GeneratingModule
from lit_ft.modules.language_modeling import LabelledStates
from lit_ft.ops.building.objectives import check_causal
from lit_ft.ops.building.positions import hard_limit
from lit_ft.ops.decoding.generation import generated, length_options
from lit_ft.ops.decoding.prompts import check_room, ends_of
from lit_ft.ops.padding_free.isolation import cannot_isolate, isolate
from lit_ft.ops.padding_free.layout import Layout


class CausalLMModule(GeneratingModule):
    """Predicts each token from those before it; batches are those of `CausalLMDataModule` or any with the same names.

    Predicting goes on from prompts; each prediction is `generated_text` (a list where several sequences are asked for).

    Args:
        sample_prompts: prompts to go on from after each validation; the texts are logged and kept in `samples.jsonl` by
            the callback `Samples`, which `lit-ft` adds.
        kwargs: options of every module, and of those that generate.
    """

    auto_class = AutoModelForCausalLM
    pipeline_tag = "text-generation"
    length_option = "block_size"
    """What the data call the most tokens of a row."""
    predicted_text = "generated_text"
    card_example = """from transformers import pipeline

write = pipeline("text-generation", "this/folder")
write("The beginning of a text", max_new_tokens=50)"""

    def __init__(
        self,
        *,
        sample_prompts: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.hparams["model_type"] is not None:
            check_causal(self.source.config())  # before any data is prepared

    def check_model(self, config: PreTrainedConfig) -> None:
        """Refuses masked models, blocks and prompts that are too long; see the base."""
        check_causal(config)
        self.check_length(config, self.length_option)
        data, predicting = self._datamodule, self.trainer.state.fn == "predict"
        kind = AutoModelForCausalLM._model_mapping.get(type(config), None)  # `None`: code beside a checkpoint
        if not predicting and kind and getattr(getattr(data, "hparams", None), "isolate_documents", False):
            reason = cannot_isolate(kind, self.hparams["attn_implementation"])
            if reason is not None:
                raise UserError(f"{reason}: set data.isolate_documents: false")
        if self.hparams["sample_prompts"] and self.tokenizer is None:
            raise UserError("sample_prompts need a tokenizer: set tokenizer_name")
        if predicting:
            sets = getattr(data, "features", {}).get("predict", {})
            lengths = np.concatenate([[0], *(each.store.lengths() for each in sets.values())])
            check_room(lengths, self._room, self._new_tokens)
        elif self.hparams["sample_prompts"]:
            lengths = self._prompt_encoder.prompts(self.hparams["sample_prompts"]).lengths
            check_room(lengths, self._room, self._new_tokens)

    @cached_property
    def _prompt_encoder(self) -> DocumentEncoder:
        assert self.tokenizer is not None
        return DocumentEncoder(self.tokenizer)

    @property
    def _room(self) -> int | None:
        """The most tokens of a prompt, where positions are learned."""
        most = hard_limit(self._config)
        return None if most is None else most - self._new_tokens - (self.prompts.tokens if self.prompts else 0)

    @property
    def _new_tokens(self) -> int:
        own = None if self.model is None else self.model.generation_config
        options = length_options(self._generation, own)
        return int(options.get("max_new_tokens") or getattr(own, "max_new_tokens", None) or 1)

    def outputs(self, batch: Batch) -> LabelledStates:
        """Runs the body of the model, and takes the states that predict a labelled token; see the base."""
        inputs, targets = {"input_ids": batch["input_ids"]}, shifted(on_cpu(batch["labels"]))
        if "position_ids" not in batch:
            return self.labelled({**inputs, "attention_mask": batch.get("attention_mask")}, targets)
        if self._kept_together is not None:
            raise UserError(f"{self._kept_together}: set data.isolate_documents: false")
        if self.prompts is not None:
            raise UserError(
                f"{self.prompts.kind} puts tokens before the text, which documents that share rows do not have: set "
                "data.isolate_documents: false, or of conversations data.packing: none"
            )
        layout = Layout.of_documents(batch["position_ids"])
        flat = {name: layout.flatten(batch[name]) for name in ("input_ids", "position_ids")}
        return self.labelled_flat({**flat, "sequence_lengths": layout.sequences}, targets, layout)

    @cached_property
    def _kept_together(self) -> str | None:
        """Why the model cannot keep documents apart; `None` where it can, and from then on does."""
        assert self.model is not None
        return isolate(self.model)

    def predict_parts(self, batch: Batch) -> list[Part]:
        """Goes on from each prompt; see the base."""
        texts = self.generate({name: batch[name] for name in ("input_ids", "attention_mask")})
        return [{self.predicted_text: each[0] if len(each) == 1 else each} for each in texts]

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns what was generated; see the base."""
        return row

    def generate(self, prompts: dict[str, Tensor]) -> list[list[str]]:
        """Goes on from prompts, `input_ids` and `attention_mask` padded on the left, `[batch, seq]`."""
        assert self.model is not None
        assert self.tokenizer is not None
        prompts = ends_of(prompts, self._room, self._prompt_encoder.prefix)
        model: Any = self.model if self.prompts is None else self.prompts.wrapped
        return generated(model, self.tokenizer, prompts)

    def samples(self) -> list[dict[str, Any]]:
        """Goes on from `sample_prompts`, one by one."""
        prompts = self.hparams["sample_prompts"]
        if not prompts:
            return []
        made = []
        with isolate_rng():  # or what follows in training would depend on the samples
            for prompt in prompts:
                ids = torch.tensor(self.prompt_tokens(prompt), device=self.device)[None]
                texts = self.generate({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
                made.append({"prompt": prompt, "generated_text": texts[0][0]})
        return made

    def prompt_tokens(self, prompt: str) -> list[int]:
        """Returns the tokens of one of `sample_prompts`, after which the model goes on."""
        return self._prompt_encoder.prompts([prompt]).tolist()[0]  # type: ignore[no-any-return]

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


def shifted(labels: Tensor) -> Tensor:
    """Returns what each position predicts, `[batch, seq]`: the label of the next one; -100 at the end."""
    return torch.cat([labels[:, 1:], labels.new_full((len(labels), 1), IGNORED)], dim=1)
