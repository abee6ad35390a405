"""Lower bounds of the work in a training step: multiply-adds, and bytes between memory and processor.

A floor counts matrix products and what they read and write, and no elementwise work. First the parts that both models
have, then VSRN; CAMERA is in `floors_camera`.
"""

from __future__ import annotations

from selfalign_cli.bench.inputs import ModelSize, Size, caption_lengths
from selfalign_cli.bench.machine import Work, product

FLOAT = 4
HALF = 2
GRAPH_LAYERS = 4
STEP_PASSES = 8
"""Adam reads weight, gradient and two moments, and writes all but the gradient; the clipping norm reads that too."""


def data_work(size: Size) -> Work:
    """Read a batch and write it, in float16."""
    return Work(bytes=float(size.batch * size.regions * size.features * 2 * HALF))


def concept_work(size: Size) -> Work:
    """Regions and words times prototypes."""
    return product(size.batch * size.regions + sum(caption_lengths(size)), size.dim, size.prototypes)


def context_work(size: Size, positions: int) -> Work:
    """Guides times all locals; `positions` is their number in all pairs together."""
    return product(size.batch, size.dim, positions)


def optimizer_work(parameters: int) -> Work:
    """Clip and step a number of parameters with Adam."""
    return Work(bytes=float(FLOAT * parameters * STEP_PASSES))


def head_work(size: Size) -> Work:
    """Guide and gate of a context head."""
    return product(size.batch, size.dim, size.dim) + product(size.batch, 2 * size.dim, size.dim)


def image_work(size: ModelSize, *, maps: int, folded_anew: bool = False) -> Work:
    """Forward pass of picture encoder and context head.

    Args:
        size: dimensions.
        maps: linear maps of a graph layer, 4 or, folded, 2.
        folded_anew: count the folding too.
    """
    rows, dim = size.batch * size.regions, size.dim
    attention = product(size.regions, dim, size.regions) + product(size.regions, size.regions, dim)
    graph = product(rows, dim, dim) * maps + attention * size.batch + product(dim, dim, dim) * (2 * folded_anew)
    gru = product(rows, dim, 3 * dim) + product(size.batch, dim, 3 * dim) * size.regions
    return product(rows, size.features, dim) + graph * GRAPH_LAYERS + gru + head_work(size)


def image_training_work(size: ModelSize) -> Work:
    """The same in training, where weights change with every step: with folding if that is less."""
    variants = image_work(size, maps=4), image_work(size, maps=2, folded_anew=True)
    return min(variants, key=lambda work: work.flops)


def text_work(size: ModelSize) -> Work:
    """Forward pass of text encoder and context head over the real words."""
    words, dim = sum(caption_lengths(size)), size.dim
    hidden = product(words, dim, 3 * dim) + Work(bytes=float(FLOAT * 3 * dim * dim * (size.longest - 1)))
    return product(words, size.word_dim, dim) + product(words, dim, 3 * dim) + hidden + head_work(size)


def ranking_work(size: ModelSize) -> Work:
    """Scores of all pairs of a batch, over pooled, context and local part."""
    return product(size.batch, 3 * size.dim, size.batch)


def captioning_work(size: ModelSize) -> Work:
    """Forward pass of the caption generator over the real words."""
    rows, hidden, words = size.batch * size.regions, size.hidden, sum(caption_lengths(size))
    encoder = product(rows, size.dim, hidden) + product(rows, hidden, 3 * hidden) * 2 + product(rows, hidden, hidden)
    step = product(words, size.word_dim, 3 * hidden) + product(words, hidden, 3 * hidden) * 2
    attention = product(words, hidden, hidden) + Work(4.0 * words * size.regions * hidden)
    return encoder + step + attention + product(words, hidden, size.words)


def backward_work(size: ModelSize) -> Work:
    """Twice every forward product, except where no gradient is needed: features, and regions of the concept loss."""
    rows, words = size.batch * size.regions, sum(caption_lengths(size))
    both = image_training_work(size) + text_work(size) + ranking_work(size)
    both = both + context_work(size, rows) + context_work(size, words) + captioning_work(size)
    prototypes = product(words, size.dim, size.prototypes)
    features = product(rows, size.features, size.dim)
    return (both + prototypes) * 2 + features * -1


def works(size: ModelSize, parameters: int) -> dict[str, Work]:
    """The least work of each part of a step; the optimizer steps so many parameters."""
    regions, words = size.batch * size.regions, sum(caption_lengths(size))
    return {
        "data": data_work(size),
        "picture encoder": image_training_work(size),
        "text encoder": text_work(size),
        "ranking loss": ranking_work(size),
        "concept loss": concept_work(size),
        "context losses": context_work(size, regions) + context_work(size, words),
        "caption generator": captioning_work(size),
        "backward": backward_work(size),
        "optimizer": optimizer_work(parameters),
    }
