"""What a process of the memory test does; imports next to nothing, since the new process imports it."""

import mmap
import time


def hold(size: int, path: str | None) -> int:
    """Holds `size` bytes, and maps and reads a file, long enough to be looked at."""
    held = bytearray(b"x") * size
    if path is not None:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert not any(mapped[place] for place in range(0, len(mapped), 4096))
            time.sleep(0.1)
    return len(held)
