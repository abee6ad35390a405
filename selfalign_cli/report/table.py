"""Recalls side by side: numbers, half-widths of their intervals, and a bar for each on a scale of its column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfalign_cli.report.inputs import METRICS, Result
from selfalign_cli.report.published import Benchmark, Row

TITLES = {"i2t": "i→t", "t2i": "t→i"}


@dataclass(frozen=True)
class Cell:
    """A number; `low`, `at` and `high` are places on the scale of its column, 0 to 100."""

    text: str
    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TableRow:
    """A row; `published` ones name their source."""

    label: str
    detail: str
    cells: tuple[Cell, ...]
    source: int | None = None


@dataclass(frozen=True)
class Table:
    """Results over the same pictures and captions, and the published rows beside them.

    Attributes:
        title: about what.
        columns: titles.
        rows: own ones first.
        sources: of published rows; a row has its number, from 1.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    sources: tuple[str, ...]


def make_table(results: Sequence[Result], published: Sequence[Row], benchmark: Benchmark | None) -> Table:
    """One table of results about the same queries.

    Args:
        results: at least one, of equal split, counts and folds.
        published: rows of the same benchmark; none for none.
        benchmark: its name.
    """
    first = results[0]
    scales = [_scale(name, results, published) for name in METRICS]
    sources = tuple(dict.fromkeys(row.source for row in published))
    rows = [
        TableRow(
            result.label,
            "single" if result.members == 1 else f"ensemble of {result.members}",
            tuple(_cell(result.scores[n], result.intervals.get(n), s) for n, s in zip(METRICS, scales, strict=True)),
        )
        for result in results
    ]
    rows += [
        TableRow(
            row.name,
            f"published, {'single' if row.members == 1 else f'ensemble of {row.members}'}",
            tuple(_cell(row.scores[n], None, s) for n, s in zip(METRICS, scales, strict=True)),
            sources.index(row.source) + 1,
        )
        for row in published
    ]
    folds = f", {first.folds} folds" if first.folds > 1 else ""
    title = f"split {first.split}: {first.images:,} pictures, {first.captions:,} captions{folds}"
    return Table(title, tuple(column(name) for name in METRICS), tuple(rows), sources)


def column(name: str) -> str:
    """`i→t R@1` for `i2t.r1`."""
    direction, _, recall = name.partition(".")
    return f"{TITLES[direction]} R@{recall[1:]}" if recall else name


def _scale(name: str, results: Sequence[Result], published: Sequence[Row]) -> tuple[float, float]:
    values = [*(result.scores[name] for result in results), *(row.scores[name] for row in published)]
    values += [end for result in results for end in result.intervals.get(name, ())]
    margin = (max(values) - min(values)) * 0.06 or 1.0
    return min(values) - margin, max(values) + margin


def _cell(value: float, ends: tuple[float, float] | None, scale: tuple[float, float]) -> Cell:
    def place(number: float) -> float:
        return round(100 * (number - scale[0]) / (scale[1] - scale[0]), 2)

    if ends is None:
        return Cell(f"{value:.1f}", place(value), None, None)
    return Cell(f"{value:.1f} ±{(ends[1] - ends[0]) / 2:.1f}", place(value), place(ends[0]), place(ends[1]))
