"""What only a GPU can show: attention as one kernel, precisions, no waiting for the device, resuming, Liger's loss.

pytest tests/test_gpu.py -o addopts=
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer, seed_everything
from transformers import AttentionInterface

from lit_ft import (
    CausalLMDataModule,
    CausalLMModule,
    MaskedLMDataModule,
    MaskedLMModule,
    Seq2SeqDataModule,
    Seq2SeqModule,
)
from lit_ft.ops.heads import liger
from lit_ft.ops.heads.split_model import SplitModel
from lit_ft.ops.heads.token_loss import token_loss
from lit_ft.ops.padding_free.attention import PREFIX
from lit_ft.ops.padding_free.running import make_padding_free
from lit_ft.ops.padding_free.sequences import Sequences
from lit_ft.ops.padding_free.varlen import attention_as_one, runs_as_one
from tests.modules.test_exact_resume import classification
from tests.ops.architectures import VOCABULARY, tiny_language_model
from tests.ops.test_attention import LENGTHS, SIGHTS, layer, square
from tests.ops.test_padding_free import ROWS, gradients, labels_for, padded_batch, trained, with_head
from tests.pairs import make_seq2seq, pair_rows
from tests.tiny import SAMPLE

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

Fit = Callable[..., Trainer]


@pytest.fixture
def trainer(tmp_path: Path) -> Fit:
    def make(**kwargs: Any) -> Trainer:
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        options = {"accelerator": "gpu", "devices": 1, "logger": False, "default_root_dir": tmp_path, **quiet}
        return Trainer(**{**options, "num_sanity_val_steps": 0, **kwargs})

    return make


class Losses(Callback):
    """Notes losses."""

    def __init__(self) -> None:
        self.found: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.found.append(outputs["loss"].detach().clone())


def to_gpu(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.cuda() for name, value in batch.items()}


# attention


@pytest.mark.parametrize("lengths", [LENGTHS, [200, 3, 64]], ids=str)
@pytest.mark.parametrize("sight", SIGHTS, ids=str)
@pytest.mark.parametrize("key_heads", [4, 2])
def test_one_kernel_equals_one_square_mask(key_heads: int, sight: Any, lengths: list[int]) -> None:
    causal, window = sight
    torch.manual_seed(0)
    exact = [
        torch.randn(1, heads, sum(lengths), 32, device="cuda", requires_grad=True)
        for heads in (4, key_heads, key_heads)
    ]
    halves = [state.detach().bfloat16().requires_grad_() for state in exact]
    assert runs_as_one(*halves)
    assert not runs_as_one(*exact)
    found, _ = AttentionInterface()[PREFIX + "sdpa"](
        layer(causal, 4 // key_heads), *halves, None, scaling=0.2, dropout=0.0, sliding_window=window,
        is_causal=causal, sequence_lengths=Sequences(lengths),
    )  # fmt: skip
    mask = square(lengths, causal, window).cuda()
    expected = F.scaled_dot_product_attention(*exact, attn_mask=mask, scale=0.2, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)
    slope = torch.randn_like(expected)
    of_found = torch.autograd.grad(found, halves, slope.bfloat16())
    for one, other in zip(of_found, torch.autograd.grad(expected, exact, slope), strict=True):
        torch.testing.assert_close(one.float(), other, rtol=5e-2, atol=5e-2)


def test_one_kernel_drops_weights() -> None:
    torch.manual_seed(0)
    states = [torch.randn(1, 2, 300, 16, device="cuda", dtype=torch.bfloat16) for _ in range(2)]
    ones = torch.ones_like(states[0])
    draws = torch.stack(
        [attention_as_one(*states, ones, Sequences([300]), False, None, 0.25, 0.3)[0, :, :, 0] for _ in range(50)]
    )
    assert float(draws.float().mean()) == pytest.approx(1.0, abs=0.01)
    assert float(draws.float().std(0).mean()) > 0.02


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("head", ["masked", "sequence", "causal"])
@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert", "mpnet", "llama", "gemma3_text", "qwen3"])
def test_models_without_padding(name: str, head: str, half: bool) -> None:
    model = with_head(name, head)
    if model is None:
        pytest.skip("transformers has no such model")
    model.cuda()
    batch = padded_batch(ROWS["right"])
    inputs, labels = to_gpu(batch), to_gpu(labels_for(head, batch))
    with torch.autocast("cuda", torch.bfloat16, enabled=half):
        expected, slopes = trained(model, inputs, **labels)
        free = make_padding_free(model)
        assert free.reason is None, free.reason
        found, mine = trained(model, inputs, **labels)
    share = 5e-2 if half else 1e-4
    for key in expected:
        apart = (found[key].float() - expected[key].float()).abs().max() / expected[key].float().abs().max()
        assert float(apart) < share, key
    largest = max(float(each.abs().max()) for each in slopes.values())
    for key in slopes:
        assert float((mine[key] - slopes[key]).abs().max()) < share * largest, key


# training


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed", "bf16-true"])
def test_losses_are_those_of_a_cpu(tiny: Callable[..., str], trainer: Fit, precision: Any) -> None:
    found = {}
    for where, chosen in (("cpu", "32-true"), ("gpu", precision)):
        module, data = classification(tiny("distilbert"))
        module.hparams.update(learning_rate=1e-3)
        losses = Losses()
        seed_everything(3, verbose=False)
        trainer(accelerator=where, precision=chosen, max_epochs=4, callbacks=[losses]).fit(module, data)
        found[where] = torch.stack([each.float().cpu() for each in losses.found])
    assert found["gpu"].isfinite().all()
    assert float(found["gpu"][0]) == pytest.approx(float(found["cpu"][0]), rel=0.05)
    assert float(found["gpu"][-7:].mean()) == pytest.approx(float(found["cpu"][-7:].mean()), rel=0.1)


def test_a_compiled_model_trains(tiny: Callable[..., str], trainer: Fit) -> None:
    module, data = classification(tiny("bert"))
    module.hparams.update(torch_compile=True)
    losses = Losses()
    trainer(precision="bf16-mixed", max_epochs=2, callbacks=[losses]).fit(module, data)
    assert torch.stack(losses.found).isfinite().all()


class Waits(Callback):
    """Notes where a step waits for the device."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx > 2:
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_batch_end(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


def masked(folder: str) -> tuple[Any, Any]:
    data = MaskedLMDataModule(
        model_name_or_path=folder, train_file=str(SAMPLE / "train.csv"), text_column_name="text", line_by_line=True,
        max_train_samples=60, batch_size=6, validation_split_percentage=0,
    )  # fmt: skip
    return MaskedLMModule(model_name_or_path=folder), data


def causal(folder: str) -> tuple[Any, Any]:
    data = CausalLMDataModule(
        model_name_or_path=folder, train_file=str(SAMPLE / "train.csv"), text_column_name="text", block_size=32,
        max_train_samples=120, batch_size=4, validation_split_percentage=0,
    )  # fmt: skip
    return CausalLMModule(model_name_or_path=folder), data


@pytest.mark.parametrize("kind", ["classification", "masked", "causal"])
def test_no_step_waits_for_the_device(tiny: Callable[..., str], trainer: Fit, kind: str) -> None:
    module, data = {"classification": classification, "masked": masked, "causal": causal}[kind](
        tiny("llama" if kind == "causal" else "bert")
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(precision="bf16-mixed", max_epochs=1, callbacks=[Waits()]).fit(module, data)
    waits = {f"{each.filename}:{each.lineno}" for each in caught if "called a synchronizing" in str(each.message)}
    assert not [each for each in waits if "lit_ft" in each]


class KeepOne(Callback):
    """Saves a checkpoint in the middle of an epoch."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 5:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "half.ckpt")


def test_a_run_that_goes_on_is_exact(tiny: Callable[..., str], trainer: Fit, tmp_path: Path) -> None:
    def run(ckpt_path: Path | None = None) -> dict[str, torch.Tensor]:
        module, data = classification(tiny("bert"))
        seed_everything(3, verbose=False)
        made = trainer(deterministic=True, precision="bf16-mixed", max_epochs=2, callbacks=[KeepOne()])
        made.fit(module, data, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
        return module.state_dict()

    whole = run()
    for name, value in run(tmp_path / "half.ckpt").items():
        assert torch.equal(value, whole[name]), name


def test_texts_are_those_of_a_cpu(trainer: Fit, tmp_path: Path) -> None:
    folder = make_seq2seq("t5", tmp_path / "t5")
    found = []
    for where in ("cpu", "gpu"):
        data = Seq2SeqDataModule(
            model_name_or_path=folder, dataset={"train": pair_rows(8), "predict": pair_rows(9, 30)}, batch_size=4,
            source_column_name="source", target_column_names="target", predict_split_name="predict",
            max_target_length=6, validation_split_percentage=0,
        )  # fmt: skip
        module = Seq2SeqModule(model_name_or_path=folder, generation={"num_beams": 2, "max_new_tokens": 8})
        parts = trainer(accelerator=where).predict(module, data)
        found.append([row["prediction"] for part in parts for row in part])
    assert found[0] == found[1]


# Liger


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("name", "kind"), [("llama", True), ("gemma2", True), ("bert", False)])
def test_ligers_loss_is_ours(monkeypatch: pytest.MonkeyPatch, name: str, kind: bool, half: bool) -> None:
    pytest.importorskip("liger_kernel")
    model = tiny_language_model(name, kind).cuda()
    split = SplitModel.of(model)
    assert split is not None
    torch.manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (3, 11), device="cuda")
    labels = torch.randint(5, VOCABULARY, (33,), device="cuda")
    found = []
    for fused in (True, False):
        if not fused:
            monkeypatch.setattr(liger, "_fused_loss", lambda softcap: None)
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            hidden = split.hidden(input_ids=ids).flatten(0, 1)
            loss = token_loss(split, hidden, labels)
        (loss * 0.3).backward()
        found.append((float(loss.detach()), gradients(model)))
    (one, mine), (other, theirs) = found
    assert one == pytest.approx(other, rel=1e-2 if half else 1e-5)
    largest = max(float(each.abs().max()) for each in theirs.values())
    for key in theirs:
        assert float((mine[key] - theirs[key]).abs().max()) < (5e-2 if half else 1e-4) * largest, key
