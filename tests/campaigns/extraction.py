"""Kill extractions at random instants, take them up again, and compare the feature file with that of an unbroken run.

Every round extracts the same pictures in a folder of its own. Its processes are killed from outside with SIGKILL, a
few times in a row: at instants drawn over the length of a run, or while the feature file is written. The file that a
round ends with must have the bytes of the unbroken run, and nothing may be left beside it.
"""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from campaigns.campaign import Campaign, Order, Row
from campaigns.commands import PATIENCE, Command, prepare_forks
from PIL import Image

from selfalign_cli.bench.machine import describe
from selfalign_cli.errors import RunError

ROUNDS = {"tiny": 2, "small": 20, "published": 100}
PICTURES, SIDE = 40, 96
MOST_KILLS = 3
"""In a row, in one round."""
PHASES = ("start-up", "pictures", "feature file")
AIMED = 0.25
"""Share of kills that wait for the feature file, which is written in a moment."""
WRITE_SECONDS = 0.02
POLL_SECONDS = 0.0005
OUT = "f.h5"


class Lost(Exception):
    """A round did not end as the unbroken run did."""


class Round:
    """A folder in which an extraction is started, killed and resumed.

    Args:
        folder: working directory of the processes.
        photos: the pictures.
        threads: of torch.

    Attributes:
        kills: the phases that were hit.
    """

    def __init__(self, folder: Path, photos: Path, threads: int) -> None:
        self.folder, self.photos, self.threads = folder, photos, threads
        self.kills: list[str] = []
        self.starts = 0
        folder.mkdir()

    @property
    def out(self) -> Path:
        """The feature file."""
        return self.folder / OUT

    def start(self) -> Command:
        """Start a process; `--resume` also begins an extraction."""
        self.starts += 1
        model = ["--backbone", "weightless", "--area", "64", "--regions", "8", "--device", "cpu"]
        return Command(
            ["extract", str(self.photos), "--out", OUT, "--resume", *model],
            folder=self.folder,
            printed=self.folder / f"printed-{self.starts}.txt",
            cold=False,
            threads=self.threads,
        )

    def kill(self, draw: random.Random, seconds: float) -> bool:
        """Start a process and kill it; False, and an empty folder, if it ended before that."""
        command = self.start()
        if draw.random() < AIMED:
            patient = time.monotonic() + PATIENCE
            while not self.is_writing() and command.code() is None and time.monotonic() < patient:
                time.sleep(POLL_SECONDS)
            time.sleep(draw.uniform(0.0, WRITE_SECONDS))
        else:
            time.sleep(draw.uniform(0.0, seconds))
        command.kill()
        if self.end(command, expected=(0, -signal.SIGKILL)) == 0:
            self.out.unlink()
            return False
        self.kills.append(self.phase())
        return True

    def finish(self) -> bytes:
        """Extract to the end; the bytes of the file."""
        if not self.out.exists():
            self.end(self.start(), expected=(0,))
            left = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith(("printed-", OUT)))
            if left:
                raise Lost(f"{', '.join(left)} left behind")
        return self.out.read_bytes()

    def end(self, command: Command, *, expected: tuple[int, ...]) -> int:
        """Wait for a process; an unexpected exit code is a loss."""
        code = command.wait()
        if code not in expected:
            output = command.printed.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise Lost(f"process {self.starts} " + ("hangs" if code is None else f"ended with {code}") + f": {output}")
        return code

    def is_writing(self) -> bool:
        """Whether the feature file still has its temporary name."""
        return any(self.folder.glob(f".{OUT}.*.tmp"))

    def phase(self) -> str:
        """The phase in which a process was killed, from the files that it left."""
        if self.is_writing() or self.out.exists():
            return "feature file"
        return "pictures" if any(self.folder.glob(f".{OUT}.parts/*.jsonl")) else "start-up"


def run(order: Order) -> Campaign:
    """Kill and resume in all rounds; a lost round keeps its folder, whose path is reported."""
    rounds = order.rounds or ROUNDS[order.size]
    draw, hits, lost = random.Random(order.seed), Counter[str](), []
    began = time.monotonic()
    base = Path(tempfile.mkdtemp(prefix="selfalign-extract-"))
    threads = order.setting.threads
    try:
        prepare_forks(threads, base)
        photos = make_pictures(base / "photos")
        expected, seconds = extract_unbroken(base / "unbroken", photos, threads)
        for number in range(1, rounds + 1):
            current = Round(base / f"round-{number}", photos, threads)
            fault = play(current, expected, seconds, draw)
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
        "survived": rounds - len(lost),
        "lost": len(lost),
        "pictures": PICTURES,
        "seconds": round(time.monotonic() - began, 1),
    }
    return Campaign("extract", order.size, describe(order.setting), settings, rows, lost)


def make_pictures(folder: Path) -> Path:
    """Coloured noise, each picture another, and one file that is none."""
    folder.mkdir()
    for number in range(PICTURES):
        tiles = np.random.default_rng(number).integers(0, 256, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
        Image.fromarray(tiles.repeat(8, axis=0).repeat(8, axis=1)).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_text("no picture")
    return folder


def extract_unbroken(folder: Path, photos: Path, threads: int) -> tuple[bytes, float]:
    """The bytes of the feature file of two runs that nobody killed, and the seconds of the second.

    Raises:
        RunError: they differ or fail, so that there is nothing to compare with.
    """
    found = []
    for name in ("1", "2"):
        current = Round(folder.with_name(f"{folder.name}-{name}"), photos, threads)
        began = time.monotonic()
        try:
            found.append(current.finish())
        except Lost as fault:
            raise RunError(f"the run without kills: {fault}") from None
        seconds = time.monotonic() - began
    if found[0] != found[1]:
        raise RunError("two runs without kills differ")
    return found[1], seconds


def play(current: Round, expected: bytes, seconds: float, draw: random.Random) -> str:
    """Kill a round a few times, extract to the end and compare; what was lost, empty when nothing was."""
    try:
        kills = draw.randint(1, MOST_KILLS)
        while len(current.kills) < kills and not current.out.exists():
            current.kill(draw, seconds)
        if current.finish() != expected:
            return "lost: another feature file"
    except Lost as fault:
        return f"lost: {fault}"
    shutil.rmtree(current.folder)
    return ""
