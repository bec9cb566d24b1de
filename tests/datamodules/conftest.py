"""Data modules of text classification, set up for a stage."""

import pytest

from lit_ft.datamodules import TextClassificationDataModule


@pytest.fixture
def make(tiny):
    def build(stage: str = "fit", **options) -> TextClassificationDataModule:
        data = TextClassificationDataModule(**{"model_name_or_path": tiny("bert"), **options})
        data.setup(stage)
        return data

    return build
