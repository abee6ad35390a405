"""`selfalign bench`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from selfalign_cli.cli.console import show_json, show_message, show_table
from selfalign_cli.cli.options import JsonOpt

BenchArg = Annotated[
    Literal[
        "train",
        "train-camera",
        "losses",
        "eval",
        "search",
        "index",
        "convert",
        "extract",
        "startup",
        "chunks",
        "explain",
        "serve",
    ],
    typer.Argument(metavar="WHAT", help="What to measure."),
]
SizeOpt = Annotated[
    Literal["tiny", "small", "published"],
    typer.Option("--size", help="Dimensions: those of the published models, small ones, or a few seconds' worth."),
]
ThreadsOpt = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads of torch; default: as many as torch chooses."),
]
TrainedOpt = Annotated[
    Path | None,
    typer.Option("--checkpoint", metavar="CKPT", help="explain: a model trained on scenes, for the pointing game."),
]
PicturesOpt = Annotated[
    Path | None, typer.Option("--pictures", metavar="DIR", help="extract: a folder of pictures; default: drawn ones.")
]
BenchDeviceOpt = Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where speed is measured.")]


def bench(
    what: BenchArg,
    size: SizeOpt = "small",
    threads: ThreadsOpt = None,
    device: BenchDeviceOpt = "cpu",
    checkpoint: TrainedOpt = None,
    pictures: PicturesOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Measure on this machine, against plain implementations and bare products in the same run.

    Example: selfalign bench losses --size published --threads 1
    """
    from selfalign_cli.bench.report import COLUMNS
    from selfalign_cli.bench.run import run_bench

    report = run_bench(
        what,
        size=size,
        threads=threads,
        device=device,
        checkpoint=checkpoint,
        pictures=pictures,
        notify=show_message,
    )
    if as_json:
        show_json(report.to_json())
        return
    show_table(COLUMNS, [line.cells() for line in report.lines], title=f"bench {report.bench}, size {report.size}")
    _facts(report.machine)


def _facts(facts: Mapping[str, str | int | float]) -> None:
    rows = [[name, f"{value:,.1f}" if isinstance(value, float) else str(value)] for name, value in facts.items()]
    show_table(["", ""], rows)
