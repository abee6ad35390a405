"""Data or folders that go away under a run: one message that names them, exit 1, and a checkpoint that can be used."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support import permissions
from support.instants import code_in_step
from support.processes import Done, Forks, code_at_call
from support.world import World, changed_recipe, differences, metrics_of, opened

from selfalign_cli.data.features.file import FeatureFile

DURING = 8  # steps; the newest checkpoint is that of step 6 when step 8 fails, that of step 8 when a later one does


OVERWRITE = """
def overwrite(path, start):
    import os
    before = os.stat(path)
    file = os.open(path, os.O_WRONLY)
    os.pwrite(file, b"\\xff" * 4096, start)
    os.close(file)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
"""
"""Python for `before`: a function that writes NaN into a file and leaves no trace."""


@pytest.fixture
def own(world: World, tmp_path: Path) -> World:
    """A recipe with a feature file of its own, which a test may damage."""
    shutil.copy(world.features, tmp_path / "own.h5")
    changed_recipe(world, tmp_path / "tiny.yaml", data={"features": str(tmp_path / "own.h5")})
    return World(tmp_path)


def must_go_on_to(unbroken: Path, own: World, forks: Forks) -> None:
    """With its data restored, the run resumes to the same end."""
    done = forks.run("train", own.recipe, "--resume", cwd=own.folder)
    assert done.code == 0, done.err
    assert metrics_of(own.folder / "run") == metrics_of(unbroken)
    assert not differences(opened(own.folder / "run/last.ckpt")["model"], opened(unbroken / "last.ckpt")["model"])


def must_stop(done: Done, run: Path, *words: str) -> None:
    done.must_refuse(*words, code=1)
    assert opened(run / "last.ckpt")["step"] in (6, 8)
    assert not list(run.glob(".*.tmp"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("left", [0, 1000])
def test_features_that_are_cut_short_while_they_are_read(
    world: World, own: World, forks: Forks, unbroken: Path, workers: int, left: int
) -> None:
    """Errors of a reader thread reach the user in the same words."""
    features = own.folder / "own.h5"
    done = forks.run(
        "train",
        own.recipe,
        "--set",
        f"data.workers={workers}",
        cwd=own.folder,
        before=code_in_step(DURING, f"os.truncate({str(features)!r}, {left})"),
    )
    must_stop(done, own.folder / "run", f"error: {features} was cut short while in use", "hint: restore the file")
    shutil.copy(world.features, features)
    must_go_on_to(unbroken, own, forks)


def test_nan_that_slipped_through(own: World, forks: Forks, unbroken: Path, world: World) -> None:
    """A disk gives back other bytes than were written: size, place and time of the file stay as they were."""
    features = own.folder / "own.h5"
    start = FeatureFile(features)._regions.extent.offset
    overwriting = f"overwrite({str(features)!r}, {start})"
    done = forks.run("train", own.recipe, cwd=own.folder, before=OVERWRITE + code_in_step(DURING, overwriting))
    must_stop(done, own.folder / "run", f"error: {features}: picture ", "holds NaN or infinite features")
    shutil.copy(world.features, features)
    must_go_on_to(unbroken, own, forks)


def test_features_that_are_deleted_while_they_are_read(own: World, forks: Forks, unbroken: Path) -> None:
    """The file is open and stays readable to its end; only a new start misses it."""
    features = own.folder / "own.h5"
    removing = code_in_step(DURING, f"os.unlink({str(features)!r})")
    done = forks.run("train", own.recipe, cwd=own.folder, before=removing)
    assert done.code == 0, done.err
    assert metrics_of(own.folder / "run") == metrics_of(unbroken)
    forks.run("train", own.recipe, "--resume", cwd=own.folder).must_refuse(f"there is no feature file {features}")
    assert opened(own.folder / "run/last.ckpt")["step"] == 12


def test_features_that_vanish_before_they_are_read(own: World, forks: Forks) -> None:
    features = own.folder / "own.h5"
    done = forks.run(
        "train",
        own.recipe,
        cwd=own.folder,
        before=code_at_call("selfalign_cli.training.train.start_or_resume", 1, f"os.unlink({str(features)!r})"),
    )
    done.must_refuse(f"error: {features} can no longer be read: No such file or directory", code=1)


def test_a_disk_that_fails_under_a_loader_thread(own: World, forks: Forks, unbroken: Path) -> None:
    """What the system says of a bad sector, to one thread of two."""
    failing = """
import errno, itertools, os
original, calls = os.preadv, itertools.count(1)
def preadv(*arguments):
    if next(calls) == 300:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return original(*arguments)
os.preadv = preadv
"""
    done = forks.run("train", own.recipe, "--set", "data.workers=2", cwd=own.folder, before=failing)
    done.must_refuse(f"error: reading {own.folder / 'own.h5'} failed: Input/output error", code=1)
    must_go_on_to(unbroken, own, forks)


def test_a_checkpoint_that_vanished_is_not_missed_by_the_run(own: World, forks: Forks, unbroken: Path) -> None:
    """Another program deletes last.ckpt; the run writes it again."""
    removing = code_in_step(DURING, "os.unlink('run/last.ckpt')")
    done = forks.run("train", own.recipe, cwd=own.folder, before=removing)
    assert done.code == 0, done.err
    must_go_on_to(unbroken, own, forks)


def test_a_run_folder_that_may_not_be_written_to_any_more(own: World, forks: Forks, unbroken: Path) -> None:
    run = own.folder / "run"
    forbidding = code_in_step(DURING, f"os.chmod('run', 0o555); {permissions.OBEY}")
    done = forks.run("train", own.recipe, cwd=own.folder, before=forbidding)
    os.chmod(run, 0o755)
    must_stop(done, run, "error: cannot write run/last.ckpt: Permission denied")
    must_go_on_to(unbroken, own, forks)
