"""What holds for every YAML of configs/, whatever its task; each task's own tests run them."""

import pytest
import yaml

from lit_ft.cli import main
from tests.configs.documents import CAUSAL, MASKED
from tests.configs.rows import LOCAL
from tests.configs.running import CONFIGS, read_config

NAMES = sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*.yaml"))


def test_every_yaml_has_local_rows_to_run_on_and_every_entry_a_yaml() -> None:
    assert sorted([*LOCAL, *CAUSAL, *MASKED]) == NAMES


@pytest.mark.parametrize("name", NAMES)
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
