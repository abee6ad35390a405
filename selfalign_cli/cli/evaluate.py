"""`selfalign eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfalign_cli.cli.console import show_message, show_report
from selfalign_cli.cli.options import (
    BatchSizeOpt,
    CheckpointsArg,
    CompatOpt,
    DataOpt,
    DeviceOpt,
    FoldsOpt,
    JsonOpt,
    OverwriteOpt,
    RanksOpt,
    newest_checkpoint,
)
from selfalign_cli.errors import RecipeError
from selfalign_cli.launch import is_first

WeightsOpt = Annotated[
    str | None,
    typer.Option("--weights", metavar="W,W…", help="Weights of an ensemble, e.g. 2,1; default: all alike."),
]
DetailsOpt = Annotated[
    Path | None,
    typer.Option("--details", metavar="OUT.jsonl", help="Write one JSON line per query: rank, first place, truth."),
]
TrecOpt = Annotated[
    Path | None,
    typer.Option("--trec", metavar="DIR", help="Write run and qrels files of both directions for TREC tools."),
]
DepthOpt = Annotated[
    int | None,
    typer.Option("--trec-depth", min=1, help="With --trec: candidates per query (default 100).", show_default=False),
]
EvalSplitOpt = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Split of the feature file (default test).", show_default=False),
]
EccvOpt = Annotated[
    bool, typer.Option("--eccv", help="COCO testall: add ECCV Caption and CxC scores (needs the extra `metrics`).")
]

CxcOpt = Annotated[
    Path | None,
    typer.Option("--cxc", metavar="DIR", help="Add CxC recalls, also within pictures and captions, from cxc_*.json."),
]


def evaluate(
    checkpoints: CheckpointsArg = None,
    data: DataOpt = None,
    split: EvalSplitOpt = None,
    folds: FoldsOpt = 1,
    weights: WeightsOpt = None,
    batch_size: BatchSizeOpt = None,
    compat: CompatOpt = None,
    device: DeviceOpt = "auto",
    as_json: JsonOpt = False,
    ranks: RanksOpt = False,
    details: DetailsOpt = None,
    trec: TrecOpt = None,
    trec_depth: DepthOpt = None,
    eccv: EccvOpt = False,
    cxc: CxcOpt = None,
    overwrite: OverwriteOpt = False,
) -> None:
    """Score checkpoints or embedding files: recall at 1, 5 and 10, both directions.

    Several files are an ensemble, scored by the mean of their similarities.

    Example: selfalign eval runs/vsrn_coco/best.ckpt --split testall --folds 5
    """
    for option, given, needs in (("--ranks", ranks, as_json), ("--trec-depth", trec_depth is not None, trec)):
        if given and not needs:
            raise RecipeError(f"{option} needs {'--json' if option == '--ranks' else '--trec'} beside it")
    paths, parsed = checkpoints or [newest_checkpoint()], _numbers(weights)
    from selfalign_cli.data.atomic import refuse_existing
    from selfalign_cli.scoring.cxc import with_cxc
    from selfalign_cli.scoring.eccv import open_metrics, with_eccv
    from selfalign_cli.scoring.embed import EncodingOptions
    from selfalign_cli.scoring.evaluate import score_files
    from selfalign_cli.scoring.query_files import TREC_FILES, write_details, write_trec

    written = [*([details] if details else []), *([trec / name for name in TREC_FILES] if trec else [])]
    for out in written:
        refuse_existing(out, overwrite, paths)
    metrics = open_metrics() if eccv else None
    options = EncodingOptions(split, data, batch_size, compat)
    scored = score_files(
        paths, options, folds=folds, weights=parsed, device=device, written=written, notify=show_message
    )
    if not is_first():
        return
    if metrics is not None:
        scored = with_eccv(scored, metrics)
    if cxc is not None:
        scored = with_cxc(scored, cxc)
    if details:
        write_details(details, scored)
    if trec:
        write_trec(trec, scored, depth=trec_depth or 100)
    show_report(scored.report, as_json, ranks)


def _numbers(text: str | None) -> list[float] | None:
    """`2,1` as numbers."""
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError as fault:
        raise RecipeError(f"--weights {text}: expected numbers with commas between, e.g. 2,1") from fault
