"""Text to text: any AutoModelForSeq2SeqLM, its loss at labelled positions, its texts generated and scored."""

from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from lit_ft.data.batching.merging import Part
from lit_ft.data.labels import IGNORED
from lit_ft.data.pairs.columns import PairColumns
from lit_ft.metrics.texts import TextScores, check_text_metrics, text_metric_names
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.encoder_decoder import EncoderDecoderModule
from lit_ft.modules.generating import NowAndThenGenerating
from lit_ft.modules.language_modeling import LabelledStates
from lit_ft.ops.building.sharding import is_sharded
from lit_ft.ops.decoding.generation import chosen_tokens, in_groups, texts_of
from lit_ft.ops.heads.token_loss import token_loss
from lit_ft.ranges import AT_LEAST_ONE, BELOW_ONE, check_ranges


class Seq2SeqModule(NowAndThenGenerating, EncoderDecoderModule):
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
        counts = ("eval_generate_every_n_epochs", "max_generate_samples")
        check_ranges(self.hparams, {"label_smoothing_factor": BELOW_ONE, **dict.fromkeys(counts, AT_LEAST_ONE)})
        self._scored_by = check_text_metrics(self.usual_metrics if metrics is None else metrics)

    def loss(self, outputs: LabelledStates, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the labelled tokens, smoothed; see the base."""
        count = outputs.hidden.new_full((), len(outputs.targets), dtype=torch.float32)  # no copy to wait for
        smoothing = self.hparams["label_smoothing_factor"]
        return token_loss(self.halves, outputs.hidden, outputs.targets, smoothing), count

    # Evaluation and prediction

    def decode(self, outputs: LabelledStates, batch: Batch) -> list[Part]:
        """Sums loss and tokens of each row; generates its text where that is due; see the base."""
        assert self.model is not None
        parts = super().decode(outputs, batch)
        chosen = self.chosen(batch) if self.generates else []
        if chosen or (self.generates and is_sharded(self.model)):  # there all processes generate, or none
            rows = torch.tensor(chosen or [0], device=self.device)
            ids = self.generated_ids({name: value[rows] for name, value in self.of_encoder(batch).items()})
            best = ids[:: len(ids) // len(rows)]  # of several the first one
            lengths = chosen_tokens(best, self.model.generation_config)[0].sum(1).tolist()
            references = self._references(batch)
            for row, text, length in zip(chosen, texts_of(self.tokenizer, best), lengths, strict=False):
                parts[row] |= {"prediction": text, "length": length, "references": references[row]}
        return parts

    def said(self, row: Part) -> str:
        """The generated text beside the first reference, where there is one; see the base."""
        if "prediction" not in row:
            return super().said(row)
        return f"{row['prediction']!r}, not {row['references'][0]!r}"

    def metrics(self, description: Description, stage: str) -> dict[str, Any]:
        """Sums over tokens, and the scores of generated texts; see the base."""
        return {**super().metrics(description, stage), "texts": TextScores(self._scored_by, self.device)}

    def update(self, metrics: dict[str, Any], rows: list[Part]) -> None:
        """Adds the rows' sums and texts; see the base."""
        super().update(metrics, rows)
        metrics["texts"].update([row for row in rows if "prediction" in row])

    def compute(self, metrics: dict[str, Any]) -> dict[str, Tensor]:
        """Returns the metrics, those of texts where these were generated; see the base."""
        texts: TextScores = metrics["texts"]
        there = texts.seen or self.generates  # seen: intervals are made when the epoch that generated is over
        return {**super().compute(metrics), **(texts.compute() if there else {})}

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        texts = text_metric_names(self._scored_by) if self.hparams["predict_with_generate"] else []
        return [*super().metric_names(description), *texts]

    def predict_parts(self, batch: Batch) -> list[Part]:
        """Generates texts, and scores each by the model; see the base."""
        assert self.model is not None
        inputs, way = self.of_encoder(batch), self.model.generation_config
        ids = self.generated_ids(inputs)
        written = zip(texts_of(self.tokenizer, ids), self.scores_of(inputs, ids), strict=True)
        rows = in_groups([{"text": text, "score": score} for text, score in written], len(inputs["input_ids"]))
        if way.do_sample and (way.num_beams or 1) == 1:  # beams come in order, samples as chance has it
            rows = [sorted(row, key=itemgetter("score"), reverse=True) for row in rows]
        return [{"found": row} for row in rows]

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the best text, its score, and where there are several all of them; see the base."""
        best = {"prediction": row["found"][0]["text"], "score": row["found"][0]["score"]}
        return best if len(row["found"]) == 1 else {**best, "predictions": row["found"]}

    def _references(self, batch: Batch) -> list[list[str]]:
        """Returns the references of each row as they stand in the data; of somebody else's loader, its labels."""
        columns = self.description.get("columns")
        if "info" in batch and columns is not None:
            pairs = PairColumns(**columns)
            return [pairs.references({name: [cell] for name, cell in info.items()})[0] for info in batch["info"]]
        assert self.tokenizer is not None
        labels = batch["labels"].masked_fill(batch["labels"] == IGNORED, self.tokenizer.pad_token_id or 0)
        return [[text] for text in texts_of(self.tokenizer, labels)]
