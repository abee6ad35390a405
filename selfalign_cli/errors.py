"""The errors a user can cause or meet: one message, one hint, one exit code. A bug raises something else."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from tokenize import TokenError

LONGEST_REASON = 200

# What h5py, numpy, torch and zipfile raise for damaged files, by experiment. Subclasses count too: KeyError and
# IndexError (LookupError), OverflowError (ArithmeticError), NotImplementedError and RecursionError (RuntimeError).
LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    SyntaxError,  # numpy reads the header of an array as a Python expression
    TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


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


@contextmanager
def blaming(
    message: str,
    hint: str | None = None,
    *,
    error: type[SelfAlignError] = DataError,
    catch: tuple[type[Exception], ...] = LIBRARY_ERRORS,
) -> Iterator[None]:
    """Turn what a library raises in the block into an error of ours, `<message>: <reason>`.

    Args:
        message: the file, and what is wrong with it when its reading fails.
        hint: the next step.
        error: the class to raise.
        catch: exceptions that mean a faulty file; `(Exception,)` for libraries that raise whatever they like.

    Raises:
        SelfAlignError: of class `error`; those that the block raises itself pass unchanged.
    """
    try:
        yield
    except SelfAlignError:
        raise
    except catch as fault:
        raise error(f"{message}: {reason_of(fault)}", hint) from fault


def reason_of(fault: BaseException) -> str:
    """The first line of what a library or the system gave as its reason, cut to a readable length."""
    reason = getattr(fault, "strerror", None) or str(fault).strip() or type(fault).__name__
    return str(reason).splitlines()[0][:LONGEST_REASON]
