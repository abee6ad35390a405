"""`selfalign bench`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selfalign_cli.cli.console import show_json, show_message, show_table
from selfalign_cli.cli.options import JsonOpt
from selfalign_cli.errors import RecipeError, RunError

if TYPE_CHECKING:
    from selfalign_cli.bench.campaign import Campaign

BenchArg = Annotated[
    Literal[
        "train", "train-camera", "losses", "eval", "search", "convert", "startup", "chunks", "soak", "memory", "fuzz"
    ],
    typer.Argument(
        metavar="WHAT",
        help="Speed: train, train-camera, losses, eval, search, convert, startup or chunks. "
        "Reliability: soak (kill and resume), memory (does it grow?) or fuzz (damaged files).",
        show_default=False,
    ),
]
SizeOpt = Annotated[
    Literal["tiny", "small", "published"],
    typer.Option("--size", help="Dimensions: those of the published models, small ones, or a few seconds' worth."),
]
RoundsOpt = Annotated[
    int | None,
    typer.Option("--rounds", min=1, help="How many runs soak kills, or files fuzz damages; default: by --size."),
]
SeedOpt = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Of what soak and fuzz draw; default: a new one; reported."),
]
ThreadsOpt = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads of torch; default: as many as torch chooses; for reliability 1."),
]
BenchDeviceOpt = Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where speed is measured.")]


def bench(
    what: BenchArg,
    size: SizeOpt = "small",
    rounds: RoundsOpt = None,
    seed: SeedOpt = None,
    threads: ThreadsOpt = None,
    device: BenchDeviceOpt = "cpu",
    as_json: JsonOpt = False,
) -> None:
    """Measure on this machine, against plain implementations and bare products in the same run; or try to break it.

    Example: selfalign bench losses --size published --threads 1
    """
    from selfalign_cli.bench.report import COLUMNS
    from selfalign_cli.bench.run import CAMPAIGNS, DRAWN, run_bench, run_campaign

    if what not in DRAWN and (rounds is not None or seed is not None):
        raise RecipeError(f"bench {what} draws nothing: --rounds and --seed are for {' and '.join(DRAWN)}")
    if what in CAMPAIGNS:
        _campaign(run_campaign(what, size=size, rounds=rounds, seed=seed, threads=threads, tell=show_message), as_json)
        return
    report = run_bench(what, size=size, threads=threads, device=device, tell=show_message)
    if as_json:
        show_json(report.to_json())
        return
    show_table(COLUMNS, [line.cells() for line in report.lines], title=f"bench {report.bench}, size {report.size}")
    _facts(report.machine)


def _campaign(found: Campaign, as_json: bool) -> None:
    """Show what a campaign found; anything broken is a failure."""
    if as_json:
        show_json(found.to_json())
    else:
        show_table(found.columns, found.cells(), title=f"bench {found.bench}, size {found.size}")
        _facts({**found.settings, **found.machine})
    if found.faults:
        listed = "\n".join(f"  {fault}" for fault in found.faults)
        raise RunError(f"bench {found.bench} found {len(found.faults)} faults\n{listed}")


def _facts(facts: Mapping[str, str | int | float]) -> None:
    rows = [[name, f"{value:,.1f}" if isinstance(value, float) else str(value)] for name, value in facts.items()]
    show_table(["", ""], rows)
