"""Vectors of texts, near where texts are alike: any encoder or decoder, pooled (after sentence-transformers)."""

import math
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection, PearsonCorrCoef
from transformers import AutoModel, PreTrainedModel

from lit_ft.data.merging import Part
from lit_ft.data.twins import on_cpu
from lit_ft.errors import UserError, did_you_mean
from lit_ft.metrics.binned import Spearman
from lit_ft.metrics.embeddings import NAMES, PairRetrieval
from lit_ft.modules.base import Batch, Description, TransformerModule
from lit_ft.ops.embedding_losses import cosent_loss, cosine_losses, ranking_losses, triplet_losses
from lit_ft.ops.pooling import POOLINGS, Pooling, pooled, read_pooling, write_pooling

Loss = Literal["multiple_negatives", "triplet", "cosent", "cosine"]
OF_SCORES = ("cosent", "cosine")
"""Losses of pairs with a score."""


class SentenceEmbeddingModule(TransformerModule):
    """Brings texts that belong together near each other; batches are those of `SentenceEmbeddingDataModule`.

    Metrics: of pairs `accuracy_at_1`, `recall_at_10`, `mrr_at_10` and `ndcg_at_10` of the anchors among all positives
    of the set; of scored pairs `spearman` and `pearson` of their cosines. Predictions are the vectors of a row's texts,
    and of two the cosine. The exported folder opens in `sentence-transformers`, with the same vectors.

    With `multiple_negatives` the rows of a batch are each other's negatives: a loss over micro-batches is not that of
    one big batch, and each process has its own negatives. A larger `batch_size` is what helps.

    Args:
        loss: `multiple_negatives`, `triplet`, and of scored pairs `cosent` or `cosine`. Default: `cosent` where there
            are scores, else `multiple_negatives`.
        scale: of the cosines in `multiple_negatives` and `cosent`.
        triplet_margin: of the distances in `triplet`.
        pooling: `mean`, `cls` or `last`. Default: that of the folder, else `mean`.
        normalize: give vectors length 1. Default: as the folder does, else do.
        matryoshka_dims: sizes of vectors that are learned at once, such as [384, 128, 64]: the first numbers of a
            vector are a vector, too (arXiv 2205.13147).
        kwargs: options of every module.

    Raises:
        UserError: an option is out of its range.
    """

    auto_class = AutoModel
    pipeline_tag = "sentence-similarity"
    card_example = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("this/folder")
