"""Lower bounds of the work in a training step of CAMERA; see `floors`. Captions count by their real words."""

from __future__ import annotations

from selfalign_cli.bench.floors import FLOAT, concept_work, context_work, data_work, head_work, optimizer_work
from selfalign_cli.bench.inputs import CameraSize, caption_lengths
from selfalign_cli.bench.machine import Work, product
from selfalign_cli.models.parts.attention import CONVOLUTIONS

BOX_NUMBERS = 6


def works(size: CameraSize, parameters: int) -> dict[str, Work]:
    """The least work of each part of a step; the optimizer steps so many parameters."""
    regions, words = size.batch * size.regions, sum(caption_lengths(size))
    return {
        "data": data_work(size),
        "picture encoder": image_work(size),
        "BERT": bert_work(size),
        "text encoder": text_work(size),
        "ranking loss": ranking_work(size),
        "concept loss": concept_work(size),
        "context losses": context_work(size, regions) + context_work(size, words),
        "diversity loss": diversity_work(size),
        "backward": backward_work(size),
        "optimizer": optimizer_work(parameters),
    }


def image_work(size: CameraSize) -> Work:
    """Forward pass of picture encoder and context head."""
    rows = size.batch * size.regions
    maps = product(rows, size.features, size.dim) + product(rows, BOX_NUMBERS, size.dim)
    views = product(size.views, size.regions, size.dim) * size.batch
    return (
        maps + _attention_work(size, [size.regions] * size.batch) + _convolution_work(size) + views + head_work(size)
    )


def bert_work(size: CameraSize) -> Work:
    """Forward pass of BERT."""
    width, lengths = size.token_dim, caption_lengths(size)
    words, wide = sum(lengths), 4 * size.token_dim
    maps = product(words, width, width) * 4 + product(words, width, wide) + product(words, wide, width)
    return (maps + _reading_work(lengths, width)) * size.token_layers


def text_work(size: CameraSize) -> Work:
    """Forward pass of the text encoder behind BERT, and context head."""
    lengths = caption_lengths(size)
    words, dim = sum(lengths), size.dim
    maps = product(words, size.token_dim, dim) + product(words, dim, dim) * 2
    return maps + _attention_work(size, lengths) + head_work(size)


def ranking_work(size: CameraSize) -> Work:
    """Scores of all pairs of a batch: every view separately, context and local part once."""
    return product(size.batch * size.views, size.dim, size.batch) + product(size.batch, 2 * size.dim, size.batch)


def diversity_work(size: CameraSize) -> Work:
    """Views of each picture times each other."""
    return product(size.views, size.regions, size.views) * size.batch


def backward_work(size: CameraSize) -> Work:
    """Twice every forward product, except those without gradient: BERT, features, boxes, regions of the concept loss.

    The maps that read features, boxes and BERT's states have a gradient of their weights only.
    """
    rows, words = size.batch * size.regions, sum(caption_lengths(size))
    both = image_work(size) + text_work(size) + ranking_work(size) + context_work(size, rows + words)
    both = (
        both + product(words, size.dim, size.prototypes) + product(size.views, size.regions, size.views) * size.batch
    )
    first = product(rows, size.features + BOX_NUMBERS, size.dim) + product(words, size.token_dim, size.dim)
    return both * 2 + first * -1


def _attention_work(size: CameraSize, counts: list[int]) -> Work:
    """A gated attention layer over pictures or captions with the given numbers of positions."""
    rows, width = sum(counts), size.dim // size.heads
    gates = product(rows * size.heads, width, width) * 2 + product(rows * size.heads, width, 2 * width)
    return product(rows, size.dim, size.dim) * 3 + gates + _reading_work(counts, size.dim)


def _reading_work(counts: list[int], width: int) -> Work:
    """Scores of all positions of each text or picture with each other, and weighted sums; `width` of all heads."""
    return sum((product(count, width, count) + product(count, count, width) for count in counts), Work())


def _convolution_work(size: CameraSize) -> Work:
    """The convolutions that read regions with their neighbours, and the map to views."""
    rows = size.batch * size.regions
    channels = sum(own for own, _, _ in CONVOLUTIONS)
    weights = sum(own * kernel for own, kernel, _ in CONVOLUTIONS) * size.dim
    moved = float(FLOAT * (rows * (size.dim + channels) + weights))
    return Work(2.0 * rows * weights, moved) + product(rows, channels, size.views)
