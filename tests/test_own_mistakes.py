"""Mistakes of who writes a task are named with class and method, not by what they lead to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lit_ft import TextClassificationDataModule, TextClassificationModule, cli, load_predictor
from lit_ft.errors import UserError
from lit_ft.ops.building.models import label_config
from tests.contract import QUIET
from tests.tiny import texts

ROWS = [{"text": text, "label": "xy"[at % 2]} for at, text in enumerate(texts()[:20])]


class Data(TextClassificationDataModule):
    """Whose methods are replaced."""


class Module(TextClassificationModule):
    """Whose methods are replaced."""


def without_rows(self: Any, rows: dict[str, list[Any]], split: str) -> dict[str, Any]:
    return {
        name: each for name, each in TextClassificationDataModule.tokenize(self, rows, split).items() if name != "row"
    }


def one_short(self: Any, rows: dict[str, list[Any]], split: str) -> dict[str, Any]:
    made = TextClassificationDataModule.tokenize(self, rows, split)
    return {**made, "labels": made["labels"][:-1]}


OF_DATA: list[tuple[str, Any, str]] = [
    ("tokenize", without_rows, r"Data.tokenize returned no column 'row'; columns: \['input_ids'"),
    ("tokenize", one_short, r"Data.tokenize: column 'labels' has \d+ values, 'row' \d+: one a feature"),
    ("describe", lambda self, raw, known: None, "Data.describe returned None; it returns a dict"),
    ("describe", lambda *_: {"labels": np.float32(1)}, r"Data.describe: 'labels' is .*1.0.*, which is no plain JSON"),
]
OF_MODULE: list[tuple[str, Any, str]] = [
    ("loss", lambda self, outputs, batch: outputs.logits.mean(), r"Module.loss returned a tensor of shape \[\]; it"),
    ("loss", lambda self, outputs, batch: None, "Module.loss returned nothing; it returns the sum of losses"),
    ("decode", lambda self, outputs, batch: [{}], "Module.decode returned a list of 1; it returns a dict for each of"),
    (
        "metric_names",
        lambda self, description: ["f1"],
        r"Module.compute returned \['accuracy'.*metric_names says \['f1'\]",
    ),
]


@pytest.mark.parametrize(("of", "method", "wrong", "message"), [
    *[("data", *each) for each in OF_DATA], *[("module", *each) for each in OF_MODULE]
])  # fmt: skip
def test_what_a_method_returns(
    of: str, method: str, wrong: Any, message: str, tiny: Callable[..., str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Data if of == "data" else Module, method, wrong)
    data = Data(model_name_or_path=tiny("bert"), dataset={"train": ROWS}, validation_split_percentage=20)
    with pytest.raises(UserError, match=message):
        Trainer(default_root_dir=tmp_path, max_epochs=1, enable_checkpointing=False, **QUIET).fit(
            Module(model_name_or_path=tiny("bert")), data
        )


def test_a_count_may_be_a_number(tiny: Callable[..., str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(Module, "loss", lambda self, outputs, batch: (outputs.logits.sum(), len(batch["labels"])))
    data = Data(model_name_or_path=tiny("bert"), dataset={"train": ROWS}, validation_split_percentage=20)
    trainer = Trainer(default_root_dir=tmp_path, max_steps=1, enable_checkpointing=False, **QUIET)
    trainer.fit(Module(model_name_or_path=tiny("bert")), data)
    assert trainer.global_step == 1


def test_a_trained_head_keeps_its_labels_places(tiny: Callable[..., str], tmp_path: Path) -> None:
    class Renaming(TextClassificationModule):
        names = ("c", "a")

        def config_kwargs(self, description: dict[str, Any]) -> dict[str, Any]:
            return label_config(self.names)

    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(tiny("bert"), **label_config(["a", "b"])).save_pretrained(
        tmp_path
    )
    AutoTokenizer.from_pretrained(tiny("bert")).save_pretrained(tmp_path)
    options: dict[str, Any] = {"model_name_or_path": str(tmp_path), "label_names": ["x", "y"]}
    with pytest.raises(UserError, match=r"knows \['a', 'b'\], the data have \['c', 'a'\]: 'a' would get the weights"):
        Renaming(**options).build()
    assert Renaming(**options, ignore_mismatched_sizes=True).build().config.id2label == {0: "c", 1: "a"}
    Renaming.names = ("a", "c")  # one is called otherwise now, and none has moved
    assert Renaming(**options).build().config.id2label == {0: "a", 1: "c"}


def test_tokens_are_on_both_sides(tiny: Callable[..., str], tmp_path: Path) -> None:
    module = TextClassificationModule(model_name_or_path=tiny("bert"), add_tokens=["[SPAN]"])
    sets = {"train": ROWS}
    data = Data(model_name_or_path=tiny("bert"), dataset=sets, validation_split_percentage=20)
    trainer = Trainer(default_root_dir=tmp_path, max_steps=1, enable_checkpointing=False, **QUIET)
    with pytest.raises(UserError, match=r"add_tokens: the data's tokenizer lacks \['\[SPAN\]'\]: give the data"):
        trainer.fit(module, data)
    data = Data(model_name_or_path=tiny("bert"), dataset=sets, validation_split_percentage=20, add_tokens=["[SPAN]"])
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert load_predictor(tmp_path / "a.ckpt").data.hparams["add_tokens"] == ["[SPAN]"]


class Marking(TextClassificationDataModule):
    """Has tokens of its own, as its module has."""

    def __init__(self, *, add_tokens: list[str] | None = ["[SPAN]"], **kwargs: Any) -> None:  # noqa: B006
        super().__init__(add_tokens=add_tokens, **kwargs)


def test_what_both_classes_have_by_default_goes_on_from_the_saved_configuration(
    tiny: Callable[..., str], sample: Path, tmp_path: Path
) -> None:
    words = [
        "--model=TextClassificationModule", f"--model.model_name_or_path={tiny('bert')}",
        '--model.add_tokens=["[SPAN]"]', "--data=tests.test_own_mistakes.Marking",
        f"--data.train_file={sample / 'train.csv'}", "--data.text_column_names=text", "--data.max_train_samples=40",
        "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
        f"--trainer.default_root_dir={tmp_path / 'runs'}",
    ]  # fmt: skip
    run = cli.main(["fit", *words]).folder
    assert run is not None
    done = cli.main(["validate", f"--ckpt_path={run}", "--trainer.accelerator=cpu"])  # by the run's own config.yaml
    assert done.datamodule.hparams["add_tokens"] == ["[SPAN]"]
    with pytest.raises(UserError, match=r"data\.add_tokens is .*set it on the model only"):
        cli.main(["fit", *words, '--data.add_tokens=["[OTHER]"]'])
