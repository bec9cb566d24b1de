"""The documentation: it builds without a warning, loads nothing from elsewhere, and has every public name."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import lit_ft
import lit_ft.callbacks

ROOT = Path(__file__).parents[1]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""Attributes whose addresses a browser fetches by itself."""


class Loads(HTMLParser):
    """Collects what a page loads, its anchors, and the classes of its elements."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.classes: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.add(given.get("id", ""))
        self.classes |= set(given.get("class", "").split())
        if tag in LOADED and LOADED[tag] in given:
            self.addresses.append(given[LOADED[tag]])


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(build, cwd=ROOT, env=env, check=False, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    pages = {page: Loads(page) for page in tmp_path.rglob("*.html")}
    assert {path.with_suffix(".html").name for path in (ROOT / "docs").rglob("*.md")} <= {page.name for page in pages}
    for page, loads in pages.items():
        assert loads.addresses, page
        assert not [address for address in loads.addresses if re.match(r"(https?:)?//", address)], page
        assert "mermaid" not in loads.classes, f"{page}: the theme would fetch mermaid"
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet
    ids = {each for loads in pages.values() for each in loads.ids}
    assert {f"lit_ft.{name}" for name in lit_ft.__all__} - ids == {"lit_ft.__version__"}
    assert {f"lit_ft.callbacks.{name}" for name in lit_ft.callbacks.__all__} <= ids
