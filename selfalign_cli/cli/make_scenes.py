"""`selfalign make-scenes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfalign_cli.cli.console import show_message, show_table
from selfalign_cli.cli.progress import progress

OutArg = Annotated[Path, typer.Argument(metavar="OUT", help="New or empty folder to fill.", show_default=False)]
ImagesOpt = Annotated[
    int,
    typer.Option(
        "--images", metavar="N", help="Train pictures; dev gets 15 and test 25 for each 100 of them, at least 20."
    ),
]
SeedOpt = Annotated[int, typer.Option("--seed", help="Same seed and N, same bytes.")]


def make_scenes(out: OutArg, images: ImagesOpt = 2000, seed: SeedOpt = 0) -> None:
    """Make the embedded data set: pictures of coloured shapes with captions, boxes and region features.

    Half of the pictures have look-alikes that fit the same words, bound differently. README.txt in the folder
    describes the rest.

    Example: selfalign make-scenes data/scenes --images 500
    """
    from selfalign_cli.demo.scenes import make_scenes as make
    from selfalign_cli.demo.scenes import split_sizes

    shown = 0
    with progress("make scenes: pictures", sum(split_sizes(images).values())) as advance:

        def show(done: int, _total: int) -> None:
            nonlocal shown
            advance(done - shown)
            shown = done

        summary = make(out, train_images=images, seed=seed, progress=show)
    rows = [[split, f"{count:,}", f"{summary.captions[split]:,}"] for split, count in summary.images.items()]
    show_table(["split", "pictures", "captions"], rows)
    size = f"{summary.total_bytes / 1e6:.1f} MB"
    show_message(f"wrote {out}: {summary.regions} regions of {summary.feature_width}, {summary.words} words, {size}")
