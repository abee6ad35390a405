"""What travels from a foreign format to the feature file: one picture at a time, after a plan of their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.features.origin import Origin

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class ImageRecord:
    """One picture with its regions and captions.

    Attributes:
        image_id: name of the picture, unique within its split.
        features: (n, F) floating-point region features, n >= 1.
        split: name of the split; records of one split follow each other.
        captions: as written; at least one, or none for all pictures of a file.
        caption_ids: one id per caption (Karpathy's sentid), or None.
        boxes: (n, 4) x1, y1, x2, y2 in pixels, or None.
        size: width and height in pixels, or None.
        file_name: name of the picture's file, or None.
        scores: (n,) how sure the extractor is of each region, or None.
        labels: (n,) whole numbers, the class of each region or -1; or None.
    """

    image_id: str
    features: Array
    split: str
    captions: list[str]
    caption_ids: list[str] | None = None
    boxes: Array | None = None
    size: tuple[float, float] | None = None
    file_name: str | None = None
    scores: Array | None = None
    labels: Array | None = None


@dataclass(frozen=True)
class ConversionPlan:
    """What a reader of a foreign format knows before it streams the pictures.

    Attributes:
        format: name of the format, a key of `formats.READERS`.
        source: what was read, for the file's `source` attribute and for messages.
        feature_dim: width F of a region.
        splits: pictures per split, in the order in which they will be streamed.
        total_regions: regions over all pictures.
        records: starts the stream; each call starts anew.
        notes: things the user should know and that stop nothing, one sentence each.
        origin: what made the regions, where that is known.
    """

    format: str
    source: str
    feature_dim: int
    splits: dict[str, int]
    total_regions: int
    records: Callable[[], Iterator[ImageRecord]]
    notes: list[str] = field(default_factory=list)
    origin: Origin | None = None

    @property
    def total_images(self) -> int:
        """Pictures over all splits."""
        return sum(self.splits.values())
