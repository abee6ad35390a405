"""Features of boxes from a map of patch vectors: the mean under each box, with the exact share of every patch."""

from __future__ import annotations

import torch
from torch import Tensor


def axis_cover(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """The length of [low, high] that lies in each of the cells [0, 1], [1, 2], …: (n,), (n,) -> (n, cells).

    Args:
        low, high: ends of intervals, in cells, low < high.
        cells: number of cells.
    """
    edges = torch.arange(cells, dtype=low.dtype, device=low.device)
    return (torch.minimum(high.unsqueeze(1), edges + 1) - torch.maximum(low.unsqueeze(1), edges)).clamp(min=0)


def pool_boxes(features: Tensor, boxes: Tensor, size: tuple[float, float]) -> Tensor:
    """Mean of a patch map under boxes.

    A patch counts by the area of it that the box covers; with w_y and w_x the covered lengths of rows and columns, the
    mean of a box is w_y · map · w_x / (Σ w_y · Σ w_x), two small products for all boxes.

    Args:
        features: (h, w, C) patch vectors that tile the whole picture evenly.
        boxes: (n, 4) x1, y1, x2, y2 in pixels, clipped to the picture, each with an area.
        size: width and height of the picture in pixels.

    Returns:
        (n, C) of the type of the map.
    """
    rows, columns = features.shape[:2]
    scale = boxes.new_tensor([columns / size[0], rows / size[1]])
    low, high = boxes[:, :2].double() * scale, boxes[:, 2:].double() * scale
    across = axis_cover(low[:, 0], high[:, 0], columns)
    down = axis_cover(low[:, 1], high[:, 1], rows)
    across, down = (part / part.sum(dim=1, keepdim=True) for part in (across, down))
    return torch.einsum("ny,yxc,nx->nc", down.to(features.dtype), features, across.to(features.dtype))
