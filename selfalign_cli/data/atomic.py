"""Replace a file as a whole: the new one gets its name only when it is complete and on disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selfalign_cli.errors import DataError, RunError

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; rename it to `path` if the block succeeds, else remove it.

    Missing parent folders are made. Whatever stops the block (Ctrl-C too), the old file stays as it was.

    Args:
        path: the file to make or to replace.

    Yields:
        The name to write to; it does not exist yet.

    Raises:
        DataError: the folder cannot be written to, or `path` is one.
        RunError: the disk is full.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected the name of a file to write")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_writable(path.parent)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as fault:
        if fault.errno is None:  # raised by a library, not by the system
            raise
        raise writing_failed(path, fault) from fault
    finally:
        with suppress(OSError):  # mostly: not there
            temporary.unlink()


def refuse_existing(path: Path, overwrite: bool, sources: Iterable[Path] = ()) -> None:
    """Make sure that no file is replaced unless requested, and no source at all.

    Raises:
        DataError: `path` exists, and `overwrite` is false or it is one of `sources`.
    """
    if path.exists() and any(source.exists() and path.samefile(source) for source in sources):
        raise DataError(f"{path} would be read and replaced", "choose another name for what is written")
    if not overwrite and path.exists():
        raise DataError(f"{path} exists already", "add --overwrite to replace it, or choose another name")


def writing_failed(path: Path, fault: OSError) -> DataError | RunError:
    """The error to raise when `path` could not be written.

    Args:
        path: the file that was being written.
        fault: of the system; its errno tells a full disk from a file that cannot be written.
    """
    reason = os.strerror(fault.errno) if fault.errno is not None else str(fault)
    if fault.errno in OUT_OF_SPACE:
        return RunError(f"could not finish writing {path}: {reason}", "free some space, or write to another disk")
    return DataError(f"cannot write {path}: {reason}", "check the folder and its permissions, or choose another name")


def _require_writable(folder: Path) -> None:
    """Raise the system's own OSError now, with its errno, instead of a library's wording later."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _sync(path: Path) -> None:
    """Wait until a file or a folder's list of names is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
