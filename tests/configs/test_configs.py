"""What holds for every YAML of configs/, whatever its task; each task's own tests run them."""

import pytest
import yaml

from lit_ft.cli import main
from tests.configs.choices import CHOICES
from tests.configs.documents import CAUSAL, MASKED
from tests.configs.paired import PAIRED
from tests.configs.rows import LOCAL
from tests.configs.running import ALIKE, CONFIGS, marked, read_config
from tests.configs.tagged import TAGGED
from tests.configs.test_instruction_tuning import CHATS
from tests.configs.test_preference import PREFERENCES
from tests.configs.test_sentence_embedding import EMBEDDINGS
from tests.configs.test_zero_shot import ZERO_SHOT
from tests.questions import QUESTIONS

ALL = sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*.yaml"))
NAMES = [name for name in ALL if not name.startswith(("trainer/", "sweep/"))]


def test_every_yaml_has_local_rows_to_run_on_and_every_entry_a_yaml() -> None:
    every = [*LOCAL, *CHOICES, *QUESTIONS, *TAGGED, *CAUSAL, *MASKED, *PAIRED, *CHATS, *PREFERENCES]
    assert sorted([*every, *ZERO_SHOT, *EMBEDDINGS]) == NAMES
    assert set(NAMES) >= ALIKE


@pytest.mark.parametrize("name", marked(NAMES))  # tests/test_schema.py reads all of them
def test_print_config_shows_the_yaml_with_every_default(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", str(CONFIGS / f"{name}.yaml"), "--print_config"])
    assert end.value.code == 0
    printed, written = yaml.safe_load(capsys.readouterr().out), read_config(name)
    for part in ("model", "data"):
        assert written[part]["init_args"].items() <= printed[part]["init_args"].items()
        assert len(printed[part]["init_args"]) > 20
    assert written.get("checkpoint", {}).items() <= printed["checkpoint"].items()
    assert len((CONFIGS / f"{name}.yaml").read_text().splitlines()) <= 32


@pytest.mark.parametrize("task", ["text_classification/files", "masked_lm/files", "causal_lm/files"])
@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("trainer/")])
def test_a_way_to_spread_a_run_goes_beside_any_task(name: str, task: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", *(f"--config={CONFIGS / each}.yaml" for each in (task, name)), "--print_config"])
    assert end.value.code == 0
    printed, written = yaml.safe_load(capsys.readouterr().out), read_config(name)
    assert printed["model"]["class_path"].endswith(read_config(task)["model"]["class_path"])
    assert written.get("data", {}).get("init_args", {}).items() <= printed["data"]["init_args"].items()
    strategy = written["trainer"].pop("strategy", "auto")
    chosen = printed["trainer"]["strategy"]
    if isinstance(strategy, dict):
        assert chosen["class_path"] == strategy["class_path"]
        assert strategy["init_args"].items() <= chosen["init_args"].items()
    else:
        assert chosen == strategy
    assert written["trainer"].items() <= printed["trainer"].items()
