"""The report of a bench: measurements with ratios, as a table and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MIB = 1 << 20
COLUMNS = ("", "seconds", "floor", "x floor", "plain", "plain / ours", "extra MiB", "plain MiB", "note")


@dataclass(frozen=True)
class Line:
    """One measurement.

    Attributes:
        name: what was measured.
        seconds: our time.
        floor: lower bound of the seconds, or seconds of what it is compared with.
        plain: seconds of the plain version.
        memory: peak bytes beyond the inputs.
        plain_memory: the same of the plain version.
        numbers: further values.
        note: remark for the reader, e.g. that a number was extrapolated.
    """

    name: str
    seconds: float | None = None
    floor: float | None = None
    plain: float | None = None
    memory: int | None = None
    plain_memory: int | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """All known values, ratios included."""
        known = {
            "seconds": self.seconds,
            "floor_seconds": self.floor,
            "times_floor": _ratio(self.seconds, self.floor),
            "plain_seconds": self.plain,
            "plain_over_ours": _ratio(self.plain, self.seconds),
            "extra_bytes": self.memory,
            "plain_extra_bytes": self.plain_memory,
            "memory_of_plain": _ratio(self.memory, self.plain_memory),
            **self.numbers,
            "note": self.note or None,
        }
        return {"name": self.name, **{key: value for key, value in known.items() if value is not None}}

    def cells(self) -> list[str]:
        """A row of the table under `COLUMNS`."""
        counted = [f"{name.replace('_', ' ')} {value:,.4g}" for name, value in self.numbers.items()]
        return [
            self.name,
            _seconds(self.seconds),
            _seconds(self.floor),
            _times(_ratio(self.seconds, self.floor)),
            _seconds(self.plain),
            _times(_ratio(self.plain, self.seconds)),
            _mebibytes(self.memory),
            _mebibytes(self.plain_memory),
            ", ".join([*counted, *([self.note] if self.note else [])]),
        ]


@dataclass(frozen=True)
class Report:
    """All measurements of a bench.

    Attributes:
        bench: its name.
        size: tiny, small or published.
        machine: see `machine.describe`.
        sizes: the dimensions that were used.
        lines: the results.
    """

    bench: str
    size: str
    machine: dict[str, str | int | float]
    sizes: dict[str, Any]
    lines: list[Line]

    def to_json(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "bench": self.bench,
            "size": self.size,
            "machine": self.machine,
            "sizes": self.sizes,
            "results": [line.to_json() for line in self.lines],
        }


def _ratio(upper: float | None, lower: float | None) -> float | None:
    return upper / lower if upper is not None and lower else None


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 1:
        return f"{value:,.3g} s" if value < 100 else f"{value:,.0f} s"
    return f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} µs"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _mebibytes(value: int | None) -> str:
    return "" if value is None else f"{value / MIB:,.0f}"
