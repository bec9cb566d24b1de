"""Ten times as many malformed files as the suite reads."""

import pytest
from hypothesis import given, settings

from tests.data.test_malformed import check, common, malformed


@pytest.mark.soak
@settings(common, max_examples=2000)
@given(malformed())
def test_many_malformed_files(file: tuple[str, bytes]) -> None:
    check(*file)
