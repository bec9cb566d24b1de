"""`lit-ft schema`: every YAML of configs/ is as it says, what is wrong is found, and it knows what the parser knows."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from lit_ft import TextClassificationModule
from lit_ft.commands.schema import of_type, options, schema, schema_of_configs
from lit_ft.objects import option_defaults

CONFIGS = Path(__file__).parents[1] / "configs"
RUNS = sorted({*CONFIGS.rglob("*.yaml")} - {*CONFIGS.glob("sweep/*.yaml")})


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    made = schema_of_configs()
    Draft7Validator.check_schema(made)
    return Draft7Validator(made)


def mistakes(validator: Draft7Validator, config: dict[str, Any]) -> list[str]:
    return [error.message for error in validator.iter_errors(config)]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_yaml_is_as_the_schema_says(validator: Draft7Validator, path: Path) -> None:
    assert mistakes(validator, yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("model", "init_args", "learing_rate"), 1e-4, "learing_rate"),
        (("data", "init_args", "batch_size"), "many", "many"),
        (("data", "init_args", "truncation_side"), "left", "left"),
        (("trainer", "max_epoch"), 3, "max_epoch"),
        (("modle",), {}, "modle"),
        (("checkpoint", "monitr"), "val_loss", "monitr"),
    ],
)
def test_what_is_wrong_is_found(validator: Draft7Validator, place: tuple[str, ...], value: Any, said: str) -> None:
    config = copy.deepcopy(yaml.safe_load((CONFIGS / "text_classification" / "files.yaml").read_text()))
    at = config
    for name in place[:-1]:
        at = at.setdefault(name, {})
    at[place[-1]] = value
    found = mistakes(validator, config)
    assert found
    assert any(said in message for message in found)


def test_a_class_of_your_own_may_have_any_option(validator: Draft7Validator) -> None:
    own = {"class_path": "my.Module", "init_args": {"anything": 1}}
    assert mistakes(validator, {"model": own, "data": {"class_path": "my.Data"}}) == []


def test_options_are_those_of_the_class_with_their_defaults_and_help() -> None:
    found = options(TextClassificationModule)["properties"]
    assert found.keys() == option_defaults(TextClassificationModule).keys()
    assert found["learning_rate"] == {
        "type": "number", "description": "peak learning rate of AdamW.", "default": 5e-05
    }  # fmt: skip
    assert {"enum": ["float32", "bfloat16", "float16", "auto"]} in found["dtype"]["anyOf"]


def test_types() -> None:
    assert of_type(list[str] | None) == {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
    assert of_type(dict[str, Any]) == {"type": "object"}
    assert of_type(Any | None) == {}
    assert of_type(tuple[float, float]) == {"type": "array"}


def test_the_command_writes_a_file(tmp_path: Path, capsys: Any) -> None:
    path = schema(["--out", str(tmp_path / "s.json")])
    assert json.loads(path.read_text())["properties"]["model"]
    assert "yaml-language-server: $schema=" in capsys.readouterr().out
