"""Ctrl-C while libraries are loaded: an import that swallows KeyboardInterrupt must not swallow the user's wish."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def no_lost_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end of the block if SIGINT came and nothing of it was seen."""
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
