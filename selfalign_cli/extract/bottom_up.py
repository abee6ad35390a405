"""The bottom-up-attention detector behind `extract`: its own features as published, or its boxes for a backbone.

Published features have no region for the whole picture, and come by falling probability. Both are kept here, so that
models trained on them can read new pictures: this extractor alone departs from the order of `regions.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from selfalign_cli.errors import CheckpointError, DataError, reason_of
from selfalign_cli.extract.detector import Detections
from selfalign_cli.extract.frcnn.detector import CONFIG, FrcnnDetector
from selfalign_cli.extract.frcnn.detector import Detections as Found
from selfalign_cli.extract.frcnn.weights import FILES, weights_file
from selfalign_cli.extract.model_folder import CONFIG as CONFIG_OF_TRANSFORMERS
from selfalign_cli.extract.model_folder import hashes_of, name_of
from selfalign_cli.extract.pictures import Picture, Pixels, UnreadableError
from selfalign_cli.extract.regions import PictureRegions

Floats = npt.NDArray[np.float64]
CLASS_NAMES = "objects_vocab.txt"
ORDER = "falling probability, no whole picture"
POOLING = "mean of res5 over the proposal"
LEAST_REGIONS = 2
"""Pictures of a single region become ±1 in every number once places are normalised over regions."""
VERSION = 1
"""Of what this file and `frcnn/` compute: another number is another extractor."""


@dataclass(frozen=True)
class RegionCount:
    """How many regions a picture gets; the two are equal where the number is fixed."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.most}" if self.least == self.most else f"{self.least}-{self.most}"


def is_bottom_up_folder(folder: Path) -> bool:
    """Whether a folder is that of a bottom-up-attention detector, by its settings: config.yaml, and no config.json."""
    return (folder / CONFIG).is_file() and not (folder / CONFIG_OF_TRANSFORMERS).exists()


class BottomUpDetector:
    """A folder of config.yaml, pytorch_model.bin or model.safetensors, and maybe names of the classes.

    Args:
        source: as it was named.
        folder: where its files are.
        count: regions of a picture; None for what config.yaml says.
        device: where to compute.

    Attributes:
        count: regions of a picture.
        label_names: of the classes, by objects_vocab.txt; their numbers where there is no such file.

    Raises:
        CheckpointError: files are missing, damaged, or do not fit each other.
    """

    pixels_wanted: int | None = None  # all: its own resizing is part of the published numbers

    def __init__(self, source: str, folder: Path, *, count: RegionCount | None, device: torch.device) -> None:
        self.frcnn = FrcnnDetector.load(folder, device=device)
        if count is not None:
            self.frcnn.config = replace(self.frcnn.config, min_detections=count.least, max_detections=count.most)
        config = self.frcnn.config
        self.source, self.folder = source, folder
        self.count = count or RegionCount(config.min_detections, config.max_detections)
        self.label_names = _class_names(folder / CLASS_NAMES, config.classes)

    def identity(self) -> dict[str, Any]:
        """Hashes of settings and weights."""
        weights = weights_file(self.folder)
        names = [CONFIG, *FILES] if weights is None else [CONFIG, weights.name]
        return {"name": name_of(self.source), **hashes_of(self.folder, names)}

    def found(self, pixels: Pixels) -> Found:
        """Regions as published, from (H, W, 3) RGB.

        Raises:
            UnreadableError: the picture is too thin.
        """
        try:
            return self.frcnn(pixels)
        except DataError as fault:
            raise UnreadableError(str(fault)) from fault

    def detect(self, pixels: Pixels) -> Detections:
        """Boxes and features as other detectors give them."""
        found = self.found(pixels)
        boxes = found.normalized_boxes.double().numpy().clip(0, 1)
        return Detections(boxes, found.obj_probs.double().numpy(), found.obj_ids.numpy(), found.roi_features)


class BottomUpExtractor:
    """Regions in the published layout: the detector's own features, by falling probability, no whole picture."""

    def __init__(self, detector: BottomUpDetector) -> None:
        self.detector = detector
        self.label_names, self.pixels_wanted = detector.label_names, detector.pixels_wanted

    def identity(self) -> dict[str, Any]:
        """Detector, number of regions, order and pooling."""
        return {
            "kind": "bottom-up attention",
            "detector": self.detector.identity(),
            "regions": str(self.detector.count),
            "order": ORDER,
            "pooling": POOLING,
            "version": VERSION,
        }

    def regions(self, picture: Picture) -> PictureRegions:
        """Look at a picture once.

        Raises:
            UnreadableError: it is too thin, or so small that fewer than two regions are found.
        """
        found = self.detector.found(picture.pixels)
        if len(found) < LEAST_REGIONS:
            raise UnreadableError(f"the detector finds {len(found)} regions in it; expected {LEAST_REGIONS} or more")
        boxes = found.normalized_boxes.double().numpy() * np.array([*picture.size, *picture.size])
        return PictureRegions(
            features=found.roi_features.numpy(),
            boxes=_inside(boxes, picture.size).astype(np.float32),
            scores=found.obj_probs.numpy(),
            labels=found.obj_ids.numpy().astype(np.int32),
        )


def _inside(boxes: Floats, size: tuple[int, int]) -> Floats:
    """Boxes cut to the picture; one without an area (F17) grows to a pixel, for feature files hold none such."""
    sides = np.array(size, dtype=np.float64)
    low, high = boxes[:, :2].clip(0, sides), boxes[:, 2:].clip(0, sides)
    flat = high - low < 1e-3
    low = np.where(flat, np.minimum(low, sides - 1), low)
    return np.concatenate([low, np.where(flat, low + 1, high)], axis=1)


def _class_names(path: Path, classes: int) -> list[str]:
    """The first name in each line (F16: others follow a comma).

    Raises:
        CheckpointError: the file cannot be read, or has another number of lines than there are classes.
    """
    if not path.is_file():
        return [str(number) for number in range(classes)]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise CheckpointError(f"{path} cannot be read: {reason_of(fault)}") from fault
    if len(lines) != classes:
        raise CheckpointError(
            f"{path} names {len(lines):,} classes; config.yaml says {classes:,}",
            "take the list that belongs to the weights, or remove it: classes then go by number",
        )
    return [line.split(",")[0].strip() for line in lines]
