"""HTTP for clients that cannot be trusted to go on: each may take only so long, and waiting ones make room for others.

uvicorn has no limit on how long a client may take to send its request or to read the answer, and counts half-open
connections as busy; a few of them would keep everybody else out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10.0
"""From the first moment of a connection, or the end of an answer, to the end of the next request."""
ANSWER_SECONDS = 120.0
"""From the end of a request until its answer is read."""
MOST_WAITING = 128
"""Connections without a whole request; the oldest is closed for a further one."""


class BoundedProtocol(H11Protocol):
    """A connection with two clocks; see `bounded`, which makes a class for each server."""

    waiting: dict[BoundedProtocol, None]
    request_seconds = REQUEST_SECONDS
    answer_seconds = ANSWER_SECONDS
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()
        if len(self.waiting) > MOST_WAITING:
            next(iter(self.waiting))._give_up()

    def data_received(self, data: bytes) -> None:
        """Once the request is whole, its answer has its own clock."""
        super().data_received(data)
        if self in self.waiting and self.cycle is not None and not self.cycle.response_complete:
            del self.waiting[self]
            self._set_clock(self.answer_seconds)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        super().connection_lost(exc)
        self.waiting.pop(self, None)
        self._set_clock(None)

    def _wait(self) -> None:
        self.waiting[self] = None
        self._set_clock(self.request_seconds)

    def _give_up(self) -> None:
        self.waiting.pop(self, None)
        self.transport.abort()

    def _set_clock(self, seconds: float | None) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._clock = None if seconds is None else self.loop.call_later(seconds, self._give_up)


def bounded() -> type[BoundedProtocol]:
    """A class whose connections share one list of those that wait."""
    return type("Bounded", (BoundedProtocol,), {"waiting": {}})
