"""Make splits where a captions file has none: the same pictures give the same splits, in whatever order they come."""

from __future__ import annotations

import random
from collections.abc import Sequence

DEALT = ("train", "dev", "test")
"""The names that `--splits` gives to have splits made."""
SEED = 0
SHARE = 10  # one picture of so many for dev, and one for test


def deal(names: Sequence[str]) -> list[str]:
    """A split for each of N ≥ 3 names: a tenth, but at least one, becomes dev, as many test, the rest train."""
    shuffled = sorted(names)
    random.Random(SEED).shuffle(shuffled)
    each = max(1, len(names) // SHARE)
    dev, test = set(shuffled[:each]), set(shuffled[each : 2 * each])
    return ["dev" if name in dev else "test" if name in test else "train" for name in names]
