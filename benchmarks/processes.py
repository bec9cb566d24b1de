"""A function in a process of its own, and the memory that it took (Linux: /proc)."""

import multiprocessing
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")
INTERVAL = 0.01
"""Seconds between two looks at a process's memory."""


@dataclass(frozen=True)
class Memory:
    """Peak memory of a process, in MB (10^6 bytes).

    Attributes:
        rss: everything resident in the process itself, pages of mapped files included, as the kernel counted it
            (VmHWM).
        anonymous: what the process holds for itself (RssAnon), the processes it started included; looked at every
            10 ms from outside. Pages of mapped files, which the kernel drops when it needs the room, are not in it.
    """

    rss: float
    anonymous: float


def in_own_process(
    function: Callable[..., Result], *arguments: Any, start_method: str = "spawn"
) -> tuple[Result, Memory]:
    """Calls a function in a new process, which by default imports everything anew.

    Raises:
        RuntimeError: the function failed, with its traceback, or the process died.
    """
    context: Any = multiprocessing.get_context(start_method)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, arguments))
    process.start()
    sender.close()  # so that the end of the process is seen here
    peak = 0.0
    while not receiver.poll(INTERVAL):
        peak = max(peak, sum(status(each, "RssAnon") for each in family(process.pid)))
    try:
        failure, result, rss = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the process of {function.__name__} died with exit code {process.exitcode}") from None
    process.join()
    if failure:
        raise RuntimeError(f"{function.__name__} failed in its process:\n{failure}")
    return result, Memory(rss, peak)


def status(process: int | str, name: str) -> float:
    """Returns one field of `/proc/<process>/status`, in MB; 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:")), 0.0)


def family(process: int) -> list[int]:
    """Returns a process and all that it started, directly or not."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")]
    except OSError:
        return [process]
    return [process, *(each for children in lists for child in children.split() for each in family(int(child)))]


def _call(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        result = function(*arguments)
    except BaseException:
        sender.send((traceback.format_exc(), None, 0.0))
    else:
        sender.send(("", result, status("self", "VmHWM")))
