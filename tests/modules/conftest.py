"""Pretrained folders with heads and without dropout, made once: parity needs both sides to start from the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, AutoTokenizer

from lit_ft.ops import embedding_gradients
from tests.pairs import make_seq2seq
from tests.tiny import SAMPLE

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def sample_rows(number: int, split: str = "train") -> list[dict[str, Any]]:
    lines = (SAMPLE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()[:number]
    return [{"text": row["text"], "label": row["label"]} for row in map(json.loads, lines)]


LABELS = sorted({row["label"] for row in sample_rows(1000)})


@pytest.fixture(scope="session")
def headed(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny BERT with a (fresh) head for the sample's labels, dropout off."""
    folder = tmp_path_factory.mktemp("headed")
    torch.manual_seed(3)
    names = dict(enumerate(LABELS))
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny("bert"), id2label=names, label2id={name: number for number, name in names.items()}, **NO_DROPOUT
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny("bert")).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def asked(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Folders of tiny models with a (fresh, lively) head for answers, dropout off."""
    made: dict[str, str] = {}

    def make(kind: str = "bert") -> str:
        if kind not in made:
            torch.manual_seed(3)
            config = {**NO_DROPOUT, "initializer_range": 0.3} if kind == "bert" else {"initializer_range": 0.3}
            model = AutoModelForQuestionAnswering.from_pretrained(tiny(kind), **config)
            made[kind] = str(tmp_path_factory.mktemp(kind))
            model.save_pretrained(made[kind])
            AutoTokenizer.from_pretrained(tiny(kind)).save_pretrained(made[kind])
        return made[kind]

    return make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Folders of tiny encoder-decoders: `folder("t5", num_beams=3)`, options being those of its own generation."""
    made: dict[str, str] = {}

    def make(family: str, **generation: Any) -> str:
        key = family + json.dumps(generation)
        if key not in made:
            made[key] = make_seq2seq(family, tmp_path_factory.mktemp(family))
            path = Path(made[key]) / "generation_config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **generation}))
        return made[key]

    return make


@pytest.fixture(autouse=True)
def _small_embeddings_train_as_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_gradients, "LEAST", 1)


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """`trainer(max_steps=3)` makes a quiet CPU Trainer in the test's own folder."""

    def make(**kwargs: Any) -> Trainer:
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        options = {"accelerator": "cpu", "devices": 1, "logger": False, "default_root_dir": tmp_path, **quiet}
        return Trainer(**{**options, "num_sanity_val_steps": 0, **kwargs})

    return make
