"""A TensorBoard event file, written line by line.

`torch.utils.tensorboard` writes from a thread, where a full disk would end in a traceback.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any


class EventFile:
    """Scalars of a run, for TensorBoard.

    Args:
        folder: where TensorBoard looks.
        step: optimizer steps done so far; TensorBoard drops later steps of earlier files in the folder.

    Raises:
        ImportError: tensorboard is not installed.
        OSError: the file cannot be written (when writing, too).
    """

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(folder / name, "ab", buffering=0)  # noqa: SIM115 - closed in close
        self._records = RecordWriter(self._file)
        self._add(file_version="brain.Event:2")
        self._add(step=step + 1, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def write(self, values: dict[str, float], step: int) -> None:
        """Add scalars by tag."""
        scalars = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step=step, summary=self._summary(value=scalars))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, **content: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **content).SerializeToString())
