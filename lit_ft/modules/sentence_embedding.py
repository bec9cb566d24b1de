"""Vectors of texts, near where texts are alike: any encoder or decoder, pooled (after sentence-transformers)."""

import math
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torchmetrics import MetricCollection, PearsonCorrCoef
from transformers import PreTrainedModel

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.twins import on_cpu
from lit_ft.data.labels import IGNORED
from lit_ft.errors import UserError, did_you_mean
from lit_ft.metrics.binned import Spearman
from lit_ft.metrics.embeddings import LabelRetrieval, PairRetrieval
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.pooled import PooledModule
from lit_ft.ops.losses.embeddings import (
    batch_triplet_loss,
    contrastive_losses,
    cosent_loss,
    cosine_losses,
    ranking_losses,
    triplet_losses,
)
from lit_ft.ops.pooling import write_pooling
from lit_ft.ops.vectors import in_mini_batches, of_all_processes

Kind = Literal["pairs", "scored", "labelled"]
"""What rows are: texts that belong together, two texts with a score, one text with a label."""
Loss = Literal[
    "multiple_negatives", "triplet", "cosent", "cosine", "contrastive",
    "batch_all", "batch_hard", "batch_hard_soft_margin", "batch_semi_hard",
]  # fmt: skip
LOSSES: dict[Kind, tuple[str, ...]] = {
    "pairs": ("multiple_negatives", "triplet"),
    "scored": ("cosent", "cosine", "contrastive"),
    "labelled": ("batch_all", "batch_hard", "batch_hard_soft_margin", "batch_semi_hard"),
}
"""Losses of each kind of rows, the default one first."""
METRICS: dict[Kind, list[str]] = {
    "pairs": PairRetrieval.names,
    "scored": ["spearman", "pearson"],
    "labelled": LabelRetrieval.names,
}


