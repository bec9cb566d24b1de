"""Faults of the machine in the middle of a run, through the real command: each has a clear end, or none at all."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback
from torch.utils.data import get_worker_info

from lit_ft import TextClassificationDataModule, TextClassificationModule, cli
from lit_ft.errors import UserError
from lit_ft.runs import find_checkpoint
from tests.processes import Command
from tests.tiny import SAMPLE


class Hungry(TextClassificationModule):
    """Asks for more memory than any machine has, in its third step or in validation."""

    asks_in_validation = False

    def outputs(self, batch: Any) -> Any:
        if self.asks_in_validation != self.training and self.global_step >= 2:
            torch.empty(1 << 60)
        return super().outputs(batch)


class HungryInValidation(Hungry):
    asks_in_validation = True


class Dying(TextClassificationDataModule):
    """Its loader process is killed, as the system does for want of memory."""

    def collate(self, features: Any, split: Any, keys: Any) -> Any:
        if get_worker_info() is not None and split == "train" and features[0]["input_ids"].size:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().collate(features, split, keys)


class Noting(TextClassificationDataModule):
    """Its loader processes write down who they are."""

    def collate(self, features: Any, split: Any, keys: Any) -> Any:
        if get_worker_info() is not None:
            Path(os.environ["NOTED"], str(os.getpid())).touch()
        return super().collate(features, split, keys)


class At(Callback):
    """Does something before a step."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self.step, self.act = step, act

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.act()


def words(model: str, root: Path, *more: str) -> list[str]:
    return [
        "fit", "--model=TextClassificationModule", "--data=TextClassificationDataModule",
        f"--model.model_name_or_path={model}", f"--data.train_file={SAMPLE / 'train.csv'}",
        f"--data.validation_file={SAMPLE / 'validation.csv'}", "--data.text_column_names=text",
        "--data.max_train_samples=40", "--data.max_eval_samples=12", "--data.batch_size=8", "--trainer.max_epochs=2",
        f"--trainer.default_root_dir={root}", "--trainer.enable_progress_bar=false",
        "--checkpoint.every_n_train_steps=1",
        f"--data.preparation_dir={root / 'prepared'}", "--export.enabled=false", *more,
    ]  # fmt: skip


