"""Temporary folders of these tests are in memory; commands run in processes that share one start-up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.memory import memory_folder
from support.processes import Forks


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """An empty folder."""
    with memory_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Runs commands in processes of their own."""
    forks = Forks(tmp_path_factory.mktemp("printed"))
    yield forks
    forks.close()
