"""Resident memory of a training run over its steps, and over its validations: does it grow?

The runs are those of `training.train.train_recipe` in a child process, with threads that read ahead, checkpoints,
metrics.jsonl and TensorBoard events. The resident size of the process is read after every step, or every validation;
the slope is that of the least-squares line through the sizes after the warm-up.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from campaigns.campaign import Campaign, Order, Row
from campaigns.small_run import CAPTIONS, make_small_run

from selfalign_cli.bench.machine import describe
from selfalign_cli.bench.measure import Setting, in_child
from selfalign_cli.errors import RunError
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.training.train import train_recipe

STATM = Path("/proc/self/statm")
WARM_UP = 0.4
"""Fraction of the sizes that is left out: libraries are still being loaded, and the allocator needs some thousand
batches of different lengths to reach its size."""


@dataclass(frozen=True)
class RunSize:
    """How long the two runs are.

    Attributes:
        images: training pictures of the run over steps, with `CAPTIONS` captions each.
        batch_size: its pairs in a step.
        steps: its steps, at least.
        validations: validations of the other run, at least.
    """

    images: int
    batch_size: int
    steps: int
    validations: int


SIZES = {
    "tiny": RunSize(images=20, batch_size=10, steps=20, validations=5),
    "small": RunSize(images=200, batch_size=8, steps=1_000, validations=20),
    "published": RunSize(images=1_000, batch_size=8, steps=8_500, validations=150),
}
SMALL_IMAGES, SMALL_BATCH = 24, 24
"""Of the run over validations: there is one step between two of them."""
SAVE_EVERY = 500


def run(order: Order) -> Campaign:
    """Train twice and fit a line to the memory of each run.

    Raises:
        RunError: the system does not show the size of a process.
    """
    if not STATM.exists():
        raise RunError(f"there is no {STATM}: this system does not show the memory of a process there")
    size = SIZES[order.size]
    began = time.monotonic()
    with TemporaryDirectory(prefix="selfalign-memory-") as folder:
        order.notify(f"training for {size.steps:,} steps, then with {size.validations:,} validations")
        recipes = [(many_steps(Path(folder), size), "step"), (many_validations(Path(folder), size), "validation")]
        steps, validations = in_child(train_and_watch, recipes, order.setting)
    settings: Row = {"threads": order.setting.threads, "workers": 2, "seconds": round(time.monotonic() - began, 1)}
    rows = [summary("steps", steps), summary("validations", validations)]
    return Campaign("memory", order.size, describe(order.setting), settings, rows)


def many_steps(folder: Path, size: RunSize) -> Path:
    """A run with as few validations as possible: one at the end of every epoch."""
    (folder / "steps").mkdir()
    per_epoch = -(-size.images * CAPTIONS // size.batch_size)
    return make_small_run(
        folder / "steps",
        images=size.images,
        batch_size=size.batch_size,
        epochs=-(-size.steps // per_epoch),
        save_every=SAVE_EVERY,
        validate_every=10**9,
        tensorboard=True,
    )


def many_validations(folder: Path, size: RunSize) -> Path:
    """A run with a validation after every step."""
    (folder / "validations").mkdir()
    per_epoch = SMALL_IMAGES * CAPTIONS // SMALL_BATCH
    return make_small_run(
        folder / "validations",
        images=SMALL_IMAGES,
        batch_size=SMALL_BATCH,
        epochs=-(-size.validations // per_epoch),
        save_every=SAVE_EVERY,
        validate_every=1,
        tensorboard=True,
    )


def train_and_watch(runs: Sequence[tuple[Path, str]], setting: Setting) -> list[list[int]]:
    """Train with some recipes, one after the other, and record the memory of this process; for `in_child`.

    Args:
        runs: recipes, and when to read the size: after every `step`, or every `validation`.
        setting: threads.

    Returns:
        For each run, all resident bytes that were read.
    """
    setting.enter()
    found = []
    for recipe, kind in runs:
        os.chdir(recipe.parent)
        watch = Watch(kind)
        train_recipe(load_recipe(recipe, ["data.workers=2"]), resume=False, device="cpu", ui=watch)
        found.append(watch.sizes.tolist())
    return found


class Watch:
    """Records the memory of this process, in place of displaying the run.

    Args:
        kind: after every `step`, or every `validation`.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.sizes = array("q")  # takes eight bytes per size, and a list forty

    def start(self, **place: int) -> None:
        """Ignored."""

    def step(self, **facts: object) -> None:
        """Record the size, if wanted."""
        self._record("step")

    def validation(self, **facts: object) -> None:
        """Record the size, if wanted."""
        self._record("validation")

    def message(self, text: str) -> None:
        """Ignored."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Ignored."""

    def _record(self, kind: str) -> None:
        if kind == self.kind:
            self.sizes.append(resident_bytes())


def resident_bytes() -> int:
    """Memory of this process that is not swapped out."""
    return int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def slope(sizes: Sequence[int]) -> float:
    """Least-squares slope of sizes over their numbers 0, 1, 2, …; at least two sizes."""
    numbers = np.arange(len(sizes), dtype=np.float64)
    centred = numbers - numbers.mean()
    return float(centred @ np.asarray(sizes, dtype=np.float64) / (centred @ centred))


def summary(name: str, sizes: Sequence[int]) -> Row:
    """Summary of the sizes of a run."""
    kept = sizes[int(WARM_UP * len(sizes)) :]
    return {
        "name": name,
        "count": len(sizes),
        "warm_up": len(sizes) - len(kept),
        "start_bytes": kept[0],
        "end_bytes": kept[-1],
        "highest_bytes": max(kept),
        "bytes_per_one": round(slope(kept), 1),
    }