def test_out_of_memory_says_what_to_lower(tiny: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        cli.main(words(tiny("bert"), tmp_path, f"--model={__name__}.Hungry"))
    message = str(caught.value)
    for part in ("out of memory on a batch of 8 rows padded to ", "its longest row has ", "lower data.batch_size (with "
                 "trainer.accumulate_grad_batches", "model.gradient_checkpointing", "allocate memory"):  # fmt: skip
        assert part in message
    with pytest.raises(UserError, match=r"lower data\.eval_batch_size \("):
        cli.main(words(tiny("bert"), tmp_path, f"--model={__name__}.HungryInValidation", "--data.eval_batch_size=4"))


def test_a_killed_loader_process_is_named(tiny: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"DataLoader worker \(pid\(?s?\)? ?\d+\) was killed: .*Lower data.num_workers"):
        cli.main(words(tiny("bert"), tmp_path, f"--data={__name__}.Dying", "--data.num_workers=1"))


def lives(process: str) -> bool:
    stat = Path("/proc", process, "stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("kind", ["forkserver", pytest.param("fork", marks=pytest.mark.soak)])
def test_loader_processes_end_with_a_killed_run(tiny: Callable[..., str], tmp_path: Path, kind: str) -> None:
    noted = tmp_path / "noted"
    noted.mkdir()
    loading = [f"--data={__name__}.Noting", "--data.num_workers=1", f"--data.multiprocessing_context={kind}"]
    process = Command(*words(tiny("bert"), tmp_path, *loading, "--trainer.max_epochs=9999"), NOTED=str(noted))
    while not any(noted.iterdir()):
        assert process.status is None
        time.sleep(0.1)
    process.signal(signal.SIGKILL)
    process.end()
    for _ in range(300):
        if not any(lives(path.name) for path in noted.iterdir()):
            return
        time.sleep(0.1)
    for path in noted.iterdir():
        os.kill(int(path.name), signal.SIGKILL)
    pytest.fail("a loader process of a killed run is still there after 30 s")


def test_other_errors_keep_their_traceback(tiny: Callable[..., str], tmp_path: Path) -> None:
    class Cli(cli.LitFtCLI):
        def instantiate_trainer(self, **kwargs: Any) -> Any:
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks.append(At(1, lambda: [][0]))
            return trainer

    with pytest.raises(IndexError):
        Cli(words(tiny("bert"), tmp_path))


def test_a_cache_deleted_in_mid_run_is_not_missed(
    tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cli(cli.LitFtCLI):
        def instantiate_trainer(self, **kwargs: Any) -> Any:
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks.append(At(3, lambda: shutil.rmtree(tmp_path / "prepared")))
            return trainer

    whole = cli.main(words(tiny("bert"), tmp_path))
    robbed = Cli(words(tiny("bert"), tmp_path))
    assert not (tmp_path / "prepared").exists()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, robbed.model.state_dict()[name]), name
    again = cli.main(words(tiny("bert"), tmp_path, "--ckpt_path=last", "--trainer.max_epochs=3"))
    assert again.trainer.global_step == 15


def test_rows_that_changed_since_the_checkpoint_are_said(
    tiny: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_csv(SAMPLE / "train.csv")
    file = tmp_path / "train.csv"
    rows.to_csv(file, index=False)
    mine = [f"--data.train_file={file}"]
    cli.main(words(tiny("bert"), tmp_path, *mine, "--trainer.max_steps=3"))
    cli.main(words(tiny("bert"), tmp_path, *mine, "--trainer.max_steps=4", "--ckpt_path=last"))
    assert "a file has changed?" not in capsys.readouterr().out
    rows.text = rows.text.str.upper()
    rows.to_csv(file, index=False)
    cli.main(words(tiny("bert"), tmp_path, *mine, "--trainer.max_steps=5", "--ckpt_path=last"))
    assert "the training rows are others than the checkpoint's (a file has changed?)" in capsys.readouterr().out


def test_a_clock_that_is_set_back_changes_nothing(
    tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_back() -> None:
        for file in tmp_path.rglob("*"):
            os.utime(file, (2e9, 2e9))  # what was written so far is of the future now
        monkeypatch.setattr("time.time", lambda: 0.0)

    class Cli(cli.LitFtCLI):
        def instantiate_trainer(self, **kwargs: Any) -> Any:
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks.append(At(7, set_back))
            return trainer

    whole = cli.main(words(tiny("bert"), tmp_path / "whole"))
    Cli(words(tiny("bert"), tmp_path))
    monkeypatch.undo()
    (last := tmp_path / "version_0/checkpoints/last.ckpt").write_bytes(b"damaged")
    assert torch.load(find_checkpoint("last", tmp_path), weights_only=True)["global_step"] == 9, last
    again = cli.main(words(tiny("bert"), tmp_path, "--ckpt_path=last"))
    assert again.trainer.global_step == 10
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_tokens_are_written_nowhere(
    tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "hf_" + "S3cret" * 6
    monkeypatch.setenv("HF_TOKEN", secret)
    cli.main(words(tiny("bert"), tmp_path, "--trainer.max_steps=2", "--export.enabled=true"))
    assert secret not in "".join(capfd.readouterr())
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"config.yaml", "README.md", "last.ckpt"} <= {file.name for file in files}
    assert not [file for file in files if secret.encode() in file.read_bytes()]
    with pytest.raises(UserError, match=r"tokenizer_kwargs holds 'token', .*set HF_TOKEN in the environment"):
        cli.main(words(tiny("bert"), tmp_path, "--data.tokenizer_kwargs={token: abc}"))


@pytest.mark.parametrize("option", ["data.preparation_dir", "trainer.default_root_dir"])
def test_folders_that_take_no_files(tiny: Callable[..., str], tmp_path: Path, option: str) -> None:
    with pytest.raises(UserError, match=f"{option}|/proc/nothing"):
        cli.main(words(tiny("bert"), tmp_path, f"--{option}=/proc/nothing"))


def test_weights_that_are_pickles_need_leave(tiny: Callable[..., str], tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny("bert"), tmp_path / "source"))
    model = TextClassificationModule(model_name_or_path=str(source), label_names=["a", "b"]).build()
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model.safetensors.*use_safetensors: false"):
        TextClassificationModule(model_name_or_path=str(source), label_names=["a", "b"]).build()
    allowed = TextClassificationModule(model_name_or_path=str(source), label_names=["a", "b"], use_safetensors=False)
    built = allowed.build().state_dict()
    assert all(torch.equal(built[name], value) for name, value in model.state_dict().items())
    torch.save({"x": Pickled()}, source / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"(?i)weights.only"):
        TextClassificationModule(model_name_or_path=str(source), label_names=["a", "b"], use_safetensors=False).build()
    assert not (tmp_path / "ran").exists()


def test_yaml_makes_no_python_objects(tiny: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text(f"data:\n  init_args:\n    quoting: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n")
    with pytest.raises(UserError, match=r"evil\.yaml, line 3, column 14: could not determine a constructor"):
        cli.main([*words(tiny("bert"), tmp_path), f"--config={path}"])
    assert not (tmp_path / "ran").exists()


class Pickled:
    """What a pickle could do."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)
