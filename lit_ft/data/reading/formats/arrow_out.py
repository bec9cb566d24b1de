"""Writing chunks of rows to an Arrow stream on disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from lit_ft.errors import UserError


class ArrowOut:
    """A stream file that is open for writing; every chunk has its schema."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        with disk_errors(path.parent):
            self._file = pa.OSFile(str(path), "wb")
            self._writer = pa.ipc.new_stream(self._file, schema)

    def write(self, table: pa.Table) -> None:
        """Appends rows.

        Raises:
            UserError: the disk is full.
        """
        with disk_errors(self.path.parent):
            self._writer.write_table(table)

    def close(self) -> None:
        """Ends the stream; reading needs it."""
        with disk_errors(self.path.parent), self._file:
            self._writer.close()


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns an error of the disk that is written to into the user's.

    Raises:
        UserError: names the folder and the option that moves it.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: the rows cannot be written here ({error.strerror or error}); make room, or set preparation_dir "
            "to a folder with more"
        ) from None
