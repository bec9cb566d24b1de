"""Adapters of PEFT in every task: what is trained and saved, going on, exported folders; PEFT as reference."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from peft import AutoPeftModelForSequenceClassification, LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, pipeline

from lit_ft import CausalLMDataModule, CausalLMModule, TextClassificationDataModule, TextClassificationModule, cli
from lit_ft.commands.export import export as export_command
from lit_ft.errors import UserError
from lit_ft.loading import load
from tests.modules.test_exact_resume import check, choosing, classification, masked, questions, tagged, writing
from tests.pairs import make_seq2seq
from tests.tiny import SAMPLE

LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 16, "target_modules": "all-linear"}
KINDS = {
    "LORA": LORA,
    "rsLoRA": {**LORA, "use_rslora": True},
    "DoRA": {**LORA, "use_dora": True},
    "IA3": {"peft_type": "IA3"},
}


def causal(model: str, **options: Any) -> tuple[Any, Any]:
    data = CausalLMDataModule(
        model_name_or_path=model, train_file=str(SAMPLE / "train.csv"), text_column_name="text", block_size=48,
        max_train_samples=46, validation_split_percentage=0, **{"batch_size": 6, **options},
    )  # fmt: skip
    return CausalLMModule(model_name_or_path=model, learning_rate=3e-3), data


TASKS: dict[str, Any] = {
    "classification": classification, "masked": masked, "choosing": choosing, "questions": questions, "tagged": tagged,
    "causal": causal, "writing": writing,
}  # fmt: skip


ALIKE = [("classification", "rsLoRA"), ("writing", "IA3"), ("causal", "DoRA")]


def with_adapter(task: Any, peft: Any, **more: Any) -> Callable[..., tuple[Any, Any]]:
    def make(model: str, **options: Any) -> tuple[Any, Any]:
        module, data = task(model, **options)
        module.hparams.update(peft=peft, **more)
        return module, data

    return make


def fitted(made: tuple[Any, Any], folder: Path, steps: int = 3, **options: Any) -> Path:
    module, data = made
    seed_everything(3, verbose=False)
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, **options,
    )  # fmt: skip
    trainer.fit(module, data)
    trainer.save_checkpoint(folder / "saved.ckpt", weights_only=False)
    return folder / "saved.ckpt"


def model_for(task: str, tiny: Callable[..., str], folder: Path) -> str:
    if task == "writing":
        return make_seq2seq("t5", folder / "t5")
    return tiny("llama" if task == "causal" else "bert")


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        *((task, "LORA") for task in TASKS),
        *(("classification", kind) for kind in ("DoRA", "IA3")),
        *(pytest.param(*pair, marks=pytest.mark.soak) for pair in ALIKE),
    ],
)
def test_every_task(tiny: Callable[..., str], tmp_path: Path, task: str, kind: str) -> None:
    model = model_for(task, tiny, tmp_path)
    module, data = with_adapter(TASKS[task], KINDS[kind])(model)
    before = dict(module.named_parameters())
    path = fitted((module, data), tmp_path)
    assert not before
    trained = {name for name, value in module.named_parameters() if value.requires_grad}
    assert all(any(part in name for part in ("lora_", "ia3_", "modules_to_save")) for name in trained)
    saved = torch.load(path, weights_only=True)["state_dict"]
    heads = {name for name in module.state_dict() if ".original_module." in name}
    assert saved.keys() & dict(module.named_parameters(remove_duplicate=False)).keys() <= trained | heads
    assert trained <= saved.keys()

    again, _ = load(path)
    for name, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    # the export compares the scores of the folder, opened by PEFT, with the module's
    for merge in ([], ["--merge"]):
        folder = tmp_path / f"hf{len(merge)}"
        export_command(["--ckpt_path", str(path), "--out", str(folder), *merge])
        assert (folder / "config.json").exists() == bool(merge)
        assert (folder / "adapter_config.json").exists() != bool(merge)


def rows(data: Any) -> dict[str, Tensor]:
    batch = next(iter(data.train_dataloader()))
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def scores(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model.eval()(**inputs).logits


def test_the_folder_opens_everywhere(tiny: Callable[..., str], tmp_path: Path) -> None:
    module, data = with_adapter(classification, {"peft_type": "LORA"})(tiny("bert"))
    path = fitted((module, data), tmp_path)
    folder = export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "hf")])
    inputs = rows(data)
    expected, number = scores(module.model, inputs), module.model.config.num_labels
    opened = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=number)
    torch.testing.assert_close(scores(opened, inputs), expected)
    # as its card says
    config = AutoConfig.from_pretrained(folder, subfolder="config")
    assert config.id2label == module.model.config.id2label
    base = AutoModelForSequenceClassification.from_pretrained(tiny("bert"), config=config)
    torch.testing.assert_close(scores(PeftModel.from_pretrained(base, str(folder)), inputs), expected)
    assert "PeftModel.from_pretrained" in (folder / "README.md").read_text()
    # by our own modules: as a model, and to go on with
    for options in ({"model_name_or_path": str(folder)}, {"model_name_or_path": tiny("bert"), "peft": str(folder)}):
        ours = TextClassificationModule(**options, label_names=data.description["labels"])
        torch.testing.assert_close(scores(ours.build(), inputs), expected)
        assert any(value.requires_grad for value in ours.parameters())
    merged = export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "whole"), "--merge"])
    found = pipeline("text-classification", str(merged), top_k=None)("where is my order")[0]
    assert {each["label"] for each in found} == set(data.description["labels"])


def test_a_run_goes_on_exactly(tiny: Callable[..., str], tmp_path: Path) -> None:
    task = with_adapter(classification, {**LORA, "lora_dropout": 0.1}, loraplus_lr_ratio=8.0)
    check(task, tiny("bert"), tmp_path, {"accumulate_grad_batches": 2, "max_epochs": 2}, max_train_samples=30)


class Losses(Callback):
    """Notes losses."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.found.append(float(outputs["loss"]))