class SentenceEmbeddingModule(PooledModule):
    """Brings texts that belong together near each other; batches are those of `SentenceEmbeddingDataModule`.

    Metrics: of pairs `accuracy_at_1`, `recall_at_10`, `mrr_at_10` and `ndcg_at_10` of the anchors among all positives
    of the set; of scored pairs `spearman` and `pearson` of their cosines; of labelled texts `accuracy_at_1`,
    `precision_at_10`, `mrr_at_10` and `ndcg_at_10` of all others of the set, of which those with the same label are
    right. Predictions are the vectors of a row's texts, and of two the cosine. The exported folder opens in
    `sentence-transformers`, with the same vectors.

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
        if loss is not None and loss not in (known := get_args(Loss)):
            raise UserError(f"loss is {loss!r}; choices: {', '.join(known)}{did_you_mean(str(loss), known)}")
        for option, value in (("scale", scale), ("margin", margin), ("mini_batch_size", mini_batch_size)):
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{option} is {value}; it must be above 0")
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
        kind, columns = self.kind, self.description.get("columns", [])
        if self.loss_name not in LOSSES[kind]:
            rows = {"pairs": "pairs", "scored": "pairs with scores", "labelled": "texts with labels"}[kind]
            raise UserError(f"loss {self.loss_name} is not for {rows}: choose one of {', '.join(LOSSES[kind])}")
        if self.loss_name == "triplet" and len(columns) != 3:
            raise UserError(f"loss triplet wants three columns, anchor, positive and negative; there are {columns}")
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

    @property
    def loss_name(self) -> str:
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
        write_pooling(folder, size, **self.way, longest=known.get("length"), prompts=known.get("prompts") or {})

    # Loss

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of the batch, of vectors of every size that is learned; see the base."""
        there = self._there(batch)
        count = len(outputs) if there is None else int(there.sum())
        sizes = self.hparams["matryoshka_dims"]
        every = [outputs] if sizes is None else [F.normalize(outputs[..., :size], dim=-1) for size in sizes]
        of_batch = self._ranking_loss if self.loss_name == "multiple_negatives" else self._loss
        total = torch.stack([of_batch(vectors, batch, there) for vectors in every]).sum()
        return total, total.new_full((), count)

    def _there(self, batch: Batch) -> Tensor | None:
        """Says which rows count, on the CPU: a mask on a device would be waited for."""
        there = on_cpu(batch["real"]) if "real" in batch else None
        if self.kind == "labelled":
            known = on_cpu(batch["labels"]) != IGNORED
            there = known if there is None else known & there
        return there

    def _loss(self, vectors: Tensor, batch: Batch, there: Tensor | None) -> Tensor:
        """Returns the loss of vectors, summed over the rows that count."""
        name, margin = self.loss_name, self.hparams["margin"]
        rows = slice(None) if there is None else there
        vectors = vectors[rows]
        if not len(vectors):
            return vectors.sum()
        if name == "triplet":
            return triplet_losses(vectors, margin or 5.0).sum()
        labels = batch["labels"][rows]
        if name.startswith("batch_"):  # one number for all triplets of rows: each row has its share
            triplets: Any = name.removeprefix("batch_")
            return batch_triplet_loss(triplets, vectors[:, 0], labels, margin or 5.0) * len(vectors)
        one, other = vectors[:, 0], vectors[:, 1]
        if name == "cosent":
            return cosent_loss(one, other, labels, self.hparams["scale"]) * len(vectors)
        if name == "contrastive":
            return contrastive_losses(one, other, labels, margin or 0.5).sum()
        return cosine_losses(one, other, labels).sum()

    def _ranking_loss(self, vectors: Tensor, batch: Batch, there: Tensor | None) -> Tensor:
        """Returns the loss of the batch's anchors among its positives and negatives, or among those of all batches."""
        texts, real, first, rows = batch.get("text_ids"), batch.get("real"), 0, len(vectors)
        if self.hparams["gather_across_devices"] and self.training and distributed.is_initialized():
            first = rows * distributed.get_rank()
            vectors = of_all_processes(vectors)
            texts = None if texts is None else of_all_processes(texts)
            real = None if real is None else of_all_processes(real)
        losses = ranking_losses(vectors, self.hparams["scale"], texts, real, first, rows)
        return losses.sum() if there is None else losses[there].sum()

    # Evaluation

    def decode(self, outputs: Tensor, batch: Batch) -> list[Part]:
        """Takes the vectors `[columns, size]` of each row, and its score; see the base."""
        labels = batch["labels"] if "labels" in batch else [None] * len(outputs)
        return [{"vectors": row.float(), "label": label} for row, label in zip(outputs, labels, strict=True)]

    def evaluation_loss(self, outputs: Any, batch: Batch, rows: list[Part]) -> tuple[Tensor, Tensor]:
        """The loss of the batch; see the base."""
        return self.loss(outputs, batch)

    def metrics(self, description: Description, stage: str) -> MetricCollection:
        """Ranks, or correlations with the scores; see the base."""
        made: dict[str, Any]
        if self.kind == "scored":
            made = {"spearman": Spearman(num_outputs=1), "pearson": PearsonCorrCoef(num_outputs=1)}
        else:
            made = {"retrieval": LabelRetrieval() if self.kind == "labelled" else PairRetrieval()}
        return MetricCollection(made, compute_groups=False).to(self.device)

    def update(self, metrics: MetricCollection, rows: list[Part]) -> None:
        """Adds rows; see the base."""
        if self.kind == "labelled":
            rows = [row for row in rows if int(row["label"]) != IGNORED]
        if not rows:
            return
        one = torch.stack([row["vectors"][0] for row in rows])
        if self.kind == "labelled":
            metrics.update(one, torch.stack([row["label"] for row in rows]))
            return
        other = torch.stack([row["vectors"][1] for row in rows])
        if self.kind == "scored":
            metrics.update(F.cosine_similarity(one, other), torch.stack([row["label"] for row in rows]))
        else:
            metrics.update(one, other)

    def compute(self, metrics: MetricCollection) -> dict[str, Tensor]:
        """Returns the metrics; see the base."""
        return {name.removeprefix("retrieval_"): value for name, value in metrics.compute().items()}

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return METRICS[self.kind]

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """How far apart a pair is; of others nothing is known by themselves; see the base."""
        if self.kind != "pairs" or len(rows[0]["vectors"]) < 2:
            return None
        one, other = (torch.stack([row["vectors"][at] for row in rows]) for at in (0, 1))
        return 1 - F.cosine_similarity(one, other)

    def said(self, row: Part) -> str:
        """The cosine; see the base."""
        return f"cosine {float(F.cosine_similarity(row['vectors'][0], row['vectors'][1], dim=0)):.3f}"

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the vector of the text, or those of several by their columns, and the cosine of two; see the base."""
        vectors, names = row["vectors"], self.description.get("columns", ["text"])
        if len(vectors) == 1:
            return {"embedding": vectors[0].tolist()}
        made: dict[str, Any] = {
            f"{name}_embedding": vector.tolist() for name, vector in zip(names, vectors, strict=False)
        }
        return {**made, "cosine": float(F.cosine_similarity(vectors[0], vectors[1], dim=0))}
