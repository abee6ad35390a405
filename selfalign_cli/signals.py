"""Ctrl-C and SIGTERM: a run ends between two steps, saved, and no library swallows the request.

A second signal ends the process at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from selfalign_cli.errors import SelfAlignError
from selfalign_cli.launch import launched


class RunInterrupted(SelfAlignError):
    """The run was asked to stop, has lost nothing, and can be resumed. Exit code 130 (SIGINT) or 143 (SIGTERM).

    Args:
        number: the signal.
        state: where that leaves the run, to follow the name of the signal.
    """

    def __init__(self, number: int, state: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}{state}", "continue with --resume")
        self.exit_code = 128 + number


class StopRequest:
    """A context in which SIGINT and SIGTERM stop a run without losing anything.

    While a run starts up, the first signal ends it immediately: there is nothing to save yet. After `defer`, the first
    signal only sets `number`, which the training loop checks. A second signal ends the process immediately, except
    under `torchrun`, which sends a SIGTERM of its own after Ctrl-C, and SIGKILL after a timeout.

    Attributes:
        number: the signal that asked for a stop, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._deferred = False
        self._previous: dict[int, object] = {}

    def defer(self) -> None:
        """From now on a signal only sets `number`; the caller checks it and stops."""
        self._deferred = True
        if self.number is not None:  # a library swallowed the first one
            raise KeyboardInterrupt

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self.number is not None and isinstance(error, KeyboardInterrupt):
            raise RunInterrupted(self.number, " before the first step") from None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and launched() and self._deferred:
            return
        if self.number is not None:
            os._exit(128 + number)  # checkpoints are replaced atomically, so there is nothing to clean up
        self.number = number
        if not self._deferred:
            raise KeyboardInterrupt


@contextmanager
def no_lost_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end of a block whose imports swallowed it."""
    received = False

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = True
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, receive)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if received:
        raise KeyboardInterrupt
