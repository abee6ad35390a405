"""All printing: results to stdout; progress, messages and errors to stderr; text from data always escaped.

On a terminal progress is drawn with rich; in a log it is plain lines. Nothing here reads markup, so that a path with
brackets survives, and nothing passes control characters on.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from selfalign_cli.errors import SelfAlignError
from selfalign_cli.launch import launched

if TYPE_CHECKING:
    from rich.progress import Progress

    from selfalign_cli.metrics.report import RetrievalReport

PLAIN_SECONDS = 10.0
"""Least time between two progress lines in a log."""
RATE_SECONDS = 0.2
"""Least time between two looks at the rate of a live bar."""

NUMBER = re.compile(r"[-+]?[0-9][0-9,.]*(e[-+]?[0-9]+)?( ?(%|s|±.*))?$")
"""A cell that is set flush right: `1,000`, `41.2 ±3.1`, `12 %`."""


def printable(text: str) -> str:
    """Escape everything but printable characters and line ends, e.g. a terminal sequence hidden in a caption."""
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def show_error(error: SelfAlignError) -> None:
    """Print `error: …` and, when there is one, `hint: …` on stderr; of several processes, one does."""
    stream = sys.stderr
    if launched():
        from selfalign_cli.parallel import claims_error_output

        if not claims_error_output(error):
            return
        stream = sys.__stderr__ or stream
    write(stream, f"error: {printable(error.message)}")
    if error.hint:
        write(stream, f"hint: {printable(error.hint)}")


def show_message(text: str) -> None:
    """Print one message on stderr."""
    write(sys.stderr, printable(text))


def show_json(document: object) -> None:
    """Print one JSON document on stdout."""
    write(sys.stdout, json.dumps(document, indent=2, allow_nan=False))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table on stdout: drawn on a terminal, blank-aligned lines in a pipe.

    Args:
        columns: headings; all empty for a table without a heading line.
        rows: cells as text, one row as long as `columns`. Cells that are numbers are set flush right.
        title: a line above.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    right = [bool(cells) and all(_is_number(row[place]) for row in cells) for place in range(len(columns))]
    if sys.stdout.isatty():
        _draw_table(columns, cells, right, title)
        return
    lines = [list(columns), *cells] if any(columns) else cells
    widths = [max((len(line[place]) for line in lines), default=0) for place in range(len(columns))]
    if title:
        write(sys.stdout, printable(title))
    for line in lines:
        padded = (
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right, strict=True)
        )
        write(sys.stdout, "  ".join(padded).rstrip())


def show_report(report: RetrievalReport, as_json: bool, ranks: bool = False) -> None:
    """Print a retrieval report on stdout.

    Args:
        report: the result.
        as_json: one JSON document instead of a table.
        ranks: in the document, the rank of every query too.
    """
    if as_json:
        show_json(report.to_json(ranks))
        return
    from selfalign_cli.metrics.report import HEADER

    counted = f"{report.images:,} images, {report.captions:,} captions"
    folds = f", mean of {report.folds} folds" if report.folds > 1 else ""
    show_table(HEADER, report.rows(), title=f"{report.split}: {counted}{folds}")
    write(sys.stdout, f"rsum {report.rsum:.1f}")
    if report.eccv is not None:
        rows = [[name, f"{part['i2t']:.1f}", f"{part['t2i']:.1f}"] for name, part in report.eccv.items()]
        show_table(["", "image → text", "text → image"], rows)
    write(sys.stdout, f"signature: {printable(report.signature)}")


def write(stream: TextIO, text: str) -> None:
    """Print a line, escaping what the encoding of the stream cannot say."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def duration(seconds: float) -> str:
    """Write a time as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show the progress of a conversion or an evaluation on stderr: how much is done, how fast, and the time left.

    Args:
        description: what is counted, e.g. `convert test: pictures`.
        total: how many there are; None if nobody knows.

    Yields:
        A function to call with the number of items done since the last call.
    """
    if sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(printable(description), total=total, rate="", terms="")

            told = time.monotonic()

            def draw(count: int = 1) -> None:
                nonlocal told
                bar.advance(task, count)
                if time.monotonic() - told >= RATE_SECONDS:
                    told = time.monotonic()
                    speed = bar.tasks[0].speed
                    bar.update(task, rate=f"{speed:,.0f}/s" if speed else "")

            yield draw
        return
    began = told = time.monotonic()
    done = 0

    def advance(count: int = 1) -> None:
        nonlocal done, told
        done += count
        if time.monotonic() - told >= PLAIN_SECONDS:
            told = time.monotonic()
            rate = done / (told - began)
            left = f" of {total:,}, {rate:,.0f}/s, {duration((total - done) / rate)} left" if total and rate else ""
            show_message(f"{description}: {done:,}{left}")

    yield advance
    show_message(f"{description}: {done:,} in {duration(time.monotonic() - began)}")


