"""The order and the result of a campaign: counts instead of times, and all faults, reproducible by the seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfalign_cli.bench.measure import Setting

Row = dict[str, str | int | float]

SEEDS = 1 << 32


@dataclass(frozen=True)
class Order:
    """Settings of a campaign.

    Attributes:
        size: tiny, small or published.
        rounds: number of attempts; None for that of the size.
        seed: of all random draws.
        setting: threads and device.
        notify: called with messages on the progress.
        data: folder with what a campaign needs from outside; None for what it makes itself.
    """

    size: str
    rounds: int | None
    seed: int
    setting: Setting
    notify: Callable[[str], None]
    data: Path | None = None


@dataclass(frozen=True)
class Campaign:
    """The result of a campaign.

    Attributes:
        name: of the campaign.
        size: tiny, small or published.
        machine: see `machine.describe`.
        settings: of the order, seed included.
        rows: counts by name; all rows have the same keys.
        faults: what should not have happened, one message each.
    """

    name: str
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
            "campaign": self.name,
            "size": self.size,
            "machine": self.machine,
            "settings": self.settings,
            "results": self.rows,
            "faults": self.faults,
        }


def drawn_seed() -> int:
    """A random seed; it is reported, so that a campaign can be repeated."""
    return random.SystemRandom().randrange(SEEDS)


def _cell(value: str | int | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
