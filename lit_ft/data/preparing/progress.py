"""What a person sees while rows are prepared: how far, how fast, how long still."""

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("lit_ft")


class PreparationProgress:
    """A bar with rows/s, MB/s and the time left on a terminal, and one line at the end everywhere.

    Args:
        place: what is prepared.
        rows: how many rows there are.
    """

    def __init__(self, place: str, rows: int) -> None:
        self.place, self.rows, self.done, self.size = place, rows, 0, 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )

    def __enter__(self) -> "PreparationProgress":
        self._since = time.perf_counter()
        if self._bar.console.is_terminal:
            self._bar.start()
            self._task = self._bar.add_task(f"Tokenizing {self.place.rpartition('/')[2]}", total=self.rows, rate="")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()
        if kind is None:
            log.info(f"{self.place}: {self.done:,} rows tokenized, {self._rate()}")

    def advance(self, rows: int, size: int) -> None:
        """Counts rows done, and the bytes of text that they hold."""
        self.done, self.size = self.done + rows, self.size + size
        if self._bar.live.is_started:
            self._bar.update(self._task, completed=self.done, rate=self._rate())

    def _rate(self) -> str:
        seconds = max(time.perf_counter() - self._since, 1e-9)
        return f"{self.done / seconds:,.0f} rows/s, {self.size / seconds / 1e6:.1f} MB/s"
