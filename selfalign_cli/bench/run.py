"""Run a measurement by its name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from selfalign_cli.assembly.device import choose_device
from selfalign_cli.bench import chunks, convert, losses, ranking, search, startup, train
from selfalign_cli.bench.machine import describe, measure_rates
from selfalign_cli.bench.measure import Setting
from selfalign_cli.bench.report import Report

BENCHES = {
    "train": train.run,
    "train-camera": train.run_camera,
    "losses": losses.run,
    "eval": ranking.run,
    "search": search.run,
    "convert": convert.run,
    "startup": startup.run,
    "chunks": chunks.run,
}
RATE_SIZES = {"tiny": 64, "small": 1024, "published": 2048}


def run_bench(
    name: str, *, size: str, threads: int | None = None, device: str = "cpu", notify: Callable[[str], None] = print
) -> Report:
    """Measure on this machine.

    Args:
        name: a key of `BENCHES`.
        size: tiny, small or published.
        threads: of torch; None for what torch chooses.
        device: cpu or cuda.
        notify: called with a message before each measurement.

    Raises:
        RunError: no such device, or a measurement ran out of memory.
    """
    before = torch.get_num_threads()
    setting = Setting(threads or before, choose_device(device))
    setting.enter()
    try:
        rates = measure_rates(setting, size=RATE_SIZES[size])
        sizes, lines = BENCHES[name](size, setting, rates, notify)
    finally:
        torch.set_num_threads(before)
    machine = {**describe(setting), "gflops": rates.flops / 1e9, "copy_gb_per_second": rates.bytes / 1e9}
    return Report(name, size, machine, sizes, lines)