@pytest.mark.parametrize("padding_free", ["on", "off"])
def test_learns_what_peft_learns(headed: str, tmp_path: Path, padding_free: str) -> None:
    """The same weights, batches and options: PEFT's own model under a plain AdamW."""
    peft = {"peft_type": "LORA", "r": 4, "target_modules": ["query", "dense"], "modules_to_save": ["classifier"]}
    module, data = with_adapter(classification, peft, padding_free=padding_free, warmup_ratio=0.0)(headed)
    module.hparams.update(lr_scheduler_type="constant")
    losses = Losses()
    fitted((module, data), tmp_path, steps=7, callbacks=[losses])

    seed_everything(3, verbose=False)
    base = AutoModelForSequenceClassification.from_pretrained(headed)
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["query", "dense"], modules_to_save=["classifier"], task_type="SEQ_CLS")
    other = get_peft_model(base, config).train()
    fresh = TextClassificationModule(model_name_or_path=headed, peft=peft, label_names=data.description["labels"])
    seed_everything(3, verbose=False)
    start = fresh.build().state_dict()
    missing = other.base_model.model.load_state_dict(start, strict=True)
    assert not missing.missing_keys
    optimizer = torch.optim.AdamW([p for p in other.parameters() if p.requires_grad], lr=3e-3, weight_decay=0.0)
    theirs = []
    for batch in data.train_dataloader():
        kept = batch["labels"] >= 0
        logits = other(
            **{name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
        ).logits
        loss = torch.nn.functional.cross_entropy(logits[kept], batch["labels"][kept])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        theirs.append(float(loss))
    assert losses.found == pytest.approx(theirs[:7], abs=1e-4)


def test_loraplus_is_pefts(tiny: Callable[..., str]) -> None:
    module, data = with_adapter(classification, LORA, loraplus_lr_ratio=16.0)(tiny("bert"))
    fitted((module, data), Path(tiny("bert")), steps=1)
    ours = {id(p): group["initial_lr"] for group in module.trainer.optimizers[0].param_groups for p in group["params"]}
    reference = create_loraplus_optimizer(module.model, torch.optim.AdamW, lr=3e-3, loraplus_lr_ratio=16)
    theirs = {id(p): group["lr"] for group in reference.param_groups for p in group["params"]}
    vectors = {id(p) for p in module.parameters() if p.ndim == 1}  # PEFT's are faster, too; the paper has none
    assert {key: rate for key, rate in ours.items() if key not in vectors} == {
        key: rate for key, rate in theirs.items() if key not in vectors
    }
    assert set(ours.values()) == {3e-3, 16 * 3e-3}


def test_only_when_used(tmp_path: Path) -> None:
    code = "import sys, lit_ft; from lit_ft import TextClassificationModule, cli; print('peft' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split()[-1] == "False"


@pytest.mark.parametrize(
    ("peft", "message"),
    [
        ({"r": 8}, "no peft_type, such as LORA"),
        ({"peft_type": "LORRA"}, "unknown peft_type 'LORRA' — did you mean 'LORA'"),
        ({"peft_type": "LORA", "lora_alhpa": 8}, "LORA has no 'lora_alhpa' — did you mean 'lora_alpha'"),
        ({"peft_type": "PREFIX_TUNING"}, "set num_virtual_tokens, such as 20"),
        ({"peft_type": "ADALORA"}, "ADALORA has to be told of steps"),
        ({"peft_type": "LORA", "target_modules": ["qurey"]}, r"qurey.*linear layers here: .*query"),
        ({"peft_type": "LORA", "r": 0}, "LORA|positive"),
        ("nowhere", "'nowhere' is no folder of an adapter: it has no adapter_config.json"),
    ],
)
def test_what_does_not_fit_is_refused(tiny: Callable[..., str], peft: Any, message: str) -> None:
    module = TextClassificationModule(model_name_or_path=tiny("bert"), peft=peft, label_names=["a", "b"])
    with pytest.raises(UserError, match=message):
        module.build()


def test_an_old_peft_is_named(tiny: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", "99.0")
    module = TextClassificationModule(
        model_name_or_path=tiny("bert"), peft={"peft_type": "LORA"}, label_names=["a", "b"]
    )
    with pytest.raises(UserError, match=r"version >= 99\.0, or an older transformers: pip install -U peft$"):
        module.build()


def test_an_adapter_of_another_model_is_refused(tiny: Callable[..., str], tmp_path: Path) -> None:
    path = fitted(
        with_adapter(classification, {"peft_type": "LORA", "target_modules": ["query"]})(tiny("bert")), tmp_path
    )
    folder = export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "hf")])
    from safetensors.torch import load_file, save_file

    wide = {
        name: torch.cat([value, value]) if "lora_A" in name else value
        for name, value in load_file(folder / "adapter_model.safetensors").items()
    }
    save_file(wide, folder / "adapter_model.safetensors")
    module = TextClassificationModule(model_name_or_path=tiny("bert"), peft=str(folder), label_names=["a", "b"])
    with pytest.raises(UserError, match="is of another model"):
        module.build()
    with pytest.raises(UserError, match=r"qurey|not found|linear layers"):
        TextClassificationModule(
            model_name_or_path=tiny("distilbert"), peft=str(folder), label_names=["a", "b"]
        ).build()
    headless = {name: value for name, value in wide.items() if "classifier" not in name}
    save_file(headless, folder / "adapter_model.safetensors")
    with pytest.raises(UserError, match="has no weights for 'classifier"):
        module.build()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UserError, match="pickled weights"):
        module.build()
    scratch = TextClassificationModule(model_type="bert", peft={"peft_type": "LORA"}, label_names=["a", "b"])
    with pytest.raises(UserError, match="peft adapts a pretrained model"):
        scratch.build()


