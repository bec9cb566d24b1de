"""Vectors of texts, near where texts are alike: any encoder or decoder, pooled (after sentence-transformers)."""

from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from transformers import PreTrainedModel

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.parts import stacked, taken_apart
from lit_ft.data.batching.twins import on_cpu
from lit_ft.data.likeness.columns import Kind
from lit_ft.errors import UserError
from lit_ft.metrics.embeddings import EmbeddingScores
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.pooled import PooledModule
from lit_ft.ops.losses.classification import labelled
from lit_ft.ops.losses.embeddings import LOSSES, Loss, check_loss, ranking_losses, summed_loss
from lit_ft.ops.pooling import unused, write_pooling
from lit_ft.ops.vectors import in_mini_batches, of_all_processes
from lit_ft.ranges import POSITIVE, check_choice, check_ranges


class SentenceEmbeddingModule(PooledModule):
    """Brings texts that belong together near each other; batches are those of `SentenceEmbeddingDataModule`.

    Metrics: of pairs `accuracy_at_1`, `recall_at_10`, `mrr_at_10` and `ndcg_at_10` of the anchors among all positives
    of the set; of scored pairs `spearman` and `pearson` of their cosines; of labelled texts `accuracy_at_1`,
    `precision_at_10`, `mrr_at_10` and `ndcg_at_10` of all others of the set, of which those with the same label are
    right. Predictions are the vectors of a row's texts, and of two the cosine. The exported folder opens in
    `sentence-transformers`, with the same vectors; prompts of the folder that training began with go along where the
    data set none, but none of them stands before texts by itself any more.

    With `multiple_negatives` the rows of a batch are each other's negatives: a loss over micro-batches is not that of
    one big batch. A larger `batch_size` is what helps, in the memory of `mini_batch_size` texts.

    Args:
        loss: of pairs `multiple_negatives` (default) or `triplet`; of scored pairs `cosent` (default), `cosine`, or
            `contrastive` where scores are 0 and 1; of labelled texts `batch_all` (default), `batch_hard`,
            `batch_hard_soft_margin` or `batch_semi_hard` triplets.
        scale: of the cosines in `multiple_negatives` and `cosent`.
        margin: of the distances in `triplet` and `batch_...` (default: 5), and in `contrastive` (default: 0.5).
        mini_batch_size: texts that are run at once; a batch of any size is one step in the memory of so many, at the
            price of one more forward pass (GradCache, arXiv 2101.06983). Default: all.
        gather_across_devices: in `multiple_negatives`, the rows of all processes are negatives, as if they were one
            batch.
        matryoshka_dims: sizes of vectors that are learned at once, such as [384, 128, 64]: the first numbers of a
            vector are a vector, too (arXiv 2205.13147).
        kwargs: `pooling`, `normalize`, and options of every module.

    Raises:
        UserError: an option is out of its range.
    """

    pipeline_tag = "sentence-similarity"
    reads_rows_by = ("prompts",)
    card_example = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("this/folder")
