"""The tiny world, processes that run commands in it, and one finished run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import Forks
from support.world import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Data, vocabulary and recipe; not to be written to."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Runs commands in processes of their own."""
    forks = Forks(tmp_path_factory.mktemp("printed"))
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def unbroken(world: World, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one training from start to end; not to be written to."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = forks.run("train", world.recipe, "--device", "cpu", cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"
