"""Rows to predict from standard input: `lit-ft predict --data.predict_file -`."""

import atexit
import shutil
import sys
import tempfile
from pathlib import Path

from lit_ft.errors import UserError

NAME = "-"


def saved_input() -> str:
    """Writes what comes on standard input to a file that lives as long as this process: a text a line, or JSON lines.

    Returns:
        The file's path.

    Raises:
        UserError: nothing comes.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError("predict_file is -, but nothing is piped in: echo 'a text' | lit-ft predict ...")
    text = sys.stdin.buffer.read()
    if not text.strip():
        raise UserError("predict_file is -, and standard input is empty")
    folder = Path(tempfile.mkdtemp(prefix="lit_ft_input_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / ("stdin.jsonl" if text.lstrip()[:1] == b"{" else "stdin.txt")
    path.write_bytes(text)
    return str(path)
