"""Random draws that stay the same in every numpy release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Draws:
    """Integers from one named stream of a seed.

    numpy promises to keep the raw 64-bit stream of PCG64 and the seeding of SeedSequence, but not the methods of
    Generator; so every draw is made here from the raw stream with integer arithmetic alone. Values below n come from
    multiplying the upper 32 bits by n: for the small n in use, the bias is under one in a million.

    Args:
        key: seed and stream numbers, non-negative; the same key gives the same draws.
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def below(self, bound: int) -> int:
        """One integer in [0, bound)."""
        return ((int(self._bits.random_raw()) >> 32) * bound) >> 32

    def between(self, low: int, high: int) -> int:
        """One integer in [low, high], both ends included."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """True in `percent` of 100 draws."""
        return self.below(100) < percent

    def one_of(self, choices: Sequence[T]) -> T:
        """One of the choices, uniformly."""
        return choices[self.below(len(choices))]

    def weighted(self, choices: Sequence[tuple[T, int]]) -> T:
        """One of the (choice, weight) pairs' choices, in proportion to its whole-numbered weight."""
        remaining = self.below(sum(weight for _, weight in choices))
        for choice, weight in choices:
            remaining -= weight
            if remaining < 0:
                return choice
        raise ValueError("weights must be positive")

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """A copy of the items in random order (Fisher-Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def coin_grid(self, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width) of fair 0/1 draws."""
        count = height * width
        words = np.asarray(self._bits.random_raw((count + 63) // 64), dtype="<u8")
        return np.unpackbits(words.view(np.uint8))[:count].reshape(height, width)
