"""A data set of a few drawn scenes, a recipe that trains on it within a second, and the files of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from campaigns.outcome import differences, metrics_of

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file
from selfalign_cli.data.text.captions import read_vocabulary_captions
from selfalign_cli.data.text.vocab import build_vocabulary
from selfalign_cli.demo.scenes import make_scenes

__all__ = ["World", "differences", "lines_of", "metrics_of", "opened", "outcome"]

TRAIN_IMAGES = 24
RECIPE = """
run: {dir: run, seed: 7, log_every: 2, save_every: 2, tensorboard: false}
data: {features: FOLDER/scenes.h5, vocab: FOLDER/vocab.json, batch_size: 22}
model: {name: vsrn, embed_dim: 16, word_dim: 8, graph_layers: 1, final_batchnorm: true}
loss:
  concept: {prototypes: 8}
  context: {negatives: 16}
  captioning: {hidden_dim: 12, word_dim: 8, max_len: 12, dropout: 0.3}
optim: {learning_rate: 3.0e-3, epochs: 2, decay_every: 1, decay_factor: 0.5}
validation: {every: 4, batch_size: 50}
"""
STEPS_PER_EPOCH = 6  # 120 captions: 5 batches of 22, and one of 10
STEPS = 12


@dataclass(frozen=True)
class World:
    """Where the data and the recipe are."""

    folder: Path

    @property
    def features(self) -> Path:
        return self.folder / "scenes.h5"

    @property
    def vocab(self) -> Path:
        return self.folder / "vocab.json"

    @property
    def recipe(self) -> Path:
        return self.folder / "tiny.yaml"


def make_world(folder: Path) -> World:
    """Draw scenes, convert them, build their vocabulary, write the recipe."""
    world = World(folder)
    make_scenes(folder / "scenes", train_images=TRAIN_IMAGES)
    convert_to_feature_file([folder / "scenes"], world.features)
    build_vocabulary(read_vocabulary_captions(world.features), min_count=1).save(world.vocab)
    world.recipe.write_text(RECIPE.replace("FOLDER", str(folder)))
    return world


def write_other_features(path: Path, *, width: int) -> None:
    """Write a feature file of random features, with two captions for each of four pictures per split."""
    draw = np.random.default_rng(0)
    records = [
        ImageRecord(f"{split}{row}", draw.random((3, width), dtype=np.float32), split, ["a red ball", f"ball {row}"])
        for split in ("train", "dev", "test")
        for row in range(4)
    ]
    write_feature_file(path, records, total_images=12, total_regions=36, feature_dim=width)


def changed_recipe(world: World, path: Path, **sections: dict[str, Any]) -> Path:
    """Write the recipe with some keys changed."""
    tree = yaml.safe_load(world.recipe.read_text())
    for name, keys in sections.items():
        tree.setdefault(name, {}).update(keys)
    path.write_text(yaml.safe_dump(tree))
    return path


def lines_of(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def opened(path: Path) -> dict[str, Any]:
    """The content of a checkpoint."""
    return torch.load(path, weights_only=True)


def outcome(run: Path) -> dict[str, Any]:
    """All that two equal runs must agree on: the log, and what their checkpoints hold."""
    last, best = opened(run / "last.ckpt"), opened(run / "best.ckpt")
    del last["training"]["log_bytes"]  # counts the digits of `seconds`
    return {"metrics": metrics_of(run), "last": last, "best": best}
