"""The content hash of a feature file: the same pictures, in the same order and precision, give the same hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.features.records import ImageRecord


class ContentDigest:
    """SHA-256 over pictures, added one at a time.

    Args:
        dtype: type in which features are stored.
        feature_dim: width of a region.
    """

    def __init__(self, dtype: str, feature_dim: int) -> None:
        self._hash = hashlib.sha256(f"selfalign-features 1 {dtype} {feature_dim}".encode())

    def add(self, record: ImageRecord, stored: npt.NDArray[Any], boxes: npt.NDArray[np.float32] | None) -> None:
        """Add one picture.

        Args:
            record: its texts, split and size.
            stored: (n, F) its features as stored, C-contiguous.
            boxes: (n, 4) its boxes as stored, C-contiguous, or None.
        """
        size = None if record.size is None else [float(np.float32(side)) for side in record.size]
        described = [record.split, record.image_id, len(stored), record.captions, record.caption_ids]
        self._hash.update(json.dumps([*described, size, record.file_name, boxes is not None]).encode())
        self._hash.update(stored.data)
        if boxes is not None:
            self._hash.update(boxes.data)
        for name, values in (("scores", record.scores), ("labels", record.labels)):
            if values is not None:  # what came later leaves the hashes of files without it alone
                self._hash.update(name.encode())
                self._hash.update(np.ascontiguousarray(values).data)

    def add_extractor(self, extractor: dict[str, Any]) -> None:
        """Take in what made the regions."""
        self._hash.update(json.dumps(extractor, sort_keys=True).encode())

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return self._hash.hexdigest()
