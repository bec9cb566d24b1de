"""Features -> rows: the parts of a row are handed on together when its last window has come, in input order."""

from typing import Any, NamedTuple

from lit_ft.data.ordering.samplers import FILLER

Part = dict[str, Any]


class Row(NamedTuple):
    """A row whose windows have all come.

    Attributes:
        parts: one per window.
        info: its own columns, where they are handed along.
        number: of the row in its set; -1 = nobody says.
        at: place of its last window in the batch that it came in.
    """

    parts: list[Part]
    info: dict[str, Any]
    number: int = -1
    at: int = -1


class RowMerger:
    """Collects the parts of each row over the batches of one evaluation set.

    Rows that a batch limit cuts open never come out; fillers are dropped. The windows of a row must come in their
    order, as our samplers give them.
    """

    def __init__(self) -> None:
        self._open: dict[int, list[Part]] = {}
        self._waiting: dict[int, Row] = {}

    def add(self, parts: list[Part], batch: dict[str, Any]) -> list[Row]:
        """Takes one part per feature of a batch and returns rows that are complete.

        A batch with `settled` is one of rows sorted by length: its rows wait until all before them have come, and leave
        in input order. Without it (scoring, where no order counts, or input order anyway) they leave at once. A batch
        without `row` and `windows` (somebody else's loader) has one feature a row.
        """
        info = batch.get("info") or [{}] * len(parts)
        if "row" not in batch:
            return [Row([part], {}, at=at) for at, part in enumerate(parts)]
        complete: dict[int, Row] = {}
        each = zip(parts, batch["row"].tolist(), batch["windows"].tolist(), info, strict=True)
        for at, (part, row, windows, columns) in enumerate(each):
            if row == FILLER:
                continue
            collected = self._open.setdefault(row, [])
            collected.append(part)
            if len(collected) == windows:
                complete[row] = Row(self._open.pop(row), columns, row, at)
        if "settled" not in batch:
            return list(complete.values())
        self._waiting |= complete
        if not batch["settled"]:
            return []
        return [self._waiting.pop(row) for row in sorted(self._waiting) if row < batch["settled"]]
