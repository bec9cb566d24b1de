"""Two processes on one machine through the real command: one that dies takes the other along; both go on exactly."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.processes import Command
from tests.test_interrupted_runs import assert_as_if_never_stopped, left, start, unstopped, words

TWO = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu", "--data.batch_size=4"]

ONE = ["--trainer.devices=1", "--trainer.strategy=auto", "--trainer.max_steps=-1"]


@pytest.fixture(scope="module")
def whole(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Says where a run of two processes lies that nobody stopped."""
    return unstopped(tiny("bert"), tmp_path_factory.mktemp("whole"), *TWO)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_end(process: Command, pids: list[int]) -> str:
    """Waits until all are gone; nobody hangs in a reduction that the other will never come to."""
    process.end(30)
    until = time.monotonic() + 30
    while time.monotonic() < until and any(map(lives, pids)):
        time.sleep(0.1)
    assert not [pid for pid in pids if lives(pid)]
    return process.screen()


def read_until(process: subprocess.Popen[str], what: str) -> str:
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if what in line:
            return said
    raise AssertionError(said)


def test_one_is_killed_both_end_and_go_on(tiny: Callable[..., str], tmp_path: Path, whole: Callable[[], Path]) -> None:
    process = start(tiny("bert"), tmp_path, *TWO)
    process.until("step 5 begins")
    (other,) = children(process.pid)
    os.kill(other, signal.SIGKILL)
    wait_for_end(process, [process.pid, other])
    assert process.status != 0
    start(tiny("bert"), tmp_path, *TWO, "--ckpt_path=auto").succeed()
    assert_as_if_never_stopped(tmp_path, whole)


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.soak), 1])
def test_an_error_of_one_is_shown_and_ends_both(tiny: Callable[..., str], tmp_path: Path, rank: int) -> None:
    process = start(tiny("bert"), tmp_path, *TWO, f"--fail={rank}:step 3 begins")
    process.until("step 2 begins")
    said = wait_for_end(process, [process.pid, *children(process.pid)])
    assert process.status != 0
    assert "made to fail where step 3 begins" in said


@pytest.mark.soak
def test_sigterm_to_one_saves_and_ends_both(tiny: Callable[..., str], tmp_path: Path) -> None:
    process = start(tiny("bert"), tmp_path, *TWO)
    process.until("step 5 begins")
    pids = [process.pid, *children(process.pid)]
    process.signal(signal.SIGTERM)
    wait_for_end(process, pids)
    assert process.status == 143
    assert torch.load(tmp_path / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] >= 5


@pytest.mark.soak
def test_one_goes_on_where_two_stopped(tiny: Callable[..., str], tmp_path: Path, whole: Callable[[], Path]) -> None:
    constant = "--model.lr_scheduler_type=constant"
    start(tiny("bert"), tmp_path, *TWO, "--trainer.max_steps=4", constant).succeed()
    output = start(tiny("bert"), tmp_path, "--ckpt_path=last", constant, *ONE, "--data.batch_size=8").succeed()
    assert "processes 2, now 1; batch_size 4, now 8: goes on in epoch 0 after its first 32 rows" in output
    (rows, _), (expected, _) = left(tmp_path), left(whole())
    assert [row["step"] for row in rows if row["train_loss"]] == [row["step"] for row in expected if row["train_loss"]]


@pytest.mark.soak
def test_torchrun_starts_both_machines_again(
    tiny: Callable[..., str], tmp_path: Path, whole: Callable[[], Path]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spread = ["--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=1",
        "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=two", "-m", "tests.slow_steps",
        *words(tiny("bert"), tmp_path), *spread, "--data.batch_size=4", "--ckpt_path=auto",
    ]  # fmt: skip
    home = str(Path(__file__).parent.parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": home, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    agents = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    said = read_until(agents[0], "step 5 begins")
    (worker,) = children(agents[1].pid)
    os.kill(worker, signal.SIGKILL)
    said += agents[0].communicate(timeout=300)[0] + agents[1].communicate(timeout=300)[0]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert_as_if_never_stopped(tmp_path, whole)
