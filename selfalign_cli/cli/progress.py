"""Progress of long work on stderr: a live bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from selfalign_cli.cli.console import printable, show_message

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_SECONDS = 10.0
"""Least time between two lines in a log."""
RATE_SECONDS = 0.2
"""Least time between two updates of the rate beside a bar."""


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show how much of a conversion or an evaluation is done, how fast it goes, and the time left.

    Args:
        description: what is counted, e.g. `convert test: pictures`.
        total: how many there are; None if unknown.

    Yields:
        A function to call with the number of items done since the last call.
    """
    if sys.stderr.isatty():
        with _bar_progress(description, total) as advance:
            yield advance
    else:
        with _line_progress(description, total) as advance:
            yield advance


@contextmanager
def _bar_progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    with live_bar() as bar:
        task = bar.add_task(printable(description), total=total, rate="", terms="")
        updated = time.monotonic()

        def advance(count: int = 1) -> None:
            nonlocal updated
            bar.advance(task, count)
            if time.monotonic() - updated >= RATE_SECONDS:
                updated = time.monotonic()
                speed = bar.tasks[0].speed
                bar.update(task, rate=f"{speed:,.0f}/s" if speed else "")

        yield advance


@contextmanager
def _line_progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    started = printed = time.monotonic()
    done = 0

    def advance(count: int = 1) -> None:
        nonlocal done, printed
        done += count
        if time.monotonic() - printed >= LINE_SECONDS:
            printed = time.monotonic()
            rate = done / (printed - started)
            left = f" of {total:,}, {rate:,.0f}/s, {duration((total - done) / rate)} left" if total and rate else ""
            show_message(f"{description}: {done:,}{left}")

    yield advance
    show_message(f"{description}: {done:,} in {duration(time.monotonic() - started)}")


def live_bar() -> Progress:
    """A bar with count, rate, time left and loss terms; tasks have the fields `rate` and `terms`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[terms]}", markup=False),
        console=Console(stderr=True, markup=False, highlight=False, emoji=False),
    )


def duration(seconds: float) -> str:
    """Write a time as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
