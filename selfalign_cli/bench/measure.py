"""Time and memory of a piece of work on this machine.

Time: variants with the same result take turns, A B A B, in one process, and the median of each is taken; when the
machine slows down, it slows down for all of them.

Memory: each variant runs once in a child process, after the same work at toy size has loaded the libraries. The system
itself tracks the peak resident memory (VmHWM); it is reset just before the work, and its growth, less what the work
returns, is what the work needs. Python's tracemalloc sees no tensor, and the maximum of getrusage cannot be reset. The
child returns freed blocks to the system at once, so that nothing freed earlier hides an allocation; that costs time,
which is why this run is not timed. On a GPU the counters of torch's allocator are used.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from selfalign_cli.errors import RunError

Work = Callable[[], object]

BUDGET_SECONDS = 20.0
"""How long the rounds of one comparison may take, without the first."""
MOST_ROUNDS = 7
LONG_SECONDS = 2.0
"""From this duration on the first run counts: a warm-up would change little."""
MMAP_THRESHOLD = -3
"""glibc's M_MMAP_THRESHOLD; blocks above it are returned to the system as soon as they are freed."""


@dataclass(frozen=True)
class Setting:
    """Threads and device of a measurement.

    Attributes:
        threads: of torch.
        device: cpu or cuda.
        budget: seconds after which no further round of a measurement begins.
    """

    threads: int
    device: torch.device
    budget: float = BUDGET_SECONDS

    def enter(self) -> None:
        """Set the number of threads."""
        torch.set_num_threads(self.threads)

    def wait(self) -> None:
        """Wait until a GPU has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def alternate(variants: Mapping[str, Work], setting: Setting, *, budget: float = BUDGET_SECONDS) -> dict[str, float]:
    """Time several variants in turn.

    Args:
        variants: what to time, by name.
        setting: the device to wait for, and a budget.
        budget: a smaller budget. The first run of a variant is a warm-up if it is short.

    Returns:
        Median seconds of each variant.
    """
    budget = min(budget, setting.budget)
    samples: dict[str, list[float]] = {name: [] for name in variants}
    for name, work in variants.items():
        first = seconds_of(work, setting)
        if first >= LONG_SECONDS:
            samples[name].append(first)
    began = time.perf_counter()
    for _ in range(MOST_ROUNDS):
        if all(samples.values()) and time.perf_counter() - began > budget:
            break
        for name, work in variants.items():
            if not samples[name] or time.perf_counter() - began <= budget:
                samples[name].append(seconds_of(work, setting))
    return {name: statistics.median(taken) for name, taken in samples.items()}


def seconds_of(work: Work, setting: Setting) -> float:
    """Time one run."""
    setting.wait()
    began = time.perf_counter()
    work()
    setting.wait()
    return time.perf_counter() - began


class Memory:
    """Memory in use, and its peak since the last `reset`: of this process, or allocated on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> int:
        """Bytes in use."""
        gc.collect()
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return _status("VmRSS")

    def reset(self) -> int:
        """Reset the peak; returns the bytes in use."""
        before = self.now()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return before

    def peak(self) -> int:
        """Peak of bytes in use since the last reset."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return _status("VmHWM")


def in_child(task: Callable[..., Any], *arguments: object) -> Any:
    """Run a function of this package in a fresh process and return what it returns.

    All children of one measurement are forked from a process that has done nothing but the imports.

    Raises:
        RunError: the child ended without a result, e.g. because memory ran out.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["selfalign_cli.bench.run"])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(sender, task, arguments), daemon=True)
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RunError("a measurement in a child process failed", "a smaller --size needs less memory") from None
    finally:
        child.terminate()
        child.join()


@dataclass(frozen=True)
class Sample:
    """A piece of work whose memory is measured.

    Attributes:
        prepare: module-level function that makes the inputs and returns the work.
        toy: arguments for the warm-up.
        real: arguments for what is measured.
    """

    prepare: Callable[..., Work]
    toy: tuple[object, ...]
    real: tuple[object, ...]


def peak_extra(samples: Sequence[Sample], setting: Setting) -> list[int]:
    """Peak bytes of each piece of work, its inputs and results not counted; in one child process."""
    found: list[int] = in_child(_peaks, list(samples), setting)
    return found


def give_freed_memory_back() -> None:
    """Let glibc return freed blocks at once; does nothing with another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, 1 << 16)


def _peaks(samples: list[Sample], setting: Setting) -> list[int]:
    setting.enter()
    give_freed_memory_back()
    return [_peak(sample, Memory(setting.device), setting) for sample in samples]


def _peak(sample: Sample, memory: Memory, setting: Setting) -> int:
    sample.prepare(*sample.toy)()
    work = sample.prepare(*sample.real)
    before = memory.reset()
    result = work()
    setting.wait()
    return max(0, memory.peak() - before - _bytes(result))


def _bytes(result: object) -> int:
    """Size of the tensors that a piece of work returns."""
    parts = result if isinstance(result, (tuple, list)) else [result]
    return sum(part.untyped_storage().nbytes() for part in parts if isinstance(part, torch.Tensor))


def _answer(sender: Connection, task: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    sender.send(task(*arguments))


def _status(name: str) -> int:
    """A line of /proc/self/status in bytes; without it, the peak resident memory since the process started."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = next(line for line in lines if line.startswith(f"{name}:"))
    return int(found.split()[1]) * 1024
