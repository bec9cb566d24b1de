"""What loader processes do beside loading: their seeds, and that none outlives the run."""

import multiprocessing
import os
import threading

from lightning.fabric.utilities.seed import pl_worker_init_function


def begin_loading(worker: int, rank: int = 0) -> None:
    """Begins a loader process.

    Args:
        worker: its number.
        rank: of the run's process that it loads for.
    """
    if int(os.environ.get("PL_SEED_WORKERS", 0)):  # Lightning would, if there were no function of ours
        pl_worker_init_function(worker, rank)
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    """Waits for the end of the process that wanted batches, as when it is killed.

    torch looks whether the parent is another one now; with `forkserver` that is the server, which stays for as long as
    the processes that it made do: they would wait for each other without end.
    """
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(1)
