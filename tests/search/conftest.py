"""A collection of ten pictures, two models, and an index of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.collections import record, write_checkpoint, write_pictures
from typer.testing import CliRunner, Result

from selfalign_cli.cli.app import app


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all.h5 and the checkpoints model0.ckpt and model1.ckpt; not to be written to."""
    folder = tmp_path_factory.mktemp("collection")
    write_pictures(folder / "all.h5", [record(number) for number in range(10)])
    for seed in (0, 1):
        write_checkpoint(folder, seed=seed)
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def indexed(run: Callable[..., Result], collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of all.h5 in segments of four pictures."""
    monkeypatch.setattr("selfalign_cli.search.build.SEGMENT_ROWS", 4)
    made = run("index", collection / "model0.ckpt", "--device", "cpu", "--out", "INDEX")
    assert made.exit_code == 0, made.stderr
    return tmp_path / "INDEX"
