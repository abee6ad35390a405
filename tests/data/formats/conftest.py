"""Temporary folders of these tests are in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.memory import memory_folder


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """An empty folder."""
    with memory_folder() as folder:
        yield folder
