"""Log-probabilities of replies in a memory-mapped file, found again by the tokens themselves.

So it does not matter in which order, set or batch a reply comes, nor how long the row is that it is padded to.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from xxhash import xxh3_64_intdigest

from lit_ft.data.batching.twins import on_cpu
from lit_ft.data.features.ragged import Array
from lit_ft.data.labels import IGNORED

KEYS, VALUES = "keys.npy", "log_probs.npy"


def keys_of(batch: dict[str, Any]) -> Array:
    """Returns a hash of each row's tokens and of which of them are labelled, `[rows]` uint64; 0 = none is."""
    ids, labels = (on_cpu(batch[name]).numpy() for name in ("input_ids", "labels"))
    mask = batch.get("attention_mask")
    real = np.ones_like(ids, bool) if mask is None else on_cpu(mask).numpy().astype(bool)
    hashes = (
        xxh3_64_intdigest(row[there].tobytes() + (label[there] != IGNORED).tobytes()) if (label != IGNORED).any() else 0
        for row, label, there in zip(ids, labels, real, strict=True)
    )
    return np.fromiter(hashes, np.uint64, len(ids))


class LogProbTable:
    """What `write` left in a folder.

    Args:
        folder: with the two files.
    """

    def __init__(self, folder: Path) -> None:
        self._keys, self._values = (np.load(folder / name, mmap_mode="r") for name in (KEYS, VALUES))

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, keys: Array) -> Tensor | None:
        """Returns the log-probabilities of these rows, `[rows]` float32 on the CPU; `None` where one is not there.

        Those of rows without a label, which fill up a batch of another process, are 0.
        """
        place = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
        if (self._keys[place] != keys).any():
            return None
        return torch.from_numpy(np.array(self._values[place], np.float32))

    @staticmethod
    def write(folder: Path, keys: Array, values: Array) -> None:
        """Writes log-probabilities `[rows]` by their keys `[rows]`, in any order, and the same more than once."""
        unique, first = np.unique(np.append(keys, np.uint64(0)), return_index=True)
        rows = {"rows": {"log-probabilities": {"": len(unique) - 1}}}  # for `lit-ft cache list`
        (folder / "content.json").write_text(json.dumps(rows), encoding="utf-8")
        np.save(folder / KEYS, unique)
        np.save(folder / VALUES, np.where(unique == 0, 0.0, np.append(values, 0.0)[first]).astype(np.float32))
