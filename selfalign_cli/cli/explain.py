"""`selfalign explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfalign_cli.cli.console import show_json, show_message
from selfalign_cli.cli.options import (
    CheckpointArg,
    CompatOpt,
    DataOpt,
    DeviceOpt,
    JsonOpt,
    OverwriteOpt,
    newest_checkpoint,
)
from selfalign_cli.errors import RecipeError

ImageOpt = Annotated[str, typer.Option("--image", metavar="ID", help="Id of the picture.", show_default=False)]
CaptionOpt = Annotated[str, typer.Option("--caption", metavar="TEXT", help="Any caption.", show_default=False)]
PageOpt = Annotated[
    Path | None, typer.Option("--out", metavar="PAGE.html", help="The page to write.", show_default=False)
]
PicturesOpt = Annotated[
    list[Path] | None,
    typer.Option("--pictures", metavar="DIR", help="Folder of the pictures, if the feature file does not lead to it."),
]


def explain(
    image: ImageOpt,
    caption: CaptionOpt,
    checkpoint: CheckpointArg = None,
    data: DataOpt = None,
    out: PageOpt = None,
    pictures: PicturesOpt = None,
    compat: CompatOpt = None,
    device: DeviceOpt = "auto",
    as_json: JsonOpt = False,
    overwrite: OverwriteOpt = False,
) -> None:
    """Show why a picture and a caption have their score: what changes when regions and words are left out.

    The page is one file without script that any browser shows; --json prints the numbers.

    Example: selfalign explain runs/mine/best.ckpt --image 17 --caption "a dog runs" --out why.html
    """
    if out is None and not as_json:
        raise RecipeError("nothing was asked for", "--out PAGE.html for a page, --json for the numbers, or both")
    taken = checkpoint or newest_checkpoint()
    from selfalign_cli.assembly.retriever import Retriever
    from selfalign_cli.data.atomic import refuse_existing
    from selfalign_cli.data.picture_files import picture_files
    from selfalign_cli.explain.explanation import explain as explain_pair
    from selfalign_cli.explain.explanation import leave_outs, row_of
    from selfalign_cli.explain.page import explanation_page, view_of, write_page

    if out is not None:
        refuse_existing(out, overwrite, [taken, *([data] if data else [])])
    retriever = Retriever.load(taken, device=device, compat=compat)
    file = retriever.open_features(data)
    row = row_of(file, image)
    found = explain_pair(retriever, leave_outs(retriever, file, row), caption)
    if out is not None:
        view = view_of(file, row, picture_files(file, pictures or ()), found.boxes)
        write_page(out, explanation_page(found, view, retriever.identity))
        if view.note:
            show_message(f"{view.note}; --pictures DIR names the folder" if view.picture is None else view.note)
        show_message(f"wrote {out}")
    if as_json:
        show_json(found.to_json())
