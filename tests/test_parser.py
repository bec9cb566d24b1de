"""Options that are not where they were sought: the error says where they are."""

import re
from pathlib import Path

import pytest

from lit_ft import cli
from lit_ft.errors import UserError
from lit_ft.parser import OTHERWISE, where

TRAINER = Path(__file__).parents[1] / "docs" / "coming_from" / "trainer.md"
CONFIG = "configs/summarization/files.yaml"
SECTIONS = {"model": {"learning_rate", "loss"}, "data": {"batch_size"}, "trainer": {"max_epochs"}, "": {"config"}}


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--learning_rate", "unrecognized arguments: --learning_rate 1 — here it is --model.learning_rate"),
        (
            "--data.learning_rate",
            "DataModule has no option 'learning_rate' — here it is --model.learning_rate",
        ),
        ("--model.train_file", "SummarizationModule has no option 'train_file' — here it is --data.train_file"),
        ("--trainer.num_train_epochs", "--trainer.num_train_epochs 1 — here it is --trainer.max_epochs"),
        ("--data.block_size", "has no option 'block_size' — here it is --data.max_seq_length"),
        ("--model.num_beams", "— here it is a part of --model.generation: '{num_beams: ...}'"),
        ("--model.learning_rat", "— did you mean 'learning_rate'?"),
        ("--train_fle", "— did you mean '--data.train_file'?"),
        ("--trainer.mx_epochs", "— did you mean 'max_epochs'?"),
    ],
)
def test_an_option_of_elsewhere(option: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        cli.main(["fit", "--config", CONFIG, option, "1"])


def test_nothing_is_said_where_nothing_is_like_it() -> None:
    assert where("zzzz", SECTIONS) == where("model.zzzz", SECTIONS) == where("zzzz", SECTIONS, "data") == ""
    assert where("num_train_epochs", SECTIONS | {"trainer": set()}) == ""  # no hint at what is not there


def test_hints_are_those_of_the_documentation() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TRAINER.read_text(encoding="utf-8"), re.MULTILINE))
    for name, meant in OTHERWISE.items():
        if name in ("max_seq_length", "block_size"):  # between our tasks
            continue
        assert f"`{meant}" in rows[name] or f"`--{meant}`" in rows[name], name
