"""Chance as a pure function: splitmix64's published numbers; no version of ours draws others for the same seed."""

import numpy as np

from lit_ft.data.ordering.chance import hashed, unit_share

GAMMA = 0x9E3779B97F4A7C15
PUBLISHED = [
    6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
]  # fmt: skip
"""The first of splitmix64 from 1234567, as https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64 has them."""


def test_numbers_are_those_of_splitmix64() -> None:
    states = np.array([(1234567 + step * GAMMA) % (1 << 64) for step in range(5)], np.uint64)
    assert hashed(states.view(np.int64)).tolist() == PUBLISHED
    assert (unit_share(states.view(np.int64)) * 10**5).astype(int).tolist() == [35007, 17364, 53220, 24900, 88952]


def test_each_key_scrambles_once_more() -> None:
    numbers = np.arange(4)
    moved = numbers.astype(np.uint64) + np.uint64(3 * GAMMA % (1 << 64))
    assert hashed(numbers, 3).tolist() == hashed(hashed(moved.view(np.int64)).view(np.int64)).tolist()
