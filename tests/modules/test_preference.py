"""Preference optimisation against TRL's trainers on the same rows in order, and the ways to have a reference."""

import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from lit_ft import PreferenceDataModule, PreferenceModule, RewardModule
from lit_ft.data.batching.mismatched import mismatched
from lit_ft.errors import UserError
from tests.conversations import write_rows
from tests.preferences import judged_rows, make_preference_model, pair_rows

STEPS, RATE = 4, 1e-3
LORA = {"peft_type": "LORA", "r": 4, "target_modules": "all-linear", "init_lora_weights": False}
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_preference_model(tmp_path_factory.mktemp("preference") / "model")


class Curve(Callback):
    """The loss and the margin of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.margins: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        values = trainer.callback_metrics
        self.losses.append(float(values["train_loss"]))
        self.margins.append(float(values["train_reward_margin"]))


def data(model: str, rows: list[dict[str, Any]], folder: Path, **options: Any) -> PreferenceDataModule:
    path = write_rows(folder / "train.jsonl", rows)
    return PreferenceDataModule(
        model_name_or_path=model, train_file=path, predict_file=path, batch_size=4,
        train_sampling_strategy="sequential", preparation_dir=str(folder / "cache"),
        **{"max_seq_length": 400, "validation_file": path, **options},
    )  # fmt: skip


def ours(
    model: str, rows: list[dict[str, Any]], folder: Path, kind: type = PreferenceModule, **options: Any
) -> tuple[Curve, Any]:
    torch.manual_seed(1)
    module = kind(model_name_or_path=model, learning_rate=RATE, **options)
    curve = Curve()
    trainer = Trainer(max_steps=STEPS, callbacks=[curve], gradient_clip_val=1.0, **QUIET)  # type: ignore[arg-type]
    trainer.fit(module, data(model, rows, folder))
    return curve, module


def trls(model: str, rows: list[dict[str, Any]], folder: Path, kind: str, **options: Any) -> list[dict[str, float]]:
    trl = pytest.importorskip("trl.experimental.orpo" if kind == "ORPO" else "trl")
    base = AutoModelForSequenceClassification if kind == "Reward" else AutoModelForCausalLM
    extra = {"num_labels": 1} if kind == "Reward" else {}
    arguments = getattr(trl, f"{kind}Config")(
        output_dir=str(folder / "trl"), per_device_train_batch_size=4, max_steps=STEPS, learning_rate=RATE,
        logging_steps=1, report_to=[], use_cpu=True, bf16=False, train_sampling_strategy="sequential",
        save_strategy="no", max_length=400, gradient_checkpointing=False, disable_dropout=True, **options,
    )  # fmt: skip
    torch.manual_seed(1)
    trainer = getattr(trl, f"{kind}Trainer")(
        model=base.from_pretrained(model, dtype=torch.float32, **extra), args=arguments,
        train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(model),
    )  # fmt: skip
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({}, {"loss_type": ["sigmoid"]}),
        ({"loss_type": "ipo", "beta": 0.3}, {"loss_type": ["ipo"], "beta": 0.3}),
        ({"loss_type": "hinge", "rpo_alpha": 0.5}, {"loss_type": ["hinge", "sft"], "loss_weights": [1.0, 0.5]}),
        ({"loss_type": "robust", "label_smoothing": 0.2}, {"loss_type": ["robust"], "label_smoothing": 0.2}),
    ],
    ids=["sigmoid", "ipo", "hinge and sft", "robust"],
)
@pytest.mark.parametrize("padding_free", ["auto", "off"])
def test_dpo_learns_as_trls(
    model: str, tmp_path: Path, options: dict[str, Any], theirs: dict[str, Any], padding_free: str
) -> None:
    rows = pair_rows(4 * STEPS)
    curve, _ = ours(model, rows, tmp_path, padding_free=padding_free, **options)
    expected = trls(model, rows, tmp_path, "DPO", **theirs)
    assert curve.losses == pytest.approx([entry["loss"] for entry in expected], abs=2e-5)
    assert curve.margins == pytest.approx([entry["rewards/margins"] for entry in expected], abs=2e-4)


def test_kto_learns_as_trls(model: str, tmp_path: Path) -> None:
    rows = judged_rows(4 * STEPS)
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.8, "beta": 0.2}
    curve, _ = ours(model, rows, tmp_path, loss_type="kto", **weights)
    expected = trls(model, rows, tmp_path, "KTO", **weights)
    assert curve.losses == pytest.approx([entry["loss"] for entry in expected], abs=2e-5)


class Wrongness(Callback):
    """How wrong each evaluated row is, by its place in the input."""

    def __init__(self) -> None:
        self.rows: dict[int, float] = {}

    def on_validation_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        if outputs["rows"]:
            numbers = [number for number, _ in outputs["places"]]
            self.rows |= zip(numbers, pl_module.wrongness(outputs["rows"]).tolist(), strict=True)


def test_replies_that_nobody_judged_are_neither_scored_nor_wrong(model: str, tmp_path: Path) -> None:
    rows = judged_rows(4 * STEPS)
    _, module = ours(model, rows, tmp_path, loss_type="kto")
    gaps = [{**row, "label": None if at % 5 == 1 else row["label"]} for at, row in enumerate(rows)]
    scores, wrong = [], []
    for name, some in (("gaps", gaps), ("kept", [row for row in gaps if row["label"] is not None])):
        seen = Wrongness()
        trainer = Trainer(callbacks=[seen], **QUIET)  # type: ignore[arg-type]
        evaluated = data(model, rows, tmp_path, validation_file=write_rows(tmp_path / f"{name}.jsonl", some))
        (found,) = trainer.validate(module, evaluated, verbose=False)
        scores.append({metric: value for metric, value in found.items() if "reward" in metric})
        wrong.append([seen.rows[number] for number in range(len(some))])
    assert scores[0]["val_reward_margin"] != 0
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert [at for at, value in enumerate(wrong[0]) if math.isnan(value)] == [1, 6, 11]
    assert [value for value in wrong[0] if not math.isnan(value)] == pytest.approx(wrong[1], abs=1e-6)


@pytest.mark.parametrize("loss_type", ["orpo", "simpo"])
def test_losses_without_a_reference_have_the_gradients_of_trls_formulas(
    model: str, tmp_path: Path, loss_type: Any
) -> None:
    """TRL's ORPOTrainer also learns the prompt, so its parts are put together here, on replies alone."""
    orpo = pytest.importorskip("trl.experimental.orpo").ORPOTrainer
    cpo = pytest.importorskip("trl.experimental.cpo").CPOTrainer
    module = PreferenceModule(model_name_or_path=model, loss_type=loss_type, beta=0.4)
    made = data(model, pair_rows(4), tmp_path)
    made.setup("fit")
    batch = next(iter(made.train_dataloader()))
    net = module.build()
    total, count = module.loss(module.outputs(batch), batch)
    (total / count).backward()
    found = {name: value.grad.clone() for name, value in net.named_parameters() if value.grad is not None}

    theirs = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    logits = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    mean = orpo.get_batch_logps(logits, batch["labels"], average_log_prob=True)
    chosen, rejected = mean.chunk(2)
    options = SimpleNamespace(
        beta=0.4, accelerator=SimpleNamespace(device="cpu"), loss_type="simpo", simpo_gamma=0.5, label_smoothing=0.0,
        alpha=0.0,
    )  # fmt: skip
    if loss_type == "orpo":
        likelihood = cross_entropy(logits[:4, :-1].flatten(0, 1), batch["labels"][:4, 1:].flatten())
        expected = likelihood - orpo.odds_ratio_loss(options, chosen, rejected)[0].mean()
    else:
        expected = cpo.cpo_loss(options, chosen, rejected)[0].mean()
    expected.backward()
    torch.testing.assert_close(total / count, expected)
    for name, value in theirs.named_parameters():
        assert value.grad is not None
        torch.testing.assert_close(found[name], value.grad, rtol=1e-3, atol=1e-6)


