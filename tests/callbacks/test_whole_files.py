"""Whoever kills a run while it writes, the newest checkpoint that was finished is there, whole."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from lit_ft.callbacks.whole_files import WholeFiles
from lit_ft.runs import CHECKPOINTS, CONFIG, find_checkpoint


def write_on_and_on(path: Path, first: int, finished: int) -> None:
    """Writes checkpoints until it is killed; sends the number of each that is finished."""
    files, step = WholeFiles(), first
    while True:
        files.save_checkpoint({"step": step, "weights": torch.full((20_000,), float(step))}, path)
        os.write(finished, step.to_bytes(8, "little"))
        step += 1


@pytest.mark.parametrize("kills", [60, pytest.param(1000, marks=pytest.mark.soak)])
def test_killed_at_any_moment(tmp_path: Path, kills: int) -> None:
    run = tmp_path / "version_0"
    (run / CHECKPOINTS).mkdir(parents=True)
    (run / CONFIG).touch()
    chance, step = random.Random(5), 0
    for _ in range(kills):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                write_on_and_on(run / CHECKPOINTS / "last.ckpt", step, writer)
            finally:
                os._exit(1)
        os.close(writer)
        time.sleep(chance.uniform(0, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read()
        if not any((run / CHECKPOINTS).glob("*.ckpt")):
            assert not said
            continue
        found = torch.load(find_checkpoint("last", tmp_path), weights_only=True)
        newest = int.from_bytes(said[-8:], "little") if said else step - 1
        assert newest <= found["step"] <= newest + 1  # the kill may have come before it was said
        assert bool((found["weights"] == found["step"]).all())
        step = found["step"] + 1
    assert step > kills / 2
