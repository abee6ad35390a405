"""Synthetic inputs, and a VSRN or CAMERA with SelfAlign to run on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from selfalign_cli.assembly.build import build_model
from selfalign_cli.assembly.objective import build_objective
from selfalign_cli.assembly.optimizer import ParameterGroups, build_optimizer, parameter_groups
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file
from selfalign_cli.data.text.vocab import SPECIAL_WORDS, Vocabulary
from selfalign_cli.encodings import ImageBatch, PairBatch, TextBatch
from selfalign_cli.losses.objective import Objective
from selfalign_cli.models.bert import seeded_bert
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.recipe.load import parse_recipe
from selfalign_cli.recipe.schema import Recipe

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
CAMERA_RECIPE = """
compat: corrected
run: {{dir: runs/bench}}
data: {{features: bench.h5, batch_size: {batch}, max_words: {max_words}}}
model: {{name: camera, bert: bench, embed_dim: {dim}, heads: {heads}, views: {views}}}
loss:
  concept: {{prototypes: {prototypes}}}
  context: {{negatives: {negatives}}}
  diversity: {{}}
"""
PICTURE = (640.0, 480.0)
"""Width and height of every picture, in pixels."""
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


@dataclass(frozen=True)
class CameraSize:
    """The dimensions of a CAMERA with SelfAlign and of its batches.

    Attributes:
        batch, regions, features, dim, longest, prototypes, negatives: as of `ModelSize`.
        words: word pieces.
        heads: of attention.
        views: V, vectors per picture.
        max_words: width to which the published programs pad every caption.
        token_dim, token_layers, token_heads: of BERT.
    """

    batch: int = 128
    regions: int = 36
    features: int = 2048
    dim: int = 2048
    words: int = 30_522
    longest: int = 22
    prototypes: int = 1024
    negatives: int = 512
    heads: int = 64
    views: int = 12
    max_words: int = 32
    token_dim: int = 768
    token_layers: int = 12
    token_heads: int = 12


Size = ModelSize | CameraSize

TINY = ModelSize(6, 5, 12, 16, 40, 6, 9, 8, 11, 10, 12)
SIZES = {
    "tiny": TINY,
    "small": ModelSize(64, 36, 512, 256, 2_000, 100, 22, 256, 256, 128, 60),
    "published": ModelSize(),
}
CAMERA_SIZES = {
    "tiny": CameraSize(6, 5, 12, 16, 40, 9, 8, 11, 2, 3, 12, 8, 2, 2),
    "small": CameraSize(64, 36, 512, 256, 2_000, 22, 256, 256, 8, 12, 32, 128, 4, 4),
    "published": CameraSize(),
}


@dataclass(frozen=True)
class Trained:
    """A model with its training loss and optimizer, in training mode."""

    model: RetrievalModel
    objective: Objective
    groups: ParameterGroups
    optimizer: torch.optim.Adam


def build(size: ModelSize, device: torch.device) -> Trained:
    """Build all that a training step of VSRN needs, with seeded weights."""
    torch.manual_seed(SEED)
    recipe = parse_recipe(RECIPE.format_map(vars(size)), [], "bench")
    model = build_model(recipe, feature_dim=size.features, vocab_size=size.words, bert=None)
    return _trained(recipe, model, build_objective(recipe, vocab_size=size.words), device)


def build_camera(size: CameraSize, device: torch.device) -> Trained:
    """Build all that a training step of CAMERA needs, with seeded weights; BERT is frozen."""
    torch.manual_seed(SEED)
    recipe = parse_recipe(CAMERA_RECIPE.format_map(vars(size)), [], "bench")
    config = {
        "vocab_size": size.words,
        "hidden_size": size.token_dim,
        "num_hidden_layers": size.token_layers,
        "num_attention_heads": size.token_heads,
        "intermediate_size": 4 * size.token_dim,
    }
    bert = seeded_bert(config, seed=SEED)
    model = build_model(recipe, feature_dim=size.features, vocab_size=None, bert=bert)
    return _trained(recipe, model, build_objective(recipe, vocab_size=None), device)


def _trained(recipe: Recipe, model: RetrievalModel, objective: Objective, device: torch.device) -> Trained:
    model, objective = model.to(device).train(), objective.to(device).train()
    groups = parameter_groups(model, objective)
    return Trained(model, objective, groups, build_optimizer(recipe, groups))


def directions(*shape: int, device: torch.device, seed: int = SEED) -> Tensor:
    """Vectors of unit length."""
    generator = torch.Generator(device).manual_seed(seed)
    return functional.normalize(torch.randn(*shape, generator=generator, device=device), dim=-1)


def caption_lengths(size: Size) -> list[int]:
    """Ids per caption, longest first: about 13 on average at published size, as in Flickr30K and COCO."""
    drawn = np.random.default_rng(SEED).normal(0.6 * size.longest, 0.15 * size.longest, size.batch)
    lengths = np.clip(drawn.round().astype(int), min(FEWEST_WORDS, size.longest - 1), size.longest - 1)
    return [size.longest, *sorted(lengths.tolist(), reverse=True)[1:]]


def text_batch(size: Size, width: int | None = None) -> TextBatch:
    """Captions of `caption_lengths`, longest first, padded to a width or to the longest."""
    lengths = torch.tensor(caption_lengths(size))
    ids = torch.randint(4, size.words, (size.batch, size.longest), generator=torch.Generator().manual_seed(SEED))
    ids[:, 0] = 1
    ids[torch.arange(size.batch), lengths - 1] = 2
    ids = functional.pad(ids, (0, (width or size.longest) - size.longest))
    mask = torch.arange(ids.shape[1]) < lengths.unsqueeze(1)
    return TextBatch(ids.masked_fill(~mask, 0), mask)


def image_batch(size: Size) -> ImageBatch:
    """Pictures without padding; features are non-negative, as those of a detector. For CAMERA with boxes."""
    generator = torch.Generator().manual_seed(SEED)
    features = torch.rand(size.batch, size.regions, size.features, generator=generator)
    mask, index = torch.ones(size.batch, size.regions, dtype=torch.bool), torch.arange(size.batch)
    if isinstance(size, ModelSize):
        return ImageBatch(features, mask, index)
    drawn = boxes(np.random.default_rng(SEED), size.batch * size.regions).reshape(size.batch, size.regions, 4)
    return ImageBatch(features, mask, index, torch.from_numpy(drawn), torch.tensor([PICTURE]).repeat(size.batch, 1))


def boxes(generator: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
    """(count, 4) random boxes within a picture, at least a sixth of it wide and high."""
    low = generator.uniform(0.0, 0.5, (count, 2))
    high = generator.uniform(low + 1 / 6, 1.0)
    return (np.concatenate([low, high], axis=1) * [*PICTURE, *PICTURE]).astype(np.float32)


def pair_batch(size: Size) -> PairBatch:
    """Pairs of different pictures."""
    return PairBatch(image_batch(size), text_batch(size), torch.arange(size.batch))


def vocabulary(words: int) -> Vocabulary:
    """A vocabulary of a given size, special words included."""
    return Vocabulary((*SPECIAL_WORDS, *(f"word{number}" for number in range(words - len(SPECIAL_WORDS)))))


def captions(count: int, words: int) -> list[str]:
    """Captions of 11 words, which is 13 ids."""
    drawn = np.random.default_rng(SEED).integers(0, words - len(SPECIAL_WORDS), (count, 11))
    return [" ".join(f"word{number}" for number in row) for row in drawn.tolist()]


def feature_file(path: Path, images: int, size: Size) -> None:
    """Write a feature file of one split `train` in float16, one caption for each picture; for CAMERA with boxes."""
    texts = captions(images, size.words)
    generator = np.random.default_rng(SEED)

    def records() -> Iterator[ImageRecord]:
        for number in range(images):
            features = generator.random((size.regions, size.features), dtype=np.float32)
            record = ImageRecord(str(number), features, "train", [texts[number]])
            if isinstance(size, CameraSize):
                record = replace(record, boxes=boxes(generator, size.regions), size=PICTURE)
            yield record

    write_feature_file(
        path,
        records(),
        total_images=images,
        total_regions=images * size.regions,
        feature_dim=size.features,
        dtype="float16",
    )