def test_rewards_are_learned_as_trls(model: str, tmp_path: Path) -> None:
    rows = pair_rows(4 * STEPS)
    curve, _ = ours(model, rows, tmp_path, RewardModule, center_rewards_coefficient=0.1)
    whole = [{"chosen": row["prompt"] + row["chosen"], "rejected": row["prompt"] + row["rejected"]} for row in rows]
    expected = trls(model, whole, tmp_path, "Reward", center_rewards_coefficient=0.1)
    assert curve.losses == pytest.approx([entry["loss"] for entry in expected], abs=2e-5)


def test_ways_of_having_a_reference_agree(model: str, tmp_path: Path) -> None:
    rows = pair_rows(4 * STEPS)
    before, _ = ours(model, rows, tmp_path)
    again, _ = ours(model, rows, tmp_path)  # out of the file
    beside, module = ours(model, rows, tmp_path, precompute_ref_log_probs=False)
    assert again.losses == before.losses
    assert beside.losses == pytest.approx(before.losses, abs=1e-6)
    assert not [name for name in module.state_dict() if "twin" in name]
    off, _ = ours(model, rows, tmp_path, peft=LORA)
    once, _ = ours(model, rows, tmp_path, peft=LORA, precompute_ref_log_probs=True)
    assert off.losses[0] != pytest.approx(0.6931, abs=1e-3)  # its adapter begins as something: it is no reference
    assert once.losses == pytest.approx(off.losses, abs=1e-6)


