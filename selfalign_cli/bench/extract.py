"""Extraction, part by part, and against a pass of the backbone for every region; seconds are those of the processor.

The processor's seconds count all threads and no waiting, so that other programs on the machine disturb them little.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from selfalign_cli.bench.inputs import SEED
from selfalign_cli.bench.machine import Rates
from selfalign_cli.bench.measure import Setting
from selfalign_cli.bench.report import Line
from selfalign_cli.bert_folder import quiet_transformers
from selfalign_cli.extract.backbone import TransformersBackbone
from selfalign_cli.extract.grouping import group_patches
from selfalign_cli.extract.model_folder import open_model_folder
from selfalign_cli.extract.packaged import CONFIG, PREPROCESSING, is_installed, packaged_backbone
from selfalign_cli.extract.pictures import DECODED_PIXELS, Picture, PictureFile, UnreadableError, decode, find_pictures
from selfalign_cli.extract.pooling import pool_boxes
from selfalign_cli.extract.regions import Extractor, GroupingExtractor, PictureRegions
from selfalign_cli.extract.run import extract_pictures
from selfalign_cli.extract.select import best_boxes

QUALITY = 90
NETWORK_OF_TOYS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
PARTS = ("decode", "pass of the backbone", "grouping", "pooling")


@dataclass(frozen=True)
class ExtractSize:
    """Pictures and regions.

    Attributes:
        pictures: how many are drawn where no folder is named.
        width, height: theirs, in pixels.
        side: of a square with the area that the backbone looks at.
        regions: boxes of a picture.
        cropped: pictures whose regions are also looked at one by one.
    """

    pictures: int
    width: int
    height: int
    side: int
    regions: int
    cropped: int


SIZES = {
    "tiny": ExtractSize(2, 96, 64, 56, 3, 1),
    "small": ExtractSize(12, 640, 480, 224, 30, 1),
    "published": ExtractSize(100, 640, 480, 224, 30, 4),
}


def run(
    name: str, setting: Setting, rates: Rates, notify: Callable[[str], None], pictures: Path | None = None
) -> tuple[dict[str, object], list[Line]]:
    """Measure at a size of `SIZES`.

    Args:
        name: of the size.
        setting: threads and device.
        rates: unused.
        notify: called with a message before each measurement.
        pictures: folder of pictures; None for drawn ones.

    Returns:
        The dimensions, and a line for each part, a picture each.
    """
    size = SIZES[name]
    with TemporaryDirectory(prefix="selfalign-bench-") as place:
        source, weights = pictures, "DINOv2-small"
        if source is None:
            source = Path(place) / "pictures"
            draw_pictures(source, size)
        if name == "tiny" or not is_installed():
            model = random_backbone(Path(place) / "model", NETWORK_OF_TOYS if name == "tiny" else {})
            weights = "random weights"
        else:
            model = packaged_backbone()
        backbone = TransformersBackbone(open_model_folder(str(model)), side=size.side, device=setting.device)
        notify("part by part")
        seconds, files = part_by_part(find_pictures([source]), backbone, size)
        notify("extract")
        extractor = Remembering(GroupingExtractor(backbone, count=size.regions))
        whole = extracting(source, Path(place) / "out.h5", extractor) / len(files)
        again = extracting(source, Path(place) / "again.h5", Remembered(extractor)) / len(files)
        notify(f"a pass for each of {size.regions} regions of {size.cropped} pictures")
        crops = one_by_one(files[:: max(1, len(files) // size.cropped)][: size.cropped], backbone, size)
    parts = {part: seconds[part] / len(files) for part in PARTS}
    looking = sum(parts[part] for part in PARTS[1:])
    lines = [Line(part, taken) for part, taken in parts.items()]
    lines += [
        Line("writing", max(0.0, again - parts[PARTS[0]]), note="extract with regions at hand, less decoding"),
        Line("extract, a picture", whole, note=f"{weights}; seconds of the processor"),
        Line(
            f"{size.regions} regions",
            looking,
            floor=parts[PARTS[1]],
            plain=crops,
            note=f"plain: a pass for each, {size.cropped} pictures",
        ),  # fmt: skip
    ]
    return {**asdict(size), "pictures": len(files)}, lines


class Remembering:
    """An extractor that keeps what it gave.

    Args:
        inner: the extractor.
    """

    def __init__(self, inner: Extractor) -> None:
        self.inner, self.given = inner, list[PictureRegions]()
        self.label_names, self.pixels_wanted = inner.label_names, inner.pixels_wanted

    def identity(self) -> dict[str, Any]:
        """That of the extractor."""
        return self.inner.identity()

    def regions(self, picture: Picture) -> PictureRegions:
        """Look at a picture."""
        self.given.append(self.inner.regions(picture))
        return self.given[-1]


class Remembered:
    """Gives again what an extractor gave, picture after picture, without looking.

    Args:
        before: the extractor.
    """

    def __init__(self, before: Remembering) -> None:
        self.before, self.left = before, iter(before.given)
        self.label_names, self.pixels_wanted = before.label_names, before.pixels_wanted

    def identity(self) -> dict[str, Any]:
        """That of the extractor."""
        return self.before.identity()

    def regions(self, picture: Picture) -> PictureRegions:
        """The next picture's."""
        return next(self.left)


