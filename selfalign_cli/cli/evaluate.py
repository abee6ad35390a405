"""`selfalign eval`."""

from __future__ import annotations

from selfalign_cli.cli.console import show_report
from selfalign_cli.cli.options import (
    BatchSizeOpt,
    CheckpointsArg,
    CompatOpt,
    DataOpt,
    DetailsOpt,
    DeviceOpt,
    FoldsOpt,
    JsonOpt,
    SplitOpt,
    newest_checkpoint,
)


def evaluate(
    checkpoints: CheckpointsArg = None,
    data: DataOpt = None,
    split: SplitOpt = "test",
    folds: FoldsOpt = 1,
    batch_size: BatchSizeOpt = None,
    compat: CompatOpt = None,
    device: DeviceOpt = "auto",
    as_json: JsonOpt = False,
    details: DetailsOpt = False,
) -> None:
    """Score checkpoints or embedding files: recall at 1, 5 and 10, both directions.

    Several files are an ensemble, scored by the mean of their similarities.

    Example: selfalign eval runs/vsrn_coco/best.ckpt --split testall --folds 5
    """
    paths = checkpoints or [newest_checkpoint()]
    from selfalign_cli.engine.evaluate import evaluate_files

    report = evaluate_files(
        paths, data=data, split=split, folds=folds, batch_size=batch_size, compat=compat, device=device
    )
    show_report(report, as_json, details)
