"""Chance that is a pure function of seed, epoch and row: a row's masks do not depend on the batch around it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lit_ft.data.features.ragged import Array
from lit_ft.data.ordering.samplers import Key

States = npt.NDArray[np.uint64]

# odd, so that places repeat only after 2^64, and not the step between the streams of `hashed`: with that one a place
# would draw the same as the place before it in the next stream
_STEP = np.uint64(0xD1342543DE82EF95)


def row_states(seed: int, keys: Sequence[Key]) -> States:
    """Returns what all of a row's chance follows from, `[rows]`; other seeds, epochs and rows have other states.

    Args:
        seed: any integer.
        keys: epoch and index of each row; an index may be negative.
    """
    epochs, indices = np.array(keys, dtype=np.int64).reshape(-1, 2).T
    return hashed(hashed(indices, seed).view(np.int64) + epochs)


def drawn(states: States, places: Array, stream: int) -> States:
    """Returns 64 random bits for each place, as if by chance, but always the same ones.

    Args:
        states: state of the row that each draw belongs to, `[draws]` (or a shape that goes with `places`).
        places: number of the draw in its row (for instance the token's position), `[draws]`.
        stream: draws for different purposes have different streams.
    """
    return hashed((states + places.astype(np.uint64) * _STEP).view(np.int64), stream)


def uniform(states: States, places: Array, stream: int) -> npt.NDArray[np.float64]:
    """Returns a number in [0, 1) for each place; see `drawn`."""
    return np.asarray((drawn(states, places, stream) >> np.uint64(11)) * 2.0**-53)


def unit_share(numbers: Array, *keys: int) -> npt.NDArray[np.float64]:
    """Returns a number in [0, 1) for each of `numbers`, `[n]`, as if by chance, but always the same one."""
    return np.asarray((hashed(numbers, *keys) >> np.uint64(11)) * 2.0**-53)


def hashed(numbers: Array, *keys: int) -> npt.NDArray[np.uint64]:
    """Scrambles numbers, `[n]`, each by itself and differently for other keys (splitmix64)."""
    mixed = numbers.astype(np.uint64)
    for key in (*keys, 0):
        mixed = mixed + np.uint64((key * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % (1 << 64))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
