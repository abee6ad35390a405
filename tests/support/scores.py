"""Ranks of given scores; the program itself takes vectors."""

from __future__ import annotations

from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.metrics.ranks import Ranks, rank_vectors
from selfalign_cli.metrics.score_blocks import Model


def model_of_scores(scores: Tensor) -> Model:
    """A model whose scores are exactly those of a (N, M) matrix.

    Picture i is the i-th unit vector and caption j the j-th column: the sums of their product have one term.
    """
    images, captions = scores.new_ones(len(scores)).diag().unsqueeze(1), scores.T
    return RetrievalVectors(images, images[:, 0, :0]), RetrievalVectors(captions, captions[:, :0])


def rank_scores(scores: Tensor, image_of_caption: Tensor) -> Ranks:
    """The ranks of a (N, M) score matrix, compared in its own precision."""
    return rank_vectors([model_of_scores(scores)], image_of_caption, dtype=scores.dtype)
