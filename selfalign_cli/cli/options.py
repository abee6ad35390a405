"""The arguments and options that several commands share, as `Annotated` types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from selfalign_cli.cli.console import show_message
from selfalign_cli.errors import CheckpointError

RUNS = Path("runs")

Device = Literal["auto", "cpu", "cuda"]
Preset = Literal["corrected", "published"]

RecipeArg = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML).", show_default=False)]
CheckpointArg = Annotated[
    Path | None,
    typer.Argument(metavar="CKPT", help="Checkpoint; default: the newest best.ckpt under runs/.", show_default=False),
]
CheckpointsArg = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="CKPT",
        help="Checkpoints or embedding files (.h5, .npz); several are an ensemble. "
        "Default: the newest best.ckpt under runs/.",
        show_default=False,
    ),
]
SetOpt = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace one recipe key, e.g. optim.epochs=3; may be repeated."),
]
ResumeOpt = Annotated[bool, typer.Option("--resume", help="Continue the run in run.dir from its last.ckpt.")]
DeviceOpt = Annotated[Device, typer.Option("--device", help="Where to compute; auto takes a GPU when there is one.")]
DataOpt = Annotated[
    Path | None,
    typer.Option("--data", metavar="FILE", help="Feature file to read in place of the one the checkpoint names."),
]
SplitOpt = Annotated[str, typer.Option("--split", metavar="NAME", help="Split of the feature file.")]
FoldsOpt = Annotated[
    int, typer.Option("--folds", min=1, help="Cut the split into this many blocks and take the mean (COCO 1K: 5).")
]
BatchSizeOpt = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Rows encoded at once; default: validation.batch_size of the recipe."),
]
CompatOpt = Annotated[
    Preset | None,
    typer.Option("--compat", help="Score under this preset in place of the one the checkpoint was trained with."),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
RanksOpt = Annotated[bool, typer.Option("--ranks", help="With --json: add the rank of every query, for compare.")]
OverwriteOpt = Annotated[bool, typer.Option("--overwrite", help="Replace the output file if it exists.")]


def newest_checkpoint(runs: Path = RUNS) -> Path:
    """Find the newest `best.ckpt` below a folder, and name it on stderr.

    Raises:
        CheckpointError: there is none.
    """
    found = [path for path in runs.rglob("best.ckpt") if path.is_file()]
    if not found:
        message = f"no checkpoint given, and no best.ckpt under {runs}/"
        raise CheckpointError(message, "name one, or train one: selfalign train recipes/vsrn_scenes.yaml")
    newest = max(found, key=lambda path: (path.stat().st_mtime_ns, str(path)))
    show_message(f"taking {newest}, the newest best.ckpt under {runs}/")
    return newest
