"""Scores of a block of pictures with a block of captions, from the vectors of one model or several."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.similarity import Similarity, similarity

Model = tuple[RetrievalVectors, RetrievalVectors]
"""Picture vectors and caption vectors of one model."""

FINITE_CHUNK = 1024
"""Rows checked together for values that are not finite."""


class ScoreBlocks:
    """The scores Σ_m w_m S_m of blocks of pictures with blocks of captions, S_m being the similarity by model m.

    Args:
        models: the vectors of each model; widths and views may differ between models.
        weights: w_m, one per model.
        kind: the similarity.
        device: where blocks are multiplied; the vectors stay where they are.
        dtype: precision of products and scores.
    """

    def __init__(
        self,
        models: Sequence[Model],
        weights: Sequence[float],
        *,
        kind: Similarity,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.weights = weights
        self.kind = kind
        one_view = [images.pooled.shape[1] == 1 for images, _ in models]
        self.images = [_Side(pair[0], one, device, dtype) for pair, one in zip(models, one_view, strict=True)]
        self.captions = [_Side(pair[1], one, device, dtype) for pair, one in zip(models, one_view, strict=True)]
        self.loaded: list[RetrievalVectors] = []

    def load_captions(self, rows: Tensor) -> None:
        """Bring a block of captions to the device, in place of the one before; rows (q,)."""
        self.loaded = [side.block(rows) for side in self.captions]

    def score(self, rows: Tensor) -> Tensor:
        """(p, q) scores of some pictures, rows (p,), with the loaded captions. The caller may overwrite them."""
        blocks = zip(self.images, self.loaded, strict=True)
        scores = [similarity(side.block(rows), captions, self.kind) for side, captions in blocks]
        if len(scores) == 1:
            return scores[0]
        total = scores[0].mul_(self.weights[0])
        for more, weight in zip(scores[1:], self.weights[1:], strict=True):
            total.add_(more, alpha=weight)
        return total


class _Side:
    """The pictures or the captions of one model, moved block by block to the device that multiplies them.

    Args:
        vectors: all of them.
        one_view: pictures have one view, so that the context block may be appended to the pooled vectors: a score is
            then one product.
        device: see `ScoreBlocks`.
        dtype: see `ScoreBlocks`.
    """

    def __init__(self, vectors: RetrievalVectors, one_view: bool, device: torch.device, dtype: torch.dtype) -> None:
        self.vectors = vectors
        self.concatenate = one_view and vectors.shared.shape[1] > 0
        self.device = device
        self.dtype = dtype
        self.memory = torch.empty(0, device=device, dtype=dtype)

    def block(self, rows: Tensor) -> RetrievalVectors:
        """Some rows. Concatenated ones reuse the memory of the block before: fresh pages would cost more."""
        pooled, shared = (
            _some(part, rows).to(device=self.device, dtype=self.dtype)
            for part in (self.vectors.pooled, self.vectors.shared)
        )
        if not self.concatenate:
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
    """Raise if there is a NaN or an infinity.

    Args:
        vectors: of one side.
        what: name of these vectors, for the message.

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
