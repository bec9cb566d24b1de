"""A head that begins with the labels' names: prototypes by hand, on encoders and decoders; what cannot be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lit_ft import TextClassificationDataModule, TextClassificationModule
from lit_ft.errors import UserError
from lit_ft.ops.building.head_init import FIRST_LOGIT
from tests.tiny import texts

NAMES = ["a late delivery", "my refund", "praise_and_thanks"]


def rows(names: list[str]) -> list[dict[str, str]]:
    return [{"text": text, "label": names[at % len(names)]} for at, text in enumerate(texts()[:12])]


def made(model: str, names: list[str] = NAMES, **options: Any) -> tuple[Any, Any]:
    data = TextClassificationDataModule(
        model_name_or_path=model, dataset={"train": rows(names)}, batch_size=4, validation_split_percentage=0
    )
    return TextClassificationModule(model_name_or_path=model, head_init="label_names", **options), data


def built(module: Any, data: Any) -> Any:
    data.setup("fit")
    module.description = data.description
    return module.build().eval()


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize("adapter", [None, {"peft_type": "LORA", "r": 2}])
def test_logits_are_those_of_prototypes(tiny: Callable[..., str], kind: str, adapter: Any) -> None:
    torch.manual_seed(1)
    module, data = made(tiny(kind), peft=adapter)
    model, tokenizer = built(module, data), AutoTokenizer.from_pretrained(tiny(kind))
    assert module.description["labels"] == NAMES
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    head = next(part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)
                and part.out_features == 3 and "original" not in name)  # fmt: skip
    head.register_forward_hook(lambda _, given, scores: seen.append((given[0].flatten(0, -2), scores.flatten(0, -2))))
    said = ["a late delivery", "my refund", "praise and thanks"]
    with torch.no_grad():
        logits = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in said])
    used = [
        [torch.equal(one, own) for one in scores].index(True) for (_, scores), own in zip(seen, logits, strict=True)
    ]
    features = torch.stack([given[at] for (given, _), at in zip(seen, used, strict=True)])
    centred = features - features.mean(0)
    if kind == "gpt2":  # without a bias: across what the names have in common
        across = features.mean(0) / features.mean(0).norm()
        centred = centred - torch.outer(centred @ across, across)
    expected = FIRST_LOGIT * centred @ centred.T / centred.square().sum(1).mean()
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    assert logits.diagonal().mean() == pytest.approx(FIRST_LOGIT, rel=1e-3)


def test_a_restored_head_stays_what_it_is(tiny: Callable[..., str], tmp_path: Path) -> None:
    module, data = made(tiny(), learning_rate=0.1)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, max_steps=2
    )
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = TextClassificationModule.load_from_checkpoint(tmp_path / "last.ckpt")
    torch.testing.assert_close(again.model.classifier.weight, module.model.classifier.weight)


def test_what_cannot_be_is_named(tiny: Callable[..., str], tmp_path: Path) -> None:
    trained = AutoModelForSequenceClassification.from_pretrained(
        tiny(), id2label=dict(enumerate(NAMES)), label2id={name: at for at, name in enumerate(NAMES)}
    )
    trained.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny()).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="the checkpoint has one: leave head_init out"):
        built(*made(str(tmp_path)))
    with pytest.raises(UserError, match="names that say something"):
        built(*made(tiny(), ["one_label", "one label"]))
    numbers = [{"text": text, "label": 0.5 * at} for at, text in enumerate(texts()[:8])]
    module, _ = made(tiny())
    data = TextClassificationDataModule(
        model_name_or_path=tiny(), dataset={"train": numbers}, validation_split_percentage=0
    )
    with pytest.raises(UserError, match="problem_type is regression"):
        Trainer(accelerator="cpu", logger=False, max_steps=1, enable_checkpointing=False).fit(module, data)
