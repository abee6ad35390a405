"""Work in a second thread, in order and never far behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

AHEAD = 8
"""Calls that may be pending; each keeps the regions of a picture in memory."""


class SecondThread:
    """Runs calls one after the other, concurrently with the caller. At the end of the block all are done.

    It pays for work that releases the GIL, such as hashing. The arguments of a call must not be changed later.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> SecondThread:
        """Begin."""
        return self

    def run(self, work: Callable[..., None], *arguments: object) -> None:
        """Have a call done; waits while too many others are not.

        Raises:
            Exception: what an earlier call raised.
        """
        self._waiting.append(self._pool.submit(work, *arguments))
        if len(self._waiting) > AHEAD:
            self._waiting.popleft().result()

    def wait(self) -> None:
        """Wait until all is done.

        Raises:
            Exception: what a call raised.
        """
        while self._waiting:
            self._waiting.popleft().result()

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; calls that have not begun are dropped if the block failed."""
        self._pool.shutdown(cancel_futures=fault is not None)