model.encode(["a text", "another one"])"""

    def __init__(
        self,
        *,
        loss: Loss | None = None,
        scale: float = 20.0,
        triplet_margin: float = 5.0,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        matryoshka_dims: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for option, value, known in (("loss", loss, get_args(Loss)), ("pooling", pooling, POOLINGS)):
            if value is not None and value not in known:
                raise UserError(f"{option} is {value!r}; choices: {', '.join(known)}{did_you_mean(str(value), known)}")
        for option in ("scale", "triplet_margin"):
            if not 0 < self.hparams[option] < math.inf:
                raise UserError(f"{option} is {self.hparams[option]}; it must be above 0")
        if matryoshka_dims is not None and (not matryoshka_dims or min(matryoshka_dims) < 1):
            raise UserError(f"matryoshka_dims is {matryoshka_dims}; give sizes of at least 1")

    @property
    def label_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Pairs are their own labels."""
        return ("labels",) if self._scored else ()

    @property
    def rows_stand_alone(self) -> bool:  # type: ignore[override]
        """The rank of a positive depends on how many others there are."""
        return self._scored

    def setup(self, stage: str) -> None:
        """Makes sure that loss and rows fit; see the base."""
        super().setup(stage)
        if stage == "predict":
            return
        scored, columns = self._scored, self.description.get("columns", [])
        if (self.loss_name in OF_SCORES) is not scored:
            raise UserError(f"loss {self.loss_name} is for {'pairs with' if not scored else 'texts without'} scores")
        if self.loss_name == "triplet" and len(columns) != 3:
            raise UserError(f"loss triplet wants three columns, anchor, positive and negative; there are {columns}")

    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """Nothing; see the base."""
        return {}

    def build(self) -> PreTrainedModel:
        """Builds the model; what it has behind the vectors of tokens is not trained; see the base."""
        model = super().build()
        size = model.config.get_text_config().hidden_size
        if (most := max(self.hparams["matryoshka_dims"] or [0])) > size:
            raise UserError(f"matryoshka_dims: {most} is more than the model's {size}")
        for name, value in model.named_parameters():
            if name.startswith("pooler."):
                value.requires_grad_(False)
        return model

    @property
    def loss_name(self) -> Loss:
        """The loss, by option or by the rows."""
        return self.hparams["loss"] or ("cosent" if self._scored else "multiple_negatives")  # type: ignore[no-any-return]

    @property
    def _scored(self) -> bool:
        return self.description.get("score_column") is not None

    @property
    def way(self) -> dict[str, Any]:
        """`pooling` and `normalize`: by option, else as the folder says, else the usual ones."""
        if "_way" not in self.__dict__:
            source = self.source.model_name_or_path
            self.__dict__["_way"] = {"pooling": "mean", "normalize": True, **read_pooling(source)}
        given = {name: self.hparams[name] for name in ("pooling", "normalize") if self.hparams[name] is not None}
        return {**self.__dict__["_way"], **given}

    # Vectors

    def model_inputs(self, batch: Batch) -> Batch:
        """Lays all texts one below the other; see the base."""
        inputs = super().model_inputs(batch)
        return {
            name: value.flatten(0, 1) if value.dim() == 3 else value
            for name, value in inputs.items()
            if name not in ("text_ids", "real")
        }

    def outputs(self, batch: Batch) -> Tensor:
        """Returns the vectors of each row's texts, `[batch, columns, size]`; see the base."""
        inputs = self.model_inputs(batch)
        hidden = self(**inputs).last_hidden_state
        vectors = pooled(hidden, inputs["attention_mask"], self.way["pooling"])
        vectors = F.normalize(vectors, dim=-1) if self.way["normalize"] else vectors
        size = batch["input_ids"].shape[1] if batch["input_ids"].dim() == 3 else 1
        made: Tensor = vectors.unflatten(0, (-1, size))
        return made

    def scores(self, outputs: Any) -> Tensor:
        """The vectors of tokens; see the base."""
        return outputs.last_hidden_state  # type: ignore[no-any-return]

    def write_extras(self, folder: Path) -> None:
        """Adds the files of sentence-transformers to an exported folder."""
        assert self.model is not None
        known, size = self.description, self.model.config.get_text_config().hidden_size
        write_pooling(folder, size, **self.way, longest=known.get("length"), prompts=known.get("prompts") or {})

    # Loss

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of the batch, of vectors of every size that is learned; see the base."""
        sizes = self.hparams["matryoshka_dims"]
        every = [outputs] if sizes is None else [F.normalize(outputs[..., :size], dim=-1) for size in sizes]
        losses = torch.stack([self._loss(vectors, batch) for vectors in every])
        count = int(on_cpu(batch["real"]).sum()) if "real" in batch else len(outputs)
        return losses.sum(), losses.new_full((), count)

    def _loss(self, vectors: Tensor, batch: Batch) -> Tensor:
        """Returns the loss of vectors, summed over the rows that count."""
        kind, real = self.loss_name, batch.get("real")
        rows = slice(None) if real is None else on_cpu(real)  # a mask on a device would be waited for
        if kind == "cosent":  # one number for all pairs of rows: each row has its share
            one, other = vectors[rows, 0], vectors[rows, 1]
            return cosent_loss(one, other, batch["labels"][rows], self.hparams["scale"]) * len(one)
        if kind == "cosine":
            return cosine_losses(vectors[rows, 0], vectors[rows, 1], batch["labels"][rows]).sum()
        if kind == "triplet":
            return triplet_losses(vectors[rows], self.hparams["triplet_margin"]).sum()
        return ranking_losses(vectors, self.hparams["scale"], batch.get("text_ids"), real)[rows].sum()

    # Evaluation

    def decode(self, outputs: Tensor, batch: Batch) -> list[Part]:
        """Takes the vectors `[columns, size]` of each row, and its score; see the base."""
        labels = batch["labels"] if "labels" in batch else [None] * len(outputs)
        return [{"vectors": row.float(), "label": label} for row, label in zip(outputs, labels, strict=True)]

    def merge(self, parts: list[Part]) -> Part:
        """A row is one feature."""
        return parts[0]

    def evaluation_loss(self, outputs: Any, batch: Batch, rows: list[Part]) -> tuple[Tensor, Tensor]:
        """The loss of the batch; see the base."""
        return self.loss(outputs, batch)

    def metrics(self, description: Description, stage: str) -> MetricCollection:
        """Ranks of the positives, or correlations with the scores; see the base."""
        if self._scored:
            made: dict[str, Any] = {"spearman": Spearman(num_outputs=1), "pearson": PearsonCorrCoef(num_outputs=1)}
        else:
            made = {"retrieval": PairRetrieval()}
        return MetricCollection(made, compute_groups=False).to(self.device)

    def update(self, metrics: MetricCollection, rows: list[Part]) -> None:
        """Adds rows; see the base."""
        if not rows:
            return
        one, other = (torch.stack([row["vectors"][at] for row in rows]) for at in (0, 1))
        if self._scored:
            metrics.update(F.cosine_similarity(one, other), torch.stack([row["label"] for row in rows]))
        else:
            metrics.update(one, other)

    def compute(self, metrics: MetricCollection) -> dict[str, Tensor]:
        """Returns the metrics; see the base."""
        return {name.removeprefix("retrieval_"): value for name, value in metrics.compute().items()}

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return ["spearman", "pearson"] if description.get("score_column") is not None else list(NAMES)

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """How far apart a row's first two texts are; of scored pairs nothing is known by themselves; see the base."""
        if self._scored or len(rows[0]["vectors"]) < 2:
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
