"""What happens to several processes when one is lost, when all find a fault, and when they are asked to stop."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.instants import code_in_step, in_step
from support.processes import Done, Forks, until
from support.torchrun import messages, run, start
from support.world import World, differences, lines_of, opened, outcome


def lost(number: int, call: int) -> str:
    """Python for `before`: a process of the first start is killed at its n-th step."""
    return f"""
import os
if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == ("{number}", "0"):
    exec({in_step(call, signal.SIGKILL)!r})
"""


@pytest.fixture(scope="session")
def unbroken_pair(world: World, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one training by two processes; not to be written to."""
    folder = tmp_path_factory.mktemp("pair")
    done = run(forks, "train", world.recipe, "--device", "cpu", cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.mark.parametrize("number", [0, 1])
def test_a_lost_process_is_replaced_and_the_run_goes_on(
    world: World, forks: Forks, unbroken_pair: Path, tmp_path: Path, number: int
) -> None:
    """`--max-restarts`: from last.ckpt, without an error message, to the same bits."""
    done = run(forks, "train", world.recipe, "--device", "cpu", cwd=tmp_path, before=lost(number, 6), restarts=1)
    assert done.code == 0, done.err
    assert "resuming after step 4" in done.err
    assert differences(outcome(tmp_path / "run"), outcome(unbroken_pair)) == []


def test_a_lost_process_ends_all_with_one_message(world: World, forks: Forks, tmp_path: Path) -> None:
    done = run(forks, "train", world.recipe, "--device", "cpu", cwd=tmp_path, before=lost(1, 6))
    assert done.code == 1
    assert [line.split(" ")[0] for line in messages(done)] == ["error:", "hint:"]
    assert "another process of this run has ended" in done.err
    assert opened(tmp_path / "run/last.ckpt")["step"] == 4
    resumed = forks.run("train", world.recipe, "--resume", "--device", "cpu", cwd=tmp_path)
    assert resumed.code == 0, resumed.err  # by one process, too


def one_message(done: Done, *words: str) -> None:
    assert done.code == 1  # torchrun's, for any exit code of the processes
    assert [line.split(" ")[0] for line in messages(done)] in (["error:"], ["error:", "hint:"])
    assert not [word for word in words if word not in done.err], done.err
    assert "/selfalign_cli/" not in done.err, done.err  # tracebacks are torchrun's own


def test_a_fault_that_all_find_is_reported_once(world: World, forks: Forks, tmp_path: Path) -> None:
    one_message(
        run(forks, "train", world.recipe, "--set", "data.features=no.h5", cwd=tmp_path), "no feature file no.h5"
    )


def test_a_batch_without_a_pair_for_everybody(world: World, forks: Forks, tmp_path: Path) -> None:
    done = run(forks, "train", world.recipe, "--set", "data.batch_size=17", cwd=tmp_path)
    one_message(done, "the smallest batch has 1 pairs for 2 processes (120 pairs, batches of 17)")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_is_reported_once(world: World, forks: Forks, tmp_path: Path) -> None:
    done = run(forks, "train", world.recipe, "--set", "optim.learning_rate=1.0e+30", cwd=tmp_path)
    one_message(done, "not finite")


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_torchrun_loses_nothing(
    world: World, forks: Forks, unbroken_pair: Path, tmp_path: Path, which: signal.Signals
) -> None:
    slow = code_in_step(None, "__import__('time').sleep(0.2)")
    process = start(forks, "train", world.recipe, "--device", "cpu", cwd=tmp_path, before=slow)
    log = tmp_path / "run/metrics.jsonl"
    until(lambda: log.exists() and len(lines_of(tmp_path / "run")) >= 1)
    process.send(which)
    done = process.wait()
    assert done.code != 0
    assert len([line for line in messages(done) if line.startswith("error: stopped by SIG")]) == 1, done.err
    assert 1 <= opened(tmp_path / "run/last.ckpt")["step"] < 12
    resumed = run(forks, "train", world.recipe, "--resume", "--device", "cpu", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert differences(outcome(tmp_path / "run"), outcome(unbroken_pair)) == []


def test_an_older_run_is_not_taken_for_a_restart(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    """A refusal is not a lost process: started anew, it is refused again."""
    done = run(forks, "train", world.recipe, "--set", f"run.dir={unbroken}", cwd=tmp_path, restarts=1)
    assert done.code == 1
    assert done.err.count("holds a run already") == 2
