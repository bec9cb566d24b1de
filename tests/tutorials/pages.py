"""A tutorial's fenced blocks in their order: files to write, commands to type, Python to run, and what is only shown.

A block with a title is a file. `sh` and `python` without one are run, unless the line above is `<!-- not run: why -->`.
Blocks of any other language are shown.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PAGES = Path(__file__).parents[2] / "docs" / "tutorials"
FENCE = re.compile(
    r'^(?P<skip><!-- not run: [^\n]+ -->\n)?```(?P<language>\w+)(?: title="(?P<title>[^"\n]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
QUOTED = re.compile(r"`(?P<metric>(?:val|test)_\w+)` (?:is|of|ends at) about (?P<value>-?\d+(?:\.\d+)?)")
"""How figures of a full run are quoted, so that they can be checked."""
LEFT = re.compile(r"`(runs/version_\d+/[\w/.]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        kind: what is done with it.
        text: what stands in it.
        title: name of the file that it is.
        line: where it begins.
    """

    kind: Literal["file", "sh", "python", "shown"]
    text: str
    title: str | None
    line: int


def blocks(page: str) -> list[Block]:
    """The blocks of a page.

    Raises:
        ValueError: a fence that is written in another way would pass unnoticed.
    """
    found = [_block(match, page) for match in FENCE.finditer(page)]
    if 2 * len(found) != len(re.findall("^```", page, re.MULTILINE)):
        raise ValueError("a fence has no language, is indented, or has something else beside a title")
    return found


def _block(match: re.Match[str], page: str) -> Block:
    language, title = match["language"], match["title"]
    runs = language in ("sh", "python") and match["skip"] is None
    kind = "file" if title else language if runs else "shown"
    return Block(kind, match["text"], title, page[: match.start()].count("\n") + 1)  # type: ignore[arg-type]


def quoted(page: str) -> list[tuple[str, float]]:
    """The metrics that a page quotes, with their values."""
    return [(match["metric"], float(match["value"])) for match in QUOTED.finditer(page)]


def left(page: str) -> set[str]:
    """What a page says that lies in the folders of its runs."""
    return set(LEFT.findall(page))
