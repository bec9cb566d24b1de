"""Masked language models: any AutoModelForMaskedLM, and XLNet by permutations; predicting fills masks in."""

from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedTokenizerBase

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.twins import on_cpu
from lit_ft.data.labels import IGNORED
from lit_ft.data.ordering.samplers import FILLER
from lit_ft.errors import UserError
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.language_modeling import SUMS, LabelledStates, LanguageModelingModule
from lit_ft.ops.building.objectives import check_masked, is_permutation
from lit_ft.ops.decoding.filling import fillings
from lit_ft.ops.heads.token_loss import token_scores
from lit_ft.ranges import AT_LEAST_ONE, check_ranges


class MaskedLMModule(LanguageModelingModule):
    """Predicts masked tokens; batches are those of `MaskedLMDataModule` or any with the same names.

    Predicting fills in the masks of a text: `predictions` holds, for each mask, the likeliest tokens, as transformers'
    pipeline `fill-mask` describes them.

    Args:
        top_k: how many tokens are predicted for each mask.
        pseudo_perplexity: also score each token of a text with it alone masked (Salazar et al. 2020), which takes as
            many passes as there are tokens.
        kwargs: options of every module.
    """

    pipeline_tag = "fill-mask"
    card_example = """from transformers import pipeline

fill = pipeline("fill-mask", "this/folder")
fill(f"a text with a {fill.tokenizer.mask_token} in it")"""

    def __init__(self, *, top_k: int = 5, pseudo_perplexity: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_ranges(self.hparams, {"top_k": AT_LEAST_ONE})
        if self.hparams["model_type"] is not None:
            check_masked(self.source.config())  # before any data is prepared

    @property
    def auto_class(self) -> Any:  # type: ignore[override]
        """Any masked model, or XLNet, which transformers counts among the causal ones."""
        return AutoModelForCausalLM if is_permutation(self._config) else AutoModelForMaskedLM

    def check_model(self, config: PreTrainedConfig) -> None:
        """Refuses causal models, blocks that are too long, and masks where permutations are due; see the base."""
        check_masked(config)
        self.check_length(config, "max_seq_length")
        permuted = is_permutation(config)
        if getattr(self._datamodule, "permuted", permuted) != permuted:
            wanted, kind = str(permuted).lower(), "an XLNet" if permuted else f"a {config.model_type}, no XLNet"
            raise UserError(f"data.permutation: the model is {kind}: set data.permutation: {wanted}")
        if permuted and self.hparams["pseudo_perplexity"]:
            raise UserError("pseudo_perplexity masks tokens, which an XLNet does not predict: leave it out")
        vocabulary = config.get_text_config().vocab_size if self.tokenizer is None else len(self.tokenizer)
        if self.hparams["top_k"] > vocabulary:
            raise UserError(f"top_k {self.hparams['top_k']} is above the model's {vocabulary} tokens")

    def outputs(self, batch: Batch) -> LabelledStates:
        """Runs the body of the model, and takes the states at predicted tokens; see the base."""
        return self.labelled(self.model_inputs(batch), on_cpu(batch["labels"]))

    def decode(self, outputs: LabelledStates, batch: Batch) -> list[Part]:
        """Sums the scores of each row; see the base."""
        parts = super().decode(outputs, batch)
        if self.hparams["pseudo_perplexity"]:
            filler = batch["row"].tolist() if "row" in batch else []
            for row, part in enumerate(parts):
                if filler[row : row + 1] == [FILLER]:
                    part |= {f"pseudo_{name}": torch.zeros_like(value) for name, value in part.items()}
                    continue
                part |= {f"pseudo_{name}": value for name, value in self._one_by_one(batch, row).items()}
        return parts

    @property
    def ways(self) -> tuple[str, ...]:  # type: ignore[override]
        """Masked tokens, and all tokens one by one where that is asked for; see the base."""
        return ("", "pseudo_") if self.hparams["pseudo_perplexity"] else ("",)

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return [*super().metric_names(description), *(f"{way}perplexity" for way in self.ways if way)]

    def predict_parts(self, batch: Batch) -> list[Part]:
        """Fills in each mask; see the base."""
        tokenizer, ids = self._known_tokenizer, batch["input_ids"]
        masks = ids == tokenizer.mask_token_id
        inputs = self.model_inputs(batch)
        if is_permutation(self._config):  # no token sees a mask, each position is asked for
            size = ids.shape[1]
            inputs["perm_mask"] = masks[:, None, :].expand(-1, size, -1).float()
            inputs["target_mapping"] = torch.eye(size, device=ids.device).expand(len(ids), -1, -1)
        states = self.labelled(inputs, torch.where(masks, ids, IGNORED))
        best = self.halves.logits(states.hidden).float().softmax(-1).topk(self.hparams["top_k"])
        real = batch.get("attention_mask", torch.ones_like(ids)).bool()
        # counted without padding, on whichever side
        places = (real.cumsum(1) - 1)[masks].tolist()
        parts: list[Part] = [{"predictions": []} for _ in ids]
        for row, place, tokens, scores in zip(states.feature.tolist(), places, best.indices, best.values, strict=True):
            parts[row]["predictions"].append(fillings(tokenizer, ids[row][real[row]], place, tokens, scores))
        return parts

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the likeliest tokens of each mask; see the base."""
        return row

    def _one_by_one(self, batch: Batch, row: int) -> dict[str, Tensor]:
        """Scores a row's tokens, each with it alone masked."""
        tokenizer, labels = self._known_tokenizer, batch["labels"][row]
        ids = torch.where(labels == IGNORED, batch["input_ids"][row], labels)
        ids = ids[batch.get("attention_mask", torch.ones_like(batch["input_ids"]))[row].bool()]
        special = torch.tensor(tokenizer.all_special_ids, device=ids.device)
        places = (~torch.isin(ids, special)).nonzero()[:, 0]
        sums = {name: torch.zeros((), device=ids.device) for name in SUMS}
        for some in places.split(len(batch["input_ids"])):
            masked, targets = ids.repeat(len(some), 1), ids.new_full((len(some), len(ids)), IGNORED)
            one_each = torch.arange(len(some)), some
            masked[one_each], targets[one_each] = tokenizer.mask_token_id, ids[some]
            states = self.labelled({"input_ids": masked, "attention_mask": torch.ones_like(masked)}, targets)
            loss, correct = token_scores(self.halves, states.hidden, states.targets)
            found = {"loss": loss.sum(), "tokens": torch.ones_like(loss).sum(), "correct": correct.float().sum()}
            sums |= {name: sums[name] + value for name, value in found.items()}
        return sums

    @property
    def _known_tokenizer(self) -> PreTrainedTokenizerBase:
        assert self.tokenizer is not None, "filling in masks needs a tokenizer"
        return self.tokenizer
