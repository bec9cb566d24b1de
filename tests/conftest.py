"""Shared fixtures: tiny real models with tokenizers trained on our sample data; nothing outside tmp, no hub."""

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from lit_ft.callbacks import evaluation_record, progress
from tests import processes
from tests.tiny import SAMPLE, make_tiny_model

processes.prepare()
gc.disable()  # until all tests are imported: what stays is no garbage, and to look there is a twentieth of the suite


def pytest_collection_finish() -> None:
    """Garbage is looked for again, in what the tests make."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_FT_CACHE", str(tmp_path / "prepared"))
    monkeypatch.setattr("sys.argv", ["lit-ft"])
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)  # a test's own seed_everything would outlive it


@pytest.fixture(autouse=True)
def _own_port() -> Iterator[None]:
    """Lightning leaves the port where two processes met in the environment: all that follow would meet there, too."""
    yield
    os.environ.pop("MASTER_PORT", None)


@pytest.fixture(autouse=True)
def _few_samples(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations draw next to no samples for their intervals, where these are not what is tested."""
    if request.node.get_closest_marker("intervals") is None:
        monkeypatch.setattr(evaluation_record, "DRAWS", 8)
        monkeypatch.setattr(evaluation_record, "LEAST", 8)


@pytest.fixture(autouse=True)
def _bars_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning waits for the time between two drawings of the bar at the end of each command."""
    monkeypatch.setattr(progress, "PER_SECOND", 100)


@pytest.fixture(autouse=True, scope="session")
def _two_processes_share_two_cores() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """`tiny("bert")` returns the folder of a tiny model of that architecture, made once per session."""
    made: dict[str, str] = {}

    def make(model_type: str = "bert") -> str:
        if model_type not in made:
            made[model_type] = make_tiny_model(model_type, tmp_path_factory.mktemp(model_type))
        return made[model_type]

    return make


@pytest.fixture
def sample() -> Path:
    """Folder of the sample data that ships with the package."""
    return SAMPLE


@pytest.fixture
def free_port() -> int:
    """Where a process group meets."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
