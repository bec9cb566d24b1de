"""The marks of a set's rows on disk: several processes write them, and what reads them maps them."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from lit_ft.data.features.ragged import Array
from lit_ft.data.quality.marks import RowMarks

COLUMNS = {"exact": np.uint64, "normal": np.uint64, "label": np.uint64, "flags": np.uint16, "tokens_cut": np.int32}


class MarkWriter:
    """Writes marks into a folder; several can write different rows of one set at the same time.

    Args:
        folder: the folder; it is made where there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> "MarkWriter":
        self.folder.mkdir(exist_ok=True)
        with ExitStack() as stack:
            self._files = {}
            for name in COLUMNS:
                (self.folder / name).touch()
                # written, not mapped: a full disk is an error then, and not the end of the process
                self._files[name] = stack.enter_context((self.folder / name).open("r+b"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def write(self, start: int, marks: RowMarks, tokens_cut: Array) -> None:
        """Puts the marks of a batch, and the tokens that its rows lose, where they belong.

        Args:
            start: number of the first row in the set.
            marks: the marks.
            tokens_cut: lost tokens `[rows]`.
        """
        for name, file in self._files.items():
            column = np.asarray(tokens_cut if name == "tokens_cut" else getattr(marks, name), COLUMNS[name])
            file.seek(start * column.itemsize)
            file.write(column.tobytes())


def mapped(folder: Path, own: tuple[str, ...] = ()) -> tuple[RowMarks, Array]:
    """Maps what was written: the rows' marks, and the tokens that each row lost `[rows]`.

    Args:
        folder: where it lies.
        own: kinds of the task's own.
    """
    columns = {
        # an empty file cannot be mapped
        name: np.asarray(np.memmap(folder / name, kind, "r")) if (folder / name).stat().st_size else np.zeros(0, kind)
        for name, kind in COLUMNS.items()
    }
    tokens_cut = columns.pop("tokens_cut")
    return RowMarks(**columns, own=own), tokens_cut
