"""What a campaign is asked for, and what it found: counts instead of times, and every fault with what repeats it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from selfalign_cli.bench.measure import Setting

Row = dict[str, str | int | float]

SEEDS = 1 << 32


@dataclass(frozen=True)
class Order:
    """What a campaign is asked for.

    Attributes:
        size: tiny, small or published.
        rounds: how often it tries; None for what the size says.
        seed: of everything that is drawn.
        setting: threads and device.
        tell: called with what is being done.
    """

    size: str
    rounds: int | None
    seed: int
    setting: Setting
    tell: Callable[[str], None]


@dataclass(frozen=True)
class Campaign:
    """What a campaign found.

    Attributes:
        bench: its name.
        size: tiny, small or published.
        machine: see `machine.describe`.
        settings: what it was asked for, the seed included.
        rows: counts by name; all rows have the same keys.
        faults: what should not have happened, one text each.
    """

    bench: str
    size: str
    machine: dict[str, str | int | float]
    settings: Row
    rows: list[Row]
    faults: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Headings of the table."""
        return ["", *(name.replace("_", " ") for name in list(self.rows[0])[1:])]

    def cells(self) -> list[list[str]]:
        """The table under `columns`."""
        return [[_cell(value) for value in row.values()] for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "bench": self.bench,
            "size": self.size,
            "machine": self.machine,
            "settings": self.settings,
            "results": self.rows,
            "faults": self.faults,
        }


def drawn_seed() -> int:
    """A seed that nobody has asked for; it is reported, so that a campaign can be repeated."""
    return random.SystemRandom().randrange(SEEDS)


def _cell(value: str | int | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
