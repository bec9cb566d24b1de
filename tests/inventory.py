"""What is there: each file of the package with its purpose, its lines of code and who imports it.

    python -m tests.inventory [FOLDER ...]

Lines of code are those without docstrings, comments and blank ones; bodies are these without imports and signatures of
functions, which say what is used and which options there are.
"""

import ast
import io
import sys
import tokenize
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.test_house import FILES, ROOT, imported

NO_CODE = (
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    tokenize.ENCODING,
)  # fmt: skip


def code_lines(text: str) -> tuple[int, int]:
    """Counts the lines of a file that are code, and of these the ones in bodies."""
    said: set[int] = set()
    around: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            said |= {*range(node.lineno, (node.end_lineno or node.lineno) + 1)}
        if isinstance(node, ast.Import | ast.ImportFrom):
            around |= {*range(node.lineno, (node.end_lineno or node.lineno) + 1)}
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            around |= {*range(node.lineno, node.body[0].lineno)}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    held = {line for token in tokens if token.type not in NO_CODE for line in range(token.start[0], token.end[0] + 1)}
    return len(held - said), len(held - said - around)


def module_of(path: Path) -> str:
    return ".".join(("lit_ft", *path.relative_to(ROOT).with_suffix("").parts))


def inventory() -> list[tuple[str, int, int, int, str]]:
    """Returns of each file its path, lines of code and of bodies, importers in the package, and purpose."""
    users: dict[str, int] = {}
    for path in FILES:
        for module in imported(path):
            users[module] = users.get(module, 0) + 1
    made = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        purpose = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
        made.append((str(path.relative_to(ROOT)), *code_lines(text), users.get(module_of(path), 0), purpose))
    return made


if __name__ == "__main__":
    table = Table("file", "code", "bodies", "imported by", "purpose")
    for file, code, bodies, importers, purpose in inventory():
        if len(sys.argv) < 2 or file.startswith(tuple(sys.argv[1:])):
            table.add_row(file, str(code), str(bodies), str(importers), purpose)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
