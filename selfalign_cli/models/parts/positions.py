"""Where a region lies: a gate on region features, computed from its box."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST_HEIGHT = 1.0  # pixels; a guarded w/h divides by no less


class BoxGate(nn.Module):
    """σ(Lin(six numbers of a box)), one gate per region and embedding coordinate.

    Args:
        dim: D.
        guard: divide by one pixel in w/h where a box is lower than that, so that the gate stays finite.
            Reference: the released code divides by the bare height (M11).

    Source: MODELS.md 3.2 step 2.
    """

    def __init__(self, dim: int, *, guard: bool = True) -> None:
        super().__init__()
        self.guard = guard
        self.proj = nn.Linear(6, dim)

    def forward(self, boxes: Tensor, size: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, R, 4) boxes and (B, 2) sizes -> (B, R, D) gates in (0, 1); padded regions get one of a whole picture."""
        return torch.sigmoid(self.proj(box_features(boxes, size, mask, guard=self.guard)))


def box_features(boxes: Tensor, size: Tensor, mask: Tensor | None = None, *, guard: bool = True) -> Tensor:
    """Describe boxes by six numbers: x1/W, y1/H, w/W, h/H, w/h and w·h/(W·H).

    Args:
        boxes: (B, R, 4) x1, y1, x2, y2 in pixels.
        size: (B, 2) width W and height H in pixels.
        mask: (B, R), True on real regions; the others are described as the whole picture, which is always finite.
        guard: divide by one pixel at least in w/h.

    Returns:
        (B, R, 6).
    """
    width, height = size.unsqueeze(1).unbind(dim=-1)  # (B, 1)
    left, top, right, bottom = boxes.unbind(dim=-1)  # (B, R)
    if mask is not None:
        left, top = left.masked_fill(~mask, 0.0), top.masked_fill(~mask, 0.0)
        right, bottom = torch.where(mask, right, width), torch.where(mask, bottom, height)
    box_width, box_height = right - left, bottom - top
    shape = box_width / (box_height.clamp(min=SMALLEST_HEIGHT) if guard else box_height)
    area = box_width * box_height / (width * height)
    return torch.stack([left / width, top / height, box_width / width, box_height / height, shape, area], dim=-1)
