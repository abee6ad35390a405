"""Scores of a block of pictures with a block of captions: from embeddings of one or more models, or from a matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.similarity import Similarity, similarity

Model = tuple[RetrievalVectors, RetrievalVectors]
"""What one model makes of a data set: picture vectors, caption vectors."""

ScoreBlocks = Callable[[Tensor], Callable[[Tensor], Tensor]]
"""caption rows (q,) → (picture rows (p,) → scores (p, q) that the caller may overwrite)."""

FINITE_CHUNK = 1024
"""Rows looked at together for values that are not finite."""


def matrix_blocks(scores: Tensor) -> ScoreBlocks:
    """Blocks of a score matrix that is already there.

    Args:
        scores: (N, M), pictures in rows.
    """

    def of_captions(captions: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda images: scores.index_select(0, images).index_select(1, captions)

    return of_captions


def vector_blocks(
    models: Sequence[Model], weights: Sequence[float], *, kind: Similarity, device: torch.device, dtype: torch.dtype
) -> ScoreBlocks:
    """Blocks of Σ_m w_m S_m, with S_m the similarity by model m.

    Only the latest block of captions can be scored: the next one takes its memory.

    Args:
        models: the vectors of each model; widths and views may differ between models.
        weights: w_m, one per model.
        kind: the similarity.
        device: where blocks are multiplied; the vectors stay where they are.
        dtype: precision of products and scores.
    """
    joined = [images.pooled.shape[1] == 1 for images, _ in models]
    image_sides = [Side(pair[0], join, device, dtype) for pair, join in zip(models, joined, strict=True)]
    caption_sides = [Side(pair[1], join, device, dtype) for pair, join in zip(models, joined, strict=True)]

    def of_captions(captions: Tensor) -> Callable[[Tensor], Tensor]:
        blocks = [side.block(captions) for side in caption_sides]

        def of_images(images: Tensor) -> Tensor:
            pairs = zip(image_sides, blocks, strict=True)
            scores = [similarity(side.block(images), block, kind) for side, block in pairs]
            if len(scores) == 1:
                return scores[0]
            total = scores[0].mul_(weights[0])
            for more, weight in zip(scores[1:], weights[1:], strict=True):
                total.add_(more, alpha=weight)
            return total

        return of_images

    return of_captions


class Side:
    """The pictures or the captions of one model, brought block by block to where they are multiplied.

    Args:
        vectors: all of them.
        joined: append the context block to the pooled vectors, right for one view: then one product makes a score.
        device: see `vector_blocks`.
        dtype: see `vector_blocks`.
    """

    def __init__(self, vectors: RetrievalVectors, joined: bool, device: torch.device, dtype: torch.dtype) -> None:
        self.vectors = vectors
        self.joined = joined and vectors.shared.shape[1] > 0
        self.device = device
        self.dtype = dtype
        self.memory = torch.empty(0, device=device, dtype=dtype)

    def block(self, rows: Tensor) -> RetrievalVectors:
        """Some rows. With `joined`, they lie in memory that the next block takes: fresh pages would cost more."""
        pooled, shared = (
            _some(part, rows).to(device=self.device, dtype=self.dtype)
            for part in (self.vectors.pooled, self.vectors.shared)
        )
        if not self.joined:
            return RetrievalVectors(pooled, shared)
        shape = (*pooled.shape[:-1], pooled.shape[-1] + shared.shape[1])
        if self.memory.numel() < math.prod(shape):
            self.memory = torch.empty(math.prod(shape), device=self.device, dtype=self.dtype)
        together = self.memory[: math.prod(shape)].view(shape)
        torch.cat([pooled, shared.view(*pooled.shape[:-1], -1)], dim=-1, out=together)
        return RetrievalVectors(together, shared[:, :0])


def check_models(models: Sequence[Model], kind: Similarity) -> tuple[int, int]:
    """Make sure that all models describe the same pictures and captions with finite, fitting vectors.

    Args:
        models: at least one.
        kind: the similarity; "order" takes one model with one view.

    Returns:
        Number of pictures, number of captions.

    Raises:
        DataError: naming the model (by its number, from 1) and what does not fit.
    """
    if not models:
        raise DataError("no model to score; expected at least one")
    if kind == "order" and (len(models) > 1 or models[0][0].pooled.shape[1] > 1):
        views = models[0][0].pooled.shape[1]
        raise DataError(f"the order measure is for one model with one view; got {len(models)} models, {views} views")
    counts = (len(models[0][0].pooled), len(models[0][1].pooled))
    for number, (images, captions) in enumerate(models, start=1):
        found = (len(images.pooled), len(captions.pooled))
        if found != counts:
            raise DataError(
                f"model {number} has {found[0]:,} pictures and {found[1]:,} captions; "
                f"the first has {counts[0]:,} and {counts[1]:,}",
                "an ensemble is scored on one split of one data set",
            )
        widths = [(side.pooled.shape[-1], side.shared.shape[-1]) for side in (images, captions)]
        if widths[0] != widths[1]:
            raise DataError(
                f"model {number} has picture vectors of width {widths[0][0]} + {widths[0][1]} "
                f"and caption vectors of width {widths[1][0]} + {widths[1][1]}; expected equal widths"
            )
        require_finite(images, f"picture vectors of model {number}")
        require_finite(captions, f"caption vectors of model {number}")
    return counts


def require_finite(vectors: RetrievalVectors, what: str) -> None:
    """Look for NaN and infinity.

    Args:
        vectors: of one side.
        what: they are, for the message.

    Raises:
        DataError: naming the first row with such a value.
    """
    for tensor in (vectors.pooled, vectors.shared):
        for start in range(0, len(tensor), FINITE_CHUNK):
            chunk = tensor[start : start + FINITE_CHUNK]
            if torch.isfinite(chunk.sum()):  # a sum is finite only if all its terms are: one pass, no copy
                continue
            faulty = (~torch.isfinite(chunk.flatten(1)).all(dim=1)).nonzero()
            if len(faulty):
                row = start + int(faulty[0])
                raise DataError(f"{what}: row {row} holds NaN or infinity", "look for a diverged run, or export again")


def _some(tensor: Tensor, rows: Tensor) -> Tensor:
    """Rows of a tensor: a view where they are consecutive, else a copy."""
    first, count = int(rows[0]), len(rows)
    if torch.equal(rows, torch.arange(first, first + count)):
        return tensor[first : first + count]
    return tensor.index_select(0, rows.to(tensor.device))
