"""`lit-ft cache`: what is listed, cleared by name or by age, and left alone: what is not ours, or being prepared."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from lit_ft.commands.cache import cache, entries
from lit_ft.data.caching.cache import once
from lit_ft.data.caching.fingerprints import content_digest
from lit_ft.errors import UserError

DAY = 24 * 60 * 60


def key(model: str) -> dict:
    return {
        "options": {"model_name_or_path": model, "tokenizer_name": None},
        "rows": {
            "train": {"cut": True, "": [[f"/data/{model}.csv", "0" * 64]]},
            "validation": {"": ["split", "0123456789abcdef"]},
            "test": None,
        },
    }


def make(root: Path, model: str, days_ago: float = 0) -> Path:
    def build(folder: Path) -> None:
        (folder / "train").mkdir()
        (folder / "train" / "rows.bin").write_bytes(b"x" * 1_500_000)
        rows = {"train": {"": 1234567}, "validation": {"easy": 5, "hard": 6}}
        (folder / "content.json").write_text(json.dumps({"description": {}, "notes": [], "sets": {}, "rows": rows}))

    folder = once(key(model), build, root)
    at = time.time() - days_ago * DAY
    os.utime(folder, (at, at))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The environment's, see `conftest.py`."""
    return tmp_path / "prepared"


@pytest.fixture
def killed(root: Path) -> Path:
    folder = root / f"{'a' * 24}.{'b' * 32}.tmp"
    folder.mkdir(parents=True)
    (folder / "half").write_text("half")
    return folder


