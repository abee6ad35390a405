"""How a long task reports its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int], None]
Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""(description, total) → a context that gives a function to call with the number of items done since the last call."""


@contextmanager
def no_progress(description: str, total: int) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda count: None
