"""`selfalign demo`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal

import typer

from selfalign_cli.cli.console import show_message, show_table, write
from selfalign_cli.cli.progress import progress
from selfalign_cli.cli.training_view import TrainingView
from selfalign_cli.errors import DataError

QUICK_IMAGES, QUICK_EPOCHS = 400, 4

OutOpt = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder for everything; one that holds the same demo is continued. Default: runs/demo, with -camera and "
        "-quick after it where these apply.",
        show_default=False,
    ),
]
DEFAULT_MODEL: Literal["vsrn"] = "vsrn"
ModelOpt = Annotated[
    Literal["vsrn", "camera", "vse_infty"], typer.Option("--model", help="The host that SelfAlign is put on.")
]
QuickOpt = Annotated[bool, typer.Option("--quick", help="A minute of smoke test; its numbers mean nothing.")]
SeedsOpt = Annotated[
    int, typer.Option("--seeds", metavar="K", min=1, max=1000, help="Repeat with K seeds; 2 and more give intervals.")
]
ArmsOpt = Annotated[
    bool, typer.Option("--arms", help="Also train SelfAlign with its losses or its context embedding switched off.")
]
PicturesOpt = Annotated[
    Path | None,
    typer.Option(
        "--pictures",
        metavar="DIR",
        help="Your own pictures in place of drawn scenes: regions, splits and vocabulary are made, too.",
        show_default=False,
    ),
]
CaptionsOpt = Annotated[
    Path | None,
    typer.Option(
        "--captions",
        metavar="FILE",
        help="Their captions, as for extract. Default: captions.json, dataset*.json or annotations.json among the "
        "pictures, or a .txt beside each.",
        show_default=False,
    ),
]


def demo(
    out: OutOpt = None,
    model: ModelOpt = DEFAULT_MODEL,
    quick: QuickOpt = False,
    seeds: SeedsOpt = 1,
    arms: ArmsOpt = False,
    pictures: PicturesOpt = None,
    captions: CaptionsOpt = None,
) -> None:
    """The whole path on drawn scenes or your own pictures: data, training with and without SelfAlign, scores, exports.

    SelfAlign is compared with its host at equal epochs and, on scenes, at equal time. Runs on the CPU, minutes on two
    cores; an interrupted demo goes on where it was when the command is repeated.

    Example: selfalign demo --pictures photos/ --captions captions.json
    """
    from selfalign_cli.demo.pages import write_pages
    from selfalign_cli.demo.result import DIFFERENCE_HEADER, HEADER
    from selfalign_cli.demo.run import Demo, run_demo

    if captions is not None and pictures is None:
        raise DataError("--captions are those of --pictures", "name the folder of the pictures too")
    endings = ["" if pictures is None else "-own", "" if model == DEFAULT_MODEL else f"-{model}"]
    folder = out or Path("runs") / "".join(["demo", *endings, "-quick" if quick else ""])
    asked = Demo(folder, model, seeds=seeds, ablations=arms, pictures=pictures, captions=captions)
    if quick:
        asked = replace(asked, train_images=QUICK_IMAGES, epochs=QUICK_EPOCHS)
    view = DemoView()
    result = run_demo(asked, view)
    if not result.results:
        _show_without_captions(folder, pictures)
        return
    write_pages(result, view)
    repeated = f"{seeds} seeds" if seeds > 1 else "one seed"
    show_table(HEADER, result.rows(), title=f"{model} on {pictures or 'scenes'}, {repeated}")
    show_table(DIFFERENCE_HEADER, result.difference_rows())
    write(sys.stdout, f"signature: {result.signature}")
    for note in result.notes():
        show_message(note)
    if quick:
        show_message("--quick: these numbers mean nothing")
    show_table(("", ""), result.locations())


def _show_without_captions(folder: Path, pictures: Path | None) -> None:
    """Say what was made, and what is possible with it."""
    features = folder / "data" / "own.h5"
    show_message(f"there are no captions in {pictures}, and none were named: nothing was trained")
    rows = [
        ("features", str(features)),
        ("with captions", f"selfalign demo --pictures {pictures} --captions FILE --out {folder}-captions"),
        ("with a model trained on such features", f"selfalign index CKPT --data {features} --out {folder}/index"),
    ]
    show_table(("", ""), rows)


class DemoView:
    """Shows a demo on stderr."""

    def stage(self, text: str) -> None:
        """Show which stage begins."""
        show_message(text)

    def counting(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show a bar, or lines in a log."""
        return progress(what, total)

    def training(self) -> ArmView:
        """Show the training of one arm."""
        return ArmView()


class ArmView:
    """Shows the training of one arm: bar and validations; in a log the validations only, for there are many arms."""

    def __init__(self) -> None:
        self._view = TrainingView()
        self._held: list[str] | None = []  # messages before `start`, dropped if nothing is left to train

    def __enter__(self) -> ArmView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view.close()

    def start(self, *, total_steps: int, start_step: int, epochs: int, steps_per_epoch: int) -> None:
        """Begin, or show that there is nothing left to do."""
        held, self._held = self._held or [], None
        if start_step >= total_steps:
            self._view.message("trained already")
            return
        for text in held:
            self._view.message(text)
        self._view.start(
            total_steps=total_steps, start_step=start_step, epochs=epochs, steps_per_epoch=steps_per_epoch
        )

    def step(
        self, *, epoch: int, step: int, terms: Mapping[str, float], learning_rate: float, grad_norm: float
    ) -> None:
        """Move the bar."""
        if sys.stderr.isatty():
            self._view.step(epoch=epoch, step=step, terms=terms, learning_rate=learning_rate, grad_norm=grad_norm)

    def validation(self, *, epoch: int, step: int, scores: Mapping[str, float], best: bool) -> None:
        """Show recalls on dev."""
        self._view.validation(epoch=epoch, step=step, scores=scores, best=best)

    def message(self, text: str) -> None:
        """Pass a message on, once it is known whether there is something to train."""
        if self._held is None:
            self._view.message(text)
        else:
            self._held.append(text)

    def finish(self, summary: Mapping[str, object]) -> None:
        """End the bar; the summary of an arm stands in the demo's table."""
        self._view.close()
