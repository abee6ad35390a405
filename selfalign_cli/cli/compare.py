"""`selfalign compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfalign_cli.cli.console import show_json, show_message, show_table
from selfalign_cli.cli.options import JsonOpt

ResultArg = Annotated[
    Path,
    typer.Argument(
        help="Embedding file (.h5, .npz), or what `selfalign eval --json --ranks` printed.", show_default=False
    ),
]


def compare(
    first: ResultArg,
    second: ResultArg,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Bootstrap draws of pictures.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws.")] = 0,
    as_json: JsonOpt = False,
) -> None:
    """Paired difference of two results over the same queries: second minus first, with a bootstrap interval.

    Example: selfalign compare baseline.h5 selfalign.h5
    """
    from selfalign_cli.scoring.compare import HEADER, compare_files

    comparison = compare_files(first, second, resamples=resamples, seed=seed)
    if as_json:
        show_json(comparison.to_json())
        return
    counted = f"{comparison.images:,} pictures, {comparison.captions:,} captions"
    show_table(HEADER, comparison.rows(), title=f"{second} minus {first}: {counted}")
    show_message("* the interval leaves out zero; pictures are drawn with replacement, each with its captions")
