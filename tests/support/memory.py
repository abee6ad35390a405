"""Folders in memory, where there are some: conversions wait for the disk, and tests make hundreds of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = "/dev/shm"


@contextmanager
def memory_folder() -> Iterator[Path]:
    """An empty folder that is removed behind the block."""
    parent = MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="selfalign-", dir=parent) as folder:
        yield Path(folder)
