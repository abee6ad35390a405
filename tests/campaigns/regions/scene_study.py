"""Scenes from their PNG files by `extract`, against the regions that `make-scenes` itself writes: are they as good?

Both go through the commands' own functions, and a VSRN is trained on each for equal epochs, with the settings of
recipes/vsrn_scenes_baseline.yaml without its caption generator.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from campaigns.campaign import Campaign, Order, Row
from campaigns.regions.retrieval import Scores, schedule, train_and_score

from selfalign_cli.bench.machine import describe
from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.demo.scenes import make_scenes, split_sizes
from selfalign_cli.extract.choose import WEIGHTLESS, build_extractor
from selfalign_cli.extract.packaged import is_installed
from selfalign_cli.extract.run import extract_pictures

OWN, PRETRAINED = "make-scenes", "DINOv2-small"


@dataclass(frozen=True)
class StudySize:
    """How much is looked at and trained.

    Attributes:
        train_images: scenes of the train split.
        seeds: runs of each arm.
        epochs: of a run.
        pretrained: also extract with DINOv2-small, where it is installed.
    """

    train_images: int
    seeds: int
    epochs: int
    pretrained: bool


SIZES = {
    "tiny": StudySize(20, seeds=2, epochs=1, pretrained=False),
    "small": StudySize(200, seeds=2, epochs=8, pretrained=False),
    "published": StudySize(240, seeds=3, epochs=16, pretrained=True),
}


def run(order: Order) -> Campaign:
    """Make scenes, extract, train and compare."""
    size, began = SIZES[order.size], time.process_time()
    order.setting.enter()
    scores: dict[str, Scores] = {}
    with TemporaryDirectory(prefix="selfalign-scenes-") as place:
        files = _feature_files(Path(place), size, order)
        for name, path in files.items():
            order.notify(f"{name}: training {size.seeds} times")
            overrides = ["loss.captioning=null", *schedule(size.epochs)]
            scores[name] = train_and_score(path, Path(place) / "runs", seeds=size.seeds, overrides=overrides)
    rows: list[Row] = [
        {
            "name": name,
            "rsum": found.shown(),
            "minus_make_scenes": "" if name == OWN else found.against(scores[OWN]),
            "rsum_of_seeds": ", ".join(f"{value:.1f}" for value in found.test),
        }
        for name, found in scores.items()
    ]
    settings: Row = {
        "scenes": ", ".join(f"{count:,} {split}" for split, count in split_sizes(size.train_images).items()),
        "seeds": size.seeds,
        "epochs": size.epochs,
        "seconds": round(time.process_time() - began, 1),
    }
    return Campaign("scenes", order.size, describe(order.setting), settings, rows)


def _feature_files(place: Path, size: StudySize, order: Order) -> dict[str, Path]:
    """The regions that came with the scenes, and those of `extract`."""
    scenes = place / "scenes"
    make_scenes(scenes, train_images=size.train_images)
    files = {OWN: place / "own.h5"}
    convert_to_feature_file([scenes], files[OWN])
    backbones: dict[str, str | None] = {f"extract, {WEIGHTLESS}": WEIGHTLESS}
    if size.pretrained and is_installed():
        backbones[f"extract, {PRETRAINED}"] = None
    for number, (name, backbone) in enumerate(backbones.items()):
        order.notify(name)
        extractor = build_extractor(
            backbone=backbone, detector=None, area=None, regions=None, device=torch.device("cpu")
        )
        files[name] = place / f"{number}.h5"
        extract_pictures([scenes / "images"], files[name], extractor, captions=scenes / "dataset_scenes.json")
    return files
