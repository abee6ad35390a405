"""Line charts as inline SVG: the numbers are placed here, `charts.html.j2` draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT = 420.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 10.0, 28.0
MOST_POINTS = 250
"""Of a line; longer ones are drawn as means of neighbours."""
KINDS = 8
"""Colours and dashes that differ."""


@dataclass(frozen=True)
class Drawn:
    """A line: its path, which colour and dash it has, and the place of its best point if one is marked."""

    label: str
    kind: int
    path: str
    mark: tuple[float, float, str] | None


@dataclass(frozen=True)
class Chart:
    """A chart in the coordinates of a `WIDTH` x `HEIGHT` view box: ticks are (place, text)."""

    title: str
    lines: tuple[Drawn, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    summary: str


def line_chart(
    title: str, series: Sequence[tuple[str, int, Points]], *, marked: bool = False, x_name: str = "step"
) -> Chart | None:
    """Draw lines over a common axis; None where there are no points at all.

    Args:
        title: what the vertical axis is.
        series: label, kind and points of each line.
        marked: mark the largest value of each line.
        x_name: what the horizontal axis is.
    """
    thinned = [(label, kind, thin(finite(points))) for label, kind, points in series]
    known = [point for _, _, points in thinned for point in points]
    if not known:
        return None
    x_ticks, y_ticks = (ticks(min(axis), max(axis)) for axis in zip(*known, strict=True))
    across = _scale(min(0.0, x_ticks[0]), max(x_ticks[-1], max(x for x, _ in known)), LEFT, WIDTH - RIGHT)
    up = _scale(
        min(y_ticks[0], min(y for _, y in known)), max(y_ticks[-1], max(y for _, y in known)), HEIGHT - BOTTOM, TOP
    )
    lines = []
    for label, kind, points in thinned:
        places = [(across(x), up(y)) for x, y in points]
        path = " ".join(f"{'L' if number else 'M'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(places))
        mark = None
        if marked and points:
            best = max(range(len(points)), key=lambda number: points[number][1])
            mark = (*places[best], f"{label}: {points[best][1]:.1f} at {x_name} {points[best][0]:,.0f}")
        lines.append(Drawn(label, kind % KINDS, path, mark))
    ends = "; ".join(f"{label} ends at {points[-1][1]:.4g}" for label, _, points in thinned if points)
    return Chart(
        title,
        tuple(lines),
        tuple((round(across(tick), 1), short(tick)) for tick in x_ticks),
        tuple((round(up(tick), 1), short(tick)) for tick in y_ticks),
        f"{title} over {x_name}s: {ends}",
    )


def finite(points: Points) -> list[tuple[float, float]]:
    """The points that can be drawn."""
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def thin(points: Points) -> list[tuple[float, float]]:
    """At most `MOST_POINTS`, each the mean of its neighbours."""
    step = math.ceil(len(points) / MOST_POINTS) or 1
    groups = [points[start : start + step] for start in range(0, len(points), step)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers that span an interval."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / wanted
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = magnitude * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw)
    first = math.floor(low / step)
    count = math.ceil(high / step - 1e-9) - first
    return [round((first + number) * step, 12) for number in range(count + 1)]


def short(value: float) -> str:
    """A tick: `1.5k`, `0.02`."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    width = (high - low) or 1.0
    return lambda value: start + (value - low) / width * (end - start)
