"""A folder of real pictures with captions, for a first run on a fresh machine.

    pip download --no-deps -d wheels scikit-image==0.26.0 scikit-learn==1.9.1
    selfalign make-scenes scenes --images 60
    python tests/campaigns/regions/photographs.py wheels scenes photos

The pictures that these packages ship for their examples, each varied five times (cut, mirrored, darker or brighter, as
JPEG, PNG or WebP), and the scenes; `photos.json` beside the folder holds the captions: what each picture shows.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance, ImageOps

SHOWN = {
    "astronaut": "a smiling astronaut in an orange suit",
    "brick": "a wall of bricks",
    "camera": "a man with a camera on a tripod",
    "chelsea": "a cat that looks up",
    "clock_motion": "a blurred clock on a wall",
    "coffee": "a cup of coffee with a spoon",
    "coins": "rows of old coins",
    "grass": "blades of grass",
    "gravel": "small stones of gravel",
    "hubble_deep_field": "many galaxies in a dark sky",
    "ihc": "brown and blue cells of tissue",
    "moon": "the craters of the moon",
    "motorcycle_left": "a motorcycle in a garage",
    "motorcycle_right": "a motorcycle beside a shelf",
    "page": "a page of printed text",
    "retina": "the red retina of an eye",
    "rocket": "a rocket on its launch pad",
    "text": "a line of handwriting",
    "china": "a temple with a curved roof",
    "flower": "a red flower with yellow leaves",
}
"""What the pictures show, by their names in the packages; others are left out."""
SPLITS = ("train", "train", "train", "dev", "test")
"""Of the variations of a picture."""
WAYS = ("a photograph of {}", "{}", "a picture that shows {}", "there is {}", "here one sees {}")
SUFFIXES = (".jpg", ".png", ".webp")


def make_photographs(wheels: Path, scenes: Path, out: Path) -> int:
    """Write the pictures into `out` and their captions beside it.

    Args:
        wheels: folder with the packages.
        scenes: folder that `selfalign make-scenes` made.
        out: a new folder.

    Returns:
        The number of pictures.
    """
    out.mkdir()
    rows = []
    for name, image in shipped_pictures(wheels):
        for number, split in enumerate(SPLITS):
            path = out / f"{name}_{number}{SUFFIXES[number % len(SUFFIXES)]}"
            varied(image, random.Random(f"{name} {number}")).save(path)
            rows.append({"image": path.name, "split": split, "captions": [way.format(SHOWN[name]) for way in WAYS]})
    shutil.copytree(scenes / "images", out / "scenes")
    for scene in json.loads((scenes / "dataset_scenes.json").read_bytes())["images"]:
        split = "dev" if scene["split"] == "val" else scene["split"]
        captions = [sentence["raw"] for sentence in scene["sentences"]][: len(WAYS)]
        rows.append({"image": f"scenes/{scene['filename']}", "split": split, "captions": captions})
    rows.sort(key=lambda row: ["train", "dev", "test"].index(str(row["split"])))
    out.with_name(f"{out.name}.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return len(rows)


def shipped_pictures(wheels: Path) -> list[tuple[str, Image.Image]]:
    """The pictures in the packages that are known by name."""
    found = {}
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.namelist():
                if Path(entry).stem in SHOWN and Path(entry).suffix in SUFFIXES:
                    found[Path(entry).stem] = Image.open(io.BytesIO(archive.read(entry))).convert("RGB")
    return sorted(found.items())


def varied(image: Image.Image, draw: random.Random) -> Any:
    """A part of a picture with at least two thirds of its sides, perhaps mirrored, darker or brighter."""
    width, height = (round(side * draw.uniform(0.67, 1.0)) for side in image.size)
    left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
    part = image.crop((left, top, left + width, top + height))
    if draw.random() < 0.5:
        part = ImageOps.mirror(part)
    return ImageEnhance.Brightness(part).enhance(draw.uniform(0.7, 1.3))


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the folder and say how much is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("wheels", "scenes", "out"):
        parser.add_argument(name, type=Path)
    chosen = parser.parse_args(arguments)
    print(f"{make_photographs(chosen.wheels, chosen.scenes, chosen.out):,} pictures")


if __name__ == "__main__":
    main()
