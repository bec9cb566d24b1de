"""`lit-ft`, saying what it does and waiting a little each time, so that a test can stop it there.

`--limit_after=...` lets no file grow from there on, as on a full disk, until step 8 begins. `--fail=RANK:...` raises an
error there in one process.
"""

import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule

from lit_ft.__main__ import entry
from lit_ft.modules.randomness import StepwiseRandomness


def taken(option: str) -> str | None:
    """Takes an option of ours out of the command line; the processes that Lightning starts find it there, too."""
    found = next((word.partition("=")[2] for word in sys.argv if word.startswith(f"{option}=")), None)
    if found is not None:
        os.environ[option] = found
    sys.argv = [word for word in sys.argv if not word.startswith(f"{option}=")]
    return os.environ.get(option)


LIMIT, FAIL = taken("--limit_after"), taken("--fail")


def say(what: str) -> None:
    print(what, flush=True)
    if what == LIMIT:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    if f"{os.environ.get('LOCAL_RANK', '0')}:{what}" == FAIL:
        raise RuntimeError(f"made to fail where {what}")
    if what == "step 8 begins":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    time.sleep(0.1)


def saying(before: Any, what: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        say(what(*args, **kwargs))
        return before(*args, **kwargs)

    return run


def writing(checkpoint: Any, file: Any, *args: Any, **kwargs: Any) -> None:
    name = Path(getattr(file, "name", "")).name.removeprefix(".").removesuffix(".writing")
    file.write(b"PK half of it")
    file.flush()
    say(f"writes {name} at step {checkpoint['global_step']}")
    file.seek(0)
    file.truncate()
    save(checkpoint, file, *args, **kwargs)


save, torch.save = torch.save, writing
validation, LightningModule.on_validation_start = (
    LightningModule.on_validation_start,
    saying(LightningModule.on_validation_start, lambda module: f"validation after step {module.global_step}"),
)
StepwiseRandomness.on_train_batch_start = saying(
    StepwiseRandomness.on_train_batch_start, lambda module, *_: f"step {module.global_step + 1} begins"
)

if __name__ == "__main__":
    entry()
