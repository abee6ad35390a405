"""Small collections to search: feature files with chosen pictures, and models that were not trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from selfalign_cli.assembly.checkpoint import Checkpoint, save_checkpoint
from selfalign_cli.assembly.language import language_of_recipe
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file
from selfalign_cli.data.text.vocab import build_vocabulary
from selfalign_cli.recipe.load import parse_recipe
from selfalign_cli.training.train_state import begin_state

WIDTH = 5
COLOURS = ("red", "green", "blue", "black", "white", "grey")
SIZES = ("small", "large", "tiny", "huge", "wide")
VSRN = """
run: {dir: run}
data: {features: FOLDER/all.h5, vocab: FOLDER/vocab.json}
model: {name: vsrn, embed_dim: 8, word_dim: 6, graph_layers: 1}
loss: {concept: {prototypes: 4}, context: {negatives: 5}, captioning: {hidden_dim: 6, word_dim: 4, max_len: 8}}
validation: {batch_size: 2}
"""
CAMERA = """
run: {dir: run}
data: {features: FOLDER/all.h5, max_words: 12}
model: {name: camera, embed_dim: 16, heads: 2, views: 3, bert: BERT}
loss: {concept: {prototypes: 8}, context: {negatives: 16}, diversity: {}}
validation: {batch_size: 2}
"""


def record(number: int, *, seed: int = 0, split: str = "test") -> ImageRecord:
    """A picture; another seed gives it other regions."""
    draw = np.random.default_rng([number, seed])
    colour, size = COLOURS[number % 6], SIZES[number % 5]
    count = 3 + number % 2
    return ImageRecord(
        f"p{number}",
        draw.normal(size=(count, WIDTH)).astype(np.float32),
        split,
        [f"a {colour} ball", f"{size} ball number {number}"][: 1 + number % 2],
        boxes=np.array([[0, 0, 10 + row, 10] for row in range(count)], dtype=np.float32),
        size=(40.0, 30.0),
        file_name=f"p{number}.png",
    )


def write_pictures(path: Path, records: Sequence[ImageRecord]) -> Path:
    """Write a feature file."""
    regions = sum(len(one.features) for one in records)
    write_feature_file(path, records, total_images=len(records), total_regions=regions, feature_dim=WIDTH)
    return path


def write_checkpoint(folder: Path, recipe_text: str = VSRN, *, seed: int = 0, bert: str = "") -> Path:
    """A checkpoint of a model that was not trained, for `all.h5` in the folder."""
    file = FeatureFile(folder / "all.h5")
    if not bert:
        build_vocabulary(file.captions, min_count=1).save(folder / "vocab.json", overwrite=True)
    text = recipe_text.replace("FOLDER", str(folder)).replace("BERT", bert)
    recipe = parse_recipe(text, [f"run.seed={seed}"], "collection.yaml")
    language = language_of_recipe(recipe)
    torch.manual_seed(seed)
    state = begin_state(recipe, language, file.feature_dim, torch.device("cpu"))
    path = folder / f"model{seed}.ckpt"
    config = None if language.bert is None else language.bert.config.to_dict()
    data = {"features": str(file.path), "content_hash": file.content_hash}
    save_checkpoint(
        path,
        Checkpoint(
            recipe=recipe,
            feature_dim=file.feature_dim,
            text=language.captions.to_dict(),
            bert_config=config,
            data=data,
            model=state.model.state_dict(),
            epoch=0,
            step=0,
            scores={},
            training=None,
        ),
    )
    return path
