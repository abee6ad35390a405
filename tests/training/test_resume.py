"""Killed at any instant, `--resume` ends with what an unbroken run ends with, bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path
from signal import SIGKILL

import pytest
from support.instants import after_naming, after_step, before_naming, in_step, in_validation
from support.processes import TIMEOUT, Done, Forks, cold, until
from support.world import STEPS, World, differences, lines_of, metrics_of, opened, outcome

# The run saves after steps 2, 4 (with a validation, the first best), 6, 8, 10 and 12.
# An instant, and the step of last.ckpt (0: none) that is there when the run is killed in it.
INSTANTS = {
    "before environment.json gets its name": (before_naming("environment.json", SIGKILL), 0),
    "before the first checkpoint": (in_step(2, SIGKILL), 0),
    "before last.ckpt of step 2 gets its name": (before_naming("last.ckpt", SIGKILL, step=2), 0),
    "in the middle of an epoch": (in_step(4, SIGKILL), 2),
    "between a step and its log line": (after_step(4, SIGKILL), 2),
    "in a validation": (in_validation(SIGKILL), 2),
    "before last.ckpt of step 4 gets its name": (before_naming("last.ckpt", SIGKILL, step=4), 2),
    "between last.ckpt and best.ckpt of step 4": (after_naming("last.ckpt", SIGKILL, step=4), 4),
    "before best.ckpt of step 4 gets its name": (before_naming("best.ckpt", SIGKILL, step=4), 4),
    "after best.ckpt of step 4 got its name": (after_naming("best.ckpt", SIGKILL, step=4), 4),
    "in the second epoch": (in_step(9, SIGKILL), 8),
    "after the last step": (after_step(STEPS, SIGKILL), 10),
}


def resume(world: World, forks: Forks, folder: Path, *more: str) -> Done:
    return forks.run("train", world.recipe, "--resume", *more, cwd=folder)


def must_equal(unbroken: Path, run: Path) -> None:
    """All but two keys of the recipe, which may change when a run is resumed."""
    expected, found = outcome(unbroken), outcome(run)
    for checkpoint in (expected["last"], expected["best"], found["last"], found["best"]):
        del checkpoint["recipe"]["data"]["workers"], checkpoint["recipe"]["optim"]["epochs"]
    assert not differences(expected, found)


@pytest.mark.parametrize("instant", INSTANTS)
def test_killed_and_resumed(world: World, forks: Forks, unbroken: Path, tmp_path: Path, instant: str) -> None:
    before, step = INSTANTS[instant]
    last = tmp_path / "run/last.ckpt"
    assert forks.run("train", world.recipe, cwd=tmp_path, before=before).code == -SIGKILL
    assert (opened(last)["step"] if last.exists() else 0) == step
    resumed = resume(world, forks, tmp_path)
    assert resumed.code == 0, resumed.err
    must_equal(unbroken, tmp_path / "run")


@pytest.mark.parametrize("instant", ["in the middle of an epoch", "in a validation", "in the second epoch"])
def test_killed_and_resumed_while_threads_read_ahead(
    world: World, forks: Forks, unbroken: Path, tmp_path: Path, instant: str
) -> None:
    """Batches that were read and not used are read again; the threads draw no random numbers of dropout."""
    command = "train", world.recipe, "--set", "data.workers=2"
    assert forks.run(*command, cwd=tmp_path, before=INSTANTS[instant][0]).code == -SIGKILL
    resumed = resume(world, forks, tmp_path, "--set", "data.workers=2")
    assert resumed.code == 0, resumed.err
    must_equal(unbroken, tmp_path / "run")


def test_killed_again_and_again(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    """Every process dies in its third step; each gets two steps further."""
    codes = []
    while not codes or codes[-1]:
        codes.append(forks.run("train", world.recipe, "--resume", cwd=tmp_path, before=in_step(3, SIGKILL)).code)
        assert len(codes) < 10
    assert codes == [-SIGKILL] * 5 + [0]
    must_equal(unbroken, tmp_path / "run")


def test_killed_in_the_middle_of_writing_a_checkpoint(
    world: World, forks: Forks, unbroken: Path, tmp_path: Path
) -> None:
    """The system kills a process that writes a file beyond its limit; Python asks not to be, so ask for it again."""
    limit = (unbroken / "last.ckpt").stat().st_size // 2
    killer = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
"""
    killed = forks.run("train", world.recipe, cwd=tmp_path, before=killer)
    assert killed.code == -signal.SIGXFSZ
    left_over = list((tmp_path / "run").glob(".last.ckpt.*.tmp"))
    assert 0 < left_over[0].stat().st_size <= limit
    assert not (tmp_path / "run/last.ckpt").exists()
    assert resume(world, forks, tmp_path).code == 0
    assert not left_over[0].exists()
    must_equal(unbroken, tmp_path / "run")


def test_killed_from_outside(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    """The command as a user starts it, killed by another process when its log has three lines."""
    process = cold("train", world.recipe, cwd=tmp_path)
    log = tmp_path / "run/metrics.jsonl"
    until(lambda: log.exists() and log.read_bytes().count(b"\n") >= 3)
    process.kill()
    process.communicate(timeout=TIMEOUT)
    resumed = resume(world, forks, tmp_path)
    assert resumed.code == 0, resumed.err
    must_equal(unbroken, tmp_path / "run")


def test_what_was_logged_after_the_checkpoint_is_logged_again_once(
    world: World, forks: Forks, unbroken: Path, tmp_path: Path
) -> None:
    killer = in_step(9, SIGKILL)
    assert forks.run("train", world.recipe, "--set", "run.save_every=100", cwd=tmp_path, before=killer).code < 0
    assert [line["step"] for line in lines_of(tmp_path / "run")][-1] == 8
    assert opened(tmp_path / "run/last.ckpt")["step"] == 8
    assert resume(world, forks, tmp_path).code == 0
    assert metrics_of(tmp_path / "run") == metrics_of(unbroken)


def test_more_epochs_go_on_as_if_they_had_been_asked_for_at_once(
    world: World, forks: Forks, unbroken: Path, tmp_path: Path
) -> None:
    assert forks.run("train", world.recipe, "--set", "optim.epochs=1", cwd=tmp_path).code == 0
    assert resume(world, forks, tmp_path).code == 0
    must_equal(unbroken, tmp_path / "run")


def test_a_complete_run_says_so_and_stays_as_it_is(world: World, forks: Forks, tmp_path: Path, unbroken: Path) -> None:
    for name in ("last.ckpt", "best.ckpt", "metrics.jsonl"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_bytes((unbroken / name).read_bytes())
    done = resume(world, forks, tmp_path)
    assert (done.code, "run is complete" in done.err) == (0, True)
    must_equal(unbroken, tmp_path / "run")


def test_a_resume_without_a_checkpoint_is_reported(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    done = resume(world, forks, tmp_path)
    assert done.code == 0
    assert "there is no run/last.ckpt to resume: starting at the first step" in done.err
    must_equal(unbroken, tmp_path / "run")


def test_a_run_folder_has_one_process(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    """While one trains (here it is stopped), a second one is refused."""
    first = forks.start("train", world.recipe, cwd=tmp_path, before=in_step(4, signal.SIGSTOP))
    until(lambda: "T (stopped)" in Path(f"/proc/{first.number}/status").read_text())
    resume(world, forks, tmp_path).must_refuse("another process is training in run", code=1)
    first.send(signal.SIGCONT)
    assert first.wait().code == 0
    must_equal(unbroken, tmp_path / "run")
