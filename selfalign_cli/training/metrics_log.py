"""metrics.jsonl: one JSON object a line, cut back to the checkpoint on resume; TensorBoard beside it if installed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfalign_cli.data.atomic import writing_failed
from selfalign_cli.errors import RunError
from selfalign_cli.training.event_file import EventFile


class MetricsLog:
    """Append-only log of a run.

    Args:
        folder: the run folder.
        offset: bytes of metrics.jsonl that belong to the checkpoint one resumes from; what follows is cut off, since
            those steps will be logged again.
        step: optimizer steps done so far.
        tensorboard: also write TensorBoard events if the package is installed.

    Raises:
        RunError: metrics.jsonl is shorter than `offset`, another process writes it, or the disk is full (when
            writing, too).
    """

    def __init__(self, folder: Path, *, offset: int, step: int, tensorboard: bool) -> None:
        self.path = folder / "metrics.jsonl"
        length = self.path.stat().st_size if self.path.exists() else 0
        if length < offset:
            raise RunError(
                f"{self.path} has {length:,} bytes; its checkpoint knows {offset:,}",
                "restore it, or start a new run in another run.dir",
            )
        with self._faults():
            # Unbuffered: closing cannot fail, and what was logged is kept when the process is killed.
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - closed in __exit__
            self._lock()
            self._file.truncate(offset)
            self._file.seek(0, os.SEEK_END)
            self._events = _event_file(folder / "tensorboard", step) if tensorboard else None

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *unused: object) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def write(self, kind: str, *, step: int, epoch: int, seconds: float, values: dict[str, float]) -> None:
        """Write one line. `seconds` (since the run began) is the only field that two equal runs differ in."""
        line = json.dumps({"kind": kind, "step": step, "epoch": epoch, **values, "seconds": round(seconds, 3)})
        whole = line.encode() + b"\n"
        with self._faults():
            if self._file.write(whole) != len(whole):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._events is not None:
                self._events.write({f"{kind}/{name}": value for name, value in values.items()}, step)

    def sync(self) -> None:
        """Wait until the log is on disk, so that a checkpoint never refers past its end."""
        with self._faults():
            os.fsync(self._file.fileno())

    def _lock(self) -> None:
        """Keep other processes out of the folder until this one ends."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released with the process, even if it is killed
        except OSError as fault:
            if fault.errno in (errno.EACCES, errno.EAGAIN):  # other errors: the file system has no locks
                self._file.close()
                raise RunError(
                    f"another process is training in {self.path.parent}", "wait for it, or end it"
                ) from None

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            raise writing_failed(self.path, fault) from fault


class NoLog:
    """Does nothing: the log of all processes but the first."""

    offset = 0

    def __enter__(self) -> NoLog:
        return self

    def __exit__(self, *unused: object) -> None:
        pass

    def write(self, kind: str, *, step: int, epoch: int, seconds: float, values: dict[str, float]) -> None:
        pass

    def sync(self) -> None:
        pass


def _event_file(folder: Path, step: int) -> EventFile | None:
    try:
        return EventFile(folder, step)
    except ImportError:
        return None
