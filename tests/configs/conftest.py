"""Runs of YAMLs draw as few samples for their intervals as say something: the intervals have tests of their own."""

import pytest

from lit_ft.callbacks import evaluation_record


@pytest.fixture(autouse=True)
def _few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_record, "DRAWS", evaluation_record.LEAST)
