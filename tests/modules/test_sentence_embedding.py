"""Sentence embeddings: losses, gradients, vectors of sentence-transformers; ranks by hand; folders; what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch import Trainer, seed_everything
from scipy.stats import spearmanr
from torch import distributed
from torchmetrics.functional import retrieval

import lit_ft
from lit_ft import SentenceEmbeddingDataModule, SentenceEmbeddingModule
from lit_ft.commands.export import export as export_command
from lit_ft.errors import UserError
from lit_ft.metrics.embeddings import LabelRetrieval
from lit_ft.ops.pooling import pooled
from tests.tiny import texts

ROWS: dict[str, list[dict[str, Any]]] = {
    "pairs": [{"anchor": text, "positive": text[: len(text) // 2]} for text in texts()[:24]],
    "triplets": [
        {"anchor": text, "positive": text[:30], "negative": texts()[at + 40]} for at, text in enumerate(texts()[:24])
    ],
    "scored": [
        {"sentence1": text, "sentence2": texts()[at + 7], "score": (at % 6) / 5} for at, text in enumerate(texts()[:24])
    ],
    "judged": [
        {"sentence1": text, "sentence2": texts()[at + 7], "score": at % 2} for at, text in enumerate(texts()[:24])
    ],
    "labelled": [{"text": text, "label": f"label {at % 3}"} for at, text in enumerate(texts()[:24])],
}


def made(model: str, kind: str, rows: Any = None, batch_options: Any = None, **options: Any) -> tuple[Any, Any]:
    data = SentenceEmbeddingDataModule(
        model_name_or_path=model, dataset={"train": rows or ROWS[kind], "validation": ROWS[kind]},
        **{"batch_size": 8, "train_sampling_strategy": "sequential", **(batch_options or {})},
    )  # fmt: skip
    return SentenceEmbeddingModule(model_name_or_path=model, learning_rate=1e-3, **options), data


def fitted(module: Any, data: Any, **options: Any) -> Trainer:
    seed_everything(3, verbose=False)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **{"max_steps": 3, "limit_val_batches": 0, **options},
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer


def reference(model: str, pooling: str = "mean", normalize: bool = True) -> Any:
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    transformer = modules.Transformer(model)
    parts = [transformer, modules.Pooling(transformer.get_word_embedding_dimension(), pooling_mode=pooling)]
    return library.SentenceTransformer(modules=[*parts, modules.Normalize()] if normalize else parts, device="cpu")


LOSSES = {
    ("pairs", "multiple_negatives"): "MultipleNegativesRankingLoss",
    ("triplets", "multiple_negatives"): "MultipleNegativesRankingLoss",
    ("triplets", "triplet"): "TripletLoss",
    ("scored", "cosent"): "CoSENTLoss",
    ("scored", "cosine"): "CosineSimilarityLoss",
    ("judged", "contrastive"): "ContrastiveLoss",
    ("labelled", "batch_all"): "BatchAllTripletLoss",
    ("labelled", "batch_hard"): "BatchHardTripletLoss",
    ("labelled", "batch_hard_soft_margin"): "BatchHardSoftMarginTripletLoss",
    ("labelled", "batch_semi_hard"): "BatchSemiHardTripletLoss",
}
MARGIN = 0.05
"""So small that some triplets of random vectors are far enough apart, and some are not."""


@pytest.mark.parametrize("sizes", [None, [32, 16]])
@pytest.mark.parametrize(("kind", "loss"), LOSSES)
def test_losses_and_gradients_are_those_of_sentence_transformers(
    tiny: Callable[..., str], kind: str, loss: Any, sizes: Any
) -> None:
    theirs = reference(tiny("bert"), normalize=loss != "triplet")
    losses = pytest.importorskip("sentence_transformers.losses")
    by_margin = loss in ("batch_all", "batch_hard", "batch_semi_hard")
    function = getattr(losses, LOSSES[kind, loss])(theirs, **({"margin": MARGIN} if by_margin else {}))
    if sizes is not None:
        function = losses.MatryoshkaLoss(theirs, function, sizes)
    options: dict[str, Any] = {"margin": MARGIN} if by_margin else {}
    options |= {"matryoshka_dims": sizes, "normalize": loss != "triplet"}
    module, data = made(tiny("bert"), kind, loss=loss, **options)
    data.setup("fit")
    module.description = data.description
    module.build().eval()
    theirs.eval()
    batch = next(iter(data.train_dataloader()))
    columns = [name for name in ROWS[kind][0] if name not in ("score", "label")]
    features = [theirs.tokenize([row[name] for row in ROWS[kind][:8]]) for name in columns]
    labels = torch.tensor([row.get("score", int(row.get("label", "0")[-1])) for row in ROWS[kind][:8]])
    expected = function(features, labels)
    total, count = module.loss(module.outputs(batch), batch)
    assert int(count) == 8
    torch.testing.assert_close(total / count, expected, rtol=1e-4, atol=1e-5)
    (total / count).backward()
    expected.backward()
    other = dict(theirs[0].auto_model.named_parameters())
    checked = 0
    for name, value in module.model.named_parameters():
        if value.grad is not None and other[name].grad is not None:
            torch.testing.assert_close(value.grad, other[name].grad, rtol=1e-3, atol=1e-5)
            checked += 1
    assert checked > 20


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


def test_what_is_said_twice_in_a_batch_is_no_negative(tiny: Callable[..., str]) -> None:
    rows = [{"anchor": f"question {at // 2}", "positive": f"answer {at}"} for at in range(6)]
    rows += [{"anchor": "another", "positive": "answer 0"}]
    module, data = made(tiny("bert"), "pairs", rows=rows)
    data.setup("fit")
    module.description = data.description
    module.build().eval()
    batch = next(iter(data.train_dataloader()))
    vectors = torch.nn.functional.normalize(module.outputs(batch), dim=-1)
    total, count = module.loss(module.outputs(batch), batch)
    scores = (vectors[:, 0] @ vectors[:, 1].T * 20).tolist()
    expected = 0.0
    for at, row in enumerate(rows):
        others = [
            other for other, each in enumerate(rows)
            if other == at or (each["anchor"] != row["anchor"] and each["positive"] != row["positive"])
        ]  # fmt: skip
        whole = np.logaddexp.reduce([scores[at][other] for other in others])
        expected += whole - scores[at][at]
    assert float(total) == pytest.approx(expected, rel=1e-4)
    assert int(count) == 7


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


@pytest.mark.parametrize(
    ("trained", "other"), [("labelled", "scored"), ("scored", "labelled"), ("labelled", "pairs"), ("scored", "pairs")]
)
def test_a_model_is_validated_on_rows_of_another_kind(tiny: Callable[..., str], trained: str, other: str) -> None:
    _, before = made(tiny("bert"), trained)
    before.setup("fit")
    found = []
    for known in ({}, before.description):  # of a model that nobody trained, and of one that was trained on others
        module, data = made(tiny("bert"), other)
        module.description = known
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
        found.append(trainer.validate(module, data, verbose=False)[0])
        assert module.kind == other
    assert found[1] == pytest.approx(found[0])


@pytest.mark.parametrize("kind", ["scored", "labelled"])
def test_rows_without_a_score_or_a_label_are_dropped_or_not_scored(tiny: Callable[..., str], kind: str) -> None:
    mark = "score" if kind == "scored" else "label"
    none = [None] if kind == "scored" else [None, "-1", ""]  # a score may be -1
    rows = [*ROWS[kind], *({**ROWS[kind][at], mark: cell} for at, cell in enumerate(none))]
    data = SentenceEmbeddingDataModule(
        model_name_or_path=tiny("bert"), dataset={"train": rows}, validation_split_percentage=0,
        on_bad_rows={"unlabelled": "drop"},
    )  # fmt: skip
    data.setup("fit")
    assert data.features["train"][""].store.column("row").tolist() == [*range(24)]
    assert "-1" not in (data.description.get("label_names") or [])
    found = []
    for each in (ROWS[kind], rows):
        data = SentenceEmbeddingDataModule(model_name_or_path=tiny("bert"), dataset={"validation": each}, batch_size=50)
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
        found += trainer.validate(SentenceEmbeddingModule(model_name_or_path=tiny("bert")), data, verbose=False)
    assert data.label_of(data.batch_of("validation", [data.features["validation"][""][24]])) is None
    assert found[1] == pytest.approx(found[0], rel=1e-4)


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


def test_labelled_texts_come_two_of_a_label_at_a_time(tiny: Callable[..., str]) -> None:
    rows = [{"text": text, "label": "abcdefg"[at % 7]} for at, text in enumerate(texts()[:52])]
    _, data = made(tiny("bert"), "labelled", rows=rows, batch_options={"train_sampling_strategy": "random"})
    data.setup("fit")
    orders = []
    for epoch in range(2):
        data._train_sampler.set_epoch(epoch)
        orders.append([index for _, index in data._train_sampler])
        assert sorted(orders[-1]) == [*range(52)]
        twos = [[rows[at]["label"] for at in orders[-1][first : first + 2]] for first in range(0, 52, 2)]
        # 52 = 3 labels with 8 rows and 4 with 7, of which one each is left over
        assert sum(one != other for one, other in twos) <= 2
    assert orders[0] != orders[1]
    for option in ({"max_tokens_per_batch": 400}, {"train_sampling_strategy": "group_by_length"}):
        _, data = made(tiny("bert"), "labelled", batch_options={"train_sampling_strategy": "random", **option})
        with pytest.raises(UserError, match="two of a label at a time"):
            data.setup("fit")
    _, data = made(tiny("bert"), "labelled", batch_options={"train_sampling_strategy": "random", "streaming": True})
    with pytest.raises(UserError, match="labelled texts come two of a label at a time: leave streaming out"):
        data.setup("fit")


@pytest.mark.parametrize(("kind", "columns"), [("triplets", 3), ("labelled", 1)])
def test_mini_batches_give_the_gradients_of_the_whole(tiny: Callable[..., str], kind: str, columns: int) -> None:
    """Also with dropout: backward draws the same random numbers once more."""
    gradients, runs = [], []
    for size in (None, 5):
        module, data = made(tiny("bert"), kind, mini_batch_size=size)
        data.setup("fit")
        module.description = data.description
        module.build()
        batch = next(iter(data.train_dataloader()))
        with torch.no_grad():
            module.outputs(batch)  # how to run it is tried out before
        seen: list[int] = []
        module.model.register_forward_pre_hook(
            lambda *given, seen=seen: seen.append(len(given[2]["input_ids"])), with_kwargs=True
        )
        module.eval()  # dropout of parts is drawn part by part: only without it both are alike
        total, _ = module.loss(module.outputs(batch), batch)
        total.backward()
        gradients.append({name: value.grad for name, value in module.model.named_parameters()})
        runs.append(len(seen))
    parts = -(-8 * columns // 5)
    assert runs == [1, 2 * parts]  # there, and once more in backward
    for name, value in gradients[0].items():
        if value is not None:
            torch.testing.assert_close(gradients[1][name], value, rtol=1e-4, atol=1e-5)

    module.train()
    torch.manual_seed(7)
    first = module.outputs(batch)
    parameter = module.model.embeddings.word_embeddings.weight
    (analytic,) = torch.autograd.grad(first.double().pow(3).sum(), parameter)
    ids = batch["input_ids"].flatten().unique()[5]
    step = torch.zeros_like(parameter)
    step[ids, :8] = 1e-2
    shifted = []
    for sign in (1, -1):
        torch.manual_seed(7)
        with torch.no_grad():
            parameter += sign * step
            parts_of = [module.vectors({name: value[at : at + 5] for name, value in module.model_inputs(batch).items()})
                        for at in range(0, 8 * columns, 5)]  # fmt: skip
            parameter -= sign * step
        shifted.append(float(torch.cat(parts_of).double().pow(3).sum()))
    assert float((analytic * step).sum()) == pytest.approx((shifted[0] - shifted[1]) / 2, rel=2e-2)


def _half(rank: int, port: int, model: str, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://localhost:{port}", rank=rank, world_size=2)
    module, data = made(model, "pairs", rows=REPEATED, gather_across_devices=True, mini_batch_size=3)
    data.setup("fit")
    module.description = data.description
    module.build().train()
    for part in module.modules():
        part.p = 0.0 if isinstance(part, torch.nn.Dropout) else getattr(part, "p", None)
    rows = data.features["train"][""]
    keys = [(0, at) for at in range(rank * 8, rank * 8 + 8)]
    batch = data.batch_of("train", [rows[key] for key in keys])
    batch["real"][7] = rank == 0  # the last process may have been filled up
    total, count = module.loss(module.outputs(batch), batch)
    total.backward()
    gradients = {name: value.grad for name, value in module.model.named_parameters() if value.grad is not None}
    torch.save({"total": total.detach(), "count": count, "gradients": gradients}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


REPEATED = [*ROWS["pairs"][:14], {"anchor": ROWS["pairs"][0]["anchor"], "positive": "another one"}, ROWS["pairs"][15]]


def test_gathered_negatives_are_those_of_one_big_batch(
    tiny: Callable[..., str], tmp_path: Path, free_port: int
) -> None:
    mp.start_processes(_half, (free_port, tiny("bert"), str(tmp_path)), nprocs=2, start_method="fork")
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    module, data = made(tiny("bert"), "pairs", rows=REPEATED, batch_options={"batch_size": 16})
    data.setup("fit")
    module.description = data.description
    module.build().eval()
    batch = next(iter(data.train_dataloader()))
    batch["real"][15] = False
    total, count = module.loss(module.outputs(batch), batch)
    total.backward()
    assert int(count) == sum(int(half["count"]) for half in halves) == 15
    assert float(total) == pytest.approx(sum(float(half["total"]) for half in halves), rel=1e-5)
    for name, value in module.model.named_parameters():
        if value.grad is not None:
            both = halves[0]["gradients"][name] + halves[1]["gradients"][name]
            torch.testing.assert_close(both, value.grad, rtol=1e-3, atol=1e-5)


def test_prompts_stand_before_the_texts(tiny: Callable[..., str]) -> None:
    data = SentenceEmbeddingDataModule(
        model_name_or_path=tiny("bert"), dataset={"train": ROWS["pairs"]}, prompts={"anchor": "query: "},
        validation_split_percentage=0,
    )  # fmt: skip
    data.setup("fit")
    first = data.sequences(data.batch_of("train", [data.features["train"][""][(0, 0)]]))
    assert first[0].title == "anchor"
    assert first[0].text.split()[1:5] != first[1].text.split()[1:5]
    whole = data.tokenizer("query: " + ROWS["pairs"][0]["anchor"])["input_ids"]
    assert len(first[0].tokens) == min(len(whole), data.longest_feature)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("pairs", {"loss": "cosent"}, "is not for pairs:"),
        ("scored", {"loss": "multiple_negatives"}, "is not for pairs with scores"),
        ("pairs", {"loss": "triplet"}, "wants three columns"),
        ("pairs", {"matryoshka_dims": [64]}, "more than the model's 32"),
        ("labelled", {"loss": "triplet"}, "not for texts with labels: choose one of batch_all"),
        ("scored", {"gather_across_devices": True}, "is for multiple_negatives, not for cosent"),
    ],
)
def test_what_does_not_fit_is_named(tiny: Callable[..., str], kind: str, options: Any, message: str) -> None:
    module, data = made(tiny("bert"), kind, **options)
    with pytest.raises(UserError, match=message):
        fitted(module, data)


def test_options_out_of_their_range_are_named(tiny: Callable[..., str]) -> None:
    for options, message in (
        ({"loss": "multiple_negative"}, "did you mean 'multiple_negatives'"),
        ({"pooling": "max"}, "choices: mean, cls, last"),
        ({"scale": 0}, "must be above 0"),
        ({"mini_batch_size": 0}, "must be above 0"),
        ({"matryoshka_dims": []}, "at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            SentenceEmbeddingModule(model_name_or_path=tiny("bert"), **options)
    rows = [{"one": "a", "two": "b"}]
    data = SentenceEmbeddingDataModule(
        model_name_or_path=tiny("bert"), dataset={"train": rows}, validation_split_percentage=0
    )
    with pytest.raises(UserError, match="which columns are anchor and positive"):
        data.setup("fit")
