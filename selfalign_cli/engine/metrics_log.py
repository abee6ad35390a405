"""metrics.jsonl: one JSON object a line, cut back to the checkpoint on resume; TensorBoard beside it if installed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from selfalign_cli.errors import RunError


class MetricsLog:
    """Append-only log of a run.

    Args:
        folder: the run folder.
        offset: bytes of metrics.jsonl that belong to the checkpoint one resumes from; what follows is cut off, since
            the same steps will be logged again.
        step: optimizer steps done so far.
        tensorboard: also write TensorBoard events when the package is there.
    """

    def __init__(self, folder: Path, *, offset: int, step: int, tensorboard: bool) -> None:
        self.path = folder / "metrics.jsonl"
        self._file = open(self.path, "ab" if self.path.exists() else "xb")  # noqa: SIM115 - closed in __exit__
        if self._file.seek(0, os.SEEK_END) < offset:
            self._file.close()
            raise RunError(f"{self.path} is shorter than its checkpoint says", "restore it, or start a new run.dir")
        self._file.truncate(offset)
        self._file.seek(0, os.SEEK_END)
        self._events = _summary_writer(folder, step) if tensorboard else None

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
        line = {"kind": kind, "step": step, "epoch": epoch, **values, "seconds": round(seconds, 3)}
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        except OSError as fault:
            raise RunError(f"cannot write {self.path}: {fault.strerror}", "free some space, then --resume") from fault
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{kind}/{name}", value, step)

    def sync(self) -> None:
        """Put what was written on disk, so that a checkpoint never points past it."""
        os.fsync(self._file.fileno())


def _summary_writer(folder: Path, step: int) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
