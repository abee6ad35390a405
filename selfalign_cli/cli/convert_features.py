"""`selfalign convert-features`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from selfalign_cli.cli.console import show_json, show_message, show_table
from selfalign_cli.cli.options import JsonOpt, OverwriteOpt
from selfalign_cli.cli.progress import progress

SourcesArg = Annotated[
    list[Path],
    typer.Argument(metavar="SOURCE", help="Folder or file of region features; several must be of one format."),
]
OutOpt = Annotated[Path, typer.Option("--out", metavar="FILE", help="Feature file (HDF5) to make.")]
FormatOpt = Annotated[str, typer.Option("--format", metavar="NAME", help="Format of the sources, or auto.")]
CaptionsOpt = Annotated[
    Path | None,
    typer.Option(
        "--captions",
        metavar="FILE",
        help="Captions, for features that have none: Karpathy's or COCO's JSON, SPLIT_caps.txt beside SPLIT_ids.txt, "
        "or a JSON list of {image, split, captions}. Left out: the file holds pictures only.",
        show_default=False,
    ),
]
SplitsOpt = Annotated[
    str | None,
    typer.Option(
        "--splits",
        metavar="A,B",
        help="Splits to convert; default: all. Where there are no splits, the name of the only one (test).",
        show_default=False,
    ),
]
SkipOpt = Annotated[
    bool, typer.Option("--skip-uncaptioned", help="Leave out pictures that the captions file does not know.")
]
DtypeOpt = Annotated[Literal["float32", "float16"], typer.Option("--dtype", help="Type in which features are stored.")]


def convert_features(
    sources: SourcesArg,
    out: OutOpt,
    format: FormatOpt = "auto",
    captions: CaptionsOpt = None,
    splits: SplitsOpt = None,
    dtype: DtypeOpt = "float32",
    skip_uncaptioned: SkipOpt = False,
    overwrite: OverwriteOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Convert region features with their captions to one feature file.

    Example: selfalign convert-features data/f30k_precomp --out data/f30k.h5
    """
    from selfalign_cli.data.convert import convert_to_feature_file

    wanted = [] if splits is None else [name.strip() for name in splits.split(",") if name.strip()]
    made = convert_to_feature_file(
        sources,
        out,
        format=format,
        captions=captions,
        splits=wanted,
        dtype=dtype,
        overwrite=overwrite,
        skip_uncaptioned=skip_uncaptioned,
        progress=progress,
    )
    for note in made.notes:
        show_message(note)
    if as_json:
        show_json(made.to_dict())
        return
    rows = [["format", made.format]]
    rows += [[f"split {name}", f"{count:,} pictures"] for name, count in made.splits.items()]
    rows += [["regions", f"{made.regions:,} of width {made.feature_dim}, {made.dtype}"]]
    rows += [["content hash", made.content_hash]]
    show_table(["", ""], rows, title=made.path)
