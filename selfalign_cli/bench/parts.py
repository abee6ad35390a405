"""Time and memory of the parts of a step, which calls `mark` with the name of each part when it is done."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from selfalign_cli.bench.measure import MOST_ROUNDS, Memory, Setting
from selfalign_cli.bench.plain.step import Mark

Step = Callable[[Mark], object]
FEWEST_ROUNDS = 3


def seconds_of_parts(variants: Mapping[str, Step], setting: Setting) -> dict[str, dict[str, float]]:
    """Median seconds of every part. The variants take turns; their first runs, with fresh memory, do not count."""
    samples: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
    spent = 0.0
    for number in range(MOST_ROUNDS + 1):
        for variant, step in variants.items():
            parts = _marked(step, setting)
            if number > 0:
                samples[variant].append(parts)
            spent += sum(parts.values())
        if spent > setting.budget and number >= FEWEST_ROUNDS:
            break
    return {
        variant: {part: statistics.median(each[part] for each in taken) for part in taken[0]}
        for variant, taken in samples.items()
    }


def memory_of_parts(step: Step, setting: Setting) -> dict[str, tuple[int, int]]:
    """(peak, kept) bytes of each part of a step beyond those allocated before it; under `step`, of the whole."""
    memory, found = Memory(setting.device), {}
    start = before = memory.reset()
    highest = 0

    def mark(part: str) -> None:
        nonlocal before, highest
        setting.wait()
        peak = memory.peak()
        highest = max(highest, peak - start)
        after = memory.reset()
        found[part] = (max(0, peak - before), after - before)
        before = after

    step(mark)
    return {**found, "step": (highest, before - start)}


def _marked(step: Step, setting: Setting) -> dict[str, float]:
    """Seconds of every part of one step."""
    parts: dict[str, float] = {}
    setting.wait()
    last = time.perf_counter()

    def mark(name: str) -> None:
        nonlocal last
        setting.wait()
        now = time.perf_counter()
        parts[name], last = now - last, now

    step(mark)
    return parts
