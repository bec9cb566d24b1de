"""Every YAML of configs/, killed in the middle and gone on: real rows where LIT_FT_REAL_DATA names a folder of them.

YAMLs that have no fitting rows there, and all of them where the variable is not set, run on rows of our sample data.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.every_config import ENVIRONMENT, names, one

REAL_DATA = os.environ.get("LIT_FT_REAL_DATA")


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """The processes have it from the first one on."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.mark.soak
@pytest.mark.parametrize("name", names(["*"]))
def test_yaml_ends_as_if_never_killed_and_opens_elsewhere(name: str, tmp_path: Path) -> None:
    data = Path(REAL_DATA).resolve() if REAL_DATA else None
    result = one(name, data, tmp_path / "run", fresh=False)
    assert not result["failure"], result["failure"]
    assert result["reload_agrees"]
    assert name.startswith("zero_shot/") or result["resumed_equals_whole"]
