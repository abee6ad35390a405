"""Made-up inputs of the right shapes, and a VSRN with SelfAlign to run on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from selfalign_cli.data.features import write_feature_file
from selfalign_cli.data.records import ImageRecord
from selfalign_cli.data.vocab import SPECIAL_WORDS, Vocabulary
from selfalign_cli.encodings import ImageBatch, PairBatch, TextBatch
from selfalign_cli.engine.build import ParameterGroups, build_model, build_objective, build_optimizer, parameter_groups
from selfalign_cli.losses.objective import Objective
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.recipe.load import parse_recipe

SEED = 1024
RECIPE = """
compat: corrected
run: {{dir: runs/bench}}
data: {{features: bench.h5, vocab: bench.json, batch_size: {batch}}}
model: {{name: vsrn, embed_dim: {dim}, word_dim: {word_dim}, normalize_regions: true}}
loss:
  concept: {{prototypes: {prototypes}}}
  context: {{negatives: {negatives}}}
  captioning: {{hidden_dim: {hidden}, word_dim: {word_dim}, max_len: {max_len}}}
"""
FEWEST_WORDS = 8
"""Ids of the shortest caption, marks included."""


@dataclass(frozen=True)
class ModelSize:
    """The dimensions of a VSRN with SelfAlign and of its batches.

    Attributes:
        batch: pairs.
        regions: per picture.
        features: F, width of a region.
        dim: D.
        words: vocabulary.
        word_dim: width of word tables.
        longest: ids of the longest caption of a batch.
        prototypes: K.
        negatives: hardest negatives of the context loss.
        hidden: width of the caption generator.
        max_len: its steps, plus one.
    """

    batch: int = 128
    regions: int = 36
    features: int = 2048
    dim: int = 2048
    words: int = 10_000
    word_dim: int = 300
    longest: int = 22
    prototypes: int = 1024
    negatives: int = 512
    hidden: int = 512
    max_len: int = 60


TINY = ModelSize(6, 5, 12, 16, 40, 6, 9, 8, 11, 10, 12)
SIZES = {
    "tiny": TINY,
    "small": ModelSize(64, 36, 512, 256, 2_000, 100, 22, 256, 256, 128, 60),
    "published": ModelSize(),
}


@dataclass(frozen=True)
class Trained:
    """A model with its training loss and optimizer, in training mode."""

    model: RetrievalModel
    objective: Objective
    groups: ParameterGroups
    optimizer: torch.optim.Adam


def build(size: ModelSize, device: torch.device) -> Trained:
    """Build all that a training step needs, with seeded weights."""
    torch.manual_seed(SEED)
    recipe = parse_recipe(RECIPE.format_map(vars(size)), [], "bench")
    model = build_model(recipe, feature_dim=size.features, vocab_size=size.words, bert=None).to(device).train()
    objective = build_objective(recipe, vocab_size=size.words).to(device).train()
    groups = parameter_groups(model, objective)
    return Trained(model, objective, groups, build_optimizer(recipe, groups))


def directions(*shape: int, device: torch.device, seed: int = SEED) -> Tensor:
    """Vectors of unit length."""
    generator = torch.Generator(device).manual_seed(seed)
    return functional.normalize(torch.randn(*shape, generator=generator, device=device), dim=-1)


def caption_lengths(size: ModelSize) -> list[int]:
    """Ids per caption, longest first: about 13 on average at published size, as in Flickr30K and COCO."""
    drawn = np.random.default_rng(SEED).normal(0.6 * size.longest, 0.15 * size.longest, size.batch)
    lengths = np.clip(drawn.round().astype(int), min(FEWEST_WORDS, size.longest - 1), size.longest - 1)
    return [size.longest, *sorted(lengths.tolist(), reverse=True)[1:]]


def text_batch(size: ModelSize) -> TextBatch:
    """Captions of `caption_lengths`, longest first."""
    lengths = torch.tensor(caption_lengths(size))
    mask = torch.arange(size.longest) < lengths.unsqueeze(1)
    ids = torch.randint(4, size.words, mask.shape, generator=torch.Generator().manual_seed(SEED))
    ids[:, 0] = 1
    ids[torch.arange(size.batch), lengths - 1] = 2
    return TextBatch(ids.masked_fill(~mask, 0), mask)


def image_batch(size: ModelSize) -> ImageBatch:
    """Pictures whose regions are all real, non-negative like the features of a detector."""
    generator = torch.Generator().manual_seed(SEED)
    features = torch.rand(size.batch, size.regions, size.features, generator=generator)
    index = torch.arange(size.batch)
    return ImageBatch(features, torch.ones(size.batch, size.regions, dtype=torch.bool), index)


def pair_batch(size: ModelSize) -> PairBatch:
    """Pairs of different pictures."""
    return PairBatch(image_batch(size), text_batch(size), torch.arange(size.batch))


def vocabulary(words: int) -> Vocabulary:
    """So many words, the special ones included."""
    return Vocabulary((*SPECIAL_WORDS, *(f"word{number}" for number in range(words - len(SPECIAL_WORDS)))))


def captions(count: int, words: int) -> list[str]:
    """Captions of 11 words, which is 13 ids."""
    drawn = np.random.default_rng(SEED).integers(0, words - len(SPECIAL_WORDS), (count, 11))
    return [" ".join(f"word{number}" for number in row) for row in drawn.tolist()]


def feature_file(path: Path, images: int, size: ModelSize) -> None:
    """Write a feature file of one split `train` in float16, one caption for each picture."""
    texts = captions(images, size.words)
    generator = np.random.default_rng(SEED)

    def records() -> Iterator[ImageRecord]:
        for number in range(images):
            features = generator.random((size.regions, size.features), dtype=np.float32)
            yield ImageRecord(str(number), features, "train", [texts[number]])

    write_feature_file(
        path,
        records(),
        total_images=images,
        total_regions=images * size.regions,
        feature_dim=size.features,
        dtype="float16",
    )
