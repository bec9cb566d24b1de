"""Ten times as many malformed files as the suite reads."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_malformed import FORMATS, check, in_every_run_alike, malformed


@pytest.mark.soak
@pytest.mark.parametrize("kind", FORMATS)
@settings(in_every_run_alike, max_examples=2000 // len(FORMATS))
@given(data=st.data())
def test_many_malformed_files(kind: str, data: st.DataObject) -> None:
    check(*data.draw(malformed(kind)))
