"""Pairs of a batch that are not each other's negatives."""

from __future__ import annotations

import torch
from torch import Tensor


def same_picture(index: Tensor | None) -> Tensor | None:
    """Return a (B, B) mask, True where two pairs have the same (B,) picture index; None for None."""
    return None if index is None else torch.eq(index.unsqueeze(0), index.unsqueeze(1))
