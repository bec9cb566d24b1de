"""`push_to_hub` against a hub on this machine: what is uploaded, what is refused early, what a failed upload loses."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lit_ft import cli
from lit_ft.callbacks import HFExport
from lit_ft.callbacks.hub import HubRepository
from lit_ft.commands.export import export
from lit_ft.errors import UserError
from tests.local_hub import READER, WRITER, LocalHub, environment, local_hub, use
from tests.tiny import SAMPLE


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with local_hub() as server:
        yield server


@pytest.fixture
def words(tiny: Callable[..., str], tmp_path: Path) -> list[str]:
    """A short fit."""
    return [
        "fit", "--model=TextClassificationModule", "--data=TextClassificationDataModule",
        f"--model.model_name_or_path={tiny('bert')}", f"--data.train_file={SAMPLE / 'train.csv'}",
        f"--data.validation_file={SAMPLE / 'validation.csv'}", "--data.text_column_names=text",
        "--data.max_train_samples=24", "--data.max_eval_samples=12", "--trainer.max_epochs=1",
        f"--trainer.default_root_dir={tmp_path / 'runs'}", "--trainer.enable_progress_bar=false",
    ]  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_fit_pushes_what_it_exported(
    hub: LocalHub, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(hub, monkeypatch)
    cli.main([*words, "--export.push_to_hub=true", "--export.hub_model_id=mine", "--export.hub_private_repo=true"])
    run = tmp_path / "runs" / "version_0"
    assert hub.files("me/mine") == contents(run / "hf")
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= hub.files("me/mine").keys()
    assert hub.repositories["me/mine"]["private"]
    assert f"pushed: {hub.endpoint}/me/mine" in capsys.readouterr().out
    saved = (run / "config.yaml").read_text()
    assert "hub_model_id: mine" in saved
    assert WRITER not in saved


def test_a_failed_upload_loses_nothing(
    hub: LocalHub, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(hub, monkeypatch)
    hub.down = "preupload"
    fitted = cli.main([*words, "--export.push_to_hub=true", "--export.hub_model_id=me/mine"])
    assert fitted.folder is not None
    said = capsys.readouterr().out
    assert "could not be pushed to me/mine: the storage is full; it is whole, push it by: hf upload" in said
    assert (fitted.folder / "report.html").is_file()
    assert hub.files("me/mine") == {}
    folder = fitted.folder / "hf"
    with pytest.raises(UserError, match=r"again could not be pushed to me/mine: the storage is full; it is whole"):
        export(["--ckpt_path", "best", "--default_root_dir", str(tmp_path / "runs"), "--out", str(tmp_path / "again"),
                "--push_to_hub", "--hub_model_id", "me/mine"])  # fmt: skip
    assert contents(tmp_path / "again").keys() == contents(folder).keys()
    hub.down = None
    command = re.search(r"push it by: (hf upload .*)", said)
    assert command is not None
    tool = shutil.which("hf", path=str(Path(sys.executable).parent))
    assert tool is not None
    upload = [tool, *shlex.split(command[1])[1:]]
    subprocess.run(upload, env=environment(hub), check=True, timeout=120, stdout=subprocess.DEVNULL)
    assert hub.files("me/mine") == contents(folder)


@pytest.mark.parametrize(
    ("name", "token", "message"),
    [
        ("me/mine", None, "needs a token that may write: run hf auth login, or set HF_TOKEN"),
        ("me/mine", "hf_wrong", r"says no to me/mine: Invalid username or password \(401\); .*HF_TOKEN"),
        ("you/mine", WRITER, r"says no to you/mine: You have no right to make a model in you \(403\)"),
        ("me/there", READER, r"says no to me/there: This token may not write \(403\)"),
    ],
)
def test_what_the_hub_would_refuse(
    name: str, token: str | None, message: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(hub, monkeypatch, WRITER)
    HubRepository("me/there").open()
    use(hub, monkeypatch, token)
    with pytest.raises(UserError, match=message):
        HubRepository(name).open()
    assert hub.repositories.keys() == {"me/there"}


def test_what_shall_be_private_is_not_pushed_where_all_can_see_it(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(hub, monkeypatch)
    HubRepository("me/public").open()
    HubRepository("me/secret", private=True).open()
    again = HubRepository("me/secret", private=True)
    again.open()
    assert again.is_open
    with pytest.raises(UserError, match=r"hub_private_repo is true, but me/public is there already, and public"):
        HubRepository("me/public", private=True).open()
    (tmp_path / "README.md").write_text("")
    with pytest.raises(UserError, match=r"could not be pushed to me/public: .* public.* \. --private"):
        HubRepository("me/public", private=True).push(tmp_path)
    assert hub.files("me/public") == {}


def test_refused_before_anything_is_trained(words: list[str], tmp_path: Path) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set: unset it, or leave .*: hf upload me/mine FOLDER"):
        cli.main([*words, "--export.push_to_hub=true", "--export.hub_model_id=me/mine"])
    assert not list((tmp_path / "runs").rglob("*.*"))


def test_options_that_contradict() -> None:
    with pytest.raises(UserError, match=r"push_to_hub needs hub_model_id, the repository to push to: namespace/name"):
        HFExport(push_to_hub=True)
    with pytest.raises(UserError, match="hub_model_id: Repo id must be in the form"):
        HFExport(push_to_hub=True, hub_model_id="a/b/c")
    with pytest.raises(UserError, match=r"export.push_to_hub pushes what is exported, but export.enabled is false"):
        HFExport(push_to_hub=True, hub_model_id="me/mine", enabled=False)
    with pytest.raises(UserError, match=r"--hub_model_id, .* need --push_to_hub"):
        export(["--ckpt_path", "best", "--out", "somewhere", "--hub_model_id", "me/mine"])


def test_a_hub_that_does_not_answer_is_asked_again(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(hub, monkeypatch)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    hub.down, hub.status = "create", 503
    repository = HubRepository("me/mine", revision="tried")
    repository.open()
    assert hub.repositories == {}
    hub.down = None
    repository.push(tmp_path)
    assert hub.files("me/mine", "tried") == contents(tmp_path)
    assert hub.files("me/mine") == {}


def test_adapters_alone_and_merged(
    hub: LocalHub, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    run = cli.main([*words, "--export.enabled=false", "--model.peft={peft_type: LORA, r: 2}"]).folder
    assert run is not None
    use(hub, monkeypatch)
    for name, more in {"adapter": [], "merged": ["--merge"]}.items():
        push = ["--push_to_hub", "--hub_model_id", f"me/{name}"]
        folder = export(["--ckpt_path", str(run), "--out", str(tmp_path / name), *push, *more])
        assert hub.files(f"me/{name}") == contents(folder)
    assert "adapter_model.safetensors" in hub.files("me/adapter")
    assert "model.safetensors" not in hub.files("me/adapter")
    assert "model.safetensors" in hub.files("me/merged")
    assert b"library_name: peft" in hub.files("me/adapter")["README.md"]