def named(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def test_list(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(root, "distil", days_ago=400)
    make(root, "bert")
    cache(["list"])
    shown = capsys.readouterr().out
    old, new = (entry.name for entry in entries(root))
    assert shown.index(old) < shown.index(new)
    for part in ("1.5 MB", "train 1,234,567", "validation easy 5", "validation hard 6", "distil.csv", "bert"):
        assert part in shown
    then = time.strftime("%Y-%m-%d %H:%M", time.localtime((root / old).stat().st_mtime))
    assert then in shown
    assert shown.splitlines()[-1] == f"2 folders, 3.0 MB in {root}"


def test_list_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache(["list", "--preparation_dir", str(tmp_path / "none")])
    assert capsys.readouterr().out == f"nothing is prepared in {tmp_path / 'none'}\n"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"rows": null}', '{"rows": {"train": {}}}'])
@pytest.mark.parametrize("key", [{}, {"options": None, "rows": None}, {"options": {}, "rows": {"train": {"": None}}}])
def test_list_shows_what_it_can(root: Path, capsys: pytest.CaptureFixture[str], key: dict, content: str | None) -> None:
    folder = once(key, lambda folder: None, root)
    if content is not None:
        (folder / "content.json").write_text(content)
    cache(["list"])
    assert folder.name in capsys.readouterr().out


def test_clear_by_name(root: Path, killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = make(root, "one"), make(root, "two")
    cache(["clear", one.name, "--yes"])
    assert {one.name, f"{one.name}.lock", killed.name}.isdisjoint(named(root))
    assert two.is_dir()
    shown = capsys.readouterr().out
    assert f"{one.name}  1.5 MB  one" in shown
    assert f"{killed.name}  4 bytes  left by a build that was killed" in shown
    assert shown.splitlines()[-1] == f"2 deleted in {root}"


def test_clear_by_age(root: Path) -> None:
    old, young = make(root, "old", days_ago=31), make(root, "young", days_ago=29)
    cache(["clear", "--older_than_days", "30", young.name, "--yes"])
    assert {old.name, young.name} <= named(root)
    cache(["clear", "--older_than_days", "30", "--yes"])
    assert old.name not in named(root)
    assert young.is_dir()


def test_clear_all_leaves_what_is_not_ours(root: Path, killed: Path, tmp_path: Path) -> None:
    one = make(root, "one")
    (root / f"{'d' * 24}.lock").touch()
    file = tmp_path / "train.csv"
    file.write_text("text\n")
    os.utime(file, (0, 0))
    content_digest(file, root)
    not_ours = {"my_data", "c" * 24, "notes.tmp", "notes.lock", "link.tmp", f"{'e' * 24}.txt"}
    for name in ("my_data", "c" * 24, "notes.tmp"):
        (root / name).mkdir()
        (root / name / "train.csv").write_text("text\n")
    (root / "notes.lock").touch()
    (root / f"{'e' * 24}.txt").touch()
    (root / "link.tmp").symlink_to(tmp_path)
    linked = tmp_path / "elsewhere"
    one.rename(linked)
    one.symlink_to(linked)
    two = make(root, "two")
    cache(["clear", "--all", "--yes"])
    assert killed.name not in named(root)
    assert named(root) - {"fingerprints", f"{one.name}.lock"} == not_ours | {one.name}
    assert (linked / "train" / "rows.bin").is_file()
    assert not two.exists()


def test_clear_forgets_fingerprints(root: Path) -> None:
    entry = root / "fingerprints" / f"{'a' * 64}.json"
    for words, left in (
        (["--older_than_days", "1"], True),
        (["--older_than_days", "0.001"], False),
        (["--all"], False),
    ):
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.write_text("{}")
        os.utime(entry, (time.time() - 100, time.time() - 100))
        cache(["clear", "--yes", *words])
        assert entry.exists() == left


def test_what_is_being_prepared_is_left_alone(root: Path, killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = make(root, "one"), make(root, "two")
    with FileLock(root / f"{one.name}.lock"), FileLock(root / f"{'a' * 24}.lock"):
        cache(["clear", "--all", "--yes"])
    assert {one.name, killed.name} <= named(root)
    assert not two.exists()
    shown = capsys.readouterr().out.splitlines()
    assert f"{one.name} is being prepared right now: left alone" in shown
    assert f"{'a' * 24} is being prepared right now: left alone" in shown
    assert shown[-1] == f"1 deleted in {root}"


def test_dry_run_deletes_nothing(root: Path, killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(root, "one")
    before = named(root)
    cache(["clear", "--all", "--dry_run"])
    assert named(root) == before
    assert "2 to delete, 1.5 MB" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "deleted"), [("y", True), ("yes", True), ("n", False), ("", False)])
def test_clear_asks(root: Path, monkeypatch: pytest.MonkeyPatch, answer: str, deleted: bool) -> None:
    folder = make(root, "one")
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    cache(["clear", "--all"])
    assert asked == ["delete these 1, 1.5 MB? [y/N] "]
    assert folder.exists() != deleted


def test_errors(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(root, "one")
    near = folder.name[:-1]
    for words, message in (
        (["clear"], r"say what to clear: names .*--older_than_days N, or --all"),
        (["clear", near], rf"nothing prepared is called '{near}' — did you mean '{folder.name}'\? \(lit-ft cache list"),
        (["clear", ".."], r"nothing prepared is called '\.\.' \(lit-ft cache list\)"),
        (["clear", folder.name, "--all"], "takes names or --all, not both"),
    ):
        with pytest.raises(UserError, match=message):
            cache(words)
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    with pytest.raises(UserError, match="give --yes to delete"):
        cache(["clear", "--all"])
    assert folder.is_dir()


def test_the_command_imports_nothing_heavy(root: Path) -> None:
    folder = make(root, "one")
    code = (
        "import sys; sys.argv = ['lit-ft', *sys.argv[1:]]; from lit_ft.__main__ import entry; entry();"
        "print([name for name in ('torch', 'lightning', 'transformers', 'datasets', 'numpy') if name in sys.modules]);"
        "import gc; assert gc.isenabled()"  # it rests while modules are imported
    )
    run = subprocess.run([sys.executable, "-c", code, "cache", "list"], capture_output=True, text=True, check=True)
    assert folder.name in run.stdout
    assert run.stdout.splitlines()[-1] == "[]"


def test_a_users_error_is_one_line(root: Path) -> None:
    run = subprocess.run([sys.executable, "-m", "lit_ft", "cache", "clear", "x"], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "lit-ft: error: nothing prepared is called 'x' (lit-ft cache list)\n"
