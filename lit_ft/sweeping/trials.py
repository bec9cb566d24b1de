"""Trials as processes: each is `lit-ft fit` with a folder, a log and devices of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lit_ft.sweeping.study import TRIAL

LOG = "log.txt"
SHOWN = 5
"""Lines of its log that are shown of a trial that failed."""


@dataclass(frozen=True)
class Process:
    """A trial that runs."""

    number: int
    slot: int
    handle: subprocess.Popen[bytes]


class Processes:
    """Runs at most so many trials at a time.

    They are sessions of their own, so that Ctrl-C reaches the sweep alone.

    Args:
        jobs: how many.
        held: descriptor of the folder's lock, which they hold, too: a sweep that was killed leaves them for a moment.
    """

    def __init__(self, jobs: int, held: int) -> None:
        self.jobs, self.held = jobs, held
        self.running: list[Process] = []

    @property
    def free(self) -> bool:
        """Whether one more may start."""
        return len(self.running) < self.jobs

    def start(self, number: int, folder: Path, words: Sequence[str]) -> None:
        """Starts a trial; its log goes on where there is one."""
        slot = min({*range(self.jobs)} - {each.slot for each in self.running})
        environment = {**os.environ, TRIAL: f"{os.getpid()}:{number}", **share(slot, self.jobs)}
        with (folder / LOG).open("ab") as log:
            handle = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "lit_ft", "fit", *words], env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, pass_fds=[self.held],
            )  # fmt: skip
        self.running.append(Process(number, slot, handle))

    def ended(self) -> list[tuple[int, int]]:
        """Returns number and exit status of those that have ended since."""
        done = [each for each in self.running if each.handle.poll() is not None]
        self.running = [each for each in self.running if each not in done]
        return [(each.number, each.handle.returncode) for each in done]

    def stop(self) -> None:
        """Asks all to save and end; once more: to end at once."""
        for each in self.running:
            each.handle.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Waits until all have ended."""
        for each in self.running:
            each.handle.wait()


def share(slot: int, jobs: int) -> dict[str, str]:
    """Returns the variables by which a trial gets its share of GPUs and of the processor's threads.

    Args:
        slot: its place among those that run, from 0.
        jobs: how many run at a time.
    """
    if jobs == 1:
        return {}
    threads = max(1, torch.get_num_threads() // jobs)
    shared = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}
    count = torch.cuda.device_count()
    if count:
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = given.split(",")[:count] if given else [str(number) for number in range(count)]
        shared["CUDA_VISIBLE_DEVICES"] = ",".join(names[slot::jobs] or [names[slot % count]])
    return shared


def last_lines(folder: Path) -> list[str]:
    """Returns the end of a trial's log."""
    text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return lines[-SHOWN:]
