"""Opens a page in Chromium (QtWebEngine), takes a picture, prints its width and what it says on the console.

    python tests/soak/browser.py PAGE WIDTH PICTURE

Works without a screen; needs `pip install PyQt6-WebEngine`, which is no dependency of anything here.
"""

import json
import os
import sys
from pathlib import Path
from typing import ClassVar

os.environ |= {"QT_QPA_PLATFORM": "offscreen", "QTWEBENGINE_DISABLE_SANDBOX": "1"}

from PyQt6.QtCore import QTimer, QUrl
from PyQt6.QtWebEngineCore import QWebEnginePage
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication

HIGHEST, SETTLED = 12_000, 800
"""Pixels of a picture, and milliseconds after which a resized page is drawn."""


class Page(QWebEnginePage):
    """A page that keeps what it says on the console."""

    said: ClassVar[list[str]] = []

    def javaScriptConsoleMessage(self, level: object, message: str, line: int, source: str) -> None:
        """Keeps a message."""
        self.said.append(message)


def main(page: Path, width: int, picture: Path) -> None:
    """Opens the page, resizes the window to all of its height, and saves the picture."""
    app = QApplication(["browser"])
    view = QWebEngineView()
    shown = Page(view)
    view.setPage(shown)
    view.resize(width, 1000)
    view.show()

    def measured(sizes: list[float]) -> None:
        view.resize(width, min(int(sizes[1]) + 20, HIGHEST))

        def saved() -> None:
            view.grab().save(str(picture))
            print(json.dumps({"width": sizes[0], "height": sizes[1], "console": shown.said}))
            app.quit()

        QTimer.singleShot(SETTLED, saved)

    root = "document.documentElement"
    shown.loadFinished.connect(lambda _: shown.runJavaScript(f"[{root}.scrollWidth, {root}.scrollHeight]", measured))
    view.load(QUrl.fromLocalFile(str(page.resolve())))
    app.exec()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
