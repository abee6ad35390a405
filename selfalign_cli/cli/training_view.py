"""What a training run shows on stderr: a live bar with the loss terms on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from selfalign_cli.cli.console import printable, show_message, show_table
from selfalign_cli.cli.progress import duration, live_bar

if TYPE_CHECKING:
    from rich.progress import Progress


class TrainingView:
    """Shows one training run, from `start` to `finish`."""

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
            self._bar = live_bar()
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
        numbers = f"{_terms(terms)}, gradient {grad_norm:.3g}, learning rate {learning_rate:.3g}"
        self.message(f"{self._position(epoch, step)}: {numbers}{left}")

    def validation(self, *, epoch: int, step: int, scores: Mapping[str, float], best: bool) -> None:
        """Show the recalls of the dev split (ranks are in metrics.jsonl), and whether they are the best so far."""
        recalls = ", ".join(f"{name} {value:.1f}" for name, value in scores.items() if not name.endswith("_rank"))
        self.message(f"{self._position(epoch, step)}: validation {recalls}{' (best so far)' if best else ''}")

    def message(self, text: str) -> None:
        """Print a message, above the bar when there is one."""
        if self._bar is None:
            show_message(text)
        else:
            self._bar.console.print(printable(text), markup=False, highlight=False, emoji=False)

    def finish(self, summary: Mapping[str, object]) -> None:
        """End the display and print the summary of the run on stdout."""
        self.close()
        show_table(["", ""], [[name, _shown(value)] for name, value in summary.items()])

    def close(self) -> None:
        """End the live display; harmless when there is none."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _position(self, epoch: int, step: int) -> str:
        return f"epoch {epoch}/{self._epochs} step {step:,}/{self._total:,}"

    def _rate(self) -> float:
        """Steps per second over the last steps; 0 while unknown."""
        (began, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) / (now - began) if now > began else 0.0


def _terms(terms: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in terms.items())


def _shown(value: object) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else str(value)