def test_new_words_are_trained_and_travel(tiny: Callable[..., str], tmp_path: Path) -> None:
    model = tiny("bert")
    data = TextClassificationDataModule(
        model_name_or_path=model, train_file=str(SAMPLE / "train.csv"), text_column_names="text", max_train_samples=24,
        validation_split_percentage=0, add_tokens=["unboxing", "refundable"], batch_size=6,
    )  # fmt: skip
    module = TextClassificationModule(
        model_name_or_path=model, peft=LORA, add_tokens=["unboxing", "refundable"], learning_rate=1e-3
    )
    path = fitted((module, data), tmp_path)
    folder = export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "hf")])
    assert (
        "bert.embeddings.word_embeddings" in json.loads((folder / "adapter_config.json").read_text())["modules_to_save"]
    )
    opened = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=module.model.config.num_labels)
    inputs = rows(data)
    torch.testing.assert_close(scores(opened, inputs), scores(module.model, inputs))


def test_by_the_command_line(tiny: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(SAMPLE / "train.csv", tmp_path / "train.csv")
    words = [
        "fit", "--model=TextClassificationModule", "--data=TextClassificationDataModule",
        f"--model.model_name_or_path={tiny('bert')}", f"--data.train_file={tmp_path / 'train.csv'}",
        "--data.text_column_names=text", "--data.max_train_samples=48", "--trainer.max_epochs=1",
        "--model.peft={peft_type: LORA, r: 4}", f"--trainer.default_root_dir={tmp_path / 'runs'}",
        "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu",
    ]  # fmt: skip
    cli.main(words)
    said = capsys.readouterr().out
    assert "LORA of query, value, and of classifier as a whole" in said
    assert "adapter: checkpoints hold" in said
    run = tmp_path / "runs" / "version_0"
    assert (run / "hf" / "adapter_model.safetensors").exists()
    cli.main(
        [
            "predict",
            f"--ckpt_path={run}",
            f"--data.predict_file={tmp_path / 'train.csv'}",
            f"--trainer.default_root_dir={tmp_path / 'runs'}",
            "--trainer.accelerator=cpu",
        ]
    )
    cli.main([*words, "--export.merge_adapter=true"])
    assert (tmp_path / "runs" / "version_1" / "hf" / "model.safetensors").exists() or (
        tmp_path / "runs" / "version_2" / "hf" / "model.safetensors"
    ).exists()
