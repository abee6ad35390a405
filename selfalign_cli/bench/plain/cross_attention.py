"""Stacked cross attention, the alternative to independent embeddings: words attend to regions in every pair."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMOOTHING = 9.0
LEAKY_SLOPE = 0.1


def score_caption(regions: Tensor, words: Tensor) -> Tensor:
    """Score one caption with many pictures, text to image (SCAN, arXiv 1803.08024, section 3.1).

    Every word attends to the regions of a picture; the score is the mean over words of the cosine between a word
    and its attended region.

    Args:
        regions: (N, R, D).
        words: (W, D) of one caption, real words only.

    Returns:
        (N,).
    """
    attention = functional.leaky_relu(regions @ words.T, LEAKY_SLOPE)  # (N, R, W)
    attention = functional.normalize(attention, dim=2)
    weights = torch.softmax(SMOOTHING * attention, dim=1)
    attended = weights.transpose(1, 2) @ regions  # (N, W, D)
    return functional.cosine_similarity(attended, words.unsqueeze(0), dim=2).mean(dim=1)
