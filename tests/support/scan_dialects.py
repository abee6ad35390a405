"""Write pictures as SCAN's folders, in every dialect in use, with their captions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from support.dialects import DIALECTS, HEIGHT, WIDTH, Dialect, Picture

SPLITS = ("train", "dev", "test")


def write_scan(
    folder: Path, pictures: Sequence[Picture], *, repeats: int = 1, boxes: str = "", two_folders: bool = False
) -> list[Path]:
    """Write a SCAN folder; pictures go round the splits.

    Args:
        folder: where.
        pictures: all with as many regions.
        repeats: how often each row is stored: once, with two captions; or five times, with five.
        boxes: empty, `camera`, or `gsmn` (sizes as pickled dicts).
        two_folders: whether boxes and sizes are in a second folder.
    """
    scan, second = folder / "f30k_precomp", folder / ("boxes" if two_folders else "f30k_precomp")
    scan.mkdir()
    second.mkdir(exist_ok=True)
    for number, split in enumerate(SPLITS):
        part = list(pictures[number :: len(SPLITS)])
        if not part:
            continue
        each = repeats if repeats > 1 else 2
        np.save(scan / f"{split}_ims.npy", np.repeat(np.stack([p.features for p in part]), repeats, axis=0))
        lines = [f"a dog {p.image_id} {k}\n" for p in part for k in range(each)]
        (scan / f"{split}_caps.txt").write_text("".join(lines))
        (scan / f"{split}_ids.txt").write_text("".join(f"{p.image_id}\n" for p in part for _ in range(repeats)))
        if boxes:
            rows = np.repeat(np.stack([p.boxes for p in part]), repeats, axis=0)
            np.save(second / f"{split}_{'boxes' if boxes == 'camera' else 'ims_bbx'}.npy", rows)
        if boxes == "camera":
            np.save(second / f"{split}_img_sizes.npy", np.tile([WIDTH, HEIGHT], (len(part) * repeats, 1)))
        if boxes == "gsmn":
            dicts = np.array([{"image_h": HEIGHT, "image_w": WIDTH} for _ in range(len(part) * repeats)], dtype=object)
            np.save(second / f"{split}_ims_size.npy", dicts)
    if boxes == "gsmn":
        (scan / "id_mapping.json").write_text(json.dumps({p.image_id: f"{p.image_id}.jpg" for p in pictures}))
    return [scan, second] if two_folders else [scan]


def scan(*, boxed: bool = True, five: bool = False, **options: object) -> Dialect:
    """A dialect of `write_scan`."""
    write = partial(write_scan, repeats=5 if five else 1, **options)
    each = 5 if five else 2
    return Dialect(write, "scan", boxed, boxed, adaptive=False, own_captions=True, each=lambda row: each)


SCAN_DIALECTS = {
    "SCAN": scan(boxed=False),
    "SCAN, every row five times": scan(five=True, boxes="camera"),
    "SCAN, CAMERA's boxes in a second folder": scan(boxes="camera", two_folders=True),
    "SCAN, GSMN's boxes": scan(boxes="gsmn"),
}
EVERY_DIALECT = {**DIALECTS, **SCAN_DIALECTS}
