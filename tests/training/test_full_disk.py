"""A disk that is full or cannot be written to: one message, the last good checkpoint stays, and the run can go on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import Forks
from support.world import World, differences, opened, outcome

Disk = Callable[..., Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mounts a disk of some kilobytes, or changes its size."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(kilobytes: int, *options: str) -> Path:
        again = ["remount"] if os.path.ismount(place) else []
        wanted = ",".join([*again, f"size={kilobytes}k", *options])
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", wanted, "tmpfs", str(place)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        return place

    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    yield mount
    if os.path.ismount(place):
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize(
    ("room", "tensorboard"), [(0.0, "false"), (0.7, "false"), (0.7, "true"), (1.5, "true"), (2.2, "false")]
)
def test_a_full_disk(world: World, forks: Forks, unbroken: Path, disk: Disk, room: float, tensorboard: str) -> None:
    """Room for so many checkpoints; then, with more room, the run goes on as if nothing had been.

    0: the recipe cannot be written; 0.7: nor the first checkpoint; 1.5: nor the second beside it; 2.2: nor the third,
    for best.ckpt is there too.
    """
    size = (unbroken / "last.ckpt").stat().st_size // 1024
    place = disk(max(4, int(room * size)))
    command = "train", world.recipe, "--set", f"run.tensorboard={tensorboard}"
    done = forks.run(*command, cwd=place)
    done.must_refuse("could not finish writing run/", "No space left on device", "hint: free some space", code=1)
    last = place / "run/last.ckpt"
    assert last.exists() == (room > 1)
    assert room < 1 or opened(last)["training"]
    assert not list((place / "run").glob(".*.tmp"))
    disk(10 * size)
    resumed = forks.run(*command, "--resume", cwd=place)
    assert resumed.code == 0, resumed.err
    expected, found = outcome(unbroken), outcome(place / "run")
    for checkpoint in (found["last"], found["best"]):
        checkpoint["recipe"]["run"]["tensorboard"] = False
    assert not differences(expected, found)


def test_a_disk_that_cannot_be_written_to(world: World, forks: Forks, unbroken: Path, disk: Disk) -> None:
    disk(4000)
    place = disk(4000, "ro")
    forks.run("train", world.recipe, cwd=place).must_refuse("run.dir run cannot be made", "Read-only file system")
    done = forks.run("export-embeddings", unbroken / "best.ckpt", "--out", "e.h5", cwd=place)
    assert done.code == 2
    assert "cannot write e.h5" in done.err


def test_a_run_on_a_disk_that_cannot_be_written_to_any_more(
    world: World, forks: Forks, unbroken: Path, disk: Disk
) -> None:
    place = disk(4000)
    assert forks.run("train", world.recipe, "--set", "optim.epochs=1", cwd=place).code == 0
    disk(4000, "ro")
    done = forks.run("train", world.recipe, "--resume", cwd=place)
    done.must_refuse("cannot write run/metrics.jsonl: Read-only file system")
    assert opened(place / "run/last.ckpt")["step"] == 6


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_an_export_to_a_full_disk(forks: Forks, unbroken: Path, disk: Disk, suffix: str) -> None:
    place = disk(8)
    done = forks.run("export-embeddings", unbroken / "best.ckpt", "--out", f"e{suffix}", cwd=place)
    done.must_refuse("could not finish writing", code=1)
    assert not os.listdir(place)
