"""SIGINT and SIGTERM: the step is finished, the run saved, the exit code says which; a second one ends it at once."""

from __future__ import annotations

import signal
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import pytest
from support.instants import before_naming, before_validation, in_step
from support.processes import TIMEOUT, Forks, at_call, cold, until
from support.world import World, differences, metrics_of, opened, outcome

STOPS = pytest.mark.parametrize(("which", "code"), [(SIGINT, 130), (SIGTERM, 143)])


def must_go_on_to(unbroken: Path, world: World, forks: Forks, folder: Path, workers: int = 0) -> None:
    done = forks.run("train", world.recipe, "--resume", "--set", f"data.workers={workers}", cwd=folder)
    assert done.code == 0, done.err
    expected, found = outcome(unbroken), outcome(folder / "run")
    for checkpoint in (found["last"], found["best"]):
        checkpoint["recipe"]["data"]["workers"] = 0
    assert not differences(expected, found)


@STOPS
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_ends_the_run_after_its_step(
    world: World, forks: Forks, unbroken: Path, tmp_path: Path, which: signal.Signals, code: int, workers: int
) -> None:
    """It comes while step 5 is computed, and reaches the whole group, as from a terminal or a job's end."""
    before = in_step(5, which, group=True)
    done = forks.run("train", world.recipe, "--set", f"data.workers={workers}", cwd=tmp_path, before=before)
    done.must_refuse(f"error: stopped by {which.name}; everything up to here is saved", "--resume", code=code)
    assert opened(tmp_path / "run/last.ckpt")["step"] == 5
    assert metrics_of(tmp_path / "run") == metrics_of(unbroken)[:4]
    must_go_on_to(unbroken, world, forks, tmp_path, workers)


def test_a_signal_ends_a_validation_early(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    """It is done again on resume, from the start."""
    done = forks.run("train", world.recipe, cwd=tmp_path, before=before_validation(SIGINT))
    done.must_refuse("stopped by SIGINT", code=130)
    last = opened(tmp_path / "run/last.ckpt")
    assert (last["step"], last["training"]["validated"]) == (4, -1)
    assert not (tmp_path / "run/best.ckpt").exists()
    must_go_on_to(unbroken, world, forks, tmp_path)


@STOPS
def test_a_second_signal_ends_at_once(
    world: World, forks: Forks, unbroken: Path, tmp_path: Path, which: signal.Signals, code: int
) -> None:
    """The first comes in step 5; the second just before the checkpoint of step 5 replaces that of step 4."""
    before = in_step(5, which) + before_naming("last.ckpt", which, step=5)
    done = forks.run("train", world.recipe, cwd=tmp_path, before=before)
    assert (done.code, "Traceback" in done.err, "error" in done.err) == (code, False, False)
    assert opened(tmp_path / "run/last.ckpt")["step"] == 4
    must_go_on_to(unbroken, world, forks, tmp_path)


@STOPS
def test_a_signal_while_data_are_opened_ends_at_once(
    world: World, forks: Forks, tmp_path: Path, which: signal.Signals, code: int
) -> None:
    before = at_call("selfalign_cli.training.train.language_of_recipe", 1, which)
    done = forks.run("train", world.recipe, cwd=tmp_path, before=before)
    done.must_refuse(f"stopped by {which.name} before the first step", code=code)
    assert not (tmp_path / "run").exists()


def test_a_signal_while_a_run_is_taken_up_again_changes_nothing(
    world: World, forks: Forks, unbroken: Path, tmp_path: Path
) -> None:
    assert forks.run("train", world.recipe, cwd=tmp_path, before=in_step(6, SIGKILL)).code == -SIGKILL
    before = at_call("selfalign_cli.training.train.restore_state", 1, SIGTERM, after=True)
    kept = (tmp_path / "run/last.ckpt").read_bytes()
    done = forks.run("train", world.recipe, "--resume", cwd=tmp_path, before=before)
    done.must_refuse("stopped by SIGTERM before the first step", code=143)
    assert (tmp_path / "run/last.ckpt").read_bytes() == kept
    must_go_on_to(unbroken, world, forks, tmp_path)


def test_ctrl_c_while_the_program_is_loaded(world: World, tmp_path: Path) -> None:
    """The command as a user starts it, interrupted while torch is imported, which takes seconds."""
    process = cold("train", world.recipe, cwd=tmp_path)
    until(lambda: "libtorch_cpu" in Path(f"/proc/{process.pid}/maps").read_text())
    process.send_signal(SIGINT)
    out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    assert not (tmp_path / "run").exists()
