"""What every picture must fulfil before it enters a feature file; each fault names the picture."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.errors import DataError

# Detectors round box corners to whole pixels or scale them in float32: a corner may lie outside by as much.
BOX_TOLERANCE = 1.0
# Boxes and sizes are stored as float32.
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def check_record(record: ImageRecord, feature_dim: int, dtype: str) -> None:
    """Check one picture before it enters a feature file.

    Args:
        record: the picture.
        feature_dim: width that its regions must have.
        dtype: float32 or float16, the type that must be able to hold its features.

    Raises:
        DataError: with the picture's id and its split.
    """
    _check_features(record, feature_dim, dtype)
    _check_size_and_boxes(record)
    for name, values in (("scores", record.scores), ("labels", record.labels)):
        if values is not None and (values.shape != (len(record.features),) or not np.isfinite(values).all()):
            raise record_fault(record, f"{name} are {values.shape}; expected a finite number for each region")
    _check_texts(record)


def record_fault(record: ImageRecord, found: str, hint: str | None = None) -> DataError:
    """A DataError that names the picture and its split."""
    return DataError(f"picture {record.image_id} of split {record.split}: {found}", hint)


def _check_features(record: ImageRecord, feature_dim: int, dtype: str) -> None:
    features = record.features
    if features.ndim != 2 or len(features) < 1 or features.shape[1] != feature_dim:
        raise record_fault(record, f"features are {features.shape}; expected one or more regions of {feature_dim}")
    if not np.issubdtype(features.dtype, np.floating):
        raise record_fault(record, f"features are of type {features.dtype}; expected floating point")
    with np.errstate(invalid="ignore"):  # a signalling NaN; refused below
        smallest, largest = float(features.min()), float(features.max())  # either is NaN if any number is
    if not (math.isfinite(smallest) and math.isfinite(largest)):
        region, column = np.argwhere(~np.isfinite(features))[0]
        value = features[region, column]
        raise record_fault(record, f"region {region} holds {value} in column {column}; expected finite numbers")
    if max(-smallest, largest) > float(np.finfo(dtype).max):
        found = max(-smallest, largest)
        raise record_fault(record, f"the feature {found:g} does not fit in {dtype}", "convert with --dtype float32")


def _check_size_and_boxes(record: ImageRecord) -> None:
    if record.size is not None and not all(SMALLEST <= side <= LARGEST for side in record.size):
        raise record_fault(record, f"its size is {record.size}; expected a positive width and height in pixels")
    if record.boxes is None:
        return
    if record.boxes.shape != (len(record.features), 4):
        raise record_fault(record, f"boxes are {record.boxes.shape}; expected {(len(record.features), 4)}")
    with np.errstate(invalid="ignore"):  # a signalling NaN; refused below
        boxes: npt.NDArray[np.float64] = record.boxes.astype(np.float64)
    right, bottom = record.size if record.size is not None else (np.inf, np.inf)
    inside = (boxes[:, :2] >= -BOX_TOLERANCE).all(1) & (boxes[:, 2] <= right + BOX_TOLERANCE)
    inside &= boxes[:, 3] <= bottom + BOX_TOLERANCE
    good = (np.abs(boxes) <= LARGEST).all(1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & inside
    if not good.all():
        region = int(np.argmin(good))
        corners = " ".join(f"{corner:g}" for corner in boxes[region])
        bounds = f" inside {right:g} x {bottom:g}" if record.size is not None else ""
        raise record_fault(record, f"box {region} is {corners}; expected x1 < x2 and y1 < y2{bounds}")


def _check_texts(record: ImageRecord) -> None:
    for number, caption in enumerate(record.captions):
        if not caption.strip():
            raise record_fault(record, f"caption {number} is empty")
    if record.caption_ids is not None and len(record.caption_ids) != len(record.captions):
        raise record_fault(record, f"{len(record.caption_ids)} caption ids for {len(record.captions)} captions")
    names = [record.split, record.image_id, record.file_name or ""]
    for text in [*names, *record.captions, *(record.caption_ids or [])]:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as fault:
            raise record_fault(record, f"the text {text[:60]!a} cannot be written as UTF-8") from fault
        if "\0" in text:
            raise record_fault(record, f"the text {text[:60]!a} holds a NUL character")
    if not record.image_id:
        raise record_fault(record, "its id is empty")
