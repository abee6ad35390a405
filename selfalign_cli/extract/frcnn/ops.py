"""Boxes and region pooling, in plain torch: clipping, decoding, non-maximum suppression, RoI max pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from selfalign_cli.errors import RunError

LARGEST_LOG_SCALE = math.log(1000 / 16)
"""Upper clamp of dw and dh: a box may grow by a factor of 62.5 at most."""


def require_finite(*computed: Tensor) -> None:
    """Raise a RunError if anything that was computed for a picture is NaN or infinite."""
    if not all(bool(values.isfinite().all()) for values in computed):
        raise RunError("the detector computed NaN or infinity for a picture", "are its weights whole?")


def decode(deltas: Tensor, boxes: Tensor, weights: Sequence[float]) -> Tensor:
    """Apply deltas (dx, dy, dw, dh) to boxes.

    The centre moves by dx·w / weight and dy·h / weight, the size grows by exp(dw / weight) and exp(dh / weight).

    Args:
        deltas: (n, 4).
        boxes: (n, 4).
        weights: of dx, dy, dw, dh.

    Returns:
        (n, 4), not clipped.
    """
    dx, dy, dw, dh = (delta / weight for delta, weight in zip(deltas.unbind(1), weights, strict=True))
    x1, y1, x2, y2 = boxes.unbind(1)
    width, height = x2 - x1, y2 - y1
    centre_x = dx * width + (x1 + 0.5 * width)
    centre_y = dy * height + (y1 + 0.5 * height)
    half_width = 0.5 * (dw.clamp(max=LARGEST_LOG_SCALE).exp() * width)
    half_height = 0.5 * (dh.clamp(max=LARGEST_LOG_SCALE).exp() * height)
    corners = (centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height)
    return torch.stack(corners, dim=1)


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Clip boxes (n, 4) to a picture: x to [0, width], y to [0, height]."""
    limits = boxes.new_tensor([width, height, width, height])
    return boxes.clamp(min=0).minimum(limits)


def nms(boxes: Tensor, scores: Tensor, threshold: float, *, at_most: int | None = None) -> Tensor:
    """Greedy non-maximum suppression: the best box drops every later one whose IoU with it exceeds the threshold.

    Args:
        boxes: (n, 4).
        scores: (n,); of equal ones the lower index comes first.
        threshold: of intersection over union.
        at_most: stop after so many boxes; None for no limit.

    Returns:
        (k,) int64, numbers of the boxes that stay, by descending score.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = scores.argsort(descending=True, stable=True)
    kept: list[Tensor] = []
    while left.numel() and (at_most is None or len(kept) < at_most):
        best, left = left[0], left[1:]
        kept.append(best)
        corner = torch.maximum(boxes[best, :2], boxes[left, :2])
        sides = (torch.minimum(boxes[best, 2:], boxes[left, 2:]) - corner).clamp(min=0)
        common = sides[:, 0] * sides[:, 1]
        overlap = common / (areas[best] + areas[left] - common)
        # F17: 0/0 is NaN and not above the threshold, so that boxes without area stay. The comparison is in double
        # precision because the threshold is, also where the boxes are not.
        left = left[~(overlap.double() > threshold)]
    return torch.stack(kept) if kept else left


def roi_max_pool(features: Tensor, boxes: Tensor, size: int, scale: float) -> Tensor:
    """Maximum of the features in each cell of a size × size grid over each box.

    A row of cells is pooled to one strip, then a column of strips to its cells: 2 · size steps a box, which read the
    map little more than once, instead of one step a cell.

    Args:
        features: (C, h, w).
        boxes: (n, 4) in pixels.
        size: cells a side.
        scale: of features to pixels, e.g. 1/16.

    Returns:
        (n, C, size, size), channels last in memory. F6: a cell that covers nothing of the map is 0.
    """
    channels, height, width = features.shape
    rows = _cell_ranges(boxes[:, 1], boxes[:, 3], size=size, scale=scale, length=height).tolist()
    columns = _cell_ranges(boxes[:, 0], boxes[:, 2], size=size, scale=scale, length=width).tolist()
    plane = features.permute(1, 2, 0).contiguous()
    pooled = features.new_zeros(len(boxes), size, size, channels)
    for cells, cell_rows, cell_columns in zip(pooled, rows, columns, strict=True):
        left, right = cell_columns[0][0], cell_columns[-1][1]
        strips = plane.new_zeros(size, right - left, channels)
        for strip, (first, stop) in zip(strips, cell_rows, strict=True):
            if first < stop and left < right:
                torch.amax(plane[first:stop, left:right], dim=0, out=strip)
        for column, (first, stop) in enumerate(cell_columns):
            if first < stop:
                torch.amax(strips[:, first - left : stop - left], dim=1, out=cells[:, column])
    return pooled.permute(0, 3, 1, 2)


def _cell_ranges(start: Tensor, end: Tensor, *, size: int, scale: float, length: int) -> Tensor:
    """First and last + 1 row (or column) of each cell: (n, size, 2) int64, within [0, length]."""
    first = _round_half_away(start * scale)[:, None]
    last = _round_half_away(end * scale)[:, None]
    extent = (last - first + 1).clamp(min=1)
    # F6: the rounded product decides, so it is made in the precision of the features, the bin first. Dividing by a
    # tensor on the same device keeps a GPU from multiplying by the reciprocal instead.
    bin_length = extent / torch.full_like(extent, size)
    cells = torch.arange(size, dtype=start.dtype, device=start.device)
    begin = (cells * bin_length).floor() + first
    stop = ((cells + 1) * bin_length).ceil() + first
    return torch.stack((begin, stop), dim=2).clamp(0, length).long()


def _round_half_away(values: Tensor) -> Tensor:
    """Round to whole numbers, halves away from zero (`torch.round` rounds them to even ones)."""
    whole = values.trunc()
    return whole + ((values - whole).abs() >= 0.5) * values.sign()
