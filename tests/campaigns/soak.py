"""Kill training at random instants, resume it, and hold what it ends with against an unbroken run, bit for bit.

Every round trains in a folder of its own. Its processes are killed from outside with SIGKILL, a few times in a row, at
instants that are drawn: after some lines of the log, and then at once, in the next validation, while the next
checkpoint is written, or before anything is there at all. Where a kill really fell is read off what the process left
behind. Most processes are forked from one that has the libraries loaded; every fifth round starts them cold.
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
PLACES = {"start-up": 2, "step": 3, "validation": 2, "checkpoint": 3}
"""Where a kill may fall, and how often it is aimed there. It may miss: a validation may be over before it arrives."""
WRITE_SECONDS = 0.005
"""About how long a checkpoint of this size takes to write."""
BEGUN = ("training: ", "resuming after step ")
"""What the command prints when start-up is over."""
GLANCE = 0.0005
"""Seconds between two looks at a run."""
SHOWN = 3
"""Differences of a lost round that are told."""


@dataclass(frozen=True)
class Unbroken:
    """The run that nobody killed: what it ended with, and how long its parts took.

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
        place: a key of `PLACES`.
        lines: of its log to wait for first.
        delay: seconds to wait in that place.
    """

    place: str
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
        kills: where they fell.
        starts: processes so far.
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
        """Start a process and kill it; False if it was through before."""
        wanted = _count_lines(self.run) + aim.lines
        command = self.start()

        if aim.place != "start-up":
            _until(lambda: _begun(command), command)
            _until(lambda: _count_lines(self.run) >= wanted, command)
        if aim.place in SIGNS:
            _until(lambda: SIGNS[aim.place](self.run), command)
        time.sleep(aim.delay)
        command.kill()
        if self.end(command, expected=(0, -signal.SIGKILL)) == 0:
            return False
        self.kills.append(place_of(self.run, command))
        return True

    def finish(self) -> None:
        """Train to the end."""
        self.end(self.start(), expected=(0,))
        left_over = sorted(path.name for path in self.run.glob(".*.tmp"))
        if left_over:
            raise Lost(f"{', '.join(left_over)} left behind")

    def end(self, command: Command, *, expected: tuple[int, ...]) -> int:
        """Wait for a process; any exit code that was not expected is a loss."""
        code = command.wait()
        if code not in expected:
            told = command.printed.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise Lost(f"process {self.starts} " + ("hangs" if code is None else f"ended with {code}") + f": {told}")
        return code


def run(order: Order) -> Campaign:
    """Kill and resume as often as ordered; a round that is lost keeps its folder, whose place is told."""
    rounds = order.rounds or ROUNDS[order.size]
    draw, fell, lost = random.Random(order.seed), Counter[str](), []
    began = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="selfalign-soak-"))
    try:
        prepare_forks(order.setting.threads, place)
        recipe = make_small_run(
            place, images=IMAGES, batch_size=BATCH, epochs=EPOCHS, save_every=SAVE_EVERY, validate_every=VALIDATE_EVERY
        )
        unbroken = train_unbroken(place, recipe, order.setting.threads, cold=rounds >= COLD_EVERY)
        for number in range(1, rounds + 1):
            cold, workers = number % COLD_EVERY == 0, 2 * (number % 2)
            arguments = ["train", str(recipe), "--resume", "--device", "cpu", "--set", f"data.workers={workers}"]
            current = Round(place / f"round-{number}", arguments, cold, order.setting.threads)
            fault = play(current, unbroken, draw)
            fell.update(current.kills)
            told = f"round {number} of {rounds}: killed {len(current.kills)} times, {fault or 'the same'}"
            order.tell(told)
            if fault:
                lost.append(f"{told}; seed {order.seed}; see {current.folder}")
    finally:
        if not lost:
            shutil.rmtree(place, ignore_errors=True)
    rows: list[Row] = [{"name": name, "kills": fell[name]} for name in PLACES]
    rows.append({"name": "in all", "kills": fell.total()})
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


def train_unbroken(place: Path, recipe: Path, threads: int, *, cold: bool) -> Unbroken:
    """Train to the end: forked, and cold too when there will be cold rounds; both must end with the same.

    Raises:
        RunError: they do not, or fail; so there is nothing to compare with.
    """
    start_up, ended = {}, []
    for way in (True, False) if cold else (False,):
        current = Round(place / f"unbroken-{way}", ["train", str(recipe), "--device", "cpu"], way, threads)
        current.folder.mkdir()
        began = time.monotonic()
        command = current.start()
        _until(lambda: _begun(command), command)  # noqa: B023 - called at once
        start_up[way] = time.monotonic() - began
        try:
            current.end(command, expected=(0,))
        except Lost as fault:
            raise RunError(f"the run that nobody killed: {fault}") from None
        ended.append(outcome(current.run))
    found = differences(ended[0], ended[-1])
    if found:
        raise RunError(f"two runs that nobody killed differ: {', '.join(found[:SHOWN])}")
    lines = [json.loads(line) for line in _lines(current.run)]
    taken: dict[str, list[float]] = {"train": [], "validation": []}
    for before, line in zip(lines, lines[1:], strict=False):
        taken[line["kind"]].append(line["seconds"] - before["seconds"])
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
    """Draw an instant; so many kills get about as far as the run is long."""
    place = draw.choices(list(PLACES), list(PLACES.values()))[0]
    longest = {
        "start-up": 1.2 * unbroken.start_up[cold],
        "step": unbroken.step,
        "validation": unbroken.validation,
        "checkpoint": WRITE_SECONDS,
    }[place]
    return Aim(place, draw.randint(0, 2 * STEPS // (kills + 1)), draw.uniform(0.0, longest))


def place_of(run: Path, command: Command) -> str:
    """Where a kill fell, from what the process left behind: a key of `PLACES`."""
    if not _begun(command):
        return "start-up"
    if _is_writing(run):
        return "checkpoint"
    return "validation" if _is_validating(run) else "step"


def _begun(command: Command) -> bool:
    """Whether start-up is over."""
    return any(line.startswith(BEGUN) for line in command.printed.read_text(errors="replace").splitlines())


def _is_writing(run: Path) -> bool:
    """Whether a checkpoint has no name yet."""
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
"""What a run looks like from outside while it is in some places."""


def _until(ready: Callable[[], bool], command: Command) -> None:
    """Wait until something is so, or the process has ended."""
    patient = time.monotonic() + PATIENCE
    while not ready() and command.code() is None:
        if time.monotonic() > patient:
            raise Lost("nothing happens any more")
        time.sleep(GLANCE)
