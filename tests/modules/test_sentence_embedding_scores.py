"""Sentence embeddings: the vectors of sentence-transformers, ranks of torchmetrics and by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torchmetrics.functional import retrieval

import lit_ft
from lit_ft import SentenceEmbeddingDataModule, SentenceEmbeddingModule
from lit_ft.commands.export import export as export_command
from lit_ft.metrics.embeddings import LabelRetrieval
from lit_ft.ops.pooling import pooled
from tests.modules.test_sentence_embedding import ROWS, fitted, made
from tests.tiny import texts


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("padding_free", ["on", "off"])
def test_a_run_gives_a_folder_with_the_same_vectors(
    tiny: Callable[..., str], tmp_path: Path, pooling: Any, padding_free: Any
) -> None:
    library = pytest.importorskip("sentence_transformers")
    module, data = made(tiny("bert"), "pairs", pooling=pooling, padding_free=padding_free)
    trainer = fitted(module, data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    folder = export_command(["--ckpt_path", str(tmp_path / "model.ckpt"), "--out", str(tmp_path / "hf")])
    theirs = library.SentenceTransformer(str(folder), device="cpu")
    said = [*texts()[60:71], "a " * 300]
    expected = theirs.encode(said)
    for source in (tmp_path / "model.ckpt", folder):
        predictor = lit_ft.load_predictor(source, **({} if source != folder else {"task": "SentenceEmbedding"}))
        found = np.array([row["embedding"] for row in predictor([{"text": text} for text in said])])
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert predictor.module.way == {"pooling": pooling, "normalize": True}  # read from the folder


def test_tokens_are_pooled_wherever_padding_is() -> None:
    hidden = torch.randn(3, 5, 4)
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [1] * 5])
    parts = [hidden[0, 2:], hidden[1, :2], hidden[2]]
    torch.testing.assert_close(pooled(hidden, mask, "mean"), torch.stack([part.mean(0) for part in parts]))
    assert torch.equal(pooled(hidden, mask, "cls"), torch.stack([part[0] for part in parts]))
    assert torch.equal(pooled(hidden, mask, "last"), torch.stack([part[-1] for part in parts]))


def test_ranks_and_correlations_are_those_of_the_vectors(tiny: Callable[..., str]) -> None:
    for kind in ("pairs", "scored"):
        module, data = made(tiny("bert"), kind, batch_options={"eval_sampling_strategy": "sequential"})
        trainer = fitted(module, data, limit_val_batches=1.0)
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        predictor = lit_ft.Predictor(module, data)
        data.serve(module)
        names = [name for name in ROWS[kind][0] if name != "score"]
        rows = predictor([{name: row[name] for name in names} for row in ROWS[kind]])
        one, other = (np.array([row[f"{name}_embedding"] for row in rows]) for name in names)
        if kind == "scored":
            cosines = (one * other).sum(1)
            scores = [row["score"] for row in ROWS[kind]]
            assert found["val_spearman"] == pytest.approx(spearmanr(cosines, scores).statistic, abs=1e-4)
            assert [row["cosine"] for row in rows] == pytest.approx(cosines.tolist(), abs=1e-5)
            continue
        ranks = (one @ other.T > (one * other).sum(1)[:, None] + 1e-6).sum(1) + 1
        assert found["val_accuracy_at_1"] == pytest.approx((ranks == 1).mean())
        assert found["val_recall_at_10"] == pytest.approx((ranks <= 10).mean())
        assert found["val_mrr_at_10"] == pytest.approx(np.where(ranks <= 10, 1 / ranks, 0).mean(), abs=1e-5)
        gains = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0).mean()
        assert found["val_ndcg_at_10"] == pytest.approx(gains, abs=1e-5)
        losses = []
        for first in range(0, 24, 8):
            scores = 20 * one[first : first + 8] @ other[first : first + 8].T
            losses += (np.logaddexp.reduce(scores, axis=1) - scores.diagonal()).tolist()
        assert found["val_loss"] == pytest.approx(np.mean(losses), rel=1e-3)


def test_ranks_of_labelled_texts_are_those_of_torchmetrics(tiny: Callable[..., str]) -> None:
    rows = [*ROWS["labelled"], {"text": "nobody's mate", "label": "alone"}, {"text": "no label", "label": None}]
    data = SentenceEmbeddingDataModule(
        model_name_or_path=tiny("bert"), dataset={"train": ROWS["labelled"], "validation": rows}, batch_size=8
    )
    module = SentenceEmbeddingModule(model_name_or_path=tiny("bert"))
    trainer = fitted(module, data, limit_val_batches=1.0)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    data.serve(module)
    made = torch.tensor([row["embedding"] for row in lit_ft.Predictor(module, data)([row["text"] for row in rows])])
    expected: dict[str, list[float]] = {"accuracy_at_1": [], "precision_at_10": [], "mrr_at_10": [], "ndcg_at_10": []}
    for at in range(24):
        others = [other for other in range(25) if other != at]
        near = made[others] @ made[at]
        right = torch.tensor([rows[other]["label"] == rows[at]["label"] for other in others])
        expected["accuracy_at_1"].append(float(retrieval.retrieval_precision(near, right, top_k=1)))
        expected["precision_at_10"].append(float(retrieval.retrieval_precision(near, right, top_k=10)))
        expected["mrr_at_10"].append(float(retrieval.retrieval_reciprocal_rank(near, right, top_k=10)))
        expected["ndcg_at_10"].append(float(retrieval.retrieval_normalized_dcg(near, right, top_k=10)))
    assert {name: found[f"val_{name}"] for name in expected} == pytest.approx(
        {name: np.mean(values) for name, values in expected.items()}, abs=1e-4
    )
    assert data.label_counts(data.features["train"][""].store) == {f"label {at}": 8 for at in range(3)}


def test_precision_at_10_of_fewer_texts_is_torchmetrics() -> None:
    vectors, labels = torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 0])
    metric = LabelRetrieval()
    metric.update(vectors, labels)
    near = torch.nn.functional.normalize(vectors, dim=-1)
    expected = []
    for at in range(6):
        others = [other for other in range(6) if other != at]
        right = labels[others] == labels[at]
        scores = near[others] @ near[at] + 1  # torchmetrics takes what is below 0 for not found
        expected.append(float(retrieval.retrieval_precision(scores, right, top_k=10)))
    assert float(metric.compute()["precision_at_10"]) == pytest.approx(np.mean(expected))
