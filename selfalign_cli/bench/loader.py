"""The data loader beside a training step of ten milliseconds; random access beside a memory-mapped array."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from selfalign_cli.bench.inputs import SEED, ModelSize, feature_file, vocabulary
from selfalign_cli.bench.measure import Setting, alternate
from selfalign_cli.bench.report import Line
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.pairs import PairDataset, pair_batches

STEP_SECONDS = 0.010
BATCHES = 40
"""Batches in the file, and so in an epoch."""


def run(size: ModelSize, setting: Setting, notify: Callable[[str], None]) -> list[Line]:
    """Measure on a file of `BATCHES` batches, float16, in the page cache.

    Returns:
        A line for each number of workers, and one for random access.
    """
    notify("data loader")
    with TemporaryDirectory(prefix="selfalign-bench-") as folder:
        path = Path(folder) / "bench.h5"
        feature_file(path, BATCHES * size.batch, size)
        file = FeatureFile(path)
        dataset = PairDataset(file, "train", vocabulary(size.words).encode)
        lines = [_fed_step(dataset, size, workers) for workers in (0, 1, 2)]
        return [*lines, _random_access(file, Path(folder) / "bench.npy", setting)]


def _fed_step(dataset: PairDataset, size: ModelSize, workers: int) -> Line:
    """Duration of a step whose computation is a sleep of ten milliseconds, as on a GPU."""
    spans, waits = [], []
    batches = pair_batches(dataset, batch_size=size.batch, seed=SEED, epoch=0, workers=workers)
    for batch in batches:
        del batch
        waits.append(time.perf_counter())
        time.sleep(STEP_SECONDS)
        spans.append(time.perf_counter())
    warm = len(spans) // 4
    step = (spans[-1] - spans[warm]) / (len(spans) - 1 - warm)
    slept = sum(end - start for start, end in zip(waits[warm + 1 :], spans[warm + 1 :], strict=True))
    mean_sleep = slept / (len(spans) - 1 - warm)
    return Line(
        f"step of 10 ms, {workers} workers",
        step,
        mean_sleep,
        numbers={"wait_seconds": step - mean_sleep},
        note=f"batch {size.batch} of {size.regions} x {size.features}, float16, page cache; floor: the step alone",
    )


def _random_access(file: FeatureFile, path: Path, setting: Setting) -> Line:
    """The regions of pictures in random order, each as a copy."""
    regions = len(file.regions(0))
    array = np.stack([file.regions(row) for row in range(len(file))])
    np.save(path, array)
    del array
    mapped = np.load(path, mmap_mode="r")
    order = np.random.default_rng(SEED).permutation(len(file)).tolist()

    def ours() -> None:
        for row in order:
            file.regions(row)

    def plain() -> None:
        for row in order:
            np.array(mapped[row])

    seconds = alternate({"ours": ours, "plain": plain}, setting, budget=5.0)
    each = {name: value / len(order) for name, value in seconds.items()}
    note = f"a picture of {regions} regions; plain: memory-mapped .npy"
    return Line("random access", each["ours"], plain=each["plain"], note=note)
