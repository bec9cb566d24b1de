"""Text to text: any AutoModelForSeq2SeqLM, its loss at labelled positions, its texts generated and scored."""

import logging
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from transformers import AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.twins import on_cpu
from lit_ft.data.labels import IGNORED
from lit_ft.data.pairs.columns import PairColumns
from lit_ft.data.pairs.languages import language_codes
from lit_ft.errors import UserError
from lit_ft.metrics.texts import TEXT_METRICS, check_text_metrics, text_metric_names
from lit_ft.modules.base import SAMPLE, Batch, Description
from lit_ft.modules.generating import NowAndThenGenerating
from lit_ft.modules.language_modeling import SAMPLE_TOKENS, LabelledStates
from lit_ft.ops.building.seq2seq import (
    check_decoder_start,
    check_encoder_decoder,
    check_lengths,
    decoder_inputs,
    freeze_computed,
    length_limit,
    scratch_values,
    set_padding,
)
from lit_ft.ops.building.sharding import is_sharded
from lit_ft.ops.decoding.generation import NEW_TOKENS, chosen_tokens, generating, set_generation
from lit_ft.ops.heads.token_loss import token_loss, token_scores

log = logging.getLogger("lit_ft")


class Seq2SeqModule(NowAndThenGenerating):
    """Writes a target for each source; batches are those of `Seq2SeqDataModule` or any with the same names.

    The loss is the cross-entropy of the labelled tokens, without smoothing in evaluation. Evaluation also generates
    the texts and scores them against all references of a row, as they stand in the data. Predictions are `prediction`
    and `score`, the mean log-probability of its tokens (those that are forced are certain); where `generation` asks for
    several (`num_return_sequences`), `predictions` holds them all, the best one first. `max_new_tokens` is the data's
    `val_max_target_length` where nobody says otherwise, and that of the model's folder where there are no data
    (`load_predictor`).

    Args:
        label_smoothing_factor: share of the target that is spread over the whole vocabulary, in training.
        predict_with_generate: generate texts in evaluation, and score them.
        eval_generate_every_n_epochs: validations of other epochs (but for the last) have the loss alone.
        max_generate_samples: validations generate for at most so many rows of a set, spread evenly over it; the loss is
            of all. Tests generate for all rows.
        metrics: what generated texts are scored by: `rouge`, `bleu`, `chrf`, `ter`, `exact_match`, `token_f1`,
            `generated_length`, or a dict of one of these names to options, such as `{rouge: {use_stemmer: true}}`.
        resize_position_embeddings: give the model more positions where sources or targets are longer, if it can.
            Default: do, and say so; `false` = an error.
        kwargs: options of every module, and of those that generate.
    """

    auto_class = AutoModelForSeq2SeqLM
    pipeline_tag = "text2text-generation"
    card_example = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