def test_mismatched_replies_by_hand() -> None:
    made = mismatched(
        {
            "input_ids": torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7], [8, 9, 0, 0]]),
            "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]]),
            "labels": torch.tensor([[-100, -100, 3, -100], [-100, 5, 6, 7], [-100, -100, -100, -100]]),
        },
        longest=4,
    )
    assert made is not None
    assert made["input_ids"].tolist() == [[1, 2, 5, 6], [4, 3, 0, 0]]
    assert made["labels"].tolist() == [[-100, -100, 5, 6], [-100, 3, -100, -100]]
    assert made["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_type": "simpoo"}, "did you mean 'simpo'"),
        ({"beta": 0.0}, "beta is 0.0"),
        ({"label_smoothing": 0.5}, "label_smoothing is 0.5"),
        ({"label_smoothing": 0.1, "loss_type": "ipo"}, "label_smoothing belongs to"),
        ({"rpo_alpha": -1.0}, "rpo_alpha is -1.0"),
        ({"rpo_alpha": 1.0, "loss_type": "kto"}, "rpo_alpha is for pairs"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PreferenceModule(model_type="llama", **options)


def test_what_does_not_fit_is_refused_by_name(model: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loss_type: kto"):
        ours(model, judged_rows(8), tmp_path)
    with pytest.raises(UserError, match="learned from pairs"):
        ours(model, judged_rows(8), tmp_path, RewardModule)
    with pytest.raises(UserError, match="nothing to compute before training"):
        ours(model, judged_rows(8), tmp_path, loss_type="kto", precompute_ref_log_probs=True)
    with pytest.raises(UserError, match="no part of layers to switch off"):
        ours(model, pair_rows(8), tmp_path, peft={"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3})
    module, trainer = PreferenceModule(model_type="llama", tokenizer_name=model), Trainer(max_steps=1, **QUIET)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="set model_name_or_path"):
        trainer.fit(module, data(model, pair_rows(8), tmp_path))


def goes_on(model: str, folder: Path, stop: int | None, **options: Any) -> list[float]:
    """Losses of a run of 8 steps, which is stopped on its way and goes on from its checkpoint."""
    losses: list[float] = []
    made = data(model, pair_rows(16), folder)
    for last, path in [(stop, None), (8, folder / "stopped.ckpt")] if stop else [(8, None)]:
        torch.manual_seed(1)
        module = PreferenceModule(model_name_or_path=model, learning_rate=RATE, lr_scheduler_type="constant", **options)
        if path is not None:
            module = PreferenceModule.load_from_checkpoint(path, weights_only=True)
        curve = Curve()
        trainer = Trainer(max_steps=last, max_epochs=2, callbacks=[curve], limit_val_batches=0, **QUIET)  # type: ignore[arg-type]
        trainer.fit(module, made, ckpt_path=path, weights_only=True)
        losses += curve.losses
        if stop:
            trainer.save_checkpoint(folder / "stopped.ckpt")
    return losses


@pytest.mark.parametrize(
    "options",
    [{}, {"precompute_ref_log_probs": False}, {"peft": LORA}],
    ids=["precomputed", "second model", "adapter off"],
)
def test_a_run_that_goes_on_is_compared_with_the_model_it_began_with(
    model: str, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = goes_on(model, tmp_path, None, **options)
    assert len(straight) == 8
    if not options:  # nothing of the first run's file is left
        monkeypatch.setattr("lit_ft.modules.reference.find", lambda *_: None)
    assert goes_on(model, tmp_path, 3, **options) == pytest.approx(straight, abs=1e-6)


def test_another_model_in_the_place_of_the_reference_is_noticed(model: str, tmp_path: Path) -> None:
    other = shutil.copytree(model, tmp_path / "model")
    goes_on(str(other), tmp_path, 3, precompute_ref_log_probs=False)
    weights = AutoModelForCausalLM.from_pretrained(other)
    weights.model.norm.weight.data += 0.5
    weights.save_pretrained(other)
    module = PreferenceModule.load_from_checkpoint(tmp_path / "stopped.ckpt", weights_only=True)
    trainer = Trainer(**QUIET)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="has other weights now"):
        trainer.validate(module, data(str(other), pair_rows(4), tmp_path))


def test_predictions_are_the_rewards_of_the_rows_in_their_order(model: str, tmp_path: Path) -> None:
    rows = pair_rows(7)
    _, module = ours(model, rows, tmp_path)
    trainer = Trainer(**QUIET)  # type: ignore[arg-type]
    found = [row for batch in trainer.predict(module, data(model, rows, tmp_path)) or () for row in batch]
    assert [row["chosen"] for row in found] == [row["chosen"] for row in rows]
    begin = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    for row in found:
        assert row["chosen_reward"] == pytest.approx(
            0.1 * (row["chosen_log_prob"] - reference(begin, row, model)), abs=1e-4
        )


@torch.no_grad()
def reference(model: Any, row: dict[str, Any], folder: str) -> float:
    """The log-probability of a chosen reply, token by token."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
    ids = tokenizer.apply_chat_template(row["prompt"] + row["chosen"], return_dict=True)["input_ids"]
    logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    each = torch.log_softmax(logits, -1)
    return float(sum(each[place - 1, ids[place]] for place in range(len(asked), len(ids))))
