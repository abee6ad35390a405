"""`selfalign export-embeddings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from selfalign_cli.cli.console import show_message
from selfalign_cli.cli.options import (
    BatchSizeOpt,
    CheckpointArg,
    CompatOpt,
    DataOpt,
    DeviceOpt,
    OverwriteOpt,
    SplitOpt,
    newest_checkpoint,
)

OutOpt = Annotated[
    Path,
    typer.Option("--out", metavar="FILE", help="File to write: .h5, .npz or .parquet.", show_default=False),
]


LayoutOpt = Annotated[
    Literal["clip-retrieval", "two-tables", "projector"] | None,
    typer.Option(
        "--layout",
        help="For other programs: the folder of clip-retrieval, pictures and captions as two Parquet tables, or "
        "tab-separated text for the Embedding Projector (.tsv).",
        show_default=False,
    ),
]


def export_embeddings(
    out: OutOpt,
    checkpoint: CheckpointArg = None,
    layout: LayoutOpt = None,
    split: SplitOpt = "test",
    data: DataOpt = None,
    batch_size: BatchSizeOpt = None,
    compat: CompatOpt = None,
    device: DeviceOpt = "auto",
    overwrite: OverwriteOpt = False,
) -> None:
    """Encode a split and write its vectors, with picture ids and captions beside them.

    The score of a pair is the largest inner product of the caption with the views of the picture.

    Example: selfalign export-embeddings runs/vsrn_f30k/best.ckpt --out f30k_test.h5
    """
    taken = checkpoint or newest_checkpoint()
    from selfalign_cli.scoring.embed import EncodingOptions
    from selfalign_cli.scoring.export import export_embeddings as export

    options = EncodingOptions(split, data, batch_size, compat)
    export(taken, out, options, layout=layout, device=device, overwrite=overwrite, notify=show_message)
    show_message(f"wrote {out}")
