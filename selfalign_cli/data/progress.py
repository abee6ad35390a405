"""How long work shows how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int], None]
Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""(description, total) → a context that gives a function to call with every number of pieces done."""


@contextmanager
def no_progress(description: str, total: int) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda count: None
