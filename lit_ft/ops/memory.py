"""Memory that a training step frees is there for the next one, instead of going back to the system in between.

glibc maps every block above 32 MB anew and unmaps it when it is freed. An embedding's gradient is such a block: the
system clears it page by page in every step, which takes longer than all else that backward does there.
"""

import ctypes
import os
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Numbers of `mallopt`'s parameters, from malloc.h."""
OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Lets this process keep what it frees on the CPU; does nothing without glibc, or where the user has set it up.

    Peak memory stays what it is, but between peaks other processes do not get it.
    """
    if (library := _glibc()) is not None:
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, -1)


def give_back_memory() -> None:
    """Ends `keep_freed_memory`, and hands over what has been kept; without it, does no harm."""
    if (library := _glibc()) is not None:
        library.mallopt(MMAP_MAX, 65536)
        # glibc moves these up to here by itself, but no longer once they have been set
        library.mallopt(MMAP_THRESHOLD, 32 << 20)
        library.mallopt(TRIM_THRESHOLD, 64 << 20)
        library.malloc_trim(0)


def _glibc() -> Any | None:
    if any(name in os.environ for name in OWN_SETTINGS):
        return None
    try:
        library = ctypes.CDLL(None)
        return library if library.gnu_get_libc_version and library.mallopt and library.malloc_trim else None
    except (AttributeError, OSError, TypeError):  # another system, or another C library
        return None
