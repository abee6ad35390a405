"""Which pairs of a batch are no negatives of each other."""

from __future__ import annotations

import torch
from torch import Tensor


def same_picture(index: Tensor | None) -> Tensor | None:
    """(B, B) bool, True where two pairs show the same picture, from its (B,) rows; None without them."""
    return None if index is None else torch.eq(index.unsqueeze(0), index.unsqueeze(1))
