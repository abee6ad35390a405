"""SIGINT and SIGTERM end a run between two steps; a second signal ends it at once."""

from __future__ import annotations

import os
import signal
from types import FrameType

from selfalign_cli.errors import SelfAlignError


class RunInterrupted(SelfAlignError):
    """The run was asked to stop, has saved itself, and can be resumed. Exit code 130 (SIGINT) or 143 (SIGTERM)."""

    def __init__(self, number: int, hint: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; everything up to here is saved", hint)
        self.exit_code = 128 + number


class StopRequest:
    """A context that turns the first SIGINT or SIGTERM into a flag and lets the second one end the process.

    Attributes:
        number: the signal that asked for a stop, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            os._exit(128 + number)  # checkpoints are renamed into place, so there is nothing to tidy
        self.number = number