class TrainingView:
    """What a training run shows: a live bar with the loss terms on a terminal, lines in a log."""

    def __init__(self) -> None:
        self._epochs = 0
        self._total = 0
        self._marks: deque[tuple[float, int]] = deque(maxlen=20)
        self._bar: Progress | None = None

    def __enter__(self) -> TrainingView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, *, total_steps: int, start_step: int, epochs: int, steps_per_epoch: int) -> None:
        """Begin, or go on after `start_step` steps."""
        self._epochs, self._total = epochs, total_steps
        self._marks.clear()
        self._marks.append((time.monotonic(), start_step))
        begun = f"resuming after step {start_step:,}" if start_step else "training"
        show_message(f"{begun}: {epochs} epochs of {steps_per_epoch:,} steps, {total_steps:,} in all")
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.add_task(f"epoch 1/{epochs}", total=total_steps, completed=start_step, rate="", terms="")
            self._bar.start()

    def step(
        self, *, epoch: int, step: int, terms: Mapping[str, float], learning_rate: float, grad_norm: float
    ) -> None:
        """Show where the run stands.

        Args:
            epoch: number of the epoch, from 1.
            step: optimizer steps done.
            terms: loss terms of the last one, by name.
            learning_rate: Adam's step size now.
            grad_norm: length of the gradient before clipping.
        """
        self._marks.append((time.monotonic(), step))
        rate = self._rate()
        speed = f"{rate:.3g} steps/s" if rate else ""
        if self._bar is not None:
            label = f"epoch {epoch}/{self._epochs}"
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=step, description=label, rate=speed, terms=_terms(terms))
            return
        left = f", {speed}, {duration((self._total - step) / rate)} left" if rate else ""
        told = f"{_terms(terms)}, gradient {grad_norm:.3g}, learning rate {learning_rate:.3g}"
        self.message(f"{self._place(epoch, step)}: {told}{left}")

    def validation(self, *, epoch: int, step: int, scores: Mapping[str, float], best: bool) -> None:
        """Show the recalls of the dev split (ranks are in metrics.jsonl), and whether they are the best so far."""
        told = ", ".join(f"{name} {value:.1f}" for name, value in scores.items() if not name.endswith("_rank"))
        self.message(f"{self._place(epoch, step)}: validation {told}{' (best so far)' if best else ''}")

    def message(self, text: str) -> None:
        """Print a message, above the bar when there is one."""
        if self._bar is None:
            show_message(text)
        else:
            self._bar.console.print(printable(text), markup=False, highlight=False, emoji=False)

    def finish(self, summary: Mapping[str, object]) -> None:
        """End the display and print what the run has come to, on stdout."""
        self.close()
        show_table(["", ""], [[name, _shown(value)] for name, value in summary.items()])

    def close(self) -> None:
        """End the live display; harmless when there is none."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _place(self, epoch: int, step: int) -> str:
        return f"epoch {epoch}/{self._epochs} step {step:,}/{self._total:,}"

    def _rate(self) -> float:
        """Steps per second over the last steps; 0 while nobody knows."""
        (began, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) / (now - began) if now > began else 0.0


def _terms(terms: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in terms.items())


def _shown(value: object) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else str(value)


def _is_number(cell: str) -> bool:
    return NUMBER.match(cell) is not None


def _bar() -> Progress:
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


def _draw_table(columns: Sequence[str], rows: list[list[str]], right: list[bool], title: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title)) if title else None, show_header=any(columns), title_justify="left")
    for name, flush in zip(columns, right, strict=True):
        table.add_column(Text(name), justify="right" if flush else "left", overflow="fold", no_wrap=flush)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(markup=False, highlight=False, emoji=False).print(table)