def extracting(source: Path, out: Path, extractor: Extractor) -> float:
    """Seconds of an extraction."""
    began = time.process_time()
    extract_pictures([source], out, extractor)
    return time.process_time() - began


def draw_pictures(folder: Path, size: ExtractSize) -> None:
    """JPEGs with smooth patches of colour, and noise as a camera adds it."""
    folder.mkdir()
    generator = np.random.default_rng(SEED)
    for number in range(size.pictures):
        coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size.width, size.height), Image.Resampling.BICUBIC), dtype=np.float64)
        noisy = np.clip(smooth + generator.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:04}.jpg", quality=QUALITY)


def random_backbone(folder: Path, changed: dict[str, int]) -> Path:
    """A folder with DINOv2-small, or a change of it, with random weights."""
    with quiet_transformers():
        from transformers import Dinov2Config, Dinov2Model

        torch.manual_seed(SEED)
        settings = {key: value for key, value in CONFIG.items() if key not in ("architectures", "model_type")}
        Dinov2Model(Dinov2Config(**{**settings, **changed})).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING), encoding="utf-8")
    return folder


def part_by_part(
    files: list[PictureFile], backbone: TransformersBackbone, size: ExtractSize
) -> tuple[dict[str, float], list[PictureFile]]:
    """The work of `extract` on each picture, one part after the other.

    Returns:
        Seconds of each part over all pictures, and the pictures that could be decoded.
    """
    seconds = dict.fromkeys(PARTS, 0.0)
    looked_at = []
    for file in files:
        marks = [time.process_time()]
        try:
            picture = decode(file.path, pixels_wanted=DECODED_PIXELS)
        except UnreadableError:
            continue
        marks.append(time.process_time())
        found = backbone.encode(picture.pixels)
        marks.append(time.process_time())
        boxes = grouped_boxes(found.patches, picture, size.regions)
        marks.append(time.process_time())
        pool_boxes(found.patches, boxes, picture.size)
        marks.append(time.process_time())
        for part, begin, end in zip(PARTS, marks, marks[1:], strict=False):
            seconds[part] += end - begin
        looked_at.append(file)
    return seconds, looked_at


def one_by_one(files: list[PictureFile], backbone: TransformersBackbone, size: ExtractSize) -> float:
    """Cut the regions out and look at each by itself, at the same area; seconds a picture, without decoding."""
    total = 0.0
    for file in files:
        picture = decode(file.path, pixels_wanted=DECODED_PIXELS)
        boxes = grouped_boxes(backbone.encode(picture.pixels).patches, picture, size.regions)
        across, down = picture.pixels.shape[1] / picture.size[0], picture.pixels.shape[0] / picture.size[1]
        corners = (boxes * torch.tensor([across, down] * 2)).round().int().tolist()
        began = time.process_time()
        for left, top, right, bottom in corners:
            backbone.encode(picture.pixels[top : max(bottom, top + 1), left : max(right, left + 1)])
        total += (time.process_time() - began) * size.regions / len(corners)
    return total / len(files)


def grouped_boxes(patches: torch.Tensor, picture: Picture, count: int) -> torch.Tensor:
    """(n, 4) the boxes that `extract` chooses, in pixels."""
    proposals = group_patches(patches.cpu().numpy())
    kept = best_boxes(proposals.boxes, proposals.scores, count)
    scale = np.array([picture.size[0] / patches.shape[1], picture.size[1] / patches.shape[0]] * 2)
    return torch.from_numpy(proposals.boxes[kept] * scale)
