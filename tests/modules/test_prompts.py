"""Trained tokens before the text: PEFT's own models as reference, checkpoints, going on, folders, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_config, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from lit_ft import CausalLMModule, MaskedLMModule, Seq2SeqDataModule, Seq2SeqModule, TextClassificationModule
from lit_ft.commands.export import export as export_command
from lit_ft.errors import UserError
from lit_ft.loading import load
from lit_ft.ops.decoding.generation import texts_of
from tests.modules.test_adapters import causal, fitted, with_adapter
from tests.modules.test_exact_resume import check, classification, questions, tagged
from tests.pairs import NO_DROPOUT, make_seq2seq, pair_rows
from tests.preferences import make_preference_model

PROMPT = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}
KINDS: dict[str, dict[str, Any]] = {
    "prompt": PROMPT,
    "p": {"peft_type": "P_TUNING", "num_virtual_tokens": 3, "encoder_hidden_size": 16},
    "prefix": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3},
}


def plain(model: str, **options: Any) -> tuple[Any, Any]:
    return causal(model, **{"isolate_documents": False, **options})


TASKS: dict[str, tuple[Any, Any, str]] = {
    "classification": (classification, AutoModelForSequenceClassification, "SEQ_CLS"),
    "tagged": (tagged, AutoModelForTokenClassification, "TOKEN_CLS"),
    "questions": (questions, AutoModelForQuestionAnswering, "QUESTION_ANS"),
    "causal": (plain, AutoModelForCausalLM, "CAUSAL_LM"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_learns_what_peft_learns_and_its_folder_opens(
    tiny: Callable[..., str], tmp_path: Path, task: str, kind: str
) -> None:
    make, auto, name = TASKS[task]
    model = make_preference_model(tmp_path / "model") if task == "causal" else tiny("bert")
    module, data = with_adapter(make, KINDS[kind])(model)
    path = fitted((module, data), tmp_path)
    saved = torch.load(path, weights_only=True)
    trained = {each for each, value in module.named_parameters() if value.requires_grad}
    assert any("prompt_encoder" in each for each in trained)
    assert {each for each in saved["state_dict"] if "original_module" not in each} <= {
        each for each, _ in module.named_parameters()
    }
    again, _ = load(path)
    folder = export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "hf")])

    config = AutoConfig.from_pretrained(folder, subfolder="config")
    base = auto.from_pretrained(model, config=config, dtype=torch.float32, ignore_mismatched_sizes=True)
    opened = PeftModel.from_pretrained(base, str(folder)).eval()
    batch = next(iter(data.train_dataloader()))
    inputs = {each: batch[each] for each in ("input_ids", "attention_mask", "token_type_ids") if each in batch}
    with torch.no_grad():
        found = opened(**inputs)
        theirs = found.logits if "logits" in found else found.start_logits
        size = inputs["input_ids"].shape[1]
        theirs = theirs[:, -size:] if name != "SEQ_CLS" else theirs
        for ours in (module, again):
            ours.model.eval()
            made = ours(**inputs)
            torch.testing.assert_close(made.logits if "logits" in made else made.start_logits, theirs)

    wrapped = get_peft_model(
        auto.from_pretrained(model, config=config, dtype=torch.float32, ignore_mismatched_sizes=True),
        get_peft_config({**KINDS[kind], "task_type": name}),
    )
    values = {each.replace("model.", "base_model.", 1): value for each, value in module.state_dict().items()}
    values |= {each.removeprefix("base_model."): value for each, value in values.items() if "prompt_encoder" in each}
    missing = wrapped.load_state_dict(values, strict=False).missing_keys
    assert not [each for each in missing if each != "word_embeddings.weight"]  # the model's own, under another name
    wrapped.eval()
    total, count = module.loss(module.outputs(batch), batch)
    (total / count).backward()
    if name == "CAUSAL_LM":
        labels = batch["labels"].clone()
        labels[:, 0] = -100  # PEFT has the first token of a text predicted by the tokens before it, too
        wrapped(**{**inputs, "labels": labels}).loss.backward()
        other = wrapped.prompt_encoder
        for (_, one), (_, two) in zip(
            module.model.prompt_encoder.named_parameters(), other.named_parameters(), strict=True
        ):
            torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-6)


def test_a_run_goes_on_exactly(tiny: Callable[..., str], tmp_path: Path) -> None:
    check(with_adapter(classification, PROMPT), tiny("bert"), tmp_path, {"max_epochs": 2}, max_train_samples=30)


def test_training_goes_on_from_a_folder(tmp_path: Path) -> None:
    model = make_preference_model(tmp_path / "model")
    module, data = with_adapter(plain, PROMPT)(model)
    path = fitted((module, data), tmp_path)
    folder = export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "hf")])
    more = CausalLMModule(model_name_or_path=model, peft=str(folder))
    other = more.build().prompt_encoder["default"].embedding.weight
    assert torch.equal(other, module.model.prompt_encoder["default"].embedding.weight)
    assert other.requires_grad
    with pytest.raises(UserError, match="nothing can be merged"):
        export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "merged"), "--merge"])


def test_generates_as_peft(tmp_path: Path) -> None:
    module, data = with_adapter(plain, PROMPT)(make_preference_model(tmp_path / "model"))
    data.setup("fit")
    torch.manual_seed(3)
    module._generation = {"max_new_tokens": 5}
    module.build()
    ids = next(iter(data.train_dataloader()))["input_ids"][:1, :9]
    prompts = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    ((text,),) = module.generate(prompts)
    made = module.prompts.wrapped.eval().generate(**prompts, max_new_tokens=5, do_sample=False)
    assert text == module.tokenizer.decode(made[0, 9:], skip_special_tokens=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_texts_are_written_as_by_peft(tmp_path: Path, family: str, kind: str) -> None:
    model = make_seq2seq(family, tmp_path / "model", **NO_DROPOUT)
    data = Seq2SeqDataModule(
        model_name_or_path=model, dataset={"train": pair_rows(24)}, validation_split_percentage=0, batch_size=6,
        max_source_length=60, max_target_length=20,
    )  # fmt: skip
    module = Seq2SeqModule(
        model_name_or_path=model, peft=KINDS[kind], learning_rate=3e-3, generation={"max_new_tokens": 8}
    )
    path = fitted((module, data), tmp_path)
    folder = export_command(["--ckpt_path", str(path), "--out", str(tmp_path / "hf")])
    config = AutoConfig.from_pretrained(folder, subfolder="config")
    base = AutoModelForSeq2SeqLM.from_pretrained(model, config=config, dtype=torch.float32)
    opened = PeftModel.from_pretrained(base, str(folder)).eval()
    again, _ = load(path)
    again.model.eval()
    batch = next(iter(data.train_dataloader()))
    inputs = again.model_inputs(batch)
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, opened(**inputs).logits)
    asked = {name: batch[name] for name in ("input_ids", "attention_mask")}
    theirs = opened.generate(**asked, max_new_tokens=8, do_sample=False, num_beams=1)
    ours = again.generate(asked)
    assert [text for (text,) in ours] == texts_of(again.tokenizer, theirs)

    module.model.eval()
    total, count = module.loss(module.outputs(batch), batch)
    theirs = opened(**inputs, labels=batch["labels"]).loss
    assert float(total / count) == pytest.approx(float(theirs), rel=1e-5)
    (total / count).backward()
    assert all(float(each.grad.abs().sum()) > 0 for each in module.model.prompt_encoder.parameters())


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda model: CausalLMModule(model_name_or_path=model, peft=PROMPT), "llama", "no weights for lm_head"),
        (lambda model: MaskedLMModule(model_name_or_path=model, peft=PROMPT), "bert", "is not for this task"),
        (
            lambda model: TextClassificationModule(model_name_or_path=model, peft=PROMPT, label_names=["a", "b"]),
            "llama",
            "classifies by its last token",
        ),
        (
            lambda model: TextClassificationModule(
                model_name_or_path=model, peft=PROMPT, label_names=["a", "b"], padding_free="on"
            ),
            "bert",
            "puts tokens before the text",
        ),
        (
            lambda model: TextClassificationModule(
                model_name_or_path=model, peft={**PROMPT, "num_virtual_token": 3}, label_names=["a", "b"]
            ),
            "bert",
            "did you mean 'num_virtual_tokens'",
        ),
        (
            lambda model: TextClassificationModule(
                model_name_or_path=model, peft={"peft_type": "CPT"}, label_names=["a", "b"]
            ),
            "bert",
            "use LORA",
        ),
    ],
)
def test_what_cannot_be_is_refused(tiny: Callable[..., str], make: Any, options: str, message: str) -> None:
    module = make(tiny(options))
    with pytest.raises(UserError, match=message):
        module.build()


def test_documents_that_share_rows_are_refused(tmp_path: Path) -> None:
    model = make_preference_model(tmp_path / "model")
    with pytest.raises(UserError, match="documents that share rows"):
        fitted(with_adapter(causal, PROMPT)(model), tmp_path)
