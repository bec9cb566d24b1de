"""Runs that are stopped from outside through the real command: signals, kills, damaged and unwritable checkpoints."""

import csv
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lit_ft import cli
from lit_ft.errors import UserError
from lit_ft.runs import damage, find_checkpoint
from tests.processes import Command
from tests.tiny import SAMPLE


def words(model: str, root: Path, *more: str) -> list[str]:
    """A run of 12 steps with dropout, which saves every other step and validates twice an epoch."""
    return [
        "fit", "--model=TextClassificationModule", "--data=TextClassificationDataModule",
        f"--model.model_name_or_path={model}", "--model.learning_rate=0.003",
        f"--data.train_file={SAMPLE / 'train.csv'}", f"--data.validation_file={SAMPLE / 'validation.csv'}",
        "--data.text_column_names=text", "--data.max_train_samples=46", "--data.max_eval_samples=12",
        "--data.batch_size=8", "--trainer.max_epochs=2", "--trainer.val_check_interval=3",
        f"--trainer.default_root_dir={root}", "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
        "--checkpoint.every_n_train_steps=2", *more,
    ]  # fmt: skip


def start(model: str, root: Path, *more: str) -> Command:
    return Command(*words(model, root, *more), module="tests.slow_steps")


def unstopped(model: str, root: Path, *more: str) -> Callable[[], Path]:
    """Starts a run that goes on beside the tests; who asks where it lies waits for its end."""
    process = start(model, root, *more)

    def ended() -> Path:
        process.succeed()
        return root

    return ended


def left(root: Path) -> tuple[list[dict[str, str]], dict[str, torch.Tensor]]:
    """What a run logged, but for its speed, and its last weights."""
    (run,) = root.glob("version_*")
    with (run / "metrics.csv").open(newline="") as file:
        rows = [
            {name: value for name, value in row.items() if name != "train_tokens/s"} for row in csv.DictReader(file)
        ]
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return rows, checkpoint["state_dict"]


def assert_as_if_never_stopped(root: Path, whole: Callable[[], Path]) -> None:
    (rows, weights), (expected, theirs) = left(root), left(whole())
    assert rows == expected
    assert all(torch.equal(weights[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def whole(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Says where a run lies that nobody stopped."""
    return unstopped(tiny("bert"), tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    ("signum", "when", "status"),
    [
        (signal.SIGTERM, "validation after step 6", 143),
        pytest.param(signal.SIGTERM, "step 5 begins", 143, marks=pytest.mark.soak),
        pytest.param(signal.SIGINT, "step 9 begins", 130, marks=pytest.mark.soak),
    ],
)
def test_a_signal_saves_and_the_run_goes_on(
    tiny: Callable[..., str], tmp_path: Path, whole: Callable[[], Path], signum: int, when: str, status: int
) -> None:
    process = start(tiny("bert"), tmp_path)
    process.until(when)
    process.signal(signum)
    output = process.end()
    assert process.status == status, output
    assert "goes on with --ckpt_path last" in output
    assert "Traceback" not in output
    start(tiny("bert"), tmp_path, "--ckpt_path=auto").succeed()
    assert_as_if_never_stopped(tmp_path, whole)


@pytest.mark.parametrize(
    "when",
    [
        "writes last.ckpt at step 4",
        *(
            pytest.param(when, marks=pytest.mark.soak)
            for when in ("step 3 begins", "validation after step 6", "writes best.ckpt at step 3")
        ),
    ],
)
def test_a_killed_run_goes_on(tiny: Callable[..., str], tmp_path: Path, whole: Callable[[], Path], when: str) -> None:
    process = start(tiny("bert"), tmp_path)
    process.until(when)
    process.signal(signal.SIGKILL)
    process.end()
    start(tiny("bert"), tmp_path, "--ckpt_path=auto").succeed()
    assert_as_if_never_stopped(tmp_path, whole)


def test_auto_begins_where_nothing_was_saved(tiny: Callable[..., str], tmp_path: Path) -> None:
    done = cli.main(words(tiny("bert"), tmp_path, "--ckpt_path=auto", "--trainer.max_steps=2"))
    assert done.trainer.global_step == 2
    assert done.folder == tmp_path / "version_0"


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tiny: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(words(tiny("bert"), tmp_path, "--trainer.max_steps=5"))
    folder = tmp_path / "version_0" / "checkpoints"
    last, before = folder / "last.ckpt", folder / "previous.ckpt"
    assert damage(last) is None
    content = last.read_bytes()
    for broken in (content[: len(content) // 2], content[:-9], b"", content[:90000] + b"\x00\xff" + content[90002:]):
        last.write_bytes(broken)
        assert find_checkpoint("last", tmp_path) == before
        with pytest.raises(UserError, match=r"last.ckpt is damaged \(.*\): take another one"):
            find_checkpoint(str(last), tmp_path)
    done = cli.main(words(tiny("bert"), tmp_path, "--ckpt_path=last", "--trainer.max_steps=5"))
    assert "last.ckpt is damaged" in capsys.readouterr().out
    assert done.trainer.global_step == 5
    for path in folder.iterdir():
        path.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged"):
        find_checkpoint("last", tmp_path)


@pytest.mark.parametrize("option", ["warn", pytest.param("stop", marks=pytest.mark.soak)])
def test_a_full_disk(tiny: Callable[..., str], tmp_path: Path, option: str) -> None:
    process = start(tiny("bert"), tmp_path, f"--checkpoint.on_failure={option}", "--limit_after=step 4 begins")
    output = process.end()
    assert "last.ckpt could not be written: File too large; the one before it stays" in output
    assert "Traceback" not in output
    folder = tmp_path / "version_0" / "checkpoints"
    last = torch.load(folder / "last.ckpt", weights_only=True)["global_step"]
    if option == "stop":
        assert (process.status, last) == (2, 3), output
    else:
        assert (process.status, last) == (0, 12), output
        assert output.count("could not be written") == 2  # after steps 4 and 6
    assert not list(folder.glob(".*"))
