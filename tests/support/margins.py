"""The distance of scores from a tie, and so the size of a rounding error that could change a rank."""

from __future__ import annotations

import torch
from torch import Tensor


def smallest_margin(scores: Tensor, image_of_caption: Tensor) -> float:
    """The smallest distance between a score that decides the rank of a query and a score of a wrong candidate.

    No rank of either direction changes while every score moves by less than half of it.

    Args:
        scores: (N, M), pictures in rows.
        image_of_caption: (M,) int64.
    """
    columns = torch.arange(scores.shape[1])
    own = scores[image_of_caption, columns]
    best_own = own.new_full((len(scores),), -torch.inf).scatter_reduce(0, image_of_caption, own, "amax")
    distances = torch.stack([(scores - own).abs(), (scores - best_own.unsqueeze(1)).abs()])
    distances[:, image_of_caption, columns] = torch.inf
    return float(distances.min())
