"""A view of a demo for tests."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, nullcontext


class Watcher:
    """A view that records the steps each arm had left, and can interrupt a run at an arm's first reported step."""

    def __init__(self, stop_in_arm: int = 0) -> None:
        self.left: list[int] = []
        self.stages: list[str] = []
        self.stop_in_arm = stop_in_arm

    def stage(self, text: str) -> None:
        """Kept."""
        self.stages.append(text)

    def counting(self, what: str, total: int):
        return nullcontext(lambda count: None)

    @contextmanager
    def training(self):
        yield self

    def start(self, *, total_steps: int, start_step: int, epochs: int, steps_per_epoch: int) -> None:
        self.left.append(total_steps - start_step)

    def step(self, **_: object) -> None:
        if len(self.left) == self.stop_in_arm:
            os.kill(os.getpid(), signal.SIGINT)

    def validation(self, **_: object) -> None:
        """Ignored."""

    def message(self, text: str) -> None:
        """Ignored."""

    def finish(self, summary: object) -> None:
        """Ignored."""
