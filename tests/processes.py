"""New processes that need not import everything once more: forked from a server that has done it, once a session.

Each is a process of its own, with its own environment, and ends as any other; only its imports are spared.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy

ROOT = Path(__file__).parent.parent
IMPORTED = ["lit_ft.cli", "lit_ft.datamodules", "lit_ft.modules", "datasets", "peft", "transformers.optimization"]
METHOD = "forkserver"
"""How such processes start, for all that takes a start method."""


def prepare() -> None:
    """Says what the server is to import, before anything starts it."""
    multiprocessing.set_forkserver_preload(IMPORTED)


class Forked(DDPStrategy):
    """DDP on such processes; as with `ddp_spawn`, they have the environment and draw the random numbers of this one.

    A module that has its weights already would share them with both processes: Lightning copies them for `ddp_spawn`.
    """

    def __init__(self) -> None:
        super().__init__(start_method="forkserver")

    def __getstate__(self) -> dict[str, Any]:
        drawn = torch.get_rng_state().tolist()  # a tensor would lie in memory that is gone when it is read
        return {**vars(self), "taken_over": (dict(os.environ), drawn)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        environment, drawn = state.pop("taken_over")
        _set_environment(environment)
        torch.set_rng_state(torch.tensor(drawn, dtype=torch.uint8))
        vars(self).update(state)


def two_processes() -> dict[str, Any]:
    """Options of a Trainer with two of them."""
    return {"devices": 2, "strategy": Forked()}


class Command:
    """A module that is run as `python -m module words...` would.

    Args:
        words: the command line.
        module: its name.
        environment: changes of the environment.
    """

    def __init__(self, *words: str, module: str = "lit_ft", **environment: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.said = Path(self.folder.name, "screen")
        self.said.touch()
        made = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
        self.process = multiprocessing.get_context("forkserver").Process(
            target=_run, args=(self.said, module, words, made, os.getcwd())
        )
        self.process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def status(self) -> int | None:
        """How it ended: the exit status, or less than 0 by a signal."""
        return self.process.exitcode

    def until(self, what: str) -> str:
        """Waits until it says something, and returns what it said so far.

        Raises:
            AssertionError: it ended before.
        """
        while True:
            ended, said = not self.process.is_alive(), self.screen()
            if what in said:
                return said
            assert not ended, said
            time.sleep(0.01)

    def screen(self) -> str:
        """What it said until now."""
        return self.said.read_text(errors="replace")

    def end(self, timeout: float = 300) -> str:
        """Waits for its end, and returns all that it said.

        Raises:
            AssertionError: it took longer than `timeout` seconds; it is killed.
        """
        self.process.join(timeout)
        late = self.process.is_alive()
        if late:
            self.process.kill()
        assert not late, self.screen()
        return self.screen()

    def succeed(self) -> str:
        """Waits for its end, and returns all that it said.

        Raises:
            AssertionError: it failed.
        """
        said = self.end()
        assert self.status == 0, said
        return said

    def signal(self, signum: int) -> None:
        """Sends it a signal."""
        os.kill(self.pid, signum)


def _run(said: Path, module: str, words: tuple[str, ...], environment: dict[str, str], folder: str) -> None:
    with said.open("ab") as screen:
        for stream in (1, 2):
            os.dup2(screen.fileno(), stream)
    _set_environment(environment)
    os.chdir(folder)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _set_environment(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
