"""The files of a scene folder: pictures, and their captions and regions in the formats that this field exchanges."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from selfalign_cli.demo.scenes.render import Picture
from selfalign_cli.demo.scenes.world import CANVAS

SCAN_CAPTIONS = 5  # captions of a picture in the SCAN text file, which has no field for the picture of a line
KARPATHY_SPLITS = {"train": "train", "dev": "val", "test": "test"}


@dataclass(frozen=True)
class SplitRecords:
    """All records of the N pictures of a split, in file order.

    Attributes:
        name: train, dev or test.
        ids: picture numbers.
        captions: five or six captions of each picture.
        boxes: (N, R, 4) float32 x1, y1, x2, y2 in pixels.
        features: (N, R, F) float32.
    """

    name: str
    ids: Sequence[int]
    captions: Sequence[Sequence[str]]
    boxes: NDArray[np.float32]
    features: NDArray[np.float32]


def picture_name(image_id: int) -> str:
    """File name of a picture."""
    return f"scene_{image_id:06d}.png"


def write_picture(path: Path, picture: Picture) -> None:
    """Save a picture as a PNG with a palette.

    The pixels depend on the seed alone; how they are packed may differ between builds of zlib.
    """
    from PIL import Image

    image = Image.frombytes("P", (CANVAS, CANVAS), picture.indices.tobytes())
    image.putpalette(picture.palette.tobytes())
    image.save(path, "PNG", compress_level=9, compress_type=1)  # 1: the strategy for noisy data


def write_scan(folder: Path, split: SplitRecords) -> None:
    """Write the SCAN and CAMERA files of a split: `_ims`, `_boxes`, `_img_sizes`, `_caps`, `_ids`."""
    arrays = {
        "ims": split.features,
        "boxes": split.boxes,
        "img_sizes": np.full((len(split.ids), 2), CANVAS, dtype=np.float32),
    }
    for name, array in arrays.items():
        write_flushed(folder / f"{split.name}_{name}.npy", partial(np.save, arr=array))
    lines = [caption for captions in split.captions for caption in captions[:SCAN_CAPTIONS]]
    write_text(folder / f"{split.name}_caps.txt", "".join(f"{line}\n" for line in lines))
    write_text(folder / f"{split.name}_ids.txt", "".join(f"{image_id}\n" for image_id in split.ids))


def write_karpathy(path: Path, splits: Sequence[SplitRecords]) -> None:
    """Write all captions as one JSON of the kind of `dataset_flickr30k.json`; the dev split is called val there.

    Its `tokens` are left out: nothing reads them, and `raw` has the text.
    """
    images: list[dict[str, object]] = []
    sentence_id = 0
    for split in splits:
        for image_id, captions in zip(split.ids, split.captions, strict=True):
            sentences = [
                {"raw": text, "imgid": image_id, "sentid": number}
                for number, text in enumerate(captions, start=sentence_id)
            ]
            images.append(
                {
                    "sentids": [sentence["sentid"] for sentence in sentences],
                    "imgid": image_id,
                    "sentences": sentences,
                    "split": KARPATHY_SPLITS[split.name],
                    "filename": picture_name(image_id),
                }
            )
            sentence_id += len(captions)
    write_text(path, json.dumps({"images": images, "dataset": "scenes"}, separators=(",", ":")) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with plain line feeds."""
    write_flushed(path, lambda file: file.write(text.encode()))


def write_flushed(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Create a file with `fill`, and sync it to the disk."""
    with open(path, "wb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
