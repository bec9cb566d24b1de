"""The way of each option: from the class that owns it through what it is handed to, read from the code.

    python -m tests.ways

A station is a function or class of lit_ft that is given the option's value, as an argument, in turn; methods of objects
are not followed.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.test_house import FILES, ROOT

WINGS = ("datamodules", "modules", "callbacks")
PASSED_ON = (ast.BoolOp, ast.IfExp, ast.Starred)
"""What a value goes through unchanged."""

Definition = ast.FunctionDef | ast.ClassDef


class Station(NamedTuple):
    """Somebody who is handed an option."""

    file: str
    name: str
    parameter: str


@cache
def read(path: Path) -> tuple[ast.Module, dict[ast.AST, ast.AST], dict[str, tuple[Path, str]]]:
    """A file's code, the parent of each part of it, and where the names that it uses are defined."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    names = {node.name: (path, node.name) for node in tree.body if isinstance(node, Definition)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lit_ft."):
            source = ROOT.joinpath(*str(node.module).split(".")[1:]).with_suffix(".py")
            names |= {alias.asname or alias.name: (source, alias.name) for alias in node.names}
    return tree, parents, names


def definition(path: Path, name: str) -> Definition | None:
    """A function or class of a file."""
    if not path.exists():
        return None
    return next((node for node in read(path)[0].body if isinstance(node, Definition) and node.name == name), None)


def method(kind: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((each for each in kind.body if isinstance(each, ast.FunctionDef) and each.name == name), None)


def parameters(made: Definition) -> list[str]:
    """Names that a function, a class or a dataclass takes, in their order."""
    called = made if isinstance(made, ast.FunctionDef) else method(made, "__init__")
    if called is None:
        assert isinstance(made, ast.ClassDef)
        return [each.target.id for each in made.body if isinstance(each, ast.AnnAssign) and _is_name(each.target)]
    names = [each.arg for each in (*called.args.args, *called.args.kwonlyargs)]
    return names[1:] if isinstance(made, ast.ClassDef) else names


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def stations(path: Path, nodes: Iterable[ast.AST]) -> Iterator[tuple[Path, Definition, Station]]:
    """Who is handed a value at some places of a file."""
    _, parents, names = read(path)
    for node in nodes:
        child, parent, keyword = node, parents.get(node), None
        while isinstance(parent, PASSED_ON):
            child, parent = parent, parents.get(parent)
        if isinstance(parent, ast.keyword):
            child, parent, keyword = parent, parents.get(parent), parent.arg
        if not isinstance(parent, ast.Call) or not isinstance(parent.func, ast.Name):
            continue
        arguments: list[ast.AST] = [*parent.args]
        partial = parent.func.id == "partial" and isinstance(arguments[0], ast.Name)
        called = arguments.pop(0) if partial else parent.func
        assert isinstance(called, ast.Name)
        source, name = names.get(called.id, (path, ""))
        made = definition(source, name)
        if made is None or source.stem == "errors" or (keyword is None and child not in arguments):
            continue
        taken = parameters(made)
        place = arguments.index(child) if keyword is None else -1
        if keyword is not None or place < len(taken):
            given = taken[place] if keyword is None else keyword
            yield source, made, Station(str(source.relative_to(ROOT)), name, given)


def ways(path: Path, nodes: Iterable[ast.AST], before: tuple[Station, ...] = ()) -> Iterator[tuple[Station, ...]]:
    """All that a value goes through, as far as it is handed on."""
    yield before
    for source, made, station in stations(path, nodes):
        if station not in before:
            kept = attributes(made, station.parameter) if isinstance(made, ast.ClassDef) else []
            yield from ways(source, [*named(made, station.parameter), *kept], (*before, station))


def named(scope: ast.AST, name: str) -> list[ast.AST]:
    """Where a part of a file uses a name."""
    return [node for node in ast.walk(scope) if isinstance(node, ast.Name) and node.id == name]


def attributes(kind: ast.ClassDef, name: str) -> list[ast.AST]:
    """Where a class uses an attribute `name`, or `_name`, of itself or of something near."""
    return [
        node
        for node in ast.walk(kind)
        if isinstance(node, ast.Attribute) and node.attr.lstrip("_") == name and _is_name(node.value)
    ]


def longest_ways() -> dict[tuple[str, str], tuple[Station, ...]]:
    """The longest way of each option, by class and name."""
    wings = [path for path in FILES if path.relative_to(ROOT).parts[0] in WINGS]
    chosen: dict[str, dict[Path, list[ast.AST]]] = defaultdict(lambda: defaultdict(list))
    for path in wings:  # hparams["name"]
        for node in ast.walk(read(path)[0]):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                chosen[str(node.slice.value)][path].append(node)
    found = {}
    for path in wings:
        for kind in read(path)[0].body:
            init = method(kind, "__init__") if isinstance(kind, ast.ClassDef) else None
            for name in parameters(kind) if init is not None and isinstance(kind, ast.ClassDef) else ():
                assert init is not None
                of_hparams = (way for each, nodes in chosen[name].items() for way in ways(each, nodes))
                found[kind.name, name] = max([*ways(path, named(init, name)), *of_hparams], key=files)
    return found


def files(way: tuple[Station, ...]) -> int:
    """How many files a way goes through."""
    return len({station.file for station in way})


if __name__ == "__main__":
    table = Table("option", "files", "way")
    for (kind, option), way in sorted(longest_ways().items(), key=lambda each: -files(each[1])):
        said = " -> ".join(f"{station.file}: {station.name}({station.parameter})" for station in way)
        table.add_row(f"{kind}.{option}", str(files(way)), said)
    Console(width=220).print(table)
