"""Generates the embedded data set: world, pixels, boxes, features, captions, files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfalign_cli.data.atomic import writing_failed
from selfalign_cli.demo.scenes.draws import Draws
from selfalign_cli.demo.scenes.grammar import describe
from selfalign_cli.demo.scenes.readme import readme
from selfalign_cli.demo.scenes.regions import FEATURE_WIDTH, REGIONS, detect, propose_boxes
from selfalign_cli.demo.scenes.render import Picture, render
from selfalign_cli.demo.scenes.world import Scene, neighbours, sample_world
from selfalign_cli.demo.scenes.write import (
    SplitRecords,
    picture_name,
    write_karpathy,
    write_picture,
    write_scan,
    write_text,
)
from selfalign_cli.errors import DataError

CHUNK = 100  # pictures whose pixels are in memory together
MOST_IMAGES = 50_000
PIXELS, BOXES, WORDS = 1, 2, 3  # streams of draws of a picture; stream 0 of the seed is the world's
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SceneSummary:
    """The data set that was written.

    Attributes:
        folder: its path.
        images: pictures per split.
        captions: captions per split, sixth ones (in the JSON only) included.
        regions: regions of each picture.
        feature_width: numbers of each region.
        words: different words in all captions.
        total_bytes: sum of the sizes of all files.
    """

    folder: Path
    images: dict[str, int]
    captions: dict[str, int]
    regions: int
    feature_width: int
    words: int
    total_bytes: int


def split_sizes(train_images: int) -> dict[str, int]:
    """Pictures per split: 15 dev and 25 test pictures for 100 train pictures, at least 20 of each."""
    return {"train": train_images, "dev": max(20, train_images * 15 // 100), "test": max(20, train_images // 4)}


def make_scenes(
    out: Path, *, train_images: int = 2000, seed: int = 0, progress: Progress | None = None
) -> SceneSummary:
    """Write the embedded data set to a folder.

    The folder appears under its name once it is complete; until then it is a hidden `.tmp` folder beside it.

    Args:
        out: the folder; it must not exist, or be empty.
        train_images: pictures of the train split, 1 to 50,000; `split_sizes` gives the others.
        seed: any non-negative integer; the same seed and size give the same bytes.
        progress: called with (pictures done, total pictures) after each chunk.

    Raises:
        DataError: the folder is in use or cannot be written, or a number is out of range.
        RunError: the disk is full.
    """
    if not 1 <= train_images <= MOST_IMAGES:
        raise DataError(f"{train_images} train pictures were asked for; 1 to {MOST_IMAGES:,} can be made")
    if seed < 0:
        raise DataError(f"the seed is {seed}; a seed is 0 or more")
    target = Path(out).resolve()
    holder = temporary_folder(target, out)
    try:
        draft = holder / "scenes"
        (draft / "images").mkdir(parents=True)
        summary = write_folder(draft, target, train_images, seed, progress)
        if target.exists():
            target.rmdir()
        draft.rename(target)
    except OSError as error:
        raise writing_failed(out, error) from error
    finally:
        shutil.rmtree(holder, ignore_errors=True)
    return summary


def temporary_folder(target: Path, shown: Path) -> Path:
    """Check that the target is free and make a temporary folder beside it."""
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            found = "is not empty" if target.is_dir() else "is a file"
            raise DataError(f"{shown} {found}; the scenes need a new or an empty folder", "choose another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    except OSError as error:
        raise writing_failed(shown, error) from error


def write_folder(folder: Path, target: Path, train_images: int, seed: int, progress: Progress | None) -> SceneSummary:
    """Write all files of the data set into an existing folder; `target` is the name it will have."""
    world = sample_world(seed, split_sizes(train_images))
    total = sum(len(scenes) for scenes in world.values())
    splits: list[SplitRecords] = []
    first = 0
    for name, scenes in world.items():
        splits.append(depict(name, scenes, first, seed, folder / "images", total, progress))
        write_scan(folder, splits[-1])
        first += len(scenes)
    write_karpathy(folder / "dataset_scenes.json", splits)
    write_text(folder / "README.txt", readme(seed, train_images, {s.name: len(s.ids) for s in splits}))
    return SceneSummary(
        folder=target,
        images={split.name: len(split.ids) for split in splits},
        captions={split.name: sum(map(len, split.captions)) for split in splits},
        regions=REGIONS,
        feature_width=FEATURE_WIDTH,
        words=len({w for s in splits for five in s.captions for text in five for w in text.replace(",", "").split()}),
        total_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )


def depict(
    name: str, scenes: Sequence[Scene], first: int, seed: int, images: Path, total: int, progress: Progress | None
) -> SplitRecords:
    """Paint, detect and describe the scenes of a split, numbered from `first`, and save their pictures."""
    ids = range(first, first + len(scenes))
    boxes = np.zeros((len(scenes), REGIONS, 4), dtype=np.float32)
    features = np.zeros((len(scenes), REGIONS, FEATURE_WIDTH), dtype=np.float32)
    for start in range(0, len(scenes), CHUNK):
        rows = slice(start, start + CHUNK)
        pictures = [render(scene, Draws(seed, PIXELS, i)) for i, scene in zip(ids[rows], scenes[rows], strict=True)]
        for image_id, picture in zip(ids[rows], pictures, strict=True):
            write_picture(images / picture_name(image_id), picture)
        boxes[rows], features[rows] = detected(pictures, scenes[rows], ids[rows], seed)
        if progress is not None:
            progress(ids[rows][-1] + 1, total)
    captions = []
    for image_id, (scene, look_alikes) in zip(ids, neighbours(scenes), strict=True):
        draws = Draws(seed, WORDS, image_id)
        captions.append([c.text for c in describe(scene, look_alikes, 6 if draws.chance(12) else 5, draws)])
    return SplitRecords(name, ids, captions, boxes, features)


def detected(
    pictures: Sequence[Picture], scenes: Sequence[Scene], ids: Sequence[int], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Boxes and features of some pictures."""
    proposals = [propose_boxes(scene, Draws(seed, BOXES, i)) for i, scene in zip(ids, scenes, strict=True)]
    return detect(np.stack([picture.pixels for picture in pictures]), np.array(proposals, dtype=np.int64))