model, tokenizer = (kind.from_pretrained("this/folder") for kind in (AutoModelForSeq2SeqLM, AutoTokenizer))
inputs = tokenizer(["a text"], return_tensors="pt")
tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)"""
    usual_metrics: tuple[str, ...] = ("exact_match", "generated_length")
    """What generated texts are scored by where nobody says."""

    def __init__(
        self,
        *,
        label_smoothing_factor: float = 0.0,
        predict_with_generate: bool = True,
        eval_generate_every_n_epochs: int = 1,
        max_generate_samples: int | None = None,
        metrics: list[str | dict[str, Any]] | None = None,
        resize_position_embeddings: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= label_smoothing_factor < 1:
            raise UserError(f"label_smoothing_factor is {label_smoothing_factor}; it must be from 0 to below 1")
        for option, value in (
            ("eval_generate_every_n_epochs", eval_generate_every_n_epochs),
            ("max_generate_samples", max_generate_samples),
        ):
            if value is not None and value < 1:
                raise UserError(f"{option} is {value}; it must be at least 1")
        if self._generation.get("max_new_tokens") is None:
            self._generation.pop("max_new_tokens", None)  # `null` is nobody's say, not any number of tokens
        self._scored_by = check_text_metrics(self.usual_metrics if metrics is None else metrics)
        self._said: tuple[Any, ...] | None = None
        self._chosen_rows = {}
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
        said = {**self.description, **getattr(self._datamodule, "description", {})}
        values = self.config_kwargs(said)
        check_decoder_start(config, {**said.get("decoder_begin", {}), **values})
        self._positions_wanted(config, said)
        most, new = length_limit(config, "target"), self._new_tokens(said)
        if most is not None and new > most and not self.hparams["resize_position_embeddings"]:
            raise UserError(f"generation: max_new_tokens {new} is above the model's {most} positions: lower it")

    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """What the decoder begins with, where the tokenizer or a new model's has to say it; see the base."""
        chosen = self.hparams["config_overrides"] or {}
        values = {}
        if self.source.model_name_or_path is None and self.tokenizer is not None:
            values = scratch_values(self.source.config(), self.tokenizer, chosen)
        begin = description.get("decoder_begin", {})
        return values | {name: number for name, number in begin.items() if name == "decoder_start_token_id"}

    def build(self) -> PreTrainedModel:
        """Builds the model with its way of generating, that of a checkpoint or by options; see the base."""
        model = super().build()
        wanted = self._positions_wanted(model.config, self.description)
        if wanted is not None:
            if self.hparams["resize_position_embeddings"] is None:
                log.info(
                    f"the model gets {wanted} positions, as many as the longest texts (resize_position_embeddings)"
                )
            model.resize_position_embeddings(wanted)
        freeze_computed(model)
        set_padding(model, self.tokenizer)
        if self._generation_of_checkpoint is None:
            self._said = None
        self._set_generation(model)
        if model.generation_config.decoder_start_token_id is None:
            model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id
        return model

    def _set_generation(self, model: PreTrainedModel) -> None:
        """Applies what the data say, where they did not say so before; the options of the module win."""
        length, begin = said = self._said_of_texts()
        if said == self._said:
            set_generation(model, self._generation)
            return
        known = self._said is not None and length == self._said[0]
        if length is None and model.generation_config.max_new_tokens is not None:
            known = True  # a folder says it, such as one that a run has exported
        new = {} if known else {"max_new_tokens": self._new_tokens(self.description)}
        set_generation(model, {**new, **begin, **self._generation})
        self._said = said

    def _said_of_texts(self) -> tuple[Any, dict[str, int]]:
        """What the data say of generated texts: how long they become, what they begin with."""
        return self.description.get("val_max_target_length"), self.description.get("decoder_begin", {})

    def restore(self, extras: dict[str, Any]) -> None:
        """What the data said of texts is part of the checkpoint's way of generating; see the base."""
        super().restore(extras)
        self._said = self._said_of_texts()

    def _positions_wanted(self, config: PreTrainedConfig, description: Description) -> int | None:
        names = {"source": ("max_source_length",), "target": ("max_target_length", "val_max_target_length")}
        lengths = {side: max(description.get(name, 0) for name in each) for side, each in names.items()}
        return check_lengths(config, lengths, self.hparams["resize_position_embeddings"])

    def _new_tokens(self, description: Description) -> int:
        return int(self._generation.get("max_new_tokens") or description.get("val_max_target_length") or NEW_TOKENS)

    # Training

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

    def loss(self, outputs: LabelledStates, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the labelled tokens, smoothed; see the base."""
        count = outputs.hidden.new_full((), len(outputs.targets), dtype=torch.float32)  # no copy to wait for
        smoothing = self.hparams["label_smoothing_factor"]
        return token_loss(self.halves, outputs.hidden, outputs.targets, smoothing), count

    def sample_inputs(self, batch: Batch) -> dict[str, Tensor]:
        """The first tokens of both sides of a few rows; see the base."""
        inputs = self.model_inputs(batch)
        names = ("input_ids", "attention_mask", "decoder_input_ids")
        return {name: inputs[name][:SAMPLE, :SAMPLE_TOKENS] for name in names if name in inputs}

    def text_sample(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """The text is its own target; see the base."""
        return {**tokens, "decoder_input_ids": tokens["input_ids"]}

    # Evaluation and prediction

    def decode(self, outputs: LabelledStates, batch: Batch) -> list[Part]:
        """Sums loss and tokens of each row; generates its text where that is due; see the base."""
        assert self.model is not None
        parts = super().decode(outputs, batch)
        chosen = self.chosen(batch) if self.generates else []
        if chosen or (self.generates and is_sharded(self.model)):  # there all processes generate, or none
            rows = torch.tensor(chosen or [0], device=self.device)
            inputs = {name: value[rows] for name, value in self._of_encoder(batch).items()}
            ids = self._generated_ids(inputs)
            best = ids[:: len(ids) // len(rows)]  # of several the first one
            lengths = chosen_tokens(best, self.model.generation_config)[0].sum(1).tolist()
            references = self._references(batch)
            for row, text, length in zip(chosen, self._texts(best), lengths, strict=False):
                parts[row] |= {"prediction": text, "length": length, "references": references[row]}
        return parts

    def said(self, row: Part) -> str:
        """The generated text beside the first reference, where there is one; see the base."""
        if "prediction" not in row:
            return super().said(row)
        return f"{row['prediction']!r}, not {row['references'][0]!r}"

    def metrics(self, description: Description, stage: str) -> dict[str, Any]:
        """Sums over tokens, and the scores of generated texts; see the base."""
        made: dict[str, Metric] = {name: TEXT_METRICS[name](**options) for name, options in self._scored_by.items()}
        return {
            **super().metrics(description, stage),
            "texts": {name: each.to(self.device) for name, each in made.items()},
        }

    def update(self, metrics: dict[str, Any], rows: list[Part]) -> None:
        """Adds the rows' sums and texts; see the base."""
        super().update({way: metrics[way] for way in self.ways}, rows)
        written = [row for row in rows if "prediction" in row]
        if written:
            found = [[row[name] for row in written] for name in ("prediction", "references", "length")]
            for metric in metrics["texts"].values():
                metric.update(*found)

    def compute(self, metrics: dict[str, Any]) -> dict[str, Tensor]:
        """Returns the metrics, those of texts where these were generated; see the base."""
        values = {name: value for way in self.ways for name, value in metrics[way].compute().items()}
        found = {name: values[name] for name in super().metric_names(self.description)}
        if self.generates:
            for metric in metrics["texts"].values():
                found |= metric.compute()
        return found

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        texts = text_metric_names(self._scored_by) if self.hparams["predict_with_generate"] else []
        return [*super().metric_names(description), *texts]

    def predict_parts(self, batch: Batch) -> list[Part]:
        """Generates texts, and scores each by the model; see the base."""
        assert self.model is not None
        inputs, way = self._of_encoder(batch), self.model.generation_config
        ids = self._generated_ids(inputs)
        each = len(ids) // len(inputs["input_ids"])
        texts, scores = self._texts(ids), self._scores_of(inputs, ids, each)
        found = [{"text": text, "score": score} for text, score in zip(texts, scores, strict=True)]
        rows = [found[start : start + each] for start in range(0, len(found), each)]
        if way.do_sample and (way.num_beams or 1) == 1:  # beams come in order, samples as chance has it
            rows = [sorted(row, key=itemgetter("score"), reverse=True) for row in rows]
        return [{"found": row} for row in rows]

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the best text, its score, and where there are several all of them; see the base."""
        best = {"prediction": row["found"][0]["text"], "score": row["found"][0]["score"]}
        return best if len(row["found"]) == 1 else {**best, "predictions": row["found"]}

    def generate(self, inputs: dict[str, Tensor]) -> list[list[str]]:
        """Writes `num_return_sequences` texts for each source, `input_ids` and `attention_mask` `[batch, seq]`."""
        texts = self._texts(self._generated_ids(inputs))
        each = len(texts) // len(inputs["input_ids"])
        return [texts[start : start + each] for start in range(0, len(texts), each)]

    def _of_encoder(self, batch: Batch) -> dict[str, Tensor]:
        """Returns what the encoder reads, such as LED's `global_attention_mask`, too."""
        inputs = super().model_inputs(batch)
        return {
            name: value
            for name, value in inputs.items()
            if isinstance(value, Tensor) and not name.startswith("decoder_")
        }

    def _generated_ids(self, inputs: dict[str, Tensor]) -> Tensor:
        assert self.model is not None
        model: Any = self.model if self.prompts is None else self.prompts.wrapped
        with self.without_padding, generating(self.model) as together:
            ids: Tensor = model.generate(**inputs, **together, tokenizer=self.tokenizer)
        return ids

    def _texts(self, ids: Tensor) -> list[str]:
        assert self.tokenizer is not None, "texts need a tokenizer: set tokenizer_name"
        codes, padding = [*language_codes(self.tokenizer).values()], self.tokenizer.pad_token_id
        if codes and padding is not None:  # M2M100's tokenizer does not take its codes for special tokens
            ids = ids.masked_fill(torch.isin(ids, torch.tensor(codes, device=ids.device)), padding)
        return list(self.tokenizer.batch_decode(ids, skip_special_tokens=True))

    @torch.no_grad()
    def _scores_of(self, inputs: dict[str, Tensor], ids: Tensor, each: int) -> list[float]:
        """Returns the mean log-probability of the tokens of generated texts, `each` for every source, `[n]`."""
        assert self.model is not None
        counted, by_model = chosen_tokens(ids, self.model.generation_config)
        repeated = {name: value.repeat_interleave(each, 0) for name, value in inputs.items()}
        labels = ids[:, 1:].masked_fill(~counted, IGNORED)
        outputs = self.labelled({**repeated, "decoder_input_ids": ids[:, :-1]}, labels.cpu())
        losses, _ = token_scores(self.halves, outputs.hidden, outputs.targets)
        losses = losses * by_model[counted]
        sums = losses.new_zeros(len(ids)).index_add_(0, outputs.feature, losses)
        counts = counted.sum(1).clamp_min(1)
        return [round(value, 5) for value in (-sums / counts).tolist()]

    def _references(self, batch: Batch) -> list[list[str]]:
        """Returns the references of each row as they stand in the data; of somebody else's loader, its labels."""
        columns = {**self.description, **getattr(self._datamodule, "description", {})}.get("columns")
        if "info" in batch and columns is not None:
            pairs = PairColumns(**columns)
            return [pairs.references({name: [cell] for name, cell in info.items()})[0] for info in batch["info"]]
        assert self.tokenizer is not None
        labels = batch["labels"].masked_fill(batch["labels"] == IGNORED, self.tokenizer.pad_token_id or 0)
        return [[text] for text in self._texts(labels)]
