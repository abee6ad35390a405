"""The errors a user can cause or meet: one message, one hint, one exit code. A bug raises something else."""

from __future__ import annotations


class SelfAlignError(Exception):
    """What was found, what was expected, and what to do about it.

    The command line prints `error: <message>` and, when there is one, `hint: <hint>`, and exits with `exit_code`.

    Args:
        message: where (file, row, key) and what was found against what was expected. May hold several lines.
        hint: the next step, often a command to run; None when the message says it all.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RecipeError(SelfAlignError):
    """The recipe (or a `--set` override) says something that cannot be."""


class DataError(SelfAlignError):
    """A data file is missing, damaged, or does not fit the others."""


class CheckpointError(SelfAlignError):
    """A checkpoint or embedding file is missing, damaged, or of another kind."""


class RunError(SelfAlignError):
    """A run that began well and could not go on: non-finite loss, full disk, lost data file."""

    exit_code = 1
