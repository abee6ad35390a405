"""Damage files of every kind and read them: each must be read, or be refused with one message.

The files are read in child processes, which are watched: one that is killed by a signal, or does not answer for long,
is a fault too, and a new one reads the next file. Input n of a target depends on the seed alone, so a fault can be
repeated; its file is kept.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from campaigns.campaign import Campaign, Order, Row
from campaigns.commands import prepare_forks
from campaigns.damage import damaged
from campaigns.fuzz_readers import READERS, Wrong
from campaigns.fuzz_samples import make_samples

from selfalign_cli.bench.machine import GIB, describe
from selfalign_cli.errors import RunError, SelfAlignError

ROUNDS = {"tiny": 300, "small": 5_000, "published": 20_000}
WEIGHTS = {
    "recipe": 4,
    "vocabulary": 4,
    "tokenizer": 1,
    "features": 3,
    "source": 1,
    "captions": 4,
    "checkpoint": 2,
    "published": 2,
    "embeddings": 3,
    "result": 1,
}
"""Relative numbers of inputs of the targets; some take longer than others."""
PATIENCE = 10.0
"""Seconds that a reader may take for one file."""
START_PATIENCE = 110.0
"""Additional time for the first file of a process, which loads libraries."""
ADDRESS_SPACE = 8 * GIB
"""Address space for reading damaged files of some kilobytes, beyond that of the libraries."""
LONGEST_MESSAGE = 20_000
FAULTS_SHOWN = 20
STATM = Path("/proc/self/statm")
READ, REFUSED = "read", "refused"


@dataclass
class Tally:
    """Verdicts on the inputs of a target.

    Attributes:
        counts: of READ, of REFUSED, and of all others as `faults`.
        faults: number of the first input by verdict.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, int] = field(default_factory=dict)

    def add(self, number: int, verdict: str) -> None:
        """Count an input."""
        if verdict in (READ, REFUSED):
            self.counts[verdict] += 1
            return
        self.counts["faults"] += 1
        self.faults.setdefault(verdict, number)


def run(order: Order) -> Campaign:
    """Damage and read files of all targets."""
    rounds, began = order.rounds or ROUNDS[order.size], time.monotonic()
    kept = Path(tempfile.mkdtemp(prefix="selfalign-fuzz-"))
    samples, work = kept / "samples", kept / "work"
    samples.mkdir()
    work.mkdir()
    rows: list[Row] = []
    faults: list[str] = []
    try:
        prepare_forks(order.setting.threads, kept)
        make_samples(samples, order.setting.threads)
        expect_whole(samples)
        for target, weight in WEIGHTS.items():
            inputs, tally = Inputs(samples, target, order.seed), Tally()
            count = -(-rounds * weight // sum(WEIGHTS.values()))
            for number, verdict in verdicts(inputs, count, work):
                tally.add(number, verdict)
            rows.append({"name": target, "inputs": count, **{n: tally.counts[n] for n in (READ, REFUSED, "faults")}})
            order.notify(f"{target}: {count:,} files, {tally.counts['faults']:,} faults")
            for verdict, number in list(tally.faults.items())[:FAULTS_SHOWN]:
                case = inputs.make(number, kept / f"{target}-{number}")
                faults.append(f"{target}, input {number} of seed {order.seed}: {verdict}; kept in {case}")
    finally:
        if not faults:
            shutil.rmtree(kept, ignore_errors=True)
    names = ("inputs", READ, REFUSED, "faults")
    rows.append({"name": "in all", **{name: sum(int(row[name]) for row in rows) for name in names}})
    settings: Row = {"seed": order.seed, "rounds": rounds, "seconds": round(time.monotonic() - began, 1)}
    return Campaign("fuzz", order.size, describe(order.setting), settings, rows, faults)


def expect_whole(samples: Path) -> None:
    """Check that the undamaged samples are read; otherwise refusals would mean nothing.

    Raises:
        RunError: one is not.
    """
    with tempfile.TemporaryDirectory(prefix="selfalign-fuzz-") as folder:
        copies = shutil.copytree(samples, Path(folder) / "samples")  # readers may write beside their file
        for path in sorted(path for path in copies.rglob("*") if path.is_file()):
            target, *names = path.relative_to(copies).parts
            verdict = verdict_of(target, path)
            if verdict != READ:
                raise RunError(f"the whole sample {target}/{'/'.join(names)}: {verdict}")


@dataclass(frozen=True)
class Inputs:
    """The damaged files of a target.

    Attributes:
        samples: see `fuzz_samples`.
        target: a key of `WEIGHTS`.
        seed: of the campaign.
    """

    samples: Path
    target: str
    seed: int

    def make(self, number: int, folder: Path) -> Path:
        """Make an input.

        Args:
            number: from 0.
            folder: path for the new folder with the files of its case.

        Returns:
            The file that is damaged.
        """
        chance = random.Random(f"{self.seed} {self.target} {number}")
        files = sorted(path for path in (self.samples / self.target).rglob("*") if path.is_file())
        chosen, donor = chance.choice(files), chance.choice(files)
        victim = Path(shutil.copytree(chosen.parent, folder)) / chosen.name
        victim.write_bytes(damaged(chosen.read_bytes(), donor.read_bytes(), chance))
        return victim


def verdicts(inputs: Inputs, count: int, work: Path) -> Iterator[tuple[int, str]]:
    """Yield number and verdict of the first inputs of a target.

    Args:
        inputs: the inputs.
        count: number of inputs.
        work: an existing folder to read them in.
    """
    number = 0
    context = multiprocessing.get_context("forkserver")
    while number < count:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=read_all, args=(sender, inputs, range(number, count), work))
        process.start()
        sender.close()
        try:
            for verdict in _answers(receiver, process, count - number, PATIENCE * len(READERS[inputs.target])):
                yield number, verdict
                number += 1
        finally:
            process.kill()
            process.join()
            receiver.close()


def _answers(receiver: Connection, process: BaseProcess, count: int, patience: float) -> Iterator[str]:
    """The verdicts of a process on its inputs, up to one that ends the process."""
    for number in range(count):
        if not receiver.poll(patience + (START_PATIENCE if number == 0 else 0)):
            yield f"no answer for {patience:.0f} seconds"
            return
        try:
            yield receiver.recv()
        except EOFError:
            process.join()
            yield f"the process ended with {process.exitcode}"
            return


def read_all(sender: Connection, inputs: Inputs, numbers: range, work: Path) -> None:
    """Read inputs and send the verdict on each; the work of a child process of `verdicts`."""
    if STATM.exists():
        taken = int(STATM.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESS_SPACE, resource.RLIM_INFINITY))
    folder = work / "case"
    for number in numbers:
        shutil.rmtree(folder, ignore_errors=True)
        sender.send(verdict_of(inputs.target, inputs.make(number, folder)))


def verdict_of(target: str, victim: Path) -> str:
    """Read a file with every reader of its target: READ, REFUSED if one refuses it, or a description of the fault."""
    found = READ
    for reader in READERS[target]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                reader(victim)
        except SelfAlignError as error:
            if not 0 < len(error.message) < LONGEST_MESSAGE:
                return f"{reader.__name__}: a message of {len(error.message):,} characters"
            found = REFUSED
        except Wrong as fault:
            return f"{reader.__name__}: accepted, but {fault}"
        except BaseException as fault:
            where = traceback.extract_tb(fault.__traceback__)
            own = [*where, *(frame for frame in where if "selfalign_cli" in frame.filename)][-1]
            return (
                f"{reader.__name__}: {type(fault).__name__} in {Path(own.filename).name}:{own.lineno}: {fault!s:.200}"
            )
    return found
