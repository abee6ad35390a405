"""Kill training at random instants, resume it, and compare its outcome with that of an unbroken run, bit by bit.

Every round trains in a folder of its own. Its processes are killed from outside with SIGKILL, a few times in a row, at
random instants: after some lines of the log, and then at once, in the next validation, while the next checkpoint is
written, or during start-up. The phase in which a kill hit is found from the files that the process left. Most
processes are forked from one that has loaded the libraries; every fifth round starts them cold.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaigns.campaign import Campaign, Order, Row
from campaigns.commands import PATIENCE, Command, prepare_forks
from campaigns.outcome import differences, outcome
from campaigns.small_run import CAPTIONS, make_small_run

from selfalign_cli.bench.machine import describe
from selfalign_cli.errors import RunError

ROUNDS = {"tiny": 3, "small": 10, "published": 50}
IMAGES, BATCH, EPOCHS = 24, 22, 5
STEPS_PER_EPOCH = -(-IMAGES * CAPTIONS // BATCH)
STEPS = EPOCHS * STEPS_PER_EPOCH
SAVE_EVERY, VALIDATE_EVERY = 2, 4
COLD_EVERY = 5
MOST_KILLS = 5
"""In a row, in one round."""
PHASES = {"start-up": 2, "step": 3, "validation": 2, "checkpoint": 3}
"""Phases of a run, and how often a kill is aimed at each. It may miss: a validation may be over before it arrives."""
WRITE_SECONDS = 0.005
"""Approximate time to write a checkpoint of this size."""
BEGUN = ("training: ", "resuming after step ")
"""Output of the command when start-up is over."""
POLL_SECONDS = 0.0005
"""Interval at which the files of a run are checked."""
SHOWN = 3
"""Differences of a lost round that are reported."""


@dataclass(frozen=True)
class Unbroken:
    """A run that was not killed: its outcome, and the duration of its parts.

    Attributes:
        ended: see `outcome`.
        start_up: seconds until its first step, when started cold and when forked.
        step: seconds of a step.
        validation: seconds of a validation.
    """

    ended: dict[str, Any]
    start_up: dict[bool, float]
    step: float
    validation: float


@dataclass(frozen=True)
class Aim:
    """When to kill a process.

    Attributes:
        phase: a key of `PHASES`.
        lines: number of further log lines to wait for first.
        delay: seconds to wait in that phase.
    """

    phase: str
    lines: int
    delay: float


class Lost(Exception):
    """A round did not end as the unbroken run did."""


@dataclass
class Round:
    """A folder in which training is started, killed and resumed.

    Attributes:
        folder: working directory of the processes.
        arguments: of `selfalign`.
        cold: start interpreters, not forks.
        threads: of torch.
        kills: the phases that were hit.
        starts: number of processes so far.
    """

    folder: Path
    arguments: list[str]
    cold: bool
    threads: int
    kills: list[str] = field(default_factory=list)
    starts: int = 0

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "run"

    def start(self) -> Command:
        """Start a process."""
        self.starts += 1
        printed = self.folder / f"printed-{self.starts}.txt"
        return Command(self.arguments, folder=self.folder, printed=printed, cold=self.cold, threads=self.threads)

    def kill(self, aim: Aim) -> bool:
        """Start a process and kill it; False if it ended before that."""
        wanted = _count_lines(self.run) + aim.lines
        command = self.start()
        if aim.phase != "start-up":
            _until(lambda: _begun(command), command)
            _until(lambda: _count_lines(self.run) >= wanted, command)
        if aim.phase in SIGNS:
            _until(lambda: SIGNS[aim.phase](self.run), command)
        time.sleep(aim.delay)
        command.kill()
        if self.end(command, expected=(0, -signal.SIGKILL)) == 0:
            return False
        self.kills.append(phase_of(self.run, command))
        return True

    def finish(self) -> None:
        """Train to the end."""
        self.end(self.start(), expected=(0,))
        left_over = sorted(path.name for path in self.run.glob(".*.tmp"))
        if left_over:
            raise Lost(f"{', '.join(left_over)} left behind")

    def end(self, command: Command, *, expected: tuple[int, ...]) -> int:
        """Wait for a process; an unexpected exit code is a loss."""
        code = command.wait()
        if code not in expected:
            output = command.printed.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise Lost(f"process {self.starts} " + ("hangs" if code is None else f"ended with {code}") + f": {output}")
        return code


def run(order: Order) -> Campaign:
    """Kill and resume in all rounds; a lost round keeps its folder, whose path is reported."""
    rounds = order.rounds or ROUNDS[order.size]
    draw, hits, lost = random.Random(order.seed), Counter[str](), []
    began = time.monotonic()
    base = Path(tempfile.mkdtemp(prefix="selfalign-soak-"))
    try:
        prepare_forks(order.setting.threads, base)
        recipe = make_small_run(
            base, images=IMAGES, batch_size=BATCH, epochs=EPOCHS, save_every=SAVE_EVERY, validate_every=VALIDATE_EVERY
        )
        unbroken = train_unbroken(base, recipe, order.setting.threads, cold=rounds >= COLD_EVERY)
        for number in range(1, rounds + 1):
            cold, workers = number % COLD_EVERY == 0, 2 * (number % 2)
            arguments = ["train", str(recipe), "--resume", "--device", "cpu", "--set", f"data.workers={workers}"]
            current = Round(base / f"round-{number}", arguments, cold, order.setting.threads)
            fault = play(current, unbroken, draw)
            hits.update(current.kills)
            message = f"round {number} of {rounds}: killed {len(current.kills)} times, {fault or 'the same'}"
            order.notify(message)
            if fault:
                lost.append(f"{message}; seed {order.seed}; see {current.folder}")
    finally:
        if not lost:
            shutil.rmtree(base, ignore_errors=True)
    rows: list[Row] = [{"name": name, "kills": hits[name]} for name in PHASES]
    rows.append({"name": "in all", "kills": hits.total()})
    settings: Row = {
        "seed": order.seed,
        "rounds": rounds,
        "cold": rounds // COLD_EVERY,
        "survived": rounds - len(lost),
        "lost": len(lost),
        "steps": STEPS,
        "seconds": round(time.monotonic() - began, 1),
    }
    return Campaign("soak", order.size, describe(order.setting), settings, rows, lost)


def train_unbroken(folder: Path, recipe: Path, threads: int, *, cold: bool) -> Unbroken:
    """Train to the end: forked, and also cold if there will be cold rounds; the outcomes must be the same.

    Raises:
        RunError: they are not, or a run fails, so that there is nothing to compare with.
    """
    start_up, ended = {}, []
    for from_cold in (True, False) if cold else (False,):
        arguments = ["train", str(recipe), "--device", "cpu"]
        current = Round(folder / f"unbroken-{from_cold}", arguments, from_cold, threads)
        current.folder.mkdir()
        began = time.monotonic()
        command = current.start()
        _until(lambda: _begun(command), command)  # noqa: B023 - called at once
        start_up[from_cold] = time.monotonic() - began
        try:
            current.end(command, expected=(0,))
        except Lost as fault:
            raise RunError(f"the run without kills: {fault}") from None
        ended.append(outcome(current.run))
    found = differences(ended[0], ended[-1])
    if found:
        raise RunError(f"two runs without kills differ: {', '.join(found[:SHOWN])}")
    lines = [json.loads(line) for line in _lines(current.run)]
    taken: dict[str, list[float]] = {"train": [], "validation": []}
    for before, line in zip(lines, lines[1:], strict=False):
        taken.get(line["kind"], []).append(line["seconds"] - before["seconds"])
    return Unbroken(ended[-1], start_up, *(sum(parts) / len(parts) for parts in taken.values()))


def play(current: Round, unbroken: Unbroken, draw: random.Random) -> str:
    """Kill a round a few times, train it to its end and compare.

    Returns:
        What was lost; empty when nothing was.
    """
    current.folder.mkdir()
    kills = draw.randint(1, MOST_KILLS)
    try:
        for aim in [draw_aim(draw, unbroken, kills=kills, cold=current.cold) for _ in range(kills)]:
            if not current.kill(aim):
                break
        current.finish()
        found = differences(unbroken.ended, outcome(current.run))
    except Lost as fault:
        return f"lost: {fault}"
    if found:
        return f"lost: {len(found)} differences: {'; '.join(found[:SHOWN])}"
    shutil.rmtree(current.folder)
    return ""


def draw_aim(draw: random.Random, unbroken: Unbroken, *, kills: int, cold: bool) -> Aim:
    """Draw an instant, such that the given number of kills spreads over the length of the run."""
    phase = draw.choices(list(PHASES), list(PHASES.values()))[0]
    longest = {
        "start-up": 1.2 * unbroken.start_up[cold],
        "step": unbroken.step,
        "validation": unbroken.validation,
        "checkpoint": WRITE_SECONDS,
    }[phase]
    return Aim(phase, draw.randint(0, 2 * STEPS // (kills + 1)), draw.uniform(0.0, longest))


def phase_of(run: Path, command: Command) -> str:
    """The phase in which a process was killed, a key of `PHASES`, from the files that it left."""
    if not _begun(command):
        return "start-up"
    if _is_writing(run):
        return "checkpoint"
    return "validation" if _is_validating(run) else "step"


def _begun(command: Command) -> bool:
    """Whether start-up is over."""
    return any(line.startswith(BEGUN) for line in command.printed.read_text(errors="replace").splitlines())


def _is_writing(run: Path) -> bool:
    """Whether a checkpoint still has its temporary name."""
    return any(run.glob(".*.ckpt.*.tmp"))


def _is_validating(run: Path) -> bool:
    """Whether the log ends with a step that a validation follows."""
    lines = _lines(run)
    last = json.loads(lines[-1]) if lines else {}
    return last.get("kind") == "train" and 0 in (last["step"] % VALIDATE_EVERY, last["step"] % STEPS_PER_EPOCH)


def _lines(run: Path) -> list[bytes]:
    """Whole lines of the log."""
    log = run / "metrics.jsonl"
    return log.read_bytes().split(b"\n")[:-1] if log.exists() else []


def _count_lines(run: Path) -> int:
    return len(_lines(run))


SIGNS = {"validation": _is_validating, "checkpoint": _is_writing}
"""Tests from outside for the phases that can be seen."""


def _until(ready: Callable[[], bool], command: Command) -> None:
    """Wait until a condition holds, or the process has ended."""
    patient = time.monotonic() + PATIENCE
    while not ready() and command.code() is None:
        if time.monotonic() > patient:
            raise Lost("nothing happens any more")
        time.sleep(POLL_SECONDS)
