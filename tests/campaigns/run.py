"""Run a campaign by its name, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from campaigns import extraction, fuzz, memory, soak
from campaigns.campaign import Campaign, Order, drawn_seed
from campaigns.regions import collage_study, scene_study

from selfalign_cli.bench.measure import Setting

CAMPAIGNS = {
    "soak": soak.run,
    "extract": extraction.run,
    "memory": memory.run,
    "fuzz": fuzz.run,
    "regions": collage_study.run,
    "scenes": scene_study.run,
}
RANDOM = ("soak", "extract", "fuzz")
"""Campaigns with rounds and a seed."""
WITH_DATA = ("regions",)
"""Campaigns that take a folder of other people's data."""


def run_campaign(
    name: str,
    *,
    size: str,
    rounds: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
    data: Path | None = None,
    notify: Callable[[str], None] = print,
) -> Campaign:
    """Run a campaign.

    Args:
        name: a key of `CAMPAIGNS`.
        size: tiny, small or published.
        rounds: number of attempts; None for that of the size.
        seed: of all random draws; None for a random one.
        threads: of torch; None for one.
        data: folder with what a campaign needs from outside; None for what it makes itself.
        notify: called with messages on the progress.
    """
    setting = Setting(threads or 1, torch.device("cpu"))
    return CAMPAIGNS[name](Order(size, rounds, drawn_seed() if seed is None else seed, setting, notify, data))
