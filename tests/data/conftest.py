"""Streams in small pieces: a few rows come to an end of each."""

import pytest

from lit_ft.data.streaming import streams


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHUNK", 7)
    monkeypatch.setattr("lit_ft.data.streaming.batches.ROWS_AT_ONCE", 6)
