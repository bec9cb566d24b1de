"""Where the YAML files of a command line are looked for."""

from pathlib import Path

import pytest

from lit_ft import cli
from lit_ft.commands.preview import preview
from lit_ft.errors import UserError
from lit_ft.yaml_files import found_config, with_found_configs

ROOT = Path(__file__).parent.parent
QUICKSTART = "configs/text_classification/quickstart.yaml"


def test_a_file_that_is_there_comes_before_one_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert found_config(QUICKSTART).samefile(ROOT / QUICKSTART)
    assert found_config("text_classification/quickstart.yaml").samefile(ROOT / QUICKSTART)
    mine = tmp_path / QUICKSTART
    mine.parent.mkdir(parents=True)
    mine.write_text("seed_everything: 1\n")
    assert found_config(QUICKSTART).resolve() == mine
    assert found_config("quickstart.yaml", [mine.parent]) == mine


def test_each_config_of_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("")
    inline = '{"seed_everything": 1}'
    words = ["fit", "--config", QUICKSTART, "-c", "my.yaml", f"--config={inline}", "--config", inline, "--data.x=my"]
    found = with_found_configs(words)
    assert Path(found[2]).samefile(ROOT / QUICKSTART)
    assert found == [*words[:2], found[2], *words[3:]]


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (b"data:\n  a: 1\n b: 2\n", "line 3, column 2: "),
        (b"\xff\x00", "is no YAML file"),
        (b"a: [1", "line 1, column 6"),
    ],
)
def test_what_is_no_yaml_is_named_with_its_line(held: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_bytes(held)
    with pytest.raises(UserError, match=rf"my\.yaml,? {said}"):
        with_found_configs(["fit", f"--config={tmp_path / 'my.yaml'}"])


@pytest.mark.parametrize("command", ["fit", "preview"])
def test_a_missing_file_and_an_unknown_option_are_one_line_each(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = preview if command == "preview" else cli.main
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("")
    for name, meant in [("mien.yaml", "mine.yaml"), (QUICKSTART.replace("ck", "k"), QUICKSTART)]:
        with pytest.raises(UserError, match=f"{name}: no such file here.* — did you mean '{meant}'"):
            run([command, "--config", name])
    meant = r"--traner\.max_step=3 — did you mean '--trainer\.max_steps'\?"
    with pytest.raises(UserError, match=rf"{meant}\nall options: lit-ft {command} --help$"):
        run([command, f"--config={QUICKSTART}", "--traner.max_step=3"])
