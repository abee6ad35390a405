"""Pictures as they are sent: decoded, scaled and packed again, so that no byte of a file goes out as it lies."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from selfalign_cli.extract.pictures import UnreadableError
from selfalign_cli.pages.pictures import Packed, pack

SIDES = {"small": 320, "large": 1200}
MOST_BYTES = 64 << 20
"""Of all that is kept."""


class Thumbnails:
    """Packed pictures; those that were not asked for longest are forgotten first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[tuple[Path, int, int, int], Packed] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, path: Path, size: str) -> Packed:
        """A picture in one of the sizes of `SIDES`.

        Raises:
            UnreadableError: it is gone, or no picture.
        """
        try:
            found = path.stat()
        except OSError as fault:
            raise UnreadableError("it is gone") from fault
        key = (path, SIDES[size], found.st_mtime_ns, found.st_size)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        packed = pack(path, side=SIDES[size])
        with self._lock:
            if key not in self._kept:
                self._kept[key] = packed
                self._bytes += len(packed.content)
            while self._bytes > self.most_bytes and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped.content)
        return packed
