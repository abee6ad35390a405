"""Run a bench by its name: a measurement, or a campaign that tries to break something."""

from __future__ import annotations

from collections.abc import Callable

import torch

from selfalign_cli.bench import chunks, convert, fuzz, losses, memory, ranking, search, soak, startup, train
from selfalign_cli.bench.campaign import Campaign, Order, drawn_seed
from selfalign_cli.bench.machine import describe, measure_rates
from selfalign_cli.bench.measure import Setting
from selfalign_cli.bench.report import Report
from selfalign_cli.engine.assemble import choose_device

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
CAMPAIGNS = {"soak": soak.run, "memory": memory.run, "fuzz": fuzz.run}
DRAWN = ("soak", "fuzz")
"""Campaigns that draw what they do, so often."""
RATE_SIZES = {"tiny": 64, "small": 1024, "published": 2048}


def run_bench(
    name: str, *, size: str, threads: int | None = None, device: str = "cpu", tell: Callable[[str], None] = print
) -> Report:
    """Measure on this machine.

    Args:
        name: a key of `BENCHES`.
        size: tiny, small or published.
        threads: of torch; None for what torch chooses.
        device: cpu or cuda.
        tell: called with what is being measured.

    Raises:
        RunError: no such device, or a measurement ran out of memory.
    """
    before = torch.get_num_threads()
    setting = Setting(threads or before, choose_device(device))
    setting.enter()
    try:
        rates = measure_rates(setting, size=RATE_SIZES[size])
        sizes, lines = BENCHES[name](size, setting, rates, tell)
    finally:
        torch.set_num_threads(before)
    machine = {**describe(setting), "gflops": rates.flops / 1e9, "copy_gb_per_second": rates.bytes / 1e9}
    return Report(name, size, machine, sizes, lines)


def run_campaign(
    name: str,
    *,
    size: str,
    rounds: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
    tell: Callable[[str], None] = print,
) -> Campaign:
    """Try to break something, on the CPU; it belongs to the result what was tried how often.

    Args:
        name: a key of `CAMPAIGNS`.
        size: tiny, small or published.
        rounds: how often; None for what the size says.
        seed: of what is drawn; None for one that nobody knows before.
        threads: of torch; None for one.
        tell: called with what is being tried.
    """
    setting = Setting(threads or 1, torch.device("cpu"))
    return CAMPAIGNS[name](Order(size, rounds, drawn_seed() if seed is None else seed, setting, tell))