model.encode(["a text", "another one"])"""

    def __init__(
        self,
        *,
        loss: Loss | None = None,
        scale: float = 20.0,
        margin: float | None = None,
        mini_batch_size: int | None = None,
        gather_across_devices: bool = False,
        matryoshka_dims: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice(self.hparams, "loss", (None, *get_args(Loss)))
        check_ranges(self.hparams, dict.fromkeys(("scale", "margin", "mini_batch_size"), POSITIVE))
        if matryoshka_dims is not None and (not matryoshka_dims or min(matryoshka_dims) < 1):
            raise UserError(f"matryoshka_dims is {matryoshka_dims}; give sizes of at least 1")

    @property
    def kind(self) -> Kind:
        """What the rows are."""
        known = self.description
        if known.get("score_column") is not None:
            return "scored"
        return "labelled" if known.get("label_column") is not None else "pairs"

    @property
    def label_keys(self) -> tuple[str, ...]:  # type: ignore[override]
        """Pairs are their own labels."""
        return () if self.kind == "pairs" else ("labels",)

    @property
    def rows_stand_alone(self) -> bool:  # type: ignore[override]
        """Ranks depend on how many others there are."""
        return self.kind == "scored"

    def setup(self, stage: str) -> None:
        """Makes sure that loss and rows fit; see the base."""
        super().setup(stage)
        if stage == "predict":
            return
        check_loss(self.loss_name, self.kind, self.description.get("columns", []))
        if stage == "fit" and self.hparams["gather_across_devices"]:
            self._check_gathering()

    def _check_gathering(self) -> None:
        if self.loss_name != "multiple_negatives":
            raise UserError(f"gather_across_devices is for multiple_negatives, not for {self.loss_name}: leave it out")
        if getattr(self._datamodule, "hparams", {}).get("max_tokens_per_batch") is not None:
            raise UserError(
                "gather_across_devices needs as many rows in each process, max_tokens_per_batch gives them others: "
                "set batch_size instead"
            )

    def build(self) -> PreTrainedModel:
        """Builds the model; see the base."""
        model = super().build()
        size = model.config.get_text_config().hidden_size
        if (most := max(self.hparams["matryoshka_dims"] or [0])) > size:
            raise UserError(f"matryoshka_dims: {most} is more than the model's {size}")
        return model

    def folder_notes(self, kept: dict[str, Any]) -> list[str]:
        """Adds the length of texts and the prompts, of which the data decide; see the base."""
        notes, options = super().folder_notes(kept), getattr(self._datamodule, "hparams", None)
        return notes if options is None else [*notes, *unused(kept, options, self.description)]

    @property
    def loss_name(self) -> Loss:
        """The loss, by option or by the rows."""
        return self.hparams["loss"] or LOSSES[self.kind][0]

    # Vectors

    def outputs(self, batch: Batch) -> Tensor:
        """Returns the vectors of each row's texts, `[batch, columns, size]`; see the base."""
        vectors = in_mini_batches(self.vectors, self.model_inputs(batch), self.hparams["mini_batch_size"])
        size = batch["input_ids"].shape[1] if batch["input_ids"].dim() == 3 else 1
        made: Tensor = vectors.unflatten(0, (-1, size))
        return made

    def write_extras(self, folder: Path) -> None:
        """Adds the files of sentence-transformers to an exported folder."""
        assert self.model is not None
        known, size = self.description, self.model.config.get_text_config().hidden_size
        write_pooling(folder, size, self.way, known.get("length"), known.get("prompts") or {}, self._kept)

    # Loss

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of the batch, of vectors of every size that is learned; see the base."""
        there = self._there(batch)
        count = len(outputs) if there is None else int(there.sum())
        rows, sizes = slice(None) if there is None else there, self.hparams["matryoshka_dims"]
        every = [outputs] if sizes is None else [F.normalize(outputs[..., :size], dim=-1) for size in sizes]
        if self.loss_name == "multiple_negatives":
            losses = [self._ranking_losses(vectors, batch)[rows].sum() for vectors in every]
        else:
            labels = batch["labels"][rows] if "labels" in batch else None
            known = (labels, self.hparams["scale"], self.hparams["margin"])
            losses = [summed_loss(self.loss_name, vectors[rows], *known) for vectors in every]
        total = torch.stack(losses).sum()
        return total, total.new_full((), count)

    def _there(self, batch: Batch) -> Tensor | None:
        """Says which rows count, on the CPU: a mask on a device would be waited for."""
        there = on_cpu(batch["real"]) if "real" in batch else None
        if self.kind != "pairs":
            known = labelled(on_cpu(batch["labels"]))
            there = known if there is None else known & there
        return there

    def _ranking_losses(self, vectors: Tensor, batch: Batch) -> Tensor:
        """Returns the loss of each anchor among positives and negatives of the batch, or those of all batches."""
        known: list[Any] = [vectors, batch.get("text_ids"), batch.get("real")]
        first, rows = 0, len(vectors)
        if self.hparams["gather_across_devices"] and self.training and distributed.is_initialized():
            first = rows * distributed.get_rank()
            known = [None if each is None else of_all_processes(each) for each in known]
        vectors, texts, real = known
        return ranking_losses(vectors, self.hparams["scale"], texts, real, first, rows)

    # Evaluation

    def decode(self, outputs: Tensor, batch: Batch) -> list[Part]:
        """Takes the vectors `[columns, size]` of each row, and its score; see the base."""
        return taken_apart(len(outputs), vectors=outputs.float(), label=batch.get("labels"))

    def metrics(self, description: Description, stage: str) -> EmbeddingScores:
        """Ranks, or correlations with the scores; see the base."""
        return EmbeddingScores(self.kind, self.device)

    def update(self, metrics: EmbeddingScores, rows: list[Part]) -> None:
        """Adds rows; see the base."""
        found = stacked(rows, "vectors", *(("label",) if self.label_keys else ()))
        if found is not None:
            metrics.update(*found)

    def compute(self, metrics: EmbeddingScores) -> dict[str, Tensor]:
        """Returns the metrics; see the base."""
        return metrics.compute()

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return EmbeddingScores.names(self.kind)

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """How far apart a pair is; of others nothing is known by themselves; see the base."""
        if self.kind != "pairs" or len(rows[0]["vectors"]) < 2:
            return None
        vectors = torch.stack([row["vectors"] for row in rows])
        return 1 - F.cosine_similarity(vectors[:, 0], vectors[:, 1])

    def said(self, row: Part) -> str:
        """The cosine; see the base."""
        return f"cosine {float(_cosine(row)):.3f}"

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the vector of the text, or those of several by their columns, and the cosine of two; see the base."""
        vectors, names = row["vectors"], self.description.get("columns", ["text"])
        if len(vectors) == 1:
            return {"embedding": vectors[0].tolist()}
        made = {f"{name}_embedding": vector.tolist() for name, vector in zip(names, vectors, strict=False)}
        return {**made, "cosine": float(_cosine(row))}


def _cosine(row: Part) -> Tensor:
    return F.cosine_similarity(row["vectors"][0], row["vectors"][1], dim=0)
