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


@pytest.fixture(scope="session")
def camera_bert(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of one small layer and its WordPieces; not to be written to."""
    from selfalign_cli.data.captions import read_vocabulary_captions
    from selfalign_cli.data.wordpiece import save_tokenizer
    from selfalign_cli.data.wordpiece_training import build_wordpieces
    from selfalign_cli.engine.seeded_bert import write_seeded_bert

    folder = tmp_path_factory.mktemp("bert") / "bert"
    save_tokenizer(build_wordpieces(read_vocabulary_captions(world.features), size=120), folder)
    write_seeded_bert(folder, hidden=8, layers=1, heads=2, seed=1)
    return folder
