"""A training run of a few seconds on generated scenes, with everything that a run can consist of."""

from __future__ import annotations

import json
from pathlib import Path

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.text.captions import read_vocabulary_captions
from selfalign_cli.data.text.vocab import build_vocabulary
from selfalign_cli.demo.scenes import make_scenes

RECIPE = """\
run: {{dir: run, seed: 7, log_every: 1, save_every: {save_every}, tensorboard: {tensorboard}}}
data: {{features: {features}, vocab: {vocab}, batch_size: {batch_size}}}
model: {{name: vsrn, embed_dim: 16, word_dim: 8, graph_layers: 1, final_batchnorm: true}}
loss:
  ranking: {{warmup_epochs: 1}}
  concept: {{prototypes: 8, frozen_epochs: 1}}
  context: {{negatives: 16}}
  captioning: {{hidden_dim: 12, word_dim: 8, max_len: 12, dropout: 0.3}}
optim: {{learning_rate: 3.0e-3, epochs: {epochs}, decay_every: 2, decay_factor: 0.5}}
validation: {{every: {validate_every}, batch_size: 50}}
"""
"""A VSRN with SelfAlign; warm-up, frozen prototypes, BatchNorm, dropout and a schedule are all state to restore."""
CAPTIONS = 5
"""Of every picture."""


def make_small_run(
    folder: Path,
    *,
    images: int,
    batch_size: int,
    epochs: int,
    save_every: int,
    validate_every: int,
    tensorboard: bool = False,
) -> Path:
    """Generate scenes, convert them, build their vocabulary and write a recipe.

    Args:
        folder: an existing folder.
        images: pictures of the train split, with `CAPTIONS` captions each.
        batch_size: pairs in a step.
        epochs: passes.
        save_every: steps between two checkpoints.
        validate_every: steps between two validations; each epoch ends with one too.
        tensorboard: write TensorBoard events.

    Returns:
        The recipe; it trains into `run` below the working directory.
    """
    features, vocab, recipe = (folder.resolve() / name for name in ("scenes.h5", "vocab.json", "small.yaml"))
    make_scenes(folder / "scenes", train_images=images)
    convert_to_feature_file([folder / "scenes"], features)
    build_vocabulary(read_vocabulary_captions(features), min_count=1).save(vocab)
    text = RECIPE.format(
        features=json.dumps(str(features)),
        vocab=json.dumps(str(vocab)),
        batch_size=batch_size,
        epochs=epochs,
        save_every=save_every,
        validate_every=validate_every,
        tensorboard=str(tensorboard).lower(),
    )
    recipe.write_text(text, encoding="utf-8")
    return recipe
