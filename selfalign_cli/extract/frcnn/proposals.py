"""Region proposals: anchors at each cell of res4, scored and moved by a small head, then thinned out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from selfalign_cli.extract.frcnn.backbone import STRIDE
from selfalign_cli.extract.frcnn.config import FrcnnConfig
from selfalign_cli.extract.frcnn.ops import clip, decode, nms, require_finite


class Proposals(NamedTuple):
    """Boxes that may hold something, by descending objectness.

    Attributes:
        boxes: (n, 4) in resized pixels.
        logits: (n,) objectness.
    """

    boxes: Tensor
    logits: Tensor


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors around 0: for each size, each ratio r = height / width of a box of area size²; (sizes · ratios, 4)."""
    boxes = []
    for size in sizes:
        for ratio in ratios:
            width = (size**2 / ratio) ** 0.5
            height = ratio * width
            boxes.append((-width / 2, -height / 2, width / 2, height / 2))
    return torch.tensor(boxes)


def anchor_grid(cell: Tensor, height: int, width: int, offset: float) -> Tensor:
    """The anchors of each cell of a map, row by row: (height · width · A, 4) in pixels.

    Args:
        cell: (A, 4) anchors around 0.
        height, width: of the map.
        offset: of the centre from the cell's upper left corner, in cells; the published 0 is the corner itself.
    """
    y, x = (
        (torch.arange(length, dtype=cell.dtype, device=cell.device) + offset) * STRIDE for length in (height, width)
    )
    y, x = torch.meshgrid(y, x, indexing="ij")
    centres = torch.stack((x, y, x, y), dim=-1)  # (height, width, 4)
    return (centres[:, :, None] + cell).reshape(-1, 4)


class ProposalHead(nn.Module):
    """res4 to objectness (1, A, h, w) and deltas (1, 4A, h, w)."""

    def __init__(self, channels: int, hidden: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, hidden, 3, padding=1)
        self.objectness_logits = nn.Conv2d(hidden, anchors, 1)
        self.anchor_deltas = nn.Conv2d(hidden, 4 * anchors, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.relu(self.conv(features))
        return self.objectness_logits(x), self.anchor_deltas(x)


class _CellAnchors(nn.Module):
    """A list with a tensor for each feature map, of which there is one; it makes the name `cell_anchors.0`."""

    def __init__(self, boxes: Tensor) -> None:
        super().__init__()
        self.register_buffer("0", boxes)


class _AnchorGenerator(nn.Module):
    def __init__(self, boxes: Tensor) -> None:
        super().__init__()
        self.cell_anchors = _CellAnchors(boxes)


class ProposalGenerator(nn.Module):
    """Features of a picture to the boxes worth a look.

    Args:
        config: the detector's.
        cell: (A, 4) anchors around 0.
    """

    def __init__(self, config: FrcnnConfig, cell: Tensor) -> None:
        super().__init__()
        channels = 4 * config.res2_channels
        hidden = channels if config.proposal_channels == -1 else config.proposal_channels
        self.config = config
        self.anchor_generator = _AnchorGenerator(cell)  # F5: the weights' own boxes take the place of these
        self.rpn_head = ProposalHead(channels, hidden, len(cell))

    def forward(self, features: Tensor, height: int, width: int) -> Proposals:
        """Propose at most `config.proposals` boxes.

        Args:
            features: (1, C, h, w), res4.
            height, width: of the resized picture.
        """
        config = self.config
        objectness, deltas = self.rpn_head(features)
        require_finite(objectness, deltas)
        logits, order = objectness[0].permute(1, 2, 0).flatten().sort(descending=True, stable=True)
        logits, order = logits[: config.proposals_before_nms], order[: config.proposals_before_nms]
        boxes = clip(self.decoded(deltas, order), height, width)
        sides = boxes[:, 2:] - boxes[:, :2]
        large = (sides > config.min_proposal).all(dim=1)
        boxes, logits = boxes[large], logits[large]
        kept = nms(boxes, logits, config.proposal_nms, at_most=config.proposals)
        return Proposals(boxes[kept], logits[kept])

    def decoded(self, deltas: Tensor, positions: Tensor) -> Tensor:
        """Boxes of some anchors, numbered row by row, cell by cell, anchor by anchor; (n, 4), not clipped."""
        anchors = self.anchors(deltas.shape[2], deltas.shape[3])
        flat = deltas[0].permute(1, 2, 0).reshape(-1, 4)
        return decode(flat[positions], anchors[positions], self.config.proposal_weights)

    def anchors(self, height: int, width: int) -> Tensor:
        """Anchors of a map of that size, in the order of `anchor_grid`."""
        cell = self.anchor_generator.cell_anchors.get_buffer("0")
        return anchor_grid(cell, height, width, self.config.anchor_offset)
