"""Moments of a training run by what happens in them, for `before` of a command: a signal comes there, or code runs.

Steps are counted from the start of the process, whatever step the run is resumed at.
"""

from __future__ import annotations

import signal

from support.processes import at_call, code_at_call

TRAIN_STEP = "selfalign_cli.training.trainer.train_step"
ENCODE = "selfalign_cli.training.trainer.embed_split"


def in_step(number: int, which: signal.Signals, *, group: bool = False) -> str:
    """A step begins."""
    return at_call(TRAIN_STEP, number, which, group=group)


def after_step(number: int, which: signal.Signals) -> str:
    """A step is done; nothing is logged or saved of it yet."""
    return at_call(TRAIN_STEP, number, which, after=True)


def before_validation(which: signal.Signals) -> str:
    """The first validation begins."""
    return at_call(ENCODE, 1, which)


def in_validation(which: signal.Signals) -> str:
    """The dev split is encoded for the first time, and not scored yet."""
    return at_call(ENCODE, 1, which, after=True)


def before_naming(file: str, which: signal.Signals, *, step: int | None = None) -> str:
    """A file of the run folder is complete under its temporary name; a checkpoint, that of a step."""
    return at_call("os.replace", 1, which, counted=_is(file, step))


def after_naming(file: str, which: signal.Signals, *, step: int | None = None) -> str:
    """The file has just got its name."""
    return at_call("os.replace", 1, which, counted=_is(file, step), after=True)


def code_in_step(number: int | None, code: str, *, after: bool = False) -> str:
    """Code runs when a step, or every step, begins or, `after`, when it is done; `positional[0]` is the model."""
    return code_at_call(TRAIN_STEP, number, code, after=after)


def _is(file: str, step: int | None) -> str:
    """Which calls of `os.replace(temporary, path)` are meant."""
    named = f"os.path.basename(positional[1]) == {file!r}"
    if step is None:
        return named
    return f"{named} and __import__('torch').load(positional[0], weights_only=True)['step'] == {step}"
