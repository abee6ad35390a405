"""`selfalign report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfalign_cli.cli.console import show_message
from selfalign_cli.cli.options import DataOpt, DeviceOpt, OverwriteOpt, SplitOpt

SourcesArg = Annotated[
    list[Path],
    typer.Argument(metavar="RUN…", help="Run folders, and what `eval --json` printed.", show_default=False),
]
ReportOpt = Annotated[
    Path, typer.Option("--out", metavar="REPORT.html", help="The page to write.", show_default=False)
]
PicturesOpt = Annotated[
    list[Path] | None,
    typer.Option("--pictures", metavar="DIR", help="Folder of the pictures, if the feature file does not lead to it."),
]
ExamplesOpt = Annotated[
    int, typer.Option("--examples", metavar="N", min=0, max=100, help="Captions of each sort to show; 0 for none.")
]


def report(
    sources: SourcesArg,
    out: ReportOpt,
    data: DataOpt = None,
    split: SplitOpt = "test",
    pictures: PicturesOpt = None,
    examples: ExamplesOpt = 6,
    device: DeviceOpt = "auto",
    overwrite: OverwriteOpt = False,
) -> None:
    """Put runs and results on one page: curves, recalls with intervals, hits and near misses with pictures, and why.

    The page is one file without script. Runs that no result was named for are scored.

    Example: selfalign report runs/mine runs/other --out report.html
    """
    from selfalign_cli.data.atomic import refuse_existing
    from selfalign_cli.explain.page import write_page
    from selfalign_cli.report.inputs import read_inputs
    from selfalign_cli.report.page import ReportOptions, report_page

    refuse_existing(out, overwrite, sources)
    runs, results = read_inputs(sources, show_message)
    options = ReportOptions(data, split, tuple(pictures or ()), examples, device=device)
    write_page(out, report_page(runs, results, options, show_message))
    show_message(f"wrote {out}")
