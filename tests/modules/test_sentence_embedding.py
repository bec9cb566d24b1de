"""Sentence embeddings: losses and gradients of sentence-transformers, in mini-batches and over processes, too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch import Trainer, seed_everything
from torch import distributed

from lit_ft import SentenceEmbeddingDataModule, SentenceEmbeddingModule
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
