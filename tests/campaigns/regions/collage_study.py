"""Which regions? Collages of known objects: what boxes find, and what features under them are worth for retrieval.

Boxes are those of a grid, of `extract`'s grouping, of a detector where `--data` has one, and of the objects
themselves, which no extractor knows: an upper bound. All features are pooled from one pass of one backbone:
DINOv2-small where `--data` is given, else the one without weights. A VSRN is trained on each, for both axes of its
normalisation.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from campaigns.campaign import Campaign, Order, Row
from campaigns.regions import kinds as regions
from campaigns.regions.collages import CAPTIONS, Collage, Floats, make_collages
from campaigns.regions.nanodet import MODEL, NanoDet
from campaigns.regions.retrieval import Scores, schedule, train_and_score
from campaigns.regions.sprites import Vendors, drawn, emoji

from selfalign_cli.bench.machine import describe
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file
from selfalign_cli.extract.backbone import Backbone, TransformersBackbone
from selfalign_cli.extract.choose import AREA, WEIGHTLESS_AREA
from selfalign_cli.extract.model_folder import open_model_folder
from selfalign_cli.extract.packaged import packaged_backbone
from selfalign_cli.extract.weightless import WeightlessBackbone

COUNTS = (10, 20, 35)
AXES = ("places", "embedding")
COLLAGE_SEED = 0
ENOUGH = {10: 0.84, 20: 0.92}
"""Share of the objects that grouping on DINOv2-small has to find by so many boxes."""


@dataclass(frozen=True)
class StudySize:
    """How much is looked at and trained.

    Attributes:
        pictures: of each split.
        seeds: runs of each arm.
        epochs: of a run.
        width: of the embedding.
        axes: values of `model.normalize_over`.
    """

    pictures: dict[str, int]
    seeds: int
    epochs: int
    width: int
    axes: tuple[str, ...] = AXES


SIZES = {
    "tiny": StudySize({"train": 12, "dev": 6, "test": 6}, seeds=2, epochs=1, width=8, axes=AXES[1:]),
    "small": StudySize({"train": 200, "dev": 60, "test": 60}, seeds=2, epochs=6, width=64),
    "published": StudySize({"train": 400, "dev": 80, "test": 240}, seeds=3, epochs=10, width=64),
}
RATE = 4.0e-3
"""Chosen on dev; see docs/results.md."""


def run(order: Order) -> Campaign:
    """Compose, look, train and compare."""
    size, began = SIZES[order.size], time.process_time()
    order.setting.enter()
    vendors, backbone, detector = _parts(order.data)
    order.notify(f"composing {sum(size.pictures.values()):,} pictures of {vendors.source}")
    collages = make_collages(vendors, size.pictures, COLLAGE_SEED)
    seen = regions.Seen(backbone)
    order.notify("looking at them")
    features, tallies = regions.look_at(collages, seen, regions.kinds_of(seen, detector), COUNTS)
    looked = time.process_time() - began
    scores: dict[tuple[str, str], Scores] = {}
    with TemporaryDirectory(prefix="selfalign-regions-") as place:
        for name in tallies:
            path = Path(place) / f"{name}.h5"
            _write(path, collages, features[name])
            for axis in size.axes:
                order.notify(f"{name}, normalised over {axis}: training {size.seeds} times")
                overrides = [f"model.normalize_over={axis}", *_overrides(size)]
                scores[name, axis] = train_and_score(path, Path(place) / "runs", seeds=size.seeds, overrides=overrides)
    rows = [_row(name, tally, scores, size.axes) for name, tally in tallies.items()]
    settings: Row = {
        "objects": vendors.source,
        "backbone": str(backbone.identity().get("name")),
        "pictures": ", ".join(f"{count:,} {split}" for split, count in size.pictures.items()),
        "seeds": size.seeds,
        "epochs": size.epochs,
        "chance_rsum": round(chance(size.pictures["test"]), 1),
        "seconds_looking": round(looked, 1),
        "seconds": round(time.process_time() - began, 1),
    }
    faults = _faults(tallies[regions.GROUPING]) if order.data is not None else []
    return Campaign("regions", order.size, describe(order.setting), settings, rows, faults)


def _parts(data: Path | None) -> tuple[Vendors, Backbone, NanoDet | None]:
    """Objects, backbone and detector that are there."""
    if data is None:
        return drawn(), WeightlessBackbone(side=WEIGHTLESS_AREA), None
    backbone = TransformersBackbone(open_model_folder(str(packaged_backbone())), side=AREA, device=torch.device("cpu"))
    model = data / MODEL
    return emoji(data), backbone, NanoDet(model) if model.is_file() else None


def _write(path: Path, collages: dict[str, list[Collage]], features: dict[str, list[Floats]]) -> None:
    """The feature file of one kind."""
    records = [
        ImageRecord(collage.name, found, split, collage.captions)
        for split, pictures in collages.items()
        for collage, found in zip(pictures, features[split], strict=True)
    ]
    write_feature_file(
        path,
        records,
        total_images=len(records),
        total_regions=sum(len(record.features) for record in records),
        feature_dim=records[0].features.shape[1],
    )


def _overrides(size: StudySize) -> list[str]:
    return [
        f"model.embed_dim={size.width}",
        f"optim.learning_rate={RATE}",
        "loss.captioning=null",
        "data.batch_size=64",
        *schedule(size.epochs),
    ]


def _row(name: str, tally: regions.Tally, scores: dict[tuple[str, str], Scores], axes: tuple[str, ...]) -> Row:
    """What a kind found, and the rsum with it: for each axis, and against the whole picture alone."""
    finds = name not in (regions.WHOLE, regions.KNOWN)
    row: Row = {"name": name}
    row |= {f"found_{count}": round(tally.share(count), 3) if finds else "" for count in COUNTS}
    row["ms_a_picture"] = round(1000 * tally.seconds / tally.pictures, 1)
    for axis in axes:
        row[f"rsum_{axis}"] = scores[name, axis].shown()
    for axis in axes:
        whole = scores[regions.WHOLE, axis]
        row[f"minus_whole_{axis}"] = "" if name == regions.WHOLE else scores[name, axis].against(whole)
    row["rsum_of_seeds"] = "; ".join(
        f"{axis} {', '.join(f'{value:.1f}' for value in scores[name, axis].test)}" for axis in axes
    )
    return row


def _faults(grouping: regions.Tally) -> list[str]:
    return [
        f"grouping finds {grouping.share(count):.3f} of the objects by {count} boxes; at least {least} were expected"
        for count, least in ENOUGH.items()
        if grouping.share(count) < least
    ]


def chance(pictures: int) -> float:
    """The rsum of random scores."""
    total = 0.0
    for cutoff in (1, 5, 10):
        cutoff = min(cutoff, pictures)
        captions = pictures * CAPTIONS
        missed = math.comb(captions - CAPTIONS, cutoff) / math.comb(captions, cutoff)
        total += 100 * (1 - missed) + 100 * cutoff / pictures
    return total
