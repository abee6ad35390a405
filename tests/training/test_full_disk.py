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
    root = tmp_path / "disk"
    root.mkdir()

    def mount(kilobytes: int, *options: str) -> Path:
        again = ["remount"] if os.path.ismount(root) else []
        wanted = ",".join([*again, f"size={kilobytes}k", *options])
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", wanted, "tmpfs", str(root)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        return root

    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    yield mount
    if os.path.ismount(root):
        subprocess.run(["umount", "-l", str(root)], check=True)


@pytest.mark.parametrize(
    ("checkpoints", "tensorboard"), [(0.0, "false"), (0.7, "false"), (0.7, "true"), (1.5, "true"), (2.2, "false")]
)
def test_a_full_disk(
    world: World, forks: Forks, unbroken: Path, disk: Disk, checkpoints: float, tensorboard: str
) -> None:
    """Space for so many checkpoints; with more space, the run resumes to the same end.

    With 0 the recipe cannot be written; with 0.7 the first checkpoint cannot, with 1.5 the second beside it, with 2.2
    the third, since best.ckpt is there too.
    """
    size = (unbroken / "last.ckpt").stat().st_size // 1024
    root = disk(max(4, int(checkpoints * size)))
    command = "train", world.recipe, "--set", f"run.tensorboard={tensorboard}"
    done = forks.run(*command, cwd=root)
    done.must_refuse("could not finish writing run/", "No space left on device", "hint: free some space", code=1)
    last = root / "run/last.ckpt"
    assert last.exists() == (checkpoints > 1)
    assert checkpoints < 1 or opened(last)["training"]
    assert not list((root / "run").glob(".*.tmp"))
    disk(10 * size)
    resumed = forks.run(*command, "--resume", cwd=root)
    assert resumed.code == 0, resumed.err
    expected, found = outcome(unbroken), outcome(root / "run")
    for checkpoint in (found["last"], found["best"]):
        checkpoint["recipe"]["run"]["tensorboard"] = False
    assert not differences(expected, found)


def test_a_disk_that_cannot_be_written_to(world: World, forks: Forks, unbroken: Path, disk: Disk) -> None:
    disk(4000)
    root = disk(4000, "ro")
    forks.run("train", world.recipe, cwd=root).must_refuse("run.dir run cannot be made", "Read-only file system")
    done = forks.run("export-embeddings", unbroken / "best.ckpt", "--out", "e.h5", cwd=root)
    assert done.code == 2
    assert "cannot write e.h5" in done.err


def test_a_run_on_a_disk_that_cannot_be_written_to_any_more(
    world: World, forks: Forks, unbroken: Path, disk: Disk
) -> None:
    root = disk(4000)
    assert forks.run("train", world.recipe, "--set", "optim.epochs=1", cwd=root).code == 0
    disk(4000, "ro")
    done = forks.run("train", world.recipe, "--resume", cwd=root)
    done.must_refuse("cannot write run/metrics.jsonl: Read-only file system")
    assert opened(root / "run/last.ckpt")["step"] == 6


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_an_export_to_a_full_disk(forks: Forks, unbroken: Path, disk: Disk, suffix: str) -> None:
    root = disk(8)
    done = forks.run("export-embeddings", unbroken / "best.ckpt", "--out", f"e{suffix}", cwd=root)
    done.must_refuse("could not finish writing", code=1)
    assert not os.listdir(root)
