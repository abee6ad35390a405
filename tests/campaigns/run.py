"""Run a campaign by its name, on the CPU; what was tried how often belongs to the result."""

from __future__ import annotations

from collections.abc import Callable

import torch
from campaigns import fuzz, memory, soak
from campaigns.campaign import Campaign, Order, drawn_seed

from selfalign_cli.bench.measure import Setting

CAMPAIGNS = {"soak": soak.run, "memory": memory.run, "fuzz": fuzz.run}
DRAWN = ("soak", "fuzz")
"""Campaigns that draw what they do, so often."""


def run_campaign(
    name: str,
    *,
    size: str,
    rounds: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
    tell: Callable[[str], None] = print,
) -> Campaign:
    """Try to break something.

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
