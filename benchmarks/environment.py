"""Where a benchmark ran: versions, commit and hardware, as plain JSON."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "lightning", "transformers", "datasets", "tokenizers", "accelerate", "pyarrow", "numpy")
VARIABLES = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM", "CUDA_VISIBLE_DEVICES")


def environment() -> dict[str, Any]:
    """Returns versions, hardware, threads and the load at this moment."""
    import lit_ft

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "lit_ft": lit_ft.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "system": platform.platform(),
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        **_torch(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Returns the commit, with `+changes` where the tree differs from it; `None` outside a repository."""
    here = Path(__file__).parent
    try:
        done = [
            subprocess.run(["git", *command], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return done[0] + ("+changes" if done[1] else "")


def _field(file: str, name: str) -> str | None:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)


def _torch() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {"threads": torch.get_num_threads(), "gpus": gpus}
