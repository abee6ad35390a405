"""`selfalign demo`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal

import typer

from selfalign_cli.cli.console import show_message, show_table, write
from selfalign_cli.cli.progress import progress
from selfalign_cli.cli.training_view import TrainingView

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
ModelOpt = Annotated[Literal["vsrn", "camera"], typer.Option("--model", help="The host that SelfAlign is put on.")]
QuickOpt = Annotated[bool, typer.Option("--quick", help="A minute of smoke test; its numbers mean nothing.")]
SeedsOpt = Annotated[
    int, typer.Option("--seeds", metavar="K", min=1, max=1000, help="Repeat with K seeds; 2 and more give intervals.")
]
ArmsOpt = Annotated[
    bool, typer.Option("--arms", help="Also train SelfAlign with its losses or its context embedding switched off.")
]


def demo(
    out: OutOpt = None,
    model: ModelOpt = DEFAULT_MODEL,
    quick: QuickOpt = False,
    seeds: SeedsOpt = 1,
    arms: ArmsOpt = False,
) -> None:
    """The whole path on drawn scenes: make data, train with and without SelfAlign, score, export, compare.

    SelfAlign is compared with its host at equal epochs and at equal time. Runs on the CPU, minutes on two cores; an
    interrupted demo goes on where it was when the command is repeated.

    Example: selfalign demo --seeds 5 --arms
    """
    from selfalign_cli.demo.result import DIFFERENCE_HEADER, HEADER
    from selfalign_cli.demo.run import Demo, run_demo

    folder = out or Path("runs") / f"demo{'' if model == DEFAULT_MODEL else f'-{model}'}{'-quick' if quick else ''}"
    asked = Demo(folder, model=model, seeds=seeds, ablations=arms)
    if quick:
        asked = Demo(folder, model, QUICK_IMAGES, QUICK_EPOCHS, seeds, arms)
    result = run_demo(asked, DemoView())
    repeated = f"{seeds} seeds" if seeds > 1 else "one seed"
    show_table(HEADER, result.rows(), title=f"{model} on scenes, {repeated}")
    show_table(DIFFERENCE_HEADER, result.difference_rows())
    write(sys.stdout, f"signature: {result.signature}")
    for note in result.notes():
        show_message(note)
    if quick:
        show_message("--quick: these numbers mean nothing")
    show_table(("", ""), result.locations())


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
