"""Features -> rows: the parts of a row are handed on together when its last window has come."""

from typing import Any

from lit_ft.data.samplers import FILLER

Part = dict[str, Any]


class RowMerger:
    """Collects the parts of each row over the batches of one evaluation set.

    Rows that a batch limit cuts open never come out; fillers are dropped.
    """

    def __init__(self) -> None:
        self._open: dict[int, list[Part]] = {}

    def add(self, parts: list[Part], batch: dict[str, Any]) -> list[tuple[list[Part], dict[str, Any]]]:
        """Takes one part per feature of a batch and returns the rows now complete, each with its parts and `info`.

        A batch without `row` and `windows` (somebody else's loader) has one feature a row.
        """
        info = batch.get("info") or [{}] * len(parts)
        if "row" not in batch:
            return [([part], {}) for part in parts]
        complete = []
        for part, row, windows, columns in zip(
            parts, batch["row"].tolist(), batch["windows"].tolist(), info, strict=True
        ):
            if row == FILLER:
                continue
            collected = self._open.setdefault(row, [])
            collected.append(part)
            if len(collected) == windows:
                complete.append((self._open.pop(row), columns))
        return complete
