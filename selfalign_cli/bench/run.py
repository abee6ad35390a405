"""Run a measurement by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from selfalign_cli.assembly.device import choose_device
from selfalign_cli.bench import (
    chunks,
    convert,
    explain,
    extract,
    index,
    losses,
    ranking,
    search,
    serve,
    startup,
    train,
)
from selfalign_cli.bench.machine import Rates, describe, measure_rates
from selfalign_cli.bench.measure import BUDGET_SECONDS, Setting
from selfalign_cli.bench.report import Line, Report
from selfalign_cli.errors import RecipeError

Measurement = Callable[[str, Setting, Rates, Callable[[str], None]], tuple[dict[str, Any], list[Line]]]
BENCHES: dict[str, Measurement] = {
    "train": train.run,
    "train-camera": train.run_camera,
    "losses": losses.run,
    "eval": ranking.run,
    "search": search.run,
    "convert": convert.run,
    "extract": extract.run,
    "startup": startup.run,
    "chunks": chunks.run,
    "explain": explain.run,
    "serve": serve.run,
    "index": index.run,
}
RATE_SIZES = {"tiny": 64, "small": 1024, "published": 2048}
BUDGETS = {"tiny": 0.0, "small": BUDGET_SECONDS, "published": BUDGET_SECONDS}  # tiny shows that it runs, no more


def run_bench(
    name: str,
    *,
    size: str,
    threads: int | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    pictures: Path | None = None,
    notify: Callable[[str], None] = print,
) -> Report:
    """Measure on this machine.

    Args:
        name: a key of `BENCHES`.
        size: tiny, small or published.
        threads: of torch; None for what torch chooses.
        device: cpu or cuda.
        checkpoint: for `explain`, a model that was trained on scenes.
        pictures: for `extract`, a folder of pictures; None for drawn ones.
        notify: called with a message before each measurement.

    Raises:
        RecipeError: a checkpoint for another measurement than `explain`, or pictures for another than `extract`.
        DataError: a folder without pictures.
        RunError: no such device, or a measurement ran out of memory.
    """
    if checkpoint is not None and name != "explain":
        raise RecipeError("--checkpoint is for the bench explain")
    if pictures is not None and name != "extract":
        raise RecipeError("--pictures is for the bench extract")
    measurements: dict[str, Measurement] = {
        **BENCHES,
        "explain": partial(explain.run, checkpoint=checkpoint),
        "extract": partial(extract.run, pictures=pictures),
    }
    before = torch.get_num_threads()
    setting = Setting(threads or before, choose_device(device), BUDGETS[size])
    setting.enter()
    try:
        rates = measure_rates(setting, size=RATE_SIZES[size])
        sizes, lines = measurements[name](size, setting, rates, notify)
    finally:
        torch.set_num_threads(before)
    machine = {**describe(setting), "gflops": rates.flops / 1e9, "copy_gb_per_second": rates.bytes / 1e9}
    return Report(name, size, machine, sizes, lines)
